package frontend

import (
	"net/netip"
	"sync"
)

// Sources says who may connect.
type Sources struct {
	Allow []netip.Prefix // empty: everybody
	Deny  []netip.Prefix // stands above Allow
}

// Allowed reports whether a client of this address may connect.
func (s Sources) Allowed(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return !within(s.Deny, a) && (len(s.Allow) == 0 || within(s.Allow, a))
}

// Within reports whether one of the prefixes holds the address, whichever way
// an IPv4 address is written.
func Within(prefixes []netip.Prefix, a netip.Addr) bool {
	return within(prefixes, a.Unmap().WithZone(""))
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Limiter counts the connections of clients, all and by source.
type Limiter struct {
	mu          sync.Mutex
	total, each int
	now         int
	sources     map[netip.Addr]int
}

// NewLimiter bounds connections: so many in all, and of each source; zero is
// no bound.
func NewLimiter(total, perSource int) *Limiter {
	return &Limiter{total: total, each: perSource, sources: make(map[netip.Addr]int)}
}

// Use changes the bounds. Connections over them stay.
func (l *Limiter) Use(total, perSource int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total, l.each = total, perSource
}

// Enter counts a connection, unless there are as many as may be. Whoever
// entered leaves, with the same address.
func (l *Limiter) Enter(a netip.Addr) bool {
	a = source(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total > 0 && l.now >= l.total || l.each > 0 && l.sources[a] >= l.each {
		return false
	}
	l.now++
	l.sources[a]++
	return true
}

// Leave ends what Enter counted.
func (l *Limiter) Leave(a netip.Addr) {
	a = source(a)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now--
	if l.sources[a]--; l.sources[a] <= 0 {
		delete(l.sources, a)
	}
}

// Now is how many connections there are.
func (l *Limiter) Now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// source is whom a connection is counted for. A client of IPv6 has a /64 to
// choose addresses from.
func source(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}
