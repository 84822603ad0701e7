package config_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

func TestUnits(t *testing.T) {
	c := loadGood(t, "testdata/good/whole.toml")
	var ids []string
	for _, u := range c.Units() {
		parts := make([]string, len(u.Parts))
		for i, s := range u.Parts {
			parts[i] = string(s.ID)
		}
		ids = append(ids, string(u.ID)+"="+strings.Join(parts, "+"))
	}
	if want := []string{"crm=billing+shop", "off=off", "on=on"}; !slices.Equal(ids, want) {
		t.Fatalf("units %v, want %v", ids, want)
	}
	crm := c.Units()[0]
	want := config.Policy{
		Home: "a", Automatic: true, Confirmations: 2, MaxRTO: 2 * time.Minute,
		Timing: config.Timing{
			// The watchdog closes billing's unit when the guard is dead.
			Lease: draas.Lease{Length: 6 * time.Second, Drift: config.Drift, Margin: 2 * time.Second},
			Renew: 800 * time.Millisecond, Confirm: time.Second, Hold: 10 * time.Minute, HoldMax: 48 * time.Hour,
			LeastOutage: 30 * time.Second, Restart: 45 * time.Second,
		},
		Steady: time.Hour, MaxDataLoss: time.Minute, OnLeaseLoss: draas.LeaseLossFence,
	}
	if crm.Policy != want || !crm.Group || !slices.Equal(crm.Sites, []draas.SiteID{"a", "b"}) {
		t.Errorf("group at %v: %+v\nwant %+v", crm.Sites, crm.Policy, want)
	}
	if got := crm.Switchable(); len(got) != 0 {
		t.Errorf("crm can be switched off at %v, but billing has no device", got)
	}
	if off, _ := c.Unit("off"); !slices.Equal(off.Switchable(), []draas.SiteID{"a", "b"}) || off.Group {
		t.Errorf("off can be switched off at %v", off.Switchable())
	}
	for _, id := range []draas.ServiceID{"shop", "billing", "crm"} {
		if u, ok := c.Unit(id); !ok || u.ID != "crm" {
			t.Errorf("%s is decided with %q", id, u.ID)
		}
	}
	if _, ok := c.Unit("nobody"); ok {
		t.Error("a unit that is not there was found")
	}
	g, ok := c.Group("crm")
	if _, none := c.Group("shop"); !ok || none || !slices.Equal(g.Services, []draas.ServiceID{"billing", "shop"}) {
		t.Errorf("group %+v", g)
	}
}

func TestNewKinds(t *testing.T) {
	c := loadGood(t, "testdata/good/whole.toml")
	if c.TLS.Warn != 14*24*time.Hour || c.Watchdog != (config.Watchdog{Device: "dev/watchdog", Timeout: 2 * time.Second}) ||
		!slices.Equal(c.Pager.Command, []string{"/usr/lib/draas/page", "--now"}) || c.Pager.Timeout != 30*time.Second {
		t.Errorf("warn %s, watchdog %+v, pager %+v", c.TLS.Warn, c.Watchdog, c.Pager)
	}
	shop, _ := c.Service("shop")
	want := config.Device{Site: "b", Kind: config.DeviceIPMI, Address: "[2001:db8::9]:623", User: "draas",
		PasswordFile: "bmc.password", Cipher: 17, Timeout: 30 * time.Second, Stay: 5 * time.Second}
	switch {
	case shop.Group != "crm" || shop.Lag.Interval != 3*time.Second || shop.Lag.Timeout != 3*time.Second:
		t.Errorf("service %+v", shop)
	case !slices.Equal(shop.Fence.XDP, []string{"eth0", "eth1"}):
		t.Errorf("xdp %v", shop.Fence.XDP)
	case len(shop.Fence.Devices) != 1 || shop.Fence.Devices[0].Address != want.Address || shop.Fence.Devices[0].Cipher != want.Cipher ||
		shop.Fence.Devices[0].Timeout != want.Timeout || shop.Fence.Devices[0].Stay != want.Stay || shop.Fence.Devices[0].User != want.User:
		t.Errorf("devices %+v, want %+v", shop.Fence.Devices, want)
	}
	off, _ := c.Service("off")
	d := off.Fence.Devices
	if len(d) != 3 || d[0].Site != "a" || d[0].Address != "192.0.2.9:6230" || d[0].Cipher != 3 || d[1].Off[1] != "1" || d[2].Off[1] != "2" || d[1].Cipher != 0 || d[1].Stay != 0 {
		t.Errorf("devices %+v", d)
	}
	on, _ := c.Service("on")
	if on.OnLeaseLoss != draas.LeaseLossServe || on.Flaps != 3 || on.Steady != 10*time.Minute || on.Timing.HoldMax != time.Hour {
		t.Errorf("service %+v", on.Policy)
	}
	if off.Timing.HoldMax != 36*time.Hour {
		t.Errorf("a hold of %s grows to %s", off.Timing.Hold, off.Timing.HoldMax)
	}
	at := c.At("/srv/a")
	moved, _ := at.Service("shop")
	kept, _ := at.Service("off")
	if at.Watchdog.Device != "/srv/a/dev/watchdog" || at.TLS.Warn != c.TLS.Warn || moved.Fence.Devices[0].PasswordFile != "/srv/a/bmc.password" ||
		kept.Fence.Devices[0].PasswordFile != "/etc/draas/bmc.password" || kept.Fence.Devices[1].PasswordFile != "" {
		t.Errorf("watchdog %+v, devices %+v and %+v", at.Watchdog, moved.Fence.Devices, kept.Fence.Devices)
	}
	if shop.Fence.Devices[0].PasswordFile != "bmc.password" || at.Digest() != c.Digest() {
		t.Error("At changed its receiver, or the digest")
	}
	if two := loadGood(t, "testdata/good/two-site.toml"); !two.TwoSite || two.At("/srv").Watchdog.Device != "" {
		t.Errorf("two_site %v, watchdog %+v", two.TwoSite, two.At("/srv").Watchdog)
	}
}

