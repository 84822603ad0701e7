package web

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// siteStats are the counters of the site that was led to last.
type siteStats struct {
	site  draas.SiteID
	stats *frontend.SiteStats
}

// upstream is a connection to a back end. One request at a time has it.
type upstream struct {
	nc     *net.TCPConn
	origin *origin
	server *frontend.Backend
	site   draas.SiteID
	stats  *frontend.SiteStats
	pace   *pace
	place  *frontend.Conn
	rc     syscall.RawConn
	look   func(uintptr)      // peek
	steps  func(uintptr) bool // step
	call   call
	armed  time.Time // the read deadline
	seen   error     // by peek
	since  int64     // when it became idle
	uses   int

	mu      sync.Mutex
	busy    bool
	closed  bool
	dropped bool // its site is no longer the one to lead to
}

// end drops it from outside. It is called with the service locked, and must not
// wait: to close a connection in use is to wait for whoever uses it, who may be
// writing to a slow client. So that one is cut off from the network and woken,
// and closed by its user.
func (u *upstream) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dropped = true
	if !u.busy {
		_ = u.nc.Close()
		return
	}
	_ = u.rc.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RDWR) })
	_ = u.nc.SetDeadline(past)
}

func (u *upstream) wasDropped() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.dropped
}

// use says whether it is in use. It fails when its site has been left.
func (u *upstream) use(busy bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.busy = busy
	if u.dropped && !busy {
		_ = u.nc.Close()
	}
	return !u.dropped
}

// readBy and writeBy set deadlines, unless it has been dropped.
func (u *upstream) readBy(t time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.dropped {
		return errDropped
	}
	u.armed = t
	return u.nc.SetReadDeadline(t)
}

// readWithin sets a deadline for a read that begins now, unless there is one
// that is not over yet: it may come before its time, and whoever meets it looks
// at the clock. So a busy connection has its deadline set a few times a second,
// and not for every request.
func (u *upstream) readWithin(now time.Time, d time.Duration) error {
	if left := u.armed.Sub(now); left > time.Millisecond && left <= d {
		if u.wasDropped() {
			return errDropped
		}
		return nil
	}
	return u.readBy(now.Add(d))
}

func (u *upstream) writeBy(t time.Time) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.dropped {
		return errDropped
	}
	return u.nc.SetWriteDeadline(t)
}

// call is a write, and the read of what comes back, as one visit to the poller:
// a read right behind the write would find nothing, and cost a system call.
type call struct {
	out   []byte // to be written, and nothing once it is
	in    []byte // to read to
	first bool   // whether the connection is quiet is looked at before
	wrote int
	read  int
	err   error
}

var errNotQuiet = errors.New("the connection has ended, or said something unasked")

// step is called by the runtime: at once, and whenever something may have come.
// The poller has forgotten by then what came before, so nothing must be there
// when it is left without a read: first sees to that, and a connection that is
// new has nobody who could have said anything.
func (u *upstream) step(fd uintptr) bool {
	c := &u.call
	if c.out != nil {
		if c.first {
			if u.peek(fd); u.seen != syscall.EAGAIN {
				c.err = errNotQuiet
				return true
			}
		}
		c.wrote, c.err = ignoringEINTR(syscall.Write, int(fd), c.out)
		if c.wrote < len(c.out) {
			return true
		}
		c.out = nil
		return false
	}
	c.read, c.err = ignoringEINTR(syscall.Read, int(fd), c.in)
	if c.err == syscall.EAGAIN {
		return false
	}
	if c.err == nil && c.read == 0 {
		c.err = io.EOF
	}
	return true
}

