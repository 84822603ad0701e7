package rfc2136

import (
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// Eight executors with epochs of their own at once: the highest stands at the
// end, the epoch never goes back on the way, and who did not get there is told.
func TestRacingWriters(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		const writers = 8
		effects := make([]*Effect, writers)
		for i := range effects {
			effects[i] = effect(t, s, s.Address)
		}
		for round := range draas.Epoch(3) {
			stop := make(chan struct{})
			var watch sync.WaitGroup
			watch.Go(func() {
				for last := draas.Epoch(0); ; {
					select {
					case <-stop:
						return
					case <-time.After(2 * time.Millisecond):
					}
					now := epochAt(t, s)
					if now < last {
						t.Errorf("epoch %v after %v", now, last)
					}
					last = now
				}
			})
			var wg sync.WaitGroup
			errs := make([]error, writers)
			for i := range effects {
				wg.Go(func() { errs[i] = do(t, effects[i], op(round*writers+draas.Epoch(i)+1, i%2)) })
			}
			wg.Wait()
			close(stop)
			watch.Wait()
			for i, err := range errs {
				if err != nil && !errors.Is(err, draas.ErrStaleEpoch) || err != nil && i == writers-1 {
					t.Errorf("writer %d: %v", i, err)
				}
			}
			expect(t, effects[0], op(round*writers+writers, 1), runbook.Yes)
		}
	})
}

// Eight executors at one epoch: to one site all succeed, to two only one site
// is taken, and the others are refused loudly.
func TestRacingWritersAtOneEpoch(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		const writers = 8
		for epoch := draas.Epoch(1); epoch <= 4; epoch++ {
			var wg sync.WaitGroup
			errs := make([]error, writers)
			for i := range writers {
				e, site := effect(t, s, s.Address), i%2*int(epoch%2)
				wg.Go(func() { errs[i] = do(t, e, op(epoch, site)) })
			}
			wg.Wait()
			won := map[int]int{}
			for i, err := range errs {
				if err == nil {
					won[i%2*int(epoch%2)]++
				} else if errors.Is(err, draas.ErrStaleEpoch) || !strings.Contains(err.Error(), "was given to") {
					t.Errorf("epoch %d, writer %d: %v", epoch, i, err)
				}
			}
			want := writers / (1 + int(epoch%2))
			if len(won) != 1 || won[0] != want && won[1] != want {
				t.Errorf("epoch %d: won %v: %v", epoch, won, errs)
			}
		}
	})
}

// An older update that somebody recorded, sent again while its signature is
// still good.
func TestReplay(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		r := nameserver.NewRelay(t, s.Address)
		e := effect(t, s, r.Address)
		mustDo(t, e, op(1, 0))
		mustDo(t, e, op(2, 1))
		mustDo(t, e, op(3, 0))
		before := stands(s, shop)
		seen := r.Seen()
		if len(seen) < 3 {
			t.Fatalf("%d updates recorded", len(seen))
		}
		for i, wire := range seen {
			if rcode := replay(t, s.Address, wire); rcode != mdns.RcodeNXRrset && rcode != mdns.RcodeYXRrset {
				t.Errorf("update %d again: %s", i, mdns.RcodeToString[rcode])
			}
		}
		if after := stands(s, shop); after != before {
			t.Errorf("changed from\n%s\nto\n%s", before, after)
		}
	})
}

func replay(t *testing.T, address string, wire []byte) int {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	co := &mdns.Conn{Conn: c}
	if _, err := co.Write(wire); err != nil {
		t.Fatal(err)
	}
	r, err := co.ReadMsg()
	if r == nil {
		t.Fatal(err)
	}
	return r.Rcode
}

