package dyndns2

import (
	"context"
	"flag"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/draasd/draas"
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

const shop = "shop.example.org."

func addrs(texts ...string) []netip.Addr {
	out := make([]netip.Addr, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// atName is the service "shop" of effecttest at a name.
func atName(name string) dns.Name {
	return dns.Name{Name: name, Service: "shop", TTL: time.Minute, Targets: map[draas.SiteID]dns.Target{
		"primary": {Addresses: addrs("192.0.2.10", "2001:db8::10")},
		"dr":      {Addresses: addrs("2001:db8::20", "203.0.113.20")},
	}}
}

// clock is set by hand; the times that a service sets are long.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// begun is when the tests' boot clock begins.
var begun = time.Now()

func reading() draas.Reading {
	d := time.Hour + time.Since(begun)
	return draas.Reading{Boot: d, Wall: d}
}

// gateConfig is a gate at which nothing has to be waited for: the member has
// seen the end of all tokens long ago, and may always act.
func gateConfig() dns.GateConfig {
	return dns.GateConfig{Window: 20 * time.Millisecond, Drift: 0.1, Request: 3 * time.Second, Late: 30 * time.Millisecond, Now: reading,
		Current: func(draas.ServiceID, runbook.Token) (draas.Deadline, bool) {
			return draas.DeadlineAt(reading(), time.Hour), true
		},
		Superseded: func(draas.ServiceID, runbook.Token) (draas.Reading, bool) { return draas.Reading{}, true }}
}

func newGate(t testing.TB, cfg dns.GateConfig) *dns.Gate {
	t.Helper()
	g, err := dns.NewGate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func writeFile(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dns.login")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// hasty is for tests in which somebody does not answer.
func hasty(t testing.TB) func(*Config) {
	return func(c *Config) {
		g := gateConfig()
		g.Request = 300 * time.Millisecond
		c.Gate, c.Timeout = newGate(t, g), 200*time.Millisecond
	}
}

// bench is a service, a way to it, and an executor.
type bench struct {
	*front
	*Effect
	t     testing.TB
	clock *clock
	ca    *ca
	login string // the credentials file
}

func (b *bench) config() Config {
	return Config{URL: b.url, Names: []dns.Name{atName(shop)}, Authorities: []dns.Server{{Address: b.dns}}, CredentialsFile: b.login,
		CAFile: b.ca.file, Contact: "ops@example.org", Version: "1.2", Gate: newGate(b.t, gateConfig()), Timeout: 2 * time.Second,
		Lag: 250 * time.Millisecond, Now: b.clock.now}
}

// newBench has changes to the executor's configuration.
func newBench(t testing.TB, changes ...func(*Config)) *bench {
	t.Helper()
	b := &bench{t: t, clock: newClock(), ca: newCA(t), login: writeFile(t, account+":"+secret+"\n")}
	b.front = newFront(t, newService(b.clock.now), b.ca)
	b.Effect = b.executor(changes...)
	return b
}

// executor is another one at the same service.
func (b *bench) executor(changes ...func(*Config)) *Effect {
	b.t.Helper()
	cfg := b.config()
	for _, change := range changes {
		change(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

// touch writes the credentials file anew.
func (b *bench) touch() {
	b.t.Helper()
	at := time.Now().Add(time.Duration(1+time.Now().UnixNano()%1e9) * time.Nanosecond)
	if err := os.Chtimes(b.login, at, at); err != nil {
		b.t.Fatal(err)
	}
}

func op(epoch draas.Epoch, site int) runbook.Op { return effecttest.SampleOp(epoch, site) }

func do(t testing.TB, e *Effect, op runbook.Op) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return e.Do(ctx, op)
}

func expect(t testing.TB, e *Effect, op runbook.Op, want runbook.Answer) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, evidence, err := e.Done(ctx, op)
	if got != want || (err != nil) != (got == runbook.Unknown) {
		t.Fatalf("Done(%v, %s) = %v %q %v, want %v", op.Token, op.To, got, evidence, err, want)
	}
	return evidence
}

func mustDo(t testing.TB, e *Effect, op runbook.Op) {
	t.Helper()
	if err := do(t, e, op); err != nil {
		t.Fatalf("Do(%v, %s): %v", op.Token, op.To, err)
	}
	expect(t, e, op, runbook.Yes)
}

func (b *bench) stands() string {
	var out string
	b.service.do(func() { out = myIP(b.hosts["shop.example.org"]) + " seen " + myIP(b.seen["shop.example.org"]) })
	return out
}

func TestContract(t *testing.T) {
	t.Parallel()
	authority := newCA(t)
	effecttest.Run(t, func(t testing.TB) effecttest.Harness {
		b := &bench{t: t, clock: newClock(), ca: authority, login: writeFile(t, account+"\n"+secret)}
		b.front = newFront(t, newService(b.clock.now), b.ca)
		b.Effect = b.executor()
		second := &bench{t: t, clock: b.clock, ca: authority, login: b.login, front: newFront(t, b.service, b.ca)}
		return effecttest.Harness{
			Effect: b.Effect, Second: second.executor(), Op: effecttest.SampleOp, Turns: true, Snapshot: b.stands, Short: 600 * time.Millisecond,
			Inject: func(f effecttest.Fault) func() {
				b.front.set(func() {
					if f == effecttest.LoseRequest || f == effecttest.Blind {
						b.rcode = mdns.RcodeServerFailure
					}
					b.answer = map[effecttest.Fault]func(http.ResponseWriter, *http.Request) bool{
						effecttest.LoseRequest: hang, effecttest.LoseAnswer: b.carryOutAndHang, effecttest.ApplyLate: b.hold,
						effecttest.Refuse: say(http.StatusServiceUnavailable, "busy"),
					}[f]
				})
				return func() {
					b.front.set(func() { b.rcode, b.answer = mdns.RcodeSuccess, nil })
					b.deliver()
				}
			},
			Faults: []effecttest.Fault{effecttest.LoseRequest, effecttest.LoseAnswer, effecttest.ApplyLate, effecttest.Refuse, effecttest.Blind},
		}
	})
}

func records(t testing.TB, texts ...string) []mdns.RR {
	t.Helper()
	var out []mdns.RR
	for _, text := range texts {
		rr, err := mdns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}
