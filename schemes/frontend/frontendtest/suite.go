// Package frontendtest holds every kind of frontend to the same contract, from
// outside: one suite for our own proxies and for those of others.
package frontendtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// Proxy is a frontend's proxy as the suite sees it.
type Proxy interface {
	// Address is where users reach the service; it stays the same.
	Address() string
	// Follow makes the proxy follow a table, as a frontend does that has just
	// started. What it returns ends that as a crash does: nothing is tidied
	// up. One follows after the other.
	Follow(t testing.TB, table *frontend.Table) (crash func())
}

// Options are what the suite cannot know.
type Options struct {
	// Service is the name of the service; "shop" if empty.
	Service draas.ServiceID
	// Tamper are the ways in which others can change what the proxy does.
	Tamper map[string]func(t testing.TB)
}

// Make starts the proxy of a service, that nobody leads anywhere yet. It ends
// with the test.
type Make func(t testing.TB, spec frontend.Spec) Proxy

// Driven is the proxy of a driver.
type Driven struct {
	At      string
	Driver  frontend.Driver
	Options frontend.DriveOptions // Log is not needed
}

// Address is where users reach it.
func (d Driven) Address() string { return d.At }

// Follow drives it.
func (d Driven) Follow(t testing.TB, table *frontend.Table) (crash func()) {
	o := d.Options
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	if o.Look == 0 {
		o.Look = 100 * time.Millisecond
	}
	ctx, stop := context.WithCancel(context.Background())
	mortal := &mortal{Driver: d.Driver}
	driver := frontend.Driver(mortal)
	if counter, ok := d.Driver.(frontend.Counter); ok {
		driver = struct {
			frontend.Driver
			frontend.Counter
		}{mortal, counter}
	}
	var wg sync.WaitGroup
	for _, s := range table.Services() {
		wg.Go(func() { frontend.Drive(ctx, table, s.ID, driver, o) })
	}
	return sync.OnceFunc(func() {
		mortal.dead.Store(true)
		stop()
		wg.Wait()
	})
}

// mortal is a driver that does nothing more when it is dead.
type mortal struct {
	frontend.Driver
	dead atomic.Bool
}

var errDead = errors.New("the frontend has crashed")

func (m *mortal) Lead(ctx context.Context, svc *frontend.Spec, to frontend.Leading) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Driver.Lead(ctx, svc, to)
}

// Run holds a proxy to the contract.
func Run(t *testing.T, start Make, o Options) {
	if o.Service == "" {
		o.Service = "shop"
	}
	spec := Sites(t, o.Service)
	s := &suite{Options: o, spec: spec, proxy: start(t, spec)}
	for _, c := range []struct {
		name string
		test func(t *testing.T, f *front)
		spec func(*frontend.Spec)
	}{
		{"starts passive", startsPassive, nil},
		{"older decisions are refused", older, nil},
		{"a planned move drains, drops and leads on", planned, nil},
		{"an activation drops what is left of the old site", activation, nil},
		{"a permit ends", permitEnds, nil},
		{"a fence that outlives the permit", outlives, func(s *frontend.Spec) { s.Outlives = true }},
		{"a restarted frontend is passive", restart, nil},
		{"a renewal disturbs nothing", renewal, nil},
		{"a service that is taken out of the file", retired, nil},
		{"switchovers under load", load, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := s.spec
			if c.spec != nil {
				c.spec(&spec)
			}
			c.test(t, s.front(t, spec))
		})
	}
	for _, name := range slices.Sorted(maps.Keys(o.Tamper)) {
		t.Run("others: "+name, func(t *testing.T) { tampered(t, s.front(t, s.spec), o.Tamper[name]) })
	}
}

type suite struct {
	Options
	spec  frontend.Spec
	proxy Proxy
}

// front is one start of a frontend at the proxy.
type front struct {
	*suite
	t     testing.TB
	table *frontend.Table
	now   func() draas.Reading
	epoch draas.Epoch
	site  draas.SiteID
	user  *user // a new connection for each request
	crash func()
}

