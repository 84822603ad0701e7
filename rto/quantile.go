package rto

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Trial is the downtime of one run.
type Trial struct {
	Downtime time.Duration
	// Over says that it was not seen to end: it is at least Downtime, and
	// counts as longer than every one that ended.
	Over bool
}

// alpha is the chance that a bound of a Quantile does not hold: each of the
// two by itself holds with 95 %, both together with 90 %.
const alpha = 0.05

// Quantile is a percentile of the trials with bounds for that of the
// distribution behind them, whatever its shape: between two of the ordered
// trials, by the binomial distribution of how many lie below it (David and
// Nagaraja, Order Statistics, section 7.1).
type Quantile struct {
	Percent float64
	// Value is the nearest-rank percentile of the trials; nil when there are
	// fewer than Need, where it would be no more than the largest of them.
	Value *Trial
	// Lower and Upper hold with 95 % each; nil when there are too few trials
	// for one. NeedUpper trials are enough for Upper.
	Lower, Upper *Trial
	Need         int
	NeedUpper    int
}

// Quantiles works out percentiles, each more than 0 and less than 100.
func Quantiles(trials []Trial, percents ...float64) []Quantile {
	sorted := ascending(trials)
	n := len(sorted)
	out := make([]Quantile, 0, len(percents))
	for _, percent := range percents {
		p := percent / 100
		q := Quantile{
			Percent:   percent,
			Need:      int(math.Ceil(1/(1-p) - 1e-9)),
			NeedUpper: int(math.Ceil(math.Log(alpha)/math.Log(p) - 1e-9)),
		}
		if n >= q.Need {
			rank := int(math.Ceil(p*float64(n) - 1e-9))
			q.Value = &sorted[min(max(rank, 1), n)-1]
		}
		// Rank l is too high a bound when fewer than l trials lie below the
		// quantile; rank u too low a one when u or more do.
		below := 0.0 // chance of fewer than k
		for k := 1; k <= n; k++ {
			below += binomial(n, k-1, p)
			if below <= alpha {
				q.Lower = &sorted[k-1]
			}
			if 1-below <= alpha && q.Upper == nil {
				q.Upper = &sorted[k-1]
			}
		}
		out = append(out, q)
	}
	return out
}

// ascending sorts trials; those that did not end come last.
func ascending(trials []Trial) []Trial {
	sorted := slices.Clone(trials)
	slices.SortFunc(sorted, func(a, b Trial) int {
		if a.Over != b.Over {
			if a.Over {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.Downtime, b.Downtime)
	})
	return sorted
}

// binomial is the chance of k successes among n.
func binomial(n, k int, p float64) float64 {
	lg := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	return math.Exp(lg(n) - lg(k) - lg(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

// Share is a point of a distribution: the share of the trials, 0 to 1, that
// had ended after At, and within which the true share lies.
type Share struct {
	At               time.Duration
	Share, Low, High float64
}

// Distribution is the empirical distribution of the downtimes, a step up at
// each point, with a band in which the whole of the true one lies with 95 %
// (Dvoretzky, Kiefer and Wolfowitz, with Massart's constant). Trials that did
// not end never step up.
func Distribution(trials []Trial) []Share {
	sorted := ascending(trials)
	n := float64(len(sorted))
	wide := math.Sqrt(math.Log(2/0.05) / (2 * n))
	var out []Share
	for i, t := range sorted {
		if t.Over {
			break
		}
		s := Share{At: t.Downtime, Share: float64(i+1) / n}
		s.Low, s.High = max(0, s.Share-wide), min(1, s.Share+wide)
		if k := len(out); k > 0 && out[k-1].At == s.At {
			out[k-1] = s
			continue
		}
		out = append(out, s)
	}
	return out
}
