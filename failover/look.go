package failover

import (
	"fmt"
	"slices"

	"github.com/draasd/draas"
)

func (s *step) observed() {
	for _, o := range s.e.Observed {
		if o.Frontend != "" {
			s.heard(o)
			continue
		}
		if o.Peer != "" {
			m := s.s.Members[s.e.By].clone()
			m.Peers[o.Peer] = o
			s.s.Members[s.e.By] = m
			continue
		}
		id := s.s.unitOf(o.Service)
		sv := s.service(id)
		if sv == nil || !s.s.Policy.Services[id].has(o.Site) {
			continue
		}
		views := s.viewsOf(sv, id, o.Service)
		if views == nil {
			continue
		}
		if views[o.Site] == nil {
			views[o.Site] = make(map[draas.MemberID]Observation)
		}
		was := views[o.Site][s.e.By]
		views[o.Site][s.e.By] = o
		if o.Site.Member() == s.e.By && was.Verdict == draas.Healthy && o.Verdict == draas.Failed {
			s.flap(id, sv, o.Site)
		}
	}
}

// unitOf is the unit that decides for a service, as the version in force
// reads the policy.
func (s *State) unitOf(service draas.ServiceID) draas.ServiceID {
	if s.Version < 2 {
		return service
	}
	return s.Policy.UnitOf(service)
}

// viewsOf are the views that an observation of a service goes to, nil if it
// is not looked at: a group is looked at in its parts only.
func (s *step) viewsOf(sv *ServiceState, id, service draas.ServiceID) Views {
	grouped := len(s.s.rules(id).Parts) > 0
	switch {
	case id == service && grouped:
		return nil
	case id == service:
		if sv.Views == nil {
			sv.Views = make(Views)
		}
		return sv.Views
	}
	if sv.Parts == nil {
		sv.Parts = make(map[draas.ServiceID]Views)
	}
	if sv.Parts[service] == nil {
		sv.Parts[service] = make(Views)
	}
	return sv.Parts[service]
}

// flap counts a failure of the service at a site, as the site itself saw it.
func (s *step) flap(id draas.ServiceID, sv *ServiceState, site draas.SiteID) {
	policy := s.s.rules(id)
	if policy.Flaps == 0 {
		return
	}
	if sv.Flaps == nil {
		sv.Flaps = make(map[draas.SiteID]int)
	}
	// Beyond twice the limit nothing is learned, and it has to be forgotten.
	sv.Flaps[site] = min(sv.Flaps[site]+1, 2*policy.Flaps)
	sv.Timers[timerSteady+string(site)] = Timer{Mark: s.e.Index, After: policy.Steady}
	if sv.Flaps[site] == policy.Flaps {
		s.record(Record{Kind: RecordFlaps, Service: id, Phase: sv.Phase, Epoch: sv.Epoch,
			Text: fmt.Sprintf("%s at %s failed %d times: no automatic move goes there until it was steady, %v for each", id, site, policy.Flaps, policy.Steady)})
	}
}

// steady forgets one failure of a site.
func (s *step) steady(id draas.ServiceID, sv *ServiceState, site draas.SiteID) {
	if sv.Flaps[site] <= 1 {
		delete(sv.Flaps, site)
		return
	}
	sv.Flaps[site]--
	sv.Timers[timerSteady+string(site)] = Timer{Mark: s.e.Index, After: s.s.rules(id).Steady}
}

// flapping says whether a site's service has kept failing.
func (s *State) flapping(id draas.ServiceID, site draas.SiteID) Reason {
	policy, n := s.rules(id), s.Services[id].Flaps[site]
	if policy.Flaps > 0 && n >= policy.Flaps {
		return no(ReasonFlaps, "%s at %s failed %d times of late: it has to be steady first (%v for each), or acknowledged", id, site, n, policy.Steady)
	}
	return ok(ReasonFlaps, "%s at %s does not keep failing", id, site)
}

// lag takes how far a site's copy is behind. In trouble only good news counts:
// what could be lost is what stood when the active site was last well, and a
// copy of a dead site falls behind by the clock alone.
func (s *step) lag() {
	sv := s.service(s.e.Service)
	if sv == nil || s.e.Lag == nil || s.e.Site.Member() != s.e.By || s.e.Epoch != sv.Epoch || s.s.rules(s.e.Service).MaxLoss == 0 {
		return
	}
	was, now := sv.Lags[s.e.Site], *s.e.Lag
	settled := sv.Phase == PhaseNormal || sv.Phase == PhaseElsewhere
	better := now.Known && (!was.Known || now.Behind < was.Behind)
	if !settled && !better {
		return
	}
	if sv.Lags == nil {
		sv.Lags = make(map[draas.SiteID]Lag)
	}
	sv.Lags[s.e.Site] = now
}

// loss says what a move to the site would lose, and whether the policy or an
// operator's word lets it.
func (s *State) loss(id draas.ServiceID, site draas.SiteID, allowed bool) Reason {
	policy, sv := s.rules(id), s.Services[id]
	if policy.MaxLoss == 0 {
		return ok(ReasonLoss, "no data-loss guard is set")
	}
	l := sv.Lags[site]
	text := fmt.Sprintf("how far the copy at %s is behind is not known", site)
	if l.Known {
		text = fmt.Sprintf("the copy at %s is %v behind, %v is allowed", site, l.Behind, policy.MaxLoss)
	}
	switch {
	case l.Known && l.Behind <= policy.MaxLoss:
		return ok(ReasonLoss, "%s", text)
	case allowed:
		return ok(ReasonLoss, "%s; the operator allows the loss, for this move", text)
	}
	return no(ReasonLoss, "%s: wait, or run draasd failover %s --allow-data-loss", text, id)
}

// proof says what will show that the old site does not serve.
func (s *State) proof(id draas.ServiceID, vouched bool) Reason {
	policy, active := s.rules(id), s.Services[id].Active
	if s.leaseProves(id) {
		return fenceReason(policy.Fence)
	}
	const vouch = "make sure that it does not serve, then run draasd failover"
	switch {
	case active == "":
		return ok(ReasonProof, "nobody is active")
	case slices.Contains(policy.Devices, active):
		return ok(ReasonProof, "a device can switch %s off and confirm it", active)
	case vouched:
		return ok(ReasonProof, "the operator vouches that %s does not serve", active)
	case policy.OnLeaseLoss == draas.LeaseLossServe:
		return no(ReasonProof, "%s serves on without its lease (on_lease_loss = \"serve\") and no device can switch it off: %s %s --vouch", active, vouch, id)
	}
	return no(ReasonProof, "fence %s stops nothing at %s, and no device can switch it off: %s %s --vouch", policy.Fence, active, vouch, id)
}
