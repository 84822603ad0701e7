package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// checkFrontends checks the hosts with a proxy.
func (d *decoder) checkFrontends(c *Config) {
	embedded, haproxy, nginx := []string{FrontendEmbedded}, []string{FrontendHAProxy}, []string{FrontendNginx}
	runs := map[draas.MemberID]string{}
	for _, id := range inOrder(d, frontendNames(c.Frontends), func(id string) string { return join("frontend", id) }) {
		f, _ := c.Frontend(id)
		at := join("frontend", id)
		if _, taken := c.Member(draas.MemberID(id)); taken {
			d.report(at, "a member has this name", "give it a name of its own: a certificate tells who somebody is by the name")
		}
		d.checkPlace(c, f, runs)
		d.checkSite(c, f)
		if f.Control == c.Control || f.Control == c.Guard {
			path := at + ".control"
			d.report(path, "is a socket of draasd itself", "give the frontend one of its own")
		}
		if !d.clean(at + ".kind") {
			continue
		}
		d.onlyFor(at, "frontend", f.Kind, map[string][]string{
			"access_log": embedded, "socket": haproxy, "master": haproxy, "include": nginx, "test": nginx, "reload": nginx,
		})
		switch f.Kind {
		case FrontendHAProxy:
			d.need(at+".socket", `write where HAProxy has its runtime socket (stats socket ... level admin), such as socket = "/run/haproxy/admin.sock"`)
		case FrontendNginx:
			d.need(at+".include", `name the directory that nginx includes files from, such as include = "/etc/nginx/draas"`)
		}
	}
	if len(c.Frontends) > 0 && d.clean("member", "frontend") {
		d.followed(c)
	}
}

func frontendNames(all []Frontend) []string {
	var names []string
	for _, f := range all {
		names = append(names, f.ID)
	}
	return names
}

// checkPlace checks where a frontend stands: in a member's daemon, or by
// itself. runs says whose daemon has one already.
func (d *decoder) checkPlace(c *Config, f Frontend, runs map[draas.MemberID]string) {
	at := join("frontend", f.ID)
	if f.Member == "" {
		return
	}
	if _, ok := c.Member(f.Member); !ok {
		if !d.bad["member"] {
			d.report(at+".member", fmt.Sprintf("there is no member %q", f.Member), d.guessMember(c, string(f.Member)))
		}
		return
	}
	if first, taken := runs[f.Member]; taken {
		d.report(at+".member", fmt.Sprintf("the daemon of %s runs the frontend %s already", f.Member, first), "let one of them serve all, or run this one by itself")
	}
	runs[f.Member] = f.ID
	if d.has(at + ".domain") {
		d.report(at+".domain", "stands beside member, which has a domain", "remove one of the two")
	}
}

// followed wants members that a frontend can follow: over their api, and still
// when one failure domain is lost.
func (d *decoder) followed(c *Config) {
	domains := map[string]bool{}
	members := 0
	for _, m := range c.Members {
		ap, err := netip.ParseAddrPort(m.API)
		if err != nil || ap.Addr().IsLoopback() && !c.onLoopback(m.ID) {
			continue // nobody elsewhere reaches it
		}
		members++
		domains[m.Domain] = true
	}
	if members < 2 || len(domains) < 2 {
		d.report("frontend", fmt.Sprintf("a frontend follows the members over their api, and %d of them, in %d failure domains, have one that it could reach", members, len(domains)),
			`give at least two members of different domains one, such as api = "198.51.100.10:7401" in [member.NAME]: when one is lost it follows the other`)
	}
}

// fronted checks how a service is served by frontends.
func (d *decoder) fronted(c *Config, s *Service) {
	service := join("service", string(s.ID))
	at, f := service+".frontend", &s.Frontend
	if s.Scheme == SchemeFrontend && d.has(service+".dns") {
		d.report(service+".dns", `the scheme "frontend" moves no name: it leads to the frontends, whose addresses stay`,
			`remove it, or write scheme = "hybrid" for a name that is moved between frontends`)
	}
	if len(c.Frontends) == 0 && !d.has("frontend") {
		d.report(service+".scheme", "there is no frontend", `begin with a line [frontend.NAME] for the host with the proxy`)
	}
	if !d.has(at) {
		d.report(at, "missing", fmt.Sprintf("say how it is served: begin with a line [%s]", at))
		return
	}
	for i, id := range f.Use {
		if _, ok := c.Frontend(id); !ok && d.has(at+".use") && !d.bad["frontend"] {
			right := fmt.Sprintf("begin with a line [frontend.%s]", id)
			if guess := d.nearest(id, frontendNames(c.Frontends)); guess != "" {
				right = fmt.Sprintf("did you mean %q?", guess)
			}
			d.report(elem(at+".use", i), fmt.Sprintf("there is no frontend %q", id), right)
		}
	}
	d.frontedServers(c, s, at)
	if !d.clean("frontend", at+".use", at+".mode") || len(f.Use) == 0 {
		return // who does what of the rest is not known
	}
	d.readByFrontends(c, s, at)
	d.frontedListens(c, s, at)
	if c.anyOf(f.Use, FrontendNAT) {
		d.frontedByNAT(c, s, at)
	}
	d.frontedMode(s, at)
	d.frontedTimes(c, s, at)
}

