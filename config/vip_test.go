package config

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

const someVIP = `
[vip.web]
holders = ["edge1", "edge2"]
address = ["192.0.2.80/24 dev eth0", "2001:db8::80/64  dev  bond0.7"]
address_at.edge2 = ["2001:db8::80/64 dev ens4", "192.0.2.80/24 dev ens3"]
`

func withVIP(t *testing.T, vip string) (*Config, error) {
	t.Helper()
	base, err := os.ReadFile("../etc/frontend.toml")
	if err != nil {
		t.Fatal(err)
	}
	return Parse("failover.toml", append(base, vip...))
}

func TestVIP(t *testing.T) {
	c, err := withVIP(t, someVIP)
	if err != nil {
		t.Fatal(err)
	}
	v, ok := c.VIP("web")
	if !ok || !slices.Equal(v.Holders, []string{"edge1", "edge2"}) || v.SetBy != VIPByDraas || v.TrackFile != "" {
		t.Fatalf("%+v", v)
	}
	// The sample's profile is fast.
	if v.Lease.Length != 250*time.Millisecond || v.Lease.Margin != v.Lease.Length/15 || v.Renew() != v.Lease.Length/6 || v.Worst() != 295*time.Millisecond {
		t.Errorf("lease %+v, renewed every %v, lost for %v", v.Lease, v.Renew(), v.Worst())
	}
	if got := v.At("edge1")[1].String(); got != "2001:db8::80/64 dev bond0.7" {
		t.Errorf("edge1 has %s", got)
	}
	if got := v.At("edge2")[0].String(); got != "2001:db8::80/64 dev ens4" {
		t.Errorf("edge2 has %s", got)
	}
	if of := c.VIPsOf("edge2"); len(of) != 1 || len(c.VIPsOf("edge3")) != 0 {
		t.Errorf("of edge2: %v", of)
	}
	without, err := withVIP(t, "")
	if err != nil {
		t.Fatal(err)
	}
	longer, err := withVIP(t, someVIP+"lease = \"1s\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.Digest() == without.Digest() || c.Digest() == longer.Digest() {
		t.Error("the digest does not cover it")
	}
	kept, err := withVIP(t, someVIP+"set_by = \"keepalived\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := kept.At("/etc/draas").VIP("web"); v.TrackFile != "/var/lib/draas/web.vip" {
		t.Errorf("track file %s", v.TrackFile)
	}
	notes := strings.Join(append(c.Notes(), kept.Notes()...), "\n")
	for _, want := range []string{"another has it after 295ms", "draasd frontend keepalived web prints"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no note says %q:\n%s", want, notes)
		}
	}
}

func TestBadVIP(t *testing.T) {
	for name, x := range map[string]struct{ old, new, want string }{
		"one holder":         {`["edge1", "edge2"]`, `["edge1"]`, "vip.web.holders: is one frontend"},
		"unknown holder":     {`"edge2"]`, `"edge3"]`, `there is no frontend "edge3"`},
		"no interface":       {"192.0.2.80/24 dev eth0", "192.0.2.80/24", "not an address on an interface"},
		"no length":          {"192.0.2.80/24 dev eth0", "192.0.2.80 dev eth0", "not an address with the length"},
		"loopback":           {"192.0.2.80/24 dev eth0", "127.0.0.1/8 dev lo", "nobody's to hold"},
		"bad interface":      {"192.0.2.80/24 dev eth0", "192.0.2.80/24 dev a/b", "not an interface"},
		"a member's":         {"192.0.2.80/24 dev eth0", "198.51.100.10/24 dev eth0", "is the address of member primary"},
		"a server's":         {"192.0.2.80/24 dev eth0", "198.51.100.21/24 dev eth0", "is the address of a server of shop at primary"},
		"other at edge2":     {`"192.0.2.80/24 dev ens3"`, `"192.0.2.81/24 dev ens3"`, "has other addresses than address"},
		"at nobody":          {"address_at.edge2", "address_at.edge9", `"edge9" is no holder of it`},
		"lease too long":     {"[vip.web]", "[vip.web]\nlease = \"4s\"", "vip.web.lease"},
		"file for nobody":    {"[vip.web]", "[vip.web]\ntrack_file = \"x\"", "nobody reads it"},
		"nothing":            {someVIP, "[vip.web]\nlease = \"1s\"\n", "vip.web.holders: missing"},
		"taken by another":   {"[vip.web]", "[vip.other]\nholders = [\"edge1\", \"edge2\"]\naddress = [\"192.0.2.80/24 dev eth0\"]\n[vip.web]", "already"},
		"not in the members": {"[vip.web]", "[vip.web]\nholder = 1", "holders"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(someVIP, x.old, x.new, 1)
			if text == someVIP {
				t.Fatal("nothing was changed")
			}
			_, err := withVIP(t, text)
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("want %q, got %v", x.want, err)
			}
		})
	}
}

// TestVIPNeedsMajority: a majority of the members must be left, and be reached,
// when one is lost.
func TestVIPNeedsMajority(t *testing.T) {
	base, err := os.ReadFile("../etc/frontend.toml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(base)+someVIP, `api    = "192.0.2.30:7401"`, "", 1)
	if _, err := Parse("failover.toml", []byte(text)); err == nil || !strings.Contains(err.Error(), "of 3 members 2 have one") {
		t.Errorf("%v", err)
	}
}
