package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

func TestTCPProbe(t *testing.T) {
	accepting := listen(t, untilClosed)
	wantClass(t, must(t)(TCP(accepting)), patient, ClassOK, "")
	wantClass(t, must(t)(TCP(closedPort(t))), patient, ClassRefused, "connect: connection refused")
}

func TestTCPProbeByName(t *testing.T) {
	_, port, _ := net.SplitHostPort(listen(t, untilClosed))
	wantClass(t, must(t)(TCP("localhost:"+port)), patient, ClassOK, "")
}

// A full listen queue drops SYNs: the silence of a host that is gone.
func TestTCPProbeSilent(t *testing.T) {
	addr := fullQueue(t)
	wantClass(t, must(t)(TCP(addr)), brief, ClassTimeout, "connect: ")
}

// fullQueue returns an address whose listener never accepts and has no room.
func fullQueue(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*syscall.SockaddrInet4).Port)).String()
	for range 16 { // a backlog of 0 leaves room for one or two
		c, err := net.DialTimeout("tcp", addr, 50*ms)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the listen queue never filled")
	return ""
}

func TestProbeEndsWhenCancelled(t *testing.T) {
	silent := listen(t, untilClosed)
	probes := map[string]Probe{
		"http": must(t)(HTTP(HTTPSpec{Addr: silent})),
		"tls":  must(t)(HTTP(HTTPSpec{Addr: silent, TLS: true})),
		"exec": must(t)(Exec(ExecSpec{Command: []string{"sleep", "60"}})),
		"peer": Peer(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }),
	}
	for name, p := range probes {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			timer := time.AfterFunc(30*ms, cancel)
			defer timer.Stop()
			r := Look(ctx, patient, p)
			if r.Class != ClassLocal || r.Latency > patient/2 {
				t.Errorf("cancelled look: %+v", r)
			}
		})
	}
}

func TestAddressesThatCannotBe(t *testing.T) {
	for _, addr := range []string{"", "127.0.0.1", ":80", "127.0.0.1:0", "127.0.0.1:http", "127.0.0.1:70000", "::1:80"} {
		if _, err := TCP(addr); err == nil {
			t.Errorf("TCP(%q) made a probe", addr)
		}
	}
	if _, err := TCP("[::1]:80"); err != nil {
		t.Error(err)
	}
}

func TestPeerProbe(t *testing.T) {
	answer := func(err error) Probe { return Peer(func(context.Context) error { return err }) }
	wantClass(t, answer(nil), patient, ClassOK, "")
	wantClass(t, answer(errors.New("wrong cluster")), patient, ClassPeer, "ping: wrong cluster")
	wantClass(t, answer(fmt.Errorf("dial: %w", syscall.ECONNREFUSED)), patient, ClassRefused, "")
	wantClass(t, answer(fmt.Errorf("read: %w", io.EOF)), patient, ClassReset, "")
	silent := Peer(func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("wait: %w", ctx.Err()) })
	wantClass(t, silent, brief, ClassTimeout, "")
}

func TestClassify(t *testing.T) {
	tests := map[Class][]error{
		ClassTimeout:     {context.DeadlineExceeded, os.ErrDeadlineExceeded, syscall.ETIMEDOUT, &net.DNSError{IsTimeout: true}},
		ClassRefused:     {syscall.ECONNREFUSED},
		ClassReset:       {syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF},
		ClassUnreachable: {syscall.EHOSTUNREACH, syscall.ENETUNREACH},
		ClassLocal:       {syscall.EMFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.EAGAIN, syscall.EPERM},
		ClassDNS:         {&net.DNSError{IsNotFound: true}},
		ClassOther:       {errors.New("odd"), syscall.EINVAL},
	}
	for want, errs := range tests {
		for _, err := range errs {
			wrapped := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", err)}
			if got := classify(wrapped); got != want {
				t.Errorf("classify(%v) = %s, want %s", wrapped, got, want)
			}
		}
	}
}

// Out of descriptors is our own trouble, seen through the real dialer.
func TestNoDescriptorsIsNoEvidence(t *testing.T) {
	addr := listen(t, untilClosed)
	probe := must(t)(TCP(addr))
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 3
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	r := Look(t.Context(), patient, probe)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if r.Class != ClassLocal || !strings.Contains(r.Detail, "too many open files") {
		t.Errorf("without descriptors: %+v", r)
	}
	wantClass(t, probe, patient, ClassOK, "")
}

func TestClip(t *testing.T) {
	tests := map[string]string{
		" one\ntwo\tthree ":      "one two three",
		"bell\a esc\x1b[31m":     "bell? esc?[31m",
		"bad \xff utf8":          "bad ? utf8",
		strings.Repeat("é", 200): strings.Repeat("é", 78) + "...",
		"right\u202eleft \u2028": "right?left",
	}
	for in, want := range tests {
		if got := clip(in); got != want {
			t.Errorf("clip(%q) = %q, want %q", in, got, want)
		}
	}
	if got := clip(strings.Repeat("世\x00", 1000)); len(got) > maxDetail || !utf8.ValidString(got) {
		t.Errorf("clip made %d bytes", len(got))
	}
}

