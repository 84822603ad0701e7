package rfc2136

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

func setTargets(targets map[draas.SiteID]dns.Target) func(*Config) {
	return func(c *Config) {
		n := atName(shop)
		n.Targets = targets
		c.Names = []dns.Name{n}
	}
}

// What is at the name and is not draas's stays; what would lead users to the
// other site goes.
func TestForeignRecordsStay(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{Records: []string{
			"shop MX 10 mail", "shop A 198.51.100.1", "shop A 198.51.100.2", "other A 198.51.100.3", `_draas.other TXT "epoch=9 site=dr"`, "mail A 198.51.100.4"}})
		e := effect(t, s, s.Address, setTargets(map[draas.SiteID]dns.Target{
			"primary": {Addresses: addrs("192.0.2.10", "2001:db8::10")}, "dr": {Addresses: addrs("203.0.113.20")}}))
		mustDo(t, e, op(1, 0))
		want := shop + " A 192.0.2.10\n" + shop + " AAAA 2001:db8::10\n" + shop + " MX 10 mail.example.org.\n_draas." + shop + ` TXT "epoch=1 site=primary"`
		if got := stands(s, shop); got != want {
			t.Errorf("at the primary:\n%s", got)
		}
		mustDo(t, e, op(2, 1))
		want = shop + " A 203.0.113.20\n\n" + shop + " MX 10 mail.example.org.\n_draas." + shop + ` TXT "epoch=2 site=dr"`
		if got := stands(s, shop); got != want {
			t.Errorf("at the DR site:\n%s", got)
		}
		if got := stands(s, "other."+zone); got != "other.example.org. A 198.51.100.3\n\n\n_draas.other.example.org. TXT \"epoch=9 site=dr\"" {
			t.Errorf("the other name:\n%s", got)
		}
	})
}

// A name goes from addresses to a CNAME and back, each in one update: nobody
// finds it empty in between.
func TestAddressesAndCNAME(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{Records: []string{"shop A 198.51.100.1"}})
		toCNAME := effect(t, s, s.Address, setTargets(map[draas.SiteID]dns.Target{"primary": {CNAME: "a.example.net."}, "dr": {CNAME: "B.example.net."}}))
		toAddress := effect(t, s, s.Address)
		stop, watched := make(chan struct{}), make(chan error)
		go func() {
			for {
				select {
				case <-stop:
					watched <- nil
					return
				case <-time.After(time.Millisecond):
				}
				if said := s.Lookup(shop, mdns.TypeA); !strings.Contains(said, " A ") && !strings.Contains(said, " CNAME ") {
					watched <- fmt.Errorf("the name is empty: %q", said)
					<-stop
					return
				}
			}
		}()
		for epoch := draas.Epoch(1); epoch <= 6; epoch += 2 {
			mustDo(t, toCNAME, op(epoch, 1))
			if got := s.Lookup(shop, mdns.TypeCNAME); got != shop+" CNAME b.example.net." {
				t.Errorf("CNAME: %s", got)
			}
			expect(t, toAddress, op(epoch, 1), runbook.No)
			mustDo(t, toAddress, op(epoch+1, 0))
			expect(t, toCNAME, op(epoch+1, 0), runbook.No)
		}
		close(stop)
		if err := <-watched; err != nil {
			t.Error(err)
		}
	})
}

// A CNAME that is added beside other records is ignored by servers without a
// word: the name would be left empty. So it is refused, also when the records
// come after the look.
func TestNoCNAMEBesideOthers(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{Records: []string{"shop MX 10 mail", "shop A 198.51.100.1"}})
		e := effect(t, s, s.Address, setTargets(map[draas.SiteID]dns.Target{"primary": {CNAME: "a.example.net."}, "dr": {CNAME: "b.example.net."}}))
		before := stands(s, shop)
		if err := do(t, e, op(1, 0)); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "MX") {
			t.Errorf("Do: %v", err)
		}
		r := nameserver.NewRelay(t, s.Address)
		r.SetRule(func(m *mdns.Msg) nameserver.Fate { // hides what is there, as RFC 8482 does
			if m.Opcode == mdns.OpcodeQuery && m.Question[0].Name == shop {
				return nameserver.Nothing
			}
			return nameserver.Pass
		})
		e.cfg.Primary.Address = r.Address
		if err := do(t, e, op(1, 0)); !errors.Is(err, ErrMoved) || !strings.Contains(err.Error(), "records of other types") {
			t.Errorf("Do: %v", err)
		}
		if got := stands(s, shop); got != before {
			t.Errorf("changed from\n%s\nto\n%s", before, got)
		}
	})
}

