package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

func TestActivateFailoverAndBack(t *testing.T) {
	l := newLab(t)
	l.startAll()
	l.await("cluster ready", 10*time.Second, l.ready)
	if got := l.answer("primary") + l.answer("dr"); got != "" {
		t.Fatalf("%q answers before anything was activated", got)
	}
	l.activate()
	if l.answer("primary") != "primary" || l.answer("dr") != "" {
		t.Fatal("primary is not the one that serves")
	}
	if err := l.stop("service primary"); err != nil {
		t.Fatal(err)
	}
	l.awaitPhase(failover.PhaseElsewhere, 10*time.Second)
	if l.answer("dr") != "dr" || l.answer("primary") != "" {
		t.Fatal("dr is not the one that serves")
	}
	l.startService("primary")
	l.await("primary ready again", 5*time.Second, l.ready)
	a := l.request("witness", api.Request{Request: failover.Request{Move: failover.MoveFailback, Operator: "ann", Expect: 2}})
	if !a.Accepted {
		t.Fatalf("failback refused: %+v", a.Record)
	}
	l.awaitPhase(failover.PhaseNormal, 10*time.Second)
	if l.answer("primary") != "primary" || l.answer("dr") != "" {
		t.Fatal("primary does not serve after the failback")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	why, err := l.client("dr").Why(ctx, "web")
	if err != nil || len(why.Now) == 0 || len(why.Decisions) < 3 {
		t.Errorf("why: %+v, %v", why, err)
	}
	for _, r := range why.Decisions {
		if len(r.Reasons) == 0 {
			t.Errorf("%q has no reasons", r.Text)
		}
	}
}

// Every member restarts in turn; the log comes back, nobody else becomes
// active, and the service is served on.
func TestRestartOfEveryMember(t *testing.T) {
	l := newLabOf(t, "cautious")
	l.startAll()
	l.activate()
	for _, member := range []string{"witness", "dr", "primary"} {
		if err := l.stop("daemon " + member); err != nil {
			t.Fatalf("stop %s: %v", member, err)
		}
		l.startDaemon(member)
		l.await(member+" back with the decision", 10*time.Second, func() bool {
			sv := l.service(member)
			s := l.status(member)
			return sv != nil && sv.Active == "primary" && sv.Epoch == 1 && s.Leader != ""
		})
	}
	l.awaitPhase(failover.PhaseNormal, 10*time.Second)
	if l.answer("primary") != "primary" || l.answer("dr") != "" {
		t.Fatal("primary does not serve after the restarts")
	}
}

// The old primary's daemon is gone without a word: its guard closes by
// itself, the DR site takes over, and the old one comes back passive.
func TestDaemonGoneAndBack(t *testing.T) {
	l := newLab(t)
	l.startAll()
	l.activate()
	if err := l.stop("daemon primary"); err != nil {
		t.Fatal(err)
	}
	l.awaitPhase(failover.PhaseElsewhere, 15*time.Second)
	if l.answer("primary") != "" || l.answer("dr") != "dr" {
		t.Fatal("dr is not the one that serves")
	}
	l.startDaemon("primary")
	l.await("primary knows", 10*time.Second, func() bool {
		sv := l.service("primary")
		return sv != nil && sv.Active == "dr"
	})
	if l.answer("primary") != "" {
		t.Fatal("the old primary serves again")
	}
}

func TestSecondDaemonOnOneDataDirectory(t *testing.T) {
	l := newLab(t)
	l.startAll()
	l.activate()
	d, err := New(Options{ConfigPath: l.file("dr"), Log: l.log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := d.Run(ctx); !errors.Is(err, quorum.ErrLocked) {
		t.Fatalf("the second daemon ended with %v", err)
	}
	if s := l.status("dr"); s == nil || s.Leader == "" {
		t.Fatal("the first daemon was disturbed")
	}
}

// A copy of a member's whole directory, started elsewhere, gets nowhere: the
// peers dial the address in the file, and its own calls are refused.
func TestClonedMember(t *testing.T) {
	l := newLab(t)
	l.startAll()
	l.activate()
	clone := filepath.Join(l.dir, "clone")
	copyDir(t, filepath.Join(l.dir, "dr"), clone)
	// On its own machine the clone's ports would be free: here they are moved.
	file := filepath.Join(clone, "failover.toml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := freeBase(t)
	text := string(data)
	for off := range 40 {
		if off == 0 || off == 20 {
			continue // where it finds primary and witness
		}
		text = strings.ReplaceAll(text, fmt.Sprintf(":%d\"", l.base+off), fmt.Sprintf(":%d\"", other+off))
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	l.start("daemon clone", func(ctx context.Context) error {
		d, err := New(Options{ConfigPath: file, Log: l.log.With("clone", true)})
		if err != nil {
			return err
		}
		return d.Run(ctx)
	})
	epoch := l.service("witness").Epoch
	l.await("clone up", 10*time.Second, func() bool { return l.status("clone") != nil })
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		if s := l.status("clone"); s != nil && s.Leader != "" {
			t.Fatalf("the clone takes part: leader %s", s.Leader)
		}
		if sv := l.service("witness"); sv == nil || sv.Epoch != epoch || sv.Active != "primary" {
			t.Fatalf("the clone moved the service: %+v", sv)
		}
	}
	// On a machine that stalls a permit may run out, and comes back.
	l.await("the service is served", 5*time.Second, func() bool { return l.answer("primary") == "primary" })
	if sv := l.service("witness"); sv == nil || sv.Epoch != epoch {
		t.Fatalf("the clone moved the service: %+v", sv)
	}
}

func TestRunNeedsItsDataDirectory(t *testing.T) {
	l := newLab(t)
	if err := os.RemoveAll(filepath.Join(l.dir, "dr", "data")); err != nil {
		t.Fatal(err)
	}
	_, err := New(Options{ConfigPath: l.file("dr"), Log: l.log})
	if err == nil || !strings.Contains(err.Error(), "draasd init") {
		t.Fatalf("without a data directory: %v", err)
	}
	if err := os.Mkdir(filepath.Join(l.dir, "dr", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{ConfigPath: l.file("dr"), Log: l.log})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(context.Background()); !errors.Is(err, quorum.ErrNotBootstrapped) {
		t.Fatalf("with an empty data directory: %v", err)
	}
}

// Two operators ask for opposite moves at once: one is done, the other gets a
// reason.
func TestTwoOperators(t *testing.T) {
	l := newLabOf(t, "cautious")
	l.startAll()
	l.activate()
	answers := make(chan *api.Answer, 2)
	for _, r := range []api.Request{
		{Site: "dr", Request: failover.Request{Move: failover.MoveSwitchover, Operator: "ann", Expect: 1}},
		{Site: "primary", Request: failover.Request{Move: failover.MoveFailover, Operator: "bob", Expect: 1}},
	} {
		go func() { answers <- l.request("witness", r) }()
	}
	accepted := 0
	for range 2 {
		a := <-answers
		if a.Accepted {
			accepted++
		} else if len(a.Record.Reasons) == 0 {
			t.Errorf("refused without a reason: %+v", a.Record)
		}
	}
	if accepted == 0 {
		t.Error("both were refused")
	}
	l.await("settled", 15*time.Second, func() bool {
		sv := l.service("witness")
		return sv != nil && !sv.Phase.Moving()
	})
}

func TestGarbageOnTheAPI(t *testing.T) {
	l := newLab(t)
	l.startAll()
	l.await("cluster ready", 10*time.Second, l.ready)
	socket := filepath.Join(l.dir, "witness", "data", "draasd.sock")
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	for _, tc := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/v1/request", "{", 400},
		{"POST", "/v1/request", `{"service":"web","move":"switchover","nonsense":1}`, 400},
		{"POST", "/v1/request", `{"service":"` + strings.Repeat("x", api.MaxRequest) + `"}`, 400},
		{"POST", "/v1/request", `{}`, 400},
		{"GET", "/v1/request", "", 405},
		{"GET", "/v1/why?service=none", "", 404},
		{"GET", "/nothing", "", 404},
	} {
		req, err := http.NewRequest(tc.method, "http://draasd"+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", tc.method, tc.path, err)
			continue
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
		if res.StatusCode != tc.want {
			t.Errorf("%s %s %.40s: %d, want %d", tc.method, tc.path, tc.body, res.StatusCode, tc.want)
		}
	}
	if !l.ready() {
		t.Error("the daemon does not answer any more")
	}
}

func TestCheckHere(t *testing.T) {
	l := newLab(t)
	report, err := Check(l.file("primary"), true)
	if err != nil || !strings.Contains(report, "this is primary, a site") || !strings.Contains(report, "its certificate lives ") {
		t.Fatalf("%v\n%s", err, report)
	}
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", l.base))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := os.Chmod(filepath.Join(l.dir, "primary", "tls", "member.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = Check(l.file("primary"), true)
	if err == nil || !strings.Contains(err.Error(), "cannot listen") || !strings.Contains(err.Error(), "chmod 600") {
		t.Fatalf("not everything that is wrong is said: %v", err)
	}
}
