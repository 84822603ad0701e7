package rto

import "time"

// Turn is a turning point of a move: Part is what it ends.
type Turn struct {
	Part string
	At   time.Duration
}

// Part is a part of an outage. The parts of one follow each other and add up.
type Part struct {
	Name string
	Span
}

// Divide divides an outage by the turning points of a move, in their order;
// what is left after the last is named rest. A turning point before the
// outage, as when a lease runs out before anybody fails, has an empty part;
// so has one after it, and one that comes before an earlier one of the list,
// as the clocks of two members may make it.
func Divide(outage Span, turns []Turn, rest string) []Part {
	parts := make([]Part, 0, len(turns)+1)
	from := outage.From
	for _, t := range turns {
		to := max(from, min(t.At, outage.To))
		parts = append(parts, Part{Name: t.Part, Span: Span{From: from, To: to}})
		from = to
	}
	return append(parts, Part{Name: rest, Span: Span{From: from, To: outage.To}})
}

// Overlap is how much of the span lies within the other.
func (s Span) Overlap(o Span) time.Duration {
	return max(0, min(s.To, o.To)-max(s.From, o.From))
}
