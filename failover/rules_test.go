package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

func otherPolicy(digest string, change func(*Policy)) Policy {
	p := testPolicy()
	p.Digest = digest
	if change != nil {
		change(&p)
	}
	return p
}

func (c *cluster) offer(p Policy, by ...draas.MemberID) {
	for _, m := range by {
		c.agents[m].Offer(p)
	}
}

func (c *cluster) inForce(digest string) {
	c.t.Helper()
	c.run(300 * ms)
	if got := c.state().Policy.Digest; got != digest {
		c.t.Fatalf("policy %s is in force, want %s\n%s", got, digest, c.story())
	}
}

// A new file is in force when all members that can be heard have read it, for
// all at the same entry; the service is not touched by that.
func TestPolicySwitchesForAllAtOnce(t *testing.T) {
	c := active(t, nil)
	c.extra = func() {
		if !c.open("primary") {
			t.Fatalf("a permit was lost\n%s", c.story())
		}
	}
	p := otherPolicy("d2", shop(func(s *ServicePolicy) { s.Automatic = false }))
	c.offer(p, "primary", "witness")
	c.inForce("d1")
	if r := c.state().sameConfig(); r.OK {
		t.Error("unequal files do not show")
	}
	c.offer(p, "dr")
	c.inForce("d2")
	c.run(5 * time.Second)
	for id, a := range c.agents {
		if a.State().Policy.Services["shop"].Automatic {
			t.Errorf("%s goes by the old rules", id)
		}
	}
	if r := c.state().sameConfig(); !r.OK {
		t.Error(r.Text)
	}
}

// A member that is out of reach does not keep the others from switching; when
// it comes back with its old file it goes by the log, and automatic moves
// stand still until it has the same file.
func TestPolicySwitchesWithoutALostMember(t *testing.T) {
	c := active(t, nil)
	c.dead["witness"] = true
	for _, m := range []draas.MemberID{"primary", "dr"} {
		c.see(m, Observation{Peer: "witness", Verdict: draas.Failed})
	}
	p := otherPolicy("d2", nil)
	c.offer(p, "primary")
	c.inForce("d1")
	c.offer(p, "dr")
	c.inForce("d2")
	c.start("witness", testPolicy(), "boot-witness")
	for _, m := range []draas.MemberID{"primary", "dr"} {
		c.see(m, Observation{Peer: "witness", Verdict: draas.Healthy})
	}
	c.run(time.Second)
	if got := c.agents["witness"].State().Policy.Digest; got != "d2" {
		t.Fatalf("the witness goes by %s", got)
	}
	if r := c.state().sameConfig(); r.OK || !strings.Contains(r.Text, "witness") {
		t.Errorf("%+v", r)
	}
	c.offer(p, "witness")
	c.run(300 * ms)
	if r := c.state().sameConfig(); !r.OK {
		t.Error(r.Text)
	}
}

// One member out of three is no majority for other rules, whoever else is
// believed lost.
func TestOneMemberDoesNotSwitch(t *testing.T) {
	c := active(t, nil)
	p := otherPolicy("d2", nil)
	e := c.agents["primary"].event(EventPolicy, c.reading())
	e.Policy = &p
	c.append(e)
	c.inForce("d1")
	c.offer(p, "primary")
	for _, m := range []draas.MemberID{"primary", "dr"} {
		c.see(m, Observation{Peer: "witness", Verdict: draas.Failed})
	}
	for _, m := range []draas.MemberID{"primary", "witness"} {
		c.see(m, Observation{Peer: "dr", Verdict: draas.Failed})
	}
	c.run(300 * ms)
	c.inForce("d1")
}

// In the middle of a move nobody changes the rules: the switch comes after it.
func TestPolicyWaitsForAMove(t *testing.T) {
	c := active(t, nil)
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.until(PhaseVerifying, time.Second)
	c.offer(otherPolicy("d2", nil), "primary", "dr", "witness")
	c.inForce("d1")
	c.seeAll("dr", draas.Healthy, "primary", "witness")
	c.until(PhaseElsewhere, time.Second)
	c.inForce("d2")
}

// A file that takes the active site away from a service is refused.
func TestPolicyWithoutTheActiveSite(t *testing.T) {
	c := active(t, nil)
	c.offer(otherPolicy("d2", shop(func(s *ServicePolicy) { s.Sites = []draas.SiteID{"dr", "third"} })), "primary", "dr", "witness")
	c.run(5 * time.Second)
	c.mustRefuse(ReasonDigest)
	if n := strings.Count(c.story(), "move it first"); n != 1 {
		t.Errorf("told %d times", n)
	}
	c.inForce("d1")
}

