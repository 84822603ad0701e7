package daemon

import (
	"context"
	"errors"
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
	g := newGrants(bubbleClock())
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
