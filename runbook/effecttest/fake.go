package effecttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Receiver is what fakes act on: a place that holds, per service, the latest
// operation it accepted.
type Receiver struct {
	mu    sync.Mutex
	state map[draas.ServiceID]inForce
}

type inForce struct {
	token  runbook.Token
	site   draas.SiteID
	writes int
}

// NewReceiver returns a receiver that has seen nothing.
func NewReceiver() *Receiver { return &Receiver{state: make(map[draas.ServiceID]inForce)} }

// Active is the site and token that the receiver holds for the service.
func (r *Receiver) Active(s draas.ServiceID) (draas.SiteID, runbook.Token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state[s].site, r.state[s].token
}

// Snapshot describes all that the receiver holds for the service, the number
// of writes included.
func (r *Receiver) Snapshot(s draas.ServiceID) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return fmt.Sprintf("%+v", r.state[s])
}

func (r *Receiver) apply(op runbook.Op) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.state[op.Service]
	switch c := op.Token.Compare(held.token); {
	case c < 0:
		return fmt.Errorf("receiver has seen %v: %w", held.token, draas.ErrStaleEpoch)
	case c == 0 && held.site != op.To:
		return fmt.Errorf("receiver has %v at %s, not at %s", held.token, held.site, op.To)
	case c == 0:
		return nil
	}
	r.state[op.Service] = inForce{token: op.Token, site: op.To, writes: held.writes + 1}
	return nil
}

// Fake is an effect in memory, with one receiver behind it and knobs for
// faults. Its promise is Strong.
type Fake struct {
	receiver *Receiver

	mu       sync.Mutex
	fault    Fault
	held     []runbook.Op // not delivered yet, under ApplyLate
	released map[draas.ServiceID]runbook.Token
}

var _ runbook.Effect = (*Fake)(nil)

// NewFake returns an executor on the receiver.
func NewFake(r *Receiver) *Fake {
	return &Fake{receiver: r, released: make(map[draas.ServiceID]runbook.Token)}
}

// Inject makes every call meet the fault until heal is called.
func (f *Fake) Inject(fault Fault) (heal func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
	return func() {
		f.mu.Lock()
		f.fault = ""
		held := f.held
		f.held = nil
		f.mu.Unlock()
		for _, op := range held {
			_ = f.receiver.apply(op) // its sender has long given up
		}
	}
}

var errFault = errors.New("injected fault")

// Promise of the fake.
func (f *Fake) Promise() runbook.Promise {
	return runbook.Promise{CompareAndSet: runbook.Strong, Worst: time.Second}
}

// Done reads the receiver.
func (f *Fake) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return runbook.Unknown, "", fmt.Errorf("read receiver: %w", err)
	}
	if f.fault == LoseRequest || f.fault == Blind {
		return runbook.Unknown, "", fmt.Errorf("read receiver: %w", errFault)
	}
	site, token := f.receiver.Active(op.Service)
	evidence := fmt.Sprintf("receiver has %v at %q", token, site)
	if token != op.Token || site != op.To {
		return runbook.No, evidence, nil
	}
	if f.gone(op) {
		return runbook.No, evidence + ", released", nil
	}
	return runbook.Yes, evidence, nil
}

// gone reports whether this executor has released the operation's token.
func (f *Fake) gone(op runbook.Op) bool {
	r, ok := f.released[op.Service]
	return ok && op.Token.Compare(r) <= 0
}

// Do writes to the receiver.
func (f *Fake) Do(ctx context.Context, op runbook.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case op.Token.Epoch == 0:
		return errors.New("epoch 0 names no activation")
	case f.gone(op):
		return fmt.Errorf("do %v: %w", op.Token, runbook.ErrReleased)
	case ctx.Err() != nil:
		return fmt.Errorf("write to receiver: %w", ctx.Err())
	}
	switch f.fault {
	case LoseRequest, Refuse:
		return fmt.Errorf("write to receiver: %w", errFault)
	case ApplyLate:
		f.held = append(f.held, op)
		return fmt.Errorf("write to receiver: %w", errFault)
	case LoseAnswer:
		_ = f.receiver.apply(op)
		return fmt.Errorf("write to receiver: %w", errFault)
	}
	return f.receiver.apply(op)
}

// Release gives the operation's token up.
func (f *Fake) Release(_ context.Context, op runbook.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.gone(op) {
		f.released[op.Service] = op.Token
	}
	return nil
}

// FakeHarness is the factory of harnesses on a fresh Receiver.
func FakeHarness(testing.TB) Harness {
	r := NewReceiver()
	f := NewFake(r)
	return Harness{
		Effect: f, Second: NewFake(r), Op: SampleOp, Turns: true,
		Snapshot: func() string { return r.Snapshot("shop") },
		Inject:   f.Inject,
		Faults:   []Fault{LoseRequest, LoseAnswer, ApplyLate, Refuse, Blind},
	}
}

// SampleOp is an operation of service "shop" that moves it to site "primary"
// (0) or "dr" (1).
func SampleOp(epoch draas.Epoch, site int) runbook.Op {
	sites := [2]draas.SiteID{"primary", "dr"}
	to, from := sites[site], sites[1-site]
	return runbook.Op{Service: "shop", Token: runbook.Token{Epoch: epoch}, Kind: runbook.Failover,
		From: from, To: to, Step: "redirect", Member: to.Member()}
}
