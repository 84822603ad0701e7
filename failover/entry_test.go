package failover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// hybrid gives shop frontends at both sites: east-1 and east-2 at the primary,
// west-1 at the DR site.
func hybrid(p *Policy) {
	shop(func(s *ServicePolicy) {
		s.Confirm = time.Second
		s.Ways = map[draas.ServiceID][]Way{"shop": {
			{Site: "primary", Frontends: []string{"east-1", "east-2"}}, {Site: "dr", Frontends: []string{"west-1"}},
		}}
	})(p)
}

var eastern, western = []string{"east-1", "east-2"}, []string{"west-1"}

// hears lets members hear frontends, or not.
func (c *cluster) hears(v draas.Verdict, frontends []string, by ...draas.MemberID) {
	for _, m := range by {
		for _, name := range frontends {
			c.see(m, Observation{Frontend: name, Verdict: v, Class: "silent"})
		}
	}
}

var everybody = []draas.MemberID{"primary", "dr", "witness"}

// entered is active, with all frontends heard by all.
func entered(t *testing.T, change func(*Policy)) *cluster {
	t.Helper()
	c := active(t, func(p *Policy) {
		hybrid(p)
		if change != nil {
			change(p)
		}
	})
	c.hears(draas.Healthy, slices.Concat(eastern, western), everybody...)
	c.run(100 * ms)
	c.enters("primary", 1, 0)
	return c
}

func (c *cluster) enters(site draas.SiteID, epoch draas.Epoch, turn uint64) {
	c.t.Helper()
	at, token, has := c.state().Leads("shop")
	if want := (runbook.Token{Epoch: epoch, Turn: turn}); !has || at != site || token != want {
		c.t.Fatalf("shop is entered at %s by %v, want %s by %v\n%s", at, token, site, want, c.story())
	}
}

func (c *cluster) count(k RecordKind, text string) int {
	n := 0
	for _, r := range c.history() {
		if r.Kind == k && strings.Contains(r.Text, text) {
			n++
		}
	}
	return n
}

// Users enter elsewhere when all frontends where they do have failed for long
// enough, as two failure domains see it, and they never go back by themselves.
func TestEntryFollowsTheFrontends(t *testing.T) {
	c := entered(t, nil)
	c.hears(draas.Failed, eastern[:1], everybody...)
	c.run(5 * time.Second)
	c.enters("primary", 1, 0) // one of two is left
	c.hears(draas.Failed, eastern[1:], "dr")
	c.run(5 * time.Second)
	c.enters("primary", 1, 0) // one vantage
	c.hears(draas.Failed, eastern[1:], "witness")
	c.run(900 * ms)
	c.enters("primary", 1, 0) // not long enough
	c.run(400 * ms)
	c.enters("dr", 1, 1)
	r := c.last(RecordEntry)
	if text := fmt.Sprint(r.Reasons); !strings.Contains(text, "witness sees frontend east-2 failed (silent)") ||
		!strings.Contains(text, "users can enter at dr") || !allOK(r.Reasons) {
		t.Errorf("the reasons do not say who says what: %s", text)
	}
	c.hears(draas.Healthy, eastern, everybody...)
	c.run(time.Minute)
	c.enters("dr", 1, 1)
	c.hears(draas.Failed, western, everybody...)
	c.run(1300 * ms)
	c.enters("primary", 1, 2)
	if sv := c.service("shop"); sv.Epoch != 1 || sv.Active != "primary" || len(sv.Timers) != 0 || sv.Turns != 2 {
		t.Errorf("the service itself is %+v", sv)
	}
	c.request("witness", "dr", Request{Move: MoveSwitchover})
	c.until(PhaseVerifying, time.Second)
	if sv := c.service("shop"); sv.Turns != 2 {
		t.Errorf("%d turns in all epochs, of 2", sv.Turns)
	}
}

// Frontends that come back in time, again and again, throw nobody to and fro.
func TestFlappingFrontendMovesNoEntry(t *testing.T) {
	c := entered(t, nil)
	for range 20 {
		c.hears(draas.Failed, eastern, everybody...)
		c.run(800 * ms)
		c.hears(draas.Healthy, eastern[:1], "witness", "dr")
		c.run(100 * ms)
	}
	c.enters("primary", 1, 0)
	if n := c.count(RecordEntry, ""); n != 0 {
		t.Errorf("%d entries\n%s", n, c.story())
	}
}

