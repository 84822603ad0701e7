package authority

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

// table holds every answer of all zones, packed. It is never changed once it
// is built.
type table struct {
	// nodes holds every name that exists, empty non-terminals included, in
	// wire form and lower case.
	nodes map[string]*node
	// refusals says why names are answered SERVFAIL whatever the clock says.
	refusals map[string]string
}

// node is one name.
type node struct {
	zone *zoneAnswers
	// cut is the referral of the delegation that the name lies at or below.
	cut   *answer
	atCut bool // it is the delegated name itself
	// byType holds the answers to the types that the name has or should
	// have; other is the answer to any other type.
	byType map[uint16]*answer
	other  *answer
	any    *answer
}

// zoneAnswers are the answers that a zone's names share.
type zoneAnswers struct {
	apex     *node
	zone     *zone
	nxdomain *answer
	nodata   *answer
}

// answer is everything of a response behind the question. Compressed names in
// it point into the question or behind it, so it fits any question with a
// name as long as the one that it was packed with.
type answer struct {
	rcode   uint8
	aa      bool
	tail    []byte
	an, ns  uint16
	ar      uint16
	decided bool   // depends on a decision: subject to the stale bound
	reason  string // of a SERVFAIL
	// via are the services' names, in wire form, that the answer came by.
	via []string
}

// raw is a name's data before packing.
type raw struct {
	sets    map[uint16][]mdns.RR
	static  map[uint16]bool // types in sets that no decision changes
	decided bool
	reason  string            // nothing but the static sets can be answered
	missing map[uint16]string // types that cannot be answered
	cut     string            // the delegation it lies at or below
}

// maxChase bounds a chain of CNAMEs inside a zone.
const maxChase = 8

