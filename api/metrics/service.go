package metrics

import (
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

func phases() []string {
	var all []string
	for _, p := range []failover.Phase{failover.PhaseInactive, failover.PhaseNormal, failover.PhaseElsewhere, failover.PhaseSuspect,
		failover.PhaseConfirmed, failover.PhaseFencing, failover.PhaseRedirecting, failover.PhaseVerifying} {
		all = append(all, string(p))
	}
	return all
}

// service draws what is decided of a service or group, and what is seen of it.
func (v *View) service(s sink, svc api.ServiceStatus) {
	id := string(svc.ID)
	for _, site := range v.sites() {
		s.flag("service_active", svc.Active == site, id, string(site))
	}
	s.put("service_epoch", float64(svc.Epoch), id)
	s.state("service_phase", phases(), string(svc.Phase), id)
	s.flag("service_moving", svc.Move != nil, id)
	s.flag("service_automatic", svc.Automatic, id)
	s.flag("service_paused", svc.Pause != nil, id)
	s.put("service_unacknowledged_moves", float64(svc.Unacked), id)
	for _, f := range svc.Flaps {
		s.put("service_flaps", float64(f.Failures), id, string(f.Site))
	}
	for _, view := range svc.Views {
		part := view.Service
		if part == "" {
			part = svc.ID
		}
		s.state("service_verdict", verdicts(), view.Verdict.String(), string(part), string(view.Site), string(view.Vantage))
	}
	for _, l := range svc.Lags {
		if l.Known {
			s.ms("service_data_lag_seconds", l.BehindMS, id, string(l.Site))
		}
	}
	for _, e := range svc.Entries {
		for _, site := range v.sites() {
			s.flag("entry", e.Site == site, string(e.Service), string(site))
		}
		s.flag("entry_refused", e.Refused != "", string(e.Service))
	}
	if m := svc.Last; m != nil {
		s.when("service_last_move_timestamp_seconds", m.Times.Decided, id, string(m.Kind))
		if took := lasted(m); took > 0 {
			s.put("service_last_move_duration_seconds", took.Seconds(), id, string(m.Kind))
		}
	}
}

// sites of the cluster.
func (v *View) sites() []draas.SiteID {
	var all []draas.SiteID
	for _, m := range v.Status.Members {
		if m.Role == draas.RoleSite {
			all = append(all, m.ID.Site())
		}
	}
	return all
}

// lasted is how long a move took; 0: not known.
func lasted(m *failover.Move) time.Duration {
	from, to := m.Times.Decided, m.Times.Redirected
	if s := m.Times.Suspected; !m.Kind.Planned() && !s.IsZero() && s.Before(from) {
		from = s
	}
	if to.IsZero() {
		to = m.Times.Verified
	}
	if from.IsZero() || to.IsZero() {
		return 0
	}
	return max(0, to.Sub(from))
}

// sync draws how this site's cloud follows another.
func (v *View) sync(s sink) {
	y := v.Sync
	if y.Source == "" {
		return // it is the source itself, or nothing is active: what was carried once says nothing
	}
	s.put("sync_following", 1, string(y.Source))
	s.put("sync_epoch", float64(y.Epoch))
	s.flag("sync_held", y.Held != "")
	s.put("sync_failed_runs", float64(y.Failures))
	s.flag("sync_lag_known", y.Known)
	if y.Known {
		s.ms("sync_lag_seconds", y.BehindMS)
	}
	s.put("sync_lag_objects", float64(y.Objects))
	s.put("sync_lag_bytes", float64(y.Bytes))
	for _, k := range y.Kinds {
		kind := k.Kind
		s.flag("sync_kind_missing", k.Missing != "", kind)
		if k.Missing != "" {
			continue
		}
		if k.Known {
			s.ms("sync_kind_lag_seconds", k.BehindMS, kind)
		}
		s.when("sync_kind_watermark_timestamp_seconds", k.Through, kind)
		s.when("sync_kind_audit_timestamp_seconds", k.Audited, kind)
		s.put("sync_kind_objects", float64(k.Objects), kind)
		for verb, n := range k.Verbs {
			s.put("sync_kind_found_objects", float64(n), kind, verb)
		}
		s.put("sync_kind_pending_objects", float64(k.Pending), kind)
		s.put("sync_kind_pending_bytes", float64(k.PendingBytes), kind)
		s.put("sync_kind_failed_objects", float64(k.Failed), kind)
	}
	run := y.Running
	s.flag("sync_run_in_progress", run != nil)
	if run == nil {
		return
	}
	s.put("sync_run_done_objects", float64(run.Done))
	s.put("sync_run_todo_objects", float64(run.ToDo))
	s.put("sync_run_done_bytes", float64(run.Bytes))
	s.put("sync_run_todo_bytes", float64(run.Carry))
}
