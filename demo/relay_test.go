package demo

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// echo serves lines back on TCP, and counts its connections.
type echo struct {
	ln    net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	return newEchoAt(t, "127.0.0.1:0")
}

func newEchoAt(t *testing.T, addr string) *echo {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{ln: ln}
	e.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			e.conns = append(e.conns, c)
			e.mu.Unlock()
			e.wg.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // ends with the connection
			})
		}
	})
	t.Cleanup(e.stop)
	return e
}

func (e *echo) stop() {
	e.ln.Close()
	e.mu.Lock()
	for _, c := range e.conns {
		c.Close()
	}
	e.mu.Unlock()
	e.wg.Wait()
}

func (e *echo) accepted() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}

func newTCPRelay(t *testing.T, target string) (*tcpRelay, *valve) {
	t.Helper()
	v := newValve()
	r, err := relayTCP("127.0.0.1:0", target, v)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r, v
}

type lineConn struct {
	*net.TCPConn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *lineConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &lineConn{c.(*net.TCPConn), bufio.NewReader(c)}
}

func (c *lineConn) say(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		t.Fatal(err)
	}
}

// hear reads a line within a time.
func (c *lineConn) hear(limit time.Duration) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	return c.r.ReadString('\n')
}

func (c *lineConn) expect(t *testing.T, want string) {
	t.Helper()
	got, err := c.hear(5 * time.Second)
	if err != nil || got != want+"\n" {
		t.Fatalf("heard %q, %v, want %q", got, err, want)
	}
}

// expectReset makes a connection that must be reset, at once or soon.
func expectReset(t *testing.T, addr string) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err == nil {
		defer c.Close()
		if err = c.SetReadDeadline(time.Now().Add(5 * time.Second)); err == nil {
			_, err = c.Read(make([]byte, 1))
		}
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("a connection ended with %v, want a reset", err)
	}
}

// quiet is long enough for a relay that passes to have delivered.
const quiet = 100 * time.Millisecond

func (c *lineConn) expectSilence(t *testing.T) {
	t.Helper()
	if got, err := c.hear(quiet); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("heard %q, %v from a silent link", got, err)
	}
}

func TestTCPPasses(t *testing.T) {
	e := newEcho(t)
	r, _ := newTCPRelay(t, e.ln.Addr().String())
	c := dial(t, r.addr())
	c.say(t, "hello")
	c.expect(t, "hello")
	// A half-close travels there, and the end travels back.
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := c.hear(5 * time.Second); !errors.Is(err, io.EOF) {
		t.Fatalf("heard %q, %v, want the end", got, err)
	}
}

func TestTCPDropHoldsAnOldConnectionBack(t *testing.T) {
	e := newEcho(t)
	r, v := newTCPRelay(t, e.ln.Addr().String())
	c := dial(t, r.addr())
	c.say(t, "one")
	c.expect(t, "one")
	v.set(drop)
	c.say(t, "two")
	c.expectSilence(t)
	v.set(pass)
	c.expect(t, "two")
	c.say(t, "three")
	c.expect(t, "three")
}

func TestTCPDropAcceptsAndStaysSilent(t *testing.T) {
	e := newEcho(t)
	r, v := newTCPRelay(t, e.ln.Addr().String())
	v.set(drop)
	c := dial(t, r.addr())
	c.say(t, "one")
	c.expectSilence(t)
	if n := e.accepted(); n != 0 {
		t.Fatalf("the silent link connected %d times", n)
	}
	// What was sent meanwhile arrives, in order, when the link passes.
	c.say(t, "two")
	v.set(pass)
	c.expect(t, "one")
	c.expect(t, "two")
	c.say(t, "three")
	c.expect(t, "three")
}

func TestTCPDropForgetsWhoGaveUp(t *testing.T) {
	e := newEcho(t)
	r, v := newTCPRelay(t, e.ln.Addr().String())
	v.set(drop)
	for range 20 {
		c := dial(t, r.addr())
		c.say(t, "anybody?")
		c.Close()
	}
	eventually(t, "the relay forgets its clients", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.conns) == 0
	})
	v.set(pass)
	if n := e.accepted(); n != 0 {
		t.Fatalf("%d connections of clients long gone went on", n)
	}
}

