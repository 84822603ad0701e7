package dns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas/runbook"
)

// Bounds of how often a service is asked whether a change has reached its
// servers. Route 53 allows five requests a second to an account.
const (
	firstSettle = 100 * time.Millisecond // doubled
	lastSettle  = 2 * time.Second
)

// Done asks the service, and every authority of the zone by DNS. It answers Yes
// when the service has the operation's epoch and records, says of no change
// that it has not reached its servers, and every authority that answers has
// them too. What is behind is waited for, at most Lag. An authority that is
// silent, or says that it cannot answer, misleads nobody: it is named in the
// evidence and does not count. Without a word from the service, or from any
// authority, the answer is Unknown.
func (h *Hosted) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	target, err := h.names.Target(op)
	if err != nil {
		return runbook.Unknown, "", err
	}
	x := h.expected(op, target)
	held, err := h.readPatiently(ctx, h.names[op.Service])
	if err != nil {
		return runbook.Unknown, "", err
	}
	own := held.look(x)
	lag := h.cfg.Lag
	if own.State != Agrees {
		lag = 0
	}
	var looks []Look
	var pending string
	var wg sync.WaitGroup
	wg.Go(func() { looks = x.Follow(ctx, h.cfg.Authorities, false, lag, func() { h.sightings.Seen(op) }) })
	if own.State == Agrees {
		wg.Go(func() { pending = h.settle(ctx, op) })
	}
	wg.Wait()
	evidence := h.evidence(own, pending, looks, op)
	agree := false
	for _, l := range looks {
		agree = agree || l.State == Agrees
	}
	switch {
	case own.State != Agrees, len(Behind(looks, false)) > 0, agree && pending != "":
		return runbook.No, evidence, nil
	case !agree:
		return runbook.Unknown, evidence, fmt.Errorf("no authority could be asked: %s", evidence)
	case h.released.Has(op):
		return runbook.No, evidence + "; released", nil
	}
	return runbook.Yes, evidence, nil
}

// readPatiently reads again when the service asks for patience, as long as
// there is time.
func (h *Hosted) readPatiently(ctx context.Context, n Name) (Held, error) {
	pause := firstPause
	for try := 1; ; try++ {
		held, err := h.read(ctx, n)
		after, _ := again(err)
		after = max(after, pause)
		end, bounded := ctx.Deadline()
		if !errors.Is(err, ErrThrottled) || try >= maxFailures || bounded && time.Until(end) < after || wait(ctx, after) != nil {
			return held, err
		}
		pause = min(2*pause, lastPause)
	}
}

// settle waits, at most for the lag, until the service says that its servers
// have the change. What it cannot say does not count, as with an authority
// that is silent.
func (h *Hosted) settle(ctx context.Context, op runbook.Op) (pending string) {
	poll, end := firstSettle, time.Now().Add(h.cfg.Lag)
	for {
		once, cancel := context.WithTimeout(ctx, h.cfg.Request)
		p, err := h.cfg.Store.Settled(once, h.names[op.Service], h.refOf(op))
		cancel()
		if err == nil {
			pending = p
		} else if !errors.Is(err, ErrThrottled) {
			return pending
		}
		after, _ := again(err)
		after = max(after, poll)
		if err == nil && p == "" || time.Now().Add(after).After(end) || wait(ctx, after) != nil {
			return pending
		}
		poll = min(2*poll, lastSettle)
	}
}

// evidence is a clause for the service and one for each authority.
func (h *Hosted) evidence(own Look, pending string, looks []Look, op runbook.Op) string {
	parts := make([]string, 0, len(looks)+1)
	said := "service: " + own.Text
	if pending != "" {
		said += ", but " + pending
	}
	parts = append(parts, said)
	for i, l := range looks {
		s := h.cfg.Authorities[i]
		role := "authority"
		if s.Site != "" {
			role += " at " + string(s.Site)
		}
		said := fmt.Sprintf("%s %s: %s", role, s.Address, l.Text)
		if l.Serial != 0 {
			said += fmt.Sprintf(" serial %d", l.Serial)
		}
		if l.State == Differs && own.State == Agrees {
			said += fmt.Sprintf(", %v after the service was seen to have it", h.sightings.Seen(op).Round(time.Millisecond))
		}
		parts = append(parts, said)
	}
	return strings.Join(parts, "; ")
}
