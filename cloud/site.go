package cloud

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// site is what the sessions of one cloud share.
type site struct {
	cloud     Cloud
	options   Options
	transport *http.Transport
	pacer     *pacer
	projects  projects
	root      *Session

	mu       sync.Mutex
	services map[string]*service
}

// service is a service's part of a site.
type service struct {
	site    *site
	name    string
	limiter *limiter
	streams *limiter // which does not adapt
	pacer   *pacer

	requests, retries, throttled, failed, in, out atomic.Int64

	mute atomic.Bool // it does not answer Expect: 100-continue

	mu   sync.Mutex
	date time.Time // by the service
	seen time.Time // here
}

func newSite(c Cloud, o Options) (*site, error) {
	if o.Concurrency < 1 || o.Streams < 1 || o.Attempts < 1 || o.Projects < 1 || o.MaxAnswer < 1 {
		return nil, fmt.Errorf("options: less than one")
	}
	rates, err := windows(o.Rates)
	if err != nil {
		return nil, err
	}
	for name, r := range o.ServiceRates {
		if _, err := windows(r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	t, err := newTransport(c, o)
	if err != nil {
		return nil, err
	}
	return &site{cloud: c, options: o, transport: t, pacer: &pacer{windows: rates, now: o.Now},
		projects: projects{most: o.Projects}, services: make(map[string]*service)}, nil
}

// service is the part of a type of service, made when it is first used.
func (v *site) service(name string) *service {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.services[name]
	if s == nil {
		var rates []Rate
		for n, r := range v.options.ServiceRates {
			if canonical(n) == name {
				rates = append(rates, r...)
			}
		}
		w, err := windows(rates)
		if err != nil { // they were read before
			w = nil
		}
		s = &service{site: v, name: name, limiter: newLimiter(max(v.options.Concurrency/4, 1), v.options.Concurrency),
			streams: newLimiter(v.options.Streams, v.options.Streams), pacer: &pacer{windows: w, now: v.options.Now}}
		v.services[name] = s
	}
	return s
}

// Stats are a service's counters since the session was opened, and its state.
type Stats struct {
	Service string
	// Requests is what was sent, Retries what of it was sent again, Throttled
	// the answers that said "too much", Failed what got no answer.
	Requests, Retries, Throttled, Failed int64
	BytesIn, BytesOut                    int64 // of bodies
	InFlight, Waiting, Streams           int
	Limit                                int           // of requests at once, now
	Paused                               time.Duration // by the service, from now
}

// Stats are the counters of all services that were used, by name, of all
// projects' sessions together.
func (s *Session) Stats() []Stats {
	s.site.mu.Lock()
	defer s.site.mu.Unlock()
	var out []Stats
	for _, v := range s.site.services {
		st := Stats{Service: v.name, Requests: v.requests.Load(), Retries: v.retries.Load(), Throttled: v.throttled.Load(),
			Failed: v.failed.Load(), BytesIn: v.in.Load(), BytesOut: v.out.Load()}
		st.InFlight, st.Waiting, st.Limit, st.Paused = v.limiter.state()
		st.Streams, _, _, _ = v.streams.state()
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b Stats) int {
		if a.Service < b.Service {
			return -1
		}
		return 1
	})
	return out
}

// serverTime is the last Date that a service has sent, in whole seconds, and
// when that was here. It is not ok before the first.
func (s *Session) serverTime(serviceType string) (date, seen time.Time, ok bool) {
	v := s.site.service(canonical(serviceType))
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.date, v.seen, !v.seen.IsZero()
}

// Skew is how far a service's clock is ahead of ours, to about a second.
func (s *Session) Skew(serviceType string) (skew time.Duration, ok bool) {
	date, seen, ok := s.serverTime(serviceType)
	return date.Sub(seen), ok
}

// serverNow is the time by a service's clock, or ours if it has not told.
func (v *site) serverNow(name string) time.Time {
	s := v.service(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen.IsZero() {
		return time.Now()
	}
	return time.Now().Add(s.date.Sub(s.seen))
}

// heard remembers the Date of an answer.
func (v *service) heard(h http.Header) {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.date, v.seen = date, time.Now()
}
