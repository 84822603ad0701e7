package daemon

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/hybrid"
)

// hybridOf is what moves the users of one hybrid: its name in each of its
// zones, and its frontends.
func hybridOf(svc *config.Service, zones map[string]runbook.Effect, led runbook.Effect, m means) (*hybrid.Effect, error) {
	var halves []hybrid.Half
	for _, key := range svc.DNS.Zones() {
		name := &entering{Effect: zones[key], leads: m.leads}
		halves = append(halves, hybrid.Half{Name: stepDNS + zoneName(svc, key), Effect: &partEffect{part: svc.ID, Effect: name}})
	}
	halves = append(halves, hybrid.Half{Name: stepFrontend, Effect: &partEffect{part: svc.ID, Effect: led}})
	return hybrid.New(hybrid.Config{Halves: halves})
}

// entering is an effect on the name of a hybrid, which leads to where users
// enter. That may be elsewhere than the active site, and changes within its
// epoch: the log says where, whatever the move was to.
type entering struct {
	runbook.Effect
	leads func(draas.ServiceID) (draas.SiteID, runbook.Token, bool)
}

// now is the operation as it stands with where users enter now.
func (e *entering) now(op runbook.Op) (runbook.Op, error) {
	site, token, known := e.leads(op.Service)
	switch {
	case known && token.Epoch > op.Token.Epoch:
		return op, fmt.Errorf("where users enter is decided at %v: %w", token, draas.ErrStaleEpoch)
	case !known || token.Epoch < op.Token.Epoch:
		return op, fmt.Errorf("it is not known here yet where users enter at %v", op.Token)
	}
	op.To, op.Token = site, token
	return op, nil
}

// Done implements runbook.Effect.
func (e *entering) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	if _, token, known := e.leads(op.Service); known && token.Epoch > op.Token.Epoch {
		return runbook.No, fmt.Sprintf("where users enter is decided at %v", token), nil
	}
	op, err := e.now(op)
	if err != nil {
		return runbook.Unknown, "", err
	}
	return e.Effect.Done(ctx, op)
}

// Do implements runbook.Effect.
func (e *entering) Do(ctx context.Context, op runbook.Op) error {
	op, err := e.now(op)
	if err != nil {
		return err
	}
	return e.Effect.Do(ctx, op)
}

// Release implements runbook.Effect. An epoch is given up with all its turns.
func (e *entering) Release(ctx context.Context, op runbook.Op) error {
	op.Token.Turn = math.MaxUint64
	return e.Effect.Release(ctx, op)
}

// entrances is where the names of services lead, as this member has applied it.
type entrances struct {
	state atomic.Pointer[failover.State]
}

// restart forgets what another run on the log has applied.
func (e *entrances) restart() { e.state.Store(nil) }

// decided takes over a state as this member has applied it.
func (e *entrances) decided(s failover.State) { e.state.Store(&s) }

func (e *entrances) leads(id draas.ServiceID) (draas.SiteID, runbook.Token, bool) {
	s := e.state.Load()
	if s == nil {
		return "", runbook.Token{}, false
	}
	return s.Leads(id)
}

// lacking reports whether a record is that of a move which was complete without
// one of its halves.
func lacking(r failover.Record) bool {
	if r.Kind != failover.RecordDone || r.Move == nil {
		return false
	}
	for _, e := range r.Move.Journal {
		if hybrid.Missing(e.Evidence) != "" {
			return true
		}
	}
	return false
}
