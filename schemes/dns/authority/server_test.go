package authority

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
)

// eventually polls until the condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func exchange(t testing.TB, network, addr string, m *mdns.Msg) *mdns.Msg {
	t.Helper()
	c := mdns.Client{Net: network, Timeout: 5 * time.Second}
	r, _, err := c.Exchange(m, addr)
	if err != nil {
		t.Fatalf("%s %v: %v", network, m.Question, err)
	}
	return r
}

func TestServe(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	addresses := []string{"127.0.0.1:0", "0.0.0.0:0"}
	if probe, err := net.Listen("tcp", "[::1]:0"); err == nil { // the machine has IPv6
		_ = probe.Close()
		addresses = append(addresses, "[::1]:0", "[::]:0")
	}
	for _, address := range addresses {
		t.Run(address, func(t *testing.T) {
			addr, stop := f.serve(t, address)
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				t.Fatal(err)
			}
			targets := map[string][]string{
				"127.0.0.1:0": {"127.0.0.1"}, "[::1]:0": {"::1"},
				// A connected client takes answers only from the address
				// that it asked: 127.0.0.5 is not the default source.
				"0.0.0.0:0": {"127.0.0.1", "127.0.0.5"}, "[::]:0": {"::1", "127.0.0.5"},
			}[address]
			for _, host := range targets {
				to := net.JoinHostPort(host, port)
				for _, network := range []string{"udp", "tcp"} {
					r := exchange(t, network, to, question("shop.example.org.", mdns.TypeA))
					if got := brief(r); got != "NOERROR aa | an shop.example.org. 5 IN A 198.51.100.20" {
						t.Errorf("%s %s: %s", network, to, got)
					}
				}
				if r := exchange(t, "tcp", to, question("big.example.org.", mdns.TypeTXT)); len(r.Answer) != 20 {
					t.Errorf("by TCP: %d records", len(r.Answer))
				}
			}
			stop()
			c := mdns.Client{Timeout: 200 * time.Millisecond}
			if _, _, err := c.Exchange(question("shop.example.org.", mdns.TypeA), net.JoinHostPort(targets[0], port)); err == nil {
				t.Error("answers after Serve returned")
			}
		})
	}
}

// A decision is answered as soon as Publish returns, while clients ask.
func TestPublishUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.allAt(t, 1, "primary")
	addr, _ := f.serve(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			c := mdns.Client{Timeout: 5 * time.Second}
			last := 0
			for ctx.Err() == nil {
				r, _, err := c.ExchangeContext(ctx, question("_draas.shop.example.org.", mdns.TypeTXT), addr)
				if ctx.Err() != nil {
					return
				}
				if err != nil || len(r.Answer) != 1 {
					t.Errorf("no answer: %v %v", r, err)
					return
				}
				var epoch int
				if _, err := fmt.Sscanf(r.Answer[0].(*mdns.TXT).Txt[0], "epoch=%d", &epoch); err != nil || epoch < last {
					t.Errorf("epoch %d after %d (%v)", epoch, last, err)
				}
				last = epoch
			}
		})
	}
	var worst time.Duration
	for epoch := draas.Epoch(2); epoch < 100; epoch++ {
		site, want := draas.SiteID("primary"), "198.51.100.20"
		if epoch%2 == 0 {
			site, want = "dr", "203.0.113.20"
		}
		f.allAt(t, epoch, site)
		start := time.Now()
		r := exchange(t, "udp", addr, question("shop.example.org.", mdns.TypeA))
		worst = max(worst, time.Since(start))
		if got := r.Answer[0].(*mdns.A).A.String(); got != want {
			t.Errorf("epoch %d: answered %s", epoch, got)
		}
	}
	cancel()
	wg.Wait()
	t.Logf("slowest answer after a publication: %v", worst)
}

func tcpFrame(m *mdns.Msg) []byte {
	wire, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func readFrame(r io.Reader) ([]byte, error) {
	var prefix [2]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(prefix[:]))
	_, err := io.ReadFull(r, buf)
	return buf, err
}

