package lan

import (
	"context"
	"slices"
	"testing"
	"time"
)

// report gives the quantiles of what was measured.
func report(b *testing.B, what string, all []time.Duration) {
	slices.Sort(all)
	for _, q := range []struct {
		name string
		of   float64
	}{{"p50", .5}, {"p99", .99}, {"max", 1}} {
		b.ReportMetric(all[int(q.of*float64(len(all)-1))].Seconds()*1e3, what+"-"+q.name+"-ms")
	}
	b.ReportMetric(0, "ns/op") // mixes what is measured with what is not
}

// From the decision to the addresses announced, IPv4 and IPv6 on two interfaces,
// and from the order to drop until they are gone.
func BenchmarkTakeDrop(b *testing.B) {
	w := borrow(b)
	h := w.open(nil, vip4, vip6, back)
	var taken, dropped []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := h.Take(context.Background(), inTime(10*time.Second)); err != nil {
			b.Fatal(err)
		}
		taken = append(taken, time.Since(start))
		start = time.Now()
		if err := h.Drop(); err != nil {
			b.Fatal(err)
		}
		dropped = append(dropped, time.Since(start))
	}
	report(b, "take", taken)
	report(b, "drop", dropped)
}

func BenchmarkExtend(b *testing.B) {
	w := borrow(b)
	h := w.open(nil, vip4, vip6)
	take(b, h, 10*time.Second)
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := h.Extend(inTime(10 * time.Second)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	report(b, "extend", took)
}

// From the decision that the other frontend has the address until a user who
// remembers the one before is answered by it.
func BenchmarkMove(b *testing.B) {
	for _, a := range []string{vip4, vip6} {
		b.Run(a, func(b *testing.B) {
			w := borrow(b)
			serve(b, "first")
			h := w.open(nil, a)
			r := w.remote(w.second, nil, nil, a)
			var moved []time.Duration
			for b.Loop() {
				take(b, h, 10*time.Second)
				if said, err := visit(w.user, a, time.Second); err != nil || said != "first" {
					b.Fatal(said, err)
				}
				if err := h.Drop(); err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				if got := r.do(order{Do: "take", For: 10 * time.Second}); got.Err != "" {
					b.Fatal(got.Err)
				}
				if said, err := visit(w.user, a, time.Second); err != nil || said != "second" {
					b.Fatal(said, err)
				}
				moved = append(moved, time.Since(start))
				if got := r.do(order{Do: "drop"}); got.Err != "" {
					b.Fatal(got.Err)
				}
			}
			report(b, "moved", moved)
		})
	}
}
