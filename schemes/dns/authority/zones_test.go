package authority

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

// New zones are answered from what was published before, at once; names that
// are gone are gone, and the bound of a permit holds for new names too.
func TestSetZones(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	over := draas.DeadlineAt(f.clock.Now(), time.Second)
	f.Lease(map[draas.ServiceID]draas.Deadline{"shop": over})
	z := sampleZone()
	z.Services[0].Name = "till.example.org."
	z.Services[0].Targets["primary"] = dns.Target{Addresses: addrs("198.51.100.77")}
	z.Services = z.Services[:1]
	z.Records = nil
	other := Zone{Name: "example.net.", Servers: z.Servers[2:], Services: []dns.Name{{Name: "new.example.net.", Service: "new", TTL: time.Second,
		Targets: map[draas.SiteID]dns.Target{"dr": {Addresses: addrs("192.0.2.7")}}}}}
	if err := f.SetZones([]Zone{z, other}); err != nil {
		t.Fatal(err)
	}
	answered := func(name string) string {
		wire, err := question(name, mdns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		var m mdns.Msg
		if err := m.Unpack(f.respond(nil, wire, false)); err != nil {
			t.Fatal(err)
		}
		return brief(&m)
	}
	for name, want := range map[string]string{
		"till.example.org.": "NOERROR aa | an till.example.org. 5 IN A 198.51.100.77",
		"shop.example.org.": "NXDOMAIN",
		"mail.example.org.": "NXDOMAIN",
		"new.example.net.":  "SERVFAIL", // never activated
	} {
		if got := answered(name); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	f.publish(t, 1, "dr", "new")
	if got := answered("new.example.net."); !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("the added service is answered %s after its activation", got)
	}
	f.clock.Advance(2 * time.Second)
	if got := answered("till.example.org."); !strings.HasPrefix(got, "SERVFAIL") {
		t.Errorf("under its new name it is answered %s beyond its permit", got)
	}
	if err := f.SetZones([]Zone{{Name: "not a name"}}); err == nil {
		t.Error("a bad zone was taken")
	}
	if got := answered("new.example.net."); !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("a bad zone disturbed the good ones: %s", got)
	}
}

// No query goes without its answer while the zones are replaced.
func TestSetZonesUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	addr, _ := f.serve(t, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		c := mdns.Client{Timeout: 5 * time.Second}
		for ctx.Err() == nil {
			r, _, err := c.ExchangeContext(ctx, question("shop.example.org.", mdns.TypeA), addr)
			if ctx.Err() != nil {
				return
			}
			if err != nil || len(r.Answer) != 1 {
				t.Errorf("no answer: %v %v", r, err)
				return
			}
		}
	})
	for range 200 {
		if err := f.SetZones([]Zone{sampleZone()}); err != nil {
			t.Error(err)
		}
		f.allAt(t, 3, "primary")
	}
	cancel()
	wg.Wait()
}
