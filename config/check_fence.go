package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/draasd/draas"
)

// fencing checks a service's fence against its kind.
func (d *decoder) fencing(c *Config, s *Service) {
	at, f := join("service", string(s.ID))+".fence", s.Fence
	if !d.clean(at + ".kind") {
		return
	}
	path, exec, kernel := []string{"path"}, []string{"exec"}, []string{"kernel"}
	d.onlyFor(at, "fence", string(f.Kind), map[string][]string{
		"margin": {"path", "exec", "systemd", "kernel"},
		"listen": path, "forward": path, "close": exec, "open": exec, "check": exec,
		"unit": {"systemd"}, "ports": kernel, "proto": kernel, "protect": kernel, "xdp": kernel,
	})
	if f.Kind == draas.FenceNone && d.has(at+".device") {
		d.report(at+".device", "nobody asks a device where the fence is \"none\"", `write kind = "device", or another kind for the site to stop by itself as well`)
	}
	d.deviceFence(c, s, at)
	if w := c.Watchdog.Timeout; slices.Contains([]draas.FenceKind{draas.FenceExec, draas.FenceSystemd}, f.Kind) && f.Margin < w && d.clean("watchdog") {
		d.report(at+".margin", fmt.Sprintf("is %s, and when the guard dies only the watchdog closes this fence, after %s", short(f.Margin), short(w)),
			fmt.Sprintf("give a margin of at least %s, or a watchdog.timeout of at most %s", short(w), short(f.Margin)))
	}
	switch f.Kind {
	case draas.FencePath:
		d.pathFence(c, s, at)
	case draas.FenceExec:
		d.need(at+".close", `write the command that stops serving and returns when it has, such as close = ["/usr/lib/shop/stop"]`)
		d.need(at+".open", `write the command that starts serving, such as open = ["/usr/lib/shop/start"]`)
		d.need(at+".check", "write the command that tells whether serving has stopped (exit 0 = closed, 1 = open), such as check = [\"/usr/lib/shop/is-stopped\"]")
	case draas.FenceSystemd:
		d.need(at+".unit", `name the unit to stop, such as unit = "shop.service"`)
	case draas.FenceKernel:
		d.need(at+".ports", "list the service's ports, such as ports = [80, 443]")
		d.kernelFence(c, s, at)
	}
}

func (d *decoder) pathFence(c *Config, s *Service, at string) {
	service := join("service", string(s.ID))
	if !d.clean(service+".address", service+".cname") {
		return // where the service is remains to be said
	}
	for _, site := range s.Sites() {
		listen, forward := join(at+".listen", string(site)), join(at+".forward", string(site))
		if !d.has(listen) {
			d.report(listen, "missing", fmt.Sprintf("write where the guard listens for users at %q, such as \"198.51.100.20:80\"", site))
		}
		if !d.has(forward) {
			d.report(forward, "missing", fmt.Sprintf("write where the backend behind the guard listens at %q, such as \"127.0.0.1:8081\"", site))
		}
		if l := s.Fence.Listen[site]; l != "" && l == s.Fence.Forward[site] {
			d.report(forward, "is the guard's own address", "write the backend's: it must not be reachable except through the guard")
		}
	}
	for _, table := range []string{"listen", "forward"} {
		m := s.Fence.Listen
		if table == "forward" {
			m = s.Fence.Forward
		}
		for _, site := range sortedKeys(m) {
			path := join(at+"."+table, string(site))
			if d.isSite(c, path, site) && !slices.Contains(s.Sites(), site) {
				d.report(path, fmt.Sprintf("the service is not at %q", site), "give the service an address there, or remove this")
			}
		}
	}
}

// deviceFence checks the devices that can switch a site off.
func (d *decoder) deviceFence(c *Config, s *Service, at string) {
	service := join("service", string(s.ID))
	for i := range s.Fence.Devices {
		v, path := &s.Fence.Devices[i], elem(at+".device", i)
		if v.Site != "" && d.isSite(c, path+".site", v.Site) && d.clean(service+".address", service+".cname") && !slices.Contains(s.Sites(), v.Site) {
			d.report(path+".site", fmt.Sprintf("the service is not at %q", v.Site), "give the service an address there, or remove this")
		}
		if v.Kind == "" {
			continue
		}
		exec, ipmi := []string{"exec"}, []string{"ipmi"}
		d.onlyFor(path, "device", string(v.Kind), map[string][]string{
			"off": exec, "status": exec, "address": ipmi, "user": ipmi, "password_file": ipmi, "cipher": ipmi,
		})
		switch v.Kind {
		case DeviceExec:
			d.need(path+".off", `write the command that switches it off, such as off = ["/usr/lib/draas/power", "off"]`)
			d.need(path+".status", `write the command that tells whether it is off (exit 0 = off, 1 = on), such as status = ["/usr/lib/draas/power", "status"]`)
		case DeviceIPMI:
			d.need(path+".address", `write the address of its management controller, such as address = "198.51.100.9"`)
			d.need(path+".user", `write the user there, such as user = "draas"`)
			d.need(path+".password_file", `name the file with the password, such as password_file = "/etc/draas/bmc.password"`)
		}
	}
	if s.Fence.Kind != draas.FenceDevice || !d.clean(service+".address", service+".cname", at+".device") {
		return
	}
	for _, site := range s.Sites() {
		if !slices.Contains(s.Fence.switchable(), site) {
			d.report(at+".device", fmt.Sprintf("nothing switches the service off at %q", site), fmt.Sprintf("begin with a line [[%s.device]] and site = %q", at, site))
		}
	}
}

