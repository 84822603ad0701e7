package dns

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Bounds of one Do, beside its time.
const (
	maxTries    = 16                    // in a race each is lost to an epoch below the own one
	maxFailures = 4                     // of the service, in a row
	maxSame     = 3                     // changes that the service says there were, and that cannot be read
	firstPause  = 50 * time.Millisecond // before the first repetition; doubled
	lastPause   = 2 * time.Second
)

// mover is one Do.
type mover struct {
	*Hosted
	op     runbook.Op
	name   Name
	target Target

	last     error // of the try before
	told     error // what the service said last, before it did not answer
	was      string
	failures int
	same     int
	cut      bool // a request was not answered, and another may not be sent
}

// run reads, decides and sends. Where the service compares nothing, it passes
// the gate in between: what was read before is read again.
func (m *mover) run(ctx context.Context) error {
	if m.cfg.Gate == nil {
		return m.repeat(ctx, func(ctx context.Context, request func(context.Context) error) error {
			ctx, cancel := context.WithTimeout(ctx, m.cfg.Request)
			defer cancel()
			return request(ctx)
		})
	}
	// A look costs nothing, and may save the wait. What is already there at
	// this token was sent after a wait.
	held, err := m.read(ctx, m.name)
	if err == nil {
		var done bool
		if done, err = m.judge(held); done {
			return nil
		}
	}
	if _, patient := again(err); err != nil && !patient {
		return err
	}
	pass, err := m.cfg.Gate.Enter(ctx, m.op)
	if err != nil {
		return err
	}
	defer pass.Leave()
	return m.repeat(ctx, func(ctx context.Context, request func(context.Context) error) error {
		return pass.Send(ctx, func(ctx context.Context) (bool, error) {
			ctx, cancel := context.WithTimeout(ctx, m.cfg.Request)
			defer cancel()
			err := request(ctx)
			m.cut = !answeredBy(err)
			return !m.cut, err
		})
	})
}

// answeredBy reports whether an error is a service's word that nothing of the
// request comes later.
func answeredBy(err error) bool {
	var s *ServiceError
	return err == nil || errors.As(err, &s) && !errors.Is(err, ErrUnanswered) && !errors.Is(err, ErrDown)
}

// repeat tries until the records are seen or acknowledged to be the
// operation's, or there is a reason to stop. A request that was not answered is
// read back like any other: nothing is assumed of it.
func (m *mover) repeat(ctx context.Context, send Send) error {
	pause := firstPause
	for range maxTries {
		done, err := m.try(ctx, send)
		if done || err != nil {
			return err
		}
		after, _ := again(m.last)
		after = max(after, pause)
		if end, ok := ctx.Deadline(); ok && time.Until(end) < after {
			return fmt.Errorf("no time to wait %v and try again: %w", after, errors.Join(m.last, m.told))
		}
		if err := wait(ctx, after); err != nil {
			return errors.Join(err, m.last, m.told)
		}
		pause = min(2*pause, lastPause)
	}
	return fmt.Errorf("gave up after %d tries: %w", maxTries, m.last)
}

// try makes one attempt. It returns false without an error when another one
// may help; m.last then says why.
func (m *mover) try(ctx context.Context, send Send) (done bool, err error) {
	held, err := m.read(ctx, m.name)
	if err != nil {
		return false, m.bear(err)
	}
	if done, err := m.judge(held); done || err != nil {
		return done, err
	}
	if m.cut {
		return false, fmt.Errorf("not applied so far, and sent again only later: %w", m.last)
	}
	if err := m.unchanged(held); err != nil {
		return false, err
	}
	to := Decision{Token: m.op.Token, Site: m.op.To}
	change := Change{Name: m.name, Target: m.target, Epoch: EpochText(to)}
	if m.cfg.CompareAndSet == runbook.Strong && len(held.Epochs) > 0 {
		change.Epoch = NextEpochText(held.Epochs[0], to)
	}
	ref, err := m.cfg.Store.Replace(ctx, send, held, change)
	if err != nil {
		return false, m.bear(err)
	}
	m.noteRef(m.op, ref)
	return true, nil
}

// judge tells whether there is nothing left to do, or why nothing may be done.
func (m *mover) judge(held Held) (done bool, err error) {
	d, err := held.decision(m.name.Name)
	if err != nil {
		return false, err
	}
	switch c := d.Token.Compare(m.op.Token); {
	case c > 0:
		return false, fmt.Errorf("the service is at %v: %w", d.Token, draas.ErrStaleEpoch)
	case c == 0 && d.Site != m.op.To:
		return false, fmt.Errorf("%v was given to %s, not to %s", m.op.Token, d.Site, m.op.To)
	case held.look(m.expected(m.op, m.target)).State == Agrees:
		return true, nil
	case m.target.CNAME != "" && len(held.Others) > 0:
		return false, fmt.Errorf("%s has records of type %v, and a CNAME cannot stand beside them: %w; move one of them",
			m.name.Name, held.Others, ErrForeign)
	}
	return false, nil
}

// bear keeps an error after which another try may help, and returns others.
func (m *mover) bear(err error) error {
	_, patient := again(err)
	switch {
	case !patient:
		return errors.Join(err, m.last)
	case errors.Is(err, ErrThrottled):
	case errors.Is(err, ErrDown), errors.Is(err, ErrUnanswered), errors.Is(err, ErrLookup):
		if m.failures++; m.failures >= maxFailures {
			return err
		}
	}
	if errors.Is(err, ErrUnanswered) && m.last != nil && !errors.Is(m.last, ErrUnanswered) {
		m.told = m.last
	}
	m.last = err
	return nil
}

// unchanged notices a service that says that the records have changed, and
// still tells the same ones.
func (m *mover) unchanged(held Held) error {
	same := m.was == held.text()
	m.was = held.text()
	switch {
	case !errors.Is(m.last, ErrMoved) || !same:
		m.same = 0
	default:
		if m.same++; m.same >= maxSame {
			return fmt.Errorf("the service says that the records have changed, and still tells %q: %w", held.text(), m.last)
		}
	}
	return nil
}
