package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// cloudLab is a cluster whose sites have a cloud each.
type cloudLab struct {
	*lab
	clouds map[string]*fakecloud.Cloud // by site
}

// newCloudLab makes it; more stands in [sync], and inService in the service.
func newCloudLab(t *testing.T, more, inService string) *cloudLab {
	t.Helper()
	l := &cloudLab{newLabOf(t, "balanced"), map[string]*fakecloud.Cloud{
		"primary": fakecloud.New(t, fakecloud.Options{Seed: 1}), "dr": fakecloud.New(t, fakecloud.Options{Seed: 2})}}
	clouds := filepath.Join(l.dir, "clouds.yaml")
	if err := os.WriteFile(clouds, []byte("clouds:\n"+l.clouds["primary"].YAMLEntry("east")+l.clouds["dr"].YAMLEntry("west")), 0o600); err != nil {
		t.Fatal(err)
	}
	l.everywhere(func(text string) string {
		text = strings.Replace(text, "[member.primary]\n", "[member.primary]\ncloud = \"east\"\n", 1)
		text = strings.Replace(text, "[member.dr]\n", "[member.dr]\ncloud = \"west\"\n", 1)
		text = strings.Replace(text, "[service.web]\n", "[service.web]\n"+inService, 1)
		return text + fmt.Sprintf("\n[sync]\nclouds_file = %q\nplain = true\nevery = \"1s\"\nkinds = [\"domain\", \"project\", \"user\"]\nworkers = 1\n%s", clouds, more)
	})
	return l
}

// sync is what a member says of the replication; nil: it does not answer.
func (l *cloudLab) sync(member string) *api.Sync {
	s, err := l.client(member).Sync(l.t.Context())
	if err != nil {
		return nil
	}
	return s
}

func (l *cloudLab) awaitSync(member, what string, ok func(*api.Sync) bool) {
	l.t.Helper()
	var last *api.Sync
	defer func() {
		if l.t.Failed() {
			l.t.Logf("%s says %+v", member, last)
		}
	}()
	l.await(what, time.Minute, func() bool {
		last = l.sync(member)
		return last != nil && ok(last)
	})
}

func (l *cloudLab) has(site, project string) bool {
	out, err := l.clouds[site].Hand().Do(fakecloud.Identity, http.MethodGet, "projects?name="+project, nil)
	if err != nil {
		l.t.Error(err)
	}
	all, _ := out["projects"].([]any)
	return len(all) == 1
}

// canLogIn tells of a user of a site's cloud.
func (l *cloudLab) canLogIn(site, user string) bool {
	out, err := l.clouds[site].Hand().Do(fakecloud.Identity, http.MethodGet, "users?name="+user, nil)
	if err != nil {
		l.t.Error(err)
	}
	all, _ := out["users"].([]any)
	if len(all) != 1 {
		return false
	}
	u, _ := all[0].(map[string]any)
	return u["enabled"] == true
}

// lose stops all that primary has, but for its cloud.
func (l *cloudLab) lose() {
	l.t.Helper()
	for _, part := range []string{"daemon primary", "guard primary", "service primary"} {
		if err := l.stop(part); err != nil {
			l.t.Fatal(err)
		}
	}
}

// history is what it says of a kind, of all moves.
func (l *cloudLab) history(kind failover.RecordKind) string {
	l.t.Helper()
	records, err := l.client("witness").History(l.t.Context(), "web", 1000)
	if err != nil {
		l.t.Fatal(err)
	}
	var texts []string
	for _, r := range records {
		if r.Kind == kind {
			texts = append(texts, r.Text)
		}
	}
	return strings.Join(texts, "\n")
}

