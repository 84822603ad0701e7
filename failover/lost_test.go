package failover

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// take lets a target wait for as long; the next waits are far longer.
func take(d time.Duration) func(*Policy) {
	return func(p *Policy) { p.Take, p.Retarget = d, time.Hour }
}

// asked is a switchover to dr in its first instant: nobody has closed yet.
func asked(t *testing.T, change func(*Policy)) *cluster {
	t.Helper()
	c := active(t, change)
	c.stuck["primary"] = true
	c.request("witness", "dr", Request{Move: MoveSwitchover, Operator: "ann"})
	c.until(PhaseFencing, time.Second)
	return c
}

// down: two members say that the daemon cannot be reached, the others can.
func (c *cluster) down(id draas.MemberID, v draas.Verdict) {
	for _, m := range c.ids {
		if m != id {
			c.see(m, Observation{Peer: id, Verdict: v})
		}
	}
}

func (c *cluster) undone(within time.Duration, why string) {
	c.t.Helper()
	took := c.until(PhaseRedirecting, within)
	if sv := c.service("shop"); sv.Active != "primary" || sv.Move.Kind != MoveUndo || !strings.Contains(sv.Move.Reason, why) {
		c.t.Fatalf("after %v %s is active by %+v, want an undo because of %q\n%s", took, sv.Active, sv.Move, why, c.story())
	}
}

// A move leaves a target that is lost at once, before and after the old holder
// has released: no clock has to run out for it.
func TestMoveLeavesALostTarget(t *testing.T) {
	lost := func(c *cluster) { c.dead["dr"] = true; c.down("dr", draas.Failed) }
	t.Run("before the release", func(t *testing.T) {
		c := asked(t, take(time.Hour))
		lost(c)
		c.undone(100*ms, "dr did not take over: the daemon at dr cannot be reached")
	})
	t.Run("after the release", func(t *testing.T) {
		c := asked(t, take(time.Hour))
		c.dead["dr"] = true
		c.stuck["primary"] = false
		c.run(500 * ms)
		if sv := c.service("shop"); !sv.Released || sv.Move.To != "dr" {
			t.Fatalf("released %v, to %s\n%s", sv.Released, sv.Move.To, c.story())
		}
		lost(c)
		c.undone(100*ms, "dr did not take over: the daemon at dr cannot be reached")
	})
	t.Run("its service has failed", func(t *testing.T) {
		c := asked(t, take(time.Hour))
		c.seeAll("dr", draas.Failed, "dr")
		c.undone(100*ms, "dr sees dr failed")
	})
	t.Run("when the old site is well again", func(t *testing.T) {
		c := active(t, take(time.Hour))
		c.stuck["primary"] = true
		c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
		c.until(PhaseFencing, time.Second)
		lost(c)
		c.run(500 * ms)
		if sv := c.service("shop"); sv.Move.To != "dr" {
			t.Fatalf("turned to %s, which is no better\n%s", sv.Move.To, c.story())
		}
		c.stuck["primary"] = false
		c.seeAll("primary", draas.Healthy, "primary")
		c.undone(100*ms, "dr did not take over")
	})
	t.Run("to a third site", func(t *testing.T) {
		c := active(t, func(p *Policy) {
			take(time.Hour)(p)
			p.Members = append(p.Members, MemberPolicy{"third", draas.RoleSite, "south"}, MemberPolicy{"fifth", draas.RoleWitness, "hill"})
			shop(func(s *ServicePolicy) { s.Sites = append(slices.Clone(s.Sites), "third") })(p)
		})
		c.seeAll("third", draas.Healthy, "third")
		c.run(100 * ms)
		c.dead["primary"] = true
		c.seeAll("primary", draas.Failed, "dr", "witness")
		c.down("primary", draas.Failed)
		c.until(PhaseFencing, time.Second)
		lost(c)
		c.until(PhaseRedirecting, 3*time.Second)
		if sv := c.service("shop"); sv.Active != "third" {
			t.Errorf("%s is active\n%s", sv.Active, c.story())
		}
	})
}

