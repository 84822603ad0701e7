package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// observer follows the cluster as the witness sees it, which no disaster of
// the demo touches, and puts every change into the timeline.
type observer struct {
	client *api.Client
	line   *timeline

	mu      sync.Mutex
	latest  *api.Status
	changed chan struct{} // closed at the next status
	record  uint64        // index of the last record shown
	show    bool          // before that, the members only find each other
	// severed is since when one of the two sites has not seen the other's
	// daemon healthy; cut is the longest such time that ended.
	severed time.Time
	cut     time.Duration
}

func newObserver(socket string, line *timeline) *observer {
	return &observer{client: api.Unix(socket), line: line, changed: make(chan struct{})}
}

// follow follows until the context ends.
func (o *observer) follow(ctx context.Context) {
	for ctx.Err() == nil {
		// A stream that ends is taken up again; a witness that is gone is
		// found by those who wait for it.
		_ = o.client.Watch(ctx, func(s *api.Status) error {
			o.take(s)
			o.records(ctx)
			return nil
		})
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// start shows changes from now on.
func (o *observer) start() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.show = true
}

func (o *observer) take(s *api.Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.latest != nil && o.show {
		for _, l := range differences(o.latest, s) {
			o.line.add(l.at, l.tone, "%s", l.text)
		}
	}
	o.measureCut(s)
	o.latest = s
	close(o.changed)
	o.changed = make(chan struct{})
}

// measureCut adds up how long the sites do not see each other.
func (o *observer) measureCut(s *api.Status) {
	blind := seenBy(s, primary, dr) != draas.Healthy || seenBy(s, dr, primary) != draas.Healthy
	switch {
	case !o.show:
	case blind && o.severed.IsZero():
		o.severed = s.At
	case !blind && !o.severed.IsZero():
		o.cut = max(o.cut, s.At.Sub(o.severed))
		o.severed = time.Time{}
	}
}

// observedCut is the longest time, that has ended, in which one site did not
// see the other.
func (o *observer) observedCut() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cut
}

func seenBy(s *api.Status, m, by draas.MemberID) draas.Verdict {
	for _, st := range s.Members {
		if st.ID == m {
			return st.SeenBy[by]
		}
	}
	return draas.Unknown
}

