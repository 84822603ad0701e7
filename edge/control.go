package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/frontend"
)

// listenControl takes over a socket that a dead frontend left behind, and
// refuses to take that of a living one.
func listenControl(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		return nil, errors.Join(fmt.Errorf("another frontend answers at %s: give each a control socket of its own", path), conn.Close())
	}
	return api.Listen(path)
}

// serveControl answers on the control socket until ctx ends.
func (e *Edge) serveControl(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathFrontend, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(e.status()) // the client is gone if this fails
	})
	mux.HandleFunc("POST "+api.PathYield, e.serveYield)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second,
		ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelDebug)}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve control socket: %w", err)
	case <-ctx.Done():
		err := srv.Close()
		<-ended
		return err
	}
}

// serveYield gives a virtual IP up.
func (e *Edge) serveYield(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	var y api.Yield
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, api.MaxRequest)).Decode(&y)
	var to *api.Yielded
	if err == nil {
		to, err = e.yield(r.Context(), y.VIP)
	}
	var answer any = to
	if err != nil {
		w.WriteHeader(http.StatusConflict)
		answer = api.Error{Error: err.Error()}
	}
	_ = json.NewEncoder(w).Encode(answer) // the client is gone if this fails
}

// status is how the frontend is.
func (e *Edge) status() *api.FrontendStatus {
	reports := e.reports()
	vips, warnings := e.vipStatus()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := &api.FrontendStatus{Frontend: e.name, Kind: e.self.Kind, Started: e.started.UTC(), Policy: e.cfg.Digest(),
		Members: e.follow.status(e.cfg.Digest()), Reload: e.reload, LogDropped: e.lines.dropped.Load(), VIPs: vips, Warnings: warnings}
	now := e.o.Clock()
	for _, r := range reports {
		svc := e.table.Service(r.Service)
		cfg, _ := e.cfg.Service(r.Service)
		if svc == nil {
			continue
		}
		s.Services = append(s.Services, e.service(svc, &cfg, r, now))
		if w := warning(r); w != "" {
			s.Warnings = append(s.Warnings, w)
		}
	}
	heard := 0
	for _, m := range s.Members {
		if m.Error == "" && m.HeardMS >= 0 {
			heard++
		}
		if m.HeardMS >= 0 && !m.SameConfig {
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s goes by another failover.toml than this frontend", m.Member))
		}
	}
	if heard == 0 {
		s.Warnings = append(s.Warnings, "no member can be followed: what is decided from now on is not known here")
	}
	return s
}

func warning(r frontend.Report) string {
	switch {
	case r.State == frontend.Open, r.Reason == frontend.ReasonMoving:
		return ""
	case r.Reason == frontend.ReasonPassive:
		return fmt.Sprintf("%s: no member has said yet where to lead: users get 503", r.Service)
	case r.Reason == frontend.ReasonNobody:
		return fmt.Sprintf("%s: no site is active: draasd activate %s SITE", r.Service, r.Service)
	case r.Reason == frontend.ReasonDriving:
		return fmt.Sprintf("%s: the proxy was not seen to lead to %s yet", r.Service, r.Site)
	case r.Reason == frontend.ReasonLapsed:
		return fmt.Sprintf("%s: no member was heard for so long that the permit of %s has ended, and its fence needs the frontend to keep it: users get 503", r.Service, r.Site)
	}
	return ""
}

func (e *Edge) service(svc *frontend.Service, cfg *config.Service, r frontend.Report, now draas.Reading) api.FrontendService {
	st := &svc.Stats
	out := api.FrontendService{Service: svc.ID, Mode: cfg.Frontend.Mode, Listen: listens(cfg), State: r.State.String(), Reason: r.Reason,
		Site: r.Site, Epoch: r.Epoch, Outlives: svc.Spec().Outlives, PermitLeftMS: svc.Until().Left(now).Milliseconds(),
		Flights: r.Flights, Waiting: r.Held,
		Connections: st.Connections.Load(), Accepted: st.Accepted.Load(), Rejected: st.Rejected.Load(), Bad: st.Bad.Load(),
		Held: st.Held.Load(), Replayed: st.Replayed.Load(), Shed: st.Shed.Load(), Dropped: st.Dropped.Load(),
		Stalls: st.Stalls.Counts(), LongestStallMS: float64(st.Stalls.Max()) / float64(time.Millisecond)}
	if cfg.Scheme == config.SchemeHybrid {
		out.Stands = e.cfg.SiteOf(e.name)
	}
	counted := st.Sites()
	for _, site := range cfg.Sites() {
		c := counted[site]
		if c == nil {
			c = new(frontend.SiteStats)
		}
		out.Sites = append(out.Sites, siteOf(site, c))
	}
	if d, ok := e.driven[svc.ID]; ok {
		out.Driven = &api.FrontendDriven{Site: d.Want.Site, Draining: d.Want.Draining, Known: d.Done, Repairs: d.Repaired}
		if d.Err != nil {
			out.Driven.Error = d.Err.Error()
		}
	}
	return out
}

func siteOf(site draas.SiteID, c *frontend.SiteStats) api.FrontendSite {
	out := api.FrontendSite{Site: site, Requests: c.Requests.Load(), In: c.In.Load(), Out: c.Out.Load(),
		Answers: make(map[string]int64), Errors: make(map[string]int64)}
	for i := range c.Answers {
		if n := c.Answers[i].Load(); n > 0 {
			out.Answers[fmt.Sprintf("%dxx", i)] = n
		}
	}
	for i := range c.Errors {
		if n := c.Errors[i].Load(); n > 0 {
			out.Errors[frontend.Class(i).String()] = n
		}
	}
	return out
}
