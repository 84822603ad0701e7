package failover

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Entry is where users of a part come in: its name leads to the frontends at
// this site, which lead them on to the active site.
type Entry struct {
	Site draas.SiteID `json:"site"`
	// Turn grows with every change within an epoch.
	Turn  uint64    `json:"turn,omitempty"`
	Since time.Time `json:"since,omitzero"` // the proposer's stamp, for people
	// Operator asked for it; empty when nobody did.
	Operator string `json:"operator,omitempty"`
	// Lost: the frontends there have failed for long enough, and it stands
	// nevertheless; Refused is why, so that it is recorded once.
	Lost    bool   `json:"lost,omitempty"`
	Refused string `json:"refused,omitempty"`
}

// Leads is where a service's name leads, and under which token: to its entry,
// or else to the site that is active. There is none before the first
// activation. While a move is under way it stays what it was.
func (s State) Leads(service draas.ServiceID) (draas.SiteID, runbook.Token, bool) {
	sv := s.Services[s.unitOf(service)]
	if sv == nil || sv.Epoch == 0 || sv.Active == "" {
		return "", runbook.Token{}, false
	}
	if e, has := sv.Entries[service]; has {
		return e.Site, runbook.Token{Epoch: sv.Epoch, Turn: e.Turn}, true
	}
	return sv.Active, runbook.Token{Epoch: sv.Epoch}, true
}

// enterAnew says where users enter under a new epoch: at the site that has
// become active, unless its frontends have failed and others have not.
func (s *step) enterAnew(id draas.ServiceID) {
	sv, policy := s.service(id), s.s.rules(id)
	sv.Entries = nil
	for _, part := range slices.Sorted(maps.Keys(policy.Ways)) {
		delete(sv.Timers, timerEntry+string(part))
		s.enterAt(id, part, Entry{Site: sv.Active, Since: s.e.At})
		w, has := policy.way(part, sv.Active)
		if has && !s.s.hear(id, w, false).failed {
			continue
		}
		to, reasons := s.s.otherWay(id, part, sv.Active)
		switch {
		case has && to == "":
			continue
		case has:
			reasons = append(s.s.unheard(w), reasons...)
		case to == "":
			to = policy.Ways[part][0].Site
		}
		s.enterAt(id, part, Entry{Site: to, Since: s.e.At})
		s.recordEntry(id, part, fmt.Sprintf("no frontend leads them at %s", sv.Active), reasons)
	}
}

func (s *step) enterAt(id, part draas.ServiceID, e Entry) {
	sv := s.service(id)
	if sv.Entries == nil {
		sv.Entries = make(map[draas.ServiceID]Entry)
	}
	sv.Entries[part] = e
}

// turn lets users of a part enter at another site, within the epoch. by is the
// operator who asked for it, if one has.
func (s *step) turn(id, part draas.ServiceID, to draas.SiteID, by, why string, reasons []Reason) {
	sv := s.service(id)
	delete(sv.Timers, timerEntry+string(part))
	sv.Turns++
	s.enterAt(id, part, Entry{Site: to, Turn: sv.Entries[part].Turn + 1, Since: s.e.At, Operator: by})
	s.recordEntry(id, part, why, reasons)
}

func (s *step) recordEntry(id, part draas.ServiceID, why string, reasons []Reason) {
	sv := s.s.Services[id]
	e := sv.Entries[part]
	s.record(Record{Kind: RecordEntry, Service: id, Phase: sv.Phase, Epoch: sv.Epoch, Reasons: reasons,
		Text: fmt.Sprintf("users of %s enter at %s, %s: %s", part, e.Site, runbook.Token{Epoch: sv.Epoch, Turn: e.Turn}, why)})
}

// entries watches, until a move has made another site active, over where users
// enter.
func (s *step) entries(id draas.ServiceID) {
	sv, ways := s.s.Services[id], s.s.rules(id).Ways
	// While the old permit runs out users are better off with frontends that live
	// and hold what they ask, than with none.
	if len(ways) == 0 || sv.Active == "" || sv.Phase.Moving() && sv.Phase != PhaseFencing {
		return
	}
	for _, part := range slices.Sorted(maps.Keys(ways)) {
		s.entry(id, part)
	}
}

// entry lets users enter elsewhere when the frontends where they do have failed
// for long enough. It never goes back by itself when they are well again.
func (s *step) entry(id, part draas.ServiceID) {
	sv, policy, timer := s.s.Services[id], s.s.rules(id), timerEntry+string(part)
	e := sv.Entries[part]
	w, _ := policy.way(part, e.Site)
	_, measured := sv.Timers[timer]
	switch failed := s.s.hear(id, w, false).failed; {
	case !failed && !measured && !e.Lost:
	case !failed:
		delete(s.service(id).Timers, timer)
		e.Lost, e.Refused = false, ""
		s.enterAt(id, part, e)
	case !e.Lost && policy.Confirm > 0:
		if !measured {
			s.timer(s.service(id), timer, policy.Confirm)
		}
	default:
		s.enterElsewhere(id, part, w)
	}
}

