package authority

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

// layout is what follows from the configuration alone: every name there is, and
// the static records. No decision adds a name or takes one away. It is never
// changed once it is built.
type layout struct {
	zones []*zoneLayout
	// nodes holds every name that is answered, empty non-terminals included,
	// in wire form and lower case.
	nodes map[string]*node
	// services holds the names of each service, moving how many names a
	// decision changes.
	services map[draas.ServiceID][]entry
	moving   int
	// loops are the names whose static CNAMEs lead nowhere, with the reason.
	loops map[string]string
	keys  map[string]*tsigKey // of the secondaries, by name in wire form
}

// zoneLayout is the part of one zone.
type zoneLayout struct {
	zone *zone
	name string // wire form
	apex *node
	// hinfo stands in for whatever a name has, in answers to ANY.
	hinfo *set
	// order holds all its names in canonical order (RFC 4034, section 6.1),
	// also those that lie in a zone below that is answered here.
	order []*node
	// chain holds those that have an NSEC record, if the zone is signed.
	chain []*node
}

// node is one name.
type node struct {
	name string // wire form
	zone int    // index of its zone
	sets []*set // static, by type
	// moving is the index of what decisions say of it, or -1.
	moving int
	// cut is the delegation that the name lies at or below: the topmost one.
	cut *node
	// above is, for the name of a zone, its delegation in the zone above, if
	// both are answered here.
	above *node
	nsec  *set
}

// entry is one name of a service.
type entry struct {
	name        dns.Name
	node, epoch *node
}

