package stream

import (
	"context"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas/schemes/frontend"
)

// pair is a client's connection and, once it is led, the one to a back end.
type pair struct {
	loop   *loop
	set    *setting
	phase  phase
	queued bool
	asking bool // the client has spoken last, and the asked list knows

	client, server end
	up, down       flow // to the server, to the client

	source   netip.AddrPort // of the client, as a PROXY header has it where there is one
	dest     netip.AddrPort // likewise; zero: this address
	counted  bool           // at the server's limits of sources
	headed   bool           // its PROXY header was read
	early    []byte         // of the client, and not sent on yet
	sent     []byte         // of the client, as long as it may be sent to another server
	firm     bool           // it may not, any more
	renewed  int            // times that it was
	name     string
	route    *route
	lead     *lead // nil before
	quick    *lead // under way, by connect
	held     time.Duration
	shadow   *shadow
	begin    time.Time
	cancel   context.CancelFunc // of the goroutine that looks for a back end; nil: there is none
	life     node               // in hello, dialing or idle
	asked    node
	inBytes  int64
	outBytes int64
}

type phase uint8

const (
	peeking phase = iota // the client's first bytes are read
	leading              // a back end is looked for
	led
	over
)

// lead is where a pair is led.
type lead struct {
	where   frontend.Where
	server  *frontend.Backend
	conn    *frontend.Conn
	fd      int32
	dropped atomic.Bool // its site is no longer the one
	stats   *frontend.SiteStats
}

// end is one socket of a pair.
type end struct {
	pair     *pair
	fd       int32
	slot     int32
	readable bool // bytes, an end or an error may be there
	hup      bool // an end is: a short read is not the last
	armed    bool // told of when it takes bytes again
	ended    bool // its end was read
	failed   bool // it is reset, or the peer is gone
	broken   bool // takes no more bytes
	errno    syscall.Errno
}

// fail notes that reading has failed.
func (e *end) fail(errno syscall.Errno) { e.readable, e.failed, e.errno = false, true, errno }

// brake notes that writing has failed. What came before that is still there to
// be read, whether an event has told of it or not.
func (e *end) brake() { e.readable, e.broken = true, true }

// flow is one direction.
type flow struct {
	src, dst *end
	pending  []byte // read, and not taken by dst yet
	space    []byte // where pending stands
	pipe     *pipe
	done     bool // src's end was passed on
	streams  bool // by a pipe
	full     int  // reads in a row that filled the chunk
	small    int  // fills of the pipe in a row that were small
}

// turns bounds what a direction moves before others have theirs, in chunks.
const turns = 8

// event takes what the kernel says of an end.
func (p *pair) event(e *end, events uint32) {
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.readable = true
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.hup = true
	}
	if events&unix.EPOLLERR != 0 {
		e.failed = true
	}
	if p.quick != nil && e == &p.server {
		p.connected()
		return
	}
	p.run()
}

// run does what can be done without waiting.
func (p *pair) run() {
	switch p.phase {
	case peeking:
		p.peek()
	case leading:
		if p.client.failed {
			p.finish(EndClient, true)
		}
	case led:
		p.move()
	}
}

// move passes on what there is, in both directions.
func (p *pair) move() {
	more := p.pump(&p.up)
	more = p.pump(&p.down) || more
	switch {
	case more:
		p.loop.again(p)
	case p.client.broken || p.client.failed:
		p.finish(EndClient, true)
	case p.server.failed || p.server.broken && len(p.down.pending) == 0 && !p.down.piped():
		// What it had sent before it failed was passed on.
		class := frontend.Reset
		if p.server.errno == syscall.ETIMEDOUT {
			class = frontend.Silent
		}
		p.lead.failed(p, class)
		if p.renewed >= renewals || !p.renew() {
			p.finish(EndServer, true)
		}
	case p.up.done && p.down.done:
		p.finish(EndClosed, false)
	}
}

