package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// AgentConfig says who the agent is.
type AgentConfig struct {
	Self        draas.MemberID
	Incarnation draas.Incarnation
	Boot        string // the machine's boot id
	Policy      Policy // of this member's own file
	// Version is what this member's program can step by; zero is Version, all
	// that it knows.
	Version int
	// Resend is how long a proposal may take before it is made again.
	Resend time.Duration
}

// Agent is a member's own half of the decision: given the log as this member
// applied it, its clocks and what it sees, it says what to propose and what
// to command. It is stepped by one goroutine and holds no clock of its own.
type Agent struct {
	cfg      AgentConfig
	state    State
	revision uint64
	seq      uint64
	// fresh: something happened since the last Tick.
	fresh bool
	// greeted: our own hello stands in the log.
	greeted    bool
	superseded bool

	// sent holds, for renewals and activations on their way, the reading
	// before they were sent: a permit counts from there.
	sent map[uint64]draas.Reading
	// permits are what this site holds, as far as it knows.
	permits map[draas.ServiceID]permit
	// over is, on this member's boot clock, when a permit that was renewed
	// last when this member saw it renewed last is over for sure: its own
	// apply of the renewal + L(1+rho). Unlisted services: born + L(1+rho).
	over map[draas.ServiceID]time.Duration
	born draas.Reading
	// renewed is, on this member's boot clock, when it applied the last renewal
	// or activation of each unit.
	renewed map[draas.ServiceID]time.Duration
	// serveAfter holds a site back that comes up on another boot than the
	// one that held the permit: it may be a copy of a machine that still runs.
	serveAfter time.Duration
	renewNext  map[draas.ServiceID]time.Duration

	closed   map[draas.ServiceID]draas.Epoch // observed closed up to
	views    map[viewKey]Observation         // what this member sees now
	viewsAt  uint64                          // revision at which the log knew all of them; 0: not known
	started  map[timerKey]time.Duration      // timers being measured
	pending  map[string]proposal             // proposals under way
	extended map[draas.ServiceID]permit      // last handed to the guard
	finished map[stepKey]runbook.Record      // steps that ended

	lags   map[draas.ServiceID]Lag      // how far this site's copies are behind
	off    map[draas.ServiceID]proof    // what devices have switched off
	duties map[draas.ServiceID][]Action // of the present state, as far as asked for
	asked  *Event                       // an operator's request that is not decided yet
	// findings wait to stand in the log, in their order.
	findings []Finding
	// lostSince is, on the boot clock, when the other of two members was first
	// seen lost together with a unit that is active there.
	lostSince map[draas.ServiceID]time.Duration
}

// proof is that the holder of an epoch is off.
type proof struct {
	epoch    draas.Epoch
	evidence string
}

type permit struct {
	epoch    draas.Epoch
	deadline draas.Deadline
}

type viewKey struct {
	service  draas.ServiceID
	site     draas.SiteID
	peer     draas.MemberID
	frontend string
}

type timerKey struct {
	service draas.ServiceID
	name    string
	mark    uint64
}

type stepKey struct {
	service draas.ServiceID
	epoch   draas.Epoch
	step    string
	release bool
}

type proposal struct {
	id uint64
	at time.Duration // boot clock
}

// NewAgent starts the agent of a member that has applied nothing yet.
func NewAgent(cfg AgentConfig, now draas.Reading) *Agent {
	if cfg.Version == 0 {
		cfg.Version = Version
	}
	return &Agent{
		cfg:       cfg,
		fresh:     true,
		born:      now,
		sent:      make(map[uint64]draas.Reading),
		permits:   make(map[draas.ServiceID]permit),
		over:      make(map[draas.ServiceID]time.Duration),
		renewed:   make(map[draas.ServiceID]time.Duration),
		renewNext: make(map[draas.ServiceID]time.Duration),
		closed:    make(map[draas.ServiceID]draas.Epoch),
		views:     make(map[viewKey]Observation),
		started:   make(map[timerKey]time.Duration),
		pending:   make(map[string]proposal),
		extended:  make(map[draas.ServiceID]permit),
		finished:  make(map[stepKey]runbook.Record),
		lags:      make(map[draas.ServiceID]Lag),
		off:       make(map[draas.ServiceID]proof),
		lostSince: make(map[draas.ServiceID]time.Duration),
		duties:    make(map[draas.ServiceID][]Action),
	}
}

// State is the state that the agent has applied. It must not be changed.
func (a *Agent) State() State { return a.state }

// Revision grows with every entry that may have changed the state: with all
// but renewals.
func (a *Agent) Revision() uint64 { return a.revision }

