package failover

import (
	"fmt"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// startMove revokes the permit in force, if there is one, and begins to move
// the service. The entry that is being applied is the revocation: renewals
// that come after it in the log are void.
func (s *step) startMove(id draas.ServiceID, m Move) {
	sv := s.service(id)
	s.giveUp(sv)
	m.From, m.Epoch = sv.Active, s.s.next(id)
	m.plan(id, s.s.Policy.Services[id].Steps, s.s.Version)
	sv.Times.Decided = s.e.At
	sv.Revoked, sv.Released, sv.Fenced = sv.Active != "", sv.Active == "", false
	sv.Move = &m
	calm(sv)
	delete(sv.Timers, timerRetarget)
	delete(sv.Timers, timerTake)
	delete(sv.Timers, timerStart)
	s.record(Record{Kind: RecordDecision, Service: id, Phase: sv.Phase, Epoch: m.Epoch,
		Text: describe(id, m), Reasons: m.Reasons})
	switch {
	case m.From == "":
		s.enter(id, PhaseFencing, "nobody held it: %s may take epoch %s", m.To, m.Epoch)
	default:
		s.enter(id, PhaseFencing, "permit %s of %s is revoked", sv.Epoch, m.From)
	}
}

func describe(id draas.ServiceID, m Move) string {
	text := string(m.Kind) + " of " + string(id)
	if m.From != "" {
		text += " from " + string(m.From)
	}
	text += " to " + string(m.To)
	if m.Operator != "" {
		text += " by " + m.Operator
	}
	if m.Reason != "" {
		text += ": " + m.Reason
	}
	return text
}

// fencing watches over a move whose new site is not active yet.
func (s *step) fencing(id draas.ServiceID) {
	s.leave(id)
	sv := s.s.Services[id]
	waits := sv.Move.Kind.Planned() && !sv.Released || !s.s.proven(id)
	s.keep(id, timerRetarget, waits || !s.s.fit(id, sv.Move.To).OK, s.s.Policy.Retarget)
	s.keep(id, timerTake, s.s.takeable(id), s.s.Policy.Take)
}

// keep has a timer measured as long as there is something to wait for.
func (s *step) keep(id draas.ServiceID, timer string, waits bool, after time.Duration) {
	_, set := s.s.Services[id].Timers[timer]
	switch {
	case waits && !set:
		s.timer(s.service(id), timer, after)
	case !waits && set:
		delete(s.service(id).Timers, timer)
	}
}

// takeable reports whether nothing stands any more between a move's target and
// its activation: the old holder, or a device, has said that the old permit is
// over.
func (s *State) takeable(id draas.ServiceID) bool {
	sv := s.Services[id]
	return s.Version >= 3 && s.Policy.Take > 0 && sv.Active != "" && (sv.Released || sv.Fenced) && s.proven(id)
}

// leave turns a move away from a target that is lost, as soon as there is
// another: nothing is gained by waiting for it. That is safe at any time before
// the activation: the log grants the epoch to the target of then, and whoever
// takes it has a proof of its own that the old permit is over. A first
// activation waits: it was asked for this site, and nobody is served meanwhile.
func (s *step) leave(id draas.ServiceID) {
	if m := s.s.Services[id].Move; s.s.Version < 3 || m.From == "" || !s.s.gone(id, m.To) {
		return
	}
	if to, reasons := s.s.elsewhere(id); to != "" && s.s.paused(id).OK {
		s.turnTo(id, to, reasons)
	}
}

// turnBack ends the wait for a target that is not fit any more or does not take
// what is free, or for an old holder that does not hand over: the move turns to
// a site that is fit, the old one first. That is a new epoch for it like for
// anybody, and no hold-off stands against it.
func (s *step) turnBack(id draas.ServiceID) {
	if s.s.Services[id].Phase != PhaseFencing {
		return
	}
	to, reasons := s.s.elsewhere(id)
	if r := s.s.paused(id); !r.OK {
		to, reasons = "", []Reason{r}
	}
	if to != "" {
		s.turnTo(id, to, reasons)
		return
	}
	s.refuse(id, "turning the move back", reasons)
	if s.e.Timer == timerTake {
		// What is free is free for longer now: the log is not filled with looking.
		s.timer(s.service(id), timerTake, s.s.Policy.Retarget)
	}
}

// elsewhere is where a move can turn to that nobody has taken yet: the site that
// it came from, or else another that is fit.
func (s *State) elsewhere(id draas.ServiceID) (draas.SiteID, []Reason) {
	m := s.Services[id].Move
	var reasons []Reason
	if m.From != "" && m.From != m.To {
		r := s.fit(id, m.From)
		if reasons = append(reasons, r); r.OK {
			return m.From, reasons
		}
	}
	to, why := s.target(id, m.To)
	return to, append(reasons, why...)
}

// turnTo gives a move that nobody has taken yet another target.
func (s *step) turnTo(id draas.ServiceID, to draas.SiteID, reasons []Reason) {
	sv := s.service(id)
	was := sv.Move
	reason := s.s.overdue(id)
	sv.Move = &Move{Kind: MoveUndo, From: was.From, To: to, Epoch: was.Epoch, Operator: was.Operator, Reasons: reasons, Reason: reason}
	sv.Move.plan(id, s.s.Policy.Services[id].Steps, s.s.Version)
	delete(sv.Timers, timerRetarget)
	delete(sv.Timers, timerTake)
	s.record(Record{Kind: RecordDecision, Service: id, Phase: sv.Phase, Epoch: sv.Move.Epoch,
		Text: describe(id, *sv.Move), Reasons: reasons})
}

// overdue says, of a move that nobody has taken yet, what it has waited for in
// vain.
func (s *State) overdue(id draas.ServiceID) string {
	sv := s.Services[id]
	m := sv.Move
	target := s.fit(id, m.To)
	switch {
	case s.Version >= 3 && s.gone(id, m.To):
		return fmt.Sprintf("%s did not take over: %s", m.To, target.Text)
	case m.Kind.Planned() && !sv.Released:
		return string(m.From) + " did not hand over in time"
	case !s.proven(id):
		return "no device confirmed in time that " + string(m.From) + " is off"
	}
	return string(m.To) + " did not take over"
}

// release: the old holder has closed its fence and observed it closed. It is
// terminal for its epoch.
func (s *step) release() {
	sv := s.service(s.e.Service)
	if sv == nil || !sv.Revoked || sv.Released || sv.Epoch != s.e.Epoch || sv.Active.Member() != s.e.By {
		return
	}
	sv.Released = true
	sv.Times.Released = s.e.At
	s.record(Record{Kind: RecordPhase, Service: s.e.Service, Phase: sv.Phase, Epoch: sv.Epoch,
		Text: string(sv.Active) + " is closed and has released its permit"})
}

// fenced: a device has switched the old site off, and it was seen to be off.
func (s *step) fenced() {
	sv := s.service(s.e.Service)
	if sv == nil || sv.Phase != PhaseFencing || !sv.Revoked || sv.Fenced || sv.Epoch != s.e.Epoch || sv.Move.To.Member() != s.e.By {
		return
	}
	sv.Fenced = true
	s.record(Record{Kind: RecordPhase, Service: s.e.Service, Phase: sv.Phase, Epoch: sv.Epoch,
		Text: fmt.Sprintf("%s is off, confirmed by %s: %s", sv.Active, s.e.By, s.e.Evidence)})
}

// activate grants the next epoch. Who proposes it has waited on its own clock
// or seen the release; here the log makes sure that there is one, and that a
// planned move was a handover.
func (s *step) activate() {
	id := s.e.Service
	sv := s.service(id)
	if sv == nil || sv.Phase != PhaseFencing || sv.Move.Epoch != s.e.Epoch || sv.Move.To.Member() != s.e.By {
		return
	}
	m := sv.Move
	if m.Kind.Planned() && !sv.Released || !s.s.proven(id) {
		return
	}
	m.Evidence = s.e.Evidence
	// A site that is no longer fit does not take over: verified again after
	// winning, before acting.
	if r := s.s.fit(id, m.To); !r.OK {
		s.refuse(id, "activation of "+string(m.To), []Reason{r})
		return
	}
	if sv.Active != m.To {
		sv.Linger = 0 // who takes from another has waited for its older permits; who takes back may still be open by them
	}
	sv.Active, sv.Epoch, sv.Revoked, sv.Released, sv.Fenced = m.To, m.Epoch, false, false, false
	// Copies are behind the site that is active now, and nobody has said how far.
	sv.Lags = nil
	sv.Times.Activated = s.e.At
	delete(sv.Timers, timerRetarget)
	delete(sv.Timers, timerTake)
	if policy := s.s.Policy.Services[id]; policy.Start > 0 {
		sv.Timers[timerStart] = Timer{Mark: s.e.Index, After: policy.Start}
	}
	// What others saw of the new site was seen of its closed fence.
	for _, part := range s.s.parts(id) {
		for site, views := range s.s.views(id, part) {
			for member := range views {
				if member != site.Member() {
					delete(views, member)
				}
			}
		}
	}
	sv.Findings = nil
	s.enter(id, PhaseRedirecting, "%s is active under epoch %s: %s", m.To, m.Epoch, s.e.Evidence)
	s.enterAnew(id)
}

// moved watches over a move whose new site is active: are the users moved,
// and does it answer from outside?
func (s *step) moved(id draas.ServiceID) {
	sv := s.s.Services[id]
	v := s.s.judge(id, sv.Active)
	if v.Verdict == draas.Failed {
		_, starting := sv.Timers[timerStart]
		if starting && s.s.Version >= 3 && s.s.isDown(sv.Active.Member()) {
			starting = false // nobody is left there who could bring it up
		}
		if !starting {
			s.undo(id)
		}
		return
	}
	if sv.Phase == PhaseRedirecting {
		if runbook.Next(sv.Move.Plan, sv.Move.Journal).Status != runbook.Finished {
			return
		}
		s.service(id).Times.Redirected = s.e.At
		s.enter(id, PhaseVerifying, "users are being sent to %s", sv.Active)
		return
	}
	if v.Verdict == draas.Healthy && (v.outside || s.s.solitary(sv.Active)) {
		s.complete(id)
	}
}

// solitary reports whether nobody is left who could look at a site from
// outside: its member started the cluster anew, and none is back yet.
func (s *State) solitary(site draas.SiteID) bool {
	for _, m := range s.Policy.Members {
		if m.ID != site.Member() && s.Members[m.ID] != nil {
			return false
		}
	}
	return s.Generation > 0
}

// undo turns an unfinished move around: its new site failed. A new epoch, and
// not held off (orchestrator#1296).
func (s *step) undo(id draas.ServiceID) {
	sv, policy := s.s.Services[id], s.s.rules(id)
	// The data-loss guard does not stand against it: what was written at a site
	// that was never seen well from outside is what is lost.
	reasons := append(s.s.because(id, sv.Active).reasons, s.s.proof(id, false), s.s.paused(id))
	to, why := s.s.target(id, sv.Active)
	reasons = append(reasons, why...)
	if !policy.Automatic {
		reasons = append(reasons, no(ReasonAutomatic, "automatic = false: run draasd failover %s", id))
	}
	if !allOK(reasons) {
		s.refuse(id, "undoing the move", reasons)
		return
	}
	m := Move{Kind: MoveUndo, To: to, Reasons: reasons, Reason: string(sv.Active) + " failed before the move was complete"}
	s.service(id).Times = Times{Suspected: s.e.At, Failed: s.e.At}
	s.startMove(id, m)
}

func (s *step) complete(id draas.ServiceID) {
	sv := s.service(id)
	sv.Times.Verified = s.e.At
	m := *sv.Move
	m.Times = sv.Times
	sv.Last, sv.Move, sv.Times = &m, nil, Times{}
	delete(sv.Timers, timerStart)
	s.hold(id, m)
	s.record(Record{Kind: RecordDone, Service: id, Phase: sv.Phase, Epoch: sv.Epoch, Text: describe(id, m) + " is complete", Move: &m})
	s.enter(id, s.settled(id), "%s serves under epoch %s", sv.Active, sv.Epoch)
}
