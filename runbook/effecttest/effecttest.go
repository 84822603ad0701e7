// Package effecttest is the conformance suite of runbook.Effect: every
// implementation, in memory and against real servers, runs it in its tests.
// Fake is an effect in memory with knobs for faults.
package effecttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Fault is a way in which the path to a receiver, or the receiver, fails.
type Fault string

// The faults that a harness may be able to inject.
const (
	// LoseRequest: nothing reaches the receiver, and nothing can be read
	// from it.
	LoseRequest Fault = "lose the request"
	// LoseAnswer: Do takes effect and the executor does not hear of it. The
	// receiver can be read.
	LoseAnswer Fault = "lose the answer"
	// ApplyLate: Do is held back somewhere; the executor hears nothing. Heal
	// delivers it.
	ApplyLate Fault = "apply late"
	// Refuse: the receiver answers with an error and applies nothing. It can
	// be read.
	Refuse Fault = "refuse"
	// Blind: the receiver works, and nothing can be read from it.
	Blind Fault = "cannot look"
)

// Harness is one fresh receiver with two executors on it, as two daemons
// would have them.
type Harness struct {
	// Effect and Second act on the same receiver and share nothing else.
	Effect, Second runbook.Effect
	// Op returns an operation at the epoch that moves the service to the
	// first (0) or second (1) of two sites.
	Op func(epoch draas.Epoch, site int) runbook.Op
	// Snapshot reads the receiver from outside, not through the effect: two
	// equal snapshots mean that users see the same.
	Snapshot func() string
	// Inject makes the fault happen to Effect (not to Second) until heal is
	// called. Faults that are not in the list are not asked for.
	Inject func(Fault) (heal func())
	Faults []Fault
	// Turns tells that the receivers know turns, not only epochs.
	Turns bool
	// Patience bounds a call that should succeed, Short one that meets a
	// fault. Defaults: 5 s and 200 ms.
	Patience, Short time.Duration
}

// Factory makes a fresh harness. It registers its own clean-up.
type Factory func(t testing.TB) Harness

// Run holds the effect to the contract of runbook.Effect, one subtest a
// sentence.
func Run(t *testing.T, factory Factory) {
	t.Helper()
	for _, c := range checks {
		probe := factory(t)
		if !c.wanted(probe) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			if err := c.run(prepare(probe)); err != nil {
				t.Error(err)
			}
		})
	}
}

// Failures runs the suite and returns the failed checks by name, with what
// they found. It is for tests of the suite itself.
func Failures(t testing.TB, factory Factory) map[string]error {
	failed := make(map[string]error)
	for _, c := range checks {
		h := factory(t)
		if !c.wanted(h) {
			continue
		}
		if err := c.run(prepare(h)); err != nil {
			failed[c.name] = err
		}
	}
	return failed
}

// check is one sentence of the contract.
type check struct {
	name   string
	fault  Fault // needed, or empty
	fenced bool  // only where the promise compares epochs
	turns  bool  // only where the receivers know turns
	run    func(*bench) error
}

func (c check) wanted(h Harness) bool {
	if c.fenced && h.Effect.Promise().CompareAndSet == runbook.None {
		return false
	}
	if c.turns && !h.Turns {
		return false
	}
	if c.fault == "" {
		return true
	}
	for _, f := range h.Faults {
		if f == c.fault {
			return true
		}
	}
	return false
}

// bench is a harness with the calls that every check makes. The first broken
// promise that a call sees by itself is kept in err.
type bench struct {
	Harness
	err error
}

func prepare(h Harness) *bench {
	if h.Patience == 0 {
		h.Patience = 5 * time.Second
	}
	if h.Short == 0 {
		h.Short = 200 * time.Millisecond
	}
	return &bench{Harness: h}
}

// done observes, and checks what holds for every observation.
func (b *bench) done(e runbook.Effect, op runbook.Op, limit time.Duration) runbook.Answer {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	a, evidence, err := e.Done(ctx, op)
	switch {
	case err != nil && a != runbook.Unknown:
		b.broken("Done(%v) = %v with error %v: an error goes with unknown", op.Token, a, err)
	case a != runbook.Unknown && evidence == "":
		b.broken("Done(%v) = %v without evidence", op.Token, a)
	case a > runbook.Yes:
		b.broken("Done(%v) = %v", op.Token, a)
	}
	return a
}

func (b *bench) do(e runbook.Effect, op runbook.Op, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return e.Do(ctx, op)
}

func (b *bench) release(e runbook.Effect, op runbook.Op) error {
	ctx, cancel := context.WithTimeout(context.Background(), b.Patience)
	defer cancel()
	return e.Release(ctx, op)
}

func (b *bench) runStep(e runbook.Effect, op runbook.Op, limit time.Duration) runbook.Result {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return runbook.RunStep(ctx, e, op)
}

func (b *bench) broken(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// mustDo does and observes yes.
func (b *bench) mustDo(e runbook.Effect, op runbook.Op) {
	if err := b.do(e, op, b.Patience); err != nil {
		b.broken("Do(%v, %s): %v", op.Token, op.To, err)
	}
	b.expect(e, op, runbook.Yes)
}

func (b *bench) expect(e runbook.Effect, op runbook.Op, want runbook.Answer) {
	if got := b.done(e, op, b.Patience); got != want {
		b.broken("Done(%v, %s) = %v, want %v", op.Token, op.To, got, want)
	}
}

func (b *bench) expectNotYes(e runbook.Effect, op runbook.Op) {
	if b.done(e, op, b.Patience) == runbook.Yes {
		b.broken("Done(%v, %s) = yes, and it is not in force", op.Token, op.To)
	}
}

// refused expects a final error from Do and an unchanged receiver.
func (b *bench) refused(e runbook.Effect, op runbook.Op, sentinels ...error) {
	before := b.Snapshot()
	err := b.do(e, op, b.Patience)
	ok := false
	for _, s := range sentinels {
		ok = ok || errors.Is(err, s)
	}
	if !ok {
		b.broken("Do(%v, %s) = %v, want %v", op.Token, op.To, err, sentinels)
	}
	b.unchanged(before, "a refused Do")
}

func (b *bench) unchanged(before, by string) {
	if after := b.Snapshot(); after != before {
		b.broken("%s changed the receiver from %q to %q", by, before, after)
	}
}
