package fence

import (
	"context"
	"fmt"

	draas "github.com/draasd/draas"
)

// try judges an extension and returns what must be durable before take.
func (k *keeper) try(epoch draas.Epoch, d draas.Deadline) (mark, error) {
	now, known := k.clock.Now(), k.journal.get(k.Service)
	k.mu.Lock()
	defer k.mu.Unlock()
	if known.Ended > k.ledger.Ended { // by a request to the keeper before this one
		k.ledger.Ended = known.Ended
		if known.Ended >= k.ledger.Highest {
			k.ledger.Highest, k.ledger.Deadline = known.Ended, draas.Deadline{}
		}
	}
	if !k.ready || k.stopping {
		return mark{}, ErrNotReady
	}
	trial := k.ledger
	if err := trial.Extend(now, epoch, d); err != nil {
		return mark{}, err
	}
	return mark{Highest: trial.Highest, Ended: trial.Ended}, nil
}

// take is try with effect.
func (k *keeper) take(epoch draas.Epoch, d draas.Deadline) error {
	now := k.clock.Now()
	var err error
	k.update(func() {
		if err = ErrNotReady; !k.stopping {
			err = k.ledger.Extend(now, epoch, d)
		}
	})
	k.wake()
	return err
}

// awaitOpen waits a little for the effect of an extension.
func (k *keeper) awaitOpen(ctx context.Context, epoch draas.Epoch, d draas.Deadline) error {
	k.waitUntil(ctx, func() bool {
		return k.openErr != nil || k.opened && k.applied.Epoch >= epoch && k.applied.Deadline.Boot >= d.Boot
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.openErr != nil {
		return fmt.Errorf("%w: %w", ErrNotOpened, k.openErr)
	}
	return nil
}

// close is a request: it ends the epoch and waits until the fence is observed
// closed.
func (k *keeper) close(ctx context.Context, epoch draas.Epoch) (Status, error) {
	var err error
	var m mark
	k.update(func() {
		if err = k.ledger.Close(epoch); err == nil {
			k.shut = false // observe again, even where it was closed before
			m = mark{Highest: k.ledger.Highest, Ended: k.ledger.Ended}
		}
	})
	if err != nil {
		return k.status(), err
	}
	k.wake()
	jerr := k.journal.raise(map[draas.ServiceID]mark{k.Service: m})
	closed := k.waitUntil(ctx, func() bool { return k.shut || k.ledger.Highest > epoch })
	switch {
	case !closed:
		return k.status(), fmt.Errorf("%w: %w", ErrNotClosed, k.problem())
	case jerr != nil:
		return k.status(), fmt.Errorf("closed, but a restarted guard may forget it: %w", jerr)
	case !k.isShut():
		return k.status(), fmt.Errorf("%w: epoch %d was overtaken while it closed", ErrNotClosed, epoch)
	}
	return k.status(), nil
}

func (k *keeper) status() Status {
	now := k.clock.Now()
	conns := 0
	if c, ok := k.Fence.(interface{ Conns() int }); ok {
		conns = c.Conns()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	st := Status{
		Service: k.Service, Kind: k.Kind, State: k.state, Phase: k.phase,
		Epoch: k.ledger.Highest, Ended: k.ledger.Ended,
		Left: k.ledger.Deadline.Left(now), Worst: k.Fence.Worst(),
		LastClose: k.last, LateCloses: k.late, Conns: conns,
		Upsets: k.upset, LastUpset: k.upsetBy,
	}
	for _, err := range []error{k.closeErr, k.openErr, k.auditErr} {
		if err != nil {
			st.Error = bounded(err.Error(), 512)
			break
		}
	}
	return st
}
