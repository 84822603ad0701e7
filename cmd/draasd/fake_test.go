package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// fakeDaemon answers the control API on a unix socket from fixed values.
type fakeDaemon struct {
	socket string

	mu       sync.Mutex
	status   *api.Status
	why      *api.Why
	history  []failover.Record
	answer   *api.Answer
	refuse   string          // error of a request
	watches  [][]*api.Status // what each watcher in turn sees before it is cut off; the last is held
	watched  int
	requests []api.Request
	reload   *api.Reload
	forced   []api.Force
	anew     *api.Status // after a force
	left     int
	asked    []string // paths and queries
}

func startFake(t *testing.T) *fakeDaemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "draasd") // a unix path must be short
	if err != nil {
		t.Fatalf("make directory: %v", err)
	}
	f := &fakeDaemon{socket: filepath.Join(dir, "s"), status: healthyStatus(), why: whyShop(), history: records()}
	ln, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	srv := &http.Server{Handler: f.handler(), ReadHeaderTimeout: time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) })
	t.Cleanup(func() {
		_ = srv.Close()
		wg.Wait()
		_ = os.RemoveAll(dir)
	})
	return f
}

func (f *fakeDaemon) handler() http.Handler {
	mux := http.NewServeMux()
	give := func(pick func(*http.Request) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.asked = append(f.asked, r.URL.String())
			v, err := pick(r)
			if err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				v = api.Error{Error: err.Error()}
			}
			_ = json.NewEncoder(w).Encode(v)
		}
	}
	mux.HandleFunc("GET "+api.PathStatus, give(func(*http.Request) (any, error) { return f.status, nil }))
	mux.HandleFunc("GET "+api.PathWhy, give(func(*http.Request) (any, error) { return f.why, nil }))
	mux.HandleFunc("GET "+api.PathHistory, give(func(*http.Request) (any, error) { return f.history, nil }))
	mux.HandleFunc("POST "+api.PathRequest, give(func(r *http.Request) (any, error) {
		var req api.Request
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			return nil, err
		}
		f.requests = append(f.requests, req)
		if f.refuse != "" {
			return nil, errors.New(f.refuse)
		}
		return f.answer, nil
	}))
	mux.HandleFunc("POST "+api.PathReload, give(func(*http.Request) (any, error) { return f.reload, nil }))
	mux.HandleFunc("POST "+api.PathLeave, give(func(*http.Request) (any, error) {
		f.left++
		if f.refuse != "" {
			return nil, errors.New(f.refuse)
		}
		return api.Done{Text: "dr leaves the cluster: its daemon ends when the others have let it go"}, nil
	}))
	mux.HandleFunc("POST "+api.PathForce, give(func(r *http.Request) (any, error) {
		var force api.Force
		if err := json.NewDecoder(r.Body).Decode(&force); err != nil {
			return nil, err
		}
		f.forced, f.status = append(f.forced, force), f.anew
		return api.Done{Text: "dr starts the cluster anew"}, nil
	}))
	mux.HandleFunc("GET "+api.PathWatch, f.watch)
	return mux
}

