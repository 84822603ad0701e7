package measure

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/draasd/draas"
	"github.com/draasd/draas/rto"
)

// stream is one asker: a kind of client, or the prober of one site.
type stream struct {
	name    string
	site    draas.SiteID  // asked directly; empty for a client of users' kind
	users   []*client     // they take turns
	phase   time.Duration // streams take turns within a period
	ended   time.Duration // when its schedule ended
	samples []rto.Sample
	latency *hdrhistogram.Histogram // microseconds, from the scheduled time
}

// outcome is what a request hands to the collector.
type outcome struct {
	stream *stream
	sample rto.Sample
	answer answer
	err    error
}

// run is one measurement under way.
type run struct {
	config   Config
	start    time.Time
	streams  []*stream
	outcomes chan outcome
	writer   *writer // nil when nothing is to be written

	// Owned by the collector until it ends.
	sites    []draas.SiteID // by rto.Site
	index    map[draas.SiteID]rto.Site
	located  map[netip.AddrPort]draas.SiteID // by the address that answered
	addrs    []string                        // by rto.Sample.Addr
	addr     map[netip.AddrPort]uint16
	lateness *hdrhistogram.Histogram // microseconds
}

// Run measures until the duration is over or the context ends, waits for the
// requests under way (at most Timeout), and reports. The context's end is no
// error: the error says what is wrong with the configuration.
func Run(ctx context.Context, config Config) (*Report, error) {
	c, err := config.complete()
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	r, err := newRun(c)
	if err != nil {
		return nil, err
	}
	fault, end := r.measure(ctx)
	report := r.report(fault, end)
	if r.writer != nil {
		// The end of the run is no reason not to know what it cost.
		report.Writes = r.writer.report(context.WithoutCancel(ctx), r.wall)
	}
	return report, nil
}

func newRun(c Config) (*run, error) {
	r := &run{
		config:   c,
		outcomes: make(chan outcome, 1024),
		sites:    []draas.SiteID{""},
		index:    map[draas.SiteID]rto.Site{"": rto.NoSite},
		located:  make(map[netip.AddrPort]draas.SiteID),
		addrs:    []string{""},
		addr:     make(map[netip.AddrPort]uint16),
		lateness: histogram(),
	}
	u, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	var res resolver = system{}
	if len(c.Resolvers) > 0 {
		res = &direct{servers: c.Resolvers, hedge: hedgeAfter}
	}
	for _, kind := range c.Clients {
		s := &stream{name: string(kind), latency: histogram()}
		for i := range c.Users {
			cl, err := newClient(kind, u, nil, res, c, float64(i+1)/float64(c.Users))
			if err != nil {
				return nil, fmt.Errorf("prepare client %s: %w", kind, err)
			}
			s.users = append(s.users, cl)
		}
		r.streams = append(r.streams, s)
	}
	for _, s := range c.Sites {
		at, err := parseURL(s.URL)
		if err != nil {
			return nil, err
		}
		cl, err := newClient(Fresh, at, u, res, c, 1)
		if err != nil {
			return nil, fmt.Errorf("prepare prober of site %s: %w", s.Name, err)
		}
		r.streams = append(r.streams, &stream{name: string(s.Name), site: s.Name, users: []*client{cl}, latency: histogram()})
		r.locate(at, cl.port, s.Name)
	}
	for i, s := range r.streams {
		s.phase = time.Duration(i) * r.at(1) / time.Duration(len(r.streams))
	}
	for _, s := range c.ExpectSites {
		r.intern(s)
	}
	if c.Write != nil {
		if r.writer, err = newWriter(c, res); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// locate notes which site answers at a literal address, so that users'
// unstamped answers can be told apart. An address that two sites share tells
// nothing.
func (r *run) locate(u *url.URL, port string, site draas.SiteID) {
	at, err := netip.ParseAddrPort(net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return // a name
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if _, shared := r.located[at]; shared {
		site = ""
	}
	r.located[at] = site
}

// maxMicros is the largest latency that the histograms tell apart.
const maxMicros = int64(10 * time.Minute / time.Microsecond)

func histogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxMicros, 3) }

// record adds a duration, clamped to what the histogram can hold.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	// RecordValue fails only outside of the histogram's range.
	_ = h.RecordValue(min(max(d.Microseconds(), 0), maxMicros))
}

// at is the scheduled time of request k, without a stream's phase. It is
// computed from k, so that no error adds up over a long run.
func (r *run) at(k int) time.Duration {
	return time.Duration(math.Round(float64(k) * float64(time.Second) / r.config.Rate))
}

// measure runs the schedules. It returns the fault, if marked, and when the
// schedule ended, both since the start.
func (r *run) measure(ctx context.Context) (fault *time.Time, end time.Duration) {
	var collecting, marking, asking sync.WaitGroup
	done := make(chan struct{})
	r.start = time.Now()
	collecting.Go(r.collect)
	marking.Go(func() { fault = r.mark(done) })
	for _, s := range r.streams {
		asking.Go(func() { r.ask(ctx, s) })
	}
	if r.writer != nil {
		asking.Go(func() { r.writer.write(ctx, r.start, r.config.Duration) })
	}
	asking.Wait()
	for _, s := range r.streams {
		end = max(end, s.ended)
	}
	if r.config.Duration > 0 {
		end = min(end, r.config.Duration)
	}
	close(r.outcomes)
	collecting.Wait()
	close(done)
	marking.Wait()
	for _, s := range r.streams {
		for _, cl := range s.users {
			cl.close()
		}
	}
	return fault, end
}