// A shorter lease counts for permits that are granted under it; one granted
// under the old lease is waited out by the old one, also by a member that was
// restarted since and by one that came up from a snapshot.
func TestShorterLeaseDoesNotShortenOldPermits(t *testing.T) {
	long := func(s *ServicePolicy) { s.Lease.Length = 20 * time.Second }
	short := otherPolicy("d2", nil)
	for name, disturb := range map[string]func(c *cluster){
		"waits":     func(*cluster) {},
		"restarted": func(c *cluster) { c.start("dr", short, "boot-dr"); c.look() },
		"snapshot": func(c *cluster) {
			s := *c.state()
			c.start("dr", short, "boot-dr")
			c.agents["dr"].Restore(s, c.reading())
			c.applied["dr"] = len(c.log)
			c.look()
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := active(t, shop(long))
			// The primary renews, is cut off before the switch and keeps its
			// permit; a program of ours that does not see the switch.
			c.run(500 * ms)
			c.dead["primary"] = true
			c.see("dr", Observation{Peer: "primary", Verdict: draas.Failed})
			c.see("witness", Observation{Peer: "primary", Verdict: draas.Failed})
			c.offer(short, "dr", "witness")
			c.inForce("d2")
			disturb(c)
			c.seeAll("primary", draas.Failed, "dr", "witness")
			c.seeAll("dr", draas.Healthy, "dr")
			c.until(PhaseRedirecting, 25*time.Second)
			c.run(100 * ms) // round checks that one serves
		})
	}
}

// look lets a restarted dr see what it saw.
func (c *cluster) look() {
	c.see("dr", Observation{Peer: "primary", Verdict: draas.Failed})
	c.see("dr", Observation{Peer: "witness", Verdict: draas.Healthy})
}

// A service that the file has no more is nobody's; when it comes back its
// epochs go on, and permits of before are waited out. The same for a service
// that goes into a group.
func TestServiceLeavesAndComesBack(t *testing.T) {
	c := active(t, nil)
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.until(PhaseVerifying, time.Second)
	c.seeAll("dr", draas.Healthy, "primary", "witness")
	c.until(PhaseElsewhere, time.Second)
	gone := otherPolicy("d2", func(p *Policy) {
		s := p.Services["shop"]
		s.Parts = []draas.ServiceID{"shop", "bill"}
		p.Services = map[draas.ServiceID]ServicePolicy{"crm": s}
	})
	c.offer(gone, "primary", "dr", "witness")
	c.inForce("d2")
	if ids := c.state().ServiceIDs(); len(ids) != 1 || ids[0] != "crm" {
		t.Fatalf("services %v", ids)
	}
	for _, part := range []draas.ServiceID{"shop", "bill"} {
		c.seePart(part, "primary", draas.Healthy, "primary")
	}
	c.run(450 * ms) // longer than it was until the next renewal
	if next := c.agents["dr"].Next(c.reading()); next == 0 {
		t.Fatal("the agent is woken at once for what the file has no more")
	}
	c.dead["dr"] = true // its guard lives on, with the permit of the old unit
	if !c.open("dr") {
		t.Fatal("nothing is left to be waited out")
	}
	c.append(c.agents["witness"].Request("crm", "primary", Request{Move: MoveActivate}, c.reading()))
	c.run(3 * time.Second) // round checks that one serves
	if sv := c.service("crm"); sv.Active != "primary" || sv.Epoch != 3 {
		t.Fatalf("active at %q under %d\n%s", sv.Active, sv.Epoch, c.story())
	}
	for _, part := range []draas.ServiceID{"shop", "bill"} {
		c.seePart(part, "primary", draas.Healthy, "dr", "witness")
	}
	c.dead["dr"] = false
	c.run(300 * ms)
	c.offer(otherPolicy("d3", nil), "primary", "dr", "witness")
	c.inForce("d3")
	c.request("witness", "dr", Request{Move: MoveActivate})
	c.run(3 * time.Second)
	if sv := c.service("shop"); sv.Epoch != 4 {
		t.Fatalf("back under epoch %d\n%s", sv.Epoch, c.story())
	}
}

