// Command sim runs simulated clusters and says whether the rules held.
//
//	sim -seeds 200         # seeds 1 to 200
//	sim -seed 17           # one seed again, with its story
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/sim"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("sim", flag.ContinueOnError)
	flags.SetOutput(errOut)
	seeds := flags.Int("seeds", 200, "how many seeds to run, from 1")
	seed := flags.Uint64("seed", 0, "run this seed alone and tell its story")
	trouble := flags.Duration("trouble", 30*time.Second, "simulated time with faults")
	calm := flags.Duration("calm", 30*time.Second, "simulated time without, within which one site must be active")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	opt := sim.Options{Trouble: *trouble, Calm: *calm}
	if *seed != 0 {
		opt.Seed, opt.Story = *seed, true
		r, err := sim.Run(opt)
		fmt.Fprint(out, r.Story)
		return verdict(out, []sim.Result{r}, err, 0)
	}
	start := time.Now()
	var results []sim.Result
	for i := range *seeds {
		opt.Seed = uint64(i + 1)
		r, err := sim.Run(opt)
		results = append(results, r)
		if err != nil || len(r.Violations) > 0 {
			return verdict(out, results, err, time.Since(start))
		}
	}
	return verdict(out, results, nil, time.Since(start))
}

func verdict(out io.Writer, results []sim.Result, err error, took time.Duration) int {
	violations, moves, faults := 0, 0, 0
	phases := make(map[failover.Phase]int)
	kinds := make(map[string]int)
	for _, r := range results {
		violations += len(r.Violations)
		moves += r.Moves
		faults += r.Faults
		for p := range r.Phases {
			phases[p]++
		}
		for k, n := range r.FaultKinds {
			kinds[k] += n
		}
		for _, v := range r.Violations {
			fmt.Fprintf(out, "seed %d: %s\n", r.Seed, v)
		}
	}
	if err != nil {
		fmt.Fprintf(out, "sim: %v\n", err)
	}
	rate := 0.0
	if took > 0 {
		rate = float64(len(results)) / took.Seconds()
	}
	fmt.Fprintf(out, "sim: %d schedules, %d violations, %d moves, %d faults, %.1f schedules/s\n", len(results), violations, moves, faults, rate)
	fmt.Fprintf(out, "     schedules that reached a phase: %s\n", list(phases))
	fmt.Fprintf(out, "     faults: %s\n", list(kinds))
	if err != nil || violations > 0 {
		if len(results) > 0 {
			fmt.Fprintf(out, "     its story: make sim SEED=%d\n", results[len(results)-1].Seed)
		}
		return 1
	}
	return 0
}

func list[K ~string](counts map[K]int) string {
	var parts []string
	for k, n := range counts {
		if k != "" {
			parts = append(parts, fmt.Sprintf("%s %d", string(k), n))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
