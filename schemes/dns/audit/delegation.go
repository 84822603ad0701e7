package audit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
)

// maxParents bounds how many servers of the parent are asked.
const maxParents = 13

// maxNameServers bounds how many of a delegation are looked at.
const maxNameServers = 32

// Apex is what one authority says of the zone itself.
type Apex struct {
	From          string       `json:"from"` // host:port
	Role          string       `json:"role,omitempty"`
	Site          draas.SiteID `json:"site,omitempty"`
	Error         string       `json:"error,omitempty"`
	Rcode         string       `json:"rcode,omitempty"`
	Authoritative bool         `json:"authoritative"`
	Extended      []Extended   `json:"extended_errors,omitempty"`
	Serial        uint32       `json:"serial"`
	// Negative is the SOA's negative TTL, in seconds.
	Negative uint32   `json:"negative_ttl_s"`
	NS       []string `json:"ns"`
	Keys     []uint16 `json:"dnskey_tags,omitempty"`

	keys []*mdns.DNSKEY
}

// Delegation is what the parent zone says of the zone.
type Delegation struct {
	Parent string `json:"parent,omitempty"`
	// Error is why no server of the parent could be found.
	Error   string     `json:"error,omitempty"`
	Answers []Referral `json:"answers"`
	Servers []Reached  `json:"name_servers"`
}

// Referral is the delegation as one server of the parent has it.
type Referral struct {
	From    string   `json:"from"`
	Error   string   `json:"error,omitempty"`
	Rcode   string   `json:"rcode,omitempty"`
	NS      []string `json:"ns"`
	Glue    []Glue   `json:"glue,omitempty"`
	DS      []uint16 `json:"ds_tags,omitempty"`
	DSError string   `json:"ds_error,omitempty"`

	ds []*mdns.DS
}

// Glue is an address that the parent hands out.
type Glue struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
}

// Reached is a name server of the delegation, asked for the zone.
type Reached struct {
	Glue
	Error         string `json:"error,omitempty"`
	Rcode         string `json:"rcode,omitempty"`
	Authoritative bool   `json:"authoritative"`
}

