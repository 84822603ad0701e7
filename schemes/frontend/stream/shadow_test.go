package stream

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// The shadow gets what clients send, and its answers go nowhere.
func TestShadow(t *testing.T) {
	var mu sync.Mutex
	var copies []string
	shadow := backend(t, func(c net.Conn) {
		_, _ = io.WriteString(c, strings.Repeat("nobody wants this\n", 1000))
		b, _ := io.ReadAll(c)
		mu.Lock()
		defer mu.Unlock()
		copies = append(copies, string(b))
	})
	l := newLab(t, twoSites(t), func(c *Config) { c.Routes[0].Shadow = shadow; c.Routes[0].ProxyOut = 0 })
	l.decide(1, "primary")
	c := l.dial()
	for _, line := range []string{"one", "two", "three"} {
		l.want(c, line, "primary "+line)
	}
	_ = c.Close()
	l.until("copied", func() bool { return l.service.Stats.Mirrored.Load() == 1 })
	mu.Lock()
	defer mu.Unlock()
	if len(copies) != 1 || copies[0] != "one\ntwo\nthree\n" {
		t.Errorf("the shadow has %q", copies)
	}
}

// transfer sends a few short lines and one that is longer than what sockets and
// a shadow's queue hold, and wants all of them back.
func (l *lab) transfer() {
	l.Helper()
	c := l.dial()
	defer func() { _ = c.Close() }()
	const parts = 256
	part := strings.Repeat("x", 64<<10)
	for range 40 {
		l.want(c, "hello", "primary hello")
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for range parts {
			_, _ = io.WriteString(c, part)
		}
		_, _ = io.WriteString(c, "\n")
	})
	got, err := io.ReadAll(io.LimitReader(c, int64(len("primary ")+parts*len(part)+1)))
	wg.Wait()
	if err != nil || len(got) != len("primary ")+parts*len(part)+1 {
		l.Errorf("%d bytes came back, %v", len(got), err)
	}
}

// Whatever the shadow does, the client does not notice.
func TestBadShadows(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	stuck := make(chan struct{})
	for name, shadow := range map[string]string{
		"away":         closed.Addr().String(),
		"resets":       backend(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }),
		"never reads":  backend(t, func(net.Conn) { <-stuck }),
		"ends at once": backend(t, func(net.Conn) {}),
		"reads slowly": backend(t, func(c net.Conn) {
			b := make([]byte, 1024)
			for {
				if _, err := c.Read(b); err != nil {
					return
				}
				<-time.After(time.Millisecond)
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			// Longer than any transfer takes, and than its client waits.
			l := newShadowLab(t, shadow, time.Minute)
			l.decide(1, "primary")
			l.transfer()
			if name == "never reads" {
				close(stuck)
			}
			l.until("given up", func() bool { return l.service.Stats.MirrorLost.Load() == 1 })
		})
	}
}

// A shadow that takes nothing is given up, whoever waits for it or not.
func TestShadowPatience(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	l := newShadowLab(t, backend(t, func(net.Conn) { <-stuck }), 50*time.Millisecond)
	l.decide(1, "primary")
	l.transfer()
	l.until("given up", func() bool { return l.service.Stats.MirrorLost.Load() == 1 })
}

func newShadowLab(t *testing.T, shadow string, patience time.Duration) *lab {
	t.Helper()
	l := newLab(t, twoSites(t), func(c *Config) { c.Routes[0].Shadow = shadow })
	l.server.setting.Load().routes()[0].shadow.patience = patience
	return l
}

// What a shadow does not take is bounded in bytes and in number, and offering
// never waits.
func TestShadowIsBounded(t *testing.T) {
	for size, most := range map[int]int{chunk: shadowBehind / chunk, 1: shadowParts} {
		s := &shadow{parts: make(chan []byte, shadowParts)}
		taken := make(chan int)
		go func() {
			n := 0
			for ; !s.lost; n++ {
				s.offer(make([]byte, size))
			}
			taken <- n - 1
		}()
		select {
		case n := <-taken:
			if n != most {
				t.Errorf("%d parts of %d bytes were taken, want %d", n, size, most)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("an offer waits")
		}
	}
}
