package daemon

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/syncer"
)

// The lag is the age of the oldest kind, grows while nothing is carried, and is
// not known of kinds that never were whole.
func TestCarrierTellsLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, func(s *config.Sync) { s.Without = []string{"object"} })
		l.follow(l.state)
		rest(10*time.Second + time.Millisecond)
		if got := l.said(); got != (failover.Lag{Known: true, Behind: 10 * time.Second}) {
			t.Errorf("after 10 s: %+v", got)
		}
		set := func(kinds ...syncer.KindStatus) {
			l.carrier.mu.Lock()
			l.status.Kinds = kinds
			l.carrier.mu.Unlock()
			rest(syncTell)
		}
		now := time.Now()
		set(syncer.KindStatus{Kind: "project", Through: now}, syncer.KindStatus{Kind: "image", Through: now.Add(-time.Minute)})
		if got := l.said(); !got.Known || got.Behind < time.Minute || got.Behind > time.Minute+3*time.Second {
			t.Errorf("the oldest: %+v", got)
		}
		set(syncer.KindStatus{Kind: "project", Through: now}, syncer.KindStatus{Kind: "image"})
		if got := l.said(); got != (failover.Lag{}) {
			t.Errorf("a kind that never was whole: %+v", got)
		}
		set(syncer.KindStatus{Kind: "project", Through: now}, syncer.KindStatus{Kind: "object"})
		if got := l.said(); !got.Known {
			t.Errorf("a kind that is not carried: %+v", got)
		}
	})
}

// What a run has left before this one's start is known at once.
func TestCarrierRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		l.will(func(context.Context, syncer.Gate, syncer.Options) (*syncer.Result, error) {
			return nil, errors.New("no route")
		})
		l.store, l.stored = syncer.Status{Meta: syncer.Meta{Source: "primary", Target: "dr", Epoch: 3, Whole: true},
			Kinds: []syncer.KindStatus{{Kind: "project", Through: time.Now().Add(-time.Minute)}}}, true
		l.follow(l.state)
		synctest.Wait()
		if got := l.said(); !got.Known || got.Behind != time.Minute {
			t.Errorf("after a start: %+v", got)
		}
	})
}

// The site that takes over tells the history what was not there yet, once.
func TestCarrierTellsLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		l.follow(l.state)
		synctest.Wait()
		through := time.Now()
		rest(20 * time.Second)
		l.carrier.mu.Lock()
		l.status.Kinds[0].Pending, l.status.Kinds[0].PendingBytes = 3, 40<<20
		l.store = l.status
		l.carrier.mu.Unlock()
		move := failover.Move{Kind: failover.MoveFailover, From: "primary", To: "dr", Epoch: 4}
		l.decide(func(sv *failover.ServiceState) {
			sv.Phase, sv.Move, sv.Times = failover.PhaseFencing, &move, failover.Times{Suspected: through.Add(12 * time.Second), Decided: through.Add(20 * time.Second)}
		})
		synctest.Wait()
		if len(l.finds) != 0 {
			t.Errorf("told before it is known whether the move will be: %+v", l.finds)
		}
		l.decide(func(sv *failover.ServiceState) { sv.Phase, sv.Active, sv.Epoch = failover.PhaseRedirecting, "dr", 4 })
		synctest.Wait()
		want := []failover.Finding{{Service: "shop", Epoch: 4, Step: "sync", Code: "expected loss", Text: "the copy of primary's cloud was 12s behind, with at least 3 objects (40 MiB) missing"}}
		if !slices.Equal(l.finds, want) {
			t.Fatalf("told %+v", l.finds)
		}
		done := move
		done.Times.Suspected = through.Add(12 * time.Second)
		l.decide(func(sv *failover.ServiceState) {
			sv.Phase, sv.Active, sv.Epoch, sv.Move, sv.Last = failover.PhaseElsewhere, "dr", 4, nil, &done
		})
		synctest.Wait()
		if len(l.finds) != 1 {
			t.Errorf("told again: %+v", l.finds)
		}
		// Another start, after which the history has it already.
		l.lost = 0
		l.state.History = []failover.Record{{Kind: failover.RecordFinding, Service: "shop", Epoch: 4, Text: "expected loss (sync): that"}}
		l.follow(l.state)
		synctest.Wait()
		if len(l.finds) != 1 {
			t.Errorf("told anew after a start: %+v", l.finds)
		}
	})
}

