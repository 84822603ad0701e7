// Package matrix makes disasters, one after the other, to clusters of real
// processes on machines made of namespaces, one cluster for each scheme, and
// sets beside each other what users saw. docs/matrix.md says what each
// disaster is, and what is measured how.
package matrix

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The roles in which the program starts itself in machines.
const (
	roleWAN     = "wan"
	roleCounter = "counter"
	roleClients = "clients"
	roleClaims  = "claims"
)

// Options say what to do.
type Options struct {
	Draasd string // the program
	Self   string // this one, for the roles
	// Results is the file that the results are appended to, and in which those
	// stand that need not be made again. Empty: none.
	Results string
	Columns *regexp.Regexp // only columns whose names match; nil: all
	Cells   *regexp.Regexp // only cells whose names match; nil: all
	Runs    int            // of each headline cell
	Others  int            // of each other cell; zero: only headline cells
	Ways    Ways           // of packets
	Lag     time.Duration  // of the copies
	Down    time.Duration  // how long the seed's network is down
	// Short leaves out the variants of columns, and keeps what tries the fence.
	Short bool
	Bare  bool      // no fence: the check has to fail
	Dir   string    // in which the run makes its directory; empty: that for temporary files
	Out   io.Writer // progress
}

// Run makes what is still to be made, and returns all results, also those that
// were made before. The error says that it could not be done, or that it was
// interrupted. Nothing is left behind but, when something was wrong, the logs,
// whose directory is named.
func Run(ctx context.Context, o Options) ([]Result, error) {
	had, err := readResults(o.Results)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(o.Dir, "draas-matrix-")
	if err != nil {
		return had, fmt.Errorf("make directory: %w", err)
	}
	m := &matrix{Options: o, dir: dir, results: had}
	for _, most := range passes {
		if err = m.pass(ctx, most); err != nil {
			break
		}
	}
	err = errors.Join(ctx.Err(), err)
	if !m.faulty && (err == nil || ctx.Err() != nil) {
		return m.results, errors.Join(err, os.RemoveAll(dir))
	}
	fmt.Fprintf(o.Out, "logs and files are in %s\n", dir)
	return m.results, err
}

// passes are how often each cell is made at most before the next pass begins,
// so that a run that is interrupted has something of everything.
var passes = []int{1, 3, 8, math.MaxInt}