// frontedBy are the keys of a service that only some kinds of frontend read:
// the configuration of another proxy is its owner's.
var frontedBy = map[string][]string{
	"listen": {FrontendEmbedded, FrontendNAT}, "listen_at": {FrontendEmbedded, FrontendNAT},
	"names": {FrontendEmbedded},
	"hold":  {FrontendEmbedded}, "hold_requests": {FrontendEmbedded}, "hold_bytes": {FrontendEmbedded}, "silent": {FrontendEmbedded},
	"connect_timeout": {FrontendEmbedded}, "idle_timeout": {FrontendEmbedded}, "connections": {FrontendEmbedded}, "per_source": {FrontendEmbedded},
	"sources": {FrontendEmbedded}, "proxy_from": {FrontendEmbedded}, "proxy_to": {FrontendEmbedded},
	"affinity": {FrontendEmbedded}, "shadow": {FrontendEmbedded}, "certificate": {FrontendEmbedded}, "key": {FrontendEmbedded},
	"replay": {FrontendEmbedded}, "trusted": {FrontendEmbedded}, "max_body": {FrontendEmbedded},
}

// readByFrontends refuses keys that none of the service's frontends reads.
func (d *decoder) readByFrontends(c *Config, s *Service, at string) {
	for _, name := range sortedKeys(frontedBy) {
		if !d.has(at + "." + name) {
			continue
		}
		if !slices.ContainsFunc(frontedBy[name], func(kind string) bool { return c.anyOf(s.Frontend.Use, kind) }) {
			d.report(at+"."+name, "none of the service's frontends reads it: they are of kind "+orList(c.kindsOf(s.Frontend.Use)),
				"it is for "+orList(frontedBy[name])+": remove it; what another proxy does stands in its own configuration")
		}
	}
}

