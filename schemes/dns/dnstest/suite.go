package dnstest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/runbook/effecttest"
	"github.com/draasd/draas/schemes/dns"
)

// What the suite moves.
const (
	Zone = "example.org."
	Shop = "shop.example.org."
)

// Names is the service "shop" of effecttest.
func Names() []dns.Name {
	return []dns.Name{{Name: Shop, Service: "shop", TTL: time.Minute, Targets: map[draas.SiteID]dns.Target{
		"primary": {Addresses: Addrs("192.0.2.10", "2001:db8::10")},
		"dr":      {Addresses: Addrs("203.0.113.21", "203.0.113.20", "2001:db8::20")},
	}}}
}

// CNAMEs is the same service, moved by CNAME.
func CNAMEs() []dns.Name {
	n := Names()
	n[0].Targets = map[draas.SiteID]dns.Target{"primary": {CNAME: "east.example.net."}, "dr": {CNAME: "west.example.net."}}
	return n
}

// Addrs parses addresses.
func Addrs(texts ...string) []netip.Addr {
	out := make([]netip.Addr, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParseAddr(s)
	}
	return out
}

// Executor is what an effect is made of, one daemon's.
type Executor struct {
	Front       *Front
	Credentials string // file
	Names       []dns.Name
	Gate        *dns.Gate
	Authorities []dns.Server
	Request     time.Duration
	Lag         time.Duration
}

// Fake is one service's fake, fresh.
type Fake interface {
	Backend
	// Seed puts records there as a person would.
	Seed(records ...mdns.RR)
	// Dump is all that is there, to be compared.
	Dump() string
	// Credentials is the text of a credentials file that is valid, and its
	// secret. Rotate makes another one the valid one.
	Credentials() (text, secret string)
	Rotate()
	// Echo makes the service repeat in its refusals whatever it was sent, the
	// secret too if that was sent or is known to it.
	Echo()
}

// Service is what the suite runs on.
type Service struct {
	CompareAndSet runbook.CompareAndSet
	// SwapsCNAME tells that a CNAME can replace addresses.
	SwapsCNAME bool
	// Requests is how many a first move takes. Default 1.
	Requests int
	// Fake makes a fresh fake, which publishes to the authorities.
	Fake func(testing.TB, *DNS) Fake
	// File is the text of a credentials file with the fake's credentials, where
	// that depends on the way there; nil: it is them.
	File func(front *Front, credentials string) string
	// Effect makes an executor's effect, or fails the test.
	Effect func(testing.TB, Executor) *dns.Hosted
}

// rig is a fake with its authorities, and the ways there.
type rig struct {
	Service
	t     testing.TB
	dns   *DNS
	fake  Fake
	file  string // the last executor's credentials
	front *Front // and its way
}

func (s Service) rig(t testing.TB) *rig {
	t.Helper()
	r := &rig{Service: s, t: t, dns: StartDNS(t, Zone, 2)}
	r.fake = s.Fake(t, r.dns)
	return r
}

// Rig is a fresh fake behind a front of its own, and an executor's effect.
func (s Service) Rig(t testing.TB, changes ...func(*Executor)) (Fake, *DNS, *Front, *dns.Hosted) {
	t.Helper()
	r := s.rig(t)
	f, e := r.executor(changes...)
	return r.fake, r.dns, f, e
}

func (r *rig) writeCredentials() {
	r.t.Helper()
	text, _ := r.fake.Credentials()
	if r.File != nil {
		text = r.File(r.front, text)
	}
	if err := os.WriteFile(r.file+".new", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.file+".new", r.file); err != nil {
		r.t.Fatal(err)
	}
}

// executor is a daemon's effect behind a front of its own.
func (r *rig) executor(changes ...func(*Executor)) (*Front, *dns.Hosted) {
	r.t.Helper()
	r.front = StartFront(r.t, r.fake)
	r.file = filepath.Join(r.t.TempDir(), "credentials")
	r.writeCredentials()
	x := Executor{Front: r.front, Credentials: r.file, Names: Names(), Authorities: r.dns.Servers,
		Request: 10 * time.Second, Lag: 5 * time.Second}
	if r.CompareAndSet == runbook.None {
		x.Gate = OpenGate(r.t)
	}
	for _, change := range changes {
		change(&x)
	}
	return x.Front, r.Effect(r.t, x)
}

