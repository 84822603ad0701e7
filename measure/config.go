// Package measure asks a service for answers on a fixed schedule, as users
// would, and reports what a failover cost them. It is the engine of rtotest;
// docs/rtotest.md states how it measures.
package measure

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/draasd/draas"
	"github.com/draasd/draas/rto"
)

// Headers with which a service may stamp its answers.
const (
	HeaderSite  = "Draas-Site"  // the site that answers
	HeaderEpoch = "Draas-Epoch" // the epoch of its permit, decimal
	HeaderTime  = "Draas-Time"  // the server's clock: Unix nanoseconds, decimal
)

// Kind is a way in which clients find the service and keep to it.
type Kind string

// The kinds of client.
const (
	Fresh     Kind = "fresh"     // a lookup and a connection for every request
	TTL       Kind = "ttl"       // a lookup per lifetime of the record, a connection for every request
	KeepAlive Kind = "keepalive" // one connection kept; a lookup when it must be made anew
	Pinned    Kind = "pinned"    // the first address for ever, a connection for every request
	JVM       Kind = "jvm"       // one lookup for ever, all its addresses; one connection kept
	Browser   Kind = "browser"   // a lookup per lifetime of the record, but at most one a minute; one connection kept
)

// Kinds lists the kinds of client.
func Kinds() []Kind { return []Kind{Fresh, TTL, KeepAlive, Browser, JVM, Pinned} }

// LooksAgain reports whether clients of the kind ever look a name up anew. The
// others do not come back where the service moves by DNS alone.
func (k Kind) LooksAgain() bool { return k != Pinned && k != JVM }

// SiteURL is where one site can be asked directly.
type SiteURL struct {
	Name draas.SiteID
	URL  string
}

// Config says what to measure and how. The zero value of each field but URL
// takes the default that is given here.
type Config struct {
	// URL is what users ask for, http or https.
	URL string
	// Rate is the requests per second of each client: 100.
	Rate float64
	// Timeout is how long one request may take, its lookup included: 1 s.
	Timeout time.Duration
	// Duration is how long to ask; zero means until the context ends.
	Duration time.Duration
	// Settle is how long service must last to end an outage: 1 s.
	Settle time.Duration
	// Clients are the kinds of client, each asking at Rate: fresh. The first
	// is the one whose outage is the report's.
	Clients []Kind
	// Users is how many users of each kind take turns, each with a cache and a
	// connection of its own: 1. The first answer that each keeps is as old as
	// if they had looked up one after the other: that of one user is new.
	Users int
	// Sites are asked directly, each at Rate, to see which are active.
	Sites []SiteURL
	// Resolvers are DNS servers, HOST:PORT or HOST, asked in place of the
	// system's resolver.
	Resolvers []string
	// ExpectBody must match the first 64 KiB of a good answer's body.
	ExpectBody *regexp.Regexp
	// ExpectSites is the order in which sites should be active, for services
	// that do not stamp epochs; an outage ends only at the last of them.
	ExpectSites []draas.SiteID
	// Write says what to write and read back, nil for nothing.
	Write *WriteConfig
	// TLS is used for https; its ServerName is filled in.
	TLS *tls.Config
	// Fault delivers the instant of the fault; the first counts.
	Fault <-chan time.Time
	// Observe is called with every outcome, by one goroutine, in the order
	// of arrival. It must be quick: while it runs no outcome is recorded.
	Observe func(Event)
}

// Event is the outcome of one request.
type Event struct {
	Client string // the kind of client, or the name of the site asked
	Direct bool   // asked at one site
	Start  time.Time
	Sample rto.Sample // instants since Start
	Site   draas.SiteID
	Addr   string        // that was asked, HOST:PORT; empty when none was found
	TTL    time.Duration // left of the address's when it was asked, or UnknownTTL
	Err    error         // of a failure
}

// Arrived is when the outcome was known.
func (e Event) Arrived() time.Time { return e.Start.Add(e.Sample.Done) }

// maxRate keeps the schedule's period well above the timers' resolution.
const maxRate = 20_000

// maxUsers is what Sample.User can number, with room to spare.
const maxUsers = 10_000

// complete returns the configuration with its defaults, or all that is wrong
// with it.
func (c Config) complete() (Config, error) {
	if c.Rate == 0 {
		c.Rate = 100
	}
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	if c.Settle == 0 {
		c.Settle = time.Second
	}
	if len(c.Clients) == 0 {
		c.Clients = []Kind{Fresh}
	}
	if c.Users == 0 {
		c.Users = 1
	}
	var errs []error
	wrong := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if math.IsNaN(c.Rate) || c.Rate < 0.1 || c.Rate > maxRate {
		wrong("rate %v is not within 0.1 to %d requests per second", c.Rate, maxRate)
	}
	if c.Timeout < 0 || c.Settle < 0 || c.Duration < 0 {
		wrong("timeout, settle and duration must be positive")
	}
	if c.Users < 0 || c.Users > maxUsers {
		wrong("users %d is not within 1 to %d", c.Users, maxUsers)
	}
	u, err := parseURL(c.URL)
	if err != nil {
		errs = append(errs, err)
	}
	for i, k := range c.Clients {
		switch {
		case !slices.Contains(Kinds(), k):
			wrong("%q is not a kind of client (one of %v)", k, Kinds())
		case slices.Contains(c.Clients[:i], k):
			wrong("client %s is given twice", k)
		case k == TTL && len(c.Resolvers) == 0 && u != nil && net.ParseIP(u.Hostname()) == nil:
			wrong("client ttl needs a resolver: the system's does not tell how long an answer holds")
		}
	}
	for i, s := range c.Sites {
		if !validSite(string(s.Name)) {
			wrong("%q is not a site's name", s.Name)
		}
		if slices.ContainsFunc(c.Sites[:i], func(o SiteURL) bool { return o.Name == s.Name }) {
			wrong("site %s is given twice", s.Name)
		}
		if _, err := parseURL(s.URL); err != nil {
			wrong("site %s: %w", s.Name, err)
		}
	}
	for _, s := range c.ExpectSites {
		if !validSite(string(s)) {
			wrong("%q is not a site's name", s)
		}
	}
	if c.Write != nil {
		write, err := c.Write.complete()
		if err != nil {
			wrong("write: %w", err)
		}
		c.Write = &write
	}
	c.Resolvers = slices.Clone(c.Resolvers)
	for i, r := range c.Resolvers {
		if net.ParseIP(r) != nil {
			c.Resolvers[i] = net.JoinHostPort(r, "53")
		} else if host, port, err := net.SplitHostPort(r); err != nil || host == "" || port == "" {
			wrong("resolver %q is not HOST:PORT", r)
		}
	}
	return c, errors.Join(errs...)
}

func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("parse URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil, fmt.Errorf("%q is not an http or https URL", s)
	}
	return u, nil
}

// validSite reports whether s can be a site's name. It is strict because
// names come from servers and go to terminals.
func validSite(s string) bool {
	return s != "" && len(s) <= 63 && strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}) < 0
}

// maxText bounds what is kept of a text from elsewhere, in bytes.
const maxText = 1 << 10

// clean makes a text from elsewhere fit for a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s[:min(len(s), maxText)])
}

// minJoin keeps a site's answers together at high rates, where the machine's
// own unevenness exceeds 2.5 periods.
const minJoin = 25 * time.Millisecond

// join is how far apart two good answers of a site may be for it to count as
// active in between.
func (c Config) join() time.Duration {
	return max(time.Duration(2.5*float64(time.Second)/c.Rate), minJoin)
}