// What each server says to what it does not accept. Nothing changes, and the
// error says what to do.
func TestNotAccepted(t *testing.T) {
	const bind, knot, pdns, fake = nameserver.BIND, nameserver.Knot, nameserver.PowerDNS, nameserver.Fake
	tests := []struct {
		name   string
		change func(*testing.T, *Config)
		want   map[nameserver.Kind]error
		says   string
	}{
		{"bad secret", func(t *testing.T, c *Config) { c.KeyFile = keyFile(t, nameserver.NewKey("draas.", "hmac-sha256")) },
			map[nameserver.Kind]error{bind: ErrKey, knot: ErrKey, pdns: ErrRefused, fake: ErrKey}, "key"},
		{"bad key name", func(t *testing.T, c *Config) { c.KeyFile = keyFile(t, nameserver.NewKey("other.", "hmac-sha256")) },
			map[nameserver.Kind]error{bind: ErrKey, knot: ErrKey, pdns: ErrRefused, fake: ErrKey}, "key"},
		{"clock an hour behind", func(_ *testing.T, c *Config) { c.Now = func() time.Time { return time.Now().Add(-time.Hour) } },
			map[nameserver.Kind]error{bind: ErrClock, knot: ErrClock, pdns: ErrRefused, fake: ErrClock}, "clocks"},
		{"clock an hour ahead", func(_ *testing.T, c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } },
			map[nameserver.Kind]error{bind: ErrClock, knot: ErrClock, pdns: ErrRefused, fake: ErrClock}, "clocks"},
		{"a name that the policy bars", func(_ *testing.T, c *Config) { c.Names = []dns.Name{atName("other." + zone)} },
			map[nameserver.Kind]error{bind: ErrRefused, knot: ErrKey}, "policy"}, // PowerDNS has no policy by name
		{"another zone", func(_ *testing.T, c *Config) {
			c.Zone, c.Names = "elsewhere.org.", []dns.Name{atName("shop.elsewhere.org.")}
		}, map[nameserver.Kind]error{bind: ErrLookup, knot: ErrLookup, pdns: ErrLookup, fake: ErrLookup}, "REFUSED"},
	}
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		good := effect(t, s, s.Address)
		mustDo(t, good, op(1, 0))
		before := stands(s, shop)
		for _, tt := range tests {
			want, asked := tt.want[kind]
			if !asked {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				e := effect(t, s, s.Address, func(c *Config) { tt.change(t, c) })
				start := time.Now()
				err := do(t, e, op(2, 1))
				if !errors.Is(err, want) || !strings.Contains(err.Error(), tt.says) || errors.Is(err, draas.ErrStaleEpoch) {
					t.Errorf("Do: %v; want %v", err, want)
				}
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("took %v", took)
				}
				t.Log(err)
				if after := stands(s, shop); after != before {
					t.Errorf("changed from\n%s\nto\n%s", before, after)
				}
			})
		}
		mustDo(t, good, op(2, 1))
	})
}

// A secondary that takes what it is sent and says nothing: Knot lets later
// updates wait behind it for 5 s, and PowerDNS stands still for 5 s now and
// then. Do is within its promise, and Done names the silent one without waiting
// for it.
func TestSilentSecondary(t *testing.T) {
	const stall = 500 * time.Millisecond
	each(t, nameserver.Real(), func(t *testing.T, kind nameserver.Kind) {
		silentOne := nameserver.Silent(t)
		s := nameserver.Start(t, kind, nameserver.Options{Secondaries: []string{silentOne}})
		e := effect(t, s, s.Address, func(c *Config) {
			c.Secondaries = []dns.Server{{Site: "dr", Address: silentOne}}
			c.Timeout = 300 * time.Millisecond
		})
		last, slowest := draas.Epoch(0), time.Duration(0)
		for end := time.Now().Add(2 * time.Minute); last < 2 || kind != nameserver.BIND && slowest < stall; {
			if time.Now().After(end) {
				t.Fatalf("nothing stood still in %d updates: the trap is none any more", last)
			}
			last++
			start := time.Now()
			if err := do(t, e, op(last, int(last%2))); err != nil {
				t.Fatalf("Do(%v): %v", last, err)
			}
			slowest = max(slowest, time.Since(start))
		}
		t.Logf("the slowest Do of %d took %v", last, slowest)
		if slowest > e.doLimit() {
			t.Errorf("it may take %v", e.doLimit())
		}
		start := time.Now()
		evidence := expect(t, e, op(last, int(last%2)), runbook.Yes)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("done took %v", took)
		}
		if !strings.Contains(evidence, "secondary at dr "+silentOne+": query") || !strings.Contains(evidence, "timeout") {
			t.Errorf("evidence %q", evidence)
		}
	})
}

