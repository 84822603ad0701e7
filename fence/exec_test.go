package fence_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/fence/fencetest"
)

// script is a real service process managed by a pid file, by a program that
// keeps the contract of an operator's commands and of systemctl.
type script struct {
	dir, path, addr string
}

const scriptText = `#!/bin/sh
# start | stop | check               as an operator's commands
# start UNIT | stop UNIT | is-active UNIT | kill -s SIGKILL UNIT   as systemctl
dir=%[1]q
# Shell builtins only, where it can be: commands are part of the margin.
pid= stat=
[ -e "$dir/pid" ] && read -r pid <"$dir/pid"
running() { # a zombie does not
	[ -n "$pid" ] && [ -e "/proc/$pid/stat" ] && { read -r stat <"/proc/$pid/stat"; } 2>/dev/null || return 1
	case $stat in *") Z "*|*") X "*|"") return 1 ;; esac
}
case "$*" in
start|"start shop.service")
	running && exit 0
	env >"$dir/env.start"
	%[7]s=1 GORACE=atexit_sleep_ms=0 %[2]s=service %[3]s='%[4]s' setsid %[5]q >/dev/null 2>&1 </dev/null &
	echo $! >"$dir/pid"
	tries=0 # as systemd for a unit of Type=notify: started means it serves
	until grep -qi ':%[6]s 00000000:0000 0A' /proc/net/tcp || [ $tries -gt 200 ]; do sleep 0.02; tries=$((tries+1)); done ;;
stop|"stop shop.service")
	while running; do kill -TERM "$pid"; sleep 0.02; done ;;
check)
	running && exit 1
	exit 0 ;;
"is-active shop.service")
	running && { echo active; exit 0; }
	echo inactive; exit 3 ;;
"kill -s SIGKILL shop.service")
	running && kill -KILL "$pid" ;;
*)
	echo "Unknown command verb $*" >&2; exit 1 ;;
esac
exit 0
`

func newScript(t *testing.T, deaf bool) *script {
	t.Helper()
	s := &script{dir: t.TempDir(), addr: freeAddr(t)}
	s.path = filepath.Join(s.dir, "svc")
	_, port, _ := strings.Cut(s.addr, ":")
	n := must[int](t)(strconv.Atoi(port))
	args := must[[]byte](t)(json.Marshal(roleArgs{Addr: s.addr, Deaf: deaf}))
	text := fmt.Sprintf(scriptText, s.dir, envRole, envArgs, args, os.Args[0], fmt.Sprintf("%04X", n), envStay)
	s.write(t, text)
	t.Cleanup(func() {
		b, _ := os.ReadFile(filepath.Join(s.dir, "pid")) // none when it never ran
		if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // dead already, as a rule
		}
	})
	return s
}

// write holds the lock that keeps other goroutines from forking while the
// script is open for writing: a child would hold it open, and executing it
// would fail with ETXTBSY.
func (s *script) write(t *testing.T, text string) {
	t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(s.path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// signal sends a signal to the service.
func (s *script) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	b := must[[]byte](t)(os.ReadFile(filepath.Join(s.dir, "pid")))
	pid := must[int](t)(strconv.Atoi(strings.TrimSpace(string(b))))
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatalf("signal the service: %v", err)
	}
}

func (s *script) execSpec() fence.Spec {
	return fence.Spec{Service: "shop", Site: "east", Kind: draas.FenceExec,
		Open: []string{s.path, "start"}, Close: []string{s.path, "stop"}, Check: []string{s.path, "check"}}
}

func (s *script) systemdSpec() fence.Spec {
	return fence.Spec{Service: "shop", Site: "east", Kind: draas.FenceSystemd, Unit: "shop.service", Systemctl: s.path}
}

func build(t *testing.T, spec fence.Spec) fence.Fence {
	t.Helper()
	return must[fence.Entry](t)(spec.Entry(fence.Host{Log: discard})).Fence
}

func TestExecConforms(t *testing.T) {
	t.Parallel()
	fencetest.Run(t, func(t *testing.T) fencetest.Subject {
		svc := newScript(t, false)
		dial := dialTo(svc.addr)
		return fencetest.Subject{Fence: build(t, svc.execSpec()), Clock: fence.SystemClock{}, Ask: askFresh(dial), Connect: connect(t, dial)}
	})
}

func TestSystemdConforms(t *testing.T) {
	t.Parallel()
	fencetest.Run(t, func(t *testing.T) fencetest.Subject {
		svc := newScript(t, false)
		dial := dialTo(svc.addr)
		return fencetest.Subject{Fence: build(t, svc.systemdSpec()), Clock: fence.SystemClock{}, Ask: askFresh(dial), Connect: connect(t, dial)}
	})
}

