package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// maxRepairs is how often in an hour what a completed move has made is put
// right: who changes it more often does so on purpose, and is told of instead
// of fought.
const maxRepairs = 3

// overseer looks, while no move is under way, whether users are still led to
// where the last move led them, and puts right what was changed by others. The
// active site's member does it, which made the move.
type overseer struct {
	site draas.SiteID
	log  *slog.Logger
	now  func() time.Time

	all  sync.WaitGroup
	mu   sync.Mutex
	w    *wiring
	jobs map[watched]*oversight
}

// watched is what one step of a completed move has made.
type watched struct {
	unit  draas.ServiceID
	step  string
	epoch draas.Epoch
}

// oversight is what is known of it.
type oversight struct {
	cancel   context.CancelFunc
	answer   runbook.Answer
	looked   bool
	evidence string
	since    time.Time
	repairs  []time.Time // within the last hour
}

func newOverseer(site draas.SiteID, log *slog.Logger) *overseer {
	return &overseer{site: site, log: log, now: time.Now, jobs: make(map[watched]*oversight)}
}

// use takes over the effects of a wiring: what is looked at is ended, and begun
// anew by follow.
func (o *overseer) use(w *wiring) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, j := range o.jobs {
		j.cancel()
		delete(o.jobs, key)
	}
	o.w = w
}

// follow looks at what is active here and not moving, and at nothing else.
func (o *overseer) follow(ctx context.Context, s failover.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	wanted := make(map[watched]bool)
	for unit, effects := range o.w.effects {
		sv := s.Services[unit]
		if sv == nil || sv.Active != o.site || sv.Revoked || sv.Phase.Moving() || sv.Last == nil || sv.Last.Epoch != sv.Epoch {
			continue
		}
		for step, effect := range effects {
			key := watched{unit, step, sv.Epoch}
			wanted[key] = true
			if o.jobs[key] != nil || ctx.Err() != nil {
				continue
			}
			runs, cancel := context.WithCancel(ctx)
			j := &oversight{cancel: cancel}
			o.jobs[key] = j
			op := runbook.Op{Service: unit, Token: runbook.Token{Epoch: sv.Epoch}, Kind: sv.Last.Kind, From: sv.Last.From, To: sv.Active,
				Step: step, Member: o.site.Member()}
			every, timeout := o.w.observe[unit][step], o.timeout(unit, step)
			o.all.Go(func() { o.run(runs, j, effect, op, every, timeout) })
		}
	}
	for key, j := range o.jobs {
		if !wanted[key] {
			j.cancel()
			delete(o.jobs, key)
		}
	}
}

// timeout is what one attempt at a step may take.
func (o *overseer) timeout(unit draas.ServiceID, step string) time.Duration {
	for _, s := range o.w.policy.Services[unit].Steps {
		if s.Name == step {
			return s.Timeout
		}
	}
	return stepTimeout
}

// wait ends all and waits. Nothing may follow it.
func (o *overseer) wait() {
	o.mu.Lock()
	for _, j := range o.jobs {
		j.cancel()
	}
	o.mu.Unlock()
	o.all.Wait()
}

func (o *overseer) run(ctx context.Context, j *oversight, effect runbook.Effect, op runbook.Op, every, timeout time.Duration) {
	log := o.log.With("service", op.Service, "epoch", op.Token.Epoch, "step", op.Step)
	for {
		// Members and services are not asked in step.
		pause(ctx, time.Duration(float64(every)*(0.9+0.2*rand.Float64())))
		attempt, cancel := context.WithTimeout(ctx, timeout)
		answer, evidence, err := effect.Done(attempt, op)
		if err != nil {
			evidence = err.Error()
		}
		if answer == runbook.No && ctx.Err() == nil && o.mayRepair(j) {
			log.Warn("users are not led as decided: putting it right", "evidence", evidence)
			res := runbook.RunStep(attempt, effect, op)
			if res.Outcome == runbook.OutcomeDone {
				answer, evidence = runbook.Yes, res.Evidence
			} else if res.Err != nil {
				evidence += "; " + res.Err.Error()
			}
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		o.took(log, j, answer, evidence)
	}
}

// mayRepair reports whether another repair is let through, and counts it.
func (o *overseer) mayRepair(j *oversight) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	j.repairs = slices.DeleteFunc(j.repairs, func(at time.Time) bool { return now.Sub(at) >= time.Hour })
	if len(j.repairs) >= maxRepairs {
		return false
	}
	j.repairs = append(j.repairs, now)
	return true
}

func (o *overseer) took(log *slog.Logger, j *oversight, answer runbook.Answer, evidence string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	changed := !j.looked || j.answer != answer
	if changed {
		j.since = o.now()
	}
	switch {
	case changed && answer == runbook.No:
		log.Error("users are not led as decided", "evidence", evidence)
	case changed && answer == runbook.Unknown:
		log.Warn("it is not known whether users are led as decided", "err", evidence)
	case changed && j.looked:
		log.Info("users are led as decided again", "evidence", evidence)
	}
	j.looked, j.answer, j.evidence = true, answer, evidence
}

// report tells what was seen last.
func (o *overseer) report() []api.UserPath {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []api.UserPath
	for key, j := range o.jobs {
		if j.looked {
			out = append(out, api.UserPath{Service: key.unit, Step: key.step, AsDecided: j.answer.String(), Evidence: j.evidence,
				Since: j.since.UTC(), Repairs: len(j.repairs)})
		}
	}
	slices.SortFunc(out, func(a, b api.UserPath) int {
		return cmp.Or(strings.Compare(string(a.Service), string(b.Service)), strings.Compare(a.Step, b.Step))
	})
	return out
}
