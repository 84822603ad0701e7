package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// fakeDaemon answers the control API on a unix socket as a member whose clock
// is off, with the moves that it is told of.
type fakeDaemon struct {
	socket string
	off    time.Duration

	mu       sync.Mutex
	status   api.Status
	history  []failover.Record
	silent   bool
	told     int           // histories
	watching chan struct{} // closed and made anew at every change
}

func newFakeDaemon(t *testing.T, services ...api.ServiceStatus) *fakeDaemon {
	t.Helper()
	f := &fakeDaemon{socket: filepath.Join(t.TempDir(), "s"), off: 1500 * time.Millisecond, watching: make(chan struct{}),
		status: api.Status{Cluster: "acme", Self: "witness", Services: services}}
	ln, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{Handler: f, BaseContext: func(net.Listener) context.Context { return ctx }}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); server.Close(); serving.Wait() })
	return f
}

// now is the time by the member's clock.
func (f *fakeDaemon) now() time.Time { return time.Now().Add(f.off).UTC().Round(0) }

func (f *fakeDaemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.silent:
		http.Error(w, `{"error":"starting"}`, http.StatusServiceUnavailable)
	case r.URL.Path == api.PathStatus:
		f.tell(w, r.URL.RawQuery == "")
	case r.URL.Path == api.PathHistory:
		f.told++
		_ = json.NewEncoder(w).Encode(f.history) // the asker may have gone
	case r.URL.Path == api.PathWatch:
		for r.Context().Err() == nil {
			f.tell(w, false)
			_ = http.NewResponseController(w).Flush()
			changed := f.watching
			f.mu.Unlock()
			select {
			case <-changed:
			case <-r.Context().Done():
			}
			f.mu.Lock()
		}
	}
}

// tell tells the status: with what other members report, or without.
func (f *fakeDaemon) tell(w http.ResponseWriter, all bool) {
	s := f.status
	if !all {
		s.Reported = nil
	}
	s.At = f.now()
	_ = json.NewEncoder(w).Encode(s) // the asker may have gone
}

// record adds to the history, at the present time of the member's clock.
func (f *fakeDaemon) record(r failover.Record) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.At.IsZero() {
		r.At = f.now()
	}
	r.Index, r.Service = uint64(len(f.history)+1), "shop"
	if r.By == "" {
		r.By = "witness"
	}
	f.history = append(f.history, r)
	if r.Phase != "" {
		f.status.Services[0].Phase = r.Phase
	}
	close(f.watching)
	f.watching = make(chan struct{})
	return r.At
}

// asked counts how often the history was asked for.
func (f *fakeDaemon) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.told
}

func shop() api.ServiceStatus {
	return api.ServiceStatus{ID: "shop", Phase: failover.PhaseNormal, Active: "primary", Epoch: 3}
}

// failover makes the daemon tell of a move: suspected after a time, the rest
// each a step later.
func (f *fakeDaemon) failover(after, step time.Duration) {
	base := f.now().Add(after)
	at := func(n int) time.Time { return base.Add(time.Duration(n) * step) }
	m := &failover.Move{Kind: failover.MoveFailover, From: "primary", To: "dr", Epoch: 4, Evidence: "lease of epoch 3 is over",
		Times: failover.Times{Suspected: at(0), Failed: at(1), Decided: at(2), Activated: at(3), Redirected: at(4), Verified: at(5)}}
	for _, r := range []failover.Record{
		{At: at(0), Kind: failover.RecordPhase, Phase: failover.PhaseSuspect},
		{At: at(2), Kind: failover.RecordDecision, Epoch: 4, Text: "failover of shop from primary to dr"},
		{At: at(2), Kind: failover.RecordPhase, Phase: failover.PhaseFencing, Epoch: 4},
		{At: at(3), Kind: failover.RecordPhase, Phase: failover.PhaseRedirecting, Epoch: 4, By: "dr"},
		{At: at(4), Kind: failover.RecordPhase, Phase: failover.PhaseVerifying, Epoch: 4},
		{At: at(5), Kind: failover.RecordDone, Phase: failover.PhaseElsewhere, Epoch: 4, Move: m},
	} {
		f.record(r)
	}
}

// disaster is a service that is down while a file is there. A command makes
// it and another takes it away, as --inject and --restore do.
type disaster struct {
	*service
	file string
}

func newDisaster(t *testing.T) *disaster {
	t.Helper()
	d := &disaster{file: filepath.Join(t.TempDir(), "down")}
	d.service = newService(t, never, never, nil)
	d.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if exists(d.file) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return d
}
