package main

import (
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// noon is when everything in the fixtures happens.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func after(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }

// healthyStatus is a cluster in no trouble: shop is active at home.
func healthyStatus() *api.Status {
	return &api.Status{
		Cluster: "acme", ClusterID: "5d0c0f4f8a3b4e0f9d7a6c1b2e3f4a5b", Self: "primary", At: noon,
		Leader: "witness", Term: 3, Applied: 1204, Version: 2, Policy: "7166f554c95b0e11aa22bb33", Profile: "fast",
		Members: []api.MemberStatus{
			{ID: "dr", Role: draas.RoleSite, Domain: "west", Started: true, SameConfig: true,
				SeenBy: map[draas.MemberID]draas.Verdict{"primary": draas.Healthy, "witness": draas.Healthy}},
			{ID: "primary", Role: draas.RoleSite, Domain: "east", Started: true, SameConfig: true,
				SeenBy: map[draas.MemberID]draas.Verdict{"dr": draas.Healthy, "witness": draas.Healthy}},
			{ID: "witness", Role: draas.RoleWitness, Domain: "witness", Started: true, SameConfig: true,
				SeenBy: map[draas.MemberID]draas.Verdict{"dr": draas.Healthy, "primary": draas.Healthy}},
		},
		Log: []api.LogMember{
			{ID: "dr", RaftID: 1, Role: api.LogVoter, HeardMS: 42, Match: 1204},
			{ID: "primary", RaftID: 2, Role: api.LogVoter, Match: 1204},
			{ID: "witness", RaftID: 3, Role: api.LogVoter, HeardMS: 12, Match: 1204},
		},
		Services: []api.ServiceStatus{{
			ID: "shop", Phase: failover.PhaseNormal, Active: "primary", Home: "primary", Epoch: 3,
			Scheme: "dns", Fence: draas.FencePath, Automatic: true, Last: lastMove(),
			Views: []api.View{
				{Site: "dr", Vantage: "dr", Verdict: draas.Healthy},
				{Site: "primary", Vantage: "dr", Verdict: draas.Healthy},
				{Site: "primary", Vantage: "primary", Verdict: draas.Healthy},
				{Site: "primary", Vantage: "witness", Verdict: draas.Healthy},
			},
		}},
		Reported: []api.Reported{
			{Member: "dr", Applied: 1204, Leader: "witness", InTouch: true, Suspicions: 2, Version: 2, CertificateEnds: noon.Add(700 * 24 * time.Hour),
				Fences: []api.FenceStatus{{Service: "shop", State: "closed", Epoch: 2}}},
			{Member: "primary", Applied: 1204, Leader: "witness", InTouch: true, Version: 2, CertificateEnds: noon.Add(20 * 24 * time.Hour),
				Fences: []api.FenceStatus{{Service: "shop", State: "open", Epoch: 3, PermitLeftMS: 1412}}},
			{Member: "witness", Applied: 1203, Leader: "witness", InTouch: true, Version: 2, CertificateEnds: noon.Add(-time.Hour)},
		},
	}
}

func lastMove() *failover.Move {
	return &failover.Move{Kind: failover.MoveFailback, From: "dr", To: "primary", Epoch: 3, Operator: "ada", Reason: "drill over",
		Reasons: []failover.Reason{{Code: failover.ReasonOperator, OK: true, Text: "ada asked for it"},
			{Code: failover.ReasonPlanned, OK: true, Text: "dr can hand over"},
			{Code: failover.ReasonTarget, OK: true, Text: "primary is ready: it sees its own shop healthy"}},
		Evidence: "dr released epoch 2",
		Plan:     dnsPlan(runbook.Failback, "dr", "primary", 3),
		Journal:  done("dr 203.0.113.10:53: epoch=3 site=primary A 198.51.100.20"),
		Times: failover.Times{Decided: after(-86400000), Released: after(-86399997), Activated: after(-86399996),
			Redirected: after(-86399890), Verified: after(-86399880)}}
}

// dnsPlan is the plan of a move of shop.
func dnsPlan(kind runbook.Kind, from, to draas.SiteID, epoch draas.Epoch) runbook.Plan {
	return runbook.Plan{Service: "shop", Move: runbook.Token{Epoch: epoch}, Kind: kind, From: from, To: to,
		Steps: []runbook.Step{{Name: "dns", Effect: "dns", Member: to.Member(), Timeout: 2 * time.Second}}}
}

func done(evidence string) runbook.Journal {
	return runbook.Journal{"dns": {Outcome: runbook.OutcomeDone, Attempts: 1, WasDone: true, Evidence: evidence}}
}

// lostStatus is seen by dr when the primary site is gone: the move to dr
// waits for the lease.
func lostStatus() *api.Status {
	s := healthyStatus()
	s.Self = "dr"
	s.Members[1].SeenBy = map[draas.MemberID]draas.Verdict{"dr": draas.Failed, "witness": draas.Failed}
	sv := &s.Services[0]
	sv.Phase = failover.PhaseFencing
	sv.Move = &failover.Move{Kind: failover.MoveFailover, From: "primary", To: "dr", Epoch: 4, Reasons: clauses()}
	sv.Views = []api.View{
		{Site: "dr", Vantage: "dr", Verdict: draas.Healthy},
		{Site: "primary", Vantage: "dr", Verdict: draas.Failed, Class: "timeout"},
		{Site: "primary", Vantage: "primary", Verdict: draas.Healthy},
		{Site: "primary", Vantage: "witness", Verdict: draas.Failed, Class: "timeout"},
	}
	s.Reported[1] = api.Reported{Member: "primary", Error: "does not answer: ask for status: context deadline exceeded"}
	return s
}

// brokenStatus has everything that must be marked at once.
func brokenStatus() *api.Status {
	s := healthyStatus()
	s.Warnings = []string{
		"witness runs another failover.toml than the policy in force: automatic moves are blocked",
		"mail: active at dr, but its fence is closed",
		"shop: MORE THAN ONE FENCE IS OPEN: [dr primary]",
	}
	s.Members[2].SameConfig = false
	s.Reported[2].InTouch, s.Reported[2].Leader = false, ""
	s.Reported[0].Fences = []api.FenceStatus{
		{Service: "mail", State: "closed", Epoch: 8},
		{Service: "shop", State: "open", Epoch: 2, PermitLeftMS: 40},
		{Service: "wiki", State: "unknown", Epoch: 1, Error: "systemctl: exit status 4"},
	}
	s.Reported[1].Fences = append(s.Reported[1].Fences, api.FenceStatus{Service: "mail", State: "closed", Epoch: 7},
		api.FenceStatus{Service: "wiki", State: "open", Epoch: 0, Error: "not confirmed closed"})
	s.Services = append(s.Services,
		api.ServiceStatus{ID: "mail", Phase: failover.PhaseElsewhere, Active: "dr", Home: "primary", Epoch: 8, Scheme: "dns",
			Fence: draas.FenceKernel, Automatic: true,
			Pause: &failover.Pause{Operator: "bob", Reason: "storage work at dr", For: 2 * time.Hour, Since: noon}},
		api.ServiceStatus{ID: "wiki", Phase: failover.PhaseInactive, Home: "dr", Scheme: "dns", Fence: draas.FenceSystemd},
		api.ServiceStatus{ID: "log", Phase: failover.PhaseSuspect, Active: "primary", Home: "primary", Epoch: 1, Scheme: "dns",
			Fence: draas.FenceNone, Views: []api.View{{Site: "primary", Vantage: "dr", Verdict: draas.Suspect, Class: "refused"}}})
	return s
}

// changingStatus has a member that is being replaced, one in quarantine, one
// that the file does not name and one that is not in the log.
func changingStatus() *api.Status {
	s := healthyStatus()
	s.Generation = 1
	s.Members = append(s.Members, api.MemberStatus{ID: "west", Role: draas.RoleWitness, Domain: "west"})
	s.Log = []api.LogMember{
		{ID: "dr", RaftID: 1, Role: api.LogVoter, HeardMS: 95000, Match: 1100},
		{ID: "old", RaftID: 2, Role: api.LogVoter, HeardMS: 300000, Leaving: true},
		{ID: "primary", RaftID: 3, Role: api.LogVoter, Match: 1204},
		{ID: "witness", RaftID: 4, Role: api.LogVoter, HeardMS: 20, Quarantine: "its log went backwards: a snapshot was restored"},
		{ID: "dr", RaftID: 0x5a3f20c1b7e4d911, Role: api.LogLearner, HeardMS: 15, Match: 860, Snapshot: true},
		{ID: "dr", RaftID: 0x1b7e4d9115a3f20c, Role: api.LogJoining, HeardMS: -1, Refused: "primary: another copy of this member lives"},
	}
	return s
}

// lonelyStatus is the DR site of two, when the other is gone.
func lonelyStatus() *api.Status {
	s := lostStatus()
	s.Leader = ""
	s.Log = []api.LogMember{{ID: "dr", RaftID: 1, Role: api.LogVoter}, {ID: "primary", RaftID: 2, Role: api.LogVoter, HeardMS: 754000}}
	s.Services[0].Lags = []api.Lag{{Site: "dr", Known: true, BehindMS: 800}}
	s.Services[0].Move, s.Services[0].Phase = nil, failover.PhaseNormal
	return s
}

// groupStatus is a group of two services, one of which has failed at primary
// while moves are paused.
func groupStatus() *api.Status {
	s := healthyStatus()
	sv := &s.Services[0]
	sv.ID, sv.Phase, sv.Fence, sv.Last, sv.Unacked = "crm", failover.PhaseConfirmed, draas.FencePath, nil, 2
	sv.Parts = []api.Part{{ID: "billing", Scheme: "dns", Fence: draas.FenceKernel}, {ID: "shop", Scheme: "dns", Fence: draas.FencePath}}
	sv.Views = []api.View{
		{Service: "billing", Site: "dr", Vantage: "dr", Verdict: draas.Healthy},
		{Service: "billing", Site: "primary", Vantage: "primary", Verdict: draas.Healthy},
		{Service: "shop", Site: "dr", Vantage: "dr", Verdict: draas.Healthy},
		{Service: "shop", Site: "primary", Vantage: "primary", Verdict: draas.Failed, Class: "refused"},
		{Service: "shop", Site: "primary", Vantage: "witness", Verdict: draas.Failed, Class: "refused"},
	}
	sv.Pause = &failover.Pause{Operator: "bob", Reason: "storage work", For: 2 * time.Hour, Since: noon}
	sv.Lags = []api.Lag{{Site: "dr", Known: true, BehindMS: 12500}}
	sv.Flaps = []api.Flaps{{Site: "dr", Failures: 1, Limit: 3}, {Site: "primary", Failures: 3, Limit: 3}}
	for i := range s.Reported[:2] {
		f := s.Reported[i].Fences[0]
		f.Service = "billing"
		s.Reported[i].Fences = append([]api.FenceStatus{f}, s.Reported[i].Fences...)
	}
	s.Warnings = []string{"crm has failed at primary and does not move by itself: bob paused automatic moves for 2h0m0s: storage work"}
	return s
}

func clauses() []failover.Reason {
	return []failover.Reason{
		{Code: failover.ReasonVantage, OK: true, Text: "dr sees primary failed (timeout)"},
		{Code: failover.ReasonVantage, Text: "primary says healthy, not counted: primary cannot be reached by [dr witness]"},
		{Code: failover.ReasonVantage, OK: true, Text: "witness sees primary failed (timeout)"},
		{Code: failover.ReasonQuorum, OK: true, Text: "2 of 2 failure domains needed say that primary failed"},
		{Code: failover.ReasonAutomatic, OK: true, Text: "automatic moves are on"},
		{Code: failover.ReasonFence, OK: true, Text: "fence path closes the old site without its daemon"},
		{Code: failover.ReasonDigest, OK: true, Text: "all reachable members run the same file"},
		{Code: failover.ReasonHold, OK: true, Text: "no recent completed move holds it off"},
		{Code: failover.ReasonTarget, OK: true, Text: "dr is ready: it sees its own shop healthy"},
	}
}

// against turns one clause around.
func against(code, text string) []failover.Reason {
	out := clauses()
	for i := range out {
		if out[i].Code == code {
			out[i].OK, out[i].Text = false, text
		}
	}
	return out
}

func records() []failover.Record {
	held := against(failover.ReasonHold, "a completed move holds further automatic ones off for 1m0s after it")
	done := lastMove()
	return []failover.Record{
		{Index: 2, At: after(-90000), Kind: failover.RecordMember, Member: "dr", Text: "dr started", By: "dr", ID: 1},
		{Index: 40, At: after(-60000), Kind: failover.RecordDone, Service: "shop", Epoch: 3, Text: "failback of shop from dr to primary by ada: drill over is complete", Move: done, By: "witness", ID: 7},
		{Index: 44, At: after(-50000), Kind: failover.RecordFinding, Service: "shop", Member: "primary", Phase: failover.PhaseNormal, Epoch: 3,
			Text: "users were not led as decided: it was put right (hybrid/dns): it was epoch=3 site=primary A 203.0.113.99", By: "primary", ID: 4},
		{Index: 48, At: after(-40000), Kind: failover.RecordEntry, Service: "shop", Phase: failover.PhaseNormal, Epoch: 3,
			Text: "users of shop enter at dr, epoch 3 turn 1: no frontend at primary is heard", By: "witness", ID: 8,
			Reasons: []failover.Reason{{Code: failover.ReasonWay, OK: true, Text: "users can enter at dr"}}},
		{Index: 51, At: after(-30000), Kind: failover.RecordRefusal, Service: "shop", Phase: failover.PhaseConfirmed, Epoch: 3, Text: "automatic failover refused", Reasons: held, By: "dr", ID: 9},
		{Index: 63, At: noon, Kind: failover.RecordDecision, Service: "shop", Phase: failover.PhaseConfirmed, Epoch: 4, Text: "failover of shop from primary to dr", Reasons: clauses(), By: "witness", ID: 12},
		{Index: 63, At: noon, Kind: failover.RecordPhase, Service: "shop", Phase: failover.PhaseFencing, Epoch: 3, Text: "permit 3 of primary is revoked", By: "witness", ID: 12},
	}
}

func whyShop() *api.Why {
	r := records()
	return &api.Why{Service: "shop", Phase: failover.PhaseConfirmed, Active: "primary", Epoch: 3,
		Now:       against(failover.ReasonTarget, "dr sees dr failed (status): 503 Service Unavailable"),
		Decisions: []failover.Record{r[5], r[4]}}
}
