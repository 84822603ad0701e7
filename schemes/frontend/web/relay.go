package web

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

var (
	errSilent = errors.New("no answer in time")
	errGone   = errors.New("the client is gone")
	errMany   = &fault{502, "too many interim answers"}
)

const (
	// lookEvery is how often a request without an answer, or an answer without
	// progress, is looked at.
	lookEvery = time.Second
	// maxInterim is how many answers of 1xx a request may have.
	maxInterim = 32
)

// await reads the head of the answer, however long it takes within bounds.
func (x *exchange) await(u *upstream) error {
	a := &x.w.ans
	a.reset(0)
	x.sentAt = time.Now()
	x.silent = x.host.origin.silent(x.set.Limits.Silent)
	if err := u.readWithin(x.sentAt, x.silent); err != nil {
		return err
	}
	scan, interims := 0, 0
	for {
		n, err := x.hear(u, a.space())
		if n > 0 {
			if !x.heard {
				x.heard = true
				x.note(u)
			}
			a.w += n
			if end, next, err := headEnd(a.buf[:a.w], scan); err == nil {
				if err := x.res().parse(a.buf, a.r, end, x.isHead()); err != nil {
					return err
				}
				a.r, scan = end, end
				if s := x.res().status; s >= 200 || s == 101 {
					return nil
				}
				if interims++; interims > maxInterim {
					return errMany
				}
				if err := x.interim(); err != nil {
					return err
				}
				// Several heads may have come at once.
				if scan, err = x.further(&interims); err != nil || x.res().status >= 200 {
					return err
				}
			} else if scan = next; !errors.Is(err, errShort) {
				return err
			}
			if a.w-a.r > x.set.Limits.HeadBytes {
				return faultLong
			}
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err := x.look(u); err != nil {
			return err
		}
	}
}

// hear reads of the answer. What is still to be written of the request is
// written first.
func (x *exchange) hear(u *upstream, p []byte) (int, error) {
	if len(x.unsent) == 0 {
		return u.nc.Read(p)
	}
	c := &u.call
	*c = call{out: x.unsent, in: p, first: u.uses > 1}
	err := u.rc.Read(u.steps)
	if c.out != nil && c.wrote == 0 && err == nil && c.err == syscall.EAGAIN {
		c.err = nil // its buffer is full: no fresh connection's is
	}
	n, first := c.read, x.unsent[:c.wrote]
	if c.wrote > 0 {
		x.sent = true
		x.copied(first)
	}
	whole := c.out == nil
	switch {
	case whole:
		x.unsent = nil
		x.whole()
	case err == nil && c.err == nil:
		x.unsent = x.unsent[c.wrote:]
	}
	if err == nil {
		err = c.err
	}
	*c = call{}
	if whole || err != nil {
		return n, err
	}
	rest := x.unsent
	x.unsent = nil
	if err := x.write(u, rest); err != nil {
		return 0, err
	}
	x.whole()
	return u.nc.Read(p)
}

// further takes the heads that are already there, up to the last of them.
func (x *exchange) further(interims *int) (int, error) {
	a := &x.w.ans
	for {
		end, next, err := headEnd(a.buf[:a.w], a.r)
		if errors.Is(err, errShort) {
			return next, nil
		}
		if err != nil {
			return 0, err
		}
		if err := x.res().parse(a.buf, a.r, end, x.isHead()); err != nil {
			return 0, err
		}
		a.r = end
		if s := x.res().status; s >= 200 || s == 101 {
			return end, nil
		}
		if *interims++; *interims > maxInterim {
			return 0, errMany
		}
		if err := x.interim(); err != nil {
			return 0, err
		}
	}
}

func (x *exchange) res() *answer { return &x.w.res }

func (x *exchange) isHead() bool { return string(x.req.method.of(x.req.buf)) == "HEAD" }

// note takes the time to the first byte, of a request without a pump: of
// others, it is not known what the server waited for.
func (x *exchange) note(u *upstream) {
	now := time.Now()
	u.pace.answered.Store(now.UnixNano())
	x.first = now.Sub(x.start)
	if x.pump == nil {
		x.host.origin.note(now.Sub(x.sentAt))
	}
}

func (x *exchange) interim() error {
	if x.req.minor == 0 {
		return nil
	}
	if err := x.down.interim(x.res()); err != nil {
		return errGone
	}
	return nil
}

// look is what is done about a back end that has not answered for a while.
func (x *exchange) look(u *upstream) error {
	now := time.Now()
	if len(x.unsent) > 0 {
		x.sentAt = now // nothing was asked yet
	}
	if early := x.silent - now.Sub(x.sentAt); early > 0 && x.pump == nil {
		return u.readBy(now.Add(early))
	}
	if p := x.pump; p != nil && !p.over.Load() {
		// It waits for the client, as we do.
		select {
		case <-p.done:
		default:
			x.sentAt = now
			if x.s.hard.Err() != nil {
				return errGone
			}
			return u.readBy(now.Add(x.silent))
		}
	}
	switch {
	case x.s.hard.Err() != nil || x.down.gone():
		return errGone
	case now.Sub(x.sentAt) >= x.set.Limits.Answer:
		return errSilent
	case !x.told:
		x.told = true
		x.host.Service.Failed(x.where, frontend.Silent)
	default:
		x.host.origin.passOver(u, x.sentAt, now)
	}
	left := x.set.Limits.Answer - now.Sub(x.sentAt)
	return u.readBy(now.Add(min(lookEvery, left)))
}

// relay hands the answer on. From here on the request is not sent again.
func (x *exchange) relay(u *upstream) verdict {
	a := x.res()
	x.status = a.status
	if a.status == 101 {
		return x.tunnel(u)
	}
	if x.host.Affinity == AffinityCookie {
		x.bind(u)
	}
	if a.streams {
		// It may go on for ever: a planned move does not wait for it, and it
		// is dropped when the site is left.
		x.leave()
	}
	pumping := x.pumping()
	x.begun = true
	err := x.down.begin(x, a, pumping)
	if err == nil {
		err = x.body(u)
	}
	sent := x.endPump()
	if err != nil && x.down.retract() {
		x.begun, x.truncated = false, false
		u.close()
		x.refuse(502, "the back end's answer cannot be understood")
		return done
	}
	if err != nil || !sent || pumping || !a.keepAlive || u.wasDropped() || a.length == untilEOF {
		u.close()
	} else {
		x.reuse(u)
	}
	if err != nil || !sent || pumping {
		x.broken = true
	}
	return done
}

// pumping reports whether the answer came before the server had the whole body.
// One that came just behind it is not early: the pump may not know yet that it
// is over.
func (x *exchange) pumping() bool {
	if x.pump == nil {
		return false
	}
	t := time.NewTimer(pumpGrace)
	defer t.Stop()
	select {
	case <-x.pump.done:
	case <-t.C:
	}
	return !x.pump.over.Load()
}

// pumpGrace is how long a pump may take to find out that it is over.
const pumpGrace = 5 * time.Millisecond

// reuse keeps the back end's connection for another request.
func (x *exchange) reuse(u *upstream) {
	if x.streamed || x.kept > 0 {
		_ = u.writeBy(time.Time{})
	}
	switch {
	case x.own != nil && x.host.ProxyOut != 0:
		u.server.End()
		u.use(false)
		*x.own = u
	case x.host.ProxyOut != 0:
		u.close()
	default:
		x.host.origin.put(u, x.s.now(), x.set.Limits.Backends)
	}
}

// body hands the answer's body on as it comes. The error of a back end that
// ends it early leaves the client with an answer that it sees is not whole.
func (x *exchange) body(u *upstream) error {
	a, in := x.res(), &x.w.ans
	var err error
	switch {
	case a.length == chunked:
		err = x.chunkedBody(u)
	case a.length == untilEOF:
		err = x.openBody(u)
	default:
		err = x.sizedBody(u, a.length)
	}
	if err != nil {
		x.truncated = true
		return err
	}
	if in.r < in.w {
		// More than was said: whose answer that is, nobody knows.
		a.keepAlive = false
		x.host.Service.Failed(x.where, frontend.Malformed)
	}
	return nil
}

// more reads of the body, into an empty buffer.
func (x *exchange) more(u *upstream) error {
	in := &x.w.ans
	in.reset(0)
	limit := x.set.Limits.Stall
	if x.res().streams {
		limit = x.set.Limits.Tunnel
	}
	begun := time.Now()
	for {
		if err := u.readBy(time.Now().Add(min(lookEvery, limit))); err != nil {
			return err
		}
		n, err := u.nc.Read(in.buf)
		if n > 0 {
			in.w = n
			return x.stands(u)
		}
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case x.s.hard.Err() != nil || x.down.gone():
			return errGone
		case time.Since(begun) >= limit:
			x.host.Service.Failed(x.where, frontend.Silent)
			return errSilent
		}
	}
}

