package dns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Defaults of EmbeddedConfig.
const (
	DefaultTimeout = 400 * time.Millisecond
	DefaultApply   = 2 * time.Second
)

// EmbeddedConfig describes the effect on the embedded authority.
type EmbeddedConfig struct {
	Names   []Name   // by service, each once
	Servers []Server // every authority of the zone, each site's own among them
	// Applied waits until the local authority has applied a decision of the
	// service at or above the token, or the context ends, and returns it.
	// The site is empty when the token is known and the decision is not.
	Applied func(context.Context, draas.ServiceID, runbook.Token) (Decision, error)
	// Timeout bounds one query; each is tried by UDP and then by TCP.
	// Default DefaultTimeout.
	Timeout time.Duration
	// Apply is how long the local member may take to apply what is
	// committed, for the promise. Default DefaultApply.
	Apply time.Duration
}

// Embedded is the effect of moving a name on the embedded authority. The
// authority follows the replicated log by itself, so Do sends nothing: it
// waits until this member's authority has the decision. Done asks every
// authority of the zone by DNS, as a resolver would.
type Embedded struct {
	cfg      EmbeddedConfig
	names    Book
	released runbook.Released
}

var _ runbook.Effect = (*Embedded)(nil)

// NewEmbedded validates the configuration and returns the effect.
func NewEmbedded(cfg EmbeddedConfig) (*Embedded, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Apply == 0 {
		cfg.Apply = DefaultApply
	}
	e := &Embedded{cfg: cfg}
	var errs []error
	if cfg.Applied == nil || len(cfg.Servers) == 0 || cfg.Timeout < 0 || cfg.Apply < 0 {
		errs = append(errs, errors.New("want Applied, Servers, and no negative time"))
	}
	var err error
	if e.names, err = NewBook(cfg.Names); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("embedded dns effect: %w", err)
	}
	return e, nil
}

// Promise is strong: the log orders the decisions that the authorities
// follow.
func (e *Embedded) Promise() runbook.Promise {
	// The epoch, then A and AAAA, each by UDP and then TCP; all servers at
	// once.
	return runbook.Promise{CompareAndSet: runbook.Strong, Worst: e.cfg.Apply + 3*2*e.cfg.Timeout}
}

// Do waits until the local authority answers at the operation's token.
func (e *Embedded) Do(ctx context.Context, op runbook.Op) error {
	if op.Token.Epoch == 0 {
		return errors.New("epoch 0 names no activation")
	}
	if _, err := e.names.Target(op); err != nil {
		return err
	}
	if e.released.Has(op) {
		return fmt.Errorf("follow %v: %w", op.Token, runbook.ErrReleased)
	}
	d, err := e.cfg.Applied(ctx, op.Service, op.Token)
	if err != nil {
		return fmt.Errorf("wait for %v to be applied: %w", op.Token, err)
	}
	switch c := d.Token.Compare(op.Token); {
	case c > 0:
		return fmt.Errorf("the local authority is at %v: %w", d.Token, draas.ErrStaleEpoch)
	case c < 0:
		return fmt.Errorf("the local authority is still at %v", d.Token)
	case d.Site != op.To:
		return fmt.Errorf("%v was given to %s, not to %s", d.Token, d.Site, op.To)
	}
	return nil
}

// Release records that the token is given up. The answer stays: it is never
// emptied, and only a later activation replaces it.
func (e *Embedded) Release(_ context.Context, op runbook.Op) error {
	e.released.Add(op)
	return nil
}

// Done asks every authority of the zone for the service's epoch and records.
// It answers Yes when the target site's own authority gives the target's
// records at the operation's token, and every other one that answers agrees.
// An authority that cannot be reached, or says that it is out of touch
// (SERVFAIL), misleads nobody and does not count; but without a word from the
// target's own the answer is Unknown.
func (e *Embedded) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	target, err := e.names.Target(op)
	if err != nil {
		return runbook.Unknown, "", err
	}
	looks := make([]Look, len(e.cfg.Servers))
	var wg sync.WaitGroup
	for i, s := range e.cfg.Servers {
		wg.Go(func() { looks[i] = e.ask(ctx, s, op, target) })
	}
	wg.Wait()
	var parts []string
	own, against := false, false
	for i, l := range looks {
		s := e.cfg.Servers[i]
		parts = append(parts, fmt.Sprintf("%s %s: %s", cmp.Or(string(s.Site), "secondary"), s.Address, l.Text))
		own = own || l.State == Agrees && s.Site == op.To
		// The target's own authority is to lead there: when it answers
		// SERVFAIL, it is seen not to.
		against = against || l.State == Differs || l.State == Fails && s.Site == op.To
	}
	evidence := strings.Join(parts, "; ")
	switch {
	case against:
		return runbook.No, evidence, nil
	case !own:
		return runbook.Unknown, evidence, fmt.Errorf("no authority of site %s could be asked: %s", op.To, evidence)
	case e.released.Has(op):
		return runbook.No, evidence + "; released", nil
	}
	return runbook.Yes, evidence, nil
}

func (e *Embedded) ask(ctx context.Context, s Server, op runbook.Op, target Target) Look {
	name := e.names[op.Service].Name
	texts, l := e.records(ctx, s, EpochName(name), mdns.TypeTXT)
	if l.State != Agrees {
		return l
	}
	if len(texts) != 1 {
		return Look{State: Differs, Text: fmt.Sprintf("%d epoch records", len(texts))}
	}
	d, err := ParseEpochText(texts[0])
	if err != nil {
		return Look{State: Differs, Text: err.Error()}
	}
	if d.Token != op.Token || d.Site != op.To {
		return Look{State: Differs, Text: texts[0]}
	}
	said := texts[0]
	for _, qtype := range target.Types() {
		got, l := e.records(ctx, s, name, qtype)
		if l.State != Agrees {
			return Look{State: l.State, Text: said + ", then " + l.Text}
		}
		said += fmt.Sprintf(" %s %s", mdns.TypeToString[qtype], strings.Join(got, ","))
		if !slices.Equal(got, target.Values(qtype)) {
			return Look{State: Differs, Text: said}
		}
	}
	return Look{State: Agrees, Text: said}
}

// records asks one authority for one record set, and returns its data sorted.
func (e *Embedded) records(ctx context.Context, s Server, name string, qtype uint16) ([]string, Look) {
	resp, err := Query(ctx, s.Address, name, qtype, e.cfg.Timeout)
	switch {
	case err != nil:
		return nil, Look{State: Silent, Text: err.Error()}
	case resp.Rcode == mdns.RcodeServerFailure:
		return nil, Look{State: Fails, Text: "SERVFAIL"}
	case resp.Rcode != mdns.RcodeSuccess || !resp.Authoritative:
		return nil, Look{State: Differs, Text: fmt.Sprintf("%s, authoritative %t, for %s", mdns.RcodeToString[resp.Rcode], resp.Authoritative, name)}
	}
	return Observed(resp.Answer, name, qtype), Look{State: Agrees}
}
