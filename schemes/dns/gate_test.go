package dns

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Within a synctest bubble these are exact.
const (
	gateWindow  = 4 * time.Second
	gateRequest = 2 * time.Second
	gateLate    = 10 * time.Second
)

func token(epoch draas.Epoch) runbook.Token { return runbook.Token{Epoch: epoch} }

func gateOp(service draas.ServiceID, epoch draas.Epoch) runbook.Op {
	return runbook.Op{Service: service, Token: token(epoch), To: "dr"}
}

// gateMember is what a daemon tells its gate. Its clock runs at a rate of its
// own; the wall clock beside it is stepped at will.
type gateMember struct {
	start time.Time
	rate  float64
	step  time.Duration

	mu         sync.Mutex
	latest     map[draas.ServiceID]runbook.Token
	touch      draas.Reading
	alone      bool // out of touch from touch on
	superseded map[runbook.Token]draas.Reading
}

func newGateMember(rate float64) *gateMember {
	return &gateMember{start: time.Now(), rate: rate, latest: make(map[draas.ServiceID]runbook.Token),
		superseded: make(map[runbook.Token]draas.Reading)}
}

func (m *gateMember) now() draas.Reading {
	d := time.Hour + time.Duration(float64(time.Since(m.start))*m.rate)
	return draas.Reading{Boot: d, Wall: d + m.step}
}

func (m *gateMember) current(s draas.ServiceID, t runbook.Token) (draas.Deadline, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.alone {
		m.touch = m.now()
	}
	return draas.DeadlineAt(m.touch, gateWindow), m.latest[s] == t
}

func (m *gateMember) ended(_ draas.ServiceID, t runbook.Token) (draas.Reading, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.superseded[t]
	return r, ok
}

// apply is the entry that makes the token the latest, and ends the one before.
func (m *gateMember) apply(s draas.ServiceID, t runbook.Token) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latest[s] = t
	m.superseded[t] = m.now()
}

func (m *gateMember) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.touch, m.alone = m.now(), true
}

