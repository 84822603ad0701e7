package dns

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

func sampleName() Name {
	return Name{Name: "shop.example.org.", Service: "shop", TTL: 5 * time.Second, Targets: map[draas.SiteID]Target{
		"primary": {Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.21"), netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("2001:db8::1")}},
		"dr":      {Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.20")}},
	}}
}

func TestNameValidate(t *testing.T) {
	if err := sampleName().Validate(); err != nil {
		t.Fatalf("sample: %v", err)
	}
	set := func(site draas.SiteID, target Target) func(*Name) {
		return func(n *Name) { n.Targets[site] = target }
	}
	addr := func(list ...string) (t Target) {
		for _, s := range list {
			a, _ := netip.ParseAddr(s)
			t.Addresses = append(t.Addresses, a)
		}
		return t
	}
	tests := []struct {
		name   string
		change func(*Name)
		want   string
	}{
		{"relative", func(n *Name) { n.Name = "shop.example.org" }, "fully qualified"},
		{"root", func(n *Name) { n.Name = "." }, "fully qualified"},
		{"empty label", func(n *Name) { n.Name = "a..b." }, "label"},
		{"long label", func(n *Name) { n.Name = strings.Repeat("x", 64) + "." }, "label"},
		{"bad octet", func(n *Name) { n.Name = `a\.b.` }, "letters, digits"},
		{"wildcard", func(n *Name) { n.Name = "*.example.org." }, "letters, digits"},
		{"long", func(n *Name) { n.Name = strings.Repeat("x.", 128) }, "at most 255"},
		{"no room for the epoch", func(n *Name) { n.Name = strings.Repeat("x.", 125) }, "epoch record"},
		{"no service", func(n *Name) { n.Service = "" }, "no service"},
		{"ttl", func(n *Name) { n.TTL = 1500 * time.Millisecond }, "whole seconds"},
		{"long ttl", func(n *Name) { n.TTL = MaxTTL + time.Second }, "whole seconds"},
		{"negative ttl", func(n *Name) { n.TTL = -time.Second }, "whole seconds"},
		{"no targets", func(n *Name) { n.Targets = nil }, "no site has a target"},
		{"empty target", set("dr", Target{}), "site dr: neither"},
		{"both", set("dr", Target{CNAME: "a.b.", Addresses: addr("192.0.2.1").Addresses}), "both"},
		{"mixed", set("dr", Target{CNAME: "a.b."}), "a CNAME at some sites"},
		{"bad cname", set("dr", Target{CNAME: "a"}), "fully qualified"},
		{"unspecified", set("dr", addr("0.0.0.0")), "cannot be answered"},
		{"invalid", set("dr", addr("")), "cannot be answered"},
		{"zone", set("dr", addr("fe80::1%eth0")), "cannot be answered"},
		{"multicast", set("dr", addr("224.0.0.1")), "cannot be answered"},
		{"twice", set("dr", addr("192.0.2.1", "::ffff:192.0.2.1")), "twice"},
		{"many", set("dr", addr(slices.Repeat([]string{"192.0.2.1"}, MaxValues+1)...)), "at most 64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := sampleName()
			tt.change(&n)
			if err := n.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Validate: %v, want %q", err, tt.want)
			}
		})
	}
}

func TestTarget(t *testing.T) {
	target := sampleName().Targets["primary"]
	if got := target.Types(); !slices.Equal(got, []uint16{mdns.TypeA, mdns.TypeAAAA}) {
		t.Errorf("Types = %v", got)
	}
	if got := target.Values(mdns.TypeA); !slices.Equal(got, []string{"198.51.100.20", "198.51.100.21"}) {
		t.Errorf("A = %v", got)
	}
	if got := target.Values(mdns.TypeAAAA); !slices.Equal(got, []string{"2001:db8::1"}) {
		t.Errorf("AAAA = %v", got)
	}
	if got := target.Values(mdns.TypeTXT); got != nil {
		t.Errorf("TXT = %v", got)
	}
	alias := Target{CNAME: "CDN.example.net."}
	if got := alias.Values(mdns.TypeCNAME); !slices.Equal(got, []string{"cdn.example.net."}) || !slices.Equal(alias.Types(), []uint16{mdns.TypeCNAME}) {
		t.Errorf("CNAME = %v", got)
	}
}

