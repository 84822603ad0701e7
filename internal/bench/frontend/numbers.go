package frontend

import (
	"math"
	"slices"
)

// Range is what came out of several rounds.
type Range struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// rangeOf is the range of values; zero when there are none.
func rangeOf(values []float64) Range {
	if len(values) == 0 {
		return Range{}
	}
	return Range{Median: percentile(values, 50), Min: slices.Min(values), Max: slices.Max(values)}
}

// percentile is the p-th percentile by nearest rank, for the median the mean
// of the middle two; zero of no values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if p == 50 && n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	rank := int(math.Ceil(p / 100 * float64(n)))
	return sorted[min(max(rank, 1), n)-1]
}

// ratios divides round by round: what one round's machine gave, it gave both.
func ratios(a, b []float64) []float64 {
	var out []float64
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			out = append(out, a[i]/b[i])
		}
	}
	return out
}
