package web

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

func verify(m *testing.M) { goleak.VerifyTestMain(m) }

const second = time.Second

// lab is a frontend with a service at two sites.
type lab struct {
	tb     testing.TB
	table  *frontend.Table
	svc    *frontend.Service
	server *Server
	cfg    Config
	addr   string
	sites  map[draas.SiteID]*backend
	stop   func()

	mu   sync.Mutex
	told []frontend.Evidence
	tell func(frontend.Evidence)

	skip atomic.Int64 // nanoseconds that the clock is ahead
}

var began = time.Now()

func (l *lab) now() draas.Reading {
	d := time.Since(began) + time.Hour + time.Duration(l.skip.Load())
	return draas.Reading{Boot: d, Wall: d}
}

// newLab starts both sites and a frontend that leads to the primary. change
// may be nil.
func newLab(tb testing.TB, change func(*Config)) *lab {
	tb.Helper()
	l := &lab{tb: tb, sites: map[draas.SiteID]*backend{"primary": newBackend(tb, "primary"), "dr": newBackend(tb, "dr")}}
	l.table = frontend.New(frontend.Config{Clock: l.now, Log: slog.New(slog.DiscardHandler), Tell: func(e frontend.Evidence) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.told = append(l.told, e)
		if l.tell != nil {
			l.tell(e)
		}
	}}, []frontend.Spec{{
		Service: "shop", Outlives: true,
		Sites: map[draas.SiteID][]frontend.Server{
			"primary": {{Address: l.sites["primary"].addr}}, "dr": {{Address: l.sites["dr"].addr}},
		},
		Hold: frontend.Bounds{Time: 5 * second, Requests: 100, Bytes: 1 << 20},
	}})
	l.svc = l.table.Service("shop")
	l.decide(frontend.Decision{Epoch: 1, Site: "primary", Permit: time.Hour})
	l.cfg = Config{Hosts: []Host{{Service: l.svc}}, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&l.cfg)
	}
	l.serve()
	return l
}

func (l *lab) serve() {
	l.tb.Helper()
	var err error
	if l.server, err = New(l.cfg); err != nil {
		l.tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.tb.Fatal(err)
	}
	l.addr = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var served error
	var wg sync.WaitGroup
	wg.Go(func() { served = l.server.Serve(ctx, ln) })
	l.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if served != nil {
			l.tb.Errorf("serve: %v", served)
		}
	})
	l.tb.Cleanup(l.stop)
}

func (l *lab) decide(d frontend.Decision) {
	l.tb.Helper()
	if err := l.table.Apply(l.now(), "shop", d); err != nil {
		l.tb.Fatal(err)
	}
}

// classes are what the members were told, in order.
func (l *lab) classes() []frontend.Class {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []frontend.Class
	for _, e := range l.told {
		out = append(out, e.Class)
	}
	return out
}

// eventually waits until a condition holds.
func eventually(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * second); !holds(); <-tick.C {
		if time.Now().After(end) {
			tb.Fatalf("not in time: %s", what)
		}
	}
}

// raw sends bytes as they are, and gives what comes back until the end of the
// connection, or until so many answers were read.
func (l *lab) dial() *wire {
	l.tb.Helper()
	nc, err := net.Dial("tcp", l.addr)
	if err != nil {
		l.tb.Fatal(err)
	}
	l.tb.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * second))
	return &wire{l.tb, nc, bufio.NewReader(nc)}
}

type wire struct {
	tb testing.TB
	net.Conn
	r *bufio.Reader
}

func (w *wire) send(s string) *wire {
	w.tb.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		w.tb.Fatalf("send: %v", err)
	}
	return w
}

type reply struct {
	*http.Response
	body string
	err  error // of the body
}

// answer reads one answer to a request of this method.
func (w *wire) answer(method string) reply {
	w.tb.Helper()
	r, err := w.tryAnswer(method)
	if err != nil {
		w.tb.Fatalf("answer: %v", err)
	}
	return r
}

func (w *wire) tryAnswer(method string) (reply, error) {
	res, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		return reply{}, err
	}
	b, err := io.ReadAll(res.Body)
	return reply{res, string(b), err}, nil
}

// ends reads to the end of the connection: nothing more must come.
func (w *wire) ends() {
	w.tb.Helper()
	rest, err := io.ReadAll(w.r)
	if len(rest) > 0 || err != nil {
		w.tb.Fatalf("%q and %v, not the end of the connection", rest, err)
	}
}

