package daemon

import (
	"context"
	"log/slog"
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
	Extend(ctx context.Context, service draas.ServiceID, epoch draas.Epoch, d draas.Deadline) (fence.Status, error)
	Shut(ctx context.Context, service draas.ServiceID, epoch draas.Epoch) (fence.Status, error)
}

// guardLink carries the latest wish for each service to the guard, each
// service by a goroutine of its own: one whose fence takes long to close does
// not hold up the others, and none holds up the main loop.
type guardLink struct {
	client   guardClient
	log      *slog.Logger
	closed   func(draas.ServiceID, draas.Epoch) // tells the main loop
	services map[draas.ServiceID]*guardWish
}

// guardWish is what is wanted of one service's fence. Of two wishes the one
// with the higher epoch is the later; within an epoch a close is terminal.
type guardWish struct {
	wake chan struct{}

	mu     sync.Mutex
	extend *failover.Extend
	shut   *failover.Close
	done   draas.Epoch // closed up to here, and told
}

func newGuardLink(client guardClient, services []draas.ServiceID, closed func(draas.ServiceID, draas.Epoch), log *slog.Logger) *guardLink {
	l := &guardLink{client: client, log: log, closed: closed, services: make(map[draas.ServiceID]*guardWish)}
	for _, id := range services {
		l.services[id] = &guardWish{wake: make(chan struct{}, 1)}
	}
	return l
}

// run carries wishes until ctx ends.
func (l *guardLink) run(ctx context.Context) {
	var all sync.WaitGroup
	for id, w := range l.services {
		all.Go(func() { l.carry(ctx, id, w) })
	}
	all.Wait()
}

// wish takes over what a tick of the decision commands. It never blocks.
func (l *guardLink) wish(c failover.Commands) {
	for _, x := range c.Close {
		if l.services[x.Service] == nil {
			// No fence is declared: there is nothing to close.
			l.closed(x.Service, x.Epoch)
		}
	}
	for _, x := range c.Extend {
		if w := l.services[x.Service]; w != nil {
			w.mu.Lock()
			w.extend = &x
			w.mu.Unlock()
			w.rouse()
		}
	}
	for _, x := range c.Close {
		if w := l.services[x.Service]; w != nil {
			w.mu.Lock()
			// The decision repeats itself until it hears of the close.
			news := x.Epoch > w.done && (w.shut == nil || w.shut.Epoch != x.Epoch)
			if news {
				w.shut = &x
			}
			w.mu.Unlock()
			if news {
				w.rouse()
			}
		}
	}
}

func (w *guardWish) rouse() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (l *guardLink) carry(ctx context.Context, id draas.ServiceID, w *guardWish) {
	log := l.log.With("service", id)
	var lastErr string
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		for ctx.Err() == nil {
			again, err := l.once(ctx, id, w)
			switch {
			case err != nil && err.Error() != lastErr:
				lastErr = err.Error()
				log.Error("the guard did not do what was asked; asking again", "err", err)
			case err == nil && lastErr != "":
				lastErr = ""
				log.Info("the guard answers again")
			}
			if !again {
				break
			}
			if err != nil {
				pause(ctx, guardRetry)
			}
		}
	}
}

// once carries one wish and says whether there is more to do.
func (l *guardLink) once(ctx context.Context, id draas.ServiceID, w *guardWish) (again bool, err error) {
	w.mu.Lock()
	shut, extend := w.shut, w.extend
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	if shut != nil && (extend == nil || shut.Epoch >= extend.Epoch) {
		if _, err := l.client.Shut(ctx, id, shut.Epoch); err != nil {
			return true, err
		}
		w.mu.Lock()
		w.done = max(w.done, shut.Epoch)
		if w.shut == shut {
			w.shut = nil
		}
		if w.extend == extend {
			w.extend = nil
		}
		w.mu.Unlock()
		l.closed(id, shut.Epoch)
		return true, nil
	}
	if extend == nil {
		return false, nil
	}
	_, err = l.client.Extend(ctx, id, extend.Epoch, extend.Deadline)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.extend == extend {
		// A deadline is worth one try: the next renewal brings a later one.
		w.extend = nil
	}
	if w.shut != nil && w.shut.Epoch < extend.Epoch {
		w.shut = nil
	}
	return w.extend != nil || w.shut != nil, err
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
