package frontend

import (
	"net/netip"
	"testing"
)

func TestSources(t *testing.T) {
	prefixes := func(list ...string) (out []netip.Prefix) {
		for _, p := range list {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	for _, c := range []struct {
		s    Sources
		a    string
		want bool
	}{
		{Sources{}, "1.2.3.4", true},
		{Sources{Allow: prefixes("10.0.0.0/8")}, "10.2.3.4", true},
		{Sources{Allow: prefixes("10.0.0.0/8")}, "::ffff:10.2.3.4", true},
		{Sources{Allow: prefixes("10.0.0.0/8")}, "11.2.3.4", false},
		{Sources{Allow: prefixes("10.0.0.0/8")}, "2001:db8::1", false},
		{Sources{Allow: prefixes("10.0.0.0/8"), Deny: prefixes("10.2.0.0/16")}, "10.2.3.4", false},
		{Sources{Deny: prefixes("10.2.0.0/16")}, "::ffff:10.2.3.4", false},
		{Sources{Deny: prefixes("fe80::/10")}, "fe80::1%eth0", false},
		{Sources{Deny: prefixes("10.2.0.0/16")}, "10.3.3.4", true},
	} {
		if got := c.s.Allowed(netip.MustParseAddr(c.a)); got != c.want {
			t.Errorf("%+v allows %s: %v", c.s, c.a, got)
		}
	}
	if Within(nil, netip.MustParseAddr("::1")) {
		t.Error("nothing holds an address")
	}
}

func TestLimiter(t *testing.T) {
	l := NewLimiter(3, 2)
	a, mapped, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("2001:db8::1")
	neighbour := netip.MustParseAddr("2001:db8::2:0:0:1")
	for i, c := range []struct {
		a    netip.Addr
		want bool
	}{{a, true}, {mapped, true}, {a, false}, {b, true}, {neighbour, false}} {
		if got := l.Enter(c.a); got != c.want {
			t.Errorf("connection %d, of %s: %v", i, c.a, got)
		}
	}
	l.Leave(a)
	if l.Now() != 2 || !l.Enter(neighbour) || l.Enter(a) {
		t.Error("who left is counted")
	}
	l.Use(0, 0)
	if !l.Enter(neighbour) {
		t.Error("zero bounds something")
	}
	for _, x := range []netip.Addr{mapped, b, neighbour, b} {
		l.Leave(x)
	}
	if l.Now() != 0 || len(l.sources) != 0 {
		t.Errorf("%d connections and %d sources when all have left", l.Now(), len(l.sources))
	}
}
