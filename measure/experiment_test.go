package measure

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// The control experiments: what is measured is known from elsewhere.

// quiet is how late the tester itself may be for an experiment to count: on a
// machine that stalls the truth is not known to 20 ms either.
const quiet = 8 * time.Millisecond

// TestKnownDowntime: a server is down for 700 ms, between instants that it
// notes itself; the downtime found is within 20 ms of that.
func TestKnownDowntime(t *testing.T) {
	const window, tolerance = 700 * time.Millisecond, 20 * time.Millisecond
	for range 5 {
		s := newSite(t, "127.0.0.2", stamped("primary", 1))
		fault := make(chan time.Time, 1)
		var experiment sync.WaitGroup
		var closed, opened time.Time
		ctx, cancel := context.WithCancel(t.Context())
		r := must(t, ctx, Config{
			URL: s.url(), Rate: 200, Duration: 1600 * time.Millisecond, Settle: 300 * time.Millisecond,
			Clients: []Kind{Fresh, KeepAlive}, Fault: fault,
			Observe: after(300*time.Millisecond, func() {
				experiment.Go(func() {
					closed = s.close()
					fault <- closed
					timer := time.NewTimer(window)
					defer timer.Stop()
					select {
					case <-timer.C:
					case <-ctx.Done():
					}
					opened = s.open()
				})
			}),
		})
		cancel()
		experiment.Wait()
		truth := opened.Sub(closed)
		if r.LatenessMax > Millis(quiet) {
			t.Logf("the tester was late by up to %v: this run does not count", r.LatenessMax)
			continue
		}
		for kind, o := range r.Clients {
			off := time.Duration(o.Downtime) - truth
			t.Logf("%s: down for %v, measured %v, off by %v", kind, truth, o.Downtime, off)
			if off.Abs() > tolerance {
				t.Errorf("%s: off by %v, allowed are %v", kind, off, tolerance)
			}
			if !o.Recovered || len(o.Outages) != 1 || o.Failed == 0 || o.Outages[0].Site != "primary" {
				t.Errorf("%s: want one outage, ended by primary: %+v", kind, o.Outages)
			}
			if gap := time.Duration(o.LargestGap) - truth; gap.Abs() > tolerance {
				t.Errorf("%s: largest gap %v, down for %v", kind, o.LargestGap, truth)
			}
		}
		if r.Void || r.Check(time.Second) != nil || !errors.Is(r.Check(truth/2), ErrExceeded) {
			t.Errorf("void %q; check 1s: %v; check %v: %v", r.VoidReason, r.Check(time.Second), truth/2, r.Check(truth/2))
		}
		if !r.Fault.Equal(closed) {
			t.Errorf("fault at %v, was marked at %v", r.Fault, closed)
		}
		return
	}
	t.Fatal("the machine was never even enough to measure")
}

// TestTwoAlwaysOnServers: two servers that both serve all the time, with
// stamps or without, are dual-active for about the run's length.
func TestTwoAlwaysOnServers(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b http.HandlerFunc
	}{
		{"stamped", stamped("primary", 1), stamped("dr", 2)},
		{"unstamped", plain, plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := newSite(t, "127.0.0.2", c.a), newSite(t, "127.0.0.3", c.b)
			const length = 600 * time.Millisecond
			r := must(t, t.Context(), Config{
				URL: a.url(), Duration: length,
				Sites: []SiteURL{{Name: "primary", URL: a.url()}, {Name: "dr", URL: b.url()}},
			})
			// What a pause of the machine hides is not proved, so not claimed.
			if dual := time.Duration(r.DualActive); dual < length*3/4 || dual > length {
				t.Errorf("dual-active for %v of %v", dual, length)
			}
			if !errors.Is(r.Check(time.Minute), ErrExceeded) {
				t.Errorf("check passes with two active sites: %v", r.Check(time.Minute))
			}
			if r.Sites["dr"].Sent != 60 || r.Sites["dr"].Failed > 0 {
				t.Errorf("dr was asked %d times, %d failed; want 60 and none", r.Sites["dr"].Sent, r.Sites["dr"].Failed)
			}
		})
	}
}

