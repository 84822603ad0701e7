package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// shop changes the service's rules of the test policy.
func shop(change func(*ServicePolicy)) func(*Policy) {
	return func(p *Policy) {
		s := p.Services["shop"]
		change(&s)
		p.Services["shop"] = s
	}
}

// bounce fails the active site and brings the move to an end, the old site
// well again.
func (c *cluster) bounce() {
	c.t.Helper()
	from := c.service("shop").Active
	to := draas.SiteID("dr")
	if from == "dr" {
		to = "primary"
	}
	c.seeAll(from, draas.Failed, "primary", "dr", "witness")
	c.until(PhaseVerifying, 48*time.Hour)
	c.seeAll(from, draas.Healthy, from.Member())
	c.seeAll(to, draas.Healthy, "primary", "dr", "witness")
	c.run(100 * ms)
	if sv := c.service("shop"); sv.Phase.Moving() || sv.Active != to {
		c.t.Fatalf("%s, active at %s\n%s", sv.Phase, sv.Active, c.story())
	}
}

// Each completed automatic move that nobody acknowledges doubles the hold, up
// to its bound; an acknowledgement ends the hold and starts over.
func TestHoldGrowsUntilAcknowledged(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.Hold, s.HoldMax = 10*time.Second, 30*time.Second }))
	for i, want := range []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second, 30 * time.Second} {
		start := c.now
		c.bounce()
		if i > 0 && c.now-start < 10*time.Second {
			t.Fatalf("move %d came %v after the one before", i, c.now-start)
		}
		if got := c.service("shop").Timers[timerHold].After; got != want {
			t.Fatalf("after %d moves the hold is %v, want %v", i+1, got, want)
		}
	}
	c.request("dr", "", Request{Ask: AskAcknowledge, Operator: "ann"})
	c.run(100 * ms)
	if r := c.last(RecordAcknowledge); !strings.Contains(r.Text, "4 automatic moves") {
		t.Errorf("acknowledged: %s", r.Text)
	}
	start := c.now
	c.bounce()
	if c.now-start > 5*time.Second {
		t.Errorf("the move after the acknowledgement took %v", c.now-start)
	}
	if got := c.service("shop").Timers[timerHold].After; got != 10*time.Second {
		t.Errorf("the hold after an acknowledgement is %v", got)
	}
}

// An operator's own moves do not make the hold grow.
func TestOperatorsMovesDoNotLetTheHoldGrow(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.Hold, s.HoldMax = 10*time.Second, time.Hour }))
	for range 3 {
		to := draas.SiteID("dr")
		if c.service("shop").Active == "dr" {
			to = "primary"
		}
		c.request("witness", to, Request{Move: MoveFailover, Operator: "ann"})
		c.until(PhaseVerifying, 5*time.Second)
		c.seeAll(to, draas.Healthy, "primary", "dr", "witness")
		c.run(100 * ms)
	}
	if sv := c.service("shop"); sv.Unacked != 0 || sv.Timers[timerHold].After != 10*time.Second {
		t.Errorf("%d unacknowledged, hold %v", sv.Unacked, sv.Timers[timerHold].After)
	}
}

// Paused means paused: no automatic move, no undo, no turning back; an
// operator's move goes. It ends by itself, and what stands then is decided.
func TestPause(t *testing.T) {
	c := active(t, nil)
	c.request("witness", "", Request{Ask: AskPause, Operator: "ann", Reason: "storage work", For: 20 * time.Second})
	c.run(100 * ms)
	c.last(RecordPause)
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.run(10 * time.Second)
	c.mustRefuse(ReasonPause)
	if c.service("shop").Epoch != 1 {
		t.Fatalf("moved while paused\n%s", c.story())
	}
	took := c.until(PhaseVerifying, 15*time.Second)
	if took < 8*time.Second {
		t.Fatalf("moved %v before the end of the pause\n%s", took, c.story())
	}
	if r := c.last(RecordResume); !strings.Contains(r.Text, "ann") {
		t.Errorf("the end of the pause: %s", r.Text)
	}
}

