package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/draasd/draas"
)

// check reports what cannot stand between values that are each sound.
func (d *decoder) check(c *Config) {
	d.members(c)
	for _, name := range sortedKeys(c.DNS) {
		d.checkZone(c, c.DNS[name])
	}
	d.checkFrontends(c)
	if len(c.Services) == 0 && !d.has("service") {
		d.report("service", "missing", "a cluster is there for a service: begin with a line [service.NAME]")
	}
	for i := range c.Services {
		s := &c.Services[i]
		d.places(c, s)
		for j := range s.Checks {
			at := elem(join("service", string(s.ID))+".check", j)
			d.probe(&s.Checks[j], at)
			d.detection(&s.Checks[j], at)
		}
		d.lag(s)
		d.moving(c, s)
		d.fencing(c, s)
	}
	d.groups(c)
	units := c.Units()
	for i := range units {
		d.unit(c, &units[i])
	}
	d.zonesApart(c)
	d.namesApart(c)
	d.listeners(c)
	d.listensApart(c)
	d.checkVIPs(c)
	d.checkSync(c)
}

// moving checks how the users of a service are moved.
func (d *decoder) moving(c *Config, s *Service) {
	at := join("service", string(s.ID))
	switch s.Scheme {
	case SchemeFrontend:
		d.fronted(c, s)
		return
	case SchemeHybrid:
		d.fronted(c, s)
		d.hybrid(c, s)
	case SchemeDNS:
		if d.has(at + ".frontend") {
			d.report(at+".frontend", `the scheme "dns" has no frontend`, `write scheme = "frontend", or "hybrid" for both, or remove it`)
		}
		if d.has(at + ".dns.enter") {
			d.report(at+".dns.enter", `the scheme "dns" leads to the sites themselves, by address or cname`, `remove it, or write scheme = "hybrid"`)
		}
	}
	d.users(c, s)
}

func sortedKeys[K ~string, T any](m map[K]T) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// siteList names the sites for a message.
func (c *Config) siteList() string {
	var sites []string
	for _, s := range c.Sites() {
		sites = append(sites, string(s))
	}
	if len(sites) == 0 {
		return "no site is declared yet"
	}
	return "the sites are " + strings.Join(sites, " and ")
}

// isSite reports a name that does not name a site.
func (d *decoder) isSite(c *Config, path string, site draas.SiteID) bool {
	m, ok := c.Member(site.Member())
	switch {
	case d.bad["member"]:
		return false
	case !ok:
		d.report(path, fmt.Sprintf("there is no member %q", site), d.guessMember(c, string(site)))
	case m.Role == draas.RoleWitness:
		d.report(path, fmt.Sprintf("%q is a witness, which only votes", site), c.siteList())
	default:
		return true
	}
	return false
}

// guessMember helps with a name that no member has.
func (d *decoder) guessMember(c *Config, name string) string {
	if len(d.problems) > maxPrinted {
		return "name one of the members"
	}
	var all []string
	for _, m := range c.Members {
		all = append(all, string(m.ID))
	}
	if guess := d.nearest(name, all); guess != "" {
		return fmt.Sprintf("did you mean %q?", guess)
	}
	if len(all) == 0 {
		return "begin with a line [member.NAME]"
	}
	return "the members are " + strings.Join(all, ", ")
}

// apiFrom holds the other ways to a member's API against who there is.
func (d *decoder) apiFrom(c *Config, m Member, at string) {
	for _, from := range sortedKeys(m.APIFrom) {
		path := join(at+".api_from", from)
		_, member := c.Member(draas.MemberID(from))
		if _, edge := c.Frontend(from); !member && !edge {
			d.report(path, fmt.Sprintf("there is no member or frontend %q", from), d.guessMember(c, from))
		}
		if m.API == "" {
			d.report(path, "the member has no API", "give it api = \"IP:port\", or remove this")
		}
	}
}

