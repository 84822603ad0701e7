package authority

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
)

// FuzzQuery throws octets at the handler. Whatever comes, the answer parses,
// goes only to queries, repeats id and question, and fits what was asked for.
func FuzzQuery(f *testing.F) {
	fix := newFixture(f)
	fix.allAt(f, 3, "primary")
	for _, m := range []*mdns.Msg{
		question("shop.example.org.", mdns.TypeA),
		question("WWW.example.org.", mdns.TypeAAAA).SetEdns0(4096, true),
		question("big.example.org.", mdns.TypeTXT).SetEdns0(1232, false),
		question("x.sub.example.org.", mdns.TypeA),
		question("example.org.", mdns.TypeANY),
		question("nothing.example.org.", mdns.TypeMX).SetEdns0(512, false),
		question("example.org.", mdns.TypeAXFR),
	} {
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire, false)
		f.Add(wire, true)
		f.Add(wire[:len(wire)-1], false)
	}
	f.Add([]byte{0, 1, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1}, false)
	signed := newPrimary(f, signedZone(signingKey(f, 257)))
	signed.allAt(f, 3, "primary")
	f.Fuzz(func(t *testing.T, wire []byte, tcp bool) {
		fuzzQuery(t, fix, wire, tcp)
		fuzzQuery(t, signed, wire, tcp)
	})
}

func fuzzQuery(t *testing.T, fix *fixture, wire []byte, tcp bool) {
	given := string(wire)
	out := fix.respond(nil, wire, tcp)
	if string(wire) != given {
		t.Fatal("the query was written to")
	}
	if len(wire) < headerLen || wire[2]&bitQR != 0 {
		if len(out) != 0 {
			t.Fatalf("answered what is no query: %x", out)
		}
		return
	}
	r := new(mdns.Msg)
	if err := r.Unpack(out); err != nil {
		t.Fatalf("answer does not parse: %v\n%x", err, out)
	}
	if !r.Response || r.Id != binary.BigEndian.Uint16(wire) || r.Opcode != int(wire[2]>>3&15) {
		t.Fatalf("head %x of query %x", out[:headerLen], wire[:headerLen])
	}
	if repacked, err := r.Pack(); err != nil {
		t.Fatalf("answer does not pack again: %v\n%x", err, repacked)
	}
	limit := plainSize
	q := new(mdns.Msg)
	if q.Unpack(wire) == nil {
		if opt := q.IsEdns0(); opt != nil {
			limit = min(max(plainSize, int(opt.UDPSize())), udpSize)
		}
		if len(r.Question) == 1 && r.Question[0] != q.Question[0] {
			t.Fatalf("question %v came back as %v", q.Question, r.Question)
		}
	} else if r.IsEdns0() != nil {
		limit = udpSize // what the library cannot read, the handler may
	}
	if !tcp && len(out) > limit {
		t.Fatalf("%d octets, at most %d", len(out), limit)
	}
}

// stream is a connection whose client has sent all that it will.
type stream struct {
	net.Conn
	in  io.Reader
	out bytes.Buffer
}

func (s *stream) Read(b []byte) (int, error)     { return s.in.Read(b) }
func (*stream) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (s *stream) Write(b []byte) (int, error)    { return s.out.Write(b) }
func (*stream) SetReadDeadline(time.Time) error  { return nil }
func (*stream) SetWriteDeadline(time.Time) error { return nil }

// FuzzStream: what comes by TCP is answered like each message by itself, in
// order, up to the first that is no query or is cut short.
func FuzzStream(f *testing.F) {
	fix := newFixture(f)
	fix.allAt(f, 3, "primary")
	framed := func(all ...*mdns.Msg) (b []byte) {
		for _, m := range all {
			wire, err := m.Pack()
			if err != nil {
				f.Fatal(err)
			}
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(wire))), wire...)
		}
		return b
	}
	shop, big := question("shop.example.org.", mdns.TypeA), question("big.example.org.", mdns.TypeTXT).SetEdns0(512, false)
	f.Add(framed(shop), byte(0))
	f.Add(framed(shop, big, shop), byte(1))
	f.Add(framed(big, big, big, big, big), byte(0))
	f.Add(framed(shop, shop)[:50], byte(7))
	f.Add([]byte{0, 0}, byte(0))
	f.Add([]byte{0xff, 0xff, 1}, byte(0))
	f.Fuzz(func(t *testing.T, sent []byte, piece byte) {
		c := &stream{in: bytes.NewReader(sent)}
		if piece > 0 {
			c.in = iotest.OneByteReader(c.in)
		}
		fix.serveConn(c, &connSet{max: 1, idle: map[net.Conn]time.Time{}})
		var want []byte
		for len(sent) >= 2 {
			n := int(binary.BigEndian.Uint16(sent))
			if len(sent) < 2+n {
				break
			}
			answer := fix.respond(nil, sent[2:2+n], true)
			if len(answer) == 0 {
				break
			}
			want = append(binary.BigEndian.AppendUint16(want, uint16(len(answer))), answer...)
			sent = sent[2+n:]
		}
		if !bytes.Equal(c.out.Bytes(), want) {
			t.Fatalf("answered\n%x\nwant\n%x", c.out.Bytes(), want)
		}
	})
}

