package daemon

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/syncer"
)

// A site that stands by begins at once, goes on by the schedule, and has the
// records only while it runs.
func TestCarrierGoesBySchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		if l.made() != 0 {
			t.Fatal("runs before anything is decided")
		}
		l.follow(l.state)
		synctest.Wait()
		if l.made() != 1 || l.open != 0 || l.runs[0].Epoch != 3 || l.runs[0].Audit || l.froms[0] != "primary" {
			t.Fatalf("at once: %+v from %v, %d open", l.runs, l.froms, l.open)
		}
		rest(29 * time.Second)
		if l.made() != 1 {
			t.Error("the pause is not kept")
		}
		rest(5 * time.Second)
		if l.made() != 2 {
			t.Errorf("%d runs after a pause", l.made())
		}
		if err := l.trigger(true); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if l.made() != 3 || !l.runs[2].Audit || !l.runs[2].Retry {
			t.Errorf("asked for by a person: %+v", l.runs)
		}
		s := l.sync(time.Now())
		if s.Source != "primary" || s.Epoch != 3 || !s.Known || s.Last == nil || s.Running != nil || s.Next.IsZero() || len(s.Kinds) != 2 || s.Idle != "" {
			t.Errorf("says %+v", s)
		}
	})
}

// Where nothing is to be carried nothing is, and it is said why.
func TestCarrierIdle(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sync   func(*config.Sync)
		decide func(*failover.ServiceState)
		want   string
	}{
		{"active here", nil, func(sv *failover.ServiceState) { sv.Active = "dr" }, "this site's cloud is the source"},
		{"nowhere", nil, func(sv *failover.ServiceState) { sv.Active = "" }, "active nowhere"},
		{"a move", nil, func(sv *failover.ServiceState) { sv.Move = &failover.Move{From: "primary", To: "dr"} }, "is being moved"},
		{"revoked", nil, func(sv *failover.ServiceState) { sv.Revoked = true }, "is being moved"},
		{"verifying", nil, func(sv *failover.ServiceState) { sv.Phase = failover.PhaseVerifying }, "is being moved"},
		{"elsewhere", nil, func(sv *failover.ServiceState) { sv.Active = "moon" }, "moon, which has no cloud"},
		{"no cloud here", func(s *config.Sync) { s.Clouds = map[draas.SiteID]string{"primary": "east"} }, func(*failover.ServiceState) {}, "dr has no cloud"},
		{"another unit", func(s *config.Sync) { s.Follows = "mail" }, func(*failover.ServiceState) {}, "mail is active nowhere"},
		{"off", func(s *config.Sync) { *s = config.Sync{} }, func(*failover.ServiceState) {}, "no [sync]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, _ := newCarrierLab(t, tt.sync)
				l.decide(tt.decide)
				rest(5 * time.Minute)
				if s := l.sync(time.Now()); l.made() != 0 || !strings.Contains(s.Idle, tt.want) || s.Source != "" {
					t.Errorf("%d runs, idle for %q", l.made(), s.Idle)
				}
				if err := l.trigger(false); !errors.Is(err, errRefused) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("asked: %v", err)
				}
			})
		})
	}
}

// writing is a run that writes on until it may not.
func (l *carrierLab) writing(every time.Duration, wrote *int) {
	l.will(func(ctx context.Context, gate syncer.Gate, _ syncer.Options) (*syncer.Result, error) {
		for {
			if err := gate.Allow(); err != nil {
				return &syncer.Result{Plan: &syncer.Plan{}}, err
			}
			*wrote++
			pause(ctx, every)
			if err := ctx.Err(); err != nil {
				return &syncer.Result{Plan: &syncer.Plan{}}, err
			}
		}
	})
}

