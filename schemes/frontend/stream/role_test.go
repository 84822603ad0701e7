package stream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// The benchmarks and some tests run this test binary again in other roles, to
// tell the processes' costs apart and to stop them.
const (
	envRole  = "DRAAS_STREAM_ROLE"  // proxy, copy or backend
	envLeads = "DRAAS_STREAM_LEADS" // where a proxy leads
	envFiles = "DRAAS_STREAM_FILES" // how many descriptors it may have
)

// role plays the role that this process was started for.
func role() bool {
	kind := os.Getenv(envRole)
	if kind == "" {
		return false
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := play(ctx, kind); err != nil {
		fmt.Fprintln(os.Stderr, kind+":", err)
		os.Exit(1)
	}
	return true
}

func play(ctx context.Context, kind string) error {
	if n, err := strconv.ParseUint(os.Getenv(envFiles), 10, 64); err == nil {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // whoever started this is gone
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	switch kind {
	case "proxy":
		return playProxy(ctx, ln)
	case "copy":
		go accepting(ln, copyTo)
	case "backend":
		go accepting(ln, answer)
	}
	<-ctx.Done()
	return ln.Close()
}

func playProxy(ctx context.Context, ln net.Listener) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	table := frontend.New(frontend.Config{Clock: wallClock, Log: slog.New(slog.DiscardHandler)},
		[]frontend.Spec{spec(map[draas.SiteID][]string{"primary": {os.Getenv(envLeads)}})})
	if err := table.Apply(wallClock(), "shop", frontend.Decision{Epoch: 1, Site: "primary", Permit: 24 * time.Hour}); err != nil {
		return err
	}
	s, err := New(Config{Routes: []Route{{Service: table.Service("shop")}}, Log: log, Drain: time.Nanosecond, MaxConnections: 1 << 20})
	if err != nil {
		return err
	}
	return s.Serve(ctx, ln)
}

func accepting(ln net.Listener, serve func(net.Conn)) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go serve(c)
		}
	}
}

// copyTo is the proxy that anybody would write.
func copyTo(c net.Conn) {
	defer func() { _ = c.Close() }()
	b, err := net.Dial("tcp", os.Getenv(envLeads))
	if err != nil {
		return
	}
	defer func() { _ = b.Close() }()
	go func() {
		_, _ = io.Copy(b, c)
		_ = b.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, b)
}

const (
	benchRequest = "GET / HTTP/1.1\r\nHost: shop.example.org\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
	benchAnswer  = "HTTP/1.1 200 OK\r\nContent-Length: 128\r\nContent-Type: text/plain\r\nServer: bench\r\n\r\n"
	bigRequest   = "GET /big HTTP/1.1\r\nHost: shop.example.org\r\n\r\n"
	bigBody      = 1 << 20
)

// answer answers requests of HTTP with 128 bytes, or with 1 MiB.
func answer(c net.Conn) {
	defer func() { _ = c.Close() }()
	small := []byte(benchAnswer + strings.Repeat("x", 128))
	big := append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", bigBody), make([]byte, bigBody)...)
	b := make([]byte, 4096)
	for n := 0; ; {
		m, err := c.Read(b[n:])
		if err != nil {
			return
		}
		n += m
		if !bytes.HasSuffix(b[:n], []byte("\r\n\r\n")) {
			continue
		}
		out := small
		if bytes.HasPrefix(b, []byte("GET /big")) {
			out = big
		}
		if _, err := c.Write(out); err != nil {
			return
		}
		n = 0
	}
}

// other is a process of another role, or a real proxy.
type other struct {
	address string
	cmd     *exec.Cmd
}

// start runs this binary in a role until the test ends.
func start(t testing.TB, kind string, env ...string) *other {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(append(os.Environ(), envRole+"="+kind), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = in.Close()
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s did not start: %v", kind, err)
	}
	return &other{strings.TrimSpace(address), cmd}
}

// startHAProxy runs Debian's HAProxy in mode tcp until the test ends.
func startHAProxy(t testing.TB, leads string) *other {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	_ = ln.Close()
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	cfg := fmt.Sprintf(`global
  maxconn 9000
defaults
  mode tcp
  timeout connect 1s
  timeout client 1h
  timeout server 1h
listen shop
  bind %s
  server a %s
`, address, leads)
	if err := os.WriteFile(file, []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("haproxy", "-db", "-q", "-f", file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when the tests are killed
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			return &other{address, cmd}
		}
		if time.Now().After(deadline) {
			t.Fatal("haproxy does not listen")
		}
		<-time.After(5 * time.Millisecond)
	}
}

// cpu is how long the process has run, user and system.
func (o *other) cpu(t testing.TB) time.Duration {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", o.cmd.Process.Pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("no tasks: %v", err)
	}
	var sum time.Duration
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			t.Fatal(err)
		}
		ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// pause stops the process, and returns when all of it stands still.
func (o *other) pause(t testing.TB) {
	t.Helper()
	if err := o.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", o.cmd.Process.Pid))
		stopped := 0
		for _, name := range stats {
			b, _ := os.ReadFile(name)
			if i := bytes.LastIndexByte(b, ')'); i >= 0 && bytes.HasPrefix(b[i:], []byte(") T")) {
				stopped++
			}
		}
		if stopped > 0 && stopped == len(stats) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not stop")
		}
		<-time.After(time.Millisecond)
	}
}

// field reads a number of /proc/PID/status.
func (o *other) field(t testing.TB, name string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", o.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no " + name)
	return 0
}

func countFiles(t testing.TB, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
