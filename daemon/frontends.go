package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/health"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/schemes/frontend"
)

// maxFollowWait bounds how long a frontend's request waits for news.
const maxFollowWait = 5 * time.Second

// frontends is what this member tells the frontends, and what it has heard of
// them. Frontends follow the log through any member; they decide nothing.
type frontends struct {
	clock func() draas.Reading
	look  func(health.Key) bool // asks for an immediate look
	poke  func()                // makes the main loop turn

	mu   sync.Mutex
	w    *wiring
	led  []api.LedService // without permits
	tag  string
	news chan struct{} // closed when tag changes
	// permits is until when each unit's site may be led to, as this member
	// knows it; units is the unit of each service.
	permits map[draas.ServiceID]draas.Deadline
	units   map[draas.ServiceID]draas.ServiceID
	renewed map[draas.ServiceID]time.Duration
	touched draas.Reading // when it was in touch with a quorum, before the last turn
	heard   map[string]*heardFrontend
	told    chan struct{} // closed when heard changes
	drains  map[draas.ServiceID]*drain
	hearing hearing
}

// heardFrontend is what a frontend said of itself last.
type heardFrontend struct {
	at      time.Duration // boot clock
	ended   time.Duration // boot clock: when it left in the middle of that request; 0: it did not
	unable  time.Duration // boot clock: since when it has led nobody; 0: it does
	reports map[draas.ServiceID]frontend.Report
}

func newFrontends(clock func() draas.Reading) *frontends {
	return &frontends{clock: clock, news: make(chan struct{}), told: make(chan struct{}),
		heard: make(map[string]*heardFrontend), drains: make(map[draas.ServiceID]*drain)}
}

// restart forgets what an earlier run on the log knew.
func (f *frontends) restart(look func(health.Key) bool, poke func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.look, f.poke, f.led, f.tag, f.touched = look, poke, nil, "", draas.Reading{}
	f.heard = make(map[string]*heardFrontend) // the end of that run has ended their requests
	f.hearing.since, f.hearing.said = f.clock().Boot, make(map[string]failover.Observation)
	f.permits, f.renewed = make(map[draas.ServiceID]draas.Deadline), make(map[draas.ServiceID]time.Duration)
	for id, d := range f.drains {
		d.wake.Stop()
		delete(f.drains, id)
	}
}

// use takes over the frontends and services of a wiring.
func (f *frontends) use(w *wiring) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.w, f.units = w, make(map[draas.ServiceID]draas.ServiceID)
	for unit, parts := range w.units {
		for _, id := range parts {
			f.units[id] = unit
		}
	}
	f.hearing.use(w.cfg)
	for name := range f.heard {
		if !slices.ContainsFunc(w.cfg.Frontends, func(x config.Frontend) bool { return x.ID == name }) {
			delete(f.heard, name)
		}
	}
}

// publish tells the frontends what is decided, if that is news.
func (f *frontends) publish(s failover.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var led []api.LedService
	for i := range f.w.cfg.Services {
		svc := &f.w.cfg.Services[i]
		sv := s.Services[f.units[svc.ID]]
		if !svc.Fronted() || sv == nil {
			continue
		}
		led = append(led, api.LedService{Service: svc.ID, Epoch: sv.Epoch, Active: sv.Active, Moving: sv.Revoked, Released: sv.Released})
	}
	if slices.Equal(led, f.led) && f.tag != "" {
		return
	}
	f.led = led
	// It tells one answer of this run from another, also after a restart.
	f.tag = fmt.Sprintf("%x.%x", f.clock().Boot, s.Index)
	close(f.news)
	f.news = make(chan struct{})
}

// permit is read in the main loop after each of its turns. A permit of this
// member's own counts as it does for its guard. Of another's renewal this
// member knows that it was not committed when it was last in touch before it
// applied it, and a successor waits longer than from there: see failover.Lease.
func (f *frontends) permit(l *loop, inTouch draas.Reading, now draas.Reading) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.led) == 0 {
		return
	}
	s := l.replica.State()
	for _, unit := range s.ServiceIDs() {
		sv := s.Services[unit]
		if sv.Active.Member() == l.replica.Self() {
			_, f.permits[unit], _ = l.replica.Permit(unit, now) // without one: over
			continue
		}
		f.another(unit, l.replica.Renewed(unit), s.Policy.Services[unit].Lease.Hold())
	}
	if inTouch != (draas.Reading{}) {
		f.touched = inTouch
	}
}

// another counts the permit of another member, given when this one applied its
// last renewal. f.mu is held.
func (f *frontends) another(unit draas.ServiceID, renewed, hold time.Duration) {
	if renewed == f.renewed[unit] {
		return
	}
	f.renewed[unit] = renewed
	delete(f.permits, unit)
	if renewed != 0 && f.touched != (draas.Reading{}) {
		f.permits[unit] = draas.DeadlineAt(f.touched, hold)
	}
}

