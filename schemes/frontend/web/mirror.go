package web

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

// mirror sends copies of requests to a shadow server and throws its answers
// away. Nobody waits for it: what it cannot take in time is lost, and counted.
type mirror struct {
	addr  string
	stats *frontend.Stats
	queue chan []byte
	bytes atomic.Int64 // in the queue
	start sync.Once
	gone  chan struct{} // closed when no configuration has it any more
}

// Bounds of what waits for a shadow: requests, bytes of one and of all, and
// the time that a dial, or a write, may take.
const (
	mirrorRequests = 1024
	mirrorOne      = 1 << 20
	mirrorBytes    = 8 << 20
	mirrorPatience = time.Second
)

// mirrorKey names a mirror over reloads.
type mirrorKey struct {
	service *frontend.Service
	addr    string
}

// mirror finds the mirror of a host, or makes it; nil for one without shadow.
func (s *Server) mirror(h Host) (*mirror, error) {
	if h.Shadow == "" {
		return nil, nil
	}
	if _, err := netip.ParseAddrPort(h.Shadow); err != nil {
		return nil, fmt.Errorf("shadow: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := mirrorKey{h.Service, h.Shadow}
	m := s.mirrors[key]
	if m == nil {
		m = &mirror{addr: h.Shadow, stats: &h.Service.Stats, queue: make(chan []byte, mirrorRequests), gone: make(chan struct{})}
		s.mirrors[key] = m
	}
	return m, nil
}

// offer hands a copy over. It never waits.
func (m *mirror) offer(s *Server, p []byte) {
	m.start.Do(func() { s.aside.Go(func() { m.run(s) }) })
	if m.bytes.Add(int64(len(p))) <= mirrorBytes {
		select {
		case m.queue <- p:
			return
		default:
		}
	}
	m.bytes.Add(-int64(len(p)))
	m.stats.MirrorLost.Add(1)
}

// run sends copies until the server ends, or the mirror is not wanted.
func (m *mirror) run(s *Server) {
	var nc net.Conn
	var reader sync.WaitGroup
	hangUp := func() {
		if nc != nil {
			_ = nc.Close()
			nc = nil
		}
		reader.Wait()
	}
	defer hangUp()
	var down time.Time
	for {
		var p []byte
		select {
		case <-s.hard.Done():
			return
		case <-m.gone:
			return
		case p = <-m.queue:
		}
		m.bytes.Add(-int64(len(p)))
		if nc == nil && time.Since(down) >= mirrorPatience {
			d := net.Dialer{Timeout: mirrorPatience}
			c, err := d.DialContext(s.hard, "tcp", m.addr)
			if err == nil {
				nc = c
				reader.Go(func() {
					_, _ = io.Copy(io.Discard, c)
					_ = c.Close() // its end is ours
				})
			} else {
				down = time.Now()
			}
		}
		if nc != nil {
			_ = nc.SetWriteDeadline(time.Now().Add(mirrorPatience))
			if _, err := nc.Write(p); err == nil {
				m.stats.Mirrored.Add(1)
				continue
			}
			hangUp()
		}
		m.stats.MirrorLost.Add(1)
	}
}

// copied notes what was written of a request, for the shadow.
func (x *exchange) copied(p []byte) {
	switch {
	case x.host.mirror == nil || x.tries > 1 || x.unshadowed:
	case len(x.shadow)+len(p) > mirrorOne:
		x.shadow, x.unshadowed = nil, true
		x.host.Service.Stats.MirrorLost.Add(1)
	default:
		x.shadow = append(x.shadow, p...)
	}
}

// whole hands the copy of a request that was sent as a whole over.
func (x *exchange) whole() {
	if x.host.mirror != nil && !x.unshadowed && x.tries == 1 && len(x.shadow) > 0 {
		x.host.mirror.offer(x.s, x.shadow)
		x.shadow = nil
	}
}
