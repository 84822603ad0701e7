package authority

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testClock is a clock that stands still until it is told.
type testClock struct {
	mu  sync.Mutex
	now draas.Reading
}

func (c *testClock) Now() draas.Reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// sampleZone has one of everything.
func sampleZone() Zone {
	return Zone{
		Name: "example.org.",
		Servers: []NameServer{
			{Site: "dr", Host: "ns2.example.org.", Addresses: addrs("203.0.113.53", "2001:db8:2::53")},
			{Site: "primary", Host: "NS1.example.org.", Addresses: addrs("198.51.100.53")},
			{Site: "third", Host: "ns.elsewhere.net."},
		},
		Services: []dns.Name{
			{Name: "shop.example.org.", Service: "shop", TTL: 5 * time.Second, Targets: map[draas.SiteID]dns.Target{
				"primary": {Addresses: addrs("198.51.100.20")},
				"dr":      {Addresses: addrs("203.0.113.20", "203.0.113.21")},
			}},
			{Name: "Dual.example.org.", Service: "dual", TTL: 5 * time.Second, Targets: map[draas.SiteID]dns.Target{
				"primary": {Addresses: addrs("198.51.100.30", "2001:db8:1::30")},
				"dr":      {Addresses: addrs("203.0.113.30")},
			}},
			{Name: "alias.example.org.", Service: "alias", TTL: 5 * time.Second, Targets: map[draas.SiteID]dns.Target{
				"primary": {CNAME: "shop.example.org."},
				"dr":      {CNAME: "cdn.elsewhere.net."},
			}},
			{Name: "example.org.", Service: "apex", TTL: 5 * time.Second, Targets: map[draas.SiteID]dns.Target{
				"primary": {Addresses: addrs("198.51.100.40")},
				"dr":      {Addresses: addrs("203.0.113.40")},
			}},
		},
		Records: []Record{
			{Name: "mail.example.org.", Type: "A", Value: []string{"192.0.2.9"}, TTL: time.Minute},
			{Name: "a.b.c.example.org.", Type: "TXT", Value: []string{"deep", `q"u\o` + "te\x00"}, TTL: time.Minute},
			{Name: "www.example.org.", Type: "CNAME", Value: []string{"shop.example.org."}, TTL: time.Minute},
			{Name: "out.example.org.", Type: "CNAME", Value: []string{"www.elsewhere.net."}, TTL: time.Minute},
			{Name: "dangling.example.org.", Type: "CNAME", Value: []string{"nothing.example.org."}, TTL: time.Minute},
			{Name: "loop1.example.org.", Type: "CNAME", Value: []string{"loop2.example.org."}, TTL: time.Minute},
			{Name: "loop2.example.org.", Type: "CNAME", Value: []string{"loop1.example.org."}, TTL: time.Minute},
			{Name: "sub.example.org.", Type: "NS", Value: []string{"ns.sub.example.org.", "ns.elsewhere.net."}, TTL: time.Minute},
			{Name: "ns.sub.example.org.", Type: "A", Value: []string{"192.0.2.99"}, TTL: time.Minute},
			{Name: "deep.sub.example.org.", Type: "NS", Value: []string{"ns.elsewhere.net."}, TTL: time.Minute},
			{Name: "into.example.org.", Type: "CNAME", Value: []string{"x.sub.example.org."}, TTL: time.Minute},
			{Name: "big.example.org.", Type: "TXT", Value: bigTexts(20), TTL: time.Minute},
		},
	}
}

func bigTexts(n int) (out []string) {
	for i := range n {
		out = append(out, strings.Repeat(string(rune('a'+i)), 200))
	}
	return out
}

type fixture struct {
	*Authority
	clock *testClock
	log   *logBuffer
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newFixture(t testing.TB, zones ...Zone) *fixture {
	t.Helper()
	f := &fixture{clock: &testClock{now: draas.Reading{Boot: time.Hour, Wall: 1000 * time.Hour}}, log: &logBuffer{}}
	if len(zones) == 0 {
		zones = []Zone{sampleZone()}
	}
	a, err := New(Config{
		Zones: zones, Clock: f.clock.Now, Log: slog.New(slog.NewTextHandler(f.log, nil)),
		Workers: 2, MaxConns: 8, IdleTimeout: 500 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Authority = a
	return f
}

func decision(epoch draas.Epoch, site draas.SiteID) dns.Decision {
	return dns.Decision{Token: runbook.Token{Epoch: epoch}, Site: site}
}

// publish makes the services active at a site, in touch now.
func (f *fixture) publish(t testing.TB, epoch draas.Epoch, site draas.SiteID, services ...draas.ServiceID) {
	t.Helper()
	v := View{Services: make(map[draas.ServiceID]dns.Decision), InTouch: true, At: f.clock.Now()}
	for _, s := range services {
		v.Services[s] = decision(epoch, site)
	}
	if err := f.Publish(v); err != nil {
		t.Fatal(err)
	}
}

// allAt publishes every service of the sample zone at a site.
func (f *fixture) allAt(t testing.TB, epoch draas.Epoch, site draas.SiteID) {
	t.Helper()
	f.publish(t, epoch, site, "shop", "dual", "alias", "apex")
}

// respond answers one message.
func (f *fixture) respond(dst, msg []byte, tcp bool) []byte {
	return f.Authority.respond(dst, msg, client{tcp: tcp, now: &moment{clock: f.clock.Now}})
}

// ask sends one message through the UDP handler.
func (f *fixture) ask(t testing.TB, m *mdns.Msg) *mdns.Msg {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return unpack(t, f.respond(nil, wire, false))
}

func unpack(t testing.TB, wire []byte) *mdns.Msg {
	t.Helper()
	if len(wire) == 0 {
		t.Fatal("no answer")
	}
	r := new(mdns.Msg)
	if err := r.Unpack(wire); err != nil {
		t.Fatalf("answer does not parse: %v\n%x", err, wire)
	}
	return r
}

func question(name string, qtype uint16) *mdns.Msg {
	m := new(mdns.Msg)
	m.SetQuestion(name, qtype)
	return m
}

// brief writes a response on one line: rcode, flags, sections.
func brief(r *mdns.Msg) string {
	var b strings.Builder
	b.WriteString(mdns.RcodeToString[r.Rcode])
	for _, flag := range []struct {
		set  bool
		name string
	}{{r.Authoritative, " aa"}, {r.Truncated, " tc"}, {r.RecursionAvailable, " ra"}, {r.AuthenticatedData, " ad"}} {
		if flag.set {
			b.WriteString(flag.name)
		}
	}
	for _, section := range []struct {
		name string
		rrs  []mdns.RR
	}{{"an", r.Answer}, {"ns", r.Ns}, {"ar", r.Extra}} {
		for _, rr := range section.rrs {
			if rr.Header().Rrtype == mdns.TypeOPT {
				continue
			}
			b.WriteString(" | " + section.name + " " + strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	return b.String()
}

// serve runs the authority on a loopback port for the test's time.
func (f *fixture) serve(t testing.TB, address string) (addr string, stop func()) {
	t.Helper()
	l, err := Listen(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Serve(ctx, l) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return l.Addr().String(), stop
}
