package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// watchAgain is the pause before a lost watch is taken up again.
const watchAgain = 200 * time.Millisecond

// errFollowed ends a watch that has seen enough.
var errFollowed = errors.New("followed to its end")

// ended names the error of a watch that was closed from the other side.
func ended(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

// tracker follows one move through the statuses that are seen of it.
type tracker struct {
	kind  failover.MoveKind
	epoch draas.Epoch
	to    draas.SiteID // empty until it is seen

	phase failover.Phase
	steps map[string]runbook.Outcome
	turn  string // the move as it is now, when it is not the one asked for
}

// see takes a status. It returns what is new, and whether the move has ended
// and as it was asked for.
func (t *tracker) see(sv api.ServiceStatus) (lines []string, ended, good bool) {
	if m := sv.Move; m != nil && m.Epoch >= t.epoch {
		return t.moving(sv, m), false, false
	}
	m := sv.Last
	if sv.Move != nil || m == nil || m.Epoch < t.epoch {
		return nil, false, false // not there yet
	}
	lines = t.newSteps(m)
	if t.ours(m) {
		return append(lines, fmt.Sprintf("complete: %s is active at %s, epoch %d", sv.ID, m.To, m.Epoch), paces(m.Times)), true, true
	}
	return append(lines, fmt.Sprintf("not as asked for: %s is active at %s, epoch %d (%s)", sv.ID, m.To, m.Epoch, m.Kind)), true, false
}

func (t *tracker) ours(m *failover.Move) bool {
	if t.to == "" && m.Kind == t.kind && m.Epoch == t.epoch {
		t.to = m.To
	}
	return m.Kind == t.kind && m.Epoch == t.epoch && m.To == t.to
}

func (t *tracker) moving(sv api.ServiceStatus, m *failover.Move) []string {
	var lines []string
	if !t.ours(m) {
		turn := fmt.Sprintf("%s to %s, epoch %d", m.Kind, m.To, m.Epoch)
		if m.Reason != "" {
			turn += ": " + m.Reason
		}
		if turn != t.turn {
			t.turn, t.phase, t.steps = turn, "", nil
			lines = append(lines, "now "+turn)
		}
	}
	changed := sv.Phase != t.phase
	t.phase = sv.Phase
	if changed && sv.Phase == failover.PhaseFencing {
		if m.From == "" {
			lines = append(lines, fmt.Sprintf("fencing: nobody holds it; %s may take it", m.To))
		} else {
			lines = append(lines, fmt.Sprintf("fencing: permit of %s revoked; waiting until it is closed or its lease is over", m.From))
		}
	}
	if changed && sv.Phase == failover.PhaseRedirecting {
		lines = append(lines, fmt.Sprintf("redirecting: %s is active, epoch %d (%s)", m.To, m.Epoch, m.Evidence))
	}
	lines = append(lines, t.newSteps(m)...)
	if changed && sv.Phase == failover.PhaseVerifying {
		lines = append(lines, fmt.Sprintf("verifying: users are sent to %s; waiting until it is seen healthy from outside", m.To))
	}
	return lines
}

// newSteps tells what became of the steps since the last look.
func (t *tracker) newSteps(m *failover.Move) []string {
	var lines []string
	for _, name := range sortedKeys(m.Journal) {
		e := m.Journal[name]
		if t.steps[name] == e.Outcome {
			continue
		}
		if t.steps == nil {
			t.steps = make(map[string]runbook.Outcome)
		}
		t.steps[name] = e.Outcome
		lines = append(lines, fmt.Sprintf("step %s %s: %s", name, e.Outcome, e.Evidence))
	}
	return lines
}

// paces tells how long each part of a move took, by the proposers' clocks.
func paces(t failover.Times) string {
	var parts []string
	last := t.Decided
	for _, p := range []struct {
		name string
		at   time.Time
	}{{"released", t.Released}, {"activated", t.Activated}, {"users sent", t.Redirected}, {"seen healthy", t.Verified}} {
		if p.at.IsZero() || last.IsZero() {
			continue
		}
		parts = append(parts, fmt.Sprintf("%s +%d ms", p.name, p.at.Sub(last).Milliseconds()))
		last = p.at
	}
	return "decided, " + strings.Join(parts, ", ")
}

// follow prints the move as it goes on, until it has ended.
func (m *mover) follow(ctx context.Context, c *api.Client, r api.Request, decided failover.Record, start time.Time) error {
	interrupted := ctx
	ctx, cancel := context.WithTimeout(ctx, *m.timeout)
	defer cancel()
	t := &tracker{kind: r.Move, epoch: decided.Epoch, to: r.Site}
	good, lost := false, false
	for {
		err := c.Watch(ctx, func(s *api.Status) error {
			sv, ok := serviceOf(s, r.Service)
			if !ok {
				return nil
			}
			lines, ended, asked := t.see(sv)
			for _, line := range lines {
				writeText(m.stdout, fmt.Sprintf("%+9.3f s  ", m.now().Sub(start).Seconds()), line)
			}
			if ended {
				good = asked
				return errFollowed
			}
			return nil
		})
		switch {
		case errors.Is(err, errFollowed) && good:
			return nil
		case errors.Is(err, errFollowed):
			return exitCode(exitFailed)
		case interrupted.Err() != nil:
			return errors.New("interrupted: the move goes on without you; draasd status --watch follows it")
		case ctx.Err() != nil:
			return fmt.Errorf("not complete after %v, and the move goes on: see draasd why %s", *m.timeout, r.Service)
		}
		if !lost {
			lost = true
			fmt.Fprintf(m.stderr, "draasd %s: lost the daemon, the move goes on, asking again: %v\n", m.kind, ended(err))
		}
		select {
		case <-time.After(watchAgain):
		case <-ctx.Done():
		}
	}
}
