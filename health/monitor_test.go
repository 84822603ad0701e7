package health

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
)

var (
	shop = Key{Service: "shop", Site: "east"}
	mail = Key{Service: "mail", Site: "east"}
	dr   = Key{Member: "dr"}
)

// fake is a probe that answers what it is told to, after a delay, and notes
// when it is asked.
type fake struct {
	mu     sync.Mutex
	class  Class
	delay  time.Duration
	deaf   bool // does not hear that ctx has ended
	starts []time.Time
}

func (f *fake) set(class Class, delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.class, f.delay = class, delay
}

func (f *fake) looks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.starts)
}

func (f *fake) probe(ctx context.Context) Result {
	f.mu.Lock()
	class, delay, deaf := f.class, f.delay, f.deaf
	f.starts = append(f.starts, time.Now())
	f.mu.Unlock()
	wait := ctx.Done()
	if deaf {
		wait = nil
	}
	select {
	case <-time.After(delay):
		return Result{Class: class, Detail: "as told"}
	case <-wait:
		return Result{Class: ClassTimeout, Detail: "as told"}
	}
}

// watched is a running monitor in a synctest bubble.
type watched struct {
	*Monitor
	mu      sync.Mutex
	changes []Change
}

func (w *watched) take() []Change {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.changes
	w.changes = nil
	return all
}

// expect checks the changes since the last call, as "key verdict class".
func (w *watched) expect(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, c := range w.take() {
		got = append(got, fmt.Sprintf("%s %s %s", c.Key, c.Verdict, c.Class))
	}
	if !slices.Equal(got, want) {
		t.Errorf("changes %q, want %q", got, want)
	}
}

// watch runs a monitor with the targets for the test.
func watch(t *testing.T, config Config, targets ...Target) *watched {
	t.Helper()
	w := &watched{}
	config.OnChange = func(_ context.Context, c Change) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.changes = append(w.changes, c)
	}
	if config.Random == nil {
		config.Random = func() float64 { return 0 }
	}
	w.Monitor = NewMonitor(config)
	if err := w.Set(targets); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return w
}

func target(key Key, check string, f *fake) Target {
	return Target{Key: key, Check: check, Probe: f.probe, Timing: fast}
}

// pass lets time go by in the bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestMonitorRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{class: ClassOK, delay: 1 * ms}
		w := watch(t, Config{}, target(shop, "http", f))
		pass(1 * ms)
		w.expect(t, "shop@east healthy ok")
		pass(10 * time.Second)
		w.expect(t)
		if n := f.looks(); n != 41 {
			t.Errorf("%d looks in 10 s", n)
		}

		fault := time.Now()
		f.set(ClassRefused, 1*ms)
		pass(1 * time.Second)
		changes := w.take()
		if len(changes) != 2 {
			t.Fatalf("changes: %+v", changes)
		}
		suspect, failed := changes[0], changes[1]
		if suspect.Verdict != draas.Suspect || suspect.Was != draas.Healthy || suspect.Count != 1 {
			t.Errorf("first change %+v", suspect)
		}
		if failed.Verdict != draas.Failed || failed.Was != draas.Suspect || failed.Count != fast.Fall ||
			failed.Check != "http" || failed.Detail != "as told" {
			t.Errorf("second change %+v", failed)
		}
		// One interval at most to the first look, then three second looks.
		if took := failed.At.Sub(fault); took > 250*ms+3*15*ms+4*ms {
			t.Errorf("failed after %v", took)
		}
		if span := failed.At.Sub(failed.Since); span != 3*15*ms+4*ms {
			t.Errorf("from the first failed look to the verdict: %v", span)
		}

		f.set(ClassOK, 1*ms)
		pass(1 * time.Second)
		changes = w.take()
		if len(changes) != 1 || changes[0].Verdict != draas.Healthy || changes[0].Count != 2 || changes[0].Was != draas.Failed {
			t.Errorf("recovery: %+v", changes)
		}
	})
}

func TestMonitorTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{class: ClassOK, delay: time.Hour}
		w := watch(t, Config{}, target(shop, "http", f))
		pass(950*ms - 1)
		w.expect(t, "shop@east suspect timeout")
		pass(1)
		w.expect(t, "shop@east failed timeout")
	})
}

func TestMonitorSuspicionThatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{class: ClassOK}
		w := watch(t, Config{}, target(shop, "http", f))
		pass(time.Second)
		for range 3 {
			f.set(ClassReset, 0)
			for w.Snapshot()[0].Verdict != draas.Suspect {
				pass(ms)
			}
			f.set(ClassOK, 0)
			pass(time.Second)
		}
		w.expect(t, "shop@east healthy ok",
			"shop@east suspect reset", "shop@east healthy ok",
			"shop@east suspect reset", "shop@east healthy ok",
			"shop@east suspect reset", "shop@east healthy ok")
		s := w.Snapshot()[0].Checks[0]
		if s.Suspicions != 3 || s.Failures < 3 || s.Blind != 0 || !s.Last.OK() {
			t.Errorf("status %+v", s)
		}
	})
}

func TestMonitorJoinsChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fake{class: ClassOK}, &fake{class: ClassOK, delay: 100 * ms}
		w := watch(t, Config{}, target(shop, "a", a), target(shop, "b", b))
		pass(50 * ms)
		w.expect(t) // a is healthy, b unknown
		pass(200 * ms)
		w.expect(t, "shop@east healthy ok")
		b.set(ClassStatus, 0)
		pass(250 * ms)
		w.expect(t, "shop@east suspect status")
		a.set(ClassRefused, 0)
		pass(500 * ms)
		w.expect(t, "shop@east failed refused")
		a.set(ClassOK, 0) // and b has failed meanwhile
		pass(2 * time.Second)
		w.expect(t)
		if s := w.Snapshot()[0]; s.Verdict != draas.Failed || s.Checks[0].Verdict != draas.Healthy || s.Checks[1].Verdict != draas.Failed {
			t.Errorf("status %+v", s)
		}
		b.set(ClassOK, 0)
		pass(2 * time.Second)
		w.expect(t, "shop@east healthy ok")
	})
}

func TestMonitorTrigger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{class: ClassOK, delay: 1 * ms}
		slow := target(shop, "http", f)
		slow.Timing = Timing{Interval: time.Hour, Timeout: time.Second, SecondLook: 15 * ms, Rise: 2, Fall: 2}
		w := watch(t, Config{}, slow)
		pass(time.Second)
		if w.Trigger(mail) || !w.Trigger(shop) {
			t.Error("Trigger must tell whether there is such a target")
		}
		pass(1 * ms)
		if f.looks() != 2 {
			t.Errorf("%d looks, want one more at once", f.looks())
		}
		// A flood of evidence makes a look every SecondLook, not a flood.
		for range 1500 {
			w.Trigger(shop)
			pass(100 * time.Microsecond)
		}
		if n := f.looks(); n < 2+9 || n > 2+11 {
			t.Errorf("%d looks in 150 ms of triggers", n-2)
		}
		// During a look: another one follows.
		pass(time.Second)
		f.set(ClassOK, 100*ms)
		before := f.looks()
		w.Trigger(shop)
		pass(50 * ms)
		w.Trigger(shop)
		pass(time.Second)
		if n := f.looks() - before; n != 2 {
			t.Errorf("%d looks, want the one under way and another", n)
		}
		f.set(ClassReset, 1*ms)
		w.Trigger(shop)
		pass(100 * ms)
		w.expect(t, "shop@east healthy ok", "shop@east suspect reset", "shop@east failed reset")
	})
}

// A target that answers nothing is found out in little more than one timeout.
func TestMonitorBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{class: ClassOK, delay: 1 * ms}
		slow := target(shop, "http", f)
		slow.Timing = Timing{Interval: time.Hour, Timeout: 200 * ms, SecondLook: 15 * ms, Rise: 2, Fall: 4}
		w := watch(t, Config{}, slow)
		pass(time.Second)
		if w.Burst(mail) || !w.Burst(shop) {
			t.Error("Burst must tell whether there is such a target")
		}
		pass(time.Second)
		if f.looks() != 1+4 {
			t.Errorf("%d looks, want four in a burst", f.looks()-1)
		}
		w.expect(t, "shop@east healthy ok")
		// A flood of evidence is no flood of bursts.
		for range 3000 {
			w.Burst(shop)
			pass(100 * time.Microsecond)
		}
		if n := f.looks() - 5; n < 15 || n > 30 {
			t.Errorf("%d looks in 300 ms of bursts", n)
		}
		pass(time.Second)
		w.expect(t)
		f.set(ClassTimeout, 200*ms)
		w.Burst(shop)
		pass(349 * ms)
		w.expect(t, "shop@east suspect timeout")
		pass(1 * ms)
		w.expect(t, "shop@east failed timeout")
		// One good answer among them is evidence, too.
		f.set(ClassOK, 1*ms)
		w.Burst(shop)
		pass(time.Second)
		w.expect(t, "shop@east healthy ok")
		f.set(ClassTimeout, 200*ms)
		w.Burst(shop)
		pass(120 * ms) // three of them have begun
		f.set(ClassOK, 1*ms)
		pass(time.Second)
		w.expect(t, "shop@east suspect timeout")
	})
}

