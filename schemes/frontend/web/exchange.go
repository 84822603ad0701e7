package web

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

// downstream is the client's side of one exchange, whatever it speaks. Only
// more may be called by another goroutine than the others.
type downstream interface {
	// more gives the next bytes of the request's body, good until the next
	// call; io.EOF at its end. An error is a *fault, or the client's end.
	more() ([]byte, error)
	// ready reports whether more has something without waiting.
	ready() bool
	// trailer is what came behind the body.
	trailer() ([]byte, []field)
	// kick makes a call of more return, from another goroutine; unkick lets it
	// be called again.
	kick()
	unkick()
	// interim hands an answer of 1xx on.
	interim(*answer) error
	// begin writes an answer's head, and data what follows; both may keep
	// their bytes back until flush. close says that the connection is not used
	// again.
	begin(x *exchange, a *answer, close bool) error
	data(p []byte) error
	flush() error
	// retract takes an answer back of which nothing has left yet.
	retract() bool
	// finish ends the answer, with a trailer.
	finish(b []byte, fields []field) error
	// splice copies n bytes of the body from a back end's connection, or as
	// many as come by its deadline, where splices says that the kernel can.
	splice(from *net.TCPConn, n int64) (int64, error)
	splices() bool
	// refuse answers by ourselves.
	refuse(x *exchange, status int, text string)
	// gone reports whether the client is no longer there.
	gone() bool
}

// exchange is one request on its way.
type exchange struct {
	s    *Server
	set  *settings
	host *host
	ctx  context.Context
	down downstream
	w    *work
	req  *request
	from *client

	own **upstream // where the client's only connection is kept; nil: from the pool

	up         *upstream
	where      frontend.Where
	left       bool // the flight was ended before the exchange
	held       *frontend.Held
	pause      time.Duration
	headBytes  int
	rush       int   // attempts without a pause
	kept       int64 // bytes of w.kept that are counted
	replayable bool
	fresh      bool // no connection from the pool
	sent       bool // a byte of it was written to a back end
	asked      bool // the whole of the body was read
	streamed   bool // of the body more was read than is kept
	told       bool // that its back end is silent
	heard      bool // a byte of an answer came in this attempt
	cancelled  bool // ctx ends with the client's interest
	clientErr  error
	pump       *pump
	unsent     []byte // goes with the wait for the answer
	silent     time.Duration
	shadow     []byte // what was sent, for the shadow
	unshadowed bool   // it was too much

	// For the log, and what becomes of the connection.
	start            time.Time
	sentAt           time.Time     // when the server had it, of this attempt
	first            time.Duration // to the first byte of an answer
	status           int
	in, out          int64
	tries            int
	heldFor          time.Duration
	begun            bool   // a byte of an answer went to the client
	truncated        bool   // the answer is not whole
	cookie           []byte // the header that binds the client to a server, as HTTP/1.1 has it
	boundTo          string // its value
	broken           bool   // the client's connection cannot be used again
	reason, protocol string
}

// client is who asks.
type client struct {
	peer   netip.Addr // of the connection
	addr   netip.AddrPort
	local  netip.AddrPort
	text   []byte // addr's address as text
	scheme string
}

// verdict is how an attempt ended.
type verdict uint8

const (
	done  verdict = iota // answered, or there is nobody to answer
	again                // by another connection, or another decision; at once
	later                // the same site may answer after a pause
	lost                 // sent, and may not be sent again
)

// The pauses between attempts at the same site.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = 50 * time.Millisecond
	sentPause  = 250 * time.Millisecond // of requests that were sent: one may be what its server dies of
	maxRush    = 8
)

// run leads a request to the active site, for as long as it takes or may.
func (x *exchange) run() {
	svc := x.host.Service
	x.left = true
	defer x.finally()
	for {
		w := svc.Where()
		switch w.State {
		case frontend.Shut:
			x.refuse(503, "no site is active: "+w.Reason)
			return
		case frontend.Wait:
			x.reason = w.Reason
			if !x.hold(w, 0, nil) {
				return
			}
			continue
		}
		if !svc.Enter(w) {
			continue
		}
		if w.Epoch != x.where.Epoch {
			x.pause = 0
		}
		x.where, x.left = w, false
		x.s.arm(x.w)
		opens := *x.host.origin.opens.Load()
		v := x.attempt(w)
		reached := x.up != nil
		x.leave()
		x.up = nil
		if v != again {
			x.rush = 0
		} else if x.rush++; x.rush > maxRush {
			v = later
		}
		switch v {
		case done:
			return
		case lost:
			x.refuse(502, "the back end did not answer")
			return
		case later:
			most := lastPause
			if x.sent && reached {
				most = sentPause
			}
			x.pause = min(max(2*x.pause, firstPause), most)
			if reached {
				opens = nil
			}
			if !x.hold(w, x.pause, opens) {
				return
			}
		}
	}
}

