package failover

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

func TestNobodyIsActiveBeforeActivate(t *testing.T) {
	c := newCluster(t, testPolicy())
	c.seeAll("primary", draas.Healthy, "primary")
	c.run(5 * time.Second)
	if sv := c.service("shop"); sv.Phase != PhaseInactive || c.open("primary") || c.open("dr") {
		t.Fatalf("phase %s without an activation", sv.Phase)
	}
	c.request("primary", "dr", Request{Move: MoveActivate})
	c.run(100 * ms)
	c.mustRefuse(ReasonTarget)
	c.request("primary", "", Request{Move: MoveSwitchover})
	c.run(100 * ms)
	c.mustRefuse(ReasonPhase)
}

func TestActivateOnlyOnce(t *testing.T) {
	c := active(t, nil)
	c.request("dr", "dr", Request{Move: MoveActivate})
	c.run(100 * ms)
	c.mustRefuse(ReasonPhase)
	if sv := c.service("shop"); sv.Active != "primary" || sv.Epoch != 1 {
		t.Fatalf("active at %s under %d", sv.Active, sv.Epoch)
	}
}

// The service died, its daemon lives: the old holder hands over, nobody waits
// for the lease.
func TestDeadServiceTakesTheFastPath(t *testing.T) {
	c := active(t, nil)
	c.seeAll("primary", draas.Failed, "primary", "witness", "dr")
	took := c.until(PhaseVerifying, 5*time.Second)
	if took > 200*ms {
		t.Errorf("handed over after %v: it waited for the lease\n%s", took, c.story())
	}
	if sv := c.service("shop"); sv.Active != "dr" || sv.Epoch != 2 {
		t.Fatalf("active at %s under %d", sv.Active, sv.Epoch)
	}
	c.seeAll("dr", draas.Healthy, "primary", "witness")
	c.until(PhaseElsewhere, time.Second)
	if m := c.last(RecordDone).Move; m.Kind != MoveFailover || m.Times.Failed.IsZero() || m.Times.Released.IsZero() || m.Times.Verified.IsZero() {
		t.Errorf("the record of the move is not whole: %+v", m)
	}
}

// The whole site is gone: the successor waits the lease out, counted from its
// own apply of the last renewal, and not longer.
func TestDeadSiteWaitsForTheLease(t *testing.T) {
	c := active(t, nil)
	c.dead["primary"] = true
	died := c.now
	c.run(300 * ms)
	c.seeAll("primary", draas.Failed, "witness", "dr")
	for _, m := range []draas.MemberID{"witness", "dr"} {
		c.see(m, Observation{Peer: "primary", Verdict: draas.Failed})
	}
	c.until(PhaseRedirecting, 5*time.Second)
	took := c.now - died
	if took < 1750*ms || took > 2300*ms {
		t.Errorf("took over %v after the death, lease 2 s", took)
	}
	if c.open("primary") {
		t.Error("the dead site's guard is open")
	}
	// The witness, which sees nobody but dr now, still sees that dr serves.
	c.until(PhaseVerifying, time.Second)
	c.seeAll("dr", draas.Healthy, "witness")
	c.until(PhaseElsewhere, time.Second)
}

// GitHub, October 2018: the link between the sites is cut, the witness sees
// both. Nothing may move.
func TestCutLinkMovesNothing(t *testing.T) {
	c := active(t, nil)
	c.seeAll("primary", draas.Failed, "dr")
	c.see("dr", Observation{Peer: "primary", Verdict: draas.Failed})
	c.see("primary", Observation{Peer: "dr", Verdict: draas.Failed})
	c.run(43 * time.Second)
	if sv := c.service("shop"); sv.Active != "primary" || sv.Epoch != 1 || sv.Phase != PhaseSuspect {
		t.Fatalf("%s, active at %s under %d\n%s", sv.Phase, sv.Active, sv.Epoch, c.story())
	}
	c.seeAll("primary", draas.Healthy, "dr")
	c.until(PhaseNormal, time.Second)
}

// A vantage that sees nobody else may itself be what is cut off.
func TestBlindVantageDoesNotCount(t *testing.T) {
	c := active(t, nil)
	c.see("dr", Observation{Peer: "primary", Verdict: draas.Failed})
	c.see("dr", Observation{Peer: "witness", Verdict: draas.Failed})
	c.seeAll("primary", draas.Failed, "dr", "primary")
	c.run(5 * time.Second)
	if sv := c.service("shop"); sv.Epoch != 1 {
		t.Fatalf("moved to epoch %d on a blind vantage's word\n%s", sv.Epoch, c.story())
	}
}

