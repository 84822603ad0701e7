package failover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// group is a policy with shop and bill under one epoch.
func group(p *Policy) {
	s := p.Services["shop"]
	s.Parts = []draas.ServiceID{"bill", "web"}
	p.Services = map[draas.ServiceID]ServicePolicy{"shop": s}
}

func (c *cluster) seePart(part draas.ServiceID, site draas.SiteID, v draas.Verdict, by ...draas.MemberID) {
	for _, m := range by {
		c.see(m, Observation{Service: part, Site: site, Verdict: v, Class: "refused"})
	}
}

func (c *cluster) seeParts(site draas.SiteID, v draas.Verdict, by ...draas.MemberID) {
	c.seePart("bill", site, v, by...)
	c.seePart("web", site, v, by...)
}

// Services of a group move together: one of them fails, all go, under one
// epoch and only when every fence is closed.
func TestGroupMovesTogether(t *testing.T) {
	p := testPolicy()
	group(&p)
	c := newCluster(t, p)
	c.run(100 * ms)
	c.seeParts("primary", draas.Healthy, "primary")
	c.seePart("bill", "dr", draas.Healthy, "dr")
	c.run(100 * ms)
	c.request("primary", "dr", Request{Move: MoveActivate})
	c.run(100 * ms)
	c.mustRefuse(ReasonTarget) // web has not been looked at there
	c.seePart("web", "dr", draas.Healthy, "dr")
	c.request("primary", "primary", Request{Move: MoveActivate})
	c.until(PhaseVerifying, time.Second)
	c.seePart("web", "primary", draas.Healthy, "dr", "witness")
	c.run(time.Second)
	if ph := c.service("shop").Phase; ph != PhaseVerifying {
		t.Fatalf("%s with one part seen only", ph)
	}
	c.seePart("bill", "primary", draas.Healthy, "witness")
	c.until(PhaseNormal, time.Second)
	if _, _, held := c.agents["primary"].Permit("web", c.reading()); !held {
		t.Error("a part does not have its group's permit")
	}

	// Two vantages see two different parts failed: no part is confirmed.
	c.seePart("web", "primary", draas.Failed, "dr")
	c.seePart("bill", "primary", draas.Failed, "witness")
	c.run(5 * time.Second)
	if sv := c.service("shop"); sv.Phase != PhaseSuspect {
		t.Fatalf("%s\n%s", sv.Phase, c.story())
	}
	clear(c.shut)
	c.seePart("bill", "primary", draas.Healthy, "witness")
	c.seePart("web", "primary", draas.Failed, "witness")
	c.until(PhaseVerifying, time.Second)
	c.seeParts("dr", draas.Healthy, "primary", "witness")
	c.until(PhaseElsewhere, time.Second)
	c.seeParts("primary", draas.Healthy, "primary")
	c.request("witness", "", Request{Move: MoveFailback})
	c.until(PhaseVerifying, time.Second)
	c.seeParts("primary", draas.Healthy, "dr", "witness")
	c.until(PhaseNormal, time.Second)
	c.request("witness", "", Request{Ask: AskAcknowledge})
	clear(c.shut)
	c.seePart("bill", "primary", draas.Failed, "witness", "dr")
	c.until(PhaseVerifying, time.Second)
	if sv := c.service("shop"); sv.Active != "dr" || sv.Epoch != 4 || !c.shut["bill"] || !c.shut["web"] {
		t.Fatalf("active at %s under %d, closed %v", sv.Active, sv.Epoch, c.shut)
	}
	if !slices.ContainsFunc(c.last(RecordDecision).Reasons, func(r Reason) bool { return strings.Contains(r.Text, "bill at primary") }) {
		t.Errorf("the decision does not name the part\n%s", c.story())
	}
}

// One fence of a group does not close: nothing is released.
func TestGroupReleasesWhenAllAreClosed(t *testing.T) {
	p := testPolicy()
	group(&p)
	a := NewAgent(AgentConfig{Self: "primary", Incarnation: 1, Boot: "b", Policy: p, Resend: time.Second}, draas.Reading{})
	s := State{Version: 2, Policy: p, Members: map[draas.MemberID]*MemberState{"primary": {Incarnation: 1, Digest: p.Digest, Version: 2}},
		Services: map[draas.ServiceID]*ServiceState{"shop": {Phase: PhaseFencing, Active: "primary", Epoch: 3, Revoked: true,
			Move: &Move{Kind: MoveFailover, From: "primary", To: "dr", Epoch: 4}}}}
	a.Restore(s, draas.Reading{})
	a.greeted = true
	cmds := a.Tick(draas.Reading{})
	if len(cmds.Close) != 2 {
		t.Fatalf("closes %+v", cmds.Close)
	}
	released := func(c Commands) bool {
		return slices.ContainsFunc(c.Propose, func(e Event) bool { return e.Kind == EventRelease })
	}
	a.FenceClosed("bill", 3)
	if cmds = a.Tick(draas.Reading{}); released(cmds) || len(cmds.Close) != 1 || cmds.Close[0].Service != "web" {
		t.Fatalf("%+v", cmds)
	}
	a.FenceClosed("web", 3)
	if cmds = a.Tick(draas.Reading{}); !released(cmds) {
		t.Fatalf("%+v", cmds)
	}
}

// Two states that follow from one do not see each other's history.
func TestHistoriesDoNotMix(t *testing.T) {
	c := active(t, nil)
	s := *c.state()
	e := func(reason string) Event {
		e := c.agents["dr"].Request("shop", "", Request{Ask: AskPause, Reason: reason, For: time.Hour}, c.reading())
		e.Index = s.Index + 1
		return e
	}
	one, _ := Step(s, e("one"))
	two, _ := Step(s, e("two"))
	three, _ := Step(one, e("three"))
	for want, s := range map[string]State{"one": one, "two": two, "three": three} {
		if got := s.Services["shop"].Pause.Reason; got != want {
			t.Errorf("paused for %s, want %s", got, want)
		}
		if got := s.History[len(s.History)-1].Text; !strings.HasSuffix(got, want) {
			t.Errorf("the history ends with %q, want %s", got, want)
		}
	}
	for range 3 * maxHistory {
		s, _ = Step(s, e("again"))
		if n := len(s.History); n > maxHistory {
			t.Fatalf("%d records", n)
		}
	}
}
