package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/metrics"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/syncer"
)

const (
	// syncRetry is the pause after a run that failed; it doubles up to syncRetryMost.
	syncRetry     = 5 * time.Second
	syncRetryMost = 10 * time.Minute
	// syncTell is how often it is told how far this site's cloud is behind.
	syncTell = time.Second
	// syncJitter is the most that a run at a moment of the day is put off, so that
	// members and clouds are not all asked at once.
	syncJitter = 30 * time.Second
)

// carrier keeps this site's cloud ready while the site stands by: it carries the
// active site's cloud to it, by the schedule. When the site has become the active
// one it enables the users that came so, if the file says so. Nothing waits for
// it, and nothing is decided by it, but for the lag that it tells.
type carrier struct {
	site  draas.SiteID
	log   *slog.Logger
	clock func() draas.Reading
	open  func(ctx context.Context, cfg *config.Config, from, to draas.SiteID, gate syncer.Gate) (carriage, error)
	// recall reads what the records say, without a cloud; false: there are none.
	recall func(cfg *config.Config, from draas.SiteID) (syncer.Status, bool, error)
	enable func(ctx context.Context, cfg *config.Config, site draas.SiteID, gate syncer.Gate) (Users, error)
	tell   func(unit draas.ServiceID, l failover.Lag)
	find   func(failover.Finding)
	counts *metrics.Runs

	news chan struct{} // the leg, the takeover or the loss is another

	mu     sync.Mutex
	cfg    *config.Config
	leg    leg
	idle   string             // why the leg is empty
	over   takeover           // only while the leg is empty
	cancel context.CancelFunc // ends what is done about either; nil: nothing yet
	again  context.CancelFunc // has the schedule read again; nil: there is none
	sched  *syncer.Scheduler  // of the leg; nil: none yet
	lease  time.Duration
	touch  draas.Reading // when this member was in touch last; zero: never
	loss   *loss         // to be told
	lost   draas.Epoch   // of which the loss was told, or is to be
	// usersIn: all was done about the takeover; users is what became of it, nil
	// before the first try.
	usersIn bool
	users   *api.SyncUsers
	carried
}

// carriage is a replication that is open (see OpenReplication).
type carriage interface {
	Run(ctx context.Context, o syncer.Options) (*syncer.Result, error)
	Status() (syncer.Status, error)
	traffic() []traffic
	Close() error
}

// leg is what is carried: the cloud of the site where a unit is active. The zero
// leg is nothing.
type leg struct {
	unit  draas.ServiceID
	from  draas.SiteID
	epoch uint64 // of a run
}

func newCarrier(site draas.SiteID, clock func() draas.Reading, log *slog.Logger, tell func(draas.ServiceID, failover.Lag), find func(failover.Finding)) *carrier {
	c := &carrier{site: site, clock: clock, log: log, tell: tell, find: find, counts: metrics.NewRuns(), news: make(chan struct{}, 1), recall: recallStatus}
	c.open = func(ctx context.Context, cfg *config.Config, from, to draas.SiteID, gate syncer.Gate) (carriage, error) {
		r, err := OpenReplication(ctx, cfg, from, to, gate, log)
		if err != nil {
			return nil, err // not the nil pointer, which is no nil carriage
		}
		return r, nil
	}
	c.enable = func(ctx context.Context, cfg *config.Config, site draas.SiteID, gate syncer.Gate) (Users, error) {
		return enableUsers(ctx, cfg, site, gate, log)
	}
	return c
}

// use takes over the file of a wiring. A run under way goes on as it began.
func (c *carrier) use(w *wiring) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.cfg
	c.cfg = w.cfg
	if was == nil || reflect.DeepEqual(was.Sync, w.cfg.Sync) {
		return
	}
	c.narrower = c.narrower || !reflect.DeepEqual(syncFilter(&was.Sync), syncFilter(&w.cfg.Sync))
	if c.again != nil {
		c.again()
	}
}

// follow takes the decision as this member has applied it. What was done for
// another leg or takeover is ended at once.
func (c *carrier) follow(s failover.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, idle := c.legOf(s)
	c.idle = idle
	c.lease = s.Policy.Services[c.cfg.Sync.Follows].Lease.Length
	if c.lossOf(s) {
		c.kick()
	}
	over := c.takeoverOf(s)
	if over != c.over {
		c.usersIn, c.users = false, nil
	}
	// Of an entry that is replayed the history has it only later.
	c.usersIn = over != takeover{} && (c.usersIn || inHistory(s, over.unit, over.epoch, enabledStep, enabledCode))
	if next == c.leg && over == c.over {
		return
	}
	c.leg, c.over = next, over
	if c.cancel != nil {
		c.cancel()
		c.cancel = nil
	}
	c.kick()
}

