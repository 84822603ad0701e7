package config_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/config"
)

// lostTarget is the budget of a planned move whose target is lost; empty if
// there is none.
func lostTarget(c *config.Config, unit string) (config.RTO, bool) {
	for _, u := range c.Units() {
		if string(u.ID) != unit {
			continue
		}
		all := c.RTO(u.ID)
		if i := slices.IndexFunc(all, func(r config.RTO) bool { return r.Disaster == "target lost" }); i >= 0 {
			return all[i], true
		}
	}
	return config.RTO{}, false
}

// The numbers are worked out by hand from docs/config.md.
func TestRTOOfALostTarget(t *testing.T) {
	loopback := func(profile string) string {
		data, err := config.Loopback(config.LoopbackOptions{Profile: profile})
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	check := func(text, with string) string {
		return strings.Replace(text, `path = "/"`, "path = \"/\"\n"+with, 1)
	}
	whole, two := read(t, "testdata/good/whole.toml"), read(t, "testdata/good/two-site.toml")
	for _, tt := range []struct {
		name, text, unit string
		want             string // empty: there is none
		typical          time.Duration
	}{
		// 75 + (2.2 s - 200) + 5 x 5 + 20 + 500
		{"fast", loopback("fast"), "web", "3.62s (fence 150ms + detect 1.3s + lease 900ms + act 270ms + ttl 1s)", 2620 * time.Millisecond},
		{"balanced", loopback("balanced"), "web", "6.07s (fence 150ms + detect 4.1s + lease 300ms + act 520ms + ttl 1s)", 4620 * time.Millisecond},
		// confirm is not waited for
		{"cautious", loopback("cautious"), "web", "12.67s (fence 150ms + detect 8.1s + lease 2.9s + act 520ms + ttl 1s)", 10620 * time.Millisecond},
		// quick checks do not count while a site just activated comes up, slow ones do
		{"quick checks", check(loopback("fast"), "interval = \"100ms\"\ntimeout = \"50ms\""), "web",
			"3.62s (fence 150ms + detect 1.3s + lease 900ms + act 270ms + ttl 1s)", 2620 * time.Millisecond},
		{"slow checks", check(loopback("fast"), "interval = \"1s\"\ntimeout = \"1s\""), "web",
			"6.82s (fence 150ms + detect 5.4s + act 270ms + ttl 1s)", 75*time.Millisecond + 4500*time.Millisecond + 545*time.Millisecond},
		// a device instead of a lease
		{"serve", whole, "on", "42.62s (fence 2s + detect 4.1s + device 35s + act 520ms + ttl 1s)", 0},
		{"device", whole, "off", "", 0},
		{"two sites", two, "shop", "1m18.77s (fence 150ms + detect 8.1s + lease 2.9s + device 1m2.1s + act 520ms + ttl 5s)", 0},
	} {
		got, has := lostTarget(parse(t, tt.text), tt.unit)
		switch {
		case has != (tt.want != ""), has && got.String() != tt.want:
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		case tt.typical > 0 && got.Typical() != tt.typical:
			t.Errorf("%s: typically %s, want %s", tt.name, got.Typical(), tt.typical)
		}
		for _, term := range got.Terms {
			if term.Worst > 0 && term.Sets == "" {
				t.Errorf("%s: nothing sets %s", tt.name, term.Name)
			}
		}
	}
}

// Before the target is active nobody has a permit: where all else is quicker, it
// is what the target has to take over that is waited for.
func TestRTOWaitsForTheTarget(t *testing.T) {
	c := parse(t, read(t, "../etc/hybrid.toml"))
	c.Raft.Election, c.Raft.Heartbeat = 2*time.Second, 100*time.Millisecond
	got, _ := lostTarget(c, "shop")
	// take is 4.6 s in all, of which detection and an election are 4 s
	want := "6.27s (fence 150ms + detect 1.3s + elect 2.7s + take 600ms + act 520ms + ttl 1s)"
	if c.TakeWithin() != 4600*time.Millisecond || got.String() != want {
		t.Errorf("%s, within %s; want %s", got, c.TakeWithin(), want)
	}
}

// Two things at once are told, and nobody is held to them.
func TestNobodyPromisesALostTarget(t *testing.T) {
	text := strings.Replace(read(t, "../etc/hybrid.toml"), "max_rto   = \"5s\"\n", "max_rto   = \"3400ms\"\n", 1)
	got, has := lostTarget(parse(t, text), "shop")
	if !has || got.Worst() <= 3400*time.Millisecond {
		t.Errorf("%s", got)
	}
}
