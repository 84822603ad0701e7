package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

// mustHold checks what a configuration without problems promises, written
// down once more and plainly.
func mustHold(t *testing.T, c *config.Config) {
	t.Helper()
	want := func(ok bool, what string, args ...any) {
		if !ok {
			t.Helper()
			t.Errorf(what, args...)
		}
	}
	role := map[draas.MemberID]draas.Role{}
	inDomain := map[string]int{}
	for _, m := range c.Members {
		role[m.ID] = m.Role
		inDomain[m.Domain]++
		want(m.Role == draas.RoleSite || m.Role == draas.RoleWitness, "role %q", m.Role)
		want(m.Peer != "" && m.ListenPeer != "" && m.Domain != "", "member %+v", m)
		want(m.Role == draas.RoleSite || m.DNS == "", "a witness that answers: %+v", m)
		for from := range m.PeerFrom {
			_, ok := c.Member(from)
			want(ok && from != m.ID, "peer_from %s", from)
		}
	}
	want(len(c.Sites()) >= 2 && len(c.Services) >= 1, "%d sites, %d services", len(c.Sites()), len(c.Services))
	want(c.Cluster != "" && c.TLS.CA != "" && c.TLS.Cert != "" && c.TLS.Key != "", "identity %+v", c.TLS)
	want(len(c.Digest()) == 64, "digest %q", c.Digest())
	names := map[string]bool{}
	for _, s := range c.Services {
		z, ok := c.DNS[s.DNS.Zone]
		want(ok && strings.HasSuffix("."+s.DNS.Name, "."+strings.TrimPrefix(z.Name, ".")), "%s is not in %q", s.DNS.Name, z.Name)
		want(!names[s.DNS.Name], "name %s twice", s.DNS.Name)
		names[s.DNS.Name] = true
		want(len(z.NS) >= 2, "zone %+v", z)
		want(s.Scheme == "dns" && len(s.Checks) > 0 && len(s.Sites()) >= 2, "service %+v", s)
		want(slices.Contains(s.Sites(), s.Home), "home %q", s.Home)
		l := s.Timing.Lease
		want(l.Hold() > 0 && l.Margin < l.Length && 3*s.Timing.Renew <= l.Hold(), "timing %+v", s.Timing)
		for _, site := range s.Sites() {
			want(role[site.Member()] == draas.RoleSite, "at %q", site)
			for i := range s.Checks {
				for _, m := range c.Members {
					want(s.TargetFor(&s.Checks[i], m.ID, site) != "", "%s cannot look at %s", m.ID, site)
				}
			}
			if s.Fence.Kind == draas.FencePath {
				want(s.Fence.Listen[site] != "" && s.Fence.Forward[site] != "", "path %+v", s.Fence)
			}
		}
		for _, k := range s.Checks {
			want(k.Timeout <= k.Interval && k.Timeout > 0 && k.Rise > 0 && k.Fall > 0, "check %+v", k)
		}
		want(s.Confirmations >= 2 || !s.Automatic, "confirmations %d", s.Confirmations)
		if s.Automatic {
			want(s.Fence.Kind.OutlivesDaemon() && s.Fence.Margin > 0, "automatic with %+v", s.Fence)
			want(len(c.Members) >= 3, "%d members", len(c.Members))
			for d, n := range inDomain {
				want(2*(len(c.Members)-n) > len(c.Members), "no majority without %q", d)
			}
			for _, r := range c.RTO(s.ID) {
				want(s.MaxRTO == 0 || r.Worst() <= s.MaxRTO, "%s: %v", r.Disaster, r)
				want(r.Typical() <= r.Worst(), "%s: typically %s of %s", r.Disaster, r.Typical(), r.Worst())
			}
		}
	}
}

// FuzzParse: any bytes give either problems or a value that holds what it
// promises, and the same bytes the same.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.toml", "testdata/good/*.toml", "../etc/failover.toml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds: %v", err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("f.toml", data)
		again, err2 := config.Parse("f.toml", data)
		if err == nil {
			mustHold(t, c)
			if again.Digest() != c.Digest() {
				t.Error("the digest changes")
			}
			return
		}
		var problems config.Problems
		if !errors.As(err, &problems) || len(problems) == 0 || c != nil {
			t.Fatalf("Parse = %v, %T", c, err)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Wrong == "" || p.Right == "" || strings.ContainsAny(p.String(), "\n\r\x00") {
				t.Errorf("problem %+v in %d lines", p, lines)
			}
		}
		if err2 == nil || err2.Error() != err.Error() {
			t.Errorf("the messages change:\n%v\n%v", err, err2)
		}
	})
}
