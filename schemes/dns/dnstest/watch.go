package dnstest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

func laggards(r *rig) {
	_, e := r.executor()
	MustDo(r.t, e, Op(1, 0))
	const lag = 300 * time.Millisecond
	r.dns.SetDelay(1, lag)
	start := time.Now()
	MustDo(r.t, e, Op(2, 1))
	if took := time.Since(start); took < lag {
		r.t.Errorf("done after %v, before all had it", took)
	}
}

func tooLate(r *rig) {
	_, e := r.executor(func(x *Executor) { x.Lag = 100 * time.Millisecond })
	MustDo(r.t, e, Op(1, 0))
	r.dns.SetDelay(1, time.Hour)
	if err := Do(r.t, e, Op(2, 1)); err != nil {
		r.t.Fatal(err)
	}
	evidence := Expect(r.t, e, Op(2, 1), runbook.No)
	if !strings.Contains(evidence, r.dns.Servers[1].Address+`: "epoch=1 site=primary"`) || !strings.Contains(evidence, "after the service was seen to have it") {
		r.t.Errorf("evidence %q", evidence)
	}
}

func silentOnes(r *rig) {
	_, e := r.executor()
	MustDo(r.t, e, Op(1, 0))
	for _, mood := range []Mood{Mute, ServFail} {
		r.dns.SetMood(1, mood)
		evidence := Expect(r.t, e, Op(1, 0), runbook.Yes)
		if want := map[Mood]string{Mute: "timeout", ServFail: "SERVFAIL"}[mood]; !strings.Contains(evidence, want) {
			r.t.Errorf("evidence %q", evidence)
		}
	}
}

func wordAlone(r *rig) {
	_, e := r.executor()
	MustDo(r.t, e, Op(1, 0))
	r.dns.SetMood(0, ServFail)
	r.dns.SetMood(1, Mute)
	if err := Do(r.t, e, Op(2, 1)); err != nil {
		r.t.Fatal(err)
	}
	Expect(r.t, e, Op(2, 1), runbook.Unknown)
}

func frozen(r *rig) {
	_, e := r.executor(func(x *Executor) { x.Lag = 50 * time.Millisecond })
	MustDo(r.t, e, Op(1, 0))
	r.dns.SetMood(0, Frozen)
	r.dns.SetMood(1, Frozen)
	if err := Do(r.t, e, Op(2, 1)); err != nil {
		r.t.Fatal(err)
	}
	if evidence := Expect(r.t, e, Op(2, 1), runbook.No); !strings.Contains(evidence, "service: epoch=2 site=dr") {
		r.t.Errorf("evidence %q", evidence)
	}
	if err := Do(r.t, e, Op(2, 1)); err != nil { // nothing to send again
		r.t.Error(err)
	}
}

// member is what a daemon tells its gate; its clock goes on by hand.
type member struct {
	mu     sync.Mutex
	clock  time.Duration
	latest runbook.Token
	until  time.Duration
	ended  time.Duration
}

func (m *member) now() draas.Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return draas.Reading{Boot: m.clock, Wall: m.clock}
}

func (m *member) advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock += d
}

// gate is this member's. Its quarantine is a second and a bit, by its clock.
func (m *member) gate(t testing.TB, late time.Duration) *dns.Gate {
	t.Helper()
	g, err := dns.NewGate(dns.GateConfig{Window: 20 * time.Millisecond, Request: time.Second, Late: late, Now: m.now,
		Current: func(_ draas.ServiceID, token runbook.Token) (draas.Deadline, bool) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return draas.Deadline{Boot: m.until, Wall: m.until}, token == m.latest
		},
		Superseded: func(draas.ServiceID, runbook.Token) (draas.Reading, bool) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return draas.Reading{Boot: m.ended, Wall: m.ended}, true
		}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A's last request is on its way when A is cut off. B is the successor: it
// must not begin before that request can no more be applied.
func twoExecutors(r *rig) {
	_, setup := r.executor()
	MustDo(r.t, setup, Op(1, 1))
	token := func(e draas.Epoch) runbook.Token { return runbook.Token{Epoch: e} }
	a := &member{clock: time.Hour, latest: token(2), until: 2 * time.Hour}
	b := &member{clock: time.Hour, latest: token(3), until: 2 * time.Hour, ended: time.Hour}
	at := func(m *member) func(*Executor) {
		return func(x *Executor) { x.Gate = m.gate(r.t, 20*time.Millisecond) }
	}
	frontA, effectA := r.executor(at(a))
	_, effectB := r.executor(at(b))
	frontA.SetRule(Writes(Hold))
	if err := Do(r.t, effectA, Op(2, 0)); !errors.Is(err, dns.ErrUnanswered) {
		r.t.Fatalf("A: %v", err)
	}
	var done atomic.Bool
	var wg sync.WaitGroup
	var err error
	wg.Go(func() {
		err = Do(r.t, effectB, Op(3, 1))
		done.Store(true)
	})
	// B's clock stands still; however long that is, it does not begin.
	for end := time.Now().Add(150 * time.Millisecond); time.Now().Before(end) && !done.Load(); {
		<-time.After(5 * time.Millisecond)
	}
	if done.Load() {
		r.t.Errorf("B did not wait: %v", err)
	}
	if statuses := frontA.Deliver(); len(statuses) != 1 || statuses[0] >= 400 {
		r.t.Errorf("A's request came to nothing: %v", statuses)
	}
	b.advance(5 * time.Second)
	wg.Wait()
	if err != nil {
		r.t.Errorf("B: %v", err)
	}
	Expect(r.t, effectB, Op(3, 1), runbook.Yes)
}

func noLease(r *rig) {
	m := &member{clock: time.Hour, latest: runbook.Token{Epoch: 1}, until: time.Hour, ended: -time.Hour}
	_, e := r.executor(func(x *Executor) { x.Gate = m.gate(r.t, 0) })
	r.unchanged(func() {
		r.fails(e, Op(1, 0), dns.ErrNoLease) // it is over
		m.until = 2 * time.Hour
		r.fails(e, Op(2, 0), dns.ErrNoLease) // not the latest
	})
	if err := Do(r.t, e, Op(1, 0)); !errors.Is(err, draas.ErrStaleEpoch) {
		r.t.Errorf("a token below one that was asked for: %v", err)
	}
}

func cutRequest(r *rig) {
	m := &member{clock: time.Hour, latest: runbook.Token{Epoch: 1}, until: 2 * time.Hour, ended: -time.Hour}
	f, e := r.executor(func(x *Executor) { x.Gate = m.gate(r.t, time.Second) })
	f.SetRule(Writes(Lose))
	r.unchanged(func() { r.fails(e, Op(1, 0), dns.ErrUnanswered) })
	f.SetRule(nil)
	ctx, cancel := context.WithTimeout(r.t.Context(), 200*time.Millisecond)
	defer cancel()
	r.unchanged(func() {
		if err := e.Do(ctx, Op(1, 0)); !errors.Is(err, context.DeadlineExceeded) {
			r.t.Errorf("Do: %v", err)
		}
	})
	m.advance(time.Second)
	MustDo(r.t, e, Op(1, 0))
}
