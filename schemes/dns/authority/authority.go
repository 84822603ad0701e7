// Package authority is the embedded authoritative DNS server. It answers for
// delegated zones from decisions that are published to it: static data comes
// from the configuration, the address of each service from the site that the
// replicated log made active.
//
// Answers are packed when a decision is published, and swapped at once: a
// query costs a look-up, a copy and the patching of its id, name and EDNS.
package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// Config describes one authority.
type Config struct {
	Zones []Zone
	// Clock reads the machine's clocks; it is read once for each answer that
	// depends on a decision.
	Clock func() draas.Reading
	Log   *slog.Logger
	// Workers answer UDP: one always, the others when many queries are waiting.
	// Default: one for each processor, at most 4.
	Workers int
	// MaxConns bounds the TCP connections; when one more comes, the one that
	// is idle the longest is closed. Default 256.
	MaxConns int
	// IdleTimeout bounds how long a connection may take for its next whole
	// query, and for reading its answers. Default 10 s (RFC 7766, section
	// 6.2.3, asks for a few seconds).
	IdleTimeout time.Duration
	// MaxTransfers bounds the zone transfers at a time; one more is answered
	// SERVFAIL, and the secondary comes back. Default 8.
	MaxTransfers int
}

// View is what the replicated log says, as this member has applied it.
type View struct {
	// Services holds the latest activation of each service; it stays while a
	// move is under way. A site may be left out when only the token is
	// known: the last decision is answered on. A service that is missing
	// keeps what it had: unknown is not empty.
	Services map[draas.ServiceID]dns.Decision
	// InTouch says that this member has applied the log up to what the
	// quorum had committed at the reading At. Only such a view makes a
	// restarted member answer for its services.
	InTouch bool
	At      draas.Reading
}

// Authority answers DNS queries. Its methods may be called from several
// goroutines.
type Authority struct {
	cfg   Config
	log   *slog.Logger
	stats counters

	table atomic.Pointer[table]         // nil until the first publication
	touch atomic.Pointer[draas.Reading] // nil until the first one in touch
	stale atomic.Bool                   // being out of touch was logged
	// leases bound the answers that lead to this member's own site.
	leases atomic.Pointer[map[draas.ServiceID]draas.Deadline]

	transfers chan struct{} // a token for each that runs
	upkeep    chan struct{} // held by whoever does what goes on by itself

	mu       sync.Mutex
	told     map[tellKey]*told // what secondaries were told
	layout   *layout
	decided  map[draas.ServiceID]dns.Decision  // answered now
	seen     map[draas.ServiceID]runbook.Token // highest token published
	refusals map[string]string                 // name to reason, as logged
	changed  chan struct{}                     // closed at each publication
}

// New validates the configuration and returns an authority that answers
// SERVFAIL until a view is published.
func New(cfg Config) (*Authority, error) {
	if cfg.Workers == 0 {
		cfg.Workers = min(runtime.GOMAXPROCS(0), 4)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 256
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = 10 * time.Second
	}
	if cfg.MaxTransfers == 0 {
		cfg.MaxTransfers = 8
	}
	a := &Authority{
		transfers: make(chan struct{}, max(cfg.MaxTransfers, 0)), upkeep: make(chan struct{}, 1), told: make(map[tellKey]*told),
		cfg: cfg, log: cfg.Log,
		decided: make(map[draas.ServiceID]dns.Decision), seen: make(map[draas.ServiceID]runbook.Token),
		refusals: make(map[string]string), changed: make(chan struct{}),
	}
	var errs []error
	if cfg.Clock == nil || cfg.Log == nil || len(cfg.Zones) == 0 {
		errs = append(errs, errors.New("want Clock, Log and at least one zone"))
	}
	if cfg.Workers < 0 || cfg.MaxConns < 0 || cfg.IdleTimeout < 0 || cfg.MaxTransfers < 0 {
		errs = append(errs, errors.New("negative Workers, MaxConns, MaxTransfers or IdleTimeout"))
	}
	var err error
	a.layout, err = newZones(cfg.Zones)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, fmt.Errorf("dns authority: %w", err)
	}
	a.warnOfGaps()
	return a, nil
}

// newZones validates zones each by itself and against each other, and packs
// all that they say.
func newZones(configs []Zone) (*layout, error) {
	var zones []*zone
	var errs []error
	seen := make(map[string]bool)
	for _, zc := range configs {
		z, err := newZone(zc)
		if err != nil {
			errs = append(errs, fmt.Errorf("zone %s: %w", zc.Name, err))
			continue
		}
		if seen[z.name] {
			errs = append(errs, fmt.Errorf("zone %s: given twice", z.name))
		}
		seen[z.name] = true
		zones = append(zones, z)
	}
	if err := errors.Join(append(errs, misplaced(zones))...); err != nil {
		return nil, err
	}
	return newLayout(zones)
}

// Compiled is zones that were found valid, packed. With 100,000 records that
// takes a second, which whoever waits for decisions must not spend.
type Compiled struct{ layout *layout }

// Compile validates and packs zones for Use.
func Compile(zones []Zone) (*Compiled, error) {
	l, err := newZones(zones)
	if err != nil {
		return nil, fmt.Errorf("dns authority: %w", err)
	}
	return &Compiled{l}, nil
}

// CheckZones reports whether SetZones would take these zones.
func CheckZones(zones []Zone) error {
	_, err := Compile(zones)
	return err
}

// SetZones is Compile and Use.
func (a *Authority) SetZones(zones []Zone) error {
	c, err := Compile(zones)
	if err != nil {
		return err
	}
	return a.Use(c)
}

