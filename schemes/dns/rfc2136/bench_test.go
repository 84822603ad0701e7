package rfc2136

import (
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// BenchmarkMove is the time from the call of Do to the primary's changed
// answer, by quantile, of 300 moves or more.
func BenchmarkMove(b *testing.B) {
	for _, kind := range kinds {
		b.Run(string(kind), func(b *testing.B) {
			s := nameserver.Start(b, kind, nameserver.Options{})
			e := effect(b, s, s.Address)
			epoch := draas.Epoch(0)
			measure(b, 300, func() {
				epoch++
				o := op(epoch, int(epoch%2))
				if err := e.Do(b.Context(), o); err != nil {
					b.Fatal(err)
				}
				want := atName(shop).Targets[o.To].Values(mdns.TypeA)
				for {
					m, err := dns.Query(b.Context(), s.Address, shop, mdns.TypeA, time.Second)
					if err != nil {
						b.Fatal(err)
					}
					if slices.Equal(dns.Observed(m.Answer, shop, mdns.TypeA), want) {
						return
					}
				}
			})
		})
	}
}

// BenchmarkMoveEverywhere is the time from the call of Do until Done says that
// the secondary has it, too.
func BenchmarkMoveEverywhere(b *testing.B) {
	for _, pair := range [][2]nameserver.Kind{{nameserver.BIND, nameserver.Knot}, {nameserver.Knot, nameserver.BIND}, {nameserver.PowerDNS, nameserver.BIND}} {
		b.Run(string(pair[0])+" to "+string(pair[1]), func(b *testing.B) {
			p, s := nameserver.StartPair(b, pair[0], pair[1], nameserver.Options{})
			e := effect(b, p, p.Address, withSecondary(s.Address, 20*time.Second))
			epoch := draas.Epoch(0)
			measure(b, 10, func() {
				epoch++
				o := op(epoch, int(epoch%2))
				if err := e.Do(b.Context(), o); err != nil {
					b.Fatal(err)
				}
				if got, evidence, err := e.Done(b.Context(), o); got != runbook.Yes || strings.Contains(evidence, "timeout") {
					b.Fatalf("%v %s %v", got, evidence, err)
				}
			})
		})
	}
}

// measure repeats what is measured as the benchmark wants it, and at least so
// many times, and reports quantiles in milliseconds.
func measure(b *testing.B, least int, once func()) {
	var took []time.Duration
	timed := func() {
		start := time.Now()
		once()
		took = append(took, time.Since(start))
	}
	timed() // the first is not counted
	took = nil
	for b.Loop() {
		timed()
	}
	for len(took) < least {
		timed()
	}
	slices.Sort(took)
	for name, q := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99} {
		b.ReportMetric(float64(took[int(q*float64(len(took)-1))])/1e6, name)
	}
	b.ReportMetric(float64(took[len(took)-1])/1e6, "max-ms")
}
