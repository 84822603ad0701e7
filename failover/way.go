package failover

import (
	"slices"

	"github.com/draasd/draas"
)

// heard takes how a member hears a frontend.
func (s *step) heard(o Observation) {
	if o.Service != "" || o.Peer != "" || !s.s.hasFrontend(o.Frontend) {
		return
	}
	m := s.s.Members[s.e.By].clone()
	if m.Frontends == nil {
		m.Frontends = make(map[string]Observation)
	}
	m.Frontends[o.Frontend] = o
	s.s.Members[s.e.By] = m
}

// hasFrontend reports whether users can enter through a frontend by the rules
// in force.
func (s *State) hasFrontend(name string) bool {
	for id := range s.Policy.Services {
		for _, ways := range s.rules(id).Ways {
			if slices.ContainsFunc(ways, func(w Way) bool { return slices.Contains(w.Frontends, name) }) {
				return true
			}
		}
	}
	return false
}

// forgetFrontends drops what members said of frontends that the rules do not
// have any more.
func (s *step) forgetFrontends() {
	for id, m := range s.s.Members {
		kept := make(map[string]Observation)
		for name, o := range m.Frontends {
			if s.s.hasFrontend(name) {
				kept[name] = o
			}
		}
		if len(kept) != len(m.Frontends) {
			c := m.clone()
			c.Frontends = kept
			s.s.Members[id] = c
		}
	}
}

// way is how users enter a part at a site.
func (p ServicePolicy) way(part draas.ServiceID, site draas.SiteID) (Way, bool) {
	i := slices.IndexFunc(p.Ways[part], func(w Way) bool { return w.Site == site })
	if i < 0 {
		return Way{}, false
	}
	return p.Ways[part][i], true
}

// firstWay is where users enter when nothing is known of frontends: at the
// active site, if they can at all.
func (p ServicePolicy) firstWay(part draas.ServiceID, active draas.SiteID) draas.SiteID {
	ways := p.Ways[part]
	if _, has := p.way(part, active); has || len(ways) == 0 {
		return active
	}
	return ways[0].Site
}

// hearing is what all members together say of the frontends at a site.
type hearing struct {
	failed  bool     // all of them, as enough failure domains say
	well    bool     // one that has not failed is heard
	reasons []Reason // of each member and frontend, and their sum; if asked for
}

// hear counts who hears the frontends of a way, as judge does: each failure
// domain once, and nobody's word who may be cut off himself.
func (s *State) hear(id draas.ServiceID, w Way, why bool) hearing {
	h := hearing{failed: len(w.Frontends) > 0}
	for _, name := range w.Frontends {
		domains, well := s.hearOne(name, w.Site)
		dead := domains >= s.Policy.Services[id].Confirmations
		h.failed = h.failed && dead
		h.well = h.well || well && !dead
	}
	if !why {
		return h
	}
	for _, name := range w.Frontends {
		h.reasons = append(h.reasons, s.whoHears(name, w.Site, draas.Healthy)...)
	}
	switch {
	case h.failed:
		h.reasons = append(h.reasons, no(ReasonWay, "no frontend at %s is heard", w.Site))
	case h.well:
		h.reasons = append(h.reasons, ok(ReasonWay, "users can enter at %s", w.Site))
	default:
		h.reasons = append(h.reasons, no(ReasonWay, "nobody hears a frontend at %s", w.Site))
	}
	return h
}

// hearOne is how many failure domains say that a frontend has failed, and
// whether a member hears it.
func (s *State) hearOne(name string, site draas.SiteID) (domains int, well bool) {
	var room [8]string
	failed := room[:0]
	for _, m := range s.Policy.Members {
		st := s.Members[m.ID]
		if st == nil {
			continue
		}
		o, seen := st.Frontends[name]
		if !seen || s.discounted(m.ID, site, o.Verdict) {
			continue
		}
		switch {
		case o.Verdict == draas.Healthy:
			well = true
		case o.Verdict == draas.Failed && !slices.Contains(failed, m.Domain):
			failed = append(failed, m.Domain)
		}
	}
	return len(failed), well
}

// whoHears is the same in words; speaks is the verdict that speaks for what is
// asked.
func (s *State) whoHears(name string, site draas.SiteID, speaks draas.Verdict) (reasons []Reason) {
	for _, m := range s.Policy.Members {
		st := s.Members[m.ID]
		if st == nil {
			continue
		}
		switch o, seen := st.Frontends[name]; {
		case !seen:
			reasons = append(reasons, no(ReasonVantage, "%s has not heard of frontend %s yet", m.ID, name))
		case s.discounted(m.ID, site, o.Verdict):
			reasons = append(reasons, no(ReasonVantage, "%s says that frontend %s is %s, not counted: %s", m.ID, name, o.Verdict, s.whyDiscounted(m.ID, site)))
		default:
			reasons = append(reasons, Reason{ReasonVantage, o.Verdict == speaks, sees(m.ID, "frontend "+name, o)})
		}
	}
	return reasons
}

// unheard says, of a way whose frontends have all failed, what speaks for
// another.
func (s *State) unheard(w Way) (reasons []Reason) {
	for _, name := range w.Frontends {
		reasons = append(reasons, s.whoHears(name, w.Site, draas.Failed)...)
	}
	return append(reasons, ok(ReasonWay, "no frontend at %s is heard", w.Site))
}

// otherWay is where else users of a part can enter: at the active site if they
// can, then in the file's order.
func (s *State) otherWay(id, part draas.ServiceID, not draas.SiteID) (draas.SiteID, []Reason) {
	policy, active := s.rules(id), s.Services[id].Active
	var ways []Way
	if w, has := policy.way(part, active); has {
		ways = append(ways, w)
	}
	for _, w := range policy.Ways[part] {
		if w.Site != active {
			ways = append(ways, w)
		}
	}
	var reasons []Reason
	for _, w := range ways {
		if w.Site == not {
			continue
		}
		h := s.hear(id, w, true)
		if h.well {
			return w.Site, h.reasons
		}
		reasons = append(reasons, h.reasons...)
	}
	return "", append(reasons, no(ReasonStatic, "users of %s can enter nowhere else: nothing is changed", part))
}