func TestEpochText(t *testing.T) {
	for text, d := range map[string]Decision{
		"epoch=7 site=dr":          {Token: runbook.Token{Epoch: 7}, Site: "dr"},
		"epoch=8589934599 site=dr": {Token: runbook.Token{Epoch: draas.EpochOf(2, 7)}, Site: "dr"},
		"epoch=7 site=dr turn=2":   {Token: runbook.Token{Epoch: 7, Turn: 2}, Site: "dr"},
	} {
		if got := EpochText(d); got != text {
			t.Errorf("EpochText = %q, want %q", got, text)
		}
		if got, err := ParseEpochText(text); err != nil || got != d {
			t.Errorf("ParseEpochText(%q) = %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "epoch=7", "site=dr", "epoch=0 site=dr", "epoch=-1 site=dr", "epoch=99999999999999999999 site=dr", "epoch=7 site=", "epoch= site=dr", "epoch=x site=dr", "epoch=7 site=dr turn=", "turn=1 site=dr"} {
		if d, err := ParseEpochText(bad); err == nil {
			t.Errorf("ParseEpochText(%q) = %v", bad, d)
		}
	}
	if d, err := ParseEpochText("v=2 epoch=7  site=dr later"); err != nil || d.Token.Epoch != 7 {
		t.Errorf("unknown keys: %v, %v", d, err)
	}
}

// A turn is another text than the epoch's before it, and one that only has its
// addresses set right counts revisions.
func TestNextEpochTextOfATurn(t *testing.T) {
	turned := Decision{Token: runbook.Token{Epoch: 7, Turn: 2}, Site: "dr"}
	for was, want := range map[string]string{
		"epoch=7 site=dr":              "epoch=7 site=dr turn=2",
		"epoch=7 site=dr rev=4":        "epoch=7 site=dr turn=2",
		"epoch=7 site=dr turn=2":       "epoch=7 site=dr turn=2 rev=1",
		"epoch=7 site=dr turn=2 rev=1": "epoch=7 site=dr turn=2 rev=2",
	} {
		if got := NextEpochText(was, turned); got != want {
			t.Errorf("after %q comes %q, want %q", was, got, want)
		}
	}
}

func FuzzParseEpochText(f *testing.F) {
	f.Add("epoch=7 site=dr later=1")
	f.Add("epoch=18446744073709551616 site=a=b")
	f.Add("turn=3 epoch=7 site=dr rev=2")
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseEpochText(s)
		if err != nil {
			return
		}
		if d.Token.Epoch == 0 || d.Site == "" {
			t.Fatalf("%q reads as %v", s, d)
		}
		if back, err := ParseEpochText(EpochText(d)); err != nil || back != d {
			t.Fatalf("%q reads as %v, and that as %v (%v)", s, d, back, err)
		}
	})
}

