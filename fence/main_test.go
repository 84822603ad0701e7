package fence_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/internal/lab"
)

// The tests run this test binary again in other roles: real processes, to be
// killed and stopped.
const (
	envRole = "DRAAS_FENCE_ROLE"
	envArgs = "DRAAS_FENCE_ARGS" // JSON of roleArgs
	envStay = "DRAAS_FENCE_STAY" // set: outlive who started it
)

type roleArgs struct {
	Socket string        // guard and draasd
	Spec   fence.Spec    // guard
	Pins   string        // guard: where the backstop's objects are pinned
	Dog    string        // guard: a fileWatchdog
	Epoch  draas.Epoch   // draasd
	Hold   time.Duration // draasd: the permit, from before each renewal
	Every  time.Duration // draasd: between two renewals
	Addr   string        // service
	Deaf   bool          // service: ignores SIGTERM
}

func TestMain(m *testing.M) {
	role := os.Getenv(envRole)
	if role == "" {
		// Nearly all tests wait for real deadlines and hardly compute.
		flag.Parse()
		if flag.Lookup("test.fuzz").Value.String() == "" {
			if err := flag.Set("test.parallel", "8"); err != nil {
				panic(err)
			}
		}
		goleak.VerifyTestMain(m)
		return
	}
	var args roleArgs
	if err := json.Unmarshal([]byte(os.Getenv(envArgs)), &args); err != nil {
		panic(err)
	}
	if os.Getenv(envStay) == "" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(2) // the test is over
		}()
	}
	roles := map[string]func(roleArgs) error{"guard": beGuard, "draasd": beDraasd, "service": beService}
	if err := roles[role](args); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
}

// beGuard is `draasd guard`.
func beGuard(args roleArgs) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	host := fence.Host{Log: log}
	if args.Pins != "" {
		host.Backstop = fence.NewBackstop(args.Pins, log)
		defer host.Backstop.Close()
	}
	entry, err := args.Spec.Entry(host)
	if err != nil {
		return err
	}
	cfg := fence.GuardConfig{Socket: args.Socket, Services: []fence.Entry{entry}, Log: log}
	if args.Dog != "" {
		cfg.Watchdog, cfg.WatchdogTimeout = fileWatchdog(args.Dog), dogTimeout
	}
	g, err := fence.NewGuard(cfg)
	if err != nil {
		return err
	}
	go func() {
		<-g.Ready()
		fmt.Println("ready")
	}()
	return g.Run(ctx)
}

// beDraasd renews, and prints each renewal before it is sent: the reading it
// counts from and the deadline, by the boot clock.
func beDraasd(args roleArgs) error {
	client := fence.Dial(args.Socket)
	for {
		now := fence.SystemClock{}.Now()
		d := draas.DeadlineAt(now, args.Hold)
		fmt.Println("sent", int64(now.Boot), int64(d.Boot))
		ctx, cancel := context.WithTimeout(context.Background(), args.Every)
		_, err := client.Extend(ctx, args.Spec.Service, args.Epoch, d)
		cancel()
		fmt.Println("answered", err)
		time.Sleep(args.Every)
	}
}

// beService echoes; to a connection whose first byte is 's' it then goes on
// sending without being asked.
func beService(args roleArgs) error {
	if args.Deaf {
		signal.Ignore(syscall.SIGTERM)
	}
	ln, err := net.Listen("tcp", args.Addr)
	if err != nil {
		return err
	}
	return serveEcho(ln)
}

// serveEcho serves until the listener is closed, and then until the last
// connection is.
func serveEcho(ln net.Listener) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	defer func() {
		mu.Lock()
		for c := range conns {
			_ = c.Close() // its goroutine closes it again
		}
		mu.Unlock()
		wg.Wait()
	}()
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		mu.Lock()
		conns[c] = true
		mu.Unlock()
		wg.Go(func() {
			echo(c)
			_ = c.Close()
			mu.Lock()
			delete(conns, c)
			mu.Unlock()
		})
	}
}