func (d *decoder) members(c *Config) {
	sites := 0
	for _, m := range c.Members {
		at := join("member", string(m.ID))
		if m.Role != draas.RoleWitness {
			sites++
		} else if d.has(at + ".dns") {
			d.report(at+".dns", "a witness never answers users", "remove it, or move it to a site")
		}
		for _, from := range sortedKeys(m.PeerFrom) {
			path := join(at+".peer_from", string(from))
			if _, ok := c.Member(from); !ok {
				d.report(path, fmt.Sprintf("there is no member %q", from), d.guessMember(c, string(from)))
			} else if from == m.ID {
				d.report(path, "a member does not connect to itself", "name one of the others")
			}
		}
		d.apiFrom(c, m, at)
	}
	if sites < 2 && d.clean("member") {
		d.report("member", fmt.Sprintf("%d of the members are sites", sites), "there must be two to move between: give each a table [member.NAME] with role = \"site\"")
	}
	d.twoSite(c, sites)
}

// twoSite wants the word of whoever runs two sites without a witness, so that
// nobody has that by accident.
func (d *decoder) twoSite(c *Config, sites int) {
	two := len(c.Members) == 2 && sites == 2
	switch {
	case !d.clean("member", "two_site"):
	case two && !c.TwoSite:
		d.report("member", "two members cannot agree when one is lost, so nothing is decided then", `add a third, such as [member.witness] with role = "witness" at a third place, or write two_site = true at the top: then a person decides, or a device that switches the other site off`)
	case c.TwoSite && !two:
		d.report("two_site", fmt.Sprintf("there are %d members, %d of them sites", len(c.Members), sites), "it is for exactly two sites and no other member: remove it")
	case c.TwoSite && len(c.Domains()) < 2:
		d.report("two_site", fmt.Sprintf("both sites are in the failure domain %q", c.Domains()[0]), "give each a domain of its own, or both fall together")
	}
}

// places checks where a service may be and from where it is looked at.
func (d *decoder) places(c *Config, s *Service) {
	at := join("service", string(s.ID))
	table, sites := ".address", sortedKeys(s.Addresses)
	switch {
	case d.has(at+".address") && d.has(at+".cname"):
		d.report(at+".cname", "stands beside address", "give either addresses or cnames, for all sites alike")
	case d.has(at + ".cname"):
		table, sites = ".cname", sortedKeys(s.CNAME)
	case !d.has(at + ".address"):
		d.report(at+".address", "missing", "write where users find it at each site, such as address.primary = [\"198.51.100.20\"]")
	}
	for _, site := range sites {
		d.isSite(c, join(at+table, string(site)), site)
	}
	if d.clean(at+table, at+".cname") && len(sites) < 2 {
		d.report(at+table, "the service has one site only", "give an "+table[1:]+" at a second site, or there is nowhere to move")
	}
	d.sameAddress(s, at)
	if !s.Fronted() {
		d.sameFamilies(s.Addresses, at+".address")
	}
	for _, vantage := range sortedKeys(s.ProbeVia) {
		via := join(at+".probe_via", string(vantage))
		if _, ok := c.Member(vantage); !ok {
			d.report(via, fmt.Sprintf("there is no member %q", vantage), d.guessMember(c, string(vantage)))
		}
		for _, site := range sortedKeys(s.ProbeVia[vantage]) {
			path := join(via, string(site))
			switch {
			case !d.isSite(c, path, site):
			case site.Member() == vantage:
				d.report(path, "a site's own member looks from behind the fence", "use local in the check for that")
			case d.clean(at+table) && !slices.Contains(sites, site):
				d.report(path, fmt.Sprintf("the service is not at %q", site), fmt.Sprintf("add %s or remove this", join(table[1:], string(site))))
			}
		}
	}
}

