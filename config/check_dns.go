package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/draasd/draas"
)

// within reports whether a name is the zone's or below it. Both end in a dot.
func within(name, zone string) bool {
	return name == zone || zone == "." || strings.HasSuffix(name, "."+zone)
}

// addressOfType checks that a text is an address of the record type.
func (d *decoder) addressOfType(path, rtype, value string) {
	a, err := netip.ParseAddr(value)
	want := map[string]string{"A": "an IPv4 address, such as 192.0.2.9", "AAAA": "an IPv6 address, such as 2001:db8::9"}[rtype]
	if err != nil || a.Zone() != "" || a.Is4() != (rtype == "A") {
		d.report(path, fmt.Sprintf("%s cannot stand in a record of type %s", show(value), rtype), "write "+want)
	}
}

func (d *decoder) checkZone(c *Config, z Zone) {
	at := join("dns", z.ID)
	embedded, update, hosted := []string{ProviderEmbedded}, []string{ProviderRFC2136}, hostedProviders()
	own := []string{ProviderEmbedded, ProviderRFC2136}
	ids := []string{ProviderDesignate, ProviderRoute53, ProviderCloudflare}
	if d.clean(at + ".provider") {
		d.onlyFor(at, "provider", z.Provider, map[string][]string{
			"contact": {ProviderEmbedded, ProviderDynDNS2}, "ns": embedded, "ns_address": embedded, "negative_ttl": embedded, "stale": embedded, "record": embedded,
			"primary": update, "domain": {ProviderRFC2136, ProviderDesignate}, "key_file": own, "secondaries": own, "secondary_lag": own, "tcp": update,
			"transfer_from": embedded, "revision": embedded, "refresh": embedded, "expire": embedded,
			"zone_file": embedded, "dnssec_keys": embedded, "signatures": embedded,
			"credentials_file": hosted, "authorities": hosted, "lag": hosted, "ca": hosted, "endpoint": hosted, "zone_id": ids,
			"cloud": {ProviderDesignate}, "region": {ProviderDesignate, ProviderRoute53},
			"late": {ProviderDynDNS2, ProviderDesignate, ProviderCloudflare},
		})
	}
	switch {
	case z.Provider == ProviderRFC2136:
		d.checkUpdate(c, z, at)
		return
	case z.IsHosted():
		if z.Hosted.Domain != "" {
			d.checkDomain(c, z, "the service", z.Hosted.Domain, at)
		}
		return
	}
	if z.Name != "" && len("hostmaster.")+len(z.Name) > 254 && !d.has(at+".contact") {
		d.report(at+".zone", "is too long for hostmaster in front", "give a contact")
	}
	d.nameServers(c, z, at)
	d.checkCopies(z, at)
	type set struct{ name, rtype string }
	first := map[set]int{}
	cname := map[string]bool{}
	others := map[string]bool{}
	for i, r := range z.Records {
		path := elem(at+".record", i)
		d.record(z, r, path)
		if r.Name == "" || r.Type == "" {
			continue
		}
		if j, twice := first[set{r.Name, r.Type}]; twice {
			d.report(path, fmt.Sprintf("%s %s stands already at %s", r.Name, r.Type, elem("record", j)), "put all values in one list")
			continue
		}
		first[set{r.Name, r.Type}] = i
		if r.Type == "CNAME" && others[r.Name] || r.Type != "CNAME" && cname[r.Name] {
			// RFC 1034, section 3.6.2: no other data beside a CNAME.
			d.report(path, r.Name+" has a CNAME and another record", "a CNAME stands alone: keep one of them")
		}
		cname[r.Name] = cname[r.Name] || r.Type == "CNAME"
		others[r.Name] = others[r.Name] || r.Type != "CNAME"
	}
}

// checkCopies checks who serves copies of an embedded zone.
func (d *decoder) checkCopies(z Zone, at string) {
	copied := len(z.Copies.Secondaries) > 0 || len(z.Copies.From) > 0 || z.Copies.KeyFile != ""
	for _, name := range []string{"revision", "refresh", "expire"} {
		if !copied && d.has(at+"."+name) && d.clean(at+".secondaries", at+".transfer_from", at+".key_file") {
			d.report(at+"."+name, "nobody has a copy of the zone", "list the secondaries, or remove this")
		}
	}
	if copied && z.SigningKeys != "" {
		d.report(at+".dnssec_keys", "a zone that is signed here cannot have secondaries: each site signs for itself", "let a secondary sign it that others take it from, or remove one of the two")
	}
	if z.SigningKeys == "" && d.has(at+".signatures") && d.clean(at+".dnssec_keys") {
		d.report(at+".signatures", "the zone is not signed", "name the directory of its keys in dnssec_keys, or remove this")
	}
	if len(z.Copies.Secondaries) == 0 && d.has(at+".secondary_lag") && d.clean(at+".secondaries") {
		d.report(at+".secondary_lag", "there are no secondaries that could lag", "list them, or remove this")
	}
	if z.Copies.Expire > 0 && z.Copies.Expire <= z.Copies.Refresh && d.clean(at+".expire", at+".refresh") {
		d.report(at+".expire", fmt.Sprintf("a copy would end (%s) before it is asked for anew (%s)", short(z.Copies.Expire), short(z.Copies.Refresh)), "let expire be longer than refresh")
	}
}

