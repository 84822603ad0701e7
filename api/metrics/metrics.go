// Package metrics shows Prometheus what a member knows: it draws the answers of
// the control API as metrics, and counts the runs of the replication.
// docs/metrics.md describes each for users.
package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
)

// Path is where they are served.
const Path = "/metrics"

// View is what a member knows at one instant.
type View struct {
	// Status is this member's own, without what others report.
	Status *api.Status
	Role   draas.Role
	Log    Log
	Alarms []Alarm
	Pages  Pages
	Sync   *api.Sync // nil: a witness, which carries nothing
}

// Log is how far this member's log is.
type Log struct {
	Commit, Last uint64
	Rejected     uint64        // messages that were not understood
	Touch        time.Duration // since the last contact with a majority; negative: never
}

// Alarm is one that stands.
type Alarm struct {
	Name    string // of few: no names of objects in it
	Service draas.ServiceID
}

// Pages counts the runs of the pager's command since the start.
type Pages struct{ Sent, Failed uint64 }

// Handler serves the metrics of a member. look is asked for each scrape; while
// it fails a scrape does, too. runs may be nil.
func Handler(look func(context.Context) (View, error), runs *Runs, log *slog.Logger) http.Handler {
	process := prometheus.NewRegistry()
	process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if runs != nil {
		process.MustRegister(runs)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := look(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		member := prometheus.NewPedanticRegistry()
		if err := member.Register(&v); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		// Not compressed: it is small, and the next hop is near.
		promhttp.HandlerFor(prometheus.Gatherers{member, process}, promhttp.HandlerOpts{
			EnableOpenMetrics: true, DisableCompression: true, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		}).ServeHTTP(w, r)
	})
}

// sink takes metrics of the table by their names.
type sink struct {
	known map[string]family
	out   chan<- prometheus.Metric
}

func newSink(out chan<- prometheus.Metric) sink {
	s := sink{make(map[string]family), out}
	for _, f := range table() {
		s.known[f.name] = f
	}
	return s
}