func TestExecEnvironment(t *testing.T) {
	t.Setenv("DRAAS_TEST_SECRET", "hunter2")
	svc := newScript(t, false)
	f := build(t, svc.execSpec())
	if err := f.Open(t.Context(), fence.Permit{Epoch: 7}); err != nil {
		t.Fatal(err)
	}
	env := string(must[[]byte](t)(os.ReadFile(filepath.Join(svc.dir, "env.start"))))
	for _, want := range []string{"DRAAS_SERVICE=shop\n", "DRAAS_SITE=east\n", "DRAAS_EPOCH=7\n", "PATH="} {
		if !strings.Contains(env, want) {
			t.Errorf("no %q in %q", want, env)
		}
	}
	if strings.Contains(env, "hunter2") {
		t.Error("the guard's own environment reached the command")
	}
	if err := f.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestExecCommands(t *testing.T) {
	t.Parallel()
	sh := func(text string) []string { return []string{"/bin/sh", "-c", text} }
	fenceOf := func(close, open, check string) fence.Fence {
		return build(t, fence.Spec{Service: "shop", Kind: draas.FenceExec, Close: sh(close), Open: sh(open), Check: sh(check)})
	}
	for check, want := range map[string]fence.State{
		"exit 0": fence.Closed, "exit 1": fence.Open, "exit 2": fence.Unknown,
		"kill -9 $$": fence.Unknown, "sleep 60": fence.Unknown, "no-such-command": fence.Unknown,
	} {
		state, err := fenceOf("true", "true", check).State(t.Context())
		if state != want || (err != nil) != (want == fence.Unknown) {
			t.Errorf("check %q: %s, %v, want %s", check, state, err, want)
		}
	}
	err := fenceOf("head -c 1000000 /dev/zero | tr '\\0' x; exit 3", "true", "true").Close(t.Context())
	if err == nil || !strings.Contains(err.Error(), "exit code 3") || len(err.Error()) > 1000 {
		t.Errorf("a failed close with much output: %v", err)
	}

	// What a command leaves behind is not waited for.
	start := time.Now()
	if err := fenceOf("true", "sleep 1 &", "true").Open(t.Context(), fence.Permit{}); err != nil || time.Since(start) > 800*time.Millisecond {
		t.Errorf("a command with a child: %v after %v", err, time.Since(start))
	}

	// The end of the permit kills the whole group.
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- fenceOf("true", "sleep 60 & echo $! >"+dir+"/child; wait", "true").Open(ctx, fence.Permit{})
	}()
	var child int
	eventually(t, "the command's child", func() bool {
		b, _ := os.ReadFile(dir + "/child") // not yet there
		child, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return child > 0
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled open: %v", err)
	}
	eventually(t, "the child gone", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", child))
		return err != nil || strings.Contains(string(b), "State:\tZ")
	})
}

func TestSystemdUnknownUnit(t *testing.T) {
	t.Parallel()
	svc := newScript(t, false)
	spec := svc.systemdSpec()
	spec.Unit = "other.service"
	if state, err := build(t, spec).State(t.Context()); state != fence.Unknown || err == nil {
		t.Fatalf("%s, %v", state, err)
	}
}

func TestSpecsRefused(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]fence.Spec{
		"none":             {Kind: draas.FenceNone},
		"path, no address": {Kind: draas.FencePath, Listen: ":80", Forward: "127.0.0.1:81"},
		"path, no port":    {Kind: draas.FencePath, Listen: "127.0.0.1:0", Forward: "127.0.0.1:81"},
		"path, no backend": {Kind: draas.FencePath, Listen: "127.0.0.1:80"},
		"exec, no check":   {Kind: draas.FenceExec, Open: []string{"a"}, Close: []string{"b"}},
		"systemd, no unit": {Kind: draas.FenceSystemd},
		"systemd, option":  {Kind: draas.FenceSystemd, Unit: "--now"},
		"kernel, no ports": {Kind: draas.FenceKernel, Service: "shop"},
		"kernel, port 0":   {Kind: draas.FenceKernel, Service: "shop", Ports: []uint16{0}},
		"kernel, proto":    {Kind: draas.FenceKernel, Service: "shop", Ports: []uint16{80}, Proto: "sctp"},
		"kernel, name":     {Kind: draas.FenceKernel, Service: "shop; flush ruleset", Ports: []uint16{80}},
	} {
		if _, err := s.Entry(fence.Host{Log: discard}); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}