// enterElsewhere holds another entry against what has to speak for it.
func (s *step) enterElsewhere(id, part draas.ServiceID, from Way) {
	to, why := s.s.otherWay(id, part, from.Site)
	reasons := append(s.s.unheard(from), s.s.paused(id))
	reasons = append(reasons, why...)
	if allOK(reasons) {
		s.turn(id, part, to, "", fmt.Sprintf("no frontend at %s is heard", from.Site), reasons)
		return
	}
	sv, what := s.s.Services[id], fmt.Sprintf("another entry than %s for users of %s", from.Site, part)
	e, said := sv.Entries[part], outcome(what, reasons)
	if e.Refused == said {
		return
	}
	e.Lost, e.Refused = true, said
	s.enterAt(id, part, e)
	s.record(Record{Kind: RecordRefusal, Service: id, Phase: sv.Phase, Epoch: sv.Epoch, Text: what + " refused", Reasons: reasons})
}

// lost: the frontends where users enter have failed for long enough. What
// follows is for entry to say.
func (s *step) lost(id, part draas.ServiceID) {
	if e, has := s.s.Services[id].Entries[part]; has {
		e.Lost = true
		s.enterAt(id, part, e)
	}
}

// mayEnter holds an operator's wish that users enter at a site against what
// has to speak for it, for each part that has frontends there.
func (s *step) mayEnter(id draas.ServiceID, site draas.SiteID) (parts []draas.ServiceID, reasons []Reason) {
	sv, policy := s.s.Services[id], s.s.rules(id)
	switch {
	case len(policy.Ways) == 0:
		return nil, []Reason{no(ReasonWay, "%s has no frontends at several sites: its users enter where it is active", id)}
	case sv.Active == "":
		return nil, []Reason{no(ReasonPhase, "%s was never active: use activate", id)}
	case sv.Phase.Moving():
		return nil, []Reason{no(ReasonPhase, "a %s to %s is under way", sv.Move.Kind, sv.Move.To)}
	}
	there := false
	for _, part := range slices.Sorted(maps.Keys(policy.Ways)) {
		w, has := policy.way(part, site)
		there = there || has
		if !has || sv.Entries[part].Site == site {
			continue
		}
		h := s.s.hear(id, w, true)
		if !h.failed {
			h.reasons[len(h.reasons)-1].OK = true // an operator is only told that nobody hears them
		}
		parts, reasons = append(parts, part), append(reasons, h.reasons...)
	}
	switch {
	case !there:
		reasons = append(reasons, no(ReasonWay, "%s has no frontend at %q", id, site))
	case len(parts) == 0:
		reasons = append(reasons, no(ReasonWay, "users of %s enter at %s already", id, site))
	}
	return parts, reasons
}

// enterAsAsked does what an operator asked for.
func (s *step) enterAsAsked(id draas.ServiceID, r *Request, parts []draas.ServiceID, reasons []Reason) {
	why := operator(r) + " asked for it"
	if r.Reason != "" {
		why += ": " + r.Reason
	}
	for _, part := range parts {
		s.turn(id, part, s.e.Site, operator(r), why, reasons)
	}
}

// conformEntries holds what the state has of entries against rules that have
// changed. A name's receivers know the turn: it only grows within an epoch,
// also when the name has no ways any more.
func (s *step) conformEntries(id draas.ServiceID, sv *ServiceState) {
	policy := s.s.rules(id)
	if s.s.Version < 3 || sv.Active == "" {
		return
	}
	for _, part := range slices.Sorted(maps.Keys(sv.Entries)) {
		e, ways := sv.Entries[part], policy.Ways[part]
		if _, has := policy.way(part, e.Site); has {
			continue
		}
		delete(sv.Timers, timerEntry+string(part))
		switch {
		case !slices.Contains(s.s.parts(id), part), len(ways) == 0 && e.Site == sv.Active && e.Turn == 0:
			delete(sv.Entries, part)
		case len(ways) > 0 || e.Site != sv.Active:
			s.turn(id, part, policy.firstWay(part, sv.Active), "", "the file has changed", nil)
		}
	}
	for _, part := range slices.Sorted(maps.Keys(policy.Ways)) {
		if _, has := sv.Entries[part]; has {
			continue
		}
		e := Entry{Site: policy.firstWay(part, sv.Active), Since: s.e.At}
		if e.Site != sv.Active {
			e.Turn = 1 // under this epoch the name has led to the active site
			sv.Turns++
		}
		s.enterAt(id, part, e)
	}
}
