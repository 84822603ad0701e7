package config_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("failover.toml", []byte(text))
	if err != nil {
		t.Fatalf("Parse:\n%v\n%s", err, text)
	}
	return c
}

func TestDigestIsOfTheMeaning(t *testing.T) {
	data, err := os.ReadFile("testdata/good/kinds.toml")
	if err != nil {
		t.Fatal(err)
	}
	file := string(data)
	digest := parse(t, file).Digest()
	edit := func(old, new string) string {
		t.Helper()
		if strings.Count(file, old) != 1 {
			t.Fatalf("%q stands %d times in the file", old, strings.Count(file, old))
		}
		return strings.Replace(file, old, new, 1)
	}
	moved := func(header, next string) string { // a table to the end
		i, j := strings.Index(file, header), strings.Index(file, next)
		return file[:i] + file[j:] + "\n" + file[i:j]
	}
	for name, text := range map[string]string{
		"comments":          "# another\n" + strings.ReplaceAll(file, "\n", "  # x\n"),
		"line ends":         strings.ReplaceAll(file, "\n", "\r\n"),
		"order of members":  moved("[member.a]", "[member.b]"),
		"order of services": moved("[service.kernel]", "[service.unit]"),
		"order of records":  moved("[[dns.z.record]]\nname = \"z.", "[[dns.z.record]]\nname = \"www."),
		"order of ports":    edit("[53, 25]", "[25, 53]"),
		"order of statuses": edit("[204, 200]", "[200, 204]"),
		"a written default": edit("cluster = ", "control = \"state/draasd.sock\"\ncluster = "),
		"units":             edit(`lease = "6s"`, `lease = "6000ms"`),
		"case of names":     edit(`zone = "z.example."`, `zone = "Z.Example."`),
		"spelling of paths": edit(`data = "state"`, `data = "./state/"`),
		"spelling of IPs":   edit(`"2001:db8::1"]`, `"2001:0db8:0::1"]`),
	} {
		if got := parse(t, text).Digest(); got != digest {
			t.Errorf("%s change the digest", name)
		}
	}
	seen := map[string]string{digest: "nothing"}
	for name, text := range map[string]string{
		"profile":      edit(`profile = "balanced"`, `profile = "fast"`+"\n#"), // margins of 1 s need the longer leases
		"cluster":      edit(`cluster = "all"`, `cluster = "al"`),
		"key path":     edit("/etc/draas/member.key", "/etc/draas/member2.key"),
		"address":      edit(`a = ["192.0.2.10"]`, `a = ["192.0.2.110"]`),
		"first of two": edit(`["192.0.2.12", "2001:db8::12"]`, `["2001:db8::12", "192.0.2.12"]`),
		"body":         edit("'^ok$'", "'^ok'"),
		"ttl":          edit(`ttl = "1s"`, `ttl = "2s"`),
		"automatic":    edit("automatic = true\nmax_rto = \"15s\"", ""),
		"home":         edit(`home = "b"`, `home = "c"`),
		"drop a check": edit(`  { type = "dns", name = "q.example.", expect = ["192.0.2.1"], local = "127.0.0.1:53" },`, ""),
		"relay":        edit("10.0.0.1:9101", "10.0.0.1:9102"),
	} {
		c, err := config.Parse("failover.toml", []byte(text))
		if err != nil {
			if name == "profile" {
				continue
			}
			t.Fatalf("%s: %v", name, err)
		}
		if same := seen[c.Digest()]; same != "" {
			t.Errorf("the digest is the same after %s and %s", name, same)
		}
		seen[c.Digest()] = name
	}
}