// mark waits for the instant of the fault, or for the end of the run.
func (r *run) mark(done <-chan struct{}) *time.Time {
	select {
	case t, ok := <-r.config.Fault:
		if ok {
			return &t
		}
	case <-done:
		select { // marked, but not yet taken
		case t, ok := <-r.config.Fault:
			if ok {
				return &t
			}
		default:
		}
	}
	return nil
}

// spare is how many more requests may be under way than the rate and the
// timeout explain, before one has to wait for another.
const spare = 16

// ask sends a stream's requests on its schedule, whatever became of those
// before: an overdue one is sent at once, and keeps its scheduled time.
func (r *run) ask(ctx context.Context, s *stream) {
	var asking sync.WaitGroup
	defer asking.Wait()
	slots := make(chan struct{}, int(r.config.Rate*r.config.Timeout.Seconds())+spare)
	timer := time.NewTimer(0)
	defer timer.Stop()
	// Registered last, it runs before the wait for what is still under way.
	defer func() { s.ended = time.Since(r.start) }()
	for k := 0; ; k++ {
		at := s.phase + r.at(k)
		over := r.config.Duration > 0 && at >= r.config.Duration
		if over {
			at = r.config.Duration
		}
		timer.Reset(time.Until(r.start.Add(at)))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if over {
			return
		}
		select {
		case <-ctx.Done():
			return
		case slots <- struct{}{}:
		}
		asking.Go(func() {
			defer func() { <-slots }()
			// The end of the run must not make failures: what was asked is
			// answered or times out.
			r.request(context.WithoutCancel(ctx), s, k%len(s.users), at)
		})
	}
}

// request makes one request and hands its outcome to the collector.
func (r *run) request(ctx context.Context, s *stream, user int, at time.Duration) {
	sent := time.Now()
	a, err := s.users[user].ask(ctx)
	done := time.Now()
	sample := rto.Sample{
		At:    at,
		Sent:  sent.Sub(r.start),
		Done:  done.Sub(r.start),
		Stamp: rto.Unstamped,
		Class: classify(err),
		User:  uint16(user),
	}
	if err == nil {
		sample.Epoch = a.epoch
		if !a.stamp.IsZero() {
			sample.Stamp = sample.Sent + stampOffset(a.stamp, sent, done.Sub(sent))
		}
	}
	r.outcomes <- outcome{stream: s, sample: sample, answer: a, err: err}
}

// stampOffset is how long after its sending a request was answered by the
// server's clock, held within the time that it took. The wall clock of the
// sending is compared with it, so that a long run adds no drift.
func stampOffset(stamp, sent time.Time, took time.Duration) time.Duration {
	return min(max(stamp.Sub(sent.Round(0)), 0), took)
}

// collect records the outcomes until there are no more.
func (r *run) collect() {
	for o := range r.outcomes {
		s := o.stream
		record(r.lateness, o.sample.Sent-o.sample.At)
		site := draas.SiteID("")
		if o.err == nil {
			record(s.latency, o.sample.Done-o.sample.At)
			site = r.whose(o)
			o.sample.Site = r.intern(site)
		}
		o.sample.Addr = r.number(o.answer.remote)
		s.samples = append(s.samples, o.sample)
		if r.config.Observe != nil {
			r.config.Observe(Event{Client: s.name, Direct: s.site != "", Start: r.start,
				Sample: o.sample, Site: r.sites[o.sample.Site], Addr: r.addrs[o.sample.Addr], TTL: o.answer.left, Err: o.err})
		}
	}
	for _, s := range r.streams {
		slices.SortStableFunc(s.samples, func(a, b rto.Sample) int { return cmp.Compare(a.At, b.At) })
	}
}

// whose tells which site gave a good answer: what the stamp says, else the
// site that was asked, else the one known at that address.
func (r *run) whose(o outcome) draas.SiteID {
	switch {
	case o.answer.site != "":
		return o.answer.site
	case o.stream.site != "":
		return o.stream.site
	}
	return r.located[o.answer.remote]
}

// maxSites bounds the names that servers can make us remember.
const maxSites = 1000

// intern gives a site its index; NoSite when there are too many.
func (r *run) intern(site draas.SiteID) rto.Site {
	i, ok := r.index[site]
	if !ok {
		if len(r.sites) >= maxSites {
			return rto.NoSite
		}
		i = rto.Site(len(r.sites))
		r.sites = append(r.sites, site)
		r.index[site] = i
	}
	return i
}

// maxAddrs bounds the addresses that name servers can make us remember.
const maxAddrs = 10_000

// number gives an address its index; NoAddr when there are too many.
func (r *run) number(at netip.AddrPort) uint16 {
	if !at.IsValid() {
		return rto.NoAddr
	}
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	i, ok := r.addr[at]
	if !ok {
		if len(r.addrs) >= maxAddrs {
			return rto.NoAddr
		}
		i = uint16(len(r.addrs))
		r.addrs = append(r.addrs, at.String())
		r.addr[at] = i
	}
	return i
}
