package sim

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/runbook/effecttest"
)

// The same seed is the same run, with or without a story; another is another.
func TestSameSeedSameRun(t *testing.T) {
	first, err := Run(Generate(7), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Run(Generate(7), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first.Trace != second.Trace || first.Story != second.Story {
		t.Fatalf("two runs of seed 7 differ: %x and %x", first.Trace, second.Trace)
	}
	quiet, err := Run(Generate(7), false, NewCoverage())
	if err != nil {
		t.Fatal(err)
	}
	if quiet.Trace != first.Trace {
		t.Errorf("seed 7 is another run without its story: %x and %x", quiet.Trace, first.Trace)
	}
	other, err := Run(Generate(8), false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if other.Trace == first.Trace {
		t.Error("another seed gives the same run")
	}
}

// A schedule that is written down is the same schedule when it is read.
func TestScheduleJSON(t *testing.T) {
	for seed := range uint64(50) {
		s := Generate(seed)
		data, err := s.JSON()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseSchedule(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(s, back) {
			t.Fatalf("seed %d: wrote %+v, read %+v", seed, s, back)
		}
	}
	for _, bad := range []string{`{`, `{"faults":[{"kind":"earthquake"}]}`, `{"trouble":"long"}`} {
		if _, err := ParseSchedule([]byte(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
}

// Every kind of fault is drawn, but that which is beyond what is assumed.
func TestAllKindsAreDrawn(t *testing.T) {
	drawn := make(map[Kind]bool)
	for seed := range uint64(2000) {
		for _, f := range Generate(seed).Faults {
			drawn[f.Kind] = true
		}
	}
	for _, k := range allKinds {
		if want := k != Pause; drawn[k] != want {
			t.Errorf("%s is drawn: %t", k, drawn[k])
		}
	}
}

// A pause that stops both clocks lets two sites serve: docs/safety.md says so,
// and the oracle sees it. That is what all the clean runs rest on.
func TestBothClocksStop(t *testing.T) {
	s := Scenario{Seed: 1, Trouble: 25 * time.Second, Faults: []Fault{{At: 5 * time.Second, Kind: Pause, On: "primary", For: 6 * time.Second}}}
	r, err := s.Run()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(r.Violations, func(v string) bool { return rule(v) == "rule 1" }) {
		t.Errorf("nobody saw two sites serve: %v", r.Violations)
	}
	s.Faults[0].Kind = Stop
	if r, err = s.Run(); err != nil {
		t.Fatal(err)
	}
	if len(r.Violations) > 0 {
		t.Errorf("with the wall clock right: %v", r.Violations)
	}
}

// What is shrunk still breaks the rule, by what broke it.
func TestShrink(t *testing.T) {
	// Both clocks of the active machine stop among other faults; not in every
	// schedule does that matter.
	var s Schedule
	for seed := uint64(1); ; seed++ {
		s = Generate(seed)
		s.Faults = append(s.Faults, Fault{At: 6 * time.Second, Kind: Pause, On: Active, For: 7 * time.Second})
		r, err := Run(s, false, nil)
		if err != nil || seed > 50 {
			t.Fatalf("seed %d: nothing to shrink (%v)", seed, err)
		}
		if len(r.Violations) > 0 && len(s.Faults) > 5 {
			break
		}
	}
	least, tries, err := Shrink(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(least.Faults) == 0 || len(least.Faults) > 2 {
		t.Errorf("%d of %d faults are left after %d tries: %v", len(least.Faults), len(s.Faults), tries, least.Faults)
	}
	r, err := Run(least, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Violations) == 0 {
		t.Error("what is left breaks nothing")
	}
	clean := Schedule{Seed: 3, Trouble: 5 * time.Second}
	if same, tries, err := Shrink(clean); err != nil || tries != 1 || !reflect.DeepEqual(same, clean) {
		t.Errorf("a schedule that breaks nothing was shrunk to %v after %d tries (%v)", same, tries, err)
	}
}

// ddmin finds the two of many that together break a rule, and halves them.
func TestShrinkFindsThePair(t *testing.T) {
	var s Schedule
	for i := range 40 {
		s.Faults = append(s.Faults, Fault{At: time.Duration(i) * time.Second, Kind: Crash, N: i, For: time.Minute})
	}
	least, _, err := shrink(s, func(s Schedule) ([]string, error) {
		has := func(n int) bool {
			return slices.ContainsFunc(s.Faults, func(f Fault) bool {
				return f.At.Round(time.Second) == time.Duration(n)*time.Second && f.For >= 10*time.Second
			})
		}
		if has(7) && has(31) {
			return []string{"at 1s: rule 1: both"}, nil
		}
		return nil, nil
	})
	if err != nil || len(least.Faults) != 2 || least.Faults[0].For > 20*time.Second || least.Faults[0].N != 0 {
		t.Errorf("left: %v (%v)", least.Faults, err)
	}
}

// The scenarios' expectations can fail.
func TestExpectations(t *testing.T) {
	r, err := Scenario{Seed: 1, Expect: []Expect{
		{What: "served at home", From: 4 * time.Second, By: 8 * time.Second, Always: func(w *World) bool { return w.Serving("shop") == "primary" }},
		{What: "never moved", From: 4 * time.Second, Once: func(w *World) bool { return w.Epoch("shop") == 1 }},
	}}.Run()
	if err != nil || len(r.Violations) > 0 {
		t.Fatalf("%v %v", r.Violations, err)
	}
	r, err = Scenario{Seed: 1, Expect: []Expect{
		{What: "moved", From: 4 * time.Second, By: 8 * time.Second, Once: func(w *World) bool { return w.Moves() > 0 }},
		{What: "served at the DR site", From: 4 * time.Second, By: 8 * time.Second, Always: func(w *World) bool { return w.Serving("shop") == "dr" }},
	}}.Run()
	if err != nil || len(r.Violations) != 2 {
		t.Fatalf("%v %v", r.Violations, err)
	}
}

// A fault outside is healed in effects that a restarted daemon has made anew.
func TestEffectFaultOutlivesTheDaemon(t *testing.T) {
	r, err := Scenario{Seed: 1, Faults: []Fault{
		{At: 4 * time.Second, Kind: Effect, On: "dr", What: string(effecttest.Refuse), For: 8 * time.Second},
		{At: 5 * time.Second, Kind: Crash, On: "dr", For: 300 * time.Millisecond},
		{At: 6 * time.Second, Kind: Operator, On: "witness", What: "switchover", Service: "shop", To: "dr"},
	}, Expect: []Expect{
		{What: "the step is not done while the receiver refuses", From: 6 * time.Second, By: 11900 * time.Millisecond,
			Always: func(w *World) bool { return w.Receives("dns", "shop") != "dr" }},
		{What: "it is done afterwards", From: 12 * time.Second, By: 20 * time.Second,
			Once: func(w *World) bool { return w.Receives("dns", "shop") == "dr" }},
	}}.Run()
	if err != nil || len(r.Violations) > 0 {
		t.Fatalf("%v %v\n%s", r.Violations, err, r.Story)
	}
}

// A run that does not come to rest ends all the same, and says so: whether
// something happens again and again at one time, ever more waits, or the calm
// never lasts.
func TestRestless(t *testing.T) {
	for name, again := range map[string]func(w *World, do func()){
		"at one time": func(w *World, do func()) { w.after(0, do) },
		"ever more":   func(w *World, do func()) { w.after(0, do); w.after(ms, do) },
		"never calm": func(w *World, do func()) {
			w.struck = w.now
			w.after(100*time.Microsecond, do)
			for _, p := range w.parts { // two sites serve, which a person has vouched for
				p.guarded = false
				w.oracle.unit(p.unit).vouched = true
				for _, m := range w.members {
					m.guard.gates[p.index].forced = true
				}
			}
		},
	} {
		r, err := Scenario{Seed: 1, Trouble: 6 * time.Second, Do: []Do{{At: start, Do: func(w *World) {
			var do func()
			do = func() { again(w, do) }
			do()
		}}}}.Run()
		if err != nil || len(r.Violations) != 1 || rule(r.Violations[0]) != "liveness" || !strings.Contains(r.Violations[0], "does not come to rest") {
			t.Errorf("%s: %v %v", name, r.Violations, err)
		}
	}
}
