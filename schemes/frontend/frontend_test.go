package frontend

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is stepped by the test; in a synctest bubble it goes with time.
func clock() func() draas.Reading {
	start := time.Now()
	return func() draas.Reading {
		d := time.Since(start) + time.Hour
		return draas.Reading{Boot: d, Wall: d}
	}
}

type table struct {
	*Table
	now  func() draas.Reading
	told []Evidence
}

func newTable(outlives bool) *table {
	t := &table{now: clock()}
	t.Table = New(Config{Clock: t.now, Log: slog.New(slog.DiscardHandler), Tell: func(e Evidence) { t.told = append(t.told, e) }},
		[]Spec{{Service: "shop", Outlives: outlives, Hold: Bounds{Time: 5 * time.Second, Requests: 2, Bytes: 100}}})
	return t
}

func (t *table) decide(d Decision) error { return t.Apply(t.now(), "shop", d) }

func (t *table) want(tb testing.TB, state State, reason string, site draas.SiteID) Where {
	tb.Helper()
	w := t.Service("shop").Where()
	if w.State != state || w.Reason != reason || w.Site != site {
		tb.Fatalf("%s %q to %q, want %s %q to %q", w.State, w.Reason, w.Site, state, reason, site)
	}
	return w
}

const second = time.Second

func TestStartsPassive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTable(true)
		f.want(t, Wait, ReasonPassive, "")
		time.Sleep(5 * second)
		f.want(t, Shut, ReasonPassive, "")
		if err := f.decide(Decision{}); err != nil {
			t.Fatal(err)
		}
		f.want(t, Wait, ReasonNobody, "")
		if err := f.decide(Decision{Epoch: 1, Site: "primary", Permit: second}); err != nil {
			t.Fatal(err)
		}
		f.want(t, Open, "", "primary")
	})
}

func TestOlderDecisionsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTable(false)
		for _, c := range []struct {
			d    Decision
			want error
		}{
			{Decision{Epoch: 3, Site: "dr", Permit: second}, nil},
			{Decision{Epoch: 2, Site: "primary", Permit: second}, draas.ErrStaleEpoch},
			{Decision{}, draas.ErrStaleEpoch},
			{Decision{Epoch: 3, Site: "primary", Permit: second}, ErrContradiction},
			{Decision{Epoch: 3, Site: "dr", Permit: second}, nil},
		} {
			if err := f.decide(c.d); !errors.Is(err, c.want) {
				t.Errorf("%+v: %v, want %v", c.d, err, c.want)
			}
		}
		f.want(t, Open, "", "dr")
		// A revocation cannot be taken back by who has not heard of it.
		_ = f.decide(Decision{Epoch: 3, Site: "dr", Moving: true})
		_ = f.decide(Decision{Epoch: 3, Site: "dr", Permit: second})
		f.want(t, Wait, ReasonMoving, "dr")
		_ = f.decide(Decision{Epoch: 4, Site: "dr", Permit: second})
		f.want(t, Open, "", "dr")
	})
}

func TestPermitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTable(false)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { f.Run(ctx); close(ended) }()
		defer func() { stop(); <-ended }()
		asked := f.now()
		time.Sleep(second / 2) // the answer was under way for long
		if err := f.Apply(asked, "shop", Decision{Epoch: 1, Site: "primary", Permit: second}); err != nil {
			t.Fatal(err)
		}
		w := f.want(t, Open, "", "primary")
		dropped := make(chan struct{})
		if _, ok := f.Service("shop").Attach(w, func() { close(dropped) }); !ok {
			t.Fatal("not attached")
		}
		time.Sleep(second/2 - time.Nanosecond)
		f.want(t, Open, "", "primary")
		time.Sleep(time.Nanosecond)
		w = f.want(t, Wait, ReasonLapsed, "primary")
		<-dropped
		if _, ok := f.Service("shop").Attach(w, nil); ok {
			t.Error("attached under a permit that has ended")
		}
		_ = f.decide(Decision{Epoch: 1, Site: "primary", Permit: second})
		<-w.Changed
		f.want(t, Open, "", "primary")
		time.Sleep(6*second - time.Nanosecond)
		f.want(t, Wait, ReasonLapsed, "primary")
		time.Sleep(time.Nanosecond)
		f.want(t, Shut, ReasonLapsed, "primary")
	})
}

// A process that stood still looks at permits before it moves a byte, and one
// that did not leaves that to Run.
func TestAwake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTable(false)
		_ = f.decide(Decision{Epoch: 1, Site: "primary", Permit: second})
		dropped := false
		if _, ok := f.Service("shop").Attach(f.want(t, Open, "", "primary"), func() { dropped = true }); !ok {
			t.Fatal("not attached")
		}
		w := f.Service("shop").Where()
		if !f.Awake() || f.Awake() || dropped {
			t.Error("it looks once")
		}
		time.Sleep(second)
		if f.Service("shop").Current(w) {
			t.Error("an answer counts whose permit has ended")
		}
		if !f.Awake() || !dropped {
			t.Error("a connection goes on whose permit has ended")
		}
	})
}

