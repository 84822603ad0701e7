package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

// Server serves one listening address.
type Server struct {
	set     atomic.Pointer[settings]
	limiter *frontend.Limiter
	journal *journal
	works   sync.Pool
	pairs   sync.Pool
	born    time.Time
	clock   atomic.Int64 // nanoseconds since born, as of the keeper's last look

	// hard ends when nothing is waited for any more.
	hard     context.Context
	kill     context.CancelFunc
	draining atomic.Bool

	mu      sync.Mutex
	origins map[*frontend.Service]*origin
	certs   map[[2]string]*frontend.Certificate
	conns   map[keeping]struct{}
	mirrors map[mirrorKey]*mirror
	wg      sync.WaitGroup // of conns
	aside   sync.WaitGroup // of mirrors
}

// keeping is a connection that the keeper looks after.
type keeping interface {
	// overdue ends waits that have lasted too long.
	overdue(now int64)
	// stop ends it once nothing is under way.
	stop()
	// cut ends it now.
	cut()
}

// keeperEvery is how often connections are looked at that wait for their
// client, and the precision of the clock that they go by.
const keeperEvery = 100 * time.Millisecond

// New makes a server. What it holds is freed by the end of Serve, which is
// called once.
func New(cfg Config) (*Server, error) {
	s := &Server{born: time.Now(), origins: make(map[*frontend.Service]*origin), certs: make(map[[2]string]*frontend.Certificate),
		conns: make(map[keeping]struct{}), mirrors: make(map[mirrorKey]*mirror), journal: newJournal()}
	s.works.New = func() any { return newWork() }
	s.pairs.New = func() any { return newPair() }
	s.hard, s.kill = context.WithCancel(context.Background())
	set, err := s.compile(cfg)
	if err != nil {
		s.kill()
		return nil, err
	}
	s.limiter = frontend.NewLimiter(set.Limits.Connections, set.Limits.PerSource)
	s.adopt(set)
	return s, nil
}

// Use takes another configuration over. Requests under way go on by the old
// one; connections stay. Certificates are read again. On an error everything
// stays as it was.
func (s *Server) Use(cfg Config) error {
	if err := s.reread(); err != nil {
		return err
	}
	set, err := s.compile(cfg)
	if err != nil {
		return err
	}
	if was := s.set.Load(); (len(was.certs) == 0) != (len(set.certs) == 0) {
		return errors.New("an address cannot begin or end to speak TLS while it is served")
	}
	s.limiter.Use(set.Limits.Connections, set.Limits.PerSource)
	s.adopt(set)
	return nil
}

func (s *Server) adopt(set *settings) {
	s.journal.to(set.AccessLog)
	s.set.Store(set)
	used := make(map[*frontend.Service]bool)
	for i := range set.Hosts {
		used[set.Hosts[i].Service] = true
	}
	s.mu.Lock()
	var gone []*origin
	for svc, o := range s.origins {
		if !used[svc] {
			delete(s.origins, svc)
			gone = append(gone, o)
		}
	}
	shadows := make(map[*mirror]bool)
	for _, h := range set.hosts {
		shadows[h.mirror] = true
	}
	for key, m := range s.mirrors {
		if !shadows[m] {
			delete(s.mirrors, key)
			close(m.gone)
		}
	}
	inUse := make(map[*frontend.Certificate]bool)
	for _, c := range set.certs {
		inUse[c] = true
	}
	for name, c := range s.certs {
		if !inUse[c] {
			delete(s.certs, name) // nobody would read it again
		}
	}
	s.mu.Unlock()
	for _, o := range gone {
		o.weed(s.now() + 1)
	}
}

func (s *Server) origin(svc *frontend.Service) *origin {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.origins[svc]
	if o == nil {
		o = newOrigin(svc)
		s.origins[svc] = o
	}
	return o
}

