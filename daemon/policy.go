package daemon

import (
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// stepDNS and stepFrontend are the effects that move the users of the schemes
// of these names, stepTimeout what
// one attempt at it may take, updateTimeout that of one on another name server,
// on top of what its secondaries take, and serviceTimeout that of one at a DNS
// service, on top of its lag and quarantine: each provider promises less.
const (
	stepDNS        = "dns"
	stepFrontend   = "frontend"
	stepTimeout    = 5 * time.Second
	updateTimeout  = 20 * time.Second
	serviceTimeout = time.Minute
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
	units := c.Units()
	p := failover.Policy{
		Digest:   c.Digest(),
		Services: make(map[draas.ServiceID]failover.ServicePolicy, len(units)),
	}
	for _, m := range c.Members {
		p.Members = append(p.Members, failover.MemberPolicy{ID: m.ID, Role: m.Role, Domain: m.Domain})
	}
	for i := range units {
		sp := unitPolicy(c, &units[i])
		p.Services[units[i].ID] = sp
		p.Retarget = max(p.Retarget, sp.Lease.Wait()+time.Second)
	}
	return p
}

func unitPolicy(c *config.Config, u *config.Unit) failover.ServicePolicy {
	p := failover.ServicePolicy{
		Home:          u.Home,
		Automatic:     u.Automatic,
		Fence:         weakest(u.Parts),
		Confirmations: u.Confirmations,
		Warm:          true,
		Lease:         u.Timing.Lease,
		Renew:         u.Timing.Renew,
		Confirm:       u.Timing.Confirm,
		Hold:          u.Timing.Hold,
		HoldMax:       u.Timing.HoldMax,
		LeastOutage:   u.Timing.LeastOutage,
		Restart:       u.Timing.Restart,
		Flaps:         u.Flaps,
		Steady:        u.Steady,
		MaxLoss:       u.MaxDataLoss,
		OnLeaseLoss:   u.OnLeaseLoss,
		Devices:       u.Switchable(),
		Start:         startWarm,
		Steps:         steps(c, u),
	}
	if u.Group {
		for _, s := range u.Parts {
			p.Parts = append(p.Parts, s.ID)
		}
	}
	// The home site is preferred, then the others in the file's order.
	p.Sites = append(p.Sites, u.Home)
	for _, site := range u.Sites {
		if site != u.Home {
			p.Sites = append(p.Sites, site)
		}
	}
	for i := range u.Parts {
		if !warm(&u.Parts[i]) {
			p.Warm, p.Start = false, max(p.Start, startCold)
		}
		for _, check := range u.Parts[i].Checks {
			p.Start = max(p.Start, time.Duration(check.Rise+1)*check.Interval)
		}
	}
	return p
}

// weakest is the kind of fence that a unit as a whole may be trusted with: the
// one of its parts that proves the least.
func weakest(parts []config.Service) draas.FenceKind {
	kind := parts[0].Fence.Kind
	for i := range parts {
		switch k := parts[i].Fence.Kind; {
		case k == draas.FenceNone:
			return k
		case k == draas.FenceDevice:
			kind = k
		}
	}
	return kind
}

// guarded reports whether the guard of a site holds the service's fence: one
// that others carry out it does not.
func guarded(s *config.Service) bool {
	return s.Fence.Kind != draas.FenceNone && s.Fence.Kind != draas.FenceDevice
}

// steps are the effects that move the users of a unit: of each of its parts.
func steps(c *config.Config, u *config.Unit) []runbook.Step {
	var out []runbook.Step
	for i := range u.Parts {
		if u.Parts[i].Scheme == config.SchemeFrontend {
			name := frontendStep(u.ID, &u.Parts[i])
			out = append(out, runbook.Step{Name: name, Effect: name, Timeout: stepTimeout})
			continue
		}
		for _, key := range u.Parts[i].DNS.Zones() {
			z, name, timeout := c.DNS[key], stepName(u.ID, &u.Parts[i], key), stepTimeout
			switch {
			case z.Provider == config.ProviderRFC2136:
				timeout = updateTimeout + z.Update.Lag
			case z.IsHosted():
				timeout = serviceTimeout + z.Hosted.Lag + c.Quarantine(z)
				if !z.Compares() { // one request at a time, for all the zone's names
					timeout += time.Duration(len(namesIn(c, key))) * 4 * config.RequestLimit
				}
				timeout = min(timeout, runbook.MaxTimeout)
			}
			out = append(out, runbook.Step{Name: name, Effect: name, Timeout: timeout})
		}
	}
	return out
}

// frontendStep is frontend for a service that is decided on by itself, and
// tells the parts of a group apart.
func frontendStep(unit draas.ServiceID, part *config.Service) string {
	if unit == part.ID {
		return stepFrontend
	}
	return stepFrontend + ":" + string(part.ID)
}

// stepName is dns for a service that is decided on by itself, and tells the
// parts of a group apart, and the zones of a name that has several.
func stepName(unit draas.ServiceID, part *config.Service, zone string) string {
	name := stepDNS
	if unit != part.ID {
		name += ":" + string(part.ID)
	}
	if zone != part.DNS.Zone {
		name += "@" + zone
	}
	return name
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
