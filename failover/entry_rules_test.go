package failover

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Each part of a group has an entry of its own.
func TestEntriesOfAGroup(t *testing.T) {
	c := newCluster(t, func() Policy {
		p := testPolicy()
		group(&p)
		unit := p.Services["shop"]
		unit.Ways = make(map[draas.ServiceID][]Way)
		for _, part := range unit.Parts {
			unit.Ways[part] = []Way{{"primary", []string{"east-" + string(part)}}, {"dr", []string{"west-" + string(part)}}}
		}
		p.Services["shop"] = unit
		return p
	}())
	parts := c.agents["dr"].cfg.Policy.Services["shop"].Parts
	for _, part := range parts {
		for _, site := range []draas.SiteID{"primary", "dr"} {
			c.seePart(part, site, draas.Healthy, everybody...)
		}
		c.hears(draas.Healthy, []string{"east-" + string(part), "west-" + string(part)}, everybody...)
	}
	c.run(100 * ms)
	c.request("primary", "primary", Request{Move: MoveActivate})
	c.until(PhaseVerifying, 2*time.Second)
	for _, part := range parts {
		c.seePart(part, "primary", draas.Healthy, "dr", "witness")
	}
	c.until(PhaseNormal, time.Second)
	c.hears(draas.Failed, []string{"east-" + string(parts[0])}, everybody...)
	c.run(1500 * ms)
	for i, part := range parts {
		want := []draas.SiteID{"dr", "primary"}[min(i, 1)]
		if at, token, _ := c.state().Leads(part); at != want || token.Turn != uint64(1-min(i, 1)) {
			t.Errorf("%s is entered at %s by %v", part, at, token)
		}
	}
}

// Rules that come or go between moves never take a name back to an older turn,
// nor leave it where no way is.
func TestEntryUnderOtherRules(t *testing.T) {
	c := entered(t, nil)
	c.hears(draas.Failed, eastern, everybody...)
	c.run(1500 * ms)
	c.enters("dr", 1, 1)
	c.offer(otherPolicy("d2", nil), everybody...) // the DNS scheme now
	c.inForce("d2")
	c.enters("primary", 1, 2)
	if m := c.state().Members["dr"]; len(m.Frontends) != 0 {
		t.Errorf("still known: %v", m.Frontends)
	}
	c.offer(otherPolicy("d3", hybrid), everybody...)
	c.inForce("d3")
	c.hears(draas.Healthy, slices.Concat(eastern, western), everybody...)
	c.run(2 * time.Second)
	c.enters("primary", 1, 2)
	c.offer(otherPolicy("d4", func(p *Policy) {
		hybrid(p)
		shop(func(s *ServicePolicy) { s.Ways["shop"] = s.Ways["shop"][1:] })(p)
	}), everybody...)
	c.inForce("d4")
	c.enters("dr", 1, 3)
	c.offer(otherPolicy("d5", nil), everybody...)
	c.inForce("d5")
	c.enters("primary", 1, 4)
	c.request("witness", "dr", Request{Move: MoveSwitchover})
	c.until(PhaseVerifying, time.Second)
	c.enters("dr", 2, 0)
	if c.service("shop").Entries != nil {
		t.Errorf("%+v", c.service("shop").Entries)
	}
}

// A unit that takes over the services of others goes on with the most turns that
// any had: the serials of zones grow with them.
func TestTurnsGoOnInAnotherUnit(t *testing.T) {
	c := entered(t, nil)
	c.request("witness", "dr", Request{Ask: AskEnter})
	c.run(100 * ms)
	c.offer(otherPolicy("d2", func(p *Policy) {
		s := p.Services["shop"]
		s.Parts = []draas.ServiceID{"shop", "bill"}
		p.Services = map[draas.ServiceID]ServicePolicy{"crm": s}
	}), everybody...)
	c.inForce("d2")
	if was, is := c.service("shop").Turns, c.service("crm").Turns; was != 1 || is != 1 {
		t.Errorf("%d and %d turns, of 1", was, is)
	}
}

// A service that gets ways while it is active elsewhere enters there by the
// token that its name has; one whose site has none, by a later one.
func TestEntryOfNewWays(t *testing.T) {
	c := active(t, nil)
	c.offer(otherPolicy("d2", hybrid), everybody...)
	c.inForce("d2")
	c.enters("primary", 1, 0)
	c = active(t, nil)
	c.offer(otherPolicy("d2", func(p *Policy) {
		hybrid(p)
		shop(func(s *ServicePolicy) { s.Ways["shop"] = s.Ways["shop"][1:] })(p)
	}), everybody...)
	c.inForce("d2")
	c.enters("dr", 1, 1)
}

