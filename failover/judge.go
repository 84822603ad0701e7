package failover

import (
	"fmt"
	"slices"

	"github.com/draasd/draas"
)

// verdict is what all vantages together say of a service at a site.
type verdict struct {
	draas.Verdict
	domains int      // that say failed
	outside bool     // a vantage outside the site says healthy
	reasons []Reason // one per vantage, and their sum
}

// judge counts the vantages on a service at a site, each failure domain once
// (rule 5: no verdict from one failure domain).
func (s *State) judge(id draas.ServiceID, site draas.SiteID) verdict {
	parts := s.parts(id)
	v := s.judgePart(id, parts[0], site)
	for _, part := range parts[1:] {
		v = v.and(s.judgePart(id, part, site))
	}
	return v
}

// and is the verdict of two parts of a group: as bad as the worse, as well
// known as the less known.
func (v verdict) and(o verdict) verdict {
	v.outside = v.outside && o.outside
	v.domains = max(v.domains, o.domains)
	a, b := v.reasons, o.reasons
	switch {
	case v.Verdict == draas.Failed && o.Verdict != draas.Failed:
		b = asEvidence(b)
	case v.Verdict != draas.Failed && o.Verdict == draas.Failed:
		a = asEvidence(a)
	}
	v.reasons = append(a, b...)
	if worse := [...]int{draas.Unknown: 1, draas.Healthy: 0, draas.Suspect: 2, draas.Failed: 3}; worse[o.Verdict] > worse[v.Verdict] {
		v.Verdict = o.Verdict
	}
	return v
}

// asEvidence: that one part of a group is well does not speak against a move
// that another part needs.
func asEvidence(reasons []Reason) []Reason {
	for i := range reasons {
		if reasons[i].Code == ReasonQuorum {
			reasons[i].Code = ReasonVantage
		}
	}
	return reasons
}

func (s *State) judgePart(id, part draas.ServiceID, site draas.SiteID) verdict {
	sv, policy, views := s.Services[id], s.Policy.Services[id], s.views(id, part)
	where := string(site)
	if part != id {
		where = string(part) + " at " + where
	}
	var v verdict
	var failed []string
	suspect, healthy := false, false
	for _, m := range s.Policy.Members {
		o, seen := views[site][m.ID]
		own := m.ID == site.Member()
		if !seen || (!own && o.Epoch != sv.Epoch) {
			v.reasons = append(v.reasons, no(ReasonVantage, "%s has not looked at %s yet", m.ID, where))
			continue
		}
		if why := s.discounted(m.ID, site, o.Verdict); why != "" {
			v.reasons = append(v.reasons, no(ReasonVantage, "%s says %s, not counted: %s", m.ID, o.Verdict, why))
			continue
		}
		v.reasons = append(v.reasons, Reason{ReasonVantage, o.Verdict == draas.Failed, sees(m.ID, where, o)})
		switch o.Verdict {
		case draas.Failed:
			if !slices.Contains(failed, m.Domain) {
				failed = append(failed, m.Domain)
			}
			suspect = true
		case draas.Suspect:
			suspect = true
		case draas.Healthy:
			healthy = true
			v.outside = v.outside || !own
		}
	}
	v.domains = len(failed)
	v.reasons = append(v.reasons, Reason{ReasonQuorum, v.domains >= policy.Confirmations,
		fmt.Sprintf("%d of %d failure domains needed say that %s failed", v.domains, policy.Confirmations, where)})
	switch {
	case v.domains >= policy.Confirmations:
		v.Verdict = draas.Failed
	case suspect:
		v.Verdict = draas.Suspect
	case healthy:
		v.Verdict = draas.Healthy
	}
	return v
}

func sees(m draas.MemberID, where string, o Observation) string {
	text := fmt.Sprintf("%s sees %s %s", m, where, o.Verdict)
	if o.Class != "" && o.Verdict != draas.Healthy {
		text += " (" + o.Class + ")"
	}
	return text
}

