package audit

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"
)

// delegation judges what the parent says, beside what is configured and what
// the zone says of itself.
func (j *judge) delegation(z Zone, d *Delegation, apexes []Apex) {
	since := len(j.findings)
	f := Finding{Severity: Error, Zone: z.Name}
	if d.Error != "" {
		f.Code, f.Text = CodeParent, "the parent zone's servers cannot be found: "+d.Error
		f.Do = "name one with --parent, or leave the delegation out with --no-delegation"
		j.add(f)
		return
	}
	names, heard := j.parents(z, d)
	switch {
	case heard == 0:
		f.Code, f.Text, f.Do = CodeParent, "no server of the parent zone answers", "name another one with --parent"
		j.add(f)
		return
	case len(names) == 0:
		f.Code, f.Text = CodeNotDelegated, "the parent has no NS record of the zone: nobody finds it"
		f.Do = "have it delegated (docs/dns.md shows the records), or name the right parent with --parent"
		j.add(f)
		return
	}
	j.expected(z, d, names)
	j.apexNS(z, names, apexes)
	j.glue(z, d)
	j.reached(z, d)
	j.ds(z, d, apexes)
	if j.worse(since) == 0 {
		j.add(Finding{Severity: OK, Code: CodeDelegated, Zone: z.Name, Text: fmt.Sprintf("the parent leads to %s, and they have the zone", strings.Join(names, " "))})
	}
}

