package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/hybrid"
)

// zoneOf is an effect in memory: a name that leads somewhere, by a token.
type zoneOf struct {
	mu    sync.Mutex
	site  draas.SiteID
	token runbook.Token
	down  bool // it cannot be looked at
	deny  bool // it takes nothing
	moves int
}

func (z *zoneOf) Promise() runbook.Promise {
	return runbook.Promise{CompareAndSet: runbook.Strong, Worst: time.Second}
}

func (z *zoneOf) Done(_ context.Context, op runbook.Op) (runbook.Answer, string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	switch {
	case z.down:
		return runbook.Unknown, "", errors.New("it is down")
	case z.site == op.To && z.token == op.Token:
		return runbook.Yes, fmt.Sprintf("%s by %v", z.site, z.token), nil
	}
	return runbook.No, fmt.Sprintf("%s by %v", z.site, z.token), nil
}

func (z *zoneOf) Do(_ context.Context, op runbook.Op) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	switch {
	case z.deny:
		return errors.New("it is denied")
	case op.Token.Compare(z.token) < 0:
		return draas.ErrStaleEpoch
	}
	z.site, z.token = op.To, op.Token
	z.moves++
	return nil
}

func (z *zoneOf) Release(context.Context, runbook.Op) error { return nil }

// stands is where the name leads, after d.
func (z *zoneOf) stands(d time.Duration) string {
	time.Sleep(d)
	synctest.Wait()
	z.mu.Lock()
	defer z.mu.Unlock()
	return fmt.Sprintf("%s by %v", z.site, z.token)
}

func (z *zoneOf) set(change func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	change()
}

// watchOne is an overseer of shop, a hybrid, whose name is in the zone.
type watchOne struct {
	*overseer
	t     *testing.T
	zone  *zoneOf
	led   *zoneOf // what frontends follow
	state failover.State
	mu    sync.Mutex
	found []string
}

func newWatchOne(t *testing.T, ctx context.Context) *watchOne {
	t.Helper()
	w := &watchOne{t: t, zone: &zoneOf{site: "primary", token: runbook.Token{Epoch: 3}}}
	w.led = &zoneOf{site: "primary", token: runbook.Token{Epoch: 3}}
	both, err := hybrid.New(hybrid.Config{Halves: []hybrid.Half{{Name: stepDNS, Effect: &partEffect{part: "shop", Effect: w.zone}},
		{Name: stepFrontend, Effect: &partEffect{part: "shop", Effect: w.led}}}})
	if err != nil {
		t.Fatal(err)
	}
	w.overseer = newOverseer("primary", slog.New(slog.DiscardHandler), func(f failover.Finding) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if f.Service != "shop" || f.Epoch != 3 {
			t.Errorf("found %+v", f)
		}
		w.found = append(w.found, fmt.Sprintf("%s %s: %s", f.Step, f.Code, f.Text))
	})
	w.use(&wiring{
		cfg:     &config.Config{Services: []config.Service{{ID: "shop", Scheme: config.SchemeHybrid}}},
		effects: map[draas.ServiceID]map[string]runbook.Effect{"shop": {stepHybrid: both}},
		observe: map[draas.ServiceID]map[string]time.Duration{"shop": {"hybrid/dns": time.Minute, "hybrid/frontend": 5 * time.Second}},
	})
	w.state = failover.State{Version: 3, Index: 10, Services: map[draas.ServiceID]*failover.ServiceState{"shop": {
		Phase: failover.PhaseNormal, Active: "primary", Epoch: 3, Last: &failover.Move{Epoch: 3, Kind: failover.MoveFailback, From: "dr", To: "primary"},
		Entries: map[draas.ServiceID]failover.Entry{"shop": {Site: "primary"}},
	}}}
	w.follow(ctx, w.state)
	return w
}

// enter decides another entry.
func (w *watchOne) enter(ctx context.Context, site draas.SiteID, turn uint64) {
	sv := *w.state.Services["shop"]
	sv.Entries = map[draas.ServiceID]failover.Entry{"shop": {Site: site, Turn: turn}}
	w.state.Services = map[draas.ServiceID]*failover.ServiceState{"shop": &sv}
	w.state.Index++
	w.follow(ctx, w.state)
}

func (w *watchOne) expect(what string, want ...string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.found, want) {
		w.t.Errorf("%s: found\n  %s\nwant\n  %s", what, strings.Join(w.found, "\n  "), strings.Join(want, "\n  "))
	}
}

func (w *watchOne) told() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.found)
}

func (w *watchOne) leads(what string, after time.Duration, want string) {
	w.t.Helper()
	if got := w.zone.stands(after); got != want {
		w.t.Errorf("%s: the name leads to %s, want %s", what, got, want)
	}
}

// overseen runs a test in a bubble, with an overseer that has looked once.
func overseen(t *testing.T, test func(context.Context, *watchOne)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWatchOne(t, ctx)
		synctest.Wait()
		if n := len(w.report()); n != 2 {
			t.Errorf("%d paths were looked at at once", n)
		}
		test(ctx, w)
		cancel()
		w.wait()
	})
}

// Another entry is brought into force at once, not at the next look, and that is
// no finding; only the name's half moves.
func TestOverseerFollowsTheEntry(t *testing.T) {
	overseen(t, func(ctx context.Context, w *watchOne) {
		w.enter(ctx, "dr", 1)
		w.leads("a turn", 0, "dr by epoch 3 turn 1")
		w.follow(ctx, w.state)
		w.leads("the same state again", time.Hour, "dr by epoch 3 turn 1")
		w.expect("a turn that succeeds")
		for _, u := range w.report() {
			if u.AsDecided != "yes" || u.Repairs != 0 {
				t.Errorf("%+v", u)
			}
		}
		if w.zone.moves != 1 || w.led.moves != 0 {
			t.Errorf("%d moves of the name, %d of the frontends", w.zone.moves, w.led.moves)
		}
	})
}

