package measure

import (
	"context"
	"net/netip"
	"time"
)

// addressBook decides how often a kind of client looks a name up.
type addressBook interface {
	addresses(ctx context.Context) ([]netip.Addr, error)
}

// newBook is the address book of a kind of client for a host. An address
// needs no lookup.
func newBook(kind Kind, r resolver, host string) addressBook {
	if a, err := netip.ParseAddr(host); err == nil {
		return literal{a.Unmap()}
	}
	switch kind {
	case TTL:
		return &cached{resolver: r, host: host, lock: make(chan struct{}, 1), lifetime: func(ttl time.Duration) time.Duration { return ttl }}
	case Pinned:
		return &cached{resolver: r, host: host, lock: make(chan struct{}, 1), first: true,
			lifetime: func(time.Duration) time.Duration { return 1<<63 - 1 }}
	}
	return uncached{resolver: r, host: host}
}

type literal struct{ addr netip.Addr }

func (l literal) addresses(context.Context) ([]netip.Addr, error) { return []netip.Addr{l.addr}, nil }

// uncached looks up every time.
type uncached struct {
	resolver resolver
	host     string
}

func (u uncached) addresses(ctx context.Context) ([]netip.Addr, error) {
	addrs, _, err := u.resolver.lookup(ctx, u.host)
	if err != nil {
		return nil, &lookupError{host: u.host, err: err}
	}
	return addrs, nil
}

// cached keeps what it looked up for its lifetime. One request looks up, the
// others wait for it within their own time.
type cached struct {
	resolver resolver
	host     string
	first    bool // keep to the first address
	lifetime func(ttl time.Duration) time.Duration

	lock   chan struct{} // holds one element while locked
	addrs  []netip.Addr
	until  time.Duration // of lifetime, counted from born
	born   time.Time
	filled bool
}

func (c *cached) addresses(ctx context.Context) ([]netip.Addr, error) {
	select {
	case c.lock <- struct{}{}:
		defer func() { <-c.lock }()
	case <-ctx.Done():
		return nil, &lookupError{host: c.host, err: ctx.Err()}
	}
	if c.filled && time.Since(c.born) < c.until {
		return c.addrs, nil
	}
	// A record's life counts from when it was asked for.
	asked := time.Now()
	addrs, ttl, err := c.resolver.lookup(ctx, c.host)
	if err != nil {
		return nil, &lookupError{host: c.host, err: err}
	}
	if c.first {
		addrs = addrs[:1]
	}
	c.addrs, c.until, c.born, c.filled = addrs, c.lifetime(ttl), asked, true
	return addrs, nil
}
