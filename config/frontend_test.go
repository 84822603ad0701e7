package config_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

// mustHoldFrontends checks what stands of the hosts with a proxy.
func mustHoldFrontends(c *config.Config, role map[draas.MemberID]draas.Role, want wanted) {
	apis, runs := 0, map[draas.MemberID]bool{}
	for _, m := range c.Members {
		if m.API != "" {
			apis++
		}
	}
	want(len(c.Frontends) == 0 || apis >= 2, "%d members to follow", apis)
	want(len(c.Frontends) <= 100, "%d frontends", len(c.Frontends))
	for _, f := range c.Frontends {
		_, member := role[draas.MemberID(f.ID)]
		_, known := role[f.Member]
		want(!member && f.ID != "" && f.Control != "" && f.Control != c.Control && f.Control != c.Guard, "frontend %+v", f)
		want((f.Kind == config.FrontendHAProxy) == (f.Socket != ""), "socket of %+v", f)
		want((f.Kind == config.FrontendNginx) == (f.Include != "" && len(f.Test) > 0 && len(f.Reload) > 0), "commands of %+v", f)
		want(f.AccessLog == "" || f.Kind == config.FrontendEmbedded, "log of %+v", f)
		want(f.Member == "" || known && !runs[f.Member] && f.Domain != "", "frontend %+v", f)
		runs[f.Member] = true
	}
	// Who listens where at each frontend: one service for each name.
	type entry struct {
		frontend string
		at       netip.AddrPort
		name     string
	}
	owner := map[entry]draas.ServiceID{}
	mode := map[entry]string{}
	for _, s := range c.Services {
		for _, id := range s.Frontend.Use {
			f, _ := c.Frontend(id)
			if f.Kind != config.FrontendEmbedded && f.Kind != config.FrontendNAT {
				continue
			}
			for _, at := range s.Frontend.Listen {
				for _, name := range append([]string{}, append(s.Frontend.Names, "")[:max(1, len(s.Frontend.Names))]...) {
					e := entry{id, at, name}
					want(owner[e] == "", "%v is of %s and %s", e, owner[e], s.ID)
					owner[e] = s.ID
				}
				e := entry{frontend: id, at: at}
				want(mode[e] == "" || mode[e] == s.Frontend.Mode, "%v has modes %s and %s", e, mode[e], s.Frontend.Mode)
				mode[e] = s.Frontend.Mode
			}
		}
	}
}

// holdFrontend checks what stands of one service's frontends.
func holdFrontend(c *config.Config, s *config.Service, want wanted) {
	f := &s.Frontend
	ours, listens := false, false
	want(len(f.Use) > 0, "no frontend serves %s", s.ID)
	for _, id := range f.Use {
		x, ok := c.Frontend(id)
		want(ok, "no frontend %s", id)
		ours = ours || x.Kind == config.FrontendEmbedded
		listens = listens || x.Kind == config.FrontendEmbedded || x.Kind == config.FrontendNAT
		want(x.Kind != config.FrontendNAT || f.Mode == config.ModeTCP, "nat in mode %s", f.Mode)
	}
	want(f.Mode == config.ModeTCP || f.Mode == config.ModeHTTP, "mode %q", f.Mode)
	want(listens == (len(f.Listen) > 0), "listen %v", f.Listen)
	want(len(f.Servers) == len(s.Sites()), "servers %v at %v", f.Servers, s.Sites())
	seen := map[netip.AddrPort]bool{}
	for _, site := range s.Sites() {
		want(len(f.Servers[site]) > 0, "no server at %s", site)
		for _, server := range f.Servers[site] {
			want(!seen[server] && server.IsValid() && server.Port() != 0 && !server.Addr().IsUnspecified() && !slices.Contains(f.Listen, server), "server %s", server)
			seen[server] = true
		}
	}
	left := s.Timing.Lease.Hold() - s.Timing.Renew
	want(f.Drain >= 0 && f.Drain < left && (f.Drain < f.Hold || f.Drain == 0 || !ours), "drain %s of hold %s and lease %s", f.Drain, f.Hold, left)
	want(ours || f.Hold == 0 && f.Connections == 0, "nobody holds %s", f.Hold)
	want(!ours || f.ConnectTimeout > 0 && f.IdleTimeout > 0 && f.Connections > 0 && f.PerSource <= f.Connections, "limits %+v", f)
	want((f.Hold > 0) == (f.HoldRequests > 0) && (f.Hold > 0) == (f.HoldBytes > 0), "hold %s, %d, %d", f.Hold, f.HoldRequests, f.HoldBytes)
	web := f.Mode == config.ModeHTTP
	want(web || f.Certificate == "" && f.Key == "" && f.Replay == nil && f.Trusted == nil && f.MaxBody == 0 && f.Silent == 0 && f.Affinity != config.AffinityCookie, "tcp %+v", f)
	want(!web || f.Shadow == "", "http with a shadow")
	want((f.Certificate == "") == (f.Key == ""), "certificate %q, key %q", f.Certificate, f.Key)
}

