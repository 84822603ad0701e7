package frontend

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
)

func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, l.Addr().String()
}

// deaf is an address where a handshake is never answered: its queue is full.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	a := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}
	for {
		c, err := net.DialTimeout("tcp", a.String(), 50*time.Millisecond)
		if Classify(err) == Silent {
			return a.String()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

func refusing(t *testing.T) string {
	l, a := listen(t)
	_ = l.Close()
	return a
}

func TestDialTakesTheFirstThatAnswers(t *testing.T) {
	_, good := listen(t)
	for name, first := range map[string]string{"deaf": deaf(t), "refusing": refusing(t)} {
		b, _ := balanced(t, RoundRobin, first, good)
		d := Dialer{Balancer: b, Timeout: 5 * time.Second}
		start := time.Now()
		c, s, err := d.Dial(t.Context(), "primary", Want{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		took := time.Since(start)
		if s.Address != good || s.Connections() != 1 || c.RemoteAddr().String() != good {
			t.Errorf("%s: led to %s (%d connections)", name, s.Address, s.Connections())
		}
		if name == "deaf" && took < DefaultHedge || took > 2*time.Second {
			t.Errorf("%s: after %s", name, took)
		}
		if other := b.Servers("primary")[0]; other.Connections() != 0 || other.Aside() != (name == "refusing") {
			t.Errorf("%s: of the loser %d connections are counted, aside: %v", name, other.Connections(), other.Aside())
		}
		s.End()
		_ = c.Close()
	}
}

// A handshake that was lost is begun anew before the kernel would, even if
// there is but one server.
func TestDialTriesASilentServerAnew(t *testing.T) {
	at := deaf(t)
	svc := newTable(true)
	svc.Use([]Spec{{Service: "shop", Outlives: true, Sites: map[draas.SiteID][]Server{"primary": {{Address: at}}}}})
	d := &Dialer{Balancer: NewBalancer(svc.Service("shop"), RoundRobin), Hedge: 5 * time.Millisecond, Timeout: 300 * time.Millisecond}
	server := d.Balancer.Servers("primary")[0]
	ended := make(chan error, 1)
	go func() {
		_, _, err := d.Dial(t.Context(), "primary", Want{})
		ended <- err
	}()
	most := int64(0) // handshakes under way at once
	for {
		select {
		case err := <-ended:
			if err == nil || most != 1+maxRounds {
				t.Errorf("%v; %d handshakes at once, want %d", err, most, 1+maxRounds)
			}
			return
		default:
			most = max(most, server.Connections())
		}
	}
}

func TestDialSetsOptions(t *testing.T) {
	_, good := listen(t)
	b, _ := balanced(t, RoundRobin, good)
	d := Dialer{Balancer: b}
	c, _, err := d.Dial(t.Context(), "primary", Want{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	raw, _ := c.SyscallConn()
	_ = raw.Control(func(fd uintptr) {
		for name, o := range map[string][2]int{
			"TCP_NODELAY":      {unix.IPPROTO_TCP, unix.TCP_NODELAY},
			"SO_KEEPALIVE":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
			"TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
		} {
			if v, err := unix.GetsockoptInt(int(fd), o[0], o[1]); err != nil || v == 0 {
				t.Errorf("%s is %d, %v", name, v, err)
			}
		}
	})
}

func TestDialSaysWhy(t *testing.T) {
	silent, closed := deaf(t), refusing(t)
	for _, c := range []struct {
		name    string
		servers []string
		class   Class
	}{
		{"no server", nil, Unreachable},
		{"refused", []string{closed}, Refused},
		{"deaf", []string{silent}, Unreachable},
	} {
		b, _ := balanced(t, LeastConnections, c.servers...)
		d := Dialer{Balancer: b, Timeout: 100 * time.Millisecond}
		_, _, err := d.Dial(t.Context(), "primary", Want{})
		var why *DialError
		if !errors.As(err, &why) || why.Class != c.class || Classify(err) != c.class {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, s := range b.Servers("primary") {
			if s.Connections() != 0 || !s.Aside() {
				t.Errorf("%s: %d connections are counted, aside: %v", c.name, s.Connections(), s.Aside())
			}
		}
	}
}

// A dial that its caller gives up says nothing of the server.
func TestDialCalledOff(t *testing.T) {
	b, _ := balanced(t, LeastConnections, deaf(t))
	d := Dialer{Balancer: b, Timeout: time.Minute}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := d.Dial(ctx, "primary", Want{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, _, err := d.Dial(ctx, "primary", Want{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if s := b.Servers("primary")[0]; s.Connections() != 0 {
		t.Errorf("%d connections are counted", s.Connections())
	}
	b, _ = balanced(t, LeastConnections, deaf(t))
	d.Balancer = b
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, _, err := d.Dial(ctx, "primary", Want{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if b.Servers("primary")[0].Aside() {
		t.Error("a server is set aside for what its client did")
	}
}

func TestClassify(t *testing.T) {
	for err, want := range map[error]Class{
		syscall.ECONNREFUSED: Refused, syscall.EHOSTUNREACH: Unreachable, syscall.ENETUNREACH: Unreachable,
		os.ErrDeadlineExceeded: Silent, syscall.ETIMEDOUT: Silent, syscall.ECONNRESET: Reset, syscall.EPIPE: Reset,
	} {
		if got := Classify(&net.OpError{Op: "read", Err: os.NewSyscallError("read", err)}); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}
