package metrics

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// full is a member of which everything is known.
func full() View {
	return View{
		Role: draas.RoleSite, Log: Log{Commit: 1204, Last: 1206, Rejected: 1, Touch: 40 * time.Millisecond}, Pages: Pages{Sent: 2, Failed: 1},
		Alarms: []Alarm{{"stuck", "shop"}, {"certificate", ""}, {"certificate", ""}},
		Status: &api.Status{
			Cluster: "acme", Self: "dr", Leader: "dr", Term: 3, Applied: 1204, Version: 5, Profile: "fast",
			Members: []api.MemberStatus{
				{ID: "primary", Role: draas.RoleSite, SameConfig: true, SeenBy: map[draas.MemberID]draas.Verdict{"dr": draas.Suspect}},
				{ID: "dr", Role: draas.RoleSite, SameConfig: true}, {ID: "witness", Role: draas.RoleWitness}},
			Log: []api.LogMember{{ID: "dr", RaftID: 2, Role: api.LogVoter, Match: 1206}, {ID: "primary", RaftID: 4, Role: api.LogLearner, HeardMS: 700, Match: 4},
				{ID: "primary", RaftID: 1, Role: api.LogVoter, HeardMS: 20, Match: 1200}, {ID: "witness", RaftID: 3, Role: api.LogVoter, HeardMS: -1, Quarantine: "copied"}},
			Services: []api.ServiceStatus{{ID: "shop", Phase: failover.PhaseNormal, Active: "primary", Epoch: draas.EpochOf(1, 4), Automatic: true, Unacked: 1,
				Views:   []api.View{{Site: "primary", Vantage: "dr", Verdict: draas.Healthy}, {Service: "db", Site: "primary", Vantage: "dr", Verdict: draas.Failed}},
				Lags:    []api.Lag{{Site: "dr", Known: true, BehindMS: 1500}, {Site: "primary"}},
				Flaps:   []api.Flaps{{Site: "dr", Failures: 2, Limit: 3}},
				Entries: []api.Entry{{Service: "shop", Site: "dr", Refused: "none is heard"}},
				Last: &failover.Move{Kind: failover.MoveFailover, To: "primary", Times: failover.Times{Suspected: noon.Add(-5 * time.Second), Decided: noon,
					Activated: noon.Add(2 * time.Second), Redirected: noon.Add(2500 * time.Millisecond)}}}},
			Reported: []api.Reported{{Member: "dr", Suspicions: 9, CertificateEnds: noon,
				Fences: []api.FenceStatus{{Service: "shop", State: "closed", Epoch: 3, PermitLeftMS: 900, Upsets: 1, Error: "dear"}},
				Users:  []api.UserPath{{Service: "shop", Step: "dns public", AsDecided: "no", Repairs: 3}},
				Frontends: []api.FrontendSeen{{Frontend: "edge1", HeardMS: 300, Services: []api.FollowReport{{Service: "shop", State: "wait", Flights: 7, Held: 2}}},
					{Frontend: "edge2", HeardMS: -1}, {Frontend: "edge3", HeardMS: 60_000, Services: []api.FollowReport{{Service: "shop", State: "open", Flights: 70}}}},
				VIPs: []api.VIPSeen{{VIP: "web", Granted: "edge1", Holders: []api.VIPHolder{{Frontend: "edge1"}, {Frontend: "edge2"}}}}},
				{Member: "primary", Suspicions: 1000}},
		},
		Sync: &api.Sync{Follows: "shop", Target: "dr", Source: "primary", Epoch: 4, Known: true, BehindMS: 12_000, Objects: 3, Bytes: 41, Failures: 1, Held: "why",
			Running: &api.SyncRun{Done: 5, ToDo: 8, Bytes: 100, Carry: 400},
			Kinds: []api.SyncKind{{Kind: "image", Known: true, BehindMS: 12_000, Objects: 40, Verbs: map[string]int{"drift": 2, "unchanged": 38}, Pending: 3, PendingBytes: 41, Failed: 1,
				Through: noon, Audited: noon.Add(-time.Hour)}, {Kind: "zone", Missing: "no dns"}}},
	}
}

func fullRuns() *Runs {
	r := NewRuns()
	r.Ran("due", Clean, 4*time.Second)
	r.Objects("image", "create", 5)
	r.Carried("image", 1, 1<<30)
	r.Requests("source", "image", Requests{Sent: 100, Retries: 2, Failed: 1, Throttled: 3})
	return r
}

