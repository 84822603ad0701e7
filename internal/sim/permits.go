package sim

import "github.com/draasd/draas/failover"

// commanded: a daemon tells its guard how long its permit lasts. It counts from
// before it sent the renewal, and what it sent is in force when others have
// answered: a round trip of it is over by now, by the slowest clock.
func (o *oracle) commanded(m *member, x failover.Extend) {
	hold := o.unit(o.w.part(x.Service).unit).policy.Lease.Hold()
	trip := 2 * o.w.p.Delay
	if left := x.Deadline.Left(m.reading()); float64(left) > float64(hold)-(1-drift)*float64(trip)+1 {
		o.w.violation("section 4: %s counts its permit of %s from later than it sent the renewal: %v of %v are left", m.id, x.Service, left, hold)
	}
}
