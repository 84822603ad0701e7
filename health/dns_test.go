package health

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsServer answers on UDP and TCP of one free loopback port until the test
// ends. A nil answer is silence.
func dnsServer(t *testing.T, handle func(q *dns.Msg, tcp bool) *dns.Msg) string {
	t.Helper()
	pc, l := listenBoth(t)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_, tcp := w.RemoteAddr().(*net.TCPAddr)
		if m := handle(q, tcp); m != nil {
			w.WriteMsg(m)
		}
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: l, Handler: handler}} {
		up, done := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go func() {
			defer close(done)
			s.ActivateAndServe()
		}()
		<-up
		t.Cleanup(func() {
			s.Shutdown()
			<-done
		})
	}
	return pc.LocalAddr().String()
}

// listenBoth listens on a port that is free on UDP and on TCP.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, l
		}
		pc.Close()
	}
	t.Fatal("no free port")
	return nil, nil
}

func records(t *testing.T, q *dns.Msg, lines ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Error(err)
			continue
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func TestDNSProbeAnswers(t *testing.T) {
	const name = "www.example.org."
	tests := []struct {
		name   string
		qtype  uint16
		lines  []string
		rcode  int
		expect []string
		class  Class
		detail string
	}{
		{name: "any answer will do", lines: []string{name + " 5 IN A 192.0.2.1"}, class: ClassOK},
		{name: "expected, in any order", lines: []string{name + " 5 IN A 192.0.2.3", name + " 5 IN A 192.0.2.1", name + " 5 IN A 192.0.2.2"},
			expect: []string{"192.0.2.2", "192.0.2.3", "192.0.2.1"}, class: ClassOK},
		{name: "behind an alias", lines: []string{name + " 5 IN CNAME a.example.org.", "a.example.org. 5 IN A 192.0.2.1"},
			expect: []string{"192.0.2.1"}, class: ClassOK},
		{name: "AAAA", qtype: dns.TypeAAAA, lines: []string{name + " 5 IN AAAA 2001:db8:0:0::1"}, expect: []string{"2001:DB8::1"}, class: ClassOK},
		{name: "CNAME", qtype: dns.TypeCNAME, lines: []string{name + " 5 IN CNAME A.example.org."}, expect: []string{"a.Example.org"}, class: ClassOK},
		{name: "TXT", qtype: dns.TypeTXT, lines: []string{name + ` 5 IN TXT "a b" "c"`}, expect: []string{"a bc"}, class: ClassOK},
		{name: "MX", qtype: dns.TypeMX, lines: []string{name + " 5 IN MX 10 mx.example.org."}, expect: []string{"10 mx.example.org."}, class: ClassOK},
		{name: "wrong answer", lines: []string{name + " 5 IN A 192.0.2.1"}, expect: []string{"192.0.2.9"}, class: ClassDNS,
			detail: "answer 192.0.2.1, want 192.0.2.9"},
		{name: "too much", lines: []string{name + " 5 IN A 192.0.2.1", name + " 5 IN A 192.0.2.2"}, expect: []string{"192.0.2.1"}, class: ClassDNS},
		{name: "empty answer", class: ClassDNS, detail: "no A record"},
		{name: "only an alias", lines: []string{name + " 5 IN CNAME a.example.org."}, class: ClassDNS, detail: "no A record"},
		{name: "NXDOMAIN", rcode: dns.RcodeNameError, class: ClassDNS, detail: "NXDOMAIN"},
		{name: "SERVFAIL", rcode: dns.RcodeServerFailure, class: ClassDNS, detail: "SERVFAIL"},
		{name: "REFUSED", rcode: dns.RcodeRefused, class: ClassDNS, detail: "REFUSED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := dnsServer(t, func(q *dns.Msg, _ bool) *dns.Msg {
				m := records(t, q, tt.lines...)
				m.Rcode = tt.rcode
				return m
			})
			p := must(t)(DNS(DNSSpec{Server: server, Name: "www.example.org", Type: tt.qtype, Expect: tt.expect}))
			wantClass(t, p, patient, tt.class, tt.detail)
		})
	}
}

