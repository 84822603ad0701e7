package daemon

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// stepRetry is the pause between two attempts at a step.
const stepRetry = 100 * time.Millisecond

// executor carries out the steps of moves. Each runs until it has ended or
// the decision does not want it any more.
type executor struct {
	effects map[draas.ServiceID]map[string]runbook.Effect
	log     *slog.Logger
	ended   func(runbook.Record)

	mu      sync.Mutex
	running map[stepID]context.CancelFunc
	lacking map[stepID]bool // complained about: no effect has their name
	all     sync.WaitGroup
}

func newExecutor(log *slog.Logger, ended func(runbook.Record)) *executor {
	return &executor{log: log, ended: ended, running: make(map[stepID]context.CancelFunc), lacking: make(map[stepID]bool)}
}

// use takes over the effects of a wiring. Attempts under way go on with those
// that they began with.
func (x *executor) use(effects map[draas.ServiceID]map[string]runbook.Effect) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.effects = effects
	clear(x.lacking)
}

type stepID struct {
	service draas.ServiceID
	token   runbook.Token
	step    string
	release bool
}

// follow starts the steps that are wanted and not running, and ends those
// that are not wanted any more.
func (x *executor) follow(ctx context.Context, steps []failover.StepCommand) {
	x.mu.Lock()
	defer x.mu.Unlock()
	wanted := make(map[stepID]bool, len(steps))
	for _, s := range steps {
		op := s.Due.Op
		id := stepID{op.Service, op.Token, op.Step, s.Release}
		wanted[id] = true
		if _, running := x.running[id]; running {
			continue
		}
		effect := x.effects[op.Service][s.Due.Step.Effect]
		if effect == nil {
			if !x.lacking[id] {
				x.lacking[id] = true
				x.log.Error("no effect has this name: the policy in force is another file's", "service", op.Service, "effect", s.Due.Step.Effect)
			}
			continue
		}
		stepCtx, cancel := context.WithCancel(ctx)
		x.running[id] = cancel
		x.all.Go(func() { x.run(stepCtx, effect, s) })
	}
	for id, cancel := range x.running {
		if !wanted[id] {
			cancel()
			delete(x.running, id)
		}
	}
}

// wait ends all steps and waits for them.
func (x *executor) wait() {
	x.mu.Lock()
	for _, cancel := range x.running {
		cancel()
	}
	x.mu.Unlock()
	x.all.Wait()
}

func (x *executor) run(ctx context.Context, effect runbook.Effect, s failover.StepCommand) {
	op := s.Due.Op
	log := x.log.With("service", op.Service, "epoch", op.Token.Epoch, "step", op.Step)
	lastErr := ""
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, s.Due.Step.Timeout)
		var res runbook.Result
		if s.Release {
			res = runbook.ReleaseStep(attempt, effect, op)
		} else {
			res = runbook.RunStep(attempt, effect, op)
		}
		cancel()
		switch res.Outcome {
		case runbook.OutcomeDone, runbook.OutcomeReleased, runbook.OutcomeRefused:
			log.Info("step ended", "outcome", res.Outcome, "evidence", res.Evidence, "err", res.Err)
			x.ended(runbook.Record{Service: op.Service, Move: op.Token, Step: op.Step, Member: op.Member,
				Outcome: res.Outcome, Evidence: res.Evidence})
			return
		}
		if ctx.Err() == nil && res.Err != nil && res.Err.Error() != lastErr {
			lastErr = res.Err.Error()
			log.Warn("step not done yet", "outcome", res.Outcome, "err", res.Err, "evidence", res.Evidence)
		}
		pause(ctx, stepRetry)
	}
}
