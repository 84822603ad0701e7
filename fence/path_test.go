package fence_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/fence/fencetest"
)

var discard = slog.New(slog.DiscardHandler)

func newPath(t testing.TB, cfg fence.PathConfig) *fence.Path {
	t.Helper()
	p, err := fence.NewPath(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func forLong(clock fence.Clock) fence.Permit {
	return fence.Permit{Epoch: 1, Deadline: draas.DeadlineAt(clock.Now(), time.Minute)}
}

func TestPathConforms(t *testing.T) {
	t.Parallel()
	fencetest.Run(t, func(t *testing.T) fencetest.Subject {
		addr := freeAddr(t)
		p := newPath(t, fence.PathConfig{Listen: addr, Forward: startEcho(t)})
		dial := dialTo(addr)
		return fencetest.Subject{Fence: p, Clock: fence.SystemClock{}, SelfTimed: false, Ask: askFresh(dial), Connect: connect(t, dial)}
	})
}

func TestPathRefusesPassedDeadlines(t *testing.T) {
	t.Parallel()
	clock := fence.SystemClock{}
	p := newPath(t, fence.PathConfig{Listen: freeAddr(t), Forward: "127.0.0.1:1"})
	if err := p.Open(t.Context(), fence.Permit{Epoch: 1, Deadline: draas.DeadlineAt(clock.Now(), 0)}); !errors.Is(err, draas.ErrExpired) {
		t.Fatalf("open: %v", err)
	}
	if s, err := p.State(t.Context()); s != fence.Closed {
		t.Fatalf("%s, %v", s, err)
	}
}

// frozenClock is a clock that only the test moves: with it the relay meets a
// deadline that nobody acted on, as a guard that was stopped and continued.
type frozenClock struct {
	mu  sync.Mutex
	now draas.Reading
}

func (c *frozenClock) Now() draas.Reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *frozenClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Nobody closes the fence here: the relay's own look at the clock must keep
// every chunk, in both directions, and every new connection.
func TestPathForwardsNothingLate(t *testing.T) {
	t.Parallel()
	clock := &frozenClock{now: fence.SystemClock{}.Now()}
	addr := freeAddr(t)
	backend := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer backend.Close()
	p := newPath(t, fence.PathConfig{Listen: addr, Forward: backend.Addr().String(), Clock: clock})
	if err := p.Open(t.Context(), forLong(clock)); err != nil {
		t.Fatal(err)
	}
	pair := func() (client, server net.Conn) {
		client = must[net.Conn](t)(net.Dial("tcp", addr))
		server = must[net.Conn](t)(backend.Accept())
		for _, c := range []net.Conn{client, server} {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			t.Cleanup(func() { _ = c.Close() })
		}
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			if _, err := way[0].Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way[1], make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		return client, server
	}
	client1, server1 := pair()
	client2, server2 := pair()
	clock.pass(time.Minute)
	for name, way := range map[string][2]net.Conn{"to the backend": {client1, server1}, "to the client": {server2, client2}} {
		if _, err := way[0].Write([]byte("late")); err != nil {
			t.Fatal(err)
		}
		if n, err := way[1].Read(make([]byte, 16)); n > 0 || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %d bytes after the deadline, %v; want a reset", name, n, err)
		}
	}
	late, err := net.Dial("tcp", addr) // the queue still takes it; the reset may be as fast
	if err == nil {
		defer late.Close()
		_ = late.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = late.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection after the deadline: %v, want a reset", err)
	}
	if s, err := p.State(t.Context()); s != fence.Unknown || err == nil {
		t.Errorf("listens after the deadline, state %s", s)
	}
}

// A reader that stalls leaves the relay waiting for room in the middle of a
// chunk; what is left of it must not go out late either.
func TestPathForwardsNoRestLate(t *testing.T) {
	t.Parallel()
	clock := &frozenClock{now: fence.SystemClock{}.Now()}
	addr := freeAddr(t)
	backend := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer backend.Close()
	p := newPath(t, fence.PathConfig{Listen: addr, Forward: backend.Addr().String(), Clock: clock})
	if err := p.Open(t.Context(), forLong(clock)); err != nil {
		t.Fatal(err)
	}
	client := must[net.Conn](t)(net.Dial("tcp", addr)).(*net.TCPConn)
	defer client.Close()
	server := must[net.Conn](t)(backend.Accept())
	defer server.Close()
	// The client reads nothing: fill every buffer on the way.
	sent := 0
	for n := 1; n > 0 || sent == 0; {
		_ = server.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, _ = server.Write(make([]byte, 1<<20)) // a timeout, at last
		sent += n
	}
	clock.pass(time.Minute)
	_ = client.SetReadDeadline(time.Now().Add(5 * time.Second))
	got, err := io.Copy(io.Discard, client)
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the rest ended with %v, want a reset", err)
	}
	// What the kernel had taken for the client before may arrive; the chunks
	// that the relay and the kernel on the backend's side still held may not.
	if int(got) >= sent {
		t.Errorf("all %d bytes arrived", got)
	}
}

