package authority

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

func TestZoneValidation(t *testing.T) {
	record := func(name, typ string, values ...string) func(*Zone) {
		return func(z *Zone) {
			z.Records = append(z.Records, Record{Name: name, Type: typ, Value: values, TTL: time.Minute})
		}
	}
	service := func(name string, id draas.ServiceID, target dns.Target) func(*Zone) {
		return func(z *Zone) {
			z.Services = append(z.Services, dns.Name{Name: name, Service: id, Targets: map[draas.SiteID]dns.Target{"dr": target}})
		}
	}
	one := dns.Target{Addresses: addrs("192.0.2.77")}
	tests := []struct {
		name   string
		change func(*Zone)
		want   string
	}{
		{"name", func(z *Zone) { z.Name = "example.org" }, "fully qualified"},
		{"contact", func(z *Zone) { z.Contact = "hostmaster@example.org." }, "letters, digits"},
		{"ttl", func(z *Zone) { z.TTL = time.Millisecond }, "whole seconds"},
		{"negative ttl", func(z *Zone) { z.NegativeTTL = -time.Second }, "whole seconds"},
		{"stale", func(z *Zone) { z.Stale = -1 }, "stale"},
		{"no servers", func(z *Zone) { z.Servers = nil }, "no name server"},
		{"server name", func(z *Zone) { z.Servers[0].Host = "ns" }, "server of site dr"},
		{"no glue", func(z *Zone) { z.Servers[0].Addresses = nil }, "inside the zone and has no address"},
		{"foreign glue", func(z *Zone) { z.Servers[2].Addresses = addrs("192.0.2.1") }, "outside the zone"},
		{"glue", func(z *Zone) { z.Servers[0].Addresses = addrs("0.0.0.0") }, "cannot be answered"},
		{"same server twice", func(z *Zone) { z.Servers[0].Host = "ns1.example.org." }, "same record twice"},
		{"record outside", record("www.example.com.", "A", "192.0.2.1"), "not in zone"},
		{"record name", record("*.example.org.", "A", "192.0.2.1"), "letters, digits"},
		{"no value", record("x.example.org.", "A"), "0 values"},
		{"many values", record("x.example.org.", "TXT", make([]string, 65)...), "65 values"},
		{"type", record("x.example.org.", "MX", "10 mail."), `type "MX"`},
		{"apex ns", record("example.org.", "NS", "ns.example.net."), "its sites"},
		{"bad address", record("x.example.org.", "A", "192.0.2"), "192.0.2"},
		{"unspecified", record("x.example.org.", "A", "0.0.0.0"), "cannot be answered"},
		{"family", record("x.example.org.", "AAAA", "192.0.2.1"), "other family"},
		{"cname value", record("x.example.org.", "CNAME", "x"), "fully qualified"},
		{"ns value", record("x.example.org.", "NS", "x"), "fully qualified"},
		{"text", record("x.example.org.", "TXT", strings.Repeat("x", 2049)), "at most 2048"},
		{"too much for a message", func(z *Zone) {
			var texts []string
			for i := range 40 {
				texts = append(texts, strings.Repeat(string(rune('A'+i)), 2000))
			}
			record("x.example.org.", "TXT", texts...)(z)
		}, "does not fit"},
		{"duplicate", record("mail.example.org.", "A", "192.0.2.9"), "same record twice"},
		{"two ttls", func(z *Zone) {
			z.Records = append(z.Records, Record{Name: "mail.example.org.", Type: "A", Value: []string{"192.0.2.10"}})
		}, "two TTLs"},
		{"two cnames", record("www.example.org.", "CNAME", "b.example.org."), "stands alone"},
		{"cname and more", record("www.example.org.", "TXT", "x"), "stands alone"},
		{"cname at the apex", record("example.org.", "CNAME", "b.example.org."), "stands alone"},
		{"delegation without glue", record("s2.example.org.", "NS", "ns.s2.example.org."), "no address record"},
		{"service outside", service("x.example.com.", "x", one), "not in zone"},
		{"service invalid", service("x.example.org.", "", one), "no service"},
		{"service twice", service("shop.example.org.", "x", one), "two services"},
		{"service over static", service("mail.example.org.", "x", one), "static records"},
		{"alias over text", service("a.b.c.example.org.", "x", dns.Target{CNAME: "b.example.net."}), "static records"},
		{"alias at the apex", func(z *Zone) {
			z.Services = nil
			service("example.org.", "x", dns.Target{CNAME: "b.example.net."})(z)
		}, "RFC 1912"},
		{"mapped address", service("x.example.org.", "x", dns.Target{Addresses: addrs("::ffff:192.0.2.1")}), "write it as IPv4"},
		{"service below a delegation", service("x.sub.example.org.", "x", one), "delegated"},
		{"service at a delegation", service("sub.example.org.", "x", one), "delegated"},
		{"epoch name taken", record("_draas.shop.example.org.", "TXT", "x"), "kept for the epoch"},
		{"epoch name is a service", service("_draas.shop.example.org.", "x", one), "kept for the epoch"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := sampleZone()
			tt.change(&z)
			_, err := New(Config{Zones: []Zone{z}, Clock: (&testClock{}).Now, Log: slog.New(slog.DiscardHandler)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("New: %v, want %q", err, tt.want)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	good := Config{Zones: []Zone{sampleZone()}, Clock: (&testClock{}).Now, Log: slog.New(slog.DiscardHandler)}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	inner := Zone{Name: "inner.example.org.", Servers: []NameServer{{Site: "dr", Host: "ns.elsewhere.net."}}}
	for name, change := range map[string]func(*Config){
		"no zone":       func(c *Config) { c.Zones = nil },
		"no clock":      func(c *Config) { c.Clock = nil },
		"no log":        func(c *Config) { c.Log = nil },
		"negative":      func(c *Config) { c.MaxConns = -1 },
		"zone twice":    func(c *Config) { c.Zones = append(c.Zones, c.Zones[0]) },
		"misplaced one": func(c *Config) { inner.Name = "shop.example.org."; c.Zones = append(c.Zones, inner) },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A zone inside another one of the same server answers for itself.
func TestZoneInsideZone(t *testing.T) {
	outer := sampleZone()
	outer.Records = append(outer.Records,
		Record{Name: "inner.example.org.", Type: "NS", Value: []string{"ns.inner.example.org."}, TTL: time.Minute},
		Record{Name: "ns.inner.example.org.", Type: "A", Value: []string{"192.0.2.53"}, TTL: time.Minute})
	inner := Zone{Name: "inner.example.org.", Servers: []NameServer{{Site: "dr", Host: "ns.inner.example.org.", Addresses: addrs("192.0.2.53")}},
		Records: []Record{{Name: "x.inner.example.org.", Type: "A", Value: []string{"192.0.2.54"}, TTL: time.Minute}}}
	for _, zones := range [][]Zone{{outer, inner}, {inner, outer}} {
		f := newFixture(t, zones...)
		f.allAt(t, 1, "dr")
		f.expect(t, "x.inner.example.org.", mdns.TypeA, "NOERROR aa | an x.inner.example.org. 60 IN A 192.0.2.54")
		f.expect(t, "ns.inner.example.org.", mdns.TypeA, "NOERROR aa | an ns.inner.example.org. 3600 IN A")
		f.expect(t, "no.inner.example.org.", mdns.TypeA, "NXDOMAIN aa | ns inner.example.org.")
		f.expect(t, "mail.example.org.", mdns.TypeA, "192.0.2.9")
	}
}
