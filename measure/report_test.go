package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/rto"
)

const ms = time.Millisecond

// example is a run worked out by hand: 10 requests a second for 3 s from
// noon, primary refuses from 500 ms, dr answers from 1.2 s, 2 ms each; pinned
// does not come back. Marked at 450 ms.
func example(t *testing.T) *run {
	t.Helper()
	c, err := Config{URL: "http://shop.example/", Rate: 10, Duration: 3 * time.Second, Clients: []Kind{Fresh, Pinned},
		Sites: []SiteURL{{Name: "dr", URL: "http://192.0.2.2/"}}, Resolvers: []string{"192.0.2.53"}}.complete()
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRun(c)
	if err != nil {
		t.Fatal(err)
	}
	r.start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	go func() {
		defer close(r.outcomes)
		for k := range 30 {
			at := time.Duration(k) * 100 * ms
			good := func(s *stream, site draas.SiteID, epoch draas.Epoch) {
				r.outcomes <- outcome{stream: s, answer: answer{site: site, epoch: epoch},
					sample: rto.Sample{At: at, Sent: at, Done: at + 2*ms, Stamp: at + ms, Epoch: epoch}}
			}
			bad := func(s *stream) {
				r.outcomes <- outcome{stream: s, err: errors.New("connection refused"),
					sample: rto.Sample{At: at, Sent: at, Done: at + ms, Stamp: rto.Unstamped, Class: rto.Refused}}
			}
			for i, s := range r.streams {
				switch {
				case k < 5 && i < 2:
					good(s, "primary", 1)
				case k >= 12 && i != 1:
					good(s, "dr", 2)
				default:
					bad(s)
				}
			}
		}
	}()
	r.collect()
	return r
}

