package dns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// ErrNoLease is returned by Pass.Send when this member may not begin a request
// now. Nothing was sent.
var ErrNoLease = errors.New("no lease to act: this member is out of touch with the quorum, or a later decision stands")

// GateConfig describes the way to one receiver that knows no epochs.
type GateConfig struct {
	// Window is how long after its last touch with the quorum any member may
	// still be allowed to begin a request: what Current adds.
	Window time.Duration
	// Drift bounds the rate error of two clocks, as draas.Lease has it.
	Drift float64
	// Request bounds one request, from the check of the lease to the answer.
	Request time.Duration
	// Late is how long the receiver may still apply a request after it was cut
	// off at the client.
	Late time.Duration
	// Now reads this machine's clocks.
	Now func() draas.Reading
	// Current tells until when this member may take the token for the
	// service's latest: the last reading at which it was in touch with the
	// quorum, plus Window. It is not ok when it may not at all.
	Current func(draas.ServiceID, runbook.Token) (until draas.Deadline, ok bool)
	// Superseded is this member's reading when it applied the entry that ended
	// the service's token before this one; long ago if there was none. It is
	// not ok when that is not known, as after a restart.
	Superseded func(draas.ServiceID, runbook.Token) (draas.Reading, bool)
}

// Gate lets requests through to one receiver that knows no epochs (a zone or an
// account of a service, DESIGN.md, rule 3), so that none of an older token can
// be applied after a later token's executor has begun to read:
//
//   - A request is begun only while the executor's own touch with the quorum is
//     younger than Window, and is cut off when that ends, or after Request. The
//     receiver may apply it for Late more.
//   - Whoever acts at a new token waits until Window, Request and Late have
//     passed, by the slowest of clocks, since it applied the entry that ended
//     the token before. That entry was committed after the old executor's last
//     touch that did not tell of it.
//   - There is one request at a time; after one that was cut off Late passes
//     before the service's next.
//
// It cannot help where a machine stands still between its last look at the
// clock and its packet's way out, for longer than Request.
//
// All members that act on the receiver must have the same Window, Drift,
// Request and Late.
type Gate struct {
	cfg  GateConfig
	slot chan struct{} // one request at a time

	mu       sync.Mutex
	passages map[draas.ServiceID]passage
}

// passage is what a gate remembers of a service.
type passage struct {
	token runbook.Token // the latest that was to act
	since draas.Reading // when the gate first saw it
	cut   bool          // a request was cut off
	cutAt draas.Reading // and when
}

// NewGate validates the configuration and returns a gate.
func NewGate(cfg GateConfig) (*Gate, error) {
	switch {
	case cfg.Now == nil, cfg.Current == nil, cfg.Superseded == nil:
		return nil, errors.New("gate: want Now, Current and Superseded")
	case cfg.Window <= 0, cfg.Request <= 0, cfg.Late < 0:
		return nil, errors.New("gate: want a window and a request's time above 0, and late not below")
	case !(cfg.Drift >= 0 && cfg.Drift < 1): // nor NaN
		return nil, fmt.Errorf("gate: drift %v, want 0 to below 1", cfg.Drift)
	}
	return &Gate{cfg: cfg, slot: make(chan struct{}, 1), passages: make(map[draas.ServiceID]passage)}, nil
}

// Quarantine is how long after the end of the token before a new one's first
// request waits, on this member's clock.
func (c GateConfig) Quarantine() time.Duration { return c.stretch(c.Window + c.Request + c.Late) }

// stretch is how long to wait on a clock that may be fast for what another
// counts on one that may be slow, as draas.Lease does between Hold and Wait.
func (c GateConfig) stretch(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + c.Drift) / (1 - c.Drift))
}

// Worst is the longest that Enter and one Send take when nobody else is at the
// gate.
func (g *Gate) Worst() time.Duration { return g.cfg.Quarantine() + g.cfg.Request }

