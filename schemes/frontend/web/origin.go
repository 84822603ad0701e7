package web

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// origin is what a server keeps of one service: its back ends, and idle
// connections to them. It outlives a reload.
type origin struct {
	service  *frontend.Service
	balancer *frontend.Balancer
	kept     atomic.Int64 // bytes kept of requests under way
	// usual and spread are of the time to an answer's first byte, nanoseconds,
	// smoothed as RFC 6298 does; an update that gets lost does no harm.
	usual, spread atomic.Int64
	stats         atomic.Pointer[siteStats]
	// away is the epoch whose site could not be connected to at the last try,
	// and tried when that was, UnixNano.
	away  atomic.Uint64
	tried atomic.Int64
	// opens is closed when the site can be connected to again: who waits for
	// its turn need not wait any longer.
	opens atomic.Pointer[chan struct{}]
	hung  atomic.Int64 // until when some server is passed over, UnixNano

	mu   sync.Mutex
	idle map[*frontend.Backend][]*upstream // the one used last at the end
	pace map[*frontend.Backend]*pace
}

// pace is whether a server answers at all. UnixNano.
type pace struct {
	answered atomic.Int64 // when it did last
	hung     atomic.Int64 // until when it is passed over
}

// paceOf is shared by all connections to a server.
func (o *origin) paceOf(b *frontend.Backend) *pace {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pace[b]
	if p == nil {
		p = new(pace)
		o.pace[b] = p
	}
	return p
}

// passOver is how long a server gets no requests that has answered none since
// one was sent that still waits. It is said again at every look at that one.
const passOver = 2 * lookEvery

func (o *origin) passOver(u *upstream, sent, now time.Time) {
	if u.pace.answered.Load() < sent.UnixNano() {
		until := now.Add(passOver).UnixNano()
		u.pace.hung.Store(until)
		o.hung.Store(until)
	}
}

// pick chooses a server. One that hangs is taken when all others do.
func (o *origin) pick(site draas.SiteID, want frontend.Want, now time.Time) *frontend.Backend {
	at := now.UnixNano()
	if o.hung.Load() > at {
		var hung []*frontend.Backend
		for _, b := range o.balancer.Servers(site) {
			if o.paceOf(b).hung.Load() > at {
				hung = append(hung, b)
			}
		}
		if b := o.balancer.Pick(site, want, hung...); b != nil {
			return b
		}
	}
	return o.balancer.Pick(site, want)
}

func newOrigin(s *frontend.Service) *origin {
	o := &origin{service: s, balancer: frontend.NewBalancer(s, frontend.RoundRobin), idle: make(map[*frontend.Backend][]*upstream),
		pace: make(map[*frontend.Backend]*pace)}
	opens := make(chan struct{})
	o.opens.Store(&opens)
	return o
}

// take gives an idle connection to a server, or nil.
func (o *origin) take(b *frontend.Backend) *upstream {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.idle[b]
	for len(list) > 0 {
		last := len(list) - 1
		u := list[last]
		list[last] = nil
		list = list[:last]
		o.idle[b] = list
		if u.use(true) {
			b.Begin()
			return u
		}
	}
	return nil
}

// put keeps a connection for the next request.
func (o *origin) put(u *upstream, now int64, most int) {
	o.mu.Lock()
	full := len(o.idle[u.server]) >= most
	if !full {
		u.since = now
		u.use(false)
		u.server.End()
		o.idle[u.server] = append(o.idle[u.server], u)
	}
	o.mu.Unlock()
	if full {
		u.close()
	}
}

// weed closes idle connections that were not used since an instant.
func (o *origin) weed(before int64) {
	var old []*upstream
	o.mu.Lock()
	for b, list := range o.idle {
		n := 0
		for n < len(list) && (list[n].since < before || list[n].wasDropped()) {
			n++
		}
		old = append(old, list[:n]...)
		switch n {
		case 0:
		case len(list):
			delete(o.idle, b)
		default:
			o.idle[b] = slices.Clone(list[n:])
		}
	}
	o.mu.Unlock()
	for _, u := range old {
		u.shut()
	}
}

// forget closes the idle connections to a server: one of them has turned out
// dead.
func (o *origin) forget(b *frontend.Backend) {
	o.mu.Lock()
	list := o.idle[b]
	delete(o.idle, b)
	o.mu.Unlock()
	for _, u := range list {
		u.shut()
	}
}

// note takes the time to an answer's first byte.
func (o *origin) note(d time.Duration) {
	usual := o.usual.Load()
	if usual == 0 {
		o.usual.Store(int64(d))
		o.spread.Store(int64(d) / 2)
		return
	}
	diff := int64(d) - usual
	o.usual.Store(usual + diff/8)
	if diff < 0 {
		diff = -diff
	}
	spread := o.spread.Load()
	o.spread.Store(spread + (diff-spread)/4)
}

// minSilent is the shortest time after which a server without an answer is
// told of, unless it is configured.
const minSilent = 50 * time.Millisecond

// silent is after how long a server without an answer is told of: several
// times what is usual.
func (o *origin) silent(configured time.Duration) time.Duration {
	if configured > 0 {
		return configured
	}
	return max(minSilent, 2*time.Duration(o.usual.Load()+4*o.spread.Load()))
}
