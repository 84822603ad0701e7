package config

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// withSync adds clouds to the sites of the sample, and text behind it.
func withSync(t *testing.T, text string) (*Config, error) {
	t.Helper()
	base, err := os.ReadFile("../etc/failover.toml")
	if err != nil {
		t.Fatal(err)
	}
	whole := strings.Replace(string(base), "[member.primary]\n", "[member.primary]\ncloud = \"east\"\n", 1)
	whole = strings.Replace(whole, "[member.dr]\n", "[member.dr]\ncloud = \"west\"\n", 1)
	return Parse("failover.toml", []byte(whole+text))
}

func TestSyncDefaults(t *testing.T) {
	c, err := withSync(t, "[sync]\nfollows = \"shop\"\nclouds_file = \"clouds.yaml\"\n")
	if err != nil {
		t.Fatal(err)
	}
	s := c.At("/etc/draas").Sync
	if s.CloudsFile != "/etc/draas/clouds.yaml" || !strings.HasSuffix(s.State, "/sync.db") || s.Every != 30*time.Second || s.Audit != "17 3 * * *" ||
		s.Missing != 2 || s.Grace != 10*time.Minute || s.BrakeObjects != 10 || s.BrakeShare != 0.1 || s.Workers != 16 || s.Streams != 4 || s.Plain {
		t.Errorf("%+v", s)
	}
	if s.Follows != "shop" || s.EnableUsers != UsersByCommand {
		t.Errorf("follows %q, users are enabled by %q", s.Follows, s.EnableUsers)
	}
	if want := map[draas.SiteID]string{"primary": "east", "dr": "west"}; !reflect.DeepEqual(s.Clouds, want) {
		t.Errorf("clouds %v, want %v", s.Clouds, want)
	}
	if s.PolicyOf("image", PolicyOverwrite) {
		t.Error("overwrites without being told to")
	}
}

func TestSyncWhole(t *testing.T) {
	c, err := withSync(t, `
[sync]
follows = "shop"
clouds_file = "/c.yaml"
schedule = "CRON_TZ=Europe/Berlin */5 * * * *"
audit = "@daily"
kinds = ["network", "subnet"]
except = ["acme/scratch-*"]
given.user = ["monitoring"]
policy.default = ["overwrite"]
policy.network = ["adopt", "overwrite"]
policy.image = ["report"]
enable_users = "move"
brake_share = 0.5
segment_above = "2GiB"
segment_size = "1GiB"
answer_timeout = "90s"
upload_timeout = "20m"
[sync.map.network.internet]
primary = "public"
dr = "ext-net"
[sync.rate.day]
from = "07:00"
to = "19:00"
bytes = "20MiB"
[sync.rate.swift]
service = "object-store"
requests = 200
`)
	if err != nil {
		t.Fatal(err)
	}
	s := c.Sync
	if want := []SyncMapping{{Kind: "network", Name: "internet", At: map[draas.SiteID]string{"primary": "public", "dr": "ext-net"}}}; !reflect.DeepEqual(s.Map, want) {
		t.Errorf("map %+v", s.Map)
	}
	if want := []SyncRate{{Name: "day", From: "07:00", To: "19:00", Bytes: 20 << 20}, {Name: "swift", Service: "object-store", Requests: 200}}; !slices.Equal(s.Rates, want) {
		t.Errorf("rates %+v", s.Rates)
	}
	for _, p := range []struct {
		kind, word string
		want       bool
	}{
		{"subnet", PolicyOverwrite, true}, {"subnet", PolicyAdopt, false}, {"network", PolicyAdopt, true},
		{"network", PolicyOverwrite, true}, {"image", PolicyOverwrite, false},
	} {
		if got := s.PolicyOf(p.kind, p.word); got != p.want {
			t.Errorf("%s for %s: %t, want %t", p.word, p.kind, got, p.want)
		}
	}
	if !slices.Equal(s.Given["user"], []string{"monitoring"}) || s.Schedule == "" || s.BrakeShare != 0.5 || s.SegmentAbove != 2<<30 || s.SegmentSize != 1<<30 ||
		s.AnswerTimeout != 90*time.Second || s.UploadTimeout != 20*time.Minute || s.EnableUsers != UsersByMove {
		t.Errorf("%+v", s)
	}
}

func TestSyncProblems(t *testing.T) {
	for _, p := range []struct{ text, want string }{
		{"every = \"1m\"\nschedule = \"@daily\"", "every says already when runs begin"},
		{"schedule = \"every day\"", "is not a cron expression"},
		{"schedule = \"@every 1s\"", "is not a cron expression"},
		{"schedule = \"61 * * * *\"", "is not a cron expression"},
		{"kinds = [\"netwrok\"]", `did you mean "network"?`},
		{"policy.netwrok = [\"report\"]", "is not a kind of objects"},
		{"policy.network = [\"report\", \"adopt\"]", "report stands beside others"},
		{"policy.network = [\"rename\", \"adopt\"]", "beside each other"},
		{"policy.network = [\"fight\"]", `write a list of "report"`},
		{"given.usr = [\"x\"]", "is not a kind of objects"},
		{"map.netwrok.x = { primary = \"a\", dr = \"b\" }", "is not a kind of objects"},
		{"map.network.x = { primary = \"a\", moon = \"b\" }", "no site with a cloud is called so"},
		{"map.network.x = { primary = \"a\" }", "at one site only"},
		{"map.netwrok.x = { primary = \"a\", dr = \"b\" }\nmap.router.x = { primary = \"a\" }", "at one site only"},
		{"rate.day = { from = \"25:00\", to = \"26:00\" }", "is not a time of the day"},
		{"rate.day = { from = \"7:00\", to = \"19:00\" }", "is not a time of the day"},
		{"rate.day = { from = \"07:00\" }", "from stands without to"},
		{"rate.day = { service = \"swift\" }", "object-store"},
		{"segment_above = \"100MiB\"", "sync.segment_above: a segment of 256MiB is more than the 100MiB"},
		{"segment_size = \"2GiB\"", "sync.segment_size: a segment of 2GiB is more than the 1GiB"},
		{"segment_size = \"6GiB\"", "5GiB"},
	} {
		_, err := withSync(t, "[sync]\nfollows = \"shop\"\nclouds_file = \"clouds.yaml\"\n"+p.text+"\n")
		if err == nil || !strings.Contains(err.Error(), p.want) {
			t.Errorf("%s\n\tgives %v\n\twant  %s", p.text, err, p.want)
		}
	}
	if _, err := withSync(t, "[sync]\nfollows = \"shop\"\nevery = \"1m\"\n"); err == nil || !strings.Contains(err.Error(), "clouds_file: missing") {
		t.Errorf("without credentials: %v", err)
	}
}

