package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// serving is one call of Serve.
type serving struct {
	server  *Server
	fd      int32
	address string
	files   int64 // bound of the connections' descriptors; 0: none
	loops   []*loop
	closing atomic.Bool
	leads   sync.WaitGroup
	shadows sync.WaitGroup
	empty   chan struct{} // gets a token when a connection has ended after closing
}

func (s *serving) log() *slog.Logger { return s.server.setting.Load().Log }

// Serve serves a TCP listener until ctx ends: then no more connections are
// accepted, and those that there are may go on for Drain. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	call := &serving{server: s, address: ln.Addr().String(), files: filesFor(), empty: make(chan struct{}, 1)}
	sc, ok := ln.(interface {
		syscall.Conn
		Close() error
	})
	if !ok {
		_ = ln.Close()
		return fmt.Errorf("serve %s: a %T has no descriptor", call.address, ln)
	}
	var err error
	if call.fd, err = takeFD(sc); err != nil {
		return fmt.Errorf("serve %s: %w", call.address, err)
	}
	defer func() { _ = unix.Close(int(call.fd)) }()
	// One processor is left to the rest of the program. Were a loop asleep on
	// each, the runtime would take them away every 20 us to look for other
	// work: a sixth of the proxy's time on two processors.
	for range max(1, runtime.GOMAXPROCS(0)-1) {
		l, err := newLoop(call)
		if err != nil {
			for _, l := range call.loops {
				l.close()
			}
			return fmt.Errorf("serve %s: %w", call.address, err)
		}
		call.loops = append(call.loops, l)
	}
	return call.run(ctx)
}

func (s *serving) run(ctx context.Context) error {
	checks, stop := context.WithCancel(ctx)
	var helpers, loops sync.WaitGroup
	helpers.Go(func() { s.check(checks) })
	broken := make(chan error, len(s.loops))
	for _, l := range s.loops {
		loops.Go(func() {
			if err := l.run(); err != nil {
				broken <- err
			}
		})
		l.post(l.listen)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-broken:
	}
	stop()
	s.drain()
	loops.Wait()
	s.leads.Wait()
	s.shadows.Wait()
	helpers.Wait()
	select {
	case more := <-broken:
		err = errors.Join(err, more)
	default:
	}
	return err
}

// drain ends the loops, when their connections have ended or have had their
// time.
func (s *serving) drain() {
	s.closing.Store(true)
	_ = unix.Shutdown(int(s.fd), unix.SHUT_RDWR) // who comes now is refused
	for _, l := range s.loops {
		l.post(l.deafen)
	}
	patience := time.NewTimer(s.server.setting.Load().Drain)
	defer patience.Stop()
	for left := true; left && s.connections() > 0; {
		select {
		case <-patience.C:
			left = false
		case <-s.empty:
		}
	}
	for _, l := range s.loops {
		l.post(func() {
			l.stopped = true
			l.endAll()
		})
	}
}

// endAll resets what is left.
func (l *loop) endAll() {
	for i := range l.slots {
		if e := l.slots[i].end; e != nil {
			e.pair.finish(EndShutdown, true)
		}
	}
}

func (s *serving) connections() (n int64) {
	for _, l := range s.loops {
		n += l.count.Load()
	}
	return n
}

// least is the loop that a connection goes to: the one that accepted it, unless
// another has clearly fewer.
func (s *serving) least(by *loop) *loop {
	best, n := by, by.count.Load()
	for _, l := range s.loops {
		if m := l.count.Load(); m+4 < n {
			best, n = l, m
		}
	}
	return best
}

// left notes a connection that has ended.
func (s *serving) left(p *pair, why string) {
	s.server.now.Add(-1)
	if p.counted {
		s.server.sources.Leave(p.source.Addr())
	}
	if p.route != nil {
		p.route.Service.Stats.Connections.Add(-1)
	}
	if s.closing.Load() {
		select {
		case s.empty <- struct{}{}:
		default:
		}
	}
	if p.set.AccessLog != nil {
		p.set.AccessLog(p.access(why))
	}
}

func (p *pair) access(why string) Access {
	a := Access{Time: p.begin, Duration: time.Since(p.begin), Source: p.source, Name: p.name, Held: p.held,
		In: p.inBytes, Out: p.outBytes, End: why}
	if p.route != nil {
		a.Service = p.route.Service.ID
	}
	if p.lead != nil {
		a.Site, a.Epoch, a.Server = p.lead.where.Site, p.lead.where.Epoch, p.lead.server.Address
	}
	return a
}

// check looks at the servers of the sites that are led to, where the
// configuration asks for it.
func (s *serving) check(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		set := s.server.setting.Load()
		if set.Check <= 0 {
			timer.Reset(time.Second) // another configuration may ask for it
			continue
		}
		var wg sync.WaitGroup
		for _, r := range set.routes() {
			wg.Go(func() { r.dialer.Balancer.CheckOnce(ctx, set.Check) })
		}
		wg.Wait()
		timer.Reset(set.Check)
	}
}
