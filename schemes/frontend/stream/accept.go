package stream

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas/schemes/frontend"
)

// batch bounds what a loop accepts before others have their turn.
const batch = 16

// How long nothing is accepted when there are no descriptors left: twice as
// long each time.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = 500 * time.Millisecond
)

// listen has the loop told of new connections. Of several loops one is.
func (l *loop) listen() {
	if l.listening || l.serving.closing.Load() {
		return
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: slotListen}
	if err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, int(l.serving.fd), &e); err != nil {
		l.serving.log().Error("cannot listen on", "address", l.serving.address, "err", err)
		l.acceptLater()
		return
	}
	l.listening = true
}

func (l *loop) deafen() {
	if l.listening {
		l.listening = false
		_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_DEL, int(l.serving.fd), nil)
	}
}

// acceptLater stops listening for a while. Clients wait in the kernel's queue
// meanwhile.
func (l *loop) acceptLater() {
	l.deafen()
	l.pause = min(max(2*l.pause, acceptPauseMin), acceptPauseMax)
	l.acceptAt = l.now + int64(l.pause)
}

func (l *loop) accept() {
	for range batch {
		if !l.listening {
			return
		}
		if l.serving.full() {
			l.deafen()
			l.acceptAt = l.now + int64(acceptPauseMin)
			return
		}
		fd, sa, err := unix.Accept4(int(l.serving.fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			l.pause = 0
			l.serving.least(l).take(int32(fd), addrPort(sa), l)
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.ECONNABORTED), errors.Is(err, unix.EINTR), errors.Is(err, unix.EPROTO):
		case l.serving.closing.Load():
			l.deafen()
		default:
			if l.pause == 0 {
				l.serving.log().Error("cannot accept connections, and will try again", "address", l.serving.address, "err", err)
			}
			l.acceptLater()
		}
	}
}

// full reports whether those that are served may need all descriptors there
// are: a client without a back end is of no use, and would keep the others from
// theirs.
func (s *serving) full() bool {
	return s.files > 0 && 2*s.server.now.Load() >= s.files
}

// filesFor is how many descriptors may be those of connections; 0: any number.
func filesFor() int64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur == unix.RLIM_INFINITY {
		return 0
	}
	n := int64(min(limit.Cur, 1<<30))
	return max(n-16-min(n/16, 512), 2)
}

// take has this loop serve a connection that another one may have accepted.
func (l *loop) take(fd int32, source netip.AddrPort, by *loop) {
	s := l.serving.server
	l.count.Add(1)
	s.now.Add(1)
	p := &pair{loop: l, set: s.setting.Load(), source: source, begin: time.Now()}
	p.client, p.server = end{pair: p, fd: fd, slot: -1}, end{pair: p, fd: -1, slot: -1}
	p.up, p.down = flow{src: &p.client, dst: &p.server}, flow{src: &p.server, dst: &p.client}
	p.life.pair, p.asked.pair = p, p
	if l == by {
		p.start()
	} else {
		l.post(p.start)
	}
}

// start begins what a new connection begins with.
func (p *pair) start() {
	now := p.loop.serving.server.now.Load()
	switch {
	case p.loop.stopped:
		p.finish(EndShutdown, true)
		return
	case now > int64(p.set.MaxConnections):
		p.reject()
		return
	}
	p.headed = !frontend.Within(p.set.ProxyIn, p.source.Addr())
	if p.headed && !p.admit() {
		p.reject()
		return
	}
	tune(int(p.client.fd))
	if err := p.loop.add(&p.client); err != nil {
		p.loop.serving.log().Error("cannot watch a connection", "err", err)
		p.finish(EndRejected, true)
		return
	}
	if p.headed && !p.set.peek {
		p.follow(p.set.rest)
		return
	}
	p.loop.hello.push(&p.life, p.loop.now)
}

func (p *pair) reject() {
	p.set.stats().Rejected.Add(1)
	p.finish(EndRejected, true)
}

// admit holds a client, whose address is known, to the limits.
func (p *pair) admit() bool {
	p.counted = p.set.allowed.Allowed(p.source.Addr()) && p.loop.serving.server.sources.Enter(p.source.Addr())
	return p.counted
}

// peek reads what a connection begins with, until it says where it belongs.
func (p *pair) peek() {
	for p.client.readable {
		room := maxEarly - len(p.early)
		n, errno := read(p.client.fd, p.loop.buf[:room])
		switch {
		case errno == unix.EAGAIN:
			p.client.readable = false
			return
		case errno != 0:
			p.finish(EndClient, true)
			return
		case n == 0:
			if p.client.ended = true; len(p.early) == 0 {
				p.finish(EndClosed, false)
				return
			}
		case n < room:
			p.client.readable = p.client.hup
		}
		p.early = append(p.early, p.loop.buf[:n]...)
		if !p.headed && !p.readHeader() {
			return
		}
		if !p.headed && !p.client.ended {
			continue
		}
		if p.readHello() {
			return
		}
	}
}

// readHeader takes the PROXY header off. It reports whether the connection is
// still there.
func (p *pair) readHeader() bool {
	h, n, err := frontend.ParseProxy(p.early)
	switch {
	case errors.Is(err, frontend.ErrProxyShort) && !p.client.ended:
		return true
	case err != nil:
		p.bad()
		return false
	}
	p.headed = true
	p.early = p.early[n:]
	if h.Source.IsValid() {
		p.source, p.dest = h.Source, h.Destination
	}
	if !p.admit() {
		p.reject()
		return false
	}
	return true
}

func (p *pair) bad() {
	p.set.stats().Bad.Add(1)
	p.finish(EndHello, true)
}

// readHello follows the route of the name that the client asks for, and
// reports whether it did, or the connection has ended.
func (p *pair) readHello() bool {
	if !p.set.peek {
		p.follow(p.set.rest)
		return true
	}
	name, err := serverName(p.early)
	switch {
	case errors.Is(err, errHelloShort) && !p.client.ended && len(p.early) < maxEarly:
		return false
	case err == nil:
		p.name = name
		p.follow(p.set.find(name))
	default:
		p.follow(p.set.rest)
	}
	return true
}

// helloLate ends the wait for the first bytes.
func (p *pair) helloLate() {
	if p.phase != peeking {
		return
	}
	if !p.headed {
		p.bad()
		return
	}
	p.follow(p.set.rest)
}
