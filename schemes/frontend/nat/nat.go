// Package nat leads users by the kernel's own address translation: an nftables
// table for each service translates what comes to its address to a server of
// the active site, and refuses what belongs to another one. Linux 5.9 or later,
// root, and forwarding switched on (Forwarding).
package nat

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// Config says what is translated.
type Config struct {
	// Table is what the tables' names begin with, the service's follows;
	// "draas_nat_" if empty.
	Table    string
	Services map[draas.ServiceID]Service
}

// Service is one service's addresses.
type Service struct {
	// Listen is where users reach it: addresses of this machine, or ones that
	// are routed to it. The servers have to be of the same family.
	Listen []netip.AddrPort
	Proto  string // tcp (zero) or udp
	// Masquerade has the servers see this machine's address instead of the
	// users', so that answers come back by here whatever their routes say.
	Masquerade bool
	// Source is the address that they see, where it is to be a fixed one for
	// its family.
	Source []netip.Addr
	// Affinity leads one user's address to one server, as long as the servers
	// stay the same; else each connection is led to any of them.
	Affinity bool
}

// Driver drives the kernel of the network namespace that it runs in.
type Driver struct {
	cfg Config

	mu sync.Mutex
	// conn stays open: closing a netfilter socket waits for the kernel to have
	// cleaned up after earlier batches, 20 ms and more.
	conn *nftables.Conn
	raw  *netlink.Conn
	led  map[draas.ServiceID]installed
}

// installed is what was last written of a service.
type installed struct {
	to      frontend.Leading
	servers []netip.AddrPort
	// prints are the tables as the kernel listed them right afterwards.
	prints map[string]string
}

