package health

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMonitorSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fake{class: ClassOK}, &fake{class: ClassOK}
		w := watch(t, Config{}, target(shop, "http", a))
		pass(time.Second)
		w.expect(t, "shop@east healthy ok")

		// A look is under way when its target goes: nothing comes of it.
		a.set(ClassRefused, 100*ms)
		pass(260 * ms)
		if err := w.Set([]Target{target(mail, "http", b)}); err != nil {
			t.Fatal(err)
		}
		looks := a.looks()
		pass(time.Second)
		w.expect(t, "mail@east healthy ok")
		if a.looks() != looks {
			t.Error("a removed target is still looked at")
		}
		if all := w.Snapshot(); len(all) != 1 || all[0].Key != mail {
			t.Errorf("status %+v", all)
		}

		// The same check with another probe keeps the verdict.
		c := &fake{class: ClassOK}
		a.set(ClassOK, 0)
		if err := w.Set([]Target{target(mail, "http", c), target(dr, "ping", a)}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		w.expect(t, "member dr healthy ok")
		looks = b.looks()
		pass(time.Second)
		if b.looks() != looks || c.looks() < 4 {
			t.Errorf("looks at the old probe %d, then %d; at the new %d", looks, b.looks(), c.looks())
		}

		// One more check that nobody has looked at: unknown, until someone has.
		b.set(ClassOK, 10*ms)
		if err := w.Set([]Target{target(mail, "http", c), target(mail, "tcp", b)}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		w.expect(t, "mail@east unknown ", "mail@east healthy ok")

		// The only failed check goes: the rest is healthy.
		b.set(ClassRefused, 0)
		pass(time.Second)
		if err := w.Set([]Target{target(mail, "http", c)}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		w.expect(t, "mail@east suspect refused", "mail@east failed refused", "mail@east healthy ok")
	})
}

func TestMonitorReplacedWhileLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, young := &fake{class: ClassRefused, delay: 100 * ms}, &fake{class: ClassOK}
		w := watch(t, Config{}, target(shop, "http", old))
		pass(50 * ms)
		if err := w.Set([]Target{target(shop, "http", young)}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		w.expect(t, "shop@east healthy ok")
		if old.looks() != 1 {
			t.Errorf("%d looks at the old probe", old.looks())
		}
	})
}

func TestMonitorShorterInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{class: ClassOK}
		slow := target(shop, "http", f)
		slow.Timing.Interval = time.Hour
		w := watch(t, Config{}, slow)
		pass(time.Second)
		if err := w.Set([]Target{target(shop, "http", f)}); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		if f.looks() < 4 {
			t.Errorf("%d looks: still on the old interval", f.looks())
		}
	})
}

func TestMonitorRefusesBadTargets(t *testing.T) {
	f := &fake{}
	good := target(shop, "http", f)
	m := NewMonitor(Config{})
	if err := m.Set([]Target{good}); err != nil {
		t.Fatal(err)
	}
	spoilt := func(spoil func(*Target)) Target {
		bad := good
		spoil(&bad)
		return bad
	}
	for want, targets := range map[string][]Target{
		"twice":   {good, good},
		"key":     {spoilt(func(t *Target) { t.Key.Member = "dr" })},
		"either":  {spoilt(func(t *Target) { t.Key.Site = "" })},
		"name":    {spoilt(func(t *Target) { t.Check = "" })},
		"probe":   {spoilt(func(t *Target) { t.Probe = nil })},
		"timeout": {spoilt(func(t *Target) { t.Timing.Timeout = time.Hour }), good},
	} {
		if err := m.Set(targets); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if all := m.Snapshot(); len(all) != 1 || all[0].Key != shop {
		t.Errorf("targets after refused ones: %+v", all)
	}
}
