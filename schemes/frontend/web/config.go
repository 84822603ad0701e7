// Package web is the http mode of our own frontend: it ends the clients'
// connections, HTTP/1.1 and HTTP/2, with TLS or without, and leads each request
// to the active site. A request that finds no site waits; one whose back end
// failed is sent again where that cannot do harm.
//
// HTTP/1.1 is read by a parser of our own, one goroutine for each connection,
// and no buffer while it is idle (docs/adr/0009-http-path.md says why).
package web

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path"
	"strings"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

// Config is what one listening address serves.
type Config struct {
	// Hosts by the name that a client asks for. One with no Names takes the
	// rest; without it the rest is answered 421.
	Hosts  []Host
	Limits Limits
	// Sources says who may connect.
	Sources frontend.Sources
	// ProxyIn are those whose PROXY protocol header is believed, and required.
	ProxyIn []netip.Prefix
	// Cleartext takes HTTP/2 without TLS from clients that know (RFC 9113, 3.3).
	Cleartext bool
	// Via is the name that we sign messages with (RFC 9110, 7.6.3); empty: we
	// do not.
	Via string
	// AccessLog gets a line of JSON for each request, several with one Write.
	// It may block: lines that it does not take in time are dropped and
	// counted. Nil: no log.
	AccessLog io.Writer
	Log       *slog.Logger
}

// Host is one service at the address.
type Host struct {
	Names   []string // exact, or "*.example.org"; without a port
	Service *frontend.Service
	// Certificate and Key are PEM files; either all hosts of an address have
	// them, or none.
	Certificate, Key string
	// Replay are requests that may be sent twice, though their method does not
	// say so: "PUT /path/" is all below a path, "PUT /path" that path.
	Replay []string
	// Trusted are proxies before us, whose X-Forwarded-* and Forwarded are kept
	// and continued.
	Trusted  []netip.Prefix
	ProxyOut int   // version of the PROXY protocol header that servers get; 0: none
	MaxBody  int64 // bytes; 0: Limits.BodyBytes
	Affinity Affinity
	// Shadow is the IP:port of a server that gets a copy of what clients send;
	// its answers are thrown away. Empty: none.
	Shadow string
}

// Affinity says what binds a client to one of a site's servers.
type Affinity string

// The affinities.
const (
	AffinityNone   Affinity = ""
	AffinitySource Affinity = "source"
	AffinityCookie Affinity = "cookie"
)

// Limits bound what clients and back ends may take. A zero field has its
// default.
type Limits struct {
	Connections int   // of clients at once; default 20,000
	PerSource   int   // of one address at once; 0: no limit
	HeadBytes   int   // of a head; default 32 KiB
	BodyBytes   int64 // of a request; default 64 MiB, below zero no limit
	Backends    int   // idle connections kept to each server; default 256
	Streams     int   // of one HTTP/2 connection at once; default 128

	Head   time.Duration // for a head to come, and for the handshake; default 10 s
	Idle   time.Duration // between two requests of a connection; default 75 s
	Stall  time.Duration // without progress of a body; default 30 s
	Answer time.Duration // for an answer to begin; default 60 s
	Tunnel time.Duration // for upgraded connections and event streams; default 1 h
	// Silent is how long a server may be without an answer before the members
	// are asked to look; default 100 ms, or more if the service is slower.
	Silent  time.Duration
	Connect time.Duration // of a dial to a site; default 1 s
	Drain   time.Duration // for requests under way when the server ends; default 10 s
}

// KeptBytes bounds what is kept of one request's body to be sent again. The
// service's Bounds stand above it.
const KeptBytes = 1 << 20

// bodyRate is the least rate of a client's body, in bytes a second, beyond
// Limits.Stall: a body of single bytes does not hold a connection for ever.
const bodyRate = 512

func (l *Limits) defaults() {
	def(&l.Connections, 20_000)
	def(&l.HeadBytes, 32<<10)
	def(&l.BodyBytes, 64<<20)
	def(&l.Backends, 256)
	def(&l.Streams, 128)
	def(&l.Head, 10*time.Second)
	def(&l.Idle, 75*time.Second)
	def(&l.Stall, 30*time.Second)
	def(&l.Answer, time.Minute)
	def(&l.Tunnel, time.Hour)
	def(&l.Connect, frontend.DefaultDialTimeout)
	def(&l.Drain, 10*time.Second)
}

