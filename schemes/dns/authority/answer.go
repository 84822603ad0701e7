package authority

import (
	"encoding/binary"
	"net/netip"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
)

// client is who asks, and when.
type client struct {
	tcp  bool
	addr netip.Addr
	now  *moment
	// transfer is set to what is sent instead of an answer, where that is
	// possible.
	transfer **transfer
}

// response is an answer while it is written.
type response struct {
	a   *Authority
	q   query
	t   *table
	now *moment
	// msg holds the answer from start on: header and question at first.
	msg        []byte
	start      int
	rcode      uint8
	aa         bool
	an, ns, ar uint16 // records in the sections
	reason     string // of a SERVFAIL
	unsigned   string // why signatures that were asked for cannot be made

	signer  *signer // of a query that was signed
	badTSIG *tsig   // signed wrongly
}

// moment is a reading of the clock that is taken when it is needed, once.
type moment struct {
	clock func() draas.Reading
	at    draas.Reading
	taken bool
}

func (m *moment) reading() draas.Reading {
	if !m.taken {
		m.at, m.taken = m.clock(), true
	}
	return m.at
}

// Reasons of a SERVFAIL.
const (
	notReady = "this member has not applied the log yet"
	outdated = "this member is out of touch with the quorum"
	lapsed   = "this site's permit is over: its own address leads to a closed fence"
)

// fail gives the answer up.
func (r *response) fail(reason string) {
	r.rcode, r.reason, r.aa = mdns.RcodeServerFailure, reason, false
}

// answer looks the question up and writes all sections but OPT.
func (r *response) answer(c client) {
	q := &r.q
	if q.edns && q.version != 0 {
		r.rcode = mdns.RcodeBadVers // RFC 6891, section 6.1.3
		return
	}
	if q.class != mdns.ClassINET {
		r.rcode = mdns.RcodeRefused
		return
	}
	switch q.qtype {
	case mdns.TypeMAILA, mdns.TypeMAILB:
		r.rcode = mdns.RcodeRefused
		return
	case mdns.TypeOPT, mdns.TypeTSIG, mdns.TypeTKEY, mdns.TypeNone:
		r.rcode = mdns.RcodeFormatError // never asked for
		return
	}
	if r.t == nil {
		r.fail(notReady)
		return
	}
	switch q.qtype {
	case mdns.TypeAXFR, mdns.TypeIXFR:
		r.transferFor(c)
		return
	case mdns.TypeSOA:
		// A secondary is not told that its copy is good by who could not hand
		// it out.
		if zone := r.zoneNamed(q.name[:q.n]); zone >= 0 && r.listed(zone, c.addr) {
			if reason := r.a.handed(r.t, zone, r.now.reading()); reason != "" {
				r.fail(reason)
				return
			}
		}
	}
	n, encloser := r.t.lookup(q.name[:q.n])
	switch {
	case n == nil && encloser == nil:
		r.rcode = mdns.RcodeRefused
	case n == nil && encloser.cut != nil:
		r.referral(encloser.cut)
	case n == nil:
		r.aa = true
		r.noName("", encloser)
	default:
		r.exists(n)
	}
}

// exists answers for a name that there is.
func (r *response) exists(n *node) {
	// A delegation's DS is the parent's to give, and there is none (RFC 4035,
	// section 3.1.4.1).
	ds := r.q.qtype == mdns.TypeDS
	if ds && n.above != nil {
		n = n.above
	}
	if n.cut != nil && (!ds || n.cut != n) {
		r.referral(n.cut)
		return
	}
	r.aa = true
	qtype := r.q.qtype
	if qtype == mdns.TypeANY || qtype == mdns.TypeRRSIG && r.keys(n.zone) != nil {
		if qtype = r.some(n); qtype == mdns.TypeHINFO {
			r.an += r.put(r.t.layout.zones[n.zone].hinfo, toQuestion)
			return
		}
	}
	r.chase(n, qtype)
}

// chase writes the answer of a name, along CNAMEs inside the zone (RFC 1034,
// section 4.3.2, step 3a).
func (r *response) chase(n *node, qtype uint16) {
	zone := n.zone
	owner := uint16(toQuestion)
	for links := 0; ; links++ { // to maxChase
		s := pick(n.sets, qtype)
		if s == nil && n == r.t.layout.zones[zone].apex {
			s = r.t.zones[zone].own(qtype)
		}
		if s == nil && qtype == mdns.TypeNSEC {
			s = n.nsec
		}
		var d *data
		if s == nil && n.moving >= 0 {
			d = r.t.data[n.moving]
			if reason := r.withheld(zone, d); reason != "" {
				r.fail(reason)
				return
			}
			s = pick(d.sets, qtype)
		}
		if links >= maxChase {
			r.fail(tooLong)
			return
		}
		if s != nil {
			at := len(r.msg)
			r.an += r.putSigned(s, owner, n.name, zone)
			if qtype == mdns.TypeNS {
				r.glue(s, at)
			}
			return
		}
		if s = r.t.find(n, mdns.TypeCNAME); s == nil {
			if d != nil && d.missing[qtype] != "" {
				r.fail(d.missing[qtype])
				return
			}
			r.noType(n)
			return
		}
		at := len(r.msg)
		r.an += r.putSigned(s, owner, n.name, zone)
		owner = 0xc000 | uint16(at-r.start+12) // the name in the CNAME's data
		k := &s.links[0]
		if k.node == nil {
			if k.encloser != nil { // the chain leads to nothing: RFC 2308, section 2.1
				r.noName(k.name, k.encloser)
			}
			return
		}
		n = k.node
	}
}

