package authority

import (
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

const soaText = "example.org. 5 IN SOA ns.elsewhere.net. hostmaster.example.org. 13 86400 7200 3600000 5"

// The answers, with everything at site primary at epoch 3: four services make
// the serial 1 + 4*3.
func TestAnswers(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	const referral = "NOERROR | ns sub.example.org. 60 IN NS ns.sub.example.org. | ns sub.example.org. 60 IN NS ns.elsewhere.net. | ar ns.sub.example.org. 60 IN A 192.0.2.99"
	tests := []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"shop.example.org.", mdns.TypeA, "NOERROR aa | an shop.example.org. 5 IN A 198.51.100.20"},
		{"shop.example.org.", mdns.TypeAAAA, "NOERROR aa | ns " + soaText}, // NODATA, RFC 2308 section 2.2
		{"shop.example.org.", mdns.TypeMX, "NOERROR aa | ns " + soaText},
		{"_draas.shop.example.org.", mdns.TypeTXT, `NOERROR aa | an _draas.shop.example.org. 5 IN TXT "epoch=3 site=primary"`},
		{"_draas.shop.example.org.", mdns.TypeA, "NOERROR aa | ns " + soaText},
		{"dual.example.org.", mdns.TypeA, "NOERROR aa | an dual.example.org. 5 IN A 198.51.100.30"},
		{"dual.example.org.", mdns.TypeAAAA, "NOERROR aa | an dual.example.org. 5 IN AAAA 2001:db8:1::30"},
		{"example.org.", mdns.TypeA, "NOERROR aa | an example.org. 5 IN A 198.51.100.40"},
		{"example.org.", mdns.TypeSOA, "NOERROR aa | an " + soaText},
		{"example.org.", mdns.TypeNS, "NOERROR aa | an example.org. 3600 IN NS ns2.example.org. | an example.org. 3600 IN NS ns1.example.org. | an example.org. 3600 IN NS ns.elsewhere.net." +
			" | ar ns2.example.org. 3600 IN A 203.0.113.53 | ar ns2.example.org. 3600 IN AAAA 2001:db8:2::53 | ar ns1.example.org. 3600 IN A 198.51.100.53"},
		{"ns2.example.org.", mdns.TypeAAAA, "NOERROR aa | an ns2.example.org. 3600 IN AAAA 2001:db8:2::53"},
		{"mail.example.org.", mdns.TypeA, "NOERROR aa | an mail.example.org. 60 IN A 192.0.2.9"},
		{"a.b.c.example.org.", mdns.TypeTXT, `NOERROR aa | an a.b.c.example.org. 60 IN TXT "deep" | an a.b.c.example.org. 60 IN TXT "q\"u\\ote\000"`},
		{"b.c.example.org.", mdns.TypeTXT, "NOERROR aa | ns " + soaText}, // empty non-terminal
		{"b.c.example.org.", mdns.TypeANY, "NOERROR aa | ns " + soaText},
		{"x.b.c.example.org.", mdns.TypeTXT, "NXDOMAIN aa | ns " + soaText},
		{"nothing.example.org.", mdns.TypeA, "NXDOMAIN aa | ns " + soaText}, // RFC 2308 section 2.1
		{"nothing.example.org.", mdns.TypeANY, "NXDOMAIN aa | ns " + soaText},
		{"x.shop.example.org.", mdns.TypeA, "NXDOMAIN aa | ns " + soaText},
		{"shop.example.org.", mdns.TypeANY, `NOERROR aa | an shop.example.org. 5 IN HINFO "RFC8482" ""`},
		// CNAMEs, RFC 1034 section 4.3.2 step 3a
		{"www.example.org.", mdns.TypeA, "NOERROR aa | an www.example.org. 60 IN CNAME shop.example.org. | an shop.example.org. 5 IN A 198.51.100.20"},
		{"www.example.org.", mdns.TypeCNAME, "NOERROR aa | an www.example.org. 60 IN CNAME shop.example.org."},
		{"www.example.org.", mdns.TypeANY, "NOERROR aa | an www.example.org. 60 IN CNAME shop.example.org."},
		{"www.example.org.", mdns.TypeMX, "NOERROR aa | an www.example.org. 60 IN CNAME shop.example.org. | ns " + soaText},
		{"alias.example.org.", mdns.TypeA, "NOERROR aa | an alias.example.org. 5 IN CNAME shop.example.org. | an shop.example.org. 5 IN A 198.51.100.20"},
		{"out.example.org.", mdns.TypeA, "NOERROR aa | an out.example.org. 60 IN CNAME www.elsewhere.net."},
		{"dangling.example.org.", mdns.TypeA, "NXDOMAIN aa | an dangling.example.org. 60 IN CNAME nothing.example.org. | ns " + soaText},
		{"loop1.example.org.", mdns.TypeA, "SERVFAIL"},
		{"into.example.org.", mdns.TypeA, "NOERROR aa | an into.example.org. 60 IN CNAME x.sub.example.org."},
		// Delegation, step 3b
		{"sub.example.org.", mdns.TypeNS, referral},
		{"sub.example.org.", mdns.TypeA, referral},
		{"x.y.sub.example.org.", mdns.TypeA, referral},
		{"ns.sub.example.org.", mdns.TypeA, referral},
		{"deep.sub.example.org.", mdns.TypeNS, referral},
		{"x.deep.sub.example.org.", mdns.TypeDS, referral},
		{"sub.example.org.", mdns.TypeDS, "NOERROR aa | ns " + soaText},
		{"ns.sub.example.org.", mdns.TypeDS, referral},
		// Not ours
		{"example.com.", mdns.TypeA, "REFUSED"},
		{"org.", mdns.TypeNS, "REFUSED"},
		{".", mdns.TypeNS, "REFUSED"},
		{"notexample.org.", mdns.TypeA, "REFUSED"},
		{"example.org.", mdns.TypeAXFR, "REFUSED"},
		{"example.org.", mdns.TypeIXFR, "REFUSED"},
		{"example.org.", mdns.TypeOPT, "FORMERR"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+typeName(tt.qtype), func(t *testing.T) {
			q := question(tt.name, tt.qtype)
			r := f.ask(t, q)
			if got := brief(r); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if r.Id != q.Id || !r.Response || !r.RecursionDesired || r.Question[0] != q.Question[0] {
				t.Errorf("head or question differs: %+v", r)
			}
		})
	}
}