// Two vantages in one failure domain are one witness.
func TestDomainsCountOnce(t *testing.T) {
	c := active(t, func(p *Policy) { p.Members[2].Domain = "west" })
	c.seeAll("primary", draas.Failed, "dr", "witness")
	c.run(5 * time.Second)
	if sv := c.service("shop"); sv.Epoch != 1 {
		t.Fatalf("moved on one domain's word\n%s", c.story())
	}
	c.seeAll("primary", draas.Failed, "primary")
	c.until(PhaseVerifying, time.Second)
}

// Rule 7: when everything looks dead, nothing changes, and it is said.
func TestEverythingLooksDead(t *testing.T) {
	c := active(t, nil)
	c.seeAll("dr", draas.Failed, "dr")
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.run(5 * time.Second)
	if sv := c.service("shop"); sv.Phase != PhaseConfirmed || sv.Epoch != 1 || !c.open("primary") {
		t.Fatalf("%s under %d\n%s", sv.Phase, sv.Epoch, c.story())
	}
	c.mustRefuse(ReasonStatic)
	refusals := 0
	for _, r := range c.history() {
		if r.Kind == RecordRefusal {
			refusals++
		}
	}
	if refusals != 1 {
		t.Errorf("the same refusal is recorded %d times", refusals)
	}
	c.seeAll("dr", draas.Healthy, "dr")
	c.until(PhaseVerifying, time.Second)
}

func TestWhatForbidsAnAutomaticMove(t *testing.T) {
	cases := []struct {
		name, code string
		change     func(*Policy)
	}{
		{"automatic is off", ReasonAutomatic, func(p *Policy) { s := p.Services["shop"]; s.Automatic = false; p.Services["shop"] = s }},
		{"no fence that outlives the daemon", ReasonProof, func(p *Policy) { s := p.Services["shop"]; s.Fence = draas.FenceNone; p.Services["shop"] = s }},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := active(t, tc.change)
			c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
			c.run(5 * time.Second)
			c.mustRefuse(tc.code)
			if sv := c.service("shop"); sv.Epoch != 1 {
				t.Fatal("moved all the same")
			}
			c.request("dr", "", Request{Move: MoveFailover, Operator: "ann", Expect: 1, Vouch: true})
			c.until(PhaseVerifying, 5*time.Second)
		})
	}
}

func TestUnequalFilesForbidAutomaticMoves(t *testing.T) {
	c := active(t, nil)
	other := testPolicy()
	other.Digest = "d2"
	c.start("witness", other, "boot-witness")
	c.see("witness", Observation{Peer: "primary", Verdict: draas.Healthy})
	c.see("witness", Observation{Peer: "dr", Verdict: draas.Healthy})
	c.run(time.Second)
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.run(5 * time.Second)
	c.mustRefuse(ReasonDigest)
}

// A failure shorter than `confirm` moves nothing; a longer one does.
func TestConfirmDuration(t *testing.T) {
	c := active(t, func(p *Policy) { s := p.Services["shop"]; s.Confirm = time.Second; p.Services["shop"] = s })
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.run(900 * ms)
	c.seeAll("primary", draas.Healthy, "primary", "dr", "witness")
	c.until(PhaseNormal, 200*ms)
	c.run(2 * time.Second)
	if c.service("shop").Epoch != 1 {
		t.Fatalf("moved after a short failure\n%s", c.story())
	}
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	if took := c.until(PhaseFencing, 3*time.Second); took < time.Second {
		t.Errorf("confirmed after %v", took)
	}
}

func TestSwitchoverAndFailback(t *testing.T) {
	c := active(t, nil)
	c.request("witness", "", Request{Move: MoveSwitchover, Operator: "ann", Expect: 1})
	c.until(PhaseVerifying, time.Second)
	c.seeAll("dr", draas.Healthy, "primary", "witness")
	c.until(PhaseElsewhere, time.Second)
	c.request("witness", "", Request{Move: MoveFailback, Operator: "ann", Expect: 2})
	c.until(PhaseVerifying, time.Second)
	c.seeAll("primary", draas.Healthy, "dr", "witness")
	c.until(PhaseNormal, time.Second)
	if m := c.last(RecordDone).Move; m.Kind != MoveFailback || m.Epoch != 3 || m.To != "primary" {
		t.Errorf("%+v", m)
	}
}

