package rfc2136

import (
	"context"
	"errors"
	"fmt"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// Bounds of one Do, beside its time.
const (
	maxTries = 16                    // in a race each is lost to an epoch below the own one
	pause    = 20 * time.Millisecond // before the first repetition; doubled
	maxPause = 400 * time.Millisecond
	// maxFailures is how many SERVFAIL in a row Do puts up with: PowerDNS on
	// SQLite says it when two of its own threads write.
	maxFailures = 4
	// maxSame is how often the server may say that the record changed while
	// it reads the same.
	maxSame = 3
)

// writer is one Do.
type writer struct {
	*Effect
	op     runbook.Op
	name   dns.Name
	target dns.Target

	tcp      bool
	last     error // of the try before
	key      Key   // of the try before
	was      string
	failures int
	same     int
}

// run reads, decides, sends, until the record is seen or acknowledged to be
// the operation's, or there is a reason to stop. An update that was not
// answered is read back like any other: nothing is assumed of it.
func (w *writer) run(ctx context.Context) error {
	wait := pause
	for range maxTries {
		done, err := w.try(ctx)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("move %s to %v: %w", w.name.Name, w.op.Token, errors.Join(ctx.Err(), w.last))
		case <-time.After(wait):
		}
		wait = min(2*wait, maxPause)
	}
	return fmt.Errorf("move %s to %v: gave up after %d tries: %w", w.name.Name, w.op.Token, maxTries, w.last)
}

// try makes one attempt. It returns false without an error when another one
// may help; w.last then says why.
func (w *writer) try(ctx context.Context) (done bool, err error) {
	h, err := w.readEpoch(ctx, w.name)
	if err != nil {
		return false, w.stop(errors.Join(err, w.last))
	}
	switch c := h.decision.Token.Compare(w.op.Token); {
	case c > 0:
		return false, fmt.Errorf("the primary is at %v: %w", h.decision.Token, draas.ErrStaleEpoch)
	case c == 0 && h.decision.Site != w.op.To:
		return false, w.stop(fmt.Errorf("%v was given to %s, not to %s", w.op.Token, h.decision.Site, w.op.To))
	case c == 0:
		// If they differ, somebody edited the records by hand, or the target
		// changed in the file since.
		records, err := w.readRecords(ctx, w.name)
		if err != nil {
			return false, w.stop(errors.Join(err, w.last))
		}
		if matches(records, w.name, w.target) {
			return true, nil
		}
	}
	if err := w.again(h); err != nil {
		return false, w.stop(err)
	}
	if w.target.CNAME != "" {
		if err := w.roomForCNAME(ctx, w.name); err != nil {
			return false, w.stop(err)
		}
	}
	err = w.write(ctx, h)
	if err == nil {
		return true, nil
	}
	w.last = err
	return false, nil
}

// again decides, by how the try before ended and what is read now, whether
// another is worth it. If not it says why.
func (w *writer) again(h held) error {
	same := w.was == h.text()
	w.was = h.text()
	switch {
	case w.last == nil:
	case errors.Is(w.last, ErrMoved):
		if !same {
			w.same = 0
		} else if w.same++; w.same >= maxSame {
			return fmt.Errorf("the server says that %s is not %q, and answers that it is (is it the primary? does %s have records of other types?): %w",
				dns.EpochName(w.name.Name), h.text(), w.name.Name, w.last)
		}
	case errors.Is(w.last, ErrServer):
		if w.failures++; w.failures >= maxFailures {
			return w.last
		}
	case errors.Is(w.last, ErrUnanswered) && !w.tcp:
		w.tcp = true // UDP may be lost or blocked
	default:
		// The key may have been changed between reading and using it.
		if k, err := ReadKey(w.cfg.KeyFile); err != nil || k == w.key {
			return errors.Join(w.last, err)
		}
	}
	return nil
}

func (w *writer) stop(err error) error {
	return fmt.Errorf("move %s to %v: %w", w.name.Name, w.op.Token, err)
}

// write sends the update once.
func (w *writer) write(ctx context.Context, was held) error {
	k, err := ReadKey(w.cfg.KeyFile)
	if err != nil {
		return err
	}
	w.key = k
	m := message(w.cfg.Zone, w.name, w.target, dns.Decision{Token: w.op.Token, Site: w.op.To}, was)
	w.tcp = w.tcp || signedSize(m, k) > mdns.MinMsgSize
	if w.tcp {
		return w.send(ctx, m, k, "tcp", w.cfg.Wait)
	}
	return w.send(ctx, m, k, "udp", w.cfg.Timeout)
}