// discounted says why a vantage's word on a site does not count, or nothing.
func (s *State) discounted(m draas.MemberID, site draas.SiteID, says draas.Verdict) string {
	if down, who := s.down(m); down {
		return fmt.Sprintf("%s cannot be reached by %v", m, who)
	}
	if m == site.Member() || says == draas.Healthy {
		return ""
	}
	// The blind-site rule: who sees no third party may itself be what is cut
	// off.
	others := 0
	for _, other := range s.Policy.Members {
		if other.ID == m || other.ID == site.Member() {
			continue
		}
		others++
		if st := s.Members[m]; st != nil && st.Peers[other.ID].Verdict == draas.Healthy {
			return ""
		}
	}
	if others == 0 {
		return ""
	}
	return fmt.Sprintf("%s sees no member but %s: it may be blind", m, site)
}

// down reports whether a member's daemon is out of reach for every other
// member that can still be heard: its last words are old.
func (s *State) down(m draas.MemberID) (bool, []draas.MemberID) {
	var who []draas.MemberID
	domains := make([]string, 0, len(s.Policy.Members))
	need := len(s.Policy.Members)/2 + 1
	for _, other := range s.Policy.Members {
		if other.ID == m {
			continue
		}
		st := s.Members[other.ID]
		if st == nil || st.Peers[m].Verdict != draas.Failed {
			continue
		}
		who = append(who, other.ID)
		if !slices.Contains(domains, other.Domain) {
			domains = append(domains, other.Domain)
		}
	}
	return len(domains) >= min(need, len(s.Policy.Members)-1), who
}

// fit says whether a site could take the service over now.
func (s *State) fit(id draas.ServiceID, site draas.SiteID) Reason {
	policy, member := s.rules(id), s.Members[site.Member()]
	if !policy.has(site) {
		return no(ReasonTarget, "%s does not run at %s", id, site)
	}
	if member == nil {
		return no(ReasonTarget, "the daemon at %s has never started", site)
	}
	if down, who := s.down(site.Member()); down {
		return no(ReasonTarget, "the daemon at %s cannot be reached by %v", site, who)
	}
	if !policy.Warm {
		return ok(ReasonTarget, "%s is reachable; its service starts when it is activated", site)
	}
	for _, part := range s.parts(id) {
		o, seen := s.views(id, part)[site][site.Member()]
		if !seen || o.Verdict == draas.Unknown {
			return no(ReasonTarget, "%s has not yet looked at its own %s", site, part)
		}
		if o.Verdict != draas.Healthy {
			where := string(site)
			if part != id {
				where = string(part) + " at " + where
			}
			text := sees(site.Member(), where, o)
			if o.Detail != "" {
				text += ": " + o.Detail
			}
			return no(ReasonTarget, "%s", text)
		}
	}
	return ok(ReasonTarget, "%s is ready: it sees its own %s healthy", site, id)
}

// target picks the site that an automatic move goes to: the first in the
// file's order that is fit, and for which every further clause speaks.
func (s *State) target(id draas.ServiceID, not draas.SiteID, clauses ...func(draas.SiteID) Reason) (draas.SiteID, []Reason) {
	var reasons []Reason
	for _, site := range s.Policy.Services[id].Sites {
		if site == not {
			continue
		}
		mine := []Reason{s.fit(id, site)}
		for _, clause := range clauses {
			mine = append(mine, clause(site))
		}
		if allOK(mine) {
			return site, mine
		}
		reasons = append(reasons, mine...)
	}
	// Rule 7: when everything looks dead, change nothing and say so.
	return "", append(reasons, no(ReasonStatic, "no other site is fit: nothing is changed"))
}

// sameConfig says whether all reachable members run the policy's file.
func (s *State) sameConfig() Reason {
	for _, m := range s.Policy.Members {
		st := s.Members[m.ID]
		if st == nil || st.Digest == s.Policy.Digest {
			continue
		}
		if down, _ := s.down(m.ID); down {
			continue
		}
		return no(ReasonDigest, "%s runs another failover.toml (digest %.12s, decided policy %.12s): bring the files together and restart it", m.ID, st.Digest, s.Policy.Digest)
	}
	return ok(ReasonDigest, "all reachable members run the same file")
}
