package hybrid

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/runbook/effecttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// compose makes the hybrid of two effects, which must be possible.
func compose(t testing.TB, dns, frontend runbook.Effect) *Effect {
	t.Helper()
	e, err := New(Config{Halves: []Half{{Name: "dns", Effect: dns}, {Name: "frontend", Effect: frontend}}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestContract(t *testing.T) {
	effecttest.Run(t, func(t testing.TB) effecttest.Harness {
		dns, front := effecttest.FakeHarness(t), effecttest.FakeHarness(t)
		return effecttest.Harness{
			Effect: compose(t, dns.Effect, front.Effect), Second: compose(t, dns.Second, front.Second), Op: effecttest.SampleOp,
			Snapshot: func() string { return dns.Snapshot() + front.Snapshot() },
			Inject: func(f effecttest.Fault) func() {
				a, b := dns.Inject(f), front.Inject(f)
				return func() { a(); b() }
			},
			Faults: dns.Faults,
		}
	})
}

// What one half meets alone must break no promise of the whole: it is made good
// by the other, or the whole does not claim to be in force.
func TestContractWithOneHalfInFault(t *testing.T) {
	for half := range 2 {
		failed := effecttest.Failures(t, func(t testing.TB) effecttest.Harness {
			two := [2]effecttest.Harness{effecttest.FakeHarness(t), effecttest.FakeHarness(t)}
			return effecttest.Harness{
				Effect: compose(t, two[0].Effect, two[1].Effect), Second: compose(t, two[0].Second, two[1].Second), Op: effecttest.SampleOp,
				Snapshot: func() string { return two[0].Snapshot() + two[1].Snapshot() },
				Inject:   two[half].Inject,
				Faults:   two[half].Faults,
			}
		})
		// These are masked: that is what two halves are for.
		for _, name := range []string{"a lost request", "a lost answer is found by Done", "a refusal", "what cannot be seen is unknown", "a late request does not undo a later epoch"} {
			if failed[name] == nil {
				t.Errorf("half %d: %q is not masked by the other", half, name)
			}
			delete(failed, name)
		}
		for name, err := range failed {
			t.Errorf("half %d: %s: %v", half, name, err)
		}
	}
}

// part is a half that does as it is told.
type part struct {
	promise runbook.Promise
	answer  runbook.Answer
	lookErr error
	do      func(context.Context) error
	release error
	did     atomic.Int32
}

func (p *part) Done(ctx context.Context, _ runbook.Op) (runbook.Answer, string, error) {
	if p.lookErr != nil {
		return runbook.Unknown, "", p.lookErr
	}
	if p.answer == runbook.Unknown {
		<-ctx.Done()
		return runbook.Unknown, "", ctx.Err()
	}
	return p.answer, "seen", nil
}

func (p *part) Do(ctx context.Context, _ runbook.Op) error {
	p.did.Add(1)
	if p.do == nil {
		return nil
	}
	return p.do(ctx)
}

func (p *part) Release(context.Context, runbook.Op) error { return p.release }

func (p *part) Promise() runbook.Promise {
	if p.promise == (runbook.Promise{}) {
		return runbook.Promise{CompareAndSet: runbook.Strong, Worst: time.Second}
	}
	return p.promise
}

var errBroken = errors.New("broken")

func fails(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

// All answers of two halves, before anything was tried, after a try that the
// second half failed, and after one that it did not fail and was then seen in
// force.
func TestAnswers(t *testing.T) {
	const un, no, yes = runbook.Unknown, runbook.No, runbook.Yes
	for _, tt := range []struct {
		dns, front          runbook.Answer
		fresh, failed, seen runbook.Answer
		missing             string // after the failed try
	}{
		{yes, yes, yes, yes, yes, ""},
		{yes, no, no, yes, no, "without frontend: seen (broken)"},
		{yes, un, un, yes, un, "without frontend: context deadline exceeded"},
		{no, yes, no, yes, no, "without dns: seen"},
		{no, no, no, no, no, "without dns: seen"},
		{no, un, no, no, no, "without dns: seen"},
		{un, yes, un, yes, un, "without dns: context deadline exceeded"},
		{un, no, no, no, no, "without dns: context deadline exceeded"},
		{un, un, un, un, un, "without dns: context deadline exceeded"},
	} {
		for when, want := range map[string]runbook.Answer{"fresh": tt.fresh, "failed": tt.failed, "seen": tt.seen} {
			t.Run(fmt.Sprintf("%v %v %s", tt.dns, tt.front, when), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dns, front := &part{}, &part{}
					e, op := compose(t, dns, front), effecttest.SampleOp(3, 1)
					if when != "fresh" {
						if when == "failed" {
							front.do = fails(errBroken)
						}
						if err := e.Do(t.Context(), op); err != nil {
							t.Fatal(err)
						}
					}
					if when == "seen" {
						dns.answer, front.answer = runbook.Yes, runbook.Yes
						if answer, _, _ := e.Done(t.Context(), op); answer != runbook.Yes {
							t.Fatalf("seen %v", answer)
						}
					}
					dns.answer, front.answer = tt.dns, tt.front
					answer, evidence, err := e.Done(t.Context(), op)
					if answer != want || (err != nil) != (want == runbook.Unknown) || evidence == "" {
						t.Errorf("%v %q %v, want %v", answer, evidence, err, want)
					}
					if when == "failed" && !strings.HasPrefix(evidence, tt.missing) {
						t.Errorf("evidence %q, want %q first", evidence, tt.missing)
					}
					if later, _, _ := e.Done(t.Context(), effecttest.SampleOp(4, 1)); when == "failed" && later == runbook.Yes && tt.missing != "" {
						t.Error("what was tried at one epoch excuses another")
					}
				})
			})
		}
	}
}

// A plan's step that one half serves is done only after the other was tried,
// and says what is missing.
func TestTheOtherHalfIsTried(t *testing.T) {
	dns, front := &part{answer: runbook.No, do: fails(errBroken)}, &part{answer: runbook.Yes}
	res := runbook.RunStep(t.Context(), compose(t, dns, front), effecttest.SampleOp(3, 1))
	if res.Outcome != runbook.OutcomeDone || dns.did.Load() != 1 {
		t.Errorf("%+v after %d tries", res, dns.did.Load())
	}
	if want := "without dns: seen (broken); frontend: seen"; res.Evidence != want {
		t.Errorf("evidence %q, want %q", res.Evidence, want)
	}
	if Missing(res.Evidence) != res.Evidence || Missing("dns: seen; frontend: seen") != "" {
		t.Error("what is missing is not told from what is not")
	}
}

func TestBothBroken(t *testing.T) {
	dns, front := &part{answer: runbook.No, do: fails(errBroken)}, &part{answer: runbook.No, do: fails(context.DeadlineExceeded)}
	e := compose(t, dns, front)
	err := e.Do(t.Context(), effecttest.SampleOp(3, 1))
	if !errors.Is(err, errBroken) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("lost what the halves said: %v", err)
	}
	if want := "dns: broken\nfrontend: context deadline exceeded"; err == nil || err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	dns.lookErr, front.lookErr = errBroken, errBroken
	if _, _, err := e.Done(t.Context(), effecttest.SampleOp(3, 1)); !errors.Is(err, errBroken) {
		t.Errorf("lost why nothing could be seen: %v", err)
	}
}