// records shows the new lines of the history. They are asked for after each
// status: the log's own stamps are nearer to the truth than ours.
func (o *observer) records(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	history, err := o.client.History(ctx, service, 50)
	if err != nil {
		return // the next status asks again
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	last := o.record
	for _, r := range history {
		if r.Index <= last {
			continue
		}
		o.record = max(o.record, r.Index)
		if !o.show {
			continue
		}
		l := recordLine(r)
		o.line.add(l.at, l.tone, "%s", l.text)
	}
}

// recordLine says a record in one line.
func recordLine(r failover.Record) line {
	l := line{at: r.At}
	switch r.Kind {
	case failover.RecordDecision:
		l.tone, l.text = loud, fmt.Sprintf("decided, epoch %d: %s", r.Epoch, r.Text)
	case failover.RecordRefusal:
		l.tone, l.text = doubt, r.Text
		for _, why := range r.Reasons {
			if !why.OK && why.Code != failover.ReasonVantage {
				l.text += "; " + why.Text
			}
		}
	case failover.RecordDone:
		l.tone, l.text = good, r.Text
	default:
		l.tone, l.text = plain, fmt.Sprintf("%s: %s", r.Phase, r.Text)
		if r.Phase == failover.PhaseSuspect || r.Phase == failover.PhaseConfirmed {
			l.tone = doubt
		}
	}
	return l
}

// differences says what changed between two statuses: verdicts and the leader.
func differences(was, is *api.Status) []line {
	var out []line
	add := func(t tone, format string, args ...any) {
		out = append(out, line{is.At, t, fmt.Sprintf(format, args...)})
	}
	if was.Leader != is.Leader {
		if is.Leader == "" {
			add(doubt, "no leader")
		} else {
			add(plain, "%s leads the log", is.Leader)
		}
	}
	for _, m := range is.Members {
		for _, by := range members() {
			before, now := seenBy(was, m.ID, by), seenBy(is, m.ID, by)
			if by != m.ID && before != now {
				add(toneOf(now), "%s sees the daemon of %s %s", by, m.ID, now)
			}
		}
	}
	type key struct {
		service draas.ServiceID
		site    draas.SiteID
		vantage draas.MemberID
	}
	before := make(map[key]draas.Verdict)
	for _, sv := range was.Services {
		for _, v := range sv.Views {
			before[key{sv.ID, v.Site, v.Vantage}] = v.Verdict
		}
	}
	for _, sv := range is.Services {
		for _, v := range sv.Views {
			if before[key{sv.ID, v.Site, v.Vantage}] == v.Verdict {
				continue
			}
			text := fmt.Sprintf("%s sees %s at %s %s", v.Vantage, sv.ID, v.Site, v.Verdict)
			if v.Class != "" && v.Verdict != draas.Healthy {
				text += " (" + v.Class + ")"
			}
			add(toneOf(v.Verdict), "%s", text)
		}
	}
	return out
}

func toneOf(v draas.Verdict) tone {
	switch v {
	case draas.Healthy:
		return good
	case draas.Suspect:
		return doubt
	case draas.Failed:
		return bad
	}
	return plain
}

// errWait says that something did not come about in time.
var errWait = errors.New("waited in vain")

// await waits until the status fulfils a condition. The condition returns what
// is still missing, or "". fault, asked now and then, ends the wait early.
func (o *observer) await(ctx context.Context, what string, limit time.Duration, missing func(*api.Status) string, fault func() error) (*api.Status, error) {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	lacks := "the witness does not answer"
	for {
		o.mu.Lock()
		s, changed := o.latest, o.changed
		o.mu.Unlock()
		if s != nil {
			if lacks = missing(s); lacks == "" {
				return s, nil
			}
		}
		if err := fault(); err != nil {
			return nil, fmt.Errorf("wait until %s: %w", what, err)
		}
		select {
		case <-changed:
		case <-look.C:
		case <-deadline.C:
			return nil, fmt.Errorf("%w %v until %s: %s", errWait, limit, what, lacks)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// ready says what a cluster lacks to be activated.
func ready(s *api.Status) string {
	if s.Leader == "" {
		return "the members have no leader"
	}
	if len(s.Members) < len(members()) {
		return "not every member is in the policy"
	}
	for _, m := range s.Members {
		if !m.Started || !m.SameConfig {
			return fmt.Sprintf("%s has not started with this file", m.ID)
		}
		for _, by := range members() {
			if by != m.ID && m.SeenBy[by] != draas.Healthy {
				return fmt.Sprintf("%s sees the daemon of %s %s", by, m.ID, m.SeenBy[by])
			}
		}
	}
	for _, site := range sites() {
		if v := view(s, site, site); v != draas.Healthy {
			return fmt.Sprintf("%s sees its own service %s", site, v)
		}
	}
	return ""
}

// active says what is missing until the primary serves in peace, seen healthy
// by all.
func active(s *api.Status) string {
	sv := find(s)
	if sv.Active != primary.Site() || sv.Phase != failover.PhaseNormal {
		return fmt.Sprintf("%s is %s, active at %q", service, sv.Phase, sv.Active)
	}
	for _, by := range members() {
		if v := view(s, primary, by); v != draas.Healthy {
			return fmt.Sprintf("%s sees %s at %s %s", by, service, primary, v)
		}
	}
	if v := view(s, dr, dr); v != draas.Healthy {
		return fmt.Sprintf("%s sees its own %s %s", dr, service, v)
	}
	return ""
}

// ledElsewhere says what is missing until a disaster at the active site does
// not take the log's leader along.
func ledElsewhere(s *api.Status) string {
	if s.Leader == "" || s.Leader == primary {
		return fmt.Sprintf("the log is led by %q", s.Leader)
	}
	return ""
}

// moved says what is missing until the service is lastingly at the DR site.
func moved(s *api.Status) string {
	if sv := find(s); sv.Active != dr.Site() || sv.Phase != failover.PhaseElsewhere {
		return fmt.Sprintf("%s is %s, active at %q", service, sv.Phase, sv.Active)
	}
	return ""
}

// enteredElsewhere says what is missing until users enter at the DR site.
func enteredElsewhere(s *api.Status) string {
	sv := find(s)
	if len(sv.Entries) != 1 || sv.Entries[0].Site != dr.Site() {
		return fmt.Sprintf("users enter at %v", sv.Entries)
	}
	return ""
}

// reunited says what is missing until the sites see each other again.
func reunited(s *api.Status) string {
	for _, p := range [][2]draas.MemberID{{primary, dr}, {dr, primary}} {
		if v := seenBy(s, p[0], p[1]); v != draas.Healthy {
			return fmt.Sprintf("%s sees the daemon of %s %s", p[1], p[0], v)
		}
	}
	return ""
}

func find(s *api.Status) api.ServiceStatus {
	for _, sv := range s.Services {
		if sv.ID == service {
			return sv
		}
	}
	return api.ServiceStatus{}
}

func view(s *api.Status, site, by draas.MemberID) draas.Verdict {
	for _, v := range find(s).Views {
		if v.Site == site.Site() && v.Vantage == by {
			return v.Verdict
		}
	}
	return draas.Unknown
}
