// Package frontend measures our frontends beside HAProxy, nginx and no proxy
// at all, in one run: throughput and processor time per request, the memory of
// idle connections, and what users see of a lost service and of a planned
// move. Each proxy is a process of its own before the same back ends; ours are
// `draasd frontend` and follow a cluster of three members.
//
// Nothing is asserted about time: machines differ. The table sets what came
// out beside what the project aims at.
package frontend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"

	"github.com/draasd/draas/internal/bench/rounds"
)

// Options is what is measured, and for how long.
type Options struct {
	Draasd string // the executable
	JSON   string // file for the result; empty: none
	Keep   bool   // the directory with logs stays

	Throughput, Idle, Downtime bool

	Names    *regexp.Regexp // only loads and events whose names it matches; nil: all
	Rounds   int            // of throughput, each with every proxy in turn
	For      time.Duration  // of one load of one proxy in one round, whole seconds
	Runs     int            // of each disaster
	Held     int            // idle connections
	Rate     int            // requests a second beside a disaster
	Capacity float64        // part of the capacity that a planned move has for load
}

// Result is what came out.
type Result struct {
	CPUs       int              `json:"cpus"`
	Throughput []ThroughputLine `json:"throughput,omitempty"`
	Idle       []IdleLine       `json:"idle,omitempty"`
	Downtime   []DowntimeLine   `json:"downtime,omitempty"`
	Targets    []Target         `json:"targets"`
}

// bench is one run.
type bench struct {
	o   Options
	out io.Writer
	dir string
	// procs are the processes of the part that is measured now.
	crew *crew
	pair certificate
}

// Run measures, writes the tables to out, and leaves nothing behind.
func Run(ctx context.Context, o Options, out io.Writer) (*Result, error) {
	if err := moreDescriptors(); err != nil {
		return nil, err
	}
	for _, tool := range []string{"wrk", "h2load", "haproxy", "nginx"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("find %s (run make setup): %w", tool, err)
		}
	}
	lock, err := takeNetwork()
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }()
	dir, err := os.MkdirTemp("/tmp", "draas-bench-") // a long TMPDIR leaves no room for the names of sockets
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	if o.Keep {
		fmt.Fprintf(out, "logs are kept in %s\n", dir)
	} else {
		defer func() { _ = os.RemoveAll(dir) }()
	}
	b := &bench{o: o, out: out, dir: dir}
	if b.pair, err = newCertificate(dir); err != nil {
		return nil, err
	}
	r := &Result{CPUs: runtime.NumCPU()}
	err = b.all(ctx, r)
	r.Targets = targets(r)
	r.write(out)
	if o.JSON != "" {
		err = errors.Join(err, rounds.Write(o.JSON, r))
	}
	return r, err
}

func (b *bench) all(ctx context.Context, r *Result) (err error) {
	if b.o.Throughput || b.o.Idle {
		err = b.part(ctx, "throughput", func(dir string) error { return b.costs(ctx, dir, r) })
	}
	if err == nil && b.o.Downtime {
		err = b.part(ctx, "downtime", func(dir string) error { return b.disasters(ctx, dir, r) })
	}
	return err
}

// part gives a part a directory and a crew, and ends the crew after it.
func (b *bench) part(ctx context.Context, name string, f func(dir string) error) (err error) {
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	b.crew = newCrew(dir)
	defer func() { err = errors.Join(err, b.crew.close()) }()
	if err := f(dir); err != nil {
		if ctx.Err() == nil {
			b.crew.showLogs(b.out)
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// wanted reports whether a load or an event is to be measured.
func (b *bench) wanted(name string) bool { return b.o.Names == nil || b.o.Names.MatchString(name) }

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.out, format+"\n", args...) }

// moreDescriptors lets this process, and those it starts, open as many files
// as the machine allows.
func moreDescriptors() error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("read limit of descriptors: %w", err)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("raise limit of descriptors: %w", err)
	}
	return nil
}

// descriptors is the limit.
func descriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(min(l.Cur, 1<<20))
}
