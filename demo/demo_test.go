package demo

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/measure"
)

// build makes the real programs.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", dir+"/", "./cmd/draasd", "./cmd/rtotest")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "draasd")
}

// tries is how often a run is made that the machine spoils.
const tries = 10

// unfair reports whether the machine stalled for longer than the fast profile
// allows, or again and again: such a run is made again.
func (s stalls) unfair() bool {
	return s.Longest > 200*time.Millisecond || s.Total > time.Second
}

// play runs the demo once, and again when the machine stalled and a time or a
// request was lost by it. Two active sites are never excused.
func play(t *testing.T, o Options) (RunResult, string) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		var out bytes.Buffer
		stop := watchStalls()
		result, err := Run(t.Context(), o, &out)
		stalled := stop()
		if result == nil || len(result.Runs) != 1 {
			t.Fatalf("%v\n%s", err, out.String())
		}
		run := result.Runs[0]
		if run.DualActive > 0 || run.WrongSite > 0 {
			t.Fatalf("two sites were active for %v, %d answers of a wrong one\n%s", run.DualActive, run.WrongSite, out.String())
		}
		if err == nil {
			return run, out.String()
		}
		if attempt == tries || !stalled.unfair() {
			t.Fatalf("%v\nthe machine stalled %+v\n%s", err, stalled, out.String())
		}
		t.Logf("once more, the machine stalled %+v: %v", stalled, err)
	}
}

// The real programs, a real disaster: the site dies and the users are served
// by the other; the link is cut and nothing moves.
func TestDemo(t *testing.T) {
	draasd := build(t)
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Run("site", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "result.json")
		run, out := play(t, Options{Draasd: draasd, JSON: file})
		var sum measure.Millis
		for _, p := range run.Phases.list() {
			sum += p
		}
		if !run.FailedOver || run.Epoch != 2 || *run.RTO <= 0 || sum != *run.RTO {
			t.Errorf("%+v, RTO %v, phases %+v\n%s", run, *run.RTO, *run.Phases, out)
		}
		if *run.RTO > measure.Millis(4*time.Second) && !run.stalls.unfair() {
			t.Errorf("down for %v\n%s", *run.RTO, out)
		}
		if run.Failed == 0 || run.Sent < 300 {
			t.Errorf("%d of %d requests failed: the disaster hit nobody\n%s", run.Failed, run.Sent, out)
		}
		if last := run.last["primary"]; last.After(run.fault.Add(time.Second)) {
			t.Errorf("the dead site answered %v after its death", last.Sub(run.fault))
		}
		for _, want := range []string{"KILL: all 3 processes at primary", "decided, epoch 2: failover of web from primary to dr", "disaster  scheme"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Runs []map[string]any `json:"runs"`
		}
		if err := json.Unmarshal(data, &got); err != nil || len(got.Runs) != 1 {
			t.Fatalf("%v\n%s", err, data)
		}
		for _, key := range []string{"scheme", "disaster", "rto_ms", "phases_ms", "epoch", "sent", "failed", "wrong_site",
			"dual_active_ms", "failed_over", "cut_observed_ms", "held", "replayed", "longest_stall_ms"} {
			if got.Runs[0][key] == nil {
				t.Errorf("the JSON lacks %s:\n%s", key, data)
			}
		}
	})
	t.Run("cut", func(t *testing.T) {
		run, out := play(t, Options{Draasd: draasd, Disaster: DisasterCut, Cut: 2 * time.Second, Undisturbed: time.Second})
		if run.FailedOver || run.Epoch != 1 || run.Failed != 0 || run.CutObserved < measure.Millis(time.Second) {
			t.Errorf("%+v\n%s", run, out)
		}
	})
	t.Run("hang behind a frontend", func(t *testing.T) {
		run, out := play(t, Options{Draasd: draasd, Scheme: "frontend", Disaster: DisasterHang, Undisturbed: time.Second})
		if !run.FailedOver || run.Failed != 0 || run.Held == 0 || run.Replayed == 0 || run.LongestStall < measure.Millis(100*time.Millisecond) {
			t.Errorf("%+v\n%s", run, out)
		}
	})
	t.Run("switchover behind a frontend", func(t *testing.T) {
		run, out := play(t, Options{Draasd: draasd, Scheme: "frontend", Disaster: DisasterSwitchover, Undisturbed: time.Second})
		if !run.FailedOver || run.Failed != 0 || run.Sent < 200 || *run.RTO != 0 {
			t.Errorf("%+v\n%s", run, out)
		}
		if !strings.Contains(out, "switchover of web from primary to dr") {
			t.Errorf("nobody asked for it\n%s", out)
		}
	})
	t.Run("entry", func(t *testing.T) {
		run, out := play(t, Options{Draasd: draasd, Scheme: "hybrid", Disaster: DisasterEntry, Undisturbed: time.Second})
		if run.FailedOver || run.Epoch != 1 || run.Failed == 0 || run.Forwarded == 0 {
			t.Errorf("%+v\n%s", run, out)
		}
		if *run.RTO > measure.Millis(3*time.Second) && !run.stalls.unfair() {
			t.Errorf("down for %v\n%s", *run.RTO, out)
		}
		for _, want := range []string{"users of web enter at dr, epoch 1 turn 1", "entry: the name leads to the frontend at dr, which leads on to primary"} {
			if !strings.Contains(out, want) {
				t.Errorf("%q is not in\n%s", want, out)
			}
		}
	})
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v behind", left, err)
	}
}
