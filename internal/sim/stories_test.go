package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// These are outages that others had, each played against the real code. All
// rules of the oracle hold in each of them besides what is expected here.

// tell plays a story with a few seeds: chance decides delays and who leads.
func tell(t *testing.T, s Scenario) {
	t.Helper()
	for seed := range uint64(2) {
		s.Seed = seed + 1
		r, err := s.Run()
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Violations) > 0 {
			t.Fatalf("seed %d:\n%s\n%s", s.Seed, strings.Join(r.Violations, "\n"), r.Story)
		}
	}
}

// rules is the default cluster with changed rules of its service.
func rules(change func(*failover.ServicePolicy)) *Params {
	p := Default()
	s := p.Policy.Services["shop"]
	change(&s)
	p.Policy.Services["shop"] = s
	return &p
}

const start = 5 * time.Second // by then the service is active and calm

func serves(site draas.SiteID) func(*World) bool {
	return func(w *World) bool { return w.Serving("shop") == site }
}

func notAt(site draas.SiteID) func(*World) bool {
	return func(w *World) bool { at := w.Serving("shop"); return at != site && at != "both" }
}

func epoch(n draas.Epoch) func(*World) bool {
	return func(w *World) bool { return w.Epoch("shop") == n }
}

// answers: every running member's DNS leads somewhere, and to that site if one
// is named.
func answers(site draas.SiteID) func(*World) bool {
	return func(w *World) bool {
		for _, m := range w.members {
			if !m.running() || !m.daemon.Greeted() {
				continue
			}
			if at := w.Answer(m.id, "shop"); at == "" || site != "" && at != site {
				return false
			}
		}
		return true
	}
}

// refused: a member's history says that an automatic move was not made for
// the reason.
func refused(code string) func(*World) bool {
	return func(w *World) bool {
		for _, m := range w.members {
			for _, r := range w.Records(m.id) {
				for _, reason := range r.Reasons {
					if r.Kind == failover.RecordRefusal && !reason.OK && reason.Code == code {
						return true
					}
				}
			}
		}
		return false
	}
}

// GitHub, 21 October 2018: 43 seconds without the link between two coasts;
// the writes of both sides took 24 hours to bring together.
// Protects: a vantage that both sites can talk to (k of n by failure domain).
func TestStoryCutOf43Seconds(t *testing.T) {
	tell(t, Scenario{
		Faults: []Fault{{At: start, Kind: Cut, On: "primary", To: "dr", For: 43 * time.Second}},
		Expect: []Expect{
			{What: "the primary site serves on", From: start, By: start + 60*time.Second, Always: serves("primary")},
			{What: "nothing is moved", Always: func(w *World) bool { return w.Moves() == 0 }},
		},
	})
}

// The same, with the site cut off from everybody: it has to close. Whether 43
// seconds of outage are worth a failover is the operator's to say.
// Protects: least_outage, and the fence.
func TestStoryOutageNotWorthAFailover(t *testing.T) {
	tell(t, Scenario{
		Params: rules(func(s *failover.ServicePolicy) { s.LeastOutage = time.Minute }),
		Faults: []Fault{{At: start, Kind: Isolate, On: "primary", For: 43 * time.Second}},
		Expect: []Expect{
			{What: "the cut-off site has closed", From: start + 3*time.Second, By: start + 43*time.Second, Always: serves("")},
			{What: "it is said why nothing moves", By: start + 20*time.Second, Once: refused(failover.ReasonOutage)},
			{What: "the site serves again", By: start + 50*time.Second, Once: serves("primary")},
			{What: "nothing is moved", Always: epochUpTo(1)},
		},
	})
}

func epochUpTo(n draas.Epoch) func(*World) bool {
	return func(w *World) bool { return w.Epoch("shop") <= n }
}

// AWS DynamoDB, 19 October 2025: a worker that had been slow applied an old
// plan over a newer one, and the clean-up of old plans emptied the name.
// Protects: the receiver checks the epoch when the effect is made.
func TestStoryLateWorkerOverANewerPlan(t *testing.T) {
	tell(t, Scenario{
		Faults: []Fault{
			{At: start, Kind: Effect, On: "dr", What: "apply late", For: 20 * time.Second},
			{At: start, Kind: Operator, On: "witness", To: "dr", Service: "shop", What: "switchover"},
			{At: start + 2*time.Second, Kind: Operator, On: "primary", To: "primary", Service: "shop", What: "failover"},
		},
		Expect: []Expect{
			{What: "the newer plan is in force", By: start + 20*time.Second, Once: func(w *World) bool {
				return w.Epoch("shop") == 3 && w.Receives("dns", "shop") == "primary"
			}},
			{What: "and stays, whatever arrives late", From: start + 20*time.Second, By: start + 60*time.Second, Always: func(w *World) bool {
				return w.Receives("dns", "shop") == "primary" && serves("primary")(w)
			}},
			{What: "no name is ever emptied", From: start, Always: answers("")},
		},
	})
}

