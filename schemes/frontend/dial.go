package frontend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
)

// Of a connection to a back end.
const (
	// DefaultHedge is how long a server has for its handshake before the next
	// one is tried beside it.
	DefaultHedge = 40 * time.Millisecond
	// DefaultDialTimeout bounds a dial to a site, all its servers together.
	DefaultDialTimeout = time.Second
	// userTimeout is how long bytes may stay unacknowledged: a peer that is
	// gone without a word is found out within it.
	userTimeout = 20 * time.Second
)

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// Dialer connects to a site's servers.
type Dialer struct {
	Balancer *Balancer
	Timeout  time.Duration // of a dial; 0: DefaultDialTimeout
	Hedge    time.Duration // 0: DefaultHedge
}

// DialError is why no server of a site could be connected to.
type DialError struct {
	Class   Class
	Address string // of the server that failed last; empty: the site has none
	// Ours is set when this machine is at fault, which has no descriptors or
	// ports left: nothing is to be said of the site.
	Ours bool
	Err  error
}

func (e *DialError) Error() string {
	if e.Address == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("dial %s: %v", e.Address, e.Err)
}

func (e *DialError) Unwrap() error { return e.Err }

var errNoServer = errors.New("the site has no server")

// Classify says what an error of a connection to a back end means.
func Classify(err error) Class {
	var d *DialError
	var late net.Error // a dial's is neither package os's nor context's
	switch {
	case errors.As(err, &d):
		return d.Class
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		return Unreachable
	case errors.As(err, &late) && late.Timeout():
		return Silent
	}
	return Reset
}

// Dial connects to one of the site's servers. When one has not answered within
// Hedge, or has failed, the next is tried, and then those that are silent anew;
// the first that answers is taken and the others are closed. The server that is returned counts the connection
// until its End is called. Those tried already are left out, unless there are
// no others. An error is a *DialError, or ctx's.
func (d *Dialer) Dial(ctx context.Context, site draas.SiteID, want Want, tried ...*Backend) (*net.TCPConn, *Backend, error) {
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = DefaultDialTimeout
	}
	first := d.Balancer.Pick(site, want, tried...)
	if first == nil && len(tried) > 0 {
		tried = nil
		first = d.Balancer.Pick(site, want)
	}
	if first == nil {
		return nil, nil, &DialError{Class: Unreachable, Err: errNoServer}
	}
	inner, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c, s, err := d.race(inner, append(tried[:len(tried):len(tried)], first), site, want)
	if err != nil {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		// Package net looks at a deadline itself, and may be before ctx.
		if end, ok := ctx.Deadline(); ok && !time.Now().Before(end) {
			return nil, nil, context.DeadlineExceeded
		}
	}
	return c, s, err
}

// race is one dial. Everything it holds is behind mu.
type race struct {
	dialer *Dialer
	ctx    context.Context
	site   draas.SiteID
	want   Want
	stop   context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	tried  []*Backend
	timer  *time.Timer
	hedge  time.Duration // until the next one is tried
	rounds int           // how often all of them were tried once more
	over   bool          // one has answered
	closed bool          // no other is to be tried
	conn   *net.TCPConn
	server *Backend
	err    *DialError
}

func (d *Dialer) race(ctx context.Context, tried []*Backend, site draas.SiteID, want Want) (*net.TCPConn, *Backend, error) {
	r := &race{dialer: d, site: site, want: want, tried: tried}
	first := tried[len(tried)-1]
	r.ctx, r.stop = context.WithCancel(ctx)
	defer r.stop()
	r.hedge = d.Hedge
	if r.hedge <= 0 {
		r.hedge = DefaultHedge
	}
	r.mu.Lock()
	r.timer = time.AfterFunc(r.hedge, r.next)
	r.mu.Unlock()
	r.attempt(first)
	for r.again() {
	}
	r.mu.Lock()
	r.closed = true
	r.timer.Stop()
	r.mu.Unlock()
	r.wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		return r.conn, r.server, nil
	}
	return nil, nil, r.err
}

// pick takes the next server, unless the race is over or all were tried. mu is
// held.
func (r *race) pick() *Backend {
	if r.over || r.closed || r.ctx.Err() != nil {
		return nil
	}
	s := r.dialer.Balancer.Pick(r.site, r.want, r.tried...)
	if s != nil {
		r.tried = append(r.tried, s)
	}
	return s
}

// again tries another server after one that failed, in its goroutine.
func (r *race) again() bool {
	r.mu.Lock()
	s := r.pick()
	r.mu.Unlock()
	if s == nil {
		return false
	}
	r.attempt(s)
	return true
}

// maxRounds is how often servers are tried anew that have not answered a first
// SYN: the kernel sends the next only after a second, and a fence that has
// dropped the first may be open by now.
const maxRounds = 3

// next tries another server beside those under way, or one of them anew.
func (r *race) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.pick()
	if s == nil && r.rounds < maxRounds {
		r.rounds++
		r.hedge *= 2
		r.tried = nil
		s = r.pick()
	}
	if s == nil {
		return
	}
	r.timer.Reset(r.hedge)
	r.wg.Go(func() {
		r.attempt(s)
		for r.again() {
		}
	})
}

func (r *race) attempt(s *Backend) {
	s.Begin()
	nd := net.Dialer{KeepAliveConfig: keepAlive, Control: control}
	nd.SetMultipathTCP(false)
	conn, err := nd.DialContext(r.ctx, "tcp", s.Address)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil && r.over:
		_ = conn.Close() // too late; it has done nothing wrong
		s.Good()
		s.End()
	case err == nil:
		r.over, r.conn, r.server = true, conn.(*net.TCPConn), s
		s.Good()
		r.stop()
	default:
		s.End()
		if r.over || errors.Is(r.ctx.Err(), context.Canceled) {
			return // called off: not the server's fault
		}
		class := Classify(err)
		if class != Refused {
			class = Unreachable // whatever it was, no connection came about
		}
		why := &DialError{Class: class, Address: s.Address, Ours: ours(err), Err: bare(err)}
		if !why.Ours {
			s.Failed()
		}
		if r.err == nil || r.err.Ours || !why.Ours {
			r.err = why
		}
	}
}

// ours reports whether an error is this machine's fault.
func ours(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// bare takes away the address that package net puts before an error.
func bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// control sets what has to be set before the handshake.
func control(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// It fails on kernels that do not know it, which keepalive makes up for.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond))
	})
}
