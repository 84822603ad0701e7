package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/syncer"
)

// maxSyncFailures bounds what is told of a run's failures.
const maxSyncFailures = 20

// resultOf is a run for the API.
func resultOf(o outcome) *api.SyncResult {
	r := o.result
	out := &api.SyncResult{Began: r.Began.UTC(), TookMS: r.Took.Milliseconds(), Why: o.why,
		SourceRequests: r.SourceRequests, TargetRequests: r.TargetRequests, FailedObjects: len(r.Failures)}
	if o.err != nil {
		out.Error = o.err.Error()
	}
	for _, k := range r.Kinds {
		kind := api.SyncDone{Kind: string(k.Kind), Failed: k.Failed, Bytes: k.Bytes, Done: make(map[string]int, len(k.Done))}
		for verb, n := range k.Done {
			kind.Done[string(verb)] = n
		}
		out.Kinds = append(out.Kinds, kind)
	}
	for _, f := range r.Failures[:min(len(r.Failures), maxSyncFailures)] {
		out.Failures = append(out.Failures, api.SyncFailure{Kind: string(f.Key.Kind), ID: f.Key.ID, Name: f.Name, Verb: string(f.Verb), Reason: f.Reason})
	}
	if r.Plan != nil {
		for _, verb := range []syncer.Verb{syncer.Blocked, syncer.Drift, syncer.Conflict, syncer.Held} {
			if n := r.Plan.Count(verb); n > 0 {
				out.Left = setCount(out.Left, string(verb), n)
			}
		}
	}
	return out
}

func setCount(m map[string]int, key string, n int) map[string]int {
	if m == nil {
		m = make(map[string]int)
	}
	m[key] = n
	return m
}

// sync is all that is known of the replication, for the API.
func (c *carrier) sync(now time.Time) *api.Sync {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &api.Sync{Follows: c.cfg.Sync.Follows, Target: c.site, Source: c.leg.from, Idle: c.idle, Running: c.running, Last: c.last,
		Held: c.held, Error: c.failure, Failures: c.failures, Users: c.users}
	if c.leg == (leg{}) {
		return out
	}
	out.Epoch = draas.Epoch(c.leg.epoch)
	l := c.lag(c.leg, now)
	out.Known, out.BehindMS, out.Objects, out.Bytes = l.Known, l.Age.Milliseconds(), l.Objects, l.Bytes
	if c.sched != nil {
		next, audit := c.sched.Next(c.rested)
		if c.notBefore.After(next) {
			next = c.notBefore
		}
		out.Next, out.NextAudit = utc(next), utc(audit)
	}
	for _, k := range c.status.Kinds {
		l := k.Lag(now)
		kind := api.SyncKind{Kind: string(k.Kind), Missing: k.Missing, Known: l.Known, BehindMS: l.Age.Milliseconds(), Objects: k.Objects,
			Pending: l.Objects, PendingBytes: l.Bytes, Failed: k.Failed, Error: k.Error, Through: utc(k.Through), Audited: utc(k.Audited)}
		for verb, n := range k.Verbs {
			kind.Verbs = setCount(kind.Verbs, string(verb), n)
		}
		out.Kinds = append(out.Kinds, kind)
	}
	slices.SortFunc(out.Kinds, func(a, b api.SyncKind) int { return cmp.Compare(a.Kind, b.Kind) })
	return out
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// brief is what a status has of it; nil where nothing is ever carried.
func (c *carrier) brief(now time.Time) *api.SyncBrief {
	s := c.sync(now)
	if s.Follows == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return &api.SyncBrief{Follows: s.Follows, Source: s.Source, Known: s.Known, BehindMS: s.BehindMS, Objects: s.Objects, Bytes: s.Bytes,
		Stuck: c.stuck, Differ: c.differ, Running: s.Running != nil, Held: s.Held != "", Failures: s.Failures, Error: s.Error, Users: s.Users}
}

// leftOf counts what a run has not made alike.
func leftOf(r *syncer.Result) (stuck, differ int) {
	if r.Plan != nil {
		stuck, differ = r.Plan.Count(syncer.Blocked), r.Plan.Count(syncer.Drift)+r.Plan.Count(syncer.Conflict)
	}
	for _, f := range r.Failures {
		switch f.Verb {
		case syncer.Drift, syncer.Conflict:
			differ++
		case syncer.Unsupported: // it is named, and not waited for
		default:
			stuck++
		}
	}
	return stuck, differ
}

// trigger asks for a run for a person.
func (c *carrier) trigger(audit bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.leg == (leg{}):
		return fmt.Errorf("%w: nothing is carried: %s", errRefused, c.idle)
	case c.sched == nil:
		return fmt.Errorf("%w: it has just been decided that this site stands by: ask again", errRefused)
	}
	c.asked = true
	c.sched.Trigger(audit)
	return nil
}

// syncStatus answers how this member carries the active site's cloud.
func (d *Daemon) syncStatus(context.Context, *http.Request) (any, error) {
	if d.carrier == nil {
		return &api.Sync{Idle: "a witness carries nothing"}, nil
	}
	return d.carrier.sync(time.Now()), nil
}

func (d *Daemon) serveSync(_ context.Context, r *http.Request) (any, error) {
	var t api.SyncTrigger
	if err := readBody(r, &t, api.MaxRequest); err != nil {
		return nil, err
	}
	if d.carrier == nil {
		return nil, fmt.Errorf("%w: a witness carries nothing", errRefused)
	}
	if err := d.carrier.trigger(t.Audit); err != nil {
		return nil, err
	}
	return &api.Done{Text: "a run begins, or follows the one under way"}, nil
}
