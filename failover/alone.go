package failover

import (
	"time"

	"github.com/draasd/draas"
)

// Alone is what a member of a cluster of two sites has to say when it has lost
// the other one, and with it the majority: the log decides nothing any more.
// What is certain can be done all the same, by starting the cluster anew
// without the other member; what is not is for a person to decide.
type Alone struct {
	// Lost are the units that were active at the other site and that this site
	// sees failed, with every clause that taking them over has to pass.
	Lost []LostUnit
	// Fence is what devices have to switch off, and be seen to have, before
	// the cluster is started anew for Lost: all of them, or none. It is empty
	// when a person has to decide.
	Fence []FenceCommand
}

// LostUnit is a unit whose site is lost.
type LostUnit struct {
	Service draas.ServiceID
	Site    draas.SiteID // the lost one
	Epoch   draas.Epoch
	Reasons []Reason
	OK      bool // every clause speaks for taking it over
}

// Alone looks at what a member of two can do by itself. It is asked again and
// again while there is no leader; a failure counts from when it was first seen
// here, by this member's clock.
func (a *Agent) Alone(now draas.Reading) Alone {
	var out Alone
	other, ok := a.other()
	if !ok || a.views[viewKey{peer: other}].Verdict != draas.Failed {
		clear(a.lostSince)
		return out
	}
	for _, id := range a.serviceIDs() {
		sv := a.state.Services[id]
		if sv.Active.Member() != other || !a.seesFailed(id, sv) {
			delete(a.lostSince, id)
			continue
		}
		since, known := a.lostSince[id]
		if !known {
			since = now.Boot
			a.lostSince[id] = since
		}
		u := LostUnit{Service: id, Site: sv.Active, Epoch: sv.Epoch, Reasons: a.aloneClauses(id, sv, now.Boot-since)}
		u.OK = allOK(u.Reasons)
		out.Lost = append(out.Lost, u)
	}
	for _, u := range out.Lost {
		if u.OK {
			out.Fence = append(out.Fence, FenceCommand{u.Service, u.Site, u.Epoch})
		}
	}
	// A device switches hosts off, not services: what has to stay as it is
	// would go with the rest.
	if len(out.Fence) != len(out.Lost) {
		out.Fence = nil
	}
	return out
}

// other is the other member of a cluster of two sites.
func (a *Agent) other() (draas.MemberID, bool) {
	members := a.state.Policy.Members
	if a.state.Version < 2 || len(members) != 2 || members[0].Role != draas.RoleSite || members[1].Role != draas.RoleSite {
		return "", false
	}
	if members[0].ID == a.cfg.Self {
		return members[1].ID, true
	}
	return members[0].ID, true
}

func (a *Agent) seesFailed(id draas.ServiceID, sv *ServiceState) bool {
	for _, part := range a.state.parts(id) {
		o := a.views[viewKey{service: part, site: sv.Active}]
		if o.Verdict == draas.Failed && o.Epoch == sv.Epoch {
			return true
		}
	}
	return false
}

func (a *Agent) aloneClauses(id draas.ServiceID, sv *ServiceState, lasted time.Duration) []Reason {
	s, policy := &a.state, a.state.rules(id)
	least := max(policy.Confirm, policy.LeastOutage, policy.Lease.Wait())
	reasons := []Reason{
		ok(ReasonVantage, "%s sees %s failed, and its daemon out of reach", a.cfg.Self, id),
		s.paused(id), s.held(id), s.flapping(id, a.ownSite()), s.loss(id, a.ownSite(), false), a.aloneFit(id),
	}
	if lasted < least {
		reasons = append(reasons, no(ReasonOutage, "it has lasted %v of the %v that it has to", lasted.Round(time.Second), least))
	}
	if !policy.Automatic {
		reasons = append(reasons, no(ReasonAutomatic, "automatic = false"))
	}
	if sv.Revoked {
		reasons = append(reasons, no(ReasonPhase, "a %s is under way", sv.Move.Kind))
	}
	for _, site := range policy.Devices {
		if site == sv.Active {
			return append(reasons, ok(ReasonProof, "a device can switch %s off and confirm it", site))
		}
	}
	return append(reasons, no(ReasonProof, "of two members neither can tell the other's death from a cut link, and no device can switch %s off: a person has to decide", sv.Active))
}

// aloneFit is fit by what this member sees now: the log takes no word of it.
func (a *Agent) aloneFit(id draas.ServiceID) Reason {
	policy, own := a.state.rules(id), a.ownSite()
	if !policy.has(own) {
		return no(ReasonTarget, "%s does not run at %s", id, own)
	}
	if !policy.Warm {
		return ok(ReasonTarget, "the service starts at %s when it is activated", own)
	}
	for _, part := range a.state.parts(id) {
		if o := a.views[viewKey{service: part, site: own}]; o.Verdict != draas.Healthy {
			return no(ReasonTarget, "%s", sees(a.cfg.Self, place(part, id, own), o))
		}
	}
	return ok(ReasonTarget, "%s is ready: it sees its own %s healthy", own, id)
}
