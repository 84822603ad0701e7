package config

import (
	"slices"
	"time"
)

// A frontend asks every member and waits there for news. One that has not
// asked again for silentWaits such waits, or for silentLeast where these are
// shorter (machines stall), is not heard any more.
const (
	followMax   = time.Second
	followLeast = 50 * time.Millisecond
	silentWaits = 3
	silentLeast = 600 * time.Millisecond
)

// FollowWait is how long a frontend's request waits at a member for news:
// permits are renewed in the meantime, and are to be heard of.
func (c *Config) FollowWait() time.Duration {
	wait := followMax
	for _, u := range c.Units() {
		wait = min(wait, u.Timing.Renew)
	}
	return max(wait, followLeast)
}

// FrontendSilent is how long a member does not hear a frontend before that has
// failed, for services that can be entered elsewhere.
func (c *Config) FrontendSilent() time.Duration {
	return max(silentWaits*c.FollowWait(), silentLeast)
}

// Disasters that budgets are given for.
const (
	siteLost     = "site lost"
	serviceDead  = "service dead"
	cloudLost    = "cloud lost"    // of a hybrid: the site, but not its frontends
	frontendLost = "frontend lost" // of a hybrid: all frontends at the site where users enter
)

// hybridRTO is what a hybrid's halves make of the budgets of its parts: of a
// dead service and a lost cloud the frontends lead elsewhere, with no change of
// DNS; of lost frontends DNS does; of a lost site both, at the same time.
// until is what passes before a move of a lost site is carried out, dead the
// same for a dead service, and target for a planned move's target; if any.
func (c *Config) hybridRTO(s *Service, until, dead, target []Term) []RTO {
	at, fronts := join("service", string(s.ID)), c.fronts(s)
	named, quarantine := c.answers(s)
	both := func(until []Term, entries int) []Term {
		return slices.Concat(until, []Term{quarantine.behind(find(until, "lease"), find(until, "device")), c.act(s, entries)}, named,
			[]Term{fronts.behind(slices.Concat(named, []Term{quarantine})...)})
	}
	cloud := slices.Concat(until, []Term{c.entries(3), fronts})
	silent := Term{"detect", c.FrontendSilent(), c.FrontendSilent() - c.FollowWait()/2, at + ".renew, of all services the least"}
	confirm := Term{"confirm", s.Timing.Confirm, s.Timing.Confirm, s.policyPath() + ".confirm"}
	soon := quarantine.behind(confirm) // after a move, or a restart: later nobody's request is left
	soon.Typical = 0
	entry := slices.Concat([]Term{silent, confirm, soon, c.act(s, 2)}, named)
	all := []RTO{
		{Disaster: siteLost, Terms: both(until, 3)},
		{Disaster: serviceDead, Terms: slices.Concat(dead, []Term{c.entries(4), fronts})},
		{Disaster: cloudLost, Terms: cloud},
		{Disaster: frontendLost, Terms: entry},
	}
	if target != nil {
		all = append(all, RTO{Disaster: targetLost, Terms: both(target, undoEntries)})
	}
	return all
}

// find finds a term by name.
func find(terms []Term, name string) Term {
	i := slices.IndexFunc(terms, func(t Term) bool { return t.Name == name })
	if i < 0 {
		return Term{Name: name}
	}
	return terms[i]
}

// waited are the budgets of the disasters in which users wait at a frontend.
func (c *Config) waited(s *Service) []RTO {
	return slices.DeleteFunc(promised(c.serviceRTO(s)), func(r RTO) bool {
		return s.Scheme == SchemeHybrid && (r.Disaster == siteLost || r.Disaster == frontendLost)
	})
}
