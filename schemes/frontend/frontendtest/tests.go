package frontendtest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

func startsPassive(t *testing.T, f *front) {
	f.decide(frontend.Decision{})
	throughout(t, 200*time.Millisecond, "nobody is active", f.nobody)
	f.activate(primary, long)
	f.leads()
}

func older(t *testing.T, f *front) {
	f.epoch = 2
	f.activate(dr, long)
	f.leads()
	for _, c := range []struct {
		d    frontend.Decision
		want error
	}{
		{frontend.Decision{Epoch: 2, Site: primary, Permit: long}, draas.ErrStaleEpoch},
		{frontend.Decision{Epoch: 3, Site: primary, Permit: long}, frontend.ErrContradiction},
	} {
		if err := f.table.Apply(f.now(), f.spec.Service, c.d); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.d, err, c.want)
		}
	}
	throughout(t, 200*time.Millisecond, "after older decisions", func() error { return f.answers(dr) })
}

// ends waits until a stream is over, and looks that it stays so.
func (f *front) ends(what string, s *Stream) {
	f.t.Helper()
	until(f.t, what, func() error {
		if !s.Over() {
			return errors.New("an endless answer goes on")
		}
		return nil
	})
	last := s.since()
	throughout(f.t, 100*time.Millisecond, what, func() error {
		if s.since() != last {
			return errors.New("an endless answer that was over goes on")
		}
		return nil
	})
}

// never asks over a connection that was kept, and wants no answer of a site.
func (f *front) never(kept *user, site draas.SiteID) {
	f.t.Helper()
	for range 3 {
		if got, err := kept.ask(); err == nil && got == site {
			f.t.Fatalf("%s answers over a connection that was kept", site)
		}
	}
}

// kept is a user with an idle connection to the active site.
func (f *front) kept() *user {
	f.t.Helper()
	u := newUser(f.t, f.proxy.Address(), true)
	if site, err := u.ask(); err != nil || site != f.site {
		f.t.Fatalf("answer of %q: %v", site, err)
	}
	return u
}

func planned(t *testing.T, f *front) {
	f.activate(primary, long)
	f.leads()
	idle, under, left := f.kept(), Open(t, f.proxy.Address()), Open(t, f.proxy.Address())
	moving := frontend.Decision{Epoch: f.epoch, Site: primary, Moving: true, Permit: long}
	f.decide(moving)
	f.shuts("a move is under way")
	throughout(t, 300*time.Millisecond, "a move is under way", func() error {
		switch {
		case under.Over() || left.Over():
			return errors.New("an answer that was under way has ended")
		case f.report().Flights == 0:
			return errors.New("nothing is said to be under way")
		}
		return nil
	})
	left.close() // by its user; the other one does not end by itself
	under2 := under
	moving.Released = true
	f.decide(moving)
	f.ends("the old site is released", under2)
	until(t, "the old site is released", func() error {
		if n := f.report().Flights; n != 0 {
			return fmt.Errorf("%d are said to be under way", n)
		}
		return nil
	})
	f.activate(dr, long)
	f.leads()
	f.never(idle, primary)
}

func activation(t *testing.T, f *front) {
	f.activate(primary, long)
	f.leads()
	idle, under := f.kept(), Open(t, f.proxy.Address())
	f.activate(dr, long)
	f.leads()
	f.ends("the other site is active", under)
	f.never(idle, primary)
	// And back, by a move whose users have all gone by themselves.
	under = Open(t, f.proxy.Address())
	f.decide(frontend.Decision{Epoch: f.epoch, Site: dr, Moving: true, Permit: long})
	f.shuts("a move is under way")
	under.close()
	idle.client.CloseIdleConnections()
	until(t, "the users have gone", func() error {
		if n := f.report().Flights; n != 0 {
			return fmt.Errorf("%d are said to be under way", n)
		}
		return nil
	})
	f.activate(primary, long)
	f.leads()
}

func permitEnds(t *testing.T, f *front) {
	const permit = 700 * time.Millisecond
	f.activate(primary, long)
	f.leads()
	under := Open(t, f.proxy.Address())
	begin := time.Now()
	f.activate(primary, permit) // the same site, and a permit that ends
	f.ends("a permit that ended", under)
	if since := under.since().Sub(begin); since < permit/2 {
		t.Errorf("the answer was cut off %v after its permit of %v", since, permit)
	}
	f.shuts("a permit that ended")
	f.decide(frontend.Decision{Epoch: f.epoch, Site: primary, Permit: long})
	f.leads()
}

func outlives(t *testing.T, f *front) {
	f.activate(primary, 100*time.Millisecond)
	f.leads()
	under := Open(t, f.proxy.Address())
	throughout(t, 500*time.Millisecond, "a permit that ended, with a fence that outlives it", func() error {
		if under.Over() {
			return errors.New("an endless answer has ended")
		}
		return f.answers(primary)
	})
}

func restart(t *testing.T, f *front) {
	f.activate(primary, long)
	f.leads()
	f.crash()
	after := f.front(t, f.spec)
	after.epoch = f.epoch
	after.activate(dr, long)
	after.leads()
}

func renewal(t *testing.T, f *front) {
	f.activate(dr, long)
	f.leads()
	under := Open(t, f.proxy.Address())
	throughout(t, 500*time.Millisecond, "renewals", func() error {
		f.decide(frontend.Decision{Epoch: f.epoch, Site: dr, Permit: long})
		if under.Over() {
			return errors.New("an endless answer has ended")
		}
		return f.answers(dr)
	})
}

func retired(t *testing.T, f *front) {
	f.activate(primary, long)
	f.leads()
	under := Open(t, f.proxy.Address())
	f.table.Use(nil)
	f.ends("the file has no such service", under)
	f.shuts("the file has no such service")
}

func tampered(t *testing.T, f *front, do func(testing.TB)) {
	f.activate(primary, long)
	f.leads()
	do(t)
	// What others did may take effect only after a while.
	until(t, "answers of the active site", func() error {
		for begin := time.Now(); time.Since(begin) < 300*time.Millisecond; {
			if err := f.answers(primary); err != nil {
				return err
			}
		}
		return nil
	})
	f.activate(dr, long)
	until(t, "answers of the other site", func() error {
		for range row {
			if err := f.answers(dr); err != nil {
				return err
			}
		}
		return nil
	})
}