// A later token, or a release, that one half knows of is final for all.
func TestOneHalfKnowsBetter(t *testing.T) {
	for _, sentinel := range []error{draas.ErrStaleEpoch, runbook.ErrReleased} {
		for half := range 2 {
			halves := [2]*part{{answer: runbook.No}, {answer: runbook.Yes}}
			halves[half].do = fails(fmt.Errorf("no: %w", sentinel))
			// The other hangs: it must not hide what this one knows.
			halves[1-half].do = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			e := compose(t, halves[0], halves[1])
			if err := e.Do(t.Context(), effecttest.SampleOp(3, 1)); !errors.Is(err, sentinel) {
				t.Errorf("half %d: %v, want %v", half, err, sentinel)
			}
			if answer, _, _ := e.Done(t.Context(), effecttest.SampleOp(3, 1)); answer == runbook.Yes {
				t.Errorf("half %d: a token that is over is in force", half)
			}
		}
	}
}

// A half that was in force and is no more may have been moved on: that is no
// failure which the other could make good.
func TestMovedOnIsNotMissing(t *testing.T) {
	first, second := effecttest.NewReceiver(), effecttest.NewReceiver()
	dns, front := effecttest.NewFake(first), effecttest.NewFake(second)
	e := compose(t, dns, front)
	if res := runbook.RunStep(t.Context(), e, effecttest.SampleOp(3, 1)); res.Outcome != runbook.OutcomeDone {
		t.Fatalf("%+v", res)
	}
	// The successor reaches one of both.
	if err := effecttest.NewFake(first).Do(t.Context(), effecttest.SampleOp(4, 0)); err != nil {
		t.Fatal(err)
	}
	if answer, evidence, _ := e.Done(t.Context(), effecttest.SampleOp(3, 1)); answer != runbook.No {
		t.Errorf("%v %q of a token that is over", answer, evidence)
	}
	if res := runbook.RunStep(t.Context(), e, effecttest.SampleOp(3, 1)); res.Outcome != runbook.OutcomeRefused {
		t.Errorf("the old step ends %+v", res)
	}
	// An old try is not taken up again by a late caller.
	if answer, _, _ := e.Done(t.Context(), effecttest.SampleOp(2, 0)); answer == runbook.Yes {
		t.Error("an older token is in force")
	}
}