// Of what was never carried, or under an epoch that is not before the move's,
// it is not known what is lost.
func TestCarrierLossUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		l.decide(func(sv *failover.ServiceState) {
			sv.Active, sv.Epoch = "dr", 4
			sv.Last = &failover.Move{Kind: failover.MoveSwitchover, From: "primary", To: "dr", Epoch: 4, Times: failover.Times{Decided: time.Now()}}
		})
		synctest.Wait()
		if len(l.finds) != 1 || !strings.Contains(l.finds[0].Text, "is not known") {
			t.Errorf("told %+v", l.finds)
		}
	})
}

// What a run could not do, and what it left on purpose, are told apart.
func TestCarrierCountsWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		l.will(func(context.Context, syncer.Gate, syncer.Options) (*syncer.Result, error) {
			p := &syncer.Plan{Kinds: []syncer.KindPlan{{Kind: "network", Verbs: map[syncer.Verb]int{syncer.Blocked: 2, syncer.Drift: 1, syncer.Create: 9}}}}
			r := &syncer.Result{Plan: p, Kinds: []syncer.KindResult{{Kind: "network", Done: map[syncer.Verb]int{syncer.Create: 6}, Failed: 3}}}
			for _, verb := range []syncer.Verb{syncer.Create, syncer.Conflict, syncer.Unsupported} {
				r.Failures = append(r.Failures, syncer.Failure{Key: syncer.Key{Kind: "network", ID: "n"}, Verb: verb, Reason: "r"})
			}
			return r, nil
		})
		l.follow(l.state)
		synctest.Wait()
		b, s := l.brief(time.Now()), l.sync(time.Now())
		if b.Stuck != 3 || b.Differ != 2 || s.Last.FailedObjects != 3 || s.Last.Left["blocked"] != 2 || s.Last.Kinds[0].Done["create"] != 6 || s.Last.Failures[1].Verb != "conflict" {
			t.Errorf("%+v\n%+v", b, s.Last)
		}
		l.will(nil)
		rest(time.Minute)
		if b := l.brief(time.Now()); b.Stuck+b.Differ != 0 {
			t.Errorf("after a clean run: %+v", b)
		}
	})
}

// The worse of what the replication and a command say counts, and either makes
// it unknown; other units have nothing to do with it.
func TestLagWatchTakesTheWorse(t *testing.T) {
	o := &lagsTold{lags: make(map[draas.ServiceID]failover.Lag)}
	w := newLagWatch("dr", slog.New(slog.DiscardHandler), o.take)
	cfg := &config.Config{Services: []config.Service{{ID: "shop", CNAME: map[draas.SiteID]string{"dr": "d.", "primary": "p."}, Lag: config.Lag{Command: []string{"/bin/true"}}}},
		Sync: config.Sync{Follows: "shop", Clouds: map[draas.SiteID]string{"dr": "west", "primary": "east"}}}
	next := &wiring{cfg: cfg, units: map[draas.ServiceID][]draas.ServiceID{"shop": {"shop"}, "mail": {"mail"}}}
	w.use(next)
	src := w.sources["shop"]
	src.cancel = func() {}
	known := func(d time.Duration) failover.Lag { return failover.Lag{Known: true, Behind: d} }
	for i, step := range []struct {
		command, sync failover.Lag
		want          failover.Lag
	}{
		{known(2 * time.Second), failover.Lag{}, failover.Lag{}},
		{known(2 * time.Second), known(5 * time.Second), known(5 * time.Second)},
		{known(9 * time.Second), known(6 * time.Second), known(9 * time.Second)},
		{failover.Lag{}, known(7 * time.Second), failover.Lag{}},
	} {
		w.took("shop", src, step.command, nil)
		w.carry("shop", step.sync)
		if got := o.of("shop"); got != step.want {
			t.Errorf("%d: %+v, want %+v", i, got, step.want)
		}
	}
	n := o.n
	w.carry("shop", known(7*time.Second))
	w.carry("mail", known(time.Second))
	if o.n != n {
		t.Error("what has not changed, or is not followed, is told")
	}
	w.use(next) // another reading of the file: it is still known
	src = w.sources["shop"]
	src.cancel = func() {}
	w.took("shop", src, known(time.Second), nil)
	if got := o.of("shop"); got != known(7*time.Second) {
		t.Errorf("after another reading: %+v", got)
	}
	cfg.Sync = config.Sync{}
	w.use(next)
	src = w.sources["shop"]
	src.cancel = func() {}
	w.took("shop", src, known(time.Second), nil)
	if got := o.of("shop"); got != known(time.Second) {
		t.Errorf("without [sync]: %+v", got)
	}
	src.cancel = nil
}

