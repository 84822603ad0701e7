package demo

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// tone is how a line of the timeline is meant; a terminal shows it in colour.
type tone string

const (
	plain tone = ""
	good  tone = "\x1b[32m"
	doubt tone = "\x1b[33m"
	bad   tone = "\x1b[31m"
	loud  tone = "\x1b[1m"
)

const toneEnd = "\x1b[0m"

// settleLines is how long a line waits for one that came later and happened
// earlier: they come from several processes.
const settleLines = 150 * time.Millisecond

type line struct {
	at   time.Time
	tone tone
	text string
}

// timeline shows what happens, in the order in which it happened. Instants
// count from the run's start, and after the fault from the fault.
type timeline struct {
	out    io.Writer
	colour bool

	mu      sync.Mutex
	origin  time.Time
	fault   time.Time
	pending []line
}

func newTimeline(out io.Writer, colour bool, origin time.Time) *timeline {
	return &timeline{out: out, colour: colour, origin: origin}
}

// mark sets the instant of the fault.
func (t *timeline) mark(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault = at
}

// add takes a line up.
func (t *timeline) add(at time.Time, tone tone, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := line{at, tone, fmt.Sprintf(format, args...)}
	i, _ := slices.BinarySearchFunc(t.pending, l.at, func(p line, at time.Time) int {
		return cmp.Or(p.at.Compare(at), -1) // after those of the same instant
	})
	t.pending = slices.Insert(t.pending, i, l)
}

// flush writes the lines of before an instant.
func (t *timeline) flush(before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for n < len(t.pending) && t.pending[n].at.Before(before) {
		fmt.Fprintln(t.out, t.format(t.pending[n]))
		n++
	}
	t.pending = slices.Delete(t.pending, 0, n)
}

// flushAll writes what is left.
func (t *timeline) flushAll() { t.flush(time.Unix(1<<40, 0)) }

func (t *timeline) format(l line) string {
	stamp := fmt.Sprintf("%9.3f s", l.at.Sub(t.origin).Seconds())
	if !t.fault.IsZero() && !l.at.Before(t.fault) {
		stamp = fmt.Sprintf("%+9.3f s", l.at.Sub(t.fault).Seconds())
	}
	if !t.colour || l.tone == plain {
		return stamp + "  " + l.text
	}
	return stamp + "  " + string(l.tone) + l.text + toneEnd
}
