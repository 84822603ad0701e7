package config

import (
	"net/netip"
	"time"

	"github.com/draasd/draas"
)

// frontendKinds are the kinds of frontend.
func frontendKinds() []string {
	return []string{FrontendEmbedded, FrontendHAProxy, FrontendNginx, FrontendNAT}
}

// maxFrontends bounds the frontends of a cluster: each holds a request open at
// every member.
const maxFrontends = 100

// frontends reads the hosts with a proxy.
func (d *decoder) frontends(c *Config, root map[string]any) []Frontend {
	names := below(root, "frontend")
	if len(names) > maxFrontends {
		d.report("frontend", "there are too many", "a cluster has at most 100")
		return nil
	}
	var all []Frontend
	for _, name := range names {
		at := join("frontend", name)
		f := Frontend{
			ID:        name,
			Kind:      get(d, at+".kind", FrontendEmbedded),
			Member:    draas.MemberID(get(d, at+".member", "")),
			Domain:    get(d, at+".domain", ""),
			Site:      draas.SiteID(get(d, at+".site", "")),
			Control:   get(d, at+".control", c.Data+"/frontend.sock"),
			AccessLog: get(d, at+".access_log", ""),
			Socket:    get(d, at+".socket", ""),
			Master:    get(d, at+".master", ""),
			Include:   get(d, at+".include", ""),
		}
		if m, ok := c.Member(f.Member); ok {
			f.Domain = m.Domain
		}
		if m, ok := c.Member(f.Site.Member()); ok && f.Domain == "" {
			f.Domain = m.Domain // what stands at a site falls with it, unless somebody says otherwise
		}
		if f.Kind == FrontendNginx {
			f.Test = get(d, at+".test", []string{"/usr/sbin/nginx", "-t"})
			f.Reload = get(d, at+".reload", []string{"/usr/sbin/nginx", "-s", "reload"})
		}
		all = append(all, f)
	}
	return all
}

// What a service's frontends do unless the file says otherwise.
const (
	frontendHold        = 5 * time.Second
	frontendHeld        = 1000
	frontendHeldBytes   = 64 << 20
	frontendDrain       = time.Second
	frontendConnect     = time.Second
	frontendIdle        = time.Minute
	frontendIdleTCP     = time.Hour // databases and mail keep quiet connections
	frontendConnections = 10000
)

// serviceFrontend reads how frontends serve a service.
func (d *decoder) serviceFrontend(c *Config, root map[string]any, service string) ServiceFrontend {
	at := join("service", service) + ".frontend"
	var all []string
	for _, f := range c.Frontends {
		all = append(all, f.ID)
	}
	f := ServiceFrontend{
		Use:    get(d, at+".use", all),
		Mode:   get(d, at+".mode", ModeTCP),
		Listen: get[[]netip.AddrPort](d, at+".listen", nil),
		Drain:  frontendDrain,
	}
	f.ListenAt = byName[draas.SiteID, []netip.AddrPort](d, at+".listen_at", below(root, "service", service, "frontend", "listen_at"))
	for _, site := range below(root, "service", service, "frontend", "server") {
		list, ok := d.values[join(at+".server", site)].([]string)
		if !ok {
			continue
		}
		if f.Servers == nil {
			f.Servers = map[draas.SiteID][]netip.AddrPort{}
		}
		for _, s := range list {
			f.Servers[draas.SiteID(site)] = append(f.Servers[draas.SiteID(site)], netip.MustParseAddrPort(s))
		}
	}
	if c.anyOf(f.Use, FrontendEmbedded) {
		d.embedded(&f, at)
	}
	f.Drain = get(d, at+".drain", f.Drain)
	return f
}

// drainFits shortens a drain that the file does not give to what fits in the rest
// of a permit: see frontedTimes.
func (d *decoder) drainFits(s *Service) {
	if left := s.Timing.Lease.Hold() - s.Timing.Renew; s.Fronted() && left > 0 && !d.has(join("service", string(s.ID))+".frontend.drain") {
		s.Frontend.Drain = min(s.Frontend.Drain, (left / 2).Truncate(time.Millisecond))
	}
}

// embedded reads what only our own proxy does.
func (d *decoder) embedded(f *ServiceFrontend, at string) {
	f.Names = get[[]string](d, at+".names", nil)
	f.Hold = get(d, at+".hold", frontendHold)
	if f.Hold > 0 {
		f.HoldRequests = get(d, at+".hold_requests", frontendHeld)
		f.HoldBytes = get(d, at+".hold_bytes", int64(frontendHeldBytes))
	}
	f.Drain = min(f.Drain, f.Hold/2)
	f.Silent = get(d, at+".silent", time.Duration(0))
	f.ConnectTimeout = get(d, at+".connect_timeout", frontendConnect)
	idle := frontendIdle
	if f.Mode == ModeTCP {
		idle = frontendIdleTCP
	}
	f.IdleTimeout = get(d, at+".idle_timeout", idle)
	f.Connections = get(d, at+".connections", frontendConnections)
	f.PerSource = get(d, at+".per_source", 0)
	f.Sources = get[[]netip.Prefix](d, at+".sources", nil)
	f.ProxyFrom = get[[]netip.Prefix](d, at+".proxy_from", nil)
	f.ProxyTo = get(d, at+".proxy_to", 0)
	f.Affinity = get(d, at+".affinity", AffinityNone)
	f.Shadow = get(d, at+".shadow", "")
	f.Certificate = get(d, at+".certificate", "")
	f.Key = get(d, at+".key", "")
	f.Replay = get[[]string](d, at+".replay", nil)
	f.Trusted = get[[]netip.Prefix](d, at+".trusted", nil)
	f.MaxBody = get(d, at+".max_body", int64(0))
}

// anyOf reports whether one of the frontends is of a kind.
func (c *Config) anyOf(use []string, kind string) bool {
	for _, id := range use {
		if f, ok := c.Frontend(id); ok && f.Kind == kind {
			return true
		}
	}
	return false
}