// kernelFence refuses a fence that would shut draasd in as well.
func (d *decoder) kernelFence(c *Config, s *Service, at string) {
	shut := func(l listener) (port int, shuts bool) {
		if !slices.Contains(s.Sites(), l.member.Site()) || !l.udp && s.Fence.Proto == "udp" {
			return 0, false
		}
		port = slices.Index(s.Fence.Ports, l.addr.Port())
		if port < 0 || l.addr.Addr().IsLoopback() {
			return 0, false
		}
		return port, len(s.Fence.Protect) == 0 || l.addr.Addr().IsUnspecified() || slices.Contains(s.Fence.Protect, l.addr.Addr())
	}
	for _, l := range c.ownListeners() {
		if i, shuts := shut(l); shuts {
			d.report(elem(at+".ports", i), fmt.Sprintf("the fence would also close %s of draasd", l.path), "give protect with the service's addresses only, or give draasd another port or address")
		}
	}
	for _, f := range c.Frontends {
		if f.Member == "" || f.Kind != FrontendEmbedded && f.Kind != FrontendNAT {
			continue
		}
		for j := range c.Services {
			other := &c.Services[j]
			if !slices.Contains(other.Frontend.Use, f.ID) {
				continue
			}
			for _, l := range other.Frontend.ListensAt(c.SiteOf(f.ID)) {
				if i, shuts := shut(listener{member: f.Member, addr: l}); shuts {
					d.report(elem(at+".ports", i), fmt.Sprintf("the fence would also close %s, where the frontend %s listens for %s: nobody comes to the other site by it", l, f.ID, other.ID),
						"give protect with the service's addresses only, or let the frontend listen elsewhere")
				}
			}
		}
	}
}

// listener is a host and port that one member opens.
type listener struct {
	member draas.MemberID
	path   string // where the file says so
	addr   netip.AddrPort
	udp    bool // as well as TCP
}

// ownListeners lists what draasd itself opens.
func (c *Config) ownListeners() []listener {
	var all []listener
	for _, m := range c.Members {
		at := join("member", string(m.ID))
		peer := ".peer"
		if m.ListenPeer != m.Peer {
			peer = ".listen_peer"
		}
		all = appendListener(all, m.ID, at+peer, m.ListenPeer, false)
		all = appendListener(all, m.ID, at+".api", m.API, false)
		all = appendListener(all, m.ID, at+".dns", m.DNS, true)
		all = appendListener(all, m.ID, at+".metrics", m.Metrics, false)
	}
	return all
}

func appendListener(all []listener, m draas.MemberID, path, addr string, udp bool) []listener {
	host, port, _ := strings.Cut(addr, ":")
	if host == "" && port != "" { // ":7400" listens on every address
		if n, err := strconv.ParseUint(port, 10, 16); err == nil {
			return append(all, listener{m, path, netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n)), udp})
		}
	}
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return append(all, listener{m, path, ap, udp})
	}
	return all
}

// fenceListeners lists what draasd and its guards open.
func (c *Config) fenceListeners() []listener {
	all := c.ownListeners()
	for _, s := range c.Services {
		for _, site := range sortedKeys(s.Fence.Listen) {
			path := join(join("service", string(s.ID))+".fence.listen", string(site))
			if _, ok := c.Member(site.Member()); ok {
				all = appendListener(all, site.Member(), path, s.Fence.Listen[site], false)
			}
		}
	}
	return all
}

// listeners refuses two that need the same host and port.
func (d *decoder) listeners(c *Config) {
	all := c.fenceListeners()
	slices.SortStableFunc(all, func(a, b listener) int { return d.lines.line(a.path) - d.lines.line(b.path) })
	for i, l := range all {
		for _, first := range all[:i] {
			if l.addr.Port() == first.addr.Port() && c.sameHost(l, first) {
				d.report(l.path, fmt.Sprintf("%s is taken by %s", l.addr, first.path), "give each its own port or address")
				break
			}
		}
	}
}

// sameHost reports whether two listeners would meet on one machine. One
// member is one machine; a specific address is on one machine; and members
// that reach each other on loopback share one.
func (c *Config) sameHost(a, b listener) bool {
	x, y := a.addr.Addr(), b.addr.Addr()
	meet := x == y || x.IsUnspecified() || y.IsUnspecified()
	if a.member == b.member {
		return meet
	}
	if x == y && !x.IsUnspecified() && !x.IsLoopback() {
		return true
	}
	return meet && c.onLoopback(a.member) && c.onLoopback(b.member)
}

func (c *Config) onLoopback(id draas.MemberID) bool {
	m, _ := c.Member(id)
	ap, err := netip.ParseAddrPort(m.Peer)
	return err == nil && ap.Addr().IsLoopback()
}
