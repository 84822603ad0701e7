package dns

import (
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// An answer counts only if it is one to what was asked.
func TestAnswersTheQuestion(t *testing.T) {
	q := mdns.Question{Name: "shop.example.org.", Qtype: mdns.TypeA, Qclass: mdns.ClassINET}
	tests := []struct {
		name   string
		change func(*mdns.Msg)
		ok     bool
	}{
		{"as asked", func(*mdns.Msg) {}, true},
		{"other case", func(m *mdns.Msg) { m.Question[0].Name = "SHOP.example.org." }, true},
		{"no such name", func(m *mdns.Msg) { m.Rcode = mdns.RcodeNameError }, true},
		{"an error without the question", func(m *mdns.Msg) { m.Rcode, m.Question = mdns.RcodeFormatError, nil }, true},
		{"a success without the question", func(m *mdns.Msg) { m.Question = nil }, false},
		{"another name", func(m *mdns.Msg) { m.Question[0].Name = "www.example.org." }, false},
		{"another type", func(m *mdns.Msg) { m.Question[0].Qtype = mdns.TypeTXT }, false},
		{"another class", func(m *mdns.Msg) { m.Question[0].Qclass = mdns.ClassCHAOS }, false},
		{"a query", func(m *mdns.Msg) { m.Response = false }, false},
		{"of an update", func(m *mdns.Msg) { m.Opcode = mdns.OpcodeUpdate }, false},
	}
	for _, tt := range tests {
		m := new(mdns.Msg)
		m.SetQuestion(q.Name, q.Qtype)
		m.Response = true
		tt.change(m)
		if err := answers(m, q); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestReleases(t *testing.T) {
	var r Releases
	at := func(epoch draas.Epoch) runbook.Op {
		return runbook.Op{Service: "shop", Token: runbook.Token{Epoch: epoch}}
	}
	r.Add(at(5))
	r.Add(at(3)) // what is given up stays so
	other := at(4)
	other.Service = "www"
	for epoch, want := range map[draas.Epoch]bool{4: true, 5: true, 6: false} {
		if r.Has(at(epoch)) != want {
			t.Errorf("epoch %d released: %t", epoch, !want)
		}
	}
	if r.Has(other) {
		t.Error("another service's token is released")
	}
}
