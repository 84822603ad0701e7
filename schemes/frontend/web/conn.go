package web

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

// statusGone is logged where the client did not wait for its answer.
const statusGone = 499

var (
	errSlow   = errors.New("the client took too long")
	errKicked = errors.New("the reader was called off")

	faultSlow = &fault{408, "the request took too long"}
)

// conn is a client's connection that speaks HTTP/1.1.
type conn struct {
	s    *Server
	set  *settings // of the request under way
	nc   net.Conn
	tcp  *net.TCPConn
	rc   syscall.RawConn // nil with TLS
	wait func(uintptr) bool
	from client
	own  *upstream
	svc  *frontend.Service // where the connection is counted
	w    *work

	// When the other side is overdue, by the server's clock; 0: it is not. The
	// server's keeper looks at them.
	readBy, writeBy atomic.Int64
	idle            atomic.Bool // between two requests
	kicked          atomic.Bool
	stuck           atomic.Bool // the client takes nothing

	err error // of the last wait
	one [1]byte

	// Of the answer.
	out      []byte // not written yet
	inChunks bool
	flushed  bool // some of it has left
	last     bool // the connection ends with it

	// Of the body that is being read.
	left    int64
	ended   bool
	taken   int64
	started int64 // by the server's clock
}

func (s *Server) newConn(nc net.Conn, tcp *net.TCPConn, from client) *conn {
	c := &conn{s: s, nc: nc, tcp: tcp, from: from}
	if nc == net.Conn(tcp) {
		if rc, err := tcp.SyscallConn(); err == nil {
			c.rc = rc
			c.wait = c.readRaw
		}
	}
	return c
}

// serve answers requests until the connection ends.
func (c *conn) serve(first []byte) {
	defer c.finally()
	limit := c.s.set.Load().Limits.Head
	if len(first) > 0 {
		c.w = c.s.getWork()
		c.w.in.w = copy(c.w.in.buf, first)
	}
	for {
		if c.w == nil {
			c.idle.Store(true)
			if c.s.draining.Load() {
				return
			}
			c.readBy.Store(c.s.after(limit))
			err := c.arrive()
			c.idle.Store(false)
			if err != nil {
				return
			}
		}
		c.set = c.s.set.Load()
		if !c.request() {
			return
		}
		limit = c.set.Limits.Idle
		if c.w.in.empty() {
			c.s.putWork(c.w)
			c.w = nil
		}
	}
}

func (c *conn) finally() {
	if c.w != nil {
		c.s.putWork(c.w)
		c.w = nil
	}
	if c.own != nil {
		c.own.shut()
	}
	if c.svc != nil {
		c.svc.Stats.Connections.Add(-1)
	}
}

// readRaw is called by the runtime when the connection may have something. An
// idle connection gets its buffers only when it has.
func (c *conn) readRaw(fd uintptr) bool {
	idle := c.w == nil
	if idle {
		c.w = c.s.getWork()
	}
	in := &c.w.in
	for {
		n, err := syscall.Read(int(fd), in.space())
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			if idle {
				c.s.putWork(c.w)
				c.w = nil
			}
			return false
		case err != nil:
			c.err = err
		case n == 0:
			c.err = io.EOF
		default:
			in.w += n
			c.err = nil
		}
		return true
	}
}

// arrive waits for the first bytes of a request.
func (c *conn) arrive() error {
	for {
		if c.rc == nil {
			// One byte is enough to have TLS read a record into its buffer.
			n, err := c.nc.Read(c.one[:])
			if n > 0 {
				c.w = c.s.getWork()
				c.w.in.buf[0] = c.one[0]
				c.w.in.w = 1
				return c.rest()
			}
			if again, err := c.late(err); !again {
				return err
			}
			continue
		}
		err := c.rc.Read(c.wait)
		if err == nil {
			return c.err
		}
		if again, err := c.late(err); !again {
			return err
		}
	}
}

// rest takes what TLS has read beside the first byte.
func (c *conn) rest() error {
	n, err := c.nc.Read(c.w.in.buf[1:])
	c.w.in.w += n
	if again, err := c.late(err); err != nil && !again {
		return err
	}
	return nil
}

