package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of a run.
const (
	Clean   = "clean"
	Failed  = "failed"  // objects
	Differs = "differs" // drift or conflicts
	Held    = "held"
	Error   = "error" // it came to its end too early
	Ended   = "ended" // by a move or a stop
)

// Runs counts what the runs of the replication have done since the start. Its
// methods may be called at the same time.
type Runs struct {
	counters map[string]*prometheus.CounterVec
	took     *prometheus.HistogramVec
}

// NewRuns counts from zero.
func NewRuns() *Runs {
	r := &Runs{counters: make(map[string]*prometheus.CounterVec)}
	for _, f := range syncTable() {
		switch f.kind {
		case counter:
			r.counters[f.name] = prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.full(), Help: f.help}, f.labels)
		case histogram:
			r.took = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.full(), Help: f.help,
				Buckets: []float64{.1, .3, 1, 3, 10, 30, 60, 120, 300, 900, 1800, 3600, 4 * 3600}}, f.labels)
		}
	}
	return r
}

// counted reports whether Runs shows a family.
func (f family) counted() bool {
	if f.kind == gauge {
		return false
	}
	for _, s := range syncTable() {
		if s.name == f.name {
			return true
		}
	}
	return false
}

func (r *Runs) add(name string, n int64, labels ...string) {
	r.counters[name].WithLabelValues(labels...).Add(float64(n))
}

// Ran counts a run.
func (r *Runs) Ran(why, outcome string, took time.Duration) {
	r.add("sync_runs_total", 1, why, outcome)
	r.took.WithLabelValues(why).Observe(took.Seconds())
}

// Objects counts n objects of a kind about which a verb was done.
func (r *Runs) Objects(kind, verb string, n int) { r.add("sync_objects_total", int64(n), kind, verb) }

// Carried counts the objects of a kind that failed, and the bytes that were
// carried of it.
func (r *Runs) Carried(kind string, failed int, bytes int64) {
	r.add("sync_failed_objects_total", int64(failed), kind)
	r.add("sync_bytes_total", bytes, kind)
}

// Requests are those of a run to one service.
type Requests struct{ Sent, Retries, Failed, Throttled int64 }

// Requests counts those to a service of a cloud, which is the source or the
// target.
func (r *Runs) Requests(cloud, service string, n Requests) {
	r.add("sync_requests_total", n.Sent, cloud, service)
	r.add("sync_request_retries_total", n.Retries, cloud, service)
	r.add("sync_request_failures_total", n.Failed, cloud, service)
	r.add("sync_throttled_total", n.Throttled, cloud, service)
}

// Describe implements prometheus.Collector.
func (r *Runs) Describe(out chan<- *prometheus.Desc) {
	for _, c := range r.counters {
		c.Describe(out)
	}
	r.took.Describe(out)
}

// Collect implements prometheus.Collector.
func (r *Runs) Collect(out chan<- prometheus.Metric) {
	for _, c := range r.counters {
		c.Collect(out)
	}
	r.took.Collect(out)
}