// Use replaces the zones while queries are answered: what was published before
// is answered from the new ones at once. If it fails nothing changes.
func (a *Authority) Use(c *Compiled) error {
	l := c.layout
	a.mu.Lock()
	defer a.mu.Unlock()
	if before := a.table.Load(); before != nil {
		t, err := newTable(l, nil, a.decided, l.serviceIDs(), wall(a.cfg.Clock()))
		if err == nil {
			err = t.carry(before)
		}
		if err != nil {
			return fmt.Errorf("dns authority: %w", err)
		}
		a.table.Store(t)
		a.logRefusals(t.refusals())
	}
	a.layout = l
	a.warnOfGaps()
	a.wake()
	return nil
}

// misplaced reports services of a zone that lie in another zone below it.
func misplaced(zones []*zone) error {
	var errs []error
	for _, z := range zones {
		for _, n := range z.services {
			for _, o := range zones {
				if o != z && mdns.IsSubDomain(z.name, o.name) && mdns.IsSubDomain(o.name, n.Name) {
					errs = append(errs, fmt.Errorf("zone %s: service %s: %s lies in zone %s", z.name, n.Service, n.Name, o.name))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// warnOfGaps says which names will fail for a type because one site has it
// and another has not.
func (a *Authority) warnOfGaps() {
	for _, z := range a.layout.zones {
		for _, n := range z.zone.services {
			for _, site := range slices.Sorted(maps.Keys(n.Targets)) {
				for qtype := range missingTypes(n, site) {
					a.log.Warn("dns name has a record type at one site only: while the other site is active it is answered SERVFAIL",
						"name", n.Name, "service", n.Service, "site", site, "type", typeName(qtype))
				}
			}
		}
	}
}

// Publish applies a view and answers from it at once. A view that holds an
// older token for any service than one that was published is refused whole,
// with draas.ErrStaleEpoch, and so is one that gives an answered token to
// another site: the answers stay as they were.
func (a *Authority) Publish(v View) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	decided := maps.Clone(a.decided)
	var changed []draas.ServiceID
	for _, id := range slices.Sorted(maps.Keys(v.Services)) {
		d := v.Services[id]
		if seen := a.seen[id]; d.Token.Compare(seen) < 0 {
			return fmt.Errorf("publish %s at %v: %v was published: %w", id, d.Token, seen, draas.ErrStaleEpoch)
		}
		if d.Site == "" || d.Token.Epoch == 0 {
			continue
		}
		if old := decided[id]; old.Token == d.Token && old.Site != d.Site {
			return fmt.Errorf("publish %s at %v: given to %s, and to %s before", id, d.Token, d.Site, old.Site)
		}
		if decided[id] != d {
			decided[id] = d
			changed = append(changed, id)
		}
	}
	before := a.table.Load()
	if before == nil {
		changed = a.layout.serviceIDs()
	}
	if before == nil || len(changed) > 0 {
		t, err := newTable(a.layout, before, decided, changed, wall(a.cfg.Clock()))
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		a.table.Store(t)
		a.logRefusals(t.refusals())
	}
	a.decided = decided
	news := before == nil || len(changed) > 0
	for id, d := range v.Services {
		news = news || a.seen[id] != d.Token
		a.seen[id] = d.Token
	}
	if v.InTouch {
		news = news || a.touch.Load() == nil
		a.touched(v.At)
	}
	if news {
		a.wake()
	}
	return nil
}

// wake tells those who wait that something changed. a.mu is held.
func (a *Authority) wake() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// Touch notes that this member was still in touch with the quorum, with
// nothing left to apply, at the reading. It does nothing before the first
// view in touch: a member that restarted has to apply the log first.
func (a *Authority) Touch(at draas.Reading) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.touch.Load() != nil {
		a.touched(at)
	}
}

func (a *Authority) touched(at draas.Reading) {
	if last := a.touch.Load(); last != nil && at.Boot < last.Boot {
		return // overtaken by a later one
	}
	a.touch.Store(&at)
	if a.stale.CompareAndSwap(true, false) {
		a.log.Info("dns authority is in touch with the quorum again")
	}
}

// fresh reports whether answers that depend on a decision may be given for
// the stale bound at the reading.
func (a *Authority) fresh(bound time.Duration, now draas.Reading) bool {
	last := a.touch.Load()
	if last == nil {
		return false
	}
	if !draas.DeadlineAt(*last, bound).Passed(now) {
		return true
	}
	if a.stale.CompareAndSwap(false, true) {
		a.log.Warn("dns authority is out of touch with the quorum: services are answered SERVFAIL", "stale", bound)
	}
	return false
}

// logRefusals logs each name that cannot be answered once per reason.
func (a *Authority) logRefusals(now map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if a.refusals[name] != now[name] {
			a.log.Warn("dns name is answered SERVFAIL", "name", name, "reason", now[name])
		}
	}
	a.refusals = now
}

// Decided is the decision that is answered for the service now, if any.
func (a *Authority) Decided(id draas.ServiceID) (dns.Decision, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok := a.decided[id]
	return d, ok
}

// WaitFor returns the service's decision as soon as one at or above the token
// has been published, or the context's error. Its site is empty when a later
// token is known, and its decision is not.
func (a *Authority) WaitFor(ctx context.Context, id draas.ServiceID, token runbook.Token) (dns.Decision, error) {
	for { // until published, or the context ends
		a.mu.Lock()
		d, seen, changed := a.decided[id], a.seen[id], a.changed
		a.mu.Unlock()
		if d.Token.Compare(token) >= 0 && d.Site != "" {
			return d, nil
		}
		if seen.Compare(token) > 0 {
			return dns.Decision{Token: seen}, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return dns.Decision{}, ctx.Err()
		}
	}
}
