package rfc2136

import (
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

func withSecondary(address string, lag time.Duration) func(*Config) {
	return func(c *Config) {
		c.Secondaries = []dns.Server{{Site: "dr", Address: address}}
		c.Lag = lag
		c.Timeout = 2 * time.Second // only a silent server is to take so long
	}
}

// A real secondary: while it is behind the move is not done, and the evidence
// says how far; Done waits for it within Lag.
func TestSecondaryFollows(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]nameserver.Kind{{nameserver.BIND, nameserver.Knot}, {nameserver.Knot, nameserver.BIND}, {nameserver.PowerDNS, nameserver.BIND}} {
		t.Run(string(pair[0])+" to "+string(pair[1]), func(t *testing.T) {
			t.Parallel()
			p, s := nameserver.StartPair(t, pair[0], pair[1], nameserver.Options{})
			patient := effect(t, p, p.Address, withSecondary(s.Address, 15*time.Second))
			for epoch := draas.Epoch(1); epoch <= 3; epoch++ {
				o := op(epoch, int(epoch%2))
				if err := do(t, patient, o); err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				evidence := expect(t, patient, o, runbook.Yes)
				t.Logf("after %v: %s", time.Since(start), evidence)
			}
			// It stops in its tracks: silent, so not counted.
			s.Pause()
			o := op(4, 0)
			if err := do(t, patient, o); err != nil {
				t.Fatal(err)
			}
			if evidence := expect(t, patient, o, runbook.Yes); !strings.Contains(evidence, "timeout") {
				t.Errorf("evidence %q", evidence)
			}
			s.Resume()
			if evidence := expect(t, patient, o, runbook.Yes); strings.Contains(evidence, "timeout") {
				t.Errorf("evidence %q", evidence)
			}
		})
	}
}

// What Done makes of what secondaries say. Here they are primaries of their
// own, so that they stay as they are.
func TestDoneJudgesSecondaries(t *testing.T) {
	const lag = 2 * time.Second
	tests := []struct {
		name     string
		epoch    draas.Epoch // at the secondary; 0 none
		site     int
		rule     func(*mdns.Msg) nameserver.Fate
		want     runbook.Answer
		evidence string
	}{
		{name: "agrees", epoch: 7, site: 1, want: runbook.Yes, evidence: "epoch=7 site=dr A 203.0.113.20,203.0.113.21 AAAA 2001:db8::20 serial"},
		{name: "behind", epoch: 6, site: 0, want: runbook.No, evidence: "epoch=6 site=primary"},
		{name: "ahead", epoch: 8, site: 0, want: runbook.No, evidence: "epoch=8 site=primary"},
		{name: "never heard of it", want: runbook.No, evidence: "no epoch"},
		{name: "fails", epoch: 6, rule: nameserver.All(nameserver.ServFail), want: runbook.Yes, evidence: "SERVFAIL"},
		{name: "refuses", epoch: 6, rule: nameserver.All(nameserver.Refused), want: runbook.Yes, evidence: "REFUSED"},
		{name: "silent", epoch: 6, rule: nameserver.All(nameserver.Lose), want: runbook.Yes, evidence: "timeout"},
		{name: "the records do not fit the epoch", epoch: 7, site: 1, rule: func(m *mdns.Msg) nameserver.Fate {
			if m.Question[0].Qtype == mdns.TypeA {
				return nameserver.Nothing
			}
			return nameserver.Pass
		}, want: runbook.No, evidence: "epoch=7 site=dr AAAA"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, s := nameserver.Start(t, nameserver.Fake, nameserver.Options{}), nameserver.Start(t, nameserver.Fake, nameserver.Options{})
			mustDo(t, effect(t, p, p.Address), op(7, 1))
			if tt.epoch != 0 {
				mustDo(t, effect(t, s, s.Address), op(tt.epoch, tt.site))
			}
			r := nameserver.NewRelay(t, s.Address)
			r.SetRule(tt.rule)
			e := effect(t, p, p.Address, withSecondary(r.Address, lag))
			start := time.Now()
			evidence := expect(t, e, op(7, 1), tt.want)
			took := time.Since(start)
			if !strings.Contains(evidence, tt.evidence) || !strings.HasPrefix(evidence, "primary "+p.Address+": epoch=7 site=dr A 203.0.113.20") ||
				!strings.Contains(evidence, "; secondary at dr "+r.Address+": ") {
				t.Errorf("evidence %q, want %q", evidence, tt.evidence)
			}
			if tt.want == runbook.No && (took < lag || !strings.Contains(evidence, "after the primary was seen to have it")) {
				t.Errorf("No after %v: %q", took, evidence)
			}
			// Of another epoch the primary alone tells, at once.
			start = time.Now()
			expect(t, e, op(6, 0), runbook.No)
			if took := time.Since(start); tt.name != "silent" && took > lag {
				t.Errorf("an old epoch took %v", took)
			}
		})
	}
}

// A secondary that comes while Done waits.
func TestDoneWaitsForTheSecondary(t *testing.T) {
	t.Parallel()
	p, s := nameserver.Start(t, nameserver.Fake, nameserver.Options{}), nameserver.Start(t, nameserver.Fake, nameserver.Options{})
	mustDo(t, effect(t, p, p.Address), op(7, 1))
	late := effect(t, s, s.Address)
	e := effect(t, p, p.Address, withSecondary(s.Address, 20*time.Second))
	done := make(chan error, 1)
	time.AfterFunc(100*time.Millisecond, func() { done <- late.Do(t.Context(), op(7, 1)) })
	start := time.Now()
	expect(t, e, op(7, 1), runbook.Yes)
	if took := time.Since(start); took < 100*time.Millisecond || took > 5*time.Second {
		t.Errorf("Yes after %v", took)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Knot with `zonefile-load: difference-no-serial` and `zonefile-sync: -1`
// goes back to the zone file at its start: the epoch is gone, and with it the
// fence. Done sees it. With the configuration that docs/dns.md shows both stay.
func TestKnotDifferenceNoSerial(t *testing.T) {
	t.Parallel()
	trap := func(text string) string {
		text = strings.Replace(text, "zonefile-sync: 0", "zonefile-sync: -1", 1)
		text = strings.Replace(text, "journal-content: changes", "journal-content: all", 1)
		return strings.Replace(text, "zonefile-load: whole", "zonefile-load: difference-no-serial", 1)
	}
	for name, edit := range map[string]func(string) string{"trap": trap, "as documented": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := nameserver.Start(t, nameserver.Knot, nameserver.Options{Edit: edit, Records: []string{"shop A 198.51.100.1"}})
			e := effect(t, s, s.Address)
			mustDo(t, e, op(7, 1))
			s.Restart()
			if edit == nil {
				expect(t, e, op(7, 1), runbook.Yes)
				return
			}
			if evidence := expect(t, e, op(7, 1), runbook.No); !strings.Contains(evidence, "no epoch") {
				t.Errorf("the trap is none any more: %q", evidence)
			}
			mustDo(t, e, op(7, 1))
		})
	}
}