// The same of the keys of groups, devices and what else stands in whole.toml.
func TestDigestOfTheWholePolicy(t *testing.T) {
	file := read(t, "testdata/good/whole.toml")
	digest := parse(t, file).Digest()
	edit := func(old, new string) string {
		t.Helper()
		if strings.Count(file, old) != 1 {
			t.Fatalf("%q stands %d times in the file", old, strings.Count(file, old))
		}
		return strings.Replace(file, old, new, 1)
	}
	const (
		atA = "  { site = \"a\", kind = \"ipmi\", address = \"192.0.2.7\", user = \"draas\", password_file = \"p\" },\n"
		atB = "  { site = \"b\", kind = \"ipmi\", address = \"192.0.2.8\", user = \"draas\", password_file = \"p\" },\n"
	)
	i, j := strings.Index(file, "[group.crm]"), strings.Index(file, "[service.shop]\n")
	for name, text := range map[string]string{
		"order of a group's services": edit(`["shop", "billing"]`, `["billing", "shop"]`),
		"place of a group":            file[:i] + file[j:] + "\n" + file[i:j],
		"order of interfaces":         edit(`["eth1", "eth0"]`, `["eth0", "eth1"]`),
		"order of sites of devices":   edit(atA+atB, atB+atA),
		"written defaults":            edit(`home = "a"`+"\nautomatic = true\nmax_rto", `home = "a"`+"\non_lease_loss = \"fence\"\nconfirmations = 2\nautomatic = true\nmax_rto"),
		"spelling of a controller":    edit(`"2001:db8::9"`, `"[2001:db8:0::9]:623"`),
	} {
		if got := parse(t, text).Digest(); got != digest {
			t.Errorf("%s changes the digest", name)
		}
	}
	seen := map[string]string{digest: "nothing"}
	for name, text := range map[string]string{
		"warn": edit(`warn = "336h"`, `warn = "335h"`), "page": edit(`"--now"`, `"--soon"`), "watchdog": edit("dev/watchdog", "dev/watchdog1"),
		"watchdog timeout": edit(`timeout = "2s"`, `timeout = "1s"`), "hold_max": edit(`"48h"`, `"47h"`),
		"flaps": edit("flaps = 0", "flaps = 1"), "steady": edit(`steady = "1h"`, `steady = "2h"`), "least_outage": edit(`"30s"`, `"31s"`),
		"restart": edit(`"45s"`, `"46s"`), "max_data_loss": edit(`max_data_loss = "1m"`, `max_data_loss = "2m"`), "lag": edit(`"3s"`, `"4s"`),
		"on_lease_loss": edit(`on_lease_loss = "serve"`, `on_lease_loss = "fence"`), "xdp": edit(`["eth1", "eth0"]`, `["eth1"]`),
		"off": edit(`["/bin/off", "2"]`, `["/bin/off", "3"]`), "stay": edit(`stay = "0s"`, `stay = "1s"`), "cipher": edit("cipher = 3", "cipher = 17"),
		"controller": edit("192.0.2.9:6230", "192.0.2.9:6231"), "name of the group": edit("[group.crm]", "[group.crm2]"),
	} {
		got := parse(t, text).Digest()
		if same := seen[got]; same != "" {
			t.Errorf("the digest is the same after %s and %s", name, same)
		}
		seen[got] = name
	}
}

// The numbers are worked out by hand from DESIGN.md, section 4, and the
// profile table.
func TestRTO(t *testing.T) {
	type terms map[string]time.Duration
	const ms = time.Millisecond
	for _, tt := range []struct {
		profile                    string
		lost, dead                 terms
		lostTypical, deadTypical   time.Duration
		lostWithoutTTL, designSays time.Duration
	}{{
		profile: "fast",
		// detect 4 x 275 + 200; wait 2.2 s; 3 entries of 50 ms and 20 ms
		lost: terms{"detect": 1300 * ms, "lease": 900 * ms, "act": 170 * ms, "ttl": 1000 * ms},
		dead: terms{"detect": 1300 * ms, "fence": 150 * ms, "act": 220 * ms, "ttl": 1000 * ms},
		// the last renewal is 200 ms old: 2.2 - 0.2; 35 ms; half the TTL
		lostTypical: 2535 * ms,
		// 125 + 3 x 15; 75; 40; 500
		deadTypical:    785 * ms,
		lostWithoutTTL: 2370 * ms, designSays: 2500 * ms,
	}, {
		profile:        "balanced",
		lost:           terms{"detect": 4100 * ms, "confirm": 1000 * ms, "act": 320 * ms, "ttl": 1000 * ms},
		dead:           terms{"detect": 4100 * ms, "confirm": 1000 * ms, "fence": 150 * ms, "act": 420 * ms, "ttl": 1000 * ms},
		lostTypical:    4835 * ms,
		deadTypical:    500*ms + 200*ms + 1000*ms + 75*ms + 40*ms + 500*ms,
		lostWithoutTTL: 5420 * ms, designSays: 6000 * ms,
	}, {
		profile:        "cautious",
		lost:           terms{"detect": 8100 * ms, "confirm": 5000 * ms, "act": 320 * ms, "ttl": 1000 * ms},
		dead:           terms{"detect": 8100 * ms, "confirm": 5000 * ms, "fence": 150 * ms, "act": 420 * ms, "ttl": 1000 * ms},
		lostTypical:    1000*ms + 4000*ms + 1500*ms + 5000*ms + 35*ms + 500*ms,
		deadTypical:    1000*ms + 400*ms + 5000*ms + 75*ms + 40*ms + 500*ms,
		lostWithoutTTL: 13420 * ms, designSays: 15000 * ms,
	}} {
		data, err := config.Loopback(config.LoopbackOptions{Profile: tt.profile})
		if err != nil {
			t.Fatal(err)
		}
		rto := parse(t, string(data)).RTO("web")
		for i, want := range []terms{tt.lost, tt.dead} {
			got := terms{}
			var sum time.Duration
			for _, term := range rto[i].Terms {
				if sum += term.Worst; term.Worst > 0 {
					got[term.Name] = term.Worst
				}
				if term.Worst > 0 && term.Sets == "" {
					t.Errorf("%s: nothing sets %s", tt.profile, term.Name)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%s, %s: %v, want %v", tt.profile, rto[i].Disaster, got, want)
			}
			for name := range want {
				if got[name] != want[name] {
					t.Errorf("%s, %s: %s takes %s, want %s", tt.profile, rto[i].Disaster, name, got[name], want[name])
				}
			}
			if sum != rto[i].Worst() {
				t.Errorf("%s, %s: worst %s, terms %s", tt.profile, rto[i].Disaster, rto[i].Worst(), sum)
			}
		}
		if rto[0].Typical() != tt.lostTypical || rto[1].Typical() != tt.deadTypical {
			t.Errorf("%s: typically %s and %s, want %s and %s", tt.profile, rto[0].Typical(), rto[1].Typical(), tt.lostTypical, tt.deadTypical)
		}
		if d := rto[0].Worst() - time.Second; d != tt.lostWithoutTTL || d > tt.designSays {
			t.Errorf("%s: %s for a fresh lookup, want %s, below %s", tt.profile, d, tt.lostWithoutTTL, tt.designSays)
		}
	}
}

// A quick detection is no use while the log has no leader.
func TestRTOWaitsForAnElection(t *testing.T) {
	data, err := config.Loopback(config.LoopbackOptions{Profile: "cautious"})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), `path = "/"`, "path = \"/\"\ninterval = \"100ms\"\ntimeout = \"100ms\"\njitter = 0", 1)
	for _, term := range parse(t, text).RTO("web")[0].Terms {
		// detect 3 x 100 + 100; an election takes up to 2 s
		if term.Name == "elect" && term.Worst != 1600*time.Millisecond {
			t.Errorf("elect %s", term.Worst)
		}
	}
}

