package frontend

import (
	"maps"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
)

// Stats are the counters of a service at one frontend, since it started.
type Stats struct {
	Connections atomic.Int64 // of clients, now
	Accepted    atomic.Int64 // connections of clients
	Rejected    atomic.Int64 // connections of clients over a limit, or from nobody's source
	Bad         atomic.Int64 // requests that cannot be understood, or are too large
	Held        atomic.Int64 // requests that had to wait
	Replayed    atomic.Int64 // requests sent again
	Shed        atomic.Int64 // requests answered 503, as they could not wait (any longer)
	Dropped     atomic.Int64 // connections to a site that was no longer the one to lead to
	Mirrored    atomic.Int64 // copies to a shadow that are whole
	MirrorLost  atomic.Int64 // copies that were given up: the shadow was away or too slow
	Stalls      Histogram    // how long those that waited were held up

	mu    sync.Mutex
	sites map[draas.SiteID]*SiteStats
}

// SiteStats are the counters of a service's back ends at one site.
type SiteStats struct {
	Requests atomic.Int64          // sent there; connections in mode tcp
	Answers  [6]atomic.Int64       // by the first digit of their status; mode http
	Errors   [classes]atomic.Int64 // by Class
	In, Out  atomic.Int64          // bytes from and to clients
}

// Site is the counters of a site.
func (s *Stats) Site(id draas.SiteID) *SiteStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.sites[id]
	if c == nil {
		c = new(SiteStats)
		if s.sites == nil {
			s.sites = make(map[draas.SiteID]*SiteStats)
		}
		s.sites[id] = c
	}
	return c
}

// Sites are the counters of all sites that were led to.
func (s *Stats) Sites() map[draas.SiteID]*SiteStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.sites)
}

// buckets of a Histogram: the last takes all that is longer.
const buckets = 16

// Histogram counts times by powers of two of a millisecond: bucket i holds
// those below 2^i ms, the last one all others.
type Histogram struct {
	counts [buckets]atomic.Int64
	max    atomic.Int64 // nanoseconds
}

// Note counts one time.
func (h *Histogram) Note(d time.Duration) {
	i := min(bits.Len64(uint64(max(d, 0)/time.Millisecond)), buckets-1)
	h.counts[i].Add(1)
	for {
		was := h.max.Load()
		if int64(d) <= was || h.max.CompareAndSwap(was, int64(d)) {
			return
		}
	}
}

// Counts are the buckets, and Max the longest time.
func (h *Histogram) Counts() []int64 {
	out := make([]int64, buckets)
	for i := range out {
		out[i] = h.counts[i].Load()
	}
	return out
}

// Max is the longest time that was noted.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max.Load()) }