func echo(c net.Conn) {
	buf := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, buf); err != nil {
			return
		}
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
			if buf[0] != 's' {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// proc is a process that a test started.
type proc struct {
	cmd    *exec.Cmd
	stderr *syncBuffer
	stdout printed
	wait   func() error
}

// printed is the name of a file that a process writes by itself: what is in it
// does not wait for this process to pass it on.
type printed string

func (p printed) String() string {
	text, err := os.ReadFile(string(p))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

type syncBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startRole starts a process, by a program that narrows its rights if one is
// given.
func startRole(t *testing.T, role string, args roleArgs, by ...string) *proc {
	t.Helper()
	file := must[*os.File](t)(os.CreateTemp(t.TempDir(), role))
	defer file.Close()
	p := &proc{stdout: printed(file.Name()), stderr: &syncBuffer{}}
	argv := append(by, os.Args[0])
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), envRole+"="+role, envArgs+"="+string(must[[]byte](t)(json.Marshal(args))),
		"GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout, p.cmd.Stderr = file, p.stderr
	// The role ends when its standard input does, so also if the test binary
	// dies. (Pdeathsig would kill it when the thread that forked ends, as the
	// threads do that change the network namespace.)
	in := must[io.WriteCloser](t)(p.cmd.StdinPipe())
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.wait = sync.OnceValue(p.cmd.Wait)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // most are dead already
		_ = p.wait()
		_ = in.Close()
		if t.Failed() {
			t.Logf("%s said:\n%s%s", role, lastLines(p.stdout.String(), 6), lastLines(p.stderr.String(), 20))
		}
	})
	return p
}

func lastLines(s string, n int) string {
	lines := strings.SplitAfter(s, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

func (p *proc) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatalf("signal %v: %v", sig, err)
	}
	switch sig {
	case syscall.SIGKILL:
		_ = p.wait() // "signal: killed"
	case syscall.SIGSTOP:
		eventually(t, "it stands still", func() bool { return lab.StandsStill(p.cmd.Process.Pid) })
	}
}

func (p *proc) awaitReady(t *testing.T) {
	t.Helper()
	eventually(t, "guard ready", func() bool { return strings.Contains(p.stdout.String(), "ready\n") })
}

// lastSent is the last renewal that a draasd announced: the reading it counts
// from and the deadline.
func lastSent(t *testing.T, draasd *proc) (from, deadline time.Duration) {
	t.Helper()
	sc := bufio.NewScanner(strings.NewReader(draasd.stdout.String()))
	for sc.Scan() {
		var a, b int64
		if n, _ := fmt.Sscanf(sc.Text(), "sent %d %d", &a, &b); n == 2 {
			from, deadline = time.Duration(a), time.Duration(b)
		}
	}
	if deadline == 0 {
		t.Fatal("no renewal was sent")
	}
	return from, deadline
}

// dialFunc connects as a user does.
type dialFunc func(ctx context.Context) (net.Conn, error)

func dialTo(addr string) dialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

// ask sends a byte and reads it back.
func ask(ctx context.Context, c net.Conn) error {
	d, ok := ctx.Deadline()
	if !ok {
		d = time.Now().Add(time.Second)
	}
	if err := c.SetDeadline(d); err != nil {
		return err
	}
	if _, err := c.Write([]byte("e")); err != nil {
		return err
	}
	buf := make([]byte, 1)
	_, err := io.ReadFull(c, buf)
	return err
}

func askFresh(dial dialFunc) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		c, err := dial(ctx)
		if err != nil {
			return err
		}
		return errors.Join(ask(ctx, c), c.Close())
	}
}

func connect(t *testing.T, dial dialFunc) func(context.Context) (func(context.Context) error, error) {
	return func(ctx context.Context) (func(context.Context) error, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = c.Close() })
		return func(ctx context.Context) error { return ask(ctx, c) }, nil
	}
}

var nextAddr atomic.Uint32

// freeAddr is a loopback address of this process alone, so that nobody takes
// its port while the fence is closed: 127.0.0.0/8 is local as a whole.
func freeAddr(t *testing.T) string {
	t.Helper()
	pid, n := os.Getpid(), nextAddr.Add(1)
	addr := fmt.Sprintf("127.%d.%d.%d:%d", 1+pid>>8&0x7f, pid&0xff, 1+n%250, 10000+n)
	ln := must[net.Listener](t)(net.Listen("tcp", addr))
	defer ln.Close()
	return addr
}

// startEcho is a service in this process.
func startEcho(t *testing.T) string {
	t.Helper()
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	var wg sync.WaitGroup
	wg.Go(func() { _ = serveEcho(ln) }) // until the listener is closed
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}
