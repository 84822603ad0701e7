package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/draasd/draas/schemes/frontend"
)

// HTTP/2 is read by golang.org/x/net/http2. What it makes of a request is
// written as a head of HTTP/1.1 and read by our own parser, so that both go the
// same way from there, and are held to the same rules.

// two is what the connections of HTTP/2 share, by one configuration.
type two struct {
	base   *http.Server
	server *http2.Server
}

// upload bounds what is buffered of bodies, in bytes.
const (
	uploadStream     = 64 << 10
	uploadConnection = 256 << 10
)

func (s *Server) newTwo(set *settings) (*two, error) {
	l := set.Limits
	t := &two{
		// What it would log is what clients do wrong.
		base: &http.Server{MaxHeaderBytes: l.HeadBytes, ErrorLog: log.New(io.Discard, "", 0), IdleTimeout: l.Idle},
		server: &http2.Server{
			MaxConcurrentStreams:         uint32(l.Streams),
			IdleTimeout:                  l.Idle,
			MaxReadFrameSize:             16 << 10,
			MaxUploadBufferPerStream:     uploadStream,
			MaxUploadBufferPerConnection: uploadConnection,
		},
	}
	if err := http2.ConfigureServer(t.base, t.server); err != nil {
		return nil, fmt.Errorf("configure HTTP/2: %w", err)
	}
	return t, nil
}

// twoConn is a client's connection that speaks HTTP/2.
type twoConn struct {
	s    *Server
	tcp  *net.TCPConn
	two  *two
	from client

	guard *guard

	mu  sync.Mutex
	svc *frontend.Service
}

// overdue ends a connection whose client takes nothing. The server's own
// timeout for that would set a timer for each write.
func (c *twoConn) overdue(now int64) {
	if by := c.guard.writeBy.Load(); by != 0 && now >= by {
		_ = c.tcp.SetLinger(0)
		_ = c.tcp.SetWriteDeadline(past)
	}
}

func (c *twoConn) cut() { _ = c.tcp.Close() }

// stop tells clients to begin nothing new; it does so for all connections of
// its configuration.
func (c *twoConn) stop() { _ = c.two.base.Shutdown(context.Background()) }

func (s *Server) serveTwo(nc net.Conn, tcp *net.TCPConn, early []byte, from client) {
	set := s.set.Load()
	g := &guard{Conn: &prefixed{Conn: nc, first: early}, s: s, stall: set.Limits.Stall,
		skip: len(http2.ClientPreface), budget: floodBurst, since: time.Now()}
	c := &twoConn{s: s, tcp: tcp, two: set.two, from: from, guard: g}
	s.enroll(c)
	defer s.dismiss(c)
	if s.draining.Load() {
		return
	}
	var conn net.Conn = g
	if t, ok := nc.(*tls.Conn); ok {
		conn = &guardTLS{g, t}
	}
	set.two.server.ServeConn(conn, &http2.ServeConnOpts{Context: s.hard, BaseConfig: set.two.base, Handler: c})
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.flooded.Load() {
		set.anyHost(c.svc).Service.Stats.Bad.Add(1)
	}
	if c.svc != nil {
		c.svc.Stats.Connections.Add(-1)
	}
}

func (c *twoConn) count(h *host) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.svc == nil {
		c.svc = h.Service
		c.svc.Stats.Connections.Add(1)
		c.svc.Stats.Accepted.Add(1)
	}
}

// ServeHTTP answers one request.
func (c *twoConn) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := c.s.getWork()
	defer c.s.putWork(w)
	x := &w.x
	set := c.s.set.Load()
	*x = exchange{s: c.s, set: set, ctx: r.Context(), cancelled: true, w: w, req: &w.req, from: &c.from, start: time.Now(), protocol: "HTTP/2.0"}
	w.kept = w.kept[:0]
	st := &stream{x: x, rw: rw, r: r, stall: set.Limits.Stall}
	x.down = st
	defer st.end()
	if err := translate(w, r); err != nil {
		c.unread(x, err)
		return
	}
	if x.host = set.find(x.req.host.of(x.req.buf)); x.host == nil {
		c.unread(x, &fault{421, "no such host here"})
		return
	}
	c.count(x.host)
	st.most = x.host.maxBody
	if st.most >= 0 && x.req.length > st.most {
		c.unread(x, faultTooLarge)
		return
	}
	x.replayable = x.host.replays(x.req)
	x.headBytes = w.in.w
	x.in = int64(x.headBytes)
	x.run()
	x.end()
	if x.truncated || x.status == statusGone {
		panic(http.ErrAbortHandler) // resets the stream
	}
}

func (c *twoConn) unread(x *exchange, err error) {
	c.mu.Lock()
	x.host = x.set.anyHost(c.svc)
	c.mu.Unlock()
	var f *fault
	if !errors.As(err, &f) {
		f = faultStart
	}
	x.host.Service.Stats.Bad.Add(1)
	x.reason, x.status = f.text, f.status
	x.down.refuse(x, f.status, f.text)
	x.end()
}

// hop are fields that HTTP/2 does not have, or that stand elsewhere in it.
var hop = map[string]bool{"Host": true, "Content-Length": true, "Connection": true, "Transfer-Encoding": true, "Upgrade": true, "Expect": true}

