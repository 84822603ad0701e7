package failover

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// hello: a member's daemon has started.
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
	m.Moved = s.s.Version >= 2 && old != nil && (old.Boot != m.Boot || old.Moved)
	s.s.Members[s.e.By] = m
	text := fmt.Sprintf("%s started", s.e.By)
	if old != nil {
		text = fmt.Sprintf("%s restarted", s.e.By)
		if old.Boot != m.Boot {
			text += " on a freshly booted or another machine"
		}
	}
	// What the earlier run saw is old: the new one looks for itself.
	s.forget(s.e.By)
	s.record(Record{Kind: RecordMember, Member: s.e.By, Text: text})
}

// offer: a running daemon has read another file, and goes by it as soon as it
// is in force.
func (s *step) offer() {
	if h := s.e.Hello; h != nil {
		m := s.s.Members[s.e.By].clone()
		m.Digest, m.Version = h.Digest, h.Version
		m.Moved = m.Moved && !h.Settled
		s.s.Members[s.e.By] = m
	}
}

// policy takes over the rules: the first ones at once, others when every
// member that can be heard has the same file.
func (s *step) policy() {
	p := s.e.Policy
	if p == nil || p.Digest == s.s.Policy.Digest || !s.s.agreed(p) {
		return
	}
	for id, sv := range s.s.Services {
		if sv.Phase.Moving() {
			return // in the middle of a move nobody changes the rules
		}
		_, kept := p.Services[id]
		if s.s.Version >= 2 && kept && sv.Active != "" && !p.Services[id].has(sv.Active) {
			// It is proposed again and again: the history tells it once.
			s.refuse(id, fmt.Sprintf("policy %.12s", p.Digest), []Reason{no(ReasonDigest,
				"%s is active at %s, where the new file does not have it: move it first", id, sv.Active)})
			return
		}
	}
	s.adopt(p)
	s.record(Record{Kind: RecordPolicy, Text: fmt.Sprintf("policy %.12s proposed by %s is in force", p.Digest, s.e.By)})
}

// agreed reports whether the members stand behind the rules: the first ones
// need nobody's word; later ones that of every member that can be heard, and
// of a majority in any case. One that is out of reach finds them in the log.
func (s *State) agreed(p *Policy) bool {
	if s.Policy.Digest == "" {
		return true
	}
	if s.Version < 2 {
		for _, m := range p.Members {
			if st := s.Members[m.ID]; st == nil || st.Digest != p.Digest {
				return false
			}
		}
		return true
	}
	with, of := 0, 0
	for _, m := range s.Policy.Members {
		st := s.Members[m.ID]
		if st == nil && s.Generation > 0 {
			continue // lost, and not back in this generation
		}
		of++
		if st != nil && st.Digest == p.Digest {
			with++
		} else if !s.isDown(m.ID) {
			return false
		}
	}
	return with > of/2
}

// adopt puts a policy in force.
func (s *step) adopt(p *Policy) {
	old := s.s.Policy
	s.s.Policy = *p
	// What is new may have been part of what was there: its old permits run on.
	linger := time.Duration(0)
	for _, was := range old.Services {
		linger = max(linger, was.Lease.Wait())
	}
	turns := uint64(0)
	for _, sv := range s.s.Services {
		turns = max(turns, sv.Turns)
	}
	for id := range p.Services {
		if s.s.Services[id] == nil {
			s.s.Services[id] = &ServiceState{Phase: PhaseInactive, Turns: turns}
			if s.s.Version >= 2 {
				s.s.Services[id].Linger = linger
			}
		}
	}
	s.s.ids = nil
	s.s.ids = s.s.ServiceIDs()
	if s.s.Version < 2 {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(s.s.Services)) {
		was, had := old.Services[id]
		now, has := p.Services[id]
		sv := s.service(id)
		if had && (!has || was.Lease != now.Lease) {
			// Permits that were granted under the old lease are counted by it.
			sv.Linger = max(sv.Linger, was.Lease.Wait())
		}
		switch {
		case !has && sv.Phase != PhaseInactive:
			// The file has it no more: nobody holds it. Its epochs go on from
			// here if it comes back.
			*sv = ServiceState{Phase: PhaseInactive, Epoch: sv.Epoch, Linger: sv.Linger, Turns: sv.Turns}
			s.record(Record{Kind: RecordPhase, Service: id, Phase: PhaseInactive, Epoch: sv.Epoch,
				Text: fmt.Sprintf("%s is not in the file any more: nobody holds it", id)})
		case has:
			s.conform(sv, now)
			s.conformEntries(id, sv)
		}
	}
	s.forgetFrontends()
}

// conform drops what the state holds of sites and parts that the rules do not
// have any more, and timers of rules that were given up.
func (s *step) conform(sv *ServiceState, p ServicePolicy) {
	for site := range sv.Views {
		if !p.has(site) {
			delete(sv.Views, site)
		}
	}
	for part, views := range sv.Parts {
		if !slices.Contains(p.Parts, part) {
			delete(sv.Parts, part)
			continue
		}
		for site := range views {
			if !p.has(site) {
				delete(views, site)
			}
		}
	}
	if len(p.Parts) > 0 {
		sv.Views = nil
	}
	for site := range sv.Flaps {
		if p.Flaps == 0 || !p.has(site) {
			delete(sv.Flaps, site)
			delete(sv.Timers, timerSteady+string(site))
		}
	}
	if p.MaxLoss == 0 {
		sv.Lags = nil
	}
	if p.Hold == 0 {
		delete(sv.Timers, timerHold)
	}
}

// version raises the version of Step when every member can step by it. The
// policy comes again with it: what the old version did not know of it was not
// kept.
func (s *step) version() {
	v, p := s.e.Version, s.e.Policy
	if v <= max(s.s.Version, 1) || v > Version || p == nil || p.Digest != s.s.Policy.Digest || v > s.s.capable() {
		return
	}
	s.s.Version = v
	s.adopt(p)
	s.record(Record{Kind: RecordCluster, Text: fmt.Sprintf("all members can decide by version %d: it is in force", v)})
}

// capable is the version that every member of the policy can step by; one that
// was never heard of can do nothing.
func (s *State) capable() int {
	v := Version
	for _, m := range s.Policy.Members {
		st := s.Members[m.ID]
		if st == nil {
			return 1
		}
		v = min(v, max(st.Version, 1))
	}
	return v
}

// generation: a survivor of a lost majority has started the cluster anew.
// Epochs from here on are above whatever the old cluster may have granted, and
// what the lost members said is forgotten: they have to join anew.
func (s *step) generation() {
	if s.e.Generation <= s.s.Generation {
		return
	}
	s.s.Generation = s.e.Generation
	for id := range s.s.Members {
		if id != s.e.By {
			delete(s.s.Members, id)
			s.forget(id)
		}
	}
	s.record(Record{Kind: RecordCluster, Member: s.e.By,
		Text: fmt.Sprintf("%s started the cluster anew without the members that were lost: generation %d", s.e.By, s.e.Generation)})
}

// forget drops what a member saw: an earlier run of its daemon, or one that is
// lost for good.
func (s *step) forget(m draas.MemberID) {
	for id := range s.s.Services {
		sv := s.service(id)
		for _, views := range sv.Views {
			delete(views, m)
		}
		for _, part := range sv.Parts {
			for _, views := range part {
				delete(views, m)
			}
		}
	}
}
