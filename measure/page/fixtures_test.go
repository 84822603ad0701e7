package page

import (
	"math"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/measure"
)

const ms = time.Millisecond

// noon is when the fault comes in all fixtures.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func at(n int) time.Time { return noon.Add(time.Duration(n) * ms) }

func millis(n int) measure.Millis { return measure.Millis(time.Duration(n) * ms) }

// stretches makes a strip of (end, failed share in tenths, site) from -500 ms.
func stretches(parts ...any) []measure.Stretch {
	var out []measure.Stretch
	from := -500
	for i := 0; i < len(parts); i += 3 {
		to, tenths := parts[i].(int), parts[i+1].(int)
		out = append(out, measure.Stretch{At: millis(from + 500), Length: millis(to - from), Sent: to - from, Failed: (to - from) * tenths / 10,
			Site: draas.SiteID(parts[i+2].(string))})
		from = to
	}
	return out
}

// outcome is a client that was down between two instants, or for good.
func outcome(from, to int, over bool, strip []measure.Stretch) *measure.Outcome {
	o := &measure.Outcome{Counts: measure.Counts{Sent: 1200, Failed: (to - from) / 10, Errors: map[string]int{"refused": (to - from) / 10},
		Latency: measure.Latency{P50: millis(1), P99: millis(4)}, Strip: strip,
		Served: []measure.Served{{Site: "primary", Epoch: 3, Answers: 50, First: at(-490), Last: at(-5)}, {Site: "dr", Epoch: 4, Answers: 500, First: at(to), Last: at(8000)}}},
		Downtime: millis(to - from), Recovered: !over, LargestGap: millis(to - from), LargestGapFrom: at(from)}
	f, g := at(from), at(to)
	u := measure.Outage{From: f, To: g, Length: o.Downtime, Recovered: !over, Failed: o.Failed, Site: "dr", Epoch: 4}
	o.FirstFailure = &f
	if !over {
		o.FirstGood = &g
	} else {
		u.Site, u.Epoch, o.Served = "", 0, o.Served[:1]
	}
	o.Outages = []measure.Outage{u}
	return o
}

func tail(parts ...int) []measure.Stale {
	var out []measure.Stale
	for i := 0; i < len(parts); i += 2 {
		out = append(out, measure.Stale{At: millis(parts[i]), Old: parts[i+1], Users: 20})
	}
	return out
}

// sample is a lost site, as six kinds of client and draasd saw it.
func sample() *measure.Report {
	fault, stale := at(0), at(0)
	r := &measure.Report{URL: "http://shop.example.org/", Started: at(-4000), Duration: millis(20000), Rate: 100, Timeout: millis(1000), Settle: millis(1000), Users: 20,
		Fault: &fault, StaleFrom: &stale, Client: measure.TTL, Window: measure.Span{From: at(-500), To: at(8500)},
		LatenessP50: millis(0), LatenessP99: millis(1), LatenessMax: millis(6),
		Tool: &measure.Tool{Version: "v0.4.0 90aa31c7d2e4", Go: "go1.26.0", Command: []string{"rtotest", "--client", "all", "--users", "20", "-c", "failover.toml", "http://shop.example.org/"}}}
	r.Clients = map[measure.Kind]*measure.Outcome{
		measure.Fresh:     outcome(4, 3420, false, stretches(4, 0, "primary", 3420, 10, "", 8500, 0, "dr")),
		measure.TTL:       outcome(4, 6210, false, stretches(4, 0, "primary", 3420, 10, "", 4000, 8, "dr", 4800, 6, "dr", 5400, 4, "dr", 6210, 2, "dr", 8500, 0, "dr")),
		measure.KeepAlive: outcome(6, 3440, false, stretches(6, 0, "primary", 3440, 10, "", 8500, 0, "dr")),
		measure.Browser:   outcome(8, 7900, false, stretches(8, 0, "primary", 5000, 10, "", 7000, 7, "dr", 7900, 3, "dr", 8500, 0, "dr")),
		measure.JVM:       outcome(4, 16000, true, stretches(4, 0, "primary", 8500, 10, "")),
		measure.Pinned:    outcome(4, 16000, true, stretches(4, 0, "primary", 8500, 10, "")),
	}
	for k, t := range map[measure.Kind][]measure.Stale{measure.Fresh: tail(0, 20, 3410, 8, 3480, 0), measure.TTL: tail(0, 20, 3420, 16, 4000, 12, 4800, 8, 5400, 4, 6200, 0),
		measure.KeepAlive: tail(0, 20, 3420, 5, 3500, 0), measure.Browser: tail(0, 20, 5000, 14, 7000, 6, 7850, 0), measure.JVM: tail(0, 20), measure.Pinned: tail(0, 20)} {
		r.Clients[k].Stale = t
	}
	r.Sites = map[draas.SiteID]*measure.Counts{
		"dr":      {Sent: 1200, Failed: 700, Errors: map[string]int{"refused": 700}, Strip: stretches(3380, 10, "", 8500, 0, "dr"), Served: []measure.Served{{Site: "dr", Epoch: 4, Answers: 500, First: at(3380), Last: at(8490)}}},
		"primary": {Sent: 1200, Failed: 850, Errors: map[string]int{"refused": 850}, Strip: stretches(4, 0, "primary", 8500, 10, ""), Served: []measure.Served{{Site: "primary", Epoch: 3, Answers: 350, First: at(-490), Last: at(-5)}}},
	}
	from, to := at(-2010), at(-10)
	r.Writes = &measure.Writes{URL: "http://shop.example.org/writes", Run: "5f0e1d2c3b4a5968", Sent: 320, Acked: 255, Known: true, Stored: 215, Lost: 40, RPO: millis(2000), AtLeast: millis(1950), From: &from, To: &to}
	r.Join(lostSite())
	r.Outcome = *r.Clients[r.Client]
	return r
}