// checkUpdate checks the servers of a zone that is changed by updates.
func (d *decoder) checkUpdate(c *Config, z Zone, at string) {
	if slices.Contains(z.Update.Secondaries, z.Update.Primary) && z.Update.Primary != "" {
		d.report(at+".secondaries", z.Update.Primary+" is the primary", "list the zone's other servers only")
	}
	if len(z.Update.Secondaries) == 0 && d.has(at+".secondary_lag") && d.clean(at+".secondaries") {
		d.report(at+".secondary_lag", "there are no secondaries that could lag", "list them, or remove this")
	}
	d.checkDomain(c, z, "the primary", z.Update.Domain, at)
}

// nameServers checks that the zone is answered at two sites: the authority
// must outlive the site that is lost.
func (d *decoder) nameServers(c *Config, z Zone, at string) {
	names := map[string]draas.SiteID{}
	nsPath := func(site draas.SiteID) string { return join(at+".ns", string(site)) }
	for _, site := range inOrder(d, sortedKeys(z.NS), nsPath) {
		path, name := join(at+".ns", string(site)), z.NS[site]
		if !d.isSite(c, path, site) {
			continue
		}
		if other, taken := names[name]; taken {
			d.report(path, fmt.Sprintf("%s is the server at %q too", name, other), "give each site's server its own name")
		}
		names[name] = site
		if m, _ := c.Member(site.Member()); m.DNS == "" && d.clean(join("member", string(site))+".dns") {
			d.report(path, fmt.Sprintf("nothing answers DNS at %q", site), fmt.Sprintf("add dns = \"ADDRESS:53\" to [member.%s]", site))
		}
		if z.Name == "" {
			continue
		}
		addresses := join(at+".ns_address", string(site))
		switch in := within(name, z.Name); {
		case in && !d.has(addresses):
			d.report(path, name+" is in the zone and has no address", fmt.Sprintf("add ns_address.%s with the address where that server is reached", site))
		case !in && d.has(addresses):
			d.report(addresses, name+" is not in the zone, so its address is not ours to answer", "remove it")
		case name == z.Name:
			d.report(path, "the server has the name of the zone itself", fmt.Sprintf("give it a name below, such as ns1.%s", z.Name))
		}
	}
	if len(z.NS) < 2 && d.clean(at+".ns") {
		d.report(at+".ns", "the zone is answered at fewer than two sites", "add an ns entry for a second site: when the only one is lost, nobody is told where to go")
	}
	for _, site := range sortedKeys(z.NSAddress) {
		if _, ok := z.NS[site]; !ok && d.clean(join(at+".ns", string(site))) {
			d.report(join(at+".ns_address", string(site)), fmt.Sprintf("there is no ns.%s", site), "add it, or remove the address")
		}
	}
}

// record checks one static record set.
func (d *decoder) record(z Zone, r Record, at string) {
	if r.Name != "" && z.Name != "" && !within(r.Name, z.Name) {
		d.report(at+".name", fmt.Sprintf("%s is not in the zone %s", r.Name, z.Name), "write a name that ends in "+z.Name)
	}
	if r.Name == z.Name && (r.Type == "NS" || r.Type == "CNAME") {
		d.report(at+".type", fmt.Sprintf("the zone itself cannot have a static %s", r.Type), "its servers come from ns; a CNAME may not stand there (RFC 1034, section 3.6.2)")
	}
	for i, v := range r.Value {
		path := elem(at+".value", i)
		switch r.Type {
		case "A", "AAAA":
			d.addressOfType(path, r.Type, v)
		case "CNAME", "NS":
			if why := badDomain(v); why != "" || !strings.HasSuffix(v, ".") {
				d.report(path, show(v)+" is not a full DNS name", `write one with the final dot, such as "www.example.org."`)
			} else {
				r.Value[i] = strings.ToLower(v)
			}
		case "TXT":
			if len(v) > 255 { // RFC 1035, section 3.3: one character-string
				d.report(path, fmt.Sprintf("has %d bytes", len(v)), "a text of a TXT record has at most 255")
			}
		}
	}
	if r.Type == "CNAME" && len(r.Value) > 1 {
		d.report(at+".value", "a CNAME with several values", "keep one")
	}
}

