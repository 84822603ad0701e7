package daemon

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/fence"
)

// guardTimeout bounds one request to the guard; guardRetry is the pause before
// the next after one that failed.
const (
	guardTimeout = 2 * time.Second
	guardRetry   = 50 * time.Millisecond
)

// guardClient is what the link needs of fence.Client.
type guardClient interface {
	ExtendAll(ctx context.Context, all []fence.Extension) ([]fence.Extended, error)
	Shut(ctx context.Context, service draas.ServiceID, epoch draas.Epoch) (fence.Status, error)
}

// guardLink carries the commands of the decision to the guard, each service of
// a unit by itself: all deadlines of a renewal in one request, and each close
// by a goroutine of its own, so that one whose fence takes long to close does
// not hold up the others. It never holds up the main loop.
type guardLink struct {
	client guardClient
	log    *slog.Logger
	closed func(unit draas.ServiceID, epoch draas.Epoch) // tells the main loop
	wake   chan struct{}

	mu sync.Mutex
	// ctx is that of run; before and after nothing is asked.
	ctx    context.Context
	all    sync.WaitGroup
	parts  map[draas.ServiceID][]draas.ServiceID // services behind a fence, by unit
	fences map[draas.ServiceID]*fenceWish        // by service
}

// fenceWish is what is wanted of one service's fence. Of two wishes the one
// with the higher epoch is the later; within an epoch a close is terminal.
type fenceWish struct {
	extend *fence.Extension // to be carried
	last   fence.Extension  // carried last, or being carried
	shut   draas.Epoch      // being closed up to here
	done   draas.Epoch      // closed up to here, and told
	err    string           // the last that was logged
}

func newGuardLink(client guardClient, closed func(draas.ServiceID, draas.Epoch), log *slog.Logger) *guardLink {
	return &guardLink{client: client, log: log, closed: closed, wake: make(chan struct{}, 1),
		fences: make(map[draas.ServiceID]*fenceWish)}
}

// use takes over the services of a wiring. One that is gone is closed at once,
// and not left to the end of its permit.
func (l *guardLink) use(w *wiring) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.fences
	l.fences, l.parts = make(map[draas.ServiceID]*fenceWish), make(map[draas.ServiceID][]draas.ServiceID)
	for unit, parts := range w.units {
		for _, id := range parts {
			if !w.fenced[id] {
				continue
			}
			l.parts[unit] = append(l.parts[unit], id)
			l.fences[id] = was[id]
			if l.fences[id] == nil {
				l.fences[id] = &fenceWish{}
			}
		}
	}
	for id, f := range was {
		if l.fences[id] == nil && l.ctx != nil && f.last.Epoch > f.done {
			l.all.Go(func() { l.retire(l.ctx, id, f.last) })
		}
	}
}

// retire closes a fence that the wiring does not know any more. The guard may
// know it no more either: then it has closed it.
func (l *guardLink) retire(ctx context.Context, id draas.ServiceID, last fence.Extension) {
	log := l.log.With("service", id, "epoch", last.Epoch)
	for ctx.Err() == nil {
		ask, cancel := context.WithTimeout(ctx, guardTimeout)
		_, err := l.client.Shut(ask, id, last.Epoch)
		cancel()
		switch {
		case err == nil, errors.Is(err, fence.ErrUnknownService):
			log.Info("closed: it is not in the file any more")
			return
		case errors.Is(err, draas.ErrStaleEpoch):
			return
		}
		log.Error("the guard did not close a service that is not in the file any more; asking again", "err", err)
		pause(ctx, guardTimeout)
	}
}

// run carries wishes until ctx ends, and waits for what is under way.
func (l *guardLink) run(ctx context.Context) {
	l.mu.Lock()
	l.ctx = ctx
	l.mu.Unlock()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-l.wake:
			l.carry(ctx)
		}
	}
	l.mu.Lock()
	l.ctx = nil
	l.mu.Unlock()
	l.all.Wait()
}

