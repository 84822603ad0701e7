package main

import (
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/measure"
)

// moving reports whether the last move that was decided has not ended.
func moving(records []failover.Record) bool {
	for _, r := range slices.Backward(records) {
		switch r.Kind {
		case failover.RecordDone:
			return false
		case failover.RecordDecision:
			return true
		}
	}
	return false
}

// untold reports whether the expected loss of the last move, which has ended, is
// not told yet.
func untold(records []failover.Record) bool {
	for _, r := range slices.Backward(records) {
		if _, ok := api.LossOf(r); ok || r.Kind == failover.RecordDecision {
			return !ok
		}
	}
	return false
}

// movesOf reads the moves from a service's records, oldest first: those that
// are complete have their turning points written in them, of one that is not
// the records themselves tell how far it came.
func movesOf(records []failover.Record, clocks []measure.MemberClock) []measure.Move {
	by, losses := make(map[time.Time]draas.MemberID), make(map[draas.Epoch]*measure.Loss)
	for _, r := range records {
		by[r.At.UTC()] = r.By
		if l, ok := api.LossOf(r); ok {
			losses[r.Epoch] = &measure.Loss{From: l.From, Known: l.Known, Behind: measure.Millis(l.Behind), Objects: l.Objects, Bytes: l.Bytes,
				Text: l.InWords(), By: draas.MemberID(harmless(string(r.Member)))}
		}
	}
	var moves []measure.Move
	var open *failover.Move
	add := func(m *failover.Move, complete bool) {
		out := told(m, complete, func(at time.Time) measure.Turn {
			t := measure.Turn{By: by[at.UTC()]}
			ours, off, shifted := shift(clocks, t.By, at)
			t.At, t.Error, t.Shifted = ours.UTC(), measure.Millis(off), shifted
			return t
		})
		out.Loss = losses[m.Epoch]
		moves = append(moves, out)
	}
	var suspected time.Time
	for _, r := range records {
		switch {
		case r.Kind == failover.RecordDone && r.Move != nil:
			add(r.Move, true)
			open, suspected = nil, time.Time{}
		case r.Kind == failover.RecordDecision:
			// A move that is turned around goes on as another of the same epoch.
			if open != nil && open.Epoch != r.Epoch {
				add(open, false)
			}
			open = begun(open, r, suspected)
		case r.Kind == failover.RecordPhase:
			if r.Phase == failover.PhaseSuspect && open == nil {
				suspected = r.At
			}
			if open != nil {
				advance(open, r)
			}
		}
	}
	if open != nil {
		add(open, false)
	}
	return moves
}

// begun is the move that a decision begins, or turns around.
func begun(open *failover.Move, r failover.Record, suspected time.Time) *failover.Move {
	m := &failover.Move{Epoch: r.Epoch, Reason: r.Text}
	m.Times.Suspected, m.Times.Decided = suspected, r.At
	if open != nil && open.Epoch == r.Epoch {
		m.Times = open.Times
	}
	return m
}

// advance notes the turning points that a phase marks.
func advance(m *failover.Move, r failover.Record) {
	switch r.Phase {
	case failover.PhaseRedirecting:
		m.Times.Activated, m.Evidence = r.At, r.Text
	case failover.PhaseVerifying:
		m.Times.Redirected = r.At
	}
}

// told is a move on the tester's clock.
func told(m *failover.Move, complete bool, turn func(time.Time) measure.Turn) measure.Move {
	out := measure.Move{Kind: string(m.Kind), From: m.From, To: m.To, Epoch: m.Epoch, Operator: harmless(m.Operator),
		Reason: harmless(m.Reason), Evidence: harmless(m.Evidence), Complete: complete, Turns: []measure.Turn{}}
	fence := "fence"
	if !m.Times.Released.IsZero() {
		fence = "activate"
	}
	for _, p := range []struct {
		name, part string
		at         time.Time
	}{
		{"suspected", "detect", m.Times.Suspected},
		{"failed", "agree", m.Times.Failed},
		{"decided", "confirm", m.Times.Decided},
		{"released", "release", m.Times.Released},
		{"activated", fence, m.Times.Activated},
		{"redirected", "act", m.Times.Redirected},
		{"verified", "", m.Times.Verified},
	} {
		if p.at.IsZero() {
			continue
		}
		t := turn(p.at)
		t.Name, t.Part = p.name, p.part
		out.Turns = append(out.Turns, t)
	}
	for _, s := range m.Plan.Steps {
		e := m.Journal[s.Name]
		out.Steps = append(out.Steps, measure.Step{Name: harmless(s.Name), Outcome: string(e.Outcome), Attempts: e.Attempts, Evidence: harmless(e.Evidence)})
	}
	return out
}
