// Package stream is the frontend for services of any protocol over TCP: it
// leads connections to the active site, by the name that a TLS client asks for
// where it serves several, and never looks behind that. A connection that comes
// while a move is under way is held; one to a site that is no longer active is
// reset.
//
// Loops on bare descriptors move the bytes, one for each processor but one
// (ADR 10).
package stream

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

// Config is what one listening address serves.
type Config struct {
	Routes []Route

	// ConnectTimeout bounds one dial to a site (default 1 s). What waits for a
	// site waits as the service's Bounds say.
	ConnectTimeout time.Duration
	// HelloTimeout is how long a client may take for its PROXY header and its
	// ClientHello (default 5 s). One that has said nothing by then is of the
	// route without names.
	HelloTimeout time.Duration
	// IdleTimeout ends a connection on which nothing moves (default 1 h).
	IdleTimeout time.Duration
	// Silence is how long a back end may leave a client without an answer
	// until the members are asked to look at it (default 250 ms). The
	// connection goes on. Negative: never.
	Silence time.Duration
	// Drain is how long connections may go on when Serve ends (default 10 s).
	Drain time.Duration
	// Check, if not zero, connects to the active site's servers every so often.
	Check time.Duration

	MaxConnections int // all of them (default 16384)
	PerSource      int // of one address, or of an IPv6 /64; 0: no bound

	Sources []netip.Prefix // who may connect; empty: everybody
	Denied  []netip.Prefix // who may not, even so
	ProxyIn []netip.Prefix // proxies: their connections begin with a PROXY header

	Log *slog.Logger
	// AccessLog takes a line for each connection that has ended. It must not
	// block.
	AccessLog func(Access)
}

// Route leads the clients that ask for some names to a service.
type Route struct {
	// Names are exact, or "*.example.org", which stands for one more label as
	// in a certificate. A route without names takes all other clients, also
	// those that do not speak TLS.
	Names    []string
	Service  *frontend.Service
	ProxyOut int             // version of the PROXY header that back ends get; 0: none
	Affinity string          // "", "none" or "source"
	Method   frontend.Method // how a server is chosen without affinity
	Shadow   string          // IP:port that gets a copy of what clients send
}

// Affinities.
const (
	AffinityNone   = "none"
	AffinitySource = "source"
)

// Access is what became of one connection.
type Access struct {
	Time     time.Time       `json:"time"` // when it was accepted
	Duration time.Duration   `json:"duration_ns"`
	Source   netip.AddrPort  `json:"source"`
	Name     string          `json:"name,omitempty"` // that it asked for
	Service  draas.ServiceID `json:"service,omitempty"`
	Site     draas.SiteID    `json:"site,omitempty"`
	Epoch    draas.Epoch     `json:"epoch,omitempty"`
	Server   string          `json:"server,omitempty"`
	Held     time.Duration   `json:"held_ns,omitempty"`
	In       int64           `json:"in"`  // bytes from the client
	Out      int64           `json:"out"` // bytes to the client
	End      string          `json:"end"` // why it ended, one of the Ends
}

// Ends of a connection.
const (
	EndClosed   = "closed"   // both sides were through
	EndClient   = "client"   // the client reset it, or is gone
	EndServer   = "server"   // the back end reset it, or is gone
	EndMoved    = "moved"    // its site was no longer the one to lead to
	EndShed     = "shed"     // it might not wait, or not any longer
	EndIdle     = "idle"     // nothing moved for too long
	EndHello    = "hello"    // what it began with cannot be understood, or did not come
	EndRejected = "rejected" // over a limit, or from nobody's source
	EndShutdown = "shutdown" // Serve has ended
)

// Server serves one listening address.
type Server struct {
	setting atomic.Pointer[setting]
	sources *frontend.Limiter
	now     atomic.Int64 // connections

	mu sync.Mutex // of Use
}

// setting is a Config as it is used. It is never changed.
type setting struct {
	Config
	allowed frontend.Sources
	exact   map[string]*route
	wild    map[string]*route // by what follows "*."
	rest    *route
	peek    bool // the name decides
}

type route struct {
	Route
	dialer *frontend.Dialer
	shadow *shadowTarget
}

// New makes a server of a configuration.
func New(cfg Config) (*Server, error) {
	s := &Server{sources: frontend.NewLimiter(0, 0)}
	if err := s.Use(cfg); err != nil {
		return nil, err
	}
	return s, nil
}