func TestNewEmbeddedRefuses(t *testing.T) {
	good := EmbeddedConfig{
		Names: []Name{sampleName()}, Servers: []Server{{Site: "dr", Address: "127.0.0.1:53"}},
		Applied: func(context.Context, draas.ServiceID, runbook.Token) (Decision, error) { return Decision{}, nil },
	}
	if _, err := NewEmbedded(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*EmbeddedConfig){
		"no Applied":    func(c *EmbeddedConfig) { c.Applied = nil },
		"no servers":    func(c *EmbeddedConfig) { c.Servers = nil },
		"negative time": func(c *EmbeddedConfig) { c.Timeout = -1 },
		"two names":     func(c *EmbeddedConfig) { c.Names = append(c.Names, c.Names[0]) },
		"bad name":      func(c *EmbeddedConfig) { c.Names = []Name{{}} },
	} {
		c := good
		change(&c)
		if _, err := NewEmbedded(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// What Do makes of the local authority's state.
func TestEmbeddedDo(t *testing.T) {
	op := runbook.Op{Service: "shop", Token: runbook.Token{Epoch: 7}, To: "dr", Step: "redirect"}
	at := func(epoch draas.Epoch, site draas.SiteID) Decision {
		return Decision{Token: runbook.Token{Epoch: epoch}, Site: site}
	}
	boom := errors.New("boom")
	tests := []struct {
		name    string
		applied Decision
		err     error
		want    error // nil with ok, else any
		ok      bool
	}{
		{name: "applied", applied: at(7, "dr"), ok: true},
		{name: "later", applied: at(8, "primary"), want: draas.ErrStaleEpoch},
		{name: "later, site not known", applied: at(8, ""), want: draas.ErrStaleEpoch},
		{name: "other site", applied: at(7, "primary")},
		{name: "site not known", applied: at(7, "")},
		{name: "behind all the same", applied: at(6, "dr")},
		{name: "error", err: boom, want: boom},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := NewEmbedded(EmbeddedConfig{
				Names: []Name{sampleName()}, Servers: []Server{{Site: "dr", Address: "127.0.0.1:53"}},
				Applied: func(_ context.Context, s draas.ServiceID, token runbook.Token) (Decision, error) {
					if s != op.Service || token != op.Token {
						t.Errorf("asked for %s at %v", s, token)
					}
					return tt.applied, tt.err
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			err = e.Do(t.Context(), op)
			if (err == nil) != tt.ok || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Do: %v", err)
			}
			if err := e.Release(t.Context(), op); err != nil {
				t.Error(err)
			}
			if err := e.Do(t.Context(), op); !errors.Is(err, runbook.ErrReleased) {
				t.Errorf("Do after Release: %v", err)
			}
		})
	}
}

// FuzzObserved: of what another server answers, the data of one name and type
// is seen, each record once, and no other.
func FuzzObserved(f *testing.F) {
	m := new(mdns.Msg)
	m.SetQuestion("shop.example.org.", mdns.TypeA)
	m.Response = true
	for _, s := range []string{"SHOP.example.org. 5 A 203.0.113.20", "shop.example.org. 5 A 192.0.2.1", "www.example.org. 5 A 192.0.2.2",
		"shop.example.org. 5 AAAA 2001:db8::1", "shop.example.org. 5 CNAME A.example.org.", `shop.example.org. 5 TXT "epoch=7 " "site=dr"`} {
		rr, err := mdns.NewRR(s)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	wire, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire)
	f.Add(wire[:60])
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(mdns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		for _, qtype := range []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeCNAME, mdns.TypeTXT} {
			got := Observed(m.Answer, "shop.example.org.", qtype)
			if !slices.IsSorted(got) {
				t.Fatalf("%q", got)
			}
			for _, rr := range m.Answer {
				if h := rr.Header(); h.Rrtype != qtype || h.Class != mdns.ClassINET || !strings.EqualFold(h.Name, "shop.example.org.") || h.Rdlength == 0 {
					continue
				}
				i := slices.Index(got, shown(rr))
				if i < 0 {
					t.Fatalf("%q without %v", got, rr)
				}
				got = slices.Delete(got, i, i+1)
			}
			if len(got) > 0 {
				t.Fatalf("%q stand in no record of %s %s: %v", got, "shop", mdns.TypeToString[qtype], m.Answer)
			}
		}
	})
}

// shown is a record's data.
func shown(rr mdns.RR) string {
	switch rr := rr.(type) {
	case *mdns.A:
		return rr.A.String()
	case *mdns.AAAA:
		return rr.AAAA.String()
	case *mdns.CNAME:
		return mdns.CanonicalName(rr.Target)
	case *mdns.TXT:
		return strings.Join(rr.Txt, "")
	}
	return ""
}
