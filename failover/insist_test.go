package failover

import (
	"testing"
	"time"

	"github.com/draasd/draas"
)

// pauses counts the pauses that the history tells of.
func (c *cluster) pauses() (n int) {
	for _, r := range c.history() {
		if r.Kind == RecordPause {
			n++
		}
	}
	return n
}

func settledCluster(t *testing.T) *cluster {
	c := newCluster(t, testPolicy())
	c.seeAll("primary", draas.Healthy, "primary", "dr", "witness")
	c.seeAll("dr", draas.Healthy, "primary", "dr", "witness")
	c.run(200 * ms)
	c.request("primary", "primary", Request{Move: MoveActivate})
	c.until(PhaseVerifying, time.Second)
	c.seeAll("primary", draas.Healthy, "dr", "witness")
	c.until(PhaseNormal, time.Second)
	return c
}

func pause() Request {
	return Request{Ask: AskPause, Operator: "ann", Reason: "x", For: time.Hour}
}

// What was lost on its way to the leader is proposed again: after a while, and at
// once when there is another leader.
func TestRequestIsMadeAgain(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]func(a *Agent){
		"with a message": func(*Agent) {},
		"with a leader":  (*Agent).Retry,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := settledCluster(t)
			a := c.agents["witness"]
			a.Insist(a.Request("shop", "", pause(), c.reading()), c.reading())
			c.run(100 * ms)
			if c.pauses() > 0 {
				t.Fatalf("it is proposed again before it can be lost\n%s", c.story())
			}
			lost(a)
			within := a.cfg.Resend
			if name == "with a leader" {
				within = 20 * ms
			}
			c.run(within)
			if n := c.pauses(); n != 1 {
				t.Fatalf("decided %d times\n%s", n, c.story())
			}
			entries := len(c.log)
			c.run(5 * a.cfg.Resend)
			for _, e := range c.log[entries:] {
				if e.Kind == EventRequest {
					t.Fatal("it is proposed again after it was decided")
				}
			}
		})
	}
}

func TestRequestGivenUp(t *testing.T) {
	t.Parallel()
	c := settledCluster(t)
	a := c.agents["witness"]
	e := a.Request("shop", "", pause(), c.reading())
	a.Insist(e, c.reading())
	a.GiveUp(e.ID + 1) // another one
	a.GiveUp(e.ID)
	c.run(5 * a.cfg.Resend)
	if n := c.pauses(); n != 0 {
		t.Fatalf("decided %d times\n%s", n, c.story())
	}
}

// A request that stands in the log twice is decided once, and one that a later
// one has overtaken not any more: the operator was told that it is not decided.
func TestRequestIsDecidedOnce(t *testing.T) {
	t.Parallel()
	c := settledCluster(t)
	a := c.agents["witness"]
	first := a.Request("shop", "", pause(), c.reading())
	c.append(first)
	c.run(50 * ms)
	c.request("primary", "", Request{Ask: AskResume, Operator: "bob"})
	c.run(50 * ms)
	c.append(first)
	c.run(50 * ms)
	if n := c.pauses(); n != 1 || c.service("shop").Pause != nil {
		t.Fatalf("decided %d times, and now the pause is %+v\n%s", n, c.service("shop").Pause, c.story())
	}
	overtaken := a.Request("shop", "", pause(), c.reading())
	c.append(a.Request("shop", "dr", Request{Move: MoveSwitchover, Operator: "ann"}, c.reading()))
	c.until(PhaseVerifying, time.Second)
	c.seeAll("dr", draas.Healthy, "primary", "witness")
	c.until(PhaseElsewhere, time.Second)
	c.append(overtaken)
	c.run(50 * ms)
	if n := c.pauses(); n != 1 {
		t.Fatalf("what was overtaken is decided\n%s", c.story())
	}
	// Another run of the daemon counts from one again.
	c.start("witness", testPolicy(), "boot-witness")
	c.run(300 * ms)
	again := c.agents["witness"].Request("shop", "", pause(), c.reading())
	if again.ID > first.ID {
		t.Fatalf("the new run has got to %d already", again.ID)
	}
	c.append(again)
	c.run(50 * ms)
	if n := c.pauses(); n != 2 {
		t.Fatalf("the request of another run is not decided\n%s", c.story())
	}
}

// While an older member decides with the others nothing is proposed again: it
// would decide it again.
func TestOlderMemberKeepsRequestsSingle(t *testing.T) {
	t.Parallel()
	p := testPolicy()
	c := newCluster(t, p)
	c.old["dr"] = true
	c.start("dr", p, "boot-dr")
	c.seeAll("primary", draas.Healthy, "primary")
	c.run(200 * ms)
	a := c.agents["primary"]
	a.Insist(a.Request("shop", "primary", Request{Move: MoveActivate}, c.reading()), c.reading())
	c.run(5 * a.cfg.Resend)
	for _, e := range c.log {
		if e.Kind == EventRequest {
			t.Fatal("it is proposed again")
		}
	}
}
