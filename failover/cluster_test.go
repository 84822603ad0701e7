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

const ms = time.Millisecond

// cluster is a set of agents over a log that never fails, in simulated time.
// Which members can append is a knob; guards do what they are told at once
// and close by themselves.
type cluster struct {
	t        *testing.T
	now      time.Duration
	log      []Event
	ids      []draas.MemberID
	agents   map[draas.MemberID]*Agent
	dead     map[draas.MemberID]bool // neither applies nor proposes
	gates    map[draas.MemberID]*gate
	stuck    map[draas.MemberID]bool // the guard does not answer
	applied  map[draas.MemberID]int
	actions  []Action
	released bool                    // some step was given up
	old      map[draas.MemberID]bool // its program knows version 1 only
	// device answers a device fence; nil means off at once.
	device func(FenceCommand) bool
	shut   map[draas.ServiceID]bool // parts whose close was asked for
	extra  func()                   // looked at every 10 ms
	// steps answers an effect; nil means done at once.
	steps func(draas.MemberID, StepCommand) bool
}

type gate struct {
	epoch    draas.Epoch
	deadline draas.Deadline
}

func (c *cluster) reading() draas.Reading {
	return draas.Reading{Boot: time.Hour + c.now, Wall: 400_000*time.Hour + c.now}
}

func testPolicy() Policy {
	return Policy{
		Digest: "d1",
		Members: []MemberPolicy{
			{"primary", draas.RoleSite, "east"}, {"dr", draas.RoleSite, "west"}, {"witness", draas.RoleWitness, "north"},
		},
		Services: map[draas.ServiceID]ServicePolicy{"shop": {
			Home: "primary", Sites: []draas.SiteID{"primary", "dr"}, Automatic: true, Fence: draas.FencePath,
			Confirmations: 2, Warm: true, Renew: 400 * ms, Hold: time.Minute, Start: time.Second, Steps: []runbook.Step{{Name: "dns", Effect: "dns", Timeout: time.Second}},
			Lease: draas.Lease{Length: 2 * time.Second, Drift: 0.1, Margin: 150 * ms},
		}},
		Retarget: 3 * time.Second,
	}
}

func newCluster(t *testing.T, p Policy) *cluster {
	c := &cluster{t: t, agents: make(map[draas.MemberID]*Agent), dead: make(map[draas.MemberID]bool),
		gates: make(map[draas.MemberID]*gate), stuck: make(map[draas.MemberID]bool), applied: make(map[draas.MemberID]int),
		old: make(map[draas.MemberID]bool), shut: make(map[draas.ServiceID]bool)}
	for _, m := range p.Members {
		c.ids = append(c.ids, m.ID)
		c.start(m.ID, p, "boot-"+string(m.ID))
	}
	for _, m := range c.ids {
		for _, other := range c.ids {
			if m != other {
				c.see(m, Observation{Peer: other, Verdict: draas.Healthy})
			}
		}
	}
	return c
}

func (c *cluster) start(id draas.MemberID, p Policy, boot string) {
	inc := draas.Incarnation(1)
	if a := c.agents[id]; a != nil {
		inc = a.cfg.Incarnation + 1
	}
	c.agents[id] = NewAgent(AgentConfig{Self: id, Incarnation: inc, Boot: boot, Policy: p, Resend: 200 * ms}, c.reading())
	c.applied[id] = 0
	if c.gates[id] == nil {
		c.gates[id] = &gate{}
	}
	c.dead[id] = false
}

func (c *cluster) see(by draas.MemberID, o Observation) {
	if o.Service != "" && o.Site.Member() != by {
		if sv := c.service(c.state().unitOf(o.Service)); sv != nil {
			o.Epoch = sv.Epoch
		}
	}
	c.agents[by].Look(o)
}

func (c *cluster) seeAll(site draas.SiteID, v draas.Verdict, by ...draas.MemberID) {
	for _, m := range by {
		c.see(m, Observation{Service: "shop", Site: site, Verdict: v, Class: "refused"})
	}
}

// state is that of the member that is ahead.
func (c *cluster) state() *State {
	var best State
	for _, a := range c.agents {
		if a.State().Index >= best.Index {
			best = a.State()
		}
	}
	return &best
}

func (c *cluster) service(id draas.ServiceID) *ServiceState { return c.state().Services[id] }

func (c *cluster) append(e Event) {
	data, err := e.Encode()
	if err != nil {
		c.t.Fatal(err)
	}
	e, err = Decode(data)
	if err != nil {
		c.t.Fatal(err)
	}
	e.Index = uint64(len(c.log) + 1)
	c.log = append(c.log, e)
}

// run lets simulated time pass in steps of 10 ms.
func (c *cluster) run(d time.Duration) {
	for end := c.now + d; c.now < end; c.now += 10 * ms {
		c.round()
	}
}