func TestPauseStopsUndoAndTurningBack(t *testing.T) {
	c := active(t, nil)
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.until(PhaseVerifying, time.Second)
	c.request("witness", "", Request{Ask: AskPause, Operator: "ann", Reason: "let me look", For: time.Hour})
	c.seeAll("primary", draas.Healthy, "primary")
	c.seeAll("dr", draas.Failed, "primary", "dr", "witness")
	c.run(10 * time.Second)
	if sv := c.service("shop"); sv.Epoch != 2 {
		t.Fatalf("undone while paused\n%s", c.story())
	}
	c.mustRefuse(ReasonPause)
	c.request("witness", "primary", Request{Move: MoveFailover, Operator: "ann"})
	c.run(time.Second)
	if sv := c.service("shop"); sv.Active != "primary" || sv.Epoch != 3 {
		t.Fatalf("an operator cannot move while paused\n%s", c.story())
	}
	c.seeAll("primary", draas.Healthy, "primary", "dr", "witness")
	c.seeAll("dr", draas.Healthy, "dr")
	c.until(PhaseNormal, 2*time.Second)

	c.stuck["primary"] = true
	c.request("witness", "dr", Request{Move: MoveSwitchover, Operator: "ann"})
	c.run(10 * time.Second)
	if sv := c.service("shop"); sv.Phase != PhaseFencing || sv.Move.Kind != MoveSwitchover {
		t.Fatalf("turned back while paused\n%s", c.story())
	}
	c.request("witness", "", Request{Ask: AskResume, Operator: "ann"})
	c.run(4 * time.Second)
	if sv := c.service("shop"); sv.Move.Kind != MoveUndo {
		t.Fatalf("not turned back after the pause\n%s", c.story())
	}
}

func TestAsksThatAreRefused(t *testing.T) {
	c := active(t, nil)
	for _, r := range []Request{
		{Ask: AskPause, For: time.Hour},
		{Ask: AskPause, Reason: "x"},
		{Ask: AskPause, Reason: "x", For: MaxPause + 1},
		{Ask: AskResume},
		{Ask: "sing"},
		{Ask: AskPause, Move: MoveFailover, Reason: "x", For: time.Hour},
	} {
		before := len(c.history())
		c.request("dr", "", r)
		c.run(100 * ms)
		h := c.history()[before:]
		if len(h) != 1 || h[0].Kind != RecordRefusal || allOK(h[0].Reasons) {
			t.Errorf("%+v gave %+v", r, h)
		}
	}
	if sv := c.service("shop"); sv.Pause != nil || sv.Epoch != 1 {
		t.Errorf("%+v", sv)
	}
}

// An outage shorter than the least one worth a failover is sat out, and the
// next one is measured from its own start.
func TestLeastOutage(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.LeastOutage, s.Confirm = 60*time.Second, time.Second }))
	for range 2 {
		c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
		c.run(43 * time.Second) // GitHub, October 2018
		c.mustRefuse(ReasonOutage)
		c.seeAll("primary", draas.Healthy, "primary", "dr", "witness")
		c.until(PhaseNormal, time.Second)
	}
	start := c.now
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.run(30 * time.Second)
	// One vantage changes its mind twice: the outage lasts all the same.
	c.seeAll("primary", draas.Healthy, "dr", "witness")
	c.run(time.Second)
	c.seeAll("primary", draas.Failed, "dr", "witness")
	c.until(PhaseFencing, 40*time.Second)
	if took := c.now - start; took < 60*time.Second || took > 62*time.Second {
		t.Errorf("moved after %v\n%s", took, c.story())
	}
}

