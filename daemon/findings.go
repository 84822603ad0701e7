package daemon

import (
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/hybrid"
)

const (
	// findAfter is how long a new entry may take before it is worth a finding,
	// and findUnknown how long it may not be known what stands.
	findAfter   = 5 * time.Second
	findUnknown = time.Minute
	// maxFindings is how many findings of one path the history gets in an hour.
	maxFindings = 6
)

// path is one way to users that a plan's step has made: all of it, or one half.
type path struct {
	name    string // the step's, or that of its half
	effect  runbook.Effect
	every   time.Duration
	timeout time.Duration // of one look with a repair
	// named is the service whose name it is; empty of what leads to the active
	// site wherever users enter.
	named draas.ServiceID
}

// paths are what a unit's completed moves have made.
func (w *wiring) paths(unit draas.ServiceID) []path {
	var out []path
	for step, effect := range w.effects[unit] {
		timeout := stepTimeout
		for _, s := range w.policy.Services[unit].Steps {
			if s.Name == step {
				timeout = s.Timeout
			}
		}
		halves := []hybrid.Half{{Effect: effect}}
		composed, several := effect.(*hybrid.Effect)
		if several {
			halves = composed.Halves()
		}
		for _, h := range halves {
			p := path{name: step, effect: h.Effect, timeout: timeout}
			if several {
				p.name = hybrid.StepOf(step, h.Name)
			}
			p.every = w.observe[unit][p.name]
			if part, ok := h.Effect.(*partEffect); ok {
				if svc, has := w.cfg.Service(part.part); has && h.Name != stepFrontend && svc.Scheme != config.SchemeFrontend {
					p.named = part.part
				}
			}
			out = append(out, p)
		}
	}
	return out
}

// op is the operation that the path has to show now.
func (p path) op(s failover.State, unit draas.ServiceID, by draas.MemberID) runbook.Op {
	sv := s.Services[unit]
	op := runbook.Op{Service: unit, Token: runbook.Token{Epoch: sv.Epoch}, Kind: sv.Last.Kind, From: sv.Last.From, To: sv.Active,
		Step: p.name, Member: by}
	if p.named != "" {
		if site, token, known := s.Leads(p.named); known {
			op.To, op.Token = site, token
		}
	}
	return op
}

// telling is what the history was told of a path.
type telling struct {
	last failover.FindingCode
	at   []time.Time // within the last hour
}

// tell reports whether a finding is news, and not one too many.
func (t *telling) tell(code failover.FindingCode, now time.Time) bool {
	if code == "" || code == t.last {
		return false
	}
	t.at = slices.DeleteFunc(t.at, func(at time.Time) bool { return now.Sub(at) >= time.Hour })
	if len(t.at) >= maxFindings {
		return false
	}
	t.last, t.at = code, append(t.at, now)
	return true
}

// findingOf is what a look is worth in the history; empty for nothing. first is
// set while an entry that was decided was never seen in force.
func findingOf(j *oversight, s sighting, first bool, now time.Time) failover.FindingCode {
	trouble := j.told.last == failover.FoundChanged || j.told.last == failover.FoundRefused || j.told.last == failover.FoundUnknown
	switch {
	case s.repaired && first && !trouble:
		return ""
	case s.repaired:
		return failover.FoundRepaired
	case s.refused:
		return failover.FoundRefused
	case s.answer == runbook.No && first && now.Sub(j.began) < findAfter:
		return ""
	case s.answer == runbook.No:
		return failover.FoundChanged
	case s.answer == runbook.Unknown && now.Sub(j.since) >= findUnknown:
		return failover.FoundUnknown
	case s.answer == runbook.Yes && trouble:
		return failover.FoundRestored
	}
	return ""
}
