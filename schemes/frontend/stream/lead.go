package stream

import (
	"context"
	"errors"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

// A site that cannot be connected to is tried again after a pause that doubles,
// for as long as a client may wait.
const (
	againMin = 5 * time.Millisecond
	againMax = 50 * time.Millisecond
)

// follow leads a pair by a route, which may take a while. Meanwhile its loop
// watches the client, and reads no more of it.
func (p *pair) follow(r *route) {
	if r == nil {
		p.bad()
		return
	}
	p.route = r
	p.phase = leading
	p.life.remove()
	r.Service.Stats.Connections.Add(1)
	p.seek()
}

// seek starts the goroutine that looks for a back end.
func (p *pair) seek() {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.loop.leads++
	p.loop.serving.leads.Go(func() {
		found, fd, why := p.find(ctx)
		p.loop.post(func() {
			p.loop.leads--
			p.found(found, fd, why)
		})
	})
}

// find looks for a back end of the site that is active, and waits for one. It
// runs in a goroutine of its own and only reads the pair.
func (p *pair) find(ctx context.Context) (out lead, fd int32, why string) {
	service := p.route.Service
	var held *frontend.Held
	var start time.Time
	defer func() {
		if held != nil {
			held.Done()
			out.held = time.Since(start)
		}
	}()
	for pause := againMin; ; {
		w := service.Where()
		again := time.Duration(0)
		switch {
		case w.State == frontend.Shut:
			service.Stats.Shed.Add(1)
			return out, -1, EndShed
		case service.Enter(w):
			found, fd, err := p.dial(ctx, w)
			if err == nil {
				return found, fd, ""
			}
			service.Leave(w)
			if ctx.Err() != nil {
				return out, -1, EndClient
			}
			var d *frontend.DialError
			if !errors.As(err, &d) {
				continue // another decision has come
			}
			if !d.Ours {
				service.Failed(w, d.Class)
			}
			again, pause = pause, min(2*pause, againMax)
		case w.State == frontend.Open:
			continue // another decision has come
		}
		if held == nil {
			var err error
			if held, err = service.Hold(int64(len(p.early))); err != nil {
				return out, -1, EndShed
			}
			start = time.Now()
		}
		if err := held.Wait(ctx, w, again); err != nil {
			if errors.Is(err, frontend.ErrShed) {
				return out, -1, EndShed
			}
			return out, -1, EndClient
		}
	}
}

var errMoved = errors.New("another site is active by now")

// dial connects to the site of w. Another decision calls it off: the site may
// be why there is one.
func (p *pair) dial(ctx context.Context, w frontend.Where) (out lead, fd int32, err error) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-w.Changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(); <-done }()

	var want frontend.Want
	if p.route.Affinity == AffinitySource {
		want.Key = p.source.Addr().String()
	}
	conn, server, err := p.route.dialer.Dial(ctx, w.Site, want)
	if err != nil {
		return out, -1, err
	}
	out = lead{where: w, server: server, stats: p.route.Service.Stats.Site(w.Site)}
	attached, ok := p.route.Service.Attach(w, p.drop)
	if !ok {
		_ = conn.Close()
		server.End()
		return out, -1, errMoved
	}
	out.conn = attached
	if fd, err = takeFD(conn); err != nil {
		_ = conn.Close()
		server.End()
		attached.Detach()
		return out, -1, &frontend.DialError{Class: frontend.Unreachable, Address: server.Address, Ours: true, Err: err}
	}
	return out, fd, nil
}

// drop is told when the site that the pair is led to is no longer the one.
func (p *pair) drop() {
	p.dropped.Store(true)
	p.loop.post(func() {
		if p.phase == led {
			p.finish(EndMoved, true)
		}
	})
}

// found takes the goroutine's word.
func (p *pair) found(d lead, fd int32, why string) {
	p.cancel()
	switch {
	case p.phase == over && fd < 0:
		return
	case p.phase == over:
		closeNow(fd)
		d.leave(p.route)
		return
	case fd < 0:
		p.finish(why, true)
		return
	case p.dropped.Swap(false):
		// Nothing was sent there yet: it is led anew.
		closeNow(fd)
		d.leave(p.route)
		p.seek()
		return
	}
	held := p.lead.held + d.held
	p.lead, p.phase = d, led
	p.lead.held = held
	p.server.fd = fd
	if err := p.loop.add(&p.server); err != nil {
		p.loop.serving.log().Error("cannot watch a connection", "err", err)
		p.finish(EndRejected, true)
		return
	}
	p.lead.stats.Requests.Add(1)
	p.loop.idle.push(&p.life, p.loop.now)
	if p.route.shadow != nil {
		p.shadow = p.loop.serving.shadow(p.route)
	}
	p.greet()
	p.move()
}

// greet sends the back end what the client has said already.
func (p *pair) greet() {
	var first []byte
	if v := p.route.ProxyOut; v > 0 {
		dest := p.dest
		if !dest.IsValid() {
			dest = localAddr(p.client.fd)
		}
		first = frontend.AppendProxy(nil, v, frontend.ProxyHeader{Source: p.source, Destination: dest})
	}
	if len(p.early) > 0 {
		p.moved(&p.up, len(p.early))
		if p.shadow != nil {
			p.shadow.offer(p.early)
		}
		first = append(first, p.early...)
		p.early = nil
	}
	p.up.pending = first // and sent by the turn that follows
}
