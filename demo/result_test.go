package demo

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/measure"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs:\n%s\nwant:\n%s", name, got, want)
	}
}

func millis(ms float64) measure.Millis { return measure.Millis(ms * float64(time.Millisecond)) }

func movedRun(disaster Disaster, rto float64, p Phases) RunResult {
	m := millis(rto)
	return RunResult{Scheme: "dns", Disaster: disaster, RTO: &m, Phases: &p, Epoch: 2, Sent: 900, Failed: 240,
		FailedOver: true, measured: true}
}

func exampleResult() *Result {
	none, zero := movedRun(DisasterSilent, 0, Phases{}), measure.Millis(0)
	none.RTO, none.Phases, none.FailedOver, none.Epoch = nil, nil, false, 1
	return &Result{Runs: []RunResult{
		movedRun(DisasterSite, 2412.25, Phases{millis(41), millis(12.5), millis(2210), millis(3.25), millis(145.5)}),
		movedRun(DisasterService, 310, Phases{millis(20), millis(30), millis(100), millis(60), millis(100)}),
		{Scheme: "dns", Disaster: DisasterCut, RTO: &zero, Phases: &Phases{}, Epoch: 1, Sent: 4800, CutObserved: millis(42870), measured: true},
		none,
	}}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	exampleResult().writeTable(&out)
	out.WriteString("\nthree runs of one disaster:\n")
	several := &Result{}
	for i := range 3 {
		k := float64(i + 1)
		several.Runs = append(several.Runs, movedRun(DisasterSite, 1500*k, Phases{Detect: millis(500 * k), Fence: millis(1000 * k)}))
	}
	several.Runs[2].DualActive, several.Runs[1].WrongSite = millis(12), 4
	several.writeTable(&out)
	out.WriteString("\none run:\n")
	one := &Result{Runs: exampleResult().Runs[:1]}
	one.writeTable(&out)
	golden(t, "table.txt", out.Bytes())
}

func TestJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "result.json")
	if err := exampleResult().writeFile(path); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "result.json", got)
	empty := filepath.Join(t.TempDir(), "empty.json")
	if err := (&Result{}).writeFile(empty); err != nil {
		t.Fatal(err)
	}
	if got, err = os.ReadFile(empty); err != nil || strings.Join(strings.Fields(string(got)), "") != `{"runs":[]}` {
		t.Errorf("no runs are written as %s, %v", got, err)
	}
}

func TestBenchTable(t *testing.T) {
	var runs []RunResult
	for i := range 20 {
		s := movedRun(DisasterService, float64(200+10*i), Phases{})
		s.stalls = stalls{Count: 1, Longest: time.Duration(i) * time.Millisecond}
		runs = append(runs, s, movedRun(DisasterSite, float64(2300+100*i), Phases{}))
	}
	var out bytes.Buffer
	writeBench(&out, runs, 60)
	golden(t, "bench.txt", out.Bytes())
}

// A report of rtotest becomes a run's figures.
func TestTake(t *testing.T) {
	start := time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)
	fault := start.Add(2 * time.Second)
	from, to := fault.Add(5*time.Millisecond), fault.Add(2005*time.Millisecond)
	report := &measure.Report{Fault: &fault, WrongSite: 3, DualActive: millis(7)}
	report.Sent, report.Failed = 500, 201
	report.Outages = []measure.Outage{{From: from, To: to, Recovered: true, Site: "dr", Epoch: 2}}
	report.Sites = map[draas.SiteID]*measure.Counts{"primary": {Served: []measure.Served{{Last: fault.Add(time.Second)}, {Last: start}}}}
	r := RunResult{Disaster: DisasterSite, FailedOver: true,
		move: &failover.Move{Times: failover.Times{Suspected: from.Add(time.Second), Decided: from.Add(1100 * time.Millisecond)}}}
	r.take(report)
	if *r.RTO != millis(2000) || r.Phases.Detect != millis(1000) || r.Phases.Confirm != millis(100) || r.Phases.Propagate != millis(900) {
		t.Errorf("RTO %v, phases %+v", *r.RTO, *r.Phases)
	}
	if r.Sent != 500 || r.Failed != 201 || r.WrongSite != 3 || r.DualActive != millis(7) {
		t.Errorf("%+v", r)
	}
	if got := r.last["primary"]; !got.Equal(fault.Add(time.Second)) {
		t.Errorf("the primary answered last at %v", got)
	}

	report.Outages = append(report.Outages, measure.Outage{From: to.Add(time.Second), To: to.Add(3 * time.Second)})
	r = RunResult{Disaster: DisasterSite}
	if r.take(report); r.RTO != nil {
		t.Errorf("an outage that did not end gives an RTO of %v", *r.RTO)
	}
}

// failedKind is what a run has of the other kinds of client.
func failedKind(failed int) map[measure.Kind]*measure.Outcome {
	return map[measure.Kind]*measure.Outcome{measure.TTL: {Counts: measure.Counts{Failed: failed}}}
}

func TestCheck(t *testing.T) {
	ok := movedRun(DisasterSite, 2000, Phases{})
	zero := measure.Millis(0)
	cut := RunResult{Disaster: DisasterCut, RTO: &zero, Phases: &Phases{}, Epoch: 1, CutObserved: millis(1500), measured: true}
	some := millis(300)
	entry := RunResult{Scheme: schemeHybrid, Disaster: DisasterEntry, RTO: &some, Phases: &Phases{}, Epoch: 1, Failed: 30, others: failedKind(9), measured: true}
	for _, c := range []struct {
		name string
		of   RunResult
		make func(*RunResult)
		want string // "" is a good run
	}{
		{"moved", ok, func(*RunResult) {}, ""},
		{"not measured", ok, func(r *RunResult) { r.measured = false }, "nothing was measured"},
		{"void", ok, func(r *RunResult) { r.void = "failed before" }, "void: failed before"},
		{"two active", ok, func(r *RunResult) { r.DualActive = millis(1) }, "two sites were active"},
		{"wrong site", ok, func(r *RunResult) { r.WrongSite = 1 }, "had been succeeded"},
		{"no recovery", ok, func(r *RunResult) { r.RTO = nil }, "recovery missed"},
		{"wrong recovery", ok, func(r *RunResult) { r.broken = "came back from primary" }, "came back from primary"},
		{"did not move", ok, func(r *RunResult) { r.FailedOver = false }, "did not move"},
		{"frontend held", ok, func(r *RunResult) { r.Scheme = schemeFrontend; r.others = failedKind(1) }, "1 requests of client ttl failed"},
		{"its frontend fell with the site", ok, func(r *RunResult) { r.Scheme = schemeHybrid; r.others = failedKind(1) }, ""},
		{"its frontend did not", ok, func(r *RunResult) {
			r.Scheme, r.Disaster, r.others = schemeHybrid, DisasterService, failedKind(1)
		}, "1 requests of client ttl failed"},
		{"entry", entry, func(*RunResult) {}, ""},
		{"entry moved", entry, func(r *RunResult) { r.FailedOver = true }, "the service moved"},
		{"entry lost", entry, func(r *RunResult) { r.RTO = nil }, "recovery missed"},
		{"cut", cut, func(*RunResult) {}, ""},
		{"cut moved", cut, func(r *RunResult) { r.FailedOver = true }, "the service moved"},
		{"cut failed", cut, func(r *RunResult) { r.Failed = 1 }, "1 requests failed"},
		{"cut unseen", cut, func(r *RunResult) { r.CutObserved = 0 }, "proves nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.of
			c.make(&r)
			err := r.Check()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("judged %v, want %q", err, c.want)
			}
		})
	}
}
