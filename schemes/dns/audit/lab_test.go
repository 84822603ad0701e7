package audit

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/schemes/dns"
)

// Where the servers of the lab are for the world; they run on loopback.
const (
	parentAt    = "198.51.100.1"
	primaryAt   = "192.0.2.53"
	secondaryAt = "203.0.113.53"
)

// records of the child zone: shop leads to dr at epoch 7.
func childRecords(ttl int) []string {
	return []string{"@ IN NS ns2", "ns2 IN A " + secondaryAt,
		fmt.Sprintf("shop %d IN A 203.0.113.20", ttl), fmt.Sprintf(`_draas.shop %d IN TXT "epoch=7 site=dr"`, ttl)}
}

// lab is a parent and a child zone on real servers.
type lab struct {
	t                          testing.TB
	parent, primary, secondary *nameserver.Server
	plan                       Plan
}

type labOptions struct {
	ttl          int // of the name, in seconds
	parent       []string
	secondary    nameserver.Kind // if not empty
	edit         func(string) string
	childRecords []string
}

// newLab has BIND for the parent zone org. and the child.
func newLab(t testing.TB, o labOptions) *lab {
	t.Helper()
	l := &lab{t: t}
	child := nameserver.Options{Records: append(childRecords(o.ttl), o.childRecords...), Edit: o.edit}
	if o.secondary != "" {
		l.primary, l.secondary = nameserver.StartPair(t, nameserver.BIND, o.secondary, child)
	} else {
		l.primary = nameserver.Start(t, nameserver.BIND, child)
	}
	if o.parent == nil {
		o.parent = []string{"example IN NS ns1.example", "example IN NS ns2.example", "ns1.example IN A " + primaryAt, "ns2.example IN A " + secondaryAt}
	}
	l.parent = nameserver.Start(t, nameserver.BIND, nameserver.Options{Zone: "org.", Records: append(o.parent, "ns1 IN A "+parentAt)})
	l.plan = Plan{Parents: []string{l.parent.Address}, Timeout: 2 * time.Second, Reach: func(a netip.Addr) string {
		switch a.String() {
		case parentAt:
			return l.parent.Address
		case secondaryAt:
			if l.secondary != nil {
				return l.secondary.Address
			}
		}
		return l.primary.Address
	}, Zones: []Zone{{Name: "example.org.", NegativeTTL: 60 * time.Second,
		Servers: []Server{{Server: dns.Server{Site: "primary", Address: l.primary.Address}, Role: "primary"}},
		NS:      []NS{{Name: "ns1.example.org.", Site: "primary", Addresses: addrs(primaryAt)}, {Name: "ns2.example.org.", Site: "dr", Addresses: addrs(secondaryAt)}},
		Names: []Name{{Name: dns.Name{Name: shop, Service: "shop", TTL: time.Duration(o.ttl) * time.Second, Targets: map[draas.SiteID]dns.Target{
			"primary": {Addresses: addrs("192.0.2.10")}, "dr": {Addresses: addrs("203.0.113.20")}}}}}}}}
	if l.secondary != nil {
		l.plan.Zones[0].Servers = append(l.plan.Zones[0].Servers, Server{Server: dns.Server{Site: "dr", Address: l.secondary.Address}, Role: "secondary"})
	}
	return l
}

// look shows what is not in order, addresses by what they are.
func (l *lab) look(a *Auditor) (string, *Report) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	r, err := a.Look(ctx)
	if err != nil {
		l.t.Fatal(err)
	}
	names := map[string]string{l.parent.Address: "parent", l.primary.Address: "primary"}
	if l.secondary != nil {
		names[l.secondary.Address] = "secondary"
	}
	for _, address := range l.plan.Resolvers {
		names[address] = "resolver"
	}
	var lines []string
	for _, f := range r.Findings {
		if f.Severity != OK {
			who := f.From
			if names[who] != "" {
				who = names[who]
			}
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", f.Severity, f.Code, who)))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; "), r
}

