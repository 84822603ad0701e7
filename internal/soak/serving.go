package soak

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Every process of the run is on one machine and reads one clock, so that
// instants of users, services and members can be held against each other. They
// are wall-clock nanoseconds: that is what services stamp and the log keeps.
type instant = int64

// answer is a good answer that a user got. The site served at some instant
// between Stamp, when the service wrote it, and Done, when the user had it: it
// passed the fence in between.
type answer struct {
	Stamp, Done instant
	Epoch       uint64 // that the service believed in, zero if none; it may be late to know
	Service     uint8  // index into services
	Site        uint8  // index into sites
}

// activation is an entry of the log: the site may serve from it on, and no
// other, until the next.
type activation struct {
	Epoch uint64
	Site  string
	Index uint64
	// At is when the site proposed it, before which it was not committed; Seen
	// when somebody first saw it applied, after which it was.
	At, Seen instant
}

// span is when one activation's site is known to have served: it had served
// once by From, and had still to serve once from To on. First and Last are the
// answers that show it.
type span struct {
	From, To    instant
	First, Last answer
	Answers     int
}

func (s span) proved() bool { return s.Answers > 0 && s.From <= s.To }

// serving holds what users saw of one service against what was decided of it.
//
// Two sites were active at a time if the spans of two activations at different
// sites overlap. That is no false alarm: an answer is put down to the latest
// activation of its site that it can belong to, and a span holds only instants
// between two at which the site did serve under that activation.
type serving struct {
	spans map[uint64]*span // by epoch
	// Strays answered though another site was active from before Stamp until
	// after Done, or none was.
	Strays []answer
}

func newServing() *serving { return &serving{spans: make(map[uint64]*span)} }

// add takes answers of one service. The activations are all that were
// committed until the latest answer, in the order of their epochs.
func (s *serving) add(answers []answer, log []activation) {
	for _, a := range answers {
		of, turn := attribute(a, log)
		if !turn {
			s.Strays = append(s.Strays, a)
		}
		if of == nil {
			continue
		}
		sp := s.spans[of.Epoch]
		if sp == nil {
			sp = &span{From: a.Done, To: a.Stamp, First: a, Last: a}
			s.spans[of.Epoch] = sp
		}
		sp.Answers++
		if a.Done < sp.From {
			sp.From, sp.First = a.Done, a
		}
		if a.Stamp > sp.To {
			sp.To, sp.Last = a.Stamp, a
		}
	}
}

// attribute finds the activation under which the answer was given: the latest
// at its site that was proposed before the answer was there. turn is false if
// its site was not the active one at any instant that the answer may have been
// given.
func attribute(a answer, log []activation) (of *activation, turn bool) {
	for i := len(log) - 1; i >= 0; i-- {
		act := &log[i]
		if act.At > a.Done || act.Site != sites[a.Site] {
			continue
		}
		// Its turn lasts until the next activation is proposed, at another
		// site or at its own.
		return act, i+1 == len(log) || log[i+1].At >= a.Stamp
	}
	return nil, false
}

// overlap is a stretch in which two sites served.
type overlap struct {
	From, To      instant
	Epoch, Other  uint64
	Last, Earlier answer
}

func (o overlap) String() string {
	return fmt.Sprintf("epochs %d and %d both served for %v until %s", o.Epoch, o.Other,
		time.Duration(o.To-o.From).Round(10*time.Microsecond), clock(o.To))
}

// dual finds the stretches in which two sites served, by the clock.
func (s *serving) dual(log []activation) []overlap {
	var out []overlap
	for i, a := range log {
		for _, b := range log[:i] {
			sa, sb := s.spans[a.Epoch], s.spans[b.Epoch]
			if a.Site == b.Site || sa == nil || sb == nil || !sa.proved() || !sb.proved() {
				continue
			}
			if from, to := max(sa.From, sb.From), min(sa.To, sb.To); from <= to {
				out = append(out, overlap{From: from, To: to, Epoch: b.Epoch, Other: a.Epoch, Earlier: sb.Last, Last: sa.First})
			}
		}
	}
	slices.SortFunc(out, func(a, b overlap) int { return cmp.Compare(a.From, b.From) })
	return out
}

// total is how long at least two sites served: the union of the stretches.
func total(overlaps []overlap) time.Duration {
	var sum, end instant
	for _, o := range overlaps { // sorted by From
		if from := max(o.From, end); from < o.To {
			sum += o.To - from
		}
		end = max(end, o.To)
	}
	return time.Duration(sum)
}

func clock(at instant) string { return time.Unix(0, at).UTC().Format("15:04:05.000") }
