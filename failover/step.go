package failover

import (
	"fmt"
	"time"

	"github.com/draasd/draas"
)

// step is one application of an event.
type step struct {
	s       State
	e       Event
	actions []Action
	renewed map[draas.ServiceID]draas.Epoch
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
	st := &step{s: s, e: e, touched: make(map[draas.ServiceID]*ServiceState)}
	st.s.Index = e.Index
	if e.At.After(s.At) {
		st.s.At = e.At
	}
	if e.Kind == EventRenew {
		// The most frequent event by far changes nothing that is kept.
		st.renew()
		return st.s, nil, st.renewed
	}
	st.s = st.s.clone()
	before := standing(&s, st.s.ServiceIDs())
	if st.current() {
		st.dispatch()
		for _, id := range st.s.ServiceIDs() {
			st.settle(id)
		}
	}
	for _, id := range st.s.ServiceIDs() {
		for _, a := range st.s.Duties(id) {
			if !before[a.key()] {
				st.actions = append(st.actions, a)
			}
		}
	}
	return st.s, st.actions, nil
}

func standing(s *State, ids []draas.ServiceID) map[actionKey]bool {
	out := make(map[actionKey]bool)
	for _, id := range ids {
		for _, a := range s.Duties(id) {
			out[a.key()] = true
		}
	}
	return out
}

// current reports whether the event comes from the daemon that the log knows
// under its name: an event of an earlier run, or of a second daemon with the
// same identity, is void.
func (s *step) current() bool {
	if s.e.Kind == EventHello {
		return true
	}
	m := s.s.Members[s.e.By]
	return m != nil && m.Incarnation == s.e.Incarnation
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

func (s *step) hello() {
	if s.e.Hello == nil {
		return
	}
	old := s.s.Members[s.e.By]
	if old != nil && old.Incarnation == s.e.Incarnation {
		return // said twice
	}
	m := &MemberState{Incarnation: s.e.Incarnation, Boot: s.e.Hello.Boot, Digest: s.e.Hello.Digest,
		Version: s.e.Hello.Version, Peers: make(map[draas.MemberID]Observation)}
	s.s.Members[s.e.By] = m
	text := fmt.Sprintf("%s started", s.e.By)
	if old != nil {
		text = fmt.Sprintf("%s restarted", s.e.By)
		if old.Boot != m.Boot {
			text += " on a freshly booted or another machine"
		}
	}
	// What the earlier run saw is old: the new one looks for itself.
	for id := range s.s.Services {
		sv := s.service(id)
		for _, views := range sv.Views {
			delete(views, s.e.By)
		}
	}
	s.record(Record{Kind: RecordMember, Member: s.e.By, Text: text})
}

// policy takes over the rules: the first ones at once, others when every
// member has been started with the same file.
func (s *step) policy() {
	p := s.e.Policy
	if p == nil || p.Digest == s.s.Policy.Digest {
		return
	}
	if s.s.Policy.Digest != "" {
		for _, m := range p.Members {
			if st := s.s.Members[m.ID]; st == nil || st.Digest != p.Digest {
				return
			}
		}
		for _, sv := range s.s.Services {
			if sv.Phase.Moving() {
				return // in the middle of a move nobody changes the rules
			}
		}
	}
	s.s.Policy = *p
	for id := range p.Services {
		if s.s.Services[id] == nil {
			s.s.Services[id] = &ServiceState{Phase: PhaseInactive}
		}
	}
	s.record(Record{Kind: RecordPolicy, Text: fmt.Sprintf("policy %.12s proposed by %s is in force", p.Digest, s.e.By)})
}

func (s *step) observed() {
	for _, o := range s.e.Observed {
		switch {
		case o.Peer != "":
			m := s.s.Members[s.e.By].clone()
			m.Peers[o.Peer] = o
			s.s.Members[s.e.By] = m
		default:
			sv := s.service(o.Service)
			if sv == nil || !s.s.Policy.Services[o.Service].has(o.Site) {
				continue
			}
			if sv.Views[o.Site] == nil {
				sv.Views[o.Site] = make(map[draas.MemberID]Observation)
			}
			sv.Views[o.Site][s.e.By] = o
		}
	}
}

// renew says which permits the renewal holds good for: those of the epoch in
// force, at the site that holds it, not revoked.
func (s *step) renew() {
	if !s.current() {
		return
	}
	s.renewed = make(map[draas.ServiceID]draas.Epoch, len(s.e.Permits))
	for id, epoch := range s.e.Permits {
		sv := s.s.Services[id]
		if sv == nil {
			continue
		}
		site, current, held := sv.Holder()
		if held && site.Member() == s.e.By && current == epoch {
			s.renewed[id] = epoch
		}
	}
}

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
	case timerRetarget:
		s.turnBack(s.e.Service)
	}
}

func (s *step) timer(sv *ServiceState, name string, after time.Duration) {
	if _, set := sv.Timers[name]; !set {
		sv.Timers[name] = Timer{Mark: s.e.Index, After: after}
	}
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
