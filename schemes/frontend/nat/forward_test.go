package nat_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab"
	"github.com/draasd/draas/schemes/frontend"
	"github.com/draasd/draas/schemes/frontend/nat"
)

// Users and sites have networks of their own, and the sites know no way back to
// the users but by the address that is theirs here:
//
//	users 10.78.1.2, fd78:1::2 -- here .1, ::1 -- sites 10.78.2.2 and .3, fd78:2::2 and ::3
var families = []struct {
	name, at, primary, dr string
	snat                  bool
}{
	{"IPv4", "10.78.1.1:80", "10.78.2.2:8080", "10.78.2.3:8080", false},
	{"IPv6", "[fd78:1::1]:80", "[fd78:2::2]:8080", "[fd78:2::3]:8080", true},
}

func machine(t *testing.T, name string) *lab.Machine {
	t.Helper()
	m, err := lab.New(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func network(t *testing.T) (users, sites *lab.Machine) {
	t.Helper()
	users, sites = machine(t, "users"), machine(t, "sites")
	for i, m := range []*lab.Machine{users, sites} {
		n := i + 1
		here := fmt.Sprintf("to%d", n)
		run(t, "ip", "link", "add", "name", here, "type", "veth", "peer", "name", "out", "netns", fmt.Sprint(m.PID()))
		t.Cleanup(func() { run(t, "ip", "link", "del", here) })
		run(t, "ip", "addr", "add", fmt.Sprintf("10.78.%d.1/24", n), "dev", here)
		run(t, "ip", "addr", "add", fmt.Sprintf("fd78:%d::1/64", n), "dev", here, "nodad")
		run(t, "ip", "link", "set", here, "up")
		for host := 2; host <= 1+n; host++ {
			for _, a := range []string{fmt.Sprintf("10.78.%d.%d/24", n, host), fmt.Sprintf("fd78:%d::%d/64", n, host)} {
				if out, err := m.Run("/", "ip", "addr", "add", a, "dev", "out", "nodad"); err != nil {
					t.Fatal(err, out)
				}
			}
		}
		if out, err := m.Run("/", "ip", "link", "set", "out", "up"); err != nil {
			t.Fatal(err, out)
		}
	}
	for _, path := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
		if err := os.WriteFile(path, []byte("1"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return users, sites
}

// serve says its name to whoever connects.
func serve(t *testing.T, inside func(func() error) error, address, name string) {
	t.Helper()
	var l net.Listener
	if err := inside(func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	conns := make(chan net.Conn, 100)
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
			_, _ = c.Write([]byte(name + "\n"))
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
		close(conns)
		for c := range conns {
			_ = c.Close()
		}
	})
}

// dial returns a connection, and which site answers.
func dial(t *testing.T, m *lab.Machine, address string) (c net.Conn, site string, err error) {
	t.Helper()
	if err := m.Inside(func() (err error) { c, err = net.DialTimeout("tcp", address, 5*time.Second); return err }); err != nil {
		return nil, "", err
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, "", err
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	return c, string(b[:n]), err
}

func TestForwarding(t *testing.T) {
	users, sites := network(t)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			serve(t, sites.Inside, f.primary, "primary")
			serve(t, sites.Inside, f.dr, "dr")
			// A program here that nobody is to reach by the service's address.
			serve(t, func(listen func() error) error { return listen() }, f.at, "here")
			spec := &frontend.Spec{Service: "web", Sites: map[draas.SiteID][]frontend.Server{"primary": {{Address: f.primary}}, "dr": {{Address: f.dr}}}}
			service := nat.Service{Listen: []netip.AddrPort{netip.MustParseAddrPort(f.at)}, Masquerade: !f.snat}
			if f.snat {
				service.Source = []netip.Addr{netip.MustParseAddr("fd78:2::1")}
			}
			d, err := nat.New(nat.Config{Services: map[draas.ServiceID]nat.Service{"web": service}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := errors.Join(d.Remove(spec), d.Close()); err != nil {
					t.Error(err)
				}
			})
			if err := d.Forwarding(); err != nil {
				t.Error(err)
			}
			forwards(t, d, spec, users, f.at)
		})
	}
}

func forwards(t *testing.T, d *nat.Driver, spec *frontend.Spec, users *lab.Machine, at string) {
	lead := func(to frontend.Leading) {
		t.Helper()
		if err := d.Lead(t.Context(), spec, to); err != nil {
			t.Fatal(err)
		}
		if got, err := d.See(t.Context(), spec); err != nil || got != to {
			t.Fatalf("leads to %s, %v; want %s", got, err, to)
		}
	}
	led := func(site string) net.Conn {
		t.Helper()
		c, got, err := dial(t, users, at)
		if err != nil || got != site+"\n" {
			t.Fatalf("%q answers, %v; want %s", got, err, site)
		}
		return c
	}
	refused := func() {
		t.Helper()
		if _, got, err := dial(t, users, at); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("%q answers, %v; want a refusal", got, err)
		}
	}
	under := func(site draas.SiteID, want int64) {
		t.Helper()
		if n, err := d.Count(t.Context(), spec, site); err != nil || n != want {
			t.Errorf("%d connections to %s, %v; want %d", n, site, err, want)
		}
	}
	lead(frontend.Leading{})
	refused()
	lead(frontend.Leading{Site: "primary"})
	c := led("primary")
	under("primary", 1)
	lead(frontend.Leading{Site: "primary", Draining: true})
	refused()
	under("primary", 1)
	lead(frontend.Leading{Site: "primary"})
	under("primary", 1)
	lead(frontend.Leading{Site: "dr"})
	under("primary", 0)
	under("dr", 0)
	// The user learns of it with the next word.
	if _, err := c.Write([]byte("still there?\n")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 100)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection to the old site: %d bytes, %v; want a reset", n, err)
	}
	led("dr")
	under("dr", 1)
	lead(frontend.Leading{})
	under("dr", 0)
	refused()
}

