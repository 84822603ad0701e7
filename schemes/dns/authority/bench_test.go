package authority

import (
	"fmt"
	"net"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

// BenchmarkAnswer is the cost of one answer from the query's octets to the
// response's, without the socket.
func BenchmarkAnswer(b *testing.B) {
	f := newFixture(b)
	f.allAt(b, 3, "primary")
	for _, bb := range []struct {
		name string
		m    *mdns.Msg
	}{
		{"A", question("shop.example.org.", mdns.TypeA)},
		{"A-EDNS", question("shop.example.org.", mdns.TypeA).SetEdns0(1232, true)},
		{"NXDOMAIN", question("x.y.z.example.org.", mdns.TypeA).SetEdns0(1232, true)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			wire, _ := bb.m.Pack()
			out := make([]byte, 0, udpSize)
			c := client{now: &moment{clock: f.clock.Now}}
			b.ReportAllocs()
			for b.Loop() {
				out = f.Authority.respond(out[:0], wire, c)
			}
		})
	}
}

// BenchmarkUDP is a round trip over loopback, one query at a time.
func BenchmarkUDP(b *testing.B) {
	f := newFixture(b)
	f.allAt(b, 3, "primary")
	addr, _ := f.serve(b, "127.0.0.1:0")
	c, err := net.Dial("udp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	wire, _ := question("shop.example.org.", mdns.TypeA).SetEdns0(1232, false).Pack()
	in := make([]byte, 2048)
	b.ReportAllocs()
	for b.Loop() {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Write(wire); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPublish is the cost of one decision with many services, and beside
// many static names.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []struct{ services, names int }{{10, 10}, {10, 100_000}, {1000, 10}} {
		b.Run(fmt.Sprintf("%d-services-%d-names", size.services, size.names), func(b *testing.B) {
			f := newFixture(b, largeZone(size.services, size.names))
			for i := range size.services {
				f.publish(b, 1, "primary", draas.ServiceID(fmt.Sprint("s", i)))
			}
			b.ReportAllocs()
			epoch := draas.Epoch(1)
			for b.Loop() {
				epoch++
				f.publish(b, epoch, "dr", "s1")
			}
		})
	}
}

// BenchmarkSetZones is the cost of a reload.
func BenchmarkSetZones(b *testing.B) {
	z := largeZone(10, 100_000)
	f := newFixture(b, z)
	f.publish(b, 1, "primary", "s1")
	for b.Loop() {
		if err := f.SetZones([]Zone{z}); err != nil {
			b.Fatal(err)
		}
	}
}

// largeZone has many services and static names.
func largeZone(services, names int) Zone {
	z := Zone{Name: "example.org.", Servers: []NameServer{{Site: "primary", Host: "ns.elsewhere.net."}}}
	for i := range services {
		z.Services = append(z.Services, dns.Name{
			Name: fmt.Sprintf("s%d.example.org.", i), Service: draas.ServiceID(fmt.Sprint("s", i)),
			Targets: map[draas.SiteID]dns.Target{"primary": {Addresses: addrs("192.0.2.1")}, "dr": {Addresses: addrs("192.0.2.2")}},
		})
	}
	for i := range names {
		r := Record{Name: fmt.Sprintf("host%d.example.org.", i), Type: "A", Value: []string{fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)}, TTL: time.Hour}
		if i%10 == 9 { // a tenth leads to services
			r.Type, r.Value = "CNAME", []string{fmt.Sprintf("s%d.example.org.", i%services)}
		}
		z.Records = append(z.Records, r)
	}
	return z
}

// No decision waits for signatures, however many names there are.
func BenchmarkPublishSigned(b *testing.B) {
	z := largeZone(10, 100_000)
	z.Signing = &Signing{Keys: []SigningKey{signingKey(b, 257)}}
	f := newPrimary(b, z)
	for i := range 10 {
		f.publish(b, 1, "primary", draas.ServiceID(fmt.Sprint("s", i)))
	}
	epoch := draas.Epoch(1)
	b.ReportAllocs()
	for b.Loop() {
		epoch++
		f.publish(b, epoch, "dr", "s1")
	}
}

// BenchmarkSign is the cost of the signature of one set, once; BenchmarkSigned
// that of an answer whose signatures are there.
func BenchmarkSign(b *testing.B) {
	k := signingKey(b, 257)
	keys := &keyset{zone: wire(b, "example.org."), validity: defaultValidity, rest: []*SigningKey{&k}}
	s, err := newSet([]mdns.RR{addressRecord(header("shop.example.org.", 0, time.Minute), addrs("192.0.2.1")[0])})
	if err != nil {
		b.Fatal(err)
	}
	owner, now := wire(b, "shop.example.org."), time.Now()
	for b.Loop() {
		if _, err := keys.sign(s, owner, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSigned(b *testing.B) {
	f := newPrimary(b, signedZone(signingKey(b, 257)))
	f.allAt(b, 1, "primary")
	for _, name := range []string{"shop.example.org.", "x.y.z.example.org."} {
		b.Run(name, func(b *testing.B) {
			query := pack(b, question(name, mdns.TypeA).SetEdns0(1232, true))
			out := make([]byte, 0, udpSize)
			c := client{now: &moment{clock: f.clock.Now}}
			b.ReportAllocs()
			for b.Loop() {
				out = f.Authority.respond(out[:0], query, c)
			}
		})
	}
}