// follow answers a frontend.
func (f *frontends) follow(ctx context.Context, self draas.MemberID, ask api.Follow) (*api.Led, error) {
	start := f.clock()
	if err := f.hear(ask, start); err != nil {
		return nil, err
	}
	for _, e := range ask.Evidence {
		f.look(health.Key{Service: e.Service, Site: e.Site})
	}
	wait := time.NewTimer(min(time.Duration(ask.WaitMS)*time.Millisecond, maxFollowWait))
	defer wait.Stop()
	f.mu.Lock()
	if f.tag == ask.Tag && ask.WaitMS > 0 {
		news := f.news
		f.mu.Unlock()
		select {
		case <-news:
		case <-wait.C:
		case <-ctx.Done():
			f.ended(ask.Frontend, start)
			return nil, ctx.Err()
		}
		f.mu.Lock()
	}
	defer f.mu.Unlock()
	now := f.clock()
	answer := &api.Led{Member: self, Tag: f.tag, WaitedNS: int64(now.Sub(start)), Policy: f.w.cfg.Digest()}
	for _, x := range f.led {
		x.PermitNS = int64(f.permits[f.units[x.Service]].Left(now))
		answer.Services = append(answer.Services, x)
	}
	return answer, nil
}

// hear takes what a frontend says of itself.
func (f *frontends) hear(ask api.Follow, now draas.Reading) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.w == nil || f.tag == "" {
		return errors.New("this member has not caught up yet")
	}
	if !slices.ContainsFunc(f.w.cfg.Frontends, func(x config.Frontend) bool { return x.ID == ask.Frontend }) {
		return fmt.Errorf("%w: there is no [frontend.%s] in the file that this member goes by", errNotFound, ask.Frontend)
	}
	h := &heardFrontend{at: now.Boot, reports: make(map[draas.ServiceID]frontend.Report, len(ask.Services))}
	for _, r := range ask.Services {
		h.reports[r.Service] = frontend.Report{Service: r.Service, Epoch: r.Epoch, Site: r.Site,
			State: frontend.ParseState(r.State), Reason: r.Reason, Flights: r.Flights, Held: r.Held}
	}
	if f.hearing.unable(ask.Frontend, h.reports) {
		h.unable = now.Boot
		if was := f.heard[ask.Frontend]; was != nil && was.unable != 0 {
			h.unable = was.unable
		}
	}
	f.heard[ask.Frontend] = h
	close(f.told)
	f.told = make(chan struct{})
	if len(f.drains) > 0 {
		f.poke()
	}
	return nil
}

// followers is what the frontends of a service last said of it.
func (f *frontends) followers(id draas.ServiceID) ([]frontend.Follower, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.of(id, f.clock()), f.told
}

func (f *frontends) of(id draas.ServiceID, now draas.Reading) []frontend.Follower {
	svc, _ := f.w.cfg.Service(id)
	var all []frontend.Follower
	for _, name := range svc.Frontend.Use {
		x := frontend.Follower{Frontend: name}
		if f.hears(name, now) {
			x.Report, x.Heard = f.heard[name].reports[id]
		}
		all = append(all, x)
	}
	return all
}

// seen is what was heard of the frontends of the file, by name.
func (f *frontends) seen(now draas.Reading) []api.FrontendSeen {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []api.FrontendSeen
	for _, x := range f.w.cfg.Frontends {
		s := api.FrontendSeen{Frontend: x.ID, HeardMS: -1}
		if h := f.heard[x.ID]; h != nil {
			s.HeardMS = (now.Boot - h.at).Milliseconds()
			for _, id := range slices.Sorted(maps.Keys(h.reports)) {
				r := h.reports[id]
				s.Services = append(s.Services, api.FollowReport{Service: id, Epoch: r.Epoch, Site: r.Site,
					State: r.State.String(), Reason: r.Reason, Flights: r.Flights, Held: r.Held})
			}
		}
		out = append(out, s)
	}
	return out
}

// serveFollow serves the frontends. They show a certificate with their own
// name, which is good for this and nothing else.
func (d *Daemon) serveFollow(ctx context.Context, r *http.Request) (any, error) {
	var ask api.Follow
	if err := readBody(r, &ask, api.MaxFollow); err != nil {
		return nil, err
	}
	if err := d.speaksFor(r, ask.Frontend); err != nil {
		return nil, err
	}
	return d.frontends.follow(ctx, d.self, ask)
}

// onlyFollow keeps the certificates of frontends, which stand where users are,
// from commanding anything.
func (d *Daemon) onlyFollow(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && r.URL.Path != api.PathFollow && r.URL.Path != api.PathHold {
			subject := r.TLS.PeerCertificates[0].Subject
			name := subject.CommonName
			_, member := d.now().cfg.Member(draas.MemberID(name))
			_, edge := d.now().cfg.Frontend(name)
			if edge && !member || slices.Contains(subject.OrganizationalUnit, quorum.UnitFrontend) {
				writeJSON(w, http.StatusForbidden, api.Error{Error: name + " is a frontend: its certificate may follow, and nothing else"})
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
