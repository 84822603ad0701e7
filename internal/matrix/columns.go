package matrix

import (
	"slices"
	"strings"
	"time"
)

// columns are what is set beside each other.
func columns() []column {
	return []column{
		{Name: "dns", Scheme: schemeDNS, Lease: 2 * time.Second},
		{Name: "frontend", Scheme: schemeFrontend, Lease: 2 * time.Second},
		{Name: "frontend+vip", Scheme: schemeFrontend, Pair: true, Lease: 2 * time.Second},
		{Name: "hybrid", Scheme: schemeHybrid, Lease: 2 * time.Second},
		{Name: "dns, metro", Scheme: schemeDNS, Lease: metroLease, Metro: true},
		{Name: "frontend, metro", Scheme: schemeFrontend, Lease: metroLease, Metro: true},
		{Name: "frontend+vip, metro", Scheme: schemeFrontend, Pair: true, Lease: metroLease, Metro: true},
		{Name: "hybrid, metro", Scheme: schemeHybrid, Lease: metroLease, Metro: true},
		{Name: "dns by BIND", Scheme: schemeDNS, BIND: true, Lease: 2 * time.Second},
		{Name: "HAProxy", Peer: &peer{}},
		{Name: "keepalived 1 s", Peer: &peer{Advert: time.Second}, Pair: true},
		{Name: "keepalived 100 ms", Peer: &peer{Advert: 100 * time.Millisecond}, Pair: true},
	}
}

// metroLease is that of the profile metro, for sites some milliseconds apart.
const metroLease = 600 * time.Millisecond

// profile is that of the column's cluster.
func (c column) profile() string {
	if c.Metro {
		return "metro"
	}
	return "fast"
}

// variant reports whether a column is one of the others with something
// changed: only the headline cells are made of it.
func (c column) variant() bool { return c.Metro || c.BIND }

// clouded reports whether the sites have a cloud each, of which the one is
// copied to the other.
func (c column) clouded() bool { return c.Peer == nil && !c.variant() && !c.Bare }

// meets reports whether a disaster is made to a column.
func (c column) meets(x cell) bool {
	if c.variant() && !x.Headline {
		return false
	}
	if c.Peer != nil {
		// What they do about a lost service they do alike, in pairs or alone.
		return c.Pair == hasFront(x.Name) && slices.Contains(peerCells, x.Name)
	}
	return x.Needs == nil || x.Needs(c)
}

// peerCells are the disasters that are made to peers.
var peerCells = []string{"service killed", "service hangs", "service host off", "primary site off", "frontend killed", "frontend host off", "frontends cut from each other"}

// hasFront reports whether a disaster strikes a frontend.
func hasFront(cell string) bool { return strings.HasPrefix(cell, "frontend") }
