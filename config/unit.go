package config

import (
	"cmp"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// Policy is how a unit moves. It stands in a group, or in a service that is in
// none; the services of a group have that of their group.
type Policy struct {
	Home          draas.SiteID // where failback leads; not a role
	Automatic     bool         // whether an unplanned move may go without a person
	Confirmations int          // failure domains that must say failed
	MaxRTO        time.Duration
	Timing        Timing
	Flaps         int             // failures after which a site is no target of an automatic move; 0: no damping
	Steady        time.Duration   // one of them is forgotten for each of these without another
	MaxDataLoss   time.Duration   // how far a site's copy may be behind when it takes over; 0: no such guard
	OnLeaseLoss   draas.LeaseLoss // what a site does when its permit ends unrenewed
}

// Timing is a unit's lease and patience.
type Timing struct {
	Lease   draas.Lease   // its margin is that of the slowest fence of the unit
	Renew   time.Duration // between two renewals of the permit
	Confirm time.Duration // how long the verdict must last before a move
	Hold    time.Duration // no further automatic move after a completed unplanned one; doubles with each
	HoldMax time.Duration // but not beyond this
	// LeastOutage is how long a failure must have lasted to be worth a move,
	// and Restart how long a restart at the site may take while its daemon can
	// be reached. With Confirm they run side by side: the longest counts.
	LeastOutage time.Duration
	Restart     time.Duration
}

// Group is a set of services that move together under one epoch.
type Group struct {
	ID       draas.ServiceID // groups and services are one name space
	Services []draas.ServiceID
	Policy
}

// Unit is what is decided on: a group, or a service that is in none.
type Unit struct {
	ID    draas.ServiceID
	Group bool
	Policy
	Sites []draas.SiteID // where all its parts can be, by name
	Parts []Service      // by name; the service itself when it is no group
}

// Group finds a group.
func (c *Config) Group(id draas.ServiceID) (Group, bool) {
	for i := range c.Groups {
		if c.Groups[i].ID == id {
			return c.Groups[i], true
		}
	}
	return Group{}, false
}

// Units lists what is decided on, by name: each service is a part of exactly
// one.
func (c *Config) Units() []Unit {
	units := make([]Unit, 0, len(c.Services))
	at := map[draas.ServiceID]int{} // index of each group
	for _, g := range c.Groups {
		at[g.ID] = len(units)
		units = append(units, Unit{ID: g.ID, Group: true, Policy: g.Policy})
	}
	for i := range c.Services {
		s := &c.Services[i]
		if s.Group == "" {
			units = append(units, Unit{ID: s.ID, Policy: s.Policy, Sites: s.Sites(), Parts: []Service{*s}})
			continue
		}
		u := &units[at[s.Group]]
		if len(u.Parts) == 0 {
			u.Sites = s.Sites()
		}
		u.Sites = slices.DeleteFunc(u.Sites, func(site draas.SiteID) bool { return !slices.Contains(s.Sites(), site) })
		u.Parts = append(u.Parts, *s)
	}
	slices.SortFunc(units, func(a, b Unit) int { return cmp.Compare(a.ID, b.ID) })
	return units
}

// Unit finds the unit that decides for a service, or the unit of that name.
func (c *Config) Unit(id draas.ServiceID) (Unit, bool) {
	if s, ok := c.Service(id); ok && s.Group != "" {
		id = s.Group
	}
	for _, u := range c.Units() {
		if u.ID == id {
			return u, true
		}
	}
	return Unit{}, false
}

// Switchable lists the sites where every part can be switched off by others,
// by name.
func (u *Unit) Switchable() []draas.SiteID {
	return slices.DeleteFunc(slices.Clone(u.Sites), func(site draas.SiteID) bool {
		return slices.ContainsFunc(u.Parts, func(s Service) bool { return !slices.Contains(s.Fence.switchable(), site) })
	})
}

// switchable lists the sites of the devices.
func (f *Fence) switchable() []draas.SiteID {
	var sites []draas.SiteID
	for i := range f.Devices {
		sites = append(sites, f.Devices[i].Site)
	}
	return sites
}

// path is where the unit's policy stands in the file.
func (u *Unit) path() string { return policyPath(u.ID, u.Group) }

func policyPath(id draas.ServiceID, group bool) string {
	if group {
		return join("group", string(id))
	}
	return join("service", string(id))
}

// policyPath is where the policy that a service moves by stands in the file.
func (s *Service) policyPath() string {
	if s.Group != "" {
		return policyPath(s.Group, true)
	}
	return policyPath(s.ID, false)
}
