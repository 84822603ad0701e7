package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// process is a daemon of a binary of its own.
type process struct {
	cmd *exec.Cmd
}

func (l *lab) startProcess(binary, member string) *process {
	l.t.Helper()
	p := &process{exec.Command(binary, "run", "-c", l.file(member))}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = p.stop() })
	return p
}

// stop ends it in order; once more does nothing.
func (p *process) stop() error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.cmd.Wait()
}

// buildOlder builds draasd as of the version of the decision before this one,
// and draasd as it is.
func buildOlder(t *testing.T) (older, newer string) {
	t.Helper()
	dir := t.TempDir()
	source, err := filepath.Abs("../failover/event.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	line := fmt.Sprintf("const Version = %d\n", failover.Version)
	if strings.Count(string(text), line) != 1 {
		t.Fatalf("%s has no %q", source, line)
	}
	changed := filepath.Join(dir, "event.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), line, fmt.Sprintf("const Version = %d\n", failover.Version-1), 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o644); err != nil {
		t.Fatal(err)
	}
	older, newer = filepath.Join(dir, "older"), filepath.Join(dir, "newer")
	var builds sync.WaitGroup
	for binary, flags := range map[string][]string{older: {"-overlay", file}, newer: nil} {
		builds.Go(func() {
			args := append([]string{"build", "-o", binary}, append(flags, "../cmd/draasd")...)
			if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
				t.Errorf("go %v: %v\n%s", args, err, out)
			}
		})
	}
	builds.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return older, newer
}

// A running cluster is upgraded member by member, with a move in between. All
// decide by the older version until all can decide by the newer one; that it
// is in force is an entry of the log. No permit is lost.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	older, newer := buildOlder(t)
	l := newLabOf(t, "cautious")
	for _, site := range []string{"primary", "dr"} {
		l.startService(site)
		l.startGuard(site)
	}
	running := make(map[string]*process)
	for _, m := range []string{"primary", "dr", "witness"} {
		running[m] = l.startProcess(older, m)
	}
	l.await("cluster ready", 30*time.Second, l.ready)
	if a := l.request("primary", api.Request{Site: "primary", Request: failover.Request{Move: failover.MoveActivate}}); !a.Accepted {
		t.Fatalf("activate refused: %+v", a.Record)
	}
	l.awaitPhase(failover.PhaseNormal, 30*time.Second)

	upgrade := func(m string) {
		t.Helper()
		if err := running[m].stop(); err != nil {
			t.Fatalf("stop %s: %v", m, err)
		}
		running[m] = l.startProcess(newer, m)
		l.await(m+" is back", 30*time.Second, func() bool {
			s := l.status(m)
			return s != nil && s.Leader != "" && len(s.Services) == 1 && slices.ContainsFunc(s.Reported, func(r api.Reported) bool {
				return r.Member == draas.MemberID(m) && r.Version == failover.Version && r.InTouch
			})
		})
	}
	upgrade("witness")
	s := l.status("witness")
	if s.Version != failover.Version-1 || !strings.Contains(strings.Join(s.Warnings, "\n"), "dr runs an older draasd") {
		t.Errorf("with one of three upgraded it decides by version %d; warnings %q", s.Version, s.Warnings)
	}
	if _, err := l.client("witness").Request(t.Context(), api.Request{Service: "web", Site: "dr", Request: failover.Request{Ask: failover.AskEnter}}); err == nil || !strings.Contains(err.Error(), "older draasd: until it is upgraded enter cannot be asked for") {
		t.Errorf("what the older version does not know is asked for: %v", err)
	}
	l.await("dr ready", 30*time.Second, l.ready)
	if a := l.request("witness", api.Request{Site: "dr", Request: failover.Request{Move: failover.MoveSwitchover}}); !a.Accepted {
		t.Fatalf("switchover refused: %+v", a.Record)
	}
	l.awaitPhase(failover.PhaseElsewhere, 30*time.Second)
	stop := l.served("dr")
	upgrade("dr")
	if got := l.status("dr").Version; got != failover.Version-1 {
		t.Errorf("with two of three upgraded it decides by version %d", got)
	}
	upgrade("primary")
	for _, m := range []string{"primary", "dr", "witness"} {
		l.await("the newer version at "+m, 30*time.Second, func() bool { s := l.status(m); return s != nil && s.Version == failover.Version })
	}
	if asked, failed := stop(); failed > 0 || asked == 0 {
		t.Errorf("%d of %d users were not served", failed, asked)
	}
	if sv := l.service("witness"); sv.Active != "dr" || sv.Epoch != 2 {
		t.Errorf("at the end web is %+v", sv)
	}
	history, err := l.client("witness").History(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(history, func(r failover.Record) bool {
		return r.Kind == failover.RecordCluster && strings.Contains(r.Text, fmt.Sprintf("version %d", failover.Version))
	}) {
		t.Error("no entry says that the newer version is in force")
	}
}