func TestSyncAlarms(t *testing.T) {
	carried := api.SyncBrief{Follows: "shop", Source: "dr", Known: true, BehindMS: 4000}
	for _, tt := range []struct {
		name   string
		change func(*api.SyncBrief)
		want   string // empty: none
		page   bool
	}{
		{"well", func(*api.SyncBrief) {}, "", false},
		{"two failures", func(s *api.SyncBrief) { s.Failures, s.Error = 2, "no route" }, "", false},
		{"three", func(s *api.SyncBrief) { s.Failures, s.Error = 3, "no route" }, "primary: what dr has is not carried here, 3 runs have failed: no route", true},
		{"held", func(s *api.SyncBrief) { s.Held = true }, "draasd sync run --accept keep, drop or merge", true},
		{"behind", func(s *api.SyncBrief) { s.BehindMS = 61_000 }, "is 1m1s behind, 1m0s is allowed", true},
		{"not known", func(s *api.SyncBrief) { s.Known = false }, "is not known, so that shop does not move here by itself", false},
		{"stuck", func(s *api.SyncBrief) { s.Stuck = 2 }, "2 objects of what dr has could not be carried here, and the copy counts as behind until they are: draasd sync plan", false},
		{"left", func(s *api.SyncBrief) { s.Stuck, s.Differ = 1, 3 }, "until they are; 3 objects were changed here by others", false},
		{"users", func(s *api.SyncBrief) { s.Source, s.Users = "", &api.SyncUsers{Failures: 3, Error: "no route"} }, "primary: the copied users cannot log in yet, 3 tries to enable them have failed, and it is tried again: no route", true},
		{"users, twice", func(s *api.SyncBrief) { s.Source, s.Users = "", &api.SyncUsers{Failures: 2, Error: "no route"} }, "", false},
		{"nothing is carried", func(s *api.SyncBrief) { s.Source, s.Known, s.Failures = "", false, 9 }, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := calmSight()
			rules := v.state.Policy.Services["shop"]
			rules.MaxLoss = time.Minute
			v.state.Policy.Services["shop"] = rules
			brief := carried
			tt.change(&brief)
			v.status.Reported[1].Sync = &brief
			all := alarmsOf(v)
			if tt.want == "" && len(all) == 0 {
				return
			}
			if len(all) != 1 || tt.want == "" || !strings.Contains(all[0].text, tt.want) || all[0].page != tt.page || all[0].service != "shop" {
				t.Errorf("%+v", all)
			}
		})
	}
	v := calmSight()
	none := carried
	none.Known = false
	v.status.Reported[1].Sync = &none
	if all := alarmsOf(v); len(all) != 0 {
		t.Errorf("without a bound: %+v", all)
	}
}
