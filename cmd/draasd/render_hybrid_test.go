package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// hybridStatus is a hybrid whose users enter at the other site than the active
// one, and whose name somebody else has changed in one of its zones; the halves
// of a part of a group are told beside it.
func hybridStatus() *api.Status {
	s := healthyStatus()
	sv := &s.Services[0]
	sv.Scheme = "hybrid"
	sv.Last.Plan.Steps = []runbook.Step{{Name: "hybrid"}}
	sv.Last.Journal = runbook.Journal{"hybrid": {Outcome: runbook.OutcomeDone, Evidence: "without dns@cloud: connection refused; dns: seen; frontend: seen"}}
	sv.Entries = []api.Entry{{Service: "shop", Site: "dr", Turn: 1, Since: noon.Add(-time.Minute)}}
	seen := []api.FrontendSeen{
		{Frontend: "east-edge", HeardMS: 9000, Services: []api.FollowReport{{Service: "shop", Epoch: 3, Site: "primary", State: "open"}}},
		{Frontend: "west-edge", HeardMS: 120, Services: []api.FollowReport{{Service: "shop", Epoch: 3, Site: "primary", State: "open", Flights: 12}}},
	}
	s.Reported[1].Frontends = seen
	s.Reported[1].Users = []api.UserPath{
		{Service: "shop", Step: "hybrid/dns", AsDecided: "yes", Evidence: "epoch=3 site=dr turn=1", Since: noon.Add(-time.Minute)},
		{Service: "shop", Step: "hybrid/dns@cloud", AsDecided: "no", Evidence: "192.0.2.66 at ns1.example.net", Since: noon.Add(-time.Hour)},
		{Service: "shop", Step: "hybrid:cart/frontend", AsDecided: "unknown", Evidence: "no frontend of cart was heard", Since: noon.Add(-time.Hour)},
		{Service: "other", Step: "hybrid/dns", AsDecided: "no", Evidence: "of another service", Since: noon},
		{Service: "shop", Step: "dns", AsDecided: "no", Evidence: "of no hybrid", Since: noon},
	}
	// Who is not active does not look after it.
	s.Reported[0].Users = []api.UserPath{{Service: "shop", Step: "hybrid/frontend", AsDecided: "no", Evidence: "of another member", Since: noon}}
	s.Warnings = []string{"users of shop enter at dr and are led on to primary: they are served, by a detour"}
	return s
}

// A move that was complete without a half says so wherever it is told of.
func TestWhatIsMissingIsTold(t *testing.T) {
	m := hybridStatus().Services[0].Last
	done := failover.Record{Kind: failover.RecordDone, Service: "shop", At: noon, Text: "it is complete", Move: m}
	other := done
	other.Kind = failover.RecordDecision
	var history, why bytes.Buffer
	writeHistory(&history, []failover.Record{done, other, {Kind: failover.RecordDone, Text: "of before"}})
	writeWhy(&why, &api.Why{Service: "shop", Decisions: []failover.Record{done}})
	if got := history.String(); strings.Count(got, "hybrid: without dns@cloud: connection refused") != 1 {
		t.Errorf("history\n%s", got)
	}
	if got := strings.Join(strings.Fields(why.String()), " "); !strings.Contains(got, "hybrid: without dns@cloud: connection refused") {
		t.Errorf("why\n%s", got)
	}
}
