package authority

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

func (f *fixture) expect(t *testing.T, name string, qtype uint16, want string) {
	t.Helper()
	if got := brief(f.ask(t, question(name, qtype))); !strings.Contains(got, want) {
		t.Errorf("%s %s: got %s, want %s", name, typeName(qtype), got, want)
	}
}

// A restarted member answers SERVFAIL for its services until it has applied
// the log again; then a move changes the answer at once.
func TestPublishLife(t *testing.T) {
	f := newFixture(t)
	f.expect(t, "shop.example.org.", mdns.TypeA, "SERVFAIL")
	f.expect(t, "mail.example.org.", mdns.TypeA, "SERVFAIL") // not even a serial
	f.Touch(f.clock.Now())                                   // heard of the leader, applied nothing
	f.expect(t, "shop.example.org.", mdns.TypeA, "SERVFAIL")

	f.expect(t, "example.org.", mdns.TypeNS, "SERVFAIL")
	behind := View{Services: map[draas.ServiceID]dns.Decision{"shop": decision(1, "primary")}}
	if err := f.Publish(behind); err != nil {
		t.Fatal(err)
	}
	f.expect(t, "shop.example.org.", mdns.TypeA, "SERVFAIL") // replaying
	f.expect(t, "_draas.shop.example.org.", mdns.TypeTXT, "SERVFAIL")
	f.expect(t, "www.example.org.", mdns.TypeA, "SERVFAIL") // leads to shop
	f.expect(t, "mail.example.org.", mdns.TypeA, "192.0.2.9")
	f.expect(t, "example.org.", mdns.TypeA, "SERVFAIL")
	f.expect(t, "example.org.", mdns.TypeNS, "ns1.example.org.")
	f.expect(t, "example.org.", mdns.TypeSOA, " 2 86400") // shop is at epoch 1
	f.expect(t, "example.org.", mdns.TypeANY, "RFC8482")

	f.publish(t, 2, "primary", "shop")
	f.expect(t, "shop.example.org.", mdns.TypeA, "198.51.100.20")
	f.expect(t, "dual.example.org.", mdns.TypeA, "SERVFAIL") // never activated
	f.publish(t, 3, "dr", "shop")
	f.expect(t, "shop.example.org.", mdns.TypeA, "5 IN A 203.0.113.20 | an shop.example.org. 5 IN A 203.0.113.21")
	f.expect(t, "_draas.shop.example.org.", mdns.TypeTXT, `"epoch=3 site=dr"`)
	f.expect(t, "www.example.org.", mdns.TypeA, "203.0.113.20")
}

func TestOlderPublicationIsRefused(t *testing.T) {
	f := newFixture(t)
	f.publish(t, 6, "dr", "shop", "apex")
	serial := brief(f.ask(t, question("example.org.", mdns.TypeSOA)))
	tests := []struct {
		name  string
		view  map[draas.ServiceID]dns.Decision
		stale bool
	}{
		{"older", map[draas.ServiceID]dns.Decision{"shop": decision(5, "primary")}, true},
		{"one of two is older", map[draas.ServiceID]dns.Decision{"apex": decision(7, "primary"), "shop": decision(5, "primary")}, true},
		{"never activated", map[draas.ServiceID]dns.Decision{"shop": {}}, true},
		{"another site", map[draas.ServiceID]dns.Decision{"shop": decision(6, "primary")}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := f.Publish(View{Services: tt.view, InTouch: true, At: f.clock.Now()})
			if err == nil || errors.Is(err, draas.ErrStaleEpoch) != tt.stale {
				t.Errorf("Publish: %v", err)
			}
			f.expect(t, "shop.example.org.", mdns.TypeA, "203.0.113.20")
			f.expect(t, "example.org.", mdns.TypeA, "203.0.113.40")
			f.expect(t, "example.org.", mdns.TypeSOA, serial)
		})
	}
	newer := dns.Decision{Token: runbook.Token{Epoch: draas.EpochOf(1, 1)}, Site: "primary"}
	if err := f.Publish(View{Services: map[draas.ServiceID]dns.Decision{"shop": newer}}); err != nil {
		t.Fatal(err)
	}
	f.expect(t, "_draas.shop.example.org.", mdns.TypeTXT, `"epoch=4294967297 site=primary"`)
	if err := f.Publish(View{Services: map[draas.ServiceID]dns.Decision{"shop": decision(9, "dr")}}); !errors.Is(err, draas.ErrStaleEpoch) {
		t.Errorf("an older generation: %v", err)
	}
}

