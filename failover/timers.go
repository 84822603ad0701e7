package failover

import (
	"fmt"
	"strings"
	"time"

	"github.com/draasd/draas"
)

// due: somebody's clock has measured a timer. One that was set again since, or
// removed, is another timer.
func (s *step) due() {
	sv := s.service(s.e.Service)
	if sv == nil {
		return
	}
	t, set := sv.Timers[s.e.Timer]
	if !set || t.Mark != s.e.Mark {
		return
	}
	delete(sv.Timers, s.e.Timer)
	switch s.e.Timer {
	case timerConfirm:
		if sv.Phase == PhaseSuspect {
			s.enter(s.e.Service, PhaseConfirmed, "the failure has lasted long enough")
		}
	case timerRetarget, timerTake:
		s.turnBack(s.e.Service)
	case timerPause:
		s.unpause(s.e.Service, sv, fmt.Sprintf("the pause by %s is over", sv.Pause.Operator))
	}
	if site, ok := strings.CutPrefix(s.e.Timer, timerSteady); ok {
		s.steady(s.e.Service, sv, draas.SiteID(site))
	}
	if part, ok := strings.CutPrefix(s.e.Timer, timerEntry); ok {
		s.lost(s.e.Service, draas.ServiceID(part))
	}
}

func (s *step) timer(sv *ServiceState, name string, after time.Duration) {
	if _, set := sv.Timers[name]; !set {
		sv.Timers[name] = Timer{Mark: s.e.Index, After: after}
	}
}

// count starts the clocks of a failure: how long an outage is worth a move,
// and how long a restart may take.
func (s *step) count(id draas.ServiceID) {
	sv, policy := s.service(id), s.s.rules(id)
	if sv.Counted || s.s.Version < 2 {
		return
	}
	sv.Counted = true
	if policy.LeastOutage > 0 {
		s.timer(sv, timerOutage, policy.LeastOutage)
	}
	if policy.Restart > 0 {
		s.timer(sv, timerRestart, policy.Restart)
	}
}

// calm ends the clocks of a failure.
func calm(sv *ServiceState) {
	sv.Counted = false
	delete(sv.Timers, timerConfirm)
	delete(sv.Timers, timerOutage)
	delete(sv.Timers, timerRestart)
}

// worth says whether the outage is worth a move by now.
func (s *State) worth(id draas.ServiceID) Reason {
	if t, set := s.Services[id].Timers[timerOutage]; set {
		return no(ReasonOutage, "an outage shorter than %v is not worth a failover (least_outage)", t.After)
	}
	return ok(ReasonOutage, "the outage is long enough to be worth a failover")
}

// cheaper says whether a restart at the active site would be cheaper.
func (s *State) cheaper(id draas.ServiceID) Reason {
	sv := s.Services[id]
	t, set := sv.Timers[timerRestart]
	if !set {
		return ok(ReasonRestart, "no restart is waited for")
	}
	if down, who := s.down(sv.Active.Member()); down {
		return ok(ReasonRestart, "the daemon at %s cannot be reached by %v: nobody restarts the service there", sv.Active, who)
	}
	return no(ReasonRestart, "%s lives: a restart there, up to %v, would be cheaper than a failover", sv.Active, t.After)
}

// held says whether a completed move holds automatic ones off.
func (s *State) held(id draas.ServiceID) Reason {
	sv := s.Services[id]
	t, set := sv.Timers[timerHold]
	switch {
	case !set:
		return ok(ReasonHold, "no recent completed move holds it off")
	case sv.Unacked > 1:
		return no(ReasonHold, "%d completed moves that nobody has acknowledged hold further automatic ones off for %v: run draasd ack %s", sv.Unacked, t.After, id)
	}
	return no(ReasonHold, "a completed move holds further automatic ones off for %v after it", t.After)
}

// hold keeps automatic moves off after a completed unplanned one: the longer,
// the more of them nobody has acknowledged.
func (s *step) hold(id draas.ServiceID, m Move) {
	sv, policy := s.service(id), s.s.rules(id)
	delete(sv.Timers, timerHold)
	// Against flapping, which people do not do: a move that somebody asked for
	// as a planned one, or the undoing of one, holds nothing off.
	if m.Kind != MoveFailover || policy.Hold <= 0 {
		return
	}
	after := policy.Hold
	for range sv.Unacked {
		if after >= policy.HoldMax {
			break
		}
		after = min(2*after, policy.HoldMax)
	}
	if m.Operator == "" && policy.HoldMax > 0 {
		sv.Unacked++
	}
	s.timer(sv, timerHold, after)
}

// paused says whether automatic moves are paused.
func (s *State) paused(id draas.ServiceID) Reason {
	if p := s.Services[id].Pause; p != nil {
		return no(ReasonPause, "%s paused automatic moves for %v: %s", p.Operator, p.For, p.Reason)
	}
	return ok(ReasonPause, "automatic moves are not paused")
}

func (s *step) unpause(id draas.ServiceID, sv *ServiceState, text string) {
	sv.Pause = nil
	delete(sv.Timers, timerPause)
	s.record(Record{Kind: RecordResume, Service: id, Phase: sv.Phase, Epoch: sv.Epoch, Text: text})
}