// While one member steps by version 2, nobody hears frontends, enters anywhere
// or tells of findings; when all step by version 3, users enter where they are.
func TestEntryWaitsForVersion3(t *testing.T) {
	p := testPolicy()
	hybrid(&p)
	c := newCluster(t, p)
	older := func(version int) {
		cfg := c.agents["dr"].cfg
		cfg.Version, cfg.Incarnation = version, cfg.Incarnation+1
		c.agents["dr"], c.applied["dr"] = NewAgent(cfg, c.reading()), 0
		for _, m := range []draas.MemberID{"primary", "witness"} {
			c.see("dr", Observation{Peer: m, Verdict: draas.Healthy})
		}
		c.seeAll("dr", draas.Healthy, "dr")
	}
	older(2)
	c.seeAll("primary", draas.Healthy, "primary")
	c.hears(draas.Healthy, western, everybody...)
	c.hears(draas.Failed, eastern, everybody...)
	c.run(100 * ms)
	c.request("primary", "primary", Request{Move: MoveActivate})
	c.until(PhaseVerifying, 2*time.Second)
	c.seeAll("primary", draas.Healthy, "dr", "witness")
	c.until(PhaseNormal, time.Second)
	c.agents["primary"].Find(Finding{Service: "shop", Epoch: 1, Step: "dns", Code: FoundChanged})
	e := c.agents["witness"].event(EventFinding, c.reading())
	e.Finding = &Finding{Service: "shop", Epoch: 1, Step: "dns", Code: FoundChanged}
	c.append(e)
	e = c.agents["witness"].event(EventObserved, c.reading())
	e.Observed = []Observation{{Frontend: "west-1", Verdict: draas.Healthy}}
	c.append(e)
	c.request("witness", "dr", Request{Ask: AskEnter})
	c.run(3 * time.Second)
	c.mustRefuse(ReasonPhase)
	c.enters("primary", 1, 0)
	sv := c.service("shop")
	if v := c.state().Version; v != 2 || sv.Entries != nil || sv.Findings != nil || c.count(RecordFinding, "") != 0 || c.state().Members["witness"].Frontends != nil {
		t.Fatalf("version %d, %+v\n%s", v, sv, c.story())
	}
	older(3)
	c.hears(draas.Healthy, western, "dr")
	c.hears(draas.Failed, eastern, "dr")
	c.run(2 * time.Second)
	if v := c.state().Version; v != 3 {
		t.Fatalf("version %d\n%s", v, c.story())
	}
	c.enters("dr", 1, 1)
	if c.count(RecordFinding, "users are not led as decided (dns)") != 1 {
		t.Errorf("the finding did not come\n%s", c.story())
	}
}

// Whatever is heard of frontends, asked for and decided: an entry stands where
// a way is, its token never goes back, and two moves of it within an epoch lie
// a confirmation apart unless a person asked.
func TestEntryAtRandom(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := entered(t, nil)
		c.hears(draas.Healthy, slices.Concat(eastern, western), everybody...)
		var last runbook.Token
		var at draas.SiteID
		since, asked := c.now, false
		c.extra = func() {
			site, token, has := c.state().Leads("shop")
			if !has {
				rt.Fatal("it leads nowhere")
			}
			if d := token.Compare(last); d < 0 || d == 0 && site != at && at != "" {
				rt.Fatalf("%v led to %s, now %v to %s\n%s", last, at, token, site, c.story())
			}
			if token.Epoch == last.Epoch && token.Turn > last.Turn && !asked {
				if c.now-since < time.Second {
					rt.Fatalf("moved on after %v\n%s", c.now-since, c.story())
				}
			}
			if token != last {
				since, asked = c.now, false
			}
			last, at = token, site
		}
		for range rapid.IntRange(5, 25).Draw(rt, "events") {
			v := rapid.SampledFrom([]draas.Verdict{draas.Healthy, draas.Failed, draas.Unknown}).Draw(rt, "verdict")
			m := rapid.SampledFrom(everybody).Draw(rt, "member")
			names := rapid.SampledFrom([][]string{eastern, western, eastern[:1]}).Draw(rt, "frontends")
			switch rapid.IntRange(0, 9).Draw(rt, "what") {
			case 0:
				asked = true
				c.request(m, rapid.SampledFrom([]draas.SiteID{"primary", "dr"}).Draw(rt, "site"), Request{Ask: AskEnter})
			case 1:
				c.request(m, "", Request{Move: MoveFailover})
			default:
				c.hears(v, names, m)
			}
			c.run(rapid.SampledFrom([]time.Duration{20 * ms, 300 * ms, 1500 * ms}).Draw(rt, "wait"))
			asked = false
		}
	})
}