// lostSite is what draasd says of it.
func lostSite() *measure.Daemon {
	turn := func(name, part string, n int, by draas.MemberID) measure.Turn {
		return measure.Turn{Name: name, Part: part, At: at(n), By: by, Shifted: true, Error: measure.Millis(400 * time.Microsecond)}
	}
	return &measure.Daemon{Cluster: "acme", Service: "shop",
		Members: []measure.MemberClock{{Member: "dr", Known: true, Offset: millis(12), Error: measure.Millis(400 * time.Microsecond), Samples: 14},
			{Member: "primary", Known: true, Offset: millis(-3), Error: measure.Millis(500 * time.Microsecond), Samples: 9, Problem: "dial tcp 198.51.100.20:7411: connect: connection refused"},
			{Member: "witness", Known: true, Offset: millis(148), Error: measure.Millis(2100 * time.Microsecond), Samples: 14}},
		Moves: []measure.Move{{Kind: "failover", From: "primary", To: "dr", Epoch: 4, Evidence: "lease of epoch 3 is over", Complete: true,
			Loss: &measure.Loss{From: "primary", Known: true, Behind: millis(4200), Objects: 3, Bytes: 40 << 20, By: "dr", Text: "the copy of primary's cloud was 4.2s behind, with at least 3 objects (40 MiB) missing"},
			Turns: []measure.Turn{turn("suspected", "detect", 820, "dr"), turn("failed", "agree", 1090, "witness"), turn("decided", "confirm", 1120, "witness"),
				turn("activated", "fence", 3310, "dr"), turn("redirected", "act", 3360, "dr"), turn("verified", "", 4100, "witness")},
			Steps: []measure.Step{{Name: "dns", Outcome: "done", Attempts: 1, Evidence: "dr 203.0.113.10:53: epoch=4 site=dr A 203.0.113.20"}}}}}
}

// series is the same disaster n times over; the seventh is void, and every
// 25th does not end.
func series(n int) *measure.Series {
	s := &measure.Series{Wanted: n, Tool: sample().Tool}
	for i := 1; i <= n; i++ {
		r := sample()
		r.Number, r.Started = i, r.Started.Add(time.Duration(i)*time.Minute)
		longer := int(900 * math.Sin(float64(i)*2.4))
		o := r.Clients[r.Client]
		o.Downtime += millis(longer)
		o.Recovered = i%25 != 0
		r.Outcome = *o
		r.Inject = &measure.Action{Command: "ssh primary systemctl poweroff", Took: millis(310), Output: "Connection to primary closed."}
		r.Restore = &measure.Action{Command: "./restore.sh", Took: millis(41000)}
		if i == 7 {
			r.Void, r.VoidReason, r.Inject.Problem, r.Inject.ExitCode = true, "--inject: exit code 255", "exit code 255", 255
		}
		s.Runs = append(s.Runs, r)
	}
	s.Summary = measure.Sum(s.Runs)
	return s
}

func one(r *measure.Report) *measure.Series {
	return &measure.Series{Wanted: 1, Runs: []*measure.Report{r}, Summary: measure.Sum([]*measure.Report{r}), Tool: r.Tool}
}
