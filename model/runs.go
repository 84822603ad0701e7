package model

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// wholeDepth is longer than any path without a repeated state in the
// configurations here; Result.Whole tells if it was not.
const wholeDepth = 1_000_000

// Knobs say what may happen in a run. Zero values are the model's own: two
// activations, a lease of two ticks, two entries of lag, no budget of faults.
type Knobs struct {
	Epochs   int  // activations, at most 4
	Lag      int  // entries that a site may be behind before it needs a snapshot, at most 3
	Lease    int  // ticks
	Slow     int  // units that a slow clock goes on in a tick,
	Fast     int  // and a fast one
	Calm     bool // ask of every state what becomes of it without further faults
	Stops    int  // of a boot clock
	Jumps    int  // of a wall clock, backwards
	Copies   int  // of a site's machine, that start while it runs on
	Devices  int  // that may switch an old site off
	Policies int  // that shorten the lease to one tick
	Forgets  int  // of the witness's disk
	Unpruned bool // keep what can have no effect any more
}

func (k Knobs) environ() []string {
	flag := map[bool]int{true: 1}
	var out []string
	for _, knob := range []struct {
		name  string
		value int
	}{
		{"EPOCHS", k.Epochs}, {"LAG", k.Lag}, {"LEASE", k.Lease}, {"SLOW", k.Slow}, {"FAST", k.Fast}, {"CALM", flag[k.Calm]},
		{"STOPS", k.Stops}, {"JUMPS", k.Jumps}, {"CLONES", k.Copies}, {"DEVICES", k.Devices}, {"POLICIES", k.Policies},
		{"FORGETS", k.Forgets},
	} {
		if knob.value != 0 {
			out = append(out, knob.name+"="+strconv.Itoa(knob.value))
		}
	}
	if k.Unpruned {
		out = append(out, "PRUNE=0")
	}
	return out
}

// Run is a configuration that must be clean.
type Run struct {
	Name  string
	Knobs Knobs
}

// Short is what go test checks, beside the mistakes.
func Short() []Run {
	return []Run{{"base", Knobs{Lag: 1, Lease: 1}}}
}

// Full is what `make model` checks: each family of faults on top of loss,
// delay, restarts and drift, and those together that have to do with each
// other. The longest come first.
func Full() []Run {
	return []Run{
		{"three moves", Knobs{Epochs: 4}},
		{"two machines", Knobs{Lag: 1, Copies: 2}},
		{"policy and machines", Knobs{Lag: 1, Policies: 1, Copies: 1}},
		{"policy, two moves", Knobs{Lag: 1, Policies: 1, Epochs: 3}},
		{"machines, afterwards", Knobs{Lag: 1, Copies: 1, Calm: true}},
		{"devices, afterwards", Knobs{Lag: 1, Devices: 1, Calm: true}},
		{"two moves", Knobs{Epochs: 3}},
		{"machines", Knobs{Copies: 1}},
		{"devices", Knobs{Devices: 1}},
		{"clocks", Knobs{Stops: 1}},
		{"disks", Knobs{Forgets: 1}},
		{"policy", Knobs{Policies: 1}},
		{"afterwards", Knobs{Calm: true}},
		{"unpruned", Knobs{Lag: 1, Unpruned: true}},
		{"longer lease", Knobs{Lease: 3}},
		{"more lag", Knobs{Lag: 3}},
		{"finer clocks", Knobs{Slow: 2, Fast: 3}},
	}
}

// Big takes longer: more moves with faults, more of them together, and nothing
// left out for the sake of fewer states.
func Big() []Run {
	return append(Full(),
		Run{"clocks, two moves", Knobs{Stops: 2, Epochs: 3}},
		Run{"policy and machines, lag", Knobs{Policies: 1, Copies: 1}},
		Run{"policy, two moves, lag", Knobs{Policies: 1, Epochs: 3}},
		Run{"machines, two moves", Knobs{Lag: 1, Copies: 1, Epochs: 3}},
		Run{"unpruned, lag", Knobs{Unpruned: true}},
		Run{"unpruned, machines", Knobs{Lag: 1, Unpruned: true, Copies: 1}},
	)
}

// Mistake is one error put into the protocol, or an assumption broken. Every
// one must be found.
type Mistake struct {
	Name    string
	Number  int
	Knobs   Knobs
	Assumed bool // no mistake of the code: what it takes for granted of the world
}