// FuzzZone: a record of failover.toml that is taken is answered as it stands
// there, whatever octets it has.
func FuzzZone(f *testing.F) {
	for _, r := range [][2]string{
		{"A", "192.0.2.9"}, {"AAAA", "2001:db8::9"}, {"A", "::ffff:192.0.2.9"}, {"CNAME", "www.elsewhere.net."}, {"NS", "ns.elsewhere.net."},
		{"TXT", `q"u\o` + "te\x00\xff"}, {"TXT", ""}, {"TXT", strings.Repeat("x", 256)}, {"MX", "10 mail."}, {"TXT", `\097 ;(`},
	} {
		f.Add("m.example.org.", r[0], r[1])
	}
	f.Add("example.org.", "NS", "ns.elsewhere.net.")
	f.Add("shop.example.org.", "TXT", "beside a service")
	f.Add("ns1.example.org.", "A", "192.0.2.9")
	f.Fuzz(func(t *testing.T, name, kind, value string) {
		z := sampleZone()
		z.Records = []Record{{Name: name, Type: kind, Value: []string{value}, TTL: time.Minute}}
		clock := &testClock{now: draas.Reading{Boot: time.Hour, Wall: 1000 * time.Hour}}
		a, err := New(Config{Zones: []Zone{z}, Clock: clock.Now, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return
		}
		fix := &fixture{Authority: a, clock: clock}
		fix.allAt(t, 3, "primary")
		wire, err := question(name, mdns.StringToType[kind]).SetEdns0(1232, false).Pack()
		if err != nil {
			t.Fatalf("took a name that cannot be asked for: %v", err)
		}
		r := new(mdns.Msg)
		if err := r.Unpack(fix.respond(nil, wire, true)); err != nil || r.Rcode != mdns.RcodeSuccess {
			t.Fatalf("%s %s %q: %v, %v", name, kind, value, r, err)
		}
		if kind == "NS" && mdns.CanonicalName(name) != "example.org." {
			r.Answer = r.Ns // a delegation
		}
		for _, rr := range r.Answer {
			if got, is := dataOf(rr); rr.Header().Rrtype == mdns.StringToType[kind] && is && got == plainly(kind, value) {
				return
			}
		}
		t.Fatalf("%s %s %q is answered with %v", name, kind, value, r)
	})
}

// FuzzTSIG: a signature that is taken is one that the library takes, too, and
// only with the key; whatever else comes is refused with an answer that says so.
func FuzzTSIG(f *testing.F) {
	key := Key{Name: "transfer.", Algorithm: "hmac-sha256", Secret: "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}
	fix := newPrimary(f, copied(Secondary{Key: key}))
	fix.allAt(f, 3, "primary")
	now := wall(fix.clock.Now())
	sign := func(m *mdns.Msg, key Key) []byte {
		m.SetTsig(key.Name, key.Algorithm+".", 300, now.Unix())
		wire, _, err := mdns.TsigGenerate(m, key.Secret, "", false)
		if err != nil {
			f.Fatal(err)
		}
		return wire
	}
	other := Key{Name: "TRANSFER.", Algorithm: "hmac-sha512", Secret: key.Secret}
	ixfr := question("example.org.", mdns.TypeIXFR)
	ixfr.SetIxfr("example.org.", 12, "ns.", "x.")
	for _, wire := range [][]byte{
		sign(question("example.org.", mdns.TypeSOA), key), sign(question("shop.example.org.", mdns.TypeA).SetEdns0(1232, false), key),
		sign(question("example.org.", mdns.TypeAXFR), key), sign(ixfr, key), sign(question("example.org.", mdns.TypeSOA), other),
	} {
		f.Add(wire)
		f.Add(wire[:len(wire)-1])
		f.Add(append(wire, 0))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var x *transfer
		moment := &moment{clock: func() draas.Reading {
			return draas.Reading{Boot: time.Hour, Wall: time.Duration(time.Now().UnixNano())}
		}}
		out := fix.Authority.respond(nil, wire, client{tcp: true, now: moment, transfer: &x})
		taken := x != nil
		if len(out) > 0 {
			r := unpack(t, out)
			sig := r.IsTsig()
			taken = sig != nil && sig.Error == 0
			if (r.Rcode == mdns.RcodeNotAuth) != (sig != nil && sig.Error != 0) {
				t.Fatalf("%v", r)
			}
		}
		if taken && mdns.TsigVerify(wire, key.Secret, "", false) != nil {
			t.Fatalf("the library does not take %x: %v", wire, mdns.TsigVerify(wire, key.Secret, "", false))
		}
	})
}

// FuzzHeard throws octets at who waits for a secondary's answer: only a signed
// one counts.
func FuzzHeard(f *testing.F) {
	key, err := newTSIGKey(Key{Name: "transfer.", Algorithm: "hmac-sha256", Secret: "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"})
	if err != nil {
		f.Fatal(err)
	}
	fix := newPrimary(f)
	m := question("example.org.", mdns.TypeSOA)
	m.Id = 7
	sent := pack(f, m)
	m.Response = true
	soa, _ := mdns.NewRR(soaText)
	m.Answer = []mdns.RR{soa}
	answer := pack(f, m)
	signed := (&signer{key: key, mac: []byte("mac")}).sign(slices.Clone(answer), wall(fix.clock.Now()))
	f.Add(answer)
	f.Add(signed)
	f.Add(signed[:len(signed)-1])
	plain, safe := &teller{a: fix.Authority, tellKey: tellKey{zone: "example.org."}}, &teller{a: fix.Authority, tellKey: tellKey{zone: "example.org."}, key: key}
	if serial, ours, err := safe.heard(signed, sent, []byte("mac")); serial != 13 || !ours || err != nil {
		f.Fatalf("%d %t %v", serial, ours, err)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		if serial, ours, err := plain.heard(wire, sent, nil); ours && err == nil && serial != 0 && !bytes.Contains(wire, binary.BigEndian.AppendUint32(nil, serial)) {
			t.Fatalf("serial %d out of nowhere", serial)
		}
		if _, ours, err := safe.heard(wire, sent, []byte("mac")); ours && err == nil && !bytes.Contains(wire, signed[len(signed)-38:len(signed)-6]) {
			t.Fatalf("took %x", wire)
		}
	})
}