// tableName is what nft's own scanner can read back as a name.
var tableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]{0,127}$`)

// New checks the configuration. Nothing is written before the first Lead.
func New(cfg Config) (*Driver, error) {
	if cfg.Table == "" {
		cfg.Table = "draas_nat_"
	}
	for _, id := range slices.Sorted(maps.Keys(cfg.Services)) {
		s := cfg.Services[id]
		fail := func(format string, a ...any) (*Driver, error) {
			return nil, fmt.Errorf("nat: service %s: "+format, append([]any{id}, a...)...)
		}
		if !tableName.MatchString(cfg.Table + string(id)) {
			return fail("%q cannot be the name of a table", cfg.Table+string(id))
		}
		if _, err := s.proto(); err != nil {
			return fail("%w", err)
		}
		if len(s.Listen) == 0 {
			return fail("no address to listen on")
		}
		for _, l := range s.Listen {
			if !l.IsValid() || l.Port() == 0 || l.Addr().IsUnspecified() || l.Addr().Zone() != "" || l.Addr().Is4In6() {
				return fail("cannot listen on %s: it takes an address and a port", l)
			}
		}
		if s.Masquerade && len(s.Source) > 0 {
			return fail("both masqueraded and with a source of its own")
		}
	}
	return &Driver{cfg: cfg, led: make(map[draas.ServiceID]installed)}, nil
}

func (s Service) proto() (byte, error) {
	switch s.Proto {
	case "", "tcp":
		return unix.IPPROTO_TCP, nil
	case "udp":
		return unix.IPPROTO_UDP, nil
	}
	return 0, fmt.Errorf("proto %q is none of tcp, udp", s.Proto)
}

// Forwarding fails when the kernel does not forward for a family that a
// service listens in: then only users on this machine itself are led.
func (d *Driver) Forwarding() error {
	for _, s := range d.cfg.Services {
		for _, l := range s.Listen {
			path := "/proc/sys/net/ipv4/ip_forward"
			if l.Addr().Is6() {
				path = "/proc/sys/net/ipv6/conf/all/forwarding"
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("read whether the kernel forwards: %w", err)
			}
			if strings.TrimSpace(string(b)) == "0" {
				return fmt.Errorf("the kernel does not forward what it translates: %s is 0", path)
			}
		}
	}
	return nil
}

// Close lets go of the driver's socket. The tables stay.
func (d *Driver) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hangUp()
}

func (d *Driver) hangUp() error {
	var err error
	if d.conn != nil {
		err = d.conn.CloseLasting()
	}
	if d.raw != nil {
		err = errors.Join(err, d.raw.Close())
	}
	d.conn, d.raw = nil, nil
	return err
}

// ask calls do with the open connection, which a failure ends: an answer that
// was left unread would be taken for the next one's.
func (d *Driver) ask(do func(*nftables.Conn) error) error {
	if d.conn == nil {
		conn, err := nftables.New(nftables.AsLasting())
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		d.conn = conn
	}
	if d.raw == nil {
		raw, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		d.raw = raw
	}
	err := do(d.conn)
	if err != nil {
		_ = d.hangUp() // nothing is under way
	}
	return err
}

// route is what a service's tables are to do.
func (d *Driver) route(svc *frontend.Spec, to frontend.Leading) (*route, error) {
	s, ok := d.cfg.Services[svc.Service]
	if !ok {
		return nil, fmt.Errorf("no address is given for service %s", svc.Service)
	}
	proto, err := s.proto()
	if err != nil {
		return nil, err
	}
	r := &route{Service: s, table: d.cfg.Table + string(svc.Service), proto: proto, lead: to.Site != "" && !to.Draining}
	if r.servers, err = servers(svc, to.Site); err != nil {
		return nil, err
	}
	for _, f := range r.families() {
		if to.Site != "" && len(r.of(f)) == 0 {
			return nil, fmt.Errorf("service %s has no server of site %s for %s", svc.Service, to.Site, f.name)
		}
	}
	return r, nil
}

func servers(svc *frontend.Spec, site draas.SiteID) ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	for _, s := range svc.Sites[site] {
		a, err := netip.ParseAddrPort(s.Address)
		if err != nil {
			return nil, fmt.Errorf("server of site %s: %w", site, err)
		}
		all = append(all, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	return all, nil
}

// Lead writes the service's tables in one batch, with no moment in between, and
// has the kernel forget the flows to other sites. From the batch on it lets no
// packet of theirs through.
func (d *Driver) Lead(ctx context.Context, svc *frontend.Spec, to frontend.Leading) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.route(svc, to)
	if err != nil {
		return err
	}
	was, ok := d.led[svc.Service]
	if ok = ok && was.to == to && slices.Equal(was.servers, r.servers); ok {
		if ok, err = d.stands(r, was); err != nil {
			return err
		}
	}
	if !ok {
		delete(d.led, svc.Service)
		if err := d.ask(func(c *nftables.Conn) error {
			r.install(c)
			return c.Flush()
		}); err != nil {
			return fmt.Errorf("write rules: %w", err)
		}
		prints, err := d.fingerprint(r)
		if err != nil {
			return fmt.Errorf("read rules back: %w", err)
		}
		d.led[svc.Service] = installed{to, r.servers, prints}
	}
	return forget(ctx, r)
}

// stands reports whether the tables are as they were written.
func (d *Driver) stands(r *route, was installed) (bool, error) {
	// Once more before it is said that they are not: a list that is made while
	// others change their tables may have gaps.
	for range 2 {
		prints, err := d.fingerprint(r)
		if err != nil {
			return false, fmt.Errorf("list rules: %w", err)
		}
		if maps.Equal(prints, was.prints) {
			return true, nil
		}
	}
	return false, nil
}

func (d *Driver) fingerprint(r *route) (prints map[string]string, err error) {
	// Once more after a failure: a table may have gone while it was listed.
	for range 2 {
		err = d.ask(func(c *nftables.Conn) error {
			prints, err = r.fingerprint(c, d.raw)
			return err
		})
		if err == nil {
			break
		}
	}
	return prints, err
}

// See lists the service's tables.
func (d *Driver) See(_ context.Context, svc *frontend.Spec) (frontend.Leading, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was, ok := d.led[svc.Service]
	if !ok {
		return frontend.Leading{}, errors.New("nothing was written yet")
	}
	r, err := d.route(svc, was.to)
	if err != nil {
		return frontend.Leading{}, err
	}
	stands, err := d.stands(r, was)
	if err != nil {
		return frontend.Leading{}, err
	}
	if !stands {
		return frontend.Leading{}, fmt.Errorf("%w: the rules of table %s", frontend.ErrTampered, r.table)
	}
	return was.to, nil
}

// Count counts the connections to a site. Those of UDP have no end, and do not
// count.
func (d *Driver) Count(ctx context.Context, svc *frontend.Spec, site draas.SiteID) (int64, error) {
	r, err := d.route(svc, frontend.Leading{Site: site})
	if err != nil {
		return 0, err
	}
	return count(ctx, r)
}

// Remove takes the service's tables away: nothing is translated or refused any
// more. It is for uninstalling.
func (d *Driver) Remove(svc *frontend.Spec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.route(svc, frontend.Leading{})
	if err != nil {
		return err
	}
	delete(d.led, svc.Service)
	if err := d.ask(func(c *nftables.Conn) error {
		for _, f := range r.families() {
			r.clear(c, f)
		}
		return c.Flush()
	}); err != nil {
		return fmt.Errorf("remove rules: %w", err)
	}
	return nil
}