// A resolver that mixes upper and lower case finds its own spelling in the
// question and, through compression, in the answer (draft-vixie-dnsext-0x20).
func TestCaseIsKept(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	r := f.ask(t, question("sHoP.eXaMpLe.OrG.", mdns.TypeA))
	if got, want := brief(r), "NOERROR aa | an sHoP.eXaMpLe.OrG. 5 IN A 198.51.100.20"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r.Question[0].Name != "sHoP.eXaMpLe.OrG." {
		t.Errorf("question comes back as %s", r.Question[0].Name)
	}
	r = f.ask(t, question("WWW.example.ORG.", mdns.TypeA))
	if !strings.Contains(brief(r), "an WWW.example.ORG. 60 IN CNAME shop.example.org. | an shop.example.org. 5 IN A") {
		t.Errorf("got %s", brief(r))
	}
	if r := f.ask(t, question("NoThing.Example.Org.", mdns.TypeA)); r.Rcode != mdns.RcodeNameError {
		t.Errorf("got %s", brief(r))
	}
}

func TestEDNS(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	tests := []struct {
		name    string
		change  func(*mdns.Msg)
		want    string // prefix of brief
		noEDNS  bool
		wantDO  bool
		maxSize int
	}{
		{name: "none", change: func(*mdns.Msg) {}, want: "NOERROR aa | an", noEDNS: true, maxSize: 512},
		{name: "plain", change: func(m *mdns.Msg) { m.SetEdns0(4096, false) }, want: "NOERROR aa | an"},
		{name: "do", change: func(m *mdns.Msg) { m.SetEdns0(1232, true) }, want: "NOERROR aa | an", wantDO: true},
		{name: "tiny size counts as 512", change: func(m *mdns.Msg) { m.SetEdns0(1, false) }, want: "NOERROR aa | an"},
		{name: "unknown option", change: func(m *mdns.Msg) {
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_LOCAL{Code: 65001, Data: []byte("hello")}, &mdns.EDNS0_COOKIE{Code: mdns.EDNS0COOKIE, Cookie: "0011223344556677"}}
		}, want: "NOERROR aa | an"},
		// 16 is BADVERS here; the library names it BADSIG.
		{name: "version 1", change: func(m *mdns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }, want: "BADSIG"},
		{name: "two OPT", change: func(m *mdns.Msg) { m.SetEdns0(1232, false); m.Extra = append(m.Extra, m.Extra[0]) }, want: "FORMERR", noEDNS: true},
		{name: "OPT in answer", change: func(m *mdns.Msg) {
			m.SetEdns0(1232, false)
			m.Answer, m.Extra = m.Extra, nil
		}, want: "FORMERR", noEDNS: true},
		{name: "OPT not at the root", change: func(m *mdns.Msg) { m.SetEdns0(1232, false); m.Extra[0].Header().Name = "x." }, want: "FORMERR", noEDNS: true},
		{name: "another record with it", change: func(m *mdns.Msg) {
			m.SetEdns0(1232, false)
			rr, _ := mdns.NewRR("shop.example.org. 1 IN TXT hi")
			m.Extra = append([]mdns.RR{rr}, m.Extra...)
		}, want: "NOERROR aa | an"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := question("shop.example.org.", mdns.TypeA)
			tt.change(m)
			r := f.ask(t, m)
			if got := brief(r); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %s, want %s...", got, tt.want)
			}
			opt := r.IsEdns0()
			if tt.noEDNS {
				if opt != nil {
					t.Errorf("OPT in the answer: %v", opt)
				}
				return
			}
			if opt == nil {
				t.Fatal("no OPT in the answer")
			}
			if opt.UDPSize() != 1232 || opt.Version() != 0 || opt.Do() != tt.wantDO || len(opt.Option) != 0 {
				t.Errorf("OPT = %v", opt)
			}
		})
	}
}

