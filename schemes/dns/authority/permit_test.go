package authority

import (
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
)

// Beyond its own permit a site answers SERVFAIL for what it holds, at once and
// however long the stale bound is, also through aliases; what other sites hold
// it answers on.
func TestLease(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	until := draas.DeadlineAt(f.clock.Now(), time.Second)
	f.Lease(map[draas.ServiceID]draas.Deadline{"shop": until})
	f.clock.Advance(999 * time.Millisecond)
	f.expect(t, "shop.example.org.", mdns.TypeA, "198.51.100.20")
	f.clock.Advance(time.Millisecond)
	for _, name := range []string{"shop.example.org.", "SHOP.example.org.", "www.example.org.", "alias.example.org."} {
		f.expect(t, name, mdns.TypeA, "SERVFAIL")
	}
	f.expect(t, "_draas.shop.example.org.", mdns.TypeTXT, "SERVFAIL")
	f.expect(t, "dual.example.org.", mdns.TypeA, "198.51.100.30")
	f.expect(t, "mail.example.org.", mdns.TypeA, "192.0.2.9")
	f.Lease(map[draas.ServiceID]draas.Deadline{"shop": draas.DeadlineAt(f.clock.Now(), time.Second)})
	f.expect(t, "www.example.org.", mdns.TypeA, "198.51.100.20")
	f.Lease(nil)
	f.clock.Advance(2 * time.Second)
	f.expect(t, "shop.example.org.", mdns.TypeA, "198.51.100.20")
}