func (s *Server) everyOrigin() []*origin {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*origin, 0, len(s.origins))
	for _, o := range s.origins {
		out = append(out, o)
	}
	return out
}

// spare frees descriptors: those of idle connections to back ends.
func (s *Server) spare() {
	for _, o := range s.everyOrigin() {
		o.weed(s.now() + 1)
	}
}

func (s *Server) now() int64 { return s.clock.Load() }

func (s *Server) after(d time.Duration) int64 { return s.now() + int64(d) }

// Serve answers clients of ln until ctx ends. Then it closes ln, lets requests
// under way come to their end within Limits.Drain, and ends the others.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.aside.Wait()
	defer s.kill()
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(s.journal.run)
	wg.Go(func() { s.keep(s.hard) })
	wg.Go(func() { frontend.Watch(inner, certEvery, s.set.Load().Log, s.certificates) })
	wg.Go(func() {
		<-inner.Done()
		_ = ln.Close()
	})
	err := s.accept(ctx, ln)
	cancel()
	s.drain()
	s.spare()
	s.journal.stop()
	return err
}

// certEvery is how often the files of certificates are looked at.
const certEvery = 10 * time.Second

// The pauses of an acceptor that has no descriptors.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = 500 * time.Millisecond
)

func (s *Server) accept(ctx context.Context, ln net.Listener) error {
	var pause time.Duration
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		default:
			if pause == 0 {
				s.set.Load().Log.Warn("no client can be taken for now", "err", err)
			}
			if scarce(err) {
				s.spare()
			}
			pause = min(max(2*pause, acceptPause), acceptPauseMax)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			continue
		}
		tcp, ok := nc.(*net.TCPConn)
		if !ok {
			_ = nc.Close()
			return fmt.Errorf("accept: %T is not a TCP connection", nc)
		}
		s.admit(tcp)
	}
}

// admit begins to serve a connection, if it may come in.
func (s *Server) admit(tcp *net.TCPConn) {
	set := s.set.Load()
	peer, _ := tcp.RemoteAddr().(*net.TCPAddr)
	if peer == nil {
		_ = tcp.Close()
		return
	}
	addr := peer.AddrPort()
	if !set.Sources.Allowed(addr.Addr()) && len(set.ProxyIn) == 0 || !s.limiter.Enter(addr.Addr()) {
		set.anyHost(nil).Service.Stats.Rejected.Add(1)
		_ = tcp.SetLinger(0)
		_ = tcp.Close()
		return
	}
	end := func() {
		_ = tcp.Close()
		s.limiter.Leave(addr.Addr())
	}
	s.wg.Go(func() {
		var serve func()
		s.shield(func() { serve = s.meet(tcp, addr) })
		if serve == nil || set.tls == nil {
			defer end()
			if serve != nil {
				s.shield(serve)
			}
			return
		}
		// By another goroutine: a handshake's stack is large, and would be kept
		// for as long as the connection.
		s.wg.Go(func() {
			defer end()
			s.shield(serve)
		})
	})
}

