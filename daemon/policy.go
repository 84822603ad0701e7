package daemon

import (
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// stepDNS, stepFrontend and stepHybrid are the effects that move the users of
// the schemes of these names, stepTimeout what one attempt at it may take,
// updateTimeout that of one on another name server, on top of what its
// secondaries take, and serviceTimeout that of one at a DNS service, on top of
// its lag and quarantine: each provider promises less.
const (
	stepDNS        = "dns"
	stepFrontend   = "frontend"
	stepHybrid     = "hybrid"
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
		Take:     c.TakeWithin(),
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
	p.Ways = waysOf(c, u, p.Sites)
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
		part := &u.Parts[i]
		switch part.Scheme {
		case config.SchemeFrontend:
			name := stepName(stepFrontend, u.ID, part)
			out = append(out, runbook.Step{Name: name, Effect: name, Timeout: stepTimeout})
		case config.SchemeHybrid:
			name, longest := stepName(stepHybrid, u.ID, part), stepTimeout
			for _, key := range part.DNS.Zones() {
				longest = max(longest, zoneTimeout(c, c.DNS[key]))
			}
			// A half that hangs may take that to be looked at, to be done, and to
			// be looked at again, before the other counts.
			out = append(out, runbook.Step{Name: name, Effect: name, Timeout: min(3*longest, runbook.MaxTimeout)})
		default:
			for _, key := range part.DNS.Zones() {
				name := stepName(stepDNS, u.ID, part) + zoneName(part, key)
				out = append(out, runbook.Step{Name: name, Effect: name, Timeout: zoneTimeout(c, c.DNS[key])})
			}
		}
	}
	return out
}

// zoneTimeout is what one attempt at moving a name in a zone may take.
func zoneTimeout(c *config.Config, z config.Zone) time.Duration {
	switch {
	case z.Provider == config.ProviderRFC2136:
		return updateTimeout + z.Update.Lag
	case !z.IsHosted():
		return stepTimeout
	}
	timeout := serviceTimeout + z.Hosted.Lag + c.Quarantine(z)
	if !z.Compares() { // one request at a time, for all the zone's names
		timeout += time.Duration(len(namesIn(c, z.ID))) * 4 * config.RequestLimit
	}
	return min(timeout, runbook.MaxTimeout)
}

// stepName is that of the scheme for a service that is decided on by itself,
// and tells the parts of a group apart.
func stepName(scheme string, unit draas.ServiceID, part *config.Service) string {
	if unit == part.ID {
		return scheme
	}
	return scheme + ":" + string(part.ID)
}

// zoneName tells the zones of a name apart that has several.
func zoneName(part *config.Service, zone string) string {
	if zone == part.DNS.Zone {
		return ""
	}
	return "@" + zone
}

// waysOf are where users of each hybrid of a unit can enter, the preferred site
// first.
func waysOf(c *config.Config, u *config.Unit, sites []draas.SiteID) map[draas.ServiceID][]failover.Way {
	var out map[draas.ServiceID][]failover.Way
	for i := range u.Parts {
		part := &u.Parts[i]
		ways := c.Ways(part)
		if len(ways) == 0 {
			continue
		}
		var preferred []failover.Way // where the unit can be
		for _, site := range sites {
			i := slices.IndexFunc(ways, func(w config.Way) bool { return w.Site == site })
			preferred = append(preferred, failover.Way{Site: site, Frontends: ways[i].Frontends})
		}
		if out == nil {
			out = make(map[draas.ServiceID][]failover.Way)
		}
		out[part.ID] = preferred
	}
	return out
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