// Once the least outage has passed it is not waited for again in the same
// trouble.
func TestLeastOutageIsWaitedForOnce(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.LeastOutage, s.Confirm = 5*time.Second, 10*time.Second }))
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.run(8 * time.Second)
	c.seeAll("primary", draas.Healthy, "dr", "witness")
	c.run(time.Second)
	c.seeAll("primary", draas.Failed, "dr", "witness")
	if took := c.until(PhaseFencing, 20*time.Second); took > 10100*ms {
		t.Errorf("moved %v after it was sure again\n%s", took, c.story())
	}
	if n := strings.Count(c.story(), "is not worth a failover"); n != 0 {
		t.Errorf("waited for again\n%s", c.story())
	}
}

// While the active site's daemon lives a restart there is cheaper; once it is
// gone nobody restarts anything there.
func TestRestartWouldBeCheaper(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.Restart = 20 * time.Second }))
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.run(15 * time.Second)
	c.mustRefuse(ReasonRestart)
	c.seeAll("primary", draas.Healthy, "primary", "dr", "witness")
	c.until(PhaseNormal, time.Second)

	start := c.now
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.until(PhaseVerifying, 30*time.Second)
	if took := c.now - start; took < 20*time.Second || took > 21*time.Second {
		t.Errorf("moved after %v", took)
	}

	c = active(t, shop(func(s *ServicePolicy) { s.Restart = 20 * time.Second }))
	c.dead["primary"] = true
	c.seeAll("primary", draas.Failed, "dr", "witness")
	for _, m := range []draas.MemberID{"witness", "dr"} {
		c.see(m, Observation{Peer: "primary", Verdict: draas.Failed})
	}
	if took := c.until(PhaseFencing, 5*time.Second); took > time.Second {
		t.Errorf("waited %v for a dead site to restart its service", took)
	}
}

// A site whose service keeps failing is no target of an automatic move until
// it was steady; an operator may send the service there.
func TestFlapDamping(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.Flaps, s.Steady = 3, 10*time.Second }))
	for range 3 {
		c.seeAll("dr", draas.Failed, "dr")
		c.run(100 * ms)
		c.seeAll("dr", draas.Healthy, "dr")
		c.run(100 * ms)
	}
	c.last(RecordFlaps)
	for range 5 { // others' trouble with the way is not the site's
		c.seeAll("primary", draas.Failed, "witness")
		c.run(100 * ms)
		c.seeAll("primary", draas.Healthy, "witness")
		c.run(100 * ms)
	}
	if n := c.service("shop").Flaps["primary"]; n != 0 {
		t.Errorf("%d failures counted that primary did not see", n)
	}
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.run(4 * time.Second)
	c.mustRefuse(ReasonFlaps)
	c.until(PhaseVerifying, 6*time.Second)

	c = active(t, shop(func(s *ServicePolicy) { s.Flaps, s.Steady = 1, time.Hour }))
	c.seeAll("dr", draas.Failed, "dr")
	c.run(100 * ms)
	c.seeAll("dr", draas.Healthy, "dr")
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.run(time.Second)
	c.mustRefuse(ReasonFlaps)
	c.request("dr", "", Request{Ask: AskAcknowledge, Operator: "ann"})
	c.until(PhaseVerifying, time.Second)

	c = active(t, shop(func(s *ServicePolicy) { s.Flaps, s.Steady, s.Automatic = 1, time.Hour, false }))
	c.seeAll("dr", draas.Failed, "dr")
	c.run(100 * ms)
	c.seeAll("dr", draas.Healthy, "dr")
	c.run(100 * ms)
	c.request("dr", "dr", Request{Move: MoveSwitchover, Operator: "ann"})
	c.until(PhaseVerifying, time.Second)
}

