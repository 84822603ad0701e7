package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// Stories of moves that a person asks for, or leaves.

// RamenDR: a relocation was interrupted and left both sites secondary.
// Protects: a move whose target is lost turns back; duties follow from the log.
func TestStoryRoleOfNeither(t *testing.T) {
	for _, phase := range []failover.Phase{failover.PhaseFencing, failover.PhaseRedirecting, failover.PhaseVerifying} {
		t.Run(string(phase), func(t *testing.T) {
			tell(t, Scenario{
				Faults: []Fault{
					{At: start, Kind: Operator, On: "witness", To: "dr", Service: "shop", What: "switchover"},
					{At: start, When: phase, Kind: Power, On: "dr", For: 2 * time.Minute},
				},
				Expect: []Expect{
					{What: "somebody serves again", By: start + 30*time.Second, Once: serves("primary")},
					{What: "and goes on", From: start + 30*time.Second, By: start + 100*time.Second, Always: serves("primary")},
				},
			})
		})
	}
}

// The same, and how long users wait for it. As long as the target has not taken
// over nobody has a permit, and the move turns back when it does not take what
// was released; afterwards its permit has to run out, from its last renewal.
// Protects: a handover to a site that is lost is bounded.
func TestStoryTargetLostDuringASwitchover(t *testing.T) {
	phase := func(p failover.Phase) func(*World) bool {
		return func(w *World) bool { return w.Phase("shop") == p }
	}
	for name, lost := range map[string]func(*World) bool{
		"asked for": phase(failover.PhaseFencing),
		"released": func(w *World) bool {
			sv := w.State("primary").Services["shop"]
			return sv != nil && sv.Released
		},
		"active":    phase(failover.PhaseRedirecting),
		"looked at": phase(failover.PhaseVerifying),
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(6) {
				loseTarget(t, seed+1, lost)
			}
		})
	}
}

// loseTarget has a switchover's target lost at an instant, and the old site
// serve again in time.
func loseTarget(t *testing.T, seed uint64, now func(*World) bool) {
	t.Helper()
	p := Default()
	within := map[draas.Epoch]time.Duration{ // by the epoch of who serves then
		2: p.Policy.Take, 3: p.Policy.Services["shop"].Lease.Wait(), // which the target had
	}
	log := 4*p.Heartbeat + p.Resend // entries, and a proposal that was lost
	var lost, back time.Duration
	var epoch draas.Epoch
	r, err := Scenario{
		Seed:   seed,
		Faults: []Fault{{At: start, Kind: Operator, On: "primary", To: "dr", Service: "shop", What: "switchover"}},
		Expect: []Expect{
			{What: "the target is lost in time", From: start, By: start + time.Second, Once: func(w *World) bool {
				if lost == 0 && now(w) {
					lost = w.Now()
					w.after(0, func() { w.Inject(Fault{Kind: Power, On: "dr", For: 20 * time.Second}) })
				}
				return lost > 0
			}},
			{What: "the old site serves again", From: start, By: start + 15*time.Second, Once: func(w *World) bool {
				if back == 0 && w.Epoch("shop") > 1 && w.Serving("shop") == "primary" {
					back, epoch = w.Now(), w.Epoch("shop")
				}
				return back > 0
			}},
			{What: "and goes on", From: start + 15*time.Second, By: start + 50*time.Second, Always: serves("primary")},
		},
	}.Run()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Violations) > 0 {
		t.Fatalf("seed %d:\n%s\n%s", seed, strings.Join(r.Violations, "\n"), r.Story)
	}
	if took := back - lost; took > within[epoch]+log {
		t.Errorf("seed %d: served again under epoch %s after %v, want %v\n%s", seed, epoch, took, within[epoch]+log, r.Story)
	}
}

// corosync-qdevice 7, k8gb: the old site comes back, and the service jumps
// back to it at once; if it is still ill, again and again.
// Protects: failback is a person's decision.
func TestStoryNeedlessFailback(t *testing.T) {
	tell(t, Scenario{
		Faults: []Fault{{At: start, Kind: Flap, On: "primary", Service: "shop", By: 4 * time.Second, For: time.Minute}},
		Expect: []Expect{
			{What: "the service moves once", By: start + 15*time.Second, Once: serves("dr")},
			{What: "and stays", From: start + 15*time.Second, By: start + 100*time.Second, Always: serves("dr")},
		},
	})
}