func (x *exchange) cut(err error) error {
	if !errors.Is(err, errGone) && !errors.Is(err, errSilent) && !errors.Is(err, errDropped) && !x.up.wasDropped() {
		x.host.Service.Failed(x.where, frontend.Reset)
	}
	x.reason = "the back end ended its answer early"
	return err
}

func (x *exchange) emit(p []byte) error {
	x.out += int64(len(p))
	if err := x.down.data(p); err != nil {
		return errGone
	}
	return nil
}

// spliceFrom is the size from which on a body goes through the kernel.
const spliceFrom = 64 << 10

func (x *exchange) sizedBody(u *upstream, left int64) error {
	in := &x.w.ans
	for {
		n := int(min(left, int64(in.w-in.r)))
		if n > 0 {
			if err := x.emit(in.buf[in.r : in.r+n]); err != nil {
				return err
			}
			in.r += n
			left -= int64(n)
		}
		if left == 0 {
			return x.finish(nil, nil)
		}
		if err := x.flush(); err != nil {
			return err
		}
		if left >= spliceFrom && x.down.splices() {
			n, err := x.through(u, left)
			left -= n
			if err != nil {
				return err
			}
			continue
		}
		if err := x.more(u); err != nil {
			return x.cut(err)
		}
	}
}

// through has the kernel copy a part of the body.
func (x *exchange) through(u *upstream, left int64) (int64, error) {
	begun := time.Now()
	for {
		if err := u.readBy(time.Now().Add(lookEvery)); err != nil {
			return 0, x.cut(err)
		}
		if err := x.stands(u); err != nil {
			return 0, x.cut(err)
		}
		n, err := x.down.splice(u.nc, left)
		x.out += n
		switch {
		case n > 0 && (err == nil || errors.Is(err, os.ErrDeadlineExceeded)):
			return n, nil
		case err == nil || errors.Is(err, io.EOF):
			return n, x.cut(io.ErrUnexpectedEOF)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return n, x.cut(err)
		case x.s.hard.Err() != nil || x.down.gone():
			return n, errGone
		case time.Since(begun) >= x.set.Limits.Stall:
			x.host.Service.Failed(x.where, frontend.Silent)
			return n, errSilent
		}
	}
}