// The data-loss guard: what is not known, or too far behind, does not take
// over; in trouble the copy's age as of before counts; an operator may allow
// the loss, for one move.
func TestDataLossGuard(t *testing.T) {
	guard := shop(func(s *ServicePolicy) { s.MaxLoss, s.Confirm = 10*time.Second, time.Second })
	for _, tc := range []struct {
		name  string
		lag   *Lag
		moves bool
	}{
		{"never told", nil, false},
		{"not known", &Lag{}, false},
		{"within", &Lag{Known: true, Behind: 10 * time.Second}, true},
		{"beyond", &Lag{Known: true, Behind: 11 * time.Second}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := active(t, guard)
			if tc.lag != nil {
				c.agents["dr"].Lag("shop", *tc.lag)
			}
			c.run(100 * ms)
			c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
			c.run(100 * ms)
			// The copy of a dead site ages by the clock alone.
			c.agents["dr"].Lag("shop", Lag{Known: true, Behind: time.Hour})
			c.run(5 * time.Second)
			if moved := c.service("shop").Epoch == 2; moved != tc.moves {
				t.Fatalf("moved: %t\n%s", moved, c.story())
			}
			if tc.moves {
				if lags := c.service("shop").Lags; len(lags) != 0 {
					t.Errorf("lags %v of before the move are believed after it", lags)
				}
				return
			}
			c.mustRefuse(ReasonLoss)
			c.request("dr", "", Request{Move: MoveFailover, Operator: "ann"})
			c.run(100 * ms)
			c.mustRefuse(ReasonLoss)
			c.request("dr", "", Request{Move: MoveFailover, Operator: "ann", AllowDataLoss: true})
			c.until(PhaseVerifying, 3*time.Second)
			// One-shot: back again needs another word.
			c.seeAll("primary", draas.Healthy, "primary")
			c.seeAll("dr", draas.Healthy, "primary", "witness", "dr")
			c.until(PhaseElsewhere, time.Second)
			c.request("dr", "", Request{Move: MoveFailback, Operator: "ann"})
			c.run(100 * ms)
			c.mustRefuse(ReasonLoss)
		})
	}
}

// A copy that catches up during the trouble lets the move go.
func TestCopyCatchesUp(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.MaxLoss = 10 * time.Second }))
	c.agents["dr"].Lag("shop", Lag{Known: true, Behind: time.Minute})
	c.run(100 * ms)
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.run(time.Second)
	c.mustRefuse(ReasonLoss)
	c.agents["dr"].Lag("shop", Lag{Known: true, Behind: time.Second})
	c.until(PhaseVerifying, time.Second)
}

// Lags are told when they matter, not by the second.
func TestLagIsToldSparsely(t *testing.T) {
	c := active(t, shop(func(s *ServicePolicy) { s.MaxLoss = 60 * time.Second }))
	before := len(c.log)
	for i := range 100 {
		c.agents["dr"].Lag("shop", Lag{Known: true, Behind: time.Duration(i%10) * time.Second})
		c.run(100 * ms)
	}
	lags := 0
	for _, e := range c.log[before:] {
		if e.Kind == EventLag {
			lags++
		}
	}
	if lags != 1 {
		t.Errorf("%d entries for a lag that changed nothing", lags)
	}
}

