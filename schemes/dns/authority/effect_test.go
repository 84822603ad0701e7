package authority

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/runbook/effecttest"
	"github.com/draasd/draas/schemes/dns"
)

// pair is a zone with its two authorities on loopback, and a log of
// decisions that both follow.
type pair struct {
	primary, dr       *fixture
	primaryAt, drAt   string
	stopPrim, stopDR  func()
	mu                sync.Mutex
	log               dns.Decision
	lost, late, quiet bool // faults of the first executor's way to the log
	held              []dns.Decision
}

func newPair(t testing.TB) *pair {
	p := &pair{primary: newFixture(t), dr: newFixture(t)}
	p.primaryAt, p.stopPrim = p.primary.serve(t, "127.0.0.1:0")
	p.drAt, p.stopDR = p.dr.serve(t, "127.0.0.1:0")
	for _, f := range []*fixture{p.primary, p.dr} {
		f.publish(t, 0, "") // in touch, nothing decided
	}
	return p
}

// restart serves again at the addresses of before.
func (p *pair) restart(t testing.TB) {
	p.primaryAt, p.stopPrim = p.primary.serve(t, p.primaryAt)
	p.drAt, p.stopDR = p.dr.serve(t, p.drAt)
}

func (p *pair) effect(t testing.TB, local *fixture) *dns.Embedded {
	t.Helper()
	e, err := dns.NewEmbedded(dns.EmbeddedConfig{
		Names:   sampleZone().Services,
		Servers: []dns.Server{{Site: "primary", Address: p.primaryAt}, {Site: "dr", Address: p.drAt}},
		Applied: local.WaitFor,
		Timeout: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// commit is what the log does with a decision: it refuses what is older, and
// every member applies what it takes.
func (p *pair) commit(d dns.Decision) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d.Token.Compare(p.log.Token) <= 0 || d.Token.Epoch == 0 {
		return
	}
	p.log = d
	for _, f := range []*fixture{p.primary, p.dr} {
		v := View{Services: map[draas.ServiceID]dns.Decision{"shop": d}, InTouch: true, At: f.clock.Now()}
		if err := f.Publish(v); err != nil {
			panic(err)
		}
	}
}

// logged is an executor as the daemon has it: the decision is proposed to the
// log, and the effect waits for it.
type logged struct {
	*dns.Embedded
	pair  *pair
	first bool // meets the faults
}

func (l logged) Do(ctx context.Context, op runbook.Op) error {
	d := dns.Decision{Token: op.Token, Site: op.To}
	l.pair.mu.Lock()
	lost, late, quiet := l.first && l.pair.lost, l.first && l.pair.late, l.first && l.pair.quiet
	if late {
		l.pair.held = append(l.pair.held, d)
	}
	l.pair.mu.Unlock()
	switch {
	case quiet: // committed, but this member does not come to apply it in time
		l.pair.commit(d)
		ended, cancel := context.WithCancel(ctx)
		cancel()
		op.Token.Epoch += 1000
		return l.Embedded.Do(ended, op)
	case !lost && !late && ctx.Err() == nil && !errors.Is(l.released(op), runbook.ErrReleased):
		l.pair.commit(d)
	}
	return l.Embedded.Do(ctx, op)
}

// released asks the effect without waiting for anything.
func (l logged) released(op runbook.Op) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	return l.Embedded.Do(ended, op)
}

func (p *pair) inject(t testing.TB, f effecttest.Fault) func() {
	p.mu.Lock()
	p.lost, p.late, p.quiet = f == effecttest.LoseRequest, f == effecttest.ApplyLate, f == effecttest.LoseAnswer
	p.mu.Unlock()
	down := f == effecttest.LoseRequest || f == effecttest.Blind
	if down {
		p.stopPrim()
		p.stopDR()
	}
	return func() {
		p.mu.Lock()
		p.lost, p.late, p.quiet = false, false, false
		held := p.held
		p.held = nil
		p.mu.Unlock()
		for _, d := range held {
			p.commit(d)
		}
		if down {
			p.restart(t)
		}
	}
}

func TestEmbeddedKeepsTheContract(t *testing.T) {
	t.Parallel()
	effecttest.Run(t, func(t testing.TB) effecttest.Harness {
		p := newPair(t)
		return effecttest.Harness{
			Effect: logged{p.effect(t, p.primary), p, true},
			Second: logged{p.effect(t, p.dr), p, false},
			Op:     effecttest.SampleOp,
			Turns:  true,
			Snapshot: func() string {
				var out []string
				for _, f := range []*fixture{p.primary, p.dr} {
					for _, q := range []*mdns.Msg{question("shop.example.org.", mdns.TypeA), question("_draas.shop.example.org.", mdns.TypeTXT)} {
						out = append(out, brief(f.ask(t, q)))
					}
				}
				return strings.Join(out, "\n")
			},
			Inject: func(f effecttest.Fault) func() { return p.inject(t, f) },
			Faults: []effecttest.Fault{effecttest.LoseRequest, effecttest.LoseAnswer, effecttest.ApplyLate, effecttest.Blind},
			Short:  100 * time.Millisecond,
		}
	})
}

// What Done makes of what the authorities of two sites say.
func TestDoneJudgesAuthorities(t *testing.T) {
	t.Parallel()
	op := effecttest.SampleOp(7, 1) // to dr
	tests := []struct {
		name     string
		arrange  func(p *pair)
		want     runbook.Answer
		evidence string
	}{
		{"both agree", func(p *pair) { p.commit(decision(7, "dr")) }, runbook.Yes, "epoch=7 site=dr A 203.0.113.20,203.0.113.21"},
		{"the failed site is gone", func(p *pair) { p.commit(decision(7, "dr")); p.stopPrim() }, runbook.Yes, "connection refused"},
		{"the failed site is out of touch", func(p *pair) {
			p.commit(decision(7, "dr"))
			p.primary.clock.Advance(time.Hour)
		}, runbook.Yes, "SERVFAIL"},
		{"the other site is behind", func(p *pair) {
			p.commit(decision(6, "primary"))
			p.dr.publish(t, 7, "dr", "shop")
		}, runbook.No, "epoch=6 site=primary"},
		{"the target is behind", func(p *pair) {
			p.commit(decision(6, "primary"))
			p.primary.publish(t, 7, "dr", "shop")
		}, runbook.No, "epoch=6 site=primary"},
		{"the target is gone", func(p *pair) { p.commit(decision(7, "dr")); p.stopDR() }, runbook.Unknown, ""},
		{"the target is out of touch", func(p *pair) {
			p.commit(decision(7, "dr"))
			p.dr.clock.Advance(time.Hour)
		}, runbook.No, "SERVFAIL"},
		{"both are gone", func(p *pair) { p.commit(decision(7, "dr")); p.stopDR(); p.stopPrim() }, runbook.Unknown, ""},
		{"a later epoch is known to one", func(p *pair) {
			p.commit(decision(7, "dr"))
			p.primary.publish(t, 8, "primary", "shop")
		}, runbook.No, "epoch=8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t)
			tt.arrange(p)
			got, evidence, err := p.effect(t, p.dr).Done(t.Context(), op)
			if got != tt.want || (got == runbook.Unknown) != (err != nil) || !strings.Contains(evidence, tt.evidence) {
				t.Errorf("Done = %v %q %v, want %v with %q", got, evidence, err, tt.want, tt.evidence)
			}
		})
	}
}

