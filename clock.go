package draas

import "time"

// Reading is one look at a machine's clocks. Boot is CLOCK_BOOTTIME since the
// boot: it counts suspend but not always a hypervisor's pause. Wall is
// CLOCK_REALTIME since the Unix epoch: it may be stepped. The two are only
// ever compared with readings of the same machine and boot.
type Reading struct {
	Boot time.Duration
	Wall time.Duration
}

// Add returns the reading d later on both clocks.
func (r Reading) Add(d time.Duration) Reading {
	return Reading{Boot: r.Boot + d, Wall: r.Wall + d}
}

// Sub returns the boot-clock time from earlier to r.
func (r Reading) Sub(earlier Reading) time.Duration { return r.Boot - earlier.Boot }

// Deadline is an instant on this machine after which something must have
// stopped. The zero Deadline has always passed.
type Deadline struct {
	Boot time.Duration `json:"boot"`
	Wall time.Duration `json:"wall"`
}

// DeadlineAt is the deadline d after the reading.
func DeadlineAt(r Reading, d time.Duration) Deadline {
	return Deadline{Boot: r.Boot + d, Wall: r.Wall + d}
}

// Passed reports whether either clock says that the deadline is over: a
// stepped wall clock may end a permit early, and neither a step nor a paused
// boot clock can lengthen it alone (DESIGN.md, section 4).
func (d Deadline) Passed(now Reading) bool {
	return now.Boot >= d.Boot || now.Wall >= d.Wall
}

// Left is the time that remains on the clock that is nearer to the deadline,
// or zero when it has passed.
func (d Deadline) Left(now Reading) time.Duration {
	left := min(d.Boot-now.Boot, d.Wall-now.Wall)
	return max(left, 0)
}

// Lease is the arithmetic of a permit: the holder stops before the successor
// may start, whatever two clocks do within Drift of each other.
type Lease struct {
	// Length is the lease L.
	Length time.Duration `json:"length"`
	// Drift is rho, the bound on a clock's rate error, slewing included
	// (chrony may slew by 8.3 %).
	Drift float64 `json:"drift"`
	// Margin is what the fence needs to close, taken off the holder's side.
	Margin time.Duration `json:"margin"`
}

// Hold is how long the holder may serve, counted on its own clock from before
// it sent the renewal: L(1-rho) - margin.
func (l Lease) Hold() time.Duration {
	return time.Duration(float64(l.Length)*(1-l.Drift)) - l.Margin
}

// Wait is how long a successor waits, counted on its own clock from when it
// applied the last valid renewal: L(1+rho).
func (l Lease) Wait() time.Duration {
	return time.Duration(float64(l.Length) * (1 + l.Drift))
}
