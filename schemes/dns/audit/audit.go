// Package audit asks the name servers of a zone, the resolvers that users have,
// and the parent zone, what they really hand out, and judges it: records,
// epochs, TTLs as they run down, and the delegation.
//
// Looking and judging are apart: a Report holds what was seen, and the
// findings follow from it, the plan, and what a resolver said before.
package audit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/dns"
)

// DefaultTimeout bounds one query by UDP, and again by TCP. A resolver may have
// to ask others first.
const DefaultTimeout = 3 * time.Second

// Plan is what is looked at.
type Plan struct {
	Zones []Zone
	// Resolvers are asked as clients ask them, host:port.
	Resolvers []string
	// Parents are servers of the parent zone, host:port; found by way of the
	// resolvers if empty.
	Parents []string
	// SkipDelegation leaves the parent alone: of a zone that only some
	// resolvers know.
	SkipDelegation bool
	// Timeout of a query. Default DefaultTimeout.
	Timeout time.Duration
	// Reach is where the server at an NS record's address is asked. Default
	// port 53.
	Reach func(netip.Addr) string
	// Now is the time of a look. Default time.Now.
	Now func() time.Time
}

// Zone is a zone with the services' names in it.
type Zone struct {
	Name string // fully qualified
	// Servers are the zone's authorities that the configuration names.
	Servers []Server
	// NS are the name servers that the delegation has to have, as far as their
	// names are known: those at the sites. Servers that stand at no site are
	// looked for by their addresses.
	NS []NS
	// NegativeTTL as configured; negative if it is not.
	NegativeTTL time.Duration
	Names       []Name
}

// Server is one authority.
type Server struct {
	dns.Server
	Role string // for people, such as "primary"
	// Hidden need not be in the delegation.
	Hidden bool
	// NoEpoch is that of a provider that keeps no TXT record.
	NoEpoch bool
}

// NS is a name server of the delegation.
type NS struct {
	Name      string
	Site      draas.SiteID
	Addresses []netip.Addr // glue, if its name is in the zone
}

// Name is a service's name.
type Name struct {
	dns.Name
	// Floor is the least TTL that the configuration expects of resolvers.
	Floor time.Duration
}

// Auditor looks again and again, and remembers what resolvers said.
type Auditor struct {
	plan   Plan
	memory memory
}

// New validates the plan.
func New(p Plan) (*Auditor, error) {
	if p.Timeout == 0 {
		p.Timeout = DefaultTimeout
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Reach == nil {
		p.Reach = func(a netip.Addr) string { return netip.AddrPortFrom(a, 53).String() }
	}
	var errs []error
	if p.Timeout < 0 {
		errs = append(errs, errors.New("a negative timeout"))
	}
	for _, list := range [][]string{p.Resolvers, p.Parents} {
		for _, address := range list {
			if _, _, err := net.SplitHostPort(address); err != nil {
				errs = append(errs, err)
			}
		}
	}
	for _, z := range p.Zones {
		if err := dns.ValidName(z.Name); err != nil {
			errs = append(errs, fmt.Errorf("zone: %w", err))
		}
		for _, s := range z.Servers {
			if _, _, err := net.SplitHostPort(s.Address); err != nil {
				errs = append(errs, fmt.Errorf("zone %s: server: %w", z.Name, err))
			}
		}
		for _, n := range z.Names {
			if err := n.Validate(); err != nil {
				errs = append(errs, fmt.Errorf("zone %s: name %s: %w", z.Name, n.Name.Name, err))
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return &Auditor{plan: p, memory: make(memory)}, nil
}

// Report is one look.
type Report struct {
	At       time.Time    `json:"at"`
	Zones    []ZoneReport `json:"zones"`
	Findings []Finding    `json:"findings"` // the worst first
	// Again is when a second look would tell whether a resolver that is behind
	// follows, counted from At; 0 if none is. In seconds.
	Again uint32 `json:"again_s,omitempty"`
}

// ZoneReport is what was seen of one zone.
type ZoneReport struct {
	Zone       string       `json:"zone"`
	Servers    []Apex       `json:"servers"`
	Names      []NameReport `json:"names"`
	Delegation *Delegation  `json:"delegation,omitempty"`
}

// NameReport is what was seen of one name.
type NameReport struct {
	Service draas.ServiceID `json:"service"`
	Name    string          `json:"name"`
	TTL     uint32          `json:"ttl_s"` // as configured
	// Epoch, Turn and Site are the highest that an authority tells.
	Epoch   draas.Epoch  `json:"epoch,omitempty"`
	Turn    uint64       `json:"turn,omitempty"`
	Site    draas.SiteID `json:"site,omitempty"`
	Answers []Answer     `json:"answers"`
}

// Errors counts the findings that are errors.
func (r *Report) Errors() int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == Error {
			n++
		}
	}
	return n
}

// Look asks everybody once. It ends when all have answered or timed out, or
// soon after the context; then the error is the context's.
func (a *Auditor) Look(ctx context.Context) (*Report, error) {
	r := &Report{At: a.plan.Now(), Zones: make([]ZoneReport, len(a.plan.Zones))}
	l := looker{plan: a.plan, slots: make(chan struct{}, atOnce)}
	var wg sync.WaitGroup
	for i, z := range a.plan.Zones {
		wg.Go(func() { r.Zones[i] = l.zone(ctx, z) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("look: %w", err)
	}
	var j judge
	for i, z := range a.plan.Zones {
		j.zone(z, &r.Zones[i], a.memory, r.At)
	}
	r.Findings = j.sorted()
	r.Again = a.memory.next(r.At)
	return r, nil
}
