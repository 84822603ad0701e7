package effecttest

import (
	"context"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// checks is the contract, a sentence each.
var checks = []check{
	{name: "the promise is declared", run: promiseDeclared},
	{name: "nothing is done before it is done", run: notDoneAtFirst},
	{name: "observing changes nothing", run: doneIsPure},
	{name: "done after Do", run: doneAfterDo},
	{name: "twice is once", run: twiceIsOnce},
	{name: "another executor finds it done", run: resumed},
	{name: "done names its epoch", run: doneNamesEpoch},
	{name: "epoch zero is no activation", run: epochZero},
	{name: "a later epoch replaces", run: laterReplaces},
	{name: "a later epoch to the same site replaces", run: laterSameSite},
	{name: "an older epoch is refused", fenced: true, run: staleRefused},
	{name: "one epoch has one site", fenced: true, run: oneSite},
	{name: "an older generation is refused", fenced: true, run: staleGeneration},
	{name: "a later turn of an epoch replaces", turns: true, run: laterTurn},
	{name: "an older turn is refused", turns: true, fenced: true, run: staleTurn},
	{name: "an ended context is an unknown", run: endedContext},
	{name: "release is terminal", run: releaseTerminal},
	{name: "release before Do", run: releaseFirst},
	{name: "release leaves a later epoch alone", run: releaseOld},
	{name: "a later epoch after a release", run: doAfterRelease},
	{name: "racing executors end at the later epoch", fenced: true, run: race},
	{name: "a lost request", fault: LoseRequest, run: lostRequest},
	{name: "a lost answer is found by Done", fault: LoseAnswer, run: lostAnswer},
	{name: "a late request does not undo a later epoch", fault: ApplyLate, run: lateRequest},
	{name: "a refusal", fault: Refuse, run: refusal},
	{name: "what cannot be seen is unknown", fault: Blind, run: blind},
}

func promiseDeclared(b *bench) error {
	p := b.Effect.Promise()
	switch p.CompareAndSet {
	case runbook.Strong, runbook.PerNode, runbook.None:
	default:
		b.broken("Promise: compare-and-set %q", p.CompareAndSet)
	}
	if p.Worst <= 0 {
		b.broken("Promise: worst time %v", p.Worst)
	}
	return b.err
}

func notDoneAtFirst(b *bench) error {
	b.expectNotYes(b.Effect, b.Op(1, 0))
	return b.err
}

func doneIsPure(b *bench) error {
	before := b.Snapshot()
	for _, epoch := range []draas.Epoch{9, 3, 9} {
		b.expectNotYes(b.Effect, b.Op(epoch, 1))
	}
	b.unchanged(before, "Done")
	// Nor does an observation count as having seen the epoch.
	b.mustDo(b.Effect, b.Op(3, 0))
	before = b.Snapshot()
	b.expectNotYes(b.Effect, b.Op(9, 1))
	b.expect(b.Effect, b.Op(3, 0), runbook.Yes)
	b.unchanged(before, "Done")
	b.mustDo(b.Effect, b.Op(4, 1))
	return b.err
}

func doneAfterDo(b *bench) error {
	before := b.Snapshot()
	b.mustDo(b.Effect, b.Op(1, 0))
	if b.Snapshot() == before {
		b.broken("Do and Done agree, and nothing changed from %q", before)
	}
	return b.err
}

func twiceIsOnce(b *bench) error {
	b.mustDo(b.Effect, b.Op(1, 0))
	before := b.Snapshot()
	b.mustDo(b.Effect, b.Op(1, 0))
	b.mustDo(b.Second, b.Op(1, 0))
	b.unchanged(before, "the same Do again")
	return b.err
}

func resumed(b *bench) error {
	// The first executor crashed after Do, before it could record it.
	if err := b.do(b.Effect, b.Op(2, 1), b.Patience); err != nil {
		b.broken("Do: %v", err)
	}
	before := b.Snapshot()
	if res := b.runStep(b.Second, b.Op(2, 1), b.Patience); res.Outcome != runbook.OutcomeDone {
		b.broken("the second executor ends %s: %v", res.Outcome, res.Err)
	}
	b.unchanged(before, "resuming")
	return b.err
}

func doneNamesEpoch(b *bench) error {
	b.mustDo(b.Effect, b.Op(5, 0))
	for _, epoch := range []draas.Epoch{4, 6} {
		b.expectNotYes(b.Effect, b.Op(epoch, 0))
	}
	b.expectNotYes(b.Effect, b.Op(5, 1))
	return b.err
}

func epochZero(b *bench) error {
	before := b.Snapshot()
	if err := b.do(b.Effect, b.Op(0, 0), b.Short); err == nil {
		b.broken("Do at epoch 0 succeeded")
	}
	b.unchanged(before, "Do at epoch 0")
	return b.err
}

func laterReplaces(b *bench) error {
	b.mustDo(b.Effect, b.Op(1, 0))
	b.mustDo(b.Second, b.Op(2, 1))
	b.expectNotYes(b.Effect, b.Op(1, 0))
	b.mustDo(b.Effect, b.Op(7, 0)) // epochs may be skipped
	return b.err
}

func laterSameSite(b *bench) error {
	b.mustDo(b.Effect, b.Op(1, 0))
	b.mustDo(b.Effect, b.Op(2, 0))
	b.expectNotYes(b.Effect, b.Op(1, 0))
	return b.err
}

func staleRefused(b *bench) error {
	b.mustDo(b.Effect, b.Op(6, 1))
	b.refused(b.Effect, b.Op(5, 0), draas.ErrStaleEpoch)
	b.refused(b.Second, b.Op(5, 0), draas.ErrStaleEpoch)
	b.refused(b.Second, b.Op(5, 1), draas.ErrStaleEpoch)
	b.expect(b.Effect, b.Op(6, 1), runbook.Yes)
	if res := b.runStep(b.Second, b.Op(5, 0), b.Patience); res.Outcome != runbook.OutcomeRefused {
		b.broken("a step at an older epoch ends %s, want refused", res.Outcome)
	}
	return b.err
}

func oneSite(b *bench) error {
	b.mustDo(b.Effect, b.Op(6, 1))
	before := b.Snapshot()
	if err := b.do(b.Second, b.Op(6, 0), b.Short); err == nil {
		b.broken("one epoch was moved to two sites")
	}
	b.unchanged(before, "a second site at one epoch")
	return b.err
}

func staleGeneration(b *bench) error {
	newer := b.Op(draas.EpochOf(1, 2), 1)
	b.mustDo(b.Effect, b.Op(8, 0))
	b.mustDo(b.Effect, newer)
	b.refused(b.Second, b.Op(9, 0), draas.ErrStaleEpoch)
	b.expect(b.Second, newer, runbook.Yes)
	return b.err
}

// turned is the operation at a turn of its epoch.
func turned(op runbook.Op, turn uint64) runbook.Op {
	op.Token.Turn = turn
	return op
}

func laterTurn(b *bench) error {
	b.mustDo(b.Effect, b.Op(6, 1))
	b.mustDo(b.Effect, turned(b.Op(6, 0), 1))
	b.expectNotYes(b.Effect, b.Op(6, 1))
	before := b.Snapshot()
	b.mustDo(b.Effect, turned(b.Op(6, 0), 1))
	b.mustDo(b.Second, turned(b.Op(6, 0), 1))
	b.unchanged(before, "the same turn again")
	b.mustDo(b.Effect, turned(b.Op(6, 1), 3)) // turns may be skipped
	b.expectNotYes(b.Effect, turned(b.Op(6, 1), 2))
	b.mustDo(b.Second, b.Op(7, 0))
	b.expectNotYes(b.Second, turned(b.Op(6, 1), 3))
	return b.err
}

func staleTurn(b *bench) error {
	b.mustDo(b.Effect, turned(b.Op(6, 1), 2))
	for _, op := range []runbook.Op{b.Op(6, 1), b.Op(6, 0), turned(b.Op(6, 0), 1), turned(b.Op(5, 0), 9)} {
		b.refused(b.Effect, op, draas.ErrStaleEpoch)
		b.refused(b.Second, op, draas.ErrStaleEpoch)
	}
	before := b.Snapshot()
	if err := b.do(b.Second, turned(b.Op(6, 0), 2), b.Short); err == nil {
		b.broken("one turn was given to two sites")
	}
	b.unchanged(before, "a second site at one turn")
	b.expect(b.Effect, turned(b.Op(6, 1), 2), runbook.Yes)
	return b.err
}

func endedContext(b *bench) error {
	b.mustDo(b.Effect, b.Op(1, 0))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a, _, err := b.Effect.Done(ctx, b.Op(1, 0))
	if a == runbook.No || err != nil && a != runbook.Unknown {
		b.broken("Done with an ended context = %v, %v", a, err)
	}
	// Do may or may not have begun: what counts is that Done tells.
	before := b.Snapshot()
	if err := b.Effect.Do(ctx, b.Op(2, 1)); err == nil {
		b.expect(b.Effect, b.Op(2, 1), runbook.Yes)
	} else if b.Snapshot() == before {
		b.expectNotYes(b.Effect, b.Op(2, 1))
	}
	return b.err
}

func releaseTerminal(b *bench) error {
	op := b.Op(5, 0)
	b.mustDo(b.Effect, op)
	for range 2 { // idempotent
		if err := b.release(b.Effect, op); err != nil {
			b.broken("Release: %v", err)
		}
	}
	b.expectNotYes(b.Effect, op)
	b.refused(b.Effect, op, runbook.ErrReleased, draas.ErrStaleEpoch)
	if res := b.runStep(b.Effect, op, b.Patience); res.Outcome != runbook.OutcomeRefused {
		b.broken("a released step ends %s, want refused", res.Outcome)
	}
	return b.err
}

func releaseFirst(b *bench) error {
	op := b.Op(5, 0)
	before := b.Snapshot()
	if err := b.release(b.Effect, op); err != nil {
		b.broken("Release before Do: %v", err)
	}
	b.unchanged(before, "Release of what was never done")
	b.refused(b.Effect, op, runbook.ErrReleased, draas.ErrStaleEpoch)
	return b.err
}

func releaseOld(b *bench) error {
	b.mustDo(b.Effect, b.Op(5, 0))
	b.mustDo(b.Second, b.Op(6, 1))
	before := b.Snapshot()
	if err := b.release(b.Effect, b.Op(5, 0)); err != nil {
		b.broken("Release: %v", err)
	}
	b.unchanged(before, "Release of an older epoch")
	b.expect(b.Second, b.Op(6, 1), runbook.Yes)
	b.expect(b.Effect, b.Op(6, 1), runbook.Yes)
	return b.err
}

func doAfterRelease(b *bench) error {
	b.mustDo(b.Effect, b.Op(5, 0))
	if err := b.release(b.Effect, b.Op(5, 0)); err != nil {
		b.broken("Release: %v", err)
	}
	b.mustDo(b.Effect, b.Op(6, 0))
	return b.err
}

// raceRounds bounds the race: a wrong check-then-act shows in a few.
const raceRounds = 12

func race(b *bench) error {
	for round := range draas.Epoch(raceRounds) {
		low, high := b.Op(2*round+1, 0), b.Op(2*round+2, 1)
		var wg sync.WaitGroup
		var lowErr, highErr error
		wg.Go(func() { lowErr = b.do(b.Effect, low, b.Patience) })
		wg.Go(func() { highErr = b.do(b.Second, high, b.Patience) })
		wg.Wait()
		if highErr != nil {
			b.broken("Do(%v) in a race: %v", high.Token, highErr)
		}
		b.expect(b.Second, high, runbook.Yes)
		b.expectNotYes(b.Effect, low) // whatever lowErr says: it came first or was refused
		if b.err != nil {
			b.broken("(lower epoch: %v)", lowErr)
			break
		}
	}
	return b.err
}

func lostRequest(b *bench) error {
	b.mustDo(b.Effect, b.Op(1, 0))
	before := b.Snapshot()
	op := b.Op(2, 1)
	heal := b.Inject(LoseRequest)
	if err := b.do(b.Effect, op, b.Short); err == nil {
		b.broken("Do succeeded, and its request was lost")
	}
	if a := b.done(b.Effect, op, b.Short); a != runbook.Unknown {
		b.broken("Done without a way to the receiver = %v, want unknown", a)
	}
	if res := b.runStep(b.Effect, op, b.Short); res.Outcome != runbook.OutcomeUnknown || res.Err == nil {
		b.broken("the step ends %s (%v), want unknown with an error", res.Outcome, res.Err)
	}
	b.unchanged(before, "a lost request")
	heal()
	b.expect(b.Effect, op, runbook.No)
	b.finish(op)
	return b.err
}

func lostAnswer(b *bench) error {
	op := b.Op(2, 1)
	heal := b.Inject(LoseAnswer)
	// On a machine that stands still the time may end before the request goes
	// out: who looks and sees nothing asks again, as a daemon does.
	for end := time.Now().Add(b.Patience); b.err == nil && time.Now().Before(end); {
		if err := b.do(b.Effect, op, b.Short); err == nil {
			b.broken("Do succeeded, and its answer was lost")
		}
		if b.done(b.Second, op, b.Patience) == runbook.Yes {
			break
		}
	}
	heal()
	b.expect(b.Effect, op, runbook.Yes)
	b.expect(b.Second, op, runbook.Yes)
	before := b.Snapshot()
	b.finish(op)
	b.unchanged(before, "resuming after a lost answer")
	return b.err
}

func lateRequest(b *bench) error {
	low, high := b.Op(5, 0), b.Op(6, 1)
	heal := b.Inject(ApplyLate)
	if err := b.do(b.Effect, low, b.Short); err == nil {
		b.broken("Do succeeded before it was applied")
	}
	b.mustDo(b.Second, high)
	before := b.Snapshot()
	heal() // delivers it
	if b.Effect.Promise().CompareAndSet == runbook.None {
		// Nothing stopped it; reading back must tell.
		if b.Snapshot() != before {
			b.expectNotYes(b.Second, high)
		}
		return b.err
	}
	b.unchanged(before, "a late request")
	b.expect(b.Second, high, runbook.Yes)
	b.expectNotYes(b.Effect, low)
	return b.err
}

func refusal(b *bench) error {
	op := b.Op(2, 1)
	before := b.Snapshot()
	heal := b.Inject(Refuse)
	if err := b.do(b.Effect, op, b.Short); err == nil {
		b.broken("Do succeeded, and the receiver refused")
	}
	b.expectNotYes(b.Effect, op)
	if res := b.runStep(b.Effect, op, b.Patience); res.Outcome != runbook.OutcomeFailed || res.Err == nil {
		b.broken("the step ends %s (%v), want failed with an error", res.Outcome, res.Err)
	}
	b.unchanged(before, "a refused request")
	heal()
	b.finish(op)
	return b.err
}

func blind(b *bench) error {
	op := b.Op(2, 1)
	b.mustDo(b.Effect, op)
	heal := b.Inject(Blind)
	for _, asked := range []runbook.Op{op, b.Op(3, 0)} {
		if a := b.done(b.Effect, asked, b.Short); a != runbook.Unknown {
			b.broken("Done(%v) without sight = %v, want unknown", asked.Token, a)
		}
	}
	heal()
	b.expect(b.Effect, op, runbook.Yes)
	return b.err
}

// finish runs the step again after the fault: it must end done.
func (b *bench) finish(op runbook.Op) {
	if res := b.runStep(b.Effect, op, b.Patience); res.Outcome != runbook.OutcomeDone {
		b.broken("after the fault the step ends %s: %v", res.Outcome, res.Err)
	}
	b.expect(b.Effect, op, runbook.Yes)
}
