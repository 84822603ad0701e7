package fence

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

// chunk is what is read and forwarded at a time. A connection holds one only
// while it has something to forward.
const chunk = 128 << 10

// notSent bounds what the kernel takes from the relay and has not sent yet:
// what a stopped relay can no longer call back.
const notSent = 256 << 10

// prepare makes a close a reset from now on, even one that the kernel does for
// a killed guard: what lies in the send buffer is not delivered after it.
func prepare(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only on a dead connection, as does the next
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent)
		})
	}
}

// relay connects to the backend and copies both ways until both sides have
// ended, or one failed. The caller closes client.
func (p *Path) relay(ctx context.Context, client *net.TCPConn) {
	dialer := net.Dialer{Timeout: p.cfg.DialTimeout}
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialContext(ctx, "tcp", p.cfg.Forward)
	if err != nil {
		// The client is reset at once, so that a probe sees a dead backend as
		// it would without the relay.
		p.cfg.Log.Debug("path cannot reach the backend", "backend", p.cfg.Forward, "err", err)
		return
	}
	backend := conn.(*net.TCPConn)
	prepare(backend)
	if !p.admit(backend) {
		_ = backend.Close() // a reset
		return
	}
	defer p.forget(backend)

	both := func(do func(dst, src *net.TCPConn) error) bool {
		var there, back error
		var wg sync.WaitGroup
		wg.Go(func() {
			if there = do(backend, client); there != nil {
				closeBoth(client, backend)
			}
		})
		if back = do(client, backend); back != nil {
			closeBoth(client, backend)
		}
		wg.Wait()
		return there == nil && back == nil
	}
	if both(p.pump) {
		// Both sides have ended well: let the last bytes arrive before the
		// close resets. A deadline meanwhile closes under our hands.
		ctx, cancel := context.WithTimeout(ctx, drainFor)
		defer cancel()
		both(func(dst, _ *net.TCPConn) error { return drain(ctx, dst) })
	}
}

func closeBoth(a, b *net.TCPConn) {
	_ = a.Close() // resets: nothing to tell
	_ = b.Close()
}

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// pump copies src to dst until src ends, then ends dst's side of it.
func (p *Path) pump(dst, src *net.TCPConn) error {
	in, err := src.SyscallConn()
	if err != nil {
		return err
	}
	out, err := dst.SyscallConn()
	if err != nil {
		return err
	}
	for {
		buf, n, err := readChunk(in)
		if err == nil && n > 0 {
			err = p.writeLive(out, buf[:n])
		}
		if buf != nil {
			chunks.Put(buf)
		}
		switch {
		case err != nil:
			return err
		case n == 0:
			return dst.CloseWrite() // half-close: the other way goes on
		}
	}
}

// readChunk waits for bytes, and only then takes a chunk for them. Zero bytes
// without an error are the end.
func readChunk(in syscall.RawConn) (buf *[chunk]byte, n int, err error) {
	werr := in.Read(func(fd uintptr) bool {
		buf = chunks.Get().(*[chunk]byte)
		n, err = ignoringEINTR(func() (int, error) { return syscall.Read(int(fd), buf[:]) })
		if errors.Is(err, syscall.EAGAIN) {
			chunks.Put(buf)
			buf = nil
			return false // wait until readable
		}
		return true
	})
	return buf, n, errors.Join(werr, err)
}

// writeLive writes while the permit lives. The clocks are asked before every
// write call, not only before the first of a chunk: the guard may be stopped
// while it waits for room.
func (p *Path) writeLive(out syscall.RawConn, rest []byte) (err error) {
	werr := out.Write(func(fd uintptr) bool {
		for len(rest) > 0 {
			if !p.live() {
				err = draas.ErrExpired
				return true
			}
			n := 0
			n, err = ignoringEINTR(func() (int, error) { return syscall.Write(int(fd), rest) })
			if errors.Is(err, syscall.EAGAIN) {
				err = nil
				return false // wait until writable, then ask again
			}
			if err != nil {
				return true
			}
			rest = rest[n:]
		}
		return true
	})
	return errors.Join(werr, err)
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}

// drainFor bounds drain: a peer that vanished never acknowledges.
const drainFor = 30 * time.Second

// drain waits until the peer has acknowledged everything, the end included.
func drain(ctx context.Context, c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		var left int
		var ierr error
		if err := raw.Control(func(fd uintptr) { left, ierr = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil {
			return err
		}
		if ierr != nil {
			return ierr
		}
		if left == 0 || ctx.Err() != nil {
			return ctx.Err()
		}
		pause(ctx, wait)
	}
}
