package authority

import (
	"fmt"
	"maps"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

// lapsed is the answer for a service whose answered site is this member's own,
// when the site's permit is over.
var lapsed = &answer{rcode: mdns.RcodeServerFailure, reason: "this site's permit is over: its own address leads to a closed fence"}

// Lease tells until when this member's own site may serve the services that it
// holds by the decision last published. From then on they are answered
// SERVFAIL, whatever the stale bound, so that resolvers turn to an authority
// that knows better: the answer would lead to a closed fence. It replaces what
// was told before; a service that is left out has no such bound.
func (a *Authority) Lease(until map[draas.ServiceID]draas.Deadline) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.until = maps.Clone(until)
	return a.bound()
}

// bound applies the bounds to the names of the zones. a.mu is held.
func (a *Authority) bound() error {
	until := a.until
	names := make(map[string]draas.Deadline, 2*len(until))
	for _, z := range a.zones {
		for _, n := range z.services {
			deadline, bound := until[n.Service]
			if !bound {
				continue
			}
			for _, name := range []string{n.Name, dns.EpochName(n.Name)} {
				key, err := wireName(mdns.CanonicalName(name))
				if err != nil {
					return fmt.Errorf("bound %s: %w", name, err)
				}
				names[key] = deadline
			}
		}
	}
	if old := a.leases.Load(); old == nil || !maps.Equal(*old, names) {
		a.leases.Store(&names)
	}
	return nil
}

// leased reports whether the answer may still be given.
func (a *Authority) leased(ans *answer) bool {
	leases := a.leases.Load()
	if leases == nil {
		return true
	}
	for _, name := range ans.via {
		if deadline, bound := (*leases)[name]; bound && deadline.Passed(a.cfg.Clock()) {
			return false
		}
	}
	return true
}