// Rule 7: when users can enter nowhere else, nothing is changed, and it is said
// once; it is made up for as soon as they can.
func TestEntryWhenNobodyHearsAFrontend(t *testing.T) {
	c := entered(t, nil)
	c.hears(draas.Failed, western, everybody...)
	c.run(100 * ms)
	c.hears(draas.Failed, eastern, everybody...)
	c.run(10 * time.Second)
	c.enters("primary", 1, 0)
	c.mustRefuse(ReasonStatic)
	for _, v := range []draas.Verdict{draas.Failed, draas.Healthy} { // other news
		c.see("witness", Observation{Peer: "dr", Verdict: v})
		c.run(100 * ms)
	}
	n := len(c.log)
	c.run(10 * time.Second)
	for _, e := range c.log[n:] {
		if e.Kind != EventRenew {
			t.Errorf("it goes on writing: %s %s", e.Kind, e.Timer)
		}
	}
	if n := c.count(RecordRefusal, "another entry"); n != 1 {
		t.Errorf("told %d times\n%s", n, c.story())
	}
	c.hears(draas.Healthy, western, "witness")
	c.run(100 * ms)
	c.enters("primary", 1, 0) // two others still say that it failed
	c.hears(draas.Healthy, western, "dr")
	c.run(100 * ms)
	c.enters("dr", 1, 1)
}

// A failure that was sat out because users could enter nowhere else is over when
// a frontend is heard again: the next one has to last anew.
func TestEntryIsLostAnew(t *testing.T) {
	c := entered(t, nil)
	c.hears(draas.Failed, slices.Concat(eastern, western), everybody...)
	c.run(5 * time.Second)
	c.hears(draas.Healthy, slices.Concat(eastern, western), everybody...)
	c.run(100 * ms)
	c.hears(draas.Failed, eastern, everybody...)
	c.run(900 * ms)
	c.enters("primary", 1, 0)
	c.run(300 * ms)
	c.enters("dr", 1, 1)
}

// A clock of the epoch before does not run into the next: there the frontends
// have to fail for long enough by themselves.
func TestEntryTimerEndsWithTheEpoch(t *testing.T) {
	c := entered(t, nil)
	c.hears(draas.Failed, eastern, everybody...)
	c.run(500 * ms)
	c.request("witness", "dr", Request{Move: MoveSwitchover})
	c.until(PhaseVerifying, 400*ms)
	c.enters("dr", 2, 0)
	if _, measured := c.service("shop").Timers[timerEntry+"shop"]; measured {
		t.Error("a timer of the old epoch runs on")
	}
}

// Who may be blind, or is out of reach himself, says nothing of a frontend.
func TestEntryWithoutBlindVantages(t *testing.T) {
	c := entered(t, nil)
	c.see("dr", Observation{Peer: "primary", Verdict: draas.Failed})
	c.see("dr", Observation{Peer: "witness", Verdict: draas.Failed})
	c.hears(draas.Failed, eastern, "dr", "witness")
	c.run(5 * time.Second)
	c.enters("primary", 1, 0)
	c.see("dr", Observation{Peer: "witness", Verdict: draas.Healthy})
	c.run(1300 * ms)
	c.enters("dr", 1, 1)
}

// A pause holds an entry too, and what it held back follows at its end.
func TestPauseHoldsTheEntry(t *testing.T) {
	c := entered(t, nil)
	c.request("dr", "", Request{Ask: AskPause, Operator: "ann", Reason: "works", For: time.Hour})
	c.run(100 * ms)
	c.hears(draas.Failed, eastern, everybody...)
	c.run(5 * time.Second)
	c.enters("primary", 1, 0)
	c.mustRefuse(ReasonPause)
	c.request("dr", "", Request{Ask: AskResume, Operator: "ann"})
	c.run(100 * ms)
	c.enters("dr", 1, 1)
}

// A move leads users to the frontends of the site that becomes active, unless
// those are known to have failed and others are not.
func TestEntryAfterAMove(t *testing.T) {
	for name, tc := range map[string]struct {
		east, west draas.Verdict
		want       draas.SiteID
	}{
		"all well":         {draas.Healthy, draas.Healthy, "dr"},
		"none known":       {draas.Unknown, draas.Unknown, "dr"},
		"there failed":     {draas.Healthy, draas.Failed, "primary"},
		"all failed":       {draas.Failed, draas.Failed, "dr"},
		"elsewhere unsure": {draas.Unknown, draas.Failed, "dr"},
	} {
		t.Run(name, func(t *testing.T) {
			c := entered(t, nil)
			c.hears(tc.east, eastern, everybody...)
			c.hears(tc.west, western, everybody...)
			c.run(100 * ms)
			c.seeAll("primary", draas.Failed, everybody...)
			c.until(PhaseVerifying, 3*time.Second)
			c.enters(tc.want, 2, 0)
			if n := c.count(RecordEntry, "no frontend leads them at dr"); n != map[draas.SiteID]int{"primary": 1}[tc.want] {
				t.Errorf("%d entries are recorded\n%s", n, c.story())
			}
		})
	}
	t.Run("elsewhere failed for most", func(t *testing.T) {
		c := entered(t, nil)
		c.hears(draas.Failed, western, everybody...)
		c.hears(draas.Failed, eastern, "primary", "dr") // and heard by the witness
		c.run(100 * ms)
		c.request("witness", "dr", Request{Move: MoveSwitchover})
		c.until(PhaseVerifying, time.Second)
		c.enters("dr", 2, 0)
	})
}

