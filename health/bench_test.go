package health

import (
	"context"
	"fmt"
	"regexp"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// The benchmarks of probes count this process's own processor time, user and
// system; the server is another process. probes/s/core is how many looks one
// fully used core could make.

func BenchmarkProbeTCP(b *testing.B) {
	addr := startHelper(b, "http", "").line(b)
	benchmarkProbe(b, must(b)(TCP(addr)))
}

func BenchmarkProbeHTTP(b *testing.B) {
	addr := startHelper(b, "http", "").line(b)
	b.Run("status", func(b *testing.B) {
		benchmarkProbe(b, must(b)(HTTP(HTTPSpec{Addr: addr, Path: "/healthz"})))
	})
	b.Run("body", func(b *testing.B) {
		benchmarkProbe(b, must(b)(HTTP(HTTPSpec{Addr: addr, Path: "/healthz", Body: regexp.MustCompile("ok")})))
	})
}

func benchmarkProbe(b *testing.B, p Probe) {
	b.ReportAllocs()
	start := processorTime(b)
	for b.Loop() {
		if r := Look(b.Context(), time.Second, p); !r.OK() {
			b.Fatal(r)
		}
	}
	perCore(b, b.N, processorTime(b)-start)
}

// BenchmarkMonitor runs 10,000 targets, each looked at once a second, for
// some time: what the schedule costs with probes that cost nothing, and what
// http looks cost in all.
func BenchmarkMonitor(b *testing.B) {
	b.Run("free", func(b *testing.B) {
		benchmarkMonitor(b, func(context.Context) Result { return Result{Class: ClassOK} })
	})
	b.Run("http", func(b *testing.B) {
		addr := startHelper(b, "http", "").line(b)
		benchmarkMonitor(b, must(b)(HTTP(HTTPSpec{Addr: addr, Path: "/healthz"})))
	})
}

func benchmarkMonitor(b *testing.B, p Probe) {
	const targets = 10_000
	var looks, failures atomic.Int64
	var over atomic.Bool // from here on looks are cancelled
	counted := func(ctx context.Context) Result {
		r := p(ctx)
		looks.Add(1)
		if !r.OK() && !over.Load() && failures.Add(1) == 1 {
			b.Logf("first failure: %s: %s", r.Class, r.Detail)
		}
		return r
	}
	var all []Target
	for i := range targets {
		all = append(all, Target{
			Key:    Key{Service: draas.ServiceID(fmt.Sprint(i)), Site: "east"},
			Check:  "check",
			Probe:  counted,
			Timing: Timing{Interval: time.Second, Timeout: 800 * time.Millisecond, SecondLook: 100 * time.Millisecond, Rise: 2, Fall: 3, Jitter: 0.1},
		})
	}
	var changes atomic.Int64
	m := NewMonitor(Config{OnChange: func(context.Context, Change) { changes.Add(1) }})
	if err := m.Set(all); err != nil {
		b.Fatal(err)
	}
	const seconds = 5
	for b.Loop() {
		if m.ran {
			b.Fatal("run this benchmark with -benchtime 1x")
		}
		ctx, cancel := context.WithCancel(b.Context())
		time.AfterFunc(seconds*time.Second, func() {
			over.Store(true)
			cancel()
		})
		start := processorTime(b)
		if err := m.Run(ctx); err != nil {
			b.Fatal(err)
		}
		perCore(b, int(looks.Load()), processorTime(b)-start)
	}
	b.ReportMetric(float64(looks.Load())/seconds, "looks/s")
	b.ReportMetric(float64(failures.Load()), "failures")
	b.ReportMetric(float64(changes.Load()), "changes") // one for each target, on a calm machine
}

func perCore(b *testing.B, looks int, used time.Duration) {
	b.ReportMetric(float64(used.Nanoseconds())/float64(looks)/1e3, "cpu-us/probe")
	b.ReportMetric(float64(looks)/used.Seconds(), "probes/s/core")
}

func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
