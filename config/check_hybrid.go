package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/draasd/draas"
)

// checkSite checks at which site a frontend stands.
func (d *decoder) checkSite(c *Config, f Frontend) {
	path := join("frontend", f.ID) + ".site"
	if !d.has(path) || d.bad[path] || !d.isSite(c, path, f.Site) {
		return
	}
	if m, ok := c.Member(f.Member); ok && m.Role == draas.RoleSite && m.ID.Site() != f.Site {
		d.report(path, fmt.Sprintf("the frontend runs in the daemon of %s, which is at %q", m.ID, m.ID.Site()), "remove it")
	}
}

// at lists the frontends of a service that stand at a site, by name.
func (c *Config) at(s *Service, site draas.SiteID) []string {
	var names []string
	for _, id := range s.Frontend.Use {
		if c.SiteOf(id) == site {
			names = append(names, id)
		}
	}
	return names
}

// Way is a site where users of a hybrid can come in.
type Way struct {
	Site      draas.SiteID
	Frontends []string // that stand there, by name
}

// Ways lists where users of a hybrid can come in, by site; none of other
// schemes.
func (c *Config) Ways(s *Service) []Way {
	if s.Scheme != SchemeHybrid {
		return nil
	}
	var ways []Way
	for _, site := range s.Sites() {
		ways = append(ways, Way{Site: site, Frontends: c.at(s, site)})
	}
	return ways
}

// hybrid checks where the users of a hybrid come in: at each of its sites, by
// frontends that stand there.
func (d *decoder) hybrid(c *Config, s *Service) {
	service := join("service", string(s.ID))
	at := service + ".dns.enter"
	path := func(site draas.SiteID) string { return join(at, string(site)) }
	placed := d.clean(service+".address", service+".cname")
	for _, site := range s.Sites() {
		if placed && !d.has(path(site)) && !d.bad[at] {
			d.report(path(site), "missing", fmt.Sprintf("write the addresses of the frontends at %q, to which the name leads while users enter there, such as [\"192.0.2.80\"]", site))
		}
	}
	owner := map[netip.Addr]draas.SiteID{}
	for _, site := range inOrder(d, sortedKeys(s.DNS.Enter), path) {
		if !d.isSite(c, path(site), site) {
			continue
		}
		if placed && !slices.Contains(s.Sites(), site) {
			d.report(path(site), fmt.Sprintf("the service is not at %q", site), "give the service an address there, or remove this")
		}
		for i, a := range s.DNS.Enter[site] {
			if first, taken := owner[a]; taken {
				d.report(elem(path(site), i), fmt.Sprintf("%s is where users enter at %q too", a, first), "give each site its own, or DNS cannot move anybody")
			}
			owner[a] = site
			d.enterByVIP(c, s, site, a, elem(path(site), i))
		}
	}
	d.sameFamilies(s.DNS.Enter, at)
	d.enterApart(s, owner)
	if !d.clean("frontend", service+".frontend.use", "member") || len(s.Frontend.Use) == 0 || !placed {
		return
	}
	var unplaced []string
	for _, id := range s.Frontend.Use {
		if c.SiteOf(id) == "" {
			unplaced = append(unplaced, id)
			d.report(join("frontend", id), fmt.Sprintf("nothing says at which site it stands, and users of %s enter by site", s.ID), fmt.Sprintf("write where it stands, such as site = %q", s.Sites()[0]))
		}
	}
	for _, site := range s.Sites() {
		if len(c.at(s, site)) == 0 && len(unplaced) == 0 {
			d.report(service+".frontend", fmt.Sprintf("no frontend of it stands at %q", site), fmt.Sprintf("give a frontend site = %q and list it in use, or users cannot enter there when the others are lost", site))
		}
	}
}

// enterByVIP refuses a virtual IP that may be where users do not enter.
func (d *decoder) enterByVIP(c *Config, s *Service, site draas.SiteID, a netip.Addr, path string) {
	for _, v := range c.VIPs {
		if !slices.ContainsFunc(v.Addresses, func(h Held) bool { return h.Prefix.Addr() == a }) || !d.clean("frontend", "vip") {
			continue
		}
		for _, holder := range v.Holders {
			switch at := c.SiteOf(holder); {
			case at != site:
				d.report(path, fmt.Sprintf("%s is an address of [vip.%s], which %s may have, and that does not stand at %q", a, v.ID, holder, site), "let only frontends of one site have it, and give each its site")
			case !slices.Contains(s.Frontend.Use, holder):
				d.report(path, fmt.Sprintf("%s is an address of [vip.%s], which %s may have, and that does not serve %s", a, v.ID, holder, s.ID), fmt.Sprintf("list %s in use", holder))
			default:
				continue
			}
			return
		}
	}
}

// enterApart refuses servers that users would reach in place of a frontend:
// the frontends would lead to themselves.
func (d *decoder) enterApart(s *Service, enter map[netip.Addr]draas.SiteID) {
	at := join("service", string(s.ID)) + ".frontend.server"
	for _, site := range sortedKeys(s.Frontend.Servers) {
		for i, server := range s.Frontend.Servers[site] {
			listened := slices.ContainsFunc(s.Frontend.listens(), func(l written) bool {
				return l.at.Port() == server.Port() && l.at.Addr().IsUnspecified()
			})
			if first, entered := enter[server.Addr()]; entered && listened {
				d.report(elem(join(at, string(site)), i), fmt.Sprintf("%s is where users enter at %q: the frontends would lead to themselves", server, first), "write the address of the server behind them")
			}
		}
	}
}

// hybridNotes say what the places of a hybrid's frontends leave open.
func (c *Config) hybridNotes(s *Service) []string {
	var notes []string
	note := func(format string, args ...any) {
		notes = append(notes, fmt.Sprintf("%s: ", s.ID)+fmt.Sprintf(format, args...))
	}
	in := map[string][]draas.SiteID{} // the sites where it is all that there is
	for _, w := range c.Ways(s) {
		var domains []string
		for _, id := range w.Frontends {
			f, _ := c.Frontend(id)
			domains = append(domains, f.Domain)
			if m, ok := c.Member(w.Site.Member()); ok && f.Domain != m.Domain && slices.ContainsFunc(c.Members, func(o Member) bool {
				return o.Role == draas.RoleSite && o.Domain == f.Domain
			}) {
				note("the frontend %s stands at %s, and falls with another site (its failure domain is %s)", id, w.Site, f.Domain)
			}
		}
		slices.Sort(domains)
		if domains = slices.Compact(domains); len(domains) == 1 {
			in[domains[0]] = append(in[domains[0]], w.Site)
		}
	}
	for _, domain := range sortedKeys(in) {
		if sites := in[domain]; len(sites) > 1 {
			var names []string
			for _, site := range sites {
				names = append(names, string(site))
			}
			note("all frontends at %s are in the failure domain %s: when it is lost, nobody enters", strings.Join(names, " and "), domain)
		}
	}
	for _, id := range s.Frontend.Use {
		if site := c.SiteOf(id); !slices.Contains(s.Sites(), site) {
			note("its name never leads to the frontend %s: the service is not at %s", id, site)
		}
	}
	return notes
}
