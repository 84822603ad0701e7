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
			b.ReportAllocs()
			for b.Loop() {
				out = f.respond(out[:0], wire, false)
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

// BenchmarkPublish is the cost of one decision with many services.
func BenchmarkPublish(b *testing.B) {
	for _, services := range []int{10, 1000} {
		b.Run(fmt.Sprint(services), func(b *testing.B) {
			z := Zone{Name: "example.org.", Servers: []NameServer{{Site: "primary", Host: "ns.elsewhere.net."}}}
			for i := range services {
				z.Services = append(z.Services, dns.Name{
					Name: fmt.Sprintf("s%d.example.org.", i), Service: draas.ServiceID(fmt.Sprint("s", i)),
					Targets: map[draas.SiteID]dns.Target{"primary": {Addresses: addrs("192.0.2.1")}, "dr": {Addresses: addrs("192.0.2.2")}},
				})
			}
			f := newFixture(b, z)
			b.ReportAllocs()
			epoch := draas.Epoch(0)
			for b.Loop() {
				epoch++
				f.publish(b, epoch, "dr", "s1")
			}
		})
	}
}
