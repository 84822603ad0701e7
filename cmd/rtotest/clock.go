package main

import (
	"context"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/measure"
)

// asker asks a daemon what rtotest wants to know.
type asker interface {
	Status(ctx context.Context, local bool) (*api.Status, error)
	Watch(ctx context.Context, f func(*api.Status) error) error
	History(ctx context.Context, service draas.ServiceID, limit int) ([]failover.Record, error)
	Close()
}

const (
	askTimeout = 2 * time.Second
	askEvery   = 2 * time.Second
	askFirst   = 8 // in short order, to have one that was quick
	askQuickly = 20 * time.Millisecond
)

// member is one daemon, and what is known of its clock.
type member struct {
	name    draas.MemberID // empty until it has said it
	address string         // for messages
	asker   asker

	mu      sync.Mutex
	offset  time.Duration // its clock minus ours, of the shortest round trip
	trip    time.Duration
	samples int
	err     error // of the latest question, nil when it was answered
}

// ask asks once, and takes the time.
func (m *member) ask(ctx context.Context) (*api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	sent := time.Now()
	s, err := m.asker.Status(ctx, true)
	m.sample(sent, time.Since(sent), s, err)
	return s, err
}

// sample takes up an answer: the daemon wrote its time at some instant between
// sending and arrival. Of the shortest round trip, the middle is nearest.
func (m *member) sample(sent time.Time, trip time.Duration, s *api.Status, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err = err; err != nil {
		return
	}
	if m.name == "" {
		m.name = s.Self
	}
	m.samples++
	if m.samples == 1 || trip < m.trip {
		m.trip = trip
		m.offset = s.At.Sub(sent.Round(0).Add(trip / 2))
	}
}

// clock is what is known of the member's clock.
func (m *member) clock() measure.MemberClock {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := measure.MemberClock{Member: m.name, Known: m.samples > 0, Samples: m.samples}
	if c.Member == "" {
		c.Member = draas.MemberID(m.address)
	}
	if c.Known {
		c.Offset, c.Error = measure.Millis(m.offset), measure.Millis(m.trip/2)
	}
	if m.err != nil {
		c.Problem = inLine(m.err)
	}
	return c
}

// follow keeps asking for the time until the context ends.
func (m *member) follow(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		_, err := m.ask(ctx)
		pause := askEvery
		if err == nil && n < askFirst {
			pause = askQuickly
		}
		if ctx.Err() != nil {
			return
		}
		timer.Reset(pause)
	}
}

// shift puts an instant of a member's clock on ours. Without the member, or
// when its clock is not known, it lies between the clocks that are: shifted is
// false when none is.
func shift(clocks []measure.MemberClock, by draas.MemberID, at time.Time) (ours time.Time, off time.Duration, shifted bool) {
	var low, high time.Duration
	for _, c := range clocks {
		if !c.Known {
			continue
		}
		o, e := time.Duration(c.Offset), time.Duration(c.Error)
		if c.Member == by {
			return at.Add(-o), e, true
		}
		if !shifted {
			low, high, shifted = o-e, o+e, true
		}
		low, high = min(low, o-e), max(high, o+e)
	}
	return at.Add(-(low + high) / 2), (high - low) / 2, shifted
}
