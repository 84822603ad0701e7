package stream

import (
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// spliceAfter is how many reads in a row have to fill a chunk before the
	// bytes go through a pipe, which costs a call more and no copy.
	spliceAfter = 2
	// spliceBack ends that: so many bytes at a time are as cheap to copy.
	spliceBack = 8 << 10
	pipeSize   = 256 << 10 // bytes; the kernel may give less
)

// pipe is a direction's way through the kernel, while bytes stream.
type pipe struct {
	r, w int32
	n    int // bytes in it
}

// piped reports whether bytes are in the flow's pipe.
func (f *flow) piped() bool { return f.pipe != nil && f.pipe.n > 0 }

// spliced is one turn of a flow that streams. It reports whether the next may
// follow at once.
func (p *pair) spliced(f *flow) bool {
	if f.pipe == nil {
		if f.pipe = p.loop.getPipe(); f.pipe == nil {
			f.streams, f.full = false, 0 // without descriptors bytes are copied
			return true
		}
	}
	pi := f.pipe
	if pi.n == 0 {
		n, errno := splice(f.src.fd, pi.w, pipeSize)
		switch {
		case errno == syscall.EAGAIN: // the pipe is empty: it is the source that has nothing
			f.src.readable = false
			p.loop.putPipe(f)
			return false
		case errno != 0:
			f.src.fail(errno)
			return false
		case n == 0:
			f.src.ended = true
			p.loop.putPipe(f)
			return true
		case n >= spliceBack:
			f.small = 0
		default:
			f.small++
		}
		pi.n = n
		p.moved(f, n)
	}
	n, errno := splice(pi.r, f.dst.fd, pi.n)
	switch {
	case errno == syscall.EAGAIN:
		p.loop.arm(f.dst)
		return false
	case errno != 0:
		f.dst.brake()
		return false
	}
	if pi.n -= n; pi.n == 0 && f.small > 4 {
		f.streams, f.full = false, 0
		p.loop.putPipe(f)
	}
	return true
}

func (l *loop) getPipe() *pipe {
	if n := len(l.pipes); n > 0 {
		out := l.pipes[n-1]
		l.pipes = l.pipes[:n-1]
		return out
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{r: int32(fds[0]), w: int32(fds[1])}
}

// putPipe takes a flow's pipe back. One that has bytes in it is of no use to
// others.
func (l *loop) putPipe(f *flow) {
	p := f.pipe
	f.pipe = nil
	switch {
	case p == nil:
	case p.n > 0 || len(l.pipes) >= spares:
		p.close()
	default:
		l.pipes = append(l.pipes, p)
	}
}

func (p *pipe) close() {
	_ = unix.Close(int(p.r))
	_ = unix.Close(int(p.w))
}
