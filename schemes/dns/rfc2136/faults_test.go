package rfc2136

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/runbook"
)

func TestKilledAfterTheAcknowledgement(t *testing.T) {
	each(t, nameserver.Real(), func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		e := effect(t, s, s.Address)
		for epoch := draas.Epoch(1); epoch <= 2; epoch++ {
			if err := do(t, e, op(epoch, int(epoch%2))); err != nil {
				t.Fatal(err)
			}
			s.Kill()
			expect(t, e, op(epoch, int(epoch%2)), runbook.Unknown)
			s.Restart()
			expect(t, e, op(epoch, int(epoch%2)), runbook.Yes)
		}
	})
}

func TestKilledAroundAnUpdate(t *testing.T) {
	each(t, nameserver.Real(), func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		quick := func(c *Config) { c.Timeout, c.Wait = 300*time.Millisecond, time.Second }
		mustDo(t, effect(t, s, s.Address, quick), op(1, 0))
		for i, name := range []string{"before", "during", "after"} {
			r := nameserver.NewRelay(t, s.Address)
			e := effect(t, s, r.Address, quick)
			epoch := draas.Epoch(i + 2)
			var once sync.Once
			killed := make(chan struct{})
			kill := func() { once.Do(func() { s.Kill(); close(killed) }) }
			r.SetRule(func(m *mdns.Msg) nameserver.Fate {
				if m.Opcode != mdns.OpcodeUpdate {
					return nameserver.Pass
				}
				switch name {
				case "before":
					kill()
					return nameserver.Pass
				case "during":
					go kill()
					return nameserver.Pass
				default:
					r.Forward(m)
					kill()
					return nameserver.Lose
				}
			})
			start := time.Now()
			err := do(t, e, op(epoch, i%2))
			t.Logf("%s: %v after %v", name, err, time.Since(start))
			<-killed
			if err == nil && name != "during" || err != nil && !errors.Is(err, ErrLookup) && !errors.Is(err, ErrUnanswered) {
				t.Errorf("%s: Do: %v", name, err)
			}
			r.SetRule(nil)
			s.Restart()
			switch now := epochAt(t, s); {
			case now != epoch && (err == nil || name == "after"):
				t.Errorf("%s: %v stands, and %v was applied", name, now, epoch)
			case now != epoch && now != epoch-1, now == epoch && name == "before":
				t.Errorf("%s: %v stands", name, now)
			}
			mustDo(t, e, op(epoch, i%2))
		}
	})
}

func TestServerStopsForAWhile(t *testing.T) {
	each(t, nameserver.Real(), func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		quick := func(c *Config) { c.Timeout, c.Wait = 200*time.Millisecond, 500*time.Millisecond }
		mustDo(t, effect(t, s, s.Address), op(1, 0))
		r := nameserver.NewRelay(t, s.Address)
		e := effect(t, s, r.Address, quick)
		paused := make(chan struct{})
		pause := sync.OnceFunc(func() { s.Pause(); close(paused) })
		r.SetRule(func(m *mdns.Msg) nameserver.Fate {
			if m.Opcode == mdns.OpcodeUpdate {
				pause()
			}
			return nameserver.Pass
		})
		// On a machine that stands still no update may go out in time: nothing
		// has stopped then, and Do is asked for again.
		for stopped, tries := false, 0; !stopped && tries < 20; tries++ {
			start := time.Now()
			err := do(t, e, op(2, 1))
			if took := time.Since(start); !errors.Is(err, ErrUnanswered) && !errors.Is(err, ErrLookup) || took > e.doLimit() {
				t.Errorf("Do: %v after %v", err, took)
			}
			select {
			case <-paused:
				stopped = true
			default:
			}
		}
		expect(t, e, op(2, 1), runbook.Unknown)
		s.Resume()
		mustDo(t, effect(t, s, s.Address), op(3, 0))
		if err := do(t, effect(t, s, s.Address), op(2, 1)); !errors.Is(err, draas.ErrStaleEpoch) {
			t.Errorf("Do of the older epoch: %v", err)
		}
		expect(t, effect(t, s, s.Address), op(3, 0), runbook.Yes)
	})
}

func TestDiskFull(t *testing.T) {
	each(t, nameserver.Real(), func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{Size: 40 << 20})
		e := effect(t, s, s.Address, func(c *Config) { c.Timeout, c.Wait = 300*time.Millisecond, time.Second })
		mustDo(t, e, op(1, 0))
		s.FillDisk()
		err := do(t, e, op(2, 1))
		t.Log(err)
		full := epochAt(t, s)
		s.FreeDisk()
		s.Restart()
		kept := epochAt(t, s)
		if err == nil && kept != 2 || kept != 1 && kept != 2 || kept < full {
			t.Errorf("Do: %v; epoch %v stood while the disk was full, %v is kept", err, full, kept)
		}
		if err != nil && !errors.Is(err, ErrServer) && !errors.Is(err, ErrUnanswered) && !errors.Is(err, ErrLookup) && !errors.Is(err, ErrRefused) {
			t.Errorf("Do: %v", err)
		}
		mustDo(t, e, op(2, 1))
	})
}

func TestServfailForAWhile(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		r := nameserver.NewRelay(t, s.Address)
		e := effect(t, s, r.Address)
		mustDo(t, e, op(1, 0))
		for i, rule := range []func(*mdns.Msg) nameserver.Fate{nameserver.Updates(nameserver.ServFail), nameserver.All(nameserver.ServFail), nameserver.Queries(nameserver.ServFail)} {
			r.SetRule(rule)
			target := op(draas.Epoch(i+2), (i+1)%2)
			want, errWant := runbook.OutcomeUnknown, ErrLookup
			if i == 0 {
				want, errWant = runbook.OutcomeFailed, ErrServer
			}
			for end := time.Now().Add(time.Second / 3); time.Now().Before(end); {
				res := runStep(t, e, target)
				if res.Outcome != want || !errors.Is(res.Err, errWant) {
					t.Fatalf("while it fails: %+v", res)
				}
			}
			if now := epochAt(t, s); now != draas.Epoch(i+1) {
				t.Errorf("epoch %v was written", now)
			}
			r.SetRule(nil)
			if res := runStep(t, e, target); res.Outcome != runbook.OutcomeDone {
				t.Errorf("afterwards: %+v", res)
			}
		}
		// One only, as PowerDNS on SQLite gives: Do is not put off by it.
		var once sync.Once
		r.SetRule(func(m *mdns.Msg) nameserver.Fate {
			fate := nameserver.Pass
			if m.Opcode == mdns.OpcodeUpdate {
				once.Do(func() { fate = nameserver.ServFail })
			}
			return fate
		})
		mustDo(t, e, op(5, 0))
	})
}

func runStep(t testing.TB, e *Effect, op runbook.Op) runbook.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return runbook.RunStep(ctx, e, op)
}