// fill reads more.
func (c *conn) fill() error {
	for {
		var err error
		if c.rc == nil {
			var n int
			n, err = c.nc.Read(c.w.in.space())
			c.w.in.w += n
			if n > 0 {
				return nil
			}
		} else if err = c.rc.Read(c.wait); err == nil {
			return c.err
		}
		if c.kicked.Load() {
			return errKicked
		}
		if again, err := c.late(err); !again {
			return err
		}
	}
}

// late judges an error: a deadline that the keeper has set for a wait that is
// over by now is taken back.
func (c *conn) late(err error) (again bool, _ error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, err
	}
	if by := c.readBy.Load(); by != 0 && c.s.now() >= by || c.s.draining.Load() && c.idle.Load() {
		return false, errSlow
	}
	_ = c.tcp.SetReadDeadline(time.Time{})
	return true, nil
}

// overdue is called by the server's keeper.
func (c *conn) overdue(now int64) {
	if by := c.writeBy.Load(); by != 0 && now >= by {
		// To close it would be to wait for who writes.
		c.stuck.Store(true)
		_ = c.tcp.SetLinger(0)
		_ = c.tcp.SetWriteDeadline(past)
	}
	if by := c.readBy.Load(); by != 0 && now >= by {
		_ = c.tcp.SetReadDeadline(past)
	}
}

// stop ends the connection if it is idle, and else after its request.
func (c *conn) stop() {
	if c.idle.Load() {
		_ = c.tcp.SetReadDeadline(past)
	}
}

// head reads a request's head into the work's request.
func (c *conn) head() error {
	in := &c.w.in
	in.base = 0
	c.readBy.Store(c.s.after(c.set.Limits.Head))
	defer c.readBy.Store(0)
	scan, blank := in.r, false
	for {
		end, next, err := headEnd(in.buf[:in.w], scan)
		switch {
		case err == nil && end-in.r == 2 && !blank:
			// RFC 9112, 2.2: an empty line before a request is ignored.
			blank = true
			in.r, scan = end, end
			continue
		case err == nil && end-in.r == 2:
			return faultStart
		case err == nil && end-in.r > c.set.Limits.HeadBytes:
			return faultLong
		case err == nil:
			if err := c.w.req.parse(in.buf, in.r, end); err != nil {
				return err
			}
			in.r = end
			return nil
		case !errors.Is(err, errShort):
			return err
		case in.w-in.r >= c.set.Limits.HeadBytes:
			return faultLong
		}
		before := in.r
		scan = next - before
		if err := c.fill(); err != nil {
			if errors.Is(err, errSlow) {
				return faultSlow
			}
			return err
		}
		scan += in.r
	}
}

// request reads a request and has it answered. It reports whether another may
// follow.
func (c *conn) request() bool {
	x := &c.w.x
	*x = exchange{s: c.s, set: c.set, ctx: c.s.hard, down: c, w: c.w, req: &c.w.req, from: &c.from, own: &c.own, start: time.Now(), protocol: "HTTP/1.1"}
	c.w.kept = c.w.kept[:0]
	c.w.req.reset()
	if err := c.head(); err != nil {
		return c.unread(x, err)
	}
	r := x.req
	if r.minor == 0 {
		x.protocol = "HTTP/1.0"
	}
	if x.host = c.set.find(r.host.of(r.buf)); x.host == nil {
		return c.unread(x, &fault{421, "no such host here"})
	}
	c.count(x.host)
	if x.host.maxBody >= 0 && r.length > x.host.maxBody {
		return c.unread(x, faultTooLarge)
	}
	x.replayable = x.host.replays(r)
	x.headBytes = c.w.in.r
	x.in = int64(x.headBytes)
	c.left, c.ended, c.taken, c.started = r.length, r.length == 0, 0, c.s.now()
	if r.length != 0 {
		c.w.in.pin(bufferBytes / 2)
		c.w.body.reset()
	}
	x.run()
	c.s.disarm(c.w)
	x.end()
	if x.broken || x.status == 0 || !c.ended {
		c.linger(x)
		return false
	}
	return !c.last
}

