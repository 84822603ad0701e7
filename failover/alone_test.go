package failover

import (
	"testing"
	"time"

	"github.com/draasd/draas"
)

// two is a member of a cluster of two sites whose other one is active.
func two(t *testing.T, change func(*ServicePolicy)) (*Agent, func(time.Duration) Alone) {
	t.Helper()
	p := testPolicy()
	p.Members = p.Members[:2]
	s := p.Services["shop"]
	s.Confirmations, s.Devices = 1, []draas.SiteID{"primary"}
	if change != nil {
		change(&s)
	}
	p.Services["shop"] = s
	a := NewAgent(AgentConfig{Self: "dr", Incarnation: 1, Policy: p, Resend: time.Second}, draas.Reading{})
	a.Restore(State{Version: 2, Policy: p, Services: map[draas.ServiceID]*ServiceState{"shop": {Phase: PhaseNormal, Active: "primary", Epoch: 4}}}, draas.Reading{})
	a.Look(Observation{Service: "shop", Site: "dr", Verdict: draas.Healthy})
	a.Look(Observation{Service: "shop", Site: "primary", Epoch: 4, Verdict: draas.Failed})
	a.Look(Observation{Peer: "primary", Verdict: draas.Failed})
	return a, func(at time.Duration) Alone { return a.Alone(draas.Reading{Boot: at}) }
}

// Alone, a member of two does by itself only what a device can prove, after
// the failure has lasted long enough by its own clock.
func TestAloneWithADevice(t *testing.T) {
	a, at := two(t, func(s *ServicePolicy) { s.LeastOutage = 30 * time.Second })
	for _, tc := range []struct {
		at    time.Duration
		fence bool
	}{{100 * time.Second, false}, {129 * time.Second, false}, {130 * time.Second, true}} {
		out := at(tc.at)
		if len(out.Lost) != 1 || out.Lost[0].Site != "primary" || out.Lost[0].Epoch != 4 || (len(out.Fence) == 1) != tc.fence {
			t.Fatalf("at %v: %+v", tc.at, out)
		}
	}
	// Seen again, and lost again: it counts anew.
	a.Look(Observation{Peer: "primary", Verdict: draas.Healthy})
	if out := at(140 * time.Second); len(out.Lost) != 0 {
		t.Fatalf("%+v", out)
	}
	a.Look(Observation{Peer: "primary", Verdict: draas.Failed})
	if out := at(150 * time.Second); len(out.Lost) != 1 || len(out.Fence) != 0 {
		t.Fatalf("%+v", out)
	}
}

func TestAloneAPersonHasToDecide(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*ServicePolicy)
		also   func(*Agent)
		code   string
	}{
		"no device": {change: func(s *ServicePolicy) { s.Devices = []draas.SiteID{"dr"} }, code: ReasonProof},
		"automatic": {change: func(s *ServicePolicy) { s.Automatic = false }, code: ReasonAutomatic},
		"data loss": {change: func(s *ServicePolicy) { s.MaxLoss = time.Second }, code: ReasonLoss},
		"not fit":   {also: func(a *Agent) { a.Look(Observation{Service: "shop", Site: "dr", Verdict: draas.Failed}) }, code: ReasonTarget},
		"paused":    {also: func(a *Agent) { a.state.Services["shop"].Pause = &Pause{Operator: "ann"} }, code: ReasonPause},
		"held":      {also: func(a *Agent) { a.state.Services["shop"].Timers = map[string]Timer{timerHold: {}} }, code: ReasonHold},
		"flapping":  {change: func(s *ServicePolicy) { s.Flaps = 1 }, also: func(a *Agent) { a.state.Services["shop"].Flaps = map[draas.SiteID]int{"dr": 1} }, code: ReasonFlaps},
		"a move": {also: func(a *Agent) {
			sv := a.state.Services["shop"]
			sv.Revoked, sv.Move = true, &Move{Kind: MoveSwitchover}
		}, code: ReasonPhase},
		"not run here": {change: func(s *ServicePolicy) { s.Sites = []draas.SiteID{"primary", "third"} }, code: ReasonTarget},
	} {
		t.Run(name, func(t *testing.T) {
			a, at := two(t, tc.change)
			if tc.also != nil {
				tc.also(a)
			}
			at(time.Second)
			out := at(time.Hour)
			if len(out.Lost) != 1 || len(out.Fence) != 0 {
				t.Fatalf("%+v", out)
			}
			for _, r := range out.Lost[0].Reasons {
				if !r.OK && r.Code == tc.code {
					return
				}
			}
			t.Errorf("no reason %q in %+v", tc.code, out.Lost[0].Reasons)
		})
	}
}

// What is not lost is not spoken of.
func TestAloneNothingIsLost(t *testing.T) {
	for name, also := range map[string]func(*Agent){
		"the service answers": func(a *Agent) {
			a.Look(Observation{Service: "shop", Site: "primary", Epoch: 4, Verdict: draas.Healthy})
		},
		"seen under an old epoch": func(a *Agent) { a.Look(Observation{Service: "shop", Site: "primary", Epoch: 3, Verdict: draas.Failed}) },
		"active here":             func(a *Agent) { a.state.Services["shop"].Active = "dr" },
		"three members":           func(a *Agent) { a.state.Policy.Members = testPolicy().Members },
		"a site and a witness":    func(a *Agent) { a.state.Policy.Members[0].Role = draas.RoleWitness },
	} {
		t.Run(name, func(t *testing.T) {
			a, at := two(t, nil)
			also(a)
			at(time.Second)
			if out := at(time.Hour); len(out.Lost) != 0 || len(out.Fence) != 0 {
				t.Fatalf("%+v", out)
			}
		})
	}
}

// One device switches a host off with all that runs there: a unit that must
// not go keeps the others from going by themselves.
func TestAloneAllOrNone(t *testing.T) {
	a, at := two(t, nil)
	s := a.state.Policy.Services["shop"]
	s.Automatic = false
	a.state.Policy.Services["bill"] = s
	a.state.Services["bill"] = &ServiceState{Phase: PhaseNormal, Active: "primary", Epoch: 2}
	a.state.ids = nil
	a.Look(Observation{Service: "bill", Site: "dr", Verdict: draas.Healthy})
	a.Look(Observation{Service: "bill", Site: "primary", Epoch: 2, Verdict: draas.Failed})
	at(time.Second)
	if out := at(time.Hour); len(out.Lost) != 2 || len(out.Fence) != 0 {
		t.Fatalf("%+v", out)
	}
}