// The site that stands by pulls. A planned move ends that within one write; then
// the other way waits until a person has accepted what differs.
func TestReplicationFollowsTheEpoch(t *testing.T) {
	t.Parallel()
	l := newCloudLab(t, "", "")
	east, west := l.clouds["primary"], l.clouds["dr"]
	east.Hand().Make("project", fakecloud.Fields{"name": "acme"})
	l.startAll()
	l.activateWithin(20 * time.Second)
	l.awaitSync("dr", "what primary has comes to dr", func(s *api.Sync) bool { return s.Known && s.Source == "primary" && l.has("dr", "acme") })
	if s := l.sync("primary"); s.Source != "" || !strings.Contains(s.Idle, "this site's cloud is the source") {
		t.Errorf("primary carries: %+v", s)
	}
	if s := l.sync("witness"); s == nil || !strings.Contains(s.Idle, "witness") {
		t.Errorf("the witness says %+v", s)
	}
	if _, err := l.client("dr").TriggerSync(t.Context(), api.SyncTrigger{Audit: true}); err != nil {
		t.Error(err)
	}
	l.awaitSync("dr", "all is read", func(s *api.Sync) bool { return s.Last != nil && s.Last.Why == syncer.Audited })
	if _, err := l.client("primary").TriggerSync(t.Context(), api.SyncTrigger{}); err == nil || !strings.Contains(err.Error(), "is the source") {
		t.Errorf("asked to carry to the active site: %v", err)
	}
	if s := l.status("witness"); s.Reported[0].Sync == nil || s.Reported[0].Sync.Source != "primary" || s.Reported[1].Sync.Source != "" || s.Reported[2].Sync != nil {
		t.Errorf("reported: %+v", s.Reported)
	}

	l.switchInMidst(east, west)

	l.awaitSync("primary", "the other way waits for a person", func(s *api.Sync) bool { return s.Held != "" && s.Source == "dr" && !s.Known })
	l.await("primary warns of that", 10*time.Second, func() bool {
		return strings.Contains(strings.Join(l.status("primary").Warnings, "\n"), "draasd sync run --accept")
	})
	west.Hand().Make("project", fakecloud.Fields{"name": "made-in-dr"})
	l.accept()
	l.awaitSync("primary", "what dr has comes to primary", func(s *api.Sync) bool { return s.Known && s.Held == "" && l.has("primary", "made-in-dr") })
	if got := l.history(failover.RecordFinding); !strings.Contains(got, "expected loss (sync): the copy of primary's cloud was ") {
		t.Errorf("the history does not say how far the copy was behind: %s", got)
	}
}

// switchInMidst moves the service while much is to be written.
func (l *cloudLab) switchInMidst(east, west *fakecloud.Cloud) {
	t := l.t
	const many = 100
	var writes, backwards atomic.Int32
	count := func(n *atomic.Int32) func(fakecloud.Request) {
		return func(r fakecloud.Request) {
			if r.Method != http.MethodGet && r.Method != http.MethodHead && !strings.HasSuffix(r.Path, "/auth/tokens") {
				n.Add(1)
			}
		}
	}
	west.Inject(fakecloud.Fault{Service: fakecloud.Identity, Method: http.MethodPost, Path: "/projects$", What: fakecloud.Pass, Delay: 300 * time.Millisecond})
	stop := west.OnRequest(count(&writes))
	defer stop()
	stopBack := east.OnRequest(count(&backwards))
	defer stopBack()
	for i := range many {
		east.Hand().Make("project", fakecloud.Fields{"name": fmt.Sprintf("p%03d", i)})
	}
	backwards.Store(0) // ours
	l.await("writes", time.Minute, func() bool { return writes.Load() >= 2 })
	if a := l.request("dr", api.Request{Site: "dr", Request: failover.Request{Move: failover.MoveSwitchover}}); !a.Accepted {
		t.Fatalf("switchover refused: %+v", a.Record)
	}
	l.awaitSync("dr", "dr carries no more", func(s *api.Sync) bool { return s.Source == "" })
	before := writes.Load()
	l.awaitPhase(failover.PhaseElsewhere, 30*time.Second)
	if after := writes.Load(); after > before+1 || after >= many {
		t.Errorf("%d writes when the move began, and %d when it was done", before, after)
	}
	if n := backwards.Load(); n != 0 {
		t.Errorf("%d writes to the source", n)
	}
}

