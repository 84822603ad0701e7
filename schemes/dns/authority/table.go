package authority

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

// table is all that is answered. It is never changed once it is in use: a
// decision makes another one, which shares with it everything but what the
// decision changes.
type table struct {
	*layout
	zones []*zoneState // by the zone's index
	data  []*data      // by node.moving
}

// zoneState is what changes about a zone.
type zoneState struct {
	serial  uint32
	soa     *set
	journal []*change // for IXFR, the oldest first
	keys    *keyset   // that sign the zone, or nil
}

// data is what a decision says of one name.
type data struct {
	service draas.ServiceID
	sets    []*set
	// reason says why nothing but the static sets can be answered, missing
	// why a type cannot.
	reason  string
	missing map[uint16]string
}

// newTable makes the table of what is decided. What the one before holds of
// the same layout is taken over for services that are not among the changed
// ones. Keys are those of the time.
func newTable(l *layout, before *table, decided map[draas.ServiceID]dns.Decision, changed []draas.ServiceID, at time.Time) (*table, error) {
	t := &table{layout: l, zones: make([]*zoneState, len(l.zones)), data: make([]*data, l.moving)}
	if before != nil {
		copy(t.data, before.data)
		copy(t.zones, before.zones)
	}
	changes := make([]*change, len(l.zones)) // of those that change
	for _, id := range changed {
		for _, e := range l.services[id] {
			if err := t.decide(e, decided[id]); err != nil {
				return nil, err
			}
			i := e.node.zone
			if changes[i] == nil {
				changes[i] = &change{}
			}
			if before != nil {
				for _, n := range []*node{e.node, e.epoch} {
					changes[i].differ(n.name, before.data[n.moving].sets, t.data[n.moving].sets)
				}
			}
		}
	}
	for i, z := range l.zones {
		if t.zones[i] != nil && changes[i] == nil {
			continue
		}
		n := serial(z.zone, decided)
		soa := z.zone.soa
		soa.Serial = n
		s, err := newSet([]mdns.RR{&soa})
		if err != nil {
			return nil, fmt.Errorf("pack SOA of %s: %w", z.zone.name, err)
		}
		now := &zoneState{serial: n, soa: s}
		was := t.zones[i]
		switch {
		case was != nil:
			now.keys = was.keys
		case len(z.zone.keys) > 0:
			if now.keys, err = z.keysAt(at); err != nil {
				return nil, err
			}
		}
		if was != nil && len(z.zone.secondaries) > 0 {
			c := changes[i]
			c.from, c.to, c.before, c.soa = was.serial, n, was.soa, s
			now.journal = remember(was.journal, c)
		}
		t.zones[i] = now
	}
	return t, nil
}

// decide puts in what a decision says of a service's name and of the name of
// its epoch.
func (t *table) decide(e entry, d dns.Decision) error {
	name, epoch := &data{service: e.name.Service}, &data{service: e.name.Service}
	t.data[e.node.moving], t.data[e.epoch.moving] = name, epoch
	target, ok := e.name.Targets[d.Site]
	switch {
	case d.Site == "":
		name.reason = "no site was ever activated"
		epoch.reason = name.reason
		return nil
	case !ok || target.Empty():
		name.reason = fmt.Sprintf("site %s is active and has no target", d.Site)
	default:
		name.missing = missingTypes(e.name, d.Site)
	}
	var err error
	if name.sets, err = t.targetSets(e, target); err != nil {
		return fmt.Errorf("pack %s: %w", e.name.Name, err)
	}
	owner := dns.EpochName(e.name.Name)
	txt := &mdns.TXT{Hdr: header(owner, mdns.TypeTXT, e.name.TTL), Txt: []string{escapeText([]byte(dns.EpochText(d)))}}
	s, err := newSet([]mdns.RR{txt})
	if err != nil {
		return fmt.Errorf("pack %s: %w", owner, err)
	}
	epoch.sets = []*set{s}
	return nil
}

// targetSets are the record sets of a service's name at a site.
func (t *table) targetSets(e entry, target dns.Target) ([]*set, error) {
	var rrs []mdns.RR
	if target.CNAME != "" {
		rrs = append(rrs, &mdns.CNAME{Hdr: header(e.name.Name, mdns.TypeCNAME, e.name.TTL), Target: mdns.CanonicalName(target.CNAME)})
	}
	for _, addr := range target.Addresses {
		rrs = append(rrs, addressRecord(header(e.name.Name, 0, e.name.TTL), addr))
	}
	sets, err := newSets(rrs)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		t.link(e.node.zone, s)
	}
	return sets, nil
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

// serial is the zone's SOA serial. It is the same at every member that has
// applied the same decisions, since it follows from them, and grows with each:
// the sum of the services' epochs and turns, a generation counting for as many
// as its predecessor can have had, and the zone's revision for as many.
func serial(z *zone, decided map[draas.ServiceID]dns.Decision) uint32 {
	sum := 1 + uint32(z.revision)*revisionWeight
	for _, n := range z.services {
		d := decided[n.Service]
		sum += uint32(d.Token.Epoch) + uint32(d.Token.Epoch.Generation())*revisionWeight + uint32(d.Turns)
	}
	return sum
}

