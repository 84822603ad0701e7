package stream

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas/schemes/frontend"
)

// Most connections are led at once, and their server answers: the loop
// connects to it by itself, which costs less than half of what a goroutine, the
// runtime's poller and package net do. Whatever turns out otherwise is left to
// find.

// connect begins to connect to the server that comes first. It reports whether
// that is under way.
func (p *pair) connect() bool {
	service, balancer := p.route.Service, p.route.dialer.Balancer
	w := service.Where()
	if !service.Enter(w) {
		return false
	}
	d := &lead{where: w, server: balancer.Pick(w.Site, p.want()), fd: -1}
	if d.server == nil || !p.attach(d) {
		service.Leave(w)
		return false
	}
	d.server.Begin()
	d.fd = dialNow(d.server.Address)
	p.server.fd = d.fd
	if d.fd < 0 || p.loop.addConnecting(&p.server) != nil {
		p.server.fd = -1
		p.loop.leave(p.route, d)
		return false
	}
	p.quick = d
	p.loop.slow.push(&p.life, p.loop.now)
	return true
}

// dialNow begins to connect to an address; -1 when that is not possible here.
func dialNow(address string) int32 {
	a, err := netip.ParseAddrPort(address)
	if err != nil || a.Addr().Zone() != "" {
		return -1
	}
	family := unix.AF_INET
	var sa unix.Sockaddr
	if ip := a.Addr().Unmap(); ip.Is4() {
		sa = &unix.SockaddrInet4{Addr: ip.As4(), Port: int(a.Port())}
	} else {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: ip.As16(), Port: int(a.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	tune(fd)
	if err := unix.Connect(fd, sa); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1
	}
	return int32(fd)
}

// connected is told when the server has answered, in whatever way.
func (p *pair) connected() {
	d := p.quick
	code, err := unix.GetsockoptInt(int(d.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	errno := syscall.Errno(code)
	switch {
	case err != nil || errno != 0:
		p.refused(frontend.Classify(errno))
	case d.dropped.Load():
		// Nothing was sent there yet: drop leads it anew.
	default:
		if p.cancel != nil {
			p.cancel() // this one was faster
		}
		d.server.Good()
		p.quick = nil
		p.begins(d)
	}
}

// refused leaves it to find, when the first server is none.
func (p *pair) refused(c frontend.Class) {
	if c != frontend.Refused {
		c = frontend.Unreachable
	}
	p.quick.server.Failed()
	p.route.Service.Failed(p.quick.where, c)
	p.giveUp()
	p.seekOn()
}

// unreachable is told when the server has not answered in time.
func (p *pair) unreachable() { p.refused(frontend.Unreachable) }

// hedge tries others beside the one that has not answered yet; where there are
// none that one, whose first handshake may be lost.
func (p *pair) hedge() {
	p.loop.dials.push(&p.life, p.life.since)
	if p.cancel == nil {
		p.seek(p.quick.server)
	}
}

// giveUp ends what connect began.
func (p *pair) giveUp() {
	if p.quick == nil {
		return
	}
	d := p.quick
	p.quick = nil
	p.life.remove()
	p.loop.shut(&p.server, true)
	p.server = end{pair: p, fd: -1, slot: -1}
	d.fd = -1
	p.loop.leave(p.route, d)
}
