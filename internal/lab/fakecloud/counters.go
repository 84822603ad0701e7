package fakecloud

import (
	"maps"
	"sync"
)

// Request is a request as the log and the hooks see it.
type Request struct {
	N       uint64 // from 1, over the cloud's whole life
	Service string
	Method  string
	Route   string // the pattern, e.g. "/v2.0/networks/{id}"
	Path    string // as it was sent, escaped
	Query   string
	Size    int64 // of the body, -1 when it was not announced
}

// Call names a kind of request in the counters.
type Call struct{ Service, Method, Route string }

type counters struct {
	mu      sync.Mutex
	active  int           // requests in handlers
	idle    chan struct{} // closed when active is zero again; nil when nobody waits
	total   uint64
	calls   map[Call]int
	logging bool
	log     []Request
}

func (k *counters) enter() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.active++
}

func (k *counters) leave() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.active--; k.active == 0 && k.idle != nil {
		close(k.idle)
		k.idle = nil
	}
}

// drained is closed once no request is in a handler.
func (k *counters) drained() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	idle := make(chan struct{})
	if k.active == 0 {
		close(idle)
		return idle
	}
	k.idle = idle // Kill is the only one who waits, one at a time
	return idle
}

// count numbers a request.
func (c *Cloud) count(q *request) uint64 {
	k := &c.counters
	k.mu.Lock()
	defer k.mu.Unlock()
	k.total++
	if k.calls == nil {
		k.calls = make(map[Call]int)
	}
	k.calls[Call{q.service, q.r.Method, q.pattern}]++
	q.n = k.total
	if k.logging {
		k.log = append(k.log, q.describe())
	}
	return k.total
}

func (q *request) describe() Request {
	return Request{N: q.n, Service: q.service, Method: q.r.Method, Route: q.pattern,
		Path: q.r.URL.EscapedPath(), Query: q.r.URL.RawQuery, Size: q.r.ContentLength}
}

// Requests is how many requests came, ever or since ResetCounters.
func (c *Cloud) Requests() int {
	c.counters.mu.Lock()
	defer c.counters.mu.Unlock()
	n := 0
	for _, k := range c.counters.calls {
		n += k
	}
	return n
}

// Calls counts the requests by service, method and route.
func (c *Cloud) Calls() map[Call]int {
	c.counters.mu.Lock()
	defer c.counters.mu.Unlock()
	return maps.Clone(c.counters.calls)
}

// Writes counts the requests that were meant to change something: not reads,
// not logins.
func (c *Cloud) Writes() int {
	n := 0
	for call, k := range c.Calls() {
		login := call.Service == Identity && call.Route == "/v3/auth/tokens"
		if call.Method != "GET" && call.Method != "HEAD" && !login {
			n += k
		}
	}
	return n
}

// ResetCounters begins counting and logging anew.
func (c *Cloud) ResetCounters() {
	c.counters.mu.Lock()
	defer c.counters.mu.Unlock()
	c.counters.calls, c.counters.log = nil, nil
}

// Record switches the log of single requests on or off.
func (c *Cloud) Record(on bool) {
	c.counters.mu.Lock()
	defer c.counters.mu.Unlock()
	c.counters.logging = on
}

// Log gives the requests recorded so far.
func (c *Cloud) Log() []Request {
	c.counters.mu.Lock()
	defer c.counters.mu.Unlock()
	return append([]Request(nil), c.counters.log...)
}