// A cloud at a single site has nothing to be carried to, and a witness has none.
func TestSyncNeedsTwoClouds(t *testing.T) {
	base, err := os.ReadFile("../etc/failover.toml")
	if err != nil {
		t.Fatal(err)
	}
	for member, want := range map[string]string{"dr": "1 of the sites have a cloud", "witness": "a witness has no cloud"} {
		text := fmt.Sprintf("[member.%s]", member)
		whole := strings.Replace(string(base), text, text+"\ncloud = \"x\"", 1) + "\n[sync]\nfollows = \"shop\"\nclouds_file = \"c.yaml\"\n"
		if _, err := Parse("failover.toml", []byte(whole)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", member, err, want)
		}
	}
}

// It has to be clear whose active site is the source: it is where there is but
// one that moves.
func TestSyncFollows(t *testing.T) {
	const file = "[sync]\nclouds_file = \"clouds.yaml\"\n"
	for _, p := range []struct{ text, want string }{
		{file, "sync.follows: missing"},
		{file + "follows = \"shpo\"\n", `did you mean "shop"?`},
		{file + "follows = \"mail\"\n", "write one of ldap, shop"},
		{file + "follows = \"Shop\"\n", "sync.follows"},
		{file + "follows = \"both\"\n[group.both]\nhome = \"primary\"\nservices = [\"shop\", \"ldap\"]\n", ""},
		{file + "follows = \"ldap\"\n[group.both]\nhome = \"primary\"\nservices = [\"shop\", \"ldap\"]\n", `it moves with its group: write "both"`},
		{file + "[group.both]\nhome = \"primary\"\nservices = [\"shop\", \"ldap\"]\n", ""},
	} {
		c, err := withSync(t, p.text)
		switch text := fmt.Sprint(err); {
		case p.want == "" && strings.Contains(text, "follows"):
			t.Errorf("%s\n\tgives %v", p.text, err)
		case p.want == "" && err == nil && c.Sync.Follows != "both":
			t.Errorf("%s\n\tfollows %q", p.text, c.Sync.Follows)
		case p.want != "" && !strings.Contains(text, p.want):
			t.Errorf("%s\n\tgives %v\n\twant  %s", p.text, err, p.want)
		}
	}
}

// What [sync] follows needs no command to say how far its copy is behind, and a
// bound that no run can keep is refused.
func TestSyncSaysHowFarBehind(t *testing.T) {
	whole := func(loss, follows, more string) error {
		base, err := os.ReadFile("../etc/failover.toml")
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(base), "[member.primary]\n", "[member.primary]\ncloud = \"east\"\n", 1)
		text = strings.Replace(text, "[member.dr]\n", "[member.dr]\ncloud = \"west\"\n", 1)
		text = strings.Replace(text, "[service.ldap]\n", "[service.ldap]\nmax_data_loss = \""+loss+"\"\n", 1)
		_, err = Parse("failover.toml", []byte(text+"[sync]\nclouds_file = \"c.yaml\"\nfollows = \""+follows+"\"\n"+more))
		return err
	}
	if err := whole("2m", "ldap", ""); err != nil {
		t.Errorf("followed: %v", err)
	}
	if err := whole("2m", "shop", ""); err == nil || !strings.Contains(err.Error(), "nothing says how far the copy is behind") {
		t.Errorf("not followed: %v", err)
	}
	if err := whole("20s", "ldap", ""); err == nil || !strings.Contains(err.Error(), "20s cannot be held") {
		t.Errorf("less than the pause between runs: %v", err)
	}
	if err := whole("20s", "ldap", "every = \"5s\"\n"); err != nil {
		t.Errorf("more often: %v", err)
	}
}

// A standby site of several has records of each source, for it follows one after
// the other.
func TestSyncStateOf(t *testing.T) {
	s := Sync{State: "/data/sync.db", Clouds: map[draas.SiteID]string{"primary": "a", "dr": "b"}}
	if got := s.StateOf("primary"); got != "/data/sync.db" {
		t.Errorf("of two: %s", got)
	}
	s.Clouds["third"] = "c"
	if a, b := s.StateOf("primary"), s.StateOf("third"); a == b || !strings.HasPrefix(a, "/data/sync.db") {
		t.Errorf("of three: %s and %s", a, b)
	}
}
