package failover

import (
	"fmt"
	"maps"
	"slices"

	"github.com/draasd/draas"
)

// step is one application of an event.
type step struct {
	s       State
	e       Event
	actions []Action
	touched map[draas.ServiceID]*ServiceState // already copied
}

// Step applies an event of the log. It returns the next state and what has
// newly become due; what was due before and still is, is not repeated (see
// Duties). An event that the rules refuse changes nothing but the history.
func Step(s State, e Event) (State, []Action) {
	next, actions, _ := apply(s, e)
	return next, actions
}

// apply is Step, and tells which permits a renewal renewed.
func apply(s State, e Event) (State, []Action, map[draas.ServiceID]draas.Epoch) {
	next := s
	next.Index = e.Index
	if e.At.After(s.At) {
		next.At = e.At
	}
	if e.Kind == EventRenew {
		// The most frequent event by far changes nothing that is kept.
		return next, nil, s.renewed(&e)
	}
	st := &step{s: next.clone(), e: e, touched: make(map[draas.ServiceID]*ServiceState)}
	ids := st.s.ServiceIDs()
	if st.current() {
		st.dispatch()
		if e.Kind == EventPolicy || e.Kind == EventVersion {
			ids = st.s.ServiceIDs()
		}
		for _, id := range ids {
			st.settle(id)
			st.entries(id)
		}
	}
	for _, id := range ids {
		// The duties of a service follow from its own state.
		if st.touched[id] == nil && s.Services[id] != nil {
			continue
		}
		before := s.Duties(id)
		for _, a := range st.s.Duties(id) {
			if !slices.ContainsFunc(before, func(b Action) bool { return a.key() == b.key() }) {
				st.actions = append(st.actions, a)
			}
		}
	}
	return st.s, st.actions, nil
}

// current reports whether the event comes from the daemon that the log knows
// under its name: an event of an earlier run, or of a second daemon with the
// same identity, is void.
func (s *step) current() bool {
	if s.e.Kind == EventHello || s.e.Kind == EventGeneration {
		return true // by no daemon that the log knows yet
	}
	return s.s.knows(&s.e)
}

func (s *State) knows(e *Event) bool {
	m := s.Members[e.By]
	return m != nil && m.Incarnation == e.Incarnation
}

func (s *step) dispatch() {
	switch s.e.Kind {
	case EventHello:
		s.hello()
	case EventPolicy:
		s.policy()
	case EventObserved:
		s.observed()
	case EventRequest:
		s.request()
	case EventDue:
		s.due()
	case EventRelease:
		s.release()
	case EventActivate:
		s.activate()
	case EventDone:
		s.done()
	case EventVersion:
		s.version()
	case EventGeneration:
		s.generation()
	case EventOffer, EventLag, EventFenced:
		// A member of version 1 passes these over, and so must all.
		if s.s.Version >= 2 {
			s.dispatchNewer()
		}
	case EventFinding:
		if s.s.Version >= 3 {
			s.finding()
		}
	}
}

func (s *step) dispatchNewer() {
	switch s.e.Kind {
	case EventOffer:
		s.offer()
	case EventLag:
		s.lag()
	case EventFenced:
		s.fenced()
	}
}

// service gives a copy of the service's state that may be changed.
func (s *step) service(id draas.ServiceID) *ServiceState {
	if sv := s.touched[id]; sv != nil {
		return sv
	}
	old := s.s.Services[id]
	if old == nil {
		return nil
	}
	sv := old.clone()
	s.s.Services[id], s.touched[id] = sv, sv
	return sv
}

// renewed says which permits a renewal holds good for: those of the epoch in
// force, at the site that holds it, not revoked.
func (s *State) renewed(e *Event) map[draas.ServiceID]draas.Epoch {
	if !s.knows(e) {
		return nil
	}
	good := e.Permits // as a rule all
	for id, epoch := range e.Permits {
		if s.renews(e.By, id, epoch) {
			continue
		}
		if len(good) == len(e.Permits) {
			good = maps.Clone(e.Permits)
		}
		delete(good, id)
	}
	return good
}

func (s *State) renews(by draas.MemberID, id draas.ServiceID, epoch draas.Epoch) bool {
	sv := s.Services[id]
	if sv == nil {
		return false
	}
	site, current, held := sv.Holder()
	return held && site.Member() == by && current == epoch
}

// enter moves a service to a phase and records it.
func (s *step) enter(id draas.ServiceID, p Phase, format string, args ...any) {
	sv := s.service(id)
	if sv.Phase == p {
		return
	}
	sv.Phase, sv.Refused = p, ""
	s.record(Record{Kind: RecordPhase, Service: id, Phase: p, Epoch: sv.Epoch, Text: fmt.Sprintf(format, args...)})
}

// settled is the phase of a service that is active and in no trouble.
func (s *step) settled(id draas.ServiceID) Phase {
	if s.s.Services[id].Active == s.s.Policy.Services[id].Home {
		return PhaseNormal
	}
	return PhaseElsewhere
}

// settle advances a service as far as the facts allow.
func (s *step) settle(id draas.ServiceID) {
	// A settled service passes at most through suspect, confirmed and fencing
	// in one event.
	for range 4 {
		phase := s.s.Services[id].Phase
		switch phase {
		case PhaseNormal, PhaseElsewhere, PhaseSuspect, PhaseConfirmed:
			s.watch(id)
		case PhaseFencing:
			s.fencing(id)
		case PhaseRedirecting, PhaseVerifying:
			s.moved(id)
		}
		if s.s.Services[id].Phase == phase {
			return
		}
	}
}