// accept does what draasd sync run --accept keep does.
func (l *cloudLab) accept() {
	t := l.t
	t.Helper()
	cfg, err := Load(l.file("primary"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenReplication(t.Context(), cfg, "dr", "primary", nil, l.log)
	if err != nil {
		t.Fatal(err)
	}
	_, err = r.Run(t.Context(), syncer.Options{Epoch: uint64(l.service("primary").Epoch), Accept: &syncer.Turn{Default: syncer.ChooseKeep}})
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
}

// A replication that has stopped starts no move, and keeps none from being made.
func TestStoppedSyncIsNoDisaster(t *testing.T) {
	t.Parallel()
	l := newCloudLab(t, "", "")
	l.clouds["primary"].Hand().Make("project", fakecloud.Fields{"name": "acme"})
	l.startAll()
	l.activateWithin(20 * time.Second)
	l.awaitSync("dr", "what primary has comes to dr", func(s *api.Sync) bool { return s.Known && l.has("dr", "acme") })
	for _, c := range l.clouds {
		c.Kill()
	}
	l.awaitSync("dr", "runs fail", func(s *api.Sync) bool { return s.Failures >= 2 && s.Error != "" })
	if sv := l.service("witness"); sv.Phase != failover.PhaseNormal || sv.Epoch != 1 {
		t.Fatalf("dead clouds moved the service: %+v", sv)
	}
	l.lose()
	l.awaitPhase(failover.PhaseElsewhere, 30*time.Second)
	l.await("the history has the loss", 10*time.Second, func() bool {
		return strings.Contains(l.history(failover.RecordFinding), "expected loss (sync): the copy of primary's cloud was ")
	})
}

// A copy that is further behind than may be lost keeps an automatic move from
// being made, as one does of which a command says so.
func TestSyncHoldsAMoveUp(t *testing.T) {
	t.Parallel()
	l := newCloudLab(t, "", "max_data_loss = \"4s\"\n")
	l.startAll()
	l.activateWithin(20 * time.Second)
	lag := func() *api.Lag {
		if sv := l.service("witness"); sv != nil && len(sv.Lags) == 1 {
			return &sv.Lags[0]
		}
		return nil
	}
	l.await("the log knows how far the copy is behind", time.Minute, func() bool { g := lag(); return g != nil && g.Known && g.Site == "dr" })
	l.clouds["primary"].Kill()
	l.await("it falls behind", time.Minute, func() bool { return time.Duration(lag().BehindMS)*time.Millisecond > 4*time.Second })
	l.lose()
	l.awaitPhase(failover.PhaseConfirmed, 30*time.Second)
	l.await("the move is refused", 10*time.Second, func() bool {
		y, err := l.client("dr").Why(t.Context(), "web")
		if err != nil {
			return false
		}
		for _, r := range y.Now {
			if r.Code == failover.ReasonLoss {
				return !r.OK && strings.Contains(r.Text, "the copy at dr is ")
			}
		}
		return false
	})
	ask := api.Request{Site: draas.SiteID("dr"), Request: failover.Request{Move: failover.MoveFailover, AllowDataLoss: true, Vouch: true}}
	l.await("a person allows it", 20*time.Second, func() bool { return l.request("dr", ask).Accepted })
	l.awaitPhase(failover.PhaseElsewhere, 30*time.Second)
}

// The member of the site that has taken over enables the users that came there,
// with its own cloud only; that it fails at first holds no move up.
func TestUsersAtTheFailover(t *testing.T) {
	t.Parallel()
	l := newCloudLab(t, "enable_users = \"move\"\n", "")
	east, west := l.clouds["primary"], l.clouds["dr"]
	for _, name := range []string{"ada", "eve"} {
		east.Hand().Make("user", fakecloud.Fields{"name": name, "domain_id": "default", "enabled": name == "ada"})
	}
	l.startAll()
	l.activateWithin(20 * time.Second)
	l.awaitSync("dr", "what primary has comes to dr", func(s *api.Sync) bool { return s.Known && west.Count("user") == east.Count("user") })
	if l.canLogIn("dr", "ada") {
		t.Error("a copy can log in at the site that stands by")
	}
	west.Inject(fakecloud.Fault{Service: fakecloud.Identity, Method: http.MethodPatch, Path: "/users/", Status: http.StatusForbidden, Times: 2})
	east.Kill()
	l.lose()
	l.awaitPhase(failover.PhaseElsewhere, 30*time.Second)
	l.await("dr says that it fails", 20*time.Second, func() bool {
		s := l.sync("dr")
		return s != nil && s.Users != nil && s.Users.Failures == 1 && strings.Contains(s.Users.Error, "2 of 2 users could not be changed")
	})
	l.await("the history has it", 30*time.Second, func() bool {
		return strings.Contains(l.history(failover.RecordFinding), "enabled (sync users): 1 of the 2 users that draas made at dr: 1 of them can log in now")
	})
	if !l.canLogIn("dr", "ada") || l.canLogIn("dr", "eve") {
		t.Error("who could log in cannot, or who could not can")
	}
}
