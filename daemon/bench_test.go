package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// committed is a log handler that notes when the first member applied the
// latest activation.
type committed struct {
	slog.Handler
	mu    *sync.Mutex
	first map[string]time.Time // by the line that says so
}

func (c committed) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "is active under epoch") {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.first[r.Message].IsZero() {
			c.first[r.Message] = r.Time
		}
	}
	return nil
}

func (c committed) WithAttrs([]slog.Attr) slog.Handler { return c }

// at is when the activation of the epoch was first applied.
func (c committed) at(epoch draas.Epoch) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	for line, at := range c.first {
		if strings.Contains(line, fmt.Sprintf("epoch %d:", epoch)) {
			return at
		}
	}
	return time.Time{}
}

// BenchmarkDecisionToAnswer is the time from a committed decision, the first
// member's apply of an activation, until both sites' DNS give the new address:
// the way to the other members, the publication and a query. The proposal of
// the activation lies the commit earlier (proposed-...). It moves the service
// to and fro by switchovers.
func BenchmarkDecisionToAnswer(b *testing.B) {
	l := newLab(b)
	marks := committed{l.log.Handler(), new(sync.Mutex), make(map[string]time.Time)}
	l.log = slog.New(marks)
	l.startAll()
	l.activate()
	var took, proposed []time.Duration
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
		took = append(took, changed.Sub(marks.at(a.Record.Epoch)))
		proposed = append(proposed, changed.Sub(l.service("witness").Last.Times.Activated))
	}
	b.ReportMetric(0, "ns/op")
	for name, all := range map[string][]time.Duration{"": took, "proposed-": proposed} {
		slices.Sort(all)
		ms := func(i int) float64 { return float64(all[i].Microseconds()) / 1000 }
		b.ReportMetric(ms(len(all)/2), name+"p50-ms")
		b.ReportMetric(ms(len(all)*99/100), name+"p99-ms")
		b.ReportMetric(ms(len(all)-1), name+"max-ms")
	}
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
