package failover

import (
	"testing"
	"time"

	"github.com/draasd/draas"
)

// copied is a cluster whose active site's machine was copied: the copy comes up
// on a boot of its own, and the original goes on serving under its permit,
// unheard.
func copied(t *testing.T) *cluster {
	t.Helper()
	c := active(t, nil)
	original := *c.gates["primary"]
	c.ids = append(c.ids, "original")
	c.gates["original"], c.dead["original"] = &original, true
	c.gates["primary"] = &gate{}
	c.boot()
	return c
}

func (c *cluster) boot() {
	c.start("primary", testPolicy(), "another boot")
	for _, m := range []draas.MemberID{"dr", "witness"} {
		c.see("primary", Observation{Peer: m, Verdict: draas.Healthy})
	}
	c.seeAll("primary", draas.Healthy, "primary")
}

// Found by the model: a copy may not speak for the machine that it was copied
// from until that one's permit is over. Each round checks that one serves.
func TestCopyOfAMachine(t *testing.T) {
	for name, disturb := range map[string]func(*cluster){
		"renews":             func(*cluster) {},
		"is restarted":       func(c *cluster) { c.run(100 * ms); c.boot() },
		"is restarted twice": func(c *cluster) { c.run(900 * ms); c.boot(); c.run(100 * ms); c.boot() },
		"releases":           func(c *cluster) { c.request("witness", "dr", Request{Move: MoveSwitchover}) },
		"takes back": func(c *cluster) {
			c.request("witness", "dr", Request{Move: MoveFailover})
			c.request("witness", "primary", Request{Move: MoveFailover})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := copied(t)
			c.run(50 * ms)
			if !c.open("original") {
				t.Fatal("nothing is left to be waited out")
			}
			disturb(c)
			c.run(6 * time.Second)
			if !c.open("primary") && !c.open("dr") {
				t.Fatalf("nobody serves in the end\n%s", c.story())
			}
			if c.state().Members["primary"].Moved {
				t.Error("it never settles")
			}
		})
	}
}

// Found by the model: the first renewal under a shorter lease does not shorten
// the wait for the longer deadline that the guard still holds.
func TestRenewalDoesNotShortenOldPermits(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.Lease.Length = 20 * time.Second }))
	c.offer(otherPolicy("d2", nil), "primary", "dr", "witness")
	c.inForce("d2")
	c.run(time.Second)
	c.dead["primary"] = true
	for _, m := range []draas.MemberID{"dr", "witness"} {
		c.see(m, Observation{Peer: "primary", Verdict: draas.Failed})
	}
	c.seeAll("primary", draas.Failed, "dr", "witness")
	c.until(PhaseRedirecting, 25*time.Second)
	c.run(100 * ms)
}

// Found by the model: nor does the old site's taking back end the wait for it.
// Its guard did not hear of that, and holds the deadline of the epoch before.
func TestTakingBackDoesNotShortenOldPermits(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.Lease.Length = 20 * time.Second }))
	c.stuck["primary"] = true
	c.offer(otherPolicy("d2", nil), "primary", "dr", "witness")
	c.inForce("d2")
	c.request("witness", "dr", Request{Move: MoveSwitchover})
	c.until(PhaseFencing, time.Second)
	c.until(PhaseRedirecting, 5*time.Second)
	if sv := c.service("shop"); sv.Active != "primary" || sv.Epoch != 2 || !c.open("primary") {
		t.Fatalf("the move was not turned back\n%s", c.story())
	}
	snapshot := *c.state()
	c.start("dr", otherPolicy("d2", nil), "boot-dr")
	c.agents["dr"].Restore(snapshot, c.reading()) // it has seen nothing of the old lease
	c.applied["dr"] = len(c.log)
	c.dead["primary"] = true
	for _, m := range []draas.MemberID{"dr", "witness"} {
		c.see(m, Observation{Peer: "primary", Verdict: draas.Failed})
	}
	c.see("dr", Observation{Peer: "witness", Verdict: draas.Healthy})
	c.seeAll("dr", draas.Healthy, "dr")
	c.seeAll("primary", draas.Failed, "dr", "witness")
	for end := c.now + 40*time.Second; !c.open("dr"); c.run(10 * ms) {
		if c.now > end {
			t.Fatalf("dr never takes over\n%s", c.story())
		}
	}
}