func TestDNSProbeTruncated(t *testing.T) {
	var overTCP atomic.Int32
	server := dnsServer(t, func(q *dns.Msg, tcp bool) *dns.Msg {
		if tcp {
			overTCP.Add(1)
			return records(t, q, "www.example.org. 5 IN A 192.0.2.1")
		}
		m := records(t, q)
		m.Truncated = true
		return m
	})
	p := must(t)(DNS(DNSSpec{Server: server, Name: "www.example.org.", Expect: []string{"192.0.2.1"}}))
	wantClass(t, p, patient, ClassOK, "")
	if overTCP.Load() != 1 {
		t.Errorf("%d questions over TCP", overTCP.Load())
	}
	silent := dnsServer(t, func(q *dns.Msg, tcp bool) *dns.Msg {
		if tcp {
			return nil
		}
		m := records(t, q)
		m.Truncated = true
		return m
	})
	p = must(t)(DNS(DNSSpec{Server: silent, Name: "www.example.org."}))
	wantClass(t, p, brief, ClassTimeout, "ask over tcp")
}

func TestDNSProbeFaults(t *testing.T) {
	look := func(server string, timeout time.Duration, class Class, detail string) {
		t.Helper()
		wantClass(t, must(t)(DNS(DNSSpec{Server: server, Name: "www.example.org."})), timeout, class, detail)
	}
	look(closedPort(t), patient, ClassRefused, "ask over udp")
	look(dnsServer(t, func(*dns.Msg, bool) *dns.Msg { return nil }), brief, ClassTimeout, "ask over udp")
	look(dnsServer(t, func(q *dns.Msg, _ bool) *dns.Msg {
		m := records(t, q, "www.example.org. 5 IN A 192.0.2.1")
		m.Question[0].Name = "other.example.org."
		return m
	}), patient, ClassDNS, "another question")
	look(dnsServer(t, func(q *dns.Msg, _ bool) *dns.Msg {
		m := records(t, q, "www.example.org. 5 IN A 192.0.2.1")
		m.Response = false
		return m
	}), patient, ClassDNS, "not an answer")
	look(dnsServer(t, func(q *dns.Msg, _ bool) *dns.Msg {
		m := records(t, q, "www.example.org. 5 IN A 192.0.2.1")
		m.Id++ // a stray answer is read past
		return m
	}), brief, ClassTimeout, "")
	look(udpServer(t, []byte("not a DNS message at all, and long enough")), patient, ClassDNS, "ask over udp")
	look(udpServer(t, []byte{0}), patient, ClassDNS, "ask over udp")
}

// udpServer answers each datagram with the same bytes.
func udpServer(t *testing.T, reply []byte) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			_, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(reply, from)
		}
	}()
	t.Cleanup(func() {
		pc.Close()
		<-done
	})
	return pc.LocalAddr().String()
}

func TestDNSSpecsThatCannotBe(t *testing.T) {
	const at = "127.0.0.1:53"
	for _, spec := range []DNSSpec{
		{Name: "example.org"},
		{Server: at, Name: strings.Repeat("a", 64) + ".org"},
		{Server: at, Name: "example.org", Type: 65280},
		{Server: at, Name: "example.org", Expect: []string{"example.com"}},
		{Server: at, Name: "example.org", Expect: []string{"2001:db8::1"}},
	} {
		if _, err := DNS(spec); err == nil {
			t.Errorf("DNS(%+v) made a probe", spec)
		}
	}
}

// FuzzDNSAnswer judges whatever the message decoder lets through.
func FuzzDNSAnswer(f *testing.F) {
	q := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeTXT)
	m := new(dns.Msg).SetReply(q)
	for _, line := range []string{`www.example.org. 5 IN TXT "a"`, "www.example.org. 5 IN A 192.0.2.1"} {
		rr, err := dns.NewRR(line)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	wire, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire, dns.TypeTXT)
	f.Add(wire[:20], dns.TypeA)
	f.Fuzz(func(t *testing.T, wire []byte, qtype uint16) {
		p, err := newDNSProbe(DNSSpec{Server: "127.0.0.1:53", Name: "www.example.org.", Type: qtype})
		if err != nil {
			return
		}
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		r := p.judge(m)
		if r.Class != ClassOK && r.Class != ClassDNS || len(r.Detail) > maxDetail {
			t.Fatalf("result %+v", r)
		}
		if r.OK() && (m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0) {
			t.Fatalf("content with %v", m)
		}
	})
}
