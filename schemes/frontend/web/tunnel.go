package web

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

// tunnel hands on what an upgraded connection carries, both ways, until one
// side resets it, both have ended, the site is left, or nothing moves for long.
// A planned move does not wait for it: it may go on for days.
func (x *exchange) tunnel(u *upstream) verdict {
	c, ok := x.down.(*conn)
	defer u.close()
	if !ok || x.req.upgrade.empty() {
		x.host.Service.Failed(x.where, frontend.Malformed)
		x.refuse(502, "the back end switched protocols unasked")
		return done
	}
	x.leave()
	x.begun, x.broken = true, true
	a := x.res()
	b := appendFields(appendStatus(c.w.out[:0], a), a)
	b = append(b, "Connection: Upgrade\r\n\r\n"...)
	in := &x.w.ans
	c.out = append(b, in.buf[in.r:in.w]...)
	if c.flush() != nil {
		return done
	}
	// It may be quiet for long; whoever listens may have switched this off, as
	// requests have limits of their own.
	_ = c.tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3})
	early := c.w.in.buf[c.w.in.r:c.w.in.w]
	c.w.in.r = c.w.in.w
	t := &tunnel{x: x, u: u, limit: x.set.Limits.Tunnel, hard: x.s.hard.Done()}
	t.moved.Store(time.Now().UnixNano())
	var wg sync.WaitGroup
	wg.Go(func() {
		if len(early) > 0 {
			if _, err := u.nc.Write(early); err != nil {
				t.abort(c.tcp, u.nc)
				return
			}
		}
		n := t.copy(u.nc, c.nc, c.tcp, u.nc)
		x.in += n + int64(len(early))
	})
	x.out += t.copy(c.nc, u.nc, c.tcp, u.nc)
	wg.Wait()
	if t.aborted.Load() {
		_ = c.tcp.SetLinger(0)
		_ = c.tcp.Close()
	}
	return done
}

type tunnel struct {
	x       *exchange
	u       *upstream
	limit   time.Duration
	hard    <-chan struct{}
	moved   atomic.Int64 // UnixNano of the last bytes, either way
	aborted atomic.Bool
}

func (t *tunnel) abort(a, b *net.TCPConn) {
	t.aborted.Store(true)
	_ = a.Close()
	_ = b.Close()
}

// copy hands one direction on, and its end.
func (t *tunnel) copy(to, from net.Conn, client, back *net.TCPConn) (total int64) {
	buf := make([]byte, bufferBytes)
	for {
		_ = from.SetReadDeadline(time.Now().Add(lookEvery))
		n, err := from.Read(buf)
		if n > 0 {
			t.moved.Store(time.Now().UnixNano())
			if t.x.stands(t.u) != nil {
				t.abort(client, back)
				return total
			}
			_ = to.SetWriteDeadline(time.Now().Add(t.limit))
			k, err := to.Write(buf[:n])
			total += int64(k)
			if err != nil {
				t.abort(client, back)
				return total
			}
			continue
		}
		switch {
		case t.u.wasDropped():
			t.abort(client, back)
			return total
		case errors.Is(err, io.EOF):
			if h, ok := to.(interface{ CloseWrite() error }); !ok || h.CloseWrite() != nil {
				t.abort(client, back)
			}
			return total
		case !errors.Is(err, os.ErrDeadlineExceeded):
			t.abort(client, back)
			return total
		case time.Now().UnixNano()-t.moved.Load() > int64(t.limit):
			t.abort(client, back)
			return total
		}
		select {
		case <-t.hard:
			t.abort(client, back)
			return total
		default:
		}
	}
}
