package effecttest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

func TestFakeKeepsTheContract(t *testing.T) { Run(t, FakeHarness) }

func TestEveryCheckCanBeRun(t *testing.T) {
	for _, c := range checks {
		if !c.wanted(FakeHarness(t)) {
			t.Errorf("the fake does not run %q", c.name)
		}
	}
}

// mutant is a fake with one or more methods done wrong.
type mutant struct {
	*Fake
	meeting *meeting // of the executors on one receiver
	done    func(context.Context, runbook.Op) (runbook.Answer, string, error)
	do      func(context.Context, runbook.Op) error
	release func(context.Context, runbook.Op) error
	promise func() runbook.Promise
}

func (m *mutant) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	if m.done != nil {
		return m.done(ctx, op)
	}
	return m.Fake.Done(ctx, op)
}

func (m *mutant) Do(ctx context.Context, op runbook.Op) error {
	if m.do != nil {
		return m.do(ctx, op)
	}
	return m.Fake.Do(ctx, op)
}

func (m *mutant) Release(ctx context.Context, op runbook.Op) error {
	if m.release != nil {
		return m.release(ctx, op)
	}
	return m.Fake.Release(ctx, op)
}

func (m *mutant) Promise() runbook.Promise {
	if m.promise != nil {
		return m.promise()
	}
	return m.Fake.Promise()
}

// force writes without comparing anything.
func (r *Receiver) force(op runbook.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state[op.Service] = inForce{op.Token, op.To, r.state[op.Service].writes + 1}
}

