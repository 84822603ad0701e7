// Package proxy starts real proxies for tests, as Debian has them: HAProxy and
// nginx, with the configurations of etc/frontend, on loopback addresses of
// their own. They end with their test, whatever happens.
package proxy

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab"
)

// process is a proxy's, with all that it started in one process group.
type process struct {
	t     testing.TB
	argv  []string
	dir   string // short: sockets are in it
	ready func() error
	cmd   *exec.Cmd
	ended chan struct{}
}

func newProcess(t testing.TB, pkg string, argv ...string) *process {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Fatalf("%s is not installed (%v): apt-get install %s, or make setup", argv[0], err, pkg)
	}
	dir, err := os.MkdirTemp("", "px")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, dir: dir, argv: argv}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", argv[0], p.Log())
		}
		_ = os.RemoveAll(dir)
	})
	return p
}

// Start starts the proxy and waits until it can be told things.
func (p *process) Start() {
	p.t.Helper()
	logFile, err := os.OpenFile(p.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = logFile, logFile, p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	ended := make(chan struct{})
	// The parent that Pdeathsig means is a thread: it has to stay.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(ended)
	}()
	err = <-started
	_ = logFile.Close()
	if err != nil {
		p.t.Fatalf("start %s: %v", p.argv[0], err)
	}
	p.cmd, p.ended = cmd, ended
	p.wait("start", p.ready)
}

// wait waits until a check succeeds.
func (p *process) wait(what string, check func() error) {
	p.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s %s: %v\n%s", what, p.argv[0], err, p.Log())
		}
		select {
		case <-p.ended:
			p.t.Fatalf("%s %s: it ended:\n%s", what, p.argv[0], p.Log())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Kill ends the proxy as a crash of its machine does, all its processes
// together.
func (p *process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.ended
	p.cmd = nil
}

// Restart starts the proxy again; it is killed before if it runs.
func (p *process) Restart() {
	p.t.Helper()
	p.Kill()
	p.Start()
}

// PID is that of the proxy's first process.
func (p *process) PID() int { return p.cmd.Process.Pid }

// Signal signals that process alone.
func (p *process) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatalf("signal %s: %v", p.argv[0], err)
	}
}

// Log is what the proxy said.
func (p *process) Log() string {
	b, err := os.ReadFile(p.path("log"))
	if err != nil {
		return err.Error()
	}
	if len(b) > 8000 {
		b = b[len(b)-8000:]
	}
	return string(b)
}

func (p *process) path(name string) string { return filepath.Join(p.dir, name) }

func (p *process) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// sample reads a file of etc/frontend and puts other values in the place of
// its own: from, to, from, to, and so on. Each has to be there.
func sample(t testing.TB, name string, values ...string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	b, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../../etc/frontend", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for i := 0; i < len(values); i += 2 {
		if !strings.Contains(text, values[i]) {
			t.Fatalf("etc/frontend/%s has no %q", name, values[i])
		}
		text = strings.ReplaceAll(text, values[i], values[i+1])
	}
	return text
}

// Address is a free one on loopback.
func Address(t testing.TB) string {
	t.Helper()
	host := fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))
	return lab.FreeAddress(t, host)
}
