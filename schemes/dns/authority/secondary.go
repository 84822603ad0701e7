package authority

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

// Secondary is another server that serves copies of a zone.
type Secondary struct {
	// Address is where it is told of changes; the zero value tells nobody.
	Address netip.AddrPort
	// From are the addresses that it may transfer the zone from. By default
	// these are all if it has a key, and its own if it has none.
	From []netip.Prefix
	// Key is required of it, and signs what it gets and is told. The zero Key
	// asks for none.
	Key Key
}

// secondary is a validated Secondary.
type secondary struct {
	address netip.AddrPort
	from    []netip.Prefix
	key     *tsigKey // nil for none
}

// allows reports whether who asks from the address, and signs with the key (nil
// for none), is this secondary.
func (s *secondary) allows(from netip.Addr, key *tsigKey) bool {
	if s.key != nil && s.key != key {
		return false
	}
	from = from.Unmap()
	return len(s.from) == 0 || slices.ContainsFunc(s.from, func(p netip.Prefix) bool { return p.Contains(from) })
}

// addSecondaries validates the secondaries of a zone.
func (z *zone) addSecondaries(list []Secondary) (errs []error) {
	for i, c := range list {
		s := &secondary{address: netip.AddrPortFrom(c.Address.Addr().Unmap(), c.Address.Port())}
		if c.Key != (Key{}) {
			key, err := newTSIGKey(c.Key)
			if err != nil {
				errs = append(errs, fmt.Errorf("secondary %d: %w", i+1, err))
				continue
			}
			s.key = key
		}
		for _, p := range c.From {
			if !p.IsValid() {
				errs = append(errs, fmt.Errorf("secondary %d: not an address prefix", i+1))
				continue
			}
			s.from = append(s.from, p.Masked())
		}
		if a := s.address.Addr(); a.IsValid() {
			if s.address.Port() == 0 {
				errs = append(errs, fmt.Errorf("secondary %s: no port", a))
			}
			if s.key == nil && len(s.from) == 0 {
				s.from = append(s.from, netip.PrefixFrom(a, a.BitLen()))
			}
		}
		if len(s.from) == 0 && s.key == nil {
			errs = append(errs, fmt.Errorf("secondary %d: want an address, prefixes or a key: without, everybody may have the zone", i+1))
		}
		z.secondaries = append(z.secondaries, s)
	}
	return errs
}

// gaps reports services that a secondary would answer "no such type" for while
// the site that has none of a type is active: a zone cannot say SERVFAIL.
func (z *zone) gaps() error {
	if len(z.secondaries) == 0 {
		return nil
	}
	var errs []error
	for _, n := range z.services {
		for site := range n.Targets {
			for qtype := range missingTypes(n, site) {
				errs = append(errs, fmt.Errorf("service %s: site %s has no %s and another site has: a secondary would tell resolvers that there is none while %s is active; "+
					"give it the same types at all sites, or the zone no secondaries", n.Service, site, typeName(qtype), site))
			}
		}
	}
	return errors.Join(errs...)
}

// handed says why a copy of the zone cannot be handed out now, if so. It is
// what this member would answer itself: nothing beyond the stale bound or the
// permit. A service that was never activated is left out of the copy, unless
// none of the zone ever was: then the log is new, and whoever has a copy knows
// more.
func (a *Authority) handed(t *table, zone int, now draas.Reading) (reason string) {
	z := t.layout.zones[zone].zone
	switch {
	case a.touch.Load() == nil:
		return notReady
	case !a.fresh(z.stale, now):
		return outdated
	}
	some := len(z.services) == 0
	for _, n := range z.services {
		for _, e := range t.services[n.Service] {
			if e.node.zone != zone {
				continue
			}
			if !a.leased(n.Service, now) {
				return lapsed
			}
			undecided := t.data[e.epoch.moving].reason != ""
			if reason := t.data[e.node.moving].reason; reason != "" && !undecided {
				return reason
			}
			some = some || !undecided
		}
	}
	if !some {
		return "no service of the zone was ever activated"
	}
	return ""
}

// change is the difference between two states of a zone.
type change struct {
	from, to     uint32
	before, soa  *set
	deleted, add []owned
}

// owned is a record set with its owner.
type owned struct {
	owner string // wire form
	*set
}

// Bounds of what is kept of a zone's changes, for IXFR.
const (
	maxChanges    = 1000
	maxChangeSets = 20_000
)

// size is how many sets a change holds.
func (c *change) size() int { return len(c.deleted) + len(c.add) + 2 }