func (l *lab) auditor() *Auditor {
	l.t.Helper()
	a, err := New(l.plan)
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

func (l *lab) expect(want string) *Report {
	l.t.Helper()
	got, r := l.look(l.auditor())
	if got != want {
		l.t.Errorf("%q, want %q\n%s", got, want, texts(r))
	}
	return r
}

func texts(r *Report) string {
	var out strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&out, "%s %s %s: %s\n", f.Severity, f.Code, f.From, f.Text)
	}
	return out.String()
}

// move changes the name and its epoch at the primary.
func (l *lab) move(ttl int, address, epoch string) {
	l.t.Helper()
	m := new(mdns.Msg)
	m.SetUpdate("example.org.")
	var rrs []mdns.RR
	for _, text := range []string{fmt.Sprintf("%s %d IN A %s", shop, ttl, address), fmt.Sprintf("_draas.%s %d IN TXT %q", shop, ttl, epoch)} {
		rr, err := mdns.NewRR(text)
		if err != nil {
			l.t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	m.RemoveRRset(rrs)
	m.Insert(rrs)
	m.SetTsig(l.primary.Key.Name, mdns.HmacSHA256, 300, time.Now().Unix())
	c := mdns.Client{Net: "tcp", Timeout: 5 * time.Second, TsigSecret: map[string]string{l.primary.Key.Name: l.primary.Key.Secret}}
	if r, _, err := c.Exchange(m, l.primary.Address); err != nil || r.Rcode != mdns.RcodeSuccess {
		l.t.Fatalf("update: %v, %v", r, err)
	}
}

// resolver starts unbound, which knows both zones by stubs, and asks it once
// so that it has the name.
func (l *lab) resolver(lines ...string) string {
	l.t.Helper()
	for range 5 {
		if address, ok := l.unbound(lines); ok {
			l.plan.Resolvers = []string{address}
			return address
		}
	}
	l.t.Fatal("unbound did not start")
	return ""
}

func (l *lab) unbound(lines []string) (address string, ok bool) {
	t := l.t
	program, err := exec.LookPath("unbound")
	if err != nil {
		t.Fatalf("unbound is not installed (%v): apt-get install unbound, or make setup", err)
	}
	// With minimisation a question for the epoch's name fetches the address of
	// the name above it, too, and makes it young.
	address = nameserver.Address(t)
	dir := t.TempDir()
	at := func(a string) string { return strings.Replace(a, ":", "@", 1) }
	conf := fmt.Sprintf(`server:
  interface: %s
  directory: %q
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  num-threads: 1
  do-not-query-localhost: no
  root-hints: ""
  qname-minimisation: no
  discard-timeout: 20000
  domain-insecure: "org."
  %s
remote-control:
  control-enable: no
stub-zone:
  name: org
  stub-addr: %s
stub-zone:
  name: example.org
  stub-addr: %s
`, at(address), dir, strings.Join(lines, "\n  "), at(l.parent.Address), at(l.primary.Address))
	file := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-d", "-c", file)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("unbound:\n%s", out.String())
		}
	})
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		c := mdns.Client{Timeout: 300 * time.Millisecond}
		if _, _, err := c.Exchange(new(mdns.Msg).SetQuestion("localhost.", mdns.TypeA), address); err == nil {
			return address, true
		}
		select {
		case <-ended:
			t.Logf("unbound ended: %s", out.String())
			return "", false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return "", false
}

// warm fills the resolver's cache.
func (l *lab) warm() {
	l.t.Helper()
	for name, qtype := range map[string]uint16{shop: mdns.TypeA, "_draas." + shop: mdns.TypeTXT} {
		c := mdns.Client{Timeout: 5 * time.Second}
		if r, _, err := c.Exchange(new(mdns.Msg).SetQuestion(name, qtype), l.plan.Resolvers[0]); err != nil || len(r.Answer) == 0 {
			l.t.Fatalf("warm: %v, %v", r, err)
		}
	}
}

// wait is for a TTL to run down.
func wait(d time.Duration) { <-time.After(d) }