// translate writes a request's head as HTTP/1.1 has it, and reads it.
func translate(w *work, r *http.Request) error {
	b := w.in.buf[:0]
	b = append(append(b, r.Method...), ' ')
	b = append(append(b, r.RequestURI...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.Host...), "\r\n"...)
	for name, values := range r.Header {
		if hop[name] {
			continue
		}
		for _, v := range values {
			b = append(append(b, name...), ": "...)
			b = append(append(b, v...), "\r\n"...)
		}
	}
	b = append(b, "\r\n"...)
	if len(b) > len(w.in.buf) {
		w.in.buf = b[:cap(b)]
	}
	w.in.w = len(b)
	end, _, err := headEnd(b, 0)
	if err != nil || end != len(b) {
		return faultField
	}
	if err := w.req.parse(b, 0, end); err != nil {
		return err
	}
	if w.req.length = r.ContentLength; r.ContentLength < 0 {
		w.req.length = chunked
	}
	return nil
}

// stream is the downstream of one request.
type stream struct {
	x     *exchange
	rw    http.ResponseWriter
	r     *http.Request
	stall time.Duration
	most  int64 // bytes of the body; below zero: no bound

	// The body is read by a goroutine of its own, which goes on where more was
	// called off.
	want, have chan struct{}
	asked      bool // something is being read
	kicked     chan struct{}
	buf        []byte
	n          int
	err        error
	taken      int64
	wg         sync.WaitGroup
	mu         sync.Mutex // of kicked
	ended      bool
}

func (st *stream) ready() bool { return st.ended || st.r.ContentLength == 0 }

// kick is called off by unkick.
func (st *stream) kick() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.kicked == nil {
		st.kicked = make(chan struct{})
	}
	close(st.kicked)
}

func (st *stream) unkick() {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.kicked = nil
}

func (st *stream) kicks() chan struct{} {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.kicked == nil {
		st.kicked = make(chan struct{})
	}
	return st.kicked
}

func (st *stream) more() ([]byte, error) {
	if st.ended || st.r.ContentLength == 0 {
		st.ended = true
		return nil, io.EOF
	}
	if st.want == nil {
		st.want, st.have = make(chan struct{}), make(chan struct{}, 1)
		st.buf = make([]byte, bufferBytes)
		st.wg.Go(st.read)
	}
	if !st.asked {
		st.asked = true
		st.want <- struct{}{}
	}
	t := time.NewTimer(st.stall)
	defer t.Stop()
	select {
	case <-st.have:
		st.asked = false
	case <-st.kicks():
		return nil, errKicked
	case <-t.C:
		return nil, faultSlow
	}
	if st.taken += int64(st.n); st.most >= 0 && st.taken > st.most {
		return nil, faultTooLarge
	}
	if st.n > 0 {
		return st.buf[:st.n], nil
	}
	st.ended = errors.Is(st.err, io.EOF)
	return nil, st.err
}

// read reads a piece whenever one is wanted.
func (st *stream) read() {
	for range st.want {
		st.n, st.err = 0, nil
		for st.n == 0 && st.err == nil {
			st.n, st.err = st.r.Body.Read(st.buf)
		}
		st.have <- struct{}{}
	}
}

func (st *stream) end() {
	if st.want != nil {
		_ = st.r.Body.Close()
		close(st.want)
		st.wg.Wait()
	}
}

// trailer writes what came behind the body as HTTP/1.1 has it.
func (st *stream) trailer() ([]byte, []field) {
	var b []byte
	for name, values := range st.r.Trailer {
		for _, v := range values {
			b = append(append(b, name...), ": "...)
			b = append(append(b, v...), "\r\n"...)
		}
	}
	c := &st.x.w.body
	c.reset()
	c.trailer = append(append(c.trailer, b...), "\r\n"...)
	if c.fields() != nil {
		return nil, nil
	}
	return c.trailer, c.fieldsOf
}

func (st *stream) header(a *answer) {
	h := st.rw.Header()
	for i := range a.fields {
		if f := &a.fields[i]; !f.drop {
			h.Add(string(f.name.of(a.buf)), string(f.value.of(a.buf)))
		}
	}
}

func (st *stream) interim(a *answer) error {
	if a.status == http.StatusContinue {
		return nil // said when the body is read
	}
	st.header(a)
	st.rw.WriteHeader(a.status)
	clear(st.rw.Header())
	return nil
}

func (st *stream) begin(x *exchange, a *answer, _ bool) error {
	st.header(a)
	h := st.rw.Header()
	if a.length >= 0 && !x.isHead() && a.status != 204 && a.status != 304 {
		h.Set("Content-Length", string(appendDecimal(nil, a.length)))
	}
	if _, ok := h["Date"]; !ok {
		h["Date"] = nil // not ours to add
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // nor to guess
	}
	if len(x.cookie) > 0 {
		h.Add("Set-Cookie", x.boundTo)
	}
	if x.set.Via != "" {
		h.Add("Via", "1.1 "+x.set.Via)
	}
	st.rw.WriteHeader(a.status)
	return nil
}

func (st *stream) data(p []byte) error {
	_, err := st.rw.Write(p)
	return err
}

func (st *stream) flush() error { return http.NewResponseController(st.rw).Flush() }

func (st *stream) finish(b []byte, fields []field) error {
	for i := range fields {
		if f := &fields[i]; !f.drop {
			st.rw.Header().Add(http.TrailerPrefix+http.CanonicalHeaderKey(string(f.name.of(b))), string(f.value.of(b)))
		}
	}
	return nil // what is left goes out with the stream's end
}

func (st *stream) retract() bool { return false }

func (st *stream) splices() bool { return false }

func (st *stream) splice(*net.TCPConn, int64) (int64, error) { return 0, errors.ErrUnsupported }

func (st *stream) gone() bool { return st.r.Context().Err() != nil }

func (st *stream) refuse(x *exchange, status int, text string) {
	h := st.rw.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", string(appendDecimal(nil, retryAfter)))
	}
	st.rw.WriteHeader(status)
	if st.r.Method != http.MethodHead {
		_, _ = st.rw.Write(append([]byte(text), '\n'))
	}
}
