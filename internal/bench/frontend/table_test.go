package frontend

import (
	"slices"
	"testing"

	"github.com/draasd/draas/internal/bench/rounds"
)

func TestCompare(t *testing.T) {
	lines := []ThroughputLine{
		{Proxy: direct, rates: []float64{100, 200, 400}},
		{Proxy: haTCP, rates: []float64{50, 100, 200}, cpus: []float64{10, 20, 10}},
		{Proxy: engine, rates: []float64{25, 50, 100}, cpus: []float64{20, 40, 20}},
		{Proxy: draasTCP, rates: []float64{100, 100, 100}, cpus: []float64{5, 20, 20}},
	}
	compare(lines)
	l := lines[3]
	// Round by round: 0.5, 1, 2, although the medians alone say 2.
	if l.CPUToHAProxy.Median != 1 || l.CPUToHAProxy.Min != 0.5 || l.CPUToHAProxy.Max != 2 {
		t.Errorf("to HAProxy %+v, want 1 (0.5 to 2)", *l.CPUToHAProxy)
	}
	if l.CPUToNginx.Median != 0.5 || l.ToDirect.Median != 0.5 || l.CPU.Median != 20 {
		t.Errorf("to nginx %+v, to direct %+v, us %+v, want 0.5, 0.5 and 20", *l.CPUToNginx, l.ToDirect, *l.CPU)
	}
	if lines[0].CPU != nil {
		t.Error("processor time of no proxy")
	}
}

func TestTargets(t *testing.T) {
	half, more := rounds.Range{Median: 0.5}, rounds.Range{Median: 1.2}
	r := &Result{
		Throughput: []ThroughputLine{
			{Load: "keep-alive", Proxy: draasTCP, CPU: &half, CPUToHAProxy: &half, CPUToNginx: &more},
			{Load: "keep-alive", Proxy: draasHTTP, CPU: &half, CPUToHAProxy: &half, CPUToNginx: &more},
			{Load: "1 MiB", Proxy: draasHTTP, CPU: &half, CPUToHAProxy: &more, CPUToNginx: &more},
			{Load: "keep-alive", Proxy: direct},
		},
		Idle: []IdleLine{{Proxy: draasTCP, PerKiB: 3}, {Proxy: engine, PerKiB: 90}},
		Downtime: []DowntimeLine{
			{Event: eventKilled, Proxy: draasMoves, Failed: 1, Stalls: Spread{P50: 60, P99: 700}},
			{Event: eventKilled, Proxy: haMoves, Failed: 7},
			{Event: eventHangs, Proxy: draasMoves, Stalls: Spread{P50: 501}},
			{Event: eventPlanned, Proxy: draasMoves, Stalls: Spread{P99: 99}},
		},
	}
	want := []bool{true, false, true, false, true, false, true, false, true, true}
	var got []bool
	for _, x := range targets(r) {
		got = append(got, x.Met)
	}
	if !slices.Equal(got, want) {
		t.Errorf("met %v, want %v: %+v", got, want, targets(r))
	}
}
