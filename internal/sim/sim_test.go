package sim

import (
	"testing"
	"time"
)

func options(seed uint64) Options {
	return Options{Seed: seed, Trouble: 20 * time.Second, Calm: 25 * time.Second}
}

// The rules hold over some seeds here; `make sim` runs more.
func TestRulesHold(t *testing.T) {
	moves, faults := 0, 0
	for seed := uint64(1001); seed <= 1012; seed++ {
		r, err := Run(options(seed))
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.Violations {
			t.Errorf("seed %d: %s", seed, v)
		}
		moves += r.Moves
		faults += r.Faults
	}
	// A simulation in which nothing happens proves nothing.
	if moves < 5 || faults < 50 {
		t.Errorf("only %d moves and %d faults", moves, faults)
	}
}

func TestSameSeedSameRun(t *testing.T) {
	opt := options(7)
	opt.Story = true
	first, err := Run(opt)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Run(opt)
	if err != nil {
		t.Fatal(err)
	}
	if first.Trace != second.Trace || first.Story != second.Story {
		t.Fatalf("two runs of seed 7 differ: %x and %x", first.Trace, second.Trace)
	}
	opt.Seed = 8
	other, err := Run(opt)
	if err != nil {
		t.Fatal(err)
	}
	if other.Trace == first.Trace {
		t.Error("another seed gives the same run")
	}
}