// Restore takes over a state from a snapshot. The agent did not see when
// permits in it were renewed last, so it counts them from now.
func (a *Agent) Restore(s State, now draas.Reading) {
	s.ids = nil
	s.ids = s.ServiceIDs()
	a.state, a.fresh = s, true
	clear(a.duties)
	a.revision++
	a.born = now
	clear(a.over)
	clear(a.renewed)
	if m := s.Members[a.cfg.Self]; m != nil && m.Incarnation != a.cfg.Incarnation && a.greeted {
		a.superseded = true
	}
}

// Apply applies an entry of the log and returns what has newly become due.
func (a *Agent) Apply(e Event, now draas.Reading) []Action {
	before := a.state
	next, actions, renewed := apply(before, e)
	a.state = next
	mine := e.By == a.cfg.Self && e.Incarnation == a.cfg.Incarnation
	if e.Kind != EventRenew {
		clear(a.duties)
		a.revision++
	}
	if e.Kind != EventRenew || mine {
		a.fresh = true // another's renewal asks nothing of this member
	}
	if mine {
		a.answered(e.ID)
		a.found(e)
	}
	switch e.Kind {
	case EventHello:
		a.applyHello(e, before, mine, now)
	case EventRenew:
		for id, epoch := range renewed {
			a.seen(id, now)
			if mine {
				a.grant(id, epoch, e.ID)
			}
		}
	case EventPolicy, EventVersion:
		a.linger(before, now)
	case EventActivate:
		was, is := before.Services[e.Service], next.Services[e.Service]
		if was != nil && is.Epoch != was.Epoch && is.Active.Member() == e.By {
			a.seen(e.Service, now)
			if mine {
				a.grant(e.Service, is.Epoch, e.ID)
			}
		}
	}
	if mine {
		delete(a.sent, e.ID)
	}
	return actions
}

func (a *Agent) answered(id uint64) {
	a.GiveUp(id)
	for key, p := range a.pending {
		if p.id == id {
			delete(a.pending, key)
		}
	}
}

func (a *Agent) applyHello(e Event, before State, mine bool, now draas.Reading) {
	if e.By != a.cfg.Self {
		return
	}
	if !mine {
		a.superseded = a.superseded || a.greeted
		return
	}
	a.greeted = true
	if old := before.Members[a.cfg.Self]; old != nil && (old.Boot != a.cfg.Boot || old.Moved) {
		for id, p := range a.state.Policy.Services {
			a.serveAfter = max(a.serveAfter, now.Boot+max(p.Lease.Wait(), a.state.Services[id].Linger))
		}
	}
}

// linger notes, when the rules have changed, that permits granted under the
// old lease run by it until they are renewed.
func (a *Agent) linger(before State, now draas.Reading) {
	longest := time.Duration(0)
	for _, old := range before.Policy.Services {
		longest = max(longest, old.Lease.Wait())
	}
	if longest == 0 {
		return
	}
	for id, p := range a.state.Policy.Services {
		if old, had := before.Policy.Services[id]; !had || old.Lease != p.Lease {
			a.over[id] = now.Boot + max(longest, p.Lease.Wait())
		}
	}
}

// seen notes that a permit was renewed as of this member's own apply. Of a
// permit that was granted under a longer lease before, the guard keeps the
// later deadline.
func (a *Agent) seen(id draas.ServiceID, now draas.Reading) {
	a.renewed[id] = now.Boot
	a.over[id] = max(a.permitOver(id), now.Boot+a.state.Policy.Services[id].Lease.Wait())
}

// grant counts a permit of ours from before its entry was sent.
func (a *Agent) grant(id draas.ServiceID, epoch draas.Epoch, event uint64) {
	sent, known := a.sent[event]
	if !known {
		return
	}
	p := permit{epoch, draas.DeadlineAt(sent, a.state.Policy.Services[id].Lease.Hold())}
	old := a.permits[id]
	if epoch > old.epoch || (epoch == old.epoch && p.deadline.Boot > old.deadline.Boot) {
		a.permits[id] = p
	}
}

// Look takes what this member sees now. Verdicts only: the agent proposes
// them when they differ from what the log says this member sees.
func (a *Agent) Look(o Observation) {
	key := viewKey{o.Service, o.Site, o.Peer, o.Frontend}
	if was, known := a.views[key]; !known || was != o {
		a.views[key], a.viewsAt, a.fresh = o, 0, true
	}
}

// Forget drops a view of something that is not looked at any more.
func (a *Agent) Forget(service draas.ServiceID, site draas.SiteID) {
	delete(a.views, viewKey{service: service, site: site})
}

// ForgetFrontend drops the view of a frontend that is not listened to any more.
func (a *Agent) ForgetFrontend(name string) {
	delete(a.views, viewKey{frontend: name})
}

// FenceClosed tells that the guard has observed the service's fence closed
// for the epoch and all before it.
func (a *Agent) FenceClosed(id draas.ServiceID, epoch draas.Epoch) {
	a.closed[id], a.fresh = max(a.closed[id], epoch), true
}

