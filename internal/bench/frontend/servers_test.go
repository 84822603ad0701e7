package frontend

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
)

// What is written for the programs is what they take: a benchmark that finds
// out after minutes has wasted them.
func TestFilesAreTaken(t *testing.T) {
	dir := t.TempDir()
	pair, err := newCertificate(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"steady": steadyFile(pair), "moving": movingFile()} {
		c, err := config.Parse(filepath.Join(dir, "failover.toml"), []byte(text))
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		for _, s := range c.Services {
			if s.Scheme != config.SchemeFrontend || len(s.Frontend.Listen) != 1 {
				t.Errorf("%s: service %s has scheme %s and listens at %v", name, s.ID, s.Scheme, s.Frontend.Listen)
			}
		}
	}
	for name, text := range map[string]string{"tcp": haproxyTCP(2, 1000, 1), "http": haproxyHTTP(2, 1000, 2, pair), "backup": haproxyBackup(2, 7)} {
		file := filepath.Join(dir, name+".cfg")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "haproxy", "-c", "-f", file).CombinedOutput(); err != nil || strings.Contains(string(out), "ALERT") {
			t.Errorf("HAProxy %s: %v\n%s", name, err, out)
		}
	}
	for name, text := range map[string]string{"backend": backEnd(dir, 2, 1, pair), "single": backEnd(dir, 0, 2, pair), "proxy": nginxProxy(dir, 2, 3, pair)} {
		file := filepath.Join(dir, name+".conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "nginx", "-t", "-c", file, "-e", filepath.Join(dir, "error.log")).CombinedOutput(); err != nil {
			t.Errorf("nginx %s: %v\n%s", name, err, out)
		}
	}
}

func TestCalm(t *testing.T) {
	healthy := func() *api.Status {
		s := &api.Status{Leader: "dr"}
		for _, m := range members {
			seen := make(map[draas.MemberID]draas.Verdict)
			for _, by := range members {
				if by != m {
					seen[by] = draas.Healthy
				}
			}
			s.Members = append(s.Members, api.MemberStatus{ID: m, Started: true, SameConfig: true, SeenBy: seen})
		}
		s.Services = []api.ServiceStatus{{ID: moving, Active: "primary", Views: []api.View{
			{Site: "primary", Vantage: "primary", Verdict: draas.Healthy},
			{Site: "primary", Vantage: "witness", Verdict: draas.Healthy},
			{Site: "dr", Vantage: "dr", Verdict: draas.Healthy},
			{Site: "dr", Vantage: "witness", Verdict: draas.Failed}, // its gate is closed
		}}}
		return s
	}
	is := calm(moving, "primary")
	if lacks := is(healthy()); lacks != "" {
		t.Errorf("not calm: %s", lacks)
	}
	for name, change := range map[string]func(*api.Status){
		"no leader":           func(s *api.Status) { s.Leader = "" },
		"a member is missing": func(s *api.Status) { s.Members = s.Members[1:] },
		"one does not see":    func(s *api.Status) { s.Members[0].SeenBy["dr"] = draas.Suspect },
		"elsewhere":           func(s *api.Status) { s.Services[0].Active = "dr" },
		"seen to fail":        func(s *api.Status) { s.Services[0].Views[1].Verdict = draas.Suspect },
		"no stand-by":         func(s *api.Status) { s.Services[0].Views[2].Verdict = draas.Failed },
	} {
		s := healthy()
		change(s)
		if is(s) == "" {
			t.Errorf("%s: calm", name)
		}
	}
}

func TestUntilEnds(t *testing.T) {
	n := 0
	if err := until(t.Context(), "it is the third time", func() bool { n++; return n == 3 }); err != nil || n != 3 {
		t.Errorf("%v after %d", err, n)
	}
}

func TestSpread(t *testing.T) {
	s := story{}
	for _, stall := range []float64{10, 30, 20} {
		s.add(seen{sent: 5, failed: 1, stall: stall, before: 1})
	}
	if l := s.tell(); l.Runs != 3 || l.Sent != 15 || l.Failed != 3 || l.Stalls.P50 != 20 || l.Stalls.P99 != 30 || l.Stalls.Max != 30 {
		t.Errorf("%+v", l)
	}
	var m stamps
	event := time.Unix(100, 0)
	later := func(ms int) time.Time { return event.Add(time.Duration(ms) * time.Millisecond) }
	m.add(event, failover.Times{Failed: later(40), Decided: later(52), Released: later(60), Activated: later(61)}, 75)
	got := m.steps()
	if got.Suspected.P50 != 40 || got.Decided.P50 != 52 || got.Released.P50 != 60 || got.Activated.P50 != 61 || got.Answered.P50 != 75 {
		t.Errorf("%+v", got)
	}
}