// TestMove: the first site goes, the second takes over at a later epoch, DNS
// follows. Each kind of client sees it as it must.
func TestMove(t *testing.T) {
	a := newSite(t, "127.0.0.2", stamped("primary", 1))
	a.close()
	// Both sites must answer on one port, as services do.
	b := newSite(t, "127.0.0.3", stamped("dr", 2))
	a.addr = "127.0.0.2:" + b.port()
	a.open()
	b.close()
	ns := newNameserver(t, records(t, "shop.example.org. 1 IN A 127.0.0.2"))
	lost := newNameserver(t, silent)

	var move sync.WaitGroup
	fault := make(chan time.Time, 1)
	r := must(t, t.Context(), Config{
		URL: "http://shop.example.org:" + b.port() + "/", Duration: 2200 * time.Millisecond,
		Settle: 300 * time.Millisecond, Resolvers: []string{lost.addr, ns.addr},
		Clients: []Kind{Fresh, TTL, KeepAlive, Pinned}, Fault: fault,
		Sites: []SiteURL{{Name: "primary", URL: "http://127.0.0.2:" + b.port()}, {Name: "dr", URL: b.url()}},
		Observe: after(300*time.Millisecond, func() {
			move.Go(func() {
				fault <- a.close()
				b.open()
				ns.handle(records(t, "shop.example.org. 1 IN A 127.0.0.3"))
			})
		}),
	})
	move.Wait()
	if r.Void || r.WrongSite != 0 || r.DualActive != 0 {
		t.Errorf("void %q, %d wrong answers, dual-active %v; want none", r.VoidReason, r.WrongSite, r.DualActive)
	}
	for _, kind := range []Kind{Fresh, TTL, KeepAlive} {
		o := r.Clients[kind]
		if len(o.Served) != 2 || o.Served[0].Site != "primary" || o.Served[0].Epoch != 1 || o.Served[1].Site != "dr" || o.Served[1].Epoch != 2 {
			t.Errorf("%s: served by %+v, want primary at 1 and then dr at 2", kind, o.Served)
		}
	}
	// Fresh may slip from one site to the other without a failed request.
	if fresh := r.Clients[Fresh]; !fresh.Recovered || fresh.Downtime > Millis(500*time.Millisecond) {
		t.Errorf("fresh: down for %v, recovered %v", fresh.Downtime, fresh.Recovered)
	}
	// The record lived up to 1 s longer, from a lookup before the fault.
	if ttl := r.Clients[TTL]; !ttl.Recovered || ttl.Downtime < Millis(300*time.Millisecond) || ttl.Downtime > Millis(1500*time.Millisecond) {
		t.Errorf("ttl: down for %v, recovered %v; the record lives for 1 s", ttl.Downtime, ttl.Recovered)
	}
	if p := r.Clients[Pinned]; p.Recovered || p.FirstGood != nil || p.Errors["refused"] < 100 {
		t.Errorf("pinned: recovered %v, errors %v; its address is gone for ever", p.Recovered, p.Errors)
	}
	if r.Sites["primary"].Failed == 0 || r.Sites["dr"].Failed == 0 {
		t.Error("both sites must have refused at some time")
	}
}

// TestWrongSite: an old site that goes on serving a pinned client after its
// successor has answered is found out.
func TestWrongSite(t *testing.T) {
	a := newSite(t, "127.0.0.2", stamped("primary", 1))
	a.close()
	b := newSite(t, "127.0.0.3", stamped("dr", 2))
	a.addr = "127.0.0.2:" + b.port()
	a.open()
	ns := newNameserver(t, records(t, "shop.example.org. 0 IN A 127.0.0.2"))
	move := records(t, "shop.example.org. 0 IN A 127.0.0.3")
	r := must(t, t.Context(), Config{
		URL: "http://shop.example.org:" + b.port() + "/", Duration: time.Second, Settle: 300 * time.Millisecond,
		Resolvers: []string{ns.addr}, Clients: []Kind{Fresh, Pinned},
		Observe: after(300*time.Millisecond, func() { ns.handle(move) }),
	})
	if w := time.Duration(r.WrongSiteTime); w < 400*time.Millisecond || w > 700*time.Millisecond {
		t.Errorf("wrong-site time %v, want about 700 ms less a stall", w)
	}
	if r.Clients[Fresh].Wrong != 0 || r.Clients[Pinned].Wrong < 40 || r.WrongSite != r.Clients[Pinned].Wrong {
		t.Errorf("wrong answers: fresh %d, pinned %d, all %d", r.Clients[Fresh].Wrong, r.Clients[Pinned].Wrong, r.WrongSite)
	}
	if err := r.Check(time.Minute); !errors.Is(err, ErrExceeded) {
		t.Errorf("check passes: %v", err)
	}
}

