package rto

import (
	"slices"
	"time"
)

// Write is one write of a numbered row and what became of it.
type Write struct {
	Number uint64
	Sent   time.Duration
	Done   time.Duration // when it was acknowledged, or its failure known
	Acked  bool
}

// Writes is what became of a row of writes.
type Writes struct {
	Sent, Acked int
	Stored      int // different numbers read back, of those that were sent
	// Lost are the numbers that were acknowledged and not read back.
	Lost []uint64
	// First and Last are when the first and the last of the lost were
	// acknowledged. From is when the last write that was kept before the first
	// of the lost was acknowledged, or the first lost was sent when there is
	// none: what was written after it may be gone.
	From, First, Last time.Duration
	// Unacked counts numbers that were stored without an acknowledgement: no
	// loss, and no fault.
	Unacked int
	// Duplicates counts further copies of a number; Disordered numbers that
	// stand behind a higher one; Foreign rows that were never sent.
	Duplicates, Disordered, Foreign int
}

// Objective is the recovery point: at most how much of the past was lost. It
// is one period of the writer wider than AtLeast, at the most.
func (w Writes) Objective() time.Duration {
	if len(w.Lost) == 0 {
		return 0
	}
	return w.Last - w.From
}

// AtLeast is over how long acknowledged writes were surely lost.
func (w Writes) AtLeast() time.Duration { return w.Last - w.First }

// Compare holds what was written, in the order of growing numbers, against
// what is stored, in the order in which it is stored.
func Compare(written []Write, stored []uint64) Writes {
	var w Writes
	w.Sent = len(written)
	kept := make(map[uint64]bool, len(stored))
	var highest uint64
	for _, n := range stored {
		_, sent := slices.BinarySearchFunc(written, n, func(a Write, n uint64) int {
			switch {
			case a.Number < n:
				return -1
			case a.Number > n:
				return 1
			}
			return 0
		})
		switch {
		case !sent:
			w.Foreign++
			continue
		case kept[n]:
			w.Duplicates++
			continue
		case n < highest:
			w.Disordered++
		}
		kept[n] = true
		highest = max(highest, n)
	}
	w.Stored = len(kept)
	var last *Write // the last that was kept
	for i := range written {
		a := &written[i]
		if a.Acked {
			w.Acked++
		}
		switch {
		case kept[a.Number] && !a.Acked:
			w.Unacked++
		case kept[a.Number]:
			last = a
		case a.Acked:
			if len(w.Lost) == 0 {
				w.First, w.From = a.Done, a.Sent
				if last != nil {
					w.From = last.Done
				}
			}
			w.Lost = append(w.Lost, a.Number)
			w.Last = a.Done
		}
	}
	return w
}
