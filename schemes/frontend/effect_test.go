package frontend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/runbook/effecttest"
)

// world is a log that two frontends follow.
type world struct {
	mu                       sync.Mutex
	tables                   [2]*Table
	log                      Decision
	changed                  chan struct{}
	lost, late, quiet, blind bool
	kept                     []Decision
}

func newWorld() *world {
	w := &world{changed: make(chan struct{})}
	now := clock()
	for i := range w.tables {
		w.tables[i] = New(Config{Clock: now, Log: slog.New(slog.DiscardHandler)},
			[]Spec{{Service: effecttest.SampleOp(1, 0).Service, Outlives: true, Hold: Bounds{Time: time.Second}}})
	}
	return w
}

func (w *world) commit(d Decision) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.Epoch <= w.log.Epoch {
		return
	}
	w.log = d
	for _, t := range w.tables {
		_ = t.Apply(t.cfg.Clock(), effecttest.SampleOp(1, 0).Service, d)
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// executor is one member: the decision is proposed to the log, and the effect
// waits for what follows it.
type executor struct {
	*Effect
	w     *world
	first bool // meets the faults
}

func (w *world) executor(first bool) executor {
	return executor{NewEffect(EffectConfig{Follow: 100 * time.Millisecond, Followers: func(draas.ServiceID) ([]Follower, <-chan struct{}) {
		w.mu.Lock()
		defer w.mu.Unlock()
		var all []Follower
		for i, t := range w.tables {
			all = append(all, Follower{Frontend: fmt.Sprint("edge", i+1), Heard: !(first && w.blind), Report: t.Reports()[0]})
		}
		return all, w.changed
	}}), w, first}
}

func (x executor) Do(ctx context.Context, op runbook.Op) error {
	d := Decision{Epoch: op.Token.Epoch, Site: op.To}
	x.w.mu.Lock()
	lost, late, quiet := x.first && x.w.lost, x.first && x.w.late, x.first && x.w.quiet
	if late {
		x.w.kept = append(x.w.kept, d)
	}
	x.w.mu.Unlock()
	if !lost && !late && ctx.Err() == nil && !x.released.Has(op) {
		x.w.commit(d)
	}
	if quiet {
		return errors.New("the answer was lost")
	}
	return x.Effect.Do(ctx, op)
}

func (w *world) inject(f effecttest.Fault) func() {
	set := func(on bool) []Decision {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lost, w.late = on && f == effecttest.LoseRequest, on && f == effecttest.ApplyLate
		w.quiet, w.blind = on && f == effecttest.LoseAnswer, on && (f == effecttest.Blind || f == effecttest.LoseRequest)
		kept := w.kept
		if !on {
			w.kept = nil
		}
		return kept
	}
	set(true)
	return func() {
		for _, d := range set(false) {
			w.commit(d)
		}
	}
}

func TestEffectKeepsTheContract(t *testing.T) {
	effecttest.Run(t, func(testing.TB) effecttest.Harness {
		w := newWorld()
		return effecttest.Harness{
			Effect: w.executor(true), Second: w.executor(false), Op: effecttest.SampleOp,
			Snapshot: func() string {
				var out []string
				for _, t := range w.tables {
					out = append(out, fmt.Sprint(t.Reports()))
				}
				return strings.Join(out, "\n")
			},
			Inject: w.inject,
			Faults: []effecttest.Fault{effecttest.LoseRequest, effecttest.LoseAnswer, effecttest.ApplyLate, effecttest.Blind},
			Short:  50 * time.Millisecond,
		}
	})
}

// What Done makes of what frontends say.
func TestDoneJudgesFollowers(t *testing.T) {
	op := effecttest.SampleOp(7, 1)
	at := func(epoch draas.Epoch, site draas.SiteID, s State) Follower {
		return Follower{"edge1", true, Report{Epoch: epoch, Site: site, State: s}}
	}
	silent := Follower{Frontend: "edge2"}
	for name, c := range map[string]struct {
		all      []Follower
		want     runbook.Answer
		evidence string
	}{
		"all follow":       {[]Follower{at(7, op.To, Open), at(7, op.To, Open)}, runbook.Yes, "edge1: epoch=7"},
		"one is silent":    {[]Follower{at(7, op.To, Open), silent}, runbook.Yes, "edge2: not heard"},
		"all are silent":   {[]Follower{silent}, runbook.Unknown, "not heard"},
		"one is behind":    {[]Follower{at(7, op.To, Open), at(6, op.From, Open)}, runbook.No, "epoch=6"},
		"one is ahead":     {[]Follower{at(8, op.From, Open)}, runbook.No, "epoch=8"},
		"another site":     {[]Follower{at(7, op.From, Open)}, runbook.No, "epoch=7"},
		"its permit ended": {[]Follower{at(7, op.To, Wait)}, runbook.No, "wait"},
	} {
		e := NewEffect(EffectConfig{Followers: func(draas.ServiceID) ([]Follower, <-chan struct{}) { return c.all, nil }})
		got, evidence, err := e.Done(t.Context(), op)
		if got != c.want || !strings.Contains(evidence, c.evidence) || (err != nil) != (got == runbook.Unknown) {
			t.Errorf("%s: %s %q %v, want %s %q", name, got, evidence, err, c.want, c.evidence)
		}
	}
}