// Until every member can step by version 2, all step by version 1: what it
// does not know changes nothing. A move in between goes by the old rules.
func TestRollingUpgrade(t *testing.T) {
	rules := shop(func(s *ServicePolicy) { s.LeastOutage, s.Hold, s.HoldMax = time.Hour, 0, 0 })
	p := testPolicy()
	rules(&p)
	c := newCluster(t, p)
	c.old["dr"] = true
	c.start("dr", p, "boot-dr")
	c.see("dr", Observation{Peer: "primary", Verdict: draas.Healthy})
	c.see("dr", Observation{Peer: "witness", Verdict: draas.Healthy})
	c.seeAll("primary", draas.Healthy, "primary")
	c.seeAll("dr", draas.Healthy, "dr")
	c.run(100 * ms)
	c.request("primary", "primary", Request{Move: MoveActivate})
	c.until(PhaseVerifying, time.Second)
	c.seeAll("primary", draas.Healthy, "dr", "witness")
	c.until(PhaseNormal, time.Second)
	if v := c.state().Version; v != 0 {
		t.Fatalf("version %d with an old member", v)
	}
	c.request("witness", "", Request{Ask: AskPause, Operator: "ann", Reason: "x", For: time.Hour})
	c.run(100 * ms)
	c.mustRefuse(ReasonPhase)
	for _, kind := range []EventKind{EventOffer, EventLag, EventFenced, EventVersion} {
		e := c.agents["witness"].event(kind, c.reading())
		e.Service, e.Hello, e.Lag, e.Version, e.Policy = "shop", &Hello{Digest: "d9"}, &Lag{}, 2, &p
		c.append(e)
	}
	c.run(100 * ms)
	if m := c.state().Members["witness"]; m.Digest != "d1" || c.state().Version != 0 {
		t.Fatalf("an event of version 2 counted: %+v", m)
	}
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.until(PhaseVerifying, time.Second) // least_outage is not known yet
	c.seeAll("dr", draas.Healthy, "primary", "witness")
	c.until(PhaseElsewhere, time.Second)

	c.extra = func() {
		if !c.open("dr") {
			t.Fatalf("a permit was lost in the upgrade\n%s", c.story())
		}
	}
	c.old["dr"] = false
	c.start("dr", p, "boot-dr")
	c.see("dr", Observation{Peer: "primary", Verdict: draas.Healthy})
	c.see("dr", Observation{Peer: "witness", Verdict: draas.Healthy})
	c.run(5 * time.Second)
	if v := c.state().Version; v != Version {
		t.Fatalf("version %d after the upgrade\n%s", v, c.story())
	}
	c.seeAll("primary", draas.Healthy, "primary")
	c.seeAll("dr", draas.Failed, "primary", "dr", "witness")
	c.run(5 * time.Second)
	c.mustRefuse(ReasonOutage)
}

// After a new start by a survivor epochs are above all that the old cluster
// may have granted.
func TestGenerationLiftsEpochs(t *testing.T) {
	c := active(t, nil)
	data, err := NewGeneration("dr", 1, time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	e, err := Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	c.append(e)
	c.dead["primary"], c.dead["witness"] = true, true
	c.run(10 * ms)
	if n := len(c.state().Members); n != 1 {
		t.Errorf("%d members are known in the new generation", n)
	}
	// Those that were lost are back, with empty disks.
	for _, m := range []draas.MemberID{"primary", "witness"} {
		c.start(m, testPolicy(), "boot-"+string(m))
		for _, other := range c.ids {
			if m != other {
				c.see(m, Observation{Peer: other, Verdict: draas.Healthy})
			}
		}
	}
	c.seeAll("primary", draas.Healthy, "primary")
	c.run(100 * ms)
	if g := c.state().Generation; g != 1 {
		t.Fatalf("generation %d\n%s", g, c.story())
	}
	c.request("witness", "dr", Request{Move: MoveSwitchover})
	c.until(PhaseVerifying, time.Second)
	if e := c.service("shop").Epoch; e != draas.EpochOf(1, 1) || e.String() != "1.1" || e.Generation() != 1 {
		t.Fatalf("epoch %s", e)
	}
	c.seeAll("dr", draas.Healthy, "primary", "witness")
	c.until(PhaseElsewhere, time.Second)
	c.request("witness", "primary", Request{Move: MoveFailback})
	c.until(PhaseVerifying, time.Second)
	if e := c.service("shop").Epoch; e != draas.EpochOf(1, 2) {
		t.Fatalf("epoch %s", e)
	}
}

// A survivor alone can bring in a file without those that were lost.
func TestSurvivorAloneChangesTheFile(t *testing.T) {
	c := active(t, nil)
	c.dead["primary"], c.dead["witness"] = true, true
	data, err := NewGeneration("dr", 1, time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	e, _ := Decode(data)
	c.append(e)
	c.run(10 * ms)
	c.offer(otherPolicy("d2", func(p *Policy) { p.Members = p.Members[:2] }), "dr")
	c.inForce("d2")
	c.request("dr", "", Request{Move: MoveFailover, Operator: "ann", Vouch: true})
	c.until(PhaseRedirecting, 3*time.Second)
	if e := c.service("shop").Epoch; e != draas.EpochOf(1, 1) {
		t.Errorf("epoch %s", e)
	}
	// Nobody is left who could look from outside: its own look completes it.
	c.until(PhaseElsewhere, time.Second)
	if text := c.last(RecordPhase).Text; !strings.Contains(text, "epoch 1.1") {
		t.Errorf("%s", text)
	}
}

// A state that nothing can go on from is refused, all of it at once.
func TestStateThatNoLogLeadsTo(t *testing.T) {
	s := State{
		Members: map[draas.MemberID]*MemberState{"dr": nil},
		Services: map[draas.ServiceID]*ServiceState{
			"none":  nil,
			"stuck": {Phase: PhaseFencing},
			"shop":  {Phase: PhaseNormal, Timers: map[string]Timer{timerPause: {}}},
		},
	}
	err := s.Validate()
	for _, want := range []string{`member "dr"`, `service "none"`, `service "stuck" is fencing and has no move`, `service "shop" measures a pause`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not tell of %s", err, want)
		}
	}
	if err := active(t, nil).state().Validate(); err != nil {
		t.Error(err)
	}
}
