package failover

import (
	"fmt"

	"github.com/draasd/draas"
)

// request answers an operator: a move begins, or a refusal with its reasons
// is recorded.
func (s *step) request() {
	id, r := s.e.Service, s.e.Request
	if r == nil || !s.first() {
		return
	}
	sv := s.service(id)
	what := string(r.Move)
	if r.Ask != "" && s.s.Version >= 2 {
		what = string(r.Ask)
	}
	if sv == nil || s.s.Policy.Services[id].Sites == nil {
		s.record(Record{Kind: RecordRefusal, Service: id, Text: what + " refused",
			Reasons: []Reason{no(ReasonPhase, "there is no service %q in the policy in force", id)}})
		return
	}
	reasons := []Reason{ok(ReasonOperator, "%s asked for it", operator(r))}
	if r.Expect != 0 && r.Expect != sv.Epoch {
		reasons = append(reasons, no(ReasonEpoch, "the request was made at epoch %s, now it is %s: look again", r.Expect, sv.Epoch))
	}
	if r.Ask != "" && s.s.Version >= 2 {
		s.ask(id, r, reasons)
		return
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
		reasons = append(reasons, s.mayForce(sv, id, &to, r)...)
	default:
		reasons = append(reasons, no(ReasonPhase, "%q is no move that can be asked for", r.Move))
	}
	if to != "" {
		reasons = append(reasons, s.s.fit(id, to))
	}
	if to != "" && r.Move != MoveActivate && s.s.Version >= 2 {
		reasons = append(reasons, s.risks(id, to, r)...)
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
	s.startMove(id, Move{Kind: r.Move, To: to, Operator: operator(r), Reason: r.Reason, Reasons: reasons, Vouched: s.vouched(r)})
}

// first reports whether a request was not decided before: it is proposed again
// until it is (Agent.Insist). One that a later one has overtaken was given up.
func (s *step) first() bool {
	if s.s.Version < 3 {
		return true
	}
	m := s.s.Members[s.e.By]
	if s.e.ID <= m.Asked {
		return false
	}
	m = m.clone()
	m.Asked = s.e.ID
	s.s.Members[s.e.By] = m
	return true
}

func (s *step) vouched(r *Request) bool { return r.Vouch && s.s.Version >= 2 }

// risks are the clauses that an operator's word can outweigh: what would be
// lost, what shows that the old site does not serve, and whether the target
// keeps failing, which an operator who names it is only told.
func (s *step) risks(id draas.ServiceID, to draas.SiteID, r *Request) []Reason {
	flaps := s.s.flapping(id, to)
	flaps.OK = true
	reasons := []Reason{flaps}
	if sv := s.s.Services[id]; to != sv.Active {
		reasons = append(reasons, s.s.loss(id, to, r.AllowDataLoss))
	}
	if r.Move == MoveFailover {
		reasons = append(reasons, s.s.proof(id, r.Vouch))
	}
	return reasons
}

// ask answers what moves nothing.
func (s *step) ask(id draas.ServiceID, r *Request, reasons []Reason) {
	sv := s.service(id)
	var enter []draas.ServiceID
	switch {
	case r.Move != "":
		reasons = append(reasons, no(ReasonPhase, "a request is for a move or for %s, not for both", r.Ask))
	case r.Ask == AskEnter && s.s.Version >= 3:
		var why []Reason
		enter, why = s.mayEnter(id, s.e.Site)
		reasons = append(reasons, why...)
	case r.Ask == AskPause && (r.For <= 0 || r.For > MaxPause):
		reasons = append(reasons, no(ReasonPause, "a pause lasts more than nothing and at most %v, not %v", MaxPause, r.For))
	case r.Ask == AskPause && r.Reason == "":
		reasons = append(reasons, no(ReasonPause, "a pause needs a reason: others will ask for it"))
	case r.Ask == AskResume && sv.Pause == nil:
		reasons = append(reasons, no(ReasonPause, "automatic moves of %s are not paused", id))
	case r.Ask != AskPause && r.Ask != AskResume && r.Ask != AskAcknowledge:
		reasons = append(reasons, no(ReasonPhase, "%q is nothing that can be asked for", r.Ask))
	}
	if !allOK(reasons) {
		s.refuse(id, string(r.Ask), reasons)
		return
	}
	switch r.Ask {
	case AskPause:
		sv.Pause = &Pause{Operator: operator(r), Reason: r.Reason, For: r.For, Since: s.e.At}
		delete(sv.Timers, timerPause)
		s.timer(sv, timerPause, r.For)
		s.record(Record{Kind: RecordPause, Service: id, Phase: sv.Phase, Epoch: sv.Epoch, Reasons: reasons,
			Text: fmt.Sprintf("%s paused automatic moves of %s for %v: %s", operator(r), id, r.For, r.Reason)})
	case AskResume:
		s.unpause(id, sv, fmt.Sprintf("%s ended the pause of %s", operator(r), id))
	case AskAcknowledge:
		s.acknowledge(id, sv, r)
	case AskEnter:
		s.enterAsAsked(id, r, enter, reasons)
	}
}

// acknowledge: somebody knows of the last moves, failures and findings; they hold
// nothing off any more, and the next hold is the shortest again.
func (s *step) acknowledge(id draas.ServiceID, sv *ServiceState, r *Request) {
	moves := sv.Unacked
	sv.Unacked = 0
	delete(sv.Timers, timerHold)
	for site := range sv.Flaps {
		delete(sv.Timers, timerSteady+string(site))
	}
	sv.Flaps, sv.Findings = nil, nil
	text := fmt.Sprintf("%s acknowledged the state of %s", operator(r), id)
	if moves > 0 {
		text += fmt.Sprintf(" and %d automatic moves", moves)
	}
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	s.record(Record{Kind: RecordAcknowledge, Service: id, Phase: sv.Phase, Epoch: sv.Epoch, Text: text})
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
		return []Reason{no(ReasonPhase, "%s %s since epoch %s: use switchover or failover", id, at, sv.Epoch)}
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
func (s *step) mayForce(sv *ServiceState, id draas.ServiceID, to *draas.SiteID, r *Request) []Reason {
	if sv.Phase == PhaseFencing && s.vouched(r) && !s.s.proven(id) && (*to == "" || *to == sv.Move.To) {
		*to = sv.Move.To
		return []Reason{ok(ReasonPhase, "the move to %s waits for a proof that %s does not serve", sv.Move.To, sv.Active)}
	}
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
		Reason: s.e.Request.Reason, Reasons: reasons, Vouched: s.vouched(s.e.Request)}
	sv.Move.plan(id, s.s.Policy.Services[id].Steps, s.s.Version)
	delete(sv.Timers, timerRetarget)
	delete(sv.Timers, timerTake)
	s.record(Record{Kind: RecordDecision, Service: id, Phase: sv.Phase, Epoch: was.Epoch, Text: describe(id, *sv.Move), Reasons: reasons})
}