// The numbers are worked out by hand from docs/config.md.
func TestRTOOfPatienceAndDevices(t *testing.T) {
	whole, two := read(t, "testdata/good/whole.toml"), read(t, "testdata/good/two-site.toml")
	for _, tt := range []struct {
		name, text string
		unit       draas.ServiceID
		lost, dead string
	}{
		// balanced: detect 3 x 1.1 s + 0.8 s; a lost site is not waited for to restart
		{"service in a group", whole, "shop", "35.42s (detect 4.1s + least outage 30s + act 320ms + ttl 1s)",
			"52.52s (detect 4.1s + restart 45s + fence 2s + act 420ms + ttl 1s)"},
		// of its services billing takes longer: detect 3 x 2.2 s + 0.8 s
		{"group", whole, "crm", "38.72s (detect 7.4s + least outage 30s + act 320ms + ttl 1s)",
			"55.82s (detect 7.4s + restart 45s + fence 2s + act 420ms + ttl 1s)"},
		// site a: 30 + 5; site b: 10 + 5, at the same time as 10 + 0
		{"device", whole, "off", "41.42s (detect 4.1s + confirm 1s + device 35s + act 320ms + ttl 1s)",
			"41.52s (detect 4.1s + confirm 1s + device 35s + act 420ms + ttl 1s)"},
		{"serve", whole, "on",
			"41.42s (detect 4.1s + confirm 1s + device 35s + act 320ms + ttl 1s)",
			// a living site hands over, also when it would serve on
			"8.52s (detect 4.1s + confirm 1s + fence 2s + act 420ms + ttl 1s)"},
		{"longer at the other site", strings.Replace(whole, "stay = \"0s\"", "stay = \"30s\"", 1), "off",
			"46.42s (detect 4.1s + confirm 1s + device 40s + act 320ms + ttl 1s)",
			"46.52s (detect 4.1s + confirm 1s + device 40s + act 420ms + ttl 1s)"},
		// the slowest fence is on's, the slowest device off's; neither site hands over
		{"part of a group with devices", pair(whole), "on", "46.42s (detect 4.1s + confirm 1s + device 40s + act 320ms + ttl 1s)",
			"48.52s (detect 4.1s + confirm 1s + fence 2s + device 40s + act 420ms + ttl 1s)"},
		// cautious: detect 3 x 2.2 s + 1.5 s; no lease is left after confirm
		{"two sites", two, "shop", "1m23.42s (detect 8.1s + confirm 5s + device 1m5s + act 320ms + ttl 5s)",
			"18.67s (detect 8.1s + confirm 5s + fence 150ms + act 420ms + ttl 5s)"},
		// 110 s - 8.1 s - 5 s; the device is begun at the same time
		{"a long lease", strings.Replace(two, "automatic = true", "automatic = true\nlease = \"100s\"", 1), "shop",
			"1m55.32s (detect 8.1s + confirm 5s + lease 1m36.9s + act 320ms + ttl 5s)",
			"18.67s (detect 8.1s + confirm 5s + fence 150ms + act 420ms + ttl 5s)"},
		{"a lease of which some is left", strings.Replace(two, "automatic = true", "automatic = true\nlease = \"50s\"", 1), "shop",
			"1m23.42s (detect 8.1s + confirm 5s + lease 41.9s + device 23.1s + act 320ms + ttl 5s)",
			"18.67s (detect 8.1s + confirm 5s + fence 150ms + act 420ms + ttl 5s)"},
	} {
		rto := parse(t, tt.text).RTO(tt.unit)
		if lost, dead := rto[0].String(), rto[1].String(); lost != tt.lost || dead != tt.dead {
			t.Errorf("%s:\n%s\n%s\nwant\n%s\n%s", tt.name, lost, dead, tt.lost, tt.dead)
		}
		for _, r := range rto {
			for _, term := range r.Terms {
				if term.Worst > 0 && term.Sets == "" {
					t.Errorf("%s: nothing sets %s", tt.name, term.Name)
				}
			}
		}
	}
}