func ignoringEINTR(do func(int, []byte) (int, error), fd int, p []byte) (int, error) {
	for {
		n, err := do(fd, p)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// quiet reports whether nothing has come on it while it was idle: neither its
// end nor bytes, which would be taken for the next request's answer. Servers
// send such when they find a connection too old, or their answer was longer
// than they said.
func (u *upstream) quiet() bool {
	return u.rc.Control(u.look) == nil && u.seen == syscall.EAGAIN
}

func (u *upstream) peek(fd uintptr) {
	var one [1]byte
	_, _, u.seen = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
}

// close ends it when it is in use; once.
func (u *upstream) close() {
	u.mu.Lock()
	was := u.closed
	u.closed = true
	u.mu.Unlock()
	if was {
		return
	}
	u.shut()
	u.server.End()
}

func (u *upstream) shut() {
	_ = u.nc.Close()
	u.place.Detach()
}

// turnEvery is how often a site is tried that could not be connected to, by all
// requests that wait for it together: a thousand that wait must not be a
// thousand that dial.
const turnEvery = 2 * time.Millisecond

var errTurn = errors.New("another request has tried just now")

// turn reports whether a request may dial.
func (o *origin) turn(w frontend.Where) bool {
	if o.away.Load() != uint64(w.Epoch) {
		return true
	}
	last, now := o.tried.Load(), time.Now().UnixNano()
	return now-last >= int64(turnEvery) && o.tried.CompareAndSwap(last, now)
}

// errDropped is returned when the decision has changed meanwhile.
var errDropped = errors.New("another site is active")

// dial makes a connection. It gives up when the decision changes: where leads
// elsewhere then, or nowhere.
func (o *origin) dial(ctx context.Context, w frontend.Where, want frontend.Want, timeout time.Duration) (*upstream, error) {
	if !o.turn(w) {
		return nil, errTurn
	}
	ctx, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-w.Changed:
			cancel(errDropped)
		case <-done:
		}
	})
	d := frontend.Dialer{Balancer: o.balancer, Timeout: timeout}
	nc, server, err := d.Dial(ctx, w.Site, want)
	close(done)
	wg.Wait()
	changed := errors.Is(context.Cause(ctx), errDropped)
	cancel(nil)
	if err != nil {
		if changed {
			return nil, errDropped
		}
		o.away.Store(uint64(w.Epoch))
		return nil, err
	}
	if o.away.CompareAndSwap(uint64(w.Epoch), 0) {
		next := make(chan struct{})
		close(*o.opens.Swap(&next))
	}
	rc, err := nc.SyscallConn()
	if err != nil {
		_ = nc.Close()
		server.End()
		return nil, &frontend.DialError{Class: frontend.Reset, Address: server.Address, Err: err}
	}
	u := &upstream{nc: nc, rc: rc, origin: o, server: server, site: w.Site, busy: true, stats: o.service.Stats.Site(w.Site)}
	u.pace = o.paceOf(server)
	u.look, u.steps = u.peek, u.step
	place, ok := o.service.Attach(w, u.end)
	if !ok {
		_ = nc.Close()
		server.End()
		return nil, errDropped
	}
	u.place = place
	return u, nil
}

// scarce reports whether an error is for want of something of our own.
func scarce(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// tcpInfo asks the kernel how the connection stands: its state, and how many
// bytes the peer's kernel has ever acknowledged.
func (u *upstream) tcpInfo() (state uint8, acked uint64, ok bool) {
	err := u.rc.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			state, acked, ok = info.State, info.Bytes_acked, true
		}
	})
	return state, acked, ok && err == nil
}

// Of a connection's states (linux/tcp_states.h).
const (
	tcpEstablished = 1
	tcpClose       = 7
)

// How long is waited for a peer that has closed to say what became of the last
// bytes, and how often that is looked at.
const (
	untouchedWait = 100 * time.Millisecond
	untouchedLook = time.Millisecond
)

// untouched reports whether a peer that has closed the connection did so
// before any of the bytes behind acked got to it. A server that is done with an
// idle connection closes it, while a request may be on its way: its kernel then
// refuses those bytes with a reset, and never acknowledges them. They were
// never seen by the server, so the request is one that was never sent.
//
// It must be asked after the peer's end of the stream was read: a peer that
// resets without it may have read the bytes before, unacknowledged.
func (u *upstream) untouched(acked uint64) bool {
	tick := time.NewTicker(untouchedLook)
	defer tick.Stop()
	for end := time.Now().Add(untouchedWait); time.Now().Before(end); <-tick.C {
		state, now, ok := u.tcpInfo()
		if !ok || now != acked {
			return false
		}
		if state == tcpClose {
			return true
		}
	}
	return false
}