func (s *suite) front(t testing.TB, spec frontend.Spec) *front {
	t.Helper()
	begin := time.Now()
	f := &front{suite: s, t: t, user: newUser(t, s.proxy.Address(), false), now: func() draas.Reading {
		d := time.Since(begin) + time.Hour
		return draas.Reading{Boot: d, Wall: d}
	}}
	f.table = frontend.New(frontend.Config{Clock: f.now, Log: slog.New(slog.DiscardHandler)}, []frontend.Spec{spec})
	f.crash = s.proxy.Follow(t, f.table)
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan struct{})
	go func() { f.table.Run(ctx); close(ran) }()
	t.Cleanup(func() {
		f.crash()
		stop()
		<-ran
	})
	// Whatever the one before it did.
	f.shuts("a frontend that has just started")
	return f
}

// long is a permit that does not end within the test.
const long = time.Hour

func (f *front) decide(d frontend.Decision) {
	f.t.Helper()
	if err := f.table.Apply(f.now(), f.spec.Service, d); err != nil {
		f.t.Fatal(err)
	}
}

// activate gives the next epoch to a site.
func (f *front) activate(site draas.SiteID, permit time.Duration) {
	f.t.Helper()
	f.epoch, f.site = f.epoch+1, site
	f.decide(frontend.Decision{Epoch: f.epoch, Site: site, Permit: permit})
}

func (f *front) report() frontend.Report { return f.table.Reports()[0] }

// row is how many answers, one after the other, make sure of where users are
// led: nginx has old and new workers side by side for a moment.
const row = 10 * each

// leads waits until users are led to the active site, again and again. Who was
// answered by it is answered by no other site any more.
func (f *front) leads() {
	f.t.Helper()
	led := false
	until(f.t, "answers of "+string(f.site), func() error {
		for range row {
			got, err := f.user.ask()
			led = led || got == f.site
			switch {
			case err != nil:
				return err
			case got != f.site && led:
				f.t.Fatalf("%s answers after %s did", got, f.site)
			case got != f.site:
				return fmt.Errorf("answer of %q, want one of %q", got, f.site)
			}
		}
		return nil
	})
}

// answers asks once.
func (f *front) answers(site draas.SiteID) error {
	got, err := f.user.ask()
	if err == nil && got != site {
		err = fmt.Errorf("answer of %q, want one of %q", got, site)
	}
	return err
}

// nobody asks once, and wants no site to answer.
func (f *front) nobody() error {
	if site, err := f.user.ask(); err == nil {
		return fmt.Errorf("%s answers", site)
	}
	return nil
}

// shuts waits until nobody is led anywhere, again and again.
func (f *front) shuts(what string) {
	f.t.Helper()
	until(f.t, what, func() error {
		for range row {
			if err := f.nobody(); err != nil {
				return err
			}
			pause(5 * time.Millisecond)
		}
		return nil
	})
}

// Complete holds a driver to its word that all is done when Lead returns:
// whoever asks from then on is led there.
func Complete(t *testing.T, d frontend.Driver, address string, spec frontend.Spec) {
	t.Helper()
	u := newUser(t, address, false)
	var under *Stream
	for i, to := range []frontend.Leading{
		{}, {Site: primary}, {Site: dr}, {Site: dr, Draining: true}, {}, {Site: dr}, {Site: primary}, {Site: primary, Draining: true}, {Site: dr},
		{Site: primary}, {},
	} {
		if err := d.Lead(t.Context(), &spec, to); err != nil {
			t.Fatalf("%d: lead to %s: %v", i, to, err)
		}
		for range row {
			if site, err := u.ask(); (err == nil) != (to.Site != "" && !to.Draining) || err == nil && site != to.Site {
				t.Fatalf("%d: led to %s, and %q answers, %v", i, to, site, err)
			}
		}
		if got, err := d.See(t.Context(), &spec); err != nil || got != to && (!to.Draining || got != frontend.Leading{}) {
			t.Fatalf("%d: led to %s, and %s is what is seen, %v", i, to, got, err)
		}
		switch {
		case to.Draining && under.Over():
			t.Fatalf("%d: an answer that was under way has ended", i)
		case to.Draining:
			continue
		case under != nil:
			under.Ends(t)
			under = nil
		}
		if to.Site != "" {
			under = Open(t, address)
		}
	}
}
