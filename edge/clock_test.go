package edge

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
)

// The cheap clock goes with the exact one, and a suspend is seen by one of its
// two clocks at once and by the other within clockEvery.
func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var slept atomic.Int64
		exact := func() draas.Reading {
			d := time.Since(start) + time.Hour + time.Duration(slept.Load())
			return draas.Reading{Boot: d, Wall: d}
		}
		c := newClock(exact)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { c.run(ctx); close(ended) }()
		defer func() { stop(); <-ended }()
		time.Sleep(7 * time.Second)
		if got := c.Now(); got.Boot != exact().Boot {
			t.Errorf("boot time is %v, the cheap clock says %v", exact().Boot, got.Boot)
		}
		if got := c.Now().Wall; got != time.Duration(time.Now().UnixNano()) {
			t.Errorf("the wall clock says %v", got)
		}
		slept.Store(int64(time.Minute))
		time.Sleep(clockEvery + time.Millisecond)
		if got := c.Now(); got.Boot != exact().Boot {
			t.Errorf("after a suspend boot time is %v, the cheap clock says %v", exact().Boot, got.Boot)
		}
	})
}

func BenchmarkClock(b *testing.B) {
	c := newClock(func() draas.Reading { return draas.Reading{} })
	for b.Loop() {
		c.Now()
	}
}
