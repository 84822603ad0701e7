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

// guardLink carries the commands of the decision to the guard: all deadlines of
// a renewal in one request, and each close by a goroutine of its own, so that a
// service whose fence takes long to close does not hold up the others. It never
// holds up the main loop.
type guardLink struct {
	client guardClient
	log    *slog.Logger
	closed func(draas.ServiceID, draas.Epoch) // tells the main loop
	wake   chan struct{}

	mu sync.Mutex
	// ctx is that of run; before and after nothing is asked.
	ctx    context.Context
	all    sync.WaitGroup
	fences map[draas.ServiceID]*fenceWish // of the services that the guard holds
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
	l.fences = make(map[draas.ServiceID]*fenceWish)
	for id, fenced := range w.fenced {
		if !fenced {
			continue
		}
		l.fences[id] = was[id]
		if l.fences[id] == nil {
			l.fences[id] = &fenceWish{}
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
		if f := l.fences[x.Service]; f != nil && x.Epoch > max(f.shut, f.done) {
			rouse = true
			f.extend = &fence.Extension{Service: x.Service, Epoch: x.Epoch, Deadline: x.Deadline}
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

// shut starts what closes a service, unless that is under way: the decision
// repeats itself until it hears of the close. l.mu is held.
func (l *guardLink) shut(x failover.Close) {
	f := l.fences[x.Service]
	switch {
	case f == nil, x.Epoch <= f.done:
		// The guard has no fence of it, and there is nothing to close; or the
		// main loop was too busy to hear it.
		l.closed(x.Service, x.Epoch)
	case x.Epoch > f.shut && l.ctx != nil:
		f.shut = x.Epoch
		if f.extend != nil && f.extend.Epoch <= x.Epoch {
			f.extend = nil
		}
		l.all.Go(func() { l.close(l.ctx, x.Service, f, x.Epoch) })
	}
}

// close closes one service's fence.
func (l *guardLink) close(ctx context.Context, id draas.ServiceID, f *fenceWish, epoch draas.Epoch) {
	log := l.log.With("service", id)
	for ctx.Err() == nil {
		ask, cancel := context.WithTimeout(ctx, guardTimeout)
		_, err := l.client.Shut(ask, id, epoch)
		cancel()
		l.mu.Lock()
		l.complain(log, f, err)
		// A later wish has taken this one's place, or another file.
		over := f.shut > epoch || f.last.Epoch > epoch || l.fences[id] != f
		if err == nil {
			f.done = max(f.done, epoch)
			if f.shut == epoch {
				f.shut = 0
			}
		}
		l.mu.Unlock()
		if err == nil {
			l.closed(id, epoch)
		}
		if err == nil || over {
			return
		}
		pause(ctx, guardRetry)
	}
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
