package sim

import (
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// Scenario is a story told by hand: a cluster, what happens to it at which
// time, and what must come of it. All rules are checked as in every run.
//
//	r, err := sim.Scenario{
//		Faults: []sim.Fault{{At: 5 * time.Second, Kind: sim.Power, On: "primary", For: time.Minute}},
//		Expect: []sim.Expect{
//			{What: "the DR site takes over", By: 15 * time.Second, Once: func(w *sim.World) bool { return w.Serving("shop") == "dr" }},
//			{What: "one move", From: 15 * time.Second, Always: func(w *sim.World) bool { return w.Moves() == 1 }},
//		},
//	}.Run()
//
// The world starts with Default's cluster (one service "shop", home at
// "primary"; the other site is "dr", the third member "witness"), whose
// service an operator activates within the first two seconds. Faults end by
// themselves after their For, or all at once at Trouble. What is not covered
// by a Fault can be done by hand in Do, at exact times.
type Scenario struct {
	// Seed decides all that chance does; the same scenario is the same run.
	Seed uint64
	// Params is the cluster; nil is Default().
	Params *Params
	Faults []Fault
	// Trouble is when all faults end that have not; zero: at Length. After it
	// the cluster must come to one active site, within a bound.
	Trouble time.Duration
	// Length is what is simulated at least; zero: Trouble, or until the last
	// fault and expectation and 20 s more.
	Length time.Duration
	Do     []Do
	Expect []Expect
}

// Do is something done by hand at a time.
type Do struct {
	At time.Duration
	Do func(*World)
}

// Expect is something that must come true once between From and By, or be
// always true between them. By zero is the end.
type Expect struct {
	What     string
	From, By time.Duration
	Once     func(*World) bool
	Always   func(*World) bool
}

func (s *Scenario) length() time.Duration {
	if s.Length > 0 {
		return s.Length
	}
	end := s.Trouble
	for _, f := range s.Faults {
		end = max(end, f.At+f.For)
	}
	for _, e := range s.Expect {
		end = max(end, e.By, e.From)
	}
	for _, d := range s.Do {
		end = max(end, d.At)
	}
	return end + 20*time.Second
}

// Run plays the scenario. What was expected and did not come is among the
// violations of the result. The result's Story tells it, line by line.
func (s Scenario) Run() (Result, error) {
	p := Default()
	if s.Params != nil {
		p = *s.Params
	}
	length, trouble := s.length(), s.Trouble
	if trouble == 0 {
		trouble = length
	}
	return runWorld(Schedule{Seed: s.Seed, Trouble: trouble, Faults: s.Faults}, p, true, nil, length, func(w *World) {
		for _, d := range s.Do {
			w.after(d.At, func() { d.Do(w) })
		}
		for _, e := range s.Expect {
			w.expect(e, length)
		}
	})
}

// expect watches over an expectation.
func (w *World) expect(e Expect, end time.Duration) {
	by := e.By
	if by == 0 {
		by = end
	}
	over := false
	if e.Once != nil {
		came := false
		w.hooks = append(w.hooks, func() {
			if !came && w.now >= e.From && w.now <= by && e.Once(w) {
				came = true
				w.note("as expected: %s", e.What)
			}
			if !came && !over && w.now >= by {
				over = true
				w.violation("expected between %v and %v, and did not come: %s; %s", e.From, by, e.What, w.describe())
			}
		})
	}
	if e.Always != nil {
		w.hooks = append(w.hooks, func() {
			if !over && w.now >= e.From && w.now <= by && !e.Always(w) {
				over = true
				w.violation("expected always from %v to %v: %s; %s", e.From, by, e.What, w.describe())
			}
		})
	}
	w.after(by, func() {}) // so that it is looked at then
}

// The following is for scenarios to ask.

// Now is the true time since the start.
func (w *World) Now() time.Duration { return w.now }

// Serving is the site where users reach the service now; empty if none does,
// "both" if more than one.
func (w *World) Serving(service draas.ServiceID) draas.SiteID {
	var site draas.SiteID
	p := w.part(service)
	if p == nil {
		return ""
	}
	for _, m := range w.members {
		if m.open(p) {
			if site != "" {
				return "both"
			}
			site = m.id.Site()
		}
	}
	return site
}

// State is a member's, as it has applied the log; the zero State if its
// daemon does not run. It must not be changed.
func (w *World) State(id draas.MemberID) failover.State {
	if m := w.member(id); m != nil && m.daemon != nil {
		return m.daemon.State()
	}
	return failover.State{}
}

// Phase is where the service stands, by the latest entry that anybody has
// applied.
func (w *World) Phase(service draas.ServiceID) failover.Phase { return w.oracle.unit(service).phase }

// Epoch is the highest that was granted.
func (w *World) Epoch(service draas.ServiceID) draas.Epoch { return w.oracle.unit(service).highest }

// Answer is where a member's DNS authority leads users of the service, by its
// state; empty if its daemon does not run or knows no active site.
func (w *World) Answer(id draas.MemberID, service draas.ServiceID) draas.SiteID {
	if sv := w.State(id).Services[w.p.Policy.UnitOf(service)]; sv != nil {
		return sv.Active
	}
	return ""
}

// Moves counts the moves that were completed, activations not counted.
func (w *World) Moves() int { return w.result.Moves }

// Leader is the member that the log's majority follows, as far as one knows
// itself to be; empty if none does.
func (w *World) Leader() draas.MemberID {
	var leader draas.MemberID
	var term uint64
	for _, m := range w.members {
		if m.running() {
			if s := m.daemon.Status(); s.State == "leader" && s.Term >= term {
				leader, term = m.id, s.Term
			}
		}
	}
	return leader
}

// Running reports whether a member's daemon runs: it is there, not frozen, and
// its machine is on.
func (w *World) Running(id draas.MemberID) bool {
	m := w.member(id)
	return m != nil && m.running()
}

// Records are the lines of history that a member has in its state.
func (w *World) Records(id draas.MemberID) []failover.Record { return w.State(id).History }

// Receives is the site that a move's effect has put in force, by its name.
func (w *World) Receives(effect string, service draas.ServiceID) draas.SiteID {
	if r := w.receivers[effect]; r != nil {
		site, _ := r.Active(service)
		return site
	}
	return ""
}

// Inject lets a fault happen now.
func (w *World) Inject(f Fault) { w.meet(f) }

// Ask is an operator at a member who asks for something.
func (w *World) Ask(at draas.MemberID, service draas.ServiceID, site draas.SiteID, r failover.Request) {
	if m := w.member(at); m != nil {
		w.ask(m, service, site, r)
	}
}

// Lag tells a site's daemon how far its copy of the service is behind.
func (w *World) Lag(site draas.SiteID, service draas.ServiceID, l failover.Lag) {
	if m := w.member(site.Member()); m != nil && m.daemon != nil {
		m.daemon.Lag(service, l)
		m.process()
	}
}

// Note adds a line to the story.
func (w *World) Note(text string) { w.note("%s", text) }
