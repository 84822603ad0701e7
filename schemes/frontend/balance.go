package frontend

import (
	"context"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
)

// A server that refused, or did not answer in time, is set aside for a pause
// that doubles with each failure in a row.
const (
	pauseMin = 50 * time.Millisecond
	pauseMax = 2 * time.Second
)

// Balancer spreads what is led to a site over the site's servers. It follows
// the service's Spec: a server that stays keeps what is known of it.
type Balancer struct {
	service *Service
	method  Method

	mu    sync.Mutex
	known map[place]*Backend
	sites atomic.Pointer[view]
}

// Method is how a server is chosen where nothing binds a client to one.
type Method uint8

// The methods. Both pass over servers that are set aside.
const (
	LeastConnections Method = iota // fewest connections; of those with as many, in turn
	RoundRobin
)

type place struct {
	site    draas.SiteID
	address string
}

// view is a Spec as the balancer sees it. It is never changed.
type view struct {
	spec  *Spec
	sites map[draas.SiteID]*group
}

type group struct {
	servers []*Backend
	turn    atomic.Uint32
}

// Backend is one server of a site, as a balancer knows it.
type Backend struct {
	Site    draas.SiteID
	Address string
	// Tag names the server in an affinity cookie: it says nothing of the
	// address, and is the same at every frontend.
	Tag string

	conns atomic.Int64
	until atomic.Int64 // UnixNano until when it is set aside; 0: it is not

	mu    sync.Mutex
	since time.Time     // when it failed last
	pause time.Duration // the pause it is in, or was in last; 0 since it was good
}

// Want says which server a client should get.
type Want struct {
	Key string // the same key leads to the same server, as long as that is good
	Tag string // the server of this tag, as long as that is good
}

// NewBalancer makes the balancer of a service.
func NewBalancer(s *Service, m Method) *Balancer {
	b := &Balancer{service: s, method: m, known: make(map[place]*Backend)}
	b.look()
	return b
}

func (b *Balancer) look() *view {
	spec := b.service.Spec()
	if v := b.sites.Load(); v != nil && v.spec == spec {
		return v
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v := b.sites.Load(); v != nil && v.spec == spec {
		return v
	}
	v := &view{spec: spec, sites: make(map[draas.SiteID]*group, len(spec.Sites))}
	was := b.known
	b.known = make(map[place]*Backend)
	for site, servers := range spec.Sites {
		g := new(group)
		for _, s := range servers {
			p := place{site, s.Address}
			be := b.known[p]
			if be != nil {
				continue // named twice
			}
			if be = was[p]; be == nil {
				be = &Backend{Site: site, Address: s.Address, Tag: tagOf(p)}
			}
			b.known[p] = be
			g.servers = append(g.servers, be)
		}
		v.sites[site] = g
	}
	b.sites.Store(v)
	return v
}

// Servers lists a site's servers.
func (b *Balancer) Servers(site draas.SiteID) []*Backend {
	if g := b.look().sites[site]; g != nil {
		return g.servers
	}
	return nil
}

// Pick chooses a server of a site that is not among tried; nil when there is
// none left. While any is good it never takes one that is set aside; when all
// are, it takes the one whose last failure is longest ago.
func (b *Balancer) Pick(site draas.SiteID, want Want, tried ...*Backend) *Backend {
	g := b.look().sites[site]
	if g == nil {
		return nil
	}
	now := time.Now().UnixNano()
	var best, aside *Backend
	var bestScore uint64
	n := len(g.servers)
	start := 0
	if n > 1 && want == (Want{}) {
		start = int(g.turn.Add(1)-1) % n
	}
	for i := range n {
		s := g.servers[(start+i)%n]
		if contains(tried, s) {
			continue
		}
		if s.until.Load() > now {
			if aside == nil || s.failedAt().Before(aside.failedAt()) {
				aside = s
			}
			continue
		}
		if want.Tag != "" && s.Tag == want.Tag {
			return s
		}
		if score := b.score(s, want); best == nil || score > bestScore {
			best, bestScore = s, score
		}
	}
	if best == nil {
		return aside
	}
	return best
}

// score ranks the good servers: the highest is taken, and of equal ones the
// first in turn.
func (b *Balancer) score(s *Backend, want Want) uint64 {
	switch {
	case want.Key != "":
		// Rendezvous hashing: when a server goes, only its clients move, and
		// they come back with it.
		return fnv(fnv(fnvStart, s.Address), want.Key)
	case b.method == LeastConnections:
		return ^uint64(s.conns.Load())
	}
	return 0
}

func contains(list []*Backend, s *Backend) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// Begin counts a connection, or a request, that goes to the server; End ends
// what Begin began.
func (s *Backend) Begin() { s.conns.Add(1) }

// End see Begin.
func (s *Backend) End() { s.conns.Add(-1) }

// Connections is how many were begun and have not ended.
func (s *Backend) Connections() int64 { return s.conns.Load() }

// Good notes that the server has answered.
func (s *Backend) Good() {
	if s.until.Load() == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pause = 0
	s.until.Store(0)
}

// Failed sets the server aside.
func (s *Backend) Failed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.since = now
	if s.until.Load() > now.UnixNano() {
		return // several fail of one cause: one pause
	}
	s.pause = min(max(2*s.pause, pauseMin), pauseMax)
	s.until.Store(now.Add(s.pause).UnixNano())
}

// Aside reports whether the server is set aside now.
func (s *Backend) Aside() bool { return s.until.Load() > time.Now().UnixNano() }

func (s *Backend) failedAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since
}

// Check connects to every server of the site that is led to, every so often,
// until ctx ends: a server that does not answer is set aside before a client
// finds out. Without it only clients find out.
func (b *Balancer) Check(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		b.CheckOnce(ctx, every)
	}
}

// CheckOnce is one round of Check, that waits so long for the servers.
func (b *Balancer) CheckOnce(ctx context.Context, within time.Duration) {
	var wg sync.WaitGroup
	for _, s := range b.Servers(b.service.Where().Site) {
		wg.Go(func() { s.check(ctx, within) })
	}
	wg.Wait()
}

func (s *Backend) check(ctx context.Context, within time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", s.Address)
	switch {
	case err == nil:
		_ = c.Close()
		s.Good()
	case context.Cause(ctx) != context.Canceled && !ours(err):
		s.Failed()
	}
}

// fnv is FNV-1a, 64 bits, ended by a mixing step of our own: the last bytes
// would else move the low bits only. It must be the same at every frontend,
// which hash/maphash is not.
func fnv(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

const fnvStart = 0xcbf29ce484222325

func tagOf(p place) string {
	return strconv.FormatUint(fnv(fnv(fnvStart, string(p.site)), p.address), 36)
}
