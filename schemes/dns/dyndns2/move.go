package dyndns2

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// move is one Do that has its turn.
type move struct {
	*Effect
	op     runbook.Op
	name   dns.Name
	target dns.Target
}

func (m move) wrap(err error) error {
	return fmt.Errorf("move %s to %v: %w", m.name.Name, m.op.Token, err)
}

func (m move) order() order { return orderOf(m.name, m.target, m.op) }

func orderOf(n dns.Name, t dns.Target, op runbook.Op) order {
	return order{host: hostOf(n.Name), values: myIP(addresses(t)), token: op.Token}
}

// run reads what the authorities answer, and makes a request if it is
// something else and the account lets it.
func (m move) run(ctx context.Context, pass *dns.Pass) error {
	looks := m.askAll(ctx, m.name, m.target)
	switch s := sum(looks); {
	case s.foreign != "":
		return fmt.Errorf("%s: %w", s.foreign, ErrForeign)
	case s.heard == 0:
		return fmt.Errorf("%w: %s", ErrLookup, evidence(m.cfg.Authorities, looks))
	case s.differ == 0:
		return nil
	}
	login, err := ReadCredentials(m.cfg.CredentialsFile)
	if err != nil {
		return err
	}
	told, err := m.account.may(m.order(), login.state, m.cfg.Lag, m.cfg.Now())
	if told || err != nil {
		return err
	}
	return pass.Send(ctx, func(ctx context.Context) (bool, error) {
		r, sent, err := m.client.update(ctx, m.name.Name, addresses(m.target), login)
		switch {
		case errors.Is(err, ErrRedirected):
			// Nobody carried it out; each try takes the password there.
			return true, m.account.refuse(m.order(), err, login.state)
		case err != nil && !sent:
			return true, fmt.Errorf("ask the service: %w: %w", ErrUnsent, err)
		case err != nil:
			return false, fmt.Errorf("ask the service: %w: %w", ErrUnanswered, err)
		}
		return m.heed(r, login)
	})
}

// heed does as the service says. answered is false when its answer leaves open
// what became of the request.
func (m move) heed(r reply, login Credentials) (answered bool, err error) {
	a, badAnswer := parseAnswer(r.body)
	o, now := m.order(), m.cfg.Now()
	known := badAnswer == nil && (advice[a.code] != "" || a.code == codeFatal || a.code == codeDNSError)
	switch {
	case known: // with whatever status: No-IP says badauth with 401
		return true, m.account.failure(o, a.code, login.state, now)
	case r.status >= http.StatusInternalServerError:
		return false, fmt.Errorf("HTTP status %d: %w", r.status, ErrUnanswered)
	case r.status == http.StatusTooManyRequests:
		return true, fmt.Errorf("HTTP status %d: %w", r.status, m.account.failure(o, codeFatal, login.state, now))
	case r.status == http.StatusUnauthorized || r.status == http.StatusForbidden:
		return true, fmt.Errorf("HTTP status %d: %w", r.status, m.account.failure(o, codeBadAuth, login.state, now))
	case r.status != http.StatusOK:
		return true, m.account.refuse(o, fmt.Errorf("HTTP status %d", r.status), login.state)
	case badAnswer != nil:
		return true, m.account.refuse(o, fmt.Errorf("the answer is %w", badAnswer), login.state)
	case a.code != codeGood && a.code != codeNoChange:
		if login.in(a.code) {
			return true, m.account.refuse(o, errors.New("the answer is no return code"), login.state)
		}
		return true, m.account.failure(o, a.code, login.state, now)
	}
	if other, ok := a.other(addresses(m.target)); ok {
		if other.IsLoopback() { // Dyn's way to say that it has ignored the request
			return true, m.account.failure(o, codeBadAgent, login.state, now)
		}
		return true, m.account.refuse(o, fmt.Errorf("the service says that the name leads to %s, and %s was asked for: see its settings of the host", other, o.values), login.state)
	}
	return true, m.account.success(o, a.code, login.state, now)
}
