package fencetest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
)

// Guard is a guard in memory, with the methods of fence.Client and the same
// decisions (fence.Ledger), but no goroutine, socket or real clock: for
// simulations and for tests of what uses a guard. Its fences close at the
// instant of the deadline.
type Guard struct {
	clock fence.Clock

	mu      sync.Mutex
	ledgers map[draas.ServiceID]*fence.Ledger
	down    error
	stuck   map[draas.ServiceID]error
}

// NewGuard makes a guard that holds the services, all closed.
func NewGuard(clock fence.Clock, services ...draas.ServiceID) *Guard {
	g := &Guard{clock: clock, ledgers: map[draas.ServiceID]*fence.Ledger{}, stuck: map[draas.ServiceID]error{}}
	for _, s := range services {
		g.ledgers[s] = &fence.Ledger{}
	}
	return g
}

// SetDown makes every call fail with the error, as a guard that is gone; nil
// brings it back. A service that was open stays so until its deadline, as with
// a kernel fence.
func (g *Guard) SetDown(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.down = err
}

// SetStuck makes the service's fence impossible to close, on request or at the
// deadline; nil frees it.
func (g *Guard) SetStuck(s draas.ServiceID, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stuck[s] = err
}

// Serving reports whether users reach the service now.
func (g *Guard) Serving(s draas.ServiceID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.ledgers[s]
	return l != nil && (l.Live(g.clock.Now()) || g.stuck[s] != nil)
}

// Extend is fence.Client.Extend.
func (g *Guard) Extend(ctx context.Context, s draas.ServiceID, e draas.Epoch, d draas.Deadline) (fence.Status, error) {
	return g.do(ctx, s, func(l *fence.Ledger) error { return l.Extend(g.clock.Now(), e, d) })
}

// ExtendAll is fence.Client.ExtendAll.
func (g *Guard) ExtendAll(ctx context.Context, all []fence.Extension) ([]fence.Extended, error) {
	var results []fence.Extended
	for _, x := range all {
		st, err := g.Extend(ctx, x.Service, x.Epoch, x.Deadline)
		if down := g.isDown(ctx); down != nil {
			return nil, fmt.Errorf("guard extend: %w", down)
		}
		results = append(results, fence.Extended{Status: st, Err: err})
	}
	return results, nil
}

func (g *Guard) isDown(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return firstOf(g.down, ctx.Err())
}

// Shut is fence.Client.Shut.
func (g *Guard) Shut(ctx context.Context, s draas.ServiceID, e draas.Epoch) (fence.Status, error) {
	return g.do(ctx, s, func(l *fence.Ledger) error {
		if err := l.Close(e); err != nil {
			return err
		}
		if g.stuck[s] != nil {
			return fmt.Errorf("%w: %w", fence.ErrNotClosed, g.stuck[s])
		}
		return nil
	})
}

// Status is fence.Client.Status.
func (g *Guard) Status(ctx context.Context) ([]fence.Status, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.down != nil || ctx.Err() != nil {
		return nil, fmt.Errorf("guard status: %w", firstOf(g.down, ctx.Err()))
	}
	var names []draas.ServiceID
	for s := range g.ledgers {
		names = append(names, s)
	}
	slices.Sort(names)
	var all []fence.Status
	for _, s := range names {
		all = append(all, g.statusLocked(s))
	}
	return all, nil
}

func (g *Guard) do(ctx context.Context, s draas.ServiceID, act func(*fence.Ledger) error) (fence.Status, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.down != nil || ctx.Err() != nil {
		return fence.Status{}, fmt.Errorf("guard %s: %w", s, firstOf(g.down, ctx.Err()))
	}
	l := g.ledgers[s]
	if l == nil {
		return fence.Status{}, fmt.Errorf("guard %s: %w", s, fence.ErrUnknownService)
	}
	err := act(l)
	if err != nil {
		err = fmt.Errorf("guard %s: %w", s, err)
	}
	return g.statusLocked(s), err
}

func (g *Guard) statusLocked(s draas.ServiceID) fence.Status {
	l, now := g.ledgers[s], g.clock.Now()
	st := fence.Status{Service: s, Kind: draas.FencePath, State: fence.Closed, Epoch: l.Highest, Ended: l.Ended}
	switch live := l.Live(now); {
	case live:
		st.State, st.Left = fence.Open, l.Deadline.Left(now)
	case g.stuck[s] != nil:
		st.State, st.Error = fence.Open, g.stuck[s].Error()
	}
	return st
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
