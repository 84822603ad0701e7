package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	draas "github.com/draasd/draas"
)

const (
	// look is the longest time between two looks at the clocks while a permit
	// lives: so much later at most the guard sees a stepped wall clock or the
	// end of a suspend.
	look = 50 * time.Millisecond
	// openWait is how long an Extend waits for the fence to open before it
	// answers "opening".
	openWait = 100 * time.Millisecond
	// retryClose is the pause after a failure to close; and to open, where it
	// doubles up to retryOpen.
	retryClose = 100 * time.Millisecond
	retryOpen  = time.Second
)

// What a keeper is at, in Status.Phase.
const (
	phaseOpening = "opening"
	phaseClosing = "closing"
)

// keeper holds one service's fence: one goroutine (run) that alone calls the
// fence, and requests that change the ledger and wait for the goroutine.
type keeper struct {
	Entry
	clock   Clock
	journal *journal
	log     *slog.Logger

	kick  chan struct{} // capacity 1: look at once
	stop  func()        // ends run; set before it starts
	arm   func() error  // arms the watchdog; set before run starts
	ended chan struct{} // closed when run has returned
	alarm atomic.Bool   // look at the fence at once

	mu       sync.Mutex
	ledger   Ledger
	stopping bool
	ready    bool // observed closed once since the start
	opened   bool // Open succeeded, and nothing closed it since
	shut     bool // observed closed, and nothing opened it since
	applied  Permit
	openErr  error          // of the last attempt to open, until one succeeds
	closeErr error          // of the last attempt to close, until one succeeds
	auditErr error          // of the last audit
	until    draas.Deadline // the last deadline that was live; zero once closed
	looked   time.Duration  // boot time of the last look at the deadline
	state    State
	phase    string
	last     time.Duration // what the last close took
	late     int
	upset    int           // how often the fence was found not as it was left
	upsetBy  string        // what was found last
	changed  chan struct{} // closed and replaced at every change

	// Only run's goroutine touches these.
	retryAt    draas.Reading
	retryPause time.Duration
	auditAt    draas.Reading
	closeFrom  draas.Reading // what the close under way is measured from
	closeTries int
}

func newKeeper(e Entry, clock Clock, j *journal, log *slog.Logger) *keeper {
	if e.Audit == 0 {
		e.Audit = time.Second
	}
	m := j.get(e.Service)
	return &keeper{
		Entry: e, clock: clock, journal: j,
		log:     log.With("service", e.Service, "kind", e.Kind),
		ledger:  Ledger{Highest: m.Highest, Ended: m.Ended},
		state:   Unknown,
		kick:    make(chan struct{}, 1),
		ended:   make(chan struct{}),
		changed: make(chan struct{}),
	}
}

// run holds the fence until ctx ends, then closes it and goes on trying until
// it is observed closed or final ends.
func (k *keeper) run(ctx, final context.Context) error {
	if w, ok := k.Fence.(watcher); ok {
		wctx, stop := context.WithCancel(context.WithoutCancel(ctx))
		var watching sync.WaitGroup
		watching.Go(func() { k.watch(wctx, w) })
		defer watching.Wait()
		defer stop()
	}
	for ctx.Err() == nil {
		k.sleep(ctx, k.step(ctx))
	}
	k.update(func() { k.stopping = true; k.shut = false })
	for {
		wait := k.step(final)
		if k.isShut() {
			return nil
		}
		if final.Err() != nil {
			return fmt.Errorf("close fence of %s: %w", k.Service, k.problem())
		}
		k.sleep(final, wait)
	}
}

// watcher is a fence that can tell at once that somebody changed it. Watch
// returns nil when ctx ends, or an error when it cannot go on.
type watcher interface {
	Watch(ctx context.Context, changed func()) error
}

func (k *keeper) watch(ctx context.Context, w watcher) {
	for ctx.Err() == nil {
		err := w.Watch(ctx, func() {
			k.alarm.Store(true)
			k.wake()
		})
		if err != nil {
			k.log.Error("changes of the fence are not told, only looked for", "every", k.Audit, "err", err)
			pause(ctx, time.Second)
		}
	}
}

