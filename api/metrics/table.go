package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// The types of a family.
const (
	gauge     = "gauge"
	counter   = "counter"
	histogram = "histogram"
)

// family is a metric with all its labels. docs/metrics.md has a row for each.
type family struct {
	name, kind string
	labels     []string
	help       string
}

func (f family) full() string { return "draas_" + f.name }

func (f family) desc() *prometheus.Desc {
	return prometheus.NewDesc(f.full(), f.help, f.labels, nil)
}

func of(labels ...string) []string { return labels }

// table has every family that a member shows.
func table() []family {
	return append(append(clusterTable(), serviceTable()...), syncTable()...)
}

func clusterTable() []family {
	return []family{
		{"member_info", gauge, of("cluster", "member", "role", "profile"), "1; its labels say which member this is."},
		{"log_leader", gauge, nil, "1 at the member that leads the replicated log."},
		{"log_leader_known", gauge, nil, "1 while this member knows a leader. While it is 0 nothing is decided, and permits run out."},
		{"log_term", gauge, nil, "Term of the log: it grows with every election."},
		{"log_commit_index", gauge, nil, "Index of the last entry that is known here to be committed."},
		{"log_applied_index", gauge, nil, "Index of the last entry that has been applied here."},
		{"log_last_index", gauge, nil, "Index of the last entry that stands in this member's log."},
		{"log_contact_age_seconds", gauge, nil, "Time since this member was in touch with a majority last."},
		{"log_rejected_messages_total", counter, nil, "Messages of other members that could not be understood, since the start."},
		{"log_peer_heard_age_seconds", gauge, of("peer"), "Time since a copy of the log was heard last by this member."},
		{"log_peer_behind_entries", gauge, of("peer"), "Entries that a copy of the log is known to lack still; known to the leader only."},
		{"log_peer_quarantined", gauge, of("peer"), "1 while nothing of that member is listened to, for its log went backwards or it was copied."},
		{"generation", gauge, nil, "How often the cluster was started anew from one survivor."},
		{"decision_version", gauge, nil, "Version by which all members decide."},
		{"policy_same", gauge, of("peer"), "1 while that member goes by the failover.toml in force."},
		{"member_verdict", gauge, of("peer", "by", "verdict"), "1 for how a member's daemon is seen by another: unknown, healthy, suspect or failed."},
		{"suspicions_total", counter, nil, "Suspect verdicts of this member's own probes, since the start."},
		{"certificate_expiry_timestamp_seconds", gauge, nil, "When this member's certificate ends, or that of its CA."},
		{"alarms", gauge, of("alarm", "service"), "Alarms that stand now, by the part of their key before the first colon; service is empty where there is none."},
		{"pages_total", counter, of("result"), "Runs of the pager's command, since the start: sent or failed."},
	}
}

func serviceTable() []family {
	return []family{
		{"service_active", gauge, of("service", "site"), "1 for the site where a service or group is active, as this member has applied it."},
		{"service_epoch", gauge, of("service"), "Epoch of the latest activation; generation x 2^32 and the number in it."},
		{"service_phase", gauge, of("service", "phase"), "1 for the phase: inactive, normal, elsewhere, suspect, confirmed, fencing, redirecting or verifying."},
		{"service_moving", gauge, of("service"), "1 while a move is under way."},
		{"service_automatic", gauge, of("service"), "1 where a confirmed disaster moves it without a person."},
		{"service_paused", gauge, of("service"), "1 while automatic moves are paused."},
		{"service_unacknowledged_moves", gauge, of("service"), "Automatic moves that nobody has acknowledged."},
		{"service_flaps", gauge, of("service", "site"), "Failures at a site that are not forgotten yet."},
		{"service_verdict", gauge, of("service", "site", "by", "verdict"), "1 for how a service at a site is seen by a member."},
		{"service_data_lag_seconds", gauge, of("service", "site"), "How far a site's copy is behind, as the decision knows it; absent while it is not known."},
		{"service_last_move_timestamp_seconds", gauge, of("service", "kind"), "When the last completed move was decided."},
		{"service_last_move_duration_seconds", gauge, of("service", "kind"), "How long it took: from the first suspicion, of a planned move from the decision, until users were led to the new site."},
		{"guard_up", gauge, nil, "1 while this site's guard answers; absent at a witness."},
		{"fence_state", gauge, of("service", "state"), "1 for the state of this site's fence: open, closed or unknown."},
		{"fence_epoch", gauge, of("service"), "Epoch of the fence's last permit."},
		{"fence_upsets_total", counter, of("service"), "How often the fence was found not as the guard had left it, since the guard's start."},
		{"fence_error", gauge, of("service"), "1 while the fence is not as it should be, or cannot be looked at."},
		{"permit_remaining_seconds", gauge, of("service"), "Time left of this site's permit to serve; 0 without one."},
		{"users_as_decided", gauge, of("service", "step", "answer"), "1 for whether users are led as decided, seen from the active site: yes, no or unknown."},
		{"users_repairs", gauge, of("service", "step"), "How often that was put right within the last hour."},
		{"entry", gauge, of("service", "site"), "1 for the site at whose frontends the users of a hybrid enter."},
		{"entry_refused", gauge, of("service"), "1 while users enter where no frontend is heard."},
		{"frontend_heard_age_seconds", gauge, of("frontend"), "Time since this member heard a frontend last; absent before the first time."},
		{"frontend_requests", gauge, of("frontend", "service"), "Requests or connections under way to the active site, as the frontend said last."},
		{"frontend_waiting_requests", gauge, of("frontend", "service"), "Requests that it holds while no site can be led to."},
		{"frontend_state", gauge, of("frontend", "service", "state"), "1 for what it does with users: open, wait or shut."},
		{"vip_granted", gauge, of("vip", "frontend"), "1 for the frontend to which this member has granted a virtual IP."},
	}
}

