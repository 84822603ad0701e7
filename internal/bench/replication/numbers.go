package replication

import "github.com/draasd/draas/internal/bench/rounds"

// ratio divides what was measured of two, round by round.
func ratio(a, b Line, of func(cost) float64) rounds.Range {
	return rounds.RangeOf(rounds.Ratios(each(a.costs, of), each(b.costs, of)))
}

func seconds(c cost) float64 { return c.wall.Seconds() }

func each(costs []cost, of func(cost) float64) []float64 {
	out := make([]float64, len(costs))
	for i, c := range costs {
		out[i] = of(c)
	}
	return out
}
