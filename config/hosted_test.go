package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

func TestHosted(t *testing.T) {
	c := loadGood(t, "testdata/good/hosted.toml")
	for id, want := range map[string]config.Hosted{
		"aws": {Credentials: "/srv/aws.credentials", ZoneID: "/hostedzone/Z1D633PJN98FT9", Authorities: []string{"192.0.2.60:53", "192.0.2.61:53"}, Lag: time.Minute},
		"cf": {Credentials: "/etc/draas/cf.credentials", ZoneID: "023e105f4ecef8ad9ca31a8372d0c353", Authorities: []string{"192.0.2.62:53"},
			Lag: 10 * time.Second, Late: 8 * time.Second},
		"dyn": {Credentials: "/srv/dyn.credentials", Endpoint: "https://dynupdate.example.net:8443/nic/update", CA: "/srv/dyn-ca.crt",
			Authorities: []string{"[2001:db8::53]:53"}, Lag: 90 * time.Second, Late: 5 * time.Second},
		"os": {Credentials: "/srv/clouds.yaml", Cloud: "Acme_DNS", Region: "RegionOne", Domain: "elsewhere", Authorities: []string{"192.0.2.63:53"},
			Lag: 30 * time.Second, Late: 5 * time.Second},
	} {
		z := c.At("/srv").DNS[id]
		if fmt.Sprintf("%+v", z.Hosted) != fmt.Sprintf("%+v", want) || !z.IsHosted() || z.Compares() != (id == "aws") {
			t.Errorf("%s: %+v, want %+v", id, z.Hosted, want)
		}
	}
	if n, d := c.DNS["aws"].MovesPerHour(), c.DNS["cf"].MovesPerHour(); n != 6 || d != config.DefaultMoves {
		t.Errorf("%d and %d moves an hour", n, d)
	}
	shop, _ := c.Service("shop")
	if got := shop.DNS.Zones(); !slices.Equal(got, []string{"aws", "cf"}) {
		t.Errorf("shop is in %v", got)
	}
	wantNotes := []string{"dns.cf: cloudflare compares nothing", "dns.dyn: dyndns2 compares nothing and keeps no epoch", "dns.os: designate compares nothing"}
	notes := c.Notes()
	for _, w := range wantNotes {
		if !slices.ContainsFunc(notes, func(n string) bool { return strings.HasPrefix(n, w) }) {
			t.Errorf("no note %q in\n%s", w, strings.Join(notes, "\n"))
		}
	}
	near := parse(t, strings.NewReplacer("\"elsewhere\"", "\"a\"", "automatic = true\n", "").Replace(read(t, "testdata/good/hosted.toml")))
	want := "dns.os: the service stands in the failure domain of a: when that is lost, no name of os.example.org. can be moved"
	if !slices.Contains(near.Notes(), want) {
		t.Errorf("no note %q in\n%s", want, strings.Join(near.Notes(), "\n"))
	}
}

// A service that compares nothing is left alone for a while, at the same time
// as a lost site's lease runs out; the slower of two providers counts.
func TestRTOAtDNSServices(t *testing.T) {
	c := loadGood(t, "testdata/good/hosted.toml")
	term := func(id draas.ServiceID, disaster, name string) config.Term {
		t.Helper()
		for _, r := range c.RTO(id) {
			for _, term := range r.Terms {
				if r.Disaster == disaster && term.Name == name {
					return term
				}
			}
		}
		t.Fatalf("%s: no term %s", id, name)
		return config.Term{}
	}
	// Four election times of 300 ms, a request, cf's late; 1.1/0.9 for clocks.
	times := 1200*time.Millisecond + 5*time.Second + 8*time.Second
	whole := times * 11 / 9
	for disaster, beside := range map[string]string{"site lost": "lease", "service dead": "fence"} {
		other := term("shop", disaster, beside)
		got := term("shop", disaster, "quarantine")
		if (got.Worst-(whole-other.Worst)).Abs() > time.Microsecond || (got.Typical-(whole-other.Typical)).Abs() > time.Microsecond || got.Sets != "dns.cf.late" || other.Worst == 0 {
			t.Errorf("%s: quarantine %+v beside %+v, want %v in all", disaster, got, other, whole)
		}
		if got := term("shop", disaster, "secondaries"); got.Worst != time.Minute || got.Sets != "dns.aws.lag" {
			t.Errorf("%s: %+v", disaster, got)
		}
	}
}

