package demo

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas/measure"
)

// tone is how a line of the timeline is meant; a terminal shows it in colour.
type tone string

const (
	plain tone = ""
	good  tone = "\x1b[32m"
	doubt tone = "\x1b[33m"
	bad   tone = "\x1b[31m"
	loud  tone = "\x1b[1m"
)

const toneEnd = "\x1b[0m"

// settleLines is how long a line waits for one that came later and happened
// earlier: they come from several processes.
const settleLines = 150 * time.Millisecond

type line struct {
	at   time.Time
	tone tone
	text string
}

// timeline shows what happens, in the order in which it happened. Instants
// count from the run's start, and after the fault from the fault.
type timeline struct {
	out    io.Writer
	colour bool

	mu      sync.Mutex
	origin  time.Time
	fault   time.Time
	pending []line
}

func newTimeline(out io.Writer, colour bool, origin time.Time) *timeline {
	return &timeline{out: out, colour: colour, origin: origin}
}

// mark sets the instant of the fault.
func (t *timeline) mark(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault = at
}

// add takes a line up.
func (t *timeline) add(at time.Time, tone tone, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := line{at, tone, fmt.Sprintf(format, args...)}
	i, _ := slices.BinarySearchFunc(t.pending, l.at, func(p line, at time.Time) int {
		return cmp.Or(p.at.Compare(at), -1) // after those of the same instant
	})
	t.pending = slices.Insert(t.pending, i, l)
}

// flush writes the lines of before an instant.
func (t *timeline) flush(before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.pending) && t.pending[n].at.Before(before) {
		fmt.Fprintln(t.out, t.format(t.pending[n]))
		n++
	}
	t.pending = slices.Delete(t.pending, 0, n)
}

// flushAll writes what is left.
func (t *timeline) flushAll() { t.flush(time.Unix(1<<40, 0)) }

func (t *timeline) format(l line) string {
	stamp := fmt.Sprintf("%9.3f s", l.at.Sub(t.origin).Seconds())
	if !t.fault.IsZero() && !l.at.Before(t.fault) {
		stamp = fmt.Sprintf("%+9.3f s", l.at.Sub(t.fault).Seconds())
	}
	if !t.colour || l.tone == plain {
		return stamp + "  " + l.text
	}
	return stamp + "  " + string(l.tone) + l.text + toneEnd
}

// usersLine takes a line of rtotest's display up: a time of day in UTC and
// what it saw. What is not of that form is of no interest here.
func (t *timeline) usersLine(text string, now time.Time) {
	clock, rest, found := strings.Cut(strings.TrimSpace(text), " ")
	if !found {
		return
	}
	at, ok := onDay(clock, now)
	if !ok || strings.HasPrefix(rest, "fault marked") {
		return
	}
	how := good
	if strings.Contains(rest, "failures start") {
		how = bad
	}
	t.add(at, how, "users, %s", rest)
}

// onDay is the instant nearest to now that a clock without a date shows.
func onDay(clock string, now time.Time) (time.Time, bool) {
	tod, err := time.Parse(measure.Clock, clock)
	if err != nil {
		return time.Time{}, false
	}
	day := now.UTC().Truncate(24 * time.Hour)
	at := day.Add(tod.Sub(tod.Truncate(24 * time.Hour)))
	switch off := at.Sub(now); {
	case off > 12*time.Hour:
		at = at.Add(-24 * time.Hour)
	case off < -12*time.Hour:
		at = at.Add(24 * time.Hour)
	}
	return at, true
}

// lineWriter hands over what is written to it line by line. It is used by one
// goroutine.
type lineWriter struct {
	rest []byte
	line func(string)
}

// maxLine bounds a line; what is longer is cut.
const maxLine = 4 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	for _, b := range p {
		switch {
		case b == '\n' || b == '\r':
			if len(w.rest) > 0 {
				w.line(string(w.rest))
				w.rest = w.rest[:0]
			}
		case len(w.rest) < maxLine:
			w.rest = append(w.rest, b)
		}
	}
	return len(p), nil
}
