package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/draasd/draas/failover"
)

// Coverage counts what runs have reached.
type Coverage struct {
	Phases      map[string]int // entered
	Transitions map[string]int // from>to
	Records     map[string]int // kinds
	Reasons     map[string]int // code and how it spoke
	Faults      map[string]int // kinds
	FaultsIn    map[string]int // kind@phase of a service
	Checks      map[string]int // what the oracle looked at
}

// NewCoverage is empty.
func NewCoverage() *Coverage {
	return &Coverage{Phases: map[string]int{}, Transitions: map[string]int{}, Records: map[string]int{}, Reasons: map[string]int{},
		Faults: map[string]int{}, FaultsIn: map[string]int{}, Checks: map[string]int{}}
}

func (c *Coverage) all() []*map[string]int {
	return []*map[string]int{&c.Phases, &c.Transitions, &c.Records, &c.Reasons, &c.Faults, &c.FaultsIn, &c.Checks}
}

// Add adds what another has counted.
func (c *Coverage) Add(o *Coverage) {
	others := o.all()
	for i, m := range c.all() {
		for k, n := range *others[i] {
			(*m)[k] += n
		}
	}
}

func (c *Coverage) fault(k Kind, in []failover.Phase) {
	c.Faults[string(k)]++
	for _, p := range in {
		c.FaultsIn[string(k)+"@"+string(p)]++
	}
}

// String is a table of all of it.
func (c *Coverage) String() string {
	var b strings.Builder
	for i, name := range []string{"phases", "transitions", "records", "reasons", "faults"} {
		fmt.Fprintf(&b, "  %s: %s\n", name, counts(*c.all()[i]))
	}
	fmt.Fprintf(&b, "  oracle: %s\n", counts(c.Checks))
	hit, phases := 0, []failover.Phase{failover.PhaseInactive, failover.PhaseNormal, failover.PhaseElsewhere, failover.PhaseSuspect,
		failover.PhaseConfirmed, failover.PhaseFencing, failover.PhaseRedirecting, failover.PhaseVerifying}
	fmt.Fprintf(&b, "  fault x phase: %14s", "")
	for _, p := range phases {
		fmt.Fprintf(&b, " %11s", p)
	}
	b.WriteByte('\n')
	for _, k := range slices.Sorted(maps.Keys(c.Faults)) {
		fmt.Fprintf(&b, "  %29s", k)
		for _, p := range phases {
			n := c.FaultsIn[k+"@"+string(p)]
			if n > 0 {
				hit++
			}
			fmt.Fprintf(&b, " %11d", n)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "  %d of %d kinds of fault x phase were reached\n", hit, len(c.Faults)*len(phases))
	return b.String()
}

func counts(m map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}