func TestTruncation(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	m := question("big.example.org.", mdns.TypeTXT)
	for _, size := range []uint16{0, 512, 1232, 4096, 65535} {
		if m.Extra = nil; size > 0 {
			m.SetEdns0(size, false)
		}
		r := f.ask(t, m)
		if !r.Truncated || len(r.Answer) != 0 || (r.IsEdns0() != nil) != (size > 0) {
			t.Errorf("size %d: %s", size, brief(r))
		}
	}
	wire, _ := m.Pack()
	if r := unpack(t, f.respond(nil, wire, true)); r.Truncated || len(r.Answer) != 20 {
		t.Errorf("by TCP: %d records, truncated %t", len(r.Answer), r.Truncated)
	}
	if f.Stats().Truncated != 5 {
		t.Errorf("stats: %+v", f.Stats())
	}
	// An answer of 600 octets fits with EDNS only.
	z := sampleZone()
	z.Records = append(z.Records, Record{Name: "mid.example.org.", Type: "TXT", Value: bigTexts(3), TTL: time.Minute})
	f = newFixture(t, z)
	f.allAt(t, 3, "primary")
	m = question("mid.example.org.", mdns.TypeTXT)
	if r := f.ask(t, m); !r.Truncated {
		t.Errorf("without EDNS: %s", brief(r))
	}
	m.SetEdns0(1232, false)
	if r := f.ask(t, m); r.Truncated || len(r.Answer) != 3 {
		t.Errorf("with EDNS: %s", brief(r))
	}
}

