package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Gate says whether this site may still write its cloud: the daemon knows, by
// the epoch. It is asked before each write; its error ends the run.
type Gate interface{ Allow() error }

// Config is what an [Engine] is made of.
type Config struct {
	Source Reader
	Target Writer
	Store  *Store
	Gate   Gate             // nil: always
	Log    *slog.Logger     // nil: none
	Now    func() time.Time // nil: time.Now
	// Random is in [0, 1), for jitter; nil: math/rand's.
	Random func() float64
	// Policy of a kind; nil: DefaultPolicy of all.
	Policy func(Kind) Policy
	Map    []Mapping
	Filter Filter
	Brake  Brake

	Workers  int // writes at the same time; 0: 16
	Streams  int // of them with a body of more than 1 MiB; 0: 4
	Listings int // at the same time and side; 0: 4
	Attempts int // at one request that fails for a time; 0: 4
	Window   int // objects of a holder that are looked at at a time, where they are listed in order; 0: 2000, -1: all
}

// DefaultPolicy reports what others did, and deletes what two complete listings
// in a row have missed, at least ten minutes apart.
func DefaultPolicy(Kind) Policy { return Policy{Missing: 2, Grace: 10 * time.Minute} }

// Brake bounds how much of a kind one run deletes or takes back from others.
type Brake struct {
	Objects int     // 0: 10
	Share   float64 // of the kind's records; 0: 0.1
}

func (b Brake) limit(records int) int {
	return max(cmp.Or(b.Objects, 10), int(cmp.Or(b.Share, 0.1)*float64(records)))
}

// Options are those of one run.
type Options struct {
	// Epoch in which the source became the active site. A run of an older one
	// than the store has seen is refused; the first of a newer one is held.
	Epoch uint64
	// Filter narrows what the configuration carries.
	Filter Filter
	// Audit reads everything, whatever the revisions say.
	Audit bool
	// Retry what failed before without waiting.
	Retry bool
	// Unbraked kinds are not held by the brake; "*" is all of them.
	Unbraked []Kind
	// Accept the turn: see [Turn].
	Accept *Turn
	// Progress is called at most five times a second, and once at the end.
	Progress func(Progress)

	plan bool // nothing is going to be written
}

// ErrStale: a later epoch's run was here already.
var ErrStale = errors.New("of an older epoch than the last run")

// ErrHeld: nothing was done, for the operator has to accept it first.
var ErrHeld = errors.New("held until the operator accepts it")

// Engine carries one source to one target. One run is made at a time: Plan and
// Verify may be asked for meanwhile.
type Engine struct {
	Config
}

// New makes an engine.
func New(c Config) (*Engine, error) {
	if c.Source == nil || c.Target == nil || c.Store == nil {
		return nil, errors.New("make engine: source, target and store are needed")
	}
	if c.Source.Site() == c.Target.Site() || c.Source.Site() == "" {
		return nil, fmt.Errorf("make engine: the source is %q and the target %q", c.Source.Site(), c.Target.Site())
	}
	if err := c.Filter.Check(); err != nil {
		return nil, fmt.Errorf("make engine: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.Policy == nil {
		c.Policy = DefaultPolicy
	}
	c.Workers = max(1, cmp.Or(c.Workers, 16))
	c.Streams = max(1, cmp.Or(c.Streams, 4))
	c.Listings = max(1, cmp.Or(c.Listings, 4))
	c.Attempts = max(1, cmp.Or(c.Attempts, 4))
	c.Window = cmp.Or(c.Window, windowSize)
	return &Engine{Config: c}, nil
}

// Plan looks at both sides and says what a run would do. It changes nothing, in
// the store neither.
func (e *Engine) Plan(ctx context.Context, o Options) (*Plan, error) {
	o.plan = true
	s, err := e.survey(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return s.plan(), nil
}

// pause waits, with up to a quarter more, so that many do not come back at once.
func (e *Engine) pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d + time.Duration(e.Random()*float64(d)/4))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
