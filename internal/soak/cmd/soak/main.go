// Command soak lets a cluster of real processes run under real faults:
//
//	soak -draasd bin/draasd -for 30m          # a seed of its own
//	soak -draasd bin/draasd -for 3m -seed 17  # the same faults again
//
// It needs root. docs/soak.md says more.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas/internal/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	flags.SetOutput(errOut)
	o := soak.Options{Out: out}
	flags.DurationVar(&o.For, "for", 3*time.Minute, "how `LONG` rounds of faults are begun")
	flags.Uint64Var(&o.Seed, "seed", 0, "`SEED` of the faults; 0 draws one")
	flags.DurationVar(&o.Every, "every", 40*time.Millisecond, "`PAUSE` between two questions of one user")
	flags.StringVar(&o.Draasd, "draasd", "bin/draasd", "`FILE`: the program")
	flags.BoolVar(&o.Race, "race", false, "the program was built with the race detector: allow it its memory")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if o.Seed == 0 {
		o.Seed = uint64(rand.Uint32())
	}
	var err error
	if o.Draasd, err = filepath.Abs(o.Draasd); err != nil {
		fmt.Fprintf(errOut, "soak: %v\n", err)
		return 2
	}
	leaks := goleak.IgnoreCurrent()
	fmt.Fprintf(out, "soak: seed %d for %v\n", o.Seed, o.For)
	result, err := soak.Run(ctx, o)
	if result.Processes != "" {
		fmt.Fprint(out, result)
	}
	if err != nil {
		fmt.Fprintf(errOut, "soak: %v\n", err)
	}
	leaked := goleak.Find(leaks)
	if leaked != nil {
		fmt.Fprintf(errOut, "soak: %v\n", leaked)
	}
	if result.Dir != "" {
		fmt.Fprintf(out, "the last round:\n")
		for _, line := range result.Timeline {
			fmt.Fprintf(out, "  %s", line)
		}
		fmt.Fprintf(out, "logs, data and the whole timeline: %s\nthe same faults again: make soak SEED=%d\n", result.Dir, o.Seed)
	}
	if err != nil || leaked != nil || len(result.Violations) > 0 {
		return 1
	}
	if result.Interrupted {
		return 130
	}
	return 0
}