func TestFrontends(t *testing.T) {
	c := loadGood(t, "testdata/good/frontend.toml").At("/srv")
	want := []config.Frontend{
		{ID: "edge1", Kind: "embedded", Domain: "edge", Control: "/srv/run/edge.sock", AccessLog: "/srv/log/access.log"},
		{ID: "edge2", Kind: "embedded", Control: "/srv/state/frontend.sock"},
		{ID: "hap", Kind: "haproxy", Domain: "cloud", Control: "/srv/state/frontend.sock", Socket: "192.0.2.90:9999"},
		{ID: "hap2", Kind: "haproxy", Control: "/srv/state/frontend.sock", Socket: "/run/haproxy/admin.sock"},
		{ID: "inside", Kind: "embedded", Member: "a", Domain: "east", Control: "/srv/state/frontend.sock"},
		{ID: "nat", Kind: "nat", Control: "/srv/state/frontend.sock"},
		{ID: "ngx", Kind: "nginx", Control: "/srv/state/frontend.sock", Include: "/srv/nginx",
			Test: []string{"/usr/sbin/nginx", "-t"}, Reload: []string{"/usr/sbin/nginx", "-s", "reload"}},
		{ID: "ngx2", Kind: "nginx", Control: "/srv/state/frontend.sock", Include: "/etc/nginx/draas",
			Test: []string{"/opt/nginx", "-T"}, Reload: []string{"/bin/systemctl", "reload", "nginx"}},
	}
	same(t, c.Frontends, want)
	if _, ok := c.Frontend("nobody"); ok {
		t.Error("a frontend that is not there was found")
	}
	all, _ := c.Service("all")
	same(t, all.Frontend, config.ServiceFrontend{
		Use: []string{"edge1", "edge2"}, Mode: "http",
		Listen: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.80:443"), netip.MustParseAddrPort("192.0.2.81:443"), netip.MustParseAddrPort("[2001:db8::80]:443")},
		Names:  []string{"*.all.example", "all.example", "www.all.example"},
		Servers: map[draas.SiteID][]netip.AddrPort{
			"a": {netip.MustParseAddrPort("192.0.2.10:8080"), netip.MustParseAddrPort("192.0.2.10:8443")},
			"b": {netip.MustParseAddrPort("192.0.2.11:8080")}},
		Hold: 30 * time.Second, HoldRequests: 7, HoldBytes: 512 << 10, Drain: 1500 * time.Millisecond, Silent: 250 * time.Millisecond,
		ConnectTimeout: 300 * time.Millisecond, IdleTimeout: 2 * time.Minute, Connections: 500, PerSource: 50,
		Sources:   []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24")},
		ProxyFrom: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/32")}, ProxyTo: 2, Affinity: "cookie",
		Certificate: "/srv/tls/all.crt", Key: "/etc/tls/all.key", Replay: []string{"DELETE /carts/", "PUT /carts/"},
		Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}, MaxBody: 1 << 30,
	})
	tcp, _ := c.Service("tcp")
	same(t, tcp.Frontend, config.ServiceFrontend{
		Use: []string{"inside"}, Mode: "tcp", Listen: []netip.AddrPort{netip.MustParseAddrPort("[::]:6432")}, Servers: tcp.Frontend.Servers,
		Hold: 600 * time.Millisecond, HoldRequests: 1000, HoldBytes: 64 << 20, Drain: 300 * time.Millisecond,
		ConnectTimeout: time.Second, IdleTimeout: time.Minute, Connections: 10000, Affinity: "source", Shadow: "192.0.2.99:5432",
	})
	others, _ := c.Service("others")
	same(t, others.Frontend, config.ServiceFrontend{Use: []string{"hap2", "ngx", "ngx2"}, Mode: "tcp", Servers: others.Frontend.Servers, Drain: time.Second})
	mixed, _ := c.Service("mixed")
	if mixed.Frontend.Hold != 0 || mixed.Frontend.Drain != 0 || mixed.Frontend.HoldBytes != 0 || mixed.Frontend.Connections != 10000 {
		t.Errorf("service %+v", mixed.Frontend)
	}
	if was, _ := loadGood(t, "testdata/good/frontend.toml").Service("all"); was.Frontend.Certificate != "tls/all.crt" {
		t.Errorf("certificate %q", was.Frontend.Certificate)
	}
}

// What `draasd check` says besides: the whole text, since people read it.
func TestNotesOfFrontends(t *testing.T) {
	got := loadGood(t, "testdata/good/frontend.toml").Notes()
	want := strings.Split(strings.TrimSpace(read(t, "testdata/frontend.notes")), "\n")
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// same compares values by what they print: their zero and empty parts are
// alike.
func same[T any](t *testing.T, got, want T) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s\nwant\n%s", g, w)
	}
}
