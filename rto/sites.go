package rto

import (
	"cmp"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// order knows from which instant on each activation had surely answered
// somebody, so that an answer of an earlier activation can be told as wrong.
type order struct {
	rank func(*Sample) uint64
	// seen are the activations in growing rank, each with the instant by
	// which it, or a later one, had surely answered.
	seen []activation
}

type activation struct {
	rank uint64
	by   time.Duration
}

// succession collects the order of activations from all streams, direct
// probers included: whoever saw the successor answer, it had answered.
//
// Answers are ranked by epoch. When no answer carries one, Options.Expect
// ranks the sites. What has neither is rank zero and never judged.
func succession(t *Timeline, o Options) order {
	rank := rankBySite(o.Expect)
	for _, s := range t.Streams {
		if slices.ContainsFunc(s.Samples, func(a Sample) bool { return a.Good() && a.Epoch != 0 }) {
			rank = func(a *Sample) uint64 { return uint64(a.Epoch) }
			break
		}
	}
	first := make(map[uint64]time.Duration)
	for _, s := range t.Streams {
		for i := range s.Samples {
			a := &s.Samples[i]
			k := rank(a)
			if !a.Good() || k == 0 {
				continue
			}
			_, latest := a.Answered()
			if at, ok := first[k]; !ok || latest < at {
				first[k] = latest
			}
		}
	}
	seen := make([]activation, 0, len(first))
	for k, at := range first {
		seen = append(seen, activation{rank: k, by: at})
	}
	slices.SortFunc(seen, func(a, b activation) int { return cmp.Compare(a.rank, b.rank) })
	for i := len(seen) - 2; i >= 0; i-- {
		seen[i].by = min(seen[i].by, seen[i+1].by)
	}
	return order{rank: rank, seen: seen}
}

// rankBySite ranks known sites: 1 when not listed, then by place in the list.
func rankBySite(expect []Site) func(*Sample) uint64 {
	return func(a *Sample) uint64 {
		if len(expect) == 0 || a.Site == NoSite {
			return 0
		}
		return uint64(slices.Index(expect, a.Site)) + 2
	}
}

// wrong reports whether the good answer surely came after a later activation
// had answered somebody.
func (o order) wrong(a *Sample) bool {
	k := o.rank(a)
	if k == 0 {
		return false
	}
	earliest, _ := a.Answered()
	i, _ := slices.BinarySearchFunc(o.seen, k+1, func(s activation, k uint64) int { return cmp.Compare(s.rank, k) })
	return i < len(o.seen) && o.seen[i].by < earliest
}

// spans finds one client's stretches of wrong answers and counts them. Two
// wrong answers asked for at most join apart make one stretch.
func (o order) spans(samples []Sample, join time.Duration) (spans []Span, n int) {
	var points []Span
	for i := range samples {
		a := &samples[i]
		if a.Good() && o.wrong(a) {
			from, to := a.Answered()
			points = append(points, Span{From: from, To: to})
		}
	}
	for _, run := range runs(points, join) {
		spans = append(spans, run.certain())
	}
	return spans, len(points)
}

// run is a row of good answers close enough together for the site to have
// been active in between.
type run struct {
	first Span          // where the answer with the earliest latest bound lies
	from  time.Duration // by then it had surely answered once
	to    time.Duration // from then on it had still to answer once
}

// certain is the stretch in which the site was surely active. Without stamps
// and with slow answers it may be that only one instant is proved, somewhere
// in r.first; the end of that is taken then.
func (r run) certain() Span {
	if r.proved() {
		return Span{From: r.from, To: r.to}
	}
	return Span{From: r.first.To, To: r.first.To}
}

func (r run) proved() bool { return r.from <= r.to }

// runs joins the answers' bounds into runs. It sorts points.
func runs(points []Span, join time.Duration) []run {
	slices.SortFunc(points, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	var out []run
	var last time.Duration
	for _, p := range points {
		if n := len(out); n > 0 && p.From-last <= join {
			r := &out[n-1]
			r.to = p.From
			if p.To < r.from {
				r.from, r.first = p.To, p
			}
		} else {
			out = append(out, run{first: p, from: p.To, to: p.From})
		}
		last = p.From
	}
	return out
}

// dualActive finds when at least two sites were surely active. A site's
// activations are kept apart: between two epochs of its own it was not
// active, however short the time.
func dualActive(t *Timeline, join time.Duration) []Span {
	type key struct {
		site  Site
		epoch draas.Epoch
	}
	points := make(map[key][]Span)
	for _, s := range t.Streams {
		for i := range s.Samples {
			a := &s.Samples[i]
			if !a.Good() || a.Site == NoSite {
				continue
			}
			from, to := a.Answered()
			k := key{a.Site, a.Epoch}
			points[k] = append(points[k], Span{From: from, To: to})
		}
	}
	certain := make([][]Span, len(t.Sites))
	vague := make([][]Span, len(t.Sites)) // one instant in each, nobody knows which
	for k, p := range points {
		for _, r := range runs(p, join) {
			if r.proved() {
				certain[k.site] = append(certain[k.site], r.certain())
			} else {
				vague[k.site] = append(vague[k.site], r.first)
			}
		}
	}
	var dual []Span
	for i := range certain {
		certain[i] = merge(certain[i])
		for j := range i {
			dual = append(dual, overlap(certain[i], certain[j])...)
		}
	}
	for i := range vague {
		for j := range certain {
			if i != j {
				dual = append(dual, within(vague[i], certain[j])...)
			}
		}
	}
	return merge(dual)
}

// overlap intersects two merged lists.
func overlap(a, b []Span) []Span {
	var out []Span
	for len(a) > 0 && len(b) > 0 {
		s := Span{From: max(a[0].From, b[0].From), To: min(a[0].To, b[0].To)}
		if s.From <= s.To {
			out = append(out, s)
		}
		if a[0].To < b[0].To {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// within finds the vague answers that lie wholly in a certain span: wherever
// in there they were given, both sites were active. Each is one instant.
func within(vague, certain []Span) []Span {
	var out []Span
	for _, v := range vague {
		i, _ := slices.BinarySearchFunc(certain, v, func(c, v Span) int { return cmp.Compare(c.To, v.To) })
		if i < len(certain) && certain[i].From <= v.From {
			out = append(out, Span{From: v.To, To: v.To})
		}
	}
	return out
}
