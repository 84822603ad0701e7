package frontend

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/draasd/draas"
)

// ErrTampered is what See returns when it can read what a proxy does, and that
// is nothing that Lead ever leaves behind: servers of two sites at once, or
// rules that others changed.
var ErrTampered = errors.New("changed by others")

// Leading is where a proxy of others leads a service's users.
type Leading struct {
	Site draas.SiteID // empty: nowhere
	// Draining: what is under way to the site goes on, and nothing new is
	// begun there.
	Draining bool
}

func (l Leading) String() string {
	switch {
	case l.Site == "":
		return "nowhere"
	case l.Draining:
		return string(l.Site) + " (draining)"
	}
	return string(l.Site)
}

// as reports whether a proxy that was seen to lead to l does what want asks
// for: when nothing is under way any more, draining is leading nowhere.
func (l Leading) as(want Leading) bool {
	return l == want || want.Draining && l == Leading{}
}

// Driver makes a proxy that is not ours follow the decision. It may be used
// for several services at once. It knows nothing of epochs: Drive does, which
// asks it for one thing after the other.
type Driver interface {
	// Lead leads the service's users there and nowhere else. It is complete
	// when it returns nil: nothing new reaches another site, and connections
	// to other sites have ended. It may be asked for what is so already, and
	// starts from whatever it finds. After an error anything may be so.
	Lead(ctx context.Context, svc *Spec, to Leading) error
	// See reads back where they are led. An error says that this is not known
	// (DESIGN.md, rule 4), or ErrTampered.
	See(ctx context.Context, svc *Spec) (Leading, error)
}

// Counter is a Driver that can count what is under way to a site: connections,
// or sessions. A planned move waits for them.
type Counter interface {
	Count(ctx context.Context, svc *Spec, site draas.SiteID) (int64, error)
}

// DriveOptions say how a service is driven. The zero value will do but for Log.
type DriveOptions struct {
	Log *slog.Logger
	// Tell takes every change of how the service is driven; it must not block.
	Tell func(Driven)
	// Look is the time between two looks at what the proxy does; zero: 2 s.
	Look time.Duration
	// Timeout is that of one act or look of the driver; zero: 10 s.
	Timeout time.Duration
	// Ahead is what the driver needs to close: it begins that much before a
	// permit ends.
	Ahead time.Duration
}

// Driven is how a service stands at a proxy of others.
type Driven struct {
	Service  draas.ServiceID
	Epoch    draas.Epoch // that Want follows from
	Want     Leading
	Done     bool  // the proxy was last seen to do so
	Err      error // why it is not done, or not known
	Changes  int64 // times that it was led somewhere else, since the start
	Repaired int64 // times that others had changed it
	Failures int64 // acts and looks that failed
}

// Times of Drive.
const (
	defaultLook    = 2 * time.Second
	defaultTimeout = 10 * time.Second
	firstRetry     = 50 * time.Millisecond
	lastRetry      = time.Second
	// countEvery is how often what drains is counted.
	countEvery = 20 * time.Millisecond
)

func (o DriveOptions) withDefaults() DriveOptions {
	if o.Look == 0 {
		o.Look = defaultLook
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Tell == nil {
		o.Tell = func(Driven) {}
	}
	return o
}