// pass makes what is still to be made of every column, up to so many runs of a
// cell.
func (m *matrix) pass(ctx context.Context, most int) error {
	for _, c := range columns() {
		c.Patient = m.Short
		if m.Columns != nil && !m.Columns.MatchString(c.Name) || m.Short && c.variant() {
			continue
		}
		if err := m.column(ctx, c, most); err != nil {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return nil
}

// matrix is one run.
type matrix struct {
	Options
	dir     string
	results []Result
	faulty  bool
	worlds  int // made so far
}

// wanted are the cells of a column that are not made yet, with how often.
type wanted struct {
	cell
	runs int
}

func (m *matrix) wanted(c column, most int) []wanted {
	var all []wanted
	for _, x := range cells(m.Down) {
		if m.Cells != nil && !m.Cells.MatchString(x.Name) || !c.meets(x) {
			continue
		}
		n := m.Others
		if x.Headline || m.Short && (x.Fence || x.InShort == c.Name) {
			n = m.Runs
		}
		n = min(n, most)
		for _, r := range m.results {
			if r.Column == c.Name && r.Cell == x.Name && r.proves() {
				n--
			}
		}
		if n > 0 {
			all = append(all, wanted{x, n})
		}
	}
	return all
}

// voidLimit is how many runs of a cell in a pass may prove nothing: what is void
// is an error then, and a machine that upsets them is left alone with it.
const voidLimit = 3

// proves reports whether the run counts as made.
func (r Result) proves() bool { return r.Void == "" && r.Upset == "" }

// worldLimit is how many worlds of a column may be of no more use in a pass
// before that is an error.
const worldLimit = 3

// column makes what is to be made of one column in a pass.
func (m *matrix) column(ctx context.Context, c column, most int) error {
	for failed := 1; ; failed++ {
		todo := m.wanted(c, most)
		if len(todo) == 0 {
			return nil
		}
		err := m.inWorld(ctx, c, todo)
		if err == nil || ctx.Err() != nil || failed == worldLimit {
			return err
		}
		m.say("%s: %v: begun anew", c.Name, err)
	}
}

// inWorld makes all of it in one world: round by round, so that each cell sees
// what the machine is like at different times.
func (m *matrix) inWorld(ctx context.Context, c column, todo []wanted) (err error) {
	began := time.Now()
	m.worlds++
	dir := filepath.Join(m.dir, fmt.Sprintf("%d-%s", m.worlds, strings.ReplaceAll(c.Name, " ", "-")))
	w, err := newWorld(ctx, m.Options, c, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	m.say("%s is up after %.1f s", c.Name, time.Since(began).Seconds())
	void := make(map[string]int)
	for len(todo) > 0 {
		for i := range todo {
			r, err := w.once(ctx, todo[i].cell)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil && r == nil {
				r = &Result{Column: c.Name, Cell: todo[i].Name, At: time.Now().UTC(), Lost: -1, Void: "it could not be made to its end"}
			}
			if err != nil {
				r.Faults = append(r.Faults, err.Error())
			}
			if err := errors.Join(err, m.note(*r)); err != nil {
				return fmt.Errorf("%s: %w", r.Cell, err)
			}
			if r.proves() {
				todo[i].runs--
			} else if void[r.Cell]++; void[r.Cell] == voidLimit {
				if r.Void != "" {
					return fmt.Errorf("%s: %d runs proved nothing: %s", r.Cell, voidLimit, r.Void)
				}
				m.say("%s, %s: not timed: %d times %s", c.Name, r.Cell, voidLimit, r.Upset)
				todo[i].runs = 0
			}
		}
		todo = slices.DeleteFunc(todo, func(t wanted) bool { return t.runs == 0 })
	}
	return nil
}

// note keeps a result.
func (m *matrix) note(r Result) error {
	m.results = append(m.results, r)
	m.say("%s", r)
	if len(r.Faults) > 0 {
		m.faulty = true
	}
	return appendResult(m.Results, r)
}

func (m *matrix) say(format string, args ...any) {
	fmt.Fprintf(m.Out, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// String is a line for who watches.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-14s %-32s", r.Column, r.Cell)
	for _, k := range kinds() {
		if s, ok := r.Kinds[k]; ok {
			fmt.Fprintf(&b, " %s %.0f/%.0f/%d", k, s.RTOMS, s.StallMS, s.Failed)
		}
	}
	fmt.Fprintf(&b, "  lost %d of %d, moved %d, %.1f + %.1f s", r.Lost, r.Acked, r.Moves, r.Took, r.Home)
	if r.UnclaimedMS > 0 {
		fmt.Fprintf(&b, ", unclaimed for %v ms", r.UnclaimedMS)
	}
	if r.ClaimsMS > 0 {
		fmt.Fprintf(&b, ", claimed twice for %v ms", r.ClaimsMS)
	}
	if r.WarnedS > 0 {
		fmt.Fprintf(&b, ", warned of after %.1f s", r.WarnedS)
	}
	if l := r.Loss; l != nil {
		fmt.Fprintf(&b, ", told %.1f s, %d objects; true %.2f to %.2f s, %d objects up to %.2f s old, %d unseen", l.ToldS, l.ToldObjects, l.TrueS, l.MostS, l.Objects, l.OldestS, l.Unseen)
	}
	for _, why := range []string{r.Void, r.Upset} {
		if why != "" {
			fmt.Fprintf(&b, "\n    proves nothing: %s", why)
		}
	}
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "\n    WRONG: %s", f)
	}
	return b.String()
}

// Faults lists what was wrong in any run.
func Faults(results []Result) []string {
	var all []string
	for _, r := range results {
		for _, f := range r.Faults {
			all = append(all, fmt.Sprintf("%s, %s, %s: %s", r.Column, r.Cell, r.At.Format(time.DateTime), f))
		}
	}
	return all
}
