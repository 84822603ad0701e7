package authority

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

// Zone is one delegated zone. It must be the same at every member, so that
// all authorities give the same answers.
type Zone struct {
	Name    string // fully qualified
	Contact string // SOA rname as a name; default hostmaster.<zone>
	// Servers are the zone's NS set: each site's own authority.
	Servers []NameServer
	// TTL of NS, SOA and glue. Default 1 h.
	TTL time.Duration
	// NegativeTTL is how long resolvers may keep "no such name" and "no such
	// type" (RFC 2308, section 5). Default 5 s.
	NegativeTTL time.Duration
	// Stale is how long a member out of touch with the quorum goes on
	// answering for services. Default 30 s.
	Stale time.Duration
	// Revision has to grow with each change of the zone's configuration if the
	// zone has secondaries: the SOA's serial follows from it.
	Revision uint16
	// Secondaries may transfer the zone, and are told of its changes.
	Secondaries []Secondary
	// Refresh is how often they ask when nobody tells them, Expire how long
	// they go on without an answer from a member in touch. Default 1 min and
	// 24 h, with secondaries.
	Refresh, Expire time.Duration
	// Signing makes the zone a signed one (DNSSEC); nil does not.
	Signing *Signing

	Services []dns.Name
	Records  []Record
	// Static are further records, as ReadZoneFile gives them.
	Static []mdns.RR
}

// NameServer is one authority of a zone.
type NameServer struct {
	Site draas.SiteID
	Host string // fully qualified
	// Addresses are answered for a host inside the zone.
	Addresses []netip.Addr
}

// Record is one static record set, or a part of one.
type Record struct {
	Name string // fully qualified
	Type string // A, AAAA, CNAME, TXT or NS
	// Value holds addresses, a name, texts, or names. NS below the zone's
	// own name delegates.
	Value []string
	TTL   time.Duration
}

// zone is a validated Zone in canonical form.
type zone struct {
	name     string
	soa      mdns.SOA // without its serial
	revision uint16
	stale    time.Duration
	services []dns.Name
	static   []mdns.RR // sets, grouped by nothing

	ttl         time.Duration
	secondaries []*secondary
	keys        []SigningKey
	validity    time.Duration // of signatures
	// digest is of everything that is answered, by whatever decisions.
	digest [sha256.Size]byte
}

func newZone(c Zone) (*zone, error) {
	setDefault(&c.TTL, time.Hour)
	setDefault(&c.NegativeTTL, 5*time.Second)
	setDefault(&c.Stale, 30*time.Second)
	if err := dns.ValidName(c.Name); err != nil {
		return nil, err
	}
	z := &zone{name: mdns.CanonicalName(c.Name), stale: c.Stale, revision: c.Revision, ttl: c.TTL}
	if c.Contact == "" {
		c.Contact = "hostmaster." + c.Name
	}
	var errs []error
	errs = append(errs, dns.ValidName(c.Contact), dns.ValidTTL(c.TTL), dns.ValidTTL(c.NegativeTTL))
	if c.Stale < 0 {
		errs = append(errs, fmt.Errorf("stale %v, want 0 or more", c.Stale))
	}
	errs = append(errs, z.addServers(c)...)
	for _, r := range c.Records {
		if err := z.addRecord(r); err != nil {
			errs = append(errs, fmt.Errorf("record %s %s: %w", r.Name, r.Type, err))
		}
	}
	errs = append(errs, z.addStatic(c.Static)...)
	for _, n := range c.Services {
		if err := z.addService(n); err != nil {
			errs = append(errs, fmt.Errorf("service %s: %w", n.Service, err))
		}
	}
	errs = append(errs, z.addSecondaries(c.Secondaries)...)
	errs = append(errs, z.addSigning(c.Signing, len(c.Secondaries))...)
	refresh, retry, expire, err := c.times()
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	z.soa = mdns.SOA{
		Hdr: header(z.name, mdns.TypeSOA, min(c.TTL, c.NegativeTTL)),
		Ns:  z.primary(), Mbox: mdns.CanonicalName(c.Contact),
		Refresh: seconds(refresh), Retry: seconds(retry), Expire: seconds(expire),
		Minttl: seconds(c.NegativeTTL),
	}
	z.digest = z.sum()
	return z, errors.Join(z.conflicts(), z.gaps())
}

