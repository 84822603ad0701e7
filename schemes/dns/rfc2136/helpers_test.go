package rfc2136

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/runbook/effecttest"
	"github.com/draasd/draas/schemes/dns"
)

// TestMain lets more tests run at once than there are processors: they wait
// most of their time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const (
	zone = "example.org."
	shop = "shop.example.org."
)

// kinds are all servers that the effect is held to.
var kinds = append(nameserver.Real(), nameserver.Fake)

// each runs a test in parallel on each kind of server.
func each(t *testing.T, kinds []nameserver.Kind, test func(t *testing.T, kind nameserver.Kind)) {
	t.Helper()
	t.Parallel()
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, kind)
		})
	}
}

func addrs(texts ...string) []netip.Addr {
	out := make([]netip.Addr, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// atName is the service "shop" of effecttest at a name of the zone.
func atName(name string) dns.Name {
	return dns.Name{Name: name, Service: "shop", TTL: 5 * time.Second, Targets: map[draas.SiteID]dns.Target{
		"primary": {Addresses: addrs("192.0.2.10", "2001:db8::10")},
		"dr":      {Addresses: addrs("203.0.113.21", "203.0.113.20", "2001:db8::20")},
	}}
}

func keyFile(t testing.TB, k nameserver.Key) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "draas.key")
	writeKey(t, file, k)
	return file
}

func writeKey(t testing.TB, file string, k nameserver.Key) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(k.File()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// effect is one executor's, with changes to its configuration.
func effect(t testing.TB, s *nameserver.Server, address string, changes ...func(*Config)) *Effect {
	t.Helper()
	cfg := Config{Zone: zone, Names: []dns.Name{atName(shop)}, Primary: dns.Server{Address: address}, KeyFile: keyFile(t, s.Key)}
	for _, change := range changes {
		change(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// do bounds a Do that has to end by itself.
func do(t testing.TB, e *Effect, op runbook.Op) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return e.Do(ctx, op)
}

func mustDo(t testing.TB, e *Effect, op runbook.Op) {
	t.Helper()
	if err := do(t, e, op); err != nil {
		t.Fatalf("Do(%v, %s): %v", op.Token, op.To, err)
	}
	expect(t, e, op, runbook.Yes)
}

func expect(t testing.TB, e *Effect, op runbook.Op, want runbook.Answer) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, evidence, err := e.Done(ctx, op)
	if got != want || (err != nil) != (got == runbook.Unknown) {
		t.Fatalf("Done(%v, %s) = %v %q %v, want %v", op.Token, op.To, got, evidence, err, want)
	}
	return evidence
}

// stands reads all that is at a name and its epoch from outside.
func stands(s *nameserver.Server, name string) string {
	var out []string
	for _, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeMX} {
		out = append(out, s.Lookup(name, qtype))
	}
	return strings.Join(append(out, s.Lookup(dns.EpochName(name), mdns.TypeTXT)), "\n")
}

func op(epoch draas.Epoch, site int) runbook.Op { return effecttest.SampleOp(epoch, site) }

// epochAt is the epoch that stands at the server.
func epochAt(t testing.TB, s *nameserver.Server) draas.Epoch {
	t.Helper()
	said := s.Lookup(dns.EpochName(shop), mdns.TypeTXT)
	_, quoted, found := strings.Cut(said, `TXT "`)
	if !found {
		return 0
	}
	d, err := dns.ParseEpochText(strings.TrimSuffix(quoted, `"`))
	if err != nil {
		t.Fatalf("%s: %v", said, err)
	}
	return d.Token.Epoch
}

// contract holds one kind of server to effecttest: each harness is a name of
// its own, in one zone.
func contract(t *testing.T, kind nameserver.Kind, algorithm string, changes ...func(*Config)) {
	const most = 64
	names := make([]string, most)
	for i := range names {
		names[i] = fmt.Sprintf("shop%d.%s", i, zone)
	}
	s := nameserver.Start(t, kind, nameserver.Options{Names: names, Key: nameserver.NewKey("draas.", algorithm)})
	next := 0
	effecttest.Run(t, func(t testing.TB) effecttest.Harness {
		name := names[next]
		next++
		r := nameserver.NewRelay(t, s.Address)
		changes := append([]func(*Config){func(c *Config) { c.Names = []dns.Name{atName(name)} }}, changes...)
		return effecttest.Harness{
			Effect: effect(t, s, r.Address, changes...), Second: effect(t, s, s.Address, changes...),
			Op:       effecttest.SampleOp,
			Turns:    true,
			Snapshot: func() string { return stands(s, name) },
			Inject: func(f effecttest.Fault) func() {
				r.SetRule(map[effecttest.Fault]func(*mdns.Msg) nameserver.Fate{
					effecttest.LoseRequest: nameserver.All(nameserver.Lose),
					effecttest.LoseAnswer:  nameserver.Updates(nameserver.LoseAnswer),
					effecttest.ApplyLate:   nameserver.Updates(nameserver.Hold),
					effecttest.Refuse:      nameserver.Updates(nameserver.Refused),
					effecttest.Blind:       nameserver.Queries(nameserver.Lose),
				}[f])
				return func() { r.SetRule(nil); r.Deliver() }
			},
			Faults: []effecttest.Fault{effecttest.LoseRequest, effecttest.LoseAnswer, effecttest.ApplyLate, effecttest.Refuse, effecttest.Blind},
		}
	})
}

func TestContract(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) { contract(t, kind, "hmac-sha256") })
}

func TestContractByTCP(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		contract(t, kind, "hmac-sha512", func(c *Config) { c.TCP = true })
	})
}