// leave ends the flight, once.
func (x *exchange) leave() {
	if !x.left {
		x.left = true
		x.host.Service.Leave(x.where)
	}
}

// hold waits for another decision than w, or for so long.
func (x *exchange) hold(w frontend.Where, again time.Duration, opens <-chan struct{}) bool {
	if x.held == nil {
		h, err := x.host.Service.Hold(int64(x.headBytes) + x.kept)
		if err != nil {
			x.refuse(503, "too many requests wait")
			return false
		}
		x.held = h
	}
	if again == 0 {
		x.s.shrink(x.w)
		defer x.s.grow(x.w)
	}
	t := time.Now()
	err := x.held.Wait(x.ctx, w, again, opens)
	x.heldFor += time.Since(t)
	switch {
	case x.down.gone():
		x.begun, x.broken, x.status, x.reason = true, true, statusGone, "the client did not wait"
	case err == nil:
		return true
	case errors.Is(err, frontend.ErrShed):
		x.refuse(503, "no site answered in time")
	default:
		x.refuse(503, "the frontend ends")
	}
	return false
}

// finally gives back what the exchange has: its place among those that wait,
// and, after a panic, its connection and its flight.
func (x *exchange) finally() {
	if x.up != nil {
		x.endPump()
		x.up.close()
		x.leave()
	}
	x.unhold()
}

func (x *exchange) unhold() {
	if x.held != nil {
		x.held.Done()
		x.held = nil
	}
	x.unkeep()
}

// unkeep forgets what was kept of the body.
func (x *exchange) unkeep() {
	if x.kept > 0 {
		x.host.origin.kept.Add(-x.kept)
		x.kept = 0
	}
}

func (x *exchange) refuse(status int, text string) {
	if x.begun {
		x.broken = true
		return
	}
	x.begun, x.status = true, status
	x.down.refuse(x, status, text)
}

// may reports whether the request may be sent (again).
func (x *exchange) may() bool { return !x.sent || x.replayable && !x.streamed }

// attempt sends the request to w's site and hands the answer on.
func (x *exchange) attempt(w frontend.Where) verdict {
	u, err := x.connect(w)
	if err != nil {
		return x.undialed(w, err)
	}
	x.up = u
	reused := u.uses > 0
	u.uses++
	var acked uint64
	if reused && !x.replayable {
		ok := u.quiet()
		if ok {
			_, acked, ok = u.tcpInfo()
		}
		if !ok {
			u.close()
			return again
		}
	}
	if x.sent {
		x.host.Service.Stats.Replayed.Add(1)
	}
	x.tries++
	u.stats.Requests.Add(1)
	if x.cancelled {
		stop := context.AfterFunc(x.ctx, func() { _ = u.nc.Close() })
		defer stop()
	}
	x.heard, x.unsent = false, nil
	virgin := !x.sent
	if err := x.send(u); err != nil {
		return x.failed(u, w, err, reused, virgin, acked)
	}
	if err := x.await(u); err != nil {
		return x.failed(u, w, err, reused, virgin, acked)
	}
	u.server.Good()
	if !x.host.Service.Current(w) {
		// Too late: what it says is not true any more.
		x.endPump()
		u.close()
		if x.may() && !x.broken {
			return again
		}
		return lost
	}
	return x.relay(u)
}

// stands is asked before bytes are moved on a connection that has stood for a
// while: a process that stood still with it may have missed that its site was
// left, or that its permit has ended.
func (x *exchange) stands(u *upstream) error {
	if u.wasDropped() || !x.host.Service.Current(x.where) {
		return errDropped
	}
	return nil
}