func TestFenceThatOutlivesThePermit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTable(true)
		_ = f.decide(Decision{Epoch: 1, Site: "primary", Permit: second})
		time.Sleep(time.Hour)
		f.want(t, Open, "", "primary")
	})
}

func TestMoveDrainsAndDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTable(false)
		s := f.Service("shop")
		_ = f.decide(Decision{Epoch: 1, Site: "primary", Permit: second})
		w := f.want(t, Open, "", "primary")
		for range 2 {
			if !s.Enter(w) {
				t.Fatal("cannot enter")
			}
		}
		dropped := 0
		old, _ := s.Attach(w, func() { dropped++ })
		gone, _ := s.Attach(w, func() { dropped += 100 })
		gone.Detach()
		_ = f.decide(Decision{Epoch: 1, Site: "primary", Moving: true})
		<-f.News()
		if s.Enter(w) {
			t.Error("entered by an earlier word")
		}
		s.Leave(w)
		if r := f.Reports()[0]; r.Flights != 1 || r.State != Wait || dropped != 0 || !s.Current(w) {
			t.Errorf("%+v, %d dropped", r, dropped)
		}
		s.Leave(w)
		<-f.News()
		_ = f.decide(Decision{Epoch: 2, Site: "dr", Permit: second})
		<-w.Changed
		if r := f.Reports()[0]; r.Flights != 0 || r.Site != "dr" || r.Epoch != 2 || dropped != 1 || s.Current(w) {
			t.Errorf("%+v, %d dropped", r, dropped)
		}
		old.Detach()
		if _, ok := s.Attach(w, nil); ok {
			t.Error("attached to the old site")
		}
		s.Failed(w, Reset)
		s.Failed(f.want(t, Open, "", "dr"), Refused)
		if len(f.told) != 1 || f.told[0] != (Evidence{"shop", "dr", 2, Refused}) {
			t.Errorf("told %v", f.told)
		}
	})
}

func TestHoldIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTable(false)
		s := f.Service("shop")
		a, err := s.Hold(60)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Hold(41); !errors.Is(err, ErrShed) {
			t.Errorf("more bytes than may wait: %v", err)
		}
		b, err := s.Hold(40)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Hold(0); !errors.Is(err, ErrShed) {
			t.Errorf("more requests than may wait: %v", err)
		}
		w := s.Where()
		if err := a.Wait(t.Context(), w, 2*second, nil); err != nil {
			t.Errorf("wait to try again: %v", err)
		}
		go func() { _ = f.decide(Decision{Epoch: 1, Site: "dr", Permit: second}) }()
		if err := a.Wait(t.Context(), w, 0, nil); err != nil {
			t.Errorf("wait for a decision: %v", err)
		}
		woken := make(chan struct{})
		close(woken)
		if err := a.Wait(t.Context(), s.Where(), 0, woken); err != nil {
			t.Errorf("wait until it is worth a try: %v", err)
		}
		a.Done()
		w = s.Where()
		for range 2 {
			if err := b.Wait(t.Context(), w, 0, nil); !errors.Is(err, ErrShed) {
				t.Errorf("waited for too long: %v", err)
			}
		}
		b.Done()
		if counts := s.Stats.Stalls.Counts(); s.Stats.Stalls.Max() != 5*second || counts[11] != 1 || counts[13] != 1 {
			t.Errorf("stalls %v, longest %v", counts, s.Stats.Stalls.Max())
		}
		if r := f.Reports()[0]; r.Held != 0 || s.Stats.Shed.Load() != 4 || s.Stats.Held.Load() != 2 {
			t.Errorf("%+v, shed %d, held %d", r, s.Stats.Shed.Load(), s.Stats.Held.Load())
		}
	})
}

func TestServicesOfAnotherFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newTable(true)
		_ = f.decide(Decision{Epoch: 1, Site: "dr", Permit: second})
		s := f.Service("shop")
		ended := 0
		_, _ = s.Attach(s.Where(), func() { ended++ })
		f.Use([]Spec{{Service: "shop", Outlives: true}, {Service: "mail"}})
		f.want(t, Open, "", "dr")
		if f.Service("mail") == nil || ended != 0 {
			t.Fatal("the new file is not used")
		}
		w := s.Where()
		f.Use([]Spec{{Service: "mail"}})
		<-w.Changed
		if got := s.Where(); got.State == Open || ended != 1 || f.Service("shop") != nil {
			t.Errorf("a service that is gone: %v", got)
		}
		if err := f.decide(Decision{Epoch: 2, Site: "dr"}); err != nil {
			t.Errorf("a decision on it: %v", err)
		}
	})
}