// A half that hangs has its patience, and no more, once the other is done.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		dns, front := &part{answer: runbook.Unknown, do: hangs, promise: runbook.Promise{CompareAndSet: runbook.PerNode, Worst: 7 * time.Second}}, &part{answer: runbook.Yes}
		e := compose(t, dns, front)
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := e.Do(ctx, effecttest.SampleOp(3, 1)); err != nil || time.Since(start) != 7*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		start = time.Now()
		answer, evidence, err := e.Done(ctx, effecttest.SampleOp(3, 1))
		if answer != runbook.Yes || err != nil || time.Since(start) != 7*time.Second || !strings.HasPrefix(evidence, "without dns: ") {
			t.Errorf("%v %q %v after %s", answer, evidence, err, time.Since(start))
		}
		// While none is done, both may take as long as the caller lets them.
		front.do = func(ctx context.Context) error {
			select {
			case <-time.After(20 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		start = time.Now()
		if err := e.Do(ctx, effecttest.SampleOp(4, 1)); err != nil || time.Since(start) != 20*time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		}
	})
}

// A half that the caller cut short was not given its time: it is missing, and
// not excused.
func TestCutShortIsNoTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &part{answer: runbook.No, do: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		e := compose(t, dns, &part{answer: runbook.Yes})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := e.Do(ctx, effecttest.SampleOp(3, 1)); err != nil {
			t.Fatal(err)
		}
		if answer, evidence, _ := e.Done(t.Context(), effecttest.SampleOp(3, 1)); answer != runbook.No {
			t.Errorf("%v %q", answer, evidence)
		}
	})
}

func TestReleaseIsOfAll(t *testing.T) {
	dns, front := &part{answer: runbook.Yes, release: errBroken}, &part{answer: runbook.Yes}
	e, op := compose(t, dns, front), effecttest.SampleOp(3, 1)
	if err := e.Release(t.Context(), op); !errors.Is(err, errBroken) || !strings.HasPrefix(err.Error(), "dns: ") {
		t.Errorf("release: %v", err)
	}
	// It is terminal all the same.
	if err := e.Do(t.Context(), op); !errors.Is(err, runbook.ErrReleased) || dns.did.Load()+front.did.Load() > 0 {
		t.Errorf("do after a release: %v", err)
	}
	if answer, evidence, _ := e.Done(t.Context(), op); answer != runbook.No || !strings.HasSuffix(evidence, "; released") {
		t.Errorf("done after a release: %v %q", answer, evidence)
	}
}

func TestPromise(t *testing.T) {
	strong := runbook.Promise{CompareAndSet: runbook.Strong, Worst: 2 * time.Second}
	node := runbook.Promise{CompareAndSet: runbook.PerNode, Worst: time.Second}
	none := runbook.Promise{CompareAndSet: runbook.None, Worst: time.Minute}
	for _, tt := range []struct{ a, b, want runbook.Promise }{
		{strong, strong, strong},
		{strong, node, runbook.Promise{CompareAndSet: runbook.PerNode, Worst: 2 * time.Second}},
		{none, strong, none},
		{node, none, none},
	} {
		if got := compose(t, &part{promise: tt.a}, &part{promise: tt.b}).Promise(); got != tt.want {
			t.Errorf("%v and %v promise %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestNew(t *testing.T) {
	a, b := Half{Name: "dns", Effect: &part{}}, Half{Name: "frontend", Effect: &part{}}
	for what, halves := range map[string][]Half{
		"one half": {a}, "twice the same": {a, a}, "no effect": {a, {Name: "x"}}, "no name": {a, {Effect: &part{}}},
		"negative patience": {a, {Name: "x", Effect: &part{}, Patience: -1}},
	} {
		if _, err := New(Config{Halves: halves}); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	e, err := New(Config{Halves: []Half{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	halves := e.Halves()
	if len(halves) != 2 || halves[0].Name != "dns" || halves[1].Patience != time.Second {
		t.Errorf("halves %+v", halves)
	}
	halves[0].Name = "mine"
	if e.Halves()[0].Name != "dns" {
		t.Error("who asks for the halves can change them")
	}
	if got := StepOf("hybrid", "dns"); got != "hybrid/dns" {
		t.Errorf("step %q", got)
	}
}

// What a late caller tries at an older token replaces nothing that is known of
// the latest.
func TestLateTry(t *testing.T) {
	dns, front := &part{answer: runbook.No, do: fails(errBroken)}, &part{answer: runbook.Yes}
	e := compose(t, dns, front)
	for _, epoch := range []draas.Epoch{4, 3} {
		if err := e.Do(t.Context(), effecttest.SampleOp(epoch, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if answer, evidence, _ := e.Done(t.Context(), effecttest.SampleOp(4, 1)); answer != runbook.Yes {
		t.Errorf("%v %q", answer, evidence)
	}
}