func newLayout(zones []*zone) (*layout, error) {
	l := &layout{nodes: make(map[string]*node), services: make(map[draas.ServiceID][]entry), loops: make(map[string]string)}
	var errs []error
	for i, z := range zones {
		b := layoutBuilder{layout: l, zone: z, index: i, nodes: make(map[string]*node, len(z.static))}
		for _, o := range zones {
			if o != z && mdns.IsSubDomain(z.name, o.name) {
				b.children = append(b.children, o.name)
			}
		}
		if err := b.build(); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := l.shareKeys(); err != nil {
		return nil, err
	}
	l.join()
	static := &table{layout: l}
	for _, z := range l.zones {
		for _, n := range z.order {
			if len(n.sets) > 0 && static.loop(n) {
				l.loops[textName(n.name)] = tooLong
			}
		}
	}
	return l, nil
}

// shareKeys collects the keys of all secondaries. A name means one key.
func (l *layout) shareKeys() error {
	l.keys = make(map[string]*tsigKey)
	for _, z := range l.zones {
		for _, s := range z.zone.secondaries {
			if s.key == nil {
				continue
			}
			old := l.keys[s.key.name]
			if old == nil {
				l.keys[s.key.name], old = s.key, s.key
			}
			if old.algorithm != s.key.algorithm || !bytes.Equal(old.secret, s.key.secret) {
				return fmt.Errorf("zone %s: two keys have the name %s", z.zone.name, textName(s.key.name))
			}
			s.key = old
		}
	}
	return nil
}

// serviceIDs lists the services that have a name here.
func (l *layout) serviceIDs() []draas.ServiceID { return slices.Sorted(maps.Keys(l.services)) }

// join finds out where records lead, now that all names are there.
func (l *layout) join() {
	for i, z := range l.zones {
		own := make(map[string]*node) // names in a zone below are its own when they are glue
		for _, n := range z.order {
			if l.nodes[n.name] != n {
				own[n.name] = n
				if top := l.nodes[n.name]; top != nil && n.cut == n && top == l.zones[top.zone].apex {
					top.above = n
				}
			}
			for _, s := range n.sets {
				l.link(i, s)
			}
		}
		for _, n := range z.order {
			s := pick(n.sets, mdns.TypeNS)
			if s == nil {
				continue
			}
			for j := range s.links { // glue may lie below a cut
				name := s.links[j].name
				if s.links[j].node = own[name]; s.links[j].node == nil {
					if host := l.nodes[name]; host != nil && host.zone == i {
						s.links[j].node = host
					}
				}
			}
		}
	}
}

// link finds the names that a set's records lead to.
func (l *layout) link(zone int, s *set) {
	for i := range s.links {
		k := &s.links[i]
		n, encloser := l.lookup([]byte(k.name))
		switch {
		case n != nil && n.zone == zone && n.cut == nil:
			k.node = n
		case n == nil && encloser != nil && encloser.zone == zone && encloser.cut == nil:
			k.encloser = encloser
		}
	}
}

// lookup finds a name, or else the nearest name above it.
func (l *layout) lookup(name []byte) (n, encloser *node) {
	if n := l.nodes[string(name)]; n != nil {
		return n, nil
	}
	for len(name) > 1 { // up to the root, a label at a time
		name = name[1+int(name[0]):]
		if n := l.nodes[string(name)]; n != nil {
			return nil, n
		}
	}
	return nil, nil
}

// layoutBuilder makes one zone's part of a layout.
type layoutBuilder struct {
	*layout
	zone  *zone
	index int
	nodes map[string]*node // of the zone, in wire form
	// children are the zones of the same layout below this one: they answer
	// for what lies in them.
	children []string
}

func (b *layoutBuilder) build() error {
	apex, err := wireName(b.zone.name)
	if err != nil {
		return fmt.Errorf("zone %s: %w", b.zone.name, err)
	}
	z := &zoneLayout{zone: b.zone, name: apex, apex: &node{name: apex, zone: b.index, moving: -1}}
	b.nodes[apex] = z.apex
	h := header(b.zone.name, mdns.TypeHINFO, time.Duration(b.zone.soa.Minttl)*time.Second)
	if z.hinfo, err = newSet([]mdns.RR{&mdns.HINFO{Hdr: h, Cpu: "RFC8482"}}); err != nil {
		return fmt.Errorf("zone %s: %w", b.zone.name, err)
	}
	b.layout.zones = append(b.layout.zones, z)
	if err := b.addStatic(); err != nil {
		return err
	}
	for _, n := range b.zone.services {
		if err := b.addService(n); err != nil {
			return err
		}
	}
	children := make(map[string]bool, len(b.children))
	for _, c := range b.children {
		name, err := wireName(c)
		if err != nil {
			return fmt.Errorf("zone %s: %w", c, err)
		}
		children[name] = true
	}
	for name, n := range b.nodes {
		hidden := false
		for up := name; up != apex; up = up[1+int(up[0]):] {
			if c := b.nodes[up]; pick(c.sets, mdns.TypeNS) != nil {
				n.cut = c
			}
			hidden = hidden || children[up]
		}
		if !hidden {
			b.layout.nodes[name] = n
		}
	}
	z.order = slices.SortedFunc(maps.Values(b.nodes), func(x, y *node) int { return compareNames(x.name, y.name) })
	for c := range children {
		if n := b.nodes[c]; len(b.zone.keys) > 0 && (n == nil || n.cut == nil) {
			return fmt.Errorf("zone %s is signed and holds zone %s: without NS records for that it would say that there is none", b.zone.name, textName(c))
		}
	}
	return z.chainUp(b.layout)
}

// addStatic packs the configured records.
func (b *layoutBuilder) addStatic() error {
	byName := make(map[string][]mdns.RR, len(b.zone.static))
	for _, rr := range b.zone.static {
		name := rr.Header().Name
		byName[name] = append(byName[name], rr)
	}
	for name, rrs := range byName {
		n, err := b.at(name)
		if err == nil {
			n.sets, err = newSets(rrs)
		}
		if err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
	}
	for _, n := range b.nodes {
		if err := b.tryGlue(n); err != nil {
			return err
		}
	}
	return nil
}

// tryGlue makes sure that the answer to NS fits a message with all its glue.
func (b *layoutBuilder) tryGlue(n *node) error {
	s := pick(n.sets, mdns.TypeNS)
	if s == nil {
		return nil
	}
	size := len(s.wire)
	for _, k := range s.links {
		host := b.nodes[k.name]
		if host == nil {
			size += dns.MaxValues * 28 // it may be a service's
			continue
		}
		for _, g := range host.sets {
			size += len(g.wire)
		}
	}
	if size > maxSet+maxSet/8 {
		return fmt.Errorf("pack %s NS: answer of %d octets with its glue does not fit a message", textName(n.name), size)
	}
	return nil
}

func (b *layoutBuilder) addService(n dns.Name) error {
	e := entry{name: n}
	var err error
	if e.node, err = b.at(n.Name); err == nil {
		e.epoch, err = b.at(dns.EpochName(n.Name))
	}
	if err != nil {
		return fmt.Errorf("pack %s: %w", n.Name, err)
	}
	e.node.moving, e.epoch.moving = b.moving, b.moving+1
	b.moving += 2
	b.services[n.Service] = append(b.services[n.Service], e)
	for site, target := range n.Targets {
		if _, err := (&table{layout: b.layout}).targetSets(e, target); err != nil {
			return fmt.Errorf("pack %s with its service at %s: %w", n.Name, site, err)
		}
	}
	return nil
}

// at is the node of a name. Names between it and the zone's own exist, too
// (RFC 4592, section 2.2.2).
func (b *layoutBuilder) at(name string) (*node, error) {
	wire, err := wireName(name)
	if err != nil {
		return nil, err
	}
	n := b.nodes[wire]
	for up := wire; b.nodes[up] == nil; up = up[1+int(up[0]):] { // ends at the zone's own name
		b.nodes[up] = &node{name: up, zone: b.index, moving: -1}
		if n == nil {
			n = b.nodes[up]
		}
	}
	return n, nil
}

// compareNames orders names in wire form canonically (RFC 4034, section 6.1):
// label by label from the root on.
func compareNames(a, b string) int {
	var as, bs [128]uint8 // where the labels begin
	na, nb := labels(a, &as), labels(b, &bs)
	for na > 0 && nb > 0 {
		na, nb = na-1, nb-1
		x, y := a[as[na]:], b[bs[nb]:]
		if c := strings.Compare(x[1:1+int(x[0])], y[1:1+int(y[0])]); c != 0 {
			return c
		}
	}
	return na - nb
}

// labels notes where the labels of a name begin, and returns their number.
func labels(name string, at *[128]uint8) (n int) {
	for off := 0; name[off] != 0; off += 1 + int(name[off]) {
		at[n] = uint8(off)
		n++
	}
	return n
}
