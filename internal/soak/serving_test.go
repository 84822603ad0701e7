package soak

import (
	"testing"
	"time"
)

const ms = instant(time.Millisecond)

// at makes an answer of a site, stamped and had at milliseconds.
func at(site uint8, stamp, done instant) answer {
	return answer{Site: site, Stamp: stamp * ms, Done: done * ms}
}

// handover is a log: primary from 0, dr from 1000, primary again from 2000.
var handover = []activation{
	{Epoch: 1, Site: primary, At: 0},
	{Epoch: 2, Site: dr, At: 1000 * ms},
	{Epoch: 3, Site: primary, At: 2000 * ms},
}

func TestServing(t *testing.T) {
	const p, d = 0, 1 // sites
	for _, tc := range []struct {
		name    string
		answers []answer
		dual    time.Duration
		strays  int
	}{
		{"in turn", []answer{at(p, 10, 12), at(p, 990, 999), at(d, 1001, 1003), at(d, 1990, 1995), at(p, 2001, 2002)}, 0, 0},
		{"had after the other site's activation", []answer{at(p, 10, 12), at(p, 999, 1400), at(d, 1001, 1003)}, 0, 0},
		{"stamped before its own activation, had after it", []answer{at(p, 10, 12), at(d, 990, 1001), at(d, 1100, 1101)}, 0, 0},
		{"asked across a whole activation of the other", []answer{at(p, 10, 12), at(d, 1500, 1501), at(p, 999, 2100), at(p, 2100, 2101)}, 0, 0},
		{"one late answer, and the other has not served yet", []answer{at(p, 10, 12), at(p, 1050, 1060), at(d, 1100, 1101)}, 0, 1},
		{"two at a time", []answer{at(p, 10, 12), at(d, 1100, 1110), at(p, 1400, 1410), at(d, 1900, 1910)}, 290 * time.Millisecond, 1},
		{"the new one too early, and had early", []answer{at(p, 10, 12), at(d, 900, 910), at(p, 980, 985)}, 0, 1},
		{"nobody was ever activated there before", []answer{at(d, 500, 501)}, 0, 1},
		{"the old one never stops", []answer{at(p, 10, 12), at(d, 1010, 1011), at(p, 1990, 1991), at(d, 1500, 1501)}, 489 * time.Millisecond, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServing()
			s.add(tc.answers, handover)
			dual := s.dual(handover)
			if got := total(dual); got != tc.dual {
				t.Errorf("dual-active for %v (%v), want %v", got, dual, tc.dual)
			}
			if len(s.Strays) != tc.strays {
				t.Errorf("out of turn: %+v, want %d", s.Strays, tc.strays)
			}
		})
	}
}

// A stretch that two pairs of activations share counts once.
func TestTotalIsAUnion(t *testing.T) {
	if got := total([]overlap{{From: 0, To: 10}, {From: 5, To: 7}, {From: 8, To: 20}, {From: 30, To: 31}}); got != 21 {
		t.Errorf("total is %v, want 21ns", got)
	}
}