// own is a set of the zone's own name that changes with the zone.
func (z *zoneState) own(rtype uint16) *set {
	switch {
	case rtype == mdns.TypeSOA:
		return z.soa
	case z.keys != nil:
		return pick(z.keys.sets, rtype)
	}
	return nil
}

// withheld says why what a decision says of a name cannot be told now.
func (r *response) withheld(zone int, d *data) string {
	if r.a.touch.Load() == nil {
		return notReady
	}
	now := r.now.reading()
	if !r.a.fresh(r.t.layout.zones[zone].zone.stale, now) {
		return outdated
	}
	if !r.a.leased(d.service, now) {
		return lapsed
	}
	return d.reason
}

// some is the type that ANY is answered with (RFC 8482, section 4): an HINFO that
// stands in for whatever there is, or a set that there is where signatures are
// asked for.
func (r *response) some(n *node) uint16 {
	var sets []*set
	if n.moving >= 0 {
		sets = r.t.data[n.moving].sets
	}
	apex := n == r.t.layout.zones[n.zone].apex
	switch {
	case len(n.sets)+len(sets) == 0 && !apex || r.t.find(n, mdns.TypeCNAME) != nil:
		return mdns.TypeCNAME
	case r.keys(n.zone) == nil:
		return mdns.TypeHINFO
	case apex:
		return mdns.TypeSOA
	case len(n.sets) > 0:
		return n.sets[0].rtype
	}
	return sets[0].rtype
}

// noType says that a name does not have the type.
func (r *response) noType(n *node) {
	r.putSOA(n.zone)
	r.proveNoType(n)
}

// noName says that a name, by default the question's, does not exist.
func (r *response) noName(name string, encloser *node) {
	r.rcode = mdns.RcodeNameError
	r.putSOA(encloser.zone)
	if r.keys(encloser.zone) == nil {
		return
	}
	if name == "" {
		name = string(r.q.name[:r.q.n])
	}
	r.proveNoName(name, encloser)
}

// putSOA writes the SOA of a negative answer (RFC 2308, section 3).
func (r *response) putSOA(zone int) {
	z := r.t.layout.zones[zone]
	r.ns += r.putSigned(r.t.zones[zone].soa, r.suffix(z.name), z.name, zone)
}

// suffix points to the end of the question's name, which a name is.
func (r *response) suffix(name string) uint16 {
	return 0xc000 | uint16(headerLen+r.q.n-len(name))
}

// referral answers at and below a delegation (RFC 1034, section 4.3.2, step
// 3b), with all the glue that the zone has (RFC 9471).
func (r *response) referral(cut *node) {
	s := pick(cut.sets, mdns.TypeNS)
	at := len(r.msg)
	r.ns += r.put(s, r.suffix(cut.name))
	if cut.nsec != nil && r.keys(cut.zone) != nil {
		r.prove(cut) // that there is no DS (RFC 4035, section 3.1.4)
	}
	r.glue(s, at)
}

// glue writes the addresses that the zone has of the servers in an NS set,
// which stands at the offset.
func (r *response) glue(ns *set, at int) {
	for i := range ns.links {
		owner := uint16(at - r.start + 12)
		at += 12 + int(binary.BigEndian.Uint16(r.msg[at+10:]))
		host := ns.links[i].node
		if host == nil {
			continue
		}
		for _, rtype := range []uint16{mdns.TypeA, mdns.TypeAAAA} {
			if s := r.t.find(host, rtype); s != nil {
				r.ar += r.put(s, 0xc000|owner)
			}
		}
	}
}

// put writes a record set with its owner, which is a pointer, and returns how
// many records these are.
func (r *response) put(s *set, owner uint16) uint16 {
	r.putWire(s.wire, owner)
	return s.count
}

func (r *response) putWire(wire []byte, owner uint16) {
	at := len(r.msg)
	r.msg = append(r.msg, wire...)
	if owner != toQuestion {
		forRecords(r.msg[at:], func(record []byte) { putPointer(record, owner) })
	}
}

// forRecords calls a function with each of the records, whose owners are
// pointers.
func forRecords(wire []byte, do func(record []byte)) {
	for len(wire) > 0 { // a record a turn
		l := 12 + int(binary.BigEndian.Uint16(wire[10:]))
		do(wire[:l])
		wire = wire[l:]
	}
}

func putPointer(at []byte, owner uint16) { binary.BigEndian.PutUint16(at, owner) }