func (r reply) want(tb testing.TB, status int, body string) reply {
	tb.Helper()
	if r.StatusCode != status || r.body != body || r.err != nil {
		tb.Fatalf("%d %q, %v, want %d %q", r.StatusCode, r.body, r.err, status, body)
	}
	return r
}

// get asks over a connection of its own.
func (l *lab) get(target string) reply {
	l.tb.Helper()
	return l.dial().send("GET " + target + " HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").answer("GET")
}

// backend is a server with faults. What it got of a request, as bytes, is kept;
// act says what is done with it.
type backend struct {
	tb   testing.TB
	name string
	addr string
	ln   net.Listener
	wg   sync.WaitGroup

	mu       sync.Mutex
	act      func(*served)
	requests []seen
	conns    map[net.Conn]struct{}
	accepted atomic.Int64
	down     bool
}

// seen is a request as a back end got it.
type seen struct {
	*http.Request
	raw, body string
}

// served is a request that a back end has to do something about.
type served struct {
	*wire
	seen
	b *backend
}

func newBackend(tb testing.TB, name string) *backend {
	tb.Helper()
	b := &backend{tb: tb, name: name, conns: make(map[net.Conn]struct{})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	b.addr = ln.Addr().String()
	b.run(ln)
	tb.Cleanup(b.kill)
	return b
}

func (b *backend) run(ln net.Listener) {
	b.ln, b.down = ln, false
	b.wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			if b.down {
				b.mu.Unlock()
				_ = nc.Close()
				continue
			}
			b.conns[nc] = struct{}{}
			b.accepted.Add(1)
			b.mu.Unlock()
			b.wg.Go(func() { b.serve(nc) })
		}
	})
}

// kill ends the listener and all connections; revive starts anew.
func (b *backend) kill() {
	b.mu.Lock()
	b.down = true
	_ = b.ln.Close()
	for nc := range b.conns {
		_ = nc.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

func (b *backend) revive() {
	ln, err := net.Listen("tcp", b.addr)
	if err != nil {
		b.tb.Fatal(err)
	}
	b.run(ln)
}

// open is how many connections there are.
func (b *backend) open() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

// hangUp ends connections that are idle, as servers do.
func (b *backend) hangUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for nc := range b.conns {
		_ = nc.Close()
	}
}

func (b *backend) does(act func(*served)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.act = act
}

func (b *backend) got() []seen {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]seen(nil), b.requests...)
}

func (b *backend) serve(nc net.Conn) {
	defer func() {
		_ = nc.Close()
		b.mu.Lock()
		delete(b.conns, nc)
		b.mu.Unlock()
	}()
	var raw bytes.Buffer
	w := &wire{b.tb, nc, bufio.NewReader(io.TeeReader(nc, &raw))}
	for {
		raw.Reset()
		raw.Write(peeked(w.r))
		req, err := http.ReadRequest(w.r)
		if err != nil {
			return
		}
		b.mu.Lock()
		act := b.act
		b.mu.Unlock()
		s := &served{w, seen{Request: req}, b}
		if req.Header.Get("Expect") != "" {
			_, _ = io.WriteString(nc, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		if act == nil || req.Header.Get("X-Whole") == "" {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			s.body = string(body)
		}
		s.raw = raw.String()
		b.mu.Lock()
		b.requests = append(b.requests, s.seen)
		b.mu.Unlock()
		if act == nil {
			act = func(s *served) { s.ok(fmt.Sprintf("%s %s %s", b.name, req.Method, req.RequestURI)) }
		}
		act(s)
		if req.Close {
			return
		}
	}
}

func peeked(r *bufio.Reader) []byte {
	p, _ := r.Peek(r.Buffered())
	return p
}

// ok answers 200.
func (s *served) ok(body string) {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
	if s.Method == "HEAD" {
		body = ""
	}
	s.say("%s%s", head, body)
}

func (s *served) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.Conn, format, args...)
}

// reset ends the connection with a reset.
func (s *served) reset() {
	_ = s.Conn.(*net.TCPConn).SetLinger(0)
	_ = s.Conn.Close()
}

// hang waits until the other side, or the test, ends the connection.
func (s *served) hang() {
	if _, err := s.r.ReadByte(); err == nil {
		s.b.tb.Error("bytes behind a request that was not answered")
	} else if errors.Is(err, io.EOF) {
		return
	}
}
