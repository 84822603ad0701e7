// Command hunt looks with the simulator for bugs that are put into draas on
// purpose.
//
//	hunt list                   # their names
//	hunt -seeds 2000 NAME       # one: prints the seed that finds it, exits 1
//	hunt -seed 17 NAME          # the story of a seed with the bug in it
//	hunt -seeds 2000 all        # all, and the product as it is on the same seeds
//
// A hunt of all exits 0 if every bug is found and nothing is without them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/draasd/draas/internal/sim/bugs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hunt:", err)
	}
	os.Exit(code)
}

// The exit codes.
const (
	clean  = 0 // as it should be; of one bug: nothing was found
	found  = 1 // a rule was broken; of all: something was, or was not, that should not
	failed = 2
)

func run(ctx context.Context, args []string, out io.Writer) (code int, err error) {
	flags := flag.NewFlagSet("hunt", flag.ContinueOnError)
	seeds := flags.Uint64("seeds", 2000, "how many seeds a bug is hunted with, from 1")
	seed := flags.Uint64("seed", 0, "run this seed alone and tell its story")
	shrink := flags.Bool("shrink", false, "cut -seed down to the faults that matter")
	jobs := flags.Int("jobs", runtime.NumCPU(), "how many processes simulate at a time")
	root := flags.String("root", "", "the module's directory; empty: found from here upwards")
	if err := flags.Parse(args); err != nil {
		return failed, err
	}
	if flags.NArg() != 1 || *jobs < 1 {
		return failed, errors.New("say which bug to hunt: list, all or a name")
	}
	name := flags.Arg(0)
	if name == "list" {
		for _, b := range bugs.All() {
			fmt.Fprintf(out, "%-22s %s (%s)\n", b.Name, b.Breaks, strings.Join(b.Rules, ", "))
		}
		return clean, nil
	}
	if *root == "" {
		if *root, err = moduleRoot(); err != nil {
			return failed, err
		}
	}
	dir, err := os.MkdirTemp("", "draas-bugs-")
	if err != nil {
		return failed, fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	h := &bugs.Hunter{Root: *root, Dir: dir}
	if name == "all" {
		return huntAll(ctx, h, bugs.All(), *seeds, *jobs, out)
	}
	b, err := bugs.Find(name)
	if err != nil {
		return failed, err
	}
	if *seed != 0 {
		return tell(ctx, h, b, []string{"-seed", fmt.Sprint(*seed), fmt.Sprintf("-shrink=%t", *shrink)}, out)
	}
	return huntOne(ctx, h, b, *seeds, *jobs, out)
}

func huntOne(ctx context.Context, at bugs.Bench, b bugs.Bug, seeds uint64, jobs int, out io.Writer) (int, error) {
	bin, err := at.Build(ctx, b.Name, b.Edits)
	if err != nil {
		return failed, err
	}
	f, err := at.Hunt(ctx, bin, seeds, jobs)
	if err != nil {
		return failed, err
	}
	if f.Seed == 0 {
		fmt.Fprintf(out, "sim: BUG %s not found in %d seeds\n", b.Name, f.Seeds)
		return clean, nil
	}
	for _, v := range f.Violations {
		fmt.Fprintf(out, "seed %d: %s\n", f.Seed, v)
	}
	fmt.Fprintf(out, "sim: BUG %s found seed=%d\n", b.Name, f.Seed)
	return found, nil
}

// tell runs one seed with the bug in it, and tells its story.
func tell(ctx context.Context, h *bugs.Hunter, b bugs.Bug, args []string, out io.Writer) (int, error) {
	bin, err := h.Build(ctx, b.Name, b.Edits)
	if err != nil {
		return failed, err
	}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == found {
		return found, nil
	}
	if err != nil {
		return failed, fmt.Errorf("simulate: %w", err)
	}
	return clean, nil
}

func huntAll(ctx context.Context, at bugs.Bench, all []bugs.Bug, seeds uint64, jobs int, out io.Writer) (int, error) {
	start := time.Now()
	schedules, good := 0, 0
	fmt.Fprintf(out, "%-22s %6s %8s  %s\n", "bug", "seed", "took", "found by")
	f, err := bugs.HuntAll(ctx, at, all, seeds, jobs, func(r bugs.Row) {
		by := r.Finding.By()
		switch {
		case r.AsExpected():
			good++
		case by == "":
			by = "NOT FOUND"
		default:
			by = "NOT AS EXPECTED: " + by
		}
		schedules += r.Finding.Seeds
		fmt.Fprintf(out, "%-22s %6d %7.1fs  %s\n", r.Bug.Name, r.Finding.Seed, r.Took.Seconds(), by)
	})
	if err != nil {
		return failed, err
	}
	for _, v := range f.Violations {
		fmt.Fprintf(out, "without a bug, seed %d: %s\n", f.Seed, v)
	}
	fmt.Fprintf(out, "sim: %d of %d bugs found in %d schedules; without them %d schedules, %d violations; %.0f s\n",
		good, len(all), schedules, f.Seeds, len(f.Violations), time.Since(start).Seconds())
	if f.Seed != 0 || good < len(all) {
		return found, nil
	}
	return clean, nil
}

// moduleRoot is the directory at or above this one that has a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("find module: there is no go.mod here or above")
		}
		dir = up
	}
}
