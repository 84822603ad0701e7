package soak

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Result is what a run came to.
type Result struct {
	Seed        uint64
	Spared      string // member whose daemon and guard were not killed
	Took        time.Duration
	Rounds      int
	Interrupted bool
	Dir         string // what was kept; empty when nothing had to be
	Violations  []string
	Timeline    []string // of the last round

	Faults      map[Kind]int
	Skipped     int            // of them, for want of an XDP program
	Decided     map[string]int // moves by kind
	Done        map[string]int
	Suspicions  uint64
	Control     time.Duration            // in which two sites served what has no fence
	Dual        map[string]time.Duration // by fenced service
	Activations map[string]int
	Answers     map[string]int
	Strays      int
	Asked       int // questions by name
	Failed      int
	Outages     map[string]string
	Settled     []time.Duration
	Chores      int            // done without anybody's notice
	Unjudged    int            // noticed each time, on a machine that let nobody run
	Lull        time.Duration  // for which users outside waited longest meanwhile
	Operations  map[string]int // of the register that were checked
	Processes   string         // table
}

// checkPatience is how long the check of one register may take.
const checkPatience = time.Minute

// finish ends everything and draws the last conclusions. Of a round that was
// interrupted nothing is concluded: what was decided in it is not all known.
func (r *soak) finish() error {
	res := &r.result
	res.Operations = make(map[string]int)
	for _, s := range services {
		n, err := r.operators.registers[s].linearizable(r.serving[s], r.known, checkPatience)
		if s == bare && err != nil {
			// Of a service without a fence users read two sites at a time: that
			// is the control's other half.
			n, err = r.operators.registers[s].linearizable(newServing(), r.known, checkPatience)
		}
		if err != nil {
			r.book.violate("%s: %v", s, err)
		}
		res.Operations[s] = n
	}
	var err error
	if len(r.book.wrong()) > 0 {
		err = r.stage.save()
	}
	if closed := r.stage.close(); closed != nil {
		r.book.violate("not everything ended: %v", closed)
	}
	found, scanned := scan(filepath.Join(r.dir, "logs"))
	for _, line := range found {
		r.book.violate("%s", line)
	}
	r.sumUp()
	return cmp.Or(scanned, err)
}

// sumUp fills the result in.
func (r *soak) sumUp() {
	res, b, o := &r.result, r.book, r.operators
	b.mu.Lock()
	defer b.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	res.Violations, res.Timeline, res.Faults, res.Asked, res.Failed = b.violations, b.round, b.faults, b.asked, b.failed
	res.Skipped, res.Decided, res.Done = b.skipped, o.decided, o.done
	for _, runs := range o.suspicions {
		for _, n := range runs {
			res.Suspicions += n
		}
	}
	res.Dual, res.Activations, res.Answers = make(map[string]time.Duration), make(map[string]int), make(map[string]int)
	res.Outages = make(map[string]string)
	for i, s := range services {
		log := o.registers[s].activations()
		res.Activations[s], res.Answers[s] = len(log), b.total[i]
		if s == bare {
			continue
		}
		res.Dual[s] = total(r.serving[s].dual(log))
		res.Strays += len(r.serving[s].Strays)
		if out := b.outages[s]; out != nil {
			res.Outages[s] = fmt.Sprintf("%v, until %s", out.longest.Round(time.Millisecond), clock(out.at.UnixNano()))
		}
	}
	res.Processes = r.ledger.table()
}

// String is what is printed at the end.
func (res Result) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	var dual time.Duration
	for _, d := range res.Dual {
		dual += d
	}
	state := ""
	if res.Interrupted {
		state = ", interrupted"
	}
	line("soak: seed %d, %v%s, %d rounds, %d faults, %d moves, %d suspicions, dual-active %.3g ms, %d violations", res.Seed, res.Took.Round(time.Second), state,
		res.Rounds, sum(res.Faults), sum(res.Done), res.Suspicions, float64(dual)/float64(time.Millisecond), len(res.Violations))
	line("  faults:    %s; %d flushes skipped, no XDP program was there", counts(res.Faults), res.Skipped)
	line("  moves:     %s decided; %s completed", counts(res.Decided), counts(res.Done))
	line("  epochs:    %s", counts(res.Activations))
	line("  answers:   %s; %d out of turn; the control saw two sites for %v", counts(res.Answers), res.Strays, res.Control.Round(time.Millisecond))
	line("  by name:   %d questions, %d without a good answer", res.Asked, res.Failed)
	for _, s := range slices.Sorted(maps.Keys(res.Outages)) {
		line("  longest unavailability of %s: %s", s, res.Outages[s])
	}
	if n := len(res.Settled); n > 0 {
		sorted := slices.Sorted(slices.Values(res.Settled))
		line("  settled:   %v in the middle, %v at most, after the last fault of a round (bound %v)",
			sorted[n/2].Round(10*time.Millisecond), sorted[n-1].Round(10*time.Millisecond), settleLimit)
	}
	line("  upkeep:    %d chores on which no permit was lost; users outside waited %v at most (bound %v); %d more not judged, as the machine let nobody run",
		res.Chores, res.Lull.Round(time.Millisecond), lullLimit, res.Unjudged)
	line("  register:  %s operations, linearizable unless said below", counts(res.Operations))
	line("  processes, calm moments farthest apart in one run of each (%s was never killed):", res.Spared)
	b.WriteString(res.Processes)
	for _, v := range res.Violations {
		line("VIOLATION: %s", v)
	}
	return b.String()
}

func sum[K comparable](counts map[K]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func counts[K cmp.Ordered](counts map[K]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%v %d", k, counts[k]))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// How often a line of progress is printed, and how often processes are looked
// at.
const (
	progressEvery = time.Minute
	weighEvery    = 5 * time.Second
)

// watch samples and tells how it goes, until ctx ends.
func (r *soak) watch(ctx context.Context) {
	told := time.Now()
	for ctx.Err() == nil {
		pause(ctx, weighEvery)
		r.weigh(false)
		if time.Since(told) >= progressEvery {
			told = time.Now()
			r.tell()
		}
	}
}

func (r *soak) tell() {
	r.book.mu.Lock()
	answers, asked, failed, wrong := sum(countOf(r.book.total)), r.book.asked, r.book.failed, len(r.book.violations)
	r.book.mu.Unlock()
	r.operators.mu.Lock()
	done := sum(r.operators.done)
	r.operators.mu.Unlock()
	r.progress("%d faults, %d moves, %d answers, %.1f %% of questions by name without one, %d violations",
		r.book.struck(), done, answers, 100*float64(failed)/float64(max(asked, 1)), wrong)
}

func countOf(n []int) map[int]int {
	out := make(map[int]int)
	for i, c := range n {
		out[i] = c
	}
	return out
}

func (r *soak) progress(format string, args ...any) {
	fmt.Fprintf(r.Out, "%s "+format+"\n", append([]any{time.Now().UTC().Format("15:04:05")}, args...)...)
}

// lastLine is the end of what a process said.
func lastLine(said string) string {
	lines := strings.Split(strings.TrimSpace(said), "\n")
	return lines[len(lines)-1]
}
