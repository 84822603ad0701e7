package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab"
	"github.com/draasd/draas/measure"
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func decodeSeries(t *testing.T, stdout string) measure.Series {
	t.Helper()
	var s measure.Series
	if err := json.Unmarshal([]byte(stdout), &s); err != nil {
		t.Fatalf("%v in %q", err, stdout)
	}
	return s
}

// lasting makes a disaster that lasts for so many milliseconds: who makes it
// also ends it, as a daemon would.
func (d *disaster) lasting(n int) string {
	return fmt.Sprintf("echo run $DRAAS_RUN of $DRAAS_RUNS; touch %s; sleep 0.%03d; rm %s", d.file, n, d.file)
}

func (d *disaster) args(more ...string) []string {
	return append([]string{"--settle", "150ms", "--duration", "5s", "--timeout", "300ms"}, append(more, d.URL)...)
}

// TestRuns: a disaster is made and made good again as often as was asked for;
// each run is measured, and what they say together; the files have all of it.
func TestRuns(t *testing.T) {
	t.Parallel()
	d := newDisaster(t)
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	code, stdout, stderr := rtotest(d.args("--json", "--runs", "3", "--inject", d.lasting(200), "--restore", "echo $DRAAS_RUN >>"+log,
		"--max-rto", "2s", "--csv", filepath.Join(dir, "probes.csv"), "--html", filepath.Join(dir, "page.html"))...)
	s := decodeSeries(t, stdout)
	if code != exitMet || s.Wanted != 3 || s.Summary.Runs != 3 || s.Summary.Recovered != 3 || s.Problem != "" || len(s.Summary.Clients[measure.Fresh].Downtimes) != 3 {
		t.Fatalf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	for i, r := range s.Runs {
		if down := time.Duration(r.Downtime); down < 150*time.Millisecond || down > 1500*time.Millisecond || r.Number != i+1 || r.Fault == nil {
			t.Errorf("run %d: down for %v of 200 ms, fault %v", r.Number, down, r.Fault)
		}
		if r.Inject.ExitCode != 0 || r.Inject.Output != fmt.Sprintf("run %d of 3\n", i+1) || r.Restore.ExitCode != 0 {
			t.Errorf("run %d: %+v, %+v", i+1, r.Inject, r.Restore)
		}
	}
	if data, err := os.ReadFile(log); err != nil || string(data) != "1\n2\n3\n" {
		t.Errorf("restored %q, %v", data, err)
	}
	for _, want := range []string{"run 1 of 3: waiting until users are served", "run 3 of 3: down for ", "so far 3 recovered, p50 "} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
	probes, runs := readCSV(t, filepath.Join(dir, "probes.csv"), probeColumns()), readCSV(t, filepath.Join(dir, "probes-runs.csv"), runColumns())
	sent := 0
	for _, r := range s.Runs {
		sent += r.Sent
	}
	if len(probes) != sent || len(runs) != 3 || runs[2]["run"] != "3" || runs[2]["recovered"] != "true" || runs[2]["inject_exit"] != "0" || runs[2]["writes_lost"] != "" {
		t.Errorf("%d probes of %d, runs %v", len(probes), sent, runs)
	}
	if p := probes[0]; p["run"] != "1" || p["asked_by"] != "fresh" || p["result"] != "good" || "http://"+p["address"] != d.URL || p["ttl_s"] != "" || p["error"] != "" {
		t.Errorf("%v", p)
	}
	page, err := os.ReadFile(filepath.Join(dir, "page.html"))
	if err != nil || !strings.Contains(string(page), "3 runs: half of the time") || !strings.Contains(string(page), "--max-rto") {
		t.Errorf("page of %d bytes, %v", len(page), err)
	}
}

func readCSV(t *testing.T, path string, columns []string) []map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) == 0 || strings.Join(rows[0], ",") != strings.Join(columns, ",") {
		t.Fatalf("%s: %v, %v", path, rows, err)
	}
	var out []map[string]string
	for _, row := range rows[1:] {
		m := make(map[string]string)
		for i, c := range columns {
			m[c] = row[i]
		}
		out = append(out, m)
	}
	return out
}

// TestRunsThatFail: each way in which a run can prove nothing, or the series
// end, is told and counted, and the disaster is made good in any case.
func TestRunsThatFail(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		inject, restore, more string
		code, runs, void      int
		want                  string
	}{
		"inject fails":    {"echo no such host; exit 3", "touch %[2]s", "--runs 2 --max-rto 1s", exitVoid, 2, 2, "--inject: exit code 3"},
		"no effect":       {"true", "touch %[2]s", "--runs 1 --max-rto 1s --duration 2s", exitVoid, 1, 1, "changed nothing that users saw"},
		"inject hangs":    {"sleep 60 & sleep 60", "touch %[2]s", "--runs 1 --inject-timeout 300ms --max-rto 1s", exitVoid, 1, 1, "--inject: killed after 300ms"},
		"never over":      {"touch %[1]s", "rm %[1]s; touch %[2]s", "--runs 1 --duration 2s --max-rto 9s", exitExceeded, 1, 0, "NOT OVER"},
		"restore fails":   {"touch %[1]s; sleep 0.2; rm %[1]s", "touch %[2]s; exit 4", "--runs 3 --max-rto 9s", exitVoid, 1, 0, "--restore of run 1 failed: exit code 4"},
		"restore is none": {"touch %[1]s", "touch %[2]s", "--runs 2 --duration 600ms --max-rto 9s", exitExceeded, 1, 0, "before run 2: users are not served"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDisaster(t)
			restored := filepath.Join(t.TempDir(), "restored")
			shell := func(s string) string {
				return strings.NewReplacer("%[1]s", d.file, "%[2]s", restored).Replace(s)
			}
			code, stdout, stderr := rtotest(d.args(append(strings.Fields(c.more), "--inject", shell(c.inject), "--restore", shell(c.restore))...)...)
			if code != c.code || !strings.Contains(stdout+stderr, c.want) || !exists(restored) {
				t.Errorf("exit %d, restored %v\n%s\n%s", code, exists(restored), stdout, stderr)
			}
			if want := fmt.Sprintf("%d of", c.runs); !strings.Contains(stdout, "\n"+want) && !strings.HasPrefix(stdout, want) || !strings.Contains(stdout, fmt.Sprintf("%d void", c.void)) {
				t.Errorf("want %d runs, %d void:\n%s", c.runs, c.void, stdout)
			}
		})
	}
}

