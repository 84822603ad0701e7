package matrix

import (
	"cmp"
	"slices"
	"time"
)

// summary is what the runs of a cell in a column say together. Runs that are
// void are in no figure but Void; of those that the machine upset what must
// never be counts, and nothing that was timed.
type summary struct {
	N, Void, Faulty  int
	Upset            int // runs that the machine upset
	Kinds            map[string]kindSummary
	WrongSite        int
	DualMS, ClaimsMS float64 // the most of any run
	Unclaimed        figure  // ms in which nobody had a pair's address
	Lost             figure  // writes, of the runs in which that is known
	LostKnown, Acked int
	BoundMS          float64
	Losses           lossSummary
	Warned           figure // s until a person is warned, of the runs in which that is waited for
}

// lossSummary is what moves have cost of the copy of the cloud: seconds and
// objects, as told and as they were.
type lossSummary struct {
	N                          int // runs in which it is told
	ToldS, TrueS, ToldN, TrueN figure
}

func sumLosses(all []*Loss) lossSummary {
	s := lossSummary{N: len(all)}
	for of, value := range map[*figure]func(*Loss) float64{
		&s.ToldS: func(l *Loss) float64 { return l.ToldS }, &s.TrueS: func(l *Loss) float64 { return l.TrueS },
		&s.ToldN: func(l *Loss) float64 { return float64(l.ToldObjects) }, &s.TrueN: func(l *Loss) float64 { return float64(l.Objects) },
	} {
		var values []float64
		for _, l := range all {
			values = append(values, value(l))
		}
		*of = figureOf(values)
	}
	return s
}

// kindSummary is that of one kind of client. RTO and Felt are in ms; of a run
// in which users were not served again they are what had passed by its end.
type kindSummary struct {
	N, Sent, Failed int
	RTO, Felt       figure
	StallMS         float64 // the longest of all runs
	Lasting         int     // runs in which users were not served again
}

// figure is the median and the greatest of some values.
type figure struct{ Median, Max float64 }

// figureOf takes the lower of the two middle ones as the median of an even
// number.
func figureOf(values []float64) figure {
	if len(values) == 0 {
		return figure{}
	}
	s := slices.Sorted(slices.Values(values))
	return figure{s[(len(s)-1)/2], s[len(s)-1]}
}

// sum sums up the results of a column's cell; ok is false when there are none.
func sum(results []Result, column, cell string) (s summary, ok bool) {
	s.Kinds = make(map[string]kindSummary)
	var lost, unclaimed, warned []float64
	var losses []*Loss
	rtos, felt := make(map[string][]float64), make(map[string][]float64)
	for _, r := range results {
		if r.Column != column || r.Cell != cell {
			continue
		}
		if r.Void != "" {
			s.Void++
			continue
		}
		if len(r.Faults) > 0 {
			s.Faulty++
		}
		s.WrongSite += r.WrongSite
		s.DualMS, s.ClaimsMS = max(s.DualMS, r.DualMS), max(s.ClaimsMS, r.ClaimsMS)
		if r.Upset != "" {
			s.Upset++
			continue
		}
		s.N++
		s.BoundMS = max(s.BoundMS, r.BoundMS)
		s.Acked += r.Acked
		unclaimed = append(unclaimed, r.UnclaimedMS)
		if r.WarnedS > 0 {
			warned = append(warned, r.WarnedS)
		}
		if r.Loss != nil && r.Loss.Known {
			losses = append(losses, r.Loss)
		}
		if r.Lost >= 0 {
			lost = append(lost, float64(r.Lost))
		}
		for kind, x := range r.Kinds {
			k := s.Kinds[kind]
			k.N++
			k.Sent += x.Sent
			k.Failed += x.Failed
			k.StallMS = max(k.StallMS, x.StallMS)
			if !x.Recovered {
				k.Lasting++
			}
			rtos[kind], felt[kind] = append(rtos[kind], x.RTOMS), append(felt[kind], x.Felt())
			k.RTO, k.Felt = figureOf(rtos[kind]), figureOf(felt[kind])
			s.Kinds[kind] = k
		}
	}
	s.Lost, s.LostKnown, s.Unclaimed = figureOf(lost), len(lost), figureOf(unclaimed)
	s.Warned, s.Losses = figureOf(warned), sumLosses(losses)
	return s, s.N+s.Void+s.Upset > 0
}

// cellNames are those of the results, in the order of the list of cells;
// what is no more on it comes last, by name.
func cellNames(results []Result) []string {
	var names []string
	for _, r := range results {
		if !slices.Contains(names, r.Cell) {
			names = append(names, r.Cell)
		}
	}
	var order []string
	for _, c := range cells(2 * time.Minute) {
		order = append(order, c.Name)
	}
	rank := func(name string) int {
		if i := slices.Index(order, name); i >= 0 {
			return i
		}
		return len(order)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	return names
}

// span is when the first and the last of the results were made.
func span(results []Result) (first, last time.Time) {
	for i, r := range results {
		if i == 0 || r.At.Before(first) {
			first = r.At
		}
		if r.At.After(last) {
			last = r.At
		}
	}
	return first, last
}
