package frontend

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
)

// Config is what a table needs.
type Config struct {
	Clock func() draas.Reading
	// Tell takes what was seen of back ends; it must not block.
	Tell func(Evidence)
	Log  *slog.Logger
}

// Table is what a frontend knows of its services. It starts passive: nothing
// is kept over a restart.
type Table struct {
	cfg Config
	// news gets a token whenever a report may have changed in what a member
	// waits for.
	news chan struct{}

	looked atomic.Int64 // boot clock of the last look at permits

	mu       sync.Mutex
	services map[draas.ServiceID]*Service
}

// New makes the table of a frontend's services.
func New(cfg Config, specs []Spec) *Table {
	t := &Table{cfg: cfg, news: make(chan struct{}, 1), services: make(map[draas.ServiceID]*Service)}
	t.Use(specs)
	return t
}

// Use takes over the services of another file. One that stays keeps what is
// decided, what waits, and its connections; one that is gone is shut.
func (t *Table) Use(specs []Spec) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.services
	t.services = make(map[draas.ServiceID]*Service, len(specs))
	for _, spec := range specs {
		s := was[spec.Service]
		if s == nil {
			s = newService(t, spec)
		}
		delete(was, spec.Service)
		s.spec.Store(&spec)
		t.services[spec.Service] = s
	}
	for _, s := range was {
		s.retire()
	}
}

// Service finds a service; nil when the file has none of that name.
func (t *Table) Service(id draas.ServiceID) *Service {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.services[id]
}

// Services lists the services by name.
func (t *Table) Services() []*Service {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Values(t.services), func(a, b *Service) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
}

// Apply takes a member's decision on a service over. Its permit counts from
// asked, a reading from before the member was asked. It fails with
// draas.ErrStaleEpoch when a later decision is known, whoever made it known.
func (t *Table) Apply(asked draas.Reading, id draas.ServiceID, d Decision) error {
	s := t.Service(id)
	if s == nil {
		return nil // of a file that this frontend does not have yet
	}
	if err := s.apply(asked, d); err != nil {
		return fmt.Errorf("service %s: %w", id, err)
	}
	return nil
}

// Reports says how this frontend stands to each service.
func (t *Table) Reports() []Report {
	var out []Report
	for _, s := range t.Services() {
		out = append(out, s.report())
	}
	return out
}

// News gets a token whenever the members should hear a report at once.
func (t *Table) News() <-chan struct{} { return t.news }

// Nudge gives News a token; from outside, when a report is another one by what
// this table does not know of itself.
func (t *Table) Nudge() {
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// lookEvery is how often permits are looked at whose end nobody asks about:
// their connections are dropped within it.
const lookEvery = 20 * time.Millisecond

// Run drops the connections of permits that have ended, until ctx ends. New
// requests are judged by the clock when they come, and do not need it.
func (t *Table) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		t.look()
	}
}

func (t *Table) look() {
	now := t.cfg.Clock()
	for _, s := range t.Services() {
		s.lapse(now)
	}
	// Only now: who sees it relies on the connections having been told.
	t.looked.Store(int64(now.Boot))
}

// Awake is called before bytes are moved on connections that stand, and costs a
// look at the clock. When nobody has looked at permits for longer than Run
// leaves between two looks, this process stood still: it then looks, which ends
// the connections of permits that have ended meanwhile, and reports true.
func (t *Table) Awake() bool {
	now := t.cfg.Clock()
	if int64(now.Boot)-t.looked.Load() < int64(2*lookEvery) {
		return false
	}
	t.look()
	return true
}
