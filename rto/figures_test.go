package rto

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

func trials(seconds ...int) []Trial {
	var out []Trial
	for _, s := range seconds {
		out = append(out, Trial{Downtime: time.Duration(max(s, -s)) * time.Second, Over: s < 0})
	}
	return out
}

// TestQuantileNeeds: what there are too few runs for is not there. 299 runs
// are the fewest with a bound from above for p99 (0.99^299 < 0.05).
func TestQuantileNeeds(t *testing.T) {
	for _, c := range []struct {
		n            int
		percent      float64
		value, upper bool
	}{
		{0, 50, false, false}, {1, 50, false, false}, {2, 50, true, false}, {4, 50, true, false}, {5, 50, true, true},
		{9, 90, false, false}, {10, 90, true, false}, {28, 90, true, false}, {29, 90, true, true},
		{99, 99, false, false}, {100, 99, true, false}, {298, 99, true, false}, {299, 99, true, true},
	} {
		var list []int
		for i := range c.n {
			list = append(list, i+1)
		}
		q := Quantiles(trials(list...), c.percent)[0]
		if (q.Value != nil) != c.value || (q.Upper != nil) != c.upper {
			t.Errorf("p%g of %d: value %v, upper %v; want %v, %v", c.percent, c.n, q.Value, q.Upper, c.value, c.upper)
		}
		if (c.n >= q.Need) != c.value || (c.n >= q.NeedUpper) != c.upper {
			t.Errorf("p%g of %d: needs %d and %d", c.percent, c.n, q.Need, q.NeedUpper)
		}
	}
}

// TestQuantileRanks: the ranks that the tables of the binomial distribution
// give, and trials that were not over stand behind all others.
func TestQuantileRanks(t *testing.T) {
	var list []int
	for i := range 60 {
		list = append(list, (i*37)%60+1)
	}
	list = append(list[:50], append([]int{-1, -2}, list[50:]...)...)
	q := Quantiles(trials(list...), 50, 99)
	// Of 62: P(B<=24) = 0.0494, P(B<=25) = 0.0814.
	if q[0].Value.Downtime != 31*time.Second || q[0].Lower.Downtime != 25*time.Second || q[0].Upper.Downtime != 38*time.Second {
		t.Errorf("median %v, %v to %v", q[0].Value, q[0].Lower, q[0].Upper)
	}
	if q[1].Value != nil || q[1].Upper != nil || q[1].Lower == nil || q[1].Lower.Over {
		t.Errorf("p99: %+v", q[1])
	}
	if got := Quantiles(trials(1, -9, 3), 90)[0].Lower; got == nil || got.Over || got.Downtime != 3*time.Second {
		t.Errorf("at least %v", got)
	}
}

// TestCoverage: bounds of distributions of another shape hold at least as
// often as they claim, and a band holds the whole curve; with seeds that are
// fixed.
func TestCoverage(t *testing.T) {
	const rounds = 4000
	r := rand.New(rand.NewPCG(7, 11))
	shapes := map[string]struct {
		draw     func() float64
		quantile func(p float64) float64
	}{
		"uniform":     {r.Float64, func(p float64) float64 { return p }},
		"exponential": {r.ExpFloat64, func(p float64) float64 { return -math.Log1p(-p) }},
		"few values":  {func() float64 { return math.Floor(4 * r.Float64()) }, func(p float64) float64 { return math.Ceil(4*p) - 1 }},
	}
	for name, s := range shapes {
		for _, n := range []int{8, 40} {
			var low, high [2]int
			whole := 0
			for range rounds {
				list := make([]Trial, n)
				for i := range list {
					list[i].Downtime = time.Duration(s.draw() * 1e9)
				}
				for i, q := range Quantiles(list, 50, 90) {
					truth := time.Duration(s.quantile(q.Percent/100) * 1e9)
					if q.Lower != nil && q.Lower.Downtime > truth {
						low[i]++
					}
					if q.Upper != nil && q.Upper.Downtime < truth {
						high[i]++
					}
				}
				if name == "uniform" && bandHolds(Distribution(list)) {
					whole++
				}
			}
			// 0.05 and three standard deviations of it.
			const most = rounds*0.05 + 42
			for i, p := range []int{50, 90} {
				if low[i] > most || high[i] > most {
					t.Errorf("%s, %d trials, p%d: too high %d and too low %d times of %d", name, n, p, low[i], high[i], rounds)
				}
			}
			if name == "uniform" && whole < rounds*95/100-42 {
				t.Errorf("%d trials: the band holds %d times of %d", n, whole, rounds)
			}
		}
	}
}

