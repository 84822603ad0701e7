package authority

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxQuery bounds a query by UDP. What is longer is cut off by the read and
// answered FORMERR or not at all.
const maxQuery = 4096

// maxPackets is how many queries are taken from the socket at a time: under
// load most of the cost of one is in the calls to the kernel.
const maxPackets = 32

// packets are queries that came together, and their answers.
type packets struct {
	wildcard bool
	in, out  [maxPackets][]byte
	from     [maxPackets]unix.RawSockaddrInet6 // has room for either family
	info     [maxPackets][]byte
	iov      [maxPackets]unix.Iovec
	msgs     [maxPackets]message
	n        int // of those that are to be sent, once they are answered

	// What the calls below came to; the functions are made once.
	errno            unix.Errno
	sent             int
	read, send       func(fd uintptr) bool
	readNow, sendNow func(fd uintptr) // without waiting
}

// message is struct mmsghdr (recvmmsg(2)).
type message struct {
	unix.Msghdr
	length uint32
}

func newPackets(wildcard bool) *packets {
	p := &packets{wildcard: wildcard}
	queries, answers, infos := make([]byte, maxPackets*maxQuery), make([]byte, maxPackets*udpSize), make([]byte, maxPackets*oobLen)
	for i := range maxPackets {
		p.in[i] = queries[i*maxQuery:][:maxQuery]
		p.out[i] = answers[i*udpSize:][:0:udpSize]
		p.info[i] = infos[i*oobLen:][:oobLen]
	}
	p.read = func(fd uintptr) bool {
		var n uintptr
		for p.errno = unix.EINTR; p.errno == unix.EINTR; { // signals are few
			n, _, p.errno = unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&p.msgs[0])), maxPackets, unix.MSG_DONTWAIT, 0, 0)
		}
		p.n = int(n)
		return p.errno != unix.EAGAIN
	}
	p.send = func(fd uintptr) bool {
		var n uintptr
		for p.errno = unix.EINTR; p.errno == unix.EINTR; {
			n, _, p.errno = unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&p.msgs[p.sent])), uintptr(p.n-p.sent), unix.MSG_DONTWAIT, 0, 0)
		}
		if p.errno == 0 {
			p.sent += int(n)
		}
		return p.errno != unix.EAGAIN
	}
	p.readNow = func(fd uintptr) { p.read(fd) }
	p.sendNow = func(fd uintptr) { p.send(fd) }
	return p
}

// expect makes the messages ready to be received into.
func (p *packets) expect() {
	for i := range p.msgs {
		p.iov[i].Base = &p.in[i][0]
		p.iov[i].SetLen(maxQuery)
		h := &p.msgs[i].Msghdr
		*h = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&p.from[i])), Namelen: unix.SizeofSockaddrInet6, Iov: &p.iov[i]}
		h.SetIovlen(1)
		if p.wildcard {
			h.Control = &p.info[i][0]
			h.SetControllen(oobLen)
		}
	}
}

// sender is who sent a query.
func (p *packets) sender(i int) (addr netip.Addr, port uint16) {
	from := &p.from[i]
	port = binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&from.Port))[:])
	if from.Family == unix.AF_INET {
		return netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(from)).Addr), port
	}
	return netip.AddrFrom16(from.Addr).Unmap(), port
}

// answer makes the message at i the answer to the query at j.
func (p *packets) answer(i, j int, out []byte) {
	asked := &p.msgs[j]
	p.out[j] = out
	p.iov[j].Base = &out[0]
	p.iov[j].SetLen(len(out))
	h := unix.Msghdr{Name: asked.Name, Namelen: asked.Namelen, Iov: &p.iov[j]}
	h.SetIovlen(1)
	if p.wildcard {
		if info := replyInfo(p.info[j][:asked.Controllen]); len(info) > 0 {
			h.Control = &info[0]
			h.SetControllen(len(info))
		}
	}
	p.msgs[i].Msghdr = h
}

