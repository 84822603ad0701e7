package rto

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
)

const ms = time.Millisecond

// Sites of the timelines below.
const (
	primary Site = 1
	dr      Site = 2
)

var sites = []draas.SiteID{"", "primary", "dr"}

// good is an answer sent on time, arriving took later, stamped at arrival.
func good(at, took int, site Site, epoch draas.Epoch) Sample {
	a := time.Duration(at) * ms
	done := a + time.Duration(took)*ms
	return Sample{At: a, Sent: a, Done: done, Stamp: done, Site: site, Epoch: epoch}
}

// bad is a failure, known took after its scheduled time.
func bad(at, took int, class Class) Sample {
	a := time.Duration(at) * ms
	return Sample{At: a, Sent: a, Done: a + time.Duration(took)*ms, Stamp: Unstamped, Class: class}
}

// unstamped removes the server's stamp.
func unstamped(s Sample) Sample {
	s.Stamp = Unstamped
	return s
}

// every makes one sample per step in [from, to).
func every(from, to, step int, make func(at int) Sample) []Sample {
	var out []Sample
	for at := from; at < to; at += step {
		out = append(out, make(at))
	}
	return out
}

func join(parts ...[]Sample) []Sample {
	var out []Sample
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func goods(site Site, epoch draas.Epoch) func(int) Sample {
	return func(at int) Sample { return good(at, 1, site, epoch) }
}

func fails(class Class, took int) func(int) Sample {
	return func(at int) Sample { return bad(at, took, class) }
}

func TestOutages(t *testing.T) {
	// Ten requests a second unless a case says otherwise; settle 1 s.
	const settle = 1000 * ms
	for _, c := range []struct {
		name    string
		samples []Sample
		end     int
		options Options
		want    []Outage
	}{
		{
			name:    "no failure",
			samples: every(0, 3000, 100, goods(primary, 1)),
			end:     3000,
		},
		{
			// Refused at 500..1100, first good asked at 1200, there at 1201.
			name: "refused, then the other site",
			samples: join(every(0, 500, 100, goods(primary, 1)), every(500, 1200, 100, fails(Refused, 1)),
				every(1200, 3000, 100, goods(dr, 2))),
			end:  3000,
			want: []Outage{{From: 500 * ms, To: 1201 * ms, Recovered: true, Failed: 7, Site: dr, Epoch: 2}},
		},
		{
			// A good answer at 801 is followed by a failure at 1500, 699 ms
			// later: it did not last. The next at 1601 does.
			name: "a good answer that does not last",
			samples: join(every(0, 500, 100, goods(primary, 1)), every(500, 800, 100, fails(Reset, 1)),
				every(800, 1500, 100, goods(dr, 2)), every(1500, 1600, 100, fails(Reset, 1)),
				every(1600, 3000, 100, goods(dr, 2))),
			end:  3000,
			want: []Outage{{From: 500 * ms, To: 1601 * ms, Recovered: true, Failed: 4, Site: dr, Epoch: 2}},
		},
		{
			// The failure at 1802 is 1001 ms after the good answer at 801.
			name: "two outages just more than settle apart",
			samples: join([]Sample{good(0, 1, dr, 2), bad(500, 1, Reset), good(800, 1, dr, 2), good(1300, 1, dr, 2),
				bad(1802, 1, Reset), good(2000, 1, dr, 2)}, every(2100, 4000, 100, goods(dr, 2))),
			end: 4000,
			want: []Outage{
				{From: 500 * ms, To: 801 * ms, Recovered: true, Failed: 1, Site: dr, Epoch: 2},
				{From: 1802 * ms, To: 2001 * ms, Recovered: true, Failed: 1, Site: dr, Epoch: 2},
			},
		},
		{
			// The same at exactly 1000 ms: one outage.
			name: "two failures just settle apart",
			samples: join([]Sample{good(0, 1, dr, 2), bad(500, 1, Reset), good(800, 1, dr, 2), good(1300, 1, dr, 2),
				bad(1801, 1, Reset), good(2000, 1, dr, 2)}, every(2100, 4000, 100, goods(dr, 2))),
			end:  4000,
			want: []Outage{{From: 500 * ms, To: 2001 * ms, Recovered: true, Failed: 2, Site: dr, Epoch: 2}},
		},
		{
			name:    "never recovered",
			samples: join(every(0, 500, 100, goods(primary, 1)), every(500, 2000, 100, fails(Timeout, 1000))),
			end:     2000,
			want:    []Outage{{From: 500 * ms, To: 2000 * ms, Failed: 15}},
		},
		{
			// The run ends 799 ms after the first good answer.
			name: "ended before it settled",
			samples: join(every(0, 500, 100, goods(primary, 1)), every(500, 1200, 100, fails(Refused, 1)),
				every(1200, 2000, 100, goods(dr, 2))),
			end:  2000,
			want: []Outage{{From: 500 * ms, To: 1201 * ms, Failed: 7, Site: dr, Epoch: 2}},
		},
		{
			// Time-outs of requests asked before the recovery are known after
			// it, but belong to their scheduled time.
			name: "late time-outs",
			samples: join(every(0, 500, 100, goods(primary, 1)), every(500, 1500, 100, fails(Timeout, 1000)),
				every(1500, 4000, 100, goods(dr, 2))),
			end:  4000,
			want: []Outage{{From: 500 * ms, To: 1501 * ms, Recovered: true, Failed: 10, Site: dr, Epoch: 2}},
		},
		{
			// The request of 700 hung and was answered at 1650; that of 1600
			// was answered at 1601: the earlier arrival ends it.
			name: "an early request answered late",
			samples: join(every(0, 500, 100, goods(primary, 1)), every(500, 700, 100, fails(Refused, 1)),
				[]Sample{good(700, 950, dr, 2)}, every(800, 1600, 100, fails(Refused, 1)),
				every(1600, 4000, 100, goods(dr, 2))),
			end:  4000,
			want: []Outage{{From: 500 * ms, To: 1601 * ms, Recovered: true, Failed: 10, Site: dr, Epoch: 2}},
		},
		{
			// The answer asked for at 400 arrives at 550, after the failure
			// of 500: it was under way and shows nothing.
			name: "an answer asked for before the failure",
			samples: join(every(0, 400, 100, goods(primary, 1)), []Sample{good(400, 150, primary, 1), bad(500, 1, Reset)},
				every(600, 3000, 100, goods(primary, 1))),
			end:  3000,
			want: []Outage{{From: 500 * ms, To: 601 * ms, Recovered: true, Failed: 1, Site: primary, Epoch: 1}},
		},
		{
			// At 800 the old site answers again without failure, but within
			// the second the users are on the other one: it did not last.
			name: "the first good answer is not from the lasting site",
			samples: join(every(0, 500, 100, goods(primary, 1)), every(500, 800, 100, fails(Refused, 1)),
				every(800, 1200, 100, goods(primary, 1)), every(1200, 4000, 100, goods(dr, 2))),
			end:  4000,
			want: []Outage{{From: 500 * ms, To: 1201 * ms, Recovered: true, Failed: 3, Site: dr, Epoch: 2}},
		},
		{
			// dr answered epoch 2 at 901; the answer of epoch 1 at 1001 is
			// wrong and lasts for more than a second: no end before 2501.
			name: "a succeeded site does not end an outage",
			samples: join(every(0, 500, 100, goods(primary, 1)), every(500, 900, 100, fails(Refused, 1)),
				[]Sample{good(900, 1, dr, 2)}, every(1000, 2400, 100, goods(primary, 1)), []Sample{bad(2400, 1, Reset)},
				every(2500, 5000, 100, goods(dr, 2))),
			end:  5000,
			want: []Outage{{From: 500 * ms, To: 2501 * ms, Recovered: true, Failed: 5, Site: dr, Epoch: 2}},
		},
		{
			name: "only the expected site ends it",
			samples: join(every(0, 500, 100, goods(primary, 0)), []Sample{bad(500, 1, Reset)},
				every(600, 2000, 100, goods(primary, 0)), every(2000, 4000, 100, goods(dr, 0))),
			end:     4000,
			options: Options{Expect: []Site{primary, dr}},
			want:    []Outage{{From: 500 * ms, To: 2001 * ms, Recovered: true, Failed: 1, Site: dr}},
		},
		{
			// The request of 500 was in flight when the fault came at 540:
			// the outage cannot have begun before the fault.
			name: "in flight at the fault",
			samples: join(every(0, 500, 100, goods(primary, 1)), []Sample{bad(500, 60, Reset)},
				every(600, 1200, 100, fails(Refused, 1)), every(1200, 3000, 100, goods(dr, 2))),
			end:     3000,
			options: Options{Marked: true, Fault: 540 * ms},
			want:    []Outage{{From: 540 * ms, To: 1201 * ms, Recovered: true, Failed: 7, Site: dr, Epoch: 2}},
		},
		{
			// The failure at 200 was over before the fault (the run is void).
			name: "before the fault",
			samples: join(every(0, 200, 100, goods(primary, 1)), []Sample{bad(200, 1, Reset)},
				every(300, 700, 100, goods(primary, 1)), every(700, 1200, 100, fails(Refused, 1)),
				every(1200, 3000, 100, goods(dr, 2))),
			end:     3000,
			options: Options{Marked: true, Fault: 650 * ms},
			want:    []Outage{{From: 700 * ms, To: 1201 * ms, Recovered: true, Failed: 5, Site: dr, Epoch: 2}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.options.Settle = settle
			tl := &Timeline{Streams: []Stream{{Name: "fresh", Samples: c.samples}}, Sites: sites,
				End: time.Duration(c.end) * ms}
			got := Analyse(tl, c.options).Clients[0].Outages
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("outages\n got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestSumAndGap(t *testing.T) {
	samples := []Sample{
		good(0, 5, primary, 1), good(100, 5, primary, 1), bad(200, 1, Refused), bad(300, 1, Reset),
		bad(400, 1, Reset), good(500, 300, dr, 2), good(600, 5, dr, 2), good(700, 5, NoSite, 0),
	}
	tl := &Timeline{Streams: []Stream{{Name: "fresh", Samples: samples}}, Sites: sites, End: 800 * ms}
	c := Analyse(tl, Options{Settle: 1000 * ms}).Clients[0]
	if c.Sent != 8 || c.Failed != 3 || c.Classes[Refused] != 1 || c.Classes[Reset] != 2 || c.Classes[Good] != 5 {
		t.Errorf("counts are wrong: %+v", c)
	}
	// Arrivals: 5, 105, 605, 705, 800; from 0 to 800.
	if want := (Span{105 * ms, 605 * ms}); c.Gap != want {
		t.Errorf("gap %v, want %v", c.Gap, want)
	}
	want := []Served{
		{Site: primary, Epoch: 1, Answers: 2, First: 5 * ms, Last: 105 * ms},
		{Site: dr, Epoch: 2, Answers: 2, First: 605 * ms, Last: 800 * ms},
		{Site: NoSite, Answers: 1, First: 705 * ms, Last: 705 * ms},
	}
	if !reflect.DeepEqual(c.Served, want) {
		t.Errorf("served\n got %+v\nwant %+v", c.Served, want)
	}
}

func TestGapCountsBothEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples []Sample
		want    Span
	}{
		{"nothing good", []Sample{bad(100, 1, DNS)}, Span{0, 900 * ms}},
		{"none", nil, Span{0, 900 * ms}},
		{"at the start", []Sample{good(500, 1, NoSite, 0), good(800, 1, NoSite, 0)}, Span{0, 501 * ms}},
		{"at the end", []Sample{good(0, 1, NoSite, 0), good(300, 1, NoSite, 0)}, Span{301 * ms, 900 * ms}},
		{"an arrival after the end", []Sample{good(0, 1, NoSite, 0), good(800, 400, NoSite, 0)}, Span{1 * ms, 1200 * ms}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := gap(c.samples, 900*ms); got != c.want {
				t.Errorf("gap %v, want %v", got, c.want)
			}
		})
	}
}

func TestVoid(t *testing.T) {
	marked := Options{Marked: true, Fault: 500 * ms}
	for _, c := range []struct {
		name    string
		samples []Sample
		options Options
		want    string
	}{
		{"counts", []Sample{good(0, 1, primary, 1), bad(500, 1, Reset)}, marked, ""},
		{"in flight at the fault", []Sample{good(0, 1, primary, 1), bad(490, 20, Reset)}, marked, ""},
		{"failed before the fault", []Sample{good(0, 1, primary, 1), bad(490, 5, Reset)}, marked, "fresh: 1 of its requests failed before the fault"},
		{"never good before the fault", []Sample{good(600, 1, primary, 1)}, marked, "fresh: no good answer before the fault"},
		{"no fault marked", []Sample{good(0, 1, primary, 1), bad(490, 5, Reset)}, Options{}, ""},
		{"no fault marked, failing at once", []Sample{bad(0, 1, DNS), good(10, 1, primary, 1)}, Options{}, "before any good answer"},
		{"nothing sent", nil, marked, "nothing was sent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tl := &Timeline{Sites: sites, End: time.Second, Streams: []Stream{
				{Name: "fresh", Samples: c.samples},
				{Name: "dr", Direct: true, Samples: []Sample{bad(0, 1, Refused)}}, // passive: refuses, by right
			}}
			got := Analyse(tl, c.options).Void
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
				t.Errorf("void %q, want %q", got, c.want)
			}
		})
	}
}