// Authorities of another make: records that do not fit the epoch's site.
func TestDoneComparesRecords(t *testing.T) {
	p := newPair(t)
	p.commit(decision(7, "dr"))
	names := sampleZone().Services
	names[0].Targets["dr"] = dns.Target{Addresses: addrs("203.0.113.99")}
	e, err := dns.NewEmbedded(dns.EmbeddedConfig{Names: names, Applied: p.dr.WaitFor,
		Servers: []dns.Server{{Site: "dr", Address: p.drAt}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, evidence, err := e.Done(t.Context(), effecttest.SampleOp(7, 1)); got != runbook.No {
		t.Errorf("Done = %v %q %v", got, evidence, err)
	}
	for _, service := range []draas.ServiceID{"nobody", "apex"} {
		op := effecttest.SampleOp(7, 1)
		op.Service = service
		if service == "apex" {
			op.To = "nowhere"
		}
		if got, _, err := e.Done(t.Context(), op); got != runbook.Unknown || err == nil {
			t.Errorf("Done for %s at %s = %v, %v", op.Service, op.To, got, err)
		}
		if err := e.Do(t.Context(), op); err == nil {
			t.Errorf("Do for %s at %s succeeded", op.Service, op.To)
		}
	}
}

// The other kinds of target are observed too: both families, and a CNAME.
func TestDoneForEveryKindOfTarget(t *testing.T) {
	p := newPair(t)
	for _, f := range []*fixture{p.primary, p.dr} {
		f.allAt(t, 3, "primary")
	}
	for service, want := range map[draas.ServiceID]string{
		"dual":  "epoch=3 site=primary A 198.51.100.30 AAAA 2001:db8:1::30",
		"alias": "epoch=3 site=primary CNAME shop.example.org.",
		"apex":  "A 198.51.100.40",
	} {
		op := effecttest.SampleOp(3, 0)
		op.Service = service
		got, evidence, err := p.effect(t, p.primary).Done(t.Context(), op)
		if got != runbook.Yes || strings.Count(evidence, want) != 2 {
			t.Errorf("%s: %v %q %v", service, got, evidence, err)
		}
	}
	if w := p.effect(t, p.dr).Promise().Worst; w != dns.DefaultApply+6*200*time.Millisecond {
		t.Errorf("worst time %v", w)
	}
}
