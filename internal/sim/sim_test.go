package sim

import (
	"testing"
	"time"
)

// The rules hold over some seeds here; `make sim` runs more.
func TestRulesHold(t *testing.T) {
	moves, faults := 0, 0
	for seed := uint64(1001); seed <= 1100; seed++ {
		r, err := Run(Generate(seed), false, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.Violations {
			t.Errorf("seed %d: %s", seed, v)
		}
		if r.Faults < 2 || r.Simulated < 30*time.Second {
			t.Errorf("seed %d: %d faults in %v is no schedule", seed, r.Faults, r.Simulated)
		}
		moves += r.Moves
		faults += r.Faults
	}
	// A simulation in which nothing happens proves nothing.
	if moves < 40 || faults < 400 {
		t.Errorf("only %d moves and %d faults", moves, faults)
	}
}

func BenchmarkSchedule(b *testing.B) {
	seed := uint64(0)
	for b.Loop() {
		seed++
		if _, err := Run(Generate(seed), false, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "schedules/s")
}
