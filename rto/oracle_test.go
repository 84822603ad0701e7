package rto

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/draasd/draas"
	"pgregory.net/rapid"
)

// drawTimeline draws a run of whole milliseconds, in no way plausible.
func drawTimeline(t *rapid.T) *Timeline {
	end := rapid.IntRange(50, 300).Draw(t, "end")
	tl := &Timeline{Sites: []draas.SiteID{"", "a", "b", "c"}, End: time.Duration(end) * ms}
	for _, name := range []string{"fresh", "pinned", "a"} {
		s := Stream{Name: name, Direct: name == "a"}
		step := rapid.IntRange(3, 12).Draw(t, "step")
		for at := rapid.IntRange(0, step).Draw(t, "phase"); at < end; at += step {
			took := rapid.SampledFrom([]int{0, 1, 2, 5, 30}).Draw(t, "took")
			if rapid.IntRange(0, 9).Draw(t, "class") < 3 {
				s.Samples = append(s.Samples, bad(at, took, Timeout))
				continue
			}
			a := good(at, took, Site(rapid.IntRange(0, 3).Draw(t, "site")), draas.Epoch(rapid.IntRange(0, 3).Draw(t, "epoch")))
			a.Stamp = a.Sent + time.Duration(rapid.IntRange(0, took).Draw(t, "stamp"))*ms
			s.Samples = append(s.Samples, a)
		}
		tl.Streams = append(tl.Streams, s)
	}
	return tl
}

func drawOptions(t *rapid.T) Options {
	o := Options{
		Settle: time.Duration(rapid.IntRange(0, 40).Draw(t, "settle")) * ms,
		Join:   time.Duration(rapid.IntRange(1, 30).Draw(t, "join")) * ms,
		Marked: rapid.Bool().Draw(t, "marked"),
		Expect: rapid.SampledFrom([][]Site{nil, {1, 2}, {3}}).Draw(t, "expect"),
	}
	if o.Marked {
		o.Fault = time.Duration(rapid.IntRange(0, 200).Draw(t, "fault")) * ms
	}
	return o
}

// TestOracle compares Analyse with code that walks the time line in steps of
// a half or whole millisecond and asks the definitions anew at each.
func TestOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tl, o := drawTimeline(t), drawOptions(t)
		r := Analyse(tl, o)
		for i, s := range tl.Streams[:2] {
			c := r.Clients[i]
			if want := oracleOutages(tl, s.Samples, o); !reflect.DeepEqual(c.Outages, want) {
				t.Fatalf("%s: outages\n got %+v\nwant %+v", s.Name, c.Outages, want)
			}
			if want := oracleGap(s.Samples, tl.End); c.Gap.Len() != want {
				t.Fatalf("%s: gap %v, want %v", s.Name, c.Gap, want)
			}
			wrong := 0
			for k := range s.Samples {
				if s.Samples[k].Good() && oracleWrong(tl, &s.Samples[k], o) {
					wrong++
				}
			}
			if c.Wrong != wrong {
				t.Fatalf("%s: %d wrong answers, want %d", s.Name, c.Wrong, wrong)
			}
		}
		if want := oracleDual(tl, o.Join); !reflect.DeepEqual(r.Dual, want) {
			t.Fatalf("dual-active\n got %v\nwant %v", r.Dual, want)
		}
	})
}

func oracleWrong(tl *Timeline, a *Sample, o Options) bool {
	epochs := false
	for _, s := range tl.Streams {
		for _, b := range s.Samples {
			epochs = epochs || b.Good() && b.Epoch != 0
		}
	}
	rank := func(b *Sample) int {
		switch {
		case epochs:
			return int(b.Epoch)
		case o.Expect == nil || b.Site == NoSite:
			return 0
		}
		return 2 + slices.Index(o.Expect, b.Site)
	}
	for _, s := range tl.Streams {
		for i := range s.Samples {
			b := &s.Samples[i]
			if b.Good() && rank(a) > 0 && rank(b) > rank(a) && b.Stamp < a.Stamp {
				return true
			}
		}
	}
	return false
}

// oracleEnds says whether some good answer arriving at T ends an outage.
func oracleEnds(tl *Timeline, samples []Sample, first Sample, at time.Duration, o Options) *Sample {
	for i := range samples {
		a := &samples[i]
		if !a.Good() || a.Done != at || a.At <= first.At || oracleWrong(tl, a, o) {
			continue
		}
		if o.Expect != nil && a.Site != o.Expect[len(o.Expect)-1] {
			continue
		}
		lasts := true
		for u := at + ms; u <= at+o.Settle; u += ms {
			for _, b := range samples {
				if b.At != u {
					continue
				}
				if !b.Good() && (!o.Marked || b.Done >= o.Fault) {
					lasts = false
				}
				if b.Good() && a.Site != 0 && b.Site != 0 && a.Site != b.Site {
					lasts = false
				}
			}
		}
		if lasts {
			return a
		}
	}
	return nil
}

