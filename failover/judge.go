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
// (rule 5: no verdict from one failure domain). It gives no reasons: most
// verdicts change nothing.
func (s *State) judge(id draas.ServiceID, site draas.SiteID) verdict {
	return s.judgeParts(id, site, false)
}

// because is the same verdict with its reasons.
func (s *State) because(id draas.ServiceID, site draas.SiteID) verdict {
	return s.judgeParts(id, site, true)
}

func (s *State) judgeParts(id draas.ServiceID, site draas.SiteID, why bool) verdict {
	parts := s.rules(id).Parts
	if len(parts) == 0 {
		return s.judgePart(id, id, site, why)
	}
	v := s.judgePart(id, parts[0], site, why)
	for _, part := range parts[1:] {
		v = v.and(s.judgePart(id, part, site, why))
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

func (s *State) judgePart(id, part draas.ServiceID, site draas.SiteID, why bool) verdict {
	sv, needed, views := s.Services[id], s.Policy.Services[id].Confirmations, s.views(id, part)[site]
	where := place(part, id, site)
	var v verdict
	var room [8]string
	failed := room[:0]
	suspect, healthy := false, false
	for _, m := range s.Policy.Members {
		o, seen := views[m.ID]
		own := m.ID == site.Member()
		switch {
		case !seen || (!own && o.Epoch != sv.Epoch):
			if why {
				v.reasons = append(v.reasons, no(ReasonVantage, "%s has not looked at %s yet", m.ID, where))
			}
			continue
		case s.discounted(m.ID, site, o.Verdict):
			if why {
				v.reasons = append(v.reasons, no(ReasonVantage, "%s says %s, not counted: %s", m.ID, o.Verdict, s.whyDiscounted(m.ID, site)))
			}
			continue
		case why:
			v.reasons = append(v.reasons, Reason{ReasonVantage, o.Verdict == draas.Failed, sees(m.ID, where, o)})
		}
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
	if why {
		v.reasons = append(v.reasons, Reason{ReasonQuorum, v.domains >= needed,
			fmt.Sprintf("%d of %d failure domains needed say that %s failed", v.domains, needed, where)})
	}
	switch {
	case v.domains >= needed:
		v.Verdict = draas.Failed
	case suspect:
		v.Verdict = draas.Suspect
	case healthy:
		v.Verdict = draas.Healthy
	}
	return v
}

// place names a site, and the part of a group there.
func place(part, id draas.ServiceID, site draas.SiteID) string {
	if part == id {
		return string(site)
	}
	return string(part) + " at " + string(site)
}

func sees(m draas.MemberID, where string, o Observation) string {
	text := fmt.Sprintf("%s sees %s %s", m, where, o.Verdict)
	if o.Class != "" && o.Verdict != draas.Healthy {
		text += " (" + o.Class + ")"
	}
	return text
}

// discounted reports whether a vantage's word on a site does not count: its
// daemon is out of reach, so that the word is old, or it may be blind: who sees
// no third party may itself be what is cut off.
func (s *State) discounted(m draas.MemberID, site draas.SiteID, says draas.Verdict) bool {
	if s.isDown(m) {
		return true
	}
	return m != site.Member() && says != draas.Healthy && s.blind(m, site)
}

// whyDiscounted is the reason of discounted, in words.
func (s *State) whyDiscounted(m draas.MemberID, site draas.SiteID) string {
	if down, who := s.down(m); down {
		return fmt.Sprintf("%s cannot be reached by %v", m, who)
	}
	return fmt.Sprintf("%s sees no member but %s: it may be blind", m, site)
}

func (s *State) blind(m draas.MemberID, site draas.SiteID) bool {
	others := 0
	for _, other := range s.Policy.Members {
		if other.ID == m || other.ID == site.Member() {
			continue
		}
		others++
		if st := s.Members[m]; st != nil && st.Peers[other.ID].Verdict == draas.Healthy {
			return false
		}
	}
	return others > 0
}

// down reports whether a member's daemon is out of reach for every other
// member that can still be heard, and for whom: its last words are old.
func (s *State) down(m draas.MemberID) (bool, []draas.MemberID) {
	if !s.isDown(m) {
		return false, nil
	}
	var who []draas.MemberID
	for _, other := range s.Policy.Members {
		if st := s.Members[other.ID]; other.ID != m && st != nil && st.Peers[m].Verdict == draas.Failed {
			who = append(who, other.ID)
		}
	}
	return true, who
}

func (s *State) isDown(m draas.MemberID) bool {
	var room [8]string
	domains := room[:0]
	for _, other := range s.Policy.Members {
		if other.ID == m {
			continue
		}
		st := s.Members[other.ID]
		if st == nil || st.Peers[m].Verdict != draas.Failed {
			continue
		}
		if !slices.Contains(domains, other.Domain) {
			domains = append(domains, other.Domain)
		}
	}
	need := len(s.Policy.Members)/2 + 1
	return len(domains) >= min(need, len(s.Policy.Members)-1)
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
			text := sees(site.Member(), place(part, id, site), o)
			if o.Detail != "" {
				text += ": " + o.Detail
			}
			return no(ReasonTarget, "%s", text)
		}
	}
	return ok(ReasonTarget, "%s is ready: it sees its own %s healthy", site, id)
}

// gone reports whether a site cannot take the service over and nobody doubts it:
// its daemon is out of reach for a majority, or it sees its own service failed.
// A site that is not fit may still be in between.
func (s *State) gone(id draas.ServiceID, site draas.SiteID) bool {
	if s.Members[site.Member()] == nil || s.isDown(site.Member()) {
		return true
	}
	return s.rules(id).Warm && slices.ContainsFunc(s.parts(id), func(part draas.ServiceID) bool {
		return s.views(id, part)[site][site.Member()].Verdict == draas.Failed
	})
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