// wish takes over what a tick of the decision commands. It never blocks.
func (l *guardLink) wish(c failover.Commands) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rouse := false
	for _, x := range c.Extend {
		for _, id := range l.parts[x.Service] {
			f := l.fences[id]
			if x.Epoch <= max(f.shut, f.done) {
				continue
			}
			rouse = true
			f.extend = &fence.Extension{Service: id, Epoch: x.Epoch, Deadline: x.Deadline}
		}
	}
	if rouse {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	for _, x := range c.Close {
		l.shut(x)
	}
}

// shut starts what closes a unit, unless that is under way: the decision
// repeats itself until it hears of the close. l.mu is held.
func (l *guardLink) shut(x failover.Close) {
	if len(l.parts[x.Service]) == 0 {
		// No fence is declared: there is nothing to close.
		l.closed(x.Service, x.Epoch)
		return
	}
	if l.allClosed(x.Service, x.Epoch) {
		// The main loop was too busy to hear it.
		l.closed(x.Service, x.Epoch)
		return
	}
	for _, id := range l.parts[x.Service] {
		f := l.fences[id]
		if x.Epoch <= max(f.shut, f.done) || l.ctx == nil {
			continue
		}
		f.shut = x.Epoch
		if f.extend != nil && f.extend.Epoch <= x.Epoch {
			f.extend = nil
		}
		l.all.Go(func() { l.close(l.ctx, x.Service, id, f, x.Epoch) })
	}
}

// close closes one service's fence, and tells when the whole unit is closed.
func (l *guardLink) close(ctx context.Context, unit, id draas.ServiceID, f *fenceWish, epoch draas.Epoch) {
	log := l.log.With("service", id)
	for ctx.Err() == nil {
		ask, cancel := context.WithTimeout(ctx, guardTimeout)
		_, err := l.client.Shut(ask, id, epoch)
		cancel()
		l.mu.Lock()
		l.complain(log, f, err)
		if err == nil {
			f.done = max(f.done, epoch)
		}
		// A later wish has taken this one's place.
		over := f.shut > epoch || f.last.Epoch > epoch || l.fences[id] != f
		told := err == nil && l.allClosed(unit, epoch)
		if err == nil && f.shut == epoch {
			f.shut = 0
		}
		l.mu.Unlock()
		if told {
			l.closed(unit, epoch)
		}
		if err == nil || over {
			return
		}
		pause(ctx, guardRetry)
	}
}

// allClosed reports whether every service of the unit is closed for the
// epoch. l.mu is held.
func (l *guardLink) allClosed(unit draas.ServiceID, epoch draas.Epoch) bool {
	for _, id := range l.parts[unit] {
		if l.fences[id].done < epoch {
			return false
		}
	}
	return true
}

// carry carries the latest deadlines. Each is worth one try: the next renewal
// brings a later one.
func (l *guardLink) carry(ctx context.Context) {
	l.mu.Lock()
	var all []fence.Extension
	for _, id := range slices.Sorted(maps.Keys(l.fences)) {
		if f := l.fences[id]; f.extend != nil {
			all = append(all, *f.extend)
			f.last, f.extend = *f.extend, nil
		}
	}
	l.mu.Unlock()
	if len(all) == 0 {
		return
	}
	ask, cancel := context.WithTimeout(ctx, guardTimeout)
	results, err := l.client.ExtendAll(ask, all)
	cancel()
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, x := range all {
		f := l.fences[x.Service]
		if f == nil {
			continue // the file does not name it any more
		}
		each := err
		if each == nil {
			each = results[i].Err
		}
		if each != nil && x.Epoch <= max(f.shut, f.done) {
			continue // a close has overtaken it
		}
		l.complain(l.log.With("service", x.Service), f, each)
	}
}

// complain logs an error once, and its end. l.mu is held.
func (l *guardLink) complain(log *slog.Logger, f *fenceWish, err error) {
	switch {
	case err != nil && err.Error() != f.err:
		f.err = err.Error()
		log.Error("the guard did not do what was asked; asking again", "err", err)
	case err == nil && f.err != "":
		f.err = ""
		log.Info("the guard does what is asked again")
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