// Rule 11: after a completed move no automatic one for a while; the log's
// members measure it.
func TestHoldAfterCompletedMove(t *testing.T) {
	c := active(t, nil)
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.until(PhaseVerifying, time.Second)
	c.seeAll("dr", draas.Healthy, "primary", "witness")
	c.until(PhaseElsewhere, time.Second)
	c.seeAll("primary", draas.Healthy, "primary")
	c.seeAll("dr", draas.Failed, "primary", "dr", "witness")
	c.run(50 * time.Second)
	c.mustRefuse(ReasonHold)
	c.until(PhaseVerifying, 15*time.Second)
}

// A planned move whose old holder does not hand over is turned back: no lease
// is waited out, nothing is forced.
func TestSwitchoverWithoutHandoverTurnsBack(t *testing.T) {
	c := active(t, nil)
	c.stuck["primary"] = true
	c.request("witness", "", Request{Move: MoveSwitchover, Expect: 1})
	c.until(PhaseFencing, time.Second)
	c.run(2500 * ms)
	if c.service("shop").Phase != PhaseFencing {
		t.Fatalf("it did not wait for the handover\n%s", c.story())
	}
	c.stuck["primary"] = false
	c.until(PhaseVerifying, 3*time.Second)
	sv := c.service("shop")
	if sv.Epoch != 2 {
		t.Errorf("epoch %d", sv.Epoch)
	}
}

// The target dies while the old permit runs out: the move turns back to the
// old site, under a new epoch.
func TestTargetDiesWhileFencing(t *testing.T) {
	c := active(t, nil)
	c.stuck["primary"] = true // no release: the slow path
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.until(PhaseFencing, time.Second)
	c.dead["dr"] = true
	c.see("primary", Observation{Peer: "dr", Verdict: draas.Failed})
	c.see("witness", Observation{Peer: "dr", Verdict: draas.Failed})
	c.seeAll("primary", draas.Healthy, "primary")
	c.stuck["primary"] = false
	c.until(PhaseVerifying, 8*time.Second)
	if sv := c.service("shop"); sv.Active != "primary" || sv.Epoch != 2 || sv.Move.Kind != MoveUndo {
		t.Fatalf("active at %s under %d\n%s", sv.Active, sv.Epoch, c.story())
	}
}

// The new site fails before the move is complete: undone at once by a new
// epoch, no hold-off stands against it (orchestrator#1296).
func TestNewSiteFailsWhileVerifying(t *testing.T) {
	c := active(t, nil)
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.until(PhaseVerifying, time.Second)
	c.seeAll("primary", draas.Healthy, "primary")
	c.seeAll("dr", draas.Failed, "primary", "dr", "witness")
	c.run(500 * ms)
	if c.service("shop").Epoch != 2 {
		t.Fatalf("undone before the new site had its time to start\n%s", c.story())
	}
	c.run(1500 * ms)
	if left := c.service("shop").Left; len(left) != 0 {
		t.Errorf("the replaced move's steps were not released: %+v", left)
	}
	if !c.released {
		t.Error("nobody was asked to release the replaced move's steps")
	}
	c.seeAll("primary", draas.Healthy, "dr", "witness")
	c.until(PhaseNormal, 2*time.Second)
	if sv := c.service("shop"); sv.Epoch != 3 || sv.Last.Kind != MoveUndo {
		t.Fatalf("epoch %d\n%s", sv.Epoch, c.story())
	}
}

func TestTwoOperatorsInOppositeDirections(t *testing.T) {
	c := active(t, nil)
	c.request("witness", "dr", Request{Move: MoveSwitchover, Operator: "ann", Expect: 1})
	c.request("dr", "primary", Request{Move: MoveFailover, Operator: "bob", Expect: 1})
	c.until(PhaseVerifying, 4*time.Second)
	sv := c.service("shop")
	if sv.Epoch != 2 {
		t.Fatalf("epoch %d\n%s", sv.Epoch, c.story())
	}
	c.seeAll(sv.Active, draas.Healthy, "primary", "dr", "witness")
	c.run(time.Second)
	c.request("dr", "primary", Request{Move: MoveFailover, Operator: "bob", Expect: 1})
	c.run(100 * ms)
	c.mustRefuse(ReasonEpoch)
}