// shield keeps a mistake of ours, that one client has found, from ending what
// all others have.
func (s *Server) shield(do func()) {
	defer func() {
		if p := recover(); p != nil {
			s.set.Load().Log.Error("panic: the connection is ended", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	do()
}

// meet does what comes before the first request: the PROXY protocol's header
// and the handshake. It gives what is to be done then, or nil.
func (s *Server) meet(tcp *net.TCPConn, addr netip.AddrPort) func() {
	set := s.set.Load()
	g := &greeting{s: s, tcp: tcp}
	g.by.Store(s.after(set.Limits.Head))
	s.enroll(g)
	local, _ := tcp.LocalAddr().(*net.TCPAddr)
	from := client{peer: addr.Addr().Unmap(), addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), scheme: "http"}
	if local != nil {
		from.local = local.AddrPort()
	}
	early, err := s.introduce(g, set, &from)
	if err != nil || !set.Sources.Allowed(from.addr.Addr()) {
		s.dismiss(g)
		set.anyHost(nil).Service.Stats.Rejected.Add(1)
		_ = tcp.SetLinger(0)
		return nil
	}
	from.text = from.addr.Addr().WithZone("").AppendTo(nil)
	nc, two, err := s.handshake(tcp, set, early, &from)
	if nc != nil {
		early = nil
	}
	if nc == nil && err == nil {
		nc = tcp
		if set.Cleartext {
			early, two, err = s.preface(tcp, early)
		}
	}
	s.dismiss(g)
	_ = tcp.SetReadDeadline(time.Time{})
	switch {
	case err != nil:
		return nil
	case two:
		return func() { s.serveTwo(nc, tcp, early, from) }
	}
	return func() { s.serveOne(nc, tcp, early, from) }
}

func (s *Server) serveOne(nc net.Conn, tcp *net.TCPConn, early []byte, from client) {
	c := s.newConn(nc, tcp, from)
	s.enroll(c)
	defer s.dismiss(c)
	c.serve(early)
	if nc != net.Conn(tcp) {
		_ = tcp.SetWriteDeadline(time.Now().Add(time.Second))
		_ = nc.Close()
	}
}

func (s *Server) enroll(k keeping) {
	s.mu.Lock()
	s.conns[k] = struct{}{}
	s.mu.Unlock()
	if s.hard.Err() != nil {
		k.cut()
	}
}

func (s *Server) dismiss(k keeping) {
	s.mu.Lock()
	delete(s.conns, k)
	s.mu.Unlock()
}

func (s *Server) each(do func(keeping)) {
	s.mu.Lock()
	list := make([]keeping, 0, len(s.conns))
	for k := range s.conns {
		list = append(list, k)
	}
	s.mu.Unlock()
	for _, k := range list {
		do(k)
	}
}

// idleBackend is how long an idle connection to a back end is kept: less than
// most servers keep it.
const idleBackend = 20 * time.Second

// keep moves the clock on and looks after connections, until ctx ends.
func (s *Server) keep(ctx context.Context) {
	tick := time.NewTicker(keeperEvery)
	defer tick.Stop()
	weed := s.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := int64(time.Since(s.born))
		s.clock.Store(now)
		s.mu.Lock()
		for k := range s.conns {
			k.overdue(now)
		}
		s.mu.Unlock()
		if now-weed > int64(time.Second) {
			weed = now
			for _, o := range s.everyOrigin() {
				o.weed(now - int64(idleBackend))
			}
		}
	}
}

// drain waits for requests under way, for as long as they may take.
func (s *Server) drain() {
	s.draining.Store(true)
	s.each(keeping.stop)
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	t := time.NewTimer(s.set.Load().Limits.Drain)
	defer t.Stop()
	select {
	case <-done:
		s.kill()
		return
	case <-t.C:
	}
	s.kill()
	s.each(keeping.cut)
	<-done
}

// greeting is a connection before its first request.
type greeting struct {
	s   *Server
	tcp *net.TCPConn
	by  atomic.Int64
}

func (g *greeting) overdue(now int64) {
	if now >= g.by.Load() {
		_ = g.tcp.Close()
	}
}

func (g *greeting) stop() { _ = g.tcp.Close() }
func (g *greeting) cut()  { _ = g.tcp.Close() }

func (c *conn) cut() { _ = c.tcp.Close() }

// anyHost is the host that what belongs to none is counted for.
func (set *settings) anyHost(svc *frontend.Service) *host {
	for _, h := range set.hosts {
		if svc != nil && h.Service == svc {
			return h
		}
	}
	if set.rest != nil {
		return set.rest
	}
	return set.hosts[0]
}

// trusted reports whether what the peer says of those before it is believed.
func (c *client) trusted(by []netip.Prefix) bool { return len(by) > 0 && frontend.Within(by, c.peer) }