func (c *carrier) kick() {
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// legOf is what is to be carried, or why nothing is. c.mu is held.
func (c *carrier) legOf(s failover.State) (leg, string) {
	conf := &c.cfg.Sync
	unit := conf.Follows
	sv := s.Services[unit]
	_, ruled := s.Policy.Services[unit]
	switch {
	case unit == "":
		return leg{}, "there is no [sync] in the file"
	case conf.Clouds[c.site] == "":
		return leg{}, fmt.Sprintf("%s has no cloud in the file", c.site)
	case !ruled || sv == nil || sv.Active == "":
		return leg{}, fmt.Sprintf("%s is active nowhere", unit)
	case sv.Move != nil || sv.Revoked || sv.Phase.Moving():
		return leg{}, fmt.Sprintf("%s is being moved", unit)
	case sv.Active == c.site:
		return leg{}, fmt.Sprintf("%s is active here: this site's cloud is the source", unit)
	case conf.Clouds[sv.Active] == "":
		return leg{}, fmt.Sprintf("%s is active at %s, which has no cloud in the file", unit, sv.Active)
	}
	return leg{unit, sv.Active, ReplicationEpoch(uint64(s.Generation), sv.Epoch)}, ""
}

// touched notes that this member had applied all that the quorum had committed
// at the reading.
func (c *carrier) touched(at draas.Reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.Boot > c.touch.Boot {
		c.touch = at
	}
}

// pass lets what is done for a leg or a takeover write while that stands, as far
// as this member knows, and it would have learned of another (syncer.Gate).
type pass struct {
	*carrier
	leg  leg
	over takeover
}

var (
	errOtherLeg   = errors.New("another site is active than when it began, or in another epoch")
	errOutOfTouch = errors.New("this member is out of touch with the others: another site may be active")
)

// Allow implements syncer.Gate.
func (p pass) Allow() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.carrier.leg != p.leg || p.carrier.over != p.over:
		return errOtherLeg
	case p.touch == (draas.Reading{}) || draas.DeadlineAt(p.touch, p.lease).Passed(p.clock()):
		return errOutOfTouch
	}
	return nil
}

// during does something for as long as the pass allows it, and returns what kept
// it from that or ended it from outside; nil: nothing did.
func (p pass) during(ctx context.Context, do func(context.Context)) error {
	if err := p.Allow(); err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { p.watch(ctx, end) })
	do(ctx)
	cause := context.Cause(ctx)
	end(nil)
	watching.Wait()
	return cause
}

// watch ends what runs when it may not write any more: what is in the midst of
// a long upload asks nobody.
func (p pass) watch(ctx context.Context, end context.CancelCauseFunc) {
	p.mu.Lock()
	every := max(p.lease/4, 10*time.Millisecond)
	p.mu.Unlock()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := p.Allow(); err != nil {
				end(err)
				return
			}
		}
	}
}

// run carries until ctx ends, one leg after the other, and enables users between.
func (c *carrier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.news:
		}
		c.tellLoss()
		c.mu.Lock()
		l, t := c.leg, c.over
		stands, cancel := context.WithCancel(ctx)
		c.cancel = cancel
		c.mu.Unlock()
		switch {
		case l != leg{}:
			c.carry(stands, l)
		case t != takeover{}:
			c.letIn(stands, t)
		}
		cancel()
	}
}

// carry serves a leg until ctx ends.
func (c *carrier) carry(ctx context.Context, l leg) {
	c.begin(l)
	var telling sync.WaitGroup
	telling.Go(func() { c.tellOn(ctx, l) })
	defer telling.Wait()
	for ctx.Err() == nil {
		reads, again := context.WithCancel(ctx)
		c.mu.Lock()
		cfg := c.cfg
		c.again = again
		c.mu.Unlock()
		c.serve(ctx, reads, cfg, l)
		again()
	}
	c.end()
}

// serve makes runs by a file's schedule until another file is used, or ctx ends.
func (c *carrier) serve(ctx, reads context.Context, cfg *config.Config, l leg) {
	sched, err := scheduleOf(&cfg.Sync)
	if err != nil { // such as a 30th of February, which never comes
		c.took(l, outcome{err: err})
		<-reads.Done()
		return
	}
	c.mu.Lock()
	c.sched, c.rested = sched, time.Now()
	c.mu.Unlock()
	if cfg.Sync.Schedule == "" {
		sched.Trigger(false) // what is carried all the time begins with it
	}
	again := time.AfterFunc(time.Hour, func() { sched.Trigger(false) })
	again.Stop()
	defer again.Stop()
	sched.Run(reads, func(_ context.Context, why string) {
		c.mu.Lock()
		wait := why == syncer.Due && time.Now().Before(c.notBefore)
		c.mu.Unlock()
		if wait || why == syncer.Due && c.stillHeld(cfg, l) {
			return
		}
		again.Stop() // what it was for is looked at now
		if retry := c.took(l, c.once(ctx, cfg, l, why)); retry > 0 {
			again.Reset(retry)
		}
	})
}

func scheduleOf(s *config.Sync) (*syncer.Scheduler, error) {
	conf := syncer.Schedule{Cron: s.Schedule, Audit: s.Audit, Jitter: syncJitter}
	if s.Schedule == "" {
		conf.Pause, conf.Jitter = s.Every, s.Every/10
	}
	return syncer.NewScheduler(conf, time.Now, rand.Float64)
}

// outcome is what became of a run.
type outcome struct {
	why     string
	began   time.Time
	begun   bool           // else this member may not write, or the file says nothing that comes
	result  *syncer.Result // nil: it came to nothing
	status  *syncer.Status // nil: not read
	traffic []traffic
	err     error
	cause   error // that ended it from outside; nil: none did
}

// once makes one run. The records are open for as long as it takes, and not
// between runs: an operator's draasd sync has them then.
func (c *carrier) once(ctx context.Context, cfg *config.Config, l leg, why string) outcome {
	o := outcome{why: why, began: time.Now()}
	gate := pass{carrier: c, leg: l}
	o.cause = gate.during(ctx, func(ctx context.Context) {
		o.begun = true
		options := c.started(o, l)
		r, err := c.open(ctx, cfg, l.from, c.site, gate)
		if err == nil {
			o.result, err = r.Run(ctx, options)
			st, failed := r.Status()
			if failed == nil {
				o.status = &st
			}
			o.traffic = r.traffic()
			err = errors.Join(err, failed, r.Close())
		}
		o.err = err
	})
	if o.result == nil && o.err == nil {
		o.err = o.cause // it was not begun
	}
	return o
}
