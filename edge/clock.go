package edge

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
)

// clock reads the clocks of a machine twice a request, for little: Go reads
// CLOCK_REALTIME and CLOCK_MONOTONIC without a system call, CLOCK_BOOTTIME only
// by one. Boot time is monotonic time and what the machine was suspended for;
// that is read every clockEvery. A suspend is seen at once all the same, by the
// wall clock, which the kernel sets right when it wakes: a deadline has passed
// when either says so.
type clock struct {
	exact func() draas.Reading
	base  time.Time
	ahead atomic.Int64 // of boot time before the monotonic time since base
}

// clockEvery is how often boot time is read.
const clockEvery = 20 * time.Millisecond

func newClock(exact func() draas.Reading) *clock {
	c := &clock{exact: exact, base: time.Now()}
	c.set()
	return c
}

// set reads boot time. What passes between the two reads makes it too late
// rather than too early: then a permit ends earlier.
func (c *clock) set() {
	since := time.Since(c.base)
	c.ahead.Store(int64(c.exact().Boot - since))
}

// Now is a reading of both clocks.
func (c *clock) Now() draas.Reading {
	now := time.Now()
	return draas.Reading{Boot: now.Sub(c.base) + time.Duration(c.ahead.Load()), Wall: time.Duration(now.UnixNano())}
}

// run keeps boot time right until ctx ends.
func (c *clock) run(ctx context.Context) {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.set()
		}
	}
}
