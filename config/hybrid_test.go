package config_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

// holdHybrid checks that the users of a hybrid can come in at each of its
// sites.
func holdHybrid(c *config.Config, s *config.Service, want wanted) {
	ways := c.Ways(s)
	want(len(ways) == len(s.Sites()) && len(ways) >= 2, "ways %v", ways)
	owner := map[netip.Addr]draas.SiteID{}
	families := map[bool]int{}
	for i, w := range ways {
		want(w.Site == s.Sites()[i] && len(w.Frontends) > 0 && slices.IsSorted(w.Frontends), "way %+v", w)
		for _, id := range w.Frontends {
			want(c.SiteOf(id) == w.Site && slices.Contains(s.Frontend.Use, id), "%s enters at %s", id, w.Site)
		}
		enter, cname := s.Answers(w.Site)
		want(len(enter) > 0 && cname == "", "enters %s by %v %q", w.Site, enter, cname)
		has := map[bool]bool{}
		for _, a := range enter {
			want(owner[a] == "" || owner[a] == w.Site, "%s enters twice", a)
			owner[a] = w.Site
			has[a.Is4()] = true
		}
		for v4 := range has {
			families[v4]++
		}
	}
	want(len(s.DNS.Enter) == len(ways), "enters %v", s.DNS.Enter)
	for _, n := range families {
		want(n == len(ways), "families %v", families)
	}
	want(c.FrontendSilent() >= 600*time.Millisecond && c.FrontendSilent() >= 3*c.FollowWait() && c.FollowWait() <= time.Second, "silent %s, waits %s", c.FrontendSilent(), c.FollowWait())
}

func TestHybrid(t *testing.T) {
	c := loadGood(t, "testdata/good/hybrid.toml")
	shop, _ := c.Service("shop")
	want := []config.Way{{Site: "a", Frontends: []string{"beside", "inside"}}, {Site: "b", Frontends: []string{"far"}}}
	if got := c.Ways(&shop); !slices.EqualFunc(got, want, func(a, b config.Way) bool { return a.Site == b.Site && slices.Equal(a.Frontends, b.Frontends) }) {
		t.Errorf("ways %v, want %v", got, want)
	}
	if enter, _ := shop.Answers("b"); !slices.Equal(enter, []netip.Addr{netip.MustParseAddr("2001:db8::90"), netip.MustParseAddr("192.0.2.90")}) {
		t.Errorf("enters b by %v", enter)
	}
	if at := shop.Frontend.ListensAt("b"); len(at) != 2 || at[0].Port() != 443 {
		t.Errorf("listens at b at %v", at)
	}
	if at := shop.Frontend.ListensAt("a"); len(at) != 1 || at[0].Port() != 443 {
		t.Errorf("listens at a at %v", at)
	}
	if !shop.Fronted() || !shop.Named() {
		t.Error("a hybrid is led by both")
	}
	mail, _ := c.Service("mail")
	if ways := c.Ways(&mail); ways != nil || mail.Named() || !mail.Fronted() {
		t.Errorf("a service of frontends is entered by %v", ways)
	}
	domains := map[string]string{"inside": "east", "beside": "cloud", "far": "west", "wrong": "east"}
	for id, domain := range domains {
		if f, _ := c.Frontend(id); f.Domain != domain {
			t.Errorf("%s is in the domain %q, want %q", id, f.Domain, domain)
		}
	}
	if c.SiteOf("inside") != "a" || c.SiteOf("nobody") != "" {
		t.Errorf("inside stands at %q, nobody at %q", c.SiteOf("inside"), c.SiteOf("nobody"))
	}
}

// A frontend in a member's daemon meant the same before there were hybrids.
func TestSiteKeepsOldDigests(t *testing.T) {
	text := read(t, "testdata/good/hybrid.toml")
	was, is := parse(t, text), parse(t, strings.Replace(text, "member = \"a\"\n", "member = \"a\"\nsite = \"a\"\n", 1))
	if f, _ := was.Frontend("inside"); f.Site != "" {
		t.Errorf("site %q stands in the digest", f.Site)
	}
	if was.SiteOf("inside") != is.SiteOf("inside") {
		t.Error("the site of its member is not its own")
	}
}