func buildTable(zones []*zone, decided map[draas.ServiceID]dns.Decision) (*table, error) {
	t := &table{nodes: make(map[string]*node), refusals: make(map[string]string)}
	for _, z := range zones {
		b := &builder{zone: z, names: make(map[string]*raw), table: t}
		for _, o := range zones {
			if o != z && mdns.IsSubDomain(z.name, o.name) {
				b.children = append(b.children, o.name)
			}
		}
		b.fill(decided)
		if err := b.pack(serial(z, decided)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// serial is the zone's SOA serial: the sum of its services' epochs, so that
// it is the same at every member that has applied the same decisions, and
// grows with each. A generation counts for 2^24 epochs.
func serial(z *zone, decided map[draas.ServiceID]dns.Decision) uint32 {
	sum := uint32(1)
	for _, n := range z.services {
		t := decided[n.Service].Token
		sum += uint32(t.Epoch) + t.Epoch.Generation()<<24
	}
	return sum
}

// builder makes one zone's part of a table.
type builder struct {
	zone  *zone
	names map[string]*raw
	table *table
	// children are the zones of the same table below this one: they answer
	// for what lies in them.
	children []string
}

func (b *builder) at(name string) *raw {
	r := b.names[name]
	if r == nil {
		r = &raw{sets: make(map[uint16][]mdns.RR), static: make(map[uint16]bool)}
		b.names[name] = r
		if name != b.zone.name { // empty non-terminals exist (RFC 4592, section 2.2.2)
			_, parent, _ := strings.Cut(name, ".")
			b.at(parent)
		}
	}
	return r
}

func (b *builder) add(rr mdns.RR) {
	h := rr.Header()
	r := b.at(h.Name)
	r.sets[h.Rrtype] = append(r.sets[h.Rrtype], rr)
}

func (b *builder) fill(decided map[draas.ServiceID]dns.Decision) {
	b.at(b.zone.name)
	for _, rr := range b.zone.static {
		b.add(rr)
		b.at(rr.Header().Name).static[rr.Header().Rrtype] = true
	}
	for _, n := range b.zone.services {
		b.fillService(n, decided[n.Service])
	}
	for name, r := range b.names {
		for cut := name; cut != b.zone.name; {
			if c := b.names[cut]; len(c.sets[mdns.TypeNS]) > 0 {
				r.cut = cut // the topmost one counts
			}
			_, cut, _ = strings.Cut(cut, ".")
		}
	}
}

func (b *builder) fillService(n dns.Name, d dns.Decision) {
	name, epoch := b.at(n.Name), b.at(dns.EpochName(n.Name))
	name.decided, epoch.decided = true, true
	target, ok := n.Targets[d.Site]
	switch {
	case d.Site == "":
		name.reason = "no site was ever activated"
		epoch.reason = name.reason
		return
	case !ok || target.Empty():
		name.reason = fmt.Sprintf("site %s is active and has no target", d.Site)
	case target.CNAME != "":
		b.add(&mdns.CNAME{Hdr: b.zone.header(n.Name, mdns.TypeCNAME, n.TTL), Target: mdns.CanonicalName(target.CNAME)})
	}
	for _, addr := range target.Addresses {
		b.add(addressRecord(b.zone.header(n.Name, 0, n.TTL), addr))
	}
	if name.reason == "" {
		name.missing = missingTypes(n, d.Site)
	}
	b.add(&mdns.TXT{Hdr: b.zone.header(dns.EpochName(n.Name), mdns.TypeTXT, n.TTL), Txt: []string{escapeText([]byte(dns.EpochText(d)))}})
}

// missingTypes are the types that other sites' targets have and this site's
// has not, with the reason. An empty answer for them would be kept by
// resolvers after the move back, so none is given.
func missingTypes(n dns.Name, site draas.SiteID) map[uint16]string {
	has := n.Targets[site].Types()
	missing := make(map[uint16]string)
	for _, t := range n.Targets {
		for _, qtype := range t.Types() {
			if !slices.Contains(has, qtype) {
				missing[qtype] = fmt.Sprintf("site %s is active and has no %s", site, typeName(qtype))
			}
		}
	}
	return missing
}

func (b *builder) pack(serial uint32) error {
	soa := b.zone.soa
	soa.Serial = serial
	apex := b.at(b.zone.name)
	apex.sets[mdns.TypeSOA], apex.static[mdns.TypeSOA] = []mdns.RR{&soa}, true
	za := &zoneAnswers{zone: b.zone}
	var err error
	if za.nxdomain, err = packTail("", mdns.Msg{MsgHdr: mdns.MsgHdr{Authoritative: true, Rcode: mdns.RcodeNameError}, Ns: []mdns.RR{&soa}}); err != nil {
		return fmt.Errorf("pack SOA of %s: %w", b.zone.name, err)
	}
	za.nodata = &answer{aa: true, tail: za.nxdomain.tail, ns: za.nxdomain.ns}
	for name, r := range b.names {
		if slices.ContainsFunc(b.children, func(child string) bool { return mdns.IsSubDomain(child, name) }) {
			continue
		}
		n, err := b.packNode(za, name, r)
		if err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
		if name == b.zone.name {
			za.apex = n
		}
		key, err := wireName(name)
		if err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
		b.table.nodes[key] = n
	}
	return nil
}

func (b *builder) packNode(za *zoneAnswers, name string, r *raw) (*node, error) {
	n := &node{zone: za, byType: make(map[uint16]*answer)}
	var err error
	if r.cut != "" {
		n.atCut = r.cut == name
		if n.cut, err = b.referral(r.cut); err != nil {
			return nil, err
		}
	}
	types := make(map[uint16]bool)
	for qtype := range r.sets {
		types[qtype] = true
	}
	for qtype, reason := range r.missing {
		n.byType[qtype] = &answer{rcode: mdns.RcodeServerFailure, decided: true, reason: reason}
	}
	switch {
	case r.reason != "":
		b.table.refusals[name] = r.reason
		n.other = &answer{rcode: mdns.RcodeServerFailure, decided: true, reason: r.reason}
	case len(r.sets[mdns.TypeCNAME]) > 0:
		for _, qtype := range b.chaseTypes(name) {
			types[qtype] = true
		}
		if n.other, err = b.packSet(name, mdns.TypeNone); err != nil {
			return nil, err
		}
	default:
		other := *za.nodata
		other.decided = r.decided
		n.other = &other
	}
	for qtype := range types {
		if n.byType[qtype], err = b.packSet(name, qtype); err != nil {
			return nil, err
		}
	}
	n.any, err = b.packAny(n, name, r)
	return n, err
}

// packAny packs the answer to ANY (RFC 8482, section 4): the CNAME where
// there is one, else an HINFO that stands in for whatever there is.
func (b *builder) packAny(n *node, name string, r *raw) (*answer, error) {
	if len(r.sets) == 0 || len(r.sets[mdns.TypeCNAME]) > 0 {
		return cmp.Or(n.byType[mdns.TypeCNAME], n.other), nil
	}
	h := b.zone.header(name, mdns.TypeHINFO, time.Duration(b.zone.soa.Minttl)*time.Second)
	a, err := packTail(name, mdns.Msg{
		MsgHdr: mdns.MsgHdr{Authoritative: true},
		Answer: []mdns.RR{&mdns.HINFO{Hdr: h, Cpu: "RFC8482"}},
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// chaseTypes lists the types that the end of a chain of CNAMEs has.
func (b *builder) chaseTypes(name string) []uint16 {
	for range maxChase {
		r := b.names[name]
		if r == nil {
			return nil
		}
		if c := r.sets[mdns.TypeCNAME]; len(c) > 0 {
			name = c[0].(*mdns.CNAME).Target
			continue
		}
		var types []uint16
		for qtype := range r.sets {
			types = append(types, qtype)
		}
		for qtype := range r.missing {
			types = append(types, qtype)
		}
		return types
	}
	return nil
}

// packSet packs the answer of a name to a type, along CNAMEs inside the zone
// (RFC 1034, section 4.3.2, step 3a). TypeNone stands for a type that no name
// has.
func (b *builder) packSet(owner string, qtype uint16) (*answer, error) {
	msg := mdns.Msg{MsgHdr: mdns.MsgHdr{Authoritative: true}}
	decided, via := false, []string(nil)
	for name := owner; ; {
		r := b.names[name]
		if r == nil { // the chain leads to nothing: RFC 2308, section 2.1
			if mdns.IsSubDomain(b.zone.name, name) && !b.delegated(name) {
				msg.Rcode = mdns.RcodeNameError
				msg.Ns = b.names[b.zone.name].sets[mdns.TypeSOA]
			}
			break
		}
		if r.cut != "" && name != owner {
			break // the resolver goes on there
		}
		if r.decided && !r.static[qtype] {
			decided = true
			key, err := wireName(name)
			if err != nil {
				return nil, fmt.Errorf("pack %s: %w", name, err)
			}
			via = append(via, key)
		}
		reason := cmp.Or(r.reason, r.missing[qtype])
		if r.static[qtype] {
			reason = ""
		}
		if len(msg.Answer) >= maxChase {
			reason = "its chain of CNAMEs is too long"
			b.table.refusals[owner] = reason
		}
		if reason != "" {
			return &answer{rcode: mdns.RcodeServerFailure, decided: true, reason: reason}, nil
		}
		if set := r.sets[qtype]; len(set) > 0 {
			msg.Answer = append(msg.Answer, set...)
			if qtype == mdns.TypeNS {
				msg.Extra = b.glue(set)
			}
			break
		}
		cname := r.sets[mdns.TypeCNAME]
		if len(cname) == 0 {
			msg.Ns = b.names[b.zone.name].sets[mdns.TypeSOA]
			break
		}
		msg.Answer = append(msg.Answer, cname[0])
		name = cname[0].(*mdns.CNAME).Target
	}
	a, err := packTail(owner, msg)
	if err != nil {
		return nil, err
	}
	a.decided, a.via = decided, via
	return a, nil
}

// delegated reports whether a name without data lies below a delegation.
func (b *builder) delegated(name string) bool {
	for name != b.zone.name && name != "" {
		if r := b.names[name]; r != nil {
			return r.cut != ""
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return false
}

// referral is the answer below a delegation (RFC 1034, section 4.3.2, step
// 3b), with all the glue that the zone has (RFC 9471).
func (b *builder) referral(cut string) (*answer, error) {
	set := b.names[cut].sets[mdns.TypeNS]
	return packTail("", mdns.Msg{Ns: set, Extra: b.glue(set)})
}

// glue collects the addresses that the zone has of the servers in an NS set.
func (b *builder) glue(set []mdns.RR) (extra []mdns.RR) {
	for _, rr := range set {
		if r := b.names[rr.(*mdns.NS).Ns]; r != nil {
			extra = append(extra, r.sets[mdns.TypeA]...)
			extra = append(extra, r.sets[mdns.TypeAAAA]...)
		}
	}
	return extra
}

// packTail packs a message and cuts off the header and the question. With a
// name, names are compressed against it; without, the tail fits any question.
func packTail(name string, msg mdns.Msg) (*answer, error) {
	skip := headerLen
	if name != "" {
		msg.Question = []mdns.Question{{Name: name, Qtype: mdns.TypeA, Qclass: mdns.ClassINET}}
		msg.Compress = true
		key, err := wireName(name)
		if err != nil {
			return nil, err
		}
		skip += len(key) + 4
	}
	wire, err := msg.Pack()
	if err != nil {
		return nil, err
	}
	if len(wire)+skip+maxOPT > maxMessage {
		return nil, fmt.Errorf("answer of %d octets does not fit a message", len(wire))
	}
	return &answer{
		rcode: uint8(msg.Rcode), aa: msg.Authoritative, tail: slices.Clip(wire[skip:]),
		an: uint16(len(msg.Answer)), ns: uint16(len(msg.Ns)), ar: uint16(len(msg.Extra)),
	}, nil
}

// wireName is a lower-case name in wire form.
func wireName(name string) (string, error) {
	buf := make([]byte, 256)
	n, err := mdns.PackDomainName(name, buf, 0, nil, false)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