// sleep waits, but not past a kick or the end of ctx.
func (k *keeper) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-k.kick:
	case <-ctx.Done():
	}
}

// step does the one thing that is due and returns when to look again.
func (k *keeper) step(ctx context.Context) time.Duration {
	now := k.clock.Now()
	k.mu.Lock()
	live := k.liveLocked(now)
	permit := Permit{Epoch: k.ledger.Highest, Deadline: k.ledger.Deadline}
	opened, shut, applied := k.opened, k.shut, k.applied
	k.mu.Unlock()

	left := permit.Deadline.Left(now)
	switch {
	case !live && !shut:
		if k.closeFence(ctx, now) {
			return 0
		}
		return retryClose
	case live && !opened:
		if now.Boot < k.retryAt.Boot {
			return min(look, left, k.retryAt.Sub(now))
		}
		k.openFence(ctx, permit)
		return 0
	case live && applied != permit:
		k.extendFence(ctx, permit)
		return 0
	case now.Boot >= k.auditAt.Boot || k.alarm.Load():
		k.alarm.Store(false)
		k.audit(ctx, live, permit)
		k.auditAt = k.clock.Now().Add(k.Audit)
		return 0
	case live:
		return min(look, left, k.auditAt.Sub(now))
	}
	return k.auditAt.Sub(now)
}

func (k *keeper) openFence(ctx context.Context, p Permit) {
	k.update(func() { k.phase, k.shut, k.openErr = phaseOpening, false, nil })
	state := Unknown
	err := k.whileLive(ctx, func(ctx context.Context) error {
		err := k.arm()
		if err != nil {
			return err
		}
		if err = k.Fence.Open(ctx, p); err != nil {
			return err
		}
		if state, err = k.Fence.State(ctx); err == nil && state != Open {
			err = fmt.Errorf("observed %s after opening", state)
		}
		return err
	})
	if err != nil {
		if !errors.Is(err, draas.ErrExpired) { // if the permit was extended since: at once
			k.retryPause = min(max(2*k.retryPause, retryClose), retryOpen)
			k.retryAt = k.clock.Now().Add(k.retryPause)
		}
		k.log.Error("fence not opened", "epoch", p.Epoch, "err", err)
	} else {
		k.retryPause = 0
		k.log.Info("fence opened", "epoch", p.Epoch)
	}
	k.update(func() {
		k.phase, k.state, k.openErr, k.auditErr = "", state, err, nil
		if err == nil {
			k.opened, k.applied = true, p
		}
	})
}

// whileLive calls do with a context that ends when the permit does, so that
// nothing slow holds up the closing. The permit may be extended, or closed,
// while do runs.
func (k *keeper) whileLive(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		for k.left() > 0 {
			t := time.NewTimer(min(look, k.left()))
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return
			}
		}
		cancel()
	})
	err := do(ctx)
	cancel()
	watch.Wait()
	return err
}

// left is the time the permit has left, zero when there is none.
func (k *keeper) left() time.Duration {
	now := k.clock.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.liveLocked(now) {
		return 0
	}
	return k.ledger.Deadline.Left(now)
}

func (k *keeper) extendFence(ctx context.Context, p Permit) {
	err := k.whileLive(ctx, func(ctx context.Context) error { return k.Fence.Extend(ctx, p) })
	if err != nil {
		// What Extend left behind is not known: the next step opens afresh.
		k.log.Error("fence not extended", "epoch", p.Epoch, "err", err)
	}
	k.update(func() {
		k.openErr = err
		if err != nil {
			k.opened = false
			return
		}
		k.applied = p
	})
}

