package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// table finds a table in the tree, or nil.
func table(root map[string]any, path ...string) map[string]any {
	t := root
	for _, p := range path {
		t, _ = t[p].(map[string]any)
	}
	return t
}

// below lists the well-formed names in a table of the tree, sorted.
func below(root map[string]any, path ...string) []string {
	var names []string
	for name := range table(root, path...) {
		if badName(name) == "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// build makes the typed value from the converted values and the defaults, and
// reports what is missing. What is wrong or missing stays zero; the checks
// that follow look only at what is sound.
func (d *decoder) build(root map[string]any) *Config {
	c := &Config{
		Cluster: get(d, "cluster", ""),
		Profile: profile(get(d, "profile", "")),
		Data:    get(d, "data", "data"),
		TLS: TLS{CA: get(d, "tls.ca", ""), Cert: get(d, "tls.cert", ""), Key: get(d, "tls.key", ""),
			Warn: get(d, "tls.warn", 30*24*time.Hour)},
		TwoSite: get(d, "two_site", false),
		DNS:     map[string]Zone{},
	}
	c.Control = get(d, "control", c.Data+"/draasd.sock")
	c.Guard = get(d, "guard", c.Data+"/guard.sock")
	c.Raft = Raft{Heartbeat: c.Profile.Heartbeat, Election: c.Profile.Election}
	d.need("cluster", `name the cluster, such as cluster = "acme"; it must never change`)
	d.need("tls.ca", `name the file with the root of all members' certificates, such as ca = "tls/ca.crt"`)
	d.need("tls.cert", `name the file with this member's certificate, such as cert = "tls/member.crt"`)
	d.need("tls.key", `name the file with this member's key, such as key = "tls/member.key"`)
	if d.has("watchdog") {
		c.Watchdog = Watchdog{Device: get(d, "watchdog.device", ""), Timeout: get(d, "watchdog.timeout", 10*time.Second)}
		d.need("watchdog.device", `name the device, such as device = "/dev/watchdog"`)
	}
	if d.has("pager") {
		c.Pager = Pager{Command: get[[]string](d, "pager.command", nil), Timeout: get(d, "pager.timeout", 30*time.Second)}
		d.need("pager.command", `write the program that calls a person, such as command = ["/usr/lib/draas/page"]`)
	}
	for _, name := range below(root, "member") {
		c.Members = append(c.Members, d.member(root, name))
	}
	for _, name := range below(root, "dns") {
		c.DNS[name] = d.zone(root, name)
	}
	c.Frontends = d.frontends(c, root)
	c.VIPs = d.vips(c, root)
	c.Sync = d.sync(c, root)
	for _, name := range below(root, "service") {
		c.Services = append(c.Services, d.service(c, root, name))
	}
	for _, name := range below(root, "group") {
		c.Groups = append(c.Groups, d.group(c, name))
	}
	if units := c.Units(); d.has("sync") && c.Sync.Follows == "" && len(units) == 1 {
		c.Sync.Follows = units[0].ID
	}
	for i := range c.Services {
		d.drainFits(&c.Services[i])
	}
	return c
}

// byName reads a table whose keys are names: ns.primary, address.dr.
func byName[K ~string, T any](d *decoder, path string, names []string) map[K]T {
	var m map[K]T
	for _, name := range names {
		if v, ok := d.values[join(path, name)].(T); ok {
			if m == nil {
				m = map[K]T{}
			}
			m[K(name)] = v
		}
	}
	return m
}

func (d *decoder) member(root map[string]any, name string) Member {
	at := join("member", name)
	m := Member{
		ID:     draas.MemberID(name),
		Role:   draas.Role(get(d, at+".role", "")),
		Domain: get(d, at+".domain", name),
		Peer:   get(d, at+".peer", ""),
		API:    get(d, at+".api", ""),
		DNS:    get(d, at+".dns", ""),

		Metrics: get(d, at+".metrics", ""),
	}
	m.ListenPeer = get(d, at+".listen_peer", m.Peer)
	m.APIFrom = byName[string, string](d, at+".api_from", below(root, "member", name, "api_from"))
	m.PeerFrom = byName[draas.MemberID, string](d, at+".peer_from", below(root, "member", name, "peer_from"))
	d.need(at+".role", `write role = "site", or "witness" for one that only votes`)
	d.need(at+".peer", `write the address where the other members reach it, such as peer = "198.51.100.10:7400"`)
	return m
}

// update is how the provider rfc2136 changes a zone.
func (d *decoder) update(at string) Update {
	d.need(at+".zone", `name the zone that the server has, such as zone = "example.org."`)
	d.need(at+".primary", `write the address of the server that takes updates, such as primary = "192.0.2.53:53"`)
	d.need(at+".domain", `name the failure domain in which that server stands, such as domain = "cloud": no site's`)
	d.need(at+".key_file", `name the file with the TSIG key, such as key_file = "dns.key"`)
	u := Update{
		Primary:     get(d, at+".primary", ""),
		Domain:      get(d, at+".domain", ""),
		Secondaries: get[[]string](d, at+".secondaries", nil),
		KeyFile:     get(d, at+".key_file", ""),
		TCP:         get(d, at+".tcp", false),
	}
	if len(u.Secondaries) > 0 {
		u.Lag = get(d, at+".secondary_lag", 5*time.Second)
	}
	return u
}

// copies is who serves copies of an embedded zone.
func (d *decoder) copies(at string) Copies {
	c := Copies{
		Secondaries: get[[]string](d, at+".secondaries", nil),
		From:        get[[]netip.Prefix](d, at+".transfer_from", nil),
		KeyFile:     get(d, at+".key_file", ""),
		Revision:    get(d, at+".revision", 0),
	}
	if len(c.Secondaries) > 0 || len(c.From) > 0 || c.KeyFile != "" {
		c.Refresh, c.Expire = get(d, at+".refresh", time.Minute), get(d, at+".expire", 24*time.Hour)
	}
	if len(c.Secondaries) > 0 {
		c.Lag = get(d, at+".secondary_lag", 5*time.Second)
	}
	return c
}

func (d *decoder) zone(root map[string]any, name string) Zone {
	at := join("dns", name)
	z := Zone{ID: name, Provider: get(d, at+".provider", ""), Name: get(d, at+".zone", "")}
	z.Moves = get(d, at+".moves_per_hour", 0)
	z.Observe = get(d, at+".observe", time.Duration(0))
	d.need(at+".provider", `write provider = "embedded", or "rfc2136" for a name server of your own`)
	switch {
	case z.Provider == ProviderRFC2136:
		z.Update = d.update(at)
		return z
	case z.IsHosted():
		z.Contact = get(d, at+".contact", "")
		z.Hosted = d.hosted(at, z.Provider)
		return z
	}
	z = Zone{
		ID:          z.ID,
		Provider:    z.Provider,
		Name:        z.Name,
		Moves:       z.Moves,
		Observe:     z.Observe,
		NS:          byName[draas.SiteID, string](d, at+".ns", below(root, "dns", name, "ns")),
		NSAddress:   byName[draas.SiteID, []netip.Addr](d, at+".ns_address", below(root, "dns", name, "ns_address")),
		NegativeTTL: get(d, at+".negative_ttl", 5*time.Second),
		Stale:       get(d, at+".stale", 30*time.Second),
	}
	z.Contact = get(d, at+".contact", "hostmaster."+z.Name)
	z.File = get(d, at+".zone_file", "")
	z.Copies = d.copies(at)
	z.SigningKeys = get(d, at+".dnssec_keys", "")
	if z.SigningKeys != "" {
		z.Validity = get(d, at+".signatures", 7*24*time.Hour)
	}
	d.need(at+".zone", `name the zone that is delegated to the sites, such as zone = "ha.example.org."`)
	records, _ := asTables(table(root, "dns", name)["record"])
	for i := range records {
		r := elem(at+".record", i)
		z.Records = append(z.Records, Record{
			Name:  get(d, r+".name", ""),
			Type:  get(d, r+".type", ""),
			Value: get[[]string](d, r+".value", nil),
			TTL:   get(d, r+".ttl", time.Minute),
		})
		d.need(r+".name", `write the full name with the final dot, such as name = "mail.example.org."`)
		d.need(r+".type", `write A, AAAA, CNAME, TXT or NS, such as type = "A"`)
		d.need(r+".value", `write the values, such as value = ["192.0.2.9"]`)
	}
	return z
}

func (d *decoder) service(c *Config, root map[string]any, name string) Service {
	at := join("service", name)
	names := func(table string) []string { return below(root, "service", name, table) }
	s := Service{
		ID:        draas.ServiceID(name),
		Scheme:    get(d, at+".scheme", ""),
		Policy:    d.policy(c, at),
		Addresses: byName[draas.SiteID, []netip.Addr](d, at+".address", names("address")),
		CNAME:     byName[draas.SiteID, string](d, at+".cname", names("cname")),
	}
	if s.Fronted() {
		s.Frontend = d.serviceFrontend(c, root, name)
	}
	if s.Scheme != SchemeFrontend {
		s.DNS = d.serviceDNS(at, s.Scheme)
		s.DNS.Enter = byName[draas.SiteID, []netip.Addr](d, at+".dns.enter", below(root, "service", name, "dns", "enter"))
	}
	for _, vantage := range names("probe_via") {
		if s.ProbeVia == nil {
			s.ProbeVia = map[draas.MemberID]map[draas.SiteID]string{}
		}
		via := join(at+".probe_via", vantage)
		s.ProbeVia[draas.MemberID(vantage)] = byName[draas.SiteID, string](d, via, below(root, "service", name, "probe_via", vantage))
	}
	if lag := at + ".lag"; d.has(lag) {
		s.Lag = Lag{Command: get[[]string](d, lag+".command", nil), Interval: get(d, lag+".interval", 10*time.Second)}
		s.Lag.Timeout = get(d, lag+".timeout", min(5*time.Second, s.Lag.Interval))
		d.need(lag+".command", `write the program that prints how many seconds the copy is behind, such as command = ["/usr/lib/shop/lag"]`)
	}
	s.Fence = d.fence(c, root, name)
	s.Timing.Lease.Margin = s.Fence.Margin
	checks, _ := asTables(table(root, "service", name)["check"])
	for i := range checks {
		s.Checks = append(s.Checks, d.buildCheck(elem(at+".check", i), c.Profile))
	}
	d.need(at+".scheme", `write scheme = "dns", "frontend" for a proxy that follows the decision, or "hybrid" for both`)
	d.need(at+".check", fmt.Sprintf("say how to see that it works: begin with a line [[%s.check]]", at))
	return s
}

// serviceDNS reads under which name users find a service. Where the scheme is
// wrong, a table frontend shows that none is meant to be here.
func (d *decoder) serviceDNS(service, scheme string) ServiceDNS {
	at := service + ".dns"
	if scheme == SchemeHybrid || !d.has(service+".frontend") {
		d.need(at+".use", `name the zone, such as use = "public" for [dns.public]`)
		d.need(at+".name", `write the name that users look up, such as name = "shop.example.org."`)
	}
	return ServiceDNS{
		Zone:  get(d, at+".use", ""),
		Also:  get[[]string](d, at+".also", nil),
		Name:  get(d, at+".name", ""),
		TTL:   get(d, at+".ttl", 5*time.Second),
		Floor: get(d, at+".resolver_floor", time.Duration(0)),
	}
}

func (d *decoder) buildCheck(at string, p Profile) Check {
	k := Check{
		Type:       CheckType(get(d, at+".type", "")),
		Port:       uint16(get(d, at+".port", 0)),
		Path:       get(d, at+".path", ""),
		Host:       get(d, at+".host", ""),
		Status:     get[[]int](d, at+".status", nil),
		Body:       get[*regexp.Regexp](d, at+".body", nil),
		Expiry:     get(d, at+".expiry", time.Duration(0)),
		CA:         get(d, at+".ca", ""),
		Insecure:   get(d, at+".insecure", false),
		Name:       get(d, at+".name", ""),
		QType:      get(d, at+".qtype", ""),
		Expect:     get[[]string](d, at+".expect", nil),
		Command:    get[[]string](d, at+".command", nil),
		Local:      get(d, at+".local", ""),
		Interval:   get(d, at+".interval", p.Interval),
		Timeout:    get(d, at+".timeout", p.Timeout),
		SecondLook: p.SecondLook,
		Rise:       get(d, at+".rise", p.Rise),
		Fall:       get(d, at+".fall", p.Fall),
		Jitter:     get(d, at+".jitter", p.Jitter),
	}
	switch k.Type {
	case CheckHTTP, CheckHTTPS:
		if k.Path == "" {
			k.Path = "/"
		}
	case CheckDNS:
		if k.QType == "" {
			k.QType = "A"
		}
	}
	if k.Port == 0 {
		k.Port = map[CheckType]uint16{CheckHTTP: 80, CheckHTTPS: 443, CheckDNS: 53}[k.Type]
	}
	d.need(at+".type", "write tcp, http, https, dns or exec, such as type = \"http\"")
	return k
}
