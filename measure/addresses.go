package measure

import (
	"context"
	"net/netip"
	"time"
)

// UnknownTTL is the time to live of an address that nobody gave one.
const UnknownTTL time.Duration = -1 << 63

// addressBook decides how often a kind of client looks a name up. With the
// addresses it says how much of the record's time to live is left; less than
// nothing when the client keeps it for longer than it may.
type addressBook interface {
	addresses(ctx context.Context) (addrs []netip.Addr, left time.Duration, err error)
}

const (
	forever = time.Duration(1<<63 - 1)
	// browserFloor is the least for which Chromium keeps an answer: constants
	// kMinimumTTLSeconds and, for the system's resolver, kCacheEntryTTLSeconds
	// of net/dns/host_resolver_manager_job.cc.
	browserFloor = time.Minute
	// javaNegative is for how long a JVM keeps that a name did not resolve:
	// the default of networkaddress.cache.negative.ttl.
	javaNegative = 10 * time.Second
)

// newBook is the address book of a kind of client for a host. An address
// needs no lookup. The first answer is kept for a share of its life only, as
// by a user who had looked up before the measurement began.
func newBook(kind Kind, r resolver, host string, share float64) addressBook {
	if a, err := netip.ParseAddr(host); err == nil {
		return literal{a.Unmap()}
	}
	book := &cached{resolver: r, host: host, lock: make(chan struct{}, 1), share: share,
		lifetime: func(time.Duration) time.Duration { return forever }}
	switch kind {
	case TTL:
		book.lifetime = func(ttl time.Duration) time.Duration { return ttl }
	case Browser:
		book.lifetime = func(ttl time.Duration) time.Duration { return max(ttl, browserFloor) }
	case JVM:
		book.negative = javaNegative
	case Pinned:
		book.first = true
	default:
		return uncached{resolver: r, host: host}
	}
	return book
}

type literal struct{ addr netip.Addr }

func (l literal) addresses(context.Context) ([]netip.Addr, time.Duration, error) {
	return []netip.Addr{l.addr}, UnknownTTL, nil
}

// uncached looks up every time.
type uncached struct {
	resolver resolver
	host     string
}

func (u uncached) addresses(ctx context.Context) ([]netip.Addr, time.Duration, error) {
	addrs, ttl, err := u.resolver.lookup(ctx, u.host)
	if err != nil {
		return nil, UnknownTTL, &lookupError{host: u.host, err: err}
	}
	return addrs, ttl, nil
}

// cached keeps what it looked up for its lifetime. One request looks up, the
// others wait for it within their own time.
type cached struct {
	resolver resolver
	host     string
	first    bool // keep to the first address
	lifetime func(ttl time.Duration) time.Duration
	negative time.Duration // how long a failure is kept
	share    float64       // of the first answer's life

	lock   chan struct{} // holds one element while locked
	addrs  []netip.Addr
	ttl    time.Duration // as it was answered
	until  time.Duration // of lifetime, counted from born
	born   time.Time
	filled bool
	failed error // kept until it is born+negative
}

func (c *cached) addresses(ctx context.Context) ([]netip.Addr, time.Duration, error) {
	select {
	case c.lock <- struct{}{}:
		defer func() { <-c.lock }()
	case <-ctx.Done():
		return nil, UnknownTTL, &lookupError{host: c.host, err: ctx.Err()}
	}
	age := time.Since(c.born)
	switch {
	case c.filled && age < c.until:
		return c.addrs, c.left(age), nil
	case c.failed != nil && age < c.negative:
		return nil, UnknownTTL, c.failed
	}
	// A record's life counts from when it was asked for.
	asked := time.Now()
	addrs, ttl, err := c.resolver.lookup(ctx, c.host)
	if err != nil {
		err = &lookupError{host: c.host, err: err}
		c.filled, c.failed = false, nil
		if ctx.Err() == nil { // the name server's word, not the user's patience
			c.failed, c.born = err, asked
		}
		return nil, UnknownTTL, err
	}
	if c.first {
		addrs = addrs[:1]
	}
	c.until = c.lifetime(ttl)
	if c.share > 0 && c.share < 1 && c.until != forever {
		c.until = time.Duration(float64(c.until) * c.share)
	}
	c.share = 1
	c.addrs, c.ttl, c.born, c.filled, c.failed = addrs, ttl, asked, true, nil
	return addrs, c.left(time.Since(asked)), nil
}

// left is what is left of the record's own time to live.
func (c *cached) left(age time.Duration) time.Duration {
	if c.ttl == UnknownTTL {
		return UnknownTTL
	}
	return c.ttl - age
}