// apex asks one authority for SOA, NS and DNSKEY.
func (l looker) apex(ctx context.Context, zone string, s Server) Apex {
	out := Apex{From: s.Address, Role: s.Role, Site: s.Site, NS: []string{}}
	types := []uint16{mdns.TypeSOA, mdns.TypeNS, mdns.TypeDNSKEY}
	msgs := make([]*mdns.Msg, len(types))
	errs := make([]error, len(types))
	var wg sync.WaitGroup
	for i, qtype := range types {
		wg.Go(func() { msgs[i], errs[i] = l.ask(ctx, s.Address, question{name: zone, qtype: qtype}) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		out.Error = firstLine(err)
		return out
	}
	return readApex(out, zone, msgs)
}

// readApex takes the answers for SOA, NS and DNSKEY.
func readApex(out Apex, zone string, msgs []*mdns.Msg) Apex {
	out.Authoritative = true
	out.Rcode = mdns.RcodeToString[mdns.RcodeSuccess]
	soa := false
	for i, m := range msgs {
		if m.Rcode != mdns.RcodeSuccess && i < 2 { // a server need not know DNSKEY
			out.Rcode = rcodeName(m.Rcode)
		}
		out.Authoritative = out.Authoritative && (m.Authoritative || i == 2)
		out.Extended = mergeExtended(out.Extended, extended(m))
		for _, rr := range first(m.Answer) {
			if !strings.EqualFold(rr.Header().Name, zone) {
				continue
			}
			switch rr := rr.(type) {
			case *mdns.SOA:
				soa = true
				out.Serial, out.Negative = rr.Serial, min(rr.Hdr.Ttl, rr.Minttl)
			case *mdns.NS:
				out.NS = append(out.NS, mdns.CanonicalName(rr.Ns))
			case *mdns.DNSKEY:
				out.keys = append(out.keys, rr)
				out.Keys = append(out.Keys, rr.KeyTag())
			}
		}
	}
	out.Authoritative = out.Authoritative && soa
	slices.Sort(out.NS)
	slices.Sort(out.Keys)
	out.NS, out.Keys = slices.Compact(out.NS), slices.Compact(out.Keys)
	return out
}

// delegation walks from the parent.
func (l looker) delegation(ctx context.Context, z Zone) *Delegation {
	d := &Delegation{Answers: []Referral{}, Servers: []Reached{}}
	parents := l.plan.Parents
	if len(parents) == 0 {
		var err error
		if d.Parent, parents, err = l.parents(ctx, z.Name); err != nil {
			d.Error = firstLine(err)
			return d
		}
	}
	d.Answers = make([]Referral, len(parents))
	var wg sync.WaitGroup
	for i, address := range parents {
		wg.Go(func() { d.Answers[i] = l.referral(ctx, z.Name, address) })
	}
	wg.Wait()
	d.Servers = l.nameServers(ctx, d.Answers)
	for i := range d.Servers {
		wg.Go(func() { l.reach(ctx, z.Name, &d.Servers[i]) })
	}
	wg.Wait()
	return d
}

// parents finds the zone above and addresses of its servers, by way of the
// resolvers.
func (l looker) parents(ctx context.Context, zone string) (parent string, servers []string, err error) {
	if len(l.plan.Resolvers) == 0 {
		return "", nil, errors.New("no resolver to find the parent zone with")
	}
	for name := zone; name != "."; {
		off, end := mdns.NextLabel(name, 0)
		if name = name[off:]; end || name == "" {
			name = "."
		}
		m, err := l.resolve(ctx, name, mdns.TypeSOA)
		if err != nil {
			return "", nil, err
		}
		if !slices.ContainsFunc(m.Answer, func(rr mdns.RR) bool {
			return rr.Header().Rrtype == mdns.TypeSOA && strings.EqualFold(rr.Header().Name, name)
		}) {
			continue // no zone begins here
		}
		if m, err = l.resolve(ctx, name, mdns.TypeNS); err != nil {
			return name, nil, err
		}
		for _, ns := range nsOf(m.Answer, name) {
			for _, addr := range l.addresses(ctx, ns) {
				if address := l.plan.Reach(addr); !slices.Contains(servers, address) && len(servers) < maxParents {
					servers = append(servers, address)
				}
			}
		}
		if len(servers) == 0 {
			return name, nil, fmt.Errorf("the servers of the parent zone %s have no address at the resolvers", name)
		}
		return name, servers, nil
	}
	return "", nil, fmt.Errorf("the resolvers know no zone above %s", zone)
}

// resolve asks the resolvers in order for an answer that counts.
func (l looker) resolve(ctx context.Context, name string, qtype uint16) (*mdns.Msg, error) {
	err := errors.New("no resolver")
	for _, address := range l.plan.Resolvers {
		var m *mdns.Msg
		if m, err = l.ask(ctx, address, question{name: name, qtype: qtype, recursive: true}); err != nil {
			continue
		}
		if m.Rcode == mdns.RcodeSuccess || m.Rcode == mdns.RcodeNameError {
			return m, nil
		}
		err = fmt.Errorf("resolver %s says %s for %s %s", address, rcodeName(m.Rcode), name, mdns.TypeToString[qtype])
	}
	return nil, err
}

func nsOf(rrs []mdns.RR, owner string) []string {
	var out []string
	for _, rr := range first(rrs) {
		if ns, ok := rr.(*mdns.NS); ok && strings.EqualFold(ns.Hdr.Name, owner) {
			out = append(out, mdns.CanonicalName(ns.Ns))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// addresses resolves a name server's name; nothing if it has none.
func (l looker) addresses(ctx context.Context, name string) []netip.Addr {
	var out []netip.Addr
	for _, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA} {
		if m, err := l.resolve(ctx, name, qtype); err == nil {
			for _, rr := range first(m.Answer) {
				if addr, ok := addressOf(rr); ok && !slices.Contains(out, addr) {
					out = append(out, addr)
				}
			}
		}
	}
	return out
}

func addressOf(rr mdns.RR) (netip.Addr, bool) {
	var raw net.IP
	switch rr := rr.(type) {
	case *mdns.A:
		raw = rr.A
	case *mdns.AAAA:
		raw = rr.AAAA
	}
	addr, ok := netip.AddrFromSlice(raw)
	return addr.Unmap(), ok
}

// referral asks one server of the parent.
func (l looker) referral(ctx context.Context, zone, address string) Referral {
	out := Referral{From: address, NS: []string{}}
	m, err := l.ask(ctx, address, question{name: zone, qtype: mdns.TypeNS})
	if err != nil {
		out.Error = firstLine(err)
		return out
	}
	out = readReferral(out, zone, m)
	ds, err := l.ask(ctx, address, question{name: zone, qtype: mdns.TypeDS})
	switch {
	case err != nil:
		out.DSError = firstLine(err)
	case ds.Rcode != mdns.RcodeSuccess && ds.Rcode != mdns.RcodeNameError:
		out.DSError = rcodeName(ds.Rcode)
	default:
		out = readDS(out, zone, ds)
	}
	return out
}

// readReferral takes the NS records and their glue: in a referral they are in
// the authority section, and in the answer where the server has both zones.
func readReferral(out Referral, zone string, m *mdns.Msg) Referral {
	out.Rcode = rcodeName(m.Rcode)
	if out.NS = nsOf(append(slices.Clone(m.Answer), m.Ns...), zone); out.NS == nil {
		out.NS = []string{}
	}
	for _, rr := range first(m.Extra) {
		name := mdns.CanonicalName(rr.Header().Name)
		if addr, ok := addressOf(rr); ok && slices.Contains(out.NS, name) && !slices.Contains(out.Glue, Glue{name, addr}) {
			out.Glue = append(out.Glue, Glue{name, addr})
		}
	}
	slices.SortFunc(out.Glue, compareGlue)
	return out
}

func compareGlue(a, b Glue) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return a.Address.Compare(b.Address)
}

func readDS(out Referral, zone string, m *mdns.Msg) Referral {
	for _, rr := range first(m.Answer) {
		if ds, ok := rr.(*mdns.DS); ok && strings.EqualFold(ds.Hdr.Name, zone) {
			out.ds = append(out.ds, ds)
			out.DS = append(out.DS, ds.KeyTag)
		}
	}
	slices.Sort(out.DS)
	out.DS = slices.Compact(out.DS)
	return out
}

// nameServers lists all of the delegation with all their addresses: glue, and
// for names without it what the resolvers say.
func (l looker) nameServers(ctx context.Context, answers []Referral) []Reached {
	var names []string
	var glue []Glue
	for _, r := range answers {
		names = append(names, r.NS...)
		glue = append(glue, r.Glue...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names[:min(len(names), maxNameServers)] {
		if !slices.ContainsFunc(glue, func(g Glue) bool { return g.Name == name }) {
			for _, addr := range l.addresses(ctx, name) {
				glue = append(glue, Glue{name, addr})
			}
		}
	}
	slices.SortFunc(glue, compareGlue)
	out := []Reached{}
	for _, g := range slices.Compact(glue) {
		if len(out) < maxNameServers {
			out = append(out, Reached{Glue: g})
		}
	}
	return out
}

// reach asks a name server of the delegation whether it has the zone.
func (l looker) reach(ctx context.Context, zone string, r *Reached) {
	m, err := l.ask(ctx, l.plan.Reach(r.Address), question{name: zone, qtype: mdns.TypeSOA})
	if err != nil {
		r.Error = firstLine(err)
		return
	}
	r.Rcode = rcodeName(m.Rcode)
	r.Authoritative = m.Authoritative && slices.ContainsFunc(m.Answer, func(rr mdns.RR) bool {
		return rr.Header().Rrtype == mdns.TypeSOA && strings.EqualFold(rr.Header().Name, zone)
	})
}