// RFC 7766, section 6.2.1.1: queries sent ahead are all answered.
func TestPipelining(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	addr, _ := f.serve(t, "127.0.0.1:0")
	c := dial(t, addr)
	const n = 300
	go func() {
		var all bytes.Buffer
		for i := range n {
			name := "shop.example.org."
			if i%10 == 0 {
				name = "big.example.org."
			}
			m := question(name, mdns.TypeTXT)
			m.Id = uint16(i)
			all.Write(tcpFrame(m))
		}
		_, _ = c.Write(all.Bytes())
	}()
	for i := range n {
		frame, err := readFrame(c)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if r := unpack(t, frame); int(r.Id) != i || (len(r.Answer) == 20) != (i%10 == 0) {
			t.Fatalf("answer %d has id %d and %d records", i, r.Id, len(r.Answer))
		}
	}
	// Octet by octet works too, as long as it is quick.
	for _, b := range tcpFrame(question("shop.example.org.", mdns.TypeA)) {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if frame, err := readFrame(c); err != nil || unpack(t, frame).Rcode != mdns.RcodeSuccess {
		t.Errorf("octet by octet: %v", err)
	}
}

func TestTCPBadClients(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	addr, _ := f.serve(t, "127.0.0.1:0")
	closed := func(t *testing.T, c net.Conn) {
		t.Helper()
		_, err := io.ReadAll(c)
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Error("the connection stays open")
		}
	}
	t.Run("garbage", func(t *testing.T) {
		c := dial(t, addr)
		_, _ = c.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		closed(t, c) // "GE" promises 18245 octets that never come
	})
	t.Run("empty query", func(t *testing.T) {
		c := dial(t, addr)
		_, _ = c.Write([]byte{0, 0})
		closed(t, c)
	})
	t.Run("a response", func(t *testing.T) {
		m := question("shop.example.org.", mdns.TypeA)
		m.Response = true
		c := dial(t, addr)
		_, _ = c.Write(tcpFrame(m))
		closed(t, c)
	})
	t.Run("malformed, then well formed", func(t *testing.T) {
		c := dial(t, addr)
		_, _ = c.Write(append([]byte{0, 13}, make([]byte, 13)...))
		frame, err := readFrame(c)
		if err != nil || unpack(t, frame).Rcode != mdns.RcodeFormatError {
			t.Fatalf("%v %x", err, frame)
		}
		_, _ = c.Write(tcpFrame(question("shop.example.org.", mdns.TypeA)))
		if frame, err = readFrame(c); err != nil || unpack(t, frame).Rcode != mdns.RcodeSuccess {
			t.Fatalf("%v %x", err, frame)
		}
	})
	t.Run("idle", func(t *testing.T) {
		start := time.Now()
		closed(t, dial(t, addr))
		if d := time.Since(start); d < 400*time.Millisecond {
			t.Errorf("closed after %v, the idle time is 500 ms", d)
		}
	})
	t.Run("never reads", func(t *testing.T) {
		c := dial(t, addr)
		frame := bytes.Repeat(tcpFrame(question("big.example.org.", mdns.TypeTXT)), 1000)
		var err error
		for range 1000 { // 4 GB of answers: ends when the server has given up
			if _, err = c.Write(frame); err != nil {
				break
			}
		}
		if err == nil {
			t.Error("the server takes queries for ever")
		}
	})
}

// The eight slots of the fixture are taken by idle clients: a ninth is served
// all the same, and the one that idled the longest goes.
func TestTCPEviction(t *testing.T) {
	f := newFixture(t)
	f.cfg.IdleTimeout = time.Minute
	f.allAt(t, 3, "primary")
	addr, _ := f.serve(t, "127.0.0.1:0")
	var held []net.Conn
	askOn := func(c net.Conn) error {
		if _, err := c.Write(tcpFrame(question("shop.example.org.", mdns.TypeA))); err != nil {
			return err
		}
		_, err := readFrame(c)
		return err
	}
	for i := range 8 {
		c := dial(t, addr)
		if err := askOn(c); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		held = append(held, c)
	}
	if err := askOn(held[0]); err != nil { // now the second is the oldest
		t.Fatal(err)
	}
	if err := askOn(dial(t, addr)); err != nil {
		t.Fatalf("ninth connection: %v", err)
	}
	if err := askOn(held[1]); err == nil {
		t.Error("the connection that idled the longest is open")
	}
	if err := askOn(held[0]); err != nil {
		t.Errorf("a connection in use was closed: %v", err)
	}
	if n := f.Stats().TCPEvicted; n != 1 {
		t.Errorf("%d evicted", n)
	}
}