// pair joins two services of whole.toml to a group.
func pair(whole string) string {
	i, j := strings.Index(whole, "[service.on]\n"), strings.Index(whole, "address = { a = [\"192.0.2.40\"]")
	whole = whole[:i] + "[service.on]\nscheme = \"dns\"\n" + whole[j:]
	whole = strings.Replace(whole, "home = \"b\"\nautomatic = true\nhold = \"36h\"\n", "", 1)
	whole = strings.Replace(whole, "stay = \"0s\"", "stay = \"30s\"", 1)
	return whole + "[group.pair]\nservices = [\"off\", \"on\"]\nhome = \"a\"\nautomatic = true\nlease = \"6s\"\n"
}

// What `draasd check` says besides: the whole text, since people read it.
func TestNotes(t *testing.T) {
	two := read(t, "testdata/good/two-site.toml")
	kinds := read(t, "testdata/good/kinds.toml")
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"whole", read(t, "testdata/good/whole.toml"), []string{
			"crm: moves by itself only to a copy that is known to be at most 1m behind; else a person has to allow the loss",
			"off: off stops only when its site is switched off (fence device), in a planned move too",
			"on: least_outage (1s) changes nothing: confirm lasts as long (1s)",
			"on: restart (1s) changes nothing: confirm or least_outage lasts as long (1s)",
			"on: a site that cannot renew its permit serves on (on_lease_loss): nobody takes over from it until a device has switched it off",
		}},
		{"two sites", two, []string{
			"two sites without a witness: planned moves, and moves from a site that is up or says goodbye, work while both members are up. When one is lost the other is no majority and cannot tell a lost site from a cut line: of the services of the lost site, without a person only shop, after a device has confirmed the lost site off",
			"a lost site needs a person here, and there is no [pager]: nobody is called, the alarm stands in draasd status and in the log only",
			"wiki: nothing stops wiki at a site that is out of touch (fence none): a failover asks you to make sure yourself",
		}},
		{"two sites, a person", strings.Replace(two, "automatic = true\n", "on_lease_loss = \"serve\"\n", 1) + "[pager]\ncommand = [\"/bin/p\"]\n", []string{
			"two sites without a witness: planned moves, and moves from a site that is up or says goodbye, work while both members are up. When one is lost the other is no majority and cannot tell a lost site from a cut line: of the services of the lost site, none is taken over without a person",
			"shop: a site that cannot renew its permit serves on (on_lease_loss): nobody takes over from it until a device has switched it off",
			"wiki: nothing stops wiki at a site that is out of touch (fence none): a failover asks you to make sure yourself",
		}},
		{"kinds", strings.Replace(kinds, `home = "b"`, "home = \"b\"\nautomatic = true", 1), []string{
			"exec: when the guard is killed and does not come back, nothing closes the fence exec of exec: a [watchdog] would",
		}},
		{"nobody vouches for a device", strings.Replace(kinds, `home = "b"`, "home = \"b\"\non_lease_loss = \"serve\"", 1), []string{
			"exec: a site that cannot renew its permit serves on (on_lease_loss): nobody takes over from it until a person vouches that it has stopped",
		}},
		{"sample", read(t, "../etc/failover.toml"), nil},
		{"sample of frontends", read(t, "../etc/frontend.toml"), nil},
	} {
		if got := parse(t, tt.text).Notes(); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
