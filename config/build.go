package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// below lists the well-formed names in a table of the tree, sorted.
func below(root map[string]any, path ...string) []string {
	t := root
	for _, p := range path {
		t, _ = t[p].(map[string]any)
	}
	var names []string
	for name := range t {
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
		TLS:     TLS{CA: get(d, "tls.ca", ""), Cert: get(d, "tls.cert", ""), Key: get(d, "tls.key", "")},
		DNS:     map[string]Zone{},
	}
	c.Control = get(d, "control", c.Data+"/draasd.sock")
	c.Guard = get(d, "guard", c.Data+"/guard.sock")
	c.Raft = Raft{Heartbeat: c.Profile.Heartbeat, Election: c.Profile.Election}
	d.need("cluster", `name the cluster, such as cluster = "acme"; it must never change`)
	d.need("tls.ca", `name the file with the root of all members' certificates, such as ca = "tls/ca.crt"`)
	d.need("tls.cert", `name the file with this member's certificate, such as cert = "tls/member.crt"`)
	d.need("tls.key", `name the file with this member's key, such as key = "tls/member.key"`)
	for _, name := range below(root, "member") {
		c.Members = append(c.Members, d.member(root, name))
	}
	for _, name := range below(root, "dns") {
		c.DNS[name] = d.zone(root, name)
	}
	for _, name := range below(root, "service") {
		c.Services = append(c.Services, d.service(root, name, c.Profile))
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
	}
	m.ListenPeer = get(d, at+".listen_peer", m.Peer)
	m.PeerFrom = byName[draas.MemberID, string](d, at+".peer_from", below(root, "member", name, "peer_from"))
	d.need(at+".role", `write role = "site", or "witness" for one that only votes`)
	d.need(at+".peer", `write the address where the other members reach it, such as peer = "198.51.100.10:7400"`)
	return m
}

func (d *decoder) zone(root map[string]any, name string) Zone {
	at := join("dns", name)
	z := Zone{
		ID:          name,
		Provider:    get(d, at+".provider", ""),
		Name:        get(d, at+".zone", ""),
		NS:          byName[draas.SiteID, string](d, at+".ns", below(root, "dns", name, "ns")),
		NSAddress:   byName[draas.SiteID, []netip.Addr](d, at+".ns_address", below(root, "dns", name, "ns_address")),
		NegativeTTL: get(d, at+".negative_ttl", 5*time.Second),
		Stale:       get(d, at+".stale", 30*time.Second),
	}
	z.Contact = get(d, at+".contact", "hostmaster."+z.Name)
	d.need(at+".provider", `write provider = "embedded"`)
	d.need(at+".zone", `name the zone that is delegated to the sites, such as zone = "ha.example.org."`)
	t, _ := root["dns"].(map[string]any)
	t, _ = t[name].(map[string]any)
	records, _ := asTables(t["record"])
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

func (d *decoder) service(root map[string]any, name string, p Profile) Service {
	at := join("service", name)
	names := func(table string) []string { return below(root, "service", name, table) }
	s := Service{
		ID:            draas.ServiceID(name),
		Scheme:        get(d, at+".scheme", ""),
		Home:          draas.SiteID(get(d, at+".home", "")),
		Automatic:     get(d, at+".automatic", false),
		Confirmations: get(d, at+".confirmations", 0),
		MaxRTO:        get(d, at+".max_rto", time.Duration(0)),
		Timing: Timing{
			Lease:   draas.Lease{Length: get(d, at+".lease", p.Lease), Drift: Drift},
			Renew:   get(d, at+".renew", p.Renew),
			Confirm: get(d, at+".confirm", p.Confirm),
			Hold:    get(d, at+".hold", p.Hold),
		},
		Addresses: byName[draas.SiteID, []netip.Addr](d, at+".address", names("address")),
		CNAME:     byName[draas.SiteID, string](d, at+".cname", names("cname")),
		DNS: ServiceDNS{
			Zone: get(d, at+".dns.use", ""),
			Name: get(d, at+".dns.name", ""),
			TTL:  get(d, at+".dns.ttl", 5*time.Second),
		},
	}
	for _, vantage := range names("probe_via") {
		if s.ProbeVia == nil {
			s.ProbeVia = map[draas.MemberID]map[draas.SiteID]string{}
		}
		via := join(at+".probe_via", vantage)
		s.ProbeVia[draas.MemberID(vantage)] = byName[draas.SiteID, string](d, via, below(root, "service", name, "probe_via", vantage))
	}
	s.Fence = d.fence(root, name)
	s.Timing.Lease.Margin = s.Fence.Margin
	t, _ := root["service"].(map[string]any)
	t, _ = t[name].(map[string]any)
	checks, _ := asTables(t["check"])
	for i := range checks {
		s.Checks = append(s.Checks, d.buildCheck(elem(at+".check", i), p))
	}
	d.need(at+".scheme", `write scheme = "dns"`)
	d.need(at+".home", "name the site where the service belongs and where failback leads")
	d.need(at+".check", fmt.Sprintf("say how to see that it works: begin with a line [[%s.check]]", at))
	d.need(at+".dns.use", `name the zone, such as use = "public" for [dns.public]`)
	d.need(at+".dns.name", `write the name that users look up, such as name = "shop.example.org."`)
	return s
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

// Worst times to close when the file gives none.
const (
	marginOwn      = 150 * time.Millisecond // path and kernel: our own work, allowing a stalled machine
	marginOperator = time.Second            // exec and systemd: somebody's program
)

func (d *decoder) fence(root map[string]any, service string) Fence {
	at := join("service", service) + ".fence"
	f := Fence{
		Kind:    draas.FenceKind(get(d, at+".kind", string(draas.FenceNone))),
		Listen:  byName[draas.SiteID, string](d, at+".listen", below(root, "service", service, "fence", "listen")),
		Forward: byName[draas.SiteID, string](d, at+".forward", below(root, "service", service, "fence", "forward")),
		Close:   get[[]string](d, at+".close", nil),
		Open:    get[[]string](d, at+".open", nil),
		Check:   get[[]string](d, at+".check", nil),
		Unit:    get(d, at+".unit", ""),
		Ports:   get[[]uint16](d, at+".ports", nil),
		Proto:   get(d, at+".proto", ""),
		Protect: get[[]netip.Addr](d, at+".protect", nil),
	}
	switch f.Kind {
	case draas.FencePath:
		f.Margin = marginOwn
	case draas.FenceKernel:
		f.Margin = marginOwn
		if f.Proto == "" {
			f.Proto = "tcp"
		}
	case draas.FenceExec, draas.FenceSystemd:
		f.Margin = marginOperator
	}
	f.Margin = get(d, at+".margin", f.Margin)
	return f
}
