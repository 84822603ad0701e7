package failover

import (
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// ActionKind names what is to be done.
type ActionKind string

// The kinds of action. All but ActionRecord stand until the state says that
// they are done, so that whoever restarts or takes over finds them again with
// Duties.
const (
	// ActionServe: Member's site holds Epoch; renew the permit and keep the
	// fence open while it lasts.
	ActionServe ActionKind = "serve"
	// ActionClose: Member closes the fence for Epoch and all before it,
	// observes it closed, and says so with EventRelease.
	ActionClose ActionKind = "close"
	// ActionTake: Member proposes EventActivate for Epoch as soon as the old
	// permit is over, by release or by waiting out the lease.
	ActionTake ActionKind = "take"
	// ActionFence: Member has a device switch Site off, confirms that it is, and
	// says so with EventFenced for Epoch.
	ActionFence ActionKind = "fence"
	// ActionStep: Member carries out Due, or gives it up when Release is set,
	// and says EventDone with how it ended.
	ActionStep ActionKind = "step"
	// ActionTimer: every member measures After on its own clock and says
	// EventDue.
	ActionTimer ActionKind = "timer"
	// ActionRecord: a line of history came into being.
	ActionRecord ActionKind = "record"
)

// Action is one thing that has to be done, and by whom.
type Action struct {
	Kind    ActionKind
	Member  draas.MemberID // empty: every member
	Service draas.ServiceID
	Site    draas.SiteID
	Epoch   draas.Epoch
	Step    string
	Due     *runbook.Due
	Release bool
	Timer   string
	Mark    uint64
	After   time.Duration
	Record  *Record
}

// key tells standing actions apart; a record is never standing.
type actionKey struct {
	kind        ActionKind
	member      draas.MemberID
	service     draas.ServiceID
	epoch       draas.Epoch
	step, timer string
	mark        uint64
	release     bool
}

func (a Action) key() actionKey {
	return actionKey{a.Kind, a.Member, a.Service, a.Epoch, a.Step, a.Timer, a.Mark, a.Release}
}

// Duties lists what stands to be done for one service, in a fixed order. It
// depends on the state alone: a member that restarts has the same duties.
func (s State) Duties(id draas.ServiceID) []Action {
	sv := s.Services[id]
	if sv == nil {
		return nil
	}
	var out []Action
	if site, epoch, held := sv.Holder(); held {
		out = append(out, Action{Kind: ActionServe, Member: site.Member(), Service: id, Site: site, Epoch: epoch})
	}
	if sv.Active != "" && sv.Revoked && !sv.Released {
		out = append(out, Action{Kind: ActionClose, Member: sv.Active.Member(), Service: id, Site: sv.Active, Epoch: sv.Epoch})
	}
	if sv.Phase == PhaseFencing {
		out = append(out, Action{Kind: ActionTake, Member: sv.Move.To.Member(), Service: id, Site: sv.Move.To, Epoch: sv.Move.Epoch})
	}
	if s.fenceDue(id) {
		out = append(out, Action{Kind: ActionFence, Member: sv.Move.To.Member(), Service: id, Site: sv.Active, Epoch: sv.Epoch})
	}
	out = append(out, sv.stepDuties(id)...)
	names := make([]string, 0, 8)
	for name := range sv.Timers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t := sv.Timers[name]
		out = append(out, Action{Kind: ActionTimer, Service: id, Timer: name, Mark: t.Mark, After: t.After})
	}
	return out
}

// fenceDue: a device has to prove what the lease cannot; a planned move first
// gives the old holder the time to stop in order.
func (s *State) fenceDue(id draas.ServiceID) bool {
	sv := s.Services[id]
	if sv.Phase != PhaseFencing || s.proven(id) || !slices.Contains(s.rules(id).Devices, sv.Active) {
		return false
	}
	return sv.Released || !sv.Move.Kind.Planned()
}
