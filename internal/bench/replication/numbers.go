package replication

import "slices"

// Range is what came out of several rounds.
type Range struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// rangeOf is the range of values; zero when there are none.
func rangeOf(values []float64) Range {
	n := len(values)
	if n == 0 {
		return Range{}
	}
	sorted := slices.Sorted(slices.Values(values))
	return Range{Median: (sorted[(n-1)/2] + sorted[n/2]) / 2, Min: sorted[0], Max: sorted[n-1]}
}

// ratio divides round by round: what one round's machine gave, it gave both.
func ratio(a, b Line, of func(cost) float64) Range {
	var out []float64
	for i := range min(len(a.costs), len(b.costs)) {
		if d := of(b.costs[i]); d > 0 {
			out = append(out, of(a.costs[i])/d)
		}
	}
	return rangeOf(out)
}

func seconds(c cost) float64 { return c.wall.Seconds() }

func each(costs []cost, of func(cost) float64) []float64 {
	out := make([]float64, len(costs))
	for i, c := range costs {
		out[i] = of(c)
	}
	return out
}
