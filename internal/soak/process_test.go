package soak

import (
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
	p := newProcess("p", dir+"/p.log", func() *exec.Cmd { return grouped("sh", "-c", script) },
		func(_ *process, err error, said string) { ended <- err.Error() + ": " + said })
	keep(t, p)
	running := func() bool { pid, _, _ := p.present(); return pid != 0 }
	until(t, "it runs", running)

	p.hold(syscall.SIGKILL, time.Minute)
	p.hold(syscall.SIGKILL, time.Minute)
	p.release()
	if running() {
		t.Error("it runs though one fault still holds it down")
	}
	p.release()
	until(t, "it runs again", running)

	p.stop()
	until(t, "it stands still", func() bool { return standsStill(stateOf(t, p)) })
	p.hold(syscall.SIGKILL, time.Minute) // also of one that stands still
	p.release()
	until(t, "a new one stands still, too", func() bool { return running() && standsStill(stateOf(t, p)) })
	p.resume()
	until(t, "it goes on", func() bool { return !standsStill(stateOf(t, p)) })

	if p.hold(syscall.SIGTERM, time.Minute) {
		t.Error("it was late to end")
	}
	p.release()
	select {
	case said := <-ended:
		t.Errorf("ends that were meant were told: %s", said)
	default:
	}
	until(t, "it runs after SIGTERM", running)
	if out, err := exec.Command("touch", dir+"/end").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if said := <-ended; said != "exit status 3: begun\ngave up\n" {
		t.Errorf("it ended by itself: %q", said)
	}
	if _, runs, _ := p.present(); runs != 4 {
		t.Errorf("it was started %d times", runs)
	}
}

// standsStill: a shell whose child was stopped between vfork and exec waits for it,
// deaf to all signals.
func standsStill(state string) bool { return state == "T" || state == "D" }

func stateOf(t *testing.T, p *process) string {
	t.Helper()
	pid, _, _ := p.present()
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
	p := newProcess("p", filepath.Join(t.TempDir(), "p.log"), func() *exec.Cmd { return grouped("sleep", "1000") },
		func(_ *process, err error, _ string) { ended <- err })
	keep(t, p)
	until(t, "it runs", func() bool { pid, _, _ := p.present(); return pid != 0 })
	age := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.started = time.Now().Add(-time.Hour)
	}
	p.hangUp()
	p.stop()
	age()
	p.hangUp()
	p.resume()
	p.hangUp()
	if _, run, old := p.present(); run != 1 || old > time.Minute {
		t.Errorf("run %d of it is %v old", run, old)
	}
	select {
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	default:
	}
	age()
	p.stop()
	p.hangUp()
	p.resume()
	if err := <-ended; err == nil || err.Error() != "signal: hangup" {
		t.Errorf("one that is grown ended with %v", err)
	}
}