func TestExecProbe(t *testing.T) {
	sh := func(script string) Probe {
		return must(t)(Exec(ExecSpec{
			Command: []string{"/bin/sh", "-c", script},
			Service: "shop", Site: "east", Address: "192.0.2.1:80",
		}))
	}
	wantClass(t, sh("exit 0"), patient, ClassOK, "")
	wantClass(t, sh("echo no db >&2; exit 3"), patient, ClassExec, "exit status 3: no db")
	wantClass(t, sh("kill -9 $$"), patient, ClassExec, "signal: killed")
	wantClass(t, sh(`test "$DRAAS_SERVICE $DRAAS_SITE $DRAAS_ADDRESS" = "shop east 192.0.2.1:80"`), patient, ClassOK, "")
	wantClass(t, sh("yes | head -c 10000000; exit 1"), patient, ClassExec, "exit status 1: y")
	wantClass(t, sh("read x"), patient, ClassExec, "exit status 1") // stdin is empty
	wantClass(t, must(t)(Exec(ExecSpec{Command: []string{"/nonexistent/check"}})), patient, ClassLocal, "no such file")

	t.Setenv("DRAAS_TEST_SECRET", "hunter2")
	wantClass(t, sh(`test -z "$DRAAS_TEST_SECRET"`), patient, ClassOK, "")
	if _, err := Exec(ExecSpec{}); err == nil {
		t.Error("a probe without a command")
	}
}

func TestExecProbeKillsChildren(t *testing.T) {
	tests := []struct {
		name, script string
		timeout      time.Duration
		class        Class
	}{
		{"timeout", "sleep 300 & echo $! >$DRAAS_ADDRESS; sleep 300", 200 * ms, ClassTimeout},
		{"timeout with signals ignored", "trap '' TERM INT HUP; sleep 300 & echo $! >$DRAAS_ADDRESS; wait", 200 * ms, ClassTimeout},
		{"left behind after success", "sleep 300 & echo $! >$DRAAS_ADDRESS", patient, ClassOK},
		{"left behind after failure", "sleep 300 & echo $! >$DRAAS_ADDRESS; exit 1", patient, ClassExec},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			p := must(t)(Exec(ExecSpec{Command: []string{"/bin/sh", "-c", tt.script}, Address: file}))
			wantClass(t, p, tt.timeout, tt.class, "")
			for timeout := tt.timeout; !written(file); { // too short on a busy machine
				if timeout *= 4; timeout > time.Minute {
					t.Fatal("the command never got to its child")
				}
				wantClass(t, p, timeout, tt.class, "")
			}
			pid := readPID(t, file)
			t.Cleanup(func() { // only if it is still the child
				if alive(pid) {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			})
			eventually(t, "the child is dead", func() bool { return !alive(pid) })
		})
	}
}

// A child that leaves the group and keeps the pipe does not hold up the look.
func TestExecProbeDoesNotWaitForTheEscaped(t *testing.T) {
	if _, err := exec.LookPath("setsid"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pid")
	p := must(t)(Exec(ExecSpec{
		Command: []string{"/bin/sh", "-c", `setsid sh -c 'echo $$ >$DRAAS_ADDRESS; exec sleep 300' & while ! test -s $DRAAS_ADDRESS; do :; done`},
		Address: file,
	}))
	r := wantClass(t, p, patient, ClassOK, "")
	if r.Latency > patient/2 {
		t.Errorf("look took %v", r.Latency)
	}
	pid := readPID(t, file)
	if !alive(pid) {
		t.Error("the child did not escape: the test tests nothing")
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

func TestExecProbeLeavesNoZombie(t *testing.T) {
	p := must(t)(Exec(ExecSpec{Command: []string{"/bin/sh", "-c", "sleep 300"}}))
	for range 5 {
		wantClass(t, p, 20*ms, ClassTimeout, "")
	}
	var status syscall.WaitStatus
	if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("wait4 = %d, %v: a child was left", pid, err)
	}
}

func TestFirstBytes(t *testing.T) {
	var f firstBytes
	for range 100 {
		if n, err := f.Write([]byte(strings.Repeat("x", 300))); n != 300 || err != nil {
			t.Fatalf("Write = %d, %v: the command would get a broken pipe", n, err)
		}
	}
	if len(f.kept) != maxOutput {
		t.Errorf("kept %d bytes", len(f.kept))
	}
}

func written(file string) bool {
	info, err := os.Stat(file)
	return err == nil && info.Size() > 0
}

func readPID(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// alive reports whether the process runs; a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * ms)
	defer tick.Stop()
	timeout := time.After(5 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}
