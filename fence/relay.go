package fence

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

// chunk is what is read and forwarded at a time.
const chunk = 64 << 10

// notSent bounds what the kernel takes from the relay and has not sent yet:
// what a stopped relay can no longer call back.
const notSent = 128 << 10

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
	raw, err := dst.SyscallConn()
	if err != nil {
		return err
	}
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)

	var rest []byte // what is still to be written of the chunk
	var werr error
	// The clocks are asked before every write call, not only before the first
	// of a chunk: a guard may be stopped while it waits for room.
	write := func(fd uintptr) bool {
		for len(rest) > 0 {
			if !p.live() {
				werr = draas.ErrExpired
				return true
			}
			n, err := ignoringEINTR(func() (int, error) { return syscall.Write(int(fd), rest) })
			if errors.Is(err, syscall.EAGAIN) {
				return false // wait until writable, then ask again
			}
			if err != nil {
				werr = err
				return true
			}
			rest = rest[n:]
		}
		return true
	}
	for {
		n, err := src.Read(buf[:])
		if n > 0 {
			rest = buf[:n]
			if err := raw.Write(write); err != nil {
				return err
			}
			if werr != nil {
				return werr
			}
		}
		if errors.Is(err, io.EOF) {
			return dst.CloseWrite() // half-close: the other way goes on
		}
		if err != nil {
			return err
		}
	}
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
