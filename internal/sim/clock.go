package sim

import (
	"time"

	"github.com/draasd/draas"
)

// epoch1 is where the simulated wall clocks start, since the Unix epoch.
const epoch1 = 500_000 * time.Hour

// clocks are a machine's: both run at a rate, until the next change of it.
type clocks struct {
	since      time.Duration // true time of the last change
	boot, wall time.Duration // at since
	rate       float64
	bootStands bool // the machine is stopped
	wallStands bool
}

func (c *clocks) at(now time.Duration) draas.Reading {
	d := time.Duration(float64(now-c.since) * c.rate)
	r := draas.Reading{Boot: c.boot, Wall: c.wall}
	if !c.bootStands {
		r.Boot += d
	}
	if !c.wallStands {
		r.Wall += d
	}
	return r
}

// set prepares a change at the true time now.
func (c *clocks) set(now time.Duration) {
	r := c.at(now)
	c.since, c.boot, c.wall = now, r.Boot, r.Wall
}

// real is how long something takes in true time that takes d by these clocks.
func (c *clocks) real(d time.Duration) time.Duration {
	return time.Duration(float64(d)/c.rate) + time.Microsecond
}
