package runbook

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/draasd/draas"
)

// ErrReleased is returned by Do for an epoch that the executor has released:
// a release is terminal.
var ErrReleased = errors.New("released")

// Answer is what an observation found. Unknown is the zero value and is not
// No: what could not be read is never taken for absent (DESIGN.md, rule 4).
type Answer uint8

// The answers.
const (
	Unknown Answer = iota
	No
	Yes
)

var answerNames = [...]string{"unknown", "no", "yes"}

func (a Answer) String() string {
	if int(a) < len(answerNames) {
		return answerNames[a]
	}
	return fmt.Sprintf("answer(%d)", uint8(a))
}

// Op is one operation asked of an effect: a step of a plan at the plan's
// epoch. It carries all that the effect may depend on, so that any executor,
// also a restarted one, does the same.
type Op struct {
	Service draas.ServiceID   `json:"service"`
	Token   Token             `json:"token"`
	Kind    Kind              `json:"kind"`
	From    draas.SiteID      `json:"from,omitempty"`
	To      draas.SiteID      `json:"to"`
	Step    string            `json:"step"`
	Member  draas.MemberID    `json:"member"`
	Args    map[string]string `json:"args,omitempty"`
}

// Effect changes something outside the replicated log, under the epoch of a
// move. Its methods may be called from several goroutines and by several
// executors at once, before and after crashes; effecttest.Run holds every
// implementation to this contract.
//
// The context bounds each call; an implementation returns soon after it ends,
// and what it sent may then still take effect.
type Effect interface {
	// Done observes whether the operation is in force now at its epoch, with
	// what was seen as evidence. It changes nothing, neither outside nor in
	// what Do will accept. It answers No when something else is in force (an
	// older epoch, or a later one), and Unknown when it could not look, with
	// the error that hindered it. An error goes with Unknown only. After
	// Release it never answers Yes at the executor that released.
	Done(ctx context.Context, op Op) (answer Answer, evidence string, err error)

	// Do brings the operation into force. It is idempotent. It fails with
	// draas.ErrStaleEpoch when the receiver has seen a later token (as far
	// as Promise says), and with ErrReleased when this executor has released
	// the token; both are final. After any other error the operation may
	// have been applied, may be applied later, or not at all: observe.
	Do(ctx context.Context, op Op) error

	// Release gives up what Do made at the operation's token, also when Do
	// never ran. It is terminal (Do of the token fails from then on),
	// idempotent, and leaves what a later token made alone.
	Release(ctx context.Context, op Op) error

	// Promise declares what the effect's receivers guarantee.
	Promise() Promise
}

// CompareAndSet says who refuses an operation whose epoch is too old.
type CompareAndSet string

// How far an effect's receivers compare epochs.
const (
	// Strong: one receiver orders all operations (the log, a DNS update
	// with prerequisites): an older one can never win.
	Strong CompareAndSet = "strong"
	// PerNode: each receiver refuses what is older than what it has itself
	// seen; one that was cut off may take an older operation until it hears
	// of the later.
	PerNode CompareAndSet = "per-node"
	// None: receivers do not know of epochs. The executor must hold a lease
	// that a successor waits out, and the effect is read back.
	None CompareAndSet = "none"
)

// Promise is what an effect's receivers guarantee.
type Promise struct {
	CompareAndSet CompareAndSet
	// Worst is the longest that one Do followed by one Done may take before
	// it is fair to call it failed. A step's timeout must not be shorter.
	Worst time.Duration
}

// Result is how one attempt at a step ended.
type Result struct {
	Outcome  Outcome
	Evidence string
	// Err is what went wrong, also when the outcome is OutcomeDone (an
	// attempt that timed out and was applied all the same).
	Err error
}

// RunStep makes one attempt: observe, do, observe. Only an observation makes
// a step done; a Do that returned nil and could not be observed is
// OutcomeUnknown, and so is a Do that failed without a look at the result.
// The caller bounds the attempt by the context, records the result in the
// log, and tries again while Next says so. To crash anywhere in between and
// to run the step again, here or on another executor, is safe.
func RunStep(ctx context.Context, e Effect, op Op) Result {
	before, evidence, _ := e.Done(ctx, op)
	if before == Yes {
		return Result{Outcome: OutcomeDone, Evidence: evidence}
	}
	// Not known is no reason to hold back: Do is idempotent and fenced by
	// its epoch.
	doErr := e.Do(ctx, op)
	if errors.Is(doErr, draas.ErrStaleEpoch) || errors.Is(doErr, ErrReleased) {
		return Result{Outcome: OutcomeRefused, Evidence: evidence, Err: fmt.Errorf("do %s: %w", op.Step, doErr)}
	}
	after, evidence, lookErr := e.Done(ctx, op)
	res := Result{Evidence: evidence}
	if doErr != nil {
		res.Err = fmt.Errorf("do %s: %w", op.Step, doErr)
	}
	if lookErr != nil {
		res.Err = errors.Join(res.Err, fmt.Errorf("observe %s: %w", op.Step, lookErr))
	}
	switch after {
	case Yes:
		res.Outcome = OutcomeDone
	case No:
		res.Outcome = OutcomeFailed
		if res.Err == nil {
			res.Err = fmt.Errorf("do %s: accepted, but not in force: %s", op.Step, evidence)
		}
	default:
		res.Outcome = OutcomeUnknown
		if res.Err == nil {
			res.Err = fmt.Errorf("observe %s: not known", op.Step)
		}
	}
	return res
}

// ReleaseStep gives up one step of a plan that is over.
func ReleaseStep(ctx context.Context, e Effect, op Op) Result {
	if err := e.Release(ctx, op); err != nil {
		return Result{Outcome: OutcomeUnknown, Err: fmt.Errorf("release %s: %w", op.Step, err)}
	}
	return Result{Outcome: OutcomeReleased}
}