// scrape gets the page of a member.
func scrape(t *testing.T, v View, runs *Runs, accept string) (text, kind string) {
	t.Helper()
	h := Handler(func(context.Context) (View, error) { return v, nil }, runs, slog.New(slog.DiscardHandler))
	r := httptest.NewRequest(http.MethodGet, Path, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String(), w.Header().Get("Content-Type")
}

func TestScrape(t *testing.T) {
	text, kind := scrape(t, full(), fullRuns(), "")
	if !strings.HasPrefix(kind, "text/plain") {
		t.Errorf("the type is %s", kind)
	}
	for _, want := range []string{
		`draas_member_info{cluster="acme",member="dr",profile="fast",role="site"} 1`,
		`draas_service_active{service="shop",site="dr"} 0`, `draas_service_active{service="shop",site="primary"} 1`,
		`draas_service_epoch{service="shop"} 4.2949673e+09`, `draas_service_phase{phase="normal",service="shop"} 1`, `draas_service_phase{phase="fencing",service="shop"} 0`,
		`draas_service_verdict{by="dr",service="db",site="primary",verdict="failed"} 1`, `draas_service_data_lag_seconds{service="shop",site="dr"} 1.5`,
		`draas_service_last_move_duration_seconds{kind="failover",service="shop"} 7.5`, `draas_permit_remaining_seconds{service="shop"} 0.9`,
		`draas_alarms{alarm="certificate",service=""} 2`, `draas_pages_total{result="failed"} 1`, `draas_log_peer_behind_entries{peer="primary"} 6`,
		`draas_log_peer_quarantined{peer="witness"} 1`, `draas_suspicions_total 9`, `draas_frontend_requests{frontend="edge1",service="shop"} 7`,
		`draas_users_as_decided{answer="no",service="shop",step="dns public"} 1`, `draas_sync_lag_seconds 12`, `draas_sync_kind_found_objects{kind="image",verb="drift"} 2`,
		`draas_sync_kind_watermark_timestamp_seconds{kind="image"} 1.7953488e+09`, `draas_sync_throttled_total{api="image",cloud="source"} 3`,
		`draas_sync_run_duration_seconds_bucket{why="due",le="10"} 1`, `go_goroutines`, `process_start_time_seconds`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s", want)
		}
	}
	for _, not := range []string{`edge3",service`, `frontend_heard_age_seconds{frontend="edge2"`, `peer_heard_age_seconds{peer="witness"`, `data_lag_seconds{service="shop",site="primary"`, `kind_objects{kind="zone"`} {
		if strings.Contains(text, not) {
			t.Errorf("%s is shown", not)
		}
	}
	for _, f := range table() {
		if !strings.Contains(text, "# TYPE "+f.full()+" "+f.kind+"\n") {
			t.Errorf("%s is not shown", f.full())
		}
	}
	if t.Failed() {
		t.Log(regexp.MustCompile(`(?m)^(#|go_|process_).*\n`).ReplaceAllString(text, ""))
	}
}

// What is not known is not shown: an alert on it tells no lies.
func TestScrapeOfLittle(t *testing.T) {
	text, _ := scrape(t, View{Role: draas.RoleWitness, Log: Log{Touch: -1}, Status: &api.Status{Self: "witness",
		Services: []api.ServiceStatus{{ID: "shop", Phase: "later"}}, Reported: []api.Reported{{Member: "witness"}}}}, nil, "")
	for _, not := range []string{"draas_sync", "draas_guard_up", "draas_log_contact", "draas_certificate", "last_move"} {
		if strings.Contains(text, not) {
			t.Errorf("a witness shows %s", not)
		}
	}
	if !strings.Contains(text, `phase="later",service="shop"} 1`) || !strings.Contains(text, "draas_log_leader_known 0\n") {
		t.Error(text)
	}
	v := full()
	v.Sync.Source, v.Sync.Known = "", false
	if text, _ := scrape(t, v, nil, ""); strings.Contains(text, "draas_sync_lag") {
		t.Error("what is not carried has a lag")
	}
}

func TestScrapeFails(t *testing.T) {
	w := httptest.NewRecorder()
	Handler(func(context.Context) (View, error) { return View{}, errors.New("stopping") }, nil, slog.New(slog.DiscardHandler)).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path, nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("it answers %d", w.Code)
	}
}

func TestOpenMetrics(t *testing.T) {
	text, kind := scrape(t, full(), fullRuns(), "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(kind, "application/openmetrics-text; version=1.0.0") || !strings.HasSuffix(text, "# EOF\n") ||
		!strings.Contains(text, "# TYPE draas_sync_bytes counter\n") {
		t.Errorf("%s: ... %s", kind, text[max(0, len(text)-300):])
	}
}

// Names, units and helps are as Prometheus wants them, by its own rules.
func TestLint(t *testing.T) {
	text, _ := scrape(t, full(), fullRuns(), "")
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	check := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	check.Stdin = strings.NewReader(text)
	if out, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

var docRow = regexp.MustCompile("(?m)^\\| `(draas_[a-z_]+)` \\| .*$")

// Every metric stands in docs/metrics.md as it is, and no other does.
func TestDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]string)
	for _, m := range docRow.FindAllStringSubmatch(string(page), -1) {
		if rows[m[1]] != "" {
			t.Errorf("%s stands there twice", m[1])
		}
		rows[m[1]] = m[0]
	}
	var lacking bytes.Buffer
	for _, f := range table() {
		labels := strings.Join(f.labels, ", ")
		if labels == "" {
			labels = "-"
		}
		row := "| `" + f.full() + "` | " + f.kind + " | " + labels + " | " + f.help + " |"
		if rows[f.full()] != row {
			lacking.WriteString(row + "\n")
		}
		delete(rows, f.full())
	}
	if lacking.Len() > 0 {
		t.Errorf("docs/metrics.md lacks the rows\n%s", lacking.String())
	}
	for name := range rows {
		t.Errorf("docs/metrics.md has %s, which is not shown", name)
	}
}