// A run ends within one write when anything but the leg that it was begun for
// is decided, and then nothing is known of how far the copy is behind.
func TestCarrierStops(t *testing.T) {
	for name, decide := range map[string]func(*failover.ServiceState){
		"a move begins":    func(sv *failover.ServiceState) { sv.Move = &failover.Move{From: "primary", To: "dr", Epoch: 4} },
		"active here":      func(sv *failover.ServiceState) { sv.Active, sv.Epoch = "dr", 4 },
		"active elsewhere": func(sv *failover.ServiceState) { sv.Active, sv.Epoch = "moon", 4 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, _ := newCarrierLab(t, nil)
				wrote := 0
				l.writing(time.Hour, &wrote) // each write is long: it is ended in its midst
				l.store, l.stored = syncer.Status{Meta: syncer.Meta{Source: "primary", Target: "dr", Epoch: 3},
					Kinds: []syncer.KindStatus{{Kind: "project", Through: time.Now()}}}, true
				l.follow(l.state)
				rest(time.Minute)
				if wrote != 1 {
					t.Fatalf("%d writes", wrote)
				}
				if s := l.sync(time.Now()); s.Running == nil || s.Running.Why != syncer.Triggered || !l.said().Known {
					t.Errorf("while it runs: %+v", s.Running)
				}
				l.decide(decide)
				synctest.Wait()
				if l.open != 0 || wrote != 1 {
					t.Errorf("%d open, %d writes after the decision", l.open, wrote)
				}
				rest(10 * time.Minute)
				if l.made() != 1 || l.said().Known || strings.Contains(l.log.String(), "does not go on") {
					t.Errorf("%d runs, lag %+v\n%s", l.made(), l.said(), l.log.String())
				}
			})
		})
	}
}

// The end of the daemon ends a run in its midst, and the records are closed.
func TestCarrierEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		wrote := 0
		l.writing(time.Hour, &wrote)
		l.follow(l.state)
		synctest.Wait()
		if l.open != 1 {
			t.Errorf("%d are open", l.open)
		}
	})
}

// Another epoch of the same source is another leg.
func TestCarrierOfAnotherEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		wrote := 0
		l.writing(time.Hour, &wrote)
		l.follow(l.state)
		synctest.Wait()
		l.will(nil)
		l.decide(func(sv *failover.ServiceState) { sv.Epoch = 5 })
		synctest.Wait()
		if l.made() != 2 || l.runs[1].Epoch != 5 || wrote != 1 {
			t.Errorf("%d runs: %+v, %d writes", l.made(), l.runs, wrote)
		}
		l.state.Generation = 1
		l.follow(l.state)
		synctest.Wait()
		if l.made() != 3 || l.runs[2].Epoch <= l.runs[1].Epoch {
			t.Errorf("another generation: %+v", l.runs)
		}
	})
}

// A gate of an earlier leg stays shut, whatever is carried meanwhile.
func TestPassIsOfItsLeg(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		l.follow(l.state)
		synctest.Wait()
		old := pass{carrier: l.carrier, leg: l.leg}
		if err := old.Allow(); err != nil {
			t.Fatalf("of this leg: %v", err)
		}
		l.decide(func(sv *failover.ServiceState) { sv.Epoch = 5 })
		if err := old.Allow(); !errors.Is(err, errOtherLeg) {
			t.Errorf("of the one before: %v", err)
		}
	})
}

// A member that is out of touch for longer than a lease writes no more, and
// says why; it goes on by itself, and nobody is called for it.
func TestCarrierOutOfTouch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, silence := newCarrierLab(t, nil)
		wrote := 0
		l.writing(time.Hour, &wrote)
		l.follow(l.state)
		rest(10 * time.Second)
		silence()
		began := time.Now()
		for l.sync(began).Running != nil && time.Since(began) < time.Minute {
			rest(10 * time.Millisecond)
		}
		if took := time.Since(began); took > syncLease+syncLease/4+20*time.Millisecond || wrote != 1 {
			t.Errorf("it wrote on for %v: %d", took, wrote)
		}
		rest(time.Minute)
		s := l.sync(time.Now())
		if l.made() != 1 || s.Failures != 0 || !strings.Contains(s.Error, "out of touch") {
			t.Errorf("alone: %d runs, %+v", l.made(), s)
		}
		l.will(nil)
		for range 20 {
			l.touched(l.clock())
			rest(syncLease / 4)
		}
		if s := l.sync(time.Now()); l.made() < 2 {
			t.Errorf("in touch again: %d runs, %+v", l.made(), s)
		}
	})
}

// What fails is tried again, with growing pauses, told once, and counted.
func TestCarrierBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		l.will(func(context.Context, syncer.Gate, syncer.Options) (*syncer.Result, error) {
			return nil, errors.New("keystone:\nno route")
		})
		l.follow(l.state)
		rest(14 * time.Second) // 0 s, 5 s
		if s := l.sync(time.Now()); l.made() != 2 || s.Failures != 2 || s.Error != "keystone:; no route" {
			t.Errorf("%d runs: %+v", l.made(), s)
		}
		rest(time.Hour)
		if n := l.made(); n < 11 || n > 15 {
			t.Errorf("%d runs in an hour", n)
		}
		if n := strings.Count(l.log.String(), "does not go on"); n != 1 {
			t.Errorf("told %d times:\n%s", n, l.log.String())
		}
		n := l.made()
		l.will(nil)
		if err := l.trigger(false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := l.sync(time.Now()); l.made() != n+1 || s.Failures != 0 || s.Error != "" || !strings.Contains(l.log.String(), "goes on") {
			t.Errorf("a person does not wait: %d runs, %+v", l.made(), s)
		}
	})
}

