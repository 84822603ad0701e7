package health

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
)

// A receiver that hangs holds up no look. What came and went meanwhile it does
// not hear; what is different in the end it does.
func TestMonitorSlowReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var heard []draas.Verdict
		m := NewMonitor(Config{OnChange: func(_ context.Context, c Change) {
			heard = append(heard, c.Verdict)
			<-release
		}, Random: func() float64 { return 0 }})
		f := &fake{class: ClassOK}
		if err := m.Set([]Target{target(shop, "http", f)}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		turn := func(class Class) {
			f.set(class, 0)
			pass(time.Second)
		}
		expect := func(want ...draas.Verdict) {
			t.Helper()
			if !slices.Equal(heard, want) {
				t.Errorf("heard %v, want %v", heard, want)
			}
		}
		pass(time.Second)
		for range 5 {
			turn(ClassRefused)
			turn(ClassOK)
		}
		if n := f.looks(); n < 44 {
			t.Errorf("%d looks in 11 s", n)
		}
		release <- struct{}{} // it has heard of healthy, and healthy it is
		pass(time.Second)
		expect(draas.Healthy)

		turn(ClassRefused) // it hangs at the suspicion
		turn(ClassOK)
		turn(ClassRefused)
		release <- struct{}{}
		pass(time.Second)
		expect(draas.Healthy, draas.Suspect, draas.Failed)
		close(release)
		cancel()
		<-done
	})
}

// A change that waits for the receiver goes with its target.
func TestMonitorForgetsUndelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var heard []Key
		m := NewMonitor(Config{OnChange: func(_ context.Context, c Change) {
			heard = append(heard, c.Key)
			<-release
		}, Random: func() float64 { return 0 }})
		first := target(mail, "http", &fake{class: ClassOK})
		second := target(shop, "http", &fake{class: ClassOK, delay: 10 * ms})
		if err := m.Set([]Target{first, second}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		pass(time.Second)
		if s := m.Snapshot(); s[1].Verdict != draas.Healthy {
			t.Errorf("%s is %s", s[1].Key, s[1].Verdict)
		}
		if err := m.Set([]Target{first}); err != nil {
			t.Fatal(err)
		}
		close(release)
		pass(time.Second)
		cancel()
		<-done
		if !slices.Equal(heard, []Key{mail}) {
			t.Errorf("heard of %v", heard)
		}
	})
}

func TestMonitorSnapshotOrder(t *testing.T) {
	m := NewMonitor(Config{})
	f := &fake{}
	west := Key{Service: "mail", Site: "west"}
	if err := m.Set([]Target{target(dr, "ping", f), target(shop, "b", f), target(shop, "a", f), target(west, "x", f), target(mail, "x", f)}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range m.Snapshot() {
		for _, c := range s.Checks {
			got = append(got, s.Key.String()+"/"+c.Check)
		}
		if s.Verdict != draas.Unknown || !s.Changed.IsZero() {
			t.Errorf("nobody has looked: %+v", s)
		}
	}
	if want := "[mail@east/x mail@west/x shop@east/b shop@east/a member dr/ping]"; fmt.Sprint(got) != want {
		t.Errorf("order %v, want %v", got, want)
	}
}
