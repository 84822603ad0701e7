package authority

import (
	"fmt"
	"maps"
	"slices"
	"time"

	mdns "github.com/miekg/dns"
)

// The chain of NSEC records (RFC 4034, section 4) is a real one, not made up for
// each question as in RFC 4470 and RFC 9824: no decision adds a name or a type,
// so its records never change, each is signed once, and questions for names that
// do not exist cost no signatures, however many they are.

// chainUp makes the NSEC records of a zone that is signed. order is complete.
func (z *zoneLayout) chainUp(l *layout) error {
	if len(z.zone.keys) == 0 {
		return nil
	}
	for _, n := range z.order {
		if n.cut == nil && (len(n.sets) > 0 || n.moving >= 0) || n.cut == n {
			z.chain = append(z.chain, n)
		}
	}
	types := make(map[*node]map[uint16]bool)
	for _, name := range z.zone.services {
		for _, e := range l.services[name.Service] {
			if types[e.node] == nil {
				types[e.node] = make(map[uint16]bool)
			}
			types[e.epoch] = map[uint16]bool{mdns.TypeTXT: true}
			for _, target := range e.name.Targets { // at whatever site
				for _, t := range target.Types() {
					types[e.node][t] = true
				}
			}
		}
	}
	for i, n := range z.chain {
		next := z.chain[(i+1)%len(z.chain)]
		has := map[uint16]bool{mdns.TypeRRSIG: true, mdns.TypeNSEC: true}
		maps.Copy(has, types[n])
		for _, s := range n.sets {
			if n.cut == nil || s.rtype == mdns.TypeNS { // the rest is glue
				has[s.rtype] = true
			}
		}
		if n == z.apex {
			for _, t := range []uint16{mdns.TypeSOA, mdns.TypeDNSKEY, mdns.TypeCDS, mdns.TypeCDNSKEY} {
				has[t] = true
			}
		}
		var err error
		n.nsec, err = newSet([]mdns.RR{&mdns.NSEC{
			Hdr:        header(textName(n.name), mdns.TypeNSEC, time.Duration(z.zone.soa.Minttl)*time.Second), // RFC 9077
			NextDomain: textName(next.name), TypeBitMap: slices.Sorted(maps.Keys(has)),
		}})
		if err != nil {
			return fmt.Errorf("pack NSEC of %s: %w", textName(n.name), err)
		}
	}
	return nil
}

// covering is the name in the chain that a name is or comes next behind.
func (z *zoneLayout) covering(name string) *node {
	i, found := slices.BinarySearchFunc(z.chain, name, func(n *node, name string) int { return compareNames(n.name, name) })
	if found {
		return z.chain[i]
	}
	return z.chain[(i+len(z.chain)-1)%len(z.chain)]
}

// keys are those that the answer is to be signed with, or nil.
func (r *response) keys(zone int) *keyset {
	if !r.q.do {
		return nil
	}
	return r.t.zones[zone].keys
}

// putSigned writes a record set, and its signatures to who asks for them.
func (r *response) putSigned(s *set, owner uint16, name string, zone int) uint16 {
	n := r.put(s, owner)
	keys := r.keys(zone)
	if keys == nil {
		return n
	}
	sigs, err := keys.signed(s, name, wall(r.now.reading()))
	if err != nil {
		r.unsigned = err.Error()
		return n
	}
	r.putWire(sigs.wire, owner)
	return n + sigs.count
}

// prove writes the NSEC record of a name in the chain.
func (r *response) prove(n *node) {
	keys := r.keys(n.zone)
	sigs, err := keys.signed(n.nsec, n.name, wall(r.now.reading()))
	if err != nil {
		r.unsigned = err.Error()
		return
	}
	zone := r.t.layout.zones[n.zone].name
	own := n.name[:len(n.name)-len(zone)]
	for _, wire := range [][]byte{n.nsec.wire, sigs.wire} {
		forRecords(wire, func(record []byte) {
			at := len(r.msg) + len(own)
			r.msg = append(r.msg, own...)
			r.msg = append(r.msg, record...)
			putPointer(r.msg[at:], r.suffix(zone))
			r.ns++
		})
	}
}

// proveNoType proves that a name does not have a type: by its own NSEC, or, for
// an empty non-terminal, by the one that comes before it.
func (r *response) proveNoType(n *node) {
	if r.keys(n.zone) == nil {
		return
	}
	if n.nsec == nil {
		n = r.t.layout.zones[n.zone].covering(n.name)
	}
	r.prove(n)
}

// proveNoName proves that neither a name nor a wildcard for it exists (RFC 4035,
// section 3.1.3.2).
func (r *response) proveNoName(name string, encloser *node) {
	if r.keys(encloser.zone) == nil {
		return
	}
	z := r.t.layout.zones[encloser.zone]
	first, wildcard := z.covering(name), z.covering("\x01*"+encloser.name)
	r.prove(first)
	if wildcard != first {
		r.prove(wildcard)
	}
}