// The suite can fail: every known way to break the contract breaks the check
// that guards it.
func TestMutantsFail(t *testing.T) {
	type doneFunc = func(context.Context, runbook.Op) (runbook.Answer, string, error)
	done := func(f func(m *mutant) doneFunc) func(*mutant) {
		return func(m *mutant) { m.done = f(m) }
	}
	tests := []struct {
		name   string
		breaks func(*mutant)
		check  string // that must fail
	}{
		{"promises nonsense", func(m *mutant) {
			m.promise = func() runbook.Promise { return runbook.Promise{CompareAndSet: "mostly", Worst: time.Second} }
		}, "the promise is declared"},
		{"has no worst time", func(m *mutant) {
			m.promise = func() runbook.Promise { return runbook.Promise{CompareAndSet: runbook.Strong} }
		}, "the promise is declared"},
		{"always done", done(func(m *mutant) doneFunc {
			return func(context.Context, runbook.Op) (runbook.Answer, string, error) { return runbook.Yes, "surely", nil }
		}), "nothing is done before it is done"},
		{"observes by doing", done(func(m *mutant) doneFunc {
			return func(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
				a, ev, err := m.Fake.Done(ctx, op)
				_ = m.receiver.apply(op)
				return a, ev, err
			}
		}), "observing changes nothing"},
		{"observing remembers the epoch", func(m *mutant) {
			var seen runbook.Token
			m.done = func(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
				if op.Token.Compare(seen) > 0 {
					seen = op.Token
				}
				return m.Fake.Done(ctx, op)
			}
			m.do = func(ctx context.Context, op runbook.Op) error {
				if op.Token.Compare(seen) < 0 {
					return draas.ErrStaleEpoch
				}
				return m.Fake.Do(ctx, op)
			}
		}, "observing changes nothing"},
		{"does nothing and says yes", func(m *mutant) {
			var last runbook.Op
			m.do = func(_ context.Context, op runbook.Op) error { last = op; return nil }
			m.done = func(_ context.Context, op runbook.Op) (runbook.Answer, string, error) {
				if last.Token == op.Token && last.To == op.To {
					return runbook.Yes, "promised", nil
				}
				return runbook.No, "not promised", nil
			}
		}, "done after Do"},
		{"writes again each time", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				if err := m.Fake.Do(ctx, op); err != nil {
					return err
				}
				m.receiver.force(op)
				return nil
			}
		}, "twice is once"},
		{"done knows only what it did itself", func(m *mutant) {
			mine := map[runbook.Token]bool{}
			m.do = func(ctx context.Context, op runbook.Op) error {
				if mine[op.Token] {
					return m.Fake.Do(ctx, op)
				}
				mine[op.Token] = true
				err := m.Fake.Do(ctx, op)
				if err == nil {
					m.receiver.force(op)
				}
				return err
			}
			m.done = func(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
				if !mine[op.Token] {
					return runbook.No, "not by me", nil
				}
				return m.Fake.Done(ctx, op)
			}
		}, "another executor finds it done"},
		{"done looks at the site only", done(func(m *mutant) doneFunc {
			return func(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
				if site, _ := m.receiver.Active(op.Service); site == op.To {
					return runbook.Yes, "the site is right", nil
				}
				return m.Fake.Done(ctx, op)
			}
		}), "done names its epoch"},
		{"done says yes to what a later epoch replaced", done(func(m *mutant) doneFunc {
			return func(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
				if _, token := m.receiver.Active(op.Service); op.Token.Compare(token) < 0 {
					return runbook.Yes, "long done", nil
				}
				return m.Fake.Done(ctx, op)
			}
		}), "a later epoch replaces"},
		{"takes epoch zero", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				if op.Token.Epoch == 0 {
					m.receiver.force(op)
					return nil
				}
				return m.Fake.Do(ctx, op)
			}
		}, "epoch zero is no activation"},
		{"skips what seems in place", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				if site, _ := m.receiver.Active(op.Service); site == op.To {
					return nil
				}
				return m.Fake.Do(ctx, op)
			}
		}, "a later epoch to the same site replaces"},
		{"takes older epochs", func(m *mutant) {
			m.do = func(_ context.Context, op runbook.Op) error { m.receiver.force(op); return nil }
		}, "an older epoch is refused"},
		{"refuses without the sentinel", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				if err := m.Fake.Do(ctx, op); err != nil {
					return errors.New("no")
				}
				return nil
			}
		}, "an older epoch is refused"},
		{"takes a second site", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				if _, token := m.receiver.Active(op.Service); token == op.Token {
					m.receiver.force(op)
					return nil
				}
				return m.Fake.Do(ctx, op)
			}
		}, "one epoch has one site"},
		{"knows no generations", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				if _, token := m.receiver.Active(op.Service); uint32(op.Token.Epoch) > uint32(token.Epoch) {
					m.receiver.force(op)
					return nil
				}
				return m.Fake.Do(ctx, op)
			}
		}, "an older generation is refused"},
		{"knows no turns", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				if _, token := m.receiver.Active(op.Service); op.Token.Epoch == token.Epoch {
					return nil
				}
				return m.Fake.Do(ctx, op)
			}
		}, "a later turn of an epoch replaces"},
		{"takes older turns", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				if _, token := m.receiver.Active(op.Service); op.Token.Epoch == token.Epoch && op.Token.Turn < token.Turn {
					m.receiver.force(op)
					return nil
				}
				return m.Fake.Do(ctx, op)
			}
		}, "an older turn is refused"},
		{"takes an error for a no", done(func(m *mutant) doneFunc {
			return func(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
				if _, _, err := m.Fake.Done(ctx, op); err != nil {
					return runbook.No, "nothing there", nil
				}
				return m.Fake.Done(ctx, op)
			}
		}), "an ended context is an unknown"},
		{"gives no evidence", done(func(m *mutant) doneFunc {
			return func(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
				a, _, err := m.Fake.Done(ctx, op)
				return a, "", err
			}
		}), "done after Do"},
		{"errs with an answer", done(func(m *mutant) doneFunc {
			return func(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
				a, ev, err := m.Fake.Done(ctx, op)
				if err != nil {
					a = runbook.No
				}
				return a, ev, err
			}
		}), "a lost request"},
		{"forgets its releases", func(m *mutant) {
			m.release = func(context.Context, runbook.Op) error { return nil }
		}, "release is terminal"},
		{"releases only once", func(m *mutant) {
			m.release = func(ctx context.Context, op runbook.Op) error {
				if m.gone(op) {
					return runbook.ErrReleased
				}
				return m.Fake.Release(ctx, op)
			}
		}, "release is terminal"},
		{"releases only what was done", func(m *mutant) {
			m.release = func(ctx context.Context, op runbook.Op) error {
				if _, token := m.receiver.Active(op.Service); token != op.Token {
					return nil
				}
				return m.Fake.Release(ctx, op)
			}
		}, "release before Do"},
		{"releases the later one too", func(m *mutant) {
			m.release = func(ctx context.Context, op runbook.Op) error {
				m.receiver.mu.Lock()
				delete(m.receiver.state, op.Service)
				m.receiver.mu.Unlock()
				return m.Fake.Release(ctx, op)
			}
		}, "release leaves a later epoch alone"},
		{"a release is for ever", func(m *mutant) {
			m.release = func(ctx context.Context, op runbook.Op) error {
				op.Token.Epoch += 100
				return m.Fake.Release(ctx, op)
			}
		}, "a later epoch after a release"},
		{"compares, then sets", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				_, token := m.receiver.Active(op.Service)
				if op.Token.Compare(token) < 0 {
					return draas.ErrStaleEpoch
				}
				m.meeting.wait()
				if op.Token.Epoch%2 == 1 { // the lower one is the slower one
					m.meeting.wait()
				}
				m.receiver.force(op)
				return nil
			}
		}, "racing executors end at the later epoch"},
		{"swallows errors", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				err := m.Fake.Do(ctx, op)
				if errors.Is(err, errFault) {
					return nil
				}
				return err
			}
		}, "a lost request"},
		{"takes a lost answer for a failure and takes it back", func(m *mutant) {
			m.do = func(ctx context.Context, op runbook.Op) error {
				err := m.Fake.Do(ctx, op)
				if errors.Is(err, errFault) {
					m.receiver.force(SampleOp(0, 0))
				}
				return err
			}
		}, "a lost answer is found by Done"},
		{"queues what it could not send", func(m *mutant) {
			var late []runbook.Op
			m.do = func(ctx context.Context, op runbook.Op) error {
				for _, l := range late {
					m.receiver.force(l)
				}
				late = nil
				err := m.Fake.Do(ctx, op)
				if errors.Is(err, errFault) {
					late = append(late, op)
				}
				return err
			}
		}, "a refusal"},
		{"remembers what it saw last", func(m *mutant) {
			last := map[runbook.Token]bool{}
			m.done = func(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
				a, ev, err := m.Fake.Done(ctx, op)
				if err != nil && last[op.Token] {
					return runbook.Yes, "cached", nil
				}
				last[op.Token] = a == runbook.Yes
				return a, ev, err
			}
		}, "what cannot be seen is unknown"},
	}
	killed := make(map[string]bool)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			failed := Failures(t, func(testing.TB) Harness { return mutantHarness(tt.breaks) })
			if failed[tt.check] == nil {
				t.Errorf("%q passed; failed were %v", tt.check, failed)
			}
		})
		killed[tt.check] = true
	}
	for _, c := range checks {
		if !killed[c.name] && c.name != "a late request does not undo a later epoch" {
			t.Errorf("no mutant fails %q", c.name)
		}
	}
}

