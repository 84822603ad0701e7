package dns

import (
	"testing"

	mdns "github.com/miekg/dns"
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
