package stream

import (
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// read and write are for descriptors that never block: the scheduler is not
// told of them. A write on loopback takes the receiver's whole way through the
// kernel along, long enough for the scheduler to give the processor away and to
// have to get it back.
func read(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

func write(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if e != syscall.EINTR {
			return int(n), e
		}
	}
}

// splice moves bytes between a socket and a pipe without copying them here.
func splice(from, to int32, n int) (int, syscall.Errno) {
	for {
		r, _, e := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if e != syscall.EINTR {
			return int(r), e
		}
	}
}

// closeNow resets a connection: what was not delivered never is.
func closeNow(fd int32) {
	_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(int(fd))
}

// Of a client's connection: one that is gone without a word is found out
// within some 30 s.
const (
	keepIdle     = 15 // s
	keepInterval = 5  // s
	keepCount    = 3
	userTimeout  = 20 * time.Second
)

// tune sets a client's socket up. What the kernel does not know it does
// without.
func tune(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout/time.Millisecond))
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepIdle)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepInterval)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepCount)
}

// takeFD takes a connection's descriptor out of the runtime's hands and closes
// the connection.
func takeFD(c interface {
	syscall.Conn
	Close() error
}) (fd int32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	n := -1
	if cerr := raw.Control(func(was uintptr) { n, err = unix.FcntlInt(was, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		err = cerr
	}
	if err == nil {
		err = c.Close()
	}
	if err != nil && n >= 0 {
		_ = unix.Close(n)
	}
	return int32(n), err
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(a.Addr).Unmap()
		if a.ZoneId != 0 {
			if i, err := net.InterfaceByIndex(int(a.ZoneId)); err == nil {
				ip = ip.WithZone(i.Name)
			}
		}
		return netip.AddrPortFrom(ip, uint16(a.Port))
	}
	return netip.AddrPort{}
}

func localAddr(fd int32) netip.AddrPort {
	sa, err := unix.Getsockname(int(fd))
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}
