package authority

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// maxQuery bounds a query by UDP. What is longer is cut off by the read and
// answered FORMERR or not at all.
const maxQuery = 4096

// serveUDP answers queries one after the other. Several run on one socket:
// the kernel hands each packet to one of them.
func (a *Authority) serveUDP(ctx context.Context, l *Listener) error {
	in := make([]byte, maxQuery)
	out := make([]byte, 0, udpSize)
	oob := make([]byte, oobLen)
	for failures := 0; ; {
		n, info, from, err := readQuery(l, in, oob)
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
		if from.Port() == 0 { // nothing to answer to
			a.stats.dropped.Add(1)
			continue
		}
		out = a.respond(out[:0], in[:n], client{addr: from.Addr().Unmap(), now: &moment{clock: a.cfg.Clock}})
		if len(out) == 0 {
			continue
		}
		if l.wildcard {
			_, _, err = l.udp.WriteMsgUDPAddrPort(out, info, from)
		} else {
			_, err = l.udp.WriteToUDPAddrPort(out, from)
		}
		if err != nil && ctx.Err() == nil {
			a.stats.udpErrors.Add(1) // the client asks again
		}
	}
}

func readQuery(l *Listener, in, oob []byte) (n int, info []byte, from netip.AddrPort, err error) {
	if !l.wildcard {
		n, from, err = l.udp.ReadFromUDPAddrPort(in)
		return n, nil, from, err
	}
	n, oobn, _, from, err := l.udp.ReadMsgUDPAddrPort(in, oob)
	return n, replyInfo(oob[:oobn]), from, err
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
