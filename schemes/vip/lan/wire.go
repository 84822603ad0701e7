package lan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// sendWait bounds how long a frame may wait for room in the interface's queue.
const sendWait = 20 * time.Millisecond

// ear is a packet socket of one interface: ARP, or neighbour discovery. What it
// sends passes by nftables.
type ear struct {
	f      *os.File
	closed atomic.Bool
}

// listen opens an ear. It is bound only once and stays open: binding again and
// closing wait for packets under way, 10 ms and more.
func listen(l link, proto uint16) (*ear, error) {
	// With protocol 0 nothing is received before the filter stands and it is
	// bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	if err := errors.Join(attach(fd, proto), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network(proto), Ifindex: l.index})); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", l.name, err), unix.Close(fd))
	}
	return &ear{f: os.NewFile(uintptr(fd), "packets of "+l.name)}, nil
}

// attach lets only neighbour discovery through of all IPv6: what is too short to
// be that is not heard either.
func attach(fd int, proto uint16) error {
	if proto != etherIPv6 {
		return nil
	}
	code, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: etherLen + 6, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: nextICMPv6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: etherLen + ip6Len, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: ndSolicit, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: ndAdvert, SkipTrue: 1},
		bpf.RetConstant{Val: 2048},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	var filter []unix.SockFilter
	for _, i := range code {
		filter = append(filter, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// network is a number in network byte order.
func network(n uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(n >> 8), byte(n)})
}

// hear calls what for each sight of an address, with the wall clock of when the
// frame came, until the ear is closed. It returns why it ended then, or nil.
func (e *ear) hear(what func(s sight, came time.Duration)) error {
	raw, err := e.f.SyscallConn()
	if err != nil { // only of no file at all
		return err
	}
	buf, control := make([]byte, 2048), make([]byte, 64)
	for {
		var n, controls int
		var received error
		err := raw.Read(func(fd uintptr) bool {
			n, controls, _, _, received = unix.Recvmsg(int(fd), buf, control, 0)
			return received != unix.EAGAIN
		})
		switch {
		case err != nil && e.closed.Load():
			return nil
		case err != nil:
			return err
		case received == unix.ENETDOWN: // said once; it goes on when the interface is up
			continue
		case received == unix.EINTR:
			continue
		case received != nil:
			return os.NewSyscallError("recvmsg", received)
		}
		if s, ok := parse(buf[:n]); ok {
			what(s, stamped(control[:controls]))
		}
	}
}

// stamped reads when the kernel received a frame, or says that it was now.
func stamped(control []byte) time.Duration {
	messages, err := unix.ParseSocketControlMessage(control)
	if err == nil {
		for _, m := range messages {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Duration(binary.NativeEndian.Uint64(m.Data))*time.Second + time.Duration(binary.NativeEndian.Uint64(m.Data[8:]))
			}
		}
	}
	return time.Duration(time.Now().UnixNano())
}

// send sends frames.
func (e *ear) send(frames ...[]byte) error {
	if err := e.f.SetWriteDeadline(time.Now().Add(sendWait)); err != nil {
		return err
	}
	for _, b := range frames {
		if _, err := e.f.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// close ends hear.
func (e *ear) close() {
	e.closed.Store(true)
	_ = e.f.Close() // nothing is left to be lost
}

// port is an interface with its ears.
type port struct {
	name      string
	four, six *ear // nil: no address of the kind moves here
}

func (p *port) ear(mac net.HardwareAddr, four bool) (*ear, error) {
	e := p.six
	if four {
		e = p.four
	}
	if e == nil || mac == nil {
		return nil, fmt.Errorf("nothing is heard on interface %s", p.name)
	}
	return e, nil
}

// lose closes one ear, for another to be opened in its place.
func (p *port) lose(e *ear) {
	e.close()
	for _, slot := range []**ear{&p.four, &p.six} {
		if *slot == e {
			*slot = nil
		}
	}
}

func (p *port) close() {
	for _, e := range []*ear{p.four, p.six} {
		if e != nil {
			e.close()
		}
	}
}
