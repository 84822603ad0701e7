package rto

import (
	"reflect"
	"testing"
	"time"
)

func TestWrongSite(t *testing.T) {
	for _, c := range []struct {
		name    string
		streams []Stream
		expect  []Site
		count   []int
		spans   []Span
		time    time.Duration
	}{
		{
			name: "a clean move",
			streams: []Stream{{Name: "fresh", Samples: join(every(0, 500, 10, goods(primary, 1)),
				every(500, 900, 10, goods(dr, 2)))}},
			count: []int{0},
		},
		{
			// dr answered at 501; pinned still gets the old site at 506..546,
			// asked at 505..545: five answers over 40 ms.
			name: "one client stays behind",
			streams: []Stream{
				{Name: "fresh", Samples: join(every(0, 500, 10, goods(primary, 1)), every(500, 900, 10, goods(dr, 2)))},
				{Name: "pinned", Samples: join(every(5, 555, 10, goods(primary, 1)), every(555, 900, 10, fails(Refused, 1)))},
			},
			count: []int{0, 5},
			spans: []Span{{506 * ms, 546 * ms}},
			time:  40 * ms,
		},
		{
			name: "a single wrong answer counts as a millisecond",
			streams: []Stream{{Name: "fresh", Samples: []Sample{good(0, 1, primary, 1), good(10, 1, dr, 2),
				good(20, 1, primary, 1), good(30, 1, dr, 2)}}},
			count: []int{1},
			spans: []Span{{21 * ms, 21 * ms}},
			time:  1 * ms,
		},
		{
			// A later epoch of the same site is no wrong site; its own
			// earlier epoch is.
			name: "failback",
			streams: []Stream{{Name: "fresh", Samples: []Sample{good(0, 1, primary, 1), good(10, 1, dr, 2),
				good(20, 1, primary, 3), good(30, 1, dr, 2)}}},
			count: []int{1},
			spans: []Span{{31 * ms, 31 * ms}},
			time:  1 * ms,
		},
		{
			name: "a prober saw the successor first",
			streams: []Stream{
				{Name: "fresh", Samples: []Sample{good(0, 1, primary, 1), good(10, 1, primary, 1)}},
				{Name: "dr", Direct: true, Samples: []Sample{good(5, 1, dr, 2)}},
			},
			count: []int{1},
			spans: []Span{{11 * ms, 11 * ms}},
			time:  1 * ms,
		},
		{
			name: "a prober's own answers are not judged",
			streams: []Stream{
				{Name: "fresh", Samples: []Sample{good(0, 1, dr, 2)}},
				{Name: "primary", Direct: true, Samples: []Sample{good(5, 1, primary, 1)}},
			},
			count: []int{0},
		},
		{
			// Without stamps the old site may have answered at 2, before the
			// new one did at 8: not proved.
			name: "overlapping bounds prove nothing",
			streams: []Stream{{Name: "fresh", Samples: []Sample{unstamped(good(0, 8, dr, 2)),
				unstamped(good(2, 20, primary, 1))}}},
			count: []int{0},
		},
		{
			name:    "no epochs and no order",
			streams: []Stream{{Name: "fresh", Samples: []Sample{good(0, 1, dr, 0), good(10, 1, primary, 0)}}},
			count:   []int{0},
		},
		{
			name:    "no epochs, but an order",
			streams: []Stream{{Name: "fresh", Samples: []Sample{good(0, 1, dr, 0), good(10, 1, primary, 0)}}},
			expect:  []Site{primary, dr},
			count:   []int{1},
			spans:   []Span{{11 * ms, 11 * ms}},
			time:    1 * ms,
		},
		{
			name: "no epochs, only the last site named; unknown sites are not judged",
			streams: []Stream{{Name: "fresh", Samples: []Sample{good(0, 1, dr, 0), good(10, 1, primary, 0),
				good(20, 1, NoSite, 0)}}},
			expect: []Site{dr},
			count:  []int{1},
			spans:  []Span{{11 * ms, 11 * ms}},
			time:   1 * ms,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Analyse(&Timeline{Streams: c.streams, Sites: sites, End: 900 * ms}, Options{Join: 25 * ms, Expect: c.expect})
			for i, want := range c.count {
				if got := r.Clients[i].Wrong; got != want {
					t.Errorf("%s: %d wrong answers, want %d", r.Clients[i].Name, got, want)
				}
			}
			if !reflect.DeepEqual(r.Wrong, c.spans) || r.WrongTime != c.time {
				t.Errorf("wrong %v (%v), want %v (%v)", r.Wrong, r.WrongTime, c.spans, c.time)
			}
		})
	}
}

