package authority

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// serveTCP accepts connections and waits for all of them before it returns.
func (a *Authority) serveTCP(ctx context.Context, l *Listener) error {
	conns := &connSet{max: a.cfg.MaxConns, idle: make(map[net.Conn]time.Time)}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conns.closeAll()
	for failures := 0; ; {
		c, err := l.tcp.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if failures++; failures == maxFailures || errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept dns connections: %w", err)
			}
			pause(ctx, failures) // out of descriptors, most likely
			continue
		}
		failures = 0
		if conns.add(c) {
			a.stats.tcpEvicted.Add(1)
		}
		wg.Go(func() {
			defer conns.remove(c)
			a.serveConn(c, conns)
		})
	}
}

// serveConn answers queries in the order they come, also when several are
// sent ahead (RFC 7766, section 6.2.1.1), until the client ends, errs or is
// too slow.
func (a *Authority) serveConn(c net.Conn, conns *connSet) {
	r := bufio.NewReaderSize(c, 2048)
	var in, out []byte
	from := addrOf(c)
	for { // one query a turn; ends with the connection or its deadline
		// One deadline for a whole query: a client that sends an octet now
		// and then gets no further.
		if c.SetReadDeadline(time.Now().Add(a.cfg.IdleTimeout)) != nil {
			return
		}
		var prefix [2]byte
		if _, err := io.ReadFull(r, prefix[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(prefix[:]))
		if n > cap(in) {
			in = make([]byte, n)
		}
		in = in[:n]
		if _, err := io.ReadFull(r, in); err != nil {
			return
		}
		conns.used(c)
		start := len(out)
		var x *transfer
		out = a.respond(append(out, 0, 0), in, client{tcp: true, addr: from, now: &moment{clock: a.cfg.Clock}, transfer: &x})
		if x != nil {
			if !a.serveTransfer(c, conns, out[:start], x) {
				return
			}
			out = nil
			continue
		}
		last := len(out) == start+2 // no query: the client does not speak DNS
		if last {
			out = out[:start]
		} else {
			binary.BigEndian.PutUint16(out[start:], uint16(len(out)-start-2))
		}
		// Answers to queries that were sent ahead go out together.
		if !last && nextReady(r) && len(out) < maxBatch {
			continue
		}
		if c.SetWriteDeadline(time.Now().Add(a.cfg.IdleTimeout)) != nil {
			return
		}
		if _, err := c.Write(out); err != nil || last {
			return
		}
		if out = out[:0]; cap(out) > maxBatch {
			out = nil
		}
	}
}

// serveTransfer sends what is waiting and then the transfer. It reports whether
// the connection can go on.
func (a *Authority) serveTransfer(c net.Conn, conns *connSet, waiting []byte, x *transfer) bool {
	write := func(b []byte) error {
		conns.used(c)
		if err := c.SetWriteDeadline(time.Now().Add(a.cfg.IdleTimeout)); err != nil {
			return err
		}
		_, err := c.Write(b)
		return err
	}
	if len(waiting) > 0 && write(waiting) != nil {
		return false
	}
	select {
	case a.transfers <- struct{}{}:
		defer func() { <-a.transfers }()
	default:
		return write(x.busy(a.cfg.Clock())) == nil
	}
	start := time.Now()
	if err := x.run(a.cfg.Clock, write); err != nil {
		a.log.Warn("dns zone transfer broke off", "to", addrOf(c), "err", err)
		return false
	}
	kind, counter := "whole", &a.stats.transfers
	if x.since != nil {
		kind, counter = "changes", &a.stats.changesSent
	}
	counter.Add(1)
	a.log.Info("dns zone transferred", "zone", x.name(), "to", addrOf(c), "kind", kind, "serial", x.t.zones[x.zone].serial, "took", time.Since(start))
	return true
}

// addrOf is the address of a connection's other side.
func addrOf(c net.Conn) netip.Addr {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// maxBatch bounds the answers that are held back to go out together.
const maxBatch = 16 << 10

// nextReady reports whether a whole query is buffered already.
func nextReady(r *bufio.Reader) bool {
	if r.Buffered() < 2 {
		return false
	}
	prefix, err := r.Peek(2)
	return err == nil && r.Buffered() >= 2+int(binary.BigEndian.Uint16(prefix))
}

// connSet bounds the open connections.
type connSet struct {
	max int

	mu   sync.Mutex
	idle map[net.Conn]time.Time // since its last query
}

// add takes a connection in. When there are too many, it closes the one that
// has been idle the longest (RFC 7766, section 6.2.3), and reports so.
func (s *connSet) add(c net.Conn) (evicted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) >= s.max {
		var oldest net.Conn
		for o, since := range s.idle {
			if oldest == nil || since.Before(s.idle[oldest]) {
				oldest = o
			}
		}
		_ = oldest.Close()
		delete(s.idle, oldest)
		evicted = true
	}
	s.idle[c] = time.Now()
	return evicted
}

func (s *connSet) used(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.idle[c]; ok {
		s.idle[c] = time.Now()
	}
}

func (s *connSet) remove(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.idle, c)
	_ = c.Close()
}

func (s *connSet) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.idle {
		_ = c.Close()
	}
}
