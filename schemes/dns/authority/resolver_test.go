package authority

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/schemes/dns"
)

// startUnbound runs a real recursive resolver on loopback whose stub zone is
// served by the given authorities, and returns its address.
func startUnbound(t *testing.T, authorities ...string) string {
	t.Helper()
	return startValidator(t, nil, authorities...)
}

// startValidator is startUnbound with trust anchors, of which it wants
// signatures.
func startValidator(t *testing.T, anchors []string, authorities ...string) string {
	t.Helper()
	unbound := need(t, "unbound", "unbound")
	// Unbound cannot choose a port itself; another process may take this one
	// in between, then the next try takes another.
	for range 5 {
		if addr, ok := tryUnbound(t, unbound, anchors, authorities); ok {
			return addr
		}
	}
	t.Fatal("unbound did not start")
	return ""
}

func tryUnbound(t *testing.T, unbound string, anchors, authorities []string) (addr string, ok bool) {
	t.Helper()
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = free.LocalAddr().String()
	_ = free.Close()
	dir := t.TempDir()
	modules, trust := "iterator", ""
	for _, anchor := range anchors {
		modules = "validator iterator"
		trust += fmt.Sprintf("  trust-anchor: %q\n", anchor)
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, `server:
  interface: %s
  directory: %q
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  num-threads: 1
  module-config: %q
  do-not-query-localhost: no
  use-caps-for-id: yes
  cache-min-ttl: 0
  serve-expired: no
  infra-host-ttl: 1
  discard-timeout: 20000
  root-hints: ""
%sremote-control:
  control-enable: no
stub-zone:
  name: example.org
`, strings.Replace(addr, ":", "@", 1), dir, modules, trust)
	for _, a := range authorities {
		fmt.Fprintf(&conf, "  stub-addr: %s\n", strings.Replace(a, ":", "@", 1))
	}
	file := filepath.Join(dir, "unbound.conf")
	if err := os.WriteFile(file, []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(unbound, "-d", "-c", file)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // not even a crash of the test leaves it
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("unbound:\n%s", out.String())
		}
	})
	started := false
	eventually(t, "unbound answers", func() bool {
		select {
		case <-exited:
			return true
		default:
		}
		c := mdns.Client{Timeout: 200 * time.Millisecond}
		_, _, err := c.Exchange(question("localhost.", mdns.TypeA), addr)
		started = err == nil
		return started
	})
	return addr, started
}

// quickZone has names with a TTL of one second.
func quickZone() Zone {
	z := sampleZone()
	z.Services = z.Services[:1]
	z.Services[0].TTL = time.Second
	z.Records = append(z.Records, Record{Name: "quick.example.org.", Type: "CNAME", Value: []string{"shop.example.org."}, TTL: time.Second})
	z.NegativeTTL = time.Second
	return z
}

// A real resolver follows the move when the primary's authority has died with
// its site, stays right when it comes back without touch, and hides from its
// clients that one of two authorities answers SERVFAIL.
func TestRealResolver(t *testing.T) {
	t.Parallel()
	primary, dr := newFixture(t, quickZone()), newFixture(t, quickZone())
	primaryAt, stopPrimary := primary.serve(t, "127.0.0.1:0")
	drAt, _ := dr.serve(t, "127.0.0.1:0")
	for _, f := range []*fixture{primary, dr} {
		f.publish(t, 1, "primary", "shop")
	}
	resolver := startUnbound(t, primaryAt, drAt)
	ask := func(name string) string {
		// With an authority dead, unbound waits for it up to seconds on a busy
		// machine; by default it then drops the late answer and counts on the
		// client to ask again.
		c := mdns.Client{Timeout: 15 * time.Second}
		r, _, err := c.Exchange(question(name, mdns.TypeA), resolver)
		if err != nil {
			t.Fatalf("the resolver does not answer: %v", err)
		}
		var out []string
		for _, rr := range r.Answer {
			if a, ok := rr.(*mdns.A); ok {
				out = append(out, a.A.String())
			}
		}
		return mdns.RcodeToString[r.Rcode] + " " + strings.Join(out, ",")
	}
	const atPrimary, atDR = "NOERROR 198.51.100.20", "NOERROR 203.0.113.20,203.0.113.21"
	for _, name := range []string{"shop.example.org.", "quick.example.org."} {
		if got := ask(name); got != atPrimary {
			t.Fatalf("%s before the move: %s", name, got)
		}
	}
	if got := ask("nothing.example.org."); got != "NXDOMAIN " {
		t.Errorf("a name that does not exist: %s", got)
	}

	stopPrimary()
	dr.publish(t, 2, "dr", "shop")
	start := time.Now()
	eventually(t, "the resolver follows the move", func() bool {
		got := sorted(ask("shop.example.org."))
		if got != atPrimary && got != atDR {
			t.Fatalf("during the move: %s", got)
		}
		return got == atDR
	})
	t.Logf("the resolver followed after %v", time.Since(start))
	if got := sorted(ask("quick.example.org.")); got != atDR {
		t.Errorf("through the CNAME: %s", got)
	}

	// The primary's member is back, and out of touch: it knows epoch 1 only.
	primary.clock.Advance(time.Hour)
	_, _ = primary.serve(t, primaryAt)
	// A resolver that never knew it dead: the other one may shun it for long.
	resolver = startUnbound(t, primaryAt, drAt)
	back := time.Now()
	answers := 0
	eventually(t, "three lifetimes of the record go by", func() bool {
		answers++
		if got := sorted(ask("shop.example.org.")); got != atDR {
			t.Fatalf("with an authority out of touch: %s", got)
		}
		return time.Since(back) > 3*time.Second && primary.Stats().Rcodes["SERVFAIL"] > 0
	})
	t.Logf("%d right answers while one authority said SERVFAIL %d times", answers, primary.Stats().Rcodes["SERVFAIL"])
}

// sorted puts the addresses in order: resolvers rotate them.
func sorted(answer string) string {
	rcode, list, _ := strings.Cut(answer, " ")
	if list == "" {
		return answer
	}
	values := dns.Target{Addresses: addrs(strings.Split(list, ",")...)}.Values(mdns.TypeA)
	return rcode + " " + strings.Join(values, ",")
}

// Two authorities that applied the same log answer alike, octet by octet.
func TestSitesAnswerAlike(t *testing.T) {
	one, two := newFixture(t), newFixture(t)
	one.allAt(t, 1, "primary")
	one.allAt(t, 2, "dr")
	two.allAt(t, 2, "dr") // came late, by a snapshot
	for name := range one.table.Load().nodes {
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeTXT, mdns.TypeSOA, mdns.TypeNS, mdns.TypeCNAME, mdns.TypeANY} {
			wire := append([]byte{7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, name...)
			wire = append(wire, byte(qtype>>8), byte(qtype), 0, 1)
			if a, b := one.respond(nil, wire, true), two.respond(nil, wire, true); !bytes.Equal(a, b) {
				t.Errorf("%q %s:\n%x\n%x", name, typeName(qtype), a, b)
			}
		}
	}
}
