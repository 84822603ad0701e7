package failover

import (
	"fmt"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Commands is what a tick asks the caller to do. Proposals go to the log;
// the rest to the guard and to the effects of this machine.
type Commands struct {
	Propose []Event
	Extend  []Extend
	Close   []Close
	Steps   []StepCommand
	Fence   []FenceCommand
}

// FenceCommand asks for a device to switch a site off, to confirm that it is
// off, and to say so with DeviceOff. It is repeated while it stands.
type FenceCommand struct {
	Service draas.ServiceID // the unit of decision
	Site    draas.SiteID
	Epoch   draas.Epoch // the one that the site held
}

// Extend asks the guard to keep a service's fence open until the deadline.
type Extend struct {
	Service  draas.ServiceID
	Epoch    draas.Epoch
	Deadline draas.Deadline
}

// Close asks the guard to close a service's fence now, for the epoch and all
// before it, and to observe it closed.
type Close struct {
	Service draas.ServiceID
	Epoch   draas.Epoch
}

// StepCommand asks for a step of the present move, or to give up one of a
// move that was replaced.
type StepCommand struct {
	Due     runbook.Due
	Release bool
}

// Tick says what is to be proposed and commanded now. It is called after
// every change and when Next has passed; calling it more often does no harm.
func (a *Agent) Tick(now draas.Reading) Commands {
	var c Commands
	a.fresh = false
	if a.superseded {
		return c
	}
	if !a.greeted || a.state.Members[a.cfg.Self] == nil {
		a.proposeHello(&c, now)
		return c
	}
	a.proposeRules(&c, now)
	a.proposeRequest(&c, now)
	a.proposeViews(&c, now)
	a.proposeLags(&c, now)
	a.proposeFindings(&c, now)
	live := make(map[timerKey]bool)
	for _, id := range a.serviceIDs() {
		for _, duty := range a.dutiesOf(id) {
			switch {
			case duty.Kind == ActionTimer:
				a.measure(&c, duty, live, now)
			case duty.Member != a.cfg.Self:
			case duty.Kind == ActionTake:
				a.take(&c, duty, now)
			case duty.Kind == ActionStep:
				a.runStep(&c, duty, now)
			case duty.Kind == ActionFence:
				a.fence(&c, duty, now)
			}
		}
		a.guardDuty(&c, id, now)
	}
	for key := range a.started {
		if !live[key] {
			delete(a.started, key)
		}
	}
	a.renew(&c, now)
	return c
}

func (a *Agent) measure(c *Commands, duty Action, live map[timerKey]bool, now draas.Reading) {
	key := timerKey{duty.Service, duty.Timer, duty.Mark}
	live[key] = true
	start, known := a.started[key]
	if !known {
		start = now.Boot
		a.started[key] = start
	}
	if now.Boot-start < duty.After {
		return
	}
	a.propose(c, fmt.Sprintf("due %s %s %d", duty.Service, duty.Timer, duty.Mark), now, func() Event {
		e := a.event(EventDue, now)
		e.Service, e.Timer, e.Mark = duty.Service, duty.Timer, duty.Mark
		return e
	})
}

// take proposes the activation of this site as soon as the old permit is over.
func (a *Agent) take(c *Commands, duty Action, now draas.Reading) {
	sv := a.state.Services[duty.Service]
	evidence := ""
	switch {
	case !a.state.proven(duty.Service):
		return
	case sv.Active == "" && sv.Linger == 0:
		evidence = "it was never active"
	case sv.Active == "" && now.Boot < a.permitOver(duty.Service):
		return
	case sv.Active == "":
		evidence = "permits of an earlier policy are over"
	case sv.Fenced:
		evidence = fmt.Sprintf("%s is off, confirmed", sv.Active)
	case sv.Released:
		evidence = fmt.Sprintf("%s released epoch %s", sv.Active, sv.Epoch)
	case sv.Active == a.ownSite() && now.Boot < a.serveAfter:
		return // another machine may hold it, of which this one is a copy
	case sv.Active == a.ownSite():
		evidence = fmt.Sprintf("it held epoch %s itself", sv.Epoch)
	case sv.Move.Kind.Planned():
		return
	case a.state.leaseProves(duty.Service) && now.Boot < a.permitOver(duty.Service):
		return
	case sv.Move.Vouched:
		evidence = fmt.Sprintf("%s vouches that %s does not serve", sv.Move.Operator, sv.Active)
	default:
		evidence = fmt.Sprintf("the permit of epoch %s is over: %v waited out since its last renewal",
			sv.Epoch, a.state.Policy.Services[duty.Service].Lease.Wait())
	}
	a.propose(c, fmt.Sprintf("activate %s %d %s", duty.Service, duty.Epoch, sv.Move.Kind), now, func() Event {
		e := a.event(EventActivate, now)
		e.Service, e.Site, e.Epoch, e.Evidence = duty.Service, a.ownSite(), duty.Epoch, evidence
		a.sent[e.ID] = now
		return e
	})
}

// permitOver is when, on this member's boot clock, whatever permit somebody
// else may hold for the service is over.
func (a *Agent) permitOver(id draas.ServiceID) time.Duration {
	if at, known := a.over[id]; known {
		return at
	}
	return a.born.Boot + max(a.state.Policy.Services[id].Lease.Wait(), a.state.Services[id].Linger)
}

func (a *Agent) fence(c *Commands, duty Action, now draas.Reading) {
	off, ended := a.off[duty.Service]
	if !ended || off.epoch != duty.Epoch {
		c.Fence = append(c.Fence, FenceCommand{duty.Service, duty.Site, duty.Epoch})
		return
	}
	a.propose(c, fmt.Sprintf("fenced %s %d", duty.Service, duty.Epoch), now, func() Event {
		e := a.event(EventFenced, now)
		e.Service, e.Site, e.Epoch, e.Evidence = duty.Service, duty.Site, duty.Epoch, off.evidence
		return e
	})
}

func (a *Agent) runStep(c *Commands, duty Action, now draas.Reading) {
	rec, ended := a.finished[stepKey{duty.Service, duty.Epoch, duty.Step, duty.Release}]
	if !ended {
		c.Steps = append(c.Steps, StepCommand{Due: *duty.Due, Release: duty.Release})
		return
	}
	a.propose(c, fmt.Sprintf("done %s %d %s %t", duty.Service, duty.Epoch, duty.Step, duty.Release), now, func() Event {
		e := a.event(EventDone, now)
		e.Service, e.Epoch, e.Done = duty.Service, duty.Epoch, &rec
		return e
	})
}

// guardDuty keeps this site's fence as the log says: open while a permit
// lasts, else closed, and says so when the log waits for it.
func (a *Agent) guardDuty(c *Commands, id draas.ServiceID, now draas.Reading) {
	sv := a.state.Services[id]
	if !a.state.Policy.Services[id].has(a.ownSite()) {
		return
	}
	site, epoch, held := sv.Holder()
	if held && site == a.ownSite() {
		p := a.permits[id]
		if p.epoch == epoch && !p.deadline.Passed(now) && p != a.extended[id] {
			a.extended[id] = p
			for _, part := range a.state.parts(id) {
				c.Extend = append(c.Extend, Extend{part, epoch, p.deadline})
			}
		}
		return
	}
	open := false
	for _, part := range a.state.parts(id) {
		if a.closed[part] < sv.Epoch {
			c.Close = append(c.Close, Close{part, sv.Epoch})
			open = true
		}
	}
	if open {
		return
	}
	if sv.Active == a.ownSite() && sv.Revoked && !sv.Released && now.Boot >= a.serveAfter {
		a.propose(c, fmt.Sprintf("release %s %d", id, sv.Epoch), now, func() Event {
			e := a.event(EventRelease, now)
			e.Service, e.Epoch = id, sv.Epoch
			return e
		})
	}
}

// renew proposes one entry for all permits of this site when the first of
// them is due.
func (a *Agent) renew(c *Commands, now draas.Reading) {
	if now.Boot < a.serveAfter {
		return
	}
	for id := range a.renewNext {
		if _, has := a.state.Policy.Services[id]; !has {
			delete(a.renewNext, id) // the file has it no more
		}
	}
	due := false
	for _, id := range a.serviceIDs() {
		site, _, ok := a.state.Services[id].Holder()
		if !ok || site != a.ownSite() {
			delete(a.renewNext, id)
			continue
		}
		next, known := a.renewNext[id]
		if !known {
			a.renewNext[id] = now.Boot
		}
		due = due || !known || now.Boot >= next
	}
	if !due {
		return
	}
	held := make(map[draas.ServiceID]draas.Epoch, len(a.renewNext))
	for id := range a.renewNext {
		held[id] = a.state.Services[id].Epoch
		a.renewNext[id] = now.Boot + a.state.Policy.Services[id].Renew
	}
	e := a.event(EventRenew, now)
	e.Permits = held
	a.sent[e.ID] = now
	a.forgetSent(now)
	c.Propose = append(c.Propose, e)
}

// forgetSent drops readings of proposals that were lost: were they applied
// after so long, their permits would be over.
func (a *Agent) forgetSent(now draas.Reading) {
	longest := time.Duration(0)
	for _, p := range a.state.Policy.Services {
		longest = max(longest, p.Lease.Length)
	}
	for id, r := range a.sent {
		if now.Boot-r.Boot > longest {
			delete(a.sent, id)
		}
	}
}

// idle is how long an agent may be left alone that waits for nothing.
const idle = time.Minute

// Next says how long the caller may wait until the next Tick, if nothing
// else happens before.
func (a *Agent) Next(now draas.Reading) time.Duration {
	next := idle
	if len(a.pending) > 0 {
		next = a.cfg.Resend
	}
	at := func(t time.Duration) { next = min(next, max(t-now.Boot, 0)) }
	if a.serveAfter > now.Boot {
		at(a.serveAfter)
	}
	for _, t := range a.renewNext {
		at(max(t, a.serveAfter))
	}
	for _, id := range a.serviceIDs() {
		for _, duty := range a.dutiesOf(id) {
			switch {
			case duty.Kind == ActionTimer:
				if start, known := a.started[timerKey{duty.Service, duty.Timer, duty.Mark}]; known {
					if due := start + duty.After; due > now.Boot {
						at(due)
					}
				}
			case duty.Kind == ActionTake && duty.Member == a.cfg.Self && a.state.proven(id):
				if over := a.permitOver(id); over > now.Boot {
					at(over)
				}
			}
		}
	}
	return next
}
