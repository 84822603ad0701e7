package demo

import (
	"context"
	"sync"
	"time"
)

const (
	stallTick = 10 * time.Millisecond
	// stallLate is from when on a late wake-up counts as a stall of the
	// machine: it can explain a long downtime or a needless suspicion.
	stallLate = 50 * time.Millisecond
)

// stalls are the times in which the machine did not let a waiting goroutine
// run.
type stalls struct {
	Count   int
	Longest time.Duration
	Total   time.Duration
}

func (s *stalls) add(late time.Duration) {
	if late > stallLate {
		s.Count++
		s.Longest = max(s.Longest, late)
		s.Total += late
	}
}

// watchStalls watches until stop is called, which returns what it saw.
func watchStalls() (stop func() stalls) {
	ctx, cancel := context.WithCancel(context.Background())
	var seen stalls
	var wg sync.WaitGroup
	wg.Go(func() {
		timer := time.NewTimer(stallTick)
		defer timer.Stop()
		for due := time.Now().Add(stallTick); ; {
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			now := time.Now()
			seen.add(now.Sub(due))
			due = now.Add(stallTick)
			timer.Reset(stallTick)
		}
	})
	return func() stalls {
		cancel()
		wg.Wait()
		return seen
	}
}
