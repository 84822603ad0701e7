package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/draasd/draas/internal/sim"
)

// batch is how many seeds a worker is given at a time.
const batch = 25

// job is a run of seeds for a worker, answer what came of it.
type job struct {
	From, N uint64
}

type answer struct {
	Schedules, Moves, Faults int
	Events                   uint64
	Broken                   []sim.Result // with violations, or failed
	Err                      string
	Cover                    *sim.Coverage
}

// work is a worker: one job a line in, one answer a line out.
func work(in io.Reader, out io.Writer) error {
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var j job
		if err := dec.Decode(&j); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read job: %w", err)
		}
		if err := enc.Encode(do(j)); err != nil {
			return fmt.Errorf("write answer: %w", err)
		}
	}
}

func do(j job) answer {
	a := answer{Cover: sim.NewCoverage()}
	for seed := j.From; seed < j.From+j.N; seed++ {
		r, err := sim.Run(sim.Generate(seed), false, a.Cover)
		a.Schedules++
		a.Moves += r.Moves
		a.Faults += r.Faults
		a.Events += r.Events
		if len(r.Violations) > 0 {
			a.Broken = append(a.Broken, r)
		}
		if err != nil {
			a.Err = err.Error()
			return a
		}
	}
	return a
}

// total is what all workers have found.
type total struct {
	mu sync.Mutex
	answer
	next  uint64 // seed
	stop  bool
	least uint64 // seed with a violation; 0: none
}

// many runs seeds in worker processes: the consensus library draws from one
// source of chance in a process.
func many(ctx context.Context, f flags, out, errOut io.Writer) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := time.Now()
	t := &total{next: f.from, answer: answer{Cover: sim.NewCoverage()}}
	end := f.from + f.seeds
	if f.last > 0 {
		end = ^uint64(0)
	}
	take := func() (job, bool) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.stop || t.next >= end || ctx.Err() != nil || f.last > 0 && time.Since(start) > f.last {
			return job{}, false
		}
		j := job{t.next, min(batch, end-t.next)}
		t.next += j.N
		return j, true
	}
	errs := make([]error, max(f.jobs, 1))
	errOut = &shared{w: errOut}
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = employ(ctx, self, errOut, take, func(a answer) { t.add(a, f.keepOn) }) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil && ctx.Err() == nil {
			return 0, err
		}
	}
	return t.report(out, time.Since(start), f.cover), nil
}

// employ gives jobs to a worker process until there are none.
func employ(ctx context.Context, self string, errOut io.Writer, take func() (job, bool), done func(answer)) error {
	cmd := exec.CommandContext(ctx, self, "-worker")
	cmd.Stderr = errOut
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start worker: %w", err)
	}
	enc, dec := json.NewEncoder(in), json.NewDecoder(bufio.NewReader(pipe))
	for j, ok := take(); ok; j, ok = take() {
		var a answer
		if err = enc.Encode(j); err == nil {
			err = dec.Decode(&a)
		}
		if err != nil {
			err = fmt.Errorf("worker with seeds %d to %d: %w", j.From, j.From+j.N-1, err)
			break
		}
		done(a)
	}
	in.Close()
	if werr := cmd.Wait(); err == nil && werr != nil {
		err = fmt.Errorf("worker: %w", werr)
	}
	return err
}

// shared lets several workers write.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

func (t *total) add(a answer, keepOn bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Schedules += a.Schedules
	t.Moves += a.Moves
	t.Faults += a.Faults
	t.Events += a.Events
	t.Cover.Add(a.Cover)
	t.Broken = append(t.Broken, a.Broken...)
	if a.Err != "" {
		t.Err = a.Err
	}
	t.stop = t.stop || t.Err != "" || len(t.Broken) > 0 && !keepOn
}

func (t *total) report(out io.Writer, took time.Duration, cover bool) int {
	violations := 0
	for _, r := range t.Broken {
		violations += len(r.Violations)
		if t.least == 0 || r.Seed < t.least {
			t.least = r.Seed
		}
		for i, v := range r.Violations {
			if i < 3 {
				fmt.Fprintf(out, "seed %d: %s\n", r.Seed, v)
			}
		}
	}
	if t.Err != "" {
		fmt.Fprintf(out, "sim: %s\n", t.Err)
	}
	if cover {
		fmt.Fprint(out, t.Cover)
	}
	fmt.Fprintf(out, "sim: %d schedules, %d violations, %d moves, %d faults, %.1f schedules/s\n", t.Schedules, violations, t.Moves, t.Faults,
		float64(t.Schedules)/took.Seconds())
	if t.least != 0 {
		fmt.Fprintf(out, "its story: make sim SEED=%d; cut down: make sim SEED=%d SHRINK=1\n", t.least, t.least)
	}
	if violations > 0 || t.Err != "" {
		return 1
	}
	return 0
}
