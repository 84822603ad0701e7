package health

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// helperEnv makes the test binary play another process: what a probe's own
// processor time is measured against, or who gets stopped.
const helperEnv = "DRAAS_HEALTH_HELPER"

func TestMain(m *testing.M) {
	switch os.Getenv(helperEnv) {
	case "":
		goleak.VerifyTestMain(m)
	case "http":
		helperHTTP()
	case "monitor":
		helperMonitor(os.Getenv(helperEnv + "_ADDR"))
	default:
		panic("unknown helper")
	}
}

// helperHTTP serves on a free port, which it prints, until stdin ends.
func helperHTTP() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ok")
	}))
	bufio.NewReader(os.Stdin).ReadByte() // the test is gone when this returns
}

// helper is a running helper process.
type helper struct {
	cmd   *exec.Cmd
	lines *bufio.Reader
}

// startHelper starts this binary as the named helper, and ends it with the
// test: by a kill, or, if the test process itself dies, by the end of stdin.
func startHelper(t testing.TB, name, addr string) *helper {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+name, helperEnv+"_ADDR="+addr)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &helper{cmd: cmd, lines: bufio.NewReader(stdout)}
}

func (h *helper) line(t testing.TB) string {
	t.Helper()
	s, err := h.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("read helper's line: %v", err)
	}
	return strings.TrimSpace(s)
}

// listen returns a listener on a free loopback port that is closed with the
// test, and hands each connection to serve, which owns it.
func listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var conns []chan struct{}
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			ended := make(chan struct{})
			conns = append(conns, ended)
			go func() {
				defer close(ended)
				defer c.Close()
				serve(c)
			}()
		}
		for _, ended := range conns {
			<-ended
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// closedPort returns a loopback address on which nobody listens, on TCP and on
// UDP, and sees to it that nobody does until the test ends.
func closedPort(t testing.TB) string {
	t.Helper()
	for range 20 { // until one number is free on both
		// A connected socket takes datagrams from its peer only.
		udp, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")),
			net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:1")))
		if err != nil {
			t.Fatal(err)
		}
		addr := udp.LocalAddr().(*net.UDPAddr)
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			udp.Close()
			syscall.Close(fd)
		})
		if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: addr.Port, Addr: [4]byte{127, 0, 0, 1}}); err == nil {
			return addr.String() // bound, and never listening
		}
	}
	t.Fatal("no free port")
	return ""
}

// untilClosed keeps a connection until the other side has closed it.
func untilClosed(c net.Conn) {
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 4096)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

// reset closes the connection with RST.
func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func must(t testing.TB) func(Probe, error) Probe {
	t.Helper()
	return func(p Probe, err error) Probe {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
}

// wantClass looks once and checks the class, and a part of the detail.
func wantClass(t *testing.T, p Probe, timeout time.Duration, class Class, detail string) Result {
	t.Helper()
	r := Look(t.Context(), timeout, p)
	if r.Class != class || !strings.Contains(r.Detail, detail) {
		t.Errorf("result %q (%s), want %q with %q", r.Class, r.Detail, class, detail)
	}
	if len(r.Detail) > maxDetail {
		t.Errorf("detail has %d bytes", len(r.Detail))
	}
	if r.OK() && r.Detail != "" {
		t.Errorf("success with a detail: %s", r.Detail)
	}
	// A deadline is kept within what a busy machine may take to wake us.
	if r.Latency > timeout+3*time.Second {
		t.Errorf("look took %v with a timeout of %v", r.Latency, timeout)
	}
	if class == ClassTimeout && r.Latency < timeout {
		t.Errorf("timeout after %v of %v", r.Latency, timeout)
	}
	return r
}

// Enough for a look that must not time out, and for one that must.
const (
	patient = 5 * time.Second
	brief   = 60 * ms
)