func TestReportJSON(t *testing.T) {
	r := example(t)
	fault := r.start.Add(450 * ms)
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(r.report(&fault, 3*time.Second)); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(&b)
	var got map[string]any
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Token(); err != io.EOF {
		t.Error("more than one object")
	}
	for key, want := range map[string]any{
		"downtime_ms": 702.0, "first_failure": "2026-11-20T12:00:00.5Z", "first_good": "2026-11-20T12:00:01.202Z",
		"largest_gap_ms": 800.0, "largest_gap_from": "2026-11-20T12:00:00.402Z", "recovered": true,
		"wrong_site": 0.0, "wrong_site_ms": 0.0, "dual_active_ms": 0.0, "sent": 30.0, "failed": 7.0, "void": false,
		"lateness_p99_ms": 0.0, "fault": "2026-11-20T12:00:00.45Z", "started": "2026-11-20T12:00:00Z",
		"duration_ms": 3000.0, "client": "fresh", "url": "http://shop.example/", "rate": 10.0,
		"errors":  map[string]any{"dns": 0.0, "refused": 7.0, "reset": 0.0, "timeout": 0.0, "status": 0.0, "tls": 0.0, "other": 0.0},
		"latency": map[string]any{"p50_ms": 2.0, "p90_ms": 2.0, "p99_ms": 2.0, "p999_ms": 2.0, "max_ms": 2.0},
	} {
		if !reflect.DeepEqual(got[key], want) {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	clients := got["clients"].(map[string]any)
	pinned := clients["pinned"].(map[string]any)
	if len(clients) != 2 || pinned["recovered"] != false || pinned["first_good"] != nil || pinned["downtime_ms"] != 2500.0 {
		t.Errorf("clients: %v", clients)
	}
	site := got["sites"].(map[string]any)["dr"].(map[string]any)
	if site["failed"] != 12.0 || site["sent"] != 30.0 || site["downtime_ms"] != nil {
		t.Errorf("sites: %v", got["sites"])
	}
}

// TestReportRoundTrip: a program that ran rtotest reads its report back.
func TestReportRoundTrip(t *testing.T) {
	want := example(t).report(nil, 3*time.Second)
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Report
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Downtime != want.Downtime || !got.FirstGood.Equal(*want.FirstGood) || got.Clients[Pinned].Failed != 25 {
		t.Errorf("read back %+v", got)
	}
	if err := new(Millis).UnmarshalJSON([]byte(`"soon"`)); err == nil {
		t.Error("text passes as milliseconds")
	}
}

func TestReportText(t *testing.T) {
	r := example(t)
	fault := r.start.Add(450 * ms)
	var b strings.Builder
	if err := r.report(&fault, 3*time.Second).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	want := `http://shop.example/: 10 requests/s per client for 3s from 2026-11-20 12:00:00.000Z
  fault          12:00:00.450
client fresh
  requests       30 sent, 7 failed (refused 7)
  answered       5 by primary, epoch 1, 12:00:00.002 to 12:00:00.402
  answered       18 by dr, epoch 2, 12:00:01.202 to 12:00:02.902
  latency        p50 2ms, p90 2ms, p99 2ms, p99.9 2ms, max 2ms
  first failure  12:00:00.500
  first good     12:00:01.202 from dr, epoch 2
  downtime       702ms (7 failed)
  largest gap    800ms from 12:00:00.402
client pinned
  requests       30 sent, 25 failed (refused 25)
  answered       5 by primary, epoch 1, 12:00:00.002 to 12:00:00.402
  latency        p50 2ms, p90 2ms, p99 2ms, p99.9 2ms, max 2ms
  first failure  12:00:00.500
  downtime       at least 2.5s (25 failed): no lasting good answer before the end
  largest gap    2.598s from 12:00:00.402
site dr, asked directly
  requests       30 sent, 12 failed (refused 12)
  answered       18 by dr, epoch 2, 12:00:01.202 to 12:00:02.902
  latency        p50 2ms, p90 2ms, p99 2ms, p99.9 2ms, max 2ms
all together
  wrong site     0 answers over 0s
  dual-active    0s
  own lateness   p50 0s, p99 0s, max 0s
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if err := r.report(&fault, 3*time.Second).WriteText(brokenWriter{}); err == nil {
		t.Error("a report that cannot be written is no error")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestCheck(t *testing.T) {
	good := func() *Report {
		return &Report{Outcome: Outcome{Outages: []Outage{{Length: Millis(700 * ms), Recovered: true}}}}
	}
	for _, c := range []struct {
		name   string
		change func(*Report)
		want   error
	}{
		{"met", func(*Report) {}, nil},
		{"no outage", func(r *Report) { r.Outages = nil }, nil},
		{"just met", func(r *Report) { r.Outages[0].Length = Millis(time.Second) }, nil},
		{"exceeded", func(r *Report) { r.Outages[0].Length = Millis(time.Second + ms) }, ErrExceeded},
		{"a second outage", func(r *Report) {
			r.Outages = append(r.Outages, Outage{Length: Millis(2 * time.Second), Recovered: true})
		}, ErrExceeded},
		{"never recovered", func(r *Report) { r.Outages[0].Recovered = false }, ErrExceeded},
		{"dual-active", func(r *Report) { r.DualActive = Millis(ms) }, ErrExceeded},
		{"wrong site", func(r *Report) { r.WrongSite = 1 }, ErrExceeded},
		{"void", func(r *Report) { r.Void, r.Outages[0].Recovered = true, false }, ErrVoid},
	} {
		r := good()
		c.change(r)
		if err := r.Check(time.Second); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		want   string
	}{
		{"scheme", Config{URL: "ftp://x"}, `"ftp://x" is not an http or https URL`},
		{"no host", Config{URL: "http:///x"}, "is not an http or https URL"},
		{"no URL", Config{URL: "http://a b"}, "parse URL"},
		{"rate", Config{URL: "http://x", Rate: -1}, "rate -1"},
		{"fast rate", Config{URL: "http://x", Rate: 1e9}, "rate 1e+09"},
		{"no number", Config{URL: "http://x", Rate: math.NaN()}, "rate NaN"},
		{"timeout", Config{URL: "http://x", Timeout: -1}, "must be positive"},
		{"kind", Config{URL: "http://x", Clients: []Kind{"new"}}, `"new" is not a kind of client`},
		{"kind twice", Config{URL: "http://x", Clients: []Kind{Fresh, Fresh}}, "client fresh is given twice"},
		{"ttl", Config{URL: "http://x", Clients: []Kind{TTL}}, "client ttl needs a resolver"},
		{"resolver", Config{URL: "http://x", Resolvers: []string{"ns"}}, `resolver "ns" is not HOST:PORT`},
		{"site name", Config{URL: "http://x", Sites: []SiteURL{{"a b", "http://x"}}}, `"a b" is not a site's name`},
		{"site URL", Config{URL: "http://x", Sites: []SiteURL{{"a", "x"}}}, "site a: "},
		{"site twice", Config{URL: "http://x", Sites: []SiteURL{{"a", "http://x"}, {"a", "http://y"}}}, "site a is given twice"},
		{"expected site", Config{URL: "http://x", ExpectSites: []draas.SiteID{""}}, `"" is not a site's name`},
	} {
		_, err := Run(t.Context(), c.config)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	both := Config{URL: "ftp://x", Rate: -1}
	if _, err := both.complete(); err == nil || !strings.Contains(err.Error(), "rate") || !strings.Contains(err.Error(), "ftp") {
		t.Errorf("want all that is wrong at once: %v", err)
	}
}

func TestConfigDefaults(t *testing.T) {
	c, err := Config{URL: "http://192.0.2.1", Clients: []Kind{TTL}, Resolvers: []string{"192.0.2.53", "2001:db8::53", "ns:54"}}.complete()
	if err != nil {
		t.Fatal(err)
	}
	if c.Rate != 100 || c.Timeout != time.Second || c.Settle != time.Second || c.join() != 25*ms {
		t.Errorf("defaults: %+v", c)
	}
	if want := []string{"192.0.2.53:53", "[2001:db8::53]:53", "ns:54"}; !reflect.DeepEqual(c.Resolvers, want) {
		t.Errorf("resolvers %v, want %v", c.Resolvers, want)
	}
	if j := (Config{Rate: 2000}).join(); j != minJoin {
		t.Errorf("join at 2000/s is %v", j)
	}
	if j := (Config{Rate: 10}).join(); j != 250*ms {
		t.Errorf("join at 10/s is %v", j)
	}
}

// TestManySites: servers cannot make the tester remember names without end.
func TestManySites(t *testing.T) {
	r := &run{sites: []draas.SiteID{""}, index: map[draas.SiteID]rto.Site{"": 0}, located: map[netip.AddrPort]draas.SiteID{}}
	for i := range 2 * maxSites {
		r.intern(draas.SiteID(strings.Repeat("x", i)))
	}
	if len(r.sites) != maxSites || r.intern("one-more") != rto.NoSite || r.intern("x") == rto.NoSite {
		t.Errorf("%d names kept", len(r.sites))
	}
}

// TestLive follows a run, event by event.
func TestLive(t *testing.T) {
	start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	good := func(client string, at int, site draas.SiteID, epoch draas.Epoch) Event {
		a := time.Duration(at) * ms
		return Event{Client: client, Start: start, Site: site, Sample: rto.Sample{At: a, Done: a + ms, Epoch: epoch}}
	}
	bad := func(client string, at int) Event {
		a := time.Duration(at) * ms
		return Event{Client: client, Start: start, Err: errors.New("refused it was"),
			Sample: rto.Sample{At: a, Done: a + ms, Class: rto.Refused}}
	}
	passive := bad("dr", 0)
	passive.Direct = true
	late := good("fresh", 19, "primary", 1) // asked before the failures, arrives amid them
	late.Sample.Done = 31 * ms
	var l Live
	for i, step := range []struct {
		event Event
		want  string
	}{
		{passive, ""},
		{good("fresh", 0, "primary", 1), "12:00:00.001 fresh: first good answer from primary, epoch 1"},
		{good("fresh", 10, "primary", 1), ""},
		{bad("pinned", 10), "12:00:00.011 pinned: failures start, refused: refused it was"},
		{bad("fresh", 20), "12:00:00.021 fresh: failures start, refused: refused it was"},
		{bad("fresh", 30), ""},
		{late, ""},
		{good("fresh", 700, "dr", 2), "12:00:00.701 fresh: good again from dr, epoch 2, 2 failed, gap 670ms"},
		{good("fresh", 710, "dr", 2), ""},
		{good("fresh", 720, "primary", 3), "12:00:00.721 fresh: now answered by primary, epoch 3"},
		{good("pinned", 730, "", 0), "12:00:00.731 pinned: first good answer, 1 failed before it"},
		{bad("pinned", 740), "12:00:00.741 pinned: failures start, refused: refused it was"},
	} {
		if got := l.Add(step.event); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
	want := "fresh: 8 sent, 2 failed, site primary, epoch 3, last gap 670ms | pinned: 3 sent, 2 failed, FAILING"
	if got := l.Status(); got != want {
		t.Errorf("status %q, want %q", got, want)
	}
}
