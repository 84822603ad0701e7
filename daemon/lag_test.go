package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
)

func TestParseLag(t *testing.T) {
	for text, want := range map[string]failover.Lag{
		"0\n": {Known: true}, " 12.5 ": {Known: true, Behind: 12500 * time.Millisecond}, "1e2": {Known: true, Behind: 100 * time.Second},
		"": {}, "NaN": {}, "-1": {}, "Inf": {}, "12 s": {}, "1e300": {}, "unknown": {},
	} {
		got, err := parseLag(text)
		if got != want || (err == nil) != want.Known {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func FuzzParseLag(f *testing.F) {
	for _, s := range []string{"0", "12.5\n", "", "-1", "NaN", "+Inf", "1e309", "0x1p-2", "1_000", "３"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseLag(s)
		if l.Behind < 0 || (err == nil) != l.Known || (!l.Known && l.Behind != 0) {
			t.Errorf("%q: %+v, %v", s, l, err)
		}
	})
}

// lagsTold is what a lag watch said, by unit.
type lagsTold struct {
	mu   sync.Mutex
	lags map[draas.ServiceID]failover.Lag
	n    int
}

func (o *lagsTold) take(unit draas.ServiceID, l failover.Lag) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lags[unit], o.n = l, o.n+1
}

func (o *lagsTold) of(unit draas.ServiceID) failover.Lag {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lags[unit]
}

// A unit is as far behind as its worst part, unknown when one of them is, and
// known only while the site stands by.
func TestLagWatch(t *testing.T) {
	dir := t.TempDir()
	say := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	say("shop", "3")
	say("billing", "7")
	part := func(id draas.ServiceID) config.Service {
		return config.Service{ID: id, CNAME: map[draas.SiteID]string{"dr": "dr.example.", "primary": "primary.example."},
			Lag: config.Lag{Command: []string{"/bin/sh", "-c", fmt.Sprintf(`test "$DRAAS_SITE" = dr && cat %s/$DRAAS_SERVICE`, dir)}, Interval: 20 * time.Millisecond, Timeout: 10 * time.Second}}
	}
	w := &wiring{cfg: &config.Config{Services: []config.Service{part("billing"), part("shop")}},
		units: map[draas.ServiceID][]draas.ServiceID{"crm": {"billing", "shop"}}}
	o := &lagsTold{lags: make(map[draas.ServiceID]failover.Lag)}
	l := newLagWatch("dr", slog.New(slog.DiscardHandler), o.take)
	l.use(w)
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); l.wait() }()
	at := func(site draas.SiteID) failover.State {
		return failover.State{Services: map[draas.ServiceID]*failover.ServiceState{"crm": {Active: site, Epoch: 1}}}
	}
	await := func(what string, want failover.Lag) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for o.of("crm") != want {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v, want %+v", what, o.of("crm"), want)
			}
			pause(ctx, 5*time.Millisecond)
		}
	}
	l.follow(ctx, at(""))
	if o.n != 0 {
		t.Error("a command ran for what was never active")
	}
	l.follow(ctx, at("primary"))
	await("standing by", failover.Lag{Known: true, Behind: 7 * time.Second})
	say("shop", "90")
	await("another part is further behind", failover.Lag{Known: true, Behind: 90 * time.Second})
	say("billing", "no idea")
	await("a part does not know", failover.Lag{})
	say("billing", "1")
	await("it knows again", failover.Lag{Known: true, Behind: 90 * time.Second})
	l.follow(ctx, at("dr"))
	await("active", failover.Lag{})
	say("shop", "5")
	l.follow(ctx, at("primary"))
	if got := o.of("crm"); got.Known && got.Behind == 90*time.Second {
		t.Error("what was known before it was active is told again")
	}
	await("standing by again", failover.Lag{Known: true, Behind: 5 * time.Second})
}
