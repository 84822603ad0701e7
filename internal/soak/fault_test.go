package soak

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// The schedule follows from the seed alone, and seeds differ.
func TestRoundFollowsFromSeed(t *testing.T) {
	for n := 2; n < 20; n++ {
		if !reflect.DeepEqual(round(7, n), round(7, n)) {
			t.Fatalf("round %d of seed 7 is not the same twice", n)
		}
		if reflect.DeepEqual(round(7, n), round(8, n)) {
			t.Errorf("round %d is the same for seeds 7 and 8", n)
		}
	}
	if reflect.DeepEqual(round(7, 2), round(7, 3)) {
		t.Error("rounds 2 and 3 are the same")
	}
}

// Every kind comes, to whom it can come, and the spared member is spared.
func TestFaults(t *testing.T) {
	kinds, spared := make(map[Kind]int), make(map[string]bool)
	for seed := range uint64(40) {
		spared[spare(seed)] = true
		for n := 2; n < 9; n++ {
			disk, forgets := make(map[string]time.Duration), 0
			last := time.Duration(0)
			for _, f := range round(seed, n) {
				kinds[f.Kind]++
				if f.At < last || f.At > trouble || f.For > maintenanceMax || !slices.Contains(members, f.Member) {
					t.Fatalf("seed %d round %d: %+v after %v", seed, n, f, last)
				}
				last = f.At
				check(t, seed, f, disk)
				if f.Kind == CorruptLog || f.Kind == LoseDisk || f.Kind == Leave {
					forgets++
				}
			}
			if forgets > 1 {
				t.Errorf("seed %d round %d: %d members lose their logs", seed, n, forgets)
			}
		}
	}
	for _, w := range weights {
		if kinds[w.kind] == 0 {
			t.Errorf("no %s was drawn", w.kind)
		}
	}
	if len(kinds) != len(weights) || len(spared) != len(members) {
		t.Errorf("%d of %d kinds, %d of %d members spared", len(kinds), len(weights), len(spared), len(members))
	}
}

func check(t *testing.T, seed uint64, f Fault, disk map[string]time.Duration) {
	t.Helper()
	switch f.Kind {
	case KillDaemon, KillGuard, KillBoth, Abandon, HostOff, DiskFull, DiskRO, CorruptLog, LoseDisk, Leave, Maintenance:
		if f.Member == spare(seed) {
			t.Errorf("seed %d spares %s: %v", seed, spare(seed), f)
		}
	}
	switch f.Kind {
	case KillGuard, StopGuard, KillBoth, StopBoth, Abandon, Strand, Flush, KillService:
		if f.Member == witness {
			t.Errorf("the witness has nothing of it: %v", f)
		}
	case DiskFull, DiskRO, CorruptLog, LoseDisk, Leave:
		if f.At < disk[f.Member] {
			t.Errorf("its disk has a fault already: %v", f)
		}
		disk[f.Member] = f.At + f.For
	case Cut, CutOneWay, CutPort, Loss:
		if f.Other == f.Member || prefixOf[f.Other] == "" || (f.Kind == CutPort) != (f.Port != 0) || (f.Kind == Loss) != (f.Percent != 0) {
			t.Errorf("no such cut: %v", f)
		}
	}
	if slices.Contains([]Kind{Switchover, Failover, Failback, Reload, Rotate, Flush}, f.Kind) != (f.For == 0) {
		t.Errorf("it lasts for %v: %v", f.For, f)
	}
}

// The first round loses the active site in every way, and spares whom it must.
func TestOpening(t *testing.T) {
	for seed := range uint64(20) {
		kinds := make(map[Kind]bool)
		for i, f := range round(seed, 1) {
			kinds[f.Kind] = true
			if want := []string{dr, primary}[i%2]; f.Member != want {
				t.Errorf("seed %d: fault %d strikes %s, and %s is active", seed, i, f.Member, want)
			}
			check(t, seed, f, nil)
		}
		if len(kinds) != 4 {
			t.Errorf("seed %d begins with %v", seed, kinds)
		}
	}
}
