// Command bench-sync measures `draasd sync run` beside curl, python-swiftclient
// and the openstack command line:
//
//	bench-sync -draasd bin/draasd -only estate,listing
//	sites bench-sync -draasd bin/draasd -only image,objects,creates
//
// All but the first two need two real sites beside them, which the command sites
// of internal/lab/openstack starts, and the tools of etc/setup/openstack-packages.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/draasd/draas/internal/bench/replication"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	flags := flag.NewFlagSet("bench-sync", flag.ContinueOnError)
	flags.SetOutput(errOut)
	var o replication.Options
	parts := map[string]*bool{"estate": &o.Estate, "listing": &o.Listing, "image": &o.Image, "objects": &o.Objects, "creates": &o.Creates}
	serve := flags.Bool("serve-clouds", false, "be two clouds in memory")
	only := flags.String("only", "estate,listing,image,objects,creates", "`PARTS`, with commas")
	flags.StringVar(&o.Draasd, "draasd", "bin/draasd", "`FILE`: the program")
	flags.StringVar(&o.JSON, "json", "", "`FILE` for the result")
	flags.BoolVar(&o.Keep, "keep", false, "keep the directory with logs")
	flags.IntVar(&o.Rounds, "rounds", 3, "rounds of each part")
	flags.IntVar(&o.SiteRounds, "site-rounds", 2, "rounds of the objects and creations at real sites")
	flags.DurationVar(&o.Latency, "latency", time.Millisecond, "of each request to a cloud in memory")
	flags.IntVar(&o.Million, "million", 50_000, "objects of the container of which a plan is made")
	flags.Int64Var(&o.ImageSize, "image", 1<<30, "`BYTES` of the image")
	flags.IntVar(&o.Count, "objects", 2000, "objects in Swift")
	flags.IntVar(&o.Sample, "sample", 10, "every so many of the 200 creations is made by the command line, too")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *serve {
		if err := replication.ServeClouds(in, out); err != nil {
			fmt.Fprintf(errOut, "bench-sync: %v\n", err)
			return 1
		}
		return 0
	}
	for part := range strings.SplitSeq(*only, ",") {
		if parts[part] == nil {
			fmt.Fprintf(errOut, "bench-sync: -only %s: want estate, listing, image, objects or creates\n", part)
			return 2
		}
		*parts[part] = true
	}
	if o.Rounds < 1 || o.SiteRounds < 1 || o.Million < 1 || o.ImageSize < 1 || o.Count < 1 || o.Sample < 1 {
		fmt.Fprintln(errOut, "bench-sync: every number must be positive")
		return 2
	}
	var err error
	if o.Draasd, err = filepath.Abs(o.Draasd); err == nil {
		if o.Self, err = os.Executable(); err == nil {
			_, err = replication.Run(ctx, o, out)
		}
	}
	if err != nil {
		fmt.Fprintf(errOut, "bench-sync: %v\n", err)
		return 1
	}
	return 0
}
