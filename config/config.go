// Package config turns failover.toml into a typed, validated value.
//
// It is pure: bytes in, value or problems out. Parse is strict and reports
// everything that is wrong at once, each problem with its line and with what
// would be right. One identical file serves every member; Config.Digest tells
// whether it is. The file holds no secret, only the paths of files that do,
// and nothing here opens them.
//
// docs/config.md describes every key.
package config

import (
	"maps"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// Drift is rho of every lease: the clock error, slewing included, that two
// members may have against each other. chrony slews by up to 8.3 %.
const Drift = 0.1

// Config is a whole failover.toml. Slices are ordered by name, so that equal
// meaning is an equal value whatever the order in the file.
type Config struct {
	Cluster string
	Profile Profile // the defaults that services and checks have taken over
	Data    string  // directory of the durable state
	Control string  // unix socket of the control API
	Guard   string  // unix socket of the guard
	TLS     TLS
	Raft    Raft

	TwoSite  bool // two members only: what that can do is little, see Notes
	Watchdog Watchdog
	Pager    Pager

	Members   []Member
	Frontends []Frontend
	VIPs      []VIP
	Sync      Sync
	DNS       map[string]Zone
	Groups    []Group
	Services  []Service

	digest string
}

// TLS names the files of a member's identity: its common name is the member's
// name. The contents are never read here.
type TLS struct {
	CA, Cert, Key string
	Warn          time.Duration // alarm this long before a certificate ends
}

// Watchdog is the hardware that resets the machine when the guard does not
// look after its fences any more. The zero value is none.
type Watchdog struct {
	Device  string
	Timeout time.Duration // whole seconds; from the guard's last sign of life to the reset
}

// Pager is the command that calls a person: it gets JSON on its standard
// input. The zero value is none.
type Pager struct {
	Command []string
	Timeout time.Duration // after which it is killed
}

// Raft is the timing of the replicated log, from the profile.
type Raft struct {
	Heartbeat time.Duration
	Election  time.Duration // the least; a member draws from [Election, 2*Election)
}

// Member is one daemon that votes.
type Member struct {
	ID         draas.MemberID
	Role       draas.Role
	Domain     string                    // failure domain: members that fall together
	Peer       string                    // IP:port where the others reach it
	ListenPeer string                    // IP:port where it listens for them
	API        string                    // IP:port of the control API over mutual TLS, or empty
	DNS        string                    // IP:port of the embedded authority, or empty
	Metrics    string                    // IP:port where they are shown without TLS, or empty
	PeerFrom   map[draas.MemberID]string // where one member reaches it instead of Peer
	APIFrom    map[string]string         // where one member or frontend reaches its API instead
}

// The providers of a zone.
const (
	ProviderEmbedded = "embedded" // both sites' own servers
	ProviderRFC2136  = "rfc2136"  // the operator's own, by dynamic updates
	// DNS services, by their interface.
	ProviderDynDNS2    = "dyndns2"
	ProviderDesignate  = "designate"
	ProviderRoute53    = "route53"
	ProviderCloudflare = "cloudflare"
)

// Zone is a DNS zone and its provider.
type Zone struct {
	ID       string
	Provider string
	Name     string        // fully qualified, lower case, with the final dot, as all DNS names here
	Update   Update        // provider rfc2136
	Hosted   Hosted        // a DNS service
	Moves    int           // see MovesPerHour
	Observe  time.Duration // see Every

	// Of the embedded provider.
	Contact     string // SOA rname
	NS          map[draas.SiteID]string
	NSAddress   map[draas.SiteID][]netip.Addr
	NegativeTTL time.Duration
	Stale       time.Duration // a member out of touch gives its last answer this long
	Records     []Record
	File        string // master file with further records; empty: none
	Copies      Copies
	SigningKeys string        // directory of the keys that sign the zone; empty: it is not signed
	Validity    time.Duration // of signatures
}

// Copies says which other servers serve copies of an embedded zone.
type Copies struct {
	Secondaries []string       // IP:port where they are told of changes, and asked
	From        []netip.Prefix // where they transfer the zone from; empty: see authority.Secondary
	KeyFile     string         // TSIG; empty: none
	Lag         time.Duration  // the longest that they take to follow
	Refresh     time.Duration  // how often they ask by themselves
	Expire      time.Duration  // how long they go on alone
	Revision    int            // grows with each change of the zone's records in the file
}

// Update says how a zone is changed on the server that has it.
type Update struct {
	Primary     string        // host:port of the server that takes updates
	Domain      string        // failure domain in which it stands
	Secondaries []string      // host:port of the zone's other servers
	Lag         time.Duration // the longest that they take to follow
	KeyFile     string
	TCP         bool // for all updates
}

// Record is a static record set of a zone.
type Record struct {
	Name  string
	Type  string // A, AAAA, CNAME, TXT or NS
	Value []string
	TTL   time.Duration
}

// Service is what users reach.
type Service struct {
	ID        draas.ServiceID
	Group     draas.ServiceID // empty: it moves by itself
	Scheme    string
	Policy    // its group's, if it is in one
	Addresses map[draas.SiteID][]netip.Addr
	CNAME     map[draas.SiteID]string // instead of Addresses
	ProbeVia  map[draas.MemberID]map[draas.SiteID]string
	Checks    []Check // in the file's order
	Lag       Lag
	DNS       ServiceDNS
	Frontend  ServiceFrontend // scheme frontend
	Fence     Fence
}

// Lag is the command that prints how many seconds a standby site's copy is
// behind. That site's member runs it, with the environment of an exec check.
// The zero value is none.
type Lag struct {
	Command  []string
	Interval time.Duration
	Timeout  time.Duration
}

// CheckType is the kind of a probe.
type CheckType string

// The types of check.
const (
	CheckTCP   CheckType = "tcp"
	CheckHTTP  CheckType = "http"
	CheckHTTPS CheckType = "https"
	CheckDNS   CheckType = "dns"
	CheckExec  CheckType = "exec"
)

// Check is one way to see whether the service works at a site.
type Check struct {
	Type     CheckType
	Port     uint16
	Path     string         // http, https
	Host     string         // http, https: Host header and server name; empty: the address
	Status   []int          // http, https: good statuses; empty: 200 to 399
	Body     *regexp.Regexp // http, https: must match in the first 64 KiB; may be nil
	Expiry   time.Duration  // https: the certificate must live this much longer
	CA       string         // https: file with the roots; empty: the system's
	Insecure bool           // https: do not verify
	Name     string         // dns: the question
	QType    string         // dns
	Expect   []string       // dns: the answer's values, any order; empty: any answer
	Command  []string       // exec
	Local    string         // what the site's own member probes; see Service.TargetFor

	Interval   time.Duration
	Timeout    time.Duration
	SecondLook time.Duration // pause before looking again after a refusal
	Rise, Fall int
	Jitter     float64 // an interval is drawn from [1, 1+Jitter] times Interval
}

// ServiceDNS says under which name users find the service.
type ServiceDNS struct {
	Zone string   // key of Config.DNS
	Also []string // further keys: the same zone at other providers
	Name string
	// Enter is what the name answers while users enter at a site; hybrid.
	Enter map[draas.SiteID][]netip.Addr
	TTL   time.Duration
	// Floor is the least time for which the users' resolvers or browsers keep
	// an answer, whatever its TTL; 0: they obey it.
	Floor time.Duration
}

// Zones lists the keys of Config.DNS in which the name is changed; none for a
// service that DNS does not move.
func (s ServiceDNS) Zones() []string {
	if s.Zone == "" {
		return s.Also
	}
	return append([]string{s.Zone}, s.Also...)
}

// Fence is what stops serving when the permit ends.
type Fence struct {
	Kind    draas.FenceKind
	Margin  time.Duration           // the worst time to close; for exec and systemd not below the watchdog's timeout
	Listen  map[draas.SiteID]string // path: where the guard listens
	Forward map[draas.SiteID]string // path: the backend behind it
	Close   []string                // exec
	Open    []string                // exec
	Check   []string                // exec
	Unit    string                  // systemd
	Ports   []uint16                // kernel
	Proto   string                  // kernel: tcp, udp or both
	Protect []netip.Addr            // kernel: destinations; empty: all
	XDP     []string                // kernel: interfaces that drop by themselves, behind nftables
	Devices []Device                // by site; all of a site's must say off
}

// DeviceKind is how a device is reached.
type DeviceKind string

// The kinds of device.
const (
	DeviceExec DeviceKind = "exec"
	DeviceIPMI DeviceKind = "ipmi"
)

// Device switches a host of a site off, at the hands of the other sites, and
// says whether it is off.
type Device struct {
	Site         draas.SiteID
	Kind         DeviceKind
	Off          []string      // exec
	Status       []string      // exec: exit 0 = off, 1 = on, other = unknown
	Address      string        // ipmi: IP:port
	User         string        // ipmi
	PasswordFile string        // ipmi: only its path is ever read here
	Cipher       int           // ipmi: cipher suite
	Timeout      time.Duration // until it must be off, in one attempt
	Stay         time.Duration // how long it must then have stayed off
}

// Member finds a member.
func (c *Config) Member(id draas.MemberID) (Member, bool) {
	for i := range c.Members {
		if c.Members[i].ID == id {
			return c.Members[i], true
		}
	}
	return Member{}, false
}

// Service finds a service.
func (c *Config) Service(id draas.ServiceID) (Service, bool) {
	for i := range c.Services {
		if c.Services[i].ID == id {
			return c.Services[i], true
		}
	}
	return Service{}, false
}

// Sites lists the members that can serve, by name.
func (c *Config) Sites() []draas.SiteID {
	var sites []draas.SiteID
	for _, m := range c.Members {
		if m.Role == draas.RoleSite {
			sites = append(sites, m.ID.Site())
		}
	}
	return sites
}

// Domains lists the failure domains of the members, by name.
func (c *Config) Domains() []string {
	var domains []string
	for _, m := range c.Members {
		domains = append(domains, m.Domain)
	}
	slices.Sort(domains)
	return slices.Compact(domains)
}

// APIAddress is where a member or frontend reaches a member's API, or empty
// when it has none.
func (c *Config) APIAddress(from string, to draas.MemberID) string {
	m, _ := c.Member(to)
	if via, ok := m.APIFrom[from]; ok {
		return via
	}
	return m.API
}

// PeerAddress is where one member reaches another, or empty when there is no
// such member.
func (c *Config) PeerAddress(from, to draas.MemberID) string {
	m, _ := c.Member(to)
	if via, ok := m.PeerFrom[from]; ok {
		return via
	}
	return m.Peer
}

// At returns the configuration with relative paths taken from a directory,
// normally that of the file. The digest stays that of the file.
func (c *Config) At(dir string) *Config {
	abs := func(p string) string {
		if p == "" || path.IsAbs(p) {
			return p
		}
		return path.Join(dir, p)
	}
	r := *c
	r.Data, r.Control, r.Guard = abs(c.Data), abs(c.Control), abs(c.Guard)
	r.TLS = TLS{CA: abs(c.TLS.CA), Cert: abs(c.TLS.Cert), Key: abs(c.TLS.Key), Warn: c.TLS.Warn}
	r.Watchdog.Device = abs(c.Watchdog.Device)
	r.DNS = maps.Clone(c.DNS)
	for id, z := range r.DNS {
		z.Update.KeyFile, z.Copies.KeyFile = abs(z.Update.KeyFile), abs(z.Copies.KeyFile)
		z.SigningKeys, z.File = abs(z.SigningKeys), abs(z.File)
		z.Hosted.Credentials, z.Hosted.CA = abs(z.Hosted.Credentials), abs(z.Hosted.CA)
		r.DNS[id] = z
	}
	r.Frontends = slices.Clone(c.Frontends)
	for i := range r.Frontends {
		f := &r.Frontends[i]
		f.Control, f.AccessLog, f.Include = abs(f.Control), abs(f.AccessLog), abs(f.Include)
	}
	r.Sync.CloudsFile, r.Sync.State = abs(r.Sync.CloudsFile), abs(r.Sync.State)
	r.VIPs = slices.Clone(c.VIPs)
	for i := range r.VIPs {
		r.VIPs[i].TrackFile = abs(r.VIPs[i].TrackFile)
	}
	r.Services = slices.Clone(c.Services)
	for i := range r.Services {
		checks := slices.Clone(r.Services[i].Checks)
		for j := range checks {
			checks[j].CA = abs(checks[j].CA)
		}
		r.Services[i].Checks = checks
		devices := slices.Clone(r.Services[i].Fence.Devices)
		for j := range devices {
			devices[j].PasswordFile = abs(devices[j].PasswordFile)
		}
		r.Services[i].Fence.Devices = devices
		f := &r.Services[i].Frontend
		f.Certificate, f.Key = abs(f.Certificate), abs(f.Key)
	}
	return &r
}
