package matrix

import (
	"fmt"
	"strings"
	"time"
)

// The names that users know.
const (
	zone        = "matrix.example."
	serviceName = "counter." + zone
	service     = "counter"
)

// column is what is set beside the others: a scheme with its timing, or a peer.
type column struct {
	Name   string
	Scheme string        // empty: a peer
	Peer   *peer         // in the place of a scheme
	Pair   bool          // the frontends share a virtual address
	Lease  time.Duration // of the service's permits
	BIND   bool          // the zone is on a server outside, changed by updates, and not on the sites'
	Metro  bool          // the sites are near each other, and the lease is short
	// Patient gives a virtual address the lease of the profile balanced: fourteen
	// machines on two busy cores do not renew one of 250 ms in time.
	Patient bool
	Bare    bool // no fence, and nothing moves by itself: what is checked has to be seen to fail
}

// The schemes.
const (
	schemeDNS      = "dns"
	schemeFrontend = "frontend"
	schemeHybrid   = "hybrid"
)

// hold is how long a frontend lets requests wait: longer than users do.
const holdRequests = patience + time.Second

// frontends are the machines of a column's frontends, with their places and
// hosts.
func (c column) frontends() []machineAt {
	switch {
	case c.Peer != nil && !c.Pair:
		return []machineAt{{edge1, edge, hostFirst}}
	case c.Scheme == schemeFrontend, c.Peer != nil:
		return []machineAt{{edge1, edge, hostFirst}, {edge2, edge, hostSecond}}
	case c.Scheme == schemeHybrid:
		return []machineAt{{frontendHost(primary), primary, hostFrontend}, {frontendHost(dr), dr, hostFrontend}}
	}
	return nil
}

type machineAt struct {
	name, place string
	host        int
}

// failoverTOML is the cluster's file, the same for all. Sockets stand in run,
// beside the file, where they are reached from outside the machine.
func (c column) failoverTOML() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("cluster = %q\nprofile = %q\ndata = %q", "matrix", c.profile(), "data")
	line("control = %q\nguard = %q", "run/draasd.sock", "run/guard.sock")
	line("[tls]\nca = %q\ncert = %q\nkey = %q", "tls/ca.crt", "tls/member.crt", "tls/member.key")
	for _, m := range members {
		role := "site"
		if m == witness {
			role = witness
		}
		at := address(m, hostMember)
		line("[member.%s]\nrole = %q\npeer = \"%s:%d\"\napi = \"%s:%d\"", m, role, at, peerPort, at, apiPort)
		if m != witness && !c.BIND {
			line("dns = \"%s:%d\"", at, dnsPort)
		}
		if m != witness && c.clouded() {
			line("cloud = %q", m)
		}
	}
	c.zoneTOML(line)
	c.frontendsTOML(line)
	c.serviceTOML(line)
	if c.clouded() {
		line("[sync]\nclouds_file = %q\nplain = true\nevery = %q\nkinds = [%s]", "clouds.yaml", syncEvery, quoted([]string{"domain", "project", "container", "object"}))
	}
	return b.String()
}

// zoneTOML is the zone that both sites answer for.
func (c column) zoneTOML(line func(string, ...any)) {
	// What moves so often on purpose is not to be held.
	if c.BIND {
		line("[dns.public]\nprovider = %q\nzone = %q\nprimary = %q\ndomain = %q\nkey_file = %q\nmoves_per_hour = %d",
			"rfc2136", zone, c.authorities()[0], outside, "dns.key", 100000)
		return
	}
	line("[dns.public]\nprovider = %q\nzone = %q\nmoves_per_hour = %d", "embedded", zone, 100000)
	for _, s := range sites {
		line("ns.%s = %q\nns_address.%s = [%q]", s, "ns-"+s+"."+zone, s, address(s, hostMember))
	}
	if c.Scheme == schemeFrontend {
		line("[[dns.public.record]]\nname = %q\ntype = %q\nttl = %q\nvalue = [%s]", serviceName, "A", ttl, quoted(c.entries()))
	}
}

// authorities are where the zone's servers are asked.
func (c column) authorities() []string {
	if c.BIND {
		return []string{fmt.Sprintf("%s:%d", address(outside, hostNamed), dnsPort)}
	}
	return []string{fmt.Sprintf("%s:%d", address(primary, hostMember), dnsPort), fmt.Sprintf("%s:%d", address(dr, hostMember), dnsPort)}
}

// ttl is how long resolvers keep an answer: the least that DNS can say.
const ttl = "1s"

// entries are the addresses by which users reach the frontends of the edge.
func (c column) entries() []string {
	if c.Pair {
		return []string{address(edge, hostVIP)}
	}
	return []string{address(edge, hostFirst), address(edge, hostSecond)}
}

func quoted(list []string) string { return `"` + strings.Join(list, `", "`) + `"` }

func (c column) frontendsTOML(line func(string, ...any)) {
	var pair []string
	for _, f := range c.frontends() {
		pair = append(pair, f.name)
		line("[frontend.%s]\ncontrol = %q", f.name, "run/frontend.sock")
		if f.place == edge {
			line("domain = %q", edge)
		} else {
			line("site = %q", f.place)
		}
	}
	if c.Pair {
		line("[vip.front]\nholders = [%s]\naddress = [\"%s/24 dev eth0\"]", quoted(pair), address(edge, hostVIP))
		if c.Patient {
			line("lease = %q", patientLease)
		}
	}
}

func (c column) serviceTOML(line func(string, ...any)) {
	line("[service.%s]\nscheme = %q\nhome = %q\nautomatic = %v\nlease = %q", service, c.Scheme, primary, !c.Bare, c.Lease)
	line("hold = %q\nflaps = 0", "0s") // as ready to move as can be: what was seen before is acknowledged
	for _, s := range sites {
		line("address.%s = [%q]", s, serviceAddress(s))
	}
	line("[[service.%s.check]]\ntype = %q\nport = %d\npath = %q", service, "http", webPort, "/healthz")
	if c.Scheme != schemeFrontend {
		line("[service.%s.dns]\nuse = %q\nname = %q\nttl = %q", service, "public", serviceName, ttl)
		for _, f := range c.frontends() {
			line("enter.%s = [%q]", f.place, address(f.place, f.host))
		}
	}
	if c.Scheme != schemeDNS {
		line("[service.%s.frontend]\nmode = %q\nlisten = [\":%d\"]\nhold = %q\nhold_requests = 10000", service, "http", webPort, holdRequests)
		for _, s := range sites {
			line("server.%s = [\"%s:%d\"]", s, serviceAddress(s), webPort)
		}
	}
	if c.Bare {
		line("[service.%s.fence]\nkind = %q", service, "none")
		return
	}
	// The guard is with the member, and the service's machine behind it.
	line("[service.%s.fence]\nkind = %q\nmargin = %q\nports = [%d]\nprotect = [%q, %q]", service, "kernel", margin, webPort, serviceAddress(primary), serviceAddress(dr))
}

// patientLease is that of a virtual address in the short run.
const patientLease = time.Second

// margin is how long the kernel takes to close at worst.
const margin = 50 * time.Millisecond

// patience is how long a user waits for an answer.
const patience = 4 * time.Second