// A target that is not fit for a moment, and one that only one member misses,
// is waited for; and so is one for which there is no other.
func TestMoveWaitsForATargetThatIsNotLost(t *testing.T) {
	for name, happens := range map[string]func(*cluster){
		"its service may be failing": func(c *cluster) { c.seeAll("dr", draas.Suspect, "dr") },
		"its service is not known":   func(c *cluster) { c.seeAll("dr", draas.Unknown, "dr") },
		"one member misses it":       func(c *cluster) { c.see("witness", Observation{Peer: "dr", Verdict: draas.Failed}) },
		"the old site has failed": func(c *cluster) {
			c.seeAll("primary", draas.Failed, "primary")
			c.run(20 * ms)
			c.seeAll("dr", draas.Failed, "dr")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := asked(t, take(time.Hour))
			happens(c)
			c.run(5 * time.Second)
			if sv := c.service("shop"); sv.Phase != PhaseFencing || sv.Move.To != "dr" {
				t.Fatalf("%s to %s\n%s", sv.Phase, sv.Move.To, c.story())
			}
			c.seeAll("dr", draas.Healthy, "dr")
			c.stuck["primary"] = false
			c.until(PhaseRedirecting, 100*ms)
			if sv := c.service("shop"); sv.Active != "dr" {
				t.Errorf("%s is active\n%s", sv.Active, c.story())
			}
		})
	}
}

// Who asked for the first activation named the site: it is waited for.
func TestFirstActivationWaitsForItsSite(t *testing.T) {
	p := testPolicy()
	p.Take = 200 * ms
	c := newCluster(t, p)
	c.seeAll("primary", draas.Healthy, "primary")
	c.seeAll("dr", draas.Healthy, "dr")
	c.run(100 * ms)
	c.request("dr", "primary", Request{Move: MoveActivate})
	c.dead["primary"] = true
	c.run(100 * ms)
	c.down("primary", draas.Failed)
	c.run(2 * time.Second)
	if sv := c.service("shop"); sv.Phase != PhaseFencing || sv.Move.To != "primary" {
		t.Errorf("%s to %+v\n%s", sv.Phase, sv.Move, c.story())
	}
}