// Use takes another configuration over. Connections that stand go on as they
// began.
func (s *Server) Use(cfg Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := newSetting(cfg, s.setting.Load())
	if err != nil {
		return err
	}
	s.sources.Use(0, cfg.PerSource)
	s.setting.Store(next)
	return nil
}

func newSetting(cfg Config, was *setting) (*setting, error) {
	defaults(&cfg)
	set := &setting{Config: cfg, exact: make(map[string]*route), wild: make(map[string]*route),
		allowed: frontend.Sources{Allow: cfg.Sources, Deny: cfg.Denied}}
	if len(cfg.Routes) == 0 {
		return nil, errors.New("no route")
	}
	var errs []error
	for i := range cfg.Routes {
		r, err := newRoute(cfg, cfg.Routes[i], was)
		if err == nil {
			err = set.place(r)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("route %d: %w", i+1, err))
		}
	}
	set.peek = len(set.exact)+len(set.wild) > 0
	return set, errors.Join(errs...)
}

func defaults(cfg *Config) {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&cfg.ConnectTimeout, frontend.DefaultDialTimeout},
		{&cfg.HelloTimeout, 5 * time.Second},
		{&cfg.IdleTimeout, time.Hour},
		{&cfg.Silence, 250 * time.Millisecond},
		{&cfg.Drain, 10 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = 16384
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
}

// newRoute makes a route. What the configuration before it knew of a service's
// servers is kept.
func newRoute(cfg Config, r Route, was *setting) (*route, error) {
	switch {
	case r.Service == nil:
		return nil, errors.New("no service")
	case r.ProxyOut < 0 || r.ProxyOut > 2:
		return nil, fmt.Errorf("PROXY version %d", r.ProxyOut)
	case !slices.Contains([]string{"", AffinityNone, AffinitySource}, r.Affinity):
		return nil, fmt.Errorf("affinity %q", r.Affinity)
	}
	out := &route{Route: r}
	if r.Shadow != "" {
		a, err := netip.ParseAddrPort(r.Shadow)
		if err != nil {
			return nil, fmt.Errorf("shadow: %w", err)
		}
		out.shadow = &shadowTarget{address: a.String(), patience: shadowPatience}
	}
	var balancer *frontend.Balancer
	for _, old := range was.routes() {
		if old.Service == r.Service && old.Method == r.Method {
			balancer = old.dialer.Balancer
		}
	}
	if balancer == nil {
		balancer = frontend.NewBalancer(r.Service, r.Method)
	}
	out.dialer = &frontend.Dialer{Balancer: balancer, Timeout: cfg.ConnectTimeout}
	return out, nil
}

func (set *setting) place(r *route) error {
	if len(r.Names) == 0 {
		if set.rest != nil {
			return errors.New("a second route without names")
		}
		set.rest = r
	}
	for _, name := range r.Names {
		name = strings.ToLower(name)
		in, key := set.exact, name
		if suffix, ok := strings.CutPrefix(name, "*."); ok {
			in, key = set.wild, suffix
		}
		if !goodName([]byte(key)) {
			return fmt.Errorf("name %q", name)
		}
		if in[key] != nil {
			return fmt.Errorf("a second route for %q", name)
		}
		in[key] = r
	}
	return nil
}

// find is the route of a client that asks for a name; nil when there is none.
func (set *setting) find(name string) *route {
	if r := set.exact[name]; r != nil {
		return r
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if r := set.wild[parent]; r != nil {
			return r
		}
	}
	return set.rest
}

func (set *setting) routes() []*route {
	if set == nil {
		return nil
	}
	seen := make(map[*route]bool)
	var out []*route
	add := func(r *route) {
		if r != nil && !seen[r] {
			seen[r] = true
			out = append(out, r)
		}
	}
	for _, r := range set.exact {
		add(r)
	}
	for _, r := range set.wild {
		add(r)
	}
	add(set.rest)
	return out
}

// stats counts what belongs to no service yet: it is the rest's, or else
// whoever's comes first.
func (set *setting) stats() *frontend.Stats {
	if set.rest != nil {
		return &set.rest.Service.Stats
	}
	return &set.Routes[0].Service.Stats
}

// Connections is how many there are now.
func (s *Server) Connections() int { return int(s.now.Load()) }
