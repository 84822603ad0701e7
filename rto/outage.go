package rto

import (
	"cmp"
	"slices"
	"sort"
	"time"

	"github.com/draasd/draas"
)

// Outage is one stretch in which a client was not served.
type Outage struct {
	// From is the scheduled time of the first failed request, or the fault
	// when that request was already in flight then.
	From time.Duration
	// To is the arrival of the first good answer that lasted. When the run
	// ended before that could be told, Recovered is false and To is the
	// arrival of the good answer that might have lasted, or the run's end.
	To        time.Duration
	Recovered bool
	// Failed counts the failed requests scheduled from From to To.
	Failed int
	// Site and Epoch are those of the answer that ended it, if any.
	Site  Site
	Epoch draas.Epoch
}

// Len is how long the outage lasted.
func (o Outage) Len() time.Duration { return o.To - o.From }

// outages finds the stretches without lasting service. What a user sees is
// judged by the arrival of answers (Done), not by the server's stamp.
//
// An outage ends at the earliest arrival T of a good answer that
//   - was asked for after the outage's first failed request,
//   - is not from a succeeded site, and is from the last expected site if
//     one is named,
//   - is followed by no failed request scheduled in (T, T+settle], and
//   - by no good answer of another site scheduled in there: the site lasts,
//
// and the run must have gone on until T+settle to tell.
func outages(samples []Sample, succeeded order, o Options, end time.Duration) []Outage {
	var failed, good []int32 // indexes of samples: failed by At, good by Done
	for i := range samples {
		a := &samples[i]
		switch {
		case a.Good():
			good = append(good, int32(i))
		case !o.Marked || a.Done >= o.Fault:
			failed = append(failed, int32(i))
		}
	}
	slices.SortStableFunc(good, func(i, j int32) int { return cmp.Compare(samples[i].Done, samples[j].Done) })

	var out []Outage
	for len(failed) > 0 {
		u := Outage{From: samples[failed[0]].At}
		if o.Marked {
			u.From = max(u.From, o.Fault)
		}
		u.To = max(end, u.From)
		// Answers that came before From end neither this outage nor a later one.
		good = good[sort.Search(len(good), func(k int) bool { return samples[good[k]].Done >= u.From }):]
		for _, g := range good {
			a := &samples[g]
			if a.At <= samples[failed[0]].At || !acceptable(a, succeeded, o) || !lasts(samples, failed, a, o.Settle) {
				continue
			}
			u.To, u.Site, u.Epoch = a.Done, a.Site, a.Epoch
			u.Recovered = a.Done+o.Settle <= end
			break
		}
		u.Failed = sort.Search(len(failed), func(k int) bool { return samples[failed[k]].At > u.To })
		failed = failed[u.Failed:]
		out = append(out, u)
	}
	return out
}

// acceptable reports whether the answer's site may end an outage.
func acceptable(a *Sample, succeeded order, o Options) bool {
	if n := len(o.Expect); n > 0 && a.Site != o.Expect[n-1] {
		return false
	}
	return !succeeded.wrong(a)
}

// lasts reports whether nothing scheduled in (a.Done, a.Done+settle] failed
// or was answered by another site. Sites are compared where both are known.
func lasts(samples []Sample, failed []int32, a *Sample, settle time.Duration) bool {
	until := a.Done + settle
	k := sort.Search(len(failed), func(k int) bool { return samples[failed[k]].At > a.Done })
	if k < len(failed) && samples[failed[k]].At <= until {
		return false
	}
	i := sort.Search(len(samples), func(i int) bool { return samples[i].At > a.Done })
	for ; i < len(samples) && samples[i].At <= until; i++ {
		b := &samples[i]
		if b.Good() && a.Site != NoSite && b.Site != NoSite && a.Site != b.Site {
			return false
		}
	}
	return true
}

// gap is the longest stretch between arrivals of good answers, from the
// origin to end; the first such if there are several.
func gap(samples []Sample, end time.Duration) Span {
	arrivals := make([]time.Duration, 0, len(samples))
	for i := range samples {
		if samples[i].Good() {
			arrivals = append(arrivals, samples[i].Done)
		}
	}
	slices.Sort(arrivals)
	var longest Span
	var last time.Duration
	for _, at := range append(arrivals, end) {
		if at-last > longest.Len() {
			longest = Span{From: last, To: at}
		}
		last = max(last, at)
	}
	return longest
}
