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
	r.Service.Stats.Accepted.Add(1)
	r.Service.Stats.Connections.Add(1)
	if !p.connect() {
		p.seek()
	}
}

// seek starts the goroutine that looks for a back end, beside those tried
// already.
func (p *pair) seek(tried ...*frontend.Backend) {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.loop.leads++
	p.loop.serving.leads.Go(func() {
		found, held, why := p.find(ctx, tried)
		p.loop.post(func() {
			p.loop.leads--
			cancel()
			p.held += held
			p.found(found, why)
		})
	})
}

// find looks for a back end of the site that is active, and waits for one. It
// runs in a goroutine of its own and only reads the pair.
func (p *pair) find(ctx context.Context, tried []*frontend.Backend) (found *lead, waited time.Duration, why string) {
	service := p.route.Service
	var held *frontend.Held
	var start time.Time
	defer func() {
		if held != nil {
			held.Done()
			waited = time.Since(start)
		}
	}()
	for pause := againMin; ; {
		w := service.Where()
		again := time.Duration(0)
		switch {
		case w.State == frontend.Shut:
			service.Stats.Shed.Add(1)
			return nil, 0, EndShed
		case service.Enter(w):
			found, err := p.dial(ctx, w, tried)
			if err == nil {
				return found, 0, ""
			}
			tried = nil
			service.Leave(w)
			if ctx.Err() != nil {
				return nil, 0, EndClient
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
				return nil, 0, EndShed
			}
			start = time.Now()
		}
		if err := held.Wait(ctx, w, again, nil); err != nil {
			if errors.Is(err, frontend.ErrShed) {
				return nil, 0, EndShed
			}
			return nil, 0, EndClient
		}
	}
}

var errMoved = errors.New("another site is active by now")

// dial connects to the site of w. Another decision calls it off: the site may
// be why there is one.
func (p *pair) dial(ctx context.Context, w frontend.Where, tried []*frontend.Backend) (*lead, error) {
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

	conn, server, err := p.route.dialer.Dial(ctx, w.Site, p.want(), tried...)
	if err != nil {
		return nil, err
	}
	d := &lead{where: w, server: server, fd: -1}
	if !p.attach(d) {
		_ = conn.Close()
		server.End()
		return nil, errMoved
	}
	if d.fd, err = takeFD(conn); err != nil {
		_ = conn.Close()
		server.End()
		d.conn.Detach()
		return nil, &frontend.DialError{Class: frontend.Unreachable, Address: server.Address, Ours: true, Err: err}
	}
	return d, nil
}

// want is which server the client should get.
func (p *pair) want() (w frontend.Want) {
	if p.route.Affinity == AffinitySource {
		w.Key = p.source.Addr().String()
	}
	return w
}

// attach has the pair told when the site of a lead is no longer the one to
// lead to. It fails when it is not even now.
func (p *pair) attach(d *lead) (ok bool) {
	d.conn, ok = p.route.Service.Attach(d.where, func() {
		d.dropped.Store(true)
		p.loop.post(func() { p.drop(d) })
	})
	return ok
}

// drop ends what goes by a lead whose site is no longer the one.
func (p *pair) drop(d *lead) {
	switch {
	case p.phase == led && p.lead == d:
		if !p.renew() {
			p.finish(EndMoved, true)
		}
	case p.phase == leading && p.quick == d:
		p.giveUp()
		p.seekOn()
	}
}

// found takes the goroutine's word.
func (p *pair) found(d *lead, why string) {
	p.cancel = nil
	switch {
	case p.phase != leading && d == nil:
	case p.phase != leading:
		p.loop.leave(p.route, d)
	case d == nil:
		p.finish(why, true)
	case d.dropped.Load():
		p.loop.leave(p.route, d) // nothing was sent there yet: it is led anew
		p.seekOn()
	default:
		p.giveUp()
		p.server.fd = d.fd
		if err := p.loop.add(&p.server); err != nil {
			p.loop.serving.log().Error("cannot watch a connection", "err", err)
			p.server.fd = -1
			p.loop.leave(p.route, d)
			p.finish(EndRejected, true)
			return
		}
		p.begins(d)
	}
}

// seekOn looks for a back end anew, unless that is under way.
func (p *pair) seekOn() {
	if p.cancel == nil && p.quick == nil {
		p.seek()
	}
}

// begins has bytes go to where the pair was led.
func (p *pair) begins(d *lead) {
	p.lead, p.phase = d, led
	d.stats = p.route.Service.Stats.Site(d.where.Site)
	d.stats.Requests.Add(1)
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
		p.remember(p.early)
		if p.shadow != nil {
			p.shadow.offer(p.early)
		}
		first = append(first, p.early...)
		p.early = nil
	}
	p.up.pending = first // and sent by the turn that follows
}