// put shows a value. A name or number of labels that is not the table's fails the
// scrape.
func (s sink) put(name string, v float64, labels ...string) {
	f, has := s.known[name]
	if !has {
		err := fmt.Errorf("there is no metric %s", name)
		s.out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	kind := prometheus.GaugeValue
	if f.kind == counter {
		kind = prometheus.CounterValue
	}
	m, err := prometheus.NewConstMetric(f.desc(), kind, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(f.desc(), err)
	}
	s.out <- m
}

func (s sink) flag(name string, v bool, labels ...string) {
	n := 0.0
	if v {
		n = 1
	}
	s.put(name, n, labels...)
}

// state shows which of the states it is in; the state is the last label.
func (s sink) state(name string, states []string, is string, labels ...string) {
	known := false
	for _, one := range states {
		s.flag(name, one == is, append(labels[:len(labels):len(labels)], one)...)
		known = known || one == is
	}
	if !known && is != "" { // of a later version
		s.flag(name, true, append(labels[:len(labels):len(labels)], is)...)
	}
}

func (s sink) when(name string, t time.Time, labels ...string) {
	if !t.IsZero() {
		s.put(name, float64(t.UnixMilli())/1000, labels...)
	}
}

func (s sink) ms(name string, ms int64, labels ...string) {
	s.put(name, float64(ms)/1000, labels...)
}

// Describe implements prometheus.Collector.
func (v *View) Describe(out chan<- *prometheus.Desc) {
	for _, f := range table() {
		if !f.counted() {
			out <- f.desc()
		}
	}
}

// Collect implements prometheus.Collector.
func (v *View) Collect(out chan<- prometheus.Metric) {
	s := newSink(out)
	v.cluster(s)
	for _, svc := range v.Status.Services {
		v.service(s, svc)
	}
	for _, r := range v.Status.Reported {
		if r.Member == v.Status.Self {
			v.reported(s, r)
		}
	}
	if v.Sync != nil && v.Sync.Follows != "" {
		v.sync(s)
	}
}

func verdicts() []string {
	return []string{draas.Unknown.String(), draas.Healthy.String(), draas.Suspect.String(), draas.Failed.String()}
}

// cluster draws the log, the members and the alarms.
func (v *View) cluster(s sink) {
	st := v.Status
	s.put("member_info", 1, st.Cluster, string(st.Self), string(v.Role), st.Profile)
	s.flag("log_leader", st.Leader == st.Self)
	s.flag("log_leader_known", st.Leader != "")
	s.put("log_term", float64(st.Term))
	s.put("log_commit_index", float64(v.Log.Commit))
	s.put("log_applied_index", float64(st.Applied))
	s.put("log_last_index", float64(v.Log.Last))
	s.put("log_rejected_messages_total", float64(v.Log.Rejected))
	if v.Log.Touch >= 0 {
		s.put("log_contact_age_seconds", v.Log.Touch.Seconds())
	}
	v.copies(s)
	s.put("generation", float64(st.Generation))
	s.put("decision_version", float64(st.Version))
	for _, m := range st.Members {
		s.flag("policy_same", m.SameConfig, string(m.ID))
		for by, verdict := range m.SeenBy {
			s.state("member_verdict", verdicts(), verdict.String(), string(m.ID), string(by))
		}
	}
	standing := make(map[Alarm]int)
	for _, a := range v.Alarms {
		standing[a]++
	}
	for a, n := range standing {
		s.put("alarms", float64(n), a.Name, string(a.Service))
	}
	s.put("pages_total", float64(v.Pages.Sent), "sent")
	s.put("pages_total", float64(v.Pages.Failed), "failed")
}

// copies draws the other copies of the log. While a member is replaced there are
// two of its name: the voter's counts.
func (v *View) copies(s sink) {
	best := make(map[draas.MemberID]api.LogMember)
	for _, m := range v.Status.Log {
		if was, has := best[m.ID]; !has || was.Role != api.LogVoter && m.Role == api.LogVoter {
			best[m.ID] = m
		}
	}
	for id, m := range best {
		if id == v.Status.Self {
			continue
		}
		if m.HeardMS >= 0 {
			s.ms("log_peer_heard_age_seconds", m.HeardMS, string(id))
		}
		if v.Status.Leader == v.Status.Self {
			s.put("log_peer_behind_entries", max(0, float64(v.Log.Last)-float64(m.Match)), string(id))
		}
		s.flag("log_peer_quarantined", m.Quarantine != "", string(id))
	}
}

// reported draws what this member says of itself.
func (v *View) reported(s sink, r api.Reported) {
	s.put("suspicions_total", float64(r.Suspicions))
	s.when("certificate_expiry_timestamp_seconds", r.CertificateEnds)
	if v.Role == draas.RoleSite {
		s.flag("guard_up", r.Error == "")
	}
	for _, f := range r.Fences {
		s.state("fence_state", []string{"open", "closed", "unknown"}, f.State, string(f.Service))
		s.put("fence_epoch", float64(f.Epoch), string(f.Service))
		s.put("fence_upsets_total", float64(f.Upsets), string(f.Service))
		s.flag("fence_error", f.Error != "", string(f.Service))
		s.ms("permit_remaining_seconds", max(0, f.PermitLeftMS), string(f.Service))
	}
	for _, u := range r.Users {
		s.state("users_as_decided", []string{"yes", "no", "unknown"}, u.AsDecided, string(u.Service), u.Step)
		s.put("users_repairs", float64(u.Repairs), string(u.Service), u.Step)
	}
	for _, f := range r.Frontends {
		if f.HeardMS >= 0 {
			s.ms("frontend_heard_age_seconds", f.HeardMS, f.Frontend)
		}
		if f.HeardMS < 0 || f.HeardMS > api.FrontendFresh.Milliseconds() {
			continue // what it said is not so any more
		}
		for _, svc := range f.Services {
			s.put("frontend_requests", float64(svc.Flights), f.Frontend, string(svc.Service))
			s.put("frontend_waiting_requests", float64(svc.Held), f.Frontend, string(svc.Service))
			s.state("frontend_state", []string{"open", "wait", "shut"}, svc.State, f.Frontend, string(svc.Service))
		}
	}
	for _, vip := range r.VIPs {
		for _, h := range vip.Holders {
			s.flag("vip_granted", vip.Granted == h.Frontend, vip.VIP, h.Frontend)
		}
	}
}