// left is how long the service's next request at the token has to wait.
func (p passage) left(c GateConfig, token runbook.Token, superseded draas.Reading, known bool, now draas.Reading) time.Duration {
	// The boot clock: it is not stepped, and where it stands still the wait
	// gets longer.
	var wait time.Duration
	switch {
	case known:
		wait = c.Quarantine() - now.Sub(superseded)
	case p.token == token && token != (runbook.Token{}):
		wait = c.Quarantine() - now.Sub(p.since)
	default:
		wait = c.Quarantine()
	}
	if p.cut {
		wait = max(wait, c.stretch(c.Late)-now.Sub(p.cutAt))
	}
	return max(wait, 0)
}

// Left is how long the operation's next request would have to wait from now.
// Until then a request of an older token may still be applied: what is seen
// now does not have to last. It changes nothing.
func (g *Gate) Left(op runbook.Op) time.Duration {
	superseded, known := g.cfg.Superseded(op.Service, op.Token)
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.passages[op.Service].left(g.cfg, op.Token, superseded, known, g.cfg.Now())
}

// see remembers the token. One below the latest is stale.
func (g *Gate) see(op runbook.Op) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.passages[op.Service]
	switch c := op.Token.Compare(p.token); {
	case c < 0:
		return fmt.Errorf("this member has acted at %v: %w", p.token, draas.ErrStaleEpoch)
	case c > 0:
		p.token, p.since = op.Token, g.cfg.Now()
		g.passages[op.Service] = p
	}
	return nil
}

// Enter waits until the operation's requests may be sent, and nobody else's is
// under way. What the caller read before is worth nothing then: it reads anew,
// and calls Leave in the end. The error is ErrStaleEpoch's when the gate has
// seen a later token of the service, or that of the context.
func (g *Gate) Enter(ctx context.Context, op runbook.Op) (*Pass, error) {
	if err := g.see(op); err != nil {
		return nil, err
	}
	for {
		if left := g.Left(op); left > 0 {
			if err := wait(ctx, left); err != nil {
				return nil, fmt.Errorf("wait %v more until no request of before can be applied: %w", g.Left(op).Round(time.Millisecond), err)
			}
			continue
		}
		select {
		case g.slot <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another request to end: %w", ctx.Err())
		}
		// While it waited another one of the service may have been cut off, or
		// a later token may have come.
		err := g.see(op)
		if err == nil && g.Left(op) == 0 {
			return &Pass{gate: g, op: op}, nil
		}
		<-g.slot
		if err != nil {
			return nil, err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Pass is the right to send one request after another. It belongs to one
// goroutine.
type Pass struct {
	gate *Gate
	op   runbook.Op
	left bool
	cut  bool
}

// Leave gives the pass back. It may be called twice.
func (p *Pass) Leave() {
	if !p.left {
		p.left = true
		<-p.gate.slot
	}
}

// Send makes one request, if the member's lease allows it: else the error is
// ErrNoLease and nothing was sent. request gets a context that ends with the
// lease or after the gate's Request, and reports whether the receiver has
// answered in a way that says that nothing of the request comes later. After
// one that was not answered nothing more is sent with this pass.
func (p *Pass) Send(ctx context.Context, request func(context.Context) (answered bool, err error)) error {
	g := p.gate
	if p.left || p.cut {
		return errors.New("send with a pass that is over")
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("begin request: %w", err)
	}
	until, ok := g.cfg.Current(p.op.Service, p.op.Token)
	left := until.Left(g.cfg.Now()) // read after Current: time only goes on
	if !ok || left <= 0 {
		return fmt.Errorf("begin request at %v: %w", p.op.Token, ErrNoLease)
	}
	ctx, cancel := context.WithTimeout(ctx, min(g.cfg.Request, left))
	defer cancel()
	// Taken for cut off until it is known better, also if request panics.
	p.cut = true
	defer func() {
		if p.cut {
			g.noteCut(p.op)
		}
	}()
	answered, err := request(ctx)
	p.cut = !answered
	return err
}

func (g *Gate) noteCut(op runbook.Op) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.passages[op.Service]
	p.cut, p.cutAt = true, g.cfg.Now()
	g.passages[op.Service] = p
}
