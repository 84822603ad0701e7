package health

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// Status is what the monitor knows of a key.
type Status struct {
	Key     Key
	Verdict draas.Verdict
	Changed time.Time     // when Verdict last changed; zero: never
	Checks  []CheckStatus // in the order of Set
}

// CheckStatus is what the monitor knows of one check.
type CheckStatus struct {
	Check   string
	Verdict draas.Verdict
	Changed time.Time // when Verdict last changed; zero: never
	Last    Result
	LastAt  time.Time // when the last look ended; zero: none yet
	Run     int       // successes, failures or blind looks in a row, the last included

	// Counts since the check was set.
	Looks      uint64
	Failures   uint64 // looks that failed
	Blind      uint64 // looks that were evidence of nothing
	Suspicions uint64 // times that the verdict became suspect
}

func (s *CheckStatus) note(at time.Time, r Result) {
	s.Last, s.LastAt = r, at
	s.Looks++
	switch kindOf(r) {
	case bad:
		s.Failures++
	case blind:
		s.Blind++
	}
}

func (s *CheckStatus) turn(at time.Time, v draas.Verdict) {
	s.Verdict, s.Changed = v, at
	if v == draas.Suspect {
		s.Suspicions++
	}
}

// Snapshot returns what is known of all keys: services before members, each
// by name.
func (m *Monitor) Snapshot() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Status, 0, len(m.groups))
	for _, g := range m.groups {
		s := Status{Key: g.key, Verdict: g.change.Verdict, Changed: g.change.At}
		for _, c := range g.checks {
			check := c.status
			check.Run, _ = c.detector.Run()
			s.Checks = append(s.Checks, check)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Key.Member, b.Key.Member),
			cmp.Compare(a.Key.Service, b.Key.Service), cmp.Compare(a.Key.Site, b.Key.Site))
	})
	return all
}

// joint is the verdict of all checks of a key together, and the first check
// that has it: failed if any is failed, suspect if any is suspect, healthy if
// all are healthy, else unknown.
func joint(checks []*check) (draas.Verdict, *check) {
	for _, v := range []draas.Verdict{draas.Failed, draas.Suspect, draas.Unknown} {
		for _, c := range checks {
			if c.status.Verdict == v {
				return v, c
			}
		}
	}
	return draas.Healthy, checks[0]
}

// combine brings the group's verdict up to date after one check changed its
// verdict, or, with changed nil, after the set of checks changed.
func (m *Monitor) combine(g *group, changed *check, at time.Time) {
	verdict, decided := joint(g.checks)
	if verdict == g.change.Verdict {
		return
	}
	if changed != nil && changed.status.Verdict == verdict {
		decided = changed // the others had it before
	}
	count, since := decided.detector.Run()
	began := m.epoch.Add(since)
	if count == 0 {
		began = at
	}
	g.change = Change{
		Key:     g.key,
		Verdict: verdict,
		Check:   decided.Check,
		Class:   decided.status.Last.Class,
		Detail:  decided.status.Last.Detail,
		At:      at,
		Since:   began,
		Count:   count,
	}
	m.enqueue(g)
}

func (m *Monitor) enqueue(g *group) {
	if g.queued {
		return // the teller will find the latest change
	}
	g.queued = true
	m.queue = append(m.queue, g)
	nudge(m.tell)
}

// deliver calls onChange for each change until ctx ends.
func (m *Monitor) deliver(ctx context.Context) {
	for {
		change, ok := m.nextChange()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-m.tell:
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		m.onChange(ctx, change)
	}
}

// nextChange takes the next change from the queue and counts it as told.
func (m *Monitor) nextChange() (Change, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue) > 0 {
		g := m.queue[0]
		m.queue[0], m.queue = nil, m.queue[1:]
		g.queued = false
		if g.removed || g.change.Verdict == g.told {
			continue
		}
		change := g.change
		change.Was, g.told = g.told, change.Verdict
		return change, true
	}
	return Change{}, false
}