func (c *cluster) round() {
	for _, id := range c.ids {
		if c.dead[id] {
			continue
		}
		a := c.agents[id]
		for ; c.applied[id] < len(c.log); c.applied[id]++ {
			c.actions = append(c.actions, a.Apply(c.log[c.applied[id]], c.reading())...)
		}
		if s := a.State(); s.Validate() != nil {
			c.t.Fatalf("at %v a log leads to a state that would be refused: %v", c.now, s.Validate())
		}
		cmds := a.Tick(c.reading())
		for _, e := range cmds.Propose {
			if e.Kind == EventHello && c.old[id] {
				e.Hello.Version = 1
			}
			c.append(e)
		}
		for _, x := range cmds.Fence {
			if c.device == nil || c.device(x) {
				c.gates[x.Site.Member()].deadline = draas.Deadline{}
				a.DeviceOff(x.Service, x.Epoch, "it answers off")
			}
		}
		for _, x := range cmds.Extend {
			if !c.stuck[id] {
				*c.gates[id] = gate{x.Epoch, x.Deadline}
			}
		}
		for _, x := range cmds.Close {
			if !c.stuck[id] {
				c.gates[id].deadline = draas.Deadline{}
				c.shut[x.Service] = true
				a.FenceClosed(x.Service, x.Epoch)
			}
		}
		for _, s := range cmds.Steps {
			if c.steps == nil || c.steps(id, s) {
				r := runbook.Record{Service: s.Due.Op.Service, Move: s.Due.Op.Token, Step: s.Due.Op.Step, Member: id, Outcome: runbook.OutcomeDone, Evidence: "seen"}
				if s.Release {
					r.Outcome, c.released = runbook.OutcomeReleased, true
				}
				a.StepEnded(r)
			}
		}
	}
	if c.extra != nil {
		c.extra()
	}
	var open []draas.MemberID
	for _, id := range c.ids {
		if !c.gates[id].deadline.Passed(c.reading()) {
			open = append(open, id)
		}
	}
	if len(open) > 1 {
		c.t.Fatalf("at %v two sites serve: %v\n%s", c.now, open, c.story())
	}
}

// until runs until the service is in the phase, at most for d.
func (c *cluster) until(p Phase, d time.Duration) time.Duration {
	c.t.Helper()
	start := c.now
	for c.now < start+d {
		if sv := c.service("shop"); sv != nil && sv.Phase == p {
			return c.now - start
		}
		c.run(10 * ms)
	}
	c.t.Fatalf("not %s within %v\n%s", p, d, c.story())
	return 0
}

func (c *cluster) request(by draas.MemberID, site draas.SiteID, r Request) {
	c.append(c.agents[by].Request("shop", site, r, c.reading()))
}

func (c *cluster) open(id draas.MemberID) bool {
	return !c.gates[id].deadline.Passed(c.reading())
}

func (c *cluster) history() []Record { return c.state().History }

func (c *cluster) story() string {
	var b strings.Builder
	for _, r := range c.history() {
		fmt.Fprintf(&b, "%4d %8s %-9s %-12s %s\n", r.Index, r.At.Sub(time.Unix(0, int64(400_000*time.Hour))), r.Kind, r.Phase, r.Text)
		for _, reason := range r.Reasons {
			fmt.Fprintf(&b, "     %v %s: %s\n", reason.OK, reason.Code, reason.Text)
		}
	}
	return b.String()
}

// last finds the latest record of the kind.
func (c *cluster) last(k RecordKind) Record {
	c.t.Helper()
	h := c.history()
	for _, r := range slices.Backward(h) {
		if r.Kind == k {
			return r
		}
	}
	c.t.Fatalf("no %s in the history\n%s", k, c.story())
	return Record{}
}

func (c *cluster) mustRefuse(code string) {
	c.t.Helper()
	r := c.last(RecordRefusal)
	for _, reason := range r.Reasons {
		if !reason.OK && reason.Code == code {
			return
		}
	}
	c.t.Fatalf("the last refusal does not name %q: %+v\n%s", code, r, c.story())
}

// active brings up a cluster with shop active at home and seen healthy.
func active(t *testing.T, change func(*Policy)) *cluster {
	t.Helper()
	p := testPolicy()
	if change != nil {
		change(&p)
	}
	c := newCluster(t, p)
	c.seeAll("primary", draas.Healthy, "primary")
	c.seeAll("dr", draas.Healthy, "dr")
	c.run(100 * ms)
	c.request("primary", "primary", Request{Move: MoveActivate})
	c.until(PhaseVerifying, 2*time.Second)
	c.seeAll("primary", draas.Healthy, "dr", "witness")
	c.until(PhaseNormal, time.Second)
	c.run(1200 * ms)
	if !c.open("primary") || c.open("dr") {
		t.Fatalf("primary is not the one that serves\n%s", c.story())
	}
	return c
}