func TestListenErrors(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, address := range []string{l.Addr().String(), "127.0.0.1", "127.0.0.1:port", "300.1.1.1:0"} {
		if l, err := Listen(t.Context(), address); err == nil {
			t.Errorf("Listen(%s) succeeded", address)
			_ = l.Close()
		}
	}
	// UDP alone is taken.
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if l, err := Listen(t.Context(), taken.LocalAddr().String()); err == nil {
		t.Error("Listen on a port whose UDP side is taken succeeded")
		_ = l.Close()
	}
}

// A socket that fails ends Serve with an error, and all workers with it.
func TestServeEndsWhenASocketIsClosed(t *testing.T) {
	f := newFixture(t)
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.Serve(t.Context(), l) }()
	_ = l.udp.Close()
	if err := <-done; err == nil {
		t.Error("Serve returned nil while its context lives")
	}
}

// need finds a program, or fails with the name of its package.
func need(t testing.TB, program, debianPackage string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path
		}
	}
	t.Fatalf("this test runs %s, which is not installed: apt-get install %s", program, debianPackage)
	return ""
}

// dig, the tool that operators ask with, understands the answers.
func TestDig(t *testing.T) {
	t.Parallel()
	dig := need(t, "dig", "bind9-dnsutils")
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	addr, _ := f.serve(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(addr)
	tests := []struct {
		args string
		want []string
		not  []string
	}{
		{"+norecurse shop.example.org A", []string{"status: NOERROR", "flags: qr aa;", "EDNS: version: 0", "udp: 1232", "shop.example.org.\t5\tIN\tA\t198.51.100.20"}, []string{"WARNING", "malformed"}},
		{"+noedns shop.example.org A", []string{"flags: qr aa rd;", "198.51.100.20"}, []string{"OPT PSEUDOSECTION", "malformed"}},
		{"+tcp shop.example.org A", []string{"198.51.100.20", "(TCP)"}, nil},
		{"+tcp +keepopen shop.example.org A mail.example.org A", []string{"198.51.100.20", "192.0.2.9"}, nil},
		{"+bufsize=512 big.example.org TXT", []string{"Truncated, retrying in TCP mode", "ANSWER: 20"}, nil},
		{"+ignore +bufsize=4096 big.example.org TXT", []string{"flags: qr aa tc rd;", "ANSWER: 0"}, nil},
		{"+edns=1 +noednsneg shop.example.org A", []string{"status: BADVERS"}, nil},
		{"+ednsopt=65001:beef +cookie shop.example.org A", []string{"status: NOERROR", "198.51.100.20"}, nil},
		{"+dnssec shop.example.org A", []string{"flags: do;", "198.51.100.20"}, nil},
		{"-c CH -t TXT version.bind", []string{"status: REFUSED"}, nil},
		{"+opcode=notify example.org SOA", []string{"status: NOTIMP"}, nil},
		{"example.org AXFR", []string{"Transfer failed"}, nil},
		{"+notcp shop.example.org ANY", []string{"HINFO", "RFC8482"}, nil},
		{"ShOp.ExAmPlE.oRg A", []string{"ShOp.ExAmPlE.oRg.\t5\tIN\tA\t198.51.100.20"}, nil},
		{"nothing.example.org A", []string{"status: NXDOMAIN", "SOA\tns.elsewhere.net."}, nil},
		{"alias.example.org A", []string{"CNAME\tshop.example.org.", "198.51.100.20"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			args := append([]string{"@127.0.0.1", "-p", port, "+time=5", "+tries=1"}, strings.Fields(tt.args)...)
			out, err := exec.CommandContext(t.Context(), dig, args...).CombinedOutput()
			if err != nil {
				t.Fatalf("dig: %v\n%s", err, out)
			}
			for _, want := range tt.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(string(out), not) {
					t.Errorf("%q in\n%s", not, out)
				}
			}
		})
	}
	// dig tells the operator why a name fails.
	f.clock.Advance(time.Hour)
	out, err := exec.CommandContext(t.Context(), dig, "@127.0.0.1", "-p", port, "shop.example.org").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "EDE: 14 (Not Ready): (this member is out of touch with the quorum)") {
		t.Errorf("%v\n%s", err, out)
	}
}