// external-dns 2858: a time-out was read as "there are none", and every
// managed record was deleted.
// Protects: unknown is not failed, and not empty.
func TestStoryTimeoutReadAsEmpty(t *testing.T) {
	faults := []Fault{}
	for _, m := range []draas.MemberID{"primary", "dr", "witness"} {
		faults = append(faults,
			Fault{At: start, Kind: Blind, On: m, For: time.Minute},
			Fault{At: start, Kind: Effect, On: m, What: "cannot look", For: time.Minute})
	}
	tell(t, Scenario{
		Faults: faults,
		Expect: []Expect{
			{What: "nothing changes", From: start, Always: func(w *World) bool { return serves("primary")(w) && answers("primary")(w) && epoch(1)(w) }},
		},
	})
}

// k8gb 1314: the secondary lost sight of everybody and claimed the name.
// Protects: who sees no third party may itself be what is cut off.
func TestStoryBlindSecondary(t *testing.T) {
	tell(t, Scenario{
		// One vantage may decide here. What it saw while it was cut off is told
		// when it is back, before it has looked again.
		Params: rules(func(s *failover.ServicePolicy) { s.Confirmations = 1 }),
		Faults: []Fault{{At: start, Kind: Isolate, On: "dr", For: 40 * time.Second}},
		Expect: []Expect{
			{What: "the blind site claims nothing", From: start, By: start + 60*time.Second, Always: func(w *World) bool { return serves("primary")(w) && epoch(1)(w) }},
		},
	})
	tell(t, Scenario{
		Faults: []Fault{
			{At: start, Kind: Isolate, On: "dr", For: 40 * time.Second},
			{At: start + 50*time.Second, Kind: Mirage, On: "dr", For: 20 * time.Second},
		},
		Expect: []Expect{
			{What: "the blind site claims nothing", From: start, By: start + 80*time.Second, Always: func(w *World) bool { return serves("primary")(w) && epoch(1)(w) }},
		},
	})
}

// orchestrator 1296: the leader stood in the dying zone, registered a recovery
// and died; its successor refused to act for an hour, "recently failed over".
// Protects: a move is in the log and everybody's to go on with; only completed
// moves hold others off.
func TestStoryDyingLeadersHalfMadeRecovery(t *testing.T) {
	for _, phase := range []failover.Phase{failover.PhaseConfirmed, failover.PhaseFencing, failover.PhaseRedirecting, failover.PhaseVerifying} {
		t.Run(string(phase), func(t *testing.T) {
			tell(t, Scenario{
				Params: rules(func(s *failover.ServicePolicy) { s.Hold = time.Hour }),
				Faults: []Fault{
					{At: start, Kind: Power, On: "primary", For: 2 * time.Minute},
					{At: start, When: phase, Kind: Crash, On: "witness", For: 3 * time.Second},
					{At: start, When: phase, Kind: Crash, On: "dr", For: 3 * time.Second},
				},
				Expect: []Expect{
					{What: "the half-made recovery is gone on with", By: start + 25*time.Second, Once: serves("dr")},
					{What: "and comes to its end", By: start + 40*time.Second, Once: func(w *World) bool { return w.Moves() == 1 }},
				},
			})
		})
	}
}

// The new site fails before the move to it is complete: an hour's hold must
// not stand against going back.
// Protects: undoing an unfinished move is not held off.
func TestStoryHeldOffByAMoveThatFailed(t *testing.T) {
	tell(t, Scenario{
		Params: rules(func(s *failover.ServicePolicy) { s.Hold = time.Hour }),
		Faults: []Fault{
			{At: start, Kind: Service, On: "primary", Service: "shop", For: 4 * time.Second},
			{At: start, When: failover.PhaseRedirecting, Kind: Service, On: "dr", Service: "shop", For: 2 * time.Minute},
		},
		Expect: []Expect{
			{What: "back at the old site", By: start + 25*time.Second, Once: serves("primary")},
		},
	})
}