// Mistakes lists them all, by the numbers of draas.pml.
func Mistakes() []Mistake {
	var (
		plain    = Knobs{Lag: 1}
		calm     = Knobs{Lag: 1, Calm: true}
		stops    = Knobs{Lag: 1, Stops: 1}
		copies   = Knobs{Lag: 1, Copies: 1}
		policies = Knobs{Lag: 1, Policies: 1}
		forgets  = Knobs{Lease: 1, Forgets: 1} // who lags must keep its place in the log
	)
	return []Mistake{
		{"NO_DRIFT", 1, plain, false},
		{"NO_WAIT", 2, plain, false},
		{"FROM_RECEIPT", 3, plain, false},
		{"RENEW_REVOKED", 4, plain, false},
		{"UNEQUAL_STEP", 5, plain, false},
		{"LATE_ACTIVATE", 6, Knobs{Lag: 1, Epochs: 3}, false},
		{"ACTIVATE_UNSEEN", 7, plain, false},
		{"RESTORE_UNSEEN", 8, plain, false},
		{"BORN_READY", 9, plain, false},
		{"ROLE_FROM_FILE", 10, plain, false},
		{"RELEASE_FIRST", 11, plain, false},
		{"LOST_MOVE", 12, calm, false},
		{"NO_RETRY", 13, calm, false},
		{"STALE_EPOCH", 20, plain, false},
		{"NO_JOURNAL", 21, plain, false},
		{"LATE_WRITE", 22, plain, false},
		{"FENCE_NEEDS_DAEMON", 23, plain, false},
		{"UNCONFIRMED", 24, Knobs{Lag: 1, Devices: 1}, false},
		{"BOOT_CLOCK_ONLY", 30, stops, false},
		{"WALL_CLOCK_ONLY", 31, Knobs{Lag: 1, Jumps: 1}, false},
		{"BOOT_RENEWS", 40, copies, false},
		{"BOOT_RELEASES", 41, copies, false},
		{"BOOT_TAKES", 42, copies, false},
		{"BOOT_ONCE", 43, copies, false},
		{"OLD_RUN", 44, copies, false},
		{"EMPTY_LOG", 45, forgets, false},
		{"ROLLED_BACK", 46, forgets, false},
		{"NO_FSYNC", 47, forgets, false},
		{"NO_LINGER", 50, policies, false},
		{"RENEWAL_SHORTENS", 51, policies, false},
		{"BOOT_NO_LINGER", 52, Knobs{Lag: 1, Policies: 1, Copies: 1}, false},
		{"TURN_ENDS_LINGER", 53, Knobs{Lag: 1, Policies: 1, Epochs: 3}, false},
		{"BOTH_CLOCKS_STOP", 60, stops, true},
		{"DRIFT_BEYOND", 61, plain, true},
	}
}

// Hunt looks for the mistake, in short paths first: they take less time, and
// are easier to read.
func (c *Checker) Hunt(ctx context.Context, m Mistake) (Result, error) {
	depths := []int{240, 300, 1000, wholeDepth}
	switch {
	case m.Knobs.Calm:
		depths = []int{1500, 5000, wholeDepth} // calm alone takes a thousand
	case m.Knobs.Forgets > 0:
		depths = depths[2:] // found sooner there
	}
	for _, depth := range depths {
		r, err := c.Check(ctx, m.Knobs, m.Number, depth)
		if err != nil {
			return r, fmt.Errorf("hunt %s: %w", m.Name, err)
		}
		if r.Violation != "" || r.Whole {
			return r, nil
		}
	}
	return Result{}, fmt.Errorf("hunt %s: paths of more than %d transitions", m.Name, slices.Max(depths))
}

// All runs the configurations, which must be clean, and the hunts, which must
// find, two at a time. It reports a line for each as it ends, and whether that
// was as it must be; report is never called twice at once.
func (c *Checker) All(ctx context.Context, runs []Run, mistakes []Mistake, report func(line string, good bool)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	var mu sync.Mutex
	room := make(chan struct{}, 2)
	begin := func(do func() (string, bool, error)) {
		room <- struct{}{}
		all.Go(func() {
			line, good, err := do()
			mu.Lock()
			if err != nil {
				cancel(err)
			} else {
				report(line, good)
			}
			mu.Unlock()
			<-room
		})
	}
	for _, run := range runs {
		begin(func() (string, bool, error) {
			r, err := c.Check(ctx, run.Knobs, 0, wholeDepth)
			return verdict(run, r), r.Violation == "" && r.Whole, err
		})
	}
	for _, m := range mistakes {
		begin(func() (string, bool, error) {
			r, err := c.Hunt(ctx, m)
			return found(m, r), r.Violation != "", err
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

func verdict(run Run, r Result) string {
	end := "clean"
	switch {
	case r.Violation != "":
		end = "BROKEN: " + r.Violation + "\n" + strings.Join(r.Trail, "\n")
	case !r.Whole:
		end = "NOT FINISHED: paths are longer than the bound"
	}
	return fmt.Sprintf("model: %-20s %10d states, depth %6d, %5d MB, %6.1f s CPU: %s",
		run.Name, r.States, r.Depth, r.Memory, r.CPU.Seconds(), end)
}

func found(m Mistake, r Result) string {
	kind := "BUG"
	if m.Assumed {
		kind = "ASSUMPTION"
	}
	if r.Violation == "" {
		return fmt.Sprintf("model: %s %s NOT FOUND in %d states", kind, m.Name, r.States)
	}
	return fmt.Sprintf("model: %s %s found: %d steps, %d states, %.1f s CPU", kind, m.Name, len(r.Trail), r.States, r.CPU.Seconds())
}
