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

// executor carries out the effects of moves. Each runs until it was observed
// done or the decision does not want it any more.
type executor struct {
	effects map[draas.ServiceID]map[string]runbook.Effect
	self    draas.MemberID
	log     *slog.Logger
	done    func(service draas.ServiceID, epoch draas.Epoch, step, evidence string)

	mu      sync.Mutex
	running map[stepID]context.CancelFunc
	all     sync.WaitGroup
}

type stepID struct {
	service draas.ServiceID
	epoch   draas.Epoch
	step    string
}

// follow starts the steps that are wanted and not running, and ends those
// that are not wanted any more.
func (x *executor) follow(ctx context.Context, steps []failover.StepCommand) {
	x.mu.Lock()
	defer x.mu.Unlock()
	wanted := make(map[stepID]bool, len(steps))
	for _, s := range steps {
		id := stepID{s.Service, s.Epoch, s.Step}
		wanted[id] = true
		if _, running := x.running[id]; running {
			continue
		}
		effect := x.effects[s.Service][s.Step]
		if effect == nil {
			x.log.Error("no effect has this name: the policy in force is another file's", "service", s.Service, "step", s.Step)
			x.running[id] = func() {}
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
	op := runbook.Op{Service: s.Service, Token: runbook.Token{Epoch: s.Epoch}, Kind: runbook.Kind(s.Move.Kind),
		From: s.Move.From, To: s.Move.To, Step: s.Step, Member: x.self}
	log := x.log.With("service", s.Service, "epoch", s.Epoch, "step", s.Step)
	lastErr := ""
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, effect.Promise().Worst)
		res := runbook.RunStep(attempt, effect, op)
		cancel()
		if res.Outcome == runbook.OutcomeDone {
			log.Info("step done", "evidence", res.Evidence)
			x.done(s.Service, s.Epoch, s.Step, res.Evidence)
			return
		}
		if ctx.Err() == nil && res.Err != nil && res.Err.Error() != lastErr {
			lastErr = res.Err.Error()
			log.Warn("step not done yet", "outcome", res.Outcome, "err", res.Err, "evidence", res.Evidence)
		}
		pause(ctx, stepRetry)
	}
}