// A receiver that takes late requests over later ones.
func TestLateMutantFails(t *testing.T) {
	failed := Failures(t, func(t testing.TB) Harness {
		h := mutantHarness(func(*mutant) {})
		inject := h.Inject
		m := h.Effect.(*mutant)
		h.Inject = func(f Fault) func() {
			heal := inject(f)
			return func() {
				held := m.held
				heal()
				for _, op := range held {
					m.receiver.force(op)
				}
			}
		}
		return h
	})
	if failed["a late request does not undo a later epoch"] == nil || len(failed) != 1 {
		t.Errorf("failed: %v", failed)
	}
}

// An effect whose receivers know of no epochs keeps the contract too, as long
// as it says so and reads back.
func TestWithoutCompareAndSet(t *testing.T) {
	Run(t, func(testing.TB) Harness {
		return mutantHarness(func(m *mutant) {
			m.promise = func() runbook.Promise {
				return runbook.Promise{CompareAndSet: runbook.None, Worst: time.Second}
			}
			m.do = func(ctx context.Context, op runbook.Op) error {
				err := m.Fake.Do(ctx, op)
				if errors.Is(err, draas.ErrStaleEpoch) {
					m.receiver.force(op)
					return nil
				}
				return err
			}
		})
	})
}

func mutantHarness(breaks func(*mutant)) Harness {
	r := NewReceiver()
	both := &meeting{}
	first, second := &mutant{Fake: NewFake(r), meeting: both}, &mutant{Fake: NewFake(r), meeting: both}
	breaks(first)
	breaks(second)
	return Harness{
		Effect: first, Second: second, Op: SampleOp, Turns: true,
		Snapshot: func() string { return r.Snapshot("shop") },
		Inject:   first.Inject,
		Faults:   []Fault{LoseRequest, LoseAnswer, ApplyLate, Refuse, Blind},
		Short:    20 * time.Millisecond,
	}
}

// meeting makes two callers wait for each other, a little.
type meeting struct {
	mu      sync.Mutex
	waiting chan struct{}
}

func (m *meeting) wait() {
	m.mu.Lock()
	if w := m.waiting; w != nil {
		m.waiting = nil
		m.mu.Unlock()
		close(w)
		return
	}
	w := make(chan struct{})
	m.waiting = w
	m.mu.Unlock()
	select {
	case <-w:
	case <-time.After(10 * time.Millisecond):
		m.mu.Lock()
		if m.waiting == w {
			m.waiting = nil
		}
		m.mu.Unlock()
	}
}