// While a move is under way, and for services that a view does not mention,
// the last answer stands (DESIGN.md, rules 4 and 7).
func TestLastAnswerStands(t *testing.T) {
	f := newFixture(t)
	f.publish(t, 6, "primary", "shop", "apex")
	f.publish(t, 7, "", "shop") // the next epoch is known, its site is not
	f.expect(t, "shop.example.org.", mdns.TypeA, "198.51.100.20")
	f.expect(t, "_draas.shop.example.org.", mdns.TypeTXT, "epoch=6 site=primary")
	f.expect(t, "example.org.", mdns.TypeA, "198.51.100.40")
	if err := f.Publish(View{Services: map[draas.ServiceID]dns.Decision{"shop": decision(6, "primary")}}); !errors.Is(err, draas.ErrStaleEpoch) {
		t.Errorf("epoch 6 after 7: %v", err)
	}
	f.publish(t, 7, "dr", "shop")
	f.expect(t, "shop.example.org.", mdns.TypeA, "203.0.113.20")
}

func TestOutOfTouch(t *testing.T) {
	f := newFixture(t)
	f.allAt(t, 3, "primary")
	f.clock.Advance(29 * time.Second)
	f.expect(t, "shop.example.org.", mdns.TypeA, "198.51.100.20")
	f.clock.Advance(time.Second)
	for range 3 {
		for _, name := range []string{"shop.example.org.", "www.example.org.", "alias.example.org.", "example.org."} {
			f.expect(t, name, mdns.TypeA, "SERVFAIL")
		}
	}
	f.expect(t, "shop.example.org.", mdns.TypeMX, "SERVFAIL")
	f.expect(t, "mail.example.org.", mdns.TypeA, "192.0.2.9")
	f.expect(t, "example.org.", mdns.TypeNS, "ns1.example.org.")
	f.expect(t, "nothing.example.org.", mdns.TypeA, "NXDOMAIN")
	if n := strings.Count(f.log.String(), "out of touch"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, f.log)
	}
	// What it hears while it is behind does not refresh it.
	if err := f.Publish(View{Services: map[draas.ServiceID]dns.Decision{"shop": decision(4, "dr")}}); err != nil {
		t.Fatal(err)
	}
	f.expect(t, "shop.example.org.", mdns.TypeA, "SERVFAIL")
	f.Touch(f.clock.Now())
	f.expect(t, "shop.example.org.", mdns.TypeA, "203.0.113.20")
	if n := strings.Count(f.log.String(), "in touch with the quorum again"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, f.log)
	}
	f.Touch(f.clock.Now().Add(-time.Minute)) // came late
	f.expect(t, "shop.example.org.", mdns.TypeA, "203.0.113.20")
}

