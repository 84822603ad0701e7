package sim

import (
	"context"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/runbook/effecttest"
)

// effects are what a daemon's run carries out of moves' plans, by the real
// contract (runbook.RunStep) on receivers that all members share.
type effects struct {
	fakes   map[string]*effecttest.Fake // by effect
	running map[stepID]bool
	wanted  map[stepID]bool
	fault   effecttest.Fault
	heal    []func()
	// slow attempts take up to by, until then, in true time.
	slowUntil, slow time.Duration
	fencing         map[draas.ServiceID]draas.Epoch // what devices were asked for
}

type stepID struct {
	service draas.ServiceID
	token   runbook.Token
	step    string
	release bool
}

// reset starts the executor of a new run. A fault outside goes on.
func (x *effects) reset(m *member) {
	x.fakes = make(map[string]*effecttest.Fake)
	x.running, x.wanted = make(map[stepID]bool), make(map[stepID]bool)
	x.fencing = make(map[draas.ServiceID]draas.Epoch)
	for name, r := range m.w.receivers {
		x.fakes[name] = effecttest.NewFake(r)
	}
	x.inject(x.fault)
}

// inject makes every effect of the member meet the fault; none heals.
func (x *effects) inject(f effecttest.Fault) {
	for _, heal := range x.heal {
		heal()
	}
	x.fault, x.heal = f, nil
	if f == "" {
		return
	}
	for _, fake := range x.fakes {
		x.heal = append(x.heal, fake.Inject(f))
	}
}

// retry is the pause between two attempts at a step, as the daemon has it.
const retry = 100 * ms

func (x *effects) follow(m *member, steps []failover.StepCommand) {
	if len(steps) == 0 && len(x.wanted) == 0 {
		return
	}
	clear(x.wanted)
	for _, s := range steps {
		op := s.Due.Op
		id := stepID{op.Service, op.Token, op.Step, s.Release}
		x.wanted[id] = true
		if !x.running[id] {
			x.running[id] = true
			x.attempt(m, id, s, ms)
		}
	}
}

// attempt runs a step after a while, and again until it has ended or is not
// wanted any more. The daemon may die between the attempt and its report.
func (x *effects) attempt(m *member, id stepID, s failover.StepCommand, in time.Duration) {
	w, run := m.w, m.run
	if x.slowUntil > w.now {
		in += w.between(0, x.slow)
	}
	w.after(in, func() {
		if m.run != run || m.daemon == nil {
			return
		}
		if m.frozen > w.now || m.stands() {
			x.attempt(m, id, s, max(m.frozen, m.stopped)-w.now+ms)
			return
		}
		if !x.wanted[id] {
			delete(x.running, id)
			return
		}
		fake := x.fakes[s.Due.Step.Effect]
		var res runbook.Result
		if s.Release {
			res = runbook.ReleaseStep(context.Background(), fake, s.Due.Op)
		} else {
			res = runbook.RunStep(context.Background(), fake, s.Due.Op)
		}
		if w.telling {
			w.note("%s step %s of %s %v: %s %v", m.id, id.step, id.service, id.token, res.Outcome, res.Err)
		}
		w.oracle.receivers()
		switch res.Outcome {
		case runbook.OutcomeDone, runbook.OutcomeReleased, runbook.OutcomeRefused:
			rec := runbook.Record{Service: id.service, Move: id.token, Step: id.step, Member: m.id, Outcome: res.Outcome, Evidence: res.Evidence}
			w.after(w.between(0, 30*ms), func() {
				if m.run == run && m.daemon != nil {
					m.daemon.StepEnded(rec)
					m.process()
				}
			})
		default:
			x.attempt(m, id, s, retry)
		}
	})
}

// device switches another site's machine off, and says so when it is. It stays
// off until somebody switches it on.
func (x *effects) device(m *member, c failover.FenceCommand) {
	if x.fencing[c.Service] >= c.Epoch {
		return
	}
	x.fencing[c.Service] = c.Epoch
	w, run := m.w, m.run
	w.after(w.between(20*ms, 600*ms), func() {
		there := w.member(c.Site.Member())
		// The command is on its way whatever becomes of the daemon.
		w.note("device: %s is switched off for %s", there.id, m.id)
		there.powerOff()
		w.felled = true
		if w.calm {
			// Somebody switches it on, as heal does with all the others.
			w.struck = w.now + w.p.Restart
			w.after(w.p.Restart, there.powerOn)
		}
		w.after(w.between(0, 50*ms), func() {
			if m.run == run && m.daemon != nil {
				m.daemon.DeviceOff(c.Service, c.Epoch, "off, seen twice")
				m.process()
			}
		})
	})
}
