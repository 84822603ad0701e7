package replication

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/draasd/draas/internal/bench/rounds"
)

// Options is what is measured, and how often.
type Options struct {
	Draasd string // the executable
	Self   string // this one, which is the clouds in memory as well
	JSON   string // file for the result; empty: none
	Keep   bool   // the directory with logs stays

	// Parts: the estate in memory, listings of a container, and on real sites
	// an image, objects and creations.
	Estate, Listing, Image, Objects, Creates bool

	Rounds, SiteRounds int

	Latency   time.Duration // of each request to a cloud in memory
	Million   int           // objects of the container that is only listed
	ImageSize int64         // bytes
	Count     int           // of objects
	Sample    int           // every so many of the creations is made by the command line
}

// Result is what came out.
type Result struct {
	CPUs    int      `json:"cpus"`
	Lines   []Line   `json:"lines"`
	Targets []Target `json:"targets"`
	Notes   []string `json:"notes,omitempty"`
}

// Line is one thing that was measured, in all rounds.
type Line struct {
	Part string `json:"part"`
	What string `json:"what"`
	Seconds,
	CPU rounds.Range
	MiB      rounds.Range // the most memory that the process had, of those that were started
	Requests float64      `json:"requests,omitempty"` // median; 0: not counted
	Bytes    int64        `json:"bytes,omitempty"`    // moved in one round

	costs []cost
}

// bench is one run.
type bench struct {
	o   Options
	out io.Writer
	dir string
	r   *Result
}

// Run measures, writes the tables to out, and leaves nothing behind.
func Run(ctx context.Context, o Options, out io.Writer) (*Result, error) {
	dir, err := os.MkdirTemp("", "draas-bench-sync-")
	if err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	b := &bench{o: o, out: out, dir: dir, r: &Result{CPUs: runtime.NumCPU()}}
	err = b.all(ctx)
	b.r.write(out)
	if o.JSON != "" {
		err = errors.Join(err, rounds.Write(o.JSON, b.r))
	}
	if o.Keep {
		fmt.Fprintf(out, "logs are kept in %s\n", dir)
		return b.r, err
	}
	return b.r, errors.Join(err, os.RemoveAll(dir))
}

func (b *bench) all(ctx context.Context) error {
	if b.o.Estate {
		if err := b.estate(ctx); err != nil {
			return fmt.Errorf("estate: %w", err)
		}
	}
	if b.o.Listing {
		if err := b.listing(ctx); err != nil {
			return fmt.Errorf("listing: %w", err)
		}
	}
	if b.o.Image || b.o.Objects || b.o.Creates {
		if err := b.real(ctx); err != nil {
			return fmt.Errorf("real sites: %w", err)
		}
	}
	return nil
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.out, format+"\n", args...) }

// add makes a line of the costs of all rounds.
func (b *bench) add(part, what string, costs []cost, bytes int64) Line {
	l := Line{Part: part, What: what, Bytes: bytes, costs: costs}
	l.Seconds = rounds.RangeOf(each(costs, func(c cost) float64 { return c.wall.Seconds() }))
	l.CPU = rounds.RangeOf(each(costs, func(c cost) float64 { return c.cpu.Seconds() }))
	l.MiB = rounds.RangeOf(each(costs, func(c cost) float64 { return float64(c.rss) / 1024 }))
	l.Requests = rounds.RangeOf(each(costs, func(c cost) float64 { return float64(c.requests) })).Median
	b.r.Lines = append(b.r.Lines, l)
	return l
}
