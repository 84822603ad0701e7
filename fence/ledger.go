package fence

import (
	"fmt"
	"time"

	draas "github.com/draasd/draas"
)

// MaxAhead bounds how far ahead a deadline may be. Leases are seconds long;
// what is farther is a mistake or a clock that jumped.
const MaxAhead = 5 * time.Minute

// Ledger is the guard's whole decision for one service: which epochs may be
// open and until when. It is pure; the guard, the simulator and the fakes all
// decide by it. The zero Ledger is closed and has seen no epoch.
type Ledger struct {
	Highest  draas.Epoch    // the highest epoch seen, by an extension or a close
	Ended    draas.Epoch    // every epoch up to this one was closed for good
	Deadline draas.Deadline // of epoch Highest; zero when there is none
}

// Extend takes a deadline for an epoch. Within one epoch deadlines only move
// forward (by the boot clock): an earlier one is answered with success and
// changes nothing, so that a renewal that was overtaken does not shorten the
// permit. A higher epoch brings its own deadline. What is refused leaves the
// ledger as it was.
func (l *Ledger) Extend(now draas.Reading, epoch draas.Epoch, d draas.Deadline) error {
	switch {
	case epoch == 0:
		return fmt.Errorf("%w: epoch 0 is no activation", ErrBadRequest)
	case epoch < l.Highest:
		return fmt.Errorf("%w: epoch %d, seen %d", draas.ErrStaleEpoch, epoch, l.Highest)
	case epoch <= l.Ended:
		return fmt.Errorf("%w: epoch %d was closed", draas.ErrStaleEpoch, epoch)
	case d.Passed(now):
		return fmt.Errorf("%w: the deadline of epoch %d has passed", draas.ErrExpired, epoch)
	case d.Boot-now.Boot > MaxAhead || d.Wall-now.Wall > MaxAhead:
		return fmt.Errorf("%w: %v by the boot clock, %v by the wall clock, bound %v",
			ErrTooFar, d.Boot-now.Boot, d.Wall-now.Wall, MaxAhead)
	}
	if epoch == l.Highest && l.Live(now) && d.Boot <= l.Deadline.Boot {
		return nil
	}
	l.Highest, l.Deadline = epoch, d
	return nil
}

// Close ends every epoch up to the given one for good. A close of an epoch
// below the highest seen is stale: it must not disturb a later activation.
func (l *Ledger) Close(epoch draas.Epoch) error {
	if epoch == 0 {
		return fmt.Errorf("%w: epoch 0 is no activation", ErrBadRequest)
	}
	if epoch < l.Highest {
		return fmt.Errorf("%w: epoch %d, seen %d", draas.ErrStaleEpoch, epoch, l.Highest)
	}
	l.Highest, l.Ended, l.Deadline = epoch, max(l.Ended, epoch), draas.Deadline{}
	return nil
}

// Live reports whether the service may be open now. A deadline seen passed has
// passed for good: a wall clock that is stepped forth and back does not revive
// it, only another Extend does.
func (l *Ledger) Live(now draas.Reading) bool {
	if l.Deadline.Passed(now) {
		l.Deadline = draas.Deadline{}
		return false
	}
	return true
}
