package soak

import (
	"fmt"
	"strings"
)

// The members, and which of them are sites.
const (
	primary = "primary"
	dr      = "dr"
	witness = "witness"
	outside = "outside" // no member: where users are
)

var (
	members = []string{primary, dr, witness}
	sites   = []string{primary, dr}
	// places are what links join: the members' and the users' own.
	places = []string{primary, dr, witness, outside}
)

// The services, named after their fences. bare has none: what is checked of
// the others has to be seen to fail of it.
const (
	byKernel = "kern"
	byPath   = "path"
	bare     = "bare"
)

var (
	services = []string{byKernel, byPath, bare}
	fenced   = []string{byKernel, byPath}
)

// The ports.
const (
	peerPort = 7400
	apiPort  = 7401
	dnsPort  = 53
)

var (
	portOf = map[string]uint16{byKernel: 8080, byPath: 8081, bare: 8082}
	ports  = []uint16{peerPort, dnsPort, 8080, 8081} // that may be cut
)

// prefixOf is the network of a place: its machines, and the users beside
// them, whom no cut between places comes between.
var prefixOf = map[string]string{primary: "10.90.1.0/24", dr: "10.90.2.0/24", witness: "10.90.3.0/24", outside: "10.90.9.0/24"}

// hostOf is an address in a place's network.
func hostOf(place string, n int) string {
	return strings.TrimSuffix(prefixOf[place], "0/24") + fmt.Sprint(n)
}

func memberAddress(m string) string { return hostOf(m, 10) }
func usersAddress(p string) string  { return hostOf(p, 100) }

func serviceAddress(service, site string) string {
	return hostOf(site, map[string]int{byKernel: 20, byPath: 21, bare: 22}[service])
}

// addressesOf are all addresses of a member's machine.
func addressesOf(m string) []string {
	all := []string{memberAddress(m)}
	if m != witness {
		for _, s := range services {
			all = append(all, serviceAddress(s, m))
		}
	}
	return all
}

const zone = "soak.example."

func nameOf(service string) string { return service + "." + zone }

// backend is where the path fence finds the service.
const backend = "127.0.0.1:9081"

// files are what the cluster's files differ in: how long permits are; and the
// last of them in the fences themselves, which the guards then close first.
var files = []struct{ lease, margin string }{{"2s", "150ms"}, {"3s", "150ms"}, {"2500ms", "150ms"}, {"2500ms", "200ms"}}

// sameFences is how many of the files, from the first on, have the same fences.
const sameFences = 3

// failoverTOML is one of the cluster's files, the same for all members.
// Sockets stand in run, beside the file, where they are reached from outside
// the machine.
func failoverTOML(file int) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("cluster = %q\nprofile = %q\ndata = %q", "soak", "fast", "data")
	line("control = %q\nguard = %q", "run/draasd.sock", "run/guard.sock")
	line("[tls]\nca = %q\ncert = %q\nkey = %q", "tls/ca.crt", "tls/member.crt", "tls/member.key")
	for _, m := range members {
		role := "site"
		if m == witness {
			role = witness
		}
		line("[member.%s]\nrole = %q\npeer = \"%s:%d\"\napi = \"%s:%d\"", m, role, memberAddress(m), peerPort, memberAddress(m), apiPort)
		if m != witness {
			line("dns = \"%s:%d\"", memberAddress(m), dnsPort)
		}
	}
	// What moves so often on purpose is not to be held.
	line("[dns.public]\nprovider = %q\nzone = %q\nmoves_per_hour = %d", "embedded", zone, 100000)
	for _, s := range sites {
		line("ns.%s = %q\nns_address.%s = [%q]", s, s+"."+zone, s, memberAddress(s))
	}
	for _, s := range services {
		line("%s", serviceTOML(s, files[file].lease, files[file].margin))
	}
	return b.String()
}

// badTOML is a file that nobody may take.
func badTOML() string {
	of := "[service." + byPath + "]\n"
	return strings.Replace(failoverTOML(0), of, of+"turbo = true\n", 1)
}

func serviceTOML(s, lease, margin string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[service.%s]\nscheme = %q\nhome = %q\nautomatic = %v\nlease = %q", s, "dns", primary, s != bare, lease)
	if s == byKernel {
		line("hold = %q\nflaps = 0", "0s") // as ready to move as can be; the others as the profile has it, but for the hold
	} else {
		line("hold = %q", "1s")
	}
	for _, site := range sites {
		line("address.%s = [%q]", site, serviceAddress(s, site))
	}
	line("[[service.%s.check]]\ntype = %q\nport = %d\npath = %q", s, "http", portOf[s], "/healthz")
	line("[service.%s.dns]\nuse = %q\nname = %q\nttl = %q", s, "public", nameOf(s), "1s")
	switch s {
	case byKernel:
		line("[service.%s.fence]\nkind = %q\nmargin = %q\nports = [%d]\nxdp = [%q]", s, "kernel", margin, portOf[s], "eth0")
	case byPath:
		line("[service.%s.fence]\nkind = %q\nmargin = %q", s, "path", margin)
		for _, site := range sites {
			line("listen.%s = \"%s:%d\"\nforward.%s = %q", site, serviceAddress(s, site), portOf[s], site, backend)
		}
	case bare:
		line("[service.%s.fence]\nkind = %q", s, "none")
	}
	return b.String()
}