// TestOpenLoop: a server that holds every request for 300 ms does not slow
// the schedule, and the wait counts from the scheduled time.
func TestOpenLoop(t *testing.T) {
	var now, most atomic.Int64
	hold := func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		select {
		case <-time.After(300 * time.Millisecond):
		case <-r.Context().Done():
		}
		plain(w, r)
	}
	s := newSite(t, "127.0.0.2", hold)
	r := must(t, t.Context(), Config{URL: s.url(), Duration: 600 * time.Millisecond})
	if r.Sent != 60 || r.Failed != 0 {
		t.Errorf("%d sent, %d failed; the schedule has 60 requests", r.Sent, r.Failed)
	}
	if r.Latency.P50 < Millis(300*time.Millisecond) || most.Load() < 15 {
		t.Errorf("p50 %v, at most %d at once; want 300 ms and about 30", r.Latency.P50, most.Load())
	}
}

// TestTimeoutBoundsEverything: a server that takes connections and says
// nothing costs each request its timeout, and requests under way are bounded.
func TestTimeoutBoundsEverything(t *testing.T) {
	var now, most atomic.Int64
	s := newSite(t, "127.0.0.2", func(_ http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		<-r.Context().Done()
		now.Add(-1)
	})
	r := must(t, t.Context(), Config{URL: s.url(), Rate: 200, Timeout: 100 * time.Millisecond, Duration: 500 * time.Millisecond})
	if r.Errors["timeout"] != r.Sent || r.Sent != 100 {
		t.Errorf("%d sent, errors %v; want 100 timeouts", r.Sent, r.Errors)
	}
	if bound := int64(200*0.1) + spare; most.Load() > 2*bound { // the server sees an end later than the client
		t.Errorf("%d requests at once, the bound is %d", most.Load(), bound)
	}
	if !r.Void || !strings.Contains(r.VoidReason, "before any good answer") {
		t.Errorf("void %v %q", r.Void, r.VoidReason)
	}
}

// TestEndOfContext: ending a run makes no failures of what is under way, and
// the report covers the schedule only.
func TestEndOfContext(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-r.Context().Done():
		}
		plain(w, r)
	}
	s := newSite(t, "127.0.0.2", slow)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := must(t, ctx, Config{URL: s.url(), Observe: after(400*time.Millisecond, cancel)})
	if r.Failed != 0 || r.Sent < 20 {
		t.Errorf("%d sent, %d failed; want none to fail", r.Sent, r.Failed)
	}
	if d := time.Duration(r.Duration); d < 400*time.Millisecond || d > 550*time.Millisecond {
		t.Errorf("the schedule ran %v, want about 400 ms and not the 200 ms after it", d)
	}
}

// TestUnstampedSites: with the sites' addresses known, unstamped answers are
// told apart by the address that gave them.
func TestUnstampedSites(t *testing.T) {
	a, b := newSite(t, "127.0.0.2", plain), newSite(t, "127.0.0.3", plain)
	r := must(t, t.Context(), Config{URL: b.url(), Duration: 200 * time.Millisecond,
		Sites: []SiteURL{{Name: "primary", URL: a.url()}, {Name: "dr", URL: b.url()}}})
	if len(r.Served) != 1 || r.Served[0].Site != "dr" {
		t.Errorf("served by %+v, want dr", r.Served)
	}
	// An address that two sites share tells nothing.
	r = must(t, t.Context(), Config{URL: b.url(), Duration: 200 * time.Millisecond,
		Sites: []SiteURL{{Name: "primary", URL: b.url()}, {Name: "dr", URL: b.url()}}})
	if len(r.Served) != 1 || r.Served[0].Site != draas.SiteID("") {
		t.Errorf("served by %+v, want an unknown site", r.Served)
	}
}

// BenchmarkLateness asks 2,000 times a second for 3 s and reports how late
// the requests were sent. The servers run in the same process.
func BenchmarkLateness(b *testing.B) {
	s := newSite(b, "127.0.0.2", stamped("primary", 1))
	ns := newNameserver(b, records(b, "shop.example. 5 IN A 127.0.0.2"))
	for _, c := range []struct {
		name string
		kind Kind
		url  string
	}{
		{"keepalive", KeepAlive, s.url()},
		{"fresh", Fresh, s.url()},
		{"fresh+lookup", Fresh, "http://shop.example:" + s.port() + "/"},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				r, err := Run(b.Context(), Config{URL: c.url, Rate: 2000, Duration: 3 * time.Second,
					Clients: []Kind{c.kind}, Resolvers: []string{ns.addr}})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(r.Sent)/3, "requests/s")
				b.ReportMetric(float64(r.Failed), "failed")
				b.ReportMetric(float64(r.LatenessP99)/1e6, "late-p99-ms")
				b.ReportMetric(float64(r.LatenessMax)/1e6, "late-max-ms")
				b.ReportMetric(float64(r.Latency.P99)/1e6, "latency-p99-ms")
			}
		})
	}
}
