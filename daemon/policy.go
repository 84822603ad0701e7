package daemon

import (
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// stepDNS is the effect that moves the users of scheme dns, and stepTimeout
// what one attempt at it may take: the embedded provider promises less.
const (
	stepDNS     = "dns"
	stepTimeout = 5 * time.Second
)

// startWarm and startCold are how long a site may take to answer after its
// activation: behind a fence that only opens, or when its service has to be
// started first.
const (
	startWarm = time.Second
	startCold = 30 * time.Second
)

// policyOf is the part of the file that decisions rest on.
func policyOf(c *config.Config) failover.Policy {
	p := failover.Policy{
		Digest:   c.Digest(),
		Services: make(map[draas.ServiceID]failover.ServicePolicy, len(c.Services)),
	}
	for _, m := range c.Members {
		p.Members = append(p.Members, failover.MemberPolicy{ID: m.ID, Role: m.Role, Domain: m.Domain})
	}
	for i := range c.Services {
		s := &c.Services[i]
		sp := servicePolicy(s)
		p.Services[s.ID] = sp
		p.Retarget = max(p.Retarget, sp.Lease.Wait()+time.Second)
	}
	return p
}

func servicePolicy(s *config.Service) failover.ServicePolicy {
	p := failover.ServicePolicy{
		Home:          s.Home,
		Automatic:     s.Automatic,
		Fence:         s.Fence.Kind,
		Confirmations: s.Confirmations,
		Warm:          warm(s),
		Lease:         s.Timing.Lease,
		Renew:         s.Timing.Renew,
		Confirm:       s.Timing.Confirm,
		Hold:          s.Timing.Hold,
		Start:         startWarm,
		Steps:         steps(s.ID, []draas.ServiceID{s.ID}),
	}
	if !p.Warm {
		p.Start = startCold
	}
	// The home site is preferred, then the others in the file's order.
	p.Sites = append(p.Sites, s.Home)
	for _, site := range s.Sites() {
		if site != s.Home {
			p.Sites = append(p.Sites, site)
		}
	}
	for _, check := range s.Checks {
		p.Start = max(p.Start, time.Duration(check.Rise+1)*check.Interval)
	}
	return p
}

// steps are the effects that move the users of a unit: of each of its parts.
func steps(unit draas.ServiceID, parts []draas.ServiceID) []runbook.Step {
	var out []runbook.Step
	for _, id := range parts {
		name := stepName(unit, id)
		out = append(out, runbook.Step{Name: name, Effect: name, Timeout: stepTimeout})
	}
	return out
}

// stepName is dns for a service that is decided on by itself, and tells the
// parts of a group apart.
func stepName(unit, part draas.ServiceID) string {
	if unit == part {
		return stepDNS
	}
	return stepDNS + ":" + string(part)
}

// warm reports whether the service runs at a standby site too, behind its
// fence. A fence that stops the service leaves nothing to look at there.
func warm(s *config.Service) bool {
	switch s.Fence.Kind {
	case draas.FenceExec, draas.FenceSystemd:
		return false
	}
	return true
}
