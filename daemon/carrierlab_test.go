package daemon

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/syncer"
)

// carrierLab is a carrier of dr whose clouds are a function.
type carrierLab struct {
	*carrier
	t     *testing.T
	log   heard
	state failover.State

	mu     sync.Mutex
	runs   []syncer.Options
	froms  []draas.SiteID
	open   int // replications that are
	store  syncer.Status
	stored bool
	// do is a run; nil: it is clean at once.
	do    func(ctx context.Context, gate syncer.Gate, o syncer.Options) (*syncer.Result, error)
	lags  []failover.Lag
	finds []failover.Finding
}

// heard is a log that is read while it is written.
type heard struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

const syncLease = 2 * time.Second

// newCarrierLab runs a carrier in the test's bubble; it is in touch until
// silence is called.
func newCarrierLab(t *testing.T, change func(*config.Sync)) (l *carrierLab, silence func()) {
	t.Helper()
	l = &carrierLab{t: t}
	start := time.Now()
	clock := func() draas.Reading {
		return draas.Reading{Boot: time.Since(start) + time.Hour, Wall: time.Duration(time.Now().UnixNano())}
	}
	l.carrier = newCarrier("dr", clock, slog.New(slog.NewTextHandler(&l.log, nil)), func(unit draas.ServiceID, g failover.Lag) {
		if unit != "shop" {
			t.Errorf("told of %s", unit)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lags = append(l.lags, g)
	}, func(f failover.Finding) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.finds = append(l.finds, f)
	})
	l.carrier.open = func(_ context.Context, cfg *config.Config, from, to draas.SiteID, gate syncer.Gate) (carriage, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.open++; l.open > 1 || to != "dr" {
			t.Errorf("opened to %s, %d are open", to, l.open)
		}
		l.froms = append(l.froms, from)
		return &fakeCarriage{l, gate, from}, nil
	}
	l.carrier.recall = func(*config.Config, draas.SiteID) (syncer.Status, bool, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.store, l.stored, nil
	}
	l.useSync(change)
	l.state = failover.State{
		Policy: failover.Policy{Services: map[draas.ServiceID]failover.ServicePolicy{
			"shop": {Sites: []draas.SiteID{"primary", "dr"}, Lease: draas.Lease{Length: syncLease}, MaxLoss: time.Minute}}},
		Services: map[draas.ServiceID]*failover.ServiceState{"shop": {Phase: failover.PhaseNormal, Active: "primary", Epoch: 3}},
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard, silence := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() { l.run(ctx) })
	all.Go(func() {
		for heard.Err() == nil {
			l.touched(clock())
			pause(heard, syncLease/8)
		}
	})
	t.Cleanup(func() {
		cancel()
		all.Wait()
		if l.open != 0 {
			t.Errorf("%d replications are open at the end", l.open)
		}
		if strings.Contains(l.log.String(), "context canceled") && strings.Contains(l.log.String(), "does not go on") {
			t.Errorf("the end is taken for a failure:\n%s", l.log.String())
		}
	})
	synctest.Wait()
	return l, silence
}

func (l *carrierLab) useSync(change func(*config.Sync)) {
	s := config.Sync{Follows: "shop", Clouds: map[draas.SiteID]string{"primary": "east", "dr": "west"}, CloudsFile: "c", Every: 30 * time.Second}
	if change != nil {
		change(&s)
	}
	l.use(&wiring{cfg: &config.Config{Sync: s}})
}

// decide lets the state be another one.
func (l *carrierLab) decide(change func(*failover.ServiceState)) {
	sv := *l.state.Services["shop"]
	change(&sv)
	l.state.Services = map[draas.ServiceID]*failover.ServiceState{"shop": &sv}
	l.follow(l.state)
}

// will is what the runs to come do.
func (l *carrierLab) will(do func(context.Context, syncer.Gate, syncer.Options) (*syncer.Result, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.do = do
}

// rest lets time pass, and all that is due then be done.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (l *carrierLab) made() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.runs)
}

// said is the last that was told of the lag.
func (l *carrierLab) said() failover.Lag {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lags) == 0 {
		return failover.Lag{Behind: -1}
	}
	return l.lags[len(l.lags)-1]
}

type fakeCarriage struct {
	l    *carrierLab
	gate syncer.Gate
	from draas.SiteID
}

func (f *fakeCarriage) Run(ctx context.Context, o syncer.Options) (*syncer.Result, error) {
	f.l.mu.Lock()
	f.l.runs = append(f.l.runs, o)
	do := f.l.do
	f.l.mu.Unlock()
	began := time.Now()
	if do != nil {
		if r, err := do(ctx, f.gate, o); r != nil || err != nil {
			return r, err
		}
	}
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	f.l.stored = true
	f.l.store = syncer.Status{Meta: syncer.Meta{Source: string(f.from), Target: "dr", Epoch: o.Epoch, Whole: true},
		Kinds: []syncer.KindStatus{{Kind: "project", Through: began, Looked: began, Objects: 5}, {Kind: "zone", Missing: "no designate"}}}
	return &syncer.Result{Began: began, Plan: &syncer.Plan{}}, nil
}

func (f *fakeCarriage) Status() (syncer.Status, error) {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	return f.l.store, nil
}

func (f *fakeCarriage) traffic() []traffic {
	return []traffic{{"source", []cloud.Stats{{Service: "image", Requests: 10, Throttled: 2}}}}
}

func (f *fakeCarriage) Close() error {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	f.l.open--
	return nil
}