// Servers that have copies of an embedded zone.
func TestCopies(t *testing.T) {
	text := strings.Replace(read(t, "testdata/good/whole.toml"), "zone = \"z.example.\"\n",
		"zone = \"z.example.\"\nsecondaries = [\"192.0.2.55:53\", \"192.0.2.54:53\"]\ntransfer_from = [\"192.0.2.0/24\"]\nkey_file = \"dns.key\"\nrevision = 7\nexpire = \"12h\"\n", 1)
	c := parse(t, text)
	z := c.At("/srv").DNS["z"]
	want := config.Copies{Secondaries: []string{"192.0.2.54:53", "192.0.2.55:53"}, From: z.Copies.From, KeyFile: "/srv/dns.key",
		Lag: 5 * time.Second, Refresh: time.Minute, Expire: 12 * time.Hour, Revision: 7}
	if fmt.Sprintf("%+v", z.Copies) != fmt.Sprintf("%+v", want) || fmt.Sprint(z.Copies.From) != "[192.0.2.0/24]" {
		t.Errorf("%+v, want %+v", z.Copies, want)
	}
	if lag, sets := z.Lag(); lag != 5*time.Second || sets != "dns.z.secondary_lag" {
		t.Errorf("lag %v by %s", lag, sets)
	}
	if plain := parse(t, read(t, "testdata/good/whole.toml")).DNS["z"].Copies; fmt.Sprintf("%+v", plain) != fmt.Sprintf("%+v", config.Copies{}) {
		t.Errorf("without secondaries: %+v", plain)
	}
	note := "dns.z: secondaries know of no permit: one that hears nothing any more answers on for 12h (expire)"
	if notes := c.Notes(); !slices.Contains(notes, note) {
		t.Errorf("no note %q in\n%s", note, strings.Join(notes, "\n"))
	}
	signed := parse(t, strings.Replace(read(t, "testdata/good/whole.toml"), "zone = \"z.example.\"\n", "zone = \"z.example.\"\ndnssec_keys = \"keys\"\nzone_file = \"z.zone\"\n", 1))
	if z := signed.At("/srv").DNS["z"]; z.SigningKeys != "/srv/keys" || z.File != "/srv/z.zone" || z.Validity != 7*24*time.Hour {
		t.Errorf("keys in %s, valid for %v", z.SigningKeys, z.Validity)
	}
	for key, wrong := range map[string]string{
		"signatures = \"2h\"": "dns.z.signatures: the zone is not signed",
		"dnssec_keys = \"k\"\ntransfer_from = [\"192.0.2.1/32\"]": "dns.z.dnssec_keys: a zone that is signed here cannot have secondaries",
		"revision = 7": "dns.z.revision: nobody has a copy of the zone", "refresh = \"2m\"": "dns.z.refresh: nobody has a copy",
		"secondary_lag = \"2s\"":                                 "dns.z.secondary_lag: there are no secondaries that could lag",
		"key_file = \"k\"\nexpire = \"1m\"\nrefresh = \"1m\"":    "dns.z.expire: a copy would end (1m) before it is asked for anew (1m)",
		"transfer_from = [\"192.0.2.1/24\", \"ns.example.org\"]": "has bits behind its length",
	} {
		bad := strings.Replace(read(t, "testdata/good/whole.toml"), "zone = \"z.example.\"\n", "zone = \"z.example.\"\n"+key+"\n", 1)
		if _, err := config.Parse("x.toml", []byte(bad)); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v, want %q", key, err, wrong)
		}
	}
}
