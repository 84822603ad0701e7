package openstack

import (
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab"
)

// Who runs with a folder of a site's is found.
func TestLeft(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	cmd.Args[0] = "sleep " + dir + "/etc"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for want := 1; want >= 0; want-- {
		left, err := Left(dir + "/")
		if err != nil || len(left) != want {
			t.Errorf("found %q, %v", left, err)
		}
		if want == 1 {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
		}
	}
}

// A process is stopped and started by those who stand beside its site.
func TestControl(t *testing.T) {
	p := lab.NewProcess("sleep", filepath.Join(t.TempDir(), "sleep.out"), func() *exec.Cmd {
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		return cmd
	},
		func(_ *lab.Process, err error, said string) { t.Errorf("it ended by itself: %v: %s", err, said) })
	s := &Site{Options: Options{Name: "east"}, processes: map[string]*lab.Process{"sleep": p}}
	ran := make(chan error, 1)
	ctx, end := context.WithCancel(t.Context())
	go func() { ran <- p.Run(ctx) }()
	defer func() {
		end()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	socket := filepath.Join(t.TempDir(), "sock")
	stop, err := Control(socket, s)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	t.Setenv(ControlVariable, socket)
	if err := Hold(ctx, "east", "sleep"); err != nil {
		t.Fatal(err)
	}
	if pid, _, _ := p.Present(); pid != 0 {
		t.Errorf("it runs as %d", pid)
	}
	if err := Hold(ctx, "west", "sleep"); err == nil {
		t.Error("a site that there is not has been asked")
	}
	if err := Release(ctx, "east", "sleep"); err != nil {
		t.Fatal(err)
	}
	tick, deadline := time.NewTicker(5*time.Millisecond), time.After(10*time.Second)
	defer tick.Stop()
	for pid := 0; pid == 0; pid, _, _ = p.Present() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not run again")
		}
	}
	if err := Hold(ctx, "east", "sleep"); err != nil {
		t.Fatal(err)
	}
}
