package edge

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/schemes/frontend"
)

const (
	// askGrace is how long an answer may take beyond the wait that was asked
	// for. Every member is asked at the same time, so that one that is silent
	// holds nothing up.
	askGrace = 2 * time.Second
	// retryMin and retryMax are the pauses after a member did not answer.
	retryMin = 50 * time.Millisecond
	retryMax = time.Second
	// tellGap is the least time between two reports to a member: what comes
	// within it goes together.
	tellGap = 10 * time.Millisecond
	// clocks is what the wait of a request is worth on this host's clock, if
	// the member's and this one's are wrong against each other by as much as
	// they may (config.Drift each).
	clocks = 0.8
)

// member is one member that is followed, as api.Client asks it.
type member interface {
	Follow(context.Context, api.Follow) (*api.Led, error)
}

// follower keeps a table at what the members say.
type follower struct {
	name  string // of this frontend
	table *frontend.Table
	// reports is how this frontend stands to its services.
	reports func() []frontend.Report
	clock   func() draas.Reading
	log     *slog.Logger

	mu      sync.Mutex
	members map[draas.MemberID]*followed
}

// followed is what is known of one member.
type followed struct {
	id     draas.MemberID
	client member
	wait   time.Duration // how long a request may wait for news
	wake   chan struct{}

	mu       sync.Mutex
	evidence map[frontend.Evidence]bool // to be told
	heard    time.Time
	err      string
	policy   string
}

// tell asks all members to look at a back end. It never blocks.
func (f *follower) tell(e frontend.Evidence) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.members {
		m.mu.Lock()
		m.evidence[e] = true
		m.mu.Unlock()
		m.nudge()
	}
}

func (m *followed) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// add begins to follow a member.
func (f *follower) add(id draas.MemberID, client member, wait time.Duration) *followed {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := &followed{id: id, client: client, wait: wait, wake: make(chan struct{}, 1), evidence: make(map[frontend.Evidence]bool)}
	if f.members == nil {
		f.members = make(map[draas.MemberID]*followed)
	}
	f.members[id] = m
	return m
}

// reset forgets the members, before those of another file are added.
func (f *follower) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.members = nil
}

// status is what is known of the members, by name; digest is that of the own
// file.
func (f *follower) status(digest string) []api.FollowedMember {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.FollowedMember
	for _, id := range slices.Sorted(maps.Keys(f.members)) {
		m := f.members[id]
		m.mu.Lock()
		x := api.FollowedMember{Member: id, HeardMS: -1, Error: m.err, SameConfig: m.policy == digest}
		if !m.heard.IsZero() {
			x.HeardMS = time.Since(m.heard).Milliseconds()
		}
		m.mu.Unlock()
		out = append(out, x)
	}
	return out
}

// run follows the members that were added, until ctx ends.
func (f *follower) run(ctx context.Context) {
	var all sync.WaitGroup
	f.mu.Lock()
	for _, m := range f.members {
		all.Go(func() { f.ask(ctx, m) })
		all.Go(func() { f.report(ctx, m) })
	}
	f.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			all.Wait()
			return
		case <-f.table.News():
			f.mu.Lock()
			for _, m := range f.members {
				m.nudge()
			}
			f.mu.Unlock()
		}
	}
}

// ask asks a member what is decided, waits there for news, and asks again.
func (f *follower) ask(ctx context.Context, m *followed) {
	tag, retry := "", retryMin
	for ctx.Err() == nil {
		led, err := f.exchange(ctx, m, tag, nil)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			tag = ""
			pause(ctx, retry)
			retry = min(2*retry, retryMax)
			continue
		}
		tag, retry = led.Tag, retryMin
	}
}

// report tells a member at once what it may wait for.
func (f *follower) report(ctx context.Context, m *followed) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		}
		m.mu.Lock()
		evidence := slices.Collect(maps.Keys(m.evidence))
		clear(m.evidence)
		m.mu.Unlock()
		// One that does not answer is found out by ask; what it was to be told
		// is old when it comes back.
		_, _ = f.exchange(ctx, m, "", evidence)
		pause(ctx, tellGap)
	}
}

// exchange tells a member how this frontend stands and takes over what it
// answers. With a tag the member waits for news.
func (f *follower) exchange(ctx context.Context, m *followed, tag string, evidence []frontend.Evidence) (*api.Led, error) {
	ask := api.Follow{Frontend: f.name, Tag: tag}
	limit := askGrace
	if tag != "" {
		ask.WaitMS = m.wait.Milliseconds()
		limit += m.wait
	}
	for _, r := range f.reports() {
		ask.Services = append(ask.Services, api.FollowReport{Service: r.Service, Epoch: r.Epoch, Site: r.Site,
			State: r.State.String(), Reason: r.Reason, Flights: r.Flights, Held: r.Held})
	}
	for _, e := range evidence {
		ask.Evidence = append(ask.Evidence, api.FollowEvidence{Service: e.Service, Site: e.Site, Epoch: e.Epoch, Class: e.Class.String()})
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	asked := f.clock()
	led, err := m.client.Follow(limited, ask)
	if err == nil {
		err = f.take(asked, led)
	}
	if ctx.Err() == nil { // else it is this frontend that ends
		f.note(m, led, err)
	}
	return led, err
}

// take takes over what a member says.
func (f *follower) take(asked draas.Reading, led *api.Led) error {
	var errs []error
	asked = asked.Add(time.Duration(clocks * float64(led.WaitedNS)))
	for _, x := range led.Services {
		err := f.table.Apply(asked, x.Service, frontend.Decision{Epoch: x.Epoch, Site: x.Active,
			Moving: x.Moving, Released: x.Released, Permit: time.Duration(x.PermitNS)})
		if !errors.Is(err, draas.ErrStaleEpoch) { // that is a member that is behind
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// note logs when a member is lost and found, and keeps it for status.
func (f *follower) note(m *followed, led *api.Led, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err != nil && m.err == "":
		m.err = err.Error()
		f.log.Warn("a member cannot be followed; asking again", "member", m.id, "err", err)
	case err == nil && (m.err != "" || m.heard.IsZero()):
		m.err = ""
		f.log.Info("following", "member", m.id)
	}
	if err == nil {
		m.heard, m.policy = time.Now(), led.Policy
	}
}

// trouble is why a member cannot be followed; empty: it can.
func (m *followed) trouble() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