// OpenGate is a gate that nobody has to wait at: no token has ever ended, and
// no request is applied late.
func OpenGate(t testing.TB) *dns.Gate {
	t.Helper()
	start := time.Now()
	now := func() draas.Reading { return draas.Reading{Boot: time.Since(start), Wall: time.Since(start)} }
	g, err := dns.NewGate(dns.GateConfig{Window: time.Minute, Drift: 0.1, Request: 10 * time.Second, Now: now,
		Current: func(draas.ServiceID, runbook.Token) (draas.Deadline, bool) {
			return draas.DeadlineAt(now(), time.Minute), true
		},
		Superseded: func(draas.ServiceID, runbook.Token) (draas.Reading, bool) {
			return draas.Reading{Boot: -time.Hour}, true
		}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Run holds a service to the effect's contract, and to what its interface has
// gone wrong with elsewhere, a named trap each.
func Run(t *testing.T, s Service) {
	t.Helper()
	t.Run("contract", func(t *testing.T) {
		t.Parallel()
		effecttest.Run(t, s.harness)
	})
	traps := map[string]func(*rig){
		"a lost answer is read back":                  lostAnswer,
		"a failed read freezes":                       failedRead,
		"an answer cut off is a failed read":          garbledRead,
		"others' records are untouched":               othersUntouched,
		"what is not an epoch is not replaced":        foreignEpoch,
		"the name is never empty":                     neverEmpty,
		"records edited by hand are set right":        setRight,
		"a service that throttles is waited for":      throttled,
		"no time to wait":                             noTimeToWait,
		"a service that fails for a while":            failsForAWhile,
		"credentials are read anew":                   rotated,
		"secrets stay out of errors":                  secrets,
		"no redirect is followed":                     redirected,
		"authorities that lag are waited for":         laggards,
		"authorities that lag too long":               tooLate,
		"authorities that are silent":                 silentOnes,
		"the service's word alone is no yes":          wordAlone,
		"the service says done and its servers don't": frozen,
		"moved by CNAME":                              byCNAME,
	}
	switch s.CompareAndSet {
	case runbook.Strong:
		traps["racing writers"] = racing
		traps["a replay of any request"] = replays
	case runbook.None:
		traps["two executors, one cut off"] = twoExecutors
		traps["no lease, no request"] = noLease
		traps["a cut request is not sent again beside itself"] = cutRequest
	}
	for name, trap := range traps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trap(s.rig(t))
		})
	}
}

func (s Service) harness(t testing.TB) effecttest.Harness {
	r := s.rig(t)
	front, first := r.executor()
	_, second := r.executor()
	return effecttest.Harness{Effect: first, Second: second, Op: effecttest.SampleOp, Turns: true,
		Snapshot: r.fake.Dump,
		Inject:   func(f effecttest.Fault) func() { return front.Inject(f, max(s.Requests, 1)) }, Patience: 20 * time.Second, Short: 1500 * time.Millisecond,
		Faults: []effecttest.Fault{effecttest.LoseRequest, effecttest.LoseAnswer, effecttest.ApplyLate, effecttest.Refuse, effecttest.Blind},
	}
}

// Op is effecttest's.
func Op(epoch draas.Epoch, site int) runbook.Op { return effecttest.SampleOp(epoch, site) }

// Do bounds a Do that has to end by itself.
func Do(t testing.TB, e runbook.Effect, op runbook.Op) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return e.Do(ctx, op)
}

// MustDo does and observes yes.
func MustDo(t testing.TB, e runbook.Effect, op runbook.Op) {
	t.Helper()
	if err := Do(t, e, op); err != nil {
		t.Fatalf("Do(%v, %s): %v", op.Token, op.To, err)
	}
	Expect(t, e, op, runbook.Yes)
}

// Expect observes, and returns the evidence.
func Expect(t testing.TB, e runbook.Effect, op runbook.Op, want runbook.Answer) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got, evidence, err := e.Done(ctx, op)
	if got != want || (err != nil) != (got == runbook.Unknown) {
		t.Fatalf("Done(%v, %s) = %v %q %v, want %v", op.Token, op.To, got, evidence, err, want)
	}
	return evidence
}

// RR parses a record.
func RR(t testing.TB, format string, args ...any) mdns.RR {
	t.Helper()
	rr, err := mdns.NewRR(fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return rr
}