// closeFence closes and observes, and reports whether it is confirmed.
func (k *keeper) closeFence(ctx context.Context, now draas.Reading) bool {
	if k.closeTries == 0 {
		k.closeFrom = now
		// From the deadline, unless the close comes before it: on request, or
		// because the wall clock was stepped.
		if k.until.Boot > 0 && k.until.Boot < now.Boot {
			k.closeFrom.Boot = k.until.Boot
		}
	}
	k.closeTries++
	k.update(func() { k.phase, k.opened = phaseClosing, false })
	err := k.Fence.Close(ctx)
	state, serr := k.Fence.State(ctx)
	if state != Closed {
		err = errors.Join(err, serr)
		k.update(func() { k.state, k.closeErr = state, err })
		if k.closeTries == 1 || k.closeTries%50 == 0 {
			k.log.Error("fence not closed, trying on", "state", state, "tries", k.closeTries, "err", err)
		}
		return false
	}
	took := k.clock.Now().Sub(k.closeFrom)
	late := took > k.Fence.Worst()
	if late {
		k.log.Error("fence closed later than its margin: raise the margin", "took", took, "margin", k.Fence.Worst())
	} else {
		k.log.Info("fence closed", "took", took)
	}
	k.closeTries = 0
	k.auditAt = k.clock.Now().Add(k.Audit)
	k.update(func() {
		k.phase, k.state, k.closeErr, k.openErr, k.auditErr = "", state, nil, nil, nil
		k.shut, k.ready, k.applied, k.until = true, true, Permit{}, draas.Deadline{}
		k.last = took
		if late {
			k.late++
		}
	})
	return true
}

// audit looks whether the fence is as it was left, and restores it.
func (k *keeper) audit(ctx context.Context, live bool, p Permit) {
	if !live {
		state, err := k.Fence.State(ctx)
		if state != Closed {
			k.log.Error("fence is open without a permit, closing it", "state", state, "err", err)
		}
		k.update(func() { // the next step closes
			k.state, k.shut = state, state == Closed
			if !k.shut {
				k.noteUpset(state, err)
			}
		})
		return
	}
	k.mu.Lock()
	known := k.auditErr != nil
	k.mu.Unlock()
	state := Unknown
	err := k.whileLive(ctx, func(ctx context.Context) error {
		var err error
		if state, err = k.Fence.State(ctx); state == Open || ctx.Err() != nil {
			return nil
		}
		if !known {
			k.log.Error("fence is not open as it should be, restoring it", "state", state, "err", err)
			k.update(func() { k.noteUpset(state, err) })
		}
		if err := k.Fence.Extend(ctx, p); err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		if state, err = k.Fence.State(ctx); err == nil && state != Open {
			err = fmt.Errorf("observed %s while the permit lives", state)
		}
		return err
	})
	k.update(func() { k.state, k.auditErr = state, err })
}

// noteUpset is called with the lock held.
func (k *keeper) noteUpset(state State, err error) {
	k.upset++
	k.upsetBy = "observed " + string(state)
	if err != nil {
		k.upsetBy = bounded(err.Error(), 256)
	}
}

func (k *keeper) liveLocked(now draas.Reading) bool {
	k.looked = now.Boot
	if k.stopping || !k.ledger.Live(now) {
		return false
	}
	k.until = k.ledger.Deadline
	return true
}

func (k *keeper) isShut() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.shut
}

func (k *keeper) isReady() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ready
}

// problem is why the fence is not closed.
func (k *keeper) problem() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closeErr != nil {
		return k.closeErr
	}
	return fmt.Errorf("observed %s", k.state)
}

func (k *keeper) wake() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

// update changes the state under the lock and tells the waiters.
func (k *keeper) update(change func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	change()
	close(k.changed)
	k.changed = make(chan struct{})
}

// waitUntil waits for a condition on the locked state; false when ctx ended
// first.
func (k *keeper) waitUntil(ctx context.Context, cond func() bool) bool {
	for {
		k.mu.Lock()
		ok, changed := cond(), k.changed
		k.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// bounded cuts a text that may come from outside.
func bounded(s string, n int) string {
	if len(s) > n {
		return s[:n] + "..."
	}
	return s
}