// remember returns the journal with a change added and old ones dropped. The
// journal of another table is not touched.
func remember(journal []*change, c *change) []*change {
	journal = append(slices.Clone(journal), c)
	sets, keep := 0, len(journal)
	for keep > 0 && len(journal)-keep < maxChanges {
		if sets += journal[keep-1].size(); sets > maxChangeSets {
			break
		}
		keep--
	}
	return journal[keep:]
}

// since is the part of the journal that leads from a serial to the present one.
func since(journal []*change, serial uint32) []*change {
	for i, c := range journal {
		if c.from == serial {
			return journal[i:]
		}
	}
	return nil
}

// differ adds what is different between two states of a name.
func (c *change) differ(owner string, before, now []*set) {
	for _, s := range before {
		if n := pick(now, s.rtype); n == nil || string(n.wire) != string(s.wire) {
			c.deleted = append(c.deleted, owned{owner, s})
		}
	}
	for _, s := range now {
		if b := pick(before, s.rtype); b == nil || string(b.wire) != string(s.wire) {
			c.add = append(c.add, owned{owner, s})
		}
	}
}

// newer reports whether a serial comes after another (RFC 1982, section 3.2).
func newer(a, b uint32) bool { return a != b && int32(a-b) > 0 }

// CheckChange reports zones that have secondaries and another content than
// before, and no greater revision: the secondaries would never see it.
func CheckChange(before, after []Zone) error {
	old := make(map[string]*zone)
	for _, c := range before {
		if z, err := newZone(c); err == nil {
			old[z.name] = z
		}
	}
	var errs []error
	for _, c := range after {
		z, err := newZone(c)
		if err != nil {
			return fmt.Errorf("dns authority: zone %s: %w", c.Name, err)
		}
		if b := old[z.name]; b != nil {
			errs = append(errs, z.follows(b))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("dns authority: %w", err)
	}
	return nil
}

// follows reports whether the zone's revision says that it is another than
// before.
func (z *zone) follows(before *zone) error {
	if len(z.secondaries) == 0 || z.digest == before.digest || int16(z.revision-before.revision) > 0 {
		return nil
	}
	return fmt.Errorf("zone %s: it changed and its revision did not grow: secondaries would keep the old one; set revision = %d", z.name, before.revision+1)
}

// carry takes over what is remembered of the zones before, and refuses zones
// that secondaries would not take for newer.
func (t *table) carry(before *table) error {
	old := make(map[string]int)
	for i, z := range before.layout.zones {
		old[z.zone.name] = i
	}
	for i, l := range t.layout.zones {
		j, ok := old[l.zone.name]
		if !ok {
			continue
		}
		was, b := before.layout.zones[j].zone, before.zones[j]
		if l.zone.digest == was.digest && t.zones[i].serial == b.serial {
			t.zones[i].journal = b.journal
			continue
		}
		if err := l.zone.follows(was); err != nil {
			return err
		}
		if n := t.zones[i].serial; len(l.zone.secondaries) > 0 && !newer(n, b.serial) {
			return fmt.Errorf("zone %s: its serial would go from %d back to %d, since services were taken out: set revision = %d",
				l.zone.name, b.serial, n, uint16(l.zone.revision+uint16((b.serial-n)/revisionWeight)+1))
		}
	}
	return nil
}

// Values of the SOA that secondaries read. Without any they are RIPE-203's.
const (
	soaRefresh = 24 * time.Hour
	soaRetry   = 2 * time.Hour
	soaExpire  = 1000 * time.Hour
)

// Defaults of a zone with secondaries. They are told of changes: refresh is for
// when they could not be. A copy that nobody in touch with the quorum has
// confirmed for expire is served no longer.
const (
	defaultRefresh = time.Minute
	defaultExpire  = 24 * time.Hour
)

// times are the SOA's refresh, retry and expire.
func (c *Zone) times() (refresh, retry, expire time.Duration, err error) {
	if len(c.Secondaries) == 0 {
		return soaRefresh, soaRetry, soaExpire, nil
	}
	setDefault(&c.Refresh, defaultRefresh)
	setDefault(&c.Expire, defaultExpire)
	retry = max(c.Refresh/4, time.Second).Truncate(time.Second)
	if err := errors.Join(dns.ValidTTL(c.Refresh), dns.ValidTTL(c.Expire)); err != nil {
		return 0, 0, 0, err
	}
	if c.Expire < c.Refresh+retry {
		return 0, 0, 0, fmt.Errorf("expire %v, want at least refresh and a retry: %v", c.Expire, c.Refresh+retry)
	}
	return c.Refresh, retry, c.Expire, nil
}
