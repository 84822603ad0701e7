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

const (
	// maxRepairs is how often in an hour what a completed move has made is put
	// right: who changes it more often does so on purpose, and is told of instead
	// of fought.
	maxRepairs = 3
	// firstTry is the pause before what was never in force yet is tried again; it
	// doubles up to the period.
	firstTry = 200 * time.Millisecond
)

// overseer looks, while no move is under way, whether users are still led to
// where the last move led them, and puts right what was changed by others. It
// is also what leads a name to another entry. The active site's member does it,
// which made the move.
type overseer struct {
	site draas.SiteID
	log  *slog.Logger
	now  func() time.Time
	find func(failover.Finding) // told to the log

	all  sync.WaitGroup
	mu   sync.Mutex
	w    *wiring
	jobs map[watched]*oversight
	seen uint64 // index up to which acknowledgements were heeded; 0: nothing was followed yet
}

// watched is what one path, under one epoch, has made.
type watched struct {
	unit  draas.ServiceID
	path  string
	epoch draas.Epoch
}

// oversight is what is known of it.
type oversight struct {
	cancel   context.CancelFunc
	turn     uint64
	site     draas.SiteID
	began    time.Time
	landed   bool // it was seen in force
	answer   runbook.Answer
	looked   bool
	evidence string
	since    time.Time
	repairs  []time.Time // that came into force, within the last hour
	told     telling
}

func newOverseer(site draas.SiteID, log *slog.Logger, find func(failover.Finding)) *overseer {
	return &overseer{site: site, log: log, now: time.Now, find: find, jobs: make(map[watched]*oversight)}
}

// use takes over the effects of a wiring: what is looked at is ended, and begun
// anew by follow.
func (o *overseer) use(w *wiring) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key := range o.jobs {
		o.end(key)
	}
	o.w = w
}

// end ends a job. o.mu is held.
func (o *overseer) end(key watched) {
	o.jobs[key].cancel()
	delete(o.jobs, key)
}

// follow looks at what is active here and not moving, and at nothing else.
func (o *overseer) follow(ctx context.Context, s failover.State) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acknowledged(s)
	wanted := make(map[watched]bool)
	for unit := range o.w.effects {
		sv := s.Services[unit]
		if sv == nil || sv.Active != o.site || sv.Revoked || sv.Phase.Moving() || sv.Last == nil || sv.Last.Epoch != sv.Epoch {
			continue
		}
		for _, p := range o.w.paths(unit) {
			key := watched{unit, p.name, sv.Epoch}
			wanted[key] = true
			if ctx.Err() == nil {
				o.watch(ctx, key, p, p.op(s, unit, o.site.Member()))
			}
		}
	}
	for key := range o.jobs {
		if !wanted[key] {
			o.end(key)
		}
	}
}

// watch begins to look at a path, at once, unless it does so already. Another
// turn is another job, which goes on counting where the one before was. o.mu is
// held.
func (o *overseer) watch(ctx context.Context, key watched, p path, op runbook.Op) {
	was := o.jobs[key]
	if was != nil && was.turn == op.Token.Turn {
		return
	}
	runs, cancel := context.WithCancel(ctx)
	j := &oversight{cancel: cancel, turn: op.Token.Turn, site: op.To, began: o.now()}
	if was != nil {
		was.cancel()
		j.repairs, j.told = was.repairs, was.told
	}
	o.jobs[key] = j
	o.all.Go(func() { o.run(runs, j, p, op) })
}

