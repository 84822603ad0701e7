package demo

import (
	"testing"
	"time"

	"github.com/draasd/draas"
)

func TestLinks(t *testing.T) {
	for _, scheme := range []string{schemeFrontend, schemeHybrid} {
		t.Run(scheme, func(t *testing.T) { testLinks(t, scheme) })
	}
}

func testLinks(t *testing.T, scheme string) {
	w, err := takeNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.close() })
	l, err := layLinks(w, scheme)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	for _, m := range members() {
		newEchoAt(t, w.peerOf(m))
		newEchoAt(t, w.apiOf(m))
	}
	for _, m := range sites() {
		newEchoAt(t, w.gateOf(m))
		newEchoAt(t, w.dnsOf(m))
		newEchoAt(t, w.entranceOf(m))
	}
	// Every way there is, by its link.
	ways := make(map[direction][]string)
	for _, to := range members() {
		for _, e := range edgesOf(scheme) {
			from := e
			if scheme == schemeHybrid { // it stands at a site, and is cut off with it
				from = siteOf(e)
			}
			ways[direction{from, to}] = append(ways[direction{from, to}], w.apiVia(e, to))
		}
		if to != witness {
			ways[direction{edge, to}] = append(ways[direction{edge, to}], w.gateVia(edge, to))
		}
		for _, from := range members() {
			if from == to {
				continue
			}
			ways[direction{from, to}] = append(ways[direction{from, to}], w.peerVia(from, to))
			if to != witness {
				ways[direction{from, to}] = append(ways[direction{from, to}], w.gateVia(from, to))
			}
		}
	}
	for _, to := range sites() {
		ways[direction{users, to}] = []string{w.usersAt(to), w.nsAt(to)}
	}
	expect := func(name string, silent func(from, to draas.MemberID) bool) {
		t.Helper()
		for d, addrs := range ways {
			for _, addr := range addrs {
				c := dial(t, addr)
				c.say(t, "hello")
				limit := 5 * time.Second
				if silent(d.from, d.to) {
					limit = quiet
				}
				got, err := c.hear(limit)
				if passes := err == nil && got == "hello\n"; passes == silent(d.from, d.to) {
					t.Errorf("%s: %s to %s by %s: %q, %v", name, d.from, d.to, addr, got, err)
				}
				c.Close()
			}
		}
	}
	expect("at first", func(_, _ draas.MemberID) bool { return false })
	l.between(primary, dr, drop)
	expect("cut", func(from, to draas.MemberID) bool {
		return from != witness && to != witness && from != users && from != edge && from != to
	})
	l.between(primary, dr, pass)
	l.isolate(primary, drop)
	expect("primary silent", func(from, to draas.MemberID) bool { return (from == primary) != (to == primary) })
	l.isolate(primary, pass)
	expect("at last", func(_, _ draas.MemberID) bool { return false })
}
