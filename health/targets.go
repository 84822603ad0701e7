package health

import (
	"container/heap"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Set makes these the targets. A target that is no longer among them is
// forgotten, and the result of a look at it that is under way is dropped;
// nothing is delivered for a key that is gone. A target with the Key and Check
// of a former one keeps its verdict, so that a reload does not blind the
// monitor, and is looked at with the new probe and timing from the next look
// on; the result of the look under way is dropped and the look repeated.
// If a target is not valid nothing changes.
func (m *Monitor) Set(targets []Target) error {
	if err := validate(targets); err != nil {
		return fmt.Errorf("set targets: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	former := make(map[Key][]*check, len(m.groups))
	for key, g := range m.groups {
		former[key], g.checks = g.checks, nil
	}
	for _, t := range targets {
		g, ok := m.groups[t.Key]
		if !ok {
			g = &group{key: t.Key, change: Change{Key: t.Key}}
			m.groups[t.Key] = g
		}
		c := claim(former, t)
		if c == nil {
			c = m.add(g, t, now)
		} else {
			m.replace(c, t, now)
		}
		g.checks = append(g.checks, c)
	}
	for _, checks := range former {
		for _, c := range checks {
			m.drop(c)
		}
	}
	for key, g := range m.groups {
		if len(g.checks) == 0 {
			g.removed = true
			delete(m.groups, key)
			continue
		}
		m.combine(g, nil, m.epoch.Add(now))
	}
	nudge(m.wake)
	return nil
}

// claim takes the target's check out of the former ones and returns it, or nil
// if it is new.
func claim(former map[Key][]*check, t Target) *check {
	checks := former[t.Key]
	i := slices.IndexFunc(checks, func(c *check) bool { return c.Check == t.Check })
	if i < 0 {
		return nil
	}
	c := checks[i]
	former[t.Key] = slices.Delete(checks, i, i+1)
	return c
}

func validate(targets []Target) error {
	type name struct {
		key   Key
		check string
	}
	seen := make(map[name]bool, len(targets))
	var errs []error
	bad := func(t Target, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s, check %q: %w", t.Key, t.Check, fmt.Errorf(format, args...)))
	}
	for _, t := range targets {
		if !t.Key.valid() {
			bad(t, "key must have either a service and a site, or a member")
		}
		if t.Check == "" || seen[name{t.Key, t.Check}] {
			bad(t, "name is missing or used twice")
		}
		seen[name{t.Key, t.Check}] = true
		if t.Probe == nil {
			bad(t, "probe is missing")
		}
		if err := t.Timing.Validate(); err != nil {
			bad(t, "%w", err)
		}
	}
	return errors.Join(errs...)
}

func (m *Monitor) add(g *group, t Target, now time.Duration) *check {
	c := &check{
		Target:   t,
		group:    g,
		detector: NewDetector(t.Timing, m.random),
		started:  -t.Timing.Interval, // long enough ago for a trigger
		status:   CheckStatus{Check: t.Check},
	}
	m.plan(c, m.firstLook(now, t.Timing))
	return c
}

func (m *Monitor) replace(c *check, t Target, now time.Duration) {
	c.Target, c.replaced = t, true
	c.probes++
	c.detector.SetTiming(t.Timing)
	if latest := m.firstLook(now, t.Timing); c.position >= 0 && latest < c.due {
		c.due = latest // the old interval may have been much longer
		heap.Fix(&m.due, c.position)
	}
}

func (m *Monitor) drop(c *check) {
	c.removed = true
	if c.position >= 0 {
		heap.Remove(&m.due, c.position)
	}
}

// schedule is a heap of checks by when they are due.
type schedule []*check

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].due < s[j].due }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].position, s[j].position = i, j
}

// Push is for container/heap.
func (s *schedule) Push(x any) {
	c := x.(*check)
	c.position = len(*s)
	*s = append(*s, c)
}

// Pop is for container/heap.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	c := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	c.position = -1
	return c
}
