package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/config"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/schemes/dns/audit"
)

// night is a report of three in the morning: the primary site is lost, its
// server with it, and one resolver does not follow.
func night() *audit.Report {
	const shop, east, west = "shop.ha.example.org.", "198.51.100.10:53", "203.0.113.10:53"
	records := func(ttl uint32, values ...string) []audit.Record {
		var out []audit.Record
		for _, v := range values {
			out = append(out, audit.Record{Type: "A", Value: v, TTL: ttl})
		}
		return out
	}
	return &audit.Report{At: time.Date(2026, 11, 21, 3, 4, 5, 0, time.UTC), Zones: []audit.ZoneReport{{Zone: "ha.example.org.",
		Servers: []audit.Apex{{From: east, Role: "embedded", Site: "primary", Error: "timeout"},
			{From: west, Role: "embedded", Site: "dr", Rcode: "NOERROR", Authoritative: true, Serial: 9, Negative: 5, NS: []string{"ns1.ha.example.org.", "ns2.ha.example.org."}}},
		Names: []audit.NameReport{{Service: "shop", Name: shop, TTL: 5, Epoch: 8, Site: "dr", Answers: []audit.Answer{
			{From: east, Kind: audit.Authority, Role: "embedded", Site: "primary", Error: "timeout"},
			{From: west, Kind: audit.Authority, Role: "embedded", Site: "dr", Rcode: "NOERROR", Authoritative: true, Records: records(5, "203.0.113.20"), Longest: 5, Epoch: 8, AtSite: "dr"},
			{From: "192.0.2.1:53", Kind: audit.Resolver, Rcode: "NOERROR", Records: records(3, "203.0.113.20"), Longest: 3, Epoch: 8, AtSite: "dr"},
			{From: "9.9.9.9:53", Kind: audit.Resolver, Rcode: "NOERROR", Records: records(30, "198.51.100.20"), Longest: 30, Epoch: 7, AtSite: "primary"},
			{From: "[2001:db8::53]:53", Kind: audit.Resolver, Rcode: "SERVFAIL"}}}},
		Delegation: &audit.Delegation{Parent: "example.org.", Answers: []audit.Referral{{From: "192.0.2.2:53"}, {From: "192.0.2.3:53"}},
			Servers: []audit.Reached{{Glue: audit.Glue{Name: "ns1.ha.example.org.", Address: netip.MustParseAddr("198.51.100.10")}, Error: "timeout"},
				{Glue: audit.Glue{Name: "ns2.ha.example.org.", Address: netip.MustParseAddr("203.0.113.10")}, Rcode: "NOERROR", Authoritative: true}}}}},
		Findings: []audit.Finding{
			{Severity: audit.Error, Code: audit.CodeSilent, Zone: "ha.example.org.", From: east, Text: "does not answer: timeout", Do: "see that it runs and that UDP and TCP port 53 reach it; users wait for it in vain"},
			{Severity: audit.Error, Code: audit.CodeResolverStale, Zone: "ha.example.org.", Name: shop, From: "9.9.9.9:53", Text: "still leads to primary, and the TTL is over: Stale Answer (\x1b[31m)",
				Do: "it serves expired answers (RFC 8767; unbound serve-expired, BIND stale-answer-enable): flush the name there, or wait; see that it reaches an authority"},
			{Severity: audit.Warn, Code: audit.CodeOneServer, Zone: "ha.example.org.", Text: "the delegation leads to one address only: when it is lost, names fail as answers expire", Do: "have a server at each site, and both in the delegation"},
			{Severity: audit.OK, Code: audit.CodeFollows, Zone: "ha.example.org.", Name: shop, From: "192.0.2.1:53", Text: "leads to dr, and asks again within 3 s"},
		}}
}

func TestAuditRendering(t *testing.T) {
	var b bytes.Buffer
	writeAudit(&b, night())
	golden(t, "dnsaudit", b.Bytes())
	b.Reset()
	if err := writeJSON(&b, night(), "  "); err != nil {
		t.Fatal(err)
	}
	compare(t, filepath.Join("testdata", "dnsaudit-json.golden"), b.Bytes())
	var back audit.Report
	dec := json.NewDecoder(&b)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&back); err != nil || back.Errors() != 2 {
		t.Errorf("read back: %v, %d errors", err, back.Errors())
	}
}