func TestConfigIsRefused(t *testing.T) {
	at := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:80")}
	for what, c := range map[string]nat.Service{
		"no address":              {},
		"any address":             {Listen: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:80")}},
		"no port":                 {Listen: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}},
		"a protocol":              {Listen: at, Proto: "sctp"},
		"two sources":             {Listen: at, Masquerade: true, Source: []netip.Addr{at[0].Addr()}},
		"IPv4 dressed up as IPv6": {Listen: []netip.AddrPort{netip.MustParseAddrPort("[::ffff:192.0.2.1]:80")}},
	} {
		if _, err := nat.New(nat.Config{Services: map[draas.ServiceID]nat.Service{"shop": c}}); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	if _, err := nat.New(nat.Config{Services: map[draas.ServiceID]nat.Service{"a b": {Listen: at}}}); err == nil {
		t.Error("a name of two words is taken")
	}
	d, err := nat.New(nat.Config{Services: map[draas.ServiceID]nat.Service{"shop": {Listen: at}}})
	if err != nil {
		t.Fatal(err)
	}
	spec := &frontend.Spec{Service: "shop", Sites: map[draas.SiteID][]frontend.Server{
		"name": {{Address: "shop.example.org:80"}}, "v6": {{Address: "[2001:db8::1]:80"}}}}
	for _, site := range []draas.SiteID{"name", "v6", "none"} {
		if err := d.Lead(t.Context(), spec, frontend.Leading{Site: site}); err == nil {
			t.Errorf("led to site %s", site)
		}
	}
	if got, err := d.See(t.Context(), spec); err == nil {
		t.Errorf("nothing was written, and it leads to %s", got)
	}
	if err := d.Lead(t.Context(), &frontend.Spec{Service: "mail"}, frontend.Leading{}); err == nil {
		t.Error("led a service without an address")
	}
}
