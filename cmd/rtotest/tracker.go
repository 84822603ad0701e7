package main

import (
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/measure"
)

// tracker follows the clients of a run, to tell when they are served steadily
// and when a disaster is over for them.
type tracker struct {
	settle time.Duration
	home   *place // where users have to be served to be steady; nil: anywhere

	mu      sync.Mutex
	clients map[string]*tracked
	fault   time.Time
	early   int           // failures known before the fault
	changed chan struct{} // closed and made anew at every event
}

// place is where users were served.
type place struct {
	site draas.SiteID // empty when answers do not tell
	addr string
}

func (p place) String() string {
	if p.site != "" {
		return string(p.site)
	}
	return p.addr
}

// same compares sites where both are known, and else addresses.
func (p place) same(o place) bool {
	if p.site != "" && o.site != "" {
		return p.site == o.site
	}
	return p.addr == o.addr
}

// tracked is one kind of client.
type tracked struct {
	waits   bool // the run's end waits for it
	at      place
	since   time.Time // scheduled time of the first good answer of the row
	first   time.Time // and its arrival
	latest  time.Time // arrival of the latest good answer of the row
	good    bool
	touched bool // failed, or answered from elsewhere, since the fault
}

// newTracker waits for the kinds that look names up again, or for all when
// there are none.
func newTracker(kinds []measure.Kind, settle time.Duration) *tracker {
	t := &tracker{settle: settle, clients: make(map[string]*tracked), changed: make(chan struct{})}
	some := false
	for _, k := range kinds {
		t.clients[string(k)] = &tracked{waits: k.LooksAgain()}
		some = some || k.LooksAgain()
	}
	for _, c := range t.clients {
		c.waits = c.waits || !some
	}
	return t
}

// see takes up an event of the engine.
func (t *tracker) see(e measure.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.clients[e.Client]
	if e.Direct || c == nil {
		return
	}
	at := e.Start.Add(e.Sample.At)
	struck := !t.fault.IsZero() && e.Arrived().After(t.fault)
	switch {
	case e.Err != nil:
		// One that was asked before the row began ends nothing.
		if c.good && !at.Before(c.since) {
			c.good = false
		}
		c.touched = c.touched || struck
		if t.fault.IsZero() {
			t.early++
		}
	case !c.good || e.Site != c.at.site:
		now := place{site: e.Site, addr: e.Addr}
		c.touched = c.touched || struck && !c.first.IsZero() && now != c.at
		c.good, c.at = true, now
		c.since, c.first, c.latest = at, e.Arrived(), e.Arrived()
	default:
		c.touched = c.touched || struck && c.at.addr != e.Addr
		c.at.addr = e.Addr
		c.latest = e.Arrived()
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// strike makes the present instant that of the fault, but not when a request
// has failed before: what follows would prove nothing.
func (t *tracker) strike() (at time.Time, clean bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.early > 0 {
		return at, false
	}
	t.fault = time.Now()
	return t.fault, true
}

// margin is how much longer than asked for a row of good answers has to be: a
// request of within the time may still be under way.
const margin = 100 * time.Millisecond

// steady reports whether every kind has been served for long enough; after
// the fault those that the end waits for, and each of them must have felt it.
func (t *tracker) steady() bool {
	for _, c := range t.clients {
		struck := !t.fault.IsZero()
		switch {
		case struck && !c.waits:
		case !struck && t.home != nil && !t.home.same(c.at):
			return false
		case struck && !c.touched, !c.good, c.latest.Sub(c.first) < t.settle+margin:
			return false
		}
	}
	return true
}

// place is where the kind of client is served.
func (t *tracker) place(k measure.Kind) place {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.clients[string(k)].at
}

// felt reports whether any kind of client noticed the fault.
func (t *tracker) felt() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.clients {
		if c.touched {
			return true
		}
	}
	return false
}

// wait waits until all are served steadily. It returns false when the time was
// over before that, or done.
func (t *tracker) wait(done <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		t.mu.Lock()
		steady, changed := t.steady(), t.changed
		t.mu.Unlock()
		if steady {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-done:
			return false
		}
	}
}