// bandHolds reports whether the band holds the curve of the uniform
// distribution, at each step from below and from above.
func bandHolds(points []Share) bool {
	before := 0.0
	wide := points[0].High - points[0].Share
	for _, p := range points {
		truth := p.At.Seconds()
		if truth < p.Low-1e-9 || truth > before+wide+1e-9 {
			return false
		}
		before = p.Share
	}
	return true
}

func TestDistribution(t *testing.T) {
	got := Distribution(trials(3, 1, 3, -2))
	if len(got) != 2 || got[0].At != time.Second || got[0].Share != 0.25 || got[1].Share != 0.75 || got[1].High != 1 || got[0].Low != 0 {
		t.Errorf("%+v", got)
	}
	if Distribution(nil) != nil {
		t.Error("a distribution of nothing")
	}
}

// TestDivide: the parts are where the turning points make them, follow each
// other and add up, whatever the order of the clocks.
func TestDivide(t *testing.T) {
	s := time.Second
	got := Divide(Span{2 * s, 10 * s}, []Turn{{"a", 1 * s}, {"b", 4 * s}, {"c", 3 * s}, {"d", 99 * s}}, "rest")
	want := []Part{{"a", Span{2 * s, 2 * s}}, {"b", Span{2 * s, 4 * s}}, {"c", Span{4 * s, 4 * s}}, {"d", Span{4 * s, 10 * s}}, {"rest", Span{10 * s, 10 * s}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		o := Span{From: time.Duration(r.IntN(50))}
		o.To = o.From + time.Duration(r.IntN(50))
		var turns []Turn
		for range r.IntN(6) {
			turns = append(turns, Turn{At: time.Duration(r.IntN(120) - 10)})
		}
		at := o.From
		for _, p := range Divide(o, turns, "") {
			if p.From != at || p.Len() < 0 {
				t.Fatalf("%v by %v: part %v", o, turns, p)
			}
			at = p.To
		}
		if at != o.To {
			t.Fatalf("%v by %v ends at %v", o, turns, at)
		}
	}
}

// TestCompare: lost is what was acknowledged and is not there, and nothing
// else is.
func TestCompare(t *testing.T) {
	row := func(n uint64, acked bool) Write {
		return Write{Number: n, Sent: time.Duration(n) * 100 * ms, Done: time.Duration(n)*100*ms + 10*ms, Acked: acked}
	}
	written := []Write{row(1, true), row(2, true), row(3, false), row(4, true), row(5, true), row(6, false), row(7, true)}
	for name, c := range map[string]struct {
		stored []uint64
		want   Writes
		rpo    time.Duration
	}{
		"all":            {[]uint64{1, 2, 4, 5, 7}, Writes{Stored: 5}, 0},
		"unacknowledged": {[]uint64{1, 2, 3, 4, 5, 7}, Writes{Stored: 6, Unacked: 1}, 0},
		"a tail":         {[]uint64{1, 2, 7}, Writes{Stored: 3, Lost: []uint64{4, 5}, From: 210 * ms, First: 410 * ms, Last: 510 * ms}, 300 * ms},
		"from the first": {[]uint64{5, 7}, Writes{Stored: 2, Lost: []uint64{1, 2, 4}, From: 100 * ms, First: 110 * ms, Last: 410 * ms}, 310 * ms},
		"nothing stored": {nil, Writes{Lost: []uint64{1, 2, 4, 5, 7}, From: 100 * ms, First: 110 * ms, Last: 710 * ms}, 610 * ms},
		"twice":          {[]uint64{1, 2, 2, 4, 5, 2, 7}, Writes{Stored: 5, Duplicates: 2}, 0},
		"out of order":   {[]uint64{2, 1, 4, 7, 5}, Writes{Stored: 5, Disordered: 2}, 0},
		"never sent":     {[]uint64{1, 2, 4, 5, 7, 8, 0}, Writes{Stored: 5, Foreign: 2}, 0},
	} {
		c.want.Sent, c.want.Acked = 7, 5
		got := Compare(written, c.stored)
		if !reflect.DeepEqual(got, c.want) || got.Objective() != c.rpo {
			t.Errorf("%s: %+v, %v; want %+v, %v", name, got, got.Objective(), c.want, c.rpo)
		}
	}
}

// TestStaleTail: users count where their latest request went, and one that
// found no address stays where he was.
func TestStaleTail(t *testing.T) {
	ask := func(at int, user, addr uint16) Sample {
		return Sample{At: time.Duration(at) * ms, Sent: time.Duration(at) * ms, User: user, Addr: addr}
	}
	const before, after = 1, 2
	samples := []Sample{ask(0, 0, before), ask(10, 1, before), ask(20, 0, before), ask(30, 1, after), ask(40, 0, NoAddr), ask(50, 1, before), ask(60, 0, after), ask(65, 0, NoAddr), ask(70, 1, after)}
	got := StaleTail(samples, func(a uint16) bool { return a == after }, 15*ms)
	want := []Stale{{15 * ms, 2, 2}, {30 * ms, 1, 2}, {50 * ms, 2, 2}, {60 * ms, 1, 2}, {70 * ms, 0, 2}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := StaleTail(samples[:2], func(uint16) bool { return false }, time.Second); !slices.Equal(got, []Stale{{time.Second, 2, 2}}) {
		t.Errorf("nothing after: %v", got)
	}
}

// TestStrip: the pieces follow each other, cover the window from the first
// request on, and count every request once.
func TestStrip(t *testing.T) {
	const primary, dr = 1, 2
	var samples []Sample
	samples = append(samples, every(0, 1000, 10, goods(primary, 1))...)
	samples = append(samples, every(1000, 2000, 10, fails(Refused, 1))...)
	samples = append(samples, every(2000, 3000, 10, goods(dr, 2))...)
	got := Strip(samples, Span{500 * ms, 2500 * ms}, 100)
	want := []Stretch{{Span{500 * ms, 1000 * ms}, primary, 50, 0}, {Span{1000 * ms, 2000 * ms}, NoSite, 100, 100}, {Span{2000 * ms, 2500 * ms}, dr, 50, 0}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		var list []Sample
		for at := 0; at < 1000; at += 1 + r.IntN(40) {
			list = append(list, Sample{At: time.Duration(at), Class: Class(r.IntN(2)), Site: Site(r.IntN(3))})
		}
		w := Span{time.Duration(r.IntN(300)), time.Duration(400 + r.IntN(600))}
		pieces := Strip(list, w, 1+r.IntN(200))
		sent, failed, wantSent, wantFailed := 0, 0, 0, 0
		for i, p := range pieces {
			sent, failed = sent+p.Sent, failed+p.Failed
			if i > 0 && p.From != pieces[i-1].To || p.Len() <= 0 || i == len(pieces)-1 && p.To != w.To {
				t.Fatalf("piece %d of %v", i, pieces)
			}
		}
		for _, a := range list {
			if a.At >= w.From && a.At < w.To {
				wantSent++
				if !a.Good() {
					wantFailed++
				}
			}
		}
		if sent != wantSent || failed != wantFailed {
			t.Fatalf("%d of %d failed, want %d of %d", failed, sent, wantFailed, wantSent)
		}
	}
	// The fault falls into a piece: the strip shows it where it was.
	sharp := Strip(samples, Span{0, 3000 * ms}, 7)
	if len(sharp) != 3 || sharp[0].To != 1000*ms || sharp[1].To != 2000*ms || sharp[1].Sent != 100 || sharp[1].Failed != 100 || sharp[2].Site != dr {
		t.Errorf("edges of an outage: %v", sharp)
	}
	// Of users who take turns, some are down: no edge, however it falls.
	turns := []Sample{{At: 0}, {At: 1, Class: Reset}, {At: 2}, {At: 3, Class: Reset}, {At: 4}, {At: 5, Class: Reset}}
	if got := Strip(turns, Span{0, 6}, 3); len(got) != 3 || got[1].Sent != 2 || got[1].Failed != 1 {
		t.Errorf("users who take turns: %v", got)
	}
	mixed := []Sample{{At: 0}, {At: 1, Class: Reset}, {At: 2}, {At: 3}, {At: 4}, {At: 5, Class: Reset}}
	if got := Strip(mixed, Span{0, 6}, 3); len(got) != 3 || got[0].Failed != 1 || got[1].Failed != 0 {
		t.Errorf("pieces that are not alike became one: %v", got)
	}
	if Strip(samples, Span{}, 9) != nil || Strip(samples, Span{0, time.Second}, 0) != nil {
		t.Error("pieces of nothing")
	}
}