// Where the old site serves on without its lease, or nothing closes it, only a
// device or a person's word lets another take over.
func TestTakingOverWithoutALease(t *testing.T) {
	serve := func(s *ServicePolicy) { s.OnLeaseLoss = draas.LeaseLossServe }
	device := func(s *ServicePolicy) { s.Fence, s.Devices = draas.FenceDevice, []draas.SiteID{"primary", "dr"} }
	none := func(s *ServicePolicy) { s.Fence = draas.FenceNone }
	lose := func(c *cluster) {
		c.dead["primary"] = true
		c.seeAll("primary", draas.Failed, "dr", "witness")
		for _, m := range []draas.MemberID{"witness", "dr"} {
			c.see(m, Observation{Peer: "primary", Verdict: draas.Failed})
		}
	}
	for name, change := range map[string]func(*ServicePolicy){"serve": serve, "none": none} {
		t.Run(name, func(t *testing.T) {
			c := active(t, shop(change))
			lose(c)
			c.run(10 * time.Second)
			c.mustRefuse(ReasonProof)
			c.request("dr", "", Request{Move: MoveFailover, Operator: "ann"})
			c.run(5 * time.Second)
			c.mustRefuse(ReasonProof)
			if c.service("shop").Epoch != 1 {
				t.Fatalf("taken over without a proof\n%s", c.story())
			}
			c.request("dr", "", Request{Move: MoveFailover, Operator: "ann", Vouch: true})
			c.until(PhaseRedirecting, time.Second)
			if m := c.service("shop").Move; !strings.Contains(m.Evidence, "ann vouches") {
				t.Errorf("evidence: %s", m.Evidence)
			}
		})
	}
	t.Run("device", func(t *testing.T) {
		c := active(t, shop(device))
		answers := 0
		c.device = func(f FenceCommand) bool {
			if f.Site != "primary" || f.Epoch != 1 || f.Service != "shop" {
				t.Errorf("asked to switch off %+v", f)
			}
			answers++
			return answers > 100
		}
		lose(c)
		c.run(800 * ms)
		if sv := c.service("shop"); sv.Epoch != 1 || sv.Phase != PhaseFencing {
			t.Fatalf("%s under %d before the device answered\n%s", sv.Phase, sv.Epoch, c.story())
		}
		c.until(PhaseRedirecting, time.Second)
		if m := c.service("shop").Move; !strings.Contains(m.Evidence, "off, confirmed") {
			t.Errorf("evidence: %s", m.Evidence)
		}
	})
	t.Run("device and a planned move", func(t *testing.T) {
		c := active(t, shop(device))
		released := false
		c.device = func(FenceCommand) bool { released = c.service("shop").Released; return true }
		c.request("witness", "dr", Request{Move: MoveSwitchover})
		c.until(PhaseVerifying, time.Second)
		if !released {
			t.Error("the old site was switched off before it could stop in order")
		}
	})
	t.Run("serve and a device", func(t *testing.T) {
		c := active(t, shop(func(s *ServicePolicy) { serve(s); s.Devices = []draas.SiteID{"primary"} }))
		lose(c)
		c.until(PhaseRedirecting, time.Second)
	})
	t.Run("serve hands over", func(t *testing.T) {
		c := active(t, shop(serve))
		c.device = func(FenceCommand) bool { t.Error("a device was asked"); return false }
		c.request("witness", "dr", Request{Move: MoveSwitchover})
		c.until(PhaseVerifying, time.Second)
	})
	// The device does not answer: the move turns back, or a person vouches.
	t.Run("device is silent", func(t *testing.T) {
		c := active(t, shop(device))
		c.device = func(FenceCommand) bool { return false }
		c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
		c.until(PhaseFencing, time.Second)
		c.seeAll("primary", draas.Healthy, "primary")
		c.until(PhaseVerifying, 5*time.Second)
		if sv := c.service("shop"); sv.Active != "primary" || sv.Move.Kind != MoveUndo || !strings.Contains(sv.Move.Reason, "device") {
			t.Fatalf("%+v\n%s", sv.Move, c.story())
		}
	})
	t.Run("device is silent, vouched", func(t *testing.T) {
		c := active(t, shop(device))
		c.device = func(FenceCommand) bool { return false }
		lose(c)
		c.until(PhaseFencing, time.Second)
		c.request("dr", "", Request{Move: MoveFailover, Operator: "ann", Vouch: true})
		c.until(PhaseRedirecting, 500*ms)
	})
	// The log itself takes no activation without the proof.
	t.Run("activation without proof is void", func(t *testing.T) {
		c := active(t, shop(device))
		c.device = func(FenceCommand) bool { return false }
		lose(c)
		c.until(PhaseFencing, time.Second)
		a := c.agents["dr"]
		e := a.event(EventActivate, c.reading())
		e.Service, e.Site, e.Epoch = "shop", "dr", 2
		c.append(e)
		f := c.agents["witness"].event(EventFenced, c.reading())
		f.Service, f.Site, f.Epoch = "shop", "primary", 1
		c.append(f)
		c.run(200 * ms)
		if sv := c.service("shop"); sv.Epoch != 1 || sv.Fenced {
			t.Fatalf("%+v\n%s", sv, c.story())
		}
	})
}