// A turn that cannot be brought is tried again soon, and told of when that
// lasts; it is no fight, however often.
func TestOverseerInsistsOnATurn(t *testing.T) {
	overseen(t, func(ctx context.Context, w *watchOne) {
		w.zone.set(func() { w.zone.deny = true })
		w.enter(ctx, "dr", 1)
		time.Sleep(4 * time.Second)
		w.expect("not yet worth a word")
		time.Sleep(4 * time.Second)
		w.zone.set(func() { w.zone.deny = false })
		w.leads("when it is let in", 16*time.Second, "dr by epoch 3 turn 1")
		w.expect("a turn that is late", "hybrid/dns changed: primary by epoch 3; do hybrid/dns: it is denied",
			"hybrid/dns repaired: it was primary by epoch 3")
	})
}

// What others change is put right a few times, then told of; a person's word
// lets it be put right at once, and again.
func TestOverseerDoesNotFight(t *testing.T) {
	overseen(t, func(ctx context.Context, w *watchOne) {
		tamper := func() { w.zone.set(func() { w.zone.site = "nowhere" }) }
		for range maxRepairs {
			tamper()
			w.leads("put right", 70*time.Second, "primary by epoch 3")
		}
		tamper()
		w.leads("not fought", 10*time.Minute, "nowhere by epoch 3")
		w.expect("a fight", "hybrid/dns repaired: it was nowhere by epoch 3", "hybrid/dns refused: nowhere by epoch 3")
		if u := w.report()[0]; u.Step != "hybrid/dns" || u.AsDecided != "no" || u.Repairs != maxRepairs {
			t.Errorf("reported %+v", u)
		}
		w.state.Index++
		w.state.History = append(w.state.History, failover.Record{Index: w.state.Index, Kind: failover.RecordAcknowledge, Service: "shop"})
		w.follow(ctx, w.state)
		w.leads("after a person's word", 0, "primary by epoch 3")
		tamper()
		w.leads("and again", 70*time.Second, "primary by epoch 3")
		w.follow(ctx, w.state) // an acknowledgement counts once
		if u := w.report()[0]; u.Repairs != 2 {
			t.Errorf("reported %+v", u)
		}
		tamper()
		w.leads("the last time", 70*time.Second, "primary by epoch 3")
		// A decision is carried out all the same, and is fought over no more than
		// the one before.
		w.enter(ctx, "dr", 1)
		w.leads("another entry", 0, "dr by epoch 3 turn 1")
		tamper()
		w.leads("not fought there", 10*time.Minute, "nowhere by epoch 3 turn 1")
	})
}

// A path that others set right, and one that cannot be looked at, are told of
// when that lasts; a flapping one fills no history.
func TestOverseerTellsSparingly(t *testing.T) {
	overseen(t, func(ctx context.Context, w *watchOne) {
		w.zone.set(func() { w.zone.down = true })
		time.Sleep(70 * time.Second)
		w.expect("unknown for one look")
		time.Sleep(3 * time.Minute)
		w.zone.set(func() { w.zone.down = false })
		time.Sleep(2 * time.Minute)
		w.zone.set(func() { w.zone.site, w.zone.deny = "nowhere", true })
		time.Sleep(2 * time.Minute)
		w.zone.set(func() { w.zone.site = "primary" })
		time.Sleep(2 * time.Minute)
		want := []string{"hybrid/dns unknown: it is down", "hybrid/dns restored: primary by epoch 3",
			"hybrid/dns changed: nowhere by epoch 3; do hybrid/dns: it is denied", "hybrid/dns restored: primary by epoch 3"}
		w.expect("each once", want...)
		for range 10 {
			w.zone.set(func() { w.zone.site = "nowhere" })
			time.Sleep(2 * time.Minute)
			w.zone.set(func() { w.zone.site = "primary" })
			time.Sleep(2 * time.Minute)
		}
		if n := w.told(); n != maxFindings {
			t.Errorf("%d findings within an hour", n)
		}
		time.Sleep(time.Hour)
		w.zone.set(func() { w.zone.site = "nowhere" })
		time.Sleep(2 * time.Minute)
		if n := w.told(); n != maxFindings+1 {
			t.Errorf("%d findings after an hour", n)
		}
	})
}

// A later decision that this member has not applied yet is nothing that others
// have changed; nothing is looked at while a move is under way.
func TestOverseerIsBehind(t *testing.T) {
	overseen(t, func(ctx context.Context, w *watchOne) {
		w.zone.set(func() { w.zone.site, w.zone.token = "dr", runbook.Token{Epoch: 4} })
		w.leads("a later epoch", 90*time.Second, "dr by epoch 4")
		w.expect("behind")
		if u := w.report()[0]; u.AsDecided != "unknown" || u.Repairs != 0 {
			t.Errorf("reported %+v", u)
		}
		sv := *w.state.Services["shop"]
		sv.Revoked, sv.Phase = true, failover.PhaseFencing
		w.state.Services = map[draas.ServiceID]*failover.ServiceState{"shop": &sv}
		w.follow(ctx, w.state)
		if n := len(w.report()); n != 0 {
			t.Errorf("%d paths are looked at during a move", n)
		}
	})
}