// acknowledged begins anew, at once, with what a person has seen. o.mu is held.
func (o *overseer) acknowledged(s failover.State) {
	for _, r := range slices.Backward(s.History) {
		if o.seen == 0 || r.Index <= o.seen {
			break
		}
		if r.Kind != failover.RecordAcknowledge {
			continue
		}
		for key := range o.jobs {
			if key.unit == r.Service {
				o.end(key)
			}
		}
	}
	o.seen = max(o.seen, s.Index)
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

func (o *overseer) run(ctx context.Context, j *oversight, p path, op runbook.Op) {
	log := o.log.With("service", op.Service, "epoch", op.Token.Epoch, "step", op.Step)
	if op.Token.Turn > 0 {
		log = log.With("turn", op.Token.Turn)
	}
	for again := firstTry; ; again = min(2*again, p.every) {
		landed := o.look(ctx, log, j, p, op)
		if ctx.Err() != nil {
			return
		}
		rest := p.every
		if !landed {
			rest = min(again, p.every)
		}
		// Members and services are not asked in step.
		pause(ctx, time.Duration(float64(rest)*(0.9+0.2*rand.Float64())))
	}
}

// sighting is how one look ended.
type sighting struct {
	answer   runbook.Answer
	evidence string
	before   string // what was there, if it was put right
	repaired bool
	refused  bool // a repair was, so as not to fight
}

// look looks once, and puts right what is not as decided. It reports whether
// that was ever seen in force.
func (o *overseer) look(ctx context.Context, log *slog.Logger, j *oversight, p path, op runbook.Op) (landed bool) {
	attempt, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var s sighting
	var err error
	s.answer, s.evidence, err = p.effect.Done(attempt, op)
	if err != nil {
		s.evidence = err.Error()
	}
	if s.answer == runbook.No && ctx.Err() == nil {
		o.repair(attempt, log, j, p, op, &s)
	}
	if ctx.Err() != nil {
		return false
	}
	return o.took(log, j, op, s)
}

// repair makes one attempt to bring into force what was decided.
func (o *overseer) repair(ctx context.Context, log *slog.Logger, j *oversight, p path, op runbook.Op, s *sighting) {
	if !o.mayRepair(j, op) {
		s.refused = true
		return
	}
	log.Warn("users are not led as decided: putting it right", "evidence", s.evidence)
	res := runbook.RunStep(ctx, p.effect, op)
	switch {
	case res.Outcome == runbook.OutcomeDone:
		s.answer, s.before, s.evidence, s.repaired = runbook.Yes, s.evidence, res.Evidence, true
	case res.Outcome == runbook.OutcomeRefused: // something later is decided, and has not come here yet
		s.answer, s.evidence = runbook.Unknown, res.Err.Error()
	case res.Err != nil:
		s.evidence += "; " + res.Err.Error()
	}
}

// fresh: it has just been decided where users enter, and nobody can have changed
// what was never in force.
func (j *oversight) fresh(op runbook.Op) bool { return op.Token.Turn > 0 && !j.landed }

// mayRepair reports whether another repair is let through. What was decided and
// is not yet in force is no repair.
func (o *overseer) mayRepair(j *oversight, op runbook.Op) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if j.fresh(op) {
		return true
	}
	now := o.now()
	j.repairs = slices.DeleteFunc(j.repairs, func(at time.Time) bool { return now.Sub(at) >= time.Hour })
	return len(j.repairs) < maxRepairs
}

// took notes what a look has found. It reports whether it was ever in force.
func (o *overseer) took(log *slog.Logger, j *oversight, op runbook.Op, s sighting) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	first := j.fresh(op)
	if s.repaired && !first {
		j.repairs = append(j.repairs, now)
	}
	changed := !j.looked || j.answer != s.answer
	if changed {
		j.since = now
	}
	switch {
	case s.repaired && first:
		log.Info("users are led to where they enter now", "site", op.To, "evidence", s.evidence)
	case changed && s.answer == runbook.No:
		log.Error("users are not led as decided", "evidence", s.evidence)
	case changed && s.answer == runbook.Unknown:
		log.Warn("it is not known whether users are led as decided", "err", s.evidence)
	case changed && j.looked:
		log.Info("users are led as decided again", "evidence", s.evidence)
	}
	j.looked, j.answer, j.evidence = true, s.answer, s.evidence
	j.landed = j.landed || s.answer == runbook.Yes
	if code := findingOf(j, s, first, now); j.told.tell(code, now) {
		text := s.evidence
		if s.repaired {
			text = "it was " + s.before
		}
		o.find(failover.Finding{Service: op.Service, Epoch: op.Token.Epoch, Step: op.Step, Code: code, Text: text})
	}
	return j.landed
}

// report tells what was seen last.
func (o *overseer) report() []api.UserPath {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []api.UserPath
	for key, j := range o.jobs {
		if j.looked {
			out = append(out, api.UserPath{Service: key.unit, Step: key.path, Site: j.site, AsDecided: j.answer.String(), Evidence: j.evidence,
				Since: j.since.UTC(), Repairs: len(j.repairs)})
		}
	}
	slices.SortFunc(out, func(a, b api.UserPath) int {
		return cmp.Or(strings.Compare(string(a.Service), string(b.Service)), strings.Compare(a.Step, b.Step))
	})
	return out
}
