// Package failover is the decision: which site is active for each service.
//
// It is a state machine over the replicated log. Step takes a state and an
// event to the next state and says what has newly become due; every member
// applies the same events and so reaches the same state. It is pure: no
// clock, no goroutine, no network. Durations are measured by the members on
// their own clocks and come back as events (EventDue); the wall-clock stamps
// in events are for people only.
//
// Agent is the member's own half: what this member proposes and commands at a
// given reading of its clocks, permits and their arithmetic included.
package failover

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Phase is where a service stands.
type Phase string

// The phases. A service whose last move ended away from its home site is
// elsewhere, otherwise the same as normal.
const (
	PhaseInactive    Phase = "inactive"    // never activated: nobody serves
	PhaseNormal      Phase = "normal"      // active at home
	PhaseElsewhere   Phase = "elsewhere"   // active, not at home
	PhaseSuspect     Phase = "suspect"     // somebody sees a failure
	PhaseConfirmed   Phase = "confirmed"   // enough see it, long enough
	PhaseFencing     Phase = "fencing"     // the old permit is revoked and runs out
	PhaseRedirecting Phase = "redirecting" // the new site is active; users are moved
	PhaseVerifying   Phase = "verifying"   // moved; seen from outside?
)

// Moving reports whether a move is under way.
func (p Phase) Moving() bool {
	return p == PhaseFencing || p == PhaseRedirecting || p == PhaseVerifying
}

// State is everything that the members agree on. Its zero value is the state
// before the first event. It is a value: Step never changes the one it is
// given.
type State struct {
	Index uint64 `json:"index"`
	// Version is the version of Step that all members step by; zero is 1.
	Version int `json:"version,omitempty"`
	// Generation grows when a survivor of a lost majority starts anew.
	Generation uint32 `json:"generation,omitempty"`

	At       time.Time                         `json:"at"` // stamp of the latest event
	Policy   Policy                            `json:"policy"`
	Members  map[draas.MemberID]*MemberState   `json:"members"`
	Services map[draas.ServiceID]*ServiceState `json:"services"`
	History  []Record                          `json:"history"`

	ids []draas.ServiceID // of the policy's units, sorted; nil: not known yet
	// used is how much of the array behind History is in use: only the state
	// that reaches to its end may go on in it.
	used *int
}

// MemberState is what the log says of a member.
type MemberState struct {
	Incarnation draas.Incarnation `json:"incarnation"`
	Boot        string            `json:"boot"`
	Digest      string            `json:"digest"`
	Version     int               `json:"version"`
	// Moved says that the member came up on another boot than the one before,
	// and has not yet waited out the permits of that one: it may be a copy of a
	// machine that still runs.
	Moved bool `json:"moved,omitempty"`
	// Asked is the ID of the last request to this run of it that was decided.
	Asked uint64 `json:"asked,omitempty"`
	// Peers is how this member sees the others' daemons.
	Peers map[draas.MemberID]Observation `json:"peers,omitempty"`
	// Frontends is how this member hears the frontends of the policy's ways.
	Frontends map[string]Observation `json:"frontends,omitempty"`
}

// ServiceState is what the log says of a service.
type ServiceState struct {
	Phase  Phase        `json:"phase"`
	Active draas.SiteID `json:"active,omitempty"` // holder of Epoch
	Epoch  draas.Epoch  `json:"epoch"`
	// Revoked voids renewals of Epoch: a move is under way.
	Revoked bool `json:"revoked,omitempty"`
	// Released says that the holder of Epoch has closed and said so.
	Released bool `json:"released,omitempty"`
	// Times marks the phases of the present trouble or move.
	Times  Times            `json:"times"`
	Move   *Move            `json:"move,omitempty"`
	Last   *Move            `json:"last,omitempty"` // the last completed move
	Left   []Leftover       `json:"left,omitempty"` // plans to be released
	Timers map[string]Timer `json:"timers,omitempty"`
	// Views holds each vantage's observation of each site.
	Views Views `json:"views,omitempty"`
	// Parts holds the views of the services of a group; Views is empty then.
	Parts map[draas.ServiceID]Views `json:"parts,omitempty"`
	// Fenced says that a device has the holder of the revoked Epoch off.
	Fenced bool `json:"fenced,omitempty"`
	// Pause stands while automatic moves are paused.
	Pause *Pause `json:"pause,omitempty"`
	// Unacked counts the automatic moves completed since the last
	// acknowledgement.
	Unacked int `json:"unacked,omitempty"`
	// Flaps counts, for each site, failures not yet forgotten.
	Flaps map[draas.SiteID]int `json:"flaps,omitempty"`
	// Lags is how far each site's copy is behind, as of when the active site
	// was last well.
	Lags map[draas.SiteID]Lag `json:"lags,omitempty"`
	// Counted says that the clocks of the present failure were started.
	Counted bool `json:"counted,omitempty"`
	// Linger is how long a permit of an earlier policy may outlast one of the
	// present: lease of then and now, each as a successor waits it out.
	Linger time.Duration `json:"linger_ns,omitempty"`
	// Refused is the outcome of the latest evaluation that moved nothing,
	// kept so that the same refusal is recorded once.
	Refused string `json:"refused,omitempty"`
	// Entries are, of each part that has ways, where its name leads. Parts
	// without one lead to the active site.
	Entries map[draas.ServiceID]Entry `json:"entries,omitempty"`
	// Turns counts the changes of entries in all epochs. It only grows.
	Turns uint64 `json:"turns,omitempty"`
	// Findings is what was found last of each step's work in this epoch, so
	// that the same finding is recorded once.
	Findings map[string]FindingCode `json:"findings,omitempty"`
}