func TestDualActive(t *testing.T) {
	slow := func(site Site, took int) func(int) Sample {
		return func(at int) Sample { return unstamped(good(at, took, site, 0)) }
	}
	for _, c := range []struct {
		name string
		a, b []Sample
		want []Span
		time time.Duration
	}{
		{
			// a at 1..991, b at 6..996.
			name: "both always on",
			a:    every(0, 1000, 10, goods(primary, 1)), b: every(5, 1000, 10, goods(dr, 1)),
			want: []Span{{6 * ms, 991 * ms}}, time: 985 * ms,
		},
		{
			name: "a clean handover",
			a:    every(0, 500, 10, goods(primary, 1)), b: every(500, 1000, 10, goods(dr, 2)),
		},
		{
			// a until 491, b from 461.
			name: "30 ms",
			a:    every(0, 500, 10, goods(primary, 1)), b: every(460, 1000, 10, goods(dr, 2)),
			want: []Span{{461 * ms, 491 * ms}}, time: 30 * ms,
		},
		{
			name: "one stray answer counts as a millisecond",
			a:    every(0, 1000, 10, goods(primary, 1)), b: []Sample{good(500, 3, dr, 2)},
			want: []Span{{503 * ms, 503 * ms}}, time: 1 * ms,
		},
		{
			// b answers in a's pause of 481..521: 40 ms are more than 25.
			name: "in a pause",
			a:    join(every(0, 490, 10, goods(primary, 1)), every(520, 1000, 10, goods(primary, 1))),
			b:    []Sample{good(500, 1, dr, 2)},
		},
		{
			// A pause of 20 ms (one answer missing) does not end a's activity.
			name: "one answer missing",
			a:    join(every(0, 490, 10, goods(primary, 1)), every(500, 1000, 10, goods(primary, 1))),
			b:    []Sample{good(490, 1, dr, 2)},
			want: []Span{{491 * ms, 491 * ms}}, time: 1 * ms,
		},
		{
			// Away and back within 25 ms, but under a new epoch.
			name: "there and back",
			a:    []Sample{good(0, 1, primary, 1), good(10, 1, primary, 1), good(30, 1, primary, 3)},
			b:    []Sample{good(20, 1, dr, 2)},
		},
		{
			// Unstamped, 4 ms each: a surely from 4 to 490, b from 484 to 990.
			name: "unstamped",
			a:    every(0, 500, 10, slow(primary, 4)), b: every(480, 1000, 10, slow(dr, 4)),
			want: []Span{{484 * ms, 490 * ms}}, time: 6 * ms,
		},
		{
			// a surely until 490, b surely from 494.
			name: "unstamped handover with requests crossing",
			a:    every(0, 500, 10, slow(primary, 8)), b: every(486, 1000, 10, slow(dr, 8)),
		},
		{
			// b's answer came somewhere in 500..550, a was active throughout.
			name: "one slow unstamped answer within",
			a:    every(0, 1000, 10, slow(primary, 4)), b: []Sample{slow(dr, 50)(500)},
			want: []Span{{550 * ms, 550 * ms}}, time: 1 * ms,
		},
		{
			// b's answer came in 960..1010, a is proved until 990 only.
			name: "one slow unstamped answer at the edge",
			a:    every(0, 1000, 10, slow(primary, 4)), b: []Sample{slow(dr, 50)(960)},
		},
		{
			name: "unknown sites prove nothing",
			a:    every(0, 1000, 10, goods(NoSite, 0)), b: every(0, 1000, 10, goods(dr, 2)),
		},
		{
			name: "failures prove nothing",
			a:    every(0, 1000, 10, fails(Status, 1)), b: every(0, 1000, 10, goods(dr, 2)),
		},
		{
			// The stamp of 490 says 700, but the answer was there at 491.
			name: "a clock that is off is held within the request",
			a: join(every(0, 490, 10, goods(primary, 1)), []Sample{{At: 490 * ms, Sent: 490 * ms, Done: 491 * ms,
				Stamp: 700 * ms, Site: primary, Epoch: 1}}),
			b: every(500, 1000, 10, goods(dr, 2)),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			tl := &Timeline{Sites: sites, End: time.Second, Streams: []Stream{
				{Name: "primary", Direct: true, Samples: c.a}, {Name: "dr", Direct: true, Samples: c.b}}}
			r := Analyse(tl, Options{Join: 25 * ms})
			if !reflect.DeepEqual(r.Dual, c.want) || r.DualTime != c.time {
				t.Errorf("dual-active %v (%v), want %v (%v)", r.Dual, r.DualTime, c.want, c.time)
			}
			if len(r.Direct) != 2 || len(r.Clients) != 0 {
				t.Errorf("%d probers and %d clients, want 2 and 0", len(r.Direct), len(r.Clients))
			}
		})
	}
}