func (x *exchange) openBody(u *upstream) error {
	in := &x.w.ans
	for {
		if in.r < in.w {
			if err := x.emit(in.buf[in.r:in.w]); err != nil {
				return err
			}
			in.r = in.w
		}
		if err := x.flush(); err != nil {
			return err
		}
		err := x.more(u)
		if errors.Is(err, io.EOF) && !u.wasDropped() {
			return x.finish(nil, nil)
		}
		if err != nil {
			return x.cut(err)
		}
	}
}

func (x *exchange) chunkedBody(u *upstream) error {
	in, c := &x.w.ans, &x.w.chunks
	c.reset()
	for {
		data, read, err := c.decode(in.buf[in.r:in.w])
		if data > 0 {
			if err := x.emit(in.buf[in.r : in.r+data]); err != nil {
				return err
			}
		}
		in.r += read
		if err != nil {
			x.host.Service.Failed(x.where, frontend.Malformed)
			return err
		}
		if c.ended() {
			return x.finish(c.trailer, c.fieldsOf)
		}
		if err := x.flush(); err != nil {
			return err
		}
		if err := x.more(u); err != nil {
			return x.cut(err)
		}
	}
}

func (x *exchange) flush() error {
	if err := x.down.flush(); err != nil {
		return errGone
	}
	return nil
}

func (x *exchange) finish(b []byte, fields []field) error {
	if err := x.down.finish(b, fields); err != nil {
		return errGone
	}
	return nil
}
