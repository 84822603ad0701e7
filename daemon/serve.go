package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/metrics"
	"github.com/draasd/draas/failover"
)

const (
	// apiTimeout bounds one answer, the wait for a decision included.
	apiTimeout = 10 * time.Second
	// watchEvery is how often a watcher hears even when nothing changed, so
	// that permits are seen to run.
	watchEvery = time.Second
	maxHistory = 1000
)

var errNotFound = errors.New("not found")

// handler serves the control API.
func (d *Daemon) handler() http.Handler {
	mux := d.routes()
	return d.onlyFollow(mux)
}

func (d *Daemon) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathStatus, d.get(func(ctx context.Context, r *http.Request) (any, error) {
		return d.status(ctx, r.FormValue("local") != "")
	}))
	mux.HandleFunc("GET "+api.PathWhy, d.get(func(ctx context.Context, r *http.Request) (any, error) {
		return d.why(ctx, draas.ServiceID(r.FormValue("service")))
	}))
	mux.HandleFunc("GET "+api.PathHistory, d.get(func(ctx context.Context, r *http.Request) (any, error) {
		limit, err := strconv.Atoi(r.FormValue("limit"))
		if err != nil || limit < 1 || limit > maxHistory {
			limit = maxHistory
		}
		return d.history(ctx, draas.ServiceID(r.FormValue("service")), limit)
	}))
	mux.HandleFunc("GET "+api.PathWatch, d.serveWatch)
	mux.HandleFunc("POST "+api.PathRequest, d.get(d.serveRequest))
	mux.HandleFunc("POST "+api.PathReload, d.get(func(ctx context.Context, _ *http.Request) (any, error) { return d.reload(ctx) }))
	mux.HandleFunc("POST "+api.PathLeave, d.get(func(ctx context.Context, _ *http.Request) (any, error) { return d.leaveForGood(ctx) }))
	mux.HandleFunc("POST "+api.PathForce, d.get(d.serveForce))
	mux.HandleFunc("POST "+api.PathFollow, d.get(d.serveFollow))
	mux.HandleFunc("POST "+api.PathHold, d.get(d.serveHold))
	mux.HandleFunc("GET "+api.PathSync, d.get(d.syncStatus))
	mux.HandleFunc("POST "+api.PathSync, d.get(d.serveSync))
	mux.Handle("GET "+metrics.Path, d.metricsHandler())
	return mux
}

func (d *Daemon) get(f func(context.Context, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), apiTimeout)
		defer cancel()
		answer, err := f(ctx, r)
		if err != nil {
			code := http.StatusServiceUnavailable
			var bad badRequest
			switch {
			case errors.Is(err, errRefused):
				code = http.StatusConflict
			case errors.Is(err, errNotFound):
				code = http.StatusNotFound
			case errors.As(err, &bad):
				code = http.StatusBadRequest
			}
			writeJSON(w, code, api.Error{Error: err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// The client is gone if this fails: nobody is left to be told.
	_ = json.NewEncoder(w).Encode(v)
}

type badRequest struct{ error }

func readBody(r *http.Request, into any, most int64) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, most))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return badRequest{fmt.Errorf("read request: %w", err)}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badRequest{errors.New("read request: more than one object in it")}
	}
	return nil
}

func (d *Daemon) serveForce(ctx context.Context, r *http.Request) (any, error) {
	var f api.Force
	if err := readBody(r, &f, api.MaxRequest); err != nil {
		return nil, err
	}
	return d.startAnew(ctx, f)
}

func (d *Daemon) serveRequest(ctx context.Context, r *http.Request) (any, error) {
	var req api.Request
	if err := readBody(r, &req, api.MaxRequest); err != nil {
		return nil, err
	}
	if req.Service == "" || (req.Move == "") == (req.Ask == "") {
		return nil, badRequest{errors.New("a request names a service, and a move or what else is asked for")}
	}
	if req.Ask != "" {
		if err := d.mayAsk(ctx, req.Ask); err != nil {
			return nil, err
		}
	}
	rec, err := d.loop.request(ctx, req.Service, req.Site, req.Request)
	if err != nil {
		return nil, err
	}
	return &api.Answer{Accepted: rec.Kind != failover.RecordRefusal, Record: rec}, nil
}

// askVersion is the version of the decision that knows what can be asked for
// beside moves.
func askVersion(ask failover.Ask) int {
	if ask == failover.AskEnter {
		return 3
	}
	return 2
}

// mayAsk says who keeps the cluster from understanding the request.
func (d *Daemon) mayAsk(ctx context.Context, ask failover.Ask) error {
	p, err := d.picture(ctx)
	if err != nil || p.state.Version >= askVersion(ask) {
		return err
	}
	for _, m := range p.state.Policy.Members {
		switch st := p.state.Members[m.ID]; {
		case st == nil:
			return fmt.Errorf("%s has never started: until then its version is not known, and %s cannot be asked for", m.ID, ask)
		case st.Version < askVersion(ask):
			return fmt.Errorf("%s runs an older draasd: until it is upgraded %s cannot be asked for", m.ID, ask)
		}
	}
	return errors.New("the members have not agreed on a version yet: ask again")
}

// serveWatch streams the status after every change, one JSON object a line.
func (d *Daemon) serveWatch(w http.ResponseWriter, r *http.Request) {
	news, stop := d.loop.watch()
	defer stop()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	for {
		s, err := d.status(r.Context(), true)
		if err != nil {
			return
		}
		_ = out.SetWriteDeadline(time.Now().Add(apiTimeout))
		if err := enc.Encode(s); err != nil {
			return // the watcher has gone
		}
		if err := out.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-d.stopping:
			return
		case <-news:
		case <-tick.C:
		}
	}
}

// serveOn serves the API, or a part of it, on a listener until ctx ends.
func (d *Daemon) serveOn(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err := srv.Shutdown(grace)
	if err != nil {
		err = srv.Close()
	}
	<-ended // http.ErrServerClosed
	if err != nil {
		return fmt.Errorf("stop serving on %s: %w", ln.Addr(), err)
	}
	return nil
}
