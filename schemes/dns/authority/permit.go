package authority

import (
	"maps"

	"github.com/draasd/draas"
)

// Lease tells until when this member's own site may serve the services that it
// holds by the decision last published. From then on they are answered
// SERVFAIL, whatever the stale bound, so that resolvers turn to an authority
// that knows better: the answer would lead to a closed fence. It replaces what
// was told before; a service that is left out has no such bound.
func (a *Authority) Lease(until map[draas.ServiceID]draas.Deadline) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.leases.Load(); old == nil || !maps.Equal(*old, until) {
		until = maps.Clone(until)
		a.leases.Store(&until)
	}
}

// leased reports whether what was decided of the service may still be told.
func (a *Authority) leased(id draas.ServiceID, now draas.Reading) bool {
	leases := a.leases.Load()
	if leases == nil || len(*leases) == 0 {
		return true
	}
	deadline, bound := (*leases)[id]
	return !bound || !deadline.Passed(now)
}
