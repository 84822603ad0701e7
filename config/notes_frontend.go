package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/draasd/draas"
)

// frontendNotes say what the place of a frontend endangers.
func (c *Config) frontendNotes(f Frontend) []string {
	var notes []string
	note := func(format string, args ...any) {
		notes = append(notes, fmt.Sprintf("frontend.%s: ", f.ID)+fmt.Sprintf(format, args...))
	}
	served := slices.ContainsFunc(c.Services, func(s Service) bool { return slices.Contains(s.Frontend.Use, f.ID) })
	if !served {
		note("no service uses it")
	}
	// The users of a hybrid enter elsewhere when a site is lost.
	alone := slices.ContainsFunc(c.Services, func(s Service) bool { return s.Scheme == SchemeFrontend && slices.Contains(s.Frontend.Use, f.ID) })
	for _, m := range c.Members {
		if m.Role == draas.RoleSite && m.Domain == f.Domain && f.Domain != "" && alone {
			note("it stands in the failure domain of %s: when that is lost, its users are too, whichever site is active. They need a frontend elsewhere, and a way to it", m.ID)
		}
	}
	for _, socket := range []string{f.Socket, f.Master} {
		if at, err := netip.ParseAddrPort(socket); err == nil && !at.Addr().IsLoopback() {
			note("the runtime socket %s asks nobody who he is: whoever reaches it can lead users anywhere", at)
		}
	}
	return notes
}

// frontedNotes say what a service's frontends leave open.
func (c *Config) frontedNotes(s *Service) []string {
	var notes []string
	note := func(format string, args ...any) {
		notes = append(notes, fmt.Sprintf("%s: ", s.ID)+fmt.Sprintf(format, args...))
	}
	f := &s.Frontend
	if len(f.Use) == 1 && s.Scheme == SchemeFrontend {
		note("one frontend alone leads users to it: when %s is lost, nobody reaches it", f.Use[0])
	}
	for _, id := range f.Use {
		if unread := c.unread(s, id); len(unread) > 0 {
			x, _ := c.Frontend(id)
			note("the frontend %s (%s) does not read %s: its own configuration has to say it", id, x.Kind, strings.Join(unread, ", "))
		}
	}
	if c.anyOf(f.Use, FrontendEmbedded) && f.Hold > 0 {
		what := "are answered 503"
		if f.Mode == ModeTCP {
			what = "are closed"
		}
		// A planned move waits for what is under way and for the fence, and
		// goes through the log and to the frontends.
		planned := f.Drain + s.Timing.Lease.Margin + c.act(s, 4).Worst + c.fronts(s).Worst
		r := longest(c.waited(s))
		switch {
		case s.Automatic && r.Worst() > f.Hold:
			note("in the worst case (%s, %s) a move takes longer than users wait (hold %s): those that wait longer %s", r.Disaster, short(r.Worst()), short(f.Hold), what)
		case planned > f.Hold:
			note("a planned move may take %s (drain, fence, log and frontends), which is longer than users wait (hold %s): those that wait longer %s", short(planned), short(f.Hold), what)
		}
	}
	switch s.Fence.Kind {
	case draas.FenceNone:
		note("a frontend ends its own connections to a site that is not active any more; who comes by another way, and what runs there, goes on (fence none)")
	case draas.FencePath:
		notes = append(notes, s.pastRelay()...)
	case draas.FenceKernel:
		notes = append(notes, s.pastKernel()...)
	}
	return notes
}

// longest is the budget with the longest worst case.
func longest(all []RTO) RTO {
	var most RTO
	for _, r := range all {
		if r.Worst() > most.Worst() {
			most = r
		}
	}
	return most
}

// unread lists what stands in a service's table and one of its frontends does
// not do.
func (c *Config) unread(s *Service, frontend string) []string {
	f, _ := c.Frontend(frontend)
	g := &s.Frontend
	var names []string
	for name, is := range map[string]bool{
		"listen": len(g.Listen) > 0, "listen_at": len(g.ListenAt) > 0, "names": len(g.Names) > 0, "hold": g.Hold > 0, "silent": g.Silent > 0, "per_source": g.PerSource > 0,
		"sources": len(g.Sources) > 0, "proxy_from": len(g.ProxyFrom) > 0, "proxy_to": g.ProxyTo > 0,
		"affinity": g.Affinity != "" && g.Affinity != AffinityNone, "shadow": g.Shadow != "", "certificate": g.Certificate != "",
		"replay": len(g.Replay) > 0, "trusted": len(g.Trusted) > 0, "max_body": g.MaxBody > 0,
	} {
		if is && !slices.Contains(frontedBy[name], f.Kind) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// pastRelay says which servers are not where the guard's relay listens. With a
// translation between it may be: only its owner knows.
func (s *Service) pastRelay() []string {
	var notes []string
	for _, site := range sortedKeys(s.Frontend.Servers) {
		relays := appendListener(nil, site.Member(), "", s.Fence.Listen[site], false)
		for _, server := range s.Frontend.Servers[site] {
			if !slices.ContainsFunc(relays, func(l listener) bool { return l.addr.Port() == server.Port() && meet(l.addr.Addr(), server.Addr()) }) {
				notes = append(notes, fmt.Sprintf("%s: the guard at %s listens at %s, and the frontends lead to %s: what goes past its relay does not end with the permit", s.ID, site, s.Fence.Listen[site], server))
			}
		}
	}
	return notes
}

// pastKernel says which servers' ports and addresses the kernel fence leaves
// open.
func (s *Service) pastKernel() []string {
	var notes []string
	for _, site := range sortedKeys(s.Frontend.Servers) {
		for _, server := range s.Frontend.Servers[site] {
			if !slices.Contains(s.Fence.Ports, server.Port()) || s.Fence.Proto == "udp" ||
				len(s.Fence.Protect) > 0 && !slices.Contains(s.Fence.Protect, server.Addr()) {
				notes = append(notes, fmt.Sprintf("%s: the kernel fence does not close %s, where the frontends lead to at %s", s.ID, server, site))
			}
		}
	}
	return notes
}