func TestPathCarriesBytesAndHalfCloses(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	backend := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer backend.Close()
	p := newPath(t, fence.PathConfig{Listen: addr, Forward: backend.Addr().String()})
	if err := p.Open(t.Context(), forLong(fence.SystemClock{})); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	payload := make([]byte, 3<<20+17)
	for i := range payload {
		payload[i] = byte(rnd.Uint32())
	}
	// The backend answers only when the client has ended its side, and then
	// ends its own: everything must arrive, though closes are resets.
	var wg sync.WaitGroup
	wg.Go(func() {
		for range 5 {
			c, err := backend.Accept()
			if err != nil {
				return
			}
			all, _ := io.ReadAll(c) // compared below
			_, _ = c.Write(all)
			_ = c.Close()
		}
	})
	for range 5 {
		c := must[net.Conn](t)(net.Dial("tcp", addr)).(*net.TCPConn)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(payload); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		back, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(back, payload) {
			t.Fatalf("%d of %d bytes came back, %v", len(back), len(payload), err)
		}
		_ = c.Close()
	}
	wg.Wait()
	eventually(t, "no connection left", func() bool { return p.Conns() == 0 })
}

func TestPathResets(t *testing.T) {
	t.Parallel()
	addr, backend := freeAddr(t), freeAddr(t) // nobody listens on the backend
	p := newPath(t, fence.PathConfig{Listen: addr, Forward: backend, MaxConns: 2})
	if err := p.Open(t.Context(), forLong(fence.SystemClock{})); err != nil {
		t.Fatal(err)
	}
	expectReset := func(what string) {
		t.Helper()
		c, err := net.Dial("tcp", addr) // the reset may be that fast
		if err == nil {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			_, err = c.Read(make([]byte, 1))
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, want a reset", what, err)
		}
	}
	expectReset("backend refuses")
	eventually(t, "its place is free again", func() bool { return p.Conns() == 0 })

	ln := must[net.Listener](t)(net.Listen("tcp", backend))
	defer ln.Close()
	var servers []net.Conn
	for range 2 {
		c := must[net.Conn](t)(net.Dial("tcp", addr))
		defer c.Close()
		s := must[net.Conn](t)(ln.Accept())
		defer s.Close()
		// One that the relay is still making is dropped, not reset.
		must[int](t)(c.Write([]byte("x")))
		must[int](t)(s.Read(make([]byte, 1)))
		servers = append(servers, s)
	}
	if n := p.Conns(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	expectReset("one connection too many")
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers {
		_ = s.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the backend's side after a close: %v, want a reset", err)
		}
	}
	if _, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("connect to a closed path: %v, want refused", err)
	}
}

func TestPathSeesAnotherListener(t *testing.T) {
	t.Parallel()
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer ln.Close()
	p := newPath(t, fence.PathConfig{Listen: ln.Addr().String(), Forward: "127.0.0.1:1"})
	if s, err := p.State(t.Context()); s != fence.Unknown || err == nil {
		t.Errorf("%s, %v: somebody else listens there", s, err)
	}
	if err := p.Open(t.Context(), forLong(fence.SystemClock{})); err == nil {
		t.Error("opened where somebody else listens")
	}
	// An address that is not here cannot lead here.
	away := newPath(t, fence.PathConfig{Listen: "192.0.2.1:80", Forward: "127.0.0.1:1"})
	if s, err := away.State(t.Context()); s != fence.Closed {
		t.Errorf("%s, %v: not an address of this host", s, err)
	}
}
