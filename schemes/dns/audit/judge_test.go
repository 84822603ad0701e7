package audit

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

// TestMain lets more tests run at once than there are processors: they wait
// most of their time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const (
	zone  = "example.org."
	shop  = "shop.example.org."
	one   = "192.0.2.53:53"
	two   = "203.0.113.53:53"
	third = "198.51.100.1:53" // a resolver
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func addrs(texts ...string) []netip.Addr {
	out := make([]netip.Addr, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// sample is a zone whose two sites' servers are its NS.
func sample() Zone {
	return Zone{Name: zone, NegativeTTL: 60 * time.Second,
		Servers: []Server{{Server: dns.Server{Site: "primary", Address: one}, Role: "embedded"}, {Server: dns.Server{Site: "dr", Address: two}, Role: "embedded"}},
		NS: []NS{{Name: "ns1.example.org.", Site: "primary", Addresses: addrs("192.0.2.53")},
			{Name: "ns2.example.org.", Site: "dr", Addresses: addrs("203.0.113.53")}},
		Names: []Name{{Name: dns.Name{Name: shop, Service: "shop", TTL: 5 * time.Second, Targets: map[draas.SiteID]dns.Target{
			"primary": {Addresses: addrs("192.0.2.10", "2001:db8::10")},
			"dr":      {Addresses: addrs("203.0.113.20", "203.0.113.21", "2001:db8::20")},
		}}}}}
}

// says is an answer with records "TYPE VALUE TTL" and an epoch.
func says(from, kind string, epoch draas.Epoch, site draas.SiteID, records ...string) Answer {
	a := Answer{From: from, Kind: kind, Rcode: "NOERROR", Authoritative: kind == Authority, Epoch: epoch, AtSite: site}
	if epoch != 0 {
		a.Texts = []string{fmt.Sprintf("epoch=%d site=%s", epoch, site)}
	}
	for _, text := range records {
		var r Record
		if _, err := fmt.Sscan(text, &r.Type, &r.Value, &r.TTL); err != nil {
			panic(err)
		}
		a.Records = append(a.Records, r)
		a.Longest = max(a.Longest, r.TTL)
	}
	return a
}

// at leads to a site, whole.
func at(from, kind string, epoch draas.Epoch, site draas.SiteID, ttl int) Answer {
	records := map[draas.SiteID][]string{"primary": {"A 192.0.2.10", "AAAA 2001:db8::10"}, "dr": {"A 203.0.113.20", "A 203.0.113.21", "AAAA 2001:db8::20"}}[site]
	records = slices.Clone(records)
	for i := range records {
		records[i] += fmt.Sprintf(" %d", ttl)
	}
	return says(from, kind, epoch, site, records...)
}

func well() []Apex {
	return []Apex{{From: one, Rcode: "NOERROR", Authoritative: true, Serial: 8, Negative: 60, NS: []string{"ns1.example.org.", "ns2.example.org."}},
		{From: two, Rcode: "NOERROR", Authoritative: true, Serial: 8, Negative: 60, NS: []string{"ns1.example.org.", "ns2.example.org."}}}
}

// judged shows the findings that are not in order, one a line.
func judged(z Zone, r ZoneReport, m memory, now time.Time) string {
	var j judge
	j.zone(z, &r, m, now)
	var lines []string
	for _, f := range j.sorted() {
		if f.Severity != OK {
			lines = append(lines, fmt.Sprintf("%s %s %s", f.Severity, f.Code, f.From))
		}
		if f.Text == "" || f.Severity != OK && f.Do == "" {
			lines = append(lines, fmt.Sprintf("says nothing: %+v", f))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

func TestJudgeAuthorities(t *testing.T) {
	t.Parallel()
	seven := at(two, Authority, 7, "dr", 5)
	edit := func(a Answer, change func(*Answer)) Answer {
		a.Records = slices.Clone(a.Records)
		change(&a)
		return a
	}
	for name, c := range map[string]struct {
		first Answer
		want  string
	}{
		"in order":        {at(one, Authority, 7, "dr", 5), ""},
		"behind":          {at(one, Authority, 6, "primary", 5), "error behind " + one},
		"no epoch":        {at(one, Authority, 0, "dr", 5), "error epoch " + one},
		"nothing":         {says(one, Authority, 0, ""), "error epoch " + one + "; error missing " + one},
		"two texts":       {edit(at(one, Authority, 7, "dr", 5), func(a *Answer) { a.Texts, a.Epoch, a.AtSite = []string{"a", "b"}, 0, "" }), "error epoch " + one},
		"no epoch's word": {edit(at(one, Authority, 0, "dr", 5), func(a *Answer) { a.EpochRcode = "SERVFAIL" }), "error epoch " + one},
		"two sites":       {at(one, Authority, 7, "primary", 5), "error disagree " + two},
		"other site":      {edit(at(one, Authority, 7, "dr", 5), func(a *Answer) { a.Records = at(one, Authority, 7, "primary", 5).Records }), "error other-site " + one},
		"empty":           {says(one, Authority, 7, "dr"), "error missing " + one},
		"shrunken":        {says(one, Authority, 7, "dr", "A 203.0.113.20 5", "AAAA 2001:db8::20 5"), "error shrunken " + one},
		"no IPv6":         {says(one, Authority, 7, "dr", "A 203.0.113.20 5", "A 203.0.113.21 5"), "error shrunken " + one},
		"foreign":         {says(one, Authority, 7, "dr", "A 203.0.113.20 5", "A 203.0.113.21 5", "AAAA 2001:db8::20 5", "A 192.0.2.99 5"), "error foreign " + one},
		"CNAME":           {says(one, Authority, 7, "dr", "CNAME elsewhere.example. 5"), "error foreign " + one},
		"mixed":           {says(one, Authority, 7, "dr", "A 203.0.113.20 5", "A 192.0.2.10 5"), "error foreign " + one},
		"TTL too long":    {at(one, Authority, 7, "dr", 300), "error ttl " + one},
		"TTL too short":   {at(one, Authority, 7, "dr", 1), "warn ttl " + one},
		"silent":          {Answer{From: one, Kind: Authority, Error: "timeout"}, "error silent " + one},
		"SERVFAIL":        {edit(at(one, Authority, 0, "", 5), func(a *Answer) { a.Rcode = "SERVFAIL" }), "error fails " + one},
		"REFUSED":         {edit(at(one, Authority, 0, "", 5), func(a *Answer) { a.Rcode = "REFUSED" }), "error lame " + one},
		"no authority":    {edit(at(one, Authority, 7, "dr", 5), func(a *Answer) { a.Authoritative = false }), "error not-authoritative " + one},
		"a site of nobody's": {says(one, Authority, 9, "moon", "A 203.0.113.20 5"),
			"error behind " + two + "; error foreign " + one},
	} {
		got := judged(sample(), ZoneReport{Servers: well(), Names: []NameReport{{Answers: []Answer{c.first, seven}}}}, memory{}, noon)
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// The services that keep no epochs are judged by where they lead.
func TestJudgeWithoutEpochs(t *testing.T) {
	t.Parallel()
	z := sample()
	plain := func(from string, site draas.SiteID) Answer {
		a := at(from, Authority, 0, site, 5)
		a.AtSite, a.NoEpoch = "", true
		return a
	}
	for i := range z.Servers {
		z.Servers[i].NoEpoch = true
	}
	nowhere := says(two, Authority, 0, "", "A 192.0.2.77 5")
	nowhere.NoEpoch = true
	for name, c := range map[string]struct {
		answers []Answer
		want    string
	}{
		"in order":     {[]Answer{plain(one, "dr"), plain(two, "dr")}, ""},
		"one is wrong": {[]Answer{plain(one, "dr"), plain(two, "dr"), plain("192.0.2.9:53", "primary")}, "error disagree 192.0.2.9:53"},
		"nowhere":      {[]Answer{plain(one, "dr"), nowhere}, "error foreign " + two},
	} {
		apexes := append(well(), well()[1])
		if got := judged(z, ZoneReport{Servers: apexes, Names: []NameReport{{Answers: c.answers}}}, memory{}, noon); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	// Beside one that keeps an epoch, that one says where to.
	z.Servers[0].NoEpoch = false
	got := judged(z, ZoneReport{Servers: well(), Names: []NameReport{{Answers: []Answer{at(one, Authority, 3, "primary", 5), plain(two, "dr")}}}}, memory{}, noon)
	if got != "error disagree "+two {
		t.Errorf("beside an epoch: %q", got)
	}
}

func TestJudgeServers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(z *Zone, a *Apex)
		want   string
	}{
		"silent":            {func(_ *Zone, a *Apex) { *a = Apex{From: one, Error: "timeout"} }, "error silent " + one},
		"lame":              {func(_ *Zone, a *Apex) { a.Rcode, a.Authoritative = "REFUSED", false }, "error lame " + one},
		"without authority": {func(_ *Zone, a *Apex) { a.Authoritative = false }, "error not-authoritative " + one},
		"no such zone":      {func(_ *Zone, a *Apex) { a.Rcode = "NXDOMAIN" }, "error lame " + one},
		"fails":             {func(_ *Zone, a *Apex) { a.Rcode, a.Authoritative = "SERVFAIL", false }, "error fails " + one},
		"serial":            {func(_ *Zone, a *Apex) { a.Serial = 7 }, "warn serial "},
		"negative TTL":      {func(_ *Zone, a *Apex) { a.Negative = 300 }, "warn negative-ttl " + one},
		"negative, of others": {func(z *Zone, a *Apex) { z.NegativeTTL = -1; a.Negative = 3600 },
			"warn negative-ttl " + one},
		"negative, of others, short": {func(z *Zone, a *Apex) { z.NegativeTTL = -1; a.Negative = 300 }, ""},
	} {
		z, apexes := sample(), well()
		z.Names = nil
		c.change(&z, &apexes[0])
		if got := judged(z, ZoneReport{Servers: apexes}, memory{}, noon); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	// Of a server that is out it is said once, not for each name.
	apexes := well()
	apexes[0] = Apex{From: one, Error: "timeout"}
	r := ZoneReport{Servers: apexes, Names: []NameReport{{Answers: []Answer{{From: one, Kind: Authority, Error: "timeout"}, at(two, Authority, 7, "dr", 5)}}}}
	if got := judged(sample(), r, memory{}, noon); got != "error silent "+one {
		t.Errorf("said %q", got)
	}
}

func TestJudgeResolvers(t *testing.T) {
	t.Parallel()
	with := func(a Answer, change func(*Answer)) Answer { change(&a); return a }
	ede := func(a Answer, code uint16) Answer {
		return with(a, func(a *Answer) { a.Extended = []Extended{{Code: code}} })
	}
	fails := Answer{From: third, Kind: Resolver, Rcode: "SERVFAIL"}
	for name, c := range map[string]struct {
		answer Answer
		floor  time.Duration
		want   string
	}{
		"follows":           {at(third, Resolver, 7, "dr", 3), 0, ""},
		"behind":            {at(third, Resolver, 6, "primary", 3), 0, "warn resolver-behind " + third},
		"behind, new epoch": {with(at(third, Resolver, 6, "primary", 3), func(a *Answer) { a.Epoch, a.AtSite = 7, "dr" }), 0, "warn resolver-behind " + third},
		"only its epoch is": {with(at(third, Resolver, 7, "dr", 3), func(a *Answer) { a.Epoch, a.AtSite = 6, "primary" }), 0, ""},
		"stale":             {ede(at(third, Resolver, 6, "primary", 30), 3), 0, "error resolver-stale " + third},
		"stale and right":   {ede(at(third, Resolver, 7, "dr", 30), 3), 0, "warn resolver-may-stale " + third},
		"raised":            {at(third, Resolver, 7, "dr", 60), 0, "error resolver-ttl-raised " + third},
		"a floor is known":  {at(third, Resolver, 7, "dr", 60), time.Minute, ""},
		"above the floor":   {at(third, Resolver, 7, "dr", 61), time.Minute, "error resolver-ttl-raised " + third},
		"behind and raised": {at(third, Resolver, 6, "primary", 60), 0, "error resolver-ttl-raised " + third + "; warn resolver-behind " + third},
		"foreign":           {says(third, Resolver, 7, "dr", "A 10.0.0.1 5"), 0, "error resolver-foreign " + third},
		"shrunken":          {says(third, Resolver, 7, "dr", "A 203.0.113.20 5"), 0, "error resolver-foreign " + third},
		"missing":           {with(says(third, Resolver, 0, ""), func(a *Answer) { a.Rcode = "NXDOMAIN" }), 0, "error resolver-missing " + third},
		"silent":            {Answer{From: third, Kind: Resolver, Error: "timeout"}, 0, "error resolver-silent " + third},
		"refuses":           {with(fails, func(a *Answer) { a.Rcode = "REFUSED" }), 0, "error resolver-fails " + third},
		"fails":             {fails, 0, "error resolver-fails " + third},
		"bogus":             {with(fails, func(a *Answer) { a.Bogus = true }), 0, "error resolver-bogus " + third},
		"bogus by its word": {ede(fails, 9), 0, "error resolver-bogus " + third},
		"no authority":      {ede(fails, 22), 0, "error resolver-fails " + third},
	} {
		z := sample()
		z.Names[0].Floor = c.floor
		answers := []Answer{at(one, Authority, 7, "dr", 5), at(two, Authority, 7, "dr", 5), c.answer}
		if got := judged(z, ZoneReport{Servers: well(), Names: []NameReport{{Answers: answers}}}, memory{}, noon); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	// Where an authority itself gives a long TTL, the resolver is not to blame.
	answers := []Answer{at(one, Authority, 7, "dr", 60), at(two, Authority, 7, "dr", 60), at(third, Resolver, 7, "dr", 60)}
	if got := judged(sample(), ZoneReport{Servers: well(), Names: []NameReport{{Answers: answers}}}, memory{}, noon); strings.Contains(got, "resolver") {
		t.Errorf("the authorities' TTL: %q", got)
	}
}

// A resolver that says nothing of it is found out by the time.
func TestStaleByTheClock(t *testing.T) {
	t.Parallel()
	m := make(memory)
	look := func(after time.Duration, resolver Answer) string {
		answers := []Answer{at(one, Authority, 7, "dr", 5), at(two, Authority, 7, "dr", 5), resolver}
		return judged(sample(), ZoneReport{Servers: well(), Names: []NameReport{{Answers: answers}}}, m, noon.Add(after))
	}
	old := func(ttl int) Answer { return at(third, Resolver, 6, "primary", ttl) }
	behind, stale := "warn resolver-behind "+third, "error resolver-stale "+third
	if got := look(0, old(3)); got != behind || m.next(noon) != 4 {
		t.Errorf("at first: %q, again after %d s", got, m.next(noon))
	}
	if got := look(2*time.Second, old(5)); got != behind || m.next(noon.Add(2*time.Second)) != 2 {
		t.Errorf("within its TTL: %q", got)
	}
	// TTL 30 anew, as RFC 8767 has it, does not make it young.
	if got := look(5*time.Second, old(5)); got != stale {
		t.Errorf("afterwards: %q", got)
	}
	if m.next(noon.Add(5*time.Second)) != 0 {
		t.Error("a look again would tell nothing")
	}
	if got := look(6*time.Second, at(third, Resolver, 7, "dr", 5)); got != "" || len(m) != 0 {
		t.Errorf("when it follows: %q, %v", got, m)
	}
	// What an authority still says may be fetched from it again and again.
	answers := []Answer{at(one, Authority, 6, "primary", 5), at(two, Authority, 7, "dr", 5), old(5)}
	for after := range 3 {
		got := judged(sample(), ZoneReport{Servers: well(), Names: []NameReport{{Answers: answers}}}, m, noon.Add(time.Duration(after)*time.Minute))
		if got != "error behind "+one+"; "+behind {
			t.Errorf("with an authority that is behind: %q", got)
		}
	}
}

func delegated() *Delegation {
	glue := []Glue{{"ns1.example.org.", netip.MustParseAddr("192.0.2.53")}, {"ns2.example.org.", netip.MustParseAddr("203.0.113.53")}}
	return &Delegation{Answers: []Referral{{From: "192.0.2.1:53", Rcode: "NOERROR", NS: []string{"ns1.example.org.", "ns2.example.org."}, Glue: glue}},
		Servers: []Reached{{Glue: glue[0], Rcode: "NOERROR", Authoritative: true}, {Glue: glue[1], Rcode: "NOERROR", Authoritative: true}}}
}

func TestJudgeDelegation(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	ds := key.ToDS(mdns.SHA256)
	wrong := newKey(t).ToDS(mdns.SHA256)
	extra := func(d *Delegation, name, addr string) {
		a := &d.Answers[0]
		a.NS = append(a.NS, name)
		d.Servers = append(d.Servers, Reached{Glue: Glue{name, netip.MustParseAddr(addr)}, Rcode: "NOERROR", Authoritative: true})
	}
	byAddress := func(z *Zone) {
		z.NS = nil
		for i := range z.Servers {
			z.Servers[i].Site = ""
		}
	}
	const parent = "192.0.2.1:53"
	for name, c := range map[string]struct {
		change func(z *Zone, d *Delegation, apexes []Apex)
		want   string
	}{
		"in order":  {func(*Zone, *Delegation, []Apex) {}, ""},
		"not found": {func(_ *Zone, d *Delegation, _ []Apex) { *d = Delegation{Error: "no resolver"} }, "error parent "},
		"not asked": {func(_ *Zone, d *Delegation, _ []Apex) { d.Answers[0] = Referral{From: parent, Error: "timeout"} }, "error parent ; warn parent " + parent},
		"refused":   {func(_ *Zone, d *Delegation, _ []Apex) { d.Answers[0] = Referral{From: parent, Rcode: "REFUSED"} }, "error parent ; warn parent " + parent},
		"not delegated": {func(_ *Zone, d *Delegation, _ []Apex) {
			d.Answers[0] = Referral{From: parent, Rcode: "NXDOMAIN"}
			d.Servers = nil
		}, "error not-delegated "},
		"parents differ": {func(_ *Zone, d *Delegation, _ []Apex) {
			d.Answers = append(d.Answers, Referral{From: "192.0.2.2:53", Rcode: "NOERROR"})
		}, "warn parents-disagree "},
		"a site missing": {func(_ *Zone, d *Delegation, a []Apex) {
			d.Answers[0].NS, d.Answers[0].Glue, d.Servers = d.Answers[0].NS[:1], d.Answers[0].Glue[:1], d.Servers[:1]
			a[0].NS, a[1].NS = a[0].NS[:1], a[0].NS[:1]
		}, "error ns-missing ; warn one-server "},
		"one too many": {func(_ *Zone, d *Delegation, a []Apex) {
			extra(d, "ns3.elsewhere.example.", "198.51.100.3")
			a[0].NS, a[1].NS = d.Answers[0].NS, d.Answers[0].NS
		}, "error ns-extra "},
		"apex differs": {func(_ *Zone, _ *Delegation, a []Apex) { a[1].NS = a[1].NS[:1] }, "error ns-apex " + two},
		"no glue":      {func(_ *Zone, d *Delegation, _ []Apex) { d.Answers[0].Glue = d.Answers[0].Glue[:1] }, "error glue-missing " + parent},
		"wrong glue": {func(_ *Zone, d *Delegation, _ []Apex) {
			d.Answers[0].Glue = []Glue{d.Answers[0].Glue[0], {"ns2.example.org.", netip.MustParseAddr("203.0.113.99")}}
		}, "error glue-wrong " + parent},
		"more glue": {func(_ *Zone, d *Delegation, _ []Apex) {
			d.Answers[0].Glue = append(d.Answers[0].Glue, Glue{"ns2.example.org.", netip.MustParseAddr("203.0.113.99")})
		}, "error glue-wrong " + parent},
		"lame": {func(_ *Zone, d *Delegation, _ []Apex) {
			d.Servers[1].Authoritative, d.Servers[1].Rcode = false, "REFUSED"
		}, "error ns-lame 203.0.113.53"},
		"silent": {func(_ *Zone, d *Delegation, _ []Apex) {
			d.Servers[1].Authoritative, d.Servers[1].Error = false, "timeout"
		}, "error ns-silent 203.0.113.53"},
		"no address":  {func(_ *Zone, d *Delegation, _ []Apex) { d.Servers = nil }, "error ns-silent "},
		"one address": {func(_ *Zone, d *Delegation, _ []Apex) { d.Servers[1].Address = d.Servers[0].Address }, "warn one-server "},
		"DS, no key":  {func(_ *Zone, d *Delegation, _ []Apex) { d.Answers[0].ds = []*mdns.DS{ds} }, "error ds " + one + "; error ds " + two},
		"DS and key": {func(_ *Zone, d *Delegation, a []Apex) {
			d.Answers[0].ds, a[0].keys, a[1].keys = []*mdns.DS{wrong, ds}, []*mdns.DNSKEY{key}, []*mdns.DNSKEY{key}
		}, ""},
		"DS of another": {func(_ *Zone, d *Delegation, a []Apex) {
			d.Answers[0].ds, a[0].keys, a[1].keys = []*mdns.DS{wrong}, []*mdns.DNSKEY{key}, []*mdns.DNSKEY{key}
		}, "error ds " + one + "; error ds " + two},
		"key, no DS": {func(_ *Zone, _ *Delegation, a []Apex) {
			a[0].keys, a[1].keys = []*mdns.DNSKEY{key}, []*mdns.DNSKEY{key}
		}, "warn ds " + one + "; warn ds " + two},
		"DS unknown": {func(_ *Zone, d *Delegation, _ []Apex) { d.Answers[0].DSError = "timeout" }, "warn ds " + parent},

		"by address":          {func(z *Zone, _ *Delegation, _ []Apex) { byAddress(z) }, ""},
		"by address, missing": {func(z *Zone, d *Delegation, _ []Apex) { byAddress(z); z.Servers[1].Address = "203.0.113.54:53" }, "warn ns-extra 203.0.113.53; warn ns-missing 203.0.113.54:53"},
		"by address, hidden": {func(z *Zone, d *Delegation, _ []Apex) {
			byAddress(z)
			z.Servers = append(z.Servers, Server{Server: dns.Server{Address: "10.0.0.1:53"}, Hidden: true})
		}, ""},
		"by address, extra": {func(z *Zone, d *Delegation, a []Apex) {
			byAddress(z)
			extra(d, "ns3.elsewhere.example.", "198.51.100.3")
			a[0].NS, a[1].NS = d.Answers[0].NS, d.Answers[0].NS
		}, "warn ns-extra 198.51.100.3"},
		"of both kinds, known": {func(z *Zone, d *Delegation, a []Apex) {
			z.Servers = append(z.Servers, Server{Server: dns.Server{Address: "198.51.100.3:53"}})
			extra(d, "ns3.elsewhere.example.", "198.51.100.3")
			a[0].NS, a[1].NS = d.Answers[0].NS, d.Answers[0].NS
		}, ""},
	} {
		z, d, apexes := sample(), delegated(), well()
		z.Names = nil
		c.change(&z, d, apexes)
		for len(apexes) < len(z.Servers) {
			apexes = append(apexes, apexes[0])
		}
		if got := judged(z, ZoneReport{Servers: apexes, Delegation: d}, memory{}, noon); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func newKey(t testing.TB) *mdns.DNSKEY {
	t.Helper()
	k := &mdns.DNSKEY{Hdr: mdns.RR_Header{Name: zone, Rrtype: mdns.TypeDNSKEY, Class: mdns.ClassINET}, Flags: 257, Protocol: 3, Algorithm: mdns.ECDSAP256SHA256}
	if _, err := k.Generate(256); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestPlanIsValidated(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Plan){
		"a negative timeout":  func(p *Plan) { p.Timeout = -1 },
		"missing port":        func(p *Plan) { p.Resolvers = []string{"192.0.2.1"} },
		"too many colons":     func(p *Plan) { p.Parents = []string{"::1"} },
		"zone: name":          func(p *Plan) { p.Zones[0].Name = "example.org" },
		"server: address":     func(p *Plan) { p.Zones[0].Servers[0].Address = "ns1" },
		"name shop.example.o": func(p *Plan) { p.Zones[0].Names[0].Targets = nil },
	} {
		p := Plan{Zones: []Zone{sample()}}
		change(&p)
		if _, err := New(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// Within an epoch the later turn is in force: an authority that still tells the
// one before is behind, not at odds.
func TestTurnsAreCompared(t *testing.T) {
	turned := at(two, Authority, 7, "dr", 5)
	turned.Turn = 2
	r := ZoneReport{Servers: well(), Names: []NameReport{{Answers: []Answer{at(one, Authority, 7, "primary", 5), turned}}}}
	if got := judged(sample(), r, memory{}, time.Time{}); got != "error behind "+one {
		t.Errorf("judged %q", got)
	}
	if n := r.Names[0]; n.Epoch != 7 || n.Turn != 2 || n.Site != "dr" {
		t.Errorf("in force is %+v", n)
	}
}