// revisionWeight is how many epochs a revision of the zone counts for, and a
// generation. It is small enough for a generation to grow at tens of thousands
// of services at once: by 2^31 or more a serial would seem to shrink (RFC 1982,
// section 3.2).
const revisionWeight = 1 << 16

// refusals says why names are answered SERVFAIL whatever the clock says.
func (t *table) refusals() map[string]string {
	out := maps.Clone(t.loops)
	for _, entries := range t.services {
		for _, e := range entries {
			if reason := t.refusal(e); reason != "" {
				out[e.name.Name] = reason
			}
			if reason := t.data[e.epoch.moving].reason; reason != "" {
				out[dns.EpochName(e.name.Name)] = reason
			}
		}
	}
	return out
}

func (t *table) refusal(e entry) string {
	if reason := t.data[e.node.moving].reason; reason != "" || !t.loop(e.node) {
		return reason
	}
	return tooLong
}

const tooLong = "its chain of CNAMEs is too long"

// maxChase bounds a chain of CNAMEs inside a zone.
const maxChase = 8

// loop reports whether the chain that starts at a name has more than maxChase
// links.
func (t *table) loop(n *node) bool {
	for range maxChase {
		s := t.find(n, mdns.TypeCNAME)
		if s == nil || s.links[0].node == nil {
			return false
		}
		n = s.links[0].node
	}
	return true
}

// find is the record set of a name, nil if there is none.
func (t *table) find(n *node, rtype uint16) *set {
	if s := pick(n.sets, rtype); s != nil {
		return s
	}
	if n.moving >= 0 && t.data != nil {
		return pick(t.data[n.moving].sets, rtype)
	}
	return nil
}

func pick(sets []*set, rtype uint16) *set {
	for _, s := range sets {
		if s.rtype == rtype {
			return s
		}
	}
	return nil
}

// set is one record set in wire form.
type set struct {
	rtype uint16
	count uint16
	// wire holds the records one after the other. The owner of each is a
	// pointer to the question (RFC 1035, section 4.1.4); names in the data are
	// not compressed.
	wire []byte
	// links are where the records' data leads, for CNAME and NS.
	links []link
	// signed are the set's signatures, once they were made.
	signed atomic.Pointer[signatures]
}

// link is a name in a record's data, as far as this server knows it.
type link struct {
	name string // wire form
	// node is the name, if it stands in the same zone and is not delegated.
	node *node
	// encloser is set if the name would stand in the same zone and does not
	// exist: the nearest name above it that does.
	encloser *node
}

// toQuestion is a compressed owner that points to the question's name.
const toQuestion = 0xc000 | headerLen

// newSets packs records of one name, by type.
func newSets(rrs []mdns.RR) ([]*set, error) {
	byType := make(map[uint16][]mdns.RR)
	for _, rr := range rrs {
		byType[rr.Header().Rrtype] = append(byType[rr.Header().Rrtype], rr)
	}
	var sets []*set
	for _, rtype := range slices.Sorted(maps.Keys(byType)) {
		s, err := newSet(byType[rtype])
		if err != nil {
			return nil, err
		}
		sets = append(sets, s)
	}
	return sets, nil
}

// maxSet bounds a record set, so that with a chain of CNAMEs before it, the
// proofs behind it and an OPT it fits a message.
const maxSet = 48 << 10

// newSet packs the records of one set.
func newSet(rrs []mdns.RR) (*set, error) {
	s := &set{rtype: rrs[0].Header().Rrtype, count: uint16(len(rrs))}
	var buf []byte
	for _, rr := range rrs {
		buf = slices.Grow(buf[:0], mdns.Len(rr)+1)[:mdns.Len(rr)+1]
		end, err := mdns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			return nil, err
		}
		s.wire = append(s.wire, toQuestion>>8, toQuestion&0xff)
		s.wire = append(s.wire, buf[skipName(buf, 0):end]...)
		target := ""
		switch rr := rr.(type) {
		case *mdns.CNAME:
			target = rr.Target
		case *mdns.NS:
			target = rr.Ns
		default:
			continue
		}
		name, err := wireName(target)
		if err != nil {
			return nil, err
		}
		s.links = append(s.links, link{name: name})
	}
	if len(s.wire) > maxSet {
		return nil, fmt.Errorf("answer of %d octets does not fit a message", len(s.wire))
	}
	s.wire = slices.Clip(s.wire)
	return s, nil
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

// textName is a name in wire form as people write it. Names of this server
// need no escapes.
func textName(wire string) string {
	if len(wire) <= 1 {
		return "."
	}
	var b strings.Builder
	for len(wire) > 1 { // a label a turn
		l := 1 + int(wire[0])
		b.WriteString(wire[1:l])
		b.WriteByte('.')
		wire = wire[l:]
	}
	return b.String()
}