// auditLines shows a zone to be looked at.
func auditLines(zones []audit.Zone) string {
	var out strings.Builder
	for _, z := range zones {
		fmt.Fprintf(&out, "%s negative %v\n", z.Name, z.NegativeTTL)
		for _, ns := range z.NS {
			fmt.Fprintf(&out, "  ns %s %s %v\n", ns.Name, ns.Site, ns.Addresses)
		}
		for _, s := range z.Servers {
			fmt.Fprintf(&out, "  %s %q %s hidden %t, epochs %t\n", s.Address, s.Site, s.Role, s.Hidden, !s.NoEpoch)
		}
		for _, n := range z.Names {
			fmt.Fprintf(&out, "  %s %s ttl %v floor %v, %d sites\n", n.Name.Name, n.Service, n.TTL, n.Floor, len(n.Targets))
		}
	}
	return out.String()
}

// The sample's own zone, and the same service at the other providers.
func TestAuditZones(t *testing.T) {
	c, err := daemon.Load("../../etc/failover.toml")
	if err != nil {
		t.Fatal(err)
	}
	const names = "  ldap.ha.example.org. ldap ttl 30s floor 0s, 2 sites\n  shop.ha.example.org. shop ttl 5s floor 0s, 2 sites\n"
	const embedded = "ha.example.org. negative 5s\n" +
		"  ns ns2.ha.example.org. dr [203.0.113.10]\n  ns ns1.ha.example.org. primary [198.51.100.10]\n" +
		"  203.0.113.10:53 \"dr\" embedded hidden false, epochs true\n  198.51.100.10:53 \"primary\" embedded hidden false, epochs true\n"
	if got := auditLines(auditZones(c)); got != embedded+names {
		t.Errorf("the sample:\n%s", got)
	}
	at := func(change func(z *config.Zone)) string {
		z := c.DNS["public"]
		change(&z)
		with := *c
		with.DNS = map[string]config.Zone{"public": z}
		return auditLines(auditZones(&with))
	}
	const unset = "ha.example.org. negative -1ns\n"
	for name, got := range map[string][2]string{
		"rfc2136": {at(func(z *config.Zone) {
			z.Provider, z.Update = config.ProviderRFC2136, config.Update{Primary: "192.0.2.53:53", Secondaries: []string{"192.0.2.54:53"}}
		}), unset + "  192.0.2.53:53 \"\" primary hidden true, epochs true\n  192.0.2.54:53 \"\" secondary hidden false, epochs true\n" + names},
		"dyndns2": {at(func(z *config.Zone) {
			z.Provider, z.Hosted = config.ProviderDynDNS2, config.Hosted{Authorities: []string{"192.0.2.60:53"}}
		}), unset + "  192.0.2.60:53 \"\" dyndns2 hidden false, epochs false\n" + names},
		"route53": {at(func(z *config.Zone) {
			z.Provider, z.Hosted = config.ProviderRoute53, config.Hosted{Authorities: []string{"192.0.2.60:53"}}
		}), unset + "  192.0.2.60:53 \"\" route53 hidden false, epochs true\n" + names},
	} {
		if got[0] != got[1] {
			t.Errorf("%s:\n%swant:\n%s", name, got[0], got[1])
		}
	}
	// A hybrid's name leads to its frontends, not to what members probe.
	both, err := daemon.Load("../../etc/hybrid.toml")
	if err != nil {
		t.Fatal(err)
	}
	if zones := auditZones(both); len(zones) != 1 || len(zones[0].Names) != 1 || zones[0].Names[0].Targets["dr"].Addresses[0].String() != "203.0.113.80" {
		t.Errorf("a hybrid: %+v", zones)
	}
	// The same zone at two places is one.
	with := *c
	second := c.DNS["public"]
	second.ID, second.Provider, second.Hosted = "cloud", config.ProviderRoute53, config.Hosted{Authorities: []string{"192.0.2.60:53"}}
	with.DNS = map[string]config.Zone{"public": c.DNS["public"], "cloud": second}
	with.Services = slices.Clone(c.Services)
	for i := range with.Services {
		with.Services[i].DNS.Also, with.Services[i].DNS.Floor = []string{"cloud"}, time.Minute
	}
	if got, want := auditLines(auditZones(&with)), embedded+"  192.0.2.60:53 \"\" route53 hidden false, epochs true\n"+strings.ReplaceAll(names, "floor 0s", "floor 1m0s"); got != want {
		t.Errorf("at two places:\n%swant:\n%s", got, want)
	}
	if got := embeddedAt(config.Zone{}, config.Member{ID: "site", DNS: ":53", Peer: "192.0.2.1:7400"}); got != ":53" {
		t.Errorf("an address without one: %s", got)
	}
	if got := embeddedAt(config.Zone{}, config.Member{ID: "site", DNS: "0.0.0.0:53", Peer: "192.0.2.1:7400"}); got != "192.0.2.1:53" {
		t.Errorf("any address: %s", got)
	}
}

