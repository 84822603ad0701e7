package health

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
)

func TestMonitorSpreadsTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var targets []Target
		f := &fake{class: ClassOK}
		for i := range 1000 {
			targets = append(targets, target(shop, fmt.Sprint(i), f))
		}
		step := 0.0
		watch(t, Config{Random: func() float64 {
			step += 0.001
			return step - float64(int(step))
		}}, targets...)
		pass(25 * ms) // a tenth of the interval
		if n := f.looks(); n < 90 || n > 110 {
			t.Errorf("%d of 1000 looks in the first tenth of the interval", n)
		}
	})
}

// Targets set long before Run are not late when it starts.
func TestMonitorSetBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{class: ClassStatus}
		m := NewMonitor(Config{Random: func() float64 { return 0 }})
		if err := m.Set([]Target{target(shop, "http", f)}); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour)
		ctx, cancel := context.WithTimeout(t.Context(), 100*ms)
		defer cancel()
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
		if s := m.Snapshot()[0]; s.Verdict != draas.Suspect || s.Checks[0].Blind != 0 {
			t.Errorf("status %+v", s)
		}
		if err := m.Run(ctx); err != ErrRan {
			t.Errorf("second Run: %v", err)
		}
	})
}

// Run waits for the looks and the receiver, both told by ctx to end.
func TestMonitorEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int32
		ctx, cancel := context.WithCancel(t.Context())
		m := NewMonitor(Config{OnChange: func(ctx context.Context, _ Change) {
			<-ctx.Done()
			ended.Add(1)
		}, Random: func() float64 { return 0 }})
		hangs := func(ctx context.Context) Result {
			<-ctx.Done()
			<-time.After(20 * ms)
			ended.Add(1)
			return Result{Class: ClassTimeout}
		}
		slow := Timing{Interval: time.Hour, Timeout: time.Hour, SecondLook: 1, Rise: 1, Fall: 1}
		err := m.Set([]Target{
			{Key: mail, Check: "http", Probe: hangs, Timing: slow},
			{Key: shop, Check: "http", Probe: (&fake{class: ClassOK}).probe, Timing: slow},
		})
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, cancel)
		if err := m.Run(ctx); err != nil {
			t.Error(err)
		}
		if ended.Load() != 2 {
			t.Errorf("%d of 2 had ended when Run returned", ended.Load())
		}
		for _, s := range m.Snapshot() {
			if s.Key == mail && s.Checks[0].Looks != 0 {
				t.Error("a look that was cancelled counts")
			}
		}
	})
}

// Everything at once, for the race detector.
func TestMonitorConcurrentUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{class: ClassOK, delay: ms}
		var targets []Target
		for i := range 50 {
			targets = append(targets, target(Key{Service: draas.ServiceID(fmt.Sprint(i % 10)), Site: "east"}, fmt.Sprint(i), f))
		}
		w := watch(t, Config{Concurrency: 8}, targets...)
		var users sync.WaitGroup
		for i := range 4 {
			users.Go(func() {
				for j := range 200 {
					switch (i + j) % 3 {
					case 0:
						if err := w.Set(targets[:25+(i+j)%25]); err != nil {
							t.Error(err)
						}
					case 1:
						w.Trigger(targets[j%50].Key)
					case 2:
						w.Snapshot()
						f.set([]Class{ClassOK, ClassReset, ClassLocal}[j%3], ms)
					}
					<-time.After(3 * ms)
				}
			})
		}
		users.Wait()
		f.set(ClassOK, ms)
		if err := w.Set(targets); err != nil {
			t.Fatal(err)
		}
		pass(5 * time.Second)
		for _, s := range w.Snapshot() {
			if s.Verdict != draas.Healthy {
				t.Errorf("%s is %s in the end", s.Key, s.Verdict)
			}
		}
	})
}