// unread answers what is not a request.
func (c *conn) unread(x *exchange, err error) bool {
	x.host = c.set.anyHost(c.svc)
	var f *fault
	if !errors.As(err, &f) {
		return false // the client has ended it
	}
	if f != faultSlow || !c.w.in.empty() {
		x.host.Service.Stats.Bad.Add(1)
	}
	x.reason = f.text
	x.broken = true
	x.status = f.status
	c.refuse(x, f.status, f.text)
	x.end()
	c.linger(x)
	return false
}

// count notes which service the connection is of: the first that it asks.
func (c *conn) count(h *host) {
	if c.svc == nil {
		c.svc = h.Service
		c.svc.Stats.Connections.Add(1)
		c.svc.Stats.Accepted.Add(1)
	}
}

// lingerFor and lingerBytes bound how long a client may go on sending that has
// its answer already: a reset would take it away.
const (
	lingerFor   = time.Second
	lingerBytes = 1 << 20
)

// linger lets the client read its answer before the connection ends.
func (c *conn) linger(x *exchange) {
	switch {
	case x.truncated:
		// The one sure sign that an answer is not whole.
		_ = c.tcp.SetLinger(0)
		_ = c.tcp.Close()
		return
	case x.status == statusGone || c.ended && c.w.in.empty():
		return
	}
	if t, ok := c.nc.(*tls.Conn); ok {
		_ = t.CloseWrite()
	}
	_ = c.tcp.CloseWrite()
	_ = c.tcp.SetReadDeadline(time.Now().Add(lingerFor))
	if c.idle.Store(true); c.s.draining.Load() {
		return // and else stop ends it
	}
	for n := 0; n < lingerBytes; {
		k, err := c.tcp.Read(c.w.in.buf)
		n += k
		if err != nil {
			return
		}
	}
}

// gone reports whether the client has ended the connection, or its side of it:
// few half-close one and want the answer.
func (c *conn) gone() bool {
	rc, err := c.tcp.SyscallConn()
	if err != nil {
		return true
	}
	var n int
	err = rc.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err == nil && n == 0 || err != nil && !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EINTR)
}

// Of the downstream: the request's body.

func (c *conn) ready() bool { return c.ended || !c.w.in.empty() }

func (c *conn) trailer() ([]byte, []field) { return c.w.body.trailer, c.w.body.fieldsOf }

func (c *conn) kick() {
	c.kicked.Store(true)
	_ = c.tcp.SetReadDeadline(past)
}

func (c *conn) unkick() {
	c.kicked.Store(false)
	_ = c.tcp.SetReadDeadline(time.Time{})
}

func (c *conn) more() ([]byte, error) {
	in := &c.w.in
	for {
		switch {
		case c.kicked.Load():
			return nil, errKicked
		case c.ended:
			return nil, io.EOF
		case in.empty():
		case c.w.req.length == chunked:
			at := in.r
			data, read, err := c.w.body.decode(in.buf[in.r:in.w])
			in.r += read
			if err != nil {
				return nil, err
			}
			c.ended = c.w.body.ended()
			if most := c.w.x.host.maxBody; most >= 0 && c.taken+int64(data) > most {
				return nil, faultTooLarge
			}
			if data > 0 {
				c.taken += int64(data)
				return in.buf[at : at+data], nil
			}
			continue
		default:
			n := min(c.left, int64(in.w-in.r))
			p := in.buf[in.r : in.r+int(n)]
			in.r += int(n)
			c.taken += n
			c.left -= n
			c.ended = c.left == 0
			return p, nil
		}
		c.readBy.Store(c.bodyBy())
		err := c.fill()
		c.readBy.Store(0)
		switch {
		case errors.Is(err, errSlow):
			return nil, faultSlow
		case errors.Is(err, io.EOF):
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
	}
}

// bodyBy is when more of the body has to be there.
func (c *conn) bodyBy() int64 {
	stall := c.set.Limits.Stall
	earned := time.Duration(c.taken) * time.Second / bodyRate
	return min(c.s.after(stall), c.started+int64(2*stall+earned)+1)
}

// goodReason keeps a reason phrase as the back end has it, or has one.
func goodReason(a *answer) []byte {
	if r := a.reason.of(a.buf); len(bytes.TrimSpace(r)) > 0 {
		return r
	}
	return []byte(statusText(a.status))
}