// kindsOf lists the kinds of frontends.
func (c *Config) kindsOf(use []string) []string {
	var kinds []string
	for _, id := range use {
		if f, ok := c.Frontend(id); ok {
			kinds = append(kinds, f.Kind)
		}
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// frontedServers checks where a service's users are led to.
func (d *decoder) frontedServers(c *Config, s *Service, at string) {
	service, f := join("service", string(s.ID)), &s.Frontend
	path := func(site draas.SiteID) string { return join(at+".server", string(site)) }
	placed := d.clean(service+".address", service+".cname")
	for _, site := range s.Sites() {
		if placed && !d.has(path(site)) && !d.bad[at] && !d.bad[at+".server"] {
			d.report(path(site), "missing", fmt.Sprintf("write the servers that users are led to at %q, such as [\"198.51.100.20:443\"]", site))
		}
	}
	owner := map[netip.AddrPort]draas.SiteID{}
	for _, site := range inOrder(d, sortedKeys(f.Servers), path) {
		if !d.isSite(c, path(site), site) {
			continue
		}
		if placed && !slices.Contains(s.Sites(), site) {
			d.report(path(site), fmt.Sprintf("the service is not at %q", site), "give the service an address there, or remove this")
		}
		for i, server := range f.Servers[site] {
			at := elem(path(site), i)
			first, taken := owner[server]
			switch {
			case taken:
				d.report(at, fmt.Sprintf("%s is a server at %q too", server, first), "give each site its own, or a move leads nobody elsewhere")
			case server.Addr().IsMulticast() || server.Addr().Zone() != "":
				d.report(at, fmt.Sprintf("%s is no address of a server", server), "write the address where the frontends reach it")
			case server.Addr().IsLoopback() && !c.onLoopback(site.Member()) && d.clean("member"):
				d.report(at, fmt.Sprintf("%s is another machine at each frontend", server), "write the address where the frontends reach it")
			case slices.ContainsFunc(f.listens(), func(l written) bool { return l.at == server }):
				d.report(at, fmt.Sprintf("the frontends listen at %s: it would lead to itself", server), "write the address of the server behind them")
			}
			owner[server] = site
		}
	}
}

// frontedListens wants a place for users to come in at each frontend that
// listens by itself.
func (d *decoder) frontedListens(c *Config, s *Service, at string) {
	f := &s.Frontend
	for _, site := range sortedKeys(f.ListenAt) {
		path := join(at+".listen_at", string(site))
		if d.isSite(c, path, site) && len(c.at(s, site)) == 0 && d.clean("frontend") {
			d.report(path, fmt.Sprintf("no frontend of the service stands at %q", site), "remove it, or give the frontend its site")
		}
	}
	for _, id := range f.Use {
		x, _ := c.Frontend(id)
		if x.Kind != FrontendEmbedded && x.Kind != FrontendNAT || len(f.ListensAt(c.SiteOf(id))) > 0 {
			continue
		}
		if len(f.ListenAt) > 0 && !d.has(at+".listen") && d.clean(at+".listen_at") {
			d.report(at+".listen_at", fmt.Sprintf("the frontend %s listens nowhere", id), "write listen_at for its site too, or listen for all that have none")
			return
		}
		d.need(at+".listen", `write where users come in, such as listen = ["192.0.2.80:443"]`)
	}
}

// frontedByNAT checks what a translation of addresses cannot do.
func (d *decoder) frontedByNAT(c *Config, s *Service, at string) {
	if s.Frontend.Mode == ModeHTTP {
		d.report(at+".mode", "one of the service's frontends is of kind nat, which knows of connections only", `write mode = "tcp"`)
	}
	for _, l := range s.Frontend.listens() {
		if l.at.Addr().IsUnspecified() {
			d.report(at+"."+l.path, "a frontend of kind nat would take the port of every machine that is reached through it", "write the addresses that users come to")
		}
	}
	for _, site := range sortedKeys(s.Frontend.Servers) {
		for i, server := range s.Frontend.Servers[site] {
			for _, l := range s.Frontend.listens() {
				if l.at.Addr().Is4() != server.Addr().Is4() && !l.at.Addr().IsUnspecified() {
					d.report(elem(join(at+".server", string(site)), i), fmt.Sprintf("a frontend of kind nat cannot lead from %s to %s", l.at, server), "let listen and servers be all of IPv4 or all of IPv6")
					return
				}
			}
		}
	}
}

// frontedMode checks the keys of one mode.
func (d *decoder) frontedMode(s *Service, at string) {
	f := &s.Frontend
	for _, name := range []string{"certificate", "key", "replay", "trusted", "max_body"} {
		if path := at + "." + name; f.Mode == ModeTCP && d.has(path) && !d.bad[path] {
			d.report(path, `the mode "tcp" does not read it`, `it is for http: remove it, or write mode = "http"`)
		}
	}
	if f.Affinity == AffinityCookie && f.Mode != ModeHTTP {
		d.report(at+".affinity", "there are no cookies in the mode "+show(f.Mode), `write affinity = "source", or mode = "http"`)
	}
	if f.Certificate != "" && f.Mode == ModeHTTP {
		d.need(at+".key", `name the file with the certificate's key, such as key = "tls/shop.key"`)
	}
	if f.Key != "" && f.Mode == ModeHTTP && !d.has(at+".certificate") {
		d.report(at+".key", "there is no certificate", `name its file, such as certificate = "tls/shop.crt", or remove the key`)
	}
	if f.PerSource > f.Connections && d.clean(at+".connections") {
		d.report(at+".per_source", fmt.Sprintf("%d from one address is more than all connections (%d)", f.PerSource, f.Connections), "write less, or remove it")
	}
}

// frontedTimes checks that what waits can wait for as long as a move needs.
func (d *decoder) frontedTimes(c *Config, s *Service, at string) {
	f := &s.Frontend
	if f.Hold == 0 && c.anyOf(f.Use, FrontendEmbedded) {
		for _, name := range []string{"hold_requests", "hold_bytes"} {
			if d.has(at + "." + name) {
				d.report(at+"."+name, "nothing waits here (hold = \"0s\")", "remove it, or let requests wait")
			}
		}
	}
	if f.Drain == 0 || !d.clean(at+".drain", at+".hold") {
		return
	}
	if c.anyOf(f.Use, FrontendEmbedded) && f.Drain >= f.Hold {
		d.report(at+".drain", fmt.Sprintf("new requests wait for at most %s (hold), and those under way are waited for just as long", short(f.Hold)),
			fmt.Sprintf("write less, such as drain = %q", short(f.Hold/2)))
		return
	}
	t, policy := &s.Timing, s.policyPath()
	if !d.clean("profile", policy+".lease", policy+".renew", join("service", string(s.ID))+".fence") {
		return
	}
	// A move revokes the permit, which then runs out unrenewed.
	if left := t.Lease.Hold() - t.Renew; left > 0 && f.Drain >= left {
		d.report(at+".drain", fmt.Sprintf("is %s, and the permit of the old site may end %s after a move has begun (lease, clocks, the fence's margin and one renewal)", short(f.Drain), short(left)),
			fmt.Sprintf("write less, such as drain = %q, or a longer lease", short((left/2).Truncate(time.Millisecond))))
	}
}
