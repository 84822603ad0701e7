// Package fencetest holds what tests of fences need: a conformance suite that
// runs on every kind (Run), a fence without any effect but with fault knobs
// (Fake), and a guard without processes or sockets (Guard).
package fencetest

import (
	"context"
	"errors"
	"sync"
	"time"

	draas "github.com/draasd/draas"
	"github.com/draasd/draas/fence"
)

// Faults are what can go wrong with a Fake. The zero value is nothing.
type Faults struct {
	Open  error // Open and Extend return it and have no effect
	Close error // Close returns it and has no effect
	Blind error // State returns fence.Unknown and this
	// OpenTakes and CloseTakes are how long the effects take. A context that
	// ends sooner ends them without effect.
	OpenTakes, CloseTakes time.Duration
}

// Fake is a fence in memory. It holds no deadline by itself: the guard does.
type Fake struct {
	clock fence.Clock
	worst time.Duration

	mu     sync.Mutex
	open   bool
	faults Faults
	permit fence.Permit
	calls  []string
}

// NewFake makes a fence that somebody left open, as a guard may find it.
func NewFake(clock fence.Clock, worst time.Duration) *Fake {
	return &Fake{clock: clock, worst: worst, open: true}
}

// Break sets the faults.
func (f *Fake) Break(faults Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = faults
}

// Force opens or closes the fence as somebody else would, behind the guard's
// back.
func (f *Fake) Force(open bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = open
}

// Serving reports whether users reach the service.
func (f *Fake) Serving() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// Permit is the last permit given to Open or Extend with success.
func (f *Fake) Permit() fence.Permit {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.permit
}

// Calls returns the names of the calls of Open, Extend and Close so far.
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

// Worst is what NewFake was told.
func (f *Fake) Worst() time.Duration { return f.worst }

func (f *Fake) begin(call string) Faults {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	return f.faults
}

// Open opens, as the faults allow.
func (f *Fake) Open(ctx context.Context, p fence.Permit) error {
	faults := f.begin("open")
	if p.Deadline.Passed(f.clock.Now()) {
		f.Force(false)
		return draas.ErrExpired
	}
	if err := errors.Join(faults.Open, take(ctx, faults.OpenTakes)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open, f.permit = true, p
	return nil
}

// Extend notes the permit. It does not open what somebody else closed.
func (f *Fake) Extend(_ context.Context, p fence.Permit) error {
	faults := f.begin("extend")
	if faults.Open != nil {
		return faults.Open
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.permit = p
	return nil
}

// Close closes, as the faults allow.
func (f *Fake) Close(ctx context.Context) error {
	faults := f.begin("close")
	if err := errors.Join(faults.Close, take(ctx, faults.CloseTakes)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open = false
	return nil
}

// State tells what is.
func (f *Fake) State(context.Context) (fence.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.faults.Blind != nil:
		return fence.Unknown, f.faults.Blind
	case f.open:
		return fence.Open, nil
	}
	return fence.Closed, nil
}

func take(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
