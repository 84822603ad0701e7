package dns

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

func TestBrake(t *testing.T) {
	b := NewBrake()
	at := func(d time.Duration) draas.Reading {
		return draas.Reading{Boot: 10*time.Hour + d, Wall: 99*time.Hour - d}
	}
	for i, step := range []struct {
		epoch  draas.Epoch
		after  time.Duration
		byHand bool
		held   string
	}{
		{epoch: 1, after: 0},
		{epoch: 2, after: 10 * time.Minute},
		{epoch: 2, after: 11 * time.Minute}, // the same again
		{epoch: 1, after: 12 * time.Minute}, // an older one is not ours to refuse
		{epoch: 3, after: 20 * time.Minute},
		{epoch: 4, after: 30 * time.Minute, held: "held for 30m0s more"},
		{epoch: 4, after: 59 * time.Minute, held: "held for 1m0s more"},
		{epoch: 4, after: 60 * time.Minute}, // the first is forgotten
		{epoch: 5, after: 61 * time.Minute, held: "held for 9m0s more"},
		{epoch: 6, after: 62 * time.Minute, byHand: true},                    // and counts
		{epoch: 7, after: 71 * time.Minute, held: "moved 3 times"},           // 3, 4, 6
		{epoch: 7, after: 71 * time.Minute, held: "held for 9m0s more"},      // asking changes nothing
		{epoch: 7, after: 3 * time.Hour},                                     // all forgotten
		{epoch: 1 << 33, after: 3*time.Hour + time.Minute},                   // another generation
		{epoch: 1<<33 + 1, after: 3*time.Hour + 2*time.Minute},               // three again
		{epoch: 1<<33 + 2, after: 3*time.Hour + 3*time.Minute, held: "held"}, // as before
	} {
		err := b.Move("shop", runbook.Token{Epoch: step.epoch}, step.byHand, 3, at(step.after))
		if step.held == "" && err != nil || step.held != "" && (!errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), step.held)) {
			t.Errorf("step %d, epoch %d: %v, want %q", i, step.epoch, err, step.held)
		}
	}
	for turn := range uint64(4) { // where users enter is a move like any other
		err := b.Move("crm", runbook.Token{Epoch: 9, Turn: turn}, false, 3, at(4*time.Hour))
		if errors.Is(err, ErrHeld) != (turn == 3) {
			t.Errorf("turn %d: %v", turn, err)
		}
	}
	b.Forget("shop")
	b.Forget("nobody")
	for i, held := range []bool{false, false, false, true} {
		err := b.Move("shop", runbook.Token{Epoch: 1<<33 + 2 + draas.Epoch(i)}, false, 3, at(3*time.Hour+4*time.Minute))
		if errors.Is(err, ErrHeld) != held {
			t.Errorf("move %d after a person has seen the others: %v", i+1, err)
		}
	}
	if err := b.Move("wiki", runbook.Token{Epoch: 1}, false, 3, at(3*time.Hour)); err != nil {
		t.Errorf("another name: %v", err)
	}
}
