package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/metrics"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/syncer"
)

// scraped gets the metrics of a server; empty: it does not answer.
func scraped(client *http.Client, url string) string {
	resp, err := client.Get(url + metrics.Path)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}

// A member shows what it knows on its control socket, and where the file says
// so on an address of its own, where there is nothing else.
func TestMetrics(t *testing.T) {
	t.Parallel()
	l := newLabOf(t, "balanced")
	l.everywhere(func(text string) string {
		return strings.Replace(text, "[member.primary]\n", fmt.Sprintf("[member.primary]\nmetrics = \"127.0.0.1:%d\"\n", l.base+50), 1)
	})
	l.startAll()
	l.activateWithin(30 * time.Second)
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(l.dir, "primary", "data", "draasd.sock"))
	}}
	t.Cleanup(transport.CloseIdleConnections)
	shown, at := &http.Transport{}, fmt.Sprintf("http://127.0.0.1:%d", l.base+50)
	t.Cleanup(shown.CloseIdleConnections)
	for name, ask := range map[string]func() string{
		"socket":  func() string { return scraped(&http.Client{Transport: transport}, "http://draasd") },
		"address": func() string { return scraped(&http.Client{Transport: shown}, at) },
	} {
		wants := []string{`draas_service_active{service="web",site="primary"} 1`, `draas_fence_state{service="web",state="open"} 1`, "draas_guard_up 1",
			`draas_log_leader_known 1`, `draas_log_contact_age_seconds 0.`, `draas_policy_same{peer="dr"} 1`, `draas_pages_total{result="sent"} 0`}
		var text string
		l.await(name+" shows what is decided", 20*time.Second, func() bool {
			text = ask()
			for _, want := range wants {
				if !strings.Contains(text, want) {
					return false
				}
			}
			return !strings.Contains(text, `draas_permit_remaining_seconds{service="web"} 0`)
		})
	}
	resp, err := (&http.Client{Transport: shown}).Get(at + api.PathStatus)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != http.StatusNotFound {
		t.Errorf("%s is answered with %d where metrics are shown", api.PathStatus, resp.StatusCode)
	}
}

// Runs are counted by what became of them.
func TestCarrierCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newCarrierLab(t, nil)
		results := []func() (*syncer.Result, error){
			func() (*syncer.Result, error) { return nil, nil }, // clean
			func() (*syncer.Result, error) {
				return &syncer.Result{Plan: &syncer.Plan{Kinds: []syncer.KindPlan{{Kind: "image", Verbs: map[syncer.Verb]int{syncer.Drift: 1}}}},
					Kinds: []syncer.KindResult{{Kind: "image", Done: map[syncer.Verb]int{syncer.Create: 3}, Failed: 0, Bytes: 500}}}, nil
			},
			func() (*syncer.Result, error) {
				return &syncer.Result{Plan: &syncer.Plan{}, Failures: []syncer.Failure{{Key: syncer.Key{Kind: "image"}, Verb: syncer.Create}},
					Kinds: []syncer.KindResult{{Kind: "image", Failed: 1}}}, nil
			},
			func() (*syncer.Result, error) { return &syncer.Result{Plan: &syncer.Plan{Held: "why"}}, syncer.ErrHeld },
			func() (*syncer.Result, error) { return nil, errors.New("dead") },
		}
		n := 0
		l.will(func(context.Context, syncer.Gate, syncer.Options) (*syncer.Result, error) {
			n++
			return results[min(n, len(results))-1]()
		})
		l.follow(l.state)
		synctest.Wait()
		for range 4 {
			if err := l.trigger(true); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		l.will(func(ctx context.Context, _ syncer.Gate, _ syncer.Options) (*syncer.Result, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		if err := l.trigger(false); err != nil {
			t.Fatal(err)
		}
		rest(time.Second)
		l.decide(func(sv *failover.ServiceState) {
			sv.Move = &failover.Move{Kind: runbook.Failover, From: "primary", To: "dr"}
		})
		synctest.Wait()
		srv := httptest.NewRecorder()
		metrics.Handler(func(context.Context) (metrics.View, error) {
			return metrics.View{Status: &api.Status{}, Sync: l.sync(time.Now())}, nil
		}, l.counts, l.carrier.log).ServeHTTP(srv, httptest.NewRequest(http.MethodGet, metrics.Path, nil))
		text := srv.Body.String()
		for _, want := range []string{`draas_sync_runs_total{outcome="clean",why="triggered"} 1`, `draas_sync_runs_total{outcome="differs",why="audit"} 1`,
			`draas_sync_runs_total{outcome="failed",why="audit"} 1`, `draas_sync_runs_total{outcome="held",why="audit"} 1`, `draas_sync_runs_total{outcome="error",why="audit"} 1`,
			`draas_sync_runs_total{outcome="ended",why="triggered"} 1`, `draas_sync_objects_total{kind="image",verb="create"} 3`, `draas_sync_bytes_total{kind="image"} 500`,
			`draas_sync_failed_objects_total{kind="image"} 1`, `draas_sync_requests_total{api="image",cloud="source"} 60`, `draas_sync_throttled_total{api="image",cloud="source"} 12`} {
			if !strings.Contains(text, want) {
				t.Errorf("there is no %s", want)
			}
		}
		if strings.Contains(text, "draas_sync_lag") {
			t.Error("a site that is moved to shows a lag")
		}
		if t.Failed() {
			t.Log(text)
		}
	})
}

// A run that was never begun, for its member was alone, is none.
func TestCarrierCountsWhatWasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, silence := newCarrierLab(t, nil)
		silence()
		rest(2 * syncLease)
		l.follow(l.state)
		rest(3 * syncRetry)
		srv := httptest.NewRecorder()
		metrics.Handler(func(context.Context) (metrics.View, error) {
			return metrics.View{Status: &api.Status{}}, nil
		}, l.counts, l.carrier.log).ServeHTTP(srv, httptest.NewRequest(http.MethodGet, metrics.Path, nil))
		if text := srv.Body.String(); l.made() != 0 || strings.Contains(text, "draas_sync_runs_total{") || srv.Code != http.StatusOK {
			t.Errorf("%d runs:\n%s", l.made(), text)
		}
	})
}
