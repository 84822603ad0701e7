package config

import (
	"net/netip"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// The schemes.
const (
	SchemeDNS      = "dns"
	SchemeFrontend = "frontend"
	SchemeHybrid   = "hybrid" // frontends at all sites, and a name that leads to those of one
)

// Fronted reports whether frontends lead users to the service.
func (s *Service) Fronted() bool { return s.Scheme == SchemeFrontend || s.Scheme == SchemeHybrid }

// Named reports whether a move changes what the service's name answers.
func (s *Service) Named() bool { return s.Scheme == SchemeDNS || s.Scheme == SchemeHybrid }

// Answers is what the service's name answers while it leads to a site: the
// site's own addresses, or those of the frontends there.
func (s *Service) Answers(site draas.SiteID) (addresses []netip.Addr, cname string) {
	if s.Scheme == SchemeHybrid {
		return s.DNS.Enter[site], ""
	}
	return s.Addresses[site], s.CNAME[site]
}

// The kinds of frontend.
const (
	FrontendEmbedded = "embedded" // our own proxy
	FrontendHAProxy  = "haproxy"
	FrontendNginx    = "nginx"
	FrontendNAT      = "nat" // the kernel's address translation
)

// Frontend is a host whose proxy follows the decision. Its name is the common
// name of its certificate; it has no vote.
type Frontend struct {
	ID     string
	Kind   string
	Domain string       // failure domain in which it stands; empty: not known
	Site   draas.SiteID // as the file gives it; see SiteOf
	// Member is the member whose daemon runs it, with its certificate; empty:
	// it is a process of its own.
	Member  draas.MemberID
	Control string // unix socket that answers draasd frontend status
	// AccessLog is a file, or empty for none; embedded.
	AccessLog string
	Socket    string   // haproxy: its runtime socket, a path or IP:port
	Master    string   // haproxy: its master process's socket, alike; empty: none
	Include   string   // nginx: directory of the generated files
	Test      []string // nginx: command that tests its configuration
	Reload    []string // nginx: command that makes it take over a configuration
}

// The modes of a service's frontend.
const (
	ModeTCP  = "tcp"
	ModeHTTP = "http"
)

// The affinities of users to a site's servers.
const (
	AffinityNone   = "none"
	AffinitySource = "source"
	AffinityCookie = "cookie" // mode http
)

// ServiceFrontend says how frontends serve a service.
type ServiceFrontend struct {
	Use    []string // frontends, by name; at least one
	Mode   string
	Listen []netip.AddrPort // at each of them; several services may share one, told apart by Names
	// ListenAt is instead of Listen at the frontends of a site.
	ListenAt map[draas.SiteID][]netip.AddrPort
	Names    []string // server names (TLS) or hosts (http), exact or "*.example.org"; empty: all others
	Servers  map[draas.SiteID][]netip.AddrPort

	// What waits while no site can be led to.
	Hold         time.Duration
	HoldRequests int
	HoldBytes    int64
	// Drain is the longest that a planned move waits for what is under way.
	Drain time.Duration
	// Silent is when a request without an answer is reported, in the mode tcp a
	// client without one; 0: as the proxy sees fit.
	Silent time.Duration

	ConnectTimeout time.Duration
	IdleTimeout    time.Duration
	Connections    int            // of clients at once
	PerSource      int            // of one address at once; 0: no limit
	Sources        []netip.Prefix // who may connect; empty: everybody
	ProxyFrom      []netip.Prefix // whose PROXY protocol header is believed, and required
	ProxyTo        int            // version of the header that servers get; 0: none
	Affinity       string
	Shadow         string // IP:port that gets a copy of what clients send

	// Mode http.
	Certificate, Key string   // TLS is ended here
	Replay           []string // may be sent twice: "PUT /path/" is all below, "PUT /path" that path
	Trusted          []netip.Prefix
	MaxBody          int64
}

// Frontend finds a frontend.
func (c *Config) Frontend(id string) (Frontend, bool) {
	for i := range c.Frontends {
		if c.Frontends[i].ID == id {
			return c.Frontends[i], true
		}
	}
	return Frontend{}, false
}

// SiteOf is the site at which a frontend stands: there users enter by it when a
// hybrid's name leads there. It is its member's, unless the file says it; empty
// when it stands elsewhere.
func (c *Config) SiteOf(frontend string) draas.SiteID {
	f, _ := c.Frontend(frontend)
	if m, ok := c.Member(f.Member); ok && f.Site == "" && m.Role == draas.RoleSite {
		return m.ID.Site()
	}
	return f.Site
}

// ListensAt is where the frontends of a site listen; of those that stand at no
// site, where all do.
func (f *ServiceFrontend) ListensAt(site draas.SiteID) []netip.AddrPort {
	if own, has := f.ListenAt[site]; has {
		return own
	}
	return f.Listen
}

// written is an address to listen at, and its path below the frontend's table.
type written struct {
	at   netip.AddrPort
	path string
}

// listensOf is where the frontends of a site listen.
func (f *ServiceFrontend) listensOf(site draas.SiteID) []written {
	path := "listen"
	if _, has := f.ListenAt[site]; has {
		path = join("listen_at", string(site))
	}
	var all []written
	for i, l := range f.ListensAt(site) {
		all = append(all, written{l, elem(path, i)})
	}
	return all
}

// listens is where any frontend listens.
func (f *ServiceFrontend) listens() []written {
	all := f.listensOf("")
	for _, site := range sortedKeys(f.ListenAt) {
		all = append(all, f.listensOf(site)...)
	}
	return all
}

// normalize sorts the lists whose order has no meaning: all of them.
func (f *ServiceFrontend) normalize() {
	slices.Sort(f.Use)
	slices.Sort(f.Names)
	slices.Sort(f.Replay)
	slices.SortFunc(f.Listen, netip.AddrPort.Compare)
	for _, list := range f.ListenAt {
		slices.SortFunc(list, netip.AddrPort.Compare)
	}
	for _, list := range f.Servers {
		slices.SortFunc(list, netip.AddrPort.Compare)
	}
	for _, list := range [][]netip.Prefix{f.Sources, f.ProxyFrom, f.Trusted} {
		slices.SortFunc(list, netip.Prefix.Compare)
	}
}