// A query with EDNS hears why it got SERVFAIL (RFC 8914).
func TestServfailSaysWhy(t *testing.T) {
	f := newFixture(t)
	why := func(name string, qtype uint16) string {
		r := f.ask(t, question(name, qtype).SetEdns0(1232, false))
		if r.Rcode != mdns.RcodeServerFailure || len(r.IsEdns0().Option) != 1 {
			t.Fatalf("%s: %s %v", name, brief(r), r.IsEdns0())
		}
		ede := r.IsEdns0().Option[0].(*mdns.EDNS0_EDE)
		if ede.InfoCode != mdns.ExtendedErrorCodeNotReady {
			t.Errorf("%s: code %d", name, ede.InfoCode)
		}
		return ede.ExtraText
	}
	for _, step := range []struct {
		do   func()
		name string
		typ  uint16
		want string
	}{
		{func() {}, "shop.example.org.", mdns.TypeA, "not applied the log"},
		{func() { f.publish(t, 1, "nowhere", "apex") }, "shop.example.org.", mdns.TypeA, "ever activated"},
		{func() {}, "example.org.", mdns.TypeA, "SERVE"},
		{func() { f.publish(t, 2, "dr", "dual") }, "dual.example.org.", mdns.TypeAAAA, "site dr is active and has no AAAA"},
		{func() { f.clock.Advance(time.Hour) }, "dual.example.org.", mdns.TypeA, "out of touch"},
	} {
		step.do()
		if step.want == "SERVE" {
			continue
		}
		if got := why(step.name, step.typ); !strings.Contains(got, step.want) {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
}

// Never an empty answer: what another site has is SERVFAIL where the active
// one has nothing, and it is logged once.
func TestNeverEmpty(t *testing.T) {
	f := newFixture(t)
	if !strings.Contains(f.log.String(), "name=dual.example.org. service=dual site=dr type=AAAA") {
		t.Errorf("no warning of the gap:\n%s", f.log)
	}
	f.publish(t, 1, "nowhere", "shop")
	f.expect(t, "shop.example.org.", mdns.TypeA, "SERVFAIL")
	f.expect(t, "shop.example.org.", mdns.TypeANY, "SERVFAIL")
	f.expect(t, "_draas.shop.example.org.", mdns.TypeTXT, "epoch=1 site=nowhere")
	f.publish(t, 2, "dr", "dual")
	f.expect(t, "dual.example.org.", mdns.TypeAAAA, "SERVFAIL")
	f.expect(t, "dual.example.org.", mdns.TypeA, "203.0.113.30")
	if n := strings.Count(f.log.String(), "name=shop.example.org. reason=\"site nowhere is active and has no target\""); n != 1 {
		t.Errorf("logged %d times:\n%s", n, f.log)
	}
}

// Two members that applied the same decisions, in views of different size,
// give the same serial, and each decision makes it grow.
func TestSerial(t *testing.T) {
	one, two := newFixture(t), newFixture(t)
	last := uint32(0)
	for epoch := draas.Epoch(1); epoch < 5; epoch++ {
		one.publish(t, epoch, "primary", "shop")
		one.publish(t, epoch, "primary", "apex")
		two.publish(t, epoch, "primary", "shop", "apex")
		var serials []uint32
		for _, f := range []*fixture{one, two} {
			serials = append(serials, f.ask(t, question("example.org.", mdns.TypeSOA)).Answer[0].(*mdns.SOA).Serial)
		}
		if serials[0] != serials[1] || serials[0] <= last {
			t.Errorf("epoch %d: serials %v after %d", epoch, serials, last)
		}
		last = serials[0]
	}
	// Turns count over all epochs: a new epoch begins at turn 0, and the serial
	// must not shrink.
	for _, d := range []dns.Decision{
		{Token: runbook.Token{Epoch: 4, Turn: 1}, Site: "dr", Turns: 1},
		{Token: runbook.Token{Epoch: 4, Turn: 2}, Site: "primary", Turns: 2},
		{Token: runbook.Token{Epoch: 5}, Site: "dr", Turns: 2},
		{Token: runbook.Token{Epoch: 5, Turn: 1}, Site: "primary", Turns: 3},
	} {
		if err := one.Publish(View{Services: map[draas.ServiceID]dns.Decision{"shop": d}, InTouch: true, At: one.clock.Now()}); err != nil {
			t.Fatal(err)
		}
		serial := one.ask(t, question("example.org.", mdns.TypeSOA)).Answer[0].(*mdns.SOA).Serial
		if serial <= last {
			t.Errorf("%v: serial %d after %d", d, serial, last)
		}
		last = serial
		if text := brief(one.ask(t, question("_draas.shop.example.org.", mdns.TypeTXT))); !strings.Contains(text, dns.EpochText(d)) {
			t.Errorf("%v: %s", d, text)
		}
	}
	late := dns.Decision{Token: runbook.Token{Epoch: 5}, Site: "dr", Turns: 2}
	if err := one.Publish(View{Services: map[draas.ServiceID]dns.Decision{"shop": late}}); !errors.Is(err, draas.ErrStaleEpoch) {
		t.Errorf("an older turn: %v", err)
	}
}

func TestWaitFor(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	want := decision(3, "dr")
	got := make(chan dns.Decision, 1)
	go func() {
		d, err := f.WaitFor(ctx, "shop", want.Token)
		if err != nil {
			t.Error(err)
		}
		got <- d
	}()
	f.publish(t, 2, "primary", "shop")
	f.publish(t, 3, "", "shop")
	f.publish(t, 3, "dr", "shop")
	if d := <-got; d != want {
		t.Errorf("WaitFor = %v", d)
	}
	if d, ok := f.Decided("shop"); !ok || d != want {
		t.Errorf("Decided = %v, %t", d, ok)
	}
	f.publish(t, 5, "", "shop")
	if d, err := f.WaitFor(ctx, "shop", runbook.Token{Epoch: 4}); err != nil || d.Token.Epoch != 5 || d.Site != "" {
		t.Errorf("WaitFor what was passed over = %v, %v", d, err)
	}
	go func() { // that one was passed over is heard of by who waits already
		d, err := f.WaitFor(ctx, "shop", runbook.Token{Epoch: 6})
		if err != nil {
			t.Error(err)
		}
		got <- d
	}()
	f.publish(t, 7, "", "shop")
	if d := <-got; d.Token.Epoch != 7 || d.Site != "" {
		t.Errorf("WaitFor what was passed over meanwhile = %v", d)
	}
	cancel()
	if _, err := f.WaitFor(ctx, "shop", runbook.Token{Epoch: 9}); !errors.Is(err, context.Canceled) {
		t.Errorf("WaitFor = %v", err)
	}
}
