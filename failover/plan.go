package failover

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// maxLeft bounds how many given-up plans a service remembers for release.
const maxLeft = 4

// Leftover is a plan that a later epoch has replaced, and what became of its
// steps: those that may have been started are released by who made them.
type Leftover struct {
	Plan    runbook.Plan    `json:"plan"`
	Journal runbook.Journal `json:"journal,omitempty"`
}

// plan makes the runbook of a move: the policy's steps, carried out by the new
// site's member at once, so that one that fails holds no other up. Version 1
// has one after the other.
func (m *Move) plan(id draas.ServiceID, steps []runbook.Step, version int) {
	m.Plan = runbook.Plan{Service: id, Move: runbook.Token{Epoch: m.Epoch}, Kind: m.Kind, From: m.From, To: m.To}
	m.Journal = nil
	for i, s := range steps {
		s.Member = m.To.Member()
		if i > 0 && version < 2 {
			s.After = []string{steps[i-1].Name}
		}
		m.Plan.Steps = append(m.Plan.Steps, s)
	}
}

// Validate reports services whose moves would have no sound plan: better at
// the start than in the middle of a disaster.
func (p *Policy) Validate() error {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(p.Services)) {
		s := p.Services[id]
		if len(s.Sites) < 2 {
			errs = append(errs, fmt.Errorf("service %s has %d sites, two are needed to move", id, len(s.Sites)))
			continue
		}
		m := Move{Kind: MoveFailover, From: s.Sites[0], To: s.Sites[1], Epoch: 1}
		m.plan(id, s.Steps, Version)
		if err := m.Plan.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("plan of %s: %w", id, err))
		}
		for _, part := range slices.Sorted(maps.Keys(s.Ways)) {
			if err := s.validateWays(p.PartsOf(id), part); err != nil {
				errs = append(errs, fmt.Errorf("ways of %s: %w", part, err))
			}
		}
	}
	return errors.Join(errs...)
}

// validateWays reports ways by which users of a part cannot enter.
func (p ServicePolicy) validateWays(parts []draas.ServiceID, part draas.ServiceID) error {
	if !slices.Contains(parts, part) || len(p.Ways[part]) == 0 {
		return errors.New("it is no part of the unit, or has none")
	}
	seen := make(map[draas.SiteID]bool)
	for _, w := range p.Ways[part] {
		if !p.has(w.Site) || seen[w.Site] || len(w.Frontends) == 0 {
			return fmt.Errorf("site %q: want one of the unit's sites, once, and a frontend there", w.Site)
		}
		seen[w.Site] = true
	}
	return nil
}

// done journals how a step of a move ended.
func (s *step) done() {
	sv, rec := s.service(s.e.Service), s.e.Done
	if sv == nil || rec == nil || rec.Member != s.e.By || rec.Service != s.e.Service {
		return
	}
	if m := sv.Move; m != nil && m.Plan.Move == rec.Move && sv.Phase == PhaseRedirecting {
		// A record that is not of the plan is void.
		m.Journal, _ = m.Journal.Add(m.Plan, *rec)
		return
	}
	for i, left := range sv.Left {
		if left.Plan.Move != rec.Move {
			continue
		}
		sv.Left = slices.Clone(sv.Left)
		sv.Left[i].Journal, _ = left.Journal.Add(left.Plan, *rec)
		if len(runbook.Releases(sv.Left[i].Plan, sv.Left[i].Journal)) == 0 {
			sv.Left = slices.Delete(sv.Left, i, i+1)
		}
		return
	}
}

// giveUp remembers the plan of a move that another one replaces after its
// steps may have been started.
func (s *step) giveUp(sv *ServiceState) {
	if sv.Phase != PhaseRedirecting && sv.Phase != PhaseVerifying {
		return
	}
	left := Leftover{sv.Move.Plan, maps.Clone(sv.Move.Journal)}
	if len(runbook.Releases(left.Plan, left.Journal)) == 0 {
		return
	}
	sv.Left = append(slices.Clone(sv.Left), left)
	if len(sv.Left) > maxLeft {
		sv.Left = sv.Left[1:]
	}
}

// stepDuties are the steps that are due: those of the move under way, and the
// releases of plans that were given up.
func (sv *ServiceState) stepDuties(id draas.ServiceID) []Action {
	var out []Action
	if sv.Phase == PhaseRedirecting {
		for _, due := range runbook.Next(sv.Move.Plan, sv.Move.Journal).Due {
			out = append(out, stepAction(id, due, false))
		}
	}
	for _, left := range sv.Left {
		for _, due := range runbook.Releases(left.Plan, left.Journal) {
			out = append(out, stepAction(id, due, true))
		}
	}
	return out
}

func stepAction(id draas.ServiceID, due runbook.Due, release bool) Action {
	return Action{Kind: ActionStep, Member: due.Step.Member, Service: id, Site: due.Op.To, Epoch: due.Op.Token.Epoch,
		Step: due.Step.Name, Due: &due, Release: release}
}