// Step never changes the state that it was given, and a state survives being
// written and read (snapshots).
func TestStepIsPure(t *testing.T) {
	c := active(t, nil)
	c.seeAll("primary", draas.Failed, "primary", "dr", "witness")
	c.until(PhaseVerifying, time.Second)
	c.seeAll("dr", draas.Healthy, "primary", "witness")
	c.until(PhaseElsewhere, time.Second)
	var direct, viaSnapshot State
	for _, e := range c.log {
		before, err := json.Marshal(direct)
		if err != nil {
			t.Fatal(err)
		}
		next, _ := Step(direct, e)
		after, err := json.Marshal(direct)
		if err != nil {
			t.Fatal(err)
		}
		if string(before) != string(after) {
			t.Fatalf("%s at %d changed its input", e.Kind, e.Index)
		}
		direct = next
		viaSnapshot, _ = Step(viaSnapshot, e)
		data, err := json.Marshal(viaSnapshot)
		if err != nil {
			t.Fatal(err)
		}
		viaSnapshot = State{}
		if err := json.Unmarshal(data, &viaSnapshot); err != nil {
			t.Fatal(err)
		}
	}
	a, _ := json.Marshal(direct)
	b, _ := json.Marshal(viaSnapshot)
	if string(a) != string(b) {
		t.Errorf("by snapshots:\n%s\ndirectly:\n%s", b, a)
	}
}

// Whatever stands in the log, Step takes it, twice, on an empty state, on one of
// each version in the middle of a move, and on one between moves whose entry is
// about to change; and the state can be written.
func FuzzDecodeAndStep(f *testing.F) {
	p := testPolicy()
	p.Take = time.Second
	shop(func(s *ServicePolicy) {
		s.Flaps, s.Steady, s.MaxLoss, s.LeastOutage, s.Restart = 2, time.Second, time.Second, time.Second, time.Second
		s.HoldMax, s.Devices = time.Hour, []draas.SiteID{"primary"}
	})(&p)
	hybrid(&p)
	grouped := testPolicy()
	grouped.Digest = "d2"
	group(&grouped)
	for _, e := range []Event{
		{Kind: EventHello, By: "dr", Incarnation: 7, Hello: &Hello{Boot: "b", Digest: "d1"}},
		{Kind: EventPolicy, By: "dr", Incarnation: 7, Policy: &p},
		{Kind: EventPolicy, By: "dr", Incarnation: 7, Policy: &grouped},
		{Kind: EventOffer, By: "dr", Incarnation: 7, Hello: &Hello{Digest: "d2", Version: 2}},
		{Kind: EventVersion, By: "dr", Incarnation: 7, Version: 2, Policy: &p},
		{Kind: EventGeneration, By: "dr", Generation: 3},
		{Kind: EventLag, By: "dr", Incarnation: 7, Service: "shop", Site: "dr", Epoch: 1, Lag: &Lag{Known: true, Behind: 5}},
		{Kind: EventFenced, By: "dr", Incarnation: 7, Service: "shop", Epoch: 1},
		{Kind: EventRelease, By: "primary", Incarnation: 7, Service: "shop", Epoch: 1},
		{Kind: EventRequest, By: "dr", Incarnation: 7, ID: 9, Service: "shop", Site: "dr", Request: &Request{Move: MoveFailover, Vouch: true, AllowDataLoss: true}},
		{Kind: EventRequest, By: "dr", Incarnation: 7, ID: 9, Service: "shop", Request: &Request{Ask: AskPause, For: 5, Reason: "x"}},
		{Kind: EventObserved, By: "dr", Incarnation: 7, Observed: []Observation{{Service: "shop", Site: "dr", Verdict: draas.Failed}, {Peer: "primary", Verdict: draas.Failed}}},
		{Kind: EventObserved, By: "dr", Incarnation: 7, Observed: []Observation{{Frontend: "east-1", Verdict: draas.Failed}, {Frontend: "west-1", Verdict: draas.Healthy}}},
		{Kind: EventRequest, By: "dr", Incarnation: 7, ID: 9, Service: "shop", Site: "dr", Request: &Request{Ask: AskEnter, Reason: "x"}},
		{Kind: EventFinding, By: "dr", Incarnation: 7, Finding: &Finding{Service: "shop", Epoch: 1, Step: "dns", Code: FoundChanged, Text: "x"}},
		{Kind: EventDue, By: "dr", Incarnation: 7, Service: "shop", Timer: timerEntry + "shop", Mark: 9},
		{Kind: EventDue, By: "dr", Incarnation: 7, Service: "shop", Timer: timerRetarget, Mark: 9},
		{Kind: EventDue, By: "dr", Incarnation: 7, Service: "shop", Timer: timerTake, Mark: 9},
		{Kind: EventActivate, By: "dr", Incarnation: 7, Service: "shop", Epoch: 2},
		{Kind: EventRenew, By: "primary", Incarnation: 7, ID: 1, Permits: map[draas.ServiceID]draas.Epoch{"shop": 1}},
	} {
		data, err := e.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := Decode(data)
		if err != nil {
			return
		}
		for _, before := range [][]Event{nil, fuzzStart(e, 1, p), fuzzStart(e, 2, p), fuzzStart(e, 3, p), fuzzEntered(e, p)} {
			var s State
			for i, x := range append(before, e, e) {
				x.Index = uint64(i + 1)
				was := s
				s, _ = Step(s, x)
				neverBack(t, &was, &s, x)
			}
			if _, err := json.Marshal(s); err != nil {
				t.Fatalf("the state cannot be written: %v", err)
			}
			for id := range s.Services {
				s.Duties(id)
				s.Explain(id)
			}
		}
	})
}

