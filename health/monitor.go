package health

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/draasd/draas"
)

// Key says of what a verdict is: of a service at a site, or of a member.
type Key struct {
	Service draas.ServiceID
	Site    draas.SiteID
	Member  draas.MemberID // alone, without the others
}

func (k Key) String() string {
	if k.Member != "" {
		return "member " + string(k.Member)
	}
	return string(k.Service) + "@" + string(k.Site)
}

func (k Key) valid() bool {
	if k.Member != "" {
		return k.Service == "" && k.Site == ""
	}
	return k.Service != "" && k.Site != ""
}

// Target is one check of one key.
type Target struct {
	Key Key
	// Check tells the checks of a key apart, and names the check to people.
	Check  string
	Probe  Probe
	Timing Timing
}

// Change is a change of a key's verdict, all its checks together.
type Change struct {
	Key     Key
	Was     draas.Verdict // the one last delivered; unknown at first
	Verdict draas.Verdict
	// Check, Class and Detail are of the result that decided it. Class is empty
	// if what decided is that a check was never looked at.
	Check  string
	Class  Class
	Detail string
	At     time.Time // when the verdict changed
	Since  time.Time // when the first of the looks that led to it started
	Count  int       // how many looks in a row led to it
}

// Config is what a Monitor needs. The zero Config works, and tells nobody.
type Config struct {
	// OnChange is called for each change, by one goroutine, one at a time, in
	// order. A receiver that is slow does not delay any look; it misses
	// verdicts that came and went meanwhile. It must return once ctx has ended.
	OnChange func(ctx context.Context, change Change)
	// Concurrency bounds the looks under way at a time; default 1024. Targets
	// that have to wait for a slot much too long count as not looked at.
	Concurrency int
	// Random returns numbers from 0 to below 1, and is called with the
	// monitor's lock held; default math/rand/v2.
	Random func() float64
}

const defaultConcurrency = 1024

// Monitor looks at many targets on their schedules. Its methods may be called
// from any goroutine; Set and Trigger also before Run.
type Monitor struct {
	onChange func(context.Context, Change)
	random   func() float64
	slots    chan struct{} // one for each looker, for as long as Run runs
	looks    chan *check   // to the lookers
	epoch    time.Time     // what the offsets below count from
	wake     chan struct{} // to the scheduler: something may be due earlier
	tell     chan struct{} // to the teller: the queue is not empty

	mu     sync.Mutex
	ran    bool
	groups map[Key]*group
	due    schedule
	queue  []*group // groups with a change to deliver
}

// group is a key with its checks.
type group struct {
	key     Key
	checks  []*check
	change  Change // the latest; its Verdict is the group's
	told    draas.Verdict
	queued  bool
	removed bool
}

// check is a target with its state. A check is either in the schedule, or
// being looked at, or removed.
type check struct {
	Target
	group    *group
	of       *check // this is a look of its burst, and no check of its own
	detector *Detector
	position int           // in the schedule; -1: not there
	due      time.Duration // when the next look should start
	started  time.Duration // when the latest look did
	again    bool          // triggered while being looked at
	replaced bool          // the look under way is of an older probe
	removed  bool
	status   CheckStatus
	probes   int // how often its probe was replaced
	extra    int // looks of a burst that have not ended
}

// NewMonitor returns a monitor without targets.
func NewMonitor(c Config) *Monitor {
	m := &Monitor{
		onChange: c.OnChange,
		random:   c.Random,
		epoch:    time.Now(),
		looks:    make(chan *check),
		wake:     make(chan struct{}, 1),
		tell:     make(chan struct{}, 1),
		groups:   make(map[Key]*group),
	}
	if m.onChange == nil {
		m.onChange = func(context.Context, Change) {}
	}
	if m.random == nil {
		m.random = rand.Float64
	}
	if c.Concurrency <= 0 {
		c.Concurrency = defaultConcurrency
	}
	m.slots = make(chan struct{}, c.Concurrency)
	return m
}

func (m *Monitor) now() time.Duration { return time.Since(m.epoch) }

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // one is already on its way
	}
}

// ErrRan is returned by a second Run.
var ErrRan = errors.New("monitor has run already")

// Run looks and delivers until ctx ends, and returns nil when everything it
// started has ended. A monitor runs once.
func (m *Monitor) Run(ctx context.Context) error {
	if err := m.start(); err != nil {
		return err
	}
	var started sync.WaitGroup
	defer started.Wait()
	started.Go(func() { m.deliver(ctx) })

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := m.launch(ctx, &started)
		if ctx.Err() != nil {
			return nil
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-m.wake:
		case <-timer.C:
		}
	}
}

