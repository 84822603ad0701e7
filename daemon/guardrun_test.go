package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/fence"
)

// The guard reads its file again at SIGHUP: fences come and go, those that are
// the same keep their permits, and a bad file changes nothing.
func TestGuardReload(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	hangup := make(chan os.Signal)
	l.start("guard primary", func(ctx context.Context) error {
		return RunGuard(ctx, GuardOptions{ConfigPath: l.file("primary"), Log: l.log, Hangup: hangup})
	})
	c, err := Load(l.file("primary"))
	if err != nil {
		t.Fatal(err)
	}
	client := fence.Dial(c.Guard)
	defer client.Close()
	fences := func() map[draas.ServiceID]fence.Status {
		all := map[draas.ServiceID]fence.Status{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		list, _ := client.Status(ctx) // it may not be up yet
		for _, f := range list {
			all[f.Service] = f
		}
		return all
	}
	l.await("closed", 10*time.Second, func() bool { return fences()["web"].State == fence.Closed })
	l.await("opened", 10*time.Second, func() bool {
		_, err := client.Extend(t.Context(), "web", 1, draas.DeadlineAt(fence.SystemClock{}.Now(), time.Minute))
		return err == nil && fences()["web"].State == fence.Open
	})

	good, err := os.ReadFile(l.file("primary"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(string) string{
		"broken":         func(s string) string { return s + "\n[service" },
		"another socket": func(s string) string { return strings.Replace(s, "[member", "guard = \"other.sock\"\n[member", 1) },
	} {
		l.edit("primary", change)
		hangup <- syscall.SIGHUP
		hangup <- syscall.SIGHUP // taken when the first is done
		if f := fences(); len(f) != 1 || f["web"].State != fence.Open {
			t.Errorf("%s: %+v", name, f)
		}
		if err := os.WriteFile(l.file("primary"), good, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	l.edit("primary", l.anotherService)
	hangup <- syscall.SIGHUP
	l.await("another fence", 10*time.Second, func() bool { return fences()["wiki"].State == fence.Closed })
	if f := fences()["web"]; f.State != fence.Open || f.Epoch != 1 {
		t.Errorf("the fence that was there: %+v", f)
	}
	if err := os.WriteFile(l.file("primary"), good, 0o644); err != nil {
		t.Fatal(err)
	}
	hangup <- syscall.SIGHUP
	l.await("it is gone", 10*time.Second, func() bool { return len(fences()) == 1 })

	if err := CloseFences(t.Context(), l.file("primary"), l.log); !errors.Is(err, fence.ErrGuardRunning) {
		t.Errorf("closing beside the guard: %v", err)
	}
	if err := l.stop("guard primary"); err != nil {
		t.Error(err)
	}
	if err := CloseFences(t.Context(), l.file("primary"), l.log); err != nil {
		t.Errorf("closing at boot: %v", err)
	}
	if err := CloseFences(t.Context(), l.file("witness"), l.log); err == nil || !strings.Contains(err.Error(), "needs no guard") {
		t.Errorf("at a witness: %v", err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(c.Guard), "bpf")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory for pinned objects that nobody asked for: %v", err)
	}
}

// The devices of the file are those of the other sites, and take its words.
func TestDevicesOfTheFile(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	off := filepath.Join(t.TempDir(), "off")
	l.edit("dr", func(s string) string {
		return s + `
[[service.web.fence.device]]
site = "primary"
kind = "exec"
off = ["/bin/sh", "-c", "echo $DRAAS_SERVICE $DRAAS_SITE $DRAAS_EPOCH >` + off + `"]
status = ["/usr/bin/test", "!", "-e", "` + off + `.not"]
stay = "0s"
[[service.web.fence.device]]
site = "primary"
kind = "ipmi"
address = "192.0.2.9"
user = "draas"
password_file = "/etc/draas/bmc"
[[service.web.fence.device]]
site = "dr"
kind = "exec"
off = ["/bin/false"]
status = ["/bin/false"]
`
	})
	c, err := Load(l.file("dr"))
	if err != nil {
		t.Fatal(err)
	}
	all, err := devicesOf(c, map[draas.ServiceID][]draas.ServiceID{"web": {"web"}}, "dr", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	devices := all["web"]["primary"]
	if len(all) != 1 || len(all["web"]) != 1 || len(devices) != 2 {
		t.Fatalf("%+v", all)
	}
	if got, want := names(devices), "web: /bin/sh, web: ipmi 192.0.2.9:623"; got != want {
		t.Errorf("named %q, want %q", got, want)
	}
	if err := devices[0].Off(t.Context(), devices[0].service, "primary", 1); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(off); err != nil || string(b) != "web primary 1\n" {
		t.Errorf("the command saw %q, %v", b, err)
	}
}

// What fences need of this machine is looked for: of the devices only those
// that this member would use.
func TestCheckHereFences(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.edit("dr", func(s string) string {
		return strings.NewReplacer(`kind = "path"`, `kind = "kernel"
ports = [8443]
xdp = ["absent0"]`, "listen.primary = ", "#", "listen.dr = ", "#", "forward.primary = ", "#", "forward.dr = ", "#").Replace(s) + `
[[service.web.fence.device]]
site = "primary"
kind = "exec"
off = ["/absent/off"]
status = ["/bin/sh"]
[[service.web.fence.device]]
site = "dr"
kind = "exec"
off = ["/absent/own"]
status = ["/absent/own"]
[watchdog]
device = "/absent/watchdog"
`
	})
	_, err := Check(l.file("dr"), true)
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, want := range []string{"watchdog.device", "fence.xdp: absent0", "/absent/off"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not said: %s", want)
		}
	}
	if strings.Contains(err.Error(), "/absent/own") {
		t.Error("asks for what only the others use")
	}
	if t.Failed() {
		t.Log(err)
	}
}
