package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// parentEnv makes the test binary a demo that is about to be killed.
const parentEnv = "DEMO_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentEnv); dir != "" {
		c := newCrew(dir)
		p, err := c.start(process{name: "child", argv: []string{"sleep", "600"}})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.cmd.Process.Pid)
		<-p.done
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// lives reports whether a process is there and no zombie.
func lives(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

// A demo that is killed leaves no process behind.
func TestChildDiesWithItsParent(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentEnv+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	text, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatalf("the parent says %q", text)
	}
	if !lives(pid) {
		t.Fatal("the child does not live")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child is gone", func() bool { return !lives(pid) })
}

func TestCrew(t *testing.T) {
	c := newCrew(t.TempDir())
	closed := false
	t.Cleanup(func() {
		if !closed {
			_ = c.close()
		}
	})
	start := func(name string, argv ...string) *child {
		t.Helper()
		p, err := c.start(process{name: name, member: primary, argv: argv})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	lasting, stopped := start("lasting", "sleep", "600"), start("stopped", "sleep", "600")
	if err := stopped.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	killed := start("killed", "sleep", "600")
	if err := killed.kill(); err != nil {
		t.Fatal(err)
	}
	<-killed.done
	if err := c.fault(); err != nil {
		t.Errorf("a process that was killed on purpose is a fault: %v", err)
	}
	if err := killed.signal(syscall.SIGCONT); err != nil {
		t.Errorf("signal to one that has ended: %v", err)
	}
	if n := len(c.of(primary)); n != 2 {
		t.Errorf("%d processes live, want 2", n)
	}
	short := start("short", "sh", "-c", "echo out; echo err >&2; exit 3")
	<-short.done
	if err := c.fault(); err == nil || !strings.Contains(err.Error(), "short has ended by itself: exit status 3") {
		t.Errorf("the fault is %v", err)
	}
	var out bytes.Buffer
	c.showLogs(&out, 5)
	if out.String() != "--- last lines of short\nout\nerr\n" {
		t.Errorf("the logs are %q", out.String())
	}
	if _, err := c.start(process{name: "nothing", argv: []string{"/nonexistent"}}); err == nil {
		t.Error("started what is not there")
	}
	closed = true
	if err := c.close(); err != nil {
		t.Error(err)
	}
	for _, p := range []*child{lasting, stopped} {
		if lives(p.cmd.Process.Pid) {
			t.Errorf("%s still lives", p.name)
		}
	}
}

func TestTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var text strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := tail(path, 2)
	if err != nil || got != "line 2998\nline 2999" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := tail(path+".not", 2); err == nil {
		t.Error("read a log that is not there")
	}
}

func TestChildEnv(t *testing.T) {
	got := childEnv([]string{"A=1", "NOTIFY_SOCKET=/run/x", "WATCHDOG_USEC=5", "B=2"})
	if !slices.Equal(got, []string{"A=1", "B=2"}) {
		t.Errorf("passes on %q", got)
	}
}

// script makes a draasd that is a shell script, with a rtotest beside it.
func script(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"draasd": text, "rtotest": "exit 0"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "draasd")
}

func TestRunWithoutRTOTest(t *testing.T) {
	draasd := script(t, "exit 0")
	if err := os.Remove(filepath.Join(filepath.Dir(draasd), "rtotest")); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), Options{Draasd: draasd}, &bytes.Buffer{})
	if !errors.Is(err, errRTOTest) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("says %v", err)
	}
}

func TestRunRefusesOptions(t *testing.T) {
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{Scheme: "anycast"}, "dns, frontend or hybrid"},
		{Options{Scheme: "frontend", Disaster: DisasterEntry}, "can enter elsewhere"},
		{Options{Disaster: "flood"}, "no disaster"},
		{Options{Profile: "brave"}, "no profile"},
		{Options{Runs: -1}, "positive"},
		{Options{Disaster: DisasterCut, Cut: time.Second}, "too short"},
	} {
		if _, err := Run(t.Context(), c.options, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.options, err, c.want)
		}
	}
}

// makesDirs is a draasd init that makes what the demo writes into.
const makesDirs = `if [ "$1" = init ]; then mkdir -p "$2/primary" "$2/dr" "$2/witness"; exit; fi
`

// A cluster that does not come up is taken down whole, and its logs are shown.
func TestRunCleansUp(t *testing.T) {
	for _, c := range []struct {
		name, script, want, shown string
	}{
		{"init fails", "echo no room >&2; exit 1", "draasd init: exit status 1: no room", ""},
		{"daemon ends", makesDirs + `if [ "$1" = run ]; then echo cannot run >&2; exit 7; fi; exec sleep 600`,
			"has ended by itself: exit status 7", "--- last lines of primary-draasd\ncannot run\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			var out bytes.Buffer
			_, err := Run(t.Context(), Options{Draasd: script(t, c.script)}, &out)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("says %v, want %q", err, c.want)
			}
			if !strings.Contains(out.String(), c.shown) {
				t.Errorf("shows\n%s\nwant %q", out.String(), c.shown)
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("left %v, %v behind", left, err)
			}
		})
	}
}

// Several runs that fail are each told, and the error sums them up.
func TestRunGoesOnAfterAFailure(t *testing.T) {
	var out bytes.Buffer
	_, err := Run(t.Context(), Options{Draasd: script(t, "echo no room; exit 1"), Runs: 3}, &out)
	if err == nil || !strings.HasPrefix(err.Error(), "3 of 3 runs failed, the first: make cluster") {
		t.Errorf("says %v", err)
	}
	for i := 1; i <= 3; i++ {
		if !strings.Contains(out.String(), fmt.Sprintf("run %d: make cluster", i)) {
			t.Errorf("run %d is not told:\n%s", i, out.String())
		}
	}
}

// Ctrl-C ends everything that was started.
func TestRunInterrupted(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	draasd := script(t, makesDirs+"echo $$ >> "+pids+"; exec sleep 600")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Options{Draasd: draasd, Dir: t.TempDir()}, &bytes.Buffer{})
		ended <- err
	}()
	var started []string
	eventually(t, "all seven processes run", func() bool {
		data, err := os.ReadFile(pids)
		started = strings.Fields(string(data))
		return err == nil && len(started) == 7
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	for _, text := range started {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if lives(pid) {
			t.Errorf("process %d still lives", pid)
		}
	}
}

// A result that cannot be written is told before anything is started.
func TestRunRefusesAnUnwritableResult(t *testing.T) {
	var out bytes.Buffer
	_, err := Run(t.Context(), Options{Draasd: script(t, "exit 0"), JSON: filepath.Join(t.TempDir(), "no", "result.json")}, &out)
	if err == nil || !strings.Contains(err.Error(), "write result") || out.Len() > 0 {
		t.Errorf("says %v, shows %q", err, out.String())
	}
}
