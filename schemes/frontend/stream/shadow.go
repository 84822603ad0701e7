package stream

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// shadowBehind bounds what a shadow may be behind its client, in bytes.
	// When it is further, it gets no more: a stream with a hole is no copy.
	shadowBehind = 256 << 10
	shadowParts  = 64
	// shadowPatience bounds a dial, a write, and the wait for an end.
	shadowPatience = 2 * time.Second
	shadowPauseMin = 100 * time.Millisecond
	shadowPauseMax = 10 * time.Second
)

// shadowTarget is a back end that gets a copy of what clients send.
type shadowTarget struct {
	address  string
	patience time.Duration

	mu    sync.Mutex
	until time.Time // it could not be connected to
	pause time.Duration
}

// shadow is one connection to it. A loop offers it bytes; it never waits.
type shadow struct {
	target *shadowTarget
	parts  chan []byte
	behind atomic.Int64
	lost   bool // the loop's: it gets no more
	failed atomic.Bool
	count  *shadowCounts
}

type shadowCounts struct{ copied, lost *atomic.Int64 }

// shadow begins a copy of one connection; nil when its target is known to be
// away.
func (s *serving) shadow(r *route) *shadow {
	stats := &r.Service.Stats
	if r.shadow.away() {
		stats.MirrorLost.Add(1)
		return nil
	}
	sh := &shadow{target: r.shadow, parts: make(chan []byte, shadowParts), count: &shadowCounts{&stats.Mirrored, &stats.MirrorLost}}
	s.shadows.Go(sh.run)
	return sh
}

// offer gives the shadow a copy of bytes, if it can keep up.
func (s *shadow) offer(b []byte) {
	if s.lost {
		return
	}
	if s.failed.Load() || s.behind.Load()+int64(len(b)) > shadowBehind {
		s.give()
		return
	}
	s.behind.Add(int64(len(b)))
	select {
	case s.parts <- append([]byte(nil), b...):
	default:
		s.give()
	}
}

// give gives the copy up.
func (s *shadow) give() {
	s.lost = true
	s.failed.Store(true)
	close(s.parts)
}

// close ends the copy as the client ended.
func (s *shadow) close() {
	if !s.lost {
		s.lost = true
		close(s.parts)
	}
}

func (s *shadow) run() {
	err := s.copy()
	if err != nil || s.failed.Load() {
		s.failed.Store(true)
		s.count.lost.Add(1)
	} else {
		s.count.copied.Add(1)
	}
	for range s.parts { // until the loop knows
	}
}

// copy sends what was offered. It stops early when the shadow has failed.
func (s *shadow) copy() error {
	conn, err := net.DialTimeout("tcp", s.target.address, s.target.patience)
	s.target.heard(err)
	if err != nil {
		return err
	}
	c := conn.(*net.TCPConn)
	_ = c.SetLinger(0) // of a copy that was given up nothing more is delivered
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, c) })
	defer func() {
		_ = c.Close()
		wg.Wait()
	}()
	for b := range s.parts {
		if s.failed.Load() {
			return nil
		}
		_ = c.SetWriteDeadline(time.Now().Add(s.target.patience))
		if _, err := c.Write(b); err != nil {
			return err
		}
		s.behind.Add(int64(-len(b)))
	}
	if s.failed.Load() {
		return nil
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_ = c.SetReadDeadline(time.Now().Add(s.target.patience))
	wg.Wait()
	return nil
}

func (t *shadowTarget) away() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Now().Before(t.until)
}

func (t *shadowTarget) heard(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.pause = 0
		return
	}
	t.pause = min(max(2*t.pause, shadowPauseMin), shadowPauseMax)
	t.until = time.Now().Add(t.pause)
}