// fuzzStart is a log up to the middle of a move, all of whose members are of
// the version and of the event's incarnation.
func fuzzStart(e Event, version int, p Policy) []Event {
	var log []Event
	members := []draas.MemberID{"primary", "dr", "witness"}
	for _, m := range members {
		log = append(log, Event{Kind: EventHello, By: m, Incarnation: e.Incarnation, Hello: &Hello{Digest: p.Digest, Version: version}})
	}
	add := func(x Event) {
		x.Incarnation = e.Incarnation
		log = append(log, x)
	}
	add(Event{Kind: EventPolicy, By: "dr", Policy: &p})
	add(Event{Kind: EventVersion, By: "dr", Version: version, Policy: &p})
	for _, site := range []draas.SiteID{"primary", "dr"} {
		add(Event{Kind: EventObserved, By: site.Member(), Observed: []Observation{{Service: "shop", Site: site, Verdict: draas.Healthy}}})
	}
	add(Event{Kind: EventRequest, By: "dr", ID: 1, Service: "shop", Site: "primary", Request: &Request{Move: MoveActivate}})
	add(Event{Kind: EventActivate, By: "primary", Service: "shop", Epoch: 1})
	add(Event{Kind: EventRequest, By: "dr", ID: 2, Service: "shop", Site: "dr", Request: &Request{Move: MoveFailover, AllowDataLoss: true}})
	return log
}

// The log that entries are fuzzed on is where it says it is: an entry would
// change with the next word of a clock.
func TestFuzzEntered(t *testing.T) {
	p := testPolicy()
	hybrid(&p)
	var s State
	for i, e := range fuzzEntered(Event{Incarnation: 7}, p) {
		e.Index = uint64(i + 1)
		s, _ = Step(s, e)
	}
	timer := s.Services["shop"].Timers[timerEntry+"shop"]
	s, _ = Step(s, Event{Kind: EventDue, By: "dr", Incarnation: 7, Index: 99, Service: "shop", Timer: timerEntry + "shop", Mark: timer.Mark})
	if site, token, _ := s.Leads("shop"); site != "dr" || token.Turn != 1 {
		t.Errorf("it is entered at %s by %v", site, token)
	}
}

// fuzzEntered is a log up to where the frontends of a settled service have
// failed at one site and are heard at the other.
func fuzzEntered(e Event, p Policy) []Event {
	log := fuzzStart(e, 3, p)
	log = log[:len(log)-1]
	add := func(x Event) {
		x.Incarnation = e.Incarnation
		log = append(log, x)
	}
	add(Event{Kind: EventDone, By: "primary", Service: "shop", Epoch: 1, Done: &runbook.Record{Service: "shop",
		Move: runbook.Token{Epoch: 1}, Step: "dns", Member: "primary", Outcome: runbook.OutcomeDone}})
	for _, m := range []draas.MemberID{"dr", "witness"} {
		add(Event{Kind: EventObserved, By: m, Observed: []Observation{{Service: "shop", Site: "primary", Epoch: 1, Verdict: draas.Healthy},
			{Peer: "primary", Verdict: draas.Healthy}, {Peer: "dr", Verdict: draas.Healthy}, {Peer: "witness", Verdict: draas.Healthy},
			{Frontend: "east-1", Verdict: draas.Failed}, {Frontend: "east-2", Verdict: draas.Failed}, {Frontend: "west-1", Verdict: draas.Healthy}}})
	}
	return log
}
