package stamp

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
)

func at(site draas.SiteID, epoch draas.Epoch) *api.Status {
	return &api.Status{Services: []api.ServiceStatus{{ID: "other", Active: site, Epoch: 99}, {ID: "web", Active: site, Epoch: epoch}}}
}

// An epoch of another site is not this one's to stamp, nor an older one.
func TestLearn(t *testing.T) {
	e := New(filepath.Join(t.TempDir(), "nobody"), "web", "primary")
	for _, c := range []struct {
		site        draas.SiteID
		epoch, want draas.Epoch
		active      bool
	}{{"", 0, 0, false}, {"dr", 1, 0, false}, {"primary", 2, 2, true}, {"dr", 3, 2, false}, {"primary", 1, 2, false},
		{"primary", 4, 4, true}, {"dr", 3, 4, true}} {
		e.learn(at(c.site, c.epoch))
		if got, active := e.known(); got != c.want || active != c.active {
			t.Errorf("%q active at epoch %d: known is %d, active %v; want %d, %v", c.site, c.epoch, got, active, c.want, c.active)
		}
		if got := e.Now(t.Context()); got != c.want {
			t.Errorf("%q active at epoch %d, and nobody to ask: %d, want %d", c.site, c.epoch, got, c.want)
		}
	}
}

// Whoever is asked once more after another site was active answers under its
// new epoch at once, though the watch has not told of it; who is active as far
// as it knows does not ask.
func TestActiveAgain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var says atomic.Pointer[api.Status]
	var asked atomic.Int32
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != api.PathStatus {
			t.Errorf("asked for %s", r.URL)
		}
		asked.Add(1)
		_ = json.NewEncoder(w).Encode(says.Load())
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(ln) }() // ends with Close
	t.Cleanup(func() { _ = srv.Close(); <-served })

	e := New(socket, "web", "primary")
	defer e.client.Close()
	says.Store(at("primary", 3))
	for range 3 {
		if got := e.Now(t.Context()); got != 3 || asked.Load() != 1 {
			t.Errorf("epoch %d, asked %d times; want 3, once", got, asked.Load())
		}
	}
	e.learn(at("dr", 4)) // the watch
	says.Store(at("dr", 4))
	if got := e.Now(t.Context()); got != 3 {
		t.Errorf("epoch %d while dr is active, want the last one of this site", got)
	}
	says.Store(at("primary", 5))
	if got := e.Now(t.Context()); got != 5 {
		t.Errorf("epoch %d after the fence opened anew, want 5", got)
	}
	e.learn(at("dr", 4)) // the watch is late
	before := asked.Load()
	if got := e.Now(t.Context()); got != 5 || asked.Load() != before {
		t.Errorf("epoch %d, asked %d times more; want 5 and none", got, asked.Load()-before)
	}
	e.learn(at("dr", 6))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if got := e.Now(gone); got != 5 {
		t.Errorf("epoch %d, asked for nobody", got)
	}
}
