package edge

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/schemes/frontend"
)

// fakeMember answers as a member does, with knobs.
type fakeMember struct {
	mu     sync.Mutex
	led    api.LedService
	tag    string
	news   chan struct{}
	asks   []api.Follow
	silent bool
	down   bool
	travel time.Duration // of the answer
}

func newFakeMember() *fakeMember { return &fakeMember{news: make(chan struct{}), tag: "0"} }

func (m *fakeMember) decide(led api.LedService) {
	m.mu.Lock()
	defer m.mu.Unlock()
	led.Service = "shop"
	m.led, m.tag = led, m.tag+"'"
	close(m.news)
	m.news = make(chan struct{})
}

func (m *fakeMember) set(f func(*fakeMember)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

func (m *fakeMember) Follow(ctx context.Context, ask api.Follow) (*api.Led, error) {
	start := time.Now()
	m.mu.Lock()
	m.asks = append(m.asks, ask)
	news, wait, silent, down, travel := m.news, ask.Tag == m.tag, m.silent, m.down, m.travel
	m.mu.Unlock()
	switch {
	case silent:
		<-ctx.Done()
		return nil, ctx.Err()
	case down:
		return nil, errors.New("connection refused")
	}
	if wait {
		select {
		case <-news:
		case <-time.After(time.Duration(ask.WaitMS) * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m.mu.Lock()
	answer := &api.Led{Tag: m.tag, WaitedNS: int64(time.Since(start)), Services: []api.LedService{m.led}}
	m.mu.Unlock()
	time.Sleep(travel)
	return answer, nil
}

func (m *fakeMember) take() []api.Follow {
	m.mu.Lock()
	defer m.mu.Unlock()
	asks := m.asks
	m.asks = nil
	return asks
}

// bench is a follower of two members, in a synctest bubble.
type bench struct {
	*follower
	a, b *fakeMember
	stop func()
}

func newBench(t *testing.T, outlives bool) *bench {
	start := time.Now()
	now := func() draas.Reading {
		d := time.Since(start) + time.Hour
		return draas.Reading{Boot: d, Wall: d}
	}
	x := &bench{a: newFakeMember(), b: newFakeMember()}
	log := slog.New(slog.DiscardHandler)
	x.follower = &follower{name: "edge1", clock: now, log: log}
	x.table = frontend.New(frontend.Config{Clock: now, Log: log, Tell: x.tell},
		[]frontend.Spec{{Service: "shop", Outlives: outlives, Hold: frontend.Bounds{Time: time.Second, Requests: 10}}})
	x.reports = x.table.Reports
	x.add("primary", x.a, 400*time.Millisecond)
	x.add("dr", x.b, 400*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { x.run(ctx) })
	all.Go(func() { x.table.Run(ctx) })
	x.stop = func() { cancel(); all.Wait() }
	return x
}

func (x *bench) want(t *testing.T, state frontend.State, epoch draas.Epoch) {
	t.Helper()
	synctest.Wait()
	if w := x.table.Service("shop").Where(); w.State != state || w.Epoch != epoch {
		t.Fatalf("%s at epoch %s, want %s at %s", w.State, w.Epoch, state, epoch)
	}
}

const second = int64(time.Second)

func TestFollowsWhoeverKnowsMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, false)
		defer x.stop()
		x.want(t, frontend.Wait, 0)
		x.a.decide(api.LedService{Epoch: 1, Active: "primary", PermitNS: second})
		x.want(t, frontend.Open, 1) // at once
		x.b.set(func(m *fakeMember) { m.silent = true })
		x.a.decide(api.LedService{Epoch: 1, Active: "primary", Moving: true, PermitNS: second})
		x.want(t, frontend.Wait, 1)
		x.b.set(func(m *fakeMember) { m.silent = false })
		x.b.decide(api.LedService{Epoch: 2, Active: "dr", PermitNS: 100 * second})
		time.Sleep(3 * time.Second)
		x.want(t, frontend.Open, 2) // b gave up a silent request and asked again
		x.a.set(func(m *fakeMember) { m.down = true })
		time.Sleep(10 * time.Second)
		x.want(t, frontend.Open, 2)
		if n := len(x.a.take()); n > 60 {
			t.Errorf("a member that is down was asked %d times", n)
		}
	})
}

func TestPermitCountsFromBeforeTheQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, false)
		defer x.stop()
		synctest.Wait()
		x.b.set(func(m *fakeMember) { m.down = true })
		x.a.set(func(m *fakeMember) { m.travel = 300 * time.Millisecond })
		time.Sleep(time.Second)
		x.a.set(func(m *fakeMember) {
			m.led = api.LedService{Service: "shop", Epoch: 1, Active: "primary", PermitNS: second / 2}
		})
		// The wait at the member counts as long as both clocks are sure of it.
		time.Sleep(2 * time.Second)
		now := x.clock()
		if left := x.table.Service("shop").Until().Left(now); left > 500*time.Millisecond-300*time.Millisecond {
			t.Errorf("%v left of a permit of 500 ms that was 300 ms under way", left)
		}
		x.a.set(func(m *fakeMember) { m.silent = true })
		time.Sleep(time.Second)
		x.want(t, frontend.Wait, 1)
		time.Sleep(2 * time.Second)
		x.want(t, frontend.Shut, 1)
	})
}

func TestEvidenceAndReportsGoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, true)
		defer x.stop()
		x.a.decide(api.LedService{Epoch: 1, Active: "primary", PermitNS: second})
		x.want(t, frontend.Open, 1)
		time.Sleep(time.Second)
		s := x.table.Service("shop")
		w := s.Where()
		x.a.take()
		x.b.take()
		for range 100 {
			s.Failed(w, frontend.Silent)
			s.Failed(w, frontend.Refused)
		}
		time.Sleep(15 * time.Millisecond)
		for _, m := range []*fakeMember{x.a, x.b} {
			told := make(map[string]bool)
			asks := m.take()
			for _, ask := range asks {
				for _, e := range ask.Evidence {
					told[e.Class] = true
				}
			}
			if len(told) != 2 || len(asks) > 2 { // 200 times seen
				t.Fatalf("told %+v", asks)
			}
		}
		// A drain is told when its last request ends.
		if !s.Enter(w) {
			t.Fatal("cannot enter")
		}
		x.a.decide(api.LedService{Epoch: 1, Active: "primary", Moving: true, PermitNS: second})
		time.Sleep(100 * time.Millisecond)
		x.a.take()
		s.Leave(w)
		synctest.Wait()
		asks := x.a.take()
		drained := func(f api.Follow) bool {
			return f.Services[0].Flights == 0 && f.Services[0].State == "wait" && f.Services[0].Epoch == 1
		}
		if len(asks) != 1 || !slices.ContainsFunc(asks, drained) {
			t.Errorf("told %+v", asks)
		}
	})
}

func TestContradictionsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, true)
		defer x.stop()
		x.a.decide(api.LedService{Epoch: 1, Active: "primary"})
		x.want(t, frontend.Open, 1)
		x.b.decide(api.LedService{Epoch: 1, Active: "dr"})
		synctest.Wait()
		if w := x.table.Service("shop").Where(); w.Site != "primary" {
			t.Errorf("led to %s", w.Site)
		}
		if m := x.members["dr"]; m.trouble() == "" {
			t.Error("two sites for one epoch are not told of")
		}
	})
}