// pg_auto_failover 311: the fence of the cut-off node never ran: to step down
// it first had to ask the monitor that it could not reach.
// Protects: the deadline is the guard's, which needs nobody.
func TestStoryFenceThatNeededTheNetwork(t *testing.T) {
	for name, more := range map[string][]Fault{
		"cut off":                     nil,
		"cut off, daemon stands":      {{At: start, Kind: Freeze, On: "primary", For: time.Minute}},
		"cut off, guard stands":       {{At: start, Kind: FreezeGuard, On: "primary", For: time.Minute}},
		"cut off, daemon dies":        {{At: start, Kind: Crash, On: "primary", For: time.Minute}},
		"cut off, disk is full":       {{At: start, Kind: DiskFull, On: "primary", For: time.Minute}},
		"cut off, clock steps back":   {{At: start + 100*ms, Kind: Step, On: "primary", By: -time.Hour}},
		"cut off, clocks at the rate": {{At: start, Kind: Drift, On: "primary", X: 1 - drift}, {At: start, Kind: Drift, On: "dr", X: 1 + drift}},
	} {
		t.Run(name, func(t *testing.T) {
			tell(t, Scenario{
				Faults: append([]Fault{{At: start, Kind: Isolate, On: "primary", For: time.Minute}}, more...),
				Expect: []Expect{
					{What: "the cut-off site closes within its lease", From: start + 2200*ms, By: start + time.Minute, Always: notAt("primary")},
					{What: "the other site serves", By: start + 10*time.Second, Once: serves("dr")},
				},
			})
		})
	}
}

// repmgr 439, argocd-agent: the failed primary came back and was the primary
// again, because its configuration said so.
// Protects: a role is never taken from the file.
func TestStoryOldPrimaryReturns(t *testing.T) {
	tell(t, Scenario{
		Faults: []Fault{
			{At: start, Kind: Power, On: "primary", For: 20 * time.Second},
			{At: start + 30*time.Second, Kind: Crash, On: "primary", For: time.Second},
		},
		Expect: []Expect{
			{What: "the other site takes over", By: start + 10*time.Second, Once: serves("dr")},
			{What: "and keeps it when the old one is back", From: start + 15*time.Second, By: start + 90*time.Second, Always: serves("dr")},
		},
	})
}

// keepalived 166 and many more: a machine was paused, woke up and went on as
// if no time had gone by.
// Protects: a deadline is over when either clock says so.
func TestStorySuspendedMachine(t *testing.T) {
	tell(t, Scenario{
		Faults: []Fault{{At: start, Kind: Stop, On: "primary", For: 30 * time.Second}},
		Expect: []Expect{
			{What: "the other site takes over", By: start + 10*time.Second, Once: serves("dr")},
			{What: "and keeps it when the machine wakes", From: start + 10*time.Second, By: start + 60*time.Second, Always: serves("dr")},
		},
	})
}

// pg_auto_failover 1060: the election was stuck for good, because a lost node
// might have had more data; only SQL by hand helped, for years.
// Protects: a conservative guard, with a loud, documented, one-shot way round.
func TestStoryStuckElection(t *testing.T) {
	ask := start + 20*time.Second
	tell(t, Scenario{
		Params: rules(func(s *failover.ServicePolicy) { s.MaxLoss = 10 * time.Second }),
		Faults: []Fault{{At: start, Kind: Power, On: "primary", For: 2 * time.Minute}},
		Do: []Do{
			{At: 4 * time.Second, Do: func(w *World) { w.Lag("dr", "shop", failover.Lag{Known: true, Behind: time.Minute}) }},
			{At: ask, Do: func(w *World) {
				w.Ask("dr", "shop", "", failover.Request{Move: failover.MoveFailover, Operator: "ann", AllowDataLoss: true})
			}},
		},
		Expect: []Expect{
			{What: "it says what would be lost", By: ask, Once: refused(failover.ReasonLoss)},
			{What: "it loses nothing by itself", By: ask, Always: notAt("dr")},
			{What: "one word of an operator is enough", From: ask, By: ask + 5*time.Second, Once: serves("dr")},
		},
	})
}

// Meta, 4 October 2021: health checks saw everything dead, and every edge
// withdrew itself.
// Protects: when everything looks dead, change nothing and say so.
func TestStoryEverythingLooksDead(t *testing.T) {
	tell(t, Scenario{
		Faults: []Fault{
			{At: start, Kind: Service, On: "primary", Service: "shop", For: time.Minute},
			{At: start, Kind: Service, On: "dr", Service: "shop", For: time.Minute},
		},
		Expect: []Expect{
			{What: "nothing is moved or withdrawn", From: start, By: start + time.Minute, Always: func(w *World) bool {
				return serves("primary")(w) && epoch(1)(w) && answers("primary")(w)
			}},
			{What: "it is said", By: start + 20*time.Second, Once: refused(failover.ReasonStatic)},
		},
	})
}

