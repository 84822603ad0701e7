package daemon

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// BenchmarkDecisionToAnswer is the time from the proposal of an activation
// until both sites' DNS give the new address: the commit, the publication and
// a query. It moves the service to and fro by switchovers.
func BenchmarkDecisionToAnswer(b *testing.B) {
	l := newLab(b)
	l.startAll()
	l.activate()
	var took []time.Duration
	sites := []string{"dr", "primary"}
	for b.Loop() {
		to := sites[len(took)%2]
		first := l.changedAnswers(b, to)
		a := l.request("witness", api.Request{Site: draas.SiteID(to), Request: failover.Request{Move: failover.MoveSwitchover}})
		if !a.Accepted {
			b.Fatalf("switchover refused: %+v", a.Record)
		}
		changed := first()
		l.await("moved", 10*time.Second, func() bool {
			sv := l.service("witness")
			return sv != nil && !sv.Phase.Moving() && sv.Last != nil && sv.Last.Epoch == a.Record.Epoch && len(sv.Views) == 4
		})
		took = append(took, changed.Sub(l.service("witness").Last.Times.Activated))
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(took[len(took)/2]), "p50-ms")
	b.ReportMetric(ms(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(ms(took[len(took)-1]), "max-ms")
}

// changedAnswers asks both sites' DNS until both give the site's address, and
// returns when the later one did.
func (l *lab) changedAnswers(b *testing.B, site string) (wait func() time.Time) {
	want := map[string]string{"primary": "127.0.0.2", "dr": "127.0.0.3"}[site]
	times := make(chan time.Time, 2)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	for _, off := range []int{2, 12} {
		at := net.JoinHostPort("127.0.0.1", fmt.Sprint(l.base+off))
		go func() {
			m := new(dns.Msg)
			m.SetQuestion("web.draas.test.", dns.TypeA)
			c := dns.Client{Timeout: 100 * time.Millisecond}
			tick := time.NewTicker(500 * time.Microsecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				r, _, err := c.ExchangeContext(ctx, m, at)
				if err == nil && len(r.Answer) == 1 {
					if a, ok := r.Answer[0].(*dns.A); ok && a.A.String() == want {
						break
					}
				}
				<-tick.C
			}
			times <- time.Now()
		}()
	}
	return func() time.Time {
		defer cancel()
		first, second := <-times, <-times
		if ctx.Err() != nil {
			b.Errorf("the answers did not change to %s", want)
		}
		if second.After(first) {
			return second
		}
		return first
	}
}
