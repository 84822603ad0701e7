package failover

import (
	"fmt"

	"github.com/draasd/draas"
)

// request answers an operator: a move begins, or a refusal with its reasons
// is recorded.
func (s *step) request() {
	id, r := s.e.Service, s.e.Request
	if r == nil {
		return
	}
	sv := s.service(id)
	if sv == nil {
		s.record(Record{Kind: RecordRefusal, Service: id, Text: fmt.Sprintf("%s refused", r.Move),
			Reasons: []Reason{no(ReasonPhase, "there is no service %q in the policy in force", id)}})
		return
	}
	reasons := []Reason{ok(ReasonOperator, "%s asked for it", operator(r))}
	if r.Expect != 0 && r.Expect != sv.Epoch {
		reasons = append(reasons, no(ReasonEpoch, "the request was made at epoch %d, now it is %d: look again", r.Expect, sv.Epoch))
	}
	to := s.e.Site
	if r.Move == MoveFailback {
		to = s.s.Policy.Services[id].Home
	}
	switch r.Move {
	case MoveActivate:
		reasons = append(reasons, s.mayActivate(sv, id)...)
	case MoveSwitchover, MoveFailback:
		reasons = append(reasons, s.mayPlan(sv, id, &to)...)
	case MoveFailover:
		reasons = append(reasons, s.mayForce(sv, id, &to)...)
	default:
		reasons = append(reasons, no(ReasonPhase, "%q is no move that can be asked for", r.Move))
	}
	if to != "" {
		reasons = append(reasons, s.s.fit(id, to))
	}
	if !allOK(reasons) {
		s.refuse(id, string(r.Move), reasons)
		return
	}
	if sv.Phase == PhaseFencing {
		s.redirectMove(id, to, reasons)
		return
	}
	sv.Times = Times{}
	s.startMove(id, Move{Kind: r.Move, To: to, Operator: operator(r), Reason: r.Reason, Reasons: reasons})
}

func operator(r *Request) string {
	if r.Operator == "" {
		return "an operator"
	}
	return r.Operator
}

// mayActivate: only what was never active can be activated; afterwards there
// is somebody to fence (rule 2).
func (s *step) mayActivate(sv *ServiceState, id draas.ServiceID) []Reason {
	if sv.Phase != PhaseInactive {
		at := "is moving to " + string(sv.heading())
		if !sv.Phase.Moving() {
			at = "is active at " + string(sv.Active)
		}
		return []Reason{no(ReasonPhase, "%s %s since epoch %d: use switchover or failover", id, at, sv.Epoch)}
	}
	return []Reason{ok(ReasonPhase, "%s was never active", id)}
}

func (sv *ServiceState) heading() draas.SiteID {
	if sv.Move != nil {
		return sv.Move.To
	}
	return sv.Active
}

// mayPlan: a planned move is a handover between two living sites.
func (s *step) mayPlan(sv *ServiceState, id draas.ServiceID, to *draas.SiteID) []Reason {
	if r := s.notMoving(sv, id); !r.OK {
		*to = ""
		return []Reason{r}
	}
	reasons := s.choose(sv, id, to)
	if down, who := s.s.down(sv.Active.Member()); down {
		return append(reasons, no(ReasonPlanned, "the daemon at %s cannot be reached by %v and so cannot hand over: use failover", sv.Active, who))
	}
	return append(reasons, ok(ReasonPlanned, "%s can hand over", sv.Active))
}

// mayForce: an operator's failover needs no verdict, but the old permit is
// waited out all the same. During a move that is stuck before its activation
// it turns the move to another site.
func (s *step) mayForce(sv *ServiceState, id draas.ServiceID, to *draas.SiteID) []Reason {
	if sv.Phase == PhaseFencing && *to != "" && *to != sv.Move.To {
		return []Reason{ok(ReasonPhase, "the move to %s has not been activated yet", sv.Move.To)}
	}
	if sv.Phase == PhaseInactive || sv.Phase == PhaseFencing {
		*to = ""
		return []Reason{s.notMoving(sv, id)}
	}
	// A move whose new site is active already may be overruled: it is a new
	// epoch like any other.
	return s.choose(sv, id, to)
}

func (s *step) notMoving(sv *ServiceState, id draas.ServiceID) Reason {
	switch {
	case sv.Phase == PhaseInactive:
		return no(ReasonPhase, "%s was never active: use activate", id)
	case sv.Phase == PhaseFencing:
		return no(ReasonPhase, "a %s to %s is under way", sv.Move.Kind, sv.Move.To)
	case sv.Phase.Moving() && sv.Move.Kind != MoveActivate:
		return no(ReasonPhase, "a %s to %s is under way", sv.Move.Kind, sv.Move.To)
	}
	return ok(ReasonPhase, "no move is under way")
}

// choose fills in the site when the request names none.
func (s *step) choose(sv *ServiceState, id draas.ServiceID, to *draas.SiteID) []Reason {
	if *to == sv.Active {
		at := *to
		*to = ""
		return []Reason{no(ReasonPhase, "%s is active at %s already", id, at)}
	}
	if *to != "" {
		return nil
	}
	site, why := s.s.target(id, sv.Active)
	if site == "" {
		return why
	}
	*to = site
	return nil
}

// redirectMove turns a move that nobody has taken yet to another site.
func (s *step) redirectMove(id draas.ServiceID, to draas.SiteID, reasons []Reason) {
	sv := s.service(id)
	was := sv.Move
	sv.Move = &Move{Kind: MoveFailover, From: was.From, To: to, Epoch: was.Epoch, Operator: operator(s.e.Request),
		Reason: s.e.Request.Reason, Reasons: reasons}
	sv.Move.plan(id, s.s.Policy.Services[id].Steps)
	delete(sv.Timers, timerRetarget)
	s.record(Record{Kind: RecordDecision, Service: id, Phase: sv.Phase, Epoch: was.Epoch, Text: describe(id, *sv.Move), Reasons: reasons})
}