// What was acknowledged is there after a crash at that moment.
// The server crashes before it gets the update, while it works on it, or when
// its answer is on the way: Do says that it does not know, or that nothing was
// sent; after the restart Done tells, and the step can be finished.
// The server stops while an update is on its way to it, and goes on later: the
// update may be applied then, when nobody waits for it any more, but not over
// a later epoch.
// A lost update is sent again, by TCP; of a lost answer Do hears by reading
// back. Neither takes long, and neither is applied twice.
func TestUpdateLostAnswerLost(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		r := nameserver.NewRelay(t, s.Address)
		e := effect(t, s, r.Address, func(c *Config) { c.Timeout = 200 * time.Millisecond })
		for epoch := draas.Epoch(1); epoch <= 4; epoch++ {
			fate := []nameserver.Fate{nameserver.Lose, nameserver.LoseAnswer}[epoch%2]
			var count atomic.Int32
			r.SetRule(func(m *mdns.Msg) nameserver.Fate {
				if m.Opcode == mdns.OpcodeUpdate && count.Add(1) == 1 {
					return fate
				}
				return nameserver.Pass
			})
			start := time.Now()
			mustDo(t, e, op(epoch, int(epoch%2)))
			if nets := r.Networks(); fate == nameserver.Lose && nets[len(nets)-1] != "tcp" {
				t.Errorf("sent again by %v", nets)
			}
			want := map[nameserver.Fate]int32{nameserver.Lose: 2, nameserver.LoseAnswer: 1}[fate]
			if took := time.Since(start); took > 5*time.Second || count.Load() < want {
				t.Errorf("fate %d: %d updates sent, want %d or (if the server is slow) more, in %v", fate, count.Load(), want, took)
			}
		}
		// All answers are lost, the one that tells included.
		r.SetRule(nameserver.All(nameserver.LoseAnswer))
		short := effect(t, s, r.Address, func(c *Config) { c.Timeout, c.Wait = 50*time.Millisecond, 100*time.Millisecond })
		if err := do(t, short, op(9, 1)); !errors.Is(err, ErrLookup) {
			t.Errorf("Do without any answer: %v", err)
		}
		if now := epochAt(t, s); now != 4 {
			t.Errorf("epoch %v stands: it was written without being read", now)
		}
		// Only updates find no answer: nothing is assumed of them.
		r.SetRule(nameserver.Updates(nameserver.Lose))
		start := time.Now()
		err := do(t, short, op(9, 1))
		if took := time.Since(start); !errors.Is(err, ErrUnanswered) || took > short.doLimit() {
			t.Errorf("Do without an answer to its update: %v, after %v", err, took)
		}
	})
}

// The key changes at the server, then in the file, while a Do is under way.
func TestKeyRotatedInMidFlight(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		r := nameserver.NewRelay(t, s.Address)
		file := keyFile(t, s.Key)
		e := effect(t, s, r.Address, func(c *Config) { c.KeyFile, c.Timeout = file, 2*time.Second })
		mustDo(t, e, op(1, 0))
		var once sync.Once
		r.SetRule(func(m *mdns.Msg) nameserver.Fate {
			if m.Opcode == mdns.OpcodeUpdate { // signed by the old key
				once.Do(func() {
					s.RotateKey(nameserver.NewKey("draas.", "hmac-sha256"))
					writeKey(t, file, s.Key)
				})
			}
			return nameserver.Pass
		})
		mustDo(t, e, op(2, 1))
		if n := len(r.Seen()); n != 3 {
			t.Errorf("%d updates sent, want one more", n)
		}
		// At the server only: told, and well again with the file.
		s.RotateKey(nameserver.NewKey("draas.", "hmac-sha256"))
		if err := do(t, e, op(3, 0)); !errors.Is(err, ErrKey) && !errors.Is(err, ErrRefused) {
			t.Errorf("Do with the old key: %v", err)
		}
		writeKey(t, file, s.Key)
		mustDo(t, e, op(3, 0))
	})
}

// An operator edits the zone by hand, and has it frozen.
func TestZoneFrozen(t *testing.T) {
	each(t, []nameserver.Kind{nameserver.BIND, nameserver.Knot, nameserver.Fake}, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		e := effect(t, s, s.Address)
		mustDo(t, e, op(1, 0))
		s.Freeze()
		start := time.Now()
		err := do(t, e, op(2, 1))
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "thaw") {
			t.Errorf("Do: %v", err)
		}
		t.Logf("%v: %v", time.Since(start), err)
		expect(t, e, op(2, 1), runbook.No)
		expect(t, e, op(1, 0), runbook.Yes)
		s.Thaw()
		mustDo(t, e, op(2, 1))
	})
}

// The server's disk is full: nothing is acknowledged that is not kept.
// SERVFAIL for a while (a minute, scaled to a second): to updates, then to
// everything. What cannot be read is not written.
