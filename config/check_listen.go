package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/draasd/draas"
)

// entrance is one address at which a frontend listens, for one service or for
// several that it tells apart by their names.
type entrance struct {
	at    netip.AddrPort
	first *Service
	names map[string]draas.ServiceID // "" is all that nobody names
}

// entrances are those of one frontend.
type entrances struct {
	of   Frontend
	at   map[netip.AddrPort]*entrance
	port map[uint16]*entrance // the first with a port
	all  map[uint16]*entrance // one of every address, by port
}

// listensApart refuses services that need the same address of a frontend and
// cannot share it. Of two that clash the later one is reported.
func (d *decoder) listensApart(c *Config) {
	if !d.clean("frontend") {
		return
	}
	var services []*Service
	for i := range c.Services {
		if c.Services[i].Fronted() {
			services = append(services, &c.Services[i])
		}
	}
	slices.SortStableFunc(services, func(a, b *Service) int {
		return d.lines.line(join("service", string(a.ID))) - d.lines.line(join("service", string(b.ID)))
	})
	own := c.fenceListeners()
	for _, f := range c.Frontends {
		if f.Kind != FrontendEmbedded && f.Kind != FrontendNAT {
			continue
		}
		e := &entrances{of: f, at: map[netip.AddrPort]*entrance{}, port: map[uint16]*entrance{}, all: map[uint16]*entrance{}}
		for _, s := range services {
			if !slices.Contains(s.Frontend.Use, f.ID) {
				continue
			}
			for _, l := range s.Frontend.listensOf(c.SiteOf(f.ID)) {
				path := join("service", string(s.ID)) + ".frontend." + l.path
				if d.bad[path] {
					continue // at another frontend
				}
				if by := c.taken(f, l.at, own); by != "" {
					d.report(path, fmt.Sprintf("%s is taken by %s", l.at, by), "give each its own port or address")
					continue
				}
				d.enter(e, s, l.at, path)
			}
		}
	}
}

// enter opens an address for a service.
func (d *decoder) enter(e *entrances, s *Service, l netip.AddrPort, path string) {
	if open := e.at[l]; open != nil {
		d.share(e.of, open, s, path)
		return
	}
	other := e.all[l.Port()]
	if other == nil && l.Addr().IsUnspecified() {
		other = e.port[l.Port()]
	}
	if other != nil {
		d.report(path, fmt.Sprintf("%s meets %s, where the frontend %s listens for %s", l, other.at, e.of.ID, other.first.ID), "write the same address for both, or another port")
		return
	}
	open := &entrance{at: l, first: s, names: map[string]draas.ServiceID{}}
	for _, n := range orAll(s.Frontend.Names) {
		open.names[n] = s.ID
	}
	e.at[l] = open
	if e.port[l.Port()] == nil {
		e.port[l.Port()] = open
	}
	if l.Addr().IsUnspecified() {
		e.all[l.Port()] = open
	}
}

// orAll stands for all names when there are none.
func orAll(names []string) []string {
	if len(names) == 0 {
		return []string{""}
	}
	return names
}

// share checks that another service can come in by an entrance.
func (d *decoder) share(f Frontend, e *entrance, s *Service, path string) {
	at := fmt.Sprintf("%s serves %s at the same address", f.ID, e.first.ID)
	if f.Kind == FrontendNAT {
		d.report(path, at+", and a frontend of kind nat knows no names", "give each its own port or address")
		return
	}
	if key, one, other := unlike(&e.first.Frontend, &s.Frontend); key != "" {
		d.report(path, fmt.Sprintf("%s, and they differ in %s (%s, and here %s), which counts before it is known whom a connection is for", at, key, one, other), "write the same for both, or give each its own port or address")
		return
	}
	for _, n := range orAll(s.Frontend.Names) {
		first, taken := e.names[n]
		switch {
		case taken && n == "" && first != s.ID:
			d.report(path, at+", and neither says which names are its own", `give all but one of them names, such as names = ["shop.example.org"]`)
			return
		case taken && first != s.ID:
			d.report(path, fmt.Sprintf("%s, and both have the name %s", at, n), "let one of them have it")
			return
		}
		e.names[n] = s.ID
	}
}

// unlike names a key that two services which share an entrance must have alike:
// it counts before it is known which of them a connection is for.
func unlike(a, b *ServiceFrontend) (key, one, other string) {
	yes := func(v bool) string {
		if v {
			return "given"
		}
		return "none"
	}
	for _, k := range []struct{ key, one, other string }{
		{"mode", a.Mode, b.Mode},
		{"certificate", yes(a.Certificate != ""), yes(b.Certificate != "")},
		{"connections", strconv.Itoa(a.Connections), strconv.Itoa(b.Connections)},
		{"per_source", strconv.Itoa(a.PerSource), strconv.Itoa(b.PerSource)},
		{"sources", netsText(a.Sources), netsText(b.Sources)},
		{"proxy_from", netsText(a.ProxyFrom), netsText(b.ProxyFrom)},
		{"connect_timeout", short(a.ConnectTimeout), short(b.ConnectTimeout)},
		{"silent", short(a.Silent), short(b.Silent)},
		{"idle_timeout", short(a.IdleTimeout), short(b.IdleTimeout)},
	} {
		if k.one != k.other {
			return k.key, k.one, k.other
		}
	}
	return "", "", ""
}

// netsText prints networks, whatever their order.
func netsText(nets []netip.Prefix) string {
	if len(nets) == 0 {
		return "none"
	}
	nets = slices.Clone(nets)
	slices.SortFunc(nets, netip.Prefix.Compare)
	return fmt.Sprint(nets)
}

// meet reports whether two addresses with the same port cannot both be listened
// at on one machine.
func meet(a, b netip.Addr) bool { return a == b || a.IsUnspecified() || b.IsUnspecified() }

// taken says which listener of draasd or of a guard already has an address: the
// same one anywhere, and any that meets it in the member that runs the frontend.
func (c *Config) taken(f Frontend, l netip.AddrPort, own []listener) string {
	for _, o := range own {
		same := o.addr == l && !l.Addr().IsUnspecified() && !l.Addr().IsLoopback()
		if same || o.member == f.Member && o.addr.Port() == l.Port() && meet(o.addr.Addr(), l.Addr()) {
			return o.path
		}
	}
	return ""
}
