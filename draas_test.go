package draas

import (
	"testing"
	"time"
)

func TestVerdictText(t *testing.T) {
	for v := Unknown; v <= Failed; v++ {
		text, err := v.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got Verdict
		if err := got.UnmarshalText(text); err != nil || got != v {
			t.Errorf("%s read back as %v, %v", text, got, err)
		}
	}
	var v Verdict
	if err := v.UnmarshalText([]byte("dead")); err == nil {
		t.Error("an unknown verdict's name was taken")
	}
	if _, err := Verdict(9).MarshalText(); err == nil {
		t.Error("verdict 9 was written")
	}
}

func TestDeadlineEndsOnEitherClock(t *testing.T) {
	start := Reading{Boot: time.Hour, Wall: 1000 * time.Hour}
	d := DeadlineAt(start, 2*time.Second)
	cases := []struct {
		name   string
		now    Reading
		passed bool
		left   time.Duration
	}{
		{"at once", start, false, 2 * time.Second},
		{"both run", start.Add(2 * time.Second), true, 0},
		{"boot clock paused", Reading{Boot: start.Boot, Wall: start.Wall + 3*time.Second}, true, 0},
		{"wall clock stepped back", Reading{Boot: start.Boot + 2*time.Second, Wall: start.Wall - time.Hour}, true, 0},
		{"wall clock stepped back, early", Reading{Boot: start.Boot + time.Second, Wall: start.Wall - time.Hour}, false, time.Second},
	}
	for _, c := range cases {
		if got := d.Passed(c.now); got != c.passed {
			t.Errorf("%s: passed %v", c.name, got)
		}
		if got := d.Left(c.now); got != c.left {
			t.Errorf("%s: left %v, want %v", c.name, got, c.left)
		}
	}
	if !(Deadline{}).Passed(Reading{}) {
		t.Error("the zero deadline has not passed")
	}
}

// The slowest holder's clock and the fastest successor's still leave the
// margin between them.
func TestLeaseHoldEndsBeforeWait(t *testing.T) {
	l := Lease{Length: 2 * time.Second, Drift: 0.1, Margin: 150 * time.Millisecond}
	holderReal := time.Duration(float64(l.Hold()) / (1 - l.Drift))
	successorReal := time.Duration(float64(l.Wait()) / (1 + l.Drift))
	if holderReal+l.Margin > successorReal {
		t.Errorf("holder may serve %v, successor waits %v of true time", holderReal, successorReal)
	}
}
