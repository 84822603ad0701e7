package daemon

import (
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/schemes/frontend"
)

// drain is the time in which the frontends end what is under way to a site
// that hands over, before its fence is closed.
type drain struct {
	epoch draas.Epoch
	until time.Duration // boot clock
	wake  *time.Timer
}

// hold takes closes out of what is commanded that may wait: those of planned
// moves, while a frontend that is heard still has requests under way to the
// site, and for as long as the file says. What the permit's own end closes
// waits for nothing: the guard does it.
func (f *frontends) hold(c failover.Commands, s failover.State, now draas.Reading) failover.Commands {
	f.mu.Lock()
	defer f.mu.Unlock()
	live := make(map[draas.ServiceID]bool)
	var due []failover.Close
	for _, x := range c.Close {
		if !f.holds(x, s, now) {
			due = append(due, x)
		}
		live[x.Service] = true
	}
	for id, d := range f.drains {
		if !live[id] {
			d.wake.Stop()
			delete(f.drains, id)
		}
	}
	c.Close = due
	return c
}

func (f *frontends) holds(x failover.Close, s failover.State, now draas.Reading) bool {
	svc, _ := f.w.cfg.Service(x.Service)
	sv := s.Services[f.units[x.Service]]
	if svc.Frontend.Drain == 0 || sv == nil || sv.Move == nil || !sv.Move.Kind.Planned() || !sv.Revoked || sv.Epoch != x.Epoch {
		return false
	}
	d := f.drains[x.Service]
	if d == nil || d.epoch != x.Epoch {
		if d != nil {
			d.wake.Stop()
		}
		d = &drain{epoch: x.Epoch, until: now.Boot + svc.Frontend.Drain, wake: time.AfterFunc(svc.Frontend.Drain, f.poke)}
		f.drains[x.Service] = d
	}
	if now.Boot >= d.until {
		return false
	}
	for _, y := range f.of(x.Service, now) {
		// One that has not heard of the revocation yet still leads there.
		if y.Heard && y.Epoch <= x.Epoch && (y.State == frontend.Open || y.Flights > 0) {
			return true
		}
	}
	return false
}