// serveUDP answers queries, as many at a time as have come, and calls for help
// when more are waiting than it can take at once. If all workers always waited
// for queries, each would get few at a time, and every answer cost more.
func (a *Authority) serveUDP(ctx context.Context, l *Listener, help chan<- struct{}) error {
	conn, err := l.udp.SyscallConn()
	if err != nil {
		return fmt.Errorf("read dns queries by udp: %w", err)
	}
	p := newPackets(l.wildcard)
	for failures := 0; ; {
		p.expect()
		err := conn.Read(p.read)
		if err == nil && p.errno != 0 {
			err = p.errno
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			a.stats.udpErrors.Add(1)
			if failures++; failures == maxFailures || errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("read dns queries by udp: %w", err)
			}
			pause(ctx, failures)
			continue
		}
		failures = 0
		if p.n == maxPackets {
			select {
			case help <- struct{}{}:
			default: // it is called already
			}
		}
		a.answerAll(p)
		a.sendAll(conn, p)
	}
}

// helpUDP answers queries when it is called, for as long as many are waiting.
func (a *Authority) helpUDP(ctx context.Context, l *Listener, help <-chan struct{}) error {
	conn, err := l.udp.SyscallConn()
	if err != nil {
		return fmt.Errorf("read dns queries by udp: %w", err)
	}
	p := newPackets(l.wildcard)
	for {
		select {
		case <-help:
		case <-ctx.Done():
			return nil
		}
		for full := true; full; {
			p.expect()
			// Not by Read: there another one waits.
			if err := conn.Control(p.readNow); err != nil || p.errno != 0 {
				break // none are left, or whoever reads first hears of it
			}
			full = p.n == maxPackets
			a.answerAll(p)
			a.sendAll(conn, p)
		}
	}
}

// sendAll sends the answers, past those that fail, unless the socket is closed.
func (a *Authority) sendAll(conn syscall.RawConn, p *packets) {
	for p.sent = 0; p.sent < p.n; { // some messages a turn
		// Write lets one worker at a time to the socket: it is for waiting.
		err := conn.Control(p.sendNow)
		if err == nil && p.errno == unix.EAGAIN {
			err = conn.Write(p.send)
		}
		if err != nil {
			return
		}
		if p.errno != 0 {
			a.stats.udpErrors.Add(1) // the client asks again
			p.sent++
		}
	}
}

// answerAll answers the queries that have come. They are looked at by one
// reading of the clock, taken behind the last of them.
func (a *Authority) answerAll(p *packets) {
	now := moment{clock: a.cfg.Clock}
	answered := 0
	for i := range p.n {
		addr, port := p.sender(i)
		if port == 0 { // nothing to answer to
			a.stats.dropped.Add(1)
			continue
		}
		out := a.respond(p.out[i][:0], p.in[i][:p.msgs[i].length], client{addr: addr, now: &now})
		if len(out) == 0 {
			continue
		}
		p.answer(answered, i, out)
		answered++
	}
	p.n = answered
}

// oobLen has room for an in_pktinfo and an in6_pktinfo.
var oobLen = unix.CmsgSpace(unix.SizeofInet4Pktinfo) + unix.CmsgSpace(unix.SizeofInet6Pktinfo)

// wantPacketInfo asks the kernel to tell with each packet which of the
// machine's addresses it was sent to.
func wantPacketInfo(c *net.UDPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("ask for packet info: %w", err)
	}
	var err4, err6 error
	err = raw.Control(func(fd uintptr) {
		err4 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		err6 = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	})
	if err == nil && err4 != nil && err6 != nil { // a socket of one family refuses the other's
		err = errors.Join(err4, err6)
	}
	if err != nil {
		return fmt.Errorf("ask for packet info: %w", err)
	}
	return nil
}

// replyInfo turns the control messages of a received packet into those of its
// answer, in place: the address that was asked becomes the source (ip(7),
// IP_PKTINFO: ipi_spec_dst holds it already). The interface is left to
// routing, except for link-local addresses.
func replyInfo(oob []byte) []byte {
	for rest := oob; len(rest) >= unix.CmsgLen(0); { // a header or more a turn
		h, data, next, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			return nil
		}
		used := rest[:len(rest)-len(next)]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			clear(data[:4]) // ipi_ifindex
			return used
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			if !netip.AddrFrom16([16]byte(data[:16])).IsLinkLocalUnicast() {
				clear(data[16:20]) // ipi6_ifindex
			}
			return used
		}
		rest = next
	}
	return nil
}