// The looks of a burst at an older probe count for nothing, nor do those at
// what is looked at no more.
func TestMonitorBurstOfAnOlderProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := &fake{class: ClassTimeout, delay: 200 * ms}, &fake{class: ClassOK, delay: 1 * ms}
		old, next := target(shop, "http", f), target(shop, "http", g)
		old.Timing = Timing{Interval: time.Hour, Timeout: 200 * ms, SecondLook: 15 * ms, Rise: 2, Fall: 4}
		next.Timing = old.Timing
		w := watch(t, Config{}, old)
		w.Burst(shop)
		pass(180 * ms)
		if err := w.Set([]Target{next}); err != nil {
			t.Fatal(err)
		}
		w.Trigger(shop)
		pass(time.Second)
		w.expect(t, "shop@east healthy ok")
		w.Burst(shop)
		pass(60 * ms)
		if err := w.Set(nil); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		w.expect(t)
	})
}

// One slot, held by a probe that does not hear its deadline: what the others
// see late is no evidence against them, nor is what it brings itself.
func TestMonitorStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		victim, hog := &fake{class: ClassOK}, &fake{class: ClassOK}
		w := watch(t, Config{Concurrency: 1}, target(shop, "http", victim), target(mail, "http", hog))
		pass(time.Second)
		w.expect(t, "shop@east healthy ok", "mail@east healthy ok")

		hog.mu.Lock()
		hog.deaf, hog.delay, hog.class = true, 10*time.Second, ClassTimeout
		hog.mu.Unlock()
		victim.set(ClassRefused, 0)
		pass(250 * ms) // the victim may have had a look just before the hog
		w.take()
		for range 20 {
			pass(time.Second)
			for _, c := range w.take() {
				if c.Verdict == draas.Failed {
					t.Errorf("a starved monitor accuses: %+v", c)
				}
			}
		}
		for _, s := range w.Snapshot() {
			if s.Checks[0].Blind == 0 {
				t.Errorf("no blind look at %s: the fault did not happen", s.Key)
			}
		}
		hog.mu.Lock()
		hog.deaf, hog.delay, hog.class = false, 0, ClassOK
		hog.mu.Unlock()
		pass(15 * time.Second)
		w.take()
		if s := w.Snapshot(); s[0].Verdict != draas.Healthy || s[1].Verdict != draas.Failed {
			t.Errorf("with evidence again: %s, %s", s[0].Verdict, s[1].Verdict)
		}
	})
}

func TestDiscount(t *testing.T) {
	tests := []struct {
		name    string
		class   Class
		late    time.Duration
		latency time.Duration
		want    Class
	}{
		{"in time", ClassTimeout, 0, 200 * ms, ClassTimeout},
		{"a little late", ClassRefused, 450 * ms, 1 * ms, ClassRefused},
		{"much too late", ClassRefused, 451 * ms, 1 * ms, ClassLocal},
		{"late, and well", ClassOK, 10 * time.Second, 1 * ms, ClassOK},
		{"a little over", ClassTimeout, 0, 300 * ms, ClassTimeout},
		{"far over", ClassTimeout, 0, 301 * ms, ClassLocal},
		{"far over, and well: an answer of long ago", ClassOK, 0, 301 * ms, ClassLocal},
	}
	for _, tt := range tests {
		r := discount(Result{Class: tt.class, Latency: tt.latency}, tt.late, fast)
		if r.Class != tt.want || r.Latency != tt.latency {
			t.Errorf("%s: %+v, want %s", tt.name, r, tt.want)
		}
	}
}