// sum is the digest of the zone's content.
func (z *zone) sum() [sha256.Size]byte {
	lines := make([]string, 0, len(z.static)+len(z.services)+1)
	lines = append(lines, z.soa.String())
	for _, rr := range z.static {
		lines = append(lines, rr.String())
	}
	for _, n := range z.services {
		line := fmt.Sprintf("%s %s %v", n.Name, n.Service, n.TTL)
		for _, site := range slices.Sorted(maps.Keys(n.Targets)) {
			t := n.Targets[site]
			line += fmt.Sprintf(" %s %v %s", site, t.Addresses, t.CNAME)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, line := range lines {
		fmt.Fprintln(h, line)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}

func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }

func header(name string, qtype uint16, ttl time.Duration) mdns.RR_Header {
	return mdns.RR_Header{Name: name, Rrtype: qtype, Class: mdns.ClassINET, Ttl: seconds(ttl)}
}

// primary is the SOA's mname: the first server by name, so that every member
// gives the same.
func (z *zone) primary() string {
	first := ""
	for _, rr := range z.static {
		if ns, ok := rr.(*mdns.NS); ok && ns.Hdr.Name == z.name && (first == "" || ns.Ns < first) {
			first = ns.Ns
		}
	}
	return first
}

func (z *zone) addServers(c Zone) (errs []error) {
	if len(c.Servers) == 0 {
		return []error{errors.New("no name server")}
	}
	for _, s := range c.Servers {
		if err := dns.ValidName(s.Host); err != nil {
			errs = append(errs, fmt.Errorf("server of site %s: %w", s.Site, err))
			continue
		}
		host := mdns.CanonicalName(s.Host)
		z.static = append(z.static, &mdns.NS{Hdr: header(z.name, mdns.TypeNS, c.TTL), Ns: host})
		inside := mdns.IsSubDomain(z.name, host)
		if inside && len(s.Addresses) == 0 {
			errs = append(errs, fmt.Errorf("server of site %s: %s is inside the zone and has no address", s.Site, host))
		}
		if !inside && len(s.Addresses) > 0 {
			errs = append(errs, fmt.Errorf("server of site %s: %s is outside the zone: its address is for its own zone to give", s.Site, host))
			continue
		}
		for _, addr := range s.Addresses {
			if err := dns.ValidAddr(addr); err != nil {
				errs = append(errs, fmt.Errorf("server of site %s: %w", s.Site, err))
				continue
			}
			z.static = append(z.static, addressRecord(header(host, 0, c.TTL), addr))
		}
	}
	return errs
}

// addressRecord is an A or AAAA record by the address's family.
func addressRecord(h mdns.RR_Header, addr netip.Addr) mdns.RR {
	addr = addr.Unmap()
	if addr.Is4() {
		h.Rrtype = mdns.TypeA
		return &mdns.A{Hdr: h, A: addr.AsSlice()}
	}
	h.Rrtype = mdns.TypeAAAA
	return &mdns.AAAA{Hdr: h, AAAA: addr.AsSlice()}
}

func (z *zone) addRecord(r Record) error {
	if err := errors.Join(dns.ValidName(r.Name), dns.ValidTTL(r.TTL)); err != nil {
		return err
	}
	name := mdns.CanonicalName(r.Name)
	switch {
	case !mdns.IsSubDomain(z.name, name):
		return fmt.Errorf("not in zone %s", z.name)
	case len(r.Value) == 0 || len(r.Value) > dns.MaxValues:
		return fmt.Errorf("%d values, want 1 to %d", len(r.Value), dns.MaxValues)
	case name == z.name && r.Type == "NS":
		return errors.New("the zone's own name servers are its sites")
	}
	for _, v := range r.Value {
		rr, err := z.record(name, r, v)
		if err != nil {
			return err
		}
		z.static = append(z.static, rr)
	}
	return nil
}

func (z *zone) record(name string, r Record, value string) (mdns.RR, error) {
	switch r.Type {
	case "A", "AAAA":
		addr, err := netip.ParseAddr(value)
		if err != nil {
			return nil, err
		}
		if err := dns.ValidAddr(addr); err != nil {
			return nil, err
		}
		if addr.Unmap().Is4() != (r.Type == "A") {
			return nil, fmt.Errorf("address %s is of the other family", value)
		}
		return addressRecord(header(name, 0, r.TTL), addr), nil
	case "CNAME":
		if err := dns.ValidName(value); err != nil {
			return nil, err
		}
		return &mdns.CNAME{Hdr: header(name, mdns.TypeCNAME, r.TTL), Target: mdns.CanonicalName(value)}, nil
	case "NS":
		if err := dns.ValidName(value); err != nil {
			return nil, err
		}
		return &mdns.NS{Hdr: header(name, mdns.TypeNS, r.TTL), Ns: mdns.CanonicalName(value)}, nil
	case "TXT":
		return textRecord(header(name, mdns.TypeTXT, r.TTL), value)
	}
	return nil, fmt.Errorf("type %q, want A, AAAA, CNAME, TXT or NS", r.Type)
}

// maxText bounds one TXT record, so that a few fit in an answer.
const maxText = 2048

// textRecord splits a text into strings of at most 255 octets (RFC 1035,
// section 3.3.14).
func textRecord(h mdns.RR_Header, text string) (mdns.RR, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("text of %d octets, at most %d", len(text), maxText)
	}
	rr := &mdns.TXT{Hdr: h}
	for chunk := range slices.Chunk([]byte(text), 255) {
		rr.Txt = append(rr.Txt, escapeText(chunk))
	}
	if text == "" {
		rr.Txt = []string{""}
	}
	return rr, nil
}

// escapeText writes octets in the presentation form that miekg/dns packs
// (RFC 1035, section 5.1).
func escapeText(text []byte) string {
	var b strings.Builder
	for _, c := range text {
		if c < ' ' || c > '~' || c == '\\' || c == '"' {
			fmt.Fprintf(&b, `\%03d`, c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func (z *zone) addService(n dns.Name) error {
	if err := n.Validate(); err != nil {
		return err
	}
	n.Name = mdns.CanonicalName(n.Name)
	if !mdns.IsSubDomain(z.name, n.Name) {
		return fmt.Errorf("%s is not in zone %s", n.Name, z.name)
	}
	for _, t := range n.Targets {
		if t.CNAME != "" && n.Name == z.name {
			return fmt.Errorf("%s is the zone's own name and cannot be a CNAME (RFC 1912, section 2.4)", n.Name)
		}
		for _, addr := range t.Addresses {
			if addr.Is4In6() {
				return fmt.Errorf("address %s: write it as IPv4", addr)
			}
		}
	}
	z.services = append(z.services, n)
	return nil
}

// conflicts reports names whose data cannot stand together.
func (z *zone) conflicts() error {
	type use struct {
		cname, other int
		ttl          map[uint16]uint32
		cut, service bool
	}
	uses := make(map[string]*use)
	seen := make(map[string]bool, len(z.static))
	at := func(name string) *use {
		if uses[name] == nil {
			uses[name] = &use{ttl: make(map[uint16]uint32)}
		}
		return uses[name]
	}
	var errs []error
	for _, rr := range z.static {
		h := rr.Header()
		u := at(h.Name)
		if h.Rrtype == mdns.TypeCNAME {
			u.cname++
		} else {
			u.other++
		}
		u.cut = u.cut || h.Rrtype == mdns.TypeNS && h.Name != z.name
		if ttl, ok := u.ttl[h.Rrtype]; ok && ttl != h.Ttl {
			// RFC 2181, section 5.2.
			errs = append(errs, fmt.Errorf("%s %s: two TTLs in one record set", h.Name, typeName(h.Rrtype)))
		}
		u.ttl[h.Rrtype] = h.Ttl
		text := rr.String()
		if seen[text] {
			errs = append(errs, fmt.Errorf("%s %s: the same record twice", h.Name, typeName(h.Rrtype)))
		}
		seen[text] = true
	}
	for _, n := range z.services {
		u := at(n.Name)
		_, a := u.ttl[mdns.TypeA]
		_, aaaa := u.ttl[mdns.TypeAAAA]
		switch {
		case u.service:
			errs = append(errs, fmt.Errorf("%s is the name of two services", n.Name))
		case u.cname > 0 || a || aaaa || u.cut:
			errs = append(errs, fmt.Errorf("%s is the name of service %s and has static records that exclude it", n.Name, n.Service))
		case u.other > 0 && isAlias(n):
			errs = append(errs, fmt.Errorf("%s is a CNAME of service %s and has static records", n.Name, n.Service))
		}
		u.service = true
	}
	for _, n := range z.services {
		if uses[dns.EpochName(n.Name)] != nil {
			errs = append(errs, fmt.Errorf("%s is kept for the epoch of %s", dns.EpochName(n.Name), n.Name))
		}
	}
	errs = append(errs, z.hidden())
	for name, u := range uses {
		if u.cname > 1 || u.cname == 1 && u.other > 0 {
			errs = append(errs, fmt.Errorf("%s: a CNAME stands alone (RFC 1034, section 3.6.2)", name))
		}
	}
	errs = append(errs, z.glueless())
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return errors.Join(errs...)
}

// glueless reports delegations to a server below themselves that has no
// address here: nobody could ever ask it.
func (z *zone) glueless() error {
	addresses := make(map[string]bool)
	for _, rr := range z.static {
		if h := rr.Header(); h.Rrtype == mdns.TypeA || h.Rrtype == mdns.TypeAAAA {
			addresses[h.Name] = true
		}
	}
	var errs []error
	for _, rr := range z.static {
		ns, ok := rr.(*mdns.NS)
		if ok && ns.Hdr.Name != z.name && mdns.IsSubDomain(ns.Hdr.Name, ns.Ns) && !addresses[ns.Ns] {
			errs = append(errs, fmt.Errorf("%s is delegated to %s below it, which has no address record", ns.Hdr.Name, ns.Ns))
		}
	}
	return errors.Join(errs...)
}

// hidden reports services at or below a delegation: others answer there.
func (z *zone) hidden() error {
	cuts := make(map[string]bool)
	for _, rr := range z.static {
		if h := rr.Header(); h.Rrtype == mdns.TypeNS && h.Name != z.name {
			cuts[h.Name] = true
		}
	}
	var errs []error
	for _, n := range z.services {
		for up := n.Name; up != z.name; _, up, _ = strings.Cut(up, ".") {
			if cuts[up] {
				errs = append(errs, fmt.Errorf("%s lies in %s, which is delegated", n.Name, up))
			}
		}
	}
	return errors.Join(errs...)
}

func isAlias(n dns.Name) bool {
	for _, t := range n.Targets {
		if t.CNAME != "" {
			return true
		}
	}
	return false
}

func typeName(qtype uint16) string { return mdns.Type(qtype).String() }
