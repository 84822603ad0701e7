package demo

import (
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas/measure"
)

const (
	// flapping is how soon after a change another one of the same client is
	// not worth a line: while requests asked before a recovery time out,
	// those asked after it are answered, a hundred times a second.
	flapping = 300 * time.Millisecond
	// calmFor is how long the users must have been served for the run to end:
	// rtotest's own second, and some.
	calmFor = 1300 * time.Millisecond
)

// crowd listens to what rtotest tells of its clients while it measures.
type crowd struct {
	line *timeline

	mu      sync.Mutex
	clients map[string]*client
}

// client is what was heard of one kind of client.
type client struct {
	failing bool
	changed time.Time // last heard of
	hidden  int       // changes since the last line
}

func newCrowd(line *timeline) *crowd { return &crowd{line: line, clients: make(map[string]*client)} }

// hear takes up a line of rtotest's display: a time of day in UTC, a client
// and what it saw. What is not of that form is of no interest here.
func (c *crowd) hear(text string, now time.Time) {
	clock, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	name, what, found := strings.Cut(rest, ": ")
	at, ok := onDay(clock, now)
	if !found || !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.clients[name]
	if cl == nil {
		cl = &client{}
		c.clients[name] = cl
	}
	soon := at.Sub(cl.changed) < flapping
	if !soon {
		c.tell(name, cl)
	}
	how := good
	// The class of the error is enough: rtotest's own log has the rest.
	cause, _, failed := strings.Cut(what, ": ")
	if cl.failing = strings.HasPrefix(what, "failures start"); cl.failing && failed {
		how, what = bad, cause
	}
	cl.changed = at
	if soon {
		cl.hidden++
		return
	}
	c.line.add(at, how, "users, %s: %s", name, what)
}

// tell says what was hidden of a client.
func (c *crowd) tell(name string, cl *client) {
	if cl.hidden == 0 {
		return
	}
	state, how := "served", good
	if cl.failing {
		state, how = "failing", bad
	}
	c.line.add(cl.changed, how, "users, %s: %s, after %d more changes in short order", name, state, cl.hidden)
	cl.hidden = 0
}

// end says what is hidden still.
func (c *crowd) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, cl := range c.clients {
		c.tell(name, cl)
	}
}

// served reports whether the judged client has been served for a while.
func (c *crowd) served(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.clients[string(measure.Fresh)]
	return cl != nil && !cl.failing && now.Sub(cl.changed) >= calmFor
}

// onDay is the instant nearest to now that a clock without a date shows.
func onDay(clock string, now time.Time) (time.Time, bool) {
	tod, err := time.Parse(measure.Clock, clock)
	if err != nil {
		return time.Time{}, false
	}
	day := now.UTC().Truncate(24 * time.Hour)
	at := day.Add(tod.Sub(tod.Truncate(24 * time.Hour)))
	switch off := at.Sub(now); {
	case off > 12*time.Hour:
		at = at.Add(-24 * time.Hour)
	case off < -12*time.Hour:
		at = at.Add(24 * time.Hour)
	}
	return at, true
}

// lineWriter hands over what is written to it line by line. It is used by one
// goroutine.
type lineWriter struct {
	rest []byte
	line func(string)
}

// maxLine bounds a line; what is longer is cut.
const maxLine = 4 << 10

func (w *lineWriter) Write(p []byte) (int, error) {
	for _, b := range p {
		switch {
		case b == '\n' || b == '\r':
			if len(w.rest) > 0 {
				w.line(string(w.rest))
				w.rest = w.rest[:0]
			}
		case len(w.rest) < maxLine:
			w.rest = append(w.rest, b)
		}
	}
	return len(p), nil
}