func TestLargestTermIsNamed(t *testing.T) {
	r := config.RTO{Disaster: "x", Terms: []config.Term{{Name: "a", Worst: 1}, {Name: "b", Worst: 3}, {Name: "c"}}}
	if r.Largest().Name != "b" || !strings.Contains(r.String(), "a 1ns + b 3ns)") {
		t.Errorf("%s: largest %+v", r, r.Largest())
	}
}

func TestLoopback(t *testing.T) {
	type (
		M = draas.MemberID
		S = draas.SiteID
	)
	for _, o := range []config.LoopbackOptions{
		{},
		{Cluster: "demo-7", BasePort: 65536 - 33, Profile: "cautious"},
		{
			BasePort:   20000,
			PeerFrom:   map[M]map[M]string{"dr": {"primary": "127.0.0.1:30001", "witness": "127.0.0.1:30002"}},
			ListenPeer: map[M]string{"dr": "127.0.0.1:30003"},
			ProbeVia:   map[M]map[S]string{"dr": {"primary": "127.0.0.1:30004"}, "witness": {"primary": "127.0.0.1:30005", "dr": "127.0.0.1:30006"}},
		},
	} {
		data, err := config.Loopback(o)
		if err != nil {
			t.Fatalf("Loopback(%+v): %v", o, err)
		}
		again, err := config.Loopback(o)
		if err != nil || string(again) != string(data) {
			t.Errorf("not the same bytes twice")
		}
		c := parse(t, string(data))
		mustHold(t, c)
		for to, from := range o.PeerFrom {
			for f, address := range from {
				if got := c.PeerAddress(f, to); got != address {
					t.Errorf("%s reaches %s at %s, want %s", f, to, got, address)
				}
			}
		}
		for id, address := range o.ListenPeer {
			if m, _ := c.Member(id); m.ListenPeer != address {
				t.Errorf("%s listens at %s, want %s", id, m.ListenPeer, address)
			}
		}
		web, _ := c.Service("web")
		for vantage, sites := range o.ProbeVia {
			for site, address := range sites {
				if got := web.TargetFor(&web.Checks[0], vantage, site); got != address {
					t.Errorf("%s looks at %s by %s, want %s", vantage, site, got, address)
				}
			}
		}
		if !web.Automatic || web.Fence.Kind != draas.FencePath || c.DNS["demo"].Name != "draas.test." {
			t.Errorf("service %+v", web)
		}
		for _, m := range c.Members {
			if !strings.HasPrefix(m.Peer, "127.0.0.") {
				t.Errorf("%s is not on loopback", m.Peer)
			}
		}
	}
}

func TestLoopbackRefuses(t *testing.T) {
	for name, o := range map[string]config.LoopbackOptions{
		"base port": {BasePort: 65536 - 32},
		"negative":  {BasePort: -1},
		"profile":   {Profile: "quick"},
		"relay":     {ListenPeer: map[draas.MemberID]string{"dr": "nowhere"}},
		"cluster":   {Cluster: "a\nb"},
	} {
		if _, err := config.Loopback(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
