package rto

import (
	"math"
	"slices"
	"time"
)

// Percentile is the nearest-rank percentile p (0 to 100) of the durations:
// the smallest of them that at least p per cent do not exceed. It is zero
// without durations. They are not changed.
func Percentile(durations []time.Duration, p float64) time.Duration {
	if len(durations) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(durations))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
