package fence_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas/fence"
)

// stamped tells when the kernel received what is read: a reader on a machine
// that stands still for a second reads late what came in time.
type stamped struct {
	*net.TCPConn
	raw syscall.RawConn
	// at is the boot clock's instant of the last segment read.
	at time.Duration
}

func stamp(c net.Conn) (*stamped, error) {
	tcp := c.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) })
	return &stamped{TCPConn: tcp, raw: raw}, errors.Join(cerr, err)
}

func (s *stamped) Read(p []byte) (int, error) {
	var n, oobn int
	var err error
	oob := make([]byte, 128)
	rerr := s.raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, err = unix.Recvmsg(int(fd), p, oob, unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN)
	})
	if err := errors.Join(rerr, err); err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	boot, wall := fence.SystemClock{}.Now().Boot, time.Now()
	s.at = boot
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return n, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			sec, nsec := binary.NativeEndian.Uint64(m.Data), binary.NativeEndian.Uint64(m.Data[8:])
			s.at = boot - wall.Sub(time.Unix(int64(sec), int64(nsec)))
		}
	}
	return n, nil
}
