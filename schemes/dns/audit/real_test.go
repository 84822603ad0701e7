package audit

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/schemes/dns"
)

// All is as it should be: BIND with a Knot secondary, unbound, and the
// delegation as the resolver finds it.
func TestInOrder(t *testing.T) {
	t.Parallel()
	l := newLab(t, labOptions{ttl: 30, secondary: nameserver.Knot})
	l.resolver()
	l.plan.Parents = nil
	r := l.expect("")
	codes := make(map[string]int)
	for _, f := range r.Findings {
		codes[f.Code]++
	}
	if codes[CodeInForce] != 1 || codes[CodeFollows] != 1 || codes[CodeDelegated] != 1 {
		t.Errorf("findings: %s", texts(r))
	}
	z := r.Zones[0]
	n := z.Names[0]
	if n.Epoch != 7 || n.Site != "dr" || z.Delegation.Parent != "org." || z.Servers[1].Serial != 1 || z.Servers[0].Negative != 60 {
		t.Errorf("seen: %+v", z)
	}
	if got := n.Answers[2]; got.Longest == 0 || got.Longest > 30 || got.Epoch != 7 || len(got.Records) != 1 {
		t.Errorf("the resolver: %+v", got)
	}
	// The TTL runs down at the resolver, not at the authorities.
	wait(1100 * time.Millisecond)
	_, r = l.look(l.auditor())
	if a := r.Zones[0].Names[0].Answers; a[0].Longest != 30 || a[2].Longest > 29 {
		t.Errorf("later: %+v", a)
	}
}

// A secondary that is not told and does not ask.
func TestSecondaryBehind(t *testing.T) {
	t.Parallel()
	silent := func(conf string) string {
		var out []string
		for line := range strings.Lines(conf) {
			if !strings.Contains(line, "also-notify") {
				out = append(out, line)
			}
		}
		return strings.Join(out, "")
	}
	l := newLab(t, labOptions{ttl: 5, secondary: nameserver.Knot, edit: silent})
	l.expect("")
	l.move(5, "192.0.2.10", "epoch=8 site=primary")
	l.expect("error behind secondary; warn serial")
	l.move(60, "192.0.2.10", "epoch=8 site=primary")
	l.expect("error behind secondary; error ttl primary; warn serial")
	l.secondary.Kill()
	l.expect("error ns-silent " + secondaryAt + "; error silent secondary; error ttl primary")
}

// A resolver with a minimum of its own.
func TestResolverRaisesTTL(t *testing.T) {
	t.Parallel()
	l := newLab(t, labOptions{ttl: 1})
	l.resolver("cache-min-ttl: 60")
	r := l.expect("error resolver-ttl-raised resolver")
	if got := r.Zones[0].Names[0].Answers[1].Longest; got < 50 || got > 60 {
		t.Errorf("TTL %d", got)
	}
	l.move(1, "192.0.2.10", "epoch=8 site=primary")
	l.expect("error resolver-ttl-raised resolver; warn resolver-behind resolver")
	l.plan.Zones[0].Names[0].Floor = time.Minute
	l.expect("warn resolver-behind resolver")
}

// A resolver that hands out expired answers: by its own word, or found out by
// the time.
func TestResolverServesStale(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lines        []string
		first, later string
	}{
		"by its word": {[]string{"serve-expired: yes", "ede: yes", "ede-serve-expired: yes"}, "error resolver-stale resolver", ""},
		"in silence":  {[]string{"serve-expired: yes"}, "warn resolver-behind resolver", "error resolver-stale resolver"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// All until the first look has to fit into the TTL.
			const ttl = 3
			l := newLab(t, labOptions{ttl: ttl})
			l.resolver(c.lines...)
			l.warm()
			l.move(ttl, "192.0.2.10", "epoch=8 site=primary")
			if c.later == "" {
				wait((ttl + 1) * time.Second) // unbound counts whole seconds
				l.expect(c.first)
				return
			}
			a := l.auditor()
			got, r := l.look(a)
			if got != c.first || r.Again < 2 || r.Again > ttl+2 {
				t.Fatalf("%q, again after %d s", got, r.Again)
			}
			wait(time.Duration(r.Again)*time.Second + 100*time.Millisecond)
			if got, r := l.look(a); got != c.later {
				t.Errorf("%q, want %q\n%s", got, c.later, texts(r))
			}
			// By then it has fetched the new one.
			if got, r := l.look(a); got != "" {
				t.Errorf("at last: %q\n%s", got, texts(r))
			}
		})
	}
}

// A resolver that validates, and a zone that does not hold.
func TestResolverFindsItBogus(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{"says why": {"ede: yes"}, "does not say why": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, labOptions{ttl: 5})
			key := newKey(t)
			l.resolver(append(lines, fmt.Sprintf("trust-anchor: '%s'", strings.ReplaceAll(key.ToDS(mdns.SHA256).String(), "\t", " ")))...)
			l.expect("error resolver-bogus resolver")
		})
	}
}