// Somebody else has the records: it is tried again soon, and is nobody's fault.
func TestCarrierGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		var busy atomic.Int32
		whole := l.carrier.open
		l.carrier.open = func(ctx context.Context, cfg *config.Config, from, to draas.SiteID, gate syncer.Gate) (carriage, error) {
			if busy.Add(1) < 5 {
				return nil, errors.Join(errors.New("open replication"), syncer.ErrStoreBusy)
			}
			return whole(ctx, cfg, from, to, gate)
		}
		l.follow(l.state)
		rest(4*syncRetry - time.Second)
		if s := l.sync(time.Now()); s.Failures != 0 || busy.Load() != 4 {
			t.Errorf("%d tries, %+v", busy.Load(), s)
		}
		rest(2 * time.Second)
		if l.made() != 1 {
			t.Errorf("%d runs once they are free", l.made())
		}
	})
}

// A direction that has turned waits for a person, without asking the clouds
// again; when it is accepted, the next run goes on.
func TestCarrierHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		l.store, l.stored = syncer.Status{Meta: syncer.Meta{Source: "primary", Target: "dr", Epoch: 1, Whole: true},
			Kinds: []syncer.KindStatus{{Kind: "project", Through: time.Now()}}}, true
		l.will(func(context.Context, syncer.Gate, syncer.Options) (*syncer.Result, error) {
			return &syncer.Result{Plan: &syncer.Plan{Held: "look first"}}, syncer.ErrHeld
		})
		l.follow(l.state)
		rest(10 * time.Minute)
		if s := l.sync(time.Now()); l.made() != 1 || s.Held != "look first" || s.Error != "" || s.Failures != 0 {
			t.Errorf("%d runs, %+v", l.made(), s)
		}
		if l.said().Known {
			t.Error("what another epoch's run has left is taken for this one's")
		}
		l.will(nil)
		l.mu.Lock()
		l.store.Meta.Epoch = 3 // draasd sync run --accept
		l.mu.Unlock()
		rest(time.Minute)
		if s := l.sync(time.Now()); l.made() < 2 || s.Held != "" || !l.said().Known {
			t.Errorf("accepted: %d runs, %+v, %+v", l.made(), s, l.said())
		}
	})
}

// Another [sync] counts from the next run on: the one under way is not ended for
// it, and what was carried before says nothing of more kinds.
func TestCarrierReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, func(s *config.Sync) { s.Kinds = []string{"project"} })
		l.will(func(ctx context.Context, _ syncer.Gate, _ syncer.Options) (*syncer.Result, error) {
			pause(ctx, 10*time.Second)
			return nil, ctx.Err()
		})
		l.follow(l.state)
		rest(5 * time.Second)
		l.useSync(func(s *config.Sync) { s.Every = 5 * time.Minute; s.Kinds = []string{"project"} })
		l.follow(l.state)
		rest(10 * time.Second)
		if l.made() != 2 || !l.said().Known {
			t.Fatalf("%d runs, %+v", l.made(), l.said())
		}
		l.will(nil)
		rest(4 * time.Minute)
		if l.made() != 2 {
			t.Errorf("%d runs: the pause of before is kept", l.made())
		}
		l.will(func(context.Context, syncer.Gate, syncer.Options) (*syncer.Result, error) {
			return nil, errors.New("no route")
		})
		l.useSync(nil)
		l.follow(l.state)
		rest(2 * time.Second)
		if l.said().Known {
			t.Error("known of kinds that were never carried")
		}
		l.will(nil)
		rest(time.Minute)
		if !l.said().Known {
			t.Error("not known after a run of them all")
		}
	})
}

// A file by which no run ever comes does nothing, and says so.
func TestCarrierNeverDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, func(s *config.Sync) { s.Every, s.Schedule = 0, "0 0 30 2 *" })
		l.follow(l.state)
		rest(time.Hour)
		if s := l.sync(time.Now()); l.made() != 0 || !strings.Contains(s.Error, "never comes") {
			t.Errorf("%d runs, %+v", l.made(), s)
		}
		l.useSync(nil)
		l.follow(l.state)
		synctest.Wait()
		if l.made() != 1 {
			t.Errorf("%d runs with another file", l.made())
		}
	})
}