// sameAddress refuses a move that would not move anybody.
func (d *decoder) sameAddress(s *Service, at string) {
	owner := map[string]draas.SiteID{}
	why := "DNS cannot move anybody"
	if s.Fronted() {
		why = "a probe of one looks at the other"
	}
	once := func(site draas.SiteID, what, path string) {
		if first, taken := owner[what]; taken && first != site {
			d.report(path, fmt.Sprintf("%s is the address at %q too", what, first), "give each site its own, or "+why)
		}
		owner[what] = site
	}
	table := func(name string) func(draas.SiteID) string {
		return func(site draas.SiteID) string { return join(at+name, string(site)) }
	}
	for _, site := range inOrder(d, sortedKeys(s.Addresses), table(".address")) {
		for i, a := range s.Addresses[site] {
			once(site, a.String(), elem(join(at+".address", string(site)), i))
		}
	}
	for _, site := range inOrder(d, sortedKeys(s.CNAME), table(".cname")) {
		once(site, s.CNAME[site], join(at+".cname", string(site)))
	}
}

// sameFamilies refuses a move after which users of IPv4 or of IPv6 would get
// an empty answer (DESIGN.md, rule 4).
func (d *decoder) sameFamilies(addresses map[draas.SiteID][]netip.Addr, table string) {
	has := func(site draas.SiteID, v4 bool) bool {
		return slices.ContainsFunc(addresses[site], func(a netip.Addr) bool { return a.Is4() == v4 })
	}
	sites := sortedKeys(addresses)
	for _, v4 := range []bool{true, false} {
		family := map[bool]string{true: "IPv4", false: "IPv6"}[v4]
		i := slices.IndexFunc(sites, func(site draas.SiteID) bool { return has(site, v4) })
		if i < 0 {
			continue
		}
		for _, site := range sites {
			if path := join(table, string(site)); !has(site, v4) && d.clean(path) {
				d.report(path, fmt.Sprintf("has no %s address, as %q does: users of %s would find nothing after a move", family, sites[i], family), "give all sites the same families")
			}
		}
	}
}

// onlyFor refuses keys that a kind does not read: whoever wrote them expects
// them to do something.
func (d *decoder) onlyFor(at, what, kind string, keys map[string][]string) {
	for _, name := range sortedKeys(keys) {
		if d.has(at+"."+name) && !slices.Contains(keys[name], kind) {
			d.report(at+"."+name, fmt.Sprintf("a %s %q does not read it", what, kind), "it is for "+orList(keys[name])+": remove it")
		}
	}
}

// probe checks the keys of one check against its type.
func (d *decoder) probe(k *Check, at string) {
	if k.Type == "" {
		return
	}
	web := []string{"http", "https"}
	d.onlyFor(at, "check", string(k.Type), map[string][]string{
		"port": {"tcp", "http", "https", "dns"}, "path": web, "host": web, "status": web, "body": web,
		"expiry": {"https"}, "ca": {"https"}, "insecure": {"https"},
		"name": {"dns"}, "qtype": {"dns"}, "expect": {"dns"},
		"command": {"exec"},
	})
	switch k.Type {
	case CheckTCP:
		d.need(at+".port", "write the port to connect to, such as port = 8080")
	case CheckDNS:
		d.need(at+".name", `write the question, such as name = "www.example.org."`)
		if k.QType == "A" || k.QType == "AAAA" {
			for i, e := range k.Expect {
				d.addressOfType(elem(at+".expect", i), k.QType, e)
			}
		}
	case CheckExec:
		d.need(at+".command", `write the program and its arguments, such as command = ["/usr/lib/shop/check"]`)
	}
	if k.Insecure && (k.CA != "" || k.Expiry > 0) {
		d.report(at+".insecure", "stands beside ca or expiry, which need verification", "remove insecure = true")
	}
	if k.Timeout > k.Interval && d.clean(at+".timeout", at+".interval") {
		path := at + ".timeout"
		if !d.has(path) {
			path = at + ".interval"
		}
		d.report(path, fmt.Sprintf("a timeout of %s does not fit in an interval of %s", short(k.Timeout), short(k.Interval)),
			fmt.Sprintf("give a timeout of at most %s, or a longer interval", short(k.Interval)))
	}
}
