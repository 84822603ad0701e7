package rto

import "time"

// Stretch is a piece of a strip: how the requests that were due in it ended.
type Stretch struct {
	Span
	Site         Site // that gave most of the good answers
	Sent, Failed int
}

// Strip draws a stream over a window, in at most so many pieces of equal
// length: neighbours that are alike, all good at one site or all failed, are
// one. A piece without requests belongs to the one before it. Where a piece
// stands between all good and all failed, and is itself first the one and then
// the other, it is divided where it changes.
func Strip(samples []Sample, window Span, pieces int) []Stretch {
	cuts := cut(samples, window, pieces)
	var out []Stretch
	add := func(s Stretch) {
		if last := len(out) - 1; last >= 0 && alike(out[last], s) {
			out[last].To = s.To
			out[last].Sent += s.Sent
			out[last].Failed += s.Failed
			return
		}
		out = append(out, s)
	}
	for i := range cuts {
		c := &cuts[i]
		if at, ok := c.turn(); ok && i > 0 && i < len(cuts)-1 && leads(cuts[i-1].Stretch, c.samples[0]) && leads(cuts[i+1].Stretch, c.samples[len(c.samples)-1]) {
			add(stretch(c.samples[:at], Span{c.From, c.samples[at].At}))
			add(stretch(c.samples[at:], Span{c.samples[at].At, c.To}))
			continue
		}
		add(c.Stretch)
	}
	return out
}

// piece is a Stretch and what was asked in it.
type piece struct {
	Stretch
	samples []Sample
}

// cut makes the pieces; none is without requests.
func cut(samples []Sample, window Span, pieces int) []piece {
	length := window.Len()
	if length <= 0 || pieces <= 0 {
		return nil
	}
	edge := func(i int) time.Duration {
		return window.From + time.Duration(float64(length)*float64(i)/float64(pieces))
	}
	var out []piece
	next := 0
	for next < len(samples) && samples[next].At < window.From {
		next++
	}
	for i := range pieces {
		first, span := next, Span{From: edge(i), To: edge(i + 1)}
		for next < len(samples) && samples[next].At < span.To {
			next++
		}
		switch n := len(out); {
		case next > first:
			out = append(out, piece{stretch(samples[first:next], span), samples[first:next]})
		case n > 0:
			out[n-1].To = span.To
		}
	}
	return out
}

func stretch(samples []Sample, span Span) Stretch {
	s := Stretch{Span: span, Sent: len(samples)}
	good := make(map[Site]int)
	for i := range samples {
		a := &samples[i]
		if !a.Good() {
			s.Failed++
			continue
		}
		good[a.Site]++
		if n, most := good[a.Site], good[s.Site]; n > most || n == most && a.Site < s.Site {
			s.Site = a.Site
		}
	}
	return s
}

// turn finds where a piece turns from good to failed or back, once.
func (p *piece) turn() (at int, ok bool) {
	turns := 0
	for i := 1; i < len(p.samples); i++ {
		if p.samples[i].Good() != p.samples[i-1].Good() {
			at = i
			turns++
		}
	}
	return at, turns == 1
}

// leads reports whether all of a neighbour ended as the request did.
func leads(s Stretch, a Sample) bool {
	return a.Good() && s.Failed == 0 || !a.Good() && s.Failed == s.Sent
}

func alike(a, b Stretch) bool {
	if a.Failed == a.Sent || b.Failed == b.Sent {
		return a.Failed == a.Sent && b.Failed == b.Sent
	}
	return a.Site == b.Site && a.Failed == 0 && b.Failed == 0
}
