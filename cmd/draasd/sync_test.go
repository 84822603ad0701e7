package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// twoClouds are the clouds of primary and dr, and the file that names them.
type twoClouds struct {
	primary, dr *fakecloud.Cloud
	file        string
}

func newTwoClouds(t *testing.T) twoClouds {
	t.Helper()
	c := twoClouds{fakecloud.New(t, fakecloud.Options{Seed: 1}), fakecloud.New(t, fakecloud.Options{Seed: 2}), filepath.Join(t.TempDir(), "failover.toml")}
	sample, err := os.ReadFile("../../etc/failover.toml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(sample), "[member.primary]\n", "[member.primary]\ncloud = \"east\"\n", 1)
	text = strings.Replace(text, "[member.dr]\n", "[member.dr]\ncloud = \"west\"\n", 1)
	text = regexp.MustCompile(`(?m)^data .*$`).ReplaceAllString(text, `data = "data"`)
	text += "\n[sync]\nfollows = \"shop\"\nclouds_file = \"clouds.yaml\"\nstate = \"sync.db\"\nmissing = 1\ngrace = \"0s\"\n"
	for path, text := range map[string]string{
		c.file: text,
		filepath.Join(filepath.Dir(c.file), "clouds.yaml"): "clouds:\n" + c.primary.YAMLEntry("east") + c.dr.YAMLEntry("west"),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// sync runs draasd sync from primary to dr.
func (c twoClouds) sync(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := &program{stdout: &stdout, stderr: &stderr, now: time.Now, getenv: func(string) string { return "" }, server: server{load: daemon.Load},
		size: func(any) (int, int, bool) { return 0, 0, false }}
	code = p.run(t.Context(), append(append([]string{"sync"}, args...), "-c", c.file))
	return code, stdout.String(), stderr.String()
}

var fromTo = []string{"--from", "primary", "--to", "dr"}

// A plan shows what a run then does; a second run has nothing to do.
func TestSync(t *testing.T) {
	c := newTwoClouds(t)
	project := c.primary.Hand().Make("project", fakecloud.Fields{"name": "acme"})
	c.primary.Hand().Make("network", fakecloud.Fields{"name": "net", "project_id": project})
	code, out, errs := c.sync(t, append([]string{"plan"}, fromTo...)...)
	if code != exitOK {
		t.Fatalf("plan exits with %d: %s%s", code, out, errs)
	}
	for _, want := range []string{"from primary to dr", "+ acme (create)", "+ acme/net (create)", "after project", "to create"} {
		if !strings.Contains(out, want) {
			t.Errorf("the plan lacks %q:\n%s", want, out)
		}
	}
	if n := c.dr.Count("network"); n != 0 {
		t.Fatalf("a plan has made %d networks", n)
	}
	if code, _, errs := c.sync(t, append([]string{"run"}, fromTo...)...); code != exitUsage || !strings.Contains(errs, "--yes") {
		t.Errorf("a run by nobody's word exits with %d: %s", code, errs)
	}
	run := append([]string{"run", "--yes"}, fromTo...)
	if code, out, errs = c.sync(t, run...); code != exitOK {
		t.Fatalf("run exits with %d: %s%s", code, out, errs)
	}
	if n := c.dr.Count("network"); n != 1 {
		t.Errorf("dr has %d networks", n)
	}
	code, out, errs = c.sync(t, append(run, "--json")...)
	var again syncer.Result
	if err := json.Unmarshal([]byte(out), &again); err != nil || code != exitOK || again.Plan.Acts() != 0 {
		t.Errorf("a second run exits with %d (%v), and has something to do: %s%s", code, err, out, errs)
	}
	if code, out, _ := c.sync(t, "status"); code != exitOK || !strings.Contains(out, "dr is a copy of primary") || !strings.Contains(out, "behind") {
		t.Errorf("status exits with %d: %s", code, out)
	}
}

// What others changed at the target is shown by diff, and is exit code 3.
func TestSyncDiff(t *testing.T) {
	c := newTwoClouds(t)
	id := c.primary.Hand().Make("network", fakecloud.Fields{"name": "net", "description": "ours"})
	if code, out, errs := c.sync(t, append([]string{"run", "--yes"}, fromTo...)...); code != exitOK {
		t.Fatalf("run exits with %d: %s%s", code, out, errs)
	}
	diff := append([]string{"diff"}, fromTo...)
	if code, out, _ := c.sync(t, diff...); code != exitOK {
		t.Errorf("diff of what is alike exits with %d: %s", code, out)
	}
	if err := c.primary.Hand().Change("network", id, fakecloud.Fields{"description": "changed"}); err != nil {
		t.Fatal(err)
	}
	code, out, _ := c.sync(t, diff...)
	if code != exitDiffers || !strings.Contains(out, `"ours" -> "changed"`) {
		t.Errorf("diff exits with %d: %s", code, out)
	}
}

func TestSyncUsage(t *testing.T) {
	c := newTwoClouds(t)
	for _, u := range []struct {
		args []string
		want string
	}{
		{[]string{"pln"}, `did you mean "plan"?`},
		{[]string{"plan", "--from", "primary"}, "--from stands without --to"},
		{[]string{"plan", "--from", "primary", "--to", "witness"}, "want two sites with a cloud"},
		{append([]string{"plan", "--kind", "netwrok"}, fromTo...), `did you mean "network"?`},
		{append([]string{"run", "--yes", "--accept", "lose"}, fromTo...), "want keep, drop or merge"},
		{append([]string{"adopt", "network"}, fromTo...), "want: draasd sync adopt KIND SOURCE TARGET"},
		{append([]string{"adopt", "netwrk", "a", "b"}, fromTo...), `did you mean "network"?`},
		{append([]string{"run", "--yes", "--choose", "network"}, fromTo...), "want KIND=CHOICE"},
	} {
		if code, _, errs := c.sync(t, u.args...); code != exitUsage || !strings.Contains(errs, u.want) {
			t.Errorf("%q exits with %d, says %s want %s", u.args, code, errs, u.want)
		}
	}
	// Nobody to be asked.
	if code, _, errs := c.sync(t, "plan"); code != exitFailed || !strings.Contains(errs, "--from and --to say it") {
		t.Errorf("without a daemon: %d, %s", code, errs)
	}
}

// An object of the target's that has the name is a conflict until it is
// adopted; then it is kept alike, and the map says who made it.
func TestSyncAdopt(t *testing.T) {
	c := newTwoClouds(t)
	c.primary.Hand().Make("network", fakecloud.Fields{"name": "net", "description": "ours"})
	there := c.dr.Hand().Make("network", fakecloud.Fields{"name": "net", "description": "theirs"})
	run := append([]string{"run", "--yes"}, fromTo...)
	if code, out, _ := c.sync(t, run...); code != exitDiffers || !strings.Contains(out, "the name belongs to "+there) {
		t.Fatalf("run exits with %d: %s", code, out)
	}
	if code, out, _ := c.sync(t, append([]string{"verify"}, fromTo...)...); code != exitDiffers || !strings.Contains(out, "net") {
		t.Errorf("verify exits with %d: %s", code, out)
	}
	if code, out, errs := c.sync(t, append([]string{"adopt", "network", "admin/net", there}, fromTo...)...); code != exitOK || !strings.Contains(out, "never deleted") {
		t.Fatalf("adopt exits with %d: %s%s", code, out, errs)
	}
	if code, out, errs := c.sync(t, run...); code != exitOK {
		t.Fatalf("run exits with %d: %s%s", code, out, errs)
	}
	if now, err := c.dr.Hand().Show("network", there); err != nil || now["description"] != "ours" {
		t.Errorf("the network is %v, %v", now, err)
	}
	if code, out, _ := c.sync(t, "map", "network"); code != exitOK || !regexp.MustCompile(there+" +others").MatchString(out) {
		t.Errorf("map exits with %d: %s", code, out)
	}
	if code, out, errs := c.sync(t, append([]string{"verify"}, fromTo...)...); code != exitOK {
		t.Errorf("verify exits with %d: %s%s", code, out, errs)
	}
}

// What has to wait for the records says so once, and ends when nobody wants it
// any more.
func TestSyncWaitsForTheRecords(t *testing.T) {
	busy := fmt.Errorf("open: %w", syncer.ErrStoreBusy)
	for _, tt := range []struct {
		name     string
		wait     time.Duration
		freeFrom int // try
		endsAt   int
		tries    int
		err      error
	}{
		{"free", time.Minute, 1, 9, 1, nil},
		{"free later", time.Minute, 3, 9, 3, nil},
		{"too late", 9 * time.Second, 9, 9, 5, busy},
		{"interrupted", time.Minute, 9, 2, 2, busy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			var stderr bytes.Buffer
			now, tries := time.Now(), 0
			p := &program{stderr: &stderr, now: func() time.Time { return now }}
			_, err := whenFree(ctx, p, tt.wait, func() (int, error) {
				if tries++; tries >= tt.freeFrom {
					return tries, nil
				}
				if now = now.Add(2 * time.Second); tries == tt.endsAt {
					interrupt()
				}
				return 0, busy
			})
			if tries != tt.tries || !errors.Is(err, tt.err) {
				t.Errorf("%d tries: %v", tries, err)
			}
			if n := strings.Count(stderr.String(), "waiting"); n != min(1, tries-1) {
				t.Errorf("said %d times", n)
			}
		})
	}
}
