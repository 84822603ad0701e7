package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/draasd/draas"
)

// The names that users know.
const (
	zoneName    = "demo.example"
	serviceName = "web." + zoneName
)

// ttl is how long the users' resolvers may keep an answer: the least that DNS
// can say.
const ttl = "1s"

// failoverTOML is the cluster's file, the same for all members: every way from
// one member to another leads through a relay.
func failoverTOML(w *network, profile, scheme string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Written by draasd demo. Every address that one member has of another is")
	line("# that of a relay, so that the demo can cut the link.")
	line("cluster = %q", "demo")
	line("profile = %q", profile)
	line("")
	line("[tls]")
	line("ca = %q", "tls/ca.crt")
	line("cert = %q", "tls/member.crt")
	line("key = %q", "tls/member.key")
	for _, m := range members() {
		role := draas.RoleSite
		if m == witness {
			role = draas.RoleWitness
		}
		line("")
		line("[member.%s]", m)
		line("role = %q", role)
		line("peer = %q", w.peerOf(m))
		if role == draas.RoleSite && scheme != schemeFrontend {
			line("dns = %q", w.dnsOf(m))
		}
		for i, e := range edgesOf(scheme) {
			if i == 0 {
				line("api = %q", w.apiOf(m))
			}
			line("api_from.%s = %q", e, w.apiVia(e, m))
		}
		for _, from := range members() {
			if from != m {
				line("peer_from.%s = %q", from, w.peerVia(from, m))
			}
		}
	}
	if scheme != schemeFrontend {
		zoneTOML(w, line)
	}
	for _, e := range edgesOf(scheme) {
		line("")
		line("[frontend.%s]", e)
		if scheme == schemeHybrid {
			line("site = %q", siteOf(e))
		}
		line("control = %q", "data/frontend.sock")
	}
	line("")
	line("[service.%s]", service)
	line("scheme = %q", scheme)
	line("home = %q", primary)
	line("automatic = true")
	for _, s := range sites() {
		at := w.usersAddr(s)
		if scheme == schemeHybrid { // where frontends stand, which nobody probes
			at = w.serverAddr(s)
		}
		line("address.%s = [%q]", s, at)
	}
	for _, from := range members() {
		for _, s := range sites() {
			if from != s {
				line("probe_via.%s.%s = %q", from, s, w.gateVia(from, s))
			}
		}
	}
	line("[[service.%s.check]]", service)
	line("type = %q", "http")
	line("port = %d", w.web)
	line("path = %q", "/healthz")
	line("host = %q", serviceName)
	waysTOML(w, profile, scheme, line)
	line("[service.%s.fence]", service)
	line("kind = %q", draas.FencePath)
	for _, s := range sites() {
		line("listen.%s = %q", s, w.gateOf(s))
		line("forward.%s = %q", s, w.backendOf(s))
	}
	return b.String()
}

// waysTOML is how users come to the service.
func waysTOML(w *network, profile, scheme string, line func(format string, args ...any)) {
	if scheme != schemeFrontend {
		line("[service.%s.dns]", service)
		line("use = %q", "public")
		line("name = %q", serviceName+".")
		line("ttl = %q", ttl)
	}
	if scheme == schemeHybrid {
		for _, s := range sites() {
			line("enter.%s = [%q]", s, w.usersAddr(s))
		}
	}
	if scheme == schemeDNS {
		return
	}
	line("[service.%s.frontend]", service)
	line("mode = %q", "http")
	line("hold = %q", holdFor(profile).String())
	if scheme == schemeFrontend {
		line("listen = [%q]", w.edgeAt())
	}
	for _, s := range sites() {
		if scheme == schemeHybrid {
			line("listen_at.%s = [%q]", s, w.entranceOf(s))
		}
		line("server.%s = [%q]", s, w.gateVia(edge, s))
	}
}

// zoneTOML is the zone that both sites answer for.
func zoneTOML(w *network, line func(format string, args ...any)) {
	line("")
	line("[dns.public]")
	line("provider = %q", "embedded")
	line("zone = %q", zoneName+".")
	for i, s := range sites() {
		line("ns.%s = %q", s, fmt.Sprintf("ns%d.%s.", i+1, zoneName))
	}
	for _, s := range sites() {
		line("ns_address.%s = [%q]", s, w.nsAddr(s))
	}
}

// holdFor is how long the frontend holds a request: longer than the profile
// takes to move away from a lost site.
func holdFor(profile string) time.Duration {
	switch profile {
	case "cautious":
		return 40 * time.Second
	case "balanced":
		return 15 * time.Second
	}
	return 6 * time.Second
}