// parents gathers the NS set, and judges that all servers of the parent have
// the same.
func (j *judge) parents(z Zone, d *Delegation) (names []string, heard int) {
	sets := make(map[string]bool)
	for _, r := range d.Answers {
		f := Finding{Severity: Warn, Code: CodeParent, Zone: z.Name, From: r.From}
		if r.Error != "" || r.Rcode != rcodeName(mdns.RcodeSuccess) && r.Rcode != rcodeName(mdns.RcodeNameError) {
			f.Text, f.Do = "a server of the parent cannot be asked: "+r.Error+r.Rcode, "see whether the parent's operator knows"
			j.add(f)
			continue
		}
		heard++
		sets[strings.Join(r.NS, " ")] = true
		names = append(names, r.NS...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(sets) > 1 {
		var list []string
		for set := range sets {
			list = append(list, fmt.Sprintf("%q", set))
		}
		slices.Sort(list)
		j.add(Finding{Severity: Warn, Code: CodeParentsDisagree, Zone: z.Name, Text: "the parent's servers have different NS: " + strings.Join(list, ", "),
			Do: "in order for a while after a change of the delegation"})
	}
	return names, heard
}

// expected judges whether exactly the configured servers are NS.
func (j *judge) expected(z Zone, d *Delegation, names []string) {
	j.expectedByAddress(z, d)
	var want []string
	for _, ns := range z.NS {
		name := mdns.CanonicalName(ns.Name)
		want = append(want, name)
		if !slices.Contains(names, name) {
			j.add(Finding{Severity: Error, Code: CodeNSMissing, Zone: z.Name, Text: fmt.Sprintf("%s, the server at %s, is not NS at the parent: when the other site is lost, nobody finds the zone", name, ns.Site),
				Do: fmt.Sprintf("have the parent add: %s NS %s", z.Name, name)})
		}
	}
	known := knownAddresses(z)
	for _, name := range names {
		addressed := slices.ContainsFunc(d.Servers, func(r Reached) bool { return r.Name == name && known[r.Address] })
		if len(want) > 0 && !slices.Contains(want, name) && !addressed {
			j.add(Finding{Severity: Error, Code: CodeNSExtra, Zone: z.Name, Text: fmt.Sprintf("%s is NS at the parent and not in failover.toml: users who ask it are not moved", name),
				Do: fmt.Sprintf("have the parent remove: %s NS %s", z.Name, name)})
		}
	}
}

// knownAddresses are those of the servers that stand at no site.
func knownAddresses(z Zone) map[netip.Addr]bool {
	out := make(map[netip.Addr]bool)
	for _, s := range z.Servers {
		host, _, _ := net.SplitHostPort(s.Address)
		if addr, err := netip.ParseAddr(host); err == nil && s.Site == "" {
			out[addr.Unmap()] = true
		}
	}
	return out
}

// expectedByAddress does so for servers of which only the addresses are known.
// draas may have others for them than users, so it is no error.
func (j *judge) expectedByAddress(z Zone, d *Delegation) {
	at := make(map[netip.Addr]bool)
	for _, r := range d.Servers {
		at[r.Address] = true
	}
	for _, s := range z.Servers {
		host, _, _ := net.SplitHostPort(s.Address)
		addr, err := netip.ParseAddr(host)
		if err == nil && !at[addr.Unmap()] && !s.Hidden && s.Site == "" {
			j.add(Finding{Severity: Warn, Code: CodeNSMissing, Zone: z.Name, From: s.Address, Text: "no NS at the parent leads to it: users do not ask it",
				Do: "delegate to it, or take it out of failover.toml (users may have another address for it than draas)"})
		}
	}
	known := knownAddresses(z)
	for _, r := range d.Servers {
		if len(z.NS) == 0 && !known[r.Address] {
			j.add(Finding{Severity: Warn, Code: CodeNSExtra, Zone: z.Name, From: r.Address.String(), Text: fmt.Sprintf("the parent leads to it (%s), and draas does not watch it", r.Name),
				Do: "add it to the zone's servers in failover.toml, so that a move waits for it"})
		}
	}
}

// apexNS judges whether the zone says of itself what the parent does. Resolvers
// prefer the zone's word.
func (j *judge) apexNS(z Zone, names []string, apexes []Apex) {
	for _, a := range apexes {
		if a.Error != "" || !a.Authoritative || slices.Equal(a.NS, names) {
			continue
		}
		j.add(Finding{Severity: Error, Code: CodeNSApex, Zone: z.Name, From: a.From,
			Text: fmt.Sprintf("the zone's own NS are %s, the parent's %s", strings.Join(a.NS, " "), strings.Join(names, " ")), Do: "let both be the same"})
	}
}

// glue judges the addresses of names in the zone: nobody can look them up
// without them.
func (j *judge) glue(z Zone, d *Delegation) {
	for _, r := range d.Answers {
		for _, name := range r.NS {
			if !mdns.IsSubDomain(z.Name, name) {
				continue
			}
			got := addressesOf(r.Glue, name)
			f := Finding{Severity: Error, Zone: z.Name, From: r.From}
			i := slices.IndexFunc(z.NS, func(ns NS) bool { return mdns.CanonicalName(ns.Name) == name })
			var want []netip.Addr
			if i >= 0 {
				want = slices.Clone(z.NS[i].Addresses)
				slices.SortFunc(want, netip.Addr.Compare)
			}
			switch {
			case len(got) == 0:
				f.Code, f.Text = CodeGlueMissing, fmt.Sprintf("no glue for %s, which is in the zone itself: nobody can find it", name)
				f.Do = fmt.Sprintf("have the parent add an address record of %s", name)
				j.add(f)
			case len(want) > 0 && !slices.Equal(got, want):
				f.Code, f.Text = CodeGlueWrong, fmt.Sprintf("the glue of %s is %s, its address is %s", name, showAddrs(got), showAddrs(want))
				f.Do = "have the parent set it right, or correct ns_address in failover.toml"
				j.add(f)
			}
		}
	}
}

func addressesOf(glue []Glue, name string) []netip.Addr {
	var out []netip.Addr
	for _, g := range glue {
		if g.Name == name {
			out = append(out, g.Address)
		}
	}
	return out
}

func showAddrs(list []netip.Addr) string {
	parts := make([]string, len(list))
	for i, a := range list {
		parts[i] = a.String()
	}
	return strings.Join(parts, " ")
}

// reached judges whether the servers that users are sent to have the zone.
func (j *judge) reached(z Zone, d *Delegation) {
	distinct := make(map[netip.Addr]bool)
	for _, r := range d.Servers {
		distinct[r.Address] = true
		f := Finding{Severity: Error, Zone: z.Name, From: r.Address.String()}
		switch {
		case r.Error != "":
			f.Code, f.Text = CodeNSSilent, fmt.Sprintf("%s is NS at the parent and does not answer: %s", r.Name, r.Error)
			f.Do = "see that it runs, and that UDP and TCP port 53 reach it from everywhere"
			j.add(f)
		case !r.Authoritative:
			f.Code, f.Text = CodeNSLame, fmt.Sprintf("lame delegation: %s is NS at the parent and does not have the zone (%s)", r.Name, r.Rcode)
			f.Do = "let it serve the zone, or have the parent remove it"
			j.add(f)
		}
	}
	switch {
	case len(distinct) == 0:
		j.add(Finding{Severity: Error, Code: CodeNSSilent, Zone: z.Name, Text: "no name server of the delegation has an address", Do: "see the glue, and the names of the servers"})
	case len(distinct) == 1:
		j.add(Finding{Severity: Warn, Code: CodeOneServer, Zone: z.Name, Text: "the delegation leads to one address only: when it is lost, names fail as answers expire",
			Do: "have a server at each site, and both in the delegation"})
	}
}

// ds judges the chain of trust: a DS at the parent without its key makes the
// zone bogus to whoever validates.
func (j *judge) ds(z Zone, d *Delegation, apexes []Apex) {
	var all []*mdns.DS
	for _, r := range d.Answers {
		all = append(all, r.ds...)
		if r.DSError != "" && r.Error == "" {
			j.add(Finding{Severity: Warn, Code: CodeDS, Zone: z.Name, From: r.From, Text: "the DS at the parent cannot be asked for: " + r.DSError, Do: "try again"})
		}
	}
	for _, a := range apexes {
		if a.Error != "" || !a.Authoritative {
			continue
		}
		f := Finding{Severity: Error, Code: CodeDS, Zone: z.Name, From: a.From}
		match := slices.ContainsFunc(all, func(ds *mdns.DS) bool {
			return slices.ContainsFunc(a.keys, func(k *mdns.DNSKEY) bool { return matches(ds, k) })
		})
		switch {
		case len(all) > 0 && len(a.keys) == 0:
			f.Text = "the parent has a DS and the zone is not signed: who validates gets SERVFAIL"
			f.Do = "have the parent remove the DS, wait for its TTL, or sign the zone"
			j.add(f)
		case len(all) > 0 && !match:
			f.Text = fmt.Sprintf("no key of the zone (%s) is that of a DS at the parent (%s): who validates gets SERVFAIL", showTags(a.Keys), showTags(tagsOf(all)))
			f.Do = "have the parent set the DS of the key in use"
			j.add(f)
		case len(all) == 0 && len(a.keys) > 0:
			f.Severity = Warn
			f.Text = fmt.Sprintf("the zone is signed (%s) and the parent has no DS: nobody validates", showTags(a.Keys))
			f.Do = "have the parent add the DS, or live without"
			j.add(f)
		}
	}
}

func matches(ds *mdns.DS, k *mdns.DNSKEY) bool {
	made := k.ToDS(ds.DigestType)
	return made != nil && made.KeyTag == ds.KeyTag && made.Algorithm == ds.Algorithm && strings.EqualFold(made.Digest, ds.Digest)
}

func tagsOf(all []*mdns.DS) []uint16 {
	var out []uint16
	for _, ds := range all {
		out = append(out, ds.KeyTag)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func showTags(tags []uint16) string {
	parts := make([]string, len(tags))
	for i, t := range tags {
		parts[i] = fmt.Sprint(t)
	}
	return strings.Join(parts, " ")
}
