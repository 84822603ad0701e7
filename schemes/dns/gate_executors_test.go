package dns

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas"
)

// A is cut off from the quorum and goes on as long as it may; B is the
// successor. However their clocks run, and whatever the receiver does with A's
// requests within its bounds, none is applied after B's first read.
func TestGateTwoExecutors(t *testing.T) {
	for _, rates := range [][2]float64{{1, 1}, {0.9, 1.1}, {1.1, 0.9}, {0.9, 0.9}, {1.1, 1.1}} {
		for _, after := range []time.Duration{0, time.Millisecond, gateWindow, time.Minute} { // the cut, to the entry
			for _, known := range []bool{true, false} {
				t.Run(fmt.Sprintf("%v %v %t", rates, after, known), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { twoExecutors(t, rates, after, known) })
				})
			}
		}
	}
}

func twoExecutors(t *testing.T, rates [2]float64, after time.Duration, known bool) {
	a, b := newGateMember(rates[0]), newGateMember(rates[1])
	a.superseded[token(1)] = draas.Reading{Boot: -time.Hour}
	a.latest["shop"] = token(1)
	ga, gb := a.gate(t), b.gate(t)
	a.leave()
	var applied, read time.Time
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 1; i < 100; i++ {
			p, err := ga.Enter(t.Context(), gateOp("shop", 1))
			if err != nil {
				t.Error(err)
				return
			}
			err = p.Send(t.Context(), func(ctx context.Context) (bool, error) {
				// As long as a request can take by a slow clock, and most often
				// just before the lease ends.
				took := time.Duration(float64(gateRequest) / rates[0])
				if i > 1 {
					applied = time.Now().Add(took + gateLate)
					return false, wait(context.WithoutCancel(ctx), took)
				}
				hold := time.Duration(float64(gateWindow)/rates[0]) - time.Millisecond
				return true, wait(context.WithoutCancel(ctx), hold)
			})
			p.Leave()
			if errors.Is(err, ErrNoLease) {
				return
			}
		}
	})
	wg.Go(func() {
		time.Sleep(after)
		b.apply("shop", token(2))
		if !known {
			delete(b.superseded, token(2))
		}
		p, err := gb.Enter(t.Context(), gateOp("shop", 2))
		if err != nil {
			t.Error(err)
			return
		}
		read = time.Now()
		if err := p.Send(t.Context(), answered); err != nil {
			t.Error(err)
		}
		p.Leave()
	})
	wg.Wait()
	if applied.IsZero() {
		t.Fatal("A never sent: nothing was tried")
	}
	if !applied.Before(read) {
		t.Errorf("A's request was applied %v after B's first read", applied.Sub(read))
	}
	// Nor is it much longer than it has to be: Late, which no clock of A's
	// counts, is stretched like the rest.
	if spare := read.Sub(applied); after == 0 && rates == [2]float64{0.9, 1.1} && spare > gateLate*3/10 {
		t.Errorf("B waited %v too long", spare)
	}
}