func def[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// settings are a Config as requests use it. They are never changed.
type settings struct {
	Config
	exact, wild map[string]*host
	rest        *host
	hosts       []*host
	certs       map[*host]*frontend.Certificate
	tls         *tls.Config // nil: the address speaks none
	two         *two
}

type host struct {
	Host
	origin  *origin
	replay  []route
	maxBody int64
	mirror  *mirror
}

// route is an entry of Host.Replay.
type route struct {
	method, path string
	below        bool
}

func (s *Server) compile(cfg Config) (*settings, error) {
	cfg.Limits.defaults()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	set := &settings{Config: cfg, exact: make(map[string]*host), wild: make(map[string]*host), certs: make(map[*host]*frontend.Certificate)}
	if len(cfg.Hosts) == 0 {
		return nil, errors.New("no hosts")
	}
	for i := range cfg.Hosts {
		h, err := s.compileHost(set, cfg.Hosts[i])
		if err != nil {
			return nil, fmt.Errorf("host %d: %w", i+1, err)
		}
		if err := set.name(h); err != nil {
			return nil, fmt.Errorf("host %d: %w", i+1, err)
		}
		set.hosts = append(set.hosts, h)
	}
	if n := len(set.certs); n != 0 && n != len(cfg.Hosts) {
		return nil, errors.New("some hosts of an address have certificates and some have none")
	}
	set.tls = s.tlsConfig(set)
	two, err := s.newTwo(set)
	if err != nil {
		return nil, err
	}
	set.two = two
	return set, nil
}

func (s *Server) compileHost(set *settings, cfg Host) (*host, error) {
	h := &host{Host: cfg, maxBody: cfg.MaxBody}
	if cfg.Service == nil {
		return nil, errors.New("no service")
	}
	if h.maxBody == 0 {
		h.maxBody = set.Limits.BodyBytes
	}
	switch cfg.Affinity {
	case AffinityNone, AffinitySource, AffinityCookie:
	default:
		return nil, fmt.Errorf("affinity %q is not known", cfg.Affinity)
	}
	if cfg.ProxyOut < 0 || cfg.ProxyOut > 2 {
		return nil, fmt.Errorf("PROXY protocol version %d is not known", cfg.ProxyOut)
	}
	for _, r := range cfg.Replay {
		method, p, ok := strings.Cut(r, " ")
		if !ok || !all([]byte(method), inToken) || !strings.HasPrefix(p, "/") {
			return nil, fmt.Errorf("replay %q is not a method and a path", r)
		}
		h.replay = append(h.replay, route{method, p, strings.HasSuffix(p, "/")})
	}
	if cfg.Certificate != "" || cfg.Key != "" {
		c, err := s.certificate(cfg.Certificate, cfg.Key)
		if err != nil {
			return nil, err
		}
		set.certs[h] = c
	}
	m, err := s.mirror(cfg)
	if err != nil {
		return nil, err
	}
	h.mirror = m
	h.origin = s.origin(cfg.Service)
	return h, nil
}

func (set *settings) name(h *host) error {
	if len(h.Names) == 0 {
		if set.rest != nil {
			return errors.New("a second host takes the rest")
		}
		set.rest = h
	}
	for _, n := range h.Names {
		n = strings.TrimSuffix(strings.ToLower(n), ".")
		to := set.exact
		if below, ok := strings.CutPrefix(n, "*."); ok {
			n, to = below, set.wild
		}
		if n == "" || !all([]byte(n), inHost) || to[n] != nil {
			return fmt.Errorf("name %q is malformed, or that of another host", n)
		}
		to[n] = h
	}
	return nil
}

// find is the host that serves a name, which may have a port; nil if none does.
func (set *settings) find(name []byte) *host {
	if len(set.exact) == 0 && len(set.wild) == 0 {
		return set.rest
	}
	name, _ = splitHost(name)
	var buf [255]byte
	if len(name) > len(buf) {
		return nil
	}
	n := buf[:0]
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		n = append(n, c)
	}
	if len(n) > 0 && n[len(n)-1] == '.' {
		n = n[:len(n)-1]
	}
	if h := set.exact[string(n)]; h != nil {
		return h
	}
	for i, c := range n {
		if c == '.' {
			if h := set.wild[string(n[i+1:])]; h != nil {
				return h
			}
		}
	}
	return set.rest
}

// replays reports whether a sent request may be sent again. RFC 9110 calls PUT
// and DELETE idempotent, but a second PUT would undo what another client has
// written in between: that is for the service's owner to know, or for the
// client, who gives a key.
func (h *host) replays(r *request) bool {
	method := r.method.of(r.buf)
	switch string(method) {
	case "GET", "HEAD":
		return true
	case "PUT", "DELETE":
		if r.keyed {
			return true
		}
	}
	if len(h.replay) == 0 {
		return false
	}
	target, _, _ := strings.Cut(string(r.target.of(r.buf)), "?")
	for _, o := range h.replay {
		if o.method != string(method) {
			continue
		}
		// What a back end would make another path of is not the route's.
		if target == o.path || o.below && strings.HasPrefix(target, o.path) && plain(target) {
			return true
		}
	}
	return false
}

func plain(target string) bool {
	c := path.Clean(target)
	return (c == target || c+"/" == target) && !strings.ContainsAny(target, "%\\")
}