// What stands at the epoch's name and is not an epoch is never overwritten,
// nor taken for absent.
func TestForeignEpochRecords(t *testing.T) {
	for name, records := range map[string][]string{
		"text":       {`_draas.shop TXT "v=spf1 -all"`},
		"two epochs": {`_draas.shop TXT "epoch=1 site=dr"`, `_draas.shop TXT "epoch=2 site=primary"`},
		"an alias":   {"_draas.shop CNAME elsewhere"},
		"epoch zero": {`_draas.shop TXT "epoch=0 site=dr"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := nameserver.Start(t, nameserver.Fake, nameserver.Options{Records: records})
			r := nameserver.NewRelay(t, s.Address)
			e := effect(t, s, r.Address)
			if err := do(t, e, op(7, 0)); !errors.Is(err, ErrForeign) || len(r.Seen()) > 0 {
				t.Errorf("Do: %v, %d updates sent", err, len(r.Seen()))
			}
			expect(t, e, op(7, 0), runbook.No)
		})
	}
}

// Records that were edited by hand, or whose target changed in the file, are
// set right at the same epoch; a late repetition of that is refused, too.
func TestRepairAtTheSameEpoch(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		s := nameserver.Start(t, kind, nameserver.Options{})
		r := nameserver.NewRelay(t, s.Address)
		mustDo(t, effect(t, s, r.Address), op(5, 0))
		e := effect(t, s, r.Address, setTargets(map[draas.SiteID]dns.Target{
			"primary": {Addresses: addrs("192.0.2.77")}, "dr": {Addresses: addrs("203.0.113.20")}}))
		expect(t, e, op(5, 0), runbook.No)
		mustDo(t, e, op(5, 0))
		mustDo(t, effect(t, s, r.Address), op(5, 0)) // back by hand
		mustDo(t, e, op(5, 0))
		mustDo(t, effect(t, s, r.Address), op(5, 0))
		want := shop + " A 192.0.2.10\n" + shop + " AAAA 2001:db8::10\n\n_draas." + shop + ` TXT "epoch=5 site=primary rev=4"`
		if got := stands(s, shop); got != want {
			t.Errorf("at last\n%s", got)
		}
		for i, wire := range r.Seen() {
			if rcode := replay(t, s.Address, wire); rcode != mdns.RcodeNXRrset && rcode != mdns.RcodeYXRrset {
				t.Errorf("update %d again: %s", i, mdns.RcodeToString[rcode])
			}
		}
		expect(t, effect(t, s, s.Address), op(5, 0), runbook.Yes)
		if err := do(t, e, op(5, 1)); err == nil || !strings.Contains(err.Error(), "was given to primary") {
			t.Errorf("another site at this epoch: %v", err)
		}
	})
}

// Above 512 octets an update goes by TCP at once.
func TestLargeUpdatesGoByTCP(t *testing.T) {
	each(t, kinds, func(t *testing.T, kind nameserver.Kind) {
		var many []string
		for i := range dns.MaxValues {
			many = append(many, fmt.Sprintf("2001:db8::%x", i+1))
		}
		s := nameserver.Start(t, kind, nameserver.Options{})
		r := nameserver.NewRelay(t, s.Address)
		e := effect(t, s, r.Address, setTargets(map[draas.SiteID]dns.Target{
			"primary": {Addresses: addrs("192.0.2.10")}, "dr": {Addresses: addrs(many...)}}),
			func(c *Config) { c.Timeout = 5 * time.Second })
		mustDo(t, e, op(1, 0))
		mustDo(t, e, op(2, 1))
		mustDo(t, e, op(3, 0))
		if got := r.Networks(); !slices.Equal(got, []string{"udp", "tcp", "udp"}) {
			t.Errorf("updates went by %v", got)
		}
		// One that finds no answer is not tried by UDP, nor by TCP again.
		r.SetRule(nameserver.Updates(nameserver.Lose))
		e.cfg.Wait = 100 * time.Millisecond
		if err := do(t, e, op(4, 1)); !errors.Is(err, ErrUnanswered) {
			t.Errorf("Do: %v", err)
		}
		if got := r.Networks(); !slices.Equal(got, []string{"udp", "tcp", "udp", "tcp"}) {
			t.Errorf("updates went by %v", got)
		}
	})
}

// A success that bears no signature is anybody's: it does not count.
func TestUnsignedSuccessDoesNotCount(t *testing.T) {
	t.Parallel()
	s := nameserver.Start(t, nameserver.Fake, nameserver.Options{})
	r := nameserver.NewRelay(t, s.Address)
	e := effect(t, s, r.Address, func(c *Config) { c.Timeout, c.Wait = 100*time.Millisecond, 5*time.Second })
	for _, fate := range []nameserver.Fate{nameserver.Nothing, nameserver.Moved} {
		r.SetRule(nameserver.Updates(fate))
		if err := do(t, e, op(1, 0)); !errors.Is(err, ErrUnanswered) || !strings.Contains(err.Error(), "signature") {
			t.Errorf("Do: %v", err)
		}
	}
	if n := epochAt(t, s); n != 0 {
		t.Errorf("epoch %v", n)
	}
}

// A forged answer by UDP does not hide the server's own.
func TestForgedAnswerIsPassedOver(t *testing.T) {
	t.Parallel()
	s := nameserver.Start(t, nameserver.Fake, nameserver.Options{})
	r := nameserver.NewRelay(t, s.Address)
	e := effect(t, s, r.Address)
	r.SetRule(nameserver.Updates(nameserver.Forge))
	start := time.Now()
	mustDo(t, e, op(1, 0))
	if took := time.Since(start); took >= e.cfg.Timeout || len(r.Seen()) != 1 {
		t.Errorf("%d updates in %v", len(r.Seen()), took)
	}
}