func TestTCPDropHoldsTheEndBack(t *testing.T) {
	e := newEcho(t)
	r, v := newTCPRelay(t, e.ln.Addr().String())
	c := dial(t, r.addr())
	c.say(t, "one")
	c.expect(t, "one")
	v.set(drop)
	e.stop()
	c.expectSilence(t)
	v.set(pass)
	if got, err := c.hear(5 * time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("heard %q, %v, want the end", got, err)
	}
}

func TestTCPResets(t *testing.T) {
	e := newEcho(t)
	r, v := newTCPRelay(t, e.ln.Addr().String())
	old := dial(t, r.addr())
	old.say(t, "one")
	old.expect(t, "one")
	v.set(reset)
	if _, err := old.hear(5 * time.Second); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("an old connection ended with %v, want a reset", err)
	}
	expectReset(t, r.addr())
	v.set(pass)
	again := dial(t, r.addr())
	again.say(t, "two")
	again.expect(t, "two")
}

// From silence to reset: who waited is reset.
func TestTCPResetsAfterDrop(t *testing.T) {
	e := newEcho(t)
	r, v := newTCPRelay(t, e.ln.Addr().String())
	v.set(drop)
	c := dial(t, r.addr())
	c.say(t, "one")
	c.expectSilence(t)
	v.set(reset)
	if _, err := c.hear(5 * time.Second); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("ended with %v, want a reset", err)
	}
}

func TestTCPResetsWhenNobodyIsThere(t *testing.T) {
	gone := newEcho(t)
	gone.stop()
	r, _ := newTCPRelay(t, gone.ln.Addr().String())
	expectReset(t, r.addr())
}

// A relay that is closed in the middle of a silence leaves nothing behind;
// goleak looks.
func TestTCPCloseWhileSilent(t *testing.T) {
	e := newEcho(t)
	v := newValve()
	r, err := relayTCP("127.0.0.1:0", e.ln.Addr().String(), v)
	if err != nil {
		t.Fatal(err)
	}
	old := dial(t, r.addr())
	old.say(t, "one")
	old.expect(t, "one")
	v.set(drop)
	old.say(t, "two")
	fresh := dial(t, r.addr())
	fresh.say(t, "three")
	old.expectSilence(t)
	closed := make(chan struct{})
	go func() { defer close(closed); r.close() }()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Fatal("close hangs while the link is silent")
	}
}

// newUDPEcho serves datagrams back, and counts them.
func newUDPEcho(t *testing.T) (*net.UDPConn, *atomic.Int64) {
	t.Helper()
	var heard atomic.Int64
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			heard.Add(1)
			_, _ = pc.WriteToUDPAddrPort(buf[:n], from)
		}
	})
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	return pc, &heard
}

func TestUDP(t *testing.T) {
	target, heard := newUDPEcho(t)
	v := newValve()
	r, err := relayUDP("127.0.0.1:0", target.LocalAddr().String(), v)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	c, err := net.Dial("udp", r.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	trip := func(text string, limit time.Duration) (string, error) {
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1500)
		n, err := c.Read(buf)
		return string(buf[:n]), err
	}
	if got, err := trip("one", 5*time.Second); got != "one" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	for _, m := range []mode{drop, reset} {
		v.set(m)
		if got, err := trip("lost", quiet); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %q, %v through mode %s", got, err, m)
		}
	}
	v.set(pass)
	if got, err := trip("two", 5*time.Second); got != "two" || err != nil {
		t.Fatalf("got %q, %v: what was dropped must stay lost", got, err)
	}
	if n := heard.Load(); n != 2 {
		t.Errorf("the target heard %d datagrams, 2 were to pass", n)
	}
}

func TestValvePassesWaits(t *testing.T) {
	v := newValve()
	v.set(drop)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan bool)
	go func() { done <- v.passes(ctx) }()
	cancel()
	if <-done {
		t.Error("passed though the context ended")
	}
	go func() { done <- v.passes(t.Context()) }()
	v.set(pass)
	if !<-done {
		t.Error("did not pass")
	}
	v.set(reset)
	if v.passes(t.Context()) {
		t.Error("passed a link that resets")
	}
}

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
