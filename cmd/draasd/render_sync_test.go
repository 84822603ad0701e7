package main

import (
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
)

// syncShop is what dr says of how it follows primary.
func syncShop() api.Sync {
	return api.Sync{Follows: "shop", Target: "dr", Source: "primary", Epoch: 3, Known: true, BehindMS: 4210, Objects: 1, Bytes: 2 << 30,
		Running: &api.SyncRun{Began: noon.Add(-time.Second), Why: "due", Done: 2, ToDo: 3, Bytes: 734003200, Carry: 2 << 30},
		Next:    after(29000), NextAudit: noon.Add(15 * time.Hour),
		Last: &api.SyncResult{Began: after(-32000), TookMS: 1830, Why: "due", Kinds: []api.SyncDone{{Kind: "network", Done: map[string]int{"create": 2, "update": 1}, Failed: 1}},
			Left: map[string]int{"drift": 1}, FailedObjects: 1, SourceRequests: 61, TargetRequests: 74,
			Failures: []api.SyncFailure{{Kind: "network", ID: "5f0c9a7e", Name: "acme-web/blue", Verb: "create", Reason: "quota of networks is used up"}}},
		Kinds: []api.SyncKind{
			{Kind: "image", Known: true, BehindMS: 4210, Objects: 212, Verbs: map[string]int{"unchanged": 211, "create": 1}, Pending: 1, PendingBytes: 2 << 30, Through: after(-4210), Audited: after(-3600000)},
			{Kind: "zone", Missing: "the cloud has no service dns"},
		}}
}

func TestSyncLine(t *testing.T) {
	for _, tt := range []struct {
		brief api.SyncBrief
		want  string
	}{
		{api.SyncBrief{Source: "primary", Known: true, BehindMS: 4210}, "dr follows primary, 4s behind, 0 pending"},
		{api.SyncBrief{Source: "primary", Running: true}, "dr follows primary, how far it is behind is not known; a run is under way"},
		{api.SyncBrief{Source: "primary", Known: true, BehindMS: 90000, Objects: 7, Failures: 3, Error: "no route"}, "dr follows primary, 1m30s behind, 7 pending; the last 3 runs have failed: no route"},
		{api.SyncBrief{Source: "primary", Stuck: 2, Running: true}, "is not known; 2 cannot be carried: draasd sync plan"},
		{api.SyncBrief{Source: "primary", Held: true}, "; it waits for a person: draasd sync plan"},
	} {
		if got := syncLine("dr", &tt.brief); !strings.HasSuffix(got, tt.want) {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
	s := healthyStatus()
	var b strings.Builder
	writeSyncs(&b, s)
	s.Reported[0].Sync = &api.SyncBrief{Follows: "shop"}
	writeSyncs(&b, s)
	if b.Len() > 0 {
		t.Errorf("of a site that carries nothing: %q", b.String())
	}
	s.Reported[0].Sync.Users = &api.SyncUsers{Enabled: 3}
	if writeSyncs(&b, s); b.Len() > 0 {
		t.Errorf("of users that are enabled: %q", b.String())
	}
	s.Reported[0].Sync.Users.Error = "no route"
	if writeSyncs(&b, s); !strings.Contains(b.String(), "! sync: users at "+string(s.Reported[0].Member)+" are not enabled yet: no route\n") {
		t.Errorf("of users that are not: %q", b.String())
	}
	s.Reported[0].Sync.Users = nil
	s.Reported[0].Sync.Source, s.Reported[0].Sync.Failures = "primary", 1
	writeStatus(&b, s)
	if !strings.Contains(b.String(), "\n! sync: dr follows primary, ") {
		t.Errorf("the status has no such line:\n%s", b.String())
	}
}

func TestBehindText(t *testing.T) {
	known := api.Lag{Site: "dr", Known: true, BehindMS: 12000}
	for _, tt := range []struct {
		lags []api.Lag
		to   draas.SiteID
		want string
	}{
		{nil, "dr", "not known"},
		{[]api.Lag{known}, "dr", "the copy at dr was 12s behind when primary was last well"},
		{[]api.Lag{known}, "", "12s behind"},
		{[]api.Lag{known}, "moon", "not known"},
		{[]api.Lag{known, {Site: "moon", Known: true}}, "", "not known"},
		{[]api.Lag{{Site: "dr"}}, "dr", "not known"},
	} {
		if got := behindText(api.ServiceStatus{Active: "primary", Lags: tt.lags}, tt.to); !strings.Contains(got, tt.want) {
			t.Errorf("%+v to %q: %q, want %q", tt.lags, tt.to, got, tt.want)
		}
	}
}
