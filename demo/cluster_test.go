package demo

import (
	"cmp"
	"net"
	"strings"
	"testing"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

func TestFailoverTOML(t *testing.T) {
	w := &network{net: 77, peer: 7400, dns: 7453, web: 8080, api: 7401}
	for _, profile := range []string{"fast", "balanced", "cautious", "fast frontend", "fast hybrid", "balanced hybrid", "cautious hybrid", "metro hybrid", "metro"} {
		profile, scheme, _ := strings.Cut(profile, " ")
		scheme = cmp.Or(scheme, schemeDNS)
		c, err := config.Parse("failover.toml", []byte(failoverTOML(w, profile, scheme)))
		if err != nil {
			t.Fatalf("%s: %v", profile, err)
		}
		if c.Profile.Name != profile {
			t.Errorf("profile %s, want %s", c.Profile.Name, profile)
		}
		// No member may reach another but by a relay of its own.
		seen := make(map[string]bool)
		for _, to := range members() {
			for _, from := range members() {
				if from == to {
					continue
				}
				via := c.PeerAddress(from, to)
				if m, _ := c.Member(to); via == m.Peer || seen[via] {
					t.Errorf("%s reaches %s at %s", from, to, via)
				}
				seen[via] = true
			}
		}
		svc, _ := c.Service(service)
		for _, e := range edgesOf(scheme) {
			for _, m := range members() {
				if at := c.APIAddress(string(e), m); at != w.apiVia(e, m) || at == w.apiOf(m) {
					t.Errorf("%s reaches the API of %s at %s", e, m, at)
				}
			}
			if got := svc.Frontend.Servers[dr.Site()]; len(got) != 1 || got[0].String() != w.gateVia(edge, dr) {
				t.Errorf("the frontend reaches %s at %v", dr, got)
			}
		}
		if scheme == schemeHybrid {
			for _, e := range edgesOf(scheme) {
				at := siteOf(e)
				if got := svc.Frontend.ListensAt(c.SiteOf(string(e))); len(got) != 1 || got[0].String() != w.entranceOf(at) {
					t.Errorf("%s listens at %v", e, got)
				}
				if enter, _ := svc.Answers(at.Site()); len(enter) != 1 || enter[0] != w.usersAddr(at) {
					t.Errorf("users enter %s at %v", at, enter)
				}
			}
		}
		for _, site := range sites() {
			if svc.Fence.Kind != draas.FencePath || svc.Fence.Listen[site.Site()] == svc.Addresses[site.Site()][0].String()+":8080" {
				t.Errorf("users reach the gate of %s without a relay", site)
			}
		}
	}
}

// Two demos at once have networks of their own, and one that ends frees its.
func TestTakeNetwork(t *testing.T) {
	first, err := takeNetwork()
	if err != nil {
		t.Fatal(err)
	}
	second, err := takeNetwork()
	if err != nil {
		t.Fatal(err)
	}
	if first.net == second.net {
		t.Errorf("both have 127.%d", first.net)
	}
	if err := second.close(); err != nil {
		t.Error(err)
	}
	again, err := takeNetwork()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []*network{again, first} {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}
}

// A port that somebody has at one of the addresses is not taken.
func TestFreePort(t *testing.T) {
	w, err := takeNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.close() })
	pc, err := net.ListenPacket("udp", w.at(2, hostNS, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	taken := pc.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	got, err := w.freePort(taken, true, hostDNS, hostNS)
	if err != nil {
		t.Fatal(err)
	}
	if got == taken {
		t.Errorf("took port %d, which is not free", taken)
	}
	if got, err = w.freePort(taken, false, hostDNS, hostNS); err != nil || got != taken {
		t.Errorf("took port %d, %v: %d is free on TCP", got, err, taken)
	}
}
