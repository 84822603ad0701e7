package sim

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

// The active machine is copied in the middle of a handover: its permit is
// revoked, and it has not closed yet. The copy's own fence is closed, which
// proves nothing of the original's: the successor waits for the lease.
func TestCopyDuringAMove(t *testing.T) {
	for _, by := range []time.Duration{0, 400 * time.Millisecond} {
		for seed := range uint64(8) {
			copied := 0
			r, err := Scenario{Seed: seed, Faults: []Fault{
				{At: start, Kind: SlowGuard, On: "primary", By: 4 * time.Second, For: 10 * time.Second},
				{At: start, Kind: Clone, On: "primary", When: failover.PhaseFencing, By: by, For: 8 * time.Second},
				{At: start + time.Second, Kind: Operator, On: "witness", What: "switchover", Service: "shop", To: "dr"},
			}, Expect: []Expect{
				{What: "a copy runs", From: start + time.Second, Once: func(w *World) bool {
					if w.twin != nil && w.twin.running() {
						copied++
					}
					return copied > 0
				}},
				{What: "nobody serves twice", From: start, Always: func(w *World) bool { return w.Serving("shop") != "both" }},
				{What: "one of the two is found out", From: start + time.Second, Once: func(w *World) bool {
					return w.twin != nil && (w.twin.ended != nil || w.member("primary").ended != nil)
				}},
				{What: "the service is somewhere again", From: start + 15*time.Second, Once: func(w *World) bool { return w.Serving("shop") != "" }},
			}}.Run()
			if err != nil || len(r.Violations) > 0 {
				t.Fatalf("seed %d: %v %s\n%s", seed, err, strings.Join(r.Violations, "\n"), r.Story)
			}
		}
	}
}

// Two copies of a machine that both start as the same run of it: what the one
// has said, the other has not, and it is told so. None, or one, is left.
func TestCopyOfAMachineThatWasOff(t *testing.T) {
	for seed := range uint64(5) {
		ends := func(w *World) bool {
			m := w.member("witness")
			return m.twin != nil && (errors.Is(m.ended, quorum.ErrCloned) || errors.Is(m.twin.ended, quorum.ErrCloned))
		}
		r, err := Scenario{Seed: seed, Faults: []Fault{
			{At: start, Kind: Clone, On: "witness", N: 1, For: 10 * time.Second},
		}, Expect: []Expect{
			{What: "one is told that it is a copy", From: start, By: start + 2*time.Second, Once: ends},
			{What: "a member is left, or back", From: start + 2*time.Second, By: start + 6*time.Second, Once: func(w *World) bool { return w.Running("witness") }},
		}}.Run()
		if err != nil || len(r.Violations) > 0 {
			t.Fatalf("seed %d: %v %s\n%s", seed, err, strings.Join(r.Violations, "\n"), r.Story)
		}
	}
}

// aged is the default cluster before an upgrade.
func aged() *Params {
	p := Default()
	for i := range p.Machines {
		p.Machines[i].Version = 1
	}
	return &p
}

func version(n int) func(*World) bool {
	return func(w *World) bool {
		return !slices.ContainsFunc(w.members, func(m *member) bool { return m.running() && max(w.State(m.id).Version, 1) != n })
	}
}

// A cluster is upgraded one member after the other, and its active site is
// lost when it is half done. It moves by the old version, and goes on to the
// new one when the last member is back.
func TestMoveInTheMiddleOfAnUpgrade(t *testing.T) {
	upgrade := func(at time.Duration, on draas.MemberID) Fault {
		return Fault{At: start + at, Kind: Upgrade, On: on, For: 300 * time.Millisecond}
	}
	tell(t, Scenario{Params: aged(), Faults: []Fault{
		upgrade(0, "witness"), upgrade(2*time.Second, "dr"),
		{At: start + 4*time.Second, Kind: Power, On: "primary", For: 8 * time.Second},
		upgrade(15*time.Second, "primary"),
	}, Expect: []Expect{
		{What: "the old version is in force", From: start, By: start + 15*time.Second, Always: version(1)},
		{What: "the DR site takes over", From: start + 4*time.Second, By: start + 12*time.Second, Once: serves("dr")},
		{What: "the new version is in force", From: start + 15*time.Second, By: start + 20*time.Second, Once: version(failover.Version)},
		{What: "nothing moves for it", From: start + 13*time.Second, Always: serves("dr")},
	}})
}

// An upgrade that begins while a move is under way neither loses nor doubles
// it: what is to be done follows from the log.
func TestUpgradeInTheMiddleOfAMove(t *testing.T) {
	for seed := range uint64(10) {
		r, err := Scenario{Seed: seed, Params: aged(), Faults: []Fault{
			{At: start, Kind: Operator, On: "witness", What: "switchover", Service: "shop", To: "dr"},
			{At: start, Kind: Upgrade, On: "dr", When: failover.PhaseFencing, For: 300 * time.Millisecond},
			{At: start, Kind: Upgrade, On: "primary", When: failover.PhaseRedirecting, For: 300 * time.Millisecond},
			{At: start + 6*time.Second, Kind: Upgrade, On: "witness", For: 300 * time.Millisecond},
		}, Expect: []Expect{
			{What: "the service has moved once", From: start, By: start + 12*time.Second, Once: func(w *World) bool { return w.Moves() == 1 && serves("dr")(w) }},
			{What: "the new version is in force", From: start + 6*time.Second, By: start + 12*time.Second, Once: version(failover.Version)},
			{What: "nothing moves for it", Always: epochUpTo(2)},
		}}.Run()
		if err != nil || len(r.Violations) > 0 {
			t.Fatalf("seed %d: %v %s\n%s", seed, err, strings.Join(r.Violations, "\n"), r.Story)
		}
	}
}

// Who looks only where it may matter sees what who looks everywhere sees.
func TestSharedBySites(t *testing.T) {
	seen := map[int]int{}
	look := func(w *World) bool {
		open := 0
		for _, m := range w.sites {
			if m.open(w.parts[0]) {
				open++
			}
		}
		seen[open]++
		if got := w.shared(w.parts[0]); got != (open > 1) {
			t.Fatalf("at %v: shared is %t while %d of %d are open", w.now, got, open, len(w.sites))
		}
		return true
	}
	// In the end each of the sites and of the copy is forced open and closed at
	// times of its own.
	flip := func(w *World) {
		w.parts[0].guarded = false
		for i, m := range w.sites {
			for n := range 8 {
				w.after(time.Duration(n*(i+2))*100*ms, func() { m.guard.gates[0].forced = n%2 == 0 })
			}
		}
	}
	_, err := Scenario{Seed: 1, Faults: []Fault{{At: start, Kind: Clone, On: "primary", For: 8 * time.Second}},
		Do: []Do{{At: start + 2*time.Second, Do: flip}}, Expect: []Expect{{What: "the same", Always: look}}}.Run()
	if err != nil {
		t.Fatal(err)
	}
	for open := range 4 {
		if seen[open] == 0 {
			t.Errorf("never were %d open: %v", open, seen)
		}
	}
}
