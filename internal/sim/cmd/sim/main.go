// Command sim runs simulated clusters and says whether the rules held.
//
//	sim -seeds 200              # seeds 1 to 200, on all cores
//	sim -seeds 200 -from 1000   # seeds 1000 to 1199
//	sim -for 8h                 # as many as that takes
//	sim -seed 17                # one seed again, with its story
//	sim -seed 17 -shrink        # cut down to the faults that matter
//	sim -schedule file          # a schedule as -shrink prints it, with its story
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"context"

	"github.com/draasd/draas/internal/sim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// flags are what the command was asked for.
type flags struct {
	seeds, from, seed uint64
	last              time.Duration
	jobs              int
	shrink, worker    bool
	keepOn, cover     bool
	schedule          string
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var f flags
	set := flag.NewFlagSet("sim", flag.ContinueOnError)
	set.SetOutput(errOut)
	set.Uint64Var(&f.seeds, "seeds", 200, "how many seeds to run")
	set.Uint64Var(&f.from, "from", 1, "the first seed")
	set.DurationVar(&f.last, "for", 0, "run seeds for so long, in place of -seeds")
	set.Uint64Var(&f.seed, "seed", 0, "run this seed alone and tell its story")
	set.BoolVar(&f.shrink, "shrink", false, "cut -seed or -schedule down to the faults that matter")
	set.StringVar(&f.schedule, "schedule", "", "run the schedule in this file and tell its story")
	set.IntVar(&f.jobs, "jobs", runtime.NumCPU(), "how many processes to use")
	set.BoolVar(&f.keepOn, "keep-on", false, "go on after a violation")
	set.BoolVar(&f.cover, "cover", true, "print what was covered")
	set.BoolVar(&f.worker, "worker", false, "be a part of another sim: read seeds, write results")
	if err := set.Parse(args); err != nil {
		return 2
	}
	// Runs are short and leave little behind: seldom is often enough.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(64 << 20)
	var err error
	code := 0
	switch {
	case f.worker:
		err = work(os.Stdin, out)
	case f.seed != 0 || f.schedule != "":
		code, err = one(f, out)
	default:
		code, err = many(ctx, f, out, errOut)
	}
	if err != nil {
		fmt.Fprintln(errOut, "sim:", err)
		return 1
	}
	return code
}

// one runs a single schedule and tells its story, or cuts it down.
func one(f flags, out io.Writer) (int, error) {
	s := sim.Generate(f.seed)
	if f.schedule != "" {
		data, err := os.ReadFile(f.schedule)
		if err != nil {
			return 0, err
		}
		if s, err = sim.ParseSchedule(data); err != nil {
			return 0, err
		}
	}
	if f.shrink {
		least, tries, err := sim.Shrink(s)
		if err != nil {
			return 0, err
		}
		data, err := least.JSON()
		if err != nil {
			return 0, err
		}
		fmt.Fprintf(out, "%d of %d faults are left after %d runs; replay with -schedule:\n%s\nas Go:\n%s\n", len(least.Faults), len(s.Faults), tries, data, least.Literal())
		s = least
	}
	r, err := sim.Run(s, true, nil)
	if err != nil {
		return 0, err
	}
	fmt.Fprint(out, r.Story)
	for _, v := range r.Violations {
		fmt.Fprintf(out, "seed %d: %s\n", r.Seed, v)
	}
	fmt.Fprintf(out, "sim: 1 schedules, %d violations, %d moves, %d faults, trace %016x\n", len(r.Violations), r.Moves, r.Faults, r.Trace)
	if len(r.Violations) > 0 {
		return 1, nil
	}
	return 0, nil
}