func TestPercentile(t *testing.T) {
	five := []time.Duration{50, 20, 40, 15, 35} // nearest rank, after Wikipedia's example
	for _, c := range []struct {
		in   []time.Duration
		p    float64
		want time.Duration
	}{
		{five, 5, 15}, {five, 30, 20}, {five, 40, 20}, {five, 50, 35}, {five, 100, 50}, {five, 0, 15},
		{nil, 50, 0}, {[]time.Duration{7}, 99, 7},
	} {
		if got := Percentile(c.in, c.p); got != c.want {
			t.Errorf("Percentile(%v, %v) = %v, want %v", c.in, c.p, got, c.want)
		}
	}
	if five[0] != 50 {
		t.Error("the argument was sorted")
	}
}

func TestClassNames(t *testing.T) {
	for _, c := range append(Failures(), Good) {
		if strings.HasPrefix(c.String(), "class(") || c.String() == "" {
			t.Errorf("class %d has no name", c)
		}
	}
	if len(Failures()) != int(numClasses)-1 {
		t.Errorf("%d classes of failure, want %d", len(Failures()), numClasses-1)
	}
	if Class(99).String() != "class(99)" {
		t.Error("an unknown class must show its number")
	}
}

// BenchmarkAnalyseHour works out an hour at 100/s of four clients and two
// direct probers, with a move in the middle.
func BenchmarkAnalyseHour(b *testing.B) {
	tl := &Timeline{Sites: sites, End: time.Hour}
	for i, name := range []string{"fresh", "ttl", "keepalive", "pinned", "primary", "dr"} {
		s := Stream{Name: name, Direct: i >= 4}
		for at := range 360_000 {
			switch {
			case at < 180_000 && i != 5:
				s.Samples = append(s.Samples, good(at*10, 1, primary, 1))
			case at > 180_100 && i != 3 && i != 4:
				s.Samples = append(s.Samples, good(at*10, 1, dr, 2))
			default:
				s.Samples = append(s.Samples, bad(at*10, 1, Refused))
			}
		}
		tl.Streams = append(tl.Streams, s)
	}
	b.ReportAllocs()
	for b.Loop() {
		if r := Analyse(tl, Options{Settle: time.Second, Join: 25 * ms}); len(r.Clients[0].Outages) != 1 || r.Dual != nil {
			b.Fatalf("%+v", r.Clients[0].Outages)
		}
	}
}