func TestNotesOfHybrids(t *testing.T) {
	got := loadGood(t, "testdata/good/hybrid.toml").Notes()
	want := strings.Split(strings.TrimSpace(read(t, "testdata/hybrid.notes")), "\n")
	if !slices.Equal(got, want) {
		t.Errorf("notes\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if notes := parse(t, read(t, "../etc/hybrid.toml")).Notes(); len(notes) > 0 {
		t.Errorf("notes of the sample: %s", strings.Join(notes, "\n"))
	}
	one := strings.Replace(read(t, "../etc/hybrid.toml"), "site    = \"dr\"\n", "site    = \"dr\"\ndomain  = \"hall\"\n", 1)
	one = strings.Replace(one, "site    = \"primary\"\n", "site    = \"primary\"\ndomain  = \"hall\"\n", 1)
	// A second one at a site, elsewhere, is what is left.
	two := strings.Replace(one, "[frontend.west-edge]\n", "[frontend.north-edge]\nsite = \"dr\"\ndomain = \"north\"\n[frontend.west-edge]\n", 1)
	if notes := parse(t, two).Notes(); len(notes) > 0 {
		t.Errorf("notes %q", notes)
	}
	want = []string{"shop: all frontends at dr and primary are in the failure domain hall: when it is lost, nobody enters"}
	if notes := parse(t, one).Notes(); !slices.Equal(notes, want) {
		t.Errorf("notes %q, want %q", notes, want)
	}
}

// Each disaster is masked by the half that can: no TTL counts where frontends
// lead elsewhere, and of a lost site the larger of both.
func TestBudgetsOfHybrids(t *testing.T) {
	c := parse(t, read(t, "../etc/hybrid.toml"))
	want := map[string]string{
		"site lost":     "3.37s (detect 1.3s + lease 900ms + act 170ms + ttl 1s)",
		"service dead":  "2.65s (detect 1.3s + fence 150ms + act 200ms + frontend 1s)",
		"cloud lost":    "3.35s (detect 1.3s + lease 900ms + act 150ms + frontend 1s)",
		"frontend lost": "2.32s (detect 1.2s + act 120ms + ttl 1s)",
		"target lost":   "3.62s (fence 150ms + detect 1.3s + lease 900ms + act 270ms + ttl 1s)",
	}
	rto := c.RTO("shop")
	if len(rto) != len(want) {
		t.Errorf("budgets %v", rto)
	}
	for _, r := range rto {
		if got := r.String(); got != want[r.Disaster] {
			t.Errorf("%s: %s, want %s", r.Disaster, got, want[r.Disaster])
		}
	}
	// A frontend that follows later than answers expire is what users wait for.
	slow := parse(t, strings.Replace(strings.Replace(read(t, "../etc/hybrid.toml"), "[frontend.west-edge]\n", "[frontend.west-edge]\nkind = \"nginx\"\ninclude = \"/etc/nginx/draas\"\n", 1), "max_rto   = \"5s\"\n", "", 1))
	if got := slow.RTO("shop")[0].String(); got != "5.37s (detect 1.3s + lease 900ms + act 170ms + ttl 1s + frontend 2s)" {
		t.Errorf("a slow frontend: %s", got)
	}
	// A promise that one disaster breaks is refused, in words.
	_, err := config.Parse("f.toml", []byte(strings.Replace(read(t, "../etc/hybrid.toml"), "max_rto   = \"5s\"\n", "max_rto   = \"3360ms\"\n", 1)))
	if err == nil || !strings.Contains(err.Error(), "3.36s cannot hold: a lost site takes up to 3.37s") {
		t.Errorf("max_rto: %v", err)
	}
	// A group has the longest of each disaster, of those that any part knows.
	var names []string
	for _, r := range loadGood(t, "testdata/good/hybrid.toml").RTO("office") {
		names = append(names, r.Disaster)
	}
	if !slices.Equal(names, []string{"site lost", "service dead", "cloud lost", "frontend lost", "target lost"}) {
		t.Errorf("disasters of a group: %v", names)
	}
}

// A DNS service that compares nothing is left alone for as long at every move:
// what runs at the same time as that is not counted twice.
func TestQuarantineOfHybrids(t *testing.T) {
	text := read(t, "../etc/hybrid.toml")
	zone := text[strings.Index(text, "[dns.public]"):strings.Index(text, "# -------------------------------------------------------------- frontends")]
	text = strings.Replace(text, zone, "[dns.public]\nprovider = \"dyndns2\"\nzone = \"ha.example.org.\"\nendpoint = \"https://dyn.example.net/nic/update\"\n"+
		"credentials_file = \"dyn.key\"\nauthorities = [\"192.0.2.53:53\"]\ncontact = \"hostmaster.example.org.\"\n\n", 1)
	text = strings.NewReplacer("dns    = \"198.51.100.10:53\"\n", "", "dns    = \"203.0.113.10:53\"\n", "", "max_rto   = \"5s\"\n", "confirm = \"2s\"\nlease = \"10s\"\n").Replace(text)
	c := parse(t, text)
	quarantine := c.Quarantine(c.DNS["public"])
	for _, r := range c.RTO("shop") {
		terms := map[string]time.Duration{}
		for _, term := range r.Terms {
			terms[term.Name] += term.Worst
		}
		want := map[string]time.Duration{
			"site lost":     quarantine - terms["lease"],
			"target lost":   quarantine - terms["lease"],
			"frontend lost": quarantine - 2*time.Second,
		}[r.Disaster]
		if terms["quarantine"] != want {
			t.Errorf("%s: quarantine %s, want %s (in all %s): %s", r.Disaster, terms["quarantine"], want, quarantine, r)
		}
		if i := slices.IndexFunc(r.Terms, func(x config.Term) bool { return x.Name == "quarantine" }); r.Disaster == "frontend lost" && r.Terms[i].Typical != 0 {
			t.Errorf("typically %s, as if somebody had just moved it", r.Terms[i].Typical)
		}
		if f := terms["frontend"]; r.Disaster == "site lost" && f != 0 {
			t.Errorf("%s: the frontends take %s longer than DNS", r.Disaster, f)
		}
	}
}

// How long a frontend may be silent follows from how often it asks.
func TestFrontendSilent(t *testing.T) {
	text := read(t, "../etc/hybrid.toml")
	for lease, want := range map[string][2]time.Duration{
		"lease = \"4s\"\nrenew = \"50ms\"":  {50 * time.Millisecond, 600 * time.Millisecond},
		"lease = \"4s\"\nrenew = \"250ms\"": {250 * time.Millisecond, 750 * time.Millisecond},
		"lease = \"20s\"\nrenew = \"5s\"":   {time.Second, 3 * time.Second},
	} {
		c := parse(t, strings.Replace(text, "max_rto   = \"5s\"\n", lease+"\n", 1))
		if c.FollowWait() != want[0] || c.FrontendSilent() != want[1] {
			t.Errorf("%q: waits %s, silent %s, want %s", lease, c.FollowWait(), c.FrontendSilent(), want)
		}
	}
	none := *parse(t, text)
	none.Services = []config.Service{{ID: "x"}}
	if none.FollowWait() <= 0 {
		t.Errorf("a wait of %s is a storm", none.FollowWait())
	}
}

// Who waits at a frontend waits for what frontends mask, not for DNS.
func TestHoldOfHybrids(t *testing.T) {
	slow := strings.Replace(read(t, "../etc/hybrid.toml"), "max_rto   = \"5s\"\n", "", 1)
	slow = strings.Replace(slow, "ttl  = \"1s\"", "ttl  = \"60s\"", 1)
	if notes := parse(t, slow).Notes(); len(notes) > 0 {
		t.Errorf("notes %q", notes)
	}
	short := strings.Replace(slow, "[service.shop.frontend]\n", "[service.shop.frontend]\nhold = \"3s\"\n", 1)
	if notes := parse(t, short).Notes(); len(notes) != 1 || !strings.Contains(notes[0], "in the worst case (cloud lost, 3.35s) a move takes longer than users wait (hold 3s)") {
		t.Errorf("notes %q", notes)
	}
}

// Of two services that need one address of a frontend the later one is told, in
// the line where it says so.
func TestListenAtClashes(t *testing.T) {
	text := strings.Replace(read(t, "testdata/good/hybrid.toml"), `b = ["192.0.2.91:443"]`, `b = ["192.0.2.90:443"]`, 1)
	_, err := config.Parse("f.toml", []byte(text))
	if err == nil || !strings.Contains(err.Error(), "service.wiki.frontend.listen_at.b[0]: far serves shop at the same address") {
		t.Errorf("%v", err)
	}
}

// A pair at a site shares a virtual IP: whoever has it has to be where users
// enter by it.
func TestEnterByVIP(t *testing.T) {
	text := read(t, "../etc/hybrid.toml")
	pair := func(site, use string) string {
		s := strings.Replace(text, "[frontend.west-edge]\n", "[frontend.east-edge2]\nsite = \""+site+"\"\n\n[frontend.west-edge]\n", 1)
		s = strings.Replace(s, "[service.shop.frontend]\n", "[service.shop.frontend]\nuse = ["+use+"]\n", 1)
		return s + "\n[vip.east]\nholders = [\"east-edge\", \"east-edge2\"]\naddress = [\"198.51.100.80/24 dev eth0\"]\n"
	}
	all := `"east-edge", "east-edge2", "west-edge"`
	if c := parse(t, pair("primary", all)); len(c.VIPs) != 1 {
		t.Errorf("virtual IPs %+v", c.VIPs)
	}
	for what, want := range map[string]string{
		pair("dr", all): "198.51.100.80 is an address of [vip.east], which east-edge2 may have, and that does not stand at \"primary\"",
		pair("primary", `"east-edge", "west-edge"`): "which east-edge2 may have, and that does not serve shop",
	} {
		if _, err := config.Parse("f.toml", []byte(what)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}