// auditFile is a file whose zone is at a server of the test's, with extra lines
// in the table of the service's name.
func auditFile(t *testing.T, address, extra string) string {
	t.Helper()
	text, err := os.ReadFile("../../etc/failover.toml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "failover.toml")
	head, rest, found := strings.Cut(string(text), "[dns.public]\n")
	_, services, found2 := strings.Cut(rest, "# --------------------------------------------------------------- services")
	if !found || !found2 {
		t.Fatal("the sample has another form")
	}
	zone := fmt.Sprintf("[dns.public]\nprovider = \"rfc2136\"\nzone = \"ha.example.org.\"\nprimary = %q\ndomain = \"cloud\"\nkey_file = \"dns.key\"\n%s\n#", address, extra)
	if err := os.WriteFile(file, []byte(head+zone+services), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func runAudit(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := &program{stdout: &out, stderr: &errs, now: time.Now, getenv: func(string) string { return "" }, server: server{load: daemon.Load},
		size: func(any) (int, int, bool) { return 0, 0, false }}
	code = p.run(ctx, append([]string{"dns", "audit"}, args...))
	return code, out.String(), errs.String()
}

// The command as it is typed, on a server in memory.
func TestAuditCommand(t *testing.T) {
	t.Parallel()
	right := nameserver.Start(t, nameserver.Fake, nameserver.Options{Zone: "ha.example.org.", Records: []string{
		"shop 5 IN A 203.0.113.20", "shop 5 IN AAAA 2001:db8:2::20", `_draas.shop 5 IN TXT "epoch=3 site=dr"`,
		"ldap 30 IN A 203.0.113.21", `_draas.ldap 30 IN TXT "epoch=2 site=dr"`}})
	file := auditFile(t, right.Address, "")
	code, out, errs := runAudit(t, t.Context(), "-c", file, "--resolver", "none", "--no-delegation")
	if code != exitOK || errs != "" || !strings.Contains(out, "0 errors, 0 warnings, 2 in order\n") {
		t.Errorf("exits with %d: %s%s", code, out, errs)
	}
	// As a resolver it is asked for what it has, too. The parent knows nothing
	// of the zone.
	parent := nameserver.Start(t, nameserver.Fake, nameserver.Options{Zone: "example.org."})
	code, out, errs = runAudit(t, t.Context(), "-c", file, "--json", "--resolver", right.Address, "--parent="+parent.Address)
	var r audit.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitFailed || errs != "" {
		t.Fatalf("exits with %d: %v\n%s%s", code, err, out, errs)
	}
	codes := make(map[string]int)
	for _, f := range r.Findings {
		codes[f.Code]++
	}
	if codes[audit.CodeFollows] != 2 || codes[audit.CodeInForce] != 2 || codes[audit.CodeNotDelegated] != 1 || len(r.Zones[0].Names) != 2 {
		t.Errorf("findings %v\n%s", codes, out)
	}
	// Watched, it goes on until it is interrupted.
	ctx, cancel := context.WithCancel(t.Context())
	watched := &stopAfter{n: 3, stop: cancel}
	p := &program{stdout: watched, stderr: io.Discard, now: time.Now, server: server{load: daemon.Load}, size: func(any) (int, int, bool) { return 0, 0, false }}
	if code := p.run(ctx, []string{"dns", "audit", "-c", file, "--json", "--watch", "20ms", "--resolver", "none", "--no-delegation"}); code != exitOK {
		t.Errorf("watching exits with %d", code)
	}
	if lines := strings.Count(watched.String(), "\n"); lines != 3 {
		t.Errorf("%d lines of three looks", lines)
	}
}

// stopAfter ends something at the nth write.
type stopAfter struct {
	bytes.Buffer
	n    int
	stop func()
}

func (s *stopAfter) Write(p []byte) (int, error) {
	if s.n--; s.n == 0 {
		s.stop()
	}
	return s.Buffer.Write(p)
}

// What is no finding exits with 2.
func TestAuditCannot(t *testing.T) {
	for want, args := range map[string][]string{
		"file with -c FILE":       {"-c", "no-such-file.toml"},
		"want an IP address":      {"-c", "../../etc/failover.toml", "--resolver", "localhost"},
		"--parent: ":              {"-c", "../../etc/failover.toml", "--resolver", "none", "--parent", "ns1.example.org"},
		"want times above 0":      {"-c", "../../etc/failover.toml", "--timeout", "0s"},
		"want: draasd dns audit":  {"twice"},
		"invalid value \"often\"": {"--watch", "often"},
	} {
		code, out, errs := runAudit(t, t.Context(), args...)
		if code != exitUsage || !strings.Contains(errs, want) || out != "" {
			t.Errorf("%q exits with %d: %s%s", args, code, out, errs)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, _, errs := runAudit(t, ctx, "-c", "../../etc/failover.toml", "--resolver", "none"); code != exitUsage || !strings.Contains(errs, "context canceled") {
		t.Errorf("interrupted: exits with %d: %s", code, errs)
	}
	broken := filepath.Join(t.TempDir(), "failover.toml")
	if err := os.WriteFile(broken, []byte("cluster = 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := runAudit(t, t.Context(), "-c", broken); code != exitUsage || !strings.Contains(errs, "failover.toml:1") {
		t.Errorf("a broken file: exits with %d: %s", code, errs)
	}
}

func TestAddressList(t *testing.T) {
	got, err := addressList("192.0.2.1, 192.0.2.2:5353,2001:db8::1,[2001:db8::2],[2001:db8::3]:54,")
	want := []string{"192.0.2.1:53", "192.0.2.2:5353", "[2001:db8::1]:53", "[2001:db8::2]:53", "[2001:db8::3]:54"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

// On a terminal the end of the report is what is seen.
func TestAuditOnATerminal(t *testing.T) {
	var b bytes.Buffer
	p := &program{stdout: &b, size: func(any) (int, int, bool) { return 100, 8, true }}
	if err := p.showAudit(night(), false); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	if len(lines) != 8 || !strings.HasPrefix(lines[0], "\x1b[H") || lines[7] != "\x1b[J" || !strings.Contains(lines[6], "2 errors, 1 warning, 1 in order") {
		t.Errorf("%q", lines)
	}
}

// One look cannot tell a resolver that is behind from one that does not
// follow; a second one can.
func TestAuditLooksAgain(t *testing.T) {
	t.Parallel()
	zone := func(lines ...string) *nameserver.Server {
		return nameserver.Start(t, nameserver.Fake, nameserver.Options{Zone: "ha.example.org.", Records: append(lines,
			"ldap 30 IN A 203.0.113.21", `_draas.ldap 30 IN TXT "epoch=2 site=dr"`)})
	}
	authority := zone("shop 5 IN A 203.0.113.20", "shop 5 IN AAAA 2001:db8:2::20", `_draas.shop 5 IN TXT "epoch=3 site=dr"`)
	resolver := zone("shop 1 IN A 198.51.100.20", "shop 1 IN AAAA 2001:db8:1::20", `_draas.shop 1 IN TXT "epoch=2 site=primary"`)
	code, out, errs := runAudit(t, t.Context(), "-c", auditFile(t, authority.Address, ""), "--no-delegation", "--resolver", resolver.Address)
	if code != exitFailed || !strings.Contains(errs, "looking again in 2s") || !strings.Contains(out, "still leads to primary, and the TTL is over") {
		t.Errorf("exits with %d: %s%s", code, out, errs)
	}
}