func oracleOutages(tl *Timeline, samples []Sample, o Options) []Outage {
	var out []Outage
	done := -ms // failures scheduled until then are accounted for
	for _, f := range samples {
		if f.Good() || f.At <= done || o.Marked && f.Done < o.Fault {
			continue
		}
		u := Outage{From: f.At}
		if o.Marked {
			u.From = max(f.At, o.Fault)
		}
		u.To = max(tl.End, u.From)
		for at := u.From; at <= tl.End+100*ms; at += ms {
			if a := oracleEnds(tl, samples, f, at, o); a != nil {
				u.To, u.Site, u.Epoch, u.Recovered = at, a.Site, a.Epoch, at+o.Settle <= tl.End
				break
			}
		}
		for _, g := range samples {
			if !g.Good() && g.At > done && g.At <= u.To && (!o.Marked || g.Done >= o.Fault) {
				u.Failed++
			}
		}
		done = u.To
		out = append(out, u)
	}
	return out
}

func oracleGap(samples []Sample, end time.Duration) time.Duration {
	var longest, current time.Duration
	for at := time.Duration(0); at <= end+100*ms; at += ms {
		arrived := false
		for _, a := range samples {
			arrived = arrived || a.Good() && a.Done == at
		}
		// After the end only a late arrival closes the gap.
		if arrived || at == end {
			longest = max(longest, current)
		}
		if arrived {
			current = 0
		}
		current += ms
	}
	return longest
}

// oracleDual asks each half millisecond which sites are active: those with an
// answer then, or with answers before and after at most join apart.
func oracleDual(tl *Timeline, join time.Duration) []Span {
	active := func(site Site, epoch draas.Epoch, at time.Duration) bool {
		before, after := time.Duration(-1), time.Duration(-1)
		for _, s := range tl.Streams {
			for _, a := range s.Samples {
				if !a.Good() || a.Site != site || a.Epoch != epoch {
					continue
				}
				if a.Stamp <= at {
					before = max(before, a.Stamp)
				}
				if a.Stamp >= at && (after < 0 || a.Stamp < after) {
					after = a.Stamp
				}
			}
		}
		return before >= 0 && after >= 0 && after-before <= join
	}
	var out []Span
	open := false
	for at := time.Duration(0); at <= tl.End+100*ms; at += ms / 2 {
		n := 0
		for site := Site(1); site <= 3; site++ {
			if active(site, 0, at) || active(site, 1, at) || active(site, 2, at) || active(site, 3, at) {
				n++
			}
		}
		switch {
		case n < 2:
			open = false
		case open:
			out[len(out)-1].To = at
		default:
			open = true
			out = append(out, Span{From: at, To: at})
		}
	}
	return out
}

// TestNoFalseAlarm: a correct handover, seen through any latency, with stamps
// or without, is neither dual-active nor has wrong answers.
func TestNoFalseAlarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		move := rapid.IntRange(100, 400).Draw(t, "move")
		stamped := rapid.Bool().Draw(t, "stamped")
		tl := &Timeline{Sites: sites, End: 500 * ms}
		for _, direct := range []Site{NoSite, primary, dr} {
			s := Stream{Name: "stream", Direct: direct != NoSite}
			for at := rapid.IntRange(0, 9).Draw(t, "phase"); at < 500; at += 10 {
				there := at + rapid.IntRange(0, 40).Draw(t, "there")
				back := there + rapid.IntRange(1, 40).Draw(t, "back")
				site, epoch := primary, draas.Epoch(1)
				if there >= move {
					site, epoch = dr, 2
				}
				a := good(at, back-at, site, epoch)
				a.Stamp = time.Duration(there) * ms
				if direct != NoSite && direct != site {
					a = bad(at, back-at, Refused)
				} else if !stamped {
					a.Stamp, a.Epoch = Unstamped, 0
				}
				s.Samples = append(s.Samples, a)
			}
			tl.Streams = append(tl.Streams, s)
		}
		r := Analyse(tl, Options{Join: 25 * ms, Settle: 50 * ms, Expect: []Site{primary, dr}})
		if r.Dual != nil || r.Wrong != nil || r.Clients[0].Wrong != 0 {
			t.Fatalf("false alarm: dual-active %v, wrong %v", r.Dual, r.Wrong)
		}
	})
}