// StepEnded tells how a step ended that was commanded: done, refused for
// good, or released.
func (a *Agent) StepEnded(r runbook.Record) {
	key := stepKey{r.Service, r.Move.Epoch, r.Step, r.Outcome == runbook.OutcomeReleased}
	a.finished[key], a.fresh = r, true
}

// Offer takes another file's policy in place of the one that this member was
// started with. It is in force when the log says so, for all at once.
func (a *Agent) Offer(p Policy) {
	a.cfg.Policy, a.fresh = p, true
}

// Lag takes how far this site's copy of a service's data is behind.
func (a *Agent) Lag(id draas.ServiceID, l Lag) {
	if was, known := a.lags[id]; !known || was != l {
		a.lags[id], a.fresh = l, true
	}
}

// DeviceOff tells that a device was seen to have the holder of the epoch off.
func (a *Agent) DeviceOff(id draas.ServiceID, epoch draas.Epoch, evidence string) {
	a.off[id], a.fresh = proof{epoch, evidence}, true
}

// Greeted reports whether this run's own hello has been applied: all that was
// committed before this run started has been applied too.
func (a *Agent) Greeted() bool { return a.greeted }

// Fresh reports whether anything happened since the last Tick: if not, and
// Next has not passed, a Tick would say nothing new.
func (a *Agent) Fresh() bool { return a.fresh }

// Permit is the permit that this site holds for the service, or for the group
// that it is part of, and may serve under at the reading, if any.
func (a *Agent) Permit(id draas.ServiceID, now draas.Reading) (draas.Epoch, draas.Deadline, bool) {
	id = a.state.unitOf(id)
	p, held := a.permits[id]
	if !held || p.deadline.Passed(now) || !a.holds(id, p.epoch) {
		return 0, draas.Deadline{}, false
	}
	return p.epoch, p.deadline, true
}

// Renewed is, on this member's boot clock, when it last applied a renewal of the
// unit's permit, or its activation; zero: not since its start.
func (a *Agent) Renewed(unit draas.ServiceID) time.Duration { return a.renewed[unit] }

func (a *Agent) holds(id draas.ServiceID, epoch draas.Epoch) bool {
	sv := a.state.Services[id]
	if sv == nil || a.superseded {
		return false
	}
	site, current, held := sv.Holder()
	return held && site.Member() == a.cfg.Self && current == epoch
}

// event starts an event of this member's.
func (a *Agent) event(kind EventKind, now draas.Reading) Event {
	a.seq++
	return Event{Kind: kind, By: a.cfg.Self, Incarnation: a.cfg.Incarnation, ID: a.seq,
		At: time.Unix(0, int64(now.Wall)).UTC()}
}

// Request makes the event of an operator's request. Its ID finds the answer
// among the records.
func (a *Agent) Request(id draas.ServiceID, site draas.SiteID, r Request, now draas.Reading) Event {
	e := a.event(EventRequest, now)
	e.Service, e.Site, e.Request = id, site, &r
	return e
}

// Insist has a request that was proposed proposed again until it is decided, or
// given up: what was on its way to a leader may be lost with it. Of two requests
// the later one counts.
func (a *Agent) Insist(e Event, now draas.Reading) {
	a.asked = &e
	a.pending[insist] = proposal{e.ID, now.Boot}
}

// GiveUp has a request proposed no more. It may still be decided, if no later one
// is before.
func (a *Agent) GiveUp(id uint64) {
	if a.asked != nil && a.asked.ID == id {
		a.asked = nil
		delete(a.pending, insist)
	}
}

// Superseded reports whether the log knows another daemon under our name.
func (a *Agent) Superseded() error {
	if !a.superseded {
		return nil
	}
	return fmt.Errorf("another daemon has started as member %q: two daemons have one identity; stop one of them", a.cfg.Self)
}

func (a *Agent) ownSite() draas.SiteID { return a.cfg.Self.Site() }

func (a *Agent) serviceIDs() []draas.ServiceID { return a.state.ServiceIDs() }

func (a *Agent) dutiesOf(id draas.ServiceID) []Action {
	duties, known := a.duties[id]
	if !known {
		duties = a.state.Duties(id)
		a.duties[id] = duties
	}
	return duties
}

func sortViews(views []viewKey) {
	slices.SortFunc(views, func(x, y viewKey) int {
		return compareStrings(string(x.service), string(y.service), string(x.site), string(y.site), string(x.peer), string(y.peer),
			x.frontend, y.frontend)
	})
}

// compareStrings compares pairs of strings, the first that differ decide.
func compareStrings(pairs ...string) int {
	for i := 0; i+1 < len(pairs); i += 2 {
		switch {
		case pairs[i] < pairs[i+1]:
			return -1
		case pairs[i] > pairs[i+1]:
			return 1
		}
	}
	return 0
}
