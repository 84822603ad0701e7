// Command bench-frontend measures our frontends beside HAProxy and nginx:
//
//	bench-frontend -draasd bin/draasd             # everything
//	bench-frontend -draasd bin/draasd -only idle  # throughput, idle or downtime
//
// It needs wrk, h2load, haproxy and nginx, and no root.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/draasd/draas/internal/bench/frontend"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("bench-frontend", flag.ContinueOnError)
	flags.SetOutput(errOut)
	var o frontend.Options
	only := flags.String("only", "throughput,idle,downtime", "`PARTS`, with commas")
	flags.StringVar(&o.Draasd, "draasd", "bin/draasd", "`FILE`: the program")
	flags.StringVar(&o.JSON, "json", "", "`FILE` for the result")
	flags.BoolVar(&o.Keep, "keep", false, "keep the directory with logs")
	flags.IntVar(&o.Rounds, "rounds", 5, "rounds of each load")
	flags.DurationVar(&o.For, "for", 3*time.Second, "how `LONG` each load is, whole seconds")
	flags.Func("names", "only loads and events whose names match this `REGEXP`", func(text string) (err error) {
		o.Names, err = regexp.Compile(text)
		return err
	})
	flags.IntVar(&o.Runs, "runs", 20, "runs of each event")
	flags.IntVar(&o.Held, "held", 10000, "idle connections, if there are descriptors for as many")
	flags.IntVar(&o.Rate, "rate", 300, "requests a second of each load beside a disaster")
	flags.Float64Var(&o.Capacity, "capacity", 0.7, "`PART` of the capacity that is the load of a planned move")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	for part := range strings.SplitSeq(*only, ",") {
		switch part {
		case "throughput":
			o.Throughput = true
		case "idle":
			o.Idle = true
		case "downtime":
			o.Downtime = true
		default:
			fmt.Fprintf(errOut, "bench-frontend: -only %s: want throughput, idle or downtime\n", part)
			return 2
		}
	}
	if o.Rounds < 1 || o.Runs < 1 || o.Held < 1 || o.Rate < 1 || o.Capacity <= 0 || o.For < time.Second {
		fmt.Fprintln(errOut, "bench-frontend: every number must be positive, and -for a second at the least")
		return 2
	}
	var err error
	if o.Draasd, err = filepath.Abs(o.Draasd); err == nil {
		_, err = frontend.Run(ctx, o, out)
	}
	if err != nil {
		fmt.Fprintf(errOut, "bench-frontend: %v\n", err)
		return 1
	}
	return 0
}
