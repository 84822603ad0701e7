package cloud

import (
	"context"
	"sync"
	"time"
)

// limiter lets so many requests to a service run at once as it bears: one more
// after as many good answers as there may be at once, half as many after a
// refusal or a silence (AIMD, RFC 5681's way with a window). Who waits is let in
// in order.
type limiter struct {
	mu       sync.Mutex
	most     int
	limit    float64
	inFlight int
	waiting  []chan struct{}
	paused   time.Time // until when the service asks to be let alone
	cut      time.Time // of the last halving
}

func newLimiter(start, most int) *limiter {
	return &limiter{most: most, limit: float64(min(start, most))}
}

// turn is a place at the service.
type turn struct {
	l     *limiter
	began time.Time
}

// acquire waits until the service is not paused and there is a place.
func (l *limiter) acquire(ctx context.Context) (turn, error) {
	if err := l.wait(ctx); err != nil {
		return turn{}, err
	}
	l.mu.Lock()
	if len(l.waiting) == 0 && l.inFlight < int(l.limit) {
		l.inFlight++
		l.mu.Unlock()
		return turn{l, time.Now()}, nil
	}
	ready := make(chan struct{})
	l.waiting = append(l.waiting, ready)
	l.mu.Unlock()
	select {
	case <-ready:
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		for i, w := range l.waiting {
			if w == ready {
				l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
				return turn{}, ctx.Err()
			}
		}
		l.inFlight-- // the place came at the same moment
		l.admit()
		return turn{}, ctx.Err()
	}
	t := turn{l, time.Now()}
	// A pause that began while it waited holds for it too.
	if err := l.wait(ctx); err != nil {
		t.leave()
		return turn{}, err
	}
	return turn{l, time.Now()}, nil
}

// wait sits a pause out.
func (l *limiter) wait(ctx context.Context) error {
	for {
		l.mu.Lock()
		left := time.Until(l.paused)
		l.mu.Unlock()
		if left <= 0 {
			return ctx.Err()
		}
		if err := sleep(ctx, left); err != nil {
			return err
		}
	}
}

// admit lets in who there is room for. The mutex is held.
func (l *limiter) admit() {
	for len(l.waiting) > 0 && l.inFlight < int(l.limit) {
		l.inFlight++
		close(l.waiting[0])
		l.waiting = l.waiting[1:]
	}
}

// leave gives the place back, with nothing learnt.
func (t turn) leave() {
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	t.l.inFlight--
	t.l.admit()
}

// good gives the place back after an answer. Only a service that was used to
// the limit has shown that it bears it.
func (t turn) good() {
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	if l := t.l; l.inFlight >= int(l.limit) && t.began.After(l.cut) {
		l.limit = min(l.limit+1/l.limit, float64(l.most))
	}
	t.l.inFlight--
	t.l.admit()
}

// bad gives the place back after a refusal or a silence, and lets the service
// alone for a while. It halves once for all that ran when the first failed.
func (t turn) bad(pause time.Duration) (halved bool) {
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	l, now := t.l, time.Now()
	if t.began.After(l.cut) {
		l.limit, l.cut, halved = max(l.limit/2, 1), now, true
	}
	if until := now.Add(pause); pause > 0 && until.After(l.paused) {
		l.paused = until
	}
	l.inFlight--
	l.admit()
	return halved
}

// state is what there is to see.
func (l *limiter) state() (inFlight, waiting, limit int, paused time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight, len(l.waiting), int(l.limit), max(time.Until(l.paused), 0)
}

// sleep waits, or until the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pause lets the service alone for a while, as it asks.
func (l *limiter) pause(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := time.Now().Add(d); until.After(l.paused) {
		l.paused = until
	}
}
