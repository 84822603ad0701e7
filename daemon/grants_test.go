package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/schemes/vip"
)

// TestVIPNumbers: what the file may say and what the lease rests on is the same.
func TestVIPNumbers(t *testing.T) {
	if config.MaxVIPLease != vip.MaxLease {
		t.Errorf("the file allows leases of %v, and members wait out %v", config.MaxVIPLease, vip.MaxLease)
	}
}

// steppedClock is a clock in the time of a synctest bubble.
func bubbleClock() func() draas.Reading {
	start := time.Now()
	return func() draas.Reading {
		return draas.Reading{Boot: time.Hour + time.Since(start), Wall: time.Duration(time.Now().UnixNano())}
	}
}

func newTestGrants() *grants {
	g := newGrants(bubbleClock(), func(string, string) {})
	g.use(&config.Config{VIPs: []config.VIP{{ID: "web", Holders: []string{"edge1", "edge2", "edge3"},
		Lease: draas.Lease{Length: 300 * time.Millisecond, Drift: config.Drift, Margin: 20 * time.Millisecond}}}})
	time.Sleep(4 * time.Second) // in the bubble: what may have been granted before its start is over
	g.stand(quorum.CoreStatus{Role: quorum.RoleVoter, ID: 1, Voters: []uint64{1, 2, 3}, Contact: g.clock().Boot}, true, g.clock())
	return g
}

func ask(frontend string, seq uint64, wait time.Duration) api.Hold {
	return api.Hold{VIP: "web", Frontend: frontend, Session: 7, Seq: seq, Want: true, WaitMS: wait.Milliseconds(), Stations: []string{"02:00:00:00:00:01"}}
}

// TestHoldWaits: who waits for an address gets it when it becomes free, the one
// that stands first in the file before the others.
func TestHoldWaits(t *testing.T) {
	for name, free := range map[string]struct {
		do   func(*grants)
		want time.Duration
	}{
		"given back": {func(g *grants) {
			back := ask("edge1", 2, 0)
			back.Want = false
			if _, err := g.hold(context.Background(), back); err != nil {
				panic(err)
			}
		}, passOver},
		"run out": {func(*grants) {}, 330*time.Millisecond + passOver},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newTestGrants()
				if a, err := g.hold(t.Context(), ask("edge1", 1, 0)); err != nil || !a.Granted {
					t.Fatalf("first: %+v, %v", a, err)
				}
				start := time.Now()
				var all sync.WaitGroup
				for _, f := range []string{"edge2", "edge3"} {
					all.Go(func() {
						a, err := g.hold(t.Context(), ask(f, 1, time.Second))
						if err != nil || a.Granted != (f == "edge2") {
							t.Errorf("%s: %+v, %v", f, a, err)
						}
						if f == "edge2" && a.Waited != free.want {
							t.Errorf("%s waited %v, want %v", f, a.Waited, free.want)
						}
						if f == "edge3" && (a.Holder != "edge2" || len(a.Stations) == 0) {
							t.Errorf("%s is told %+v", f, a)
						}
					})
				}
				synctest.Wait()
				free.do(g)
				time.Sleep(free.want)
				// edge2 renews, so that edge3 waits in vain.
				for seq := uint64(2); time.Since(start) < time.Second; seq++ {
					time.Sleep(50 * time.Millisecond)
					if a, err := g.hold(t.Context(), ask("edge2", seq, 0)); err != nil || !a.Granted {
						t.Fatalf("renewal: %+v, %v", a, err)
					}
				}
				all.Wait()
			})
		})
	}
}

func TestHoldEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGrants()
		if _, err := g.hold(t.Context(), ask("edge9", 1, 0)); !errors.Is(err, errNotFound) {
			t.Errorf("of somebody who is no holder: %v", err)
		}
		if a, err := g.hold(t.Context(), ask("edge1", 1, 0)); err != nil || !a.Granted {
			t.Fatalf("%+v, %v", a, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := g.hold(ctx, ask("edge2", 1, 5*time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("whose client is gone: %v", err)
		}
		time.Sleep(time.Second)
		if got := g.g.Holder("web", g.clock()); got != "" {
			t.Errorf("granted to %s, who is gone", got)
		}
		seen := g.seen(g.clock())
		if len(seen) != 1 || seen[0].Granted != "" || len(seen[0].Holders) != 3 || seen[0].Holders[0].HeardMS != 1100 || seen[0].Holders[2].HeardMS != -1 {
			t.Errorf("seen: %+v", seen)
		}
		// Out of touch for a moment between an entry and its being applied is not
		// out of touch.
		g.stand(quorum.CoreStatus{Role: quorum.RoleVoter, ID: 1, Voters: []uint64{1, 2, 3}, Contact: g.clock().Boot, Commit: 5, Applied: 4}, false, g.clock())
		if a, err := g.hold(t.Context(), ask("edge1", 2, 0)); err != nil || !a.Granted {
			t.Errorf("with an entry to apply: %+v, %v", a, err)
		}
		time.Sleep(15 * time.Second)
		if a, err := g.hold(t.Context(), ask("edge1", 3, 0)); err != nil || a.Granted {
			t.Errorf("out of touch for 15 s: %+v, %v", a, err)
		}
	})
}

// TestMembersGrant: three daemons grant a virtual IP to one frontend at a time, to
// nobody who has another's certificate, and the history says who had it.
func TestMembersGrant(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.behindFrontends("", "edge1", "edge2")
	l.everywhere(func(text string) string {
		return text + "\n[vip.web]\nholders = [\"edge1\", \"edge2\"]\naddress = [\"192.0.2.80/24 dev eth0\"]\n"
	})
	edge1, edge2 := l.newEdge(t, "edge1", true), l.newEdge(t, "edge2", true)
	l.startAll()
	l.await("a member is asked", 10*time.Second, func() bool { _, err := edge1.ask("witness", "", 0); return err == nil })
	edge1.follow()
	l.activate()
	seq := uint64(0)
	grants := func(e *edge, speaker string, session uint64, want, has bool) (n int, last *api.Granted) {
		for _, m := range []string{"primary", "dr", "witness"} {
			seq++
			g, err := e.clients[m].Hold(t.Context(), api.Hold{VIP: "web", Frontend: speaker, Session: session, Seq: seq, Want: want, Has: has})
			if err != nil {
				t.Fatal(err)
			}
			if last = g; g.Granted {
				n++
			}
		}
		return n, last
	}
	l.await("members that have just started grant it", 10*time.Second, func() bool { n, _ := grants(edge1, "edge1", 1, true, false); return n == 3 })
	n, last := grants(edge2, "edge2", 2, true, false)
	if n != 0 || last.Holder != "edge1" || len(last.Voters) != 3 || last.Left <= 0 || last.Left > 1100*time.Millisecond {
		t.Errorf("edge2 is granted %d, and told %+v", n, last)
	}
	if _, err := edge2.clients["dr"].Hold(t.Context(), api.Hold{VIP: "web", Frontend: "edge1", Session: 1, Seq: 999}); err == nil || !strings.Contains(err.Error(), "cannot speak for") {
		t.Errorf("edge2 gives back what edge1 has: %v", err)
	}
	grants(edge1, "edge1", 1, true, true)
	l.await("the history says that edge1 has it", 5*time.Second, func() bool { return l.said("frontend edge1 has it (vip web): 192.0.2.80") == 1 })
	grants(edge1, "edge1", 1, false, false)
	if n, _ := grants(edge2, "edge2", 2, true, false); n != 3 {
		t.Errorf("edge2 is granted %d after edge1 gave it back", n)
	}
	grants(edge2, "edge2", 2, true, true)
	l.await("the history says that edge2 has it", 5*time.Second, func() bool { return l.said("frontend edge2 has it") == 1 })
	if v := l.status("witness"); len(v.Reported) == 0 || len(v.Reported[0].VIPs) != 1 {
		t.Errorf("status: %+v", v.Reported)
	}
}

// said is how many lines of the history hold a text.
func (l *lab) said(text string) (n int) {
	l.t.Helper()
	history, err := l.client("witness").History(l.t.Context(), "web", 100)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, r := range history {
		if strings.Contains(r.Text, text) {
			n++
		}
	}
	return n
}