func TestOddMessages(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	pack := func(change func(*mdns.Msg)) []byte {
		m := question("shop.example.org.", mdns.TypeA)
		change(m)
		wire, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return wire
	}
	plain := pack(func(*mdns.Msg) {})
	patch := func(at int, v ...byte) []byte {
		out := append([]byte(nil), plain...)
		copy(out[at:], v)
		return out
	}
	tests := []struct {
		name string
		wire []byte
		want string // "" for no answer
	}{
		{"empty", nil, ""},
		{"half a header", plain[:11], ""},
		{"a response", pack(func(m *mdns.Msg) { m.Response = true }), ""},
		{"a response of another kind", pack(func(m *mdns.Msg) { m.Response = true; m.Opcode = mdns.OpcodeNotify }), ""},
		{"header only", plain[:12], "FORMERR"},
		{"no question", patch(4, 0, 0)[:12], "FORMERR"},
		{"two questions", patch(4, 0, 2), "FORMERR"},
		{"cut in the name", plain[:20], "FORMERR"},
		{"cut in the type", plain[:len(plain)-3], "FORMERR"},
		{"label of 64", patch(12, 64), "FORMERR"},
		{"pointer as a question", patch(12, 0xc0, 12), "FORMERR"},
		{"records promised", patch(10, 0, 1), "FORMERR"},
		{"very many records promised", patch(6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "FORMERR"},
		{"octets behind it", append(append([]byte(nil), plain...), 1, 2, 3), "NOERROR aa"},
		{"broken option", append(patch(10, 0, 1), 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 3, 0, 1, 0), "FORMERR"},
		{"option too long", append(patch(10, 0, 1), 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 5, 0, 1, 0, 9, 0), "FORMERR"},
		{"notify", pack(func(m *mdns.Msg) { m.Opcode = mdns.OpcodeNotify }), "NOTIMP"},
		{"update", pack(func(m *mdns.Msg) { m.Opcode = mdns.OpcodeUpdate }), "NOTIMP"},
		{"opcode 15", patch(2, 15<<3), "NOTIMP"},
		{"chaos", pack(func(m *mdns.Msg) {
			m.Question[0] = mdns.Question{Name: "version.bind.", Qtype: mdns.TypeTXT, Qclass: mdns.ClassCHAOS}
		}), "REFUSED"},
		{"class ANY", pack(func(m *mdns.Msg) { m.Question[0].Qclass = mdns.ClassANY }), "REFUSED"},
		{"AD and CD set", pack(func(m *mdns.Msg) { m.AuthenticatedData, m.CheckingDisabled = true, true }), "NOERROR aa"},
		{"name of 256 octets", longName(256), "FORMERR"},
		{"name of 255 octets", longName(255), "REFUSED"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := f.respond(nil, tt.wire, false)
			if tt.want == "" {
				if len(out) != 0 {
					t.Errorf("answered with %x", out)
				}
				return
			}
			r := unpack(t, out)
			if got := brief(r); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if out[0] != tt.wire[0] || out[1] != tt.wire[1] || r.Opcode != int(tt.wire[2]>>3&15) {
				t.Errorf("id or opcode differs: %x of %x", out[:12], tt.wire[:12])
			}
		})
	}
}

// longName is a query for a name of n octets on the wire.
func longName(n int) []byte {
	msg := []byte{1, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for left := n - 1; left > 0; {
		l := min(63, left-1)
		msg = append(msg, byte(l))
		msg = append(msg, strings.Repeat("x", l)...)
		left -= 1 + l
	}
	return append(msg, 0, 0, 1, 0, 1)
}

func TestRespondDoesNotAllocate(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	for name, m := range map[string]*mdns.Msg{
		"answer":   question("shop.example.org.", mdns.TypeA).SetEdns0(1232, false),
		"nxdomain": question("x.y.example.org.", mdns.TypeA),
	} {
		wire, _ := m.Pack()
		out := make([]byte, 0, udpSize)
		c := client{now: &moment{clock: f.clock.Now}}
		if n := testing.AllocsPerRun(100, func() { out = f.Authority.respond(out[:0], wire, c) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
