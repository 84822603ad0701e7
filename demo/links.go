package demo

import (
	"errors"

	"github.com/draasd/draas"
)

// users is the end of a link where the users are.
const users draas.MemberID = "users"

// direction is a link: who connects to whom. Both ways of a connection belong
// to the direction in which it was made.
type direction struct{ from, to draas.MemberID }

// links are all the ways between members, and from the users to the sites.
type links struct {
	valves map[direction]*valve
	relays []interface{ close() }
}

// layLinks starts the relays of a demo.
func layLinks(w *network, scheme string) (*links, error) {
	l := &links{valves: make(map[direction]*valve)}
	var errs []error
	tcp := func(from, to draas.MemberID, listen, target string) {
		r, err := relayTCP(listen, target, l.valve(from, to))
		if err != nil {
			errs = append(errs, err)
			return
		}
		l.relays = append(l.relays, r)
	}
	for _, to := range members() {
		for _, from := range members() {
			if from != to {
				tcp(from, to, w.peerVia(from, to), w.peerOf(to))
			}
		}
	}
	l.layEdges(w, scheme, tcp)
	for _, to := range sites() {
		for _, from := range members() {
			if from != to {
				tcp(from, to, w.gateVia(from, to), w.gateOf(to))
			}
		}
		if scheme == schemeHybrid {
			tcp(users, to, w.usersAt(to), w.entranceOf(to))
		} else {
			tcp(users, to, w.usersAt(to), w.gateOf(to))
		}
		tcp(users, to, w.nsAt(to), w.dnsOf(to))
		r, err := relayUDP(w.nsAt(to), w.dnsOf(to), l.valve(users, to))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.relays = append(l.relays, r)
	}
	if err := errors.Join(errs...); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// layEdges starts the relays of the frontends: to the API of every member, and
// to the gate of each site. Those at the sites share the way to a gate, as the
// file has one list of servers for all.
func (l *links) layEdges(w *network, scheme string, tcp func(from, to draas.MemberID, listen, target string)) {
	for _, e := range edgesOf(scheme) {
		from := e
		if scheme == schemeHybrid {
			from = siteOf(e)
		}
		for _, to := range members() {
			tcp(from, to, w.apiVia(e, to), w.apiOf(to))
		}
	}
	for _, to := range sites() {
		if scheme != schemeDNS {
			tcp(edge, to, w.gateVia(edge, to), w.gateOf(to))
		}
	}
}

func (l *links) valve(from, to draas.MemberID) *valve {
	d := direction{from, to}
	if l.valves[d] == nil {
		l.valves[d] = newValve()
	}
	return l.valves[d]
}

// isolate turns every link from and to a member, but none within its site.
func (l *links) isolate(m draas.MemberID, to mode) {
	for d, v := range l.valves {
		if (d.from == m) != (d.to == m) {
			v.set(to)
		}
	}
}

// between turns the links between two members, both directions.
func (l *links) between(a, b draas.MemberID, to mode) {
	l.valve(a, b).set(to)
	l.valve(b, a).set(to)
}

func (l *links) close() {
	for _, r := range l.relays {
		r.close()
	}
}