// connect finds a connection to a server of the site.
func (x *exchange) connect(w frontend.Where) (*upstream, error) {
	o := x.host.origin
	if x.own != nil {
		if u := *x.own; u != nil {
			*x.own = nil
			if !x.fresh && u.origin == o && u.site == w.Site && u.use(true) {
				u.server.Begin()
				return u, nil
			}
			u.shut()
		}
	}
	want := x.want()
	if b := o.pick(w.Site, want, time.Now()); b != nil {
		if !x.fresh && x.host.ProxyOut == 0 {
			if u := o.take(b); u != nil {
				return u, nil
			}
		}
		want.Tag = b.Tag // its turn is taken
	}
	u, err := o.dial(x.s.hard, w, want, x.set.Limits.Connect)
	if err != nil {
		return nil, err
	}
	if x.host.ProxyOut != 0 {
		h := frontend.ProxyHeader{Source: x.from.addr, Destination: x.from.local}
		_ = u.writeBy(time.Now().Add(x.set.Limits.Connect))
		if _, err := u.nc.Write(frontend.AppendProxy(nil, x.host.ProxyOut, h)); err != nil {
			u.close()
			return nil, &frontend.DialError{Class: frontend.Reset, Address: u.server.Address, Err: err}
		}
	}
	return u, nil
}

func (x *exchange) undialed(w frontend.Where, err error) verdict {
	switch {
	case errors.Is(err, errDropped):
		return again
	case errors.Is(err, errTurn):
	case x.s.hard.Err() != nil:
		x.refuse(503, "the frontend ends")
		return done
	case scarce(err):
		x.s.spare()
	default:
		x.host.Service.Failed(w, frontend.Classify(err))
	}
	return later
}

var errBodyAborted = errors.New("the client's body ended early")

// failed judges an attempt of which no byte of an answer was handed on.
func (x *exchange) failed(u *upstream, w frontend.Where, err error, reused, virgin bool, acked uint64) verdict {
	x.endPump()
	defer u.close()
	if errors.Is(err, errNotQuiet) {
		x.tries--
		u.stats.Requests.Add(-1)
		return again
	}
	if x.clientErr != nil || errors.Is(err, errBodyAborted) {
		return x.badClient()
	}
	if errors.Is(err, errGone) || x.ctx.Err() != nil {
		x.broken, x.begun, x.reason = true, true, "the client is gone"
		x.status = statusGone
		return done
	}
	if u.wasDropped() {
		x.reason = "its site was left"
		if x.may() {
			return again
		}
		return lost
	}
	quiet := !x.heard && !errors.Is(err, errSilent)
	if reused && quiet && virgin && x.sent && !x.may() && !x.streamed && errors.Is(err, io.EOF) && u.untouched(acked) {
		x.sent = false
	}
	if reused && quiet && x.may() && !x.fresh {
		// Most likely the server had ended the connection before it saw the
		// request: that is no sign of anything.
		x.fresh = true
		x.host.origin.forget(u.server)
		return again
	}
	var f *fault
	class := frontend.Classify(err)
	switch {
	case errors.Is(err, errSilent):
		x.refuse(504, "the back end did not answer in time")
		return done
	case errors.As(err, &f):
		x.host.Service.Failed(w, frontend.Malformed)
		x.refuse(502, "the back end's answer cannot be understood: "+f.text)
		return done
	case class == frontend.Silent:
		class = frontend.Reset
	}
	x.host.Service.Failed(w, class)
	u.server.Failed()
	if x.may() {
		return later
	}
	return lost
}

// badClient ends an exchange whose body is not one, or ended too early.
func (x *exchange) badClient() verdict {
	var f *fault
	x.broken = true
	if errors.As(x.clientErr, &f) {
		x.host.Service.Stats.Bad.Add(1)
		x.refuse(f.status, f.text)
	} else {
		x.begun, x.status, x.reason = true, statusGone, "the client ended its body early"
	}
	return done
}

// want is the server that the client should get.
func (x *exchange) want() frontend.Want {
	switch x.host.Affinity {
	case AffinitySource:
		return frontend.Want{Key: string(x.from.text)}
	case AffinityCookie:
		return frontend.Want{Tag: x.tag(), Key: string(x.from.text)}
	}
	return frontend.Want{}
}

// end notes what became of the exchange.
func (x *exchange) end() {
	if x.where.Site != "" && x.status > 0 {
		st := x.siteStats()
		if n := x.status / 100; n < len(st.Answers) && x.tries > 0 {
			st.Answers[n].Add(1)
		}
		st.In.Add(x.in)
		st.Out.Add(x.out)
	}
	x.s.journal.note(x)
}

func (x *exchange) siteStats() *frontend.SiteStats {
	if c := x.host.origin.stats.Load(); c != nil && c.site == x.where.Site {
		return c.stats
	}
	c := &siteStats{x.where.Site, x.host.Service.Stats.Site(x.where.Site)}
	x.host.origin.stats.Store(c)
	return c.stats
}

// pump sends a body that was not there as a whole, beside the answer.
type pump struct {
	done chan struct{}
	over atomic.Bool // all of it was sent
}