// FuzzSigningKey: a pair of key files that is taken signs so that the library
// believes it.
func FuzzSigningKey(f *testing.F) {
	public, private := newSigningKey(f, 257, "Created: 20260101000000", "Activate: 20260101000000")
	f.Add(public, private)
	f.Add(public, "")
	f.Add("example.org. IN DNSKEY 256 3 13 (", private)
	f.Add("$INCLUDE /etc/passwd\n", private)
	f.Fuzz(func(t *testing.T, public, private string) {
		k, err := ParseSigningKey("example.org.", public, private)
		if err != nil {
			return
		}
		now := time.Unix(1_800_000_000, 0)
		keys := &keyset{zone: wire(t, "example.org."), validity: time.Hour, rest: []*SigningKey{k}}
		rr := &mdns.TXT{Hdr: header("example.org.", mdns.TypeTXT, time.Minute), Txt: []string{"x"}}
		s, err := newSet([]mdns.RR{rr})
		if err != nil {
			t.Fatal(err)
		}
		made, err := keys.sign(s, keys.zone, now)
		if err != nil {
			t.Fatal(err)
		}
		sig, _, err := mdns.UnpackRR(append([]byte(keys.zone), made.wire[2:]...), 0)
		if err != nil || sig.(*mdns.RRSIG).Verify(&k.public, []mdns.RR{rr}) != nil {
			t.Fatalf("%v %v", sig, err)
		}
	})
}

// dataOf is a record's data in the form that plainly gives it.
func dataOf(rr mdns.RR) (string, bool) {
	switch rr := rr.(type) {
	case *mdns.A:
		return rr.A.String(), true
	case *mdns.AAAA:
		return rr.AAAA.String(), true
	case *mdns.CNAME:
		return mdns.CanonicalName(rr.Target), true
	case *mdns.NS:
		return mdns.CanonicalName(rr.Ns), true
	case *mdns.TXT:
		wire := make([]byte, 4096)
		end, err := mdns.PackRR(rr, wire, 0, nil, false)
		if err != nil {
			return "", false
		}
		start := len(rr.Hdr.Name) + 1 + 10 // no label of these names is escaped
		var text []byte
		for rdata := wire[start:end]; len(rdata) > 0; rdata = rdata[1+int(rdata[0]):] {
			text = append(text, rdata[1:1+int(rdata[0])]...)
		}
		return string(text), true
	}
	return "", false
}

func plainly(kind, value string) string {
	switch kind {
	case "A", "AAAA":
		if addr, err := netip.ParseAddr(value); err == nil {
			return net.IP(addr.Unmap().AsSlice()).String()
		}
	case "CNAME", "NS":
		return mdns.CanonicalName(value)
	}
	return value
}
