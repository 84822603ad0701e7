package demo

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/measure"
)

// fakeDaemon serves the watch stream and the history on a control socket.
type fakeDaemon struct {
	mu      sync.Mutex
	status  api.Status
	changed chan struct{}
	stop    func()
}

func startDaemon(t *testing.T, socket string, s api.Status) *fakeDaemon {
	t.Helper()
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeDaemon{status: s, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathWatch, func(w http.ResponseWriter, r *http.Request) {
		for {
			f.mu.Lock()
			st, changed := f.status, f.changed
			f.mu.Unlock()
			if json.NewEncoder(w).Encode(st) != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-changed:
			case <-r.Context().Done():
				return
			case <-ctx.Done():
				return
			}
		}
	})
	mux.HandleFunc("GET "+api.PathStatus, func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		_ = json.NewEncoder(w).Encode(f.status) // who went away reads no answer
	})
	mux.HandleFunc("GET "+api.PathHistory, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "[]")
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	var wg sync.WaitGroup
	wg.Go(func() { _ = srv.Serve(ln) }) // ends with Close
	f.stop = sync.OnceFunc(func() { cancel(); srv.Close(); wg.Wait() })
	t.Cleanup(f.stop)
	return f
}

func (f *fakeDaemon) set(s api.Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status = s
	close(f.changed)
	f.changed = make(chan struct{})
}

func at(site draas.SiteID, epoch draas.Epoch) api.Status {
	return api.Status{At: time.Now(), Services: []api.ServiceStatus{{ID: "other", Active: site, Epoch: 99}, {ID: "web", Active: site, Epoch: epoch}}}
}

func TestServe(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := ln.Addr().String()
	ln.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, ServeOptions{Listen: listen, Control: socket, Service: "web", Site: "primary"})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	get := func(path string) (http.Header, string, int) {
		res, err := client.Get("http://" + listen + path)
		if err != nil {
			return nil, err.Error(), 0
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.Header, string(body), res.StatusCode
	}
	epoch := func() string {
		h, _, _ := get("/")
		return h.Get(measure.HeaderEpoch)
	}
	eventually(t, "it serves", func() bool { _, _, code := get("/healthz"); return code == http.StatusOK })
	h, body, code := get("/")
	if code != http.StatusOK || body != "web at primary, epoch 0\n" || h.Get(measure.HeaderSite) != "primary" {
		t.Errorf("answered %d, %q, %v", code, body, h)
	}
	if _, stamped := h[http.CanonicalHeaderKey(measure.HeaderEpoch)]; stamped {
		t.Errorf("stamped epoch %q before the daemon said one", h.Get(measure.HeaderEpoch))
	}
	ns, err := strconv.ParseInt(h.Get(measure.HeaderTime), 10, 64)
	if err != nil || time.Since(time.Unix(0, ns)).Abs() > time.Minute {
		t.Errorf("stamped time %q, %v", h.Get(measure.HeaderTime), err)
	}
	if _, _, code := get("/nothing"); code != http.StatusNotFound {
		t.Errorf("a page that is not there answers %d", code)
	}

	f := startDaemon(t, socket, at("primary", 3))
	eventually(t, "it learns epoch 3", func() bool { return epoch() == "3" })
	f.set(at("primary", 5))
	eventually(t, "it learns epoch 5", func() bool { return epoch() == "5" })
	f.stop()
	if got := epoch(); got != "5" {
		t.Errorf("without its daemon it stamps epoch %q, want the last known", got)
	}
	startDaemon(t, socket, at("primary", 7))
	eventually(t, "it finds its daemon again", func() bool { return epoch() == "7" })
}

func TestParseServe(t *testing.T) {
	want := ServeOptions{Listen: "127.0.0.1:1", Control: "/run/x", Service: "web", Site: "dr"}
	args := want.args()
	if args[0] != ServeCommand {
		t.Fatalf("the subcommand is %q", args[0])
	}
	got, err := ParseServe(args[1:])
	if err != nil || got != want {
		t.Errorf("read %+v, %v", got, err)
	}
	for i := 1; i < len(args); i += 2 {
		if _, err := ParseServe(slices.Concat(args[1:i], args[i+2:])); err == nil || !strings.Contains(err.Error(), "want --listen") {
			t.Errorf("without %s: %v", args[i], err)
		}
	}
	if _, err := ParseServe(append(args[1:], "more")); err == nil {
		t.Error("took an argument too many")
	}
}
