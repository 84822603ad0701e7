package lab

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProcess(t *testing.T) {
	t.Parallel()
	ended := make(chan string, 10)
	dir := t.TempDir()
	script := "echo begun; trap 'exit 0' TERM; while [ ! -e " + dir + "/end ]; do sleep 0.02; done; echo gave up; exit 3"
	p := NewProcess("p", dir+"/p.log", func() *exec.Cmd { return grouped("sh", "-c", script) },
		func(_ *Process, err error, said string) { ended <- err.Error() + ": " + said })
	keep(t, p)
	running := func() bool { pid, _, _ := p.Present(); return pid != 0 }
	wait(t, 10*time.Second, "it runs", running)

	p.Hold(syscall.SIGKILL, time.Minute)
	p.Hold(syscall.SIGKILL, time.Minute)
	p.Release()
	if running() {
		t.Error("it runs though one fault still holds it down")
	}
	p.Release()
	wait(t, 10*time.Second, "it runs again", running)

	p.Stop()
	wait(t, 10*time.Second, "it stands still", func() bool { return atRest(stateOf(t, p)) })
	p.Hold(syscall.SIGKILL, time.Minute) // also of one that stands still
	p.Release()
	wait(t, 10*time.Second, "a new one stands still, too", func() bool { return running() && atRest(stateOf(t, p)) })
	p.Resume()
	wait(t, 10*time.Second, "it goes on", func() bool { return !atRest(stateOf(t, p)) })

	if p.Hold(syscall.SIGTERM, time.Minute) {
		t.Error("it was late to end")
	}
	p.Release()
	select {
	case said := <-ended:
		t.Errorf("ends that were meant were told: %s", said)
	default:
	}
	wait(t, 10*time.Second, "it runs after SIGTERM", running)
	if out, err := exec.Command("touch", dir+"/end").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if said := <-ended; said != "exit status 3: begun\ngave up\n" {
		t.Errorf("it ended by itself: %q", said)
	}
	if _, runs, _ := p.Present(); runs != 4 {
		t.Errorf("it was started %d times", runs)
	}
}

// atRest: a shell whose child was stopped between vfork and exec waits for it,
// deaf to all signals.
func atRest(state string) bool { return state == "T" || state == "D" }

func stateOf(t *testing.T, p *Process) string {
	t.Helper()
	pid, _, _ := p.Present()
	out, err := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// grouped is a command that leads a process group, as those of a machine do.
func grouped(argv ...string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Who was stopped too early to know SIGHUP is not sent it, and is as young as
// at its start when it goes on.
func TestHangUpSparesTheYoung(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 10)
	p := NewProcess("p", filepath.Join(t.TempDir(), "p.log"), func() *exec.Cmd { return grouped("sleep", "1000") },
		func(_ *Process, err error, _ string) { ended <- err })
	keep(t, p)
	wait(t, 10*time.Second, "it runs", func() bool { pid, _, _ := p.Present(); return pid != 0 })
	age := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.started = time.Now().Add(-time.Hour)
	}
	p.HangUp()
	p.Stop()
	age()
	p.HangUp()
	p.Resume()
	p.HangUp()
	if _, run, old := p.Present(); run != 1 || old > time.Minute {
		t.Errorf("run %d of it is %v old", run, old)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	default:
	}
	age()
	p.Stop()
	p.HangUp()
	p.Resume()
	if err := <-ended; err == nil || err.Error() != "signal: hangup" {
		t.Errorf("one that is grown ended with %v", err)
	}
}

// keep keeps a process running for as long as the test lasts.
func keep(t *testing.T, p *Process) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	errc := make(chan error, 1)
	go func() { errc <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-errc; err != nil {
			t.Error(err)
		}
	})
}