// TestSpoilt: a disaster is not made when a request has just failed, and users
// that are never served steadily end the series.
func TestSpoilt(t *testing.T) {
	t.Parallel()
	lab.Calmly(t, 500*time.Millisecond, func() func() { return spoilt(t) })
}

func spoilt(t *testing.T) (judge func()) {
	d := newDisaster(t)
	made := filepath.Join(t.TempDir(), "made")
	// Of the requests that are measured, 150 a second, one fails once they have
	// become many; of those before, 20 a second, none.
	const lately, many = 250 * time.Millisecond, 20
	var mu sync.Mutex
	var asked []time.Time // lately
	failed := false       // one of those that are measured
	d.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		asked = slices.DeleteFunc(append(asked, now), func(at time.Time) bool { return now.Sub(at) > lately })
		busy := len(asked) >= many
		if busy && !failed {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		failed = busy
	})
	code, stdout, stderr := rtotest("--settle", "500ms", "--duration", "20s", "--rate", "150", "--runs", "1", "--inject", "touch "+made, "--max-rto", "1s", d.URL)
	return func() {
		if code != exitVoid || exists(made) || !strings.Contains(stdout, "before run 1, 5 times in a row: not begun: ") {
			t.Errorf("exit %d, made %v\n%s\n%s", code, exists(made), stdout, stderr)
		}
	}
}

// TestInterruptRestores: Ctrl-C in the middle of a disaster ends the command
// that makes it, makes it good, and reports.
func TestInterruptRestores(t *testing.T) {
	d := newDisaster(t)
	restored := filepath.Join(t.TempDir(), "restored")
	inject := fmt.Sprintf("touch %s; kill -INT %d; exec sleep 60", d.file, os.Getpid())
	began := time.Now()
	code, stdout, stderr := rtotest(d.args("--json", "--runs", "5", "--inject", inject, "--restore", "rm "+d.file+"; touch "+restored, "--max-rto", "1s")...)
	s := decodeSeries(t, stdout)
	if code != exitVoid || len(s.Runs) != 1 || !s.Runs[0].Void || s.Problem != "interrupted" || !exists(restored) || exists(d.file) || time.Since(began) > 20*time.Second {
		t.Errorf("exit %d, restored %v\n%s\n%s", code, exists(restored), stdout, stderr)
	}
	if p := s.Runs[0].Inject.Problem; p != "killed: interrupted" {
		t.Errorf("inject: %q", p)
	}
}

// TestAct: a command's whole group ends with its time, output is kept to its
// end and made fit for a terminal, and what it leaves behind is left.
func TestAct(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	a := act(t.Context(), "(trap '' TERM; echo $$; while :; do sleep 0.05; done) & echo $! >"+file+"; trap '' TERM; wait", nil, 200*time.Millisecond)
	data, err := os.ReadFile(file)
	var pid int
	if _, scan := fmt.Sscan(string(data), &pid); err != nil || scan != nil {
		t.Fatalf("%v, %v", err, scan)
	}
	gone := func() bool { return syscall.Kill(pid, 0) != nil || zombie(pid) }
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); !gone() && time.Now().Before(deadline); {
		<-tick.C
	}
	if a.Problem != "killed after 200ms" || a.ExitCode != -1 || !gone() {
		t.Errorf("%+v, gone %v", a, gone())
	}
	a = act(t.Context(), `printf 'a\033[2Jb\nc'; head -c 20000 /dev/zero | tr '\0' x >&2`, nil, time.Minute)
	if a.ExitCode != 0 || len(a.Output) != maxOutput || strings.ContainsRune(a.Output, '\x1b') {
		t.Errorf("%d bytes, %+v", len(a.Output), a.Problem)
	}
	if a = act(t.Context(), `printf 'a\033[2Jb\nc'`, nil, time.Minute); a.Output != "a?[2Jb\nc" {
		t.Errorf("%q", a.Output)
	}
	// The group is asked before it is made to go.
	if a = act(t.Context(), "trap 'echo bye; exit 5' TERM; sleep 30 & wait", nil, 200*time.Millisecond); !strings.Contains(a.Output, "bye") {
		t.Errorf("%+v", a)
	}
	began := time.Now()
	a = act(t.Context(), "sleep 30 & echo $!", nil, 20*time.Second)
	if a.ExitCode != 0 || time.Since(began) > 15*time.Second {
		t.Errorf("waited %v for what was left in the background: %+v", time.Since(began), a)
	}
	if _, err := fmt.Sscan(a.Output, &pid); err != nil || syscall.Kill(pid, syscall.SIGKILL) != nil {
		t.Errorf("nothing was left: %q, %v", a.Output, err)
	}
	if a = act(t.Context(), "kill -KILL $$", nil, time.Minute); a.ExitCode != -1 || !strings.Contains(a.Problem, "killed") {
		t.Errorf("%+v", a)
	}
}

// zombie reports whether a process has ended and is only not yet waited for.
func zombie(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(data), ") ")
	return strings.HasPrefix(state, "Z")
}
