package authority

import (
	"encoding/binary"
	"testing"

	mdns "github.com/miekg/dns"
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
	f.Fuzz(func(t *testing.T, wire []byte, tcp bool) {
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
	})
}