// Views are the observations of a service: of each site, by each vantage.
type Views map[draas.SiteID]map[draas.MemberID]Observation

func (v Views) clone() Views {
	c := make(Views, len(v))
	for site, views := range v {
		c[site] = maps.Clone(views)
	}
	return c
}

// Pause says who wants no automatic moves, why and for how long.
type Pause struct {
	Operator string        `json:"operator"`
	Reason   string        `json:"reason"`
	For      time.Duration `json:"for_ns"`
	Since    time.Time     `json:"since"` // the proposer's stamp, for people
}

// Times are the proposers' stamps of the turning points of a move, for the
// timeline. The zero time means that the point was not reached.
type Times struct {
	Suspected  time.Time `json:"suspected,omitzero"`
	Failed     time.Time `json:"failed,omitzero"` // k domains said so
	Decided    time.Time `json:"decided,omitzero"`
	Released   time.Time `json:"released,omitzero"`
	Activated  time.Time `json:"activated,omitzero"`
	Redirected time.Time `json:"redirected,omitzero"`
	Verified   time.Time `json:"verified,omitzero"`
}

// Move is a change of the active site under way, or the last one made.
type Move struct {
	Kind     MoveKind     `json:"kind"`
	From     draas.SiteID `json:"from,omitempty"`
	To       draas.SiteID `json:"to"`
	Epoch    draas.Epoch  `json:"epoch"` // the one it grants
	Operator string       `json:"operator,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	Reasons  []Reason     `json:"reasons,omitempty"`
	Evidence string       `json:"evidence,omitempty"` // why the old permit was over
	// Vouched: the operator vouched that the old site does not serve.
	Vouched bool `json:"vouched,omitempty"`
	// Plan is what moves the users, and Journal what became of it.
	Plan    runbook.Plan    `json:"plan"`
	Journal runbook.Journal `json:"journal,omitempty"`
	Times   Times           `json:"times"`
}

// Timer is a duration that somebody's clock has to measure. Mark is the index
// of the event that set it: a due event for an older timer does nothing.
type Timer struct {
	Mark  uint64        `json:"mark"`
	After time.Duration `json:"after"`
}

// The timers of a service.
const (
	timerConfirm  = "confirm"  // a failure must last this long
	timerRetarget = "retarget" // a move's target or old holder keeps it waiting
	timerTake     = "take"     // a move's target may take over, and has not
	timerHold     = "hold"     // no automatic move yet
	timerStart    = "start"    // a site just activated is coming up
	timerOutage   = "outage"   // the least outage worth a failover
	timerRestart  = "restart"  // a restart would be cheaper
	timerPause    = "pause"    // a pause ends
	timerSteady   = "steady "  // and a site: one failure there is forgotten
	timerEntry    = "entry "   // and a part: its entry's frontends must have failed this long
)

func (s State) clone() State {
	s.Members = maps.Clone(s.Members)
	s.Services = maps.Clone(s.Services)
	if s.Members == nil {
		s.Members = make(map[draas.MemberID]*MemberState)
	}
	if s.Services == nil {
		s.Services = make(map[draas.ServiceID]*ServiceState)
	}
	return s
}

func (m *MemberState) clone() *MemberState {
	c := *m
	c.Peers, c.Frontends = maps.Clone(m.Peers), maps.Clone(m.Frontends)
	if c.Peers == nil {
		c.Peers = make(map[draas.MemberID]Observation)
	}
	return &c
}

func (s *ServiceState) clone() *ServiceState {
	c := *s
	c.Timers = maps.Clone(s.Timers)
	if c.Timers == nil {
		c.Timers = make(map[string]Timer)
	}
	c.Views = s.Views.clone()
	if s.Parts != nil {
		c.Parts = make(map[draas.ServiceID]Views, len(s.Parts))
		for part, views := range s.Parts {
			c.Parts[part] = views.clone()
		}
	}
	c.Flaps, c.Lags = maps.Clone(s.Flaps), maps.Clone(s.Lags)
	c.Entries, c.Findings = maps.Clone(s.Entries), maps.Clone(s.Findings)
	if s.Move != nil {
		m := *s.Move
		c.Move = &m
	}
	return &c
}

// Validate reports a state that no log can have led to and that the decision
// could not go on from: one read from elsewhere is looked at before it counts.
func (s *State) Validate() error {
	var errs []error
	for id, m := range s.Members {
		if m == nil {
			errs = append(errs, fmt.Errorf("member %q has no state", id))
		}
	}
	for id, sv := range s.Services {
		if sv == nil {
			errs = append(errs, fmt.Errorf("service %q has no state", id))
			continue
		}
		if sv.Phase.Moving() && sv.Move == nil {
			errs = append(errs, fmt.Errorf("service %q is %s and has no move", id, sv.Phase))
		}
		if _, set := sv.Timers[timerPause]; set && sv.Pause == nil {
			errs = append(errs, fmt.Errorf("service %q measures a pause that is none", id))
		}
		for part, e := range sv.Entries {
			if e.Site == "" {
				errs = append(errs, fmt.Errorf("service %q enters at no site", part))
			}
		}
	}
	return errors.Join(errs...)
}

// ServiceIDs lists the units of the policy in force, in a fixed order. The
// list must not be changed.
func (s State) ServiceIDs() []draas.ServiceID {
	if s.ids != nil {
		return s.ids
	}
	ids := make([]draas.ServiceID, 0, len(s.Services))
	for id := range s.Services {
		if _, has := s.Policy.Services[id]; has {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// rules is the policy of a unit as the version in force reads it: what an
// earlier version does not know, nobody goes by.
func (s *State) rules(id draas.ServiceID) ServicePolicy {
	p := s.Policy.Services[id]
	if s.Version >= 3 {
		return p
	}
	p.Ways = nil
	if s.Version == 2 {
		return p
	}
	if p.Fence == draas.FenceDevice {
		p.Fence = draas.FenceNone
	}
	p.HoldMax, p.LeastOutage, p.Restart, p.Flaps, p.Steady, p.MaxLoss = 0, 0, 0, 0, 0, 0
	p.OnLeaseLoss, p.Devices, p.Parts = "", nil, nil
	return p
}

// parts lists the services that a unit is made of.
func (s *State) parts(id draas.ServiceID) []draas.ServiceID {
	if parts := s.rules(id).Parts; len(parts) > 0 {
		return parts
	}
	return []draas.ServiceID{id}
}

// views are the observations of one part of a unit.
func (s *State) views(id, part draas.ServiceID) Views {
	if part == id {
		return s.Services[id].Views
	}
	return s.Services[id].Parts[part]
}

// next is the epoch that the next move of a unit grants. It is above those of
// units that the file has no more, too: the unit may have taken over their
// services, whose guards and answers know the epochs.
func (s *State) next(id draas.ServiceID) draas.Epoch {
	last := s.Services[id].Epoch
	for other, sv := range s.Services {
		if _, has := s.Policy.Services[other]; !has {
			last = max(last, sv.Epoch)
		}
	}
	return max(last+1, draas.EpochOf(s.Generation, 1))
}

// leaseProves reports whether the end of a lease shows that the old site does
// not serve any more: something closes it there.
func (s *State) leaseProves(id draas.ServiceID) bool {
	if s.Version < 2 {
		return true
	}
	p := s.rules(id)
	return p.Fence.OutlivesDaemon() && p.Fence != draas.FenceDevice && p.OnLeaseLoss != draas.LeaseLossServe
}

// proven reports whether it is certain that the old site does not serve, or
// will be when its lease has been waited out.
func (s *State) proven(id draas.ServiceID) bool {
	sv, policy := s.Services[id], s.rules(id)
	switch {
	case s.leaseProves(id), sv.Active == "", sv.Fenced, sv.Move.Vouched, sv.Move.To == sv.Active:
		return true
	}
	// Who was told to close and has, does not serve; but where only others can
	// switch the site off, nothing has closed.
	return sv.Released && policy.Fence != draas.FenceDevice
}

// Holder is the site whose member may renew a permit for the service, and the
// epoch; none while a move has revoked it or before the first activation.
func (s *ServiceState) Holder() (draas.SiteID, draas.Epoch, bool) {
	if s.Active == "" || s.Revoked {
		return "", 0, false
	}
	return s.Active, s.Epoch, true
}