// pump moves one direction on. It reports whether there is more to do at once.
func (p *pair) pump(f *flow) bool {
	if f.dst.broken {
		return false
	}
	for range turns {
		if len(f.pending) > 0 && !p.flush(f) {
			return false
		}
		if f.src.ended && !f.piped() {
			p.end(f)
			return false
		}
		if !f.src.readable && !f.piped() {
			return false
		}
		if f.streams {
			if !p.spliced(f) {
				return false
			}
			continue
		}
		buf := p.loop.buf
		n, errno := read(f.src.fd, buf)
		switch {
		case errno == syscall.EAGAIN:
			f.src.readable = false
			return false
		case errno != 0:
			f.src.fail(errno)
			return false
		case n == 0:
			f.src.ended = true
			continue
		}
		if n < len(buf) {
			f.src.readable = f.src.hup
			f.full = 0
		} else if f.full++; f.full >= spliceAfter {
			// A shadow has to see the bytes.
			f.streams, f.small = p.shadow == nil || f != &p.up, 0
		}
		if !p.pass(f, buf[:n]) {
			return false
		}
	}
	return true
}

// pass hands bytes on that were just read, and reports whether all of them were
// taken.
func (p *pair) pass(f *flow, b []byte) bool {
	p.moved(f, len(b))
	if f == &p.up {
		p.remember(b)
	}
	if p.shadow != nil && f == &p.up {
		p.shadow.offer(b)
	}
	n, errno := write(f.dst.fd, b)
	switch {
	case errno != 0 && errno != syscall.EAGAIN:
		f.dst.brake()
		return false
	case errno != 0:
		n = 0
	}
	if n == len(b) {
		return true
	}
	f.space = p.loop.keep(b[n:])
	f.pending = f.space
	p.loop.arm(f.dst)
	return false
}

// flush passes on what was kept, and reports whether all of it was taken.
func (p *pair) flush(f *flow) bool {
	n, errno := write(f.dst.fd, f.pending)
	switch {
	case errno == syscall.EAGAIN:
		p.loop.arm(f.dst)
		return false
	case errno != 0:
		f.dst.brake()
		return false
	}
	if f.pending = f.pending[n:]; len(f.pending) > 0 {
		p.loop.arm(f.dst)
		return false
	}
	p.loop.giveBack(f.space)
	f.pending, f.space = nil, nil
	return true
}

// end passes an end on: the other direction goes on.
func (p *pair) end(f *flow) {
	if !f.done {
		f.done = true
		_ = unix.Shutdown(int(f.dst.fd), unix.SHUT_WR) // fails only where there is nobody left to tell
	}
}

// moved counts, and notes who has spoken.
func (p *pair) moved(f *flow, n int) {
	l := p.loop
	l.idle.push(&p.life, l.now)
	if f == &p.down {
		p.firm, p.sent = true, nil
		p.outBytes += int64(n)
		p.lead.stats.Out.Add(int64(n))
		if p.asking {
			p.asking = false
			p.asked.remove()
		}
		return
	}
	p.inBytes += int64(n)
	p.lead.stats.In.Add(int64(n))
	switch {
	case !p.asking:
		p.asking = true
		if p.set.Silence > 0 {
			l.asked.push(&p.asked, l.now)
		}
	case n >= chunk/4 && p.asked.in != nil:
		l.asked.push(&p.asked, l.now) // an upload: nobody expects an answer yet
	}
}

// silent asks for a look at a back end that does not answer.
func (p *pair) silent() { p.lead.failed(p, frontend.Silent) }

func (d *lead) failed(p *pair, c frontend.Class) { p.route.Service.Failed(d.where, c) }

// finish ends a pair, whatever its phase. What was not delivered is, after a
// reset, not delivered any more.
func (p *pair) finish(why string, reset bool) {
	if p.phase == over {
		return
	}
	p.phase = over
	l := p.loop
	l.shut(&p.client, reset)
	l.shut(&p.server, reset)
	p.life.remove()
	p.asked.remove()
	for _, f := range []*flow{&p.up, &p.down} {
		l.giveBack(f.space)
		f.pending, f.space = nil, nil
		l.putPipe(f)
	}
	if p.shadow != nil {
		p.shadow.close()
	}
	if p.cancel != nil {
		p.cancel()
	}
	for _, d := range []*lead{p.lead, p.quick} {
		if d != nil {
			d.fd = -1 // shut already
			l.leave(p.route, d)
		}
	}
	l.count.Add(-1)
	p.loop.serving.left(p, why)
}

// leave gives a lead back.
func (l *loop) leave(r *route, d *lead) {
	if d.fd >= 0 {
		closeNow(d.fd)
		d.fd = -1
	}
	d.conn.Detach()
	d.server.End()
	r.Service.Leave(d.where)
}
