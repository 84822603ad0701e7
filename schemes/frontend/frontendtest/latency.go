package frontendtest

import (
	"slices"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// Latency measures how long a proxy takes to follow, under the requests of
// four users who each ask every 2 ms, if they have their answer: from the
// decision that a move begins to the last answer of the old site, and from the
// activation to the first answer of the new one. Either the old site is
// released and nobody led anywhere before the new one is active, or it comes
// with no word before.
func Latency(b *testing.B, start Make, o Options) {
	if o.Service == "" {
		o.Service = "shop"
	}
	spec := Sites(b, o.Service)
	s := &suite{Options: o, spec: spec, proxy: start(b, spec)}
	for name, word := range map[string]bool{"released": true, "at-once": false} {
		b.Run(name, func(b *testing.B) {
			f := s.front(b, spec)
			f.activate(primary, long)
			f.leads()
			var last, first []time.Duration
			for b.Loop() {
				l, n := f.measure(b, word)
				last, first = append(last, l), append(first, n)
			}
			for unit, all := range map[string][]time.Duration{"last-old": last, "first-new": first} {
				slices.Sort(all)
				b.ReportMetric(ms(all[len(all)/2]), unit+"-p50-ms")
				b.ReportMetric(ms(all[len(all)-1]), unit+"-max-ms")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// measure switches over once.
func (f *front) measure(b *testing.B, word bool) (last, firstNew time.Duration) {
	from, to := f.site, draas.SiteID(dr)
	if from == dr {
		to = primary
	}
	crowd := gather(b, f.proxy.Address(), 4, 2*time.Millisecond)
	pause(20 * time.Millisecond)
	begin := time.Now()
	if word {
		f.decide(frontend.Decision{Epoch: f.epoch, Site: from, Moving: true, Permit: long})
		f.shuts("a move is under way")
		f.decide(frontend.Decision{Epoch: f.epoch, Site: from, Moving: true, Released: true})
		f.shuts("the old site is released")
	}
	active := time.Now()
	f.activate(to, long)
	f.leads()
	answers := crowd.leave()
	moved, ok := first(answers, to, active)
	if !ok {
		b.Fatalf("no answer of %s", to)
	}
	for _, a := range answers {
		if a.site == from {
			last = max(last, a.end.Sub(begin))
		}
	}
	return last, moved.Sub(active)
}
