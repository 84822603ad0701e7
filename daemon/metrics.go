package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/draasd/draas/api/metrics"
	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// metrics is what this member knows, for Prometheus. No other member is asked:
// a scrape is not to depend on them, and each is scraped.
func (d *Daemon) metrics(ctx context.Context) (metrics.View, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	p, err := d.picture(ctx)
	if err != nil {
		return metrics.View{}, err
	}
	s, alarms := d.overviewOf(ctx, p, true)
	v := metrics.View{Status: s, Role: d.now().self.Role, Pages: metrics.Pages{Sent: d.paged.sent.Load(), Failed: d.paged.failed.Load()},
		Log: metrics.Log{Commit: p.core.Commit, Last: p.core.Last, Rejected: p.core.Rejected, Touch: -1}}
	if p.core.Contact > 0 {
		v.Log.Touch = max(0, p.now.Boot-p.core.Contact)
	}
	for _, a := range alarms {
		name, _, _ := strings.Cut(a.key, ":")
		v.Alarms = append(v.Alarms, metrics.Alarm{Name: name, Service: a.service})
	}
	if d.carrier != nil {
		v.Sync = d.carrier.sync(time.Now())
	}
	return v, nil
}

// metricsHandler serves them.
func (d *Daemon) metricsHandler() http.Handler { return metrics.Handler(d.metrics, d.synced, d.log) }

// listenMetrics listens where the file says that metrics are shown to whoever
// asks; nil where it does not.
func (d *Daemon) listenMetrics(undo *cleanups) (net.Listener, error) {
	at := d.now().self.Metrics
	if at == "" {
		return nil, nil
	}
	ln, err := net.Listen("tcp", at)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics: %w", err)
	}
	undo.add("close metrics", func() error { return closed(ln.Close()) })
	return ln, nil
}

// onlyMetrics answers nothing else.
func (d *Daemon) onlyMetrics() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+metrics.Path, d.metricsHandler())
	return mux
}

// traffic is what was asked of a cloud's services.
type traffic struct {
	cloud string // source or target
	stats []cloud.Stats
}

// traffic is what was asked of both clouds since the replication was opened.
func (r *Replication) traffic() []traffic {
	var all []traffic
	for i, s := range r.sessions {
		all = append(all, traffic{[]string{"source", "target"}[i], s.Stats()})
	}
	return all
}

// count adds a run to the metrics.
func (c *carrier) count(o outcome, ended bool) {
	if !o.begun {
		return
	}
	c.counts.Ran(o.why, outcomeOf(o, ended), time.Since(o.began))
	for _, t := range o.traffic {
		for _, s := range t.stats {
			c.counts.Requests(t.cloud, s.Service, metrics.Requests{Sent: s.Requests, Retries: s.Retries, Failed: s.Failed, Throttled: s.Throttled})
		}
	}
	if o.result == nil {
		return
	}
	for _, k := range o.result.Kinds {
		for verb, n := range k.Done {
			c.counts.Objects(string(k.Kind), string(verb), n)
		}
		c.counts.Carried(string(k.Kind), k.Failed, k.Bytes)
	}
}

// outcomeOf names what became of a run.
func outcomeOf(o outcome, ended bool) string {
	switch {
	case ended:
		return metrics.Ended
	case errors.Is(o.err, syncer.ErrHeld) && o.result != nil:
		return metrics.Held
	case o.err != nil:
		return metrics.Error
	}
	switch o.result.Outcome() {
	case syncer.Failed:
		return metrics.Failed
	case syncer.Differs:
		return metrics.Differs
	}
	return metrics.Clean
}
