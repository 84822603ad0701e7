package demo

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/measure"
)

func TestPhases(t *testing.T) {
	start := time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for _, c := range []struct {
		name  string
		times failover.Times
		want  [5]int
	}{
		{"all in order",
			failover.Times{Suspected: at(50), Failed: at(60), Decided: at(80), Activated: at(1900), Redirected: at(1910)},
			[5]int{50, 30, 1820, 10, 90}},
		{"the lease ran out before the users noticed",
			failover.Times{Suspected: at(-900), Failed: at(-800), Decided: at(-800), Activated: at(700), Redirected: at(710)},
			[5]int{0, 0, 700, 10, 1290}},
		{"users came before the log said so",
			failover.Times{Suspected: at(50), Decided: at(80), Activated: at(1990), Redirected: at(2200)},
			[5]int{50, 30, 1910, 10, 0}},
		{"no suspicion was stamped: the failure is taken",
			failover.Times{Failed: at(100), Decided: at(200), Activated: at(300), Redirected: at(400)},
			[5]int{100, 100, 100, 100, 1600}},
		{"stamps out of order do not make a phase negative",
			failover.Times{Suspected: at(300), Decided: at(200), Activated: at(400), Redirected: at(350)},
			[5]int{300, 0, 100, 0, 1600}},
		{"nothing stamped", failover.Times{}, [5]int{0, 0, 0, 0, 2000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := phasesOf(at(0), at(2000), c.times).list()
			for i, ms := range c.want {
				if got[i] != measure.Millis(time.Duration(ms)*time.Millisecond) {
					t.Errorf("%s is %v, want %d ms", phaseNames()[i], got[i], ms)
				}
			}
		})
	}
}

// Whatever was stamped, the phases add up to the downtime and none is negative.
func TestPhasesAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		instant := rapid.Custom(func(t *rapid.T) time.Time {
			if rapid.Bool().Draw(t, "unreached") {
				return time.Time{}
			}
			return time.Unix(1000, 0).Add(time.Duration(rapid.Int64Range(-5e9, 15e9).Draw(t, "offset")))
		})
		from := time.Unix(1000, 0)
		to := from.Add(time.Duration(rapid.Int64Range(0, 10e9).Draw(t, "downtime")))
		p := phasesOf(from, to, failover.Times{Suspected: instant.Draw(t, "suspected"), Failed: instant.Draw(t, "failed"),
			Decided: instant.Draw(t, "decided"), Activated: instant.Draw(t, "activated"), Redirected: instant.Draw(t, "redirected")})
		var sum measure.Millis
		for i, d := range p.list() {
			if d < 0 {
				t.Fatalf("%s is %v", phaseNames()[i], d)
			}
			sum += d
		}
		if sum != measure.Millis(to.Sub(from)) {
			t.Fatalf("they add up to %v, not %v", sum, to.Sub(from))
		}
	})
}