func syncTable() []family {
	return []family{
		{"sync_following", gauge, of("source"), "1 while this site's cloud follows that of source; absent while it does not."},
		{"sync_epoch", gauge, nil, "Epoch of the runs; generation x 2^40 and the epoch."},
		{"sync_held", gauge, nil, "1 while a person has to accept what differs, after the direction has turned."},
		{"sync_failed_runs", gauge, nil, "Runs that have failed in a row."},
		{"sync_lag_known", gauge, nil, "1 once everything was carried, completely, under this epoch."},
		{"sync_lag_seconds", gauge, nil, "Since when what changed at the source may not be here; absent while it is not known."},
		{"sync_lag_objects", gauge, nil, "Objects that are known to be missing here."},
		{"sync_lag_bytes", gauge, nil, "Bytes of their content."},
		{"sync_kind_lag_seconds", gauge, of("kind"), "sync_lag_seconds of one kind."},
		{"sync_kind_watermark_timestamp_seconds", gauge, of("kind"), "The last complete watermark: what the source had then is here."},
		{"sync_kind_audit_timestamp_seconds", gauge, of("kind"), "When the last complete audit began."},
		{"sync_kind_objects", gauge, of("kind"), "Objects at the source, those left out by filters aside."},
		{"sync_kind_found_objects", gauge, of("kind", "verb"), "What the last look at both clouds wanted to be done: create, update, unchanged, drift, conflict, blocked, unsupported, held and others."},
		{"sync_kind_pending_objects", gauge, of("kind"), "Objects that are to be written still."},
		{"sync_kind_pending_bytes", gauge, of("kind"), "Bytes of their content."},
		{"sync_kind_failed_objects", gauge, of("kind"), "Objects that the last run has failed with."},
		{"sync_kind_missing", gauge, of("kind"), "1 where one of the clouds does not have the kind, which is left out then."},
		{"sync_run_in_progress", gauge, nil, "1 while a run is under way."},
		{"sync_run_done_objects", gauge, nil, "Objects that the run under way is through with."},
		{"sync_run_todo_objects", gauge, nil, "Objects that it has to do in all."},
		{"sync_run_done_bytes", gauge, nil, "Bytes that it has carried until now."},
		{"sync_run_todo_bytes", gauge, nil, "Bytes that it has to carry in all."},
		{"sync_runs_total", counter, of("why", "outcome"), "Runs since the daemon's start. why: due, audit or triggered (the first, one that is tried again, or asked for); outcome: clean, failed (objects), differs, held, error (it came to its end too early) or ended (by a move or a stop)."},
		{"sync_run_duration_seconds", histogram, of("why"), "How long they took."},
		{"sync_objects_total", counter, of("kind", "verb"), "Objects that were written since then, by what was done."},
		{"sync_failed_objects_total", counter, of("kind"), "Objects that failed."},
		{"sync_bytes_total", counter, of("kind"), "Bytes of content that were carried."},
		{"sync_requests_total", counter, of("cloud", "api"), "Requests to a cloud's services. cloud: source or target."},
		{"sync_request_retries_total", counter, of("cloud", "api"), "Those of them that were sent again."},
		{"sync_request_failures_total", counter, of("cloud", "api"), "Those that got no answer."},
		{"sync_throttled_total", counter, of("cloud", "api"), "Answers that said \"too much\" (429, or Swift's 498, or 413 with Retry-After)."},
	}
}