// PowerDNS 9529: the first questions after a start found every check cold and
// everything down, and went to the backup.
// Protects: what was never looked at is unknown, not failed.
func TestStoryColdChecksAtStart(t *testing.T) {
	var faults []Fault
	for _, m := range []draas.MemberID{"primary", "dr", "witness"} {
		faults = append(faults, Fault{At: start, Kind: Crash, On: m, For: 300 * ms})
	}
	tell(t, Scenario{
		Faults: faults,
		Expect: []Expect{
			{What: "the site that served serves", By: start + 8*time.Second, From: start + time.Second, Once: serves("primary")},
			{What: "nothing is moved", From: start, By: start + time.Minute, Always: epoch(1)},
		},
	})
}

// Cloudflare, 2 November 2020: a switch that was half dead let control
// traffic through and dropped the rest; members saw different worlds, no
// leader lasted, a replica was promoted for nothing.
// Protects: pre-vote and quorum checks; k of n; a hold after a completed move.
func TestStoryAsymmetricLink(t *testing.T) {
	ways := [][2]draas.MemberID{{"primary", "witness"}, {"witness", "primary"}, {"primary", "dr"}, {"dr", "primary"}, {"witness", "dr"}, {"dr", "witness"}}
	for _, way := range ways {
		t.Run(string(way[0]+" to "+way[1]), func(t *testing.T) {
			tell(t, Scenario{
				Params: rules(func(s *failover.ServicePolicy) { s.Hold = time.Hour }),
				Faults: []Fault{{At: start, Kind: OneWay, On: way[0], To: way[1], For: time.Minute}},
				Expect: []Expect{
					{What: "at most one move", Always: func(w *World) bool { return w.Moves() <= 1 && epochUpTo(2)(w) }},
					{What: "users are served", From: start + 20*time.Second, By: start + 80*time.Second, Always: func(w *World) bool {
						return serves("primary")(w) || serves("dr")(w)
					}},
				},
			})
		})
	}
}

// orchestrator 451, ProxySQL/orchestrator 115: hooks were lost when the leader
// changed while they ran; the database had moved, the proxy had not. Hooks are
// not built yet: three generic effects, one after the other, stand for them.
// Protects: steps are in the log, and what is due follows from their journal.
func TestStoryHooksLostOnLeaderChange(t *testing.T) {
	p := rules(func(s *failover.ServicePolicy) {
		s.Steps = nil
		for i, name := range []string{"storage", "hooks", "dns"} {
			s.Steps = append(s.Steps, runbook.Step{Name: name, Effect: name, Timeout: time.Second})
			if i > 0 {
				s.Steps[i].After = []string{s.Steps[i-1].Name}
			}
		}
	})
	for _, victim := range []draas.MemberID{"dr", "witness"} {
		t.Run(string(victim), func(t *testing.T) {
			faults := []Fault{
				{At: start, Kind: Power, On: "primary", For: 2 * time.Minute},
				{At: start, Kind: SlowEffect, On: "dr", By: time.Second, For: time.Minute},
			}
			for i := range 4 {
				faults = append(faults, Fault{At: start + time.Duration(5+3*i)*time.Second, Kind: Crash, On: victim, For: 700 * ms})
			}
			tell(t, Scenario{
				Params: p, Faults: faults,
				Expect: []Expect{
					{What: "every effect is made", By: start + 50*time.Second, Once: func(w *World) bool {
						return w.Receives("storage", "shop") == "dr" && w.Receives("hooks", "shop") == "dr" && w.Receives("dns", "shop") == "dr" && w.Moves() == 1
					}},
					{What: "none before the one that it follows", Always: func(w *World) bool {
						s, h, d := w.Receives("storage", "shop"), w.Receives("hooks", "shop"), w.Receives("dns", "shop")
						return (d != "dr" || h == "dr") && (h != "dr" || s == "dr")
					}},
				},
			})
		})
	}
}

// Route 53, 2021 and 2025: names were answered, but could not be changed: the
// control plane stood in the region that was lost. A generic effect stands for
// the provider elsewhere.
// Protects: every step is carried out at the site that takes over.
func TestStoryDependencyInTheDeadSite(t *testing.T) {
	tell(t, Scenario{
		Faults: []Fault{
			{At: start, Kind: Power, On: "primary", For: 2 * time.Minute},
			// What the site that is lost would have to do never answers.
			{At: start, Kind: Effect, On: "primary", What: "refuse", For: 2 * time.Minute},
		},
		Expect: []Expect{
			{What: "the effect is made from the other site", By: start + 15*time.Second, Once: func(w *World) bool {
				return w.Receives("dns", "shop") == "dr" && w.Moves() == 1
			}},
			{What: "no step is the lost site's", Always: func(w *World) bool {
				for _, m := range w.members {
					if sv := w.State(m.id).Services["shop"]; sv != nil && sv.Move != nil && sv.Move.To == "dr" {
						for _, step := range sv.Move.Plan.Steps {
							if step.Member == "primary" {
								return false
							}
						}
					}
				}
				return true
			}},
		},
	})
}