// What was released is to be taken in time, however well the target seems; a
// pause holds also this.
func TestTargetThatDoesNotTake(t *testing.T) {
	stuck := func(t *testing.T, p func(*Policy)) *cluster {
		c := asked(t, p)
		c.dead["dr"] = true // and nobody has noticed
		c.stuck["primary"] = false
		c.run(50 * ms)
		if !c.service("shop").Released {
			t.Fatalf("not released\n%s", c.story())
		}
		return c
	}
	t.Run("in time", func(t *testing.T) {
		c := stuck(t, take(900*ms))
		c.run(800 * ms)
		if c.service("shop").Move.To != "dr" {
			t.Fatalf("it did not wait\n%s", c.story())
		}
		c.undone(150*ms, "dr did not take over")
		// What the target proposed all the same comes too late.
		c.dead["dr"] = false
		c.run(time.Second)
		if sv := c.service("shop"); sv.Active != "primary" || sv.Epoch != 2 || !c.open("primary") {
			t.Errorf("%s is active under epoch %s\n%s", sv.Active, sv.Epoch, c.story())
		}
	})
	t.Run("without a bound", func(t *testing.T) {
		c := stuck(t, take(0))
		c.run(time.Minute)
		if c.service("shop").Move.To != "dr" {
			t.Fatalf("it did not wait\n%s", c.story())
		}
	})
	t.Run("paused", func(t *testing.T) {
		c := stuck(t, take(900*ms))
		e := c.agents["witness"].Request("shop", "", Request{Ask: AskPause, For: 10 * time.Second, Reason: "work"}, c.reading())
		c.append(e)
		c.run(2 * time.Second)
		c.mustRefuse(ReasonPause)
		c.down("dr", draas.Failed)
		c.run(2 * time.Second)
		if c.service("shop").Move.To != "dr" {
			t.Fatalf("it moved although it is paused\n%s", c.story())
		}
		c.run(5800 * ms)
		c.undone(400*ms, "dr did not take over")
	})
	t.Run("a device has to prove it", func(t *testing.T) {
		c := active(t, func(p *Policy) {
			take(900 * ms)(p)
			shop(func(s *ServicePolicy) {
				s.Fence, s.Devices = draas.FenceDevice, []draas.SiteID{"primary"}
			})(p)
		})
		c.device = func(FenceCommand) bool { return false }
		c.request("witness", "dr", Request{Move: MoveSwitchover})
		c.run(5 * time.Second)
		if sv := c.service("shop"); !sv.Released || sv.Move.To != "dr" {
			t.Fatalf("released %v, to %s: the device had no time\n%s", sv.Released, sv.Move.To, c.story())
		}
	})
	t.Run("and neither does the old site", func(t *testing.T) {
		c := stuck(t, take(900*ms))
		c.dead["primary"] = true
		c.run(1100 * ms)
		if sv := c.service("shop"); sv.Move.To != "primary" {
			t.Fatalf("to %s\n%s", sv.Move.To, c.story())
		}
		c.dead["dr"] = false
		c.until(PhaseRedirecting, time.Second)
		if sv := c.service("shop"); sv.Active != "dr" {
			t.Errorf("%s is active\n%s", sv.Active, c.story())
		}
	})
}

// Neither clock runs while a lease is waited out for a target that is fit.
func TestNoClockRunsBesideALease(t *testing.T) {
	c := active(t, func(p *Policy) { p.Take, p.Retarget = 500*ms, 500*ms })
	c.stuck["primary"] = true
	c.request("witness", "dr", Request{Move: MoveFailover})
	c.until(PhaseFencing, time.Second)
	c.seeAll("dr", draas.Suspect, "dr")
	c.run(300 * ms)
	c.seeAll("dr", draas.Healthy, "dr")
	c.until(PhaseRedirecting, 3*time.Second)
	if sv := c.service("shop"); sv.Active != "dr" || sv.Epoch != 2 {
		t.Errorf("%s is active under epoch %s\n%s", sv.Active, sv.Epoch, c.story())
	}
}

// Each target has a time of its own to take what is free, and the clock is gone
// when one has, or when somebody turns the move.
func TestEachTargetHasItsTime(t *testing.T) {
	c := asked(t, take(time.Second))
	c.dead["dr"], c.stuck["primary"] = true, false
	c.run(100 * ms)
	first, set := c.service("shop").Timers[timerTake]
	if !set {
		t.Fatalf("nobody measures\n%s", c.story())
	}
	c.dead["primary"] = true
	c.run(700 * ms)
	c.request("witness", "primary", Request{Move: MoveFailover, Operator: "ann"})
	c.run(50 * ms)
	second := c.service("shop").Timers[timerTake]
	if to := c.service("shop").Move.To; to != "primary" || second.Mark <= first.Mark {
		t.Errorf("turned to %s by an operator, measured from %d, before from %d", to, second.Mark, first.Mark)
	}
	c.run(700 * ms)
	c.see("witness", Observation{Peer: "primary", Verdict: draas.Failed})
	c.dead["dr"] = false
	c.see("dr", Observation{Peer: "primary", Verdict: draas.Failed})
	c.until(PhaseRedirecting, 300*ms)
	sv := c.service("shop")
	if _, set := sv.Timers[timerTake]; set || sv.Active != "dr" {
		t.Errorf("%s is active, timers %v", sv.Active, sv.Timers)
	}
}

