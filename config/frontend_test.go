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
			for _, at := range s.Frontend.ListensAt(c.SiteOf(id)) {
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
	want(listens == (len(f.Listen)+len(f.ListenAt) > 0), "listen %v, at %v", f.Listen, f.ListenAt)
	for _, id := range f.Use {
		x, _ := c.Frontend(id)
		ours := x.Kind == config.FrontendEmbedded || x.Kind == config.FrontendNAT
		want(!ours || len(f.ListensAt(c.SiteOf(id))) > 0, "%s listens nowhere", id)
	}
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
	want(web || f.Certificate == "" && f.Key == "" && f.Replay == nil && f.Trusted == nil && f.MaxBody == 0 && f.Affinity != config.AffinityCookie, "tcp %+v", f)
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
		ConnectTimeout: time.Second, IdleTimeout: time.Hour, Connections: 10000, Affinity: "source", Shadow: "192.0.2.99:5432",
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
	// drain 1 s, 4 entries of 100 ms, 1 s
	text := strings.Replace(read(t, "testdata/good/frontend.toml"), "[service.rest.frontend]\n", "[service.rest.frontend]\nhold = \"2s\"\n", 1)
	note := "rest: a planned move may take 2.4s (drain, fence, log and frontends), which is longer than users wait (hold 2s): those that wait longer are answered 503"
	if notes := parse(t, text).Notes(); !slices.Contains(notes, note) {
		t.Errorf("no note %q in\n%s", note, strings.Join(notes, "\n"))
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

// The numbers are worked out by hand from docs/config.md.
func TestRTOOfFrontends(t *testing.T) {
	text := read(t, "testdata/good/frontend.toml")
	use := func(service, frontends string) string {
		i := strings.Index(text, "[service."+service+".frontend]\nuse = ")
		j := i + strings.Index(text[i:], "use")
		return text[:j] + "use = " + frontends + text[j+strings.IndexByte(text[j:], '\n'):]
	}
	for _, tt := range []struct {
		name, text string
		unit       draas.ServiceID
		lost, dead string
		sets       string // the frontend's term
		typical    time.Duration
	}{
		// balanced: detect 3 x 1.1 s + 0.8 s; 3 or 4 entries of 100 ms
		{"ours", text, "all", "6.4s (detect 4.1s + confirm 1s + act 300ms + frontend 1s)",
			"6.65s (detect 4.1s + confirm 1s + fence 150ms + act 400ms + frontend 1s)", "service.all.frontend.use", 10 * time.Millisecond},
		{"the slowest counts", text, "others", "8.4s (detect 4.1s + confirm 1s + act 300ms + frontend 3s)",
			"8.5s (detect 4.1s + confirm 1s + act 400ms + frontend 3s)", "frontend.ngx.kind", 210 * time.Millisecond},
		{"ours and others", text, "mixed", "6.5s (detect 4.1s + confirm 1s + act 300ms + frontend 1.1s)",
			"6.6s (detect 4.1s + confirm 1s + act 400ms + frontend 1.1s)", "frontend.hap.kind", 20 * time.Millisecond},
		{"haproxy", use("others", `["hap2"]`), "others", "6.5s (detect 4.1s + confirm 1s + act 300ms + frontend 1.1s)",
			"6.6s (detect 4.1s + confirm 1s + act 400ms + frontend 1.1s)", "frontend.hap2.kind", 20 * time.Millisecond},
		// of a group the part of scheme dns takes longer: 20 ms and a TTL of 5 s
		{"group of two schemes", text, "both", "10.42s (detect 4.1s + confirm 1s + act 320ms + ttl 5s)",
			"10.52s (detect 4.1s + confirm 1s + act 420ms + ttl 5s)", "", 0},
		{"its part with a frontend", text, "rest", "6.4s (detect 4.1s + confirm 1s + act 300ms + frontend 1s)",
			"6.5s (detect 4.1s + confirm 1s + act 400ms + frontend 1s)", "service.rest.frontend.use", 10 * time.Millisecond},
	} {
		rto := parse(t, tt.text).RTO(tt.unit)
		if lost, dead := rto[0].String(), rto[1].String(); lost != tt.lost || dead != tt.dead {
			t.Errorf("%s:\n%s\n%s\nwant\n%s\n%s", tt.name, lost, dead, tt.lost, tt.dead)
		}
		for _, r := range rto {
			for _, term := range r.Terms {
				if term.Name == "frontend" && (term.Sets != tt.sets || term.Typical != tt.typical) {
					t.Errorf("%s: %+v", tt.name, term)
				}
				if term.Worst > 0 && term.Sets == "" {
					t.Errorf("%s: nothing sets %s", tt.name, term.Name)
				}
			}
		}
	}
	// What cannot be held is refused, with the term that is largest.
	promise := strings.Replace(text, "[service.tcp]\n", "[service.tcp]\nmax_rto = \"6s\"\n", 1)
	want := "service.tcp.max_rto: 6s cannot hold: a dead service takes up to 6.65s (detect 4.1s + confirm 1s + fence 150ms + act 400ms + frontend 1s), change interval"
	if _, err := config.Parse("f.toml", []byte(promise)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// The digest covers every key, and not how it is written.
func TestDigestOfFrontends(t *testing.T) {
	text := read(t, "testdata/good/frontend.toml")
	edit := func(old, new string) string {
		t.Helper()
		if strings.Count(text, old) != 1 {
			t.Fatalf("%q stands %d times in the file", old, strings.Count(text, old))
		}
		return strings.Replace(text, old, new, 1)
	}
	digest := parse(t, text).Digest()
	for name, text := range map[string]string{
		"order of frontends":  edit("[frontend.edge2]\n", "") + "[frontend.edge2]\n",
		"order of use":        edit(`["edge2", "edge1"]`, `["edge1", "edge2"]`),
		"order of servers":    edit(`["192.0.2.10:8443", "192.0.2.10:8080"]`, `["192.0.2.10:8080", "192.0.2.10:8443"]`),
		"order of listens":    edit(`"192.0.2.80:443", "[::ffff:192.0.2.81]:443"`, `"192.0.2.81:443", "192.0.2.80:443"`),
		"order of names":      edit(`"www.All.example", "all.example"`, `"all.example", "WWW.all.example"`),
		"order of routes":     edit(`"PUT /carts/", "DELETE /carts/"`, `"DELETE /carts/", "PUT /carts/"`),
		"order of networks":   edit(`"2001:db8::/32", "10.0.0.0/8"`, `"10.0.0.0/8", "2001:db8:0::/32"`),
		"unit of a size":      edit(`"512KiB"`, `"524288B"`),
		"a written default":   edit("[frontend.edge2]\n", "[frontend.edge2]\nkind = \"embedded\"\ncontrol = \"state/frontend.sock\"\n"),
		"a default of a list": edit("use = [\"inside\"]\n", "use = [\"inside\"]\nmode = \"tcp\"\nhold_requests = 1000\nproxy_to = 0\n"),
		"every address":       edit(`[":6432"]`, `["[::]:6432"]`),
		"a written command":   edit("include = \"nginx\"\n", "include = \"nginx\"\nreload = [\"/usr/sbin/nginx\", \"-s\", \"reload\"]\n"),
	} {
		if got := parse(t, text).Digest(); got != digest {
			t.Errorf("%s changes the digest", name)
		}
	}
	seen := map[string]string{digest: "nothing"}
	for old, new := range map[string]string{
		"[frontend.edge2]": "[frontend.edge3]\n[frontend.edge2]", `domain = "edge"`: `domain = "edg"`, "run/edge.sock": "run/edge1.sock", "log/access.log": "log/access1.log",
		"member = \"a\"": "member = \"b\"", "192.0.2.90:9999": "192.0.2.90:9998", `include = "nginx"`: `include = "nginx2"`, `"-T"`: `"-t"`, `"reload", "nginx"`: `"reload", "nginx2"`,
		`["edge2", "edge1"]`: `["edge1"]`, `"*.all.example"]`: `"*.any.example"]`, `"192.0.2.10:8443", `: "", `hold = "30s"`: `hold = "31s"`,
		"hold_requests = 7": "hold_requests = 8", "512KiB": "513KiB", "1500ms": "1501ms", "proxy_to = 2": "proxy_to = 1",
		`"cookie"`: `"none"`, "tls/all.crt": "tls/all2.crt", "all.key": "all2.key", `"PUT /carts/", `: "", `, "10.0.0.0/8"`: "", `"1GiB"`: `"2GiB"`,
		`"192.0.2.99:5432"`: `"192.0.2.99:5433"`, `[":6432"]`: `["192.0.2.40:6432"]`,
	} {
		got := parse(t, edit(old, new)).Digest()
		if same := seen[got]; same != "" {
			t.Errorf("the digest is the same after %s and %s", old, same)
		}
		seen[got] = old
	}
	// These have to change for both who share an address.
	for old, new := range map[string]string{
		`connect_timeout = "300ms"`: `connect_timeout = "301ms"`, `idle_timeout = "2m"`: `idle_timeout = "3m"`, "connections = 500": "connections = 501",
		`silent = "250ms"`: `silent = "251ms"`, "per_source = 50": "per_source = 51", `"198.51.100.0/24"`: `"198.51.101.0/24"`, `"192.0.2.5/32"`: `"192.0.2.6/32"`,
	} {
		if _, err := config.Parse("f.toml", []byte(strings.Replace(text, old, new, 1))); err == nil {
			t.Errorf("%s stands with another %s at the same address", old, new)
		}
		got := parse(t, strings.ReplaceAll(text, old, new)).Digest()
		if same := seen[got]; same != "" {
			t.Errorf("the digest is the same after %s and %s", old, same)
		}
		seen[got] = old
	}
}

// What needs a file of its own to be seen.
func TestFrontendRefusals(t *testing.T) {
	text := read(t, "testdata/good/frontend.toml")
	var many strings.Builder
	for i := range 94 {
		fmt.Fprintf(&many, "[frontend.more-%d]\n", i)
	}
	i, j := strings.Index(text, "[frontend.edge1]"), strings.Index(text, "[dns.z]")
	for name, tt := range map[string]struct{ old, new, want string }{
		"no frontend": {text[i:j], "", "service.rest.scheme: there is no frontend, begin with a line [frontend.NAME] for the host with the proxy"},
		"too many":    {"[frontend.edge1]", many.String() + "[frontend.edge1]", "frontend: there are too many, a cluster has at most 100"},
		"one api": {"api = \"192.0.2.2:7401\"\n", "",
			"frontend: a frontend follows the members over their api, and 1 of them, in 1 failure domains, have one that it could reach"},
		"apis of one domain": {`domain = "west"`, `domain = "east"`, "and 2 of them, in 1 failure domains, have one"},
		"an api on loopback": {`api = "192.0.2.2:7401"`, `api = "127.0.0.1:7401"`, "and 1 of them, in 1 failure domains, have one"},
		"a wrong frontend":   {`use = ["inside"]`, `use = ["insid"]`, `service.tcp.frontend.use[0]: there is no frontend "insid", did you mean "inside"?`},
		"a new frontend":     {`use = ["inside"]`, `use = ["berlin"]`, `service.tcp.frontend.use[0]: there is no frontend "berlin", begin with a line [frontend.berlin]`},
		"a site too many":    {`b = ["192.0.2.41:5432"] }`, `b = ["192.0.2.41:5432"], w = ["192.0.2.42:1"] }`, `service.tcp.frontend.server.w: "w" is a witness`},
		"drain with no hold": {`hold = "0s"`, `hold = "0s"` + "\ndrain = \"1s\"", "service.mixed.frontend.drain: new requests wait for at most 0s (hold), and those under way are waited for just as long"},
		"TLS of one only": {"certificate = \"tls/rest.crt\"\nkey = \"tls/rest.key\"\n", "",
			"service.rest.frontend.listen[0]: edge1 serves all at the same address, and they differ in certificate (given, and here none), which counts before"},
		"a fence before a frontend": {"fence = { kind = \"kernel\", ports = [8080]", "fence = { kind = \"kernel\", ports = [8080, 6432]",
			"service.all.fence.ports[1]: the fence would also close [::]:6432, where the frontend inside listens for tcp: nobody comes to the other site by it"},
		"drain of others": {`use = ["ngx2", "ngx", "hap2"]`, `use = ["ngx2"]` + "\ndrain = \"3s\"", `service.others.frontend.drain: is 3s, and the permit of the old site may end 2.8s after`},
	} {
		if strings.Count(text, tt.old) != 1 {
			t.Fatalf("%s: %q stands %d times in the file", name, tt.old, strings.Count(text, tt.old))
		}
		_, err := config.Parse("f.toml", []byte(strings.Replace(text, tt.old, tt.new, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v\nwant %s", name, err, tt.want)
		}
	}
	// The permit is that of the group: 2.7 s x 0.9 less a renewal of 800 ms.
	group := strings.NewReplacer("[group.both]\n", "[group.both]\nlease = \"2700ms\"\n", "[service.rest.frontend]\n", "[service.rest.frontend]\ndrain = \"1700ms\"\n").Replace(text)
	want := "service.rest.frontend.drain: is 1.7s, and the permit of the old site may end 1.63s after"
	if _, err := config.Parse("f.toml", []byte(group)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := config.Parse("f.toml", []byte(strings.Replace(group, "1700ms", "1600ms", 1))); err != nil {
		t.Errorf("a drain that fits: %v", err)
	}
	if _, err := config.Parse("f.toml", []byte(strings.Replace(text, "[frontend.edge1]", strings.Replace(many.String(), "[frontend.more-0]\n[frontend.more-1]\n", "", 1)+"[frontend.edge1]", 1))); err != nil {
		t.Errorf("100 frontends: %v", err)
	}
}

// A cluster on one machine can have its frontend there too.
func TestFrontendOnLoopback(t *testing.T) {
	data, err := config.Loopback(config.LoopbackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	i, j := strings.Index(text, "[service.web.dns]"), strings.Index(text, "[service.web.fence]")
	text = text[:i] + `[service.web.frontend]
mode = "http"
listen = ["127.0.0.1:7403"]
server = { primary = ["127.0.0.2:7430"], dr = ["127.0.0.3:7430"] }
` + text[j:] + "\n[frontend.edge]\n"
	c := parse(t, strings.Replace(text, `scheme = "dns"`, `scheme = "frontend"`, 1))
	mustHold(t, c)
	web, _ := c.Service("web")
	same(t, web.Frontend.Use, []string{"edge"})
	// Where the guard's relay listens is where the frontend leads to.
	same(t, c.Notes(), []string{"web: one frontend alone leads users to it: when edge is lost, nobody reaches it"})
}
