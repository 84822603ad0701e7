package health

import (
	"container/heap"
	"context"
	"time"
)

// Burst asks for as many looks at each check of the key as make it failed, and
// reports whether there are any: the first at once, the others one after the
// other without waiting for the answers of those before. So a target that
// answers nothing is found out within little more than one timeout, where
// looks that wait for each other take one for each. No look proves less than
// it would by itself, and one good answer among them is one as ever.
//
// Looks at one target stay SecondLook apart, and those of a burst the part of
// a timeout that makes the last of them start before the first one ends. A
// burst is not begun before the one before has ended: passive evidence may
// trigger probes, but not a flood of them (DESIGN.md, rule 5).
func (m *Monitor) Burst(key Key) bool {
	if !m.Trigger(key) {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.groups[key]
	if g == nil {
		return false
	}
	now := m.now()
	for _, c := range g.checks {
		if c.extra > 0 {
			continue
		}
		first := now
		if c.position >= 0 {
			first = c.due
		}
		apart := max(c.Timing.SecondLook, c.Timing.Timeout/time.Duration(c.Timing.Fall))
		for i := 1; i < c.Timing.Fall; i++ {
			c.extra++
			m.plan(&check{Target: c.Target, of: c, probes: c.probes}, first+time.Duration(i)*apart)
		}
	}
	return true
}

// glance is one look of a burst.
func (m *Monitor) glance(ctx context.Context, x *check) {
	c := x.of
	m.mu.Lock()
	started := m.now()
	m.mu.Unlock()
	r := Look(ctx, x.Timing.Timeout, x.Probe)
	if ctx.Err() != nil {
		return
	}
	r = discount(r, started-x.due, x.Timing)
	m.mu.Lock()
	defer m.mu.Unlock()
	c.extra--
	if c.removed || c.probes != x.probes {
		return // of an older probe
	}
	next := m.record(c, m.now(), r)
	if c.position >= 0 && next < c.due {
		c.due = next
		heap.Fix(&m.due, c.position)
		if c.position == 0 {
			nudge(m.wake)
		}
	}
}
