package rfc2136

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// Done asks every authority of the zone for the epoch and the records. It
// answers Yes when the primary has the operation's, and every secondary that
// answers has them too: who is sent elsewhere by one is not moved. Secondaries
// that are behind the primary are waited for, at most Lag. One that is silent,
// or says that it cannot answer, misleads nobody: it is named in the evidence
// and does not count. Without a word from the primary the answer is Unknown.
func (e *Effect) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	target, err := e.names.Target(op)
	if err != nil {
		return runbook.Unknown, "", err
	}
	servers := e.authorities()
	x := dns.Expected{Zone: e.cfg.Zone, Name: e.names[op.Service].Name, Target: target, Timeout: e.cfg.Timeout,
		Decision: dns.Decision{Token: op.Token, Site: op.To}}
	looks := x.Follow(ctx, servers, true, e.cfg.Lag, func() { e.sightings.Seen(op) })
	evidence := e.evidence(servers, looks, op)
	switch {
	case looks[0].State == dns.Differs:
		return runbook.No, evidence, nil
	case looks[0].State != dns.Agrees:
		return runbook.Unknown, evidence, fmt.Errorf("the primary %s could not be asked: %s", e.cfg.Primary.Address, looks[0].Text)
	case len(dns.Behind(looks, true)) > 0:
		return runbook.No, evidence, nil
	case e.released.Has(op):
		return runbook.No, evidence + "; released", nil
	}
	return runbook.Yes, evidence, nil
}

// evidence is a clause for each server.
func (e *Effect) evidence(servers []dns.Server, looks []dns.Look, op runbook.Op) string {
	parts := make([]string, len(servers))
	for i, l := range looks {
		role := "secondary"
		if i == 0 {
			role = "primary"
		}
		if site := servers[i].Site; site != "" {
			role += " at " + string(site)
		}
		parts[i] = fmt.Sprintf("%s %s: %s", role, servers[i].Address, l.Text)
		if l.Serial != 0 {
			parts[i] += fmt.Sprintf(" serial %d", l.Serial)
		}
		if i > 0 && l.State == dns.Differs && looks[0].State == dns.Agrees {
			parts[i] += fmt.Sprintf(", %v after the primary was seen to have it", e.sightings.Seen(op).Round(time.Millisecond))
		}
	}
	return strings.Join(parts, "; ")
}