func (f *fakeDaemon) watch(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.watched++
	var show []*api.Status
	last := len(f.watches) <= 1
	if len(f.watches) > 0 {
		show = f.watches[0]
	}
	if !last {
		f.watches = f.watches[1:]
	}
	f.mu.Unlock()
	for _, s := range show {
		_ = json.NewEncoder(w).Encode(s)
		_ = http.NewResponseController(w).Flush()
	}
	if last {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

func (f *fakeDaemon) seen() []api.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// with gives a copy of a status with its first service changed.
func with(s *api.Status, change func(*api.ServiceStatus)) *api.Status {
	c := *s
	c.Services = slices.Clone(s.Services)
	change(&c.Services[0])
	return &c
}

// stages are those of a move of shop from primary to dr, to be watched.
func stages(kind failover.MoveKind) []*api.Status {
	m := failover.Move{Kind: kind, From: "primary", To: "dr", Epoch: 4, Operator: "ada"}
	at := func(p failover.Phase, active draas.SiteID, epoch draas.Epoch, m failover.Move) *api.Status {
		return with(healthyStatus(), func(sv *api.ServiceStatus) {
			sv.Phase, sv.Active, sv.Epoch, sv.Move = p, active, epoch, &m
		})
	}
	active := m
	active.Evidence = "primary released epoch 3"
	failed := active
	failed.Journal = runbook.Journal{"dns": {Outcome: runbook.OutcomeFailed, Attempts: 1, Evidence: "dr 203.0.113.10:53: epoch=3"}}
	sent := active
	sent.Journal = done("dr 203.0.113.10:53: epoch=4 site=dr A 203.0.113.20")
	complete := sent
	complete.Times = failover.Times{Decided: noon, Released: after(4), Activated: after(5), Redirected: after(9), Verified: after(120)}
	return []*api.Status{
		healthyStatus(), // the member that is asked may be behind
		at(failover.PhaseFencing, "primary", 3, m),
		at(failover.PhaseFencing, "primary", 3, m),
		at(failover.PhaseRedirecting, "dr", 4, active),
		at(failover.PhaseRedirecting, "dr", 4, failed),
		at(failover.PhaseVerifying, "dr", 4, sent),
		with(healthyStatus(), func(sv *api.ServiceStatus) {
			sv.Phase, sv.Active, sv.Epoch, sv.Last = failover.PhaseElsewhere, "dr", 4, &complete
		}),
	}
}

// undone is a switchover that turns back and leaves shop at primary.
func undone() []*api.Status {
	s := stages(failover.MoveSwitchover)[:2]
	back := failover.Move{Kind: failover.MoveUndo, From: "primary", To: "primary", Epoch: 4, Operator: "ada", Reason: "primary did not hand over in time"}
	turned := with(s[1], func(sv *api.ServiceStatus) { sv.Move = &back })
	active := back
	active.Evidence = "it held epoch 3 itself"
	again := with(s[1], func(sv *api.ServiceStatus) { sv.Phase, sv.Epoch, sv.Move = failover.PhaseRedirecting, 4, &active })
	end := with(healthyStatus(), func(sv *api.ServiceStatus) { sv.Epoch, sv.Last = 4, &active })
	return append(s, turned, again, end)
}

func accepted(kind failover.MoveKind) *api.Answer {
	return &api.Answer{Accepted: true, Record: failover.Record{Kind: failover.RecordDecision, Service: "shop", Epoch: 4,
		Text: string(kind) + " of shop from primary to dr by ada", Reasons: lastMove().Reasons[:2]}}
}

func refusal() *api.Answer {
	return &api.Answer{Record: failover.Record{Kind: failover.RecordRefusal, Service: "shop", Epoch: 3, Text: "switchover refused",
		Reasons: []failover.Reason{{Code: failover.ReasonOperator, OK: true, Text: "ada asked for it"},
			{Code: failover.ReasonEpoch, Text: "the request was made at epoch 2, now it is 3: look again"}}}}
}

// offered is a file that two members have not read yet.
func offered() *api.Reload {
	return &api.Reload{File: "/etc/draas/failover.toml", At: noon, Digest: "90aa31c7d2e4f5061728394a", Waiting: []draas.MemberID{"dr", "witness"}}
}

// reloaded is a status with what became of a file.
func reloaded(r *api.Reload) *api.Status {
	s := healthyStatus()
	s.Reload = r
	return s
}

// console is a program on buffers.
type console struct {
	*program
	out, err syncBuffer
}

// syncBuffer may be read while the program writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newConsole has a clock that goes on by 10 ms at each look, and ada at the
// keyboard. stdin is a terminal when terminal says so.
func newConsole(stdin string, terminal bool) *console {
	c := &console{}
	var mu sync.Mutex
	now := noon
	c.program = &program{stdin: strings.NewReader(stdin), stdout: &c.out, stderr: &c.err,
		getenv: func(name string) string { return map[string]string{"USER": "ada"}[name] },
		now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			now = now.Add(10 * time.Millisecond)
			return now
		},
		size: func(stream any) (int, int, bool) {
			_, isInput := stream.(io.Reader)
			return 100, 30, terminal && (isInput || stream == any(&c.out))
		},
		server: wired(),
	}
	return c
}

// golden compares both outputs, the socket's path taken out.
func (c *console) golden(t *testing.T, name string, f *fakeDaemon) {
	t.Helper()
	out := c.out.String()
	if err := c.err.String(); err != "" {
		out += "--- stderr\n" + err
	}
	golden(t, name, []byte(strings.ReplaceAll(out, f.socket, "SOCKET")))
}