// Where there is no other site either that is looked at again only after a
// longer while: every look is an entry of the log by each member.
func TestNobodyTakesForLong(t *testing.T) {
	c := asked(t, func(p *Policy) { p.Take, p.Retarget = 200*ms, 5*time.Second })
	c.dead["dr"], c.stuck["primary"] = true, false
	c.run(50 * ms)
	c.seeAll("primary", draas.Failed, "primary")
	c.down("dr", draas.Failed)
	c.run(250 * ms)
	c.mustRefuse(ReasonStatic)
	before := len(c.log)
	c.run(4500 * ms)
	if n := len(c.log) - before; n > 0 {
		t.Errorf("%d entries while nothing happened\n%s", n, c.story())
	}
	c.seeAll("primary", draas.Healthy, "primary")
	c.undone(50*ms, "dr did not take over")
}

// A target that takes the place of a lost one has all its time.
func TestTimeOfATargetInTheTurn(t *testing.T) {
	c := asked(t, take(time.Second))
	c.dead["dr"], c.stuck["primary"] = true, false
	c.run(700 * ms)
	first := c.service("shop").Timers[timerTake]
	c.dead["primary"] = true
	e := c.agents["witness"].event(EventObserved, c.reading())
	e.Observed = []Observation{{Peer: "dr", Verdict: draas.Failed}}
	c.append(e)
	e = c.agents["primary"].event(EventObserved, c.reading())
	e.Observed = []Observation{{Peer: "dr", Verdict: draas.Failed}}
	c.append(e)
	c.run(50 * ms)
	sv := c.service("shop")
	if second, set := sv.Timers[timerTake]; sv.Move.To != "primary" || !set || second.Mark <= first.Mark {
		t.Errorf("to %s, measured from %d, before from %d\n%s", sv.Move.To, second.Mark, first.Mark, c.story())
	}
}

// As long as one member cannot step by the new rules, all turn back by the old.
func TestOlderVersionsWaitForALostTarget(t *testing.T) {
	p := testPolicy()
	p.Take = 900 * ms
	c := newCluster(t, p)
	c.old["witness"] = true
	c.seeAll("primary", draas.Healthy, "primary")
	c.seeAll("dr", draas.Healthy, "dr")
	c.run(100 * ms)
	c.request("primary", "primary", Request{Move: MoveActivate})
	c.until(PhaseVerifying, time.Second)
	c.seeAll("primary", draas.Healthy, "dr", "witness")
	c.until(PhaseNormal, time.Second)
	c.request("witness", "dr", Request{Move: MoveSwitchover})
	c.until(PhaseFencing, time.Second)
	c.dead["dr"] = true
	c.down("dr", draas.Failed)
	c.run(2800 * ms)
	if sv := c.service("shop"); !sv.Released || sv.Move.To != "dr" {
		t.Fatalf("released %v, to %s\n%s", sv.Released, sv.Move.To, c.story())
	}
	c.undone(400*ms, "dr did not take over")
	if r := c.service("shop").Move.Reason; r != "dr did not take over" {
		t.Errorf("the reason is in other words: %q", r)
	}
}

// A site whose daemon is lost with it is not waited for to start.
func TestUndoDoesNotWaitForALostSiteToStart(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.Start = time.Minute }))
	c.request("witness", "dr", Request{Move: MoveSwitchover})
	c.until(PhaseVerifying, time.Second)
	c.seeAll("dr", draas.Failed, "primary", "witness")
	c.run(5 * time.Second)
	if sv := c.service("shop"); sv.Active != "dr" || sv.Phase != PhaseVerifying {
		t.Fatalf("%s at %s: it had no time to start\n%s", sv.Phase, sv.Active, c.story())
	}
	c.dead["dr"] = true
	c.down("dr", draas.Failed)
	c.until(PhaseFencing, 100*ms)
	c.undone(2300*ms, "dr failed before the move was complete")
}
