package failover

import (
	"reflect"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// A daemon that restarts on the same boot goes on; on another boot it waits a
// lease first: the machine it was copied from may still run.
func TestRestartOfTheActiveMember(t *testing.T) {
	for _, tc := range []struct {
		boot     string
		min, max time.Duration
	}{{"boot-primary", 0, 100 * ms}, {"another", 2100 * ms, 2400 * ms}} {
		t.Run(tc.boot, func(t *testing.T) {
			c := active(t, nil)
			*c.gates["primary"] = gate{}
			c.start("primary", testPolicy(), tc.boot)
			start := c.now
			for !c.open("primary") && c.now < start+5*time.Second {
				c.run(10 * ms)
			}
			if took := c.now - start; took < tc.min || took > tc.max {
				t.Errorf("serves again after %v, want %v to %v", took, tc.min, tc.max)
			}
		})
	}
}

// A second daemon with the same identity: the first one's entries are void
// from then on, and it says why it stops.
func TestSecondDaemonWithOneIdentity(t *testing.T) {
	c := active(t, nil)
	first := c.agents["primary"]
	c.start("primary", testPolicy(), "clone")
	c.run(200 * ms)
	for _, e := range c.log[first.State().Index:] {
		first.Apply(e, c.reading())
	}
	if first.Superseded() == nil {
		t.Fatal("the first daemon does not notice the second")
	}
	if got := first.Tick(c.reading()); len(got.Propose)+len(got.Extend) != 0 {
		t.Errorf("it still wants %+v", got)
	}
}

// Late entries of an old holder change nothing.
func TestStaleEntriesAreVoid(t *testing.T) {
	c := active(t, nil)
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.until(PhaseVerifying, time.Second)
	s := c.agents["witness"].State()
	inc := s.Members["primary"].Incarnation
	for _, e := range []Event{
		{Kind: EventRenew, By: "primary", Incarnation: inc, Permits: map[draas.ServiceID]draas.Epoch{"shop": 1}},
		{Kind: EventActivate, By: "primary", Incarnation: inc, Service: "shop", Epoch: 2},
		{Kind: EventActivate, By: "primary", Incarnation: inc, Service: "shop", Epoch: 3},
		{Kind: EventRelease, By: "primary", Incarnation: inc, Service: "shop", Epoch: 1},
		{Kind: EventRelease, By: "primary", Incarnation: inc, Service: "shop", Epoch: 2},
		{Kind: EventDone, By: "primary", Incarnation: inc, Service: "shop", Epoch: 2, Done: &runbook.Record{Service: "shop", Move: runbook.Token{Epoch: 2}, Step: "dns", Member: "primary", Outcome: runbook.OutcomeDone}},
		{Kind: EventObserved, By: "dr", Incarnation: 99, Observed: []Observation{{Service: "shop", Site: "dr", Verdict: draas.Failed}}},
		{Kind: EventDue, By: "witness", Incarnation: s.Members["witness"].Incarnation, Service: "shop", Timer: timerStart, Mark: 1},
	} {
		e.Index = s.Index + 1
		next, actions, renewed := apply(s, e)
		if len(renewed) != 0 || len(actions) != 0 {
			t.Errorf("%s: renewed %v, due %v", e.Kind, renewed, actions)
		}
		if !reflect.DeepEqual(next.Services["shop"], s.Services["shop"]) {
			t.Errorf("%s changed the service", e.Kind)
		}
	}
}

// What a vantage said before it went out of reach is old news.
func TestVantageOutOfReachDoesNotCount(t *testing.T) {
	c := active(t, func(p *Policy) {
		p.Members = append(p.Members, MemberPolicy{"second", draas.RoleWitness, "south"})
	})
	c.seeAll("primary", draas.Failed, "witness")
	c.run(200 * ms)
	c.dead["witness"] = true
	for _, m := range []draas.MemberID{"primary", "dr", "second"} {
		c.see(m, Observation{Peer: "witness", Verdict: draas.Failed})
	}
	c.run(200 * ms)
	c.seeAll("primary", draas.Failed, "dr")
	c.run(5 * time.Second)
	if sv := c.service("shop"); sv.Epoch != 1 {
		t.Fatalf("moved on the word of a dead vantage\n%s", c.story())
	}
	c.seeAll("primary", draas.Failed, "second")
	c.until(PhaseVerifying, 5*time.Second)
}

// What the log itself makes sure of while a move waits, whatever a member
// claims.
func TestLogChecksActivation(t *testing.T) {
	fencing := func(t *testing.T, r Request) (State, func(Event) State) {
		c := active(t, nil)
		c.stuck["primary"] = true
		c.request("witness", "dr", r)
		c.until(PhaseFencing, time.Second)
		s := c.agents["witness"].State()
		return s, func(e Event) State {
			e.Incarnation, e.Index = s.Members[e.By].Incarnation, s.Index+1
			next, _ := Step(s, e)
			return next
		}
	}
	unplanned, planned := Request{Move: MoveFailover}, Request{Move: MoveSwitchover}
	cases := []struct {
		name    string
		request Request
		event   Event
		// granted and released are what has to come of it.
		granted, released bool
	}{
		{"the target's member", unplanned, Event{Kind: EventActivate, By: "dr", Service: "shop", Epoch: 2}, true, false},
		{"another member", unplanned, Event{Kind: EventActivate, By: "primary", Service: "shop", Epoch: 2}, false, false},
		{"the witness", unplanned, Event{Kind: EventActivate, By: "witness", Service: "shop", Epoch: 2}, false, false},
		{"another epoch", unplanned, Event{Kind: EventActivate, By: "dr", Service: "shop", Epoch: 3}, false, false},
		{"a planned move without a handover", planned, Event{Kind: EventActivate, By: "dr", Service: "shop", Epoch: 2}, false, false},
		{"a release by another member", planned, Event{Kind: EventRelease, By: "dr", Service: "shop", Epoch: 1}, false, false},
		{"a release of another epoch", planned, Event{Kind: EventRelease, By: "primary", Service: "shop", Epoch: 2}, false, false},
		{"the holder's release", planned, Event{Kind: EventRelease, By: "primary", Service: "shop", Epoch: 1}, false, true},
		{"a target that is not fit any more", unplanned, Event{Kind: EventObserved, By: "dr",
			Observed: []Observation{{Service: "shop", Site: "dr", Verdict: draas.Suspect}}}, false, false},
		{"a target that the move has left", unplanned, Event{Kind: EventObserved, By: "dr",
			Observed: []Observation{{Service: "shop", Site: "dr", Verdict: draas.Failed}}}, false, false},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s, step := fencing(t, tc.request)
			next := step(tc.event)
			if tc.event.Kind == EventObserved {
				e := Event{Kind: EventActivate, By: "dr", Incarnation: s.Members["dr"].Incarnation, Service: "shop", Epoch: 2, Index: next.Index + 1}
				next, _ = Step(next, e)
				left := next.Services["shop"].Move.To != "dr"
				if r := next.History[len(next.History)-1]; !left && r.Kind != RecordRefusal || len(r.Reasons) == 0 {
					t.Errorf("the refusal is not recorded: %+v", r)
				}
			}
			sv := next.Services["shop"]
			if granted := sv.Epoch == 2; granted != tc.granted || sv.Released != tc.released {
				t.Errorf("granted %v, released %v", granted, sv.Released)
			}
		})
	}
}

// The target of a planned move does not even propose before the handover,
// however long ago the lease ran out.
func TestPlannedTargetWaitsForTheHandover(t *testing.T) {
	c := active(t, func(p *Policy) { p.Retarget = time.Minute })
	c.stuck["primary"] = true
	c.request("witness", "dr", Request{Move: MoveSwitchover})
	c.until(PhaseFencing, time.Second)
	c.run(10 * time.Second)
	for _, e := range c.log {
		if e.Kind == EventActivate && e.By == "dr" {
			t.Fatalf("dr proposed epoch %d without a handover", e.Epoch)
		}
	}
}

func TestPolicyWithoutASoundPlan(t *testing.T) {
	p := testPolicy()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ServicePolicy){
		"one site":          func(s *ServicePolicy) { s.Sites = s.Sites[:1] },
		"step twice":        func(s *ServicePolicy) { s.Steps = append(s.Steps, s.Steps[0]) },
		"step without time": func(s *ServicePolicy) { s.Steps = []runbook.Step{{Name: "dns", Effect: "dns"}} },
	} {
		bad := testPolicy()
		s := bad.Services["shop"]
		change(&s)
		bad.Services["shop"] = s
		if bad.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
