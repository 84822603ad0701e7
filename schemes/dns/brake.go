package dns

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// ErrHeld is the error of a move that came too soon after too many others.
var ErrHeld = errors.New("held")

// brakeWindow is the time in which moves are counted.
const brakeWindow = time.Hour

// Brake bounds how often names are moved in an hour without a person, at the
// end that makes the moves: whatever goes wrong with the decision, users and
// resolvers are not thrown to and fro. A move that is held is let through when
// the hour is over, or when a person has seen it.
type Brake struct {
	mu    sync.Mutex
	names map[draas.ServiceID]*brakeOf
}

type brakeOf struct {
	latest runbook.Token   // let through
	at     []draas.Reading // of the moves let through, the oldest first
}

// NewBrake returns a brake that has seen nothing.
func NewBrake() *Brake { return &Brake{names: make(map[draas.ServiceID]*brakeOf)} }

// Move asks whether a service's name may be moved to the token, and counts the
// move when it may. To ask again for the same token costs nothing. byHand is
// a move that a person asked for: it is never held. limit is how many are let through
// in an hour. The error is ErrHeld's and tells how long.
func (b *Brake) Move(service draas.ServiceID, token runbook.Token, byHand bool, limit int, now draas.Reading) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.names[service]
	if n == nil {
		n = &brakeOf{}
		b.names[service] = n
	}
	if token.Compare(n.latest) <= 0 {
		return nil // an older one is refused elsewhere
	}
	for len(n.at) > 0 && now.Sub(n.at[0]) >= brakeWindow {
		n.at = n.at[1:]
	}
	if len(n.at) >= limit && !byHand {
		left := brakeWindow - now.Sub(n.at[len(n.at)-limit])
		return fmt.Errorf("moved %d times within an hour, %d are let through: %w for %v more, or until a person acknowledges it",
			len(n.at), limit, ErrHeld, left.Round(time.Second))
	}
	n.latest = token
	n.at = append(n.at, now)
	return nil
}

// Forget counts the moves of a service's name from now on: a person has seen
// those before.
func (b *Brake) Forget(service draas.ServiceID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.names[service]; n != nil {
		n.at = nil
	}
}