// users checks the name under which users find a service.
func (d *decoder) users(c *Config, s *Service) {
	at := join("service", string(s.ID)) + ".dns"
	z, ok := c.DNS[s.DNS.Zone]
	if s.DNS.Zone != "" && !ok {
		right := fmt.Sprintf("add [dns.%s] with its zone", s.DNS.Zone)
		if guess := d.nearest(s.DNS.Zone, sortedKeys(c.DNS)); guess != "" {
			right = fmt.Sprintf("did you mean %q?", guess)
		} else if len(c.DNS) > 0 {
			right += ", or use " + orList(quoteAll(sortedKeys(c.DNS)))
		}
		d.report(at+".use", fmt.Sprintf("there is no [dns.%s]", s.DNS.Zone), right)
		return
	}
	d.alsoAt(c, s)
	for _, id := range s.DNS.Zones() {
		if c.DNS[id].Provider == ProviderDynDNS2 {
			d.fitsDynDNS2(s)
			break
		}
	}
	for _, id := range s.DNS.Zones() {
		if c.DNS[id].Provider == ProviderCloudflare && s.DNS.TTL < cloudflareTTL && d.clean(at+".ttl") {
			d.report(at+".ttl", fmt.Sprintf("cloudflare takes no TTL of %s", short(s.DNS.TTL)), fmt.Sprintf("write at least %s; 60s where the zone is not an Enterprise one", short(cloudflareTTL)))
		}
	}
	if s.DNS.Name == "" || z.Name == "" {
		return
	}
	if !within(s.DNS.Name, z.Name) {
		d.report(at+".name", fmt.Sprintf("%s is not in the zone %s of [dns.%s]", s.DNS.Name, z.Name, z.ID), "write a name that ends in "+z.Name)
	}
	if s.Scheme == SchemeHybrid {
		return // what members probe does not stand in the zone
	}
	if s.DNS.Name == z.Name && len(s.CNAME) > 0 {
		d.report(at+".name", "the zone itself cannot be a CNAME", "give addresses, or a name below "+z.Name)
	}
	for _, site := range sortedKeys(s.CNAME) {
		if s.CNAME[site] == s.DNS.Name {
			d.report(join(join("service", string(s.ID))+".cname", string(site)), "points at the service's own name", "name the site's own host")
		}
	}
}

// zonesApart refuses two tables for one zone, unless both are of servers that
// are not ours: a zone may be at two DNS services at once.
func (d *decoder) zonesApart(c *Config) {
	owner := map[string]string{}
	for _, id := range inOrder(d, sortedKeys(c.DNS), func(id string) string { return join("dns", id) }) {
		name := c.DNS[id].Name
		if name == "" {
			continue
		}
		if first, taken := owner[name]; taken {
			if c.DNS[id].Provider != ProviderEmbedded && c.DNS[first].Provider != ProviderEmbedded {
				continue
			}
			d.report(join("dns", id)+".zone", fmt.Sprintf("%s is the zone of [dns.%s] too", name, first), "keep one of the tables")
			continue
		}
		owner[name] = id
	}
}

// namesApart refuses a name that two parts of the file would answer for.
func (d *decoder) namesApart(c *Config) {
	owner := map[string]string{} // name to who has it
	for _, id := range sortedKeys(c.DNS) {
		z := c.DNS[id]
		for _, site := range sortedKeys(z.NS) {
			if within(z.NS[site], z.Name) && z.Name != "" {
				owner[z.NS[site]] = join(join("dns", id)+".ns", string(site))
			}
		}
		for i, r := range z.Records {
			path := elem(join("dns", id)+".record", i)
			if holder := owner[r.Name]; strings.Contains(holder, ".ns.") && r.Type != "TXT" && r.Name != "" {
				d.report(path+".name", r.Name+" is a server's name ("+holder+")", "its addresses come from ns_address: choose another name")
			}
		}
	}
	var ids []draas.ServiceID
	for _, s := range c.Services {
		ids = append(ids, s.ID)
	}
	for _, id := range inOrder(d, ids, func(id draas.ServiceID) string { return join("service", string(id)) }) {
		s, _ := c.Service(id)
		path := join("service", string(id)) + ".dns.name"
		if s.DNS.Name == "" {
			continue
		}
		if holder, taken := owner[s.DNS.Name]; taken {
			d.report(path, fmt.Sprintf("%s is taken by %s", s.DNS.Name, holder), "give each its own name")
			continue
		}
		owner[s.DNS.Name] = path
		for i, r := range c.DNS[s.DNS.Zone].Records {
			if r.Name == s.DNS.Name && (r.Type != "TXT" || len(s.CNAME) > 0 && s.Scheme != SchemeHybrid) {
				d.report(elem(join("dns", s.DNS.Zone)+".record", i)+".name", fmt.Sprintf("%s is the name of service %q", r.Name, s.ID), "what it answers follows the active site: remove the static record")
			}
		}
	}
}
