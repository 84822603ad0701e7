package demo

import (
	"time"

	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/measure"
)

// Phases divide a downtime: their sum is the RTO. Each is the part of what the
// users saw, from their first failed request (or the fault, when that request
// was in flight then) to their first lasting good answer, that passed until
// the next turning point of the move:
//
//	detect     until a vantage suspected the service
//	confirm    until the move was decided in the log
//	fence      until the new site was active: the old permit released or over
//	act        until the move's steps were done: users are being sent on
//	propagate  until a user's answer came, and lasted
//
// A turning point before the first failure, as when a lease runs out before
// anybody fails, takes no part of the downtime; nor does one after the first
// good answer, as when the users come before the log says that they may.
type Phases struct {
	Detect    measure.Millis `json:"detect"`
	Confirm   measure.Millis `json:"confirm"`
	Fence     measure.Millis `json:"fence"`
	Act       measure.Millis `json:"act"`
	Propagate measure.Millis `json:"propagate"`
}

// list is the phases in order.
func (p Phases) list() []measure.Millis {
	return []measure.Millis{p.Detect, p.Confirm, p.Fence, p.Act, p.Propagate}
}

func phaseNames() []string { return []string{"detect", "confirm", "fence", "act", "propagate"} }

// phasesOf divides the downtime from the first failure to the first lasting
// good answer by the turning points of the move. A turning point that was not
// reached makes its phase empty.
func phasesOf(firstFailure, firstGood time.Time, t failover.Times) Phases {
	var out [5]measure.Millis
	suspected := t.Suspected
	if suspected.IsZero() {
		suspected = t.Failed
	}
	from := firstFailure
	for i, at := range []time.Time{suspected, t.Decided, t.Activated, t.Redirected, firstGood} {
		if at.After(firstGood) {
			at = firstGood
		}
		if at.After(from) {
			out[i] = measure.Millis(at.Sub(from))
			from = at
		}
	}
	return Phases{Detect: out[0], Confirm: out[1], Fence: out[2], Act: out[3], Propagate: out[4]}
}