func (m *Monitor) start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ran {
		return ErrRan
	}
	m.ran = true
	// What was due before is not late: nobody was there to look.
	now := m.now()
	for _, c := range m.due {
		c.due = m.firstLook(now, c.Timing)
	}
	heap.Init(&m.due)
	return nil
}

// firstLook spreads new targets over their interval, so that they are not all
// looked at together for ever.
func (m *Monitor) firstLook(now time.Duration, t Timing) time.Duration {
	return now + time.Duration(m.random()*float64(t.Interval))
}

// launch hands out every look that is due and says how long none will be.
func (m *Monitor) launch(ctx context.Context, started *sync.WaitGroup) time.Duration {
	for { // ends when nothing is due
		c, wait := m.take()
		if c == nil {
			return wait
		}
		select {
		case m.looks <- c: // to a looker that has nothing to do
			continue
		default:
		}
		select {
		case m.looks <- c:
		case m.slots <- struct{}{}:
			started.Go(func() { m.looker(ctx, c) })
		case <-ctx.Done():
			return 0
		}
	}
}

// looker looks at c, and then at whatever it is handed. Lookers stay until ctx
// ends: growing a new goroutine's stack costs a tenth of an http look.
func (m *Monitor) looker(ctx context.Context, c *check) {
	for {
		m.look(ctx, c)
		select {
		case c = <-m.looks:
		case <-ctx.Done():
			return
		}
	}
}

const idle = time.Hour // the scheduler's sleep when there is no target

// take removes the first check from the schedule if it is due; else it says
// when the first will be.
func (m *Monitor) take() (*check, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.due) == 0 {
		return nil, idle
	}
	if wait := m.due[0].due - m.now(); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&m.due).(*check), 0
}

func (m *Monitor) look(ctx context.Context, c *check) {
	if c.of != nil {
		m.glance(ctx, c)
		return
	}
	m.mu.Lock()
	removed, due, timing, probe := c.removed, c.due, c.Timing, c.Probe
	c.replaced = false
	c.started = m.now()
	started := c.started
	m.mu.Unlock()
	if removed {
		return
	}
	r := Look(ctx, timing.Timeout, probe)
	if ctx.Err() != nil {
		return
	}
	r = discount(r, started-due, timing)

	m.mu.Lock()
	defer m.mu.Unlock()
	if c.removed {
		return
	}
	now := m.now()
	next := now
	if !c.replaced {
		next = m.record(c, now, r)
	}
	if c.again {
		c.again = false
		next = min(next, m.soon(c, now))
	}
	m.plan(c, next)
}

// record takes a result into the check's and its group's state, and returns
// when to look next.
func (m *Monitor) record(c *check, now time.Duration, r Result) time.Duration {
	verdict, changed, next := c.detector.Step(now, r)
	at := m.epoch.Add(now)
	c.status.note(at, r)
	if changed {
		c.status.turn(at, verdict)
		m.combine(c.group, c, at)
	}
	return next
}

// soon is the earliest time of a triggered look.
func (m *Monitor) soon(c *check, now time.Duration) time.Duration {
	return max(now, c.started+c.Timing.SecondLook)
}

// plan puts the check into the schedule.
func (m *Monitor) plan(c *check, at time.Duration) {
	c.due = at
	heap.Push(&m.due, c)
	if c.position == 0 {
		nudge(m.wake)
	}
}

// discount makes a look evidence of nothing if this process was stopped or
// starved around it: a failure if the look started too late, any result if the
// look went on well past its deadline.
func discount(r Result, late time.Duration, t Timing) Result {
	over := r.Latency - t.Timeout
	switch {
	case over > t.Timeout/2:
		return Result{Class: ClassLocal, Latency: r.Latency,
			Detail: clip(fmt.Sprintf("this process was held up: look ended %s after its deadline (%s %s)", over, r.Class, r.Detail))}
	case late > t.Interval+t.Timeout && !r.OK():
		return Result{Class: ClassLocal, Latency: r.Latency,
			Detail: clip(fmt.Sprintf("this process was held up: look started %s late (%s %s)", late, r.Class, r.Detail))}
	}
	return r
}

// Trigger asks for an immediate look at all checks of the key, and reports
// whether there are any. Looks at one target stay SecondLook apart, however
// often it is called: passive evidence may trigger probes, but not a flood of
// them (DESIGN.md, rule 5).
func (m *Monitor) Trigger(key Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, ok := m.groups[key]
	if !ok {
		return false
	}
	now := m.now()
	for _, c := range g.checks {
		if c.position < 0 {
			c.again = true
			continue
		}
		if at := m.soon(c, now); at < c.due {
			c.due = at
			heap.Fix(&m.due, c.position)
			if c.position == 0 {
				nudge(m.wake)
			}
		}
	}
	return true
}