// A resolver that has kept that there is no such name.
func TestResolverKeepsNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, labOptions{ttl: 5})
	l.resolver(`local-zone: "shop.example.org." always_nxdomain`)
	l.expect("error resolver-missing resolver")
	l.resolver(`local-data: "shop.example.org. 5 IN A 10.0.0.1"`, `local-zone: "example.org." transparent`)
	l.expect("error resolver-foreign resolver")
	l.resolver(`access-control: 0.0.0.0/0 refuse`, `access-control: 127.0.0.0/8 refuse`)
	l.expect("error resolver-fails resolver")
}

// The parent says something else than the file.
func TestDelegation(t *testing.T) {
	t.Parallel()
	glue := []string{"ns1.example IN A " + primaryAt, "ns2.example IN A " + secondaryAt}
	for name, c := range map[string]struct {
		parent []string
		want   string
	}{
		"none":            {[]string{"other IN A 192.0.2.1"}, "error not-delegated"},
		"one site":        {append([]string{"example IN NS ns1.example"}, glue...), "error ns-apex primary; error ns-missing; warn one-server"},
		"another server":  {append([]string{"example IN NS ns1.example", "example IN NS ns2.example", "example IN NS ns3.example", "ns3.example IN A 198.51.100.3"}, glue...), "error ns-apex primary; error ns-extra"},
		"without glue":    {[]string{"example IN NS ns1.example", "example IN NS ns2.example", glue[0]}, "error glue-missing parent; warn one-server"},
		"wrong glue":      {[]string{"example IN NS ns1.example", "example IN NS ns2.example", glue[0], "ns2.example IN A 203.0.113.99"}, "error glue-wrong parent"},
		"DS without keys": {append([]string{"example IN NS ns1.example", "example IN NS ns2.example", "example IN DS 12345 13 2 " + strings.Repeat("ab", 32)}, glue...), "error ds primary"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, labOptions{ttl: 5, parent: c.parent})
			l.expect(c.want)
		})
	}
}

// A name server of the delegation that does not have the zone.
func TestLameDelegation(t *testing.T) {
	t.Parallel()
	l := newLab(t, labOptions{ttl: 5})
	reach := l.plan.Reach
	l.plan.Reach = func(a netip.Addr) string {
		if a.String() == secondaryAt {
			return l.parent.Address // it knows the zone above only
		}
		return reach(a)
	}
	l.expect("error ns-lame " + secondaryAt)
	l.plan.Zones[0].Servers = append(l.plan.Zones[0].Servers, Server{Server: dns.Server{Site: "dr", Address: l.parent.Address}})
	l.expect("error not-authoritative parent; error ns-lame " + secondaryAt)
}

// A signed zone, with its DS at the parent and with another.
func TestSignedZone(t *testing.T) {
	t.Parallel()
	sign := func(conf string) string {
		return strings.Replace(conf, "type primary;", "type primary;\n\tdnssec-policy default;\n\tinline-signing yes;", 1)
	}
	l := newLab(t, labOptions{ttl: 5, edit: sign})
	keys := func() []*mdns.DNSKEY {
		_, r := l.look(l.auditor())
		return r.Zones[0].Servers[0].keys
	}
	var have []*mdns.DNSKEY
	for deadline := time.Now().Add(10 * time.Second); len(have) == 0 && time.Now().Before(deadline); wait(50 * time.Millisecond) {
		have = keys()
	}
	if len(have) != 1 {
		t.Fatalf("%d keys", len(have))
	}
	l.expect("warn ds primary") // no DS
	delegate := func(ds *mdns.DS) {
		l.parent = nameserver.Start(t, nameserver.BIND, nameserver.Options{Zone: "org.", Records: []string{"example IN NS ns1.example", "example IN NS ns2.example",
			"ns1.example IN A " + primaryAt, "ns2.example IN A " + secondaryAt, strings.Replace(ds.String(), "example.org.", "example", 1)}})
		l.plan.Parents = []string{l.parent.Address}
	}
	delegate(have[0].ToDS(mdns.SHA256))
	if r := l.expect(""); len(r.Zones[0].Delegation.Answers[0].DS) != 1 || r.Zones[0].Servers[0].Keys[0] != have[0].KeyTag() {
		t.Errorf("seen: %+v", r.Zones[0])
	}
	delegate(newKey(t).ToDS(mdns.SHA256))
	l.expect("error ds primary")
}

// The parent cannot be found, and a look that is broken off.
func TestCannotLook(t *testing.T) {
	t.Parallel()
	l := newLab(t, labOptions{ttl: 5})
	l.plan.Parents = nil
	l.expect("error parent")
	l.plan.SkipDelegation = true
	l.expect("")
	l.plan.Resolvers, l.plan.Timeout = []string{nameserver.Address(t)}, 100*time.Millisecond
	l.expect("error resolver-silent resolver")
	l.plan.Timeout = 30 * time.Second
	mute, err := net.ListenPacket("udp", l.plan.Resolvers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _, err := l.auditor().Look(ctx); done <- err }()
	wait(50 * time.Millisecond)
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it does not end")
	}
}