func (m *gateMember) gate(t testing.TB) *Gate {
	g, err := NewGate(m.config())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (m *gateMember) config() GateConfig {
	return GateConfig{Window: gateWindow, Drift: 0.1, Request: gateRequest, Late: gateLate,
		Now: m.now, Current: m.current, Superseded: m.ended}
}

func answered(context.Context) (bool, error) { return true, nil }

func TestGateConfig(t *testing.T) {
	for name, change := range map[string]func(*GateConfig){
		"no clock":      func(c *GateConfig) { c.Now = nil },
		"no lease":      func(c *GateConfig) { c.Current = nil },
		"no end":        func(c *GateConfig) { c.Superseded = nil },
		"no window":     func(c *GateConfig) { c.Window = 0 },
		"no request":    func(c *GateConfig) { c.Request = 0 },
		"negative late": func(c *GateConfig) { c.Late = -1 },
		"drift 1":       func(c *GateConfig) { c.Drift = 1 },
		"negative":      func(c *GateConfig) { c.Drift = -0.1 },
		"no number":     func(c *GateConfig) { c.Drift = math.NaN() },
	} {
		c := newGateMember(1).config()
		if _, err := NewGate(c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		if _, err := NewGate(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestGateLeft(t *testing.T) {
	c := newGateMember(1).config()
	full := c.Quarantine()
	if want := 19555555555 * time.Nanosecond; full != want {
		t.Errorf("quarantine %v, want %v", full, want)
	}
	at := func(d time.Duration) draas.Reading { return draas.Reading{Boot: d, Wall: d} }
	now := at(time.Hour)
	for _, test := range []struct {
		name  string
		p     passage
		ended draas.Reading
		known bool
		want  time.Duration
	}{
		{"never seen, nothing known", passage{}, draas.Reading{}, false, full},
		{"seen, nothing known", passage{token: token(3), since: at(time.Hour - time.Second)}, draas.Reading{}, false, full - time.Second},
		{"an older one seen, nothing known", passage{token: token(2), since: at(0)}, draas.Reading{}, false, full},
		{"just ended", passage{}, now, true, full},
		{"ended a while ago", passage{}, at(time.Hour - 3*time.Second), true, full - 3*time.Second},
		{"what is known counts, not what was seen", passage{token: token(3), since: now}, at(0), true, 0},
		{"none before", passage{}, at(-time.Hour), true, 0},
		{"cut off just now", passage{cut: true, cutAt: now}, at(0), true, c.stretch(gateLate)},
		{"cut off before", passage{cut: true, cutAt: at(time.Hour - 5*time.Second)}, at(0), true, c.stretch(gateLate) - 5*time.Second},
		{"cut off long ago", passage{cut: true, cutAt: at(0)}, at(0), true, 0},
		{"the later of both", passage{cut: true, cutAt: at(time.Hour - 5*time.Second)}, now, true, full},
		// Only the boot clock counts: the wall clock may be stepped.
		{"stepped", passage{}, draas.Reading{Boot: time.Hour, Wall: -time.Hour}, true, full},
	} {
		if got := test.p.left(c, token(3), test.ended, test.known, now); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestGateLetsThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newGateMember(1)
		g := m.gate(t)
		m.apply("shop", token(1))
		if left := g.Left(gateOp("shop", 1)); left != g.cfg.Quarantine() {
			t.Errorf("Left = %v", left)
		}
		began := time.Now()
		p, err := g.Enter(t.Context(), gateOp("shop", 1))
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != g.cfg.Quarantine() {
			t.Errorf("entered after %v, want %v", took, g.cfg.Quarantine())
		}
		for range 2 {
			if err := p.Send(t.Context(), answered); err != nil {
				t.Error(err)
			}
		}
		refusal := errors.New("no")
		if err := p.Send(t.Context(), func(context.Context) (bool, error) { return true, refusal }); !errors.Is(err, refusal) {
			t.Errorf("Send = %v", err)
		}
		p.Leave()
		p.Leave()
		if err := p.Send(t.Context(), answered); err == nil {
			t.Error("sent after Leave")
		}
		began = time.Now()
		if p, err = g.Enter(t.Context(), gateOp("shop", 1)); err != nil || time.Since(began) != 0 {
			t.Errorf("again: %v after %v", err, time.Since(began))
		}
		p.Leave()
		if _, err := g.Enter(t.Context(), gateOp("shop", 0)); !errors.Is(err, draas.ErrStaleEpoch) {
			t.Errorf("an older token: %v", err)
		}
	})
}

func TestGateUnknownEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newGateMember(1)
		m.latest["shop"] = token(4) // it has restarted since
		g := m.gate(t)
		began := time.Now()
		for range 3 { // impatient callers do not make it longer
			ctx, cancel := context.WithTimeout(t.Context(), g.cfg.Quarantine()/4)
			if _, err := g.Enter(ctx, gateOp("shop", 4)); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Enter = %v", err)
			}
			cancel()
		}
		p, err := g.Enter(t.Context(), gateOp("shop", 4))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Leave()
		if took := time.Since(began); took != g.cfg.Quarantine() {
			t.Errorf("entered after %v, want %v", took, g.cfg.Quarantine())
		}
	})
}

func TestGateOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newGateMember(1)
		g := m.gate(t)
		var under, most, total atomic.Int32
		var wg sync.WaitGroup
		for i := range 16 {
			s := draas.ServiceID(fmt.Sprint("s", i%5))
			m.latest[s] = token(1)
			wg.Go(func() {
				p, err := g.Enter(t.Context(), gateOp(s, 1))
				if err != nil {
					t.Error(err)
					return
				}
				defer p.Leave()
				err = p.Send(t.Context(), func(ctx context.Context) (bool, error) {
					most.Store(max(most.Load(), under.Add(1)))
					defer under.Add(-1)
					total.Add(1)
					return true, wait(ctx, time.Second)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 1 || total.Load() != 16 {
			t.Errorf("%d at once, %d in all", most.Load(), total.Load())
		}
		// Waiting for the slot is bounded too.
		p, err := g.Enter(t.Context(), gateOp("s0", 1))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Enter(ctx, gateOp("s1", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Enter = %v", err)
		}
		p.Leave()
	})
}

// One service's quarantine does not hold up another service.
func TestGateWaitsBesideTheSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newGateMember(1)
		g := m.gate(t)
		m.superseded[token(1)] = draas.Reading{}
		m.latest["old"], m.latest["new"] = token(1), token(2)
		var wg sync.WaitGroup
		wg.Go(func() {
			p, err := g.Enter(t.Context(), gateOp("new", 2))
			if err != nil {
				t.Error(err)
				return
			}
			p.Leave()
		})
		synctest.Wait()
		began := time.Now()
		p, err := g.Enter(t.Context(), gateOp("old", 1))
		if err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		} else {
			p.Leave()
		}
		wg.Wait()
	})
}

func TestGateLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newGateMember(1)
		g := m.gate(t)
		m.apply("shop", token(1))
		p, err := g.Enter(t.Context(), gateOp("shop", 1))
		if err != nil {
			t.Fatal(err)
		}
		m.leave()
		time.Sleep(gateWindow - time.Second)
		// A second is left: the request does not get more.
		began := time.Now()
		err = p.Send(t.Context(), func(ctx context.Context) (bool, error) {
			<-ctx.Done()
			return true, ctx.Err() // answered at the last moment
		})
		if took := time.Since(began); took != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the last request: %v after %v", err, took)
		}
		sent := false
		send := func(context.Context) (bool, error) { sent = true; return true, nil }
		if err := p.Send(t.Context(), send); !errors.Is(err, ErrNoLease) {
			t.Errorf("without a lease: %v", err)
		}
		m.mu.Lock()
		m.alone = false
		m.mu.Unlock()
		m.apply("shop", token(2))
		if err := p.Send(t.Context(), send); !errors.Is(err, ErrNoLease) {
			t.Errorf("when another token is the latest: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Send(ctx, send); !errors.Is(err, context.Canceled) || sent {
			t.Errorf("with an ended context: %v, sent %t", err, sent)
		}
		p.Leave()
		// The wall clock alone may end a lease.
		if p, err = g.Enter(t.Context(), gateOp("shop", 2)); err != nil {
			t.Fatal(err)
		}
		defer p.Leave()
		m.leave()
		m.step = gateWindow
		if err := p.Send(t.Context(), send); !errors.Is(err, ErrNoLease) || sent {
			t.Errorf("after a step of the wall clock: %v", err)
		}
	})
}

func TestGateAfterACut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newGateMember(1)
		m.superseded[token(1)] = draas.Reading{Boot: -time.Hour}
		m.latest["shop"], m.latest["other"] = token(1), token(1)
		g := m.gate(t)
		p, err := g.Enter(t.Context(), gateOp("shop", 1))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		cutAt := time.Now().Add(gateRequest)
		wg.Go(func() { // it came while the request was under way
			p, err := g.Enter(t.Context(), gateOp("shop", 1))
			if err != nil {
				t.Error(err)
				return
			}
			defer p.Leave()
			if took, want := time.Since(cutAt), g.cfg.stretch(gateLate); took != want {
				t.Errorf("who waited for the slot entered %v after the cut, want %v", took, want)
			}
		})
		synctest.Wait()
		err = p.Send(t.Context(), func(ctx context.Context) (bool, error) { <-ctx.Done(); return false, ctx.Err() })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Send = %v", err)
		}
		if !time.Now().Equal(cutAt) {
			t.Errorf("cut off %v late", time.Since(cutAt))
		}
		if err := p.Send(t.Context(), answered); err == nil || errors.Is(err, ErrNoLease) {
			t.Errorf("a second request beside one that was cut off: %v", err)
		}
		p.Leave()
		if p, err = g.Enter(t.Context(), gateOp("other", 1)); err != nil || !time.Now().Equal(cutAt) {
			t.Fatalf("another service: %v after %v", err, time.Since(cutAt))
		}
		p.Leave()
		if p, err = g.Enter(t.Context(), gateOp("shop", 1)); err != nil {
			t.Fatal(err)
		}
		if took, want := time.Since(cutAt), g.cfg.stretch(gateLate); took != want {
			t.Errorf("entered %v after the cut, want %v", took, want)
		}
		p.Leave()
		wg.Wait()
		if p, err = g.Enter(t.Context(), gateOp("shop", 1)); err != nil {
			t.Fatal(err)
		}
		// A panic is a cut too.
		func() {
			defer func() { _ = recover() }()
			defer p.Leave()
			_ = p.Send(t.Context(), func(context.Context) (bool, error) { panic("in a client") })
		}()
		if left := g.Left(gateOp("shop", 1)); left != g.cfg.stretch(gateLate) {
			t.Errorf("after a panic: %v left", left)
		}
	})
}

func TestGateErrorsTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newGateMember(1)
		g := m.gate(t)
		m.apply("shop", token(1))
		ctx, cancel := context.WithTimeout(t.Context(), g.cfg.Quarantine()-time.Second)
		defer cancel()
		_, err := g.Enter(ctx, gateOp("shop", 1))
		if err == nil || !strings.Contains(err.Error(), "wait 1s more") {
			t.Errorf("Enter = %v", err)
		}
		if g.Worst() != g.cfg.Quarantine()+gateRequest {
			t.Errorf("Worst = %v", g.Worst())
		}
	})
}