// The whole site dies: users enter at the other one under the new epoch, and no
// turn of the old one is lost or taken along.
func TestEntryWhenTheSiteDies(t *testing.T) {
	c := entered(t, nil)
	c.dead["primary"] = true
	for _, m := range []draas.MemberID{"witness", "dr"} {
		c.see(m, Observation{Peer: "primary", Verdict: draas.Failed})
	}
	c.seeAll("primary", draas.Failed, "witness", "dr")
	c.hears(draas.Failed, eastern, "witness", "dr")
	c.until(PhaseVerifying, 5*time.Second)
	c.enters("dr", 2, 0)
}

// While the permit of a lost site runs out its users are led to frontends that
// live, which hold what they ask.
func TestEntryWhileThePermitRunsOut(t *testing.T) {
	c := entered(t, func(p *Policy) { shop(func(s *ServicePolicy) { s.Lease.Length = 10 * time.Second })(p) })
	c.dead["primary"] = true
	for _, m := range []draas.MemberID{"witness", "dr"} {
		c.see(m, Observation{Peer: "primary", Verdict: draas.Failed})
	}
	c.seeAll("primary", draas.Failed, "witness", "dr")
	c.until(PhaseFencing, 10*time.Second)
	c.enters("primary", 1, 0)
	c.hears(draas.Failed, eastern, "dr", "witness")
	c.run(1100 * ms)
	if sv := c.service("shop"); sv.Phase != PhaseFencing {
		t.Fatalf("the permit is over already: %s", sv.Phase)
	}
	c.enters("dr", 1, 1)
	c.until(PhaseVerifying, 20*time.Second)
	c.enters("dr", 2, 0)
}

// An operator lets users enter elsewhere, where a frontend may be.
func TestOperatorEnters(t *testing.T) {
	c := entered(t, nil)
	ask := func(site draas.SiteID, r Request) {
		r.Ask = AskEnter
		c.request("witness", site, r)
		c.run(100 * ms)
	}
	ask("primary", Request{})
	c.mustRefuse(ReasonWay)
	ask("north", Request{})
	c.mustRefuse(ReasonWay)
	ask("", Request{})
	c.mustRefuse(ReasonWay)
	ask("dr", Request{Expect: 7})
	c.mustRefuse(ReasonEpoch)
	c.hears(draas.Failed, western, everybody...)
	c.run(100 * ms)
	ask("dr", Request{})
	c.mustRefuse(ReasonWay)
	c.enters("primary", 1, 0)
	c.hears(draas.Unknown, western, everybody...)
	c.run(100 * ms)
	ask("dr", Request{Operator: "ann", Reason: "works on the east side"})
	c.enters("dr", 1, 1)
	if r := c.last(RecordEntry); r.Text != "users of shop enter at dr, epoch 1 turn 1: ann asked for it: works on the east side" || r.By != "witness" || r.ID == 0 {
		t.Errorf("%+v", r)
	}
	c.request("witness", "dr", Request{Move: MoveSwitchover})
	c.until(PhaseVerifying, time.Second)
	ask("primary", Request{})
	c.mustRefuse(ReasonPhase)
	c.enters("dr", 2, 0)
}

// A service without ways has no entry, and a request for one is refused.
func TestNoEntryWithoutWays(t *testing.T) {
	c := active(t, nil)
	c.enters("primary", 1, 0)
	c.request("dr", "dr", Request{Ask: AskEnter})
	c.run(100 * ms)
	c.mustRefuse(ReasonWay)
	c.hears(draas.Failed, eastern, everybody...)
	c.run(5 * time.Second)
	if m := c.state().Members["dr"]; m.Frontends != nil || c.service("shop").Entries != nil {
		t.Errorf("%+v", m)
	}
	for _, e := range c.log {
		for _, o := range e.Observed {
			if o.Frontend != "" {
				t.Fatalf("%s tells of frontend %s, which no rule has", e.By, o.Frontend)
			}
		}
	}
	if site, _, has := newCluster(t, testPolicy()).state().Leads("shop"); has {
		t.Errorf("a service that was never active leads to %s", site)
	}
}
