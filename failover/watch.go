package failover

import (
	"fmt"
	"strings"

	"github.com/draasd/draas"
)

// watch holds a settled service against what the vantages see of it.
func (s *step) watch(id draas.ServiceID) {
	sv, policy := s.s.Services[id], s.s.rules(id)
	v := s.s.judge(id, sv.Active)
	switch {
	case sv.Phase != PhaseSuspect && sv.Phase != PhaseConfirmed:
		if v.Verdict == draas.Suspect || v.Verdict == draas.Failed {
			s.service(id).Times = Times{Suspected: s.e.At}
			s.enter(id, PhaseSuspect, "%s", s.inWords(id))
		}
	case v.Verdict == draas.Healthy || v.Verdict == draas.Unknown:
		calm(s.service(id))
		s.service(id).Times = Times{}
		s.enter(id, s.settled(id), "nobody sees a failure any more")
	case sv.Phase == PhaseSuspect && v.Verdict == draas.Failed:
		if sv.Times.Failed.IsZero() {
			s.service(id).Times.Failed = s.e.At
		}
		s.count(id)
		if policy.Confirm <= 0 {
			s.enter(id, PhaseConfirmed, "%s", s.inWords(id))
		} else {
			s.timer(s.service(id), timerConfirm, policy.Confirm)
		}
	case sv.Phase == PhaseSuspect:
		if _, set := sv.Timers[timerConfirm]; set {
			delete(s.service(id).Timers, timerConfirm)
			s.service(id).Times = Times{Suspected: sv.Times.Suspected}
		}
	case v.Verdict == draas.Suspect:
		s.enter(id, PhaseSuspect, "%s", s.inWords(id))
	default:
		s.decide(id)
	}
}

// inWords says which vantages speak of a failure, in one line.
func (s *step) inWords(id draas.ServiceID) string {
	var parts []string
	for _, r := range s.s.because(id, s.s.Services[id].Active).reasons {
		if r.Code == ReasonQuorum || r.OK || strings.Contains(r.Text, draas.Suspect.String()) {
			parts = append(parts, r.Text)
		}
	}
	return strings.Join(parts, "; ")
}

// decide holds a confirmed failure against every clause of the policy. All
// clauses are looked at and recorded, whichever way it goes.
func (s *step) decide(id draas.ServiceID) {
	reasons, to := s.s.clauses(id)
	if !allOK(reasons) {
		s.refuse(id, "automatic failover", reasons)
		return
	}
	s.startMove(id, Move{Kind: MoveFailover, To: to, Reasons: reasons})
}

// clauses are all that an automatic move has to pass, and where it would go.
func (s *State) clauses(id draas.ServiceID) ([]Reason, draas.SiteID) {
	sv, policy := s.Services[id], s.rules(id)
	reasons := s.because(id, sv.Active).reasons
	if policy.Automatic {
		reasons = append(reasons, ok(ReasonAutomatic, "automatic moves are on"))
	} else {
		reasons = append(reasons, no(ReasonAutomatic, "automatic = false: run draasd failover %s", id))
	}
	reasons = append(reasons, s.proof(id, false), s.sameConfig(), s.paused(id), s.held(id), s.worth(id), s.cheaper(id))
	to, why := s.target(id, sv.Active,
		func(site draas.SiteID) Reason { return s.flapping(id, site) },
		func(site draas.SiteID) Reason { return s.loss(id, site, false) })
	return append(reasons, why...), to
}

func fenceReason(k draas.FenceKind) Reason {
	if k.OutlivesDaemon() {
		return ok(ReasonFence, "fence %s closes the old site without its daemon", k)
	}
	return no(ReasonFence, "fence %s does not outlive the daemon: no automatic unplanned move", k)
}

// refuse records why something wanted is not done, once for the same reasons.
func (s *step) refuse(id draas.ServiceID, what string, reasons []Reason) {
	sv := s.service(id)
	if s.e.Kind != EventRequest {
		said := outcome(what, reasons)
		if sv.Refused == said {
			return
		}
		sv.Refused = said
	}
	s.record(Record{Kind: RecordRefusal, Service: id, Phase: sv.Phase, Epoch: sv.Epoch, Text: what + " refused", Reasons: reasons})
}

// outcome is what was refused and by which clauses, so that the same is told
// once.
func outcome(what string, reasons []Reason) string {
	var sum strings.Builder
	sum.WriteString(what)
	for _, r := range reasons {
		if !r.OK && r.Code != ReasonVantage {
			fmt.Fprintf(&sum, " %s:%s", r.Code, r.Text)
		}
	}
	return sum.String()
}

// Explain holds every clause that an automatic move would have to pass against
// the present facts: the answer to "why did it not move", or "would it".
func (s State) Explain(id draas.ServiceID) []Reason {
	sv := s.Services[id]
	if sv == nil {
		return []Reason{no(ReasonPhase, "there is no service %q in the policy in force", id)}
	}
	if sv.Active == "" {
		return []Reason{no(ReasonPhase, "%s was never active: run draasd activate %s SITE", id, id)}
	}
	reasons, _ := s.clauses(id)
	return reasons
}
