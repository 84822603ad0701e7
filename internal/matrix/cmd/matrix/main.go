// Command matrix makes disasters to a cluster of each scheme, and writes what
// users saw:
//
//	matrix -draasd bin/draasd -results matrix.jsonl           # what is still to be made
//	matrix -draasd bin/draasd -short                          # the headline cells once
//	matrix -draasd bin/draasd -columns '^dns$' -cells killed  # some of it
//
// It needs root. docs/matrix.md says more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/draasd/draas/internal/matrix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	if ok, err := matrix.Role(ctx, args, in, out); ok {
		if err != nil {
			fmt.Fprintf(errOut, "matrix %s: %v\n", args[0], err)
			return 1
		}
		return 0
	}
	o, to, err := options(args, errOut)
	if err != nil {
		return 2
	}
	o.Out = out
	results, err := matrix.Run(ctx, o)
	if e := to.write(results); e != nil {
		fmt.Fprintf(errOut, "matrix: %v\n", e)
		err = errors.Join(err, e)
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintf(errOut, "matrix: interrupted; what was made is kept\n")
		return 130
	case err != nil:
		fmt.Fprintf(errOut, "matrix: %v\n", err)
		return 1
	}
	if faults := matrix.Faults(results); len(faults) > 0 {
		for _, f := range faults {
			fmt.Fprintf(errOut, "matrix: %s\n", f)
		}
		return 1
	}
	return 0
}

// pages are where results are shown; empty: nowhere.
type pages struct{ table, page string }

func (p pages) write(results []matrix.Result) error {
	var errs []error
	if p.table != "" && len(results) > 0 {
		errs = append(errs, matrix.WriteTable(p.table, results))
	}
	if p.page != "" && len(results) > 0 {
		errs = append(errs, matrix.WritePage(p.page, results))
	}
	return errors.Join(errs...)
}

func options(args []string, errOut io.Writer) (matrix.Options, pages, error) {
	var o matrix.Options
	var to pages
	flags := flag.NewFlagSet("matrix", flag.ContinueOnError)
	flags.SetOutput(errOut)
	pattern := func(to **regexp.Regexp) func(string) error {
		return func(text string) (err error) {
			*to, err = regexp.Compile(text)
			return err
		}
	}
	flags.StringVar(&o.Draasd, "draasd", "bin/draasd", "`FILE`: the program")
	flags.StringVar(&o.Results, "results", "", "`FILE` of the results; what stands in it is not made again")
	flags.StringVar(&to.table, "table", "", "`FILE` into which the tables are written, between their marks")
	flags.StringVar(&to.page, "page", "", "`FILE` of the page that is drawn")
	flags.StringVar(&o.Dir, "dir", "", "`DIR` in which the clusters' disks are; default: that for temporary files")
	flags.Func("columns", "only columns whose names match this `REGEXP`", pattern(&o.Columns))
	flags.Func("cells", "only cells whose names match this `REGEXP`", pattern(&o.Cells))
	short := flags.Bool("short", false, "the headline cells and one that only the fence keeps safe, once, of columns with a lease of 2 s")
	flags.IntVar(&o.Runs, "runs", 20, "how often each headline cell is made")
	flags.IntVar(&o.Others, "others", 3, "how often each other cell is made")
	o.Ways.All = time.Millisecond
	flags.Var(&o.Ways, "way", "how `LONG` a packet takes from one place to another, as 1ms,primary-dr=5ms")
	flags.DurationVar(&o.Lag, "lag", 200*time.Millisecond, "how far the copies of the workload are behind")
	flags.DurationVar(&o.Down, "down", 2*time.Minute, "how long the seed's network is down")
	if err := flags.Parse(args); err != nil {
		return o, to, err
	}
	if *short {
		o.Runs, o.Others, o.Short = 1, 0, true
	}
	var errs [2]error
	o.Draasd, errs[0] = filepath.Abs(o.Draasd)
	o.Self, errs[1] = os.Executable()
	err := errors.Join(errs[:]...)
	if err != nil {
		fmt.Fprintf(errOut, "matrix: %v\n", err)
	}
	return o, to, err
}
