// Package daemon wires a member together: the replicated decision, the peers,
// the probes, the guard, the DNS authority and the control API. It decides
// nothing itself.
//
// A Daemon is a value: New checks what it needs, Run runs it until its
// context ends, and it can be run again.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api/metrics"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/health"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/runbook"
)

// Options is what a daemon runs with.
type Options struct {
	ConfigPath string
	Log        *slog.Logger
	// Hangup asks for the file to be read again, as `draasd reload` does.
	Hangup <-chan os.Signal
	Clock  fence.Clock // zero: the machine's
	Notify Notifier    // zero: the service manager named by the environment
}

// Daemon is one member.
type Daemon struct {
	path   string
	self   draas.MemberID
	log    *slog.Logger
	clock  fence.Clock
	notify Notifier
	hangup <-chan os.Signal

	// wiring is what follows from the file in use; the rest lives as long as
	// a run.
	wiring     atomic.Pointer[wiring]
	clusterID  string
	loop       *loop
	lookout    *lookout
	transport  *quorum.Transport
	guard      *fence.Client // nil at a witness
	link       *guardLink    // nil at a witness
	steps      *executor
	devices    *deviceLink
	lags       *lagWatch // nil at a witness
	carrier    *carrier  // nil at a witness
	users      *overseer // nil at a witness
	answers    *answers  // nil at a witness
	frontends  *frontends
	grants     *grants
	acts       *acting
	entrances  *entrances
	files      files
	leaving    bool    // of the main loop: this member has asked to be let go
	startedBy  *wiring // what this run was started with
	proven     proof   // of survive: sites that devices have off, kept while the cluster is started anew
	suspicions atomic.Uint64
	paged      pagedCount
	synced     *metrics.Runs
	stopping   chan struct{}
}

// New reads the file and the identity. Nothing is opened that another daemon
// would be kept from.
func New(o Options) (*Daemon, error) {
	if o.Clock == nil {
		o.Clock = fence.SystemClock{}
	}
	if o.Notify == nil {
		o.Notify = SystemdNotifier{}
	}
	d := &Daemon{path: o.ConfigPath, log: o.Log, clock: o.Clock, notify: o.Notify, hangup: o.Hangup, acts: newActing(), entrances: &entrances{},
		synced: metrics.NewRuns(), frontends: newFrontends(o.Clock.Now)}
	d.grants = newGrants(o.Clock.Now, d.vipMoved)
	w, err := d.load()
	if err != nil {
		return nil, err
	}
	d.self = w.self.ID
	d.log = o.Log.With("member", d.self)
	d.wiring.Store(w)
	if _, err := os.Stat(w.cfg.Data); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no data directory %s: a member of a new cluster starts from the one that `draasd init DIR` made for it (DIR/%s/data); one that is new in a cluster that runs, or has lost its disk, from what `draasd join` makes. An empty one would be a member without memory", w.cfg.Data, d.self)
	}
	return d, nil
}

// load makes a wiring of the file as it is now.
func (d *Daemon) load() (*wiring, error) {
	c, err := Load(d.path)
	if err != nil {
		return nil, err
	}
	w, err := d.newWiring(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.path, err)
	}
	return w, nil
}

// Run runs the member until ctx ends, or something without which it must not
// go on fails. ErrLeft says that it has left the cluster. The end of ctx is an
// orderly stop: of two sites one then hands over and leaves first.
func (d *Daemon) Run(ctx context.Context) error {
	return d.runs(context.WithoutCancel(ctx), ctx.Done())
}

// runs runs the member until it is stopped; the end of ctx ends it at once.
func (d *Daemon) runs(ctx context.Context, stop <-chan struct{}) error {
	d.proven = proof{}
	for {
		marked, asked := d.wasLeaving()
		err := d.run(ctx, stop)
		switch {
		case errors.Is(err, errForce), errors.Is(err, quorum.ErrInterrupted):
			if err := d.force(); err != nil {
				return err
			}
		case errors.Is(err, quorum.ErrRemoved) && (d.leaving || marked):
			if err := d.left(); err != nil {
				return err
			}
			select {
			case <-stop:
				return nil
			default:
			}
			if d.leaving || asked {
				return ErrLeft
			}
		default:
			return err
		}
	}
}

// run is one run of the member on its log.
func (d *Daemon) run(ctx context.Context, stop <-chan struct{}) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.leaving = false
	d.stopping = make(chan struct{})
	d.acts.restart()
	d.entrances.restart()
	var undo cleanups
	defer func() { err = errors.Join(err, undo.run()) }()

	w := d.now()
	disk, err := quorum.OpenOSDisk(w.cfg.Data)
	if err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	undo.add("close data directory", disk.Close)
	d.loop, d.files = newLoop(d.clock, d.log), files{read: []*wiring{w}}
	d.startedBy = w
	if err := d.openReplica(disk); err != nil {
		return err
	}
	undo.add("close peer port", func() error { return closed(d.transport.Close()) })
	listeners, err := d.openControl(&undo)
	if err != nil {
		return err
	}
	monitor := health.NewMonitor(health.Config{OnChange: func(_ context.Context, c health.Change) { d.verdictChanged(c) }})
	d.lookout = &lookout{w: w, monitor: monitor}
	d.frontends.use(w)
	d.grants.use(w.cfg)
	d.frontends.restart(monitor.Burst, func() { d.loop.post(func(*loop) {}) })
	shown, err := d.listenMetrics(&undo)
	if err != nil {
		return err
	}
	if err := d.openAnswers(ctx, &undo); err != nil {
		return err
	}
	d.openGuard(&undo)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.transport.Run(ctx) })
	group.Go(func() error { return monitor.Run(ctx) })
	for _, ln := range listeners {
		group.Go(func() error { return d.serveOn(ctx, ln, d.handler()) })
	}
	if shown != nil {
		group.Go(func() error { return d.serveOn(ctx, shown, d.onlyMetrics()) })
	}
	if d.answers != nil {
		group.Go(func() error { return d.answers.run(ctx) })
	}
	d.wire(ctx, group)
	group.Go(func() error {
		select {
		case <-stop:
			d.goodbye(ctx)
			cancel()
		case <-ctx.Done():
		}
		return nil
	})
	group.Go(func() error { d.survive(ctx); return nil })
	group.Go(func() error { d.hangups(ctx); return nil })
	group.Go(func() error { d.watch(ctx); return nil })
	group.Go(func() error {
		defer close(d.stopping)
		return d.loop.run(ctx)
	})
	if err := d.notify.Ready(); err != nil {
		d.log.Warn("cannot tell the service manager", "err", err)
	}
	d.log.Info("running", "cluster", w.cfg.Cluster, "role", w.self.Role, "peer", w.self.ListenPeer, "control", w.cfg.Control, "profile", w.cfg.Profile.Name)
	err = group.Wait()
	_ = d.notify.Stopping() // it sees the end of the process anyway
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// verdictChanged is told by the monitor; what it sees then is read by the
// main loop.
func (d *Daemon) verdictChanged(c health.Change) {
	level := slog.LevelInfo
	if c.Verdict == draas.Suspect {
		d.suspicions.Add(1)
		level = slog.LevelDebug
	}
	d.log.Log(context.Background(), level, "verdict changed", "of", c.Key.String(), "verdict", c.Verdict, "was", c.Was, "class", c.Class, "detail", c.Detail)
	d.loop.post(func(l *loop) { d.look(l) })
}

func (d *Daemon) look(l *loop) {
	for _, o := range d.lookout.observations() {
		l.replica.Look(o)
	}
}

// wire connects the main loop with what carries out its commands.
func (d *Daemon) wire(ctx context.Context, group *errgroup.Group) {
	d.steps = newExecutor(d.log, func(r runbook.Record) { d.loop.post(func(l *loop) { l.replica.StepEnded(r) }) })
	d.steps.use(d.now().effects)
	group.Go(func() error { <-ctx.Done(); d.steps.wait(); return nil })
	d.devices = newDeviceLink(d.log, func(unit draas.ServiceID, epoch draas.Epoch, evidence string) {
		d.loop.post(func(l *loop) { l.replica.DeviceOff(unit, epoch, evidence) })
	})
	d.devices.use(d.now())
	group.Go(func() error { <-ctx.Done(); d.devices.wait(); return nil })
	d.lags = nil
	if d.now().self.Role == draas.RoleSite {
		d.lags = newLagWatch(d.self.Site(), d.log, func(unit draas.ServiceID, g failover.Lag) {
			d.loop.post(func(l *loop) { l.replica.Lag(unit, g) })
		})
		d.lags.use(d.now())
		group.Go(func() error { <-ctx.Done(); d.lags.wait(); return nil })
	}
	d.carrier = nil
	if d.now().self.Role == draas.RoleSite {
		d.carrier = newCarrier(d.self.Site(), d.clock.Now, d.log, d.lags.carry, func(f failover.Finding) {
			d.loop.post(func(l *loop) { l.replica.Find(f) })
		})
		d.carrier.counts = d.synced
		d.carrier.use(d.now())
		group.Go(func() error { d.carrier.run(ctx); return nil })
	}
	d.users = nil
	if d.now().self.Role == draas.RoleSite {
		d.users = newOverseer(d.now().self.ID.Site(), d.log, func(f failover.Finding) {
			d.loop.post(func(l *loop) { l.replica.Find(f) })
		})
		d.users.use(d.now())
		group.Go(func() error { <-ctx.Done(); d.users.wait(); return nil })
	}
	if d.link != nil {
		d.link.use(d.now())
		group.Go(func() error { d.link.run(ctx); return nil })
	}
	d.loop.send = d.transport.Send
	d.loop.command = func(c failover.Commands) {
		c = d.frontends.hold(c, d.loop.replica.State(), d.clock.Now())
		if d.link != nil {
			d.link.wish(c)
		}
		d.steps.follow(ctx, c.Steps)
		d.devices.follow(ctx, c.Fence)
	}
	d.loop.decided = func(s failover.State) {
		d.decided(s)
		// Before this member counts as in touch as of this state: what may write as
		// long as it is would else write once more by the state before.
		if d.carrier != nil {
			d.carrier.follow(s)
		}
	}
	d.loop.changed = func(s failover.State) {
		d.stateChanged(s)
		if d.lags != nil {
			d.lags.follow(ctx, s)
		}
		// What is replayed was decided, and looked after, long ago.
		if d.users != nil && d.loop.replica.Greeted() {
			d.users.follow(ctx, s)
		}
	}
	d.loop.touch = func(s quorum.CoreStatus, now draas.Reading) {
		d.touched(s, now)
		d.listen(d.loop, now)
		d.grants.stand(s, s.Applied >= s.Commit && d.loop.replica.Greeted(), now)
	}
	d.loop.leased = func(now draas.Reading) { d.leased(d.loop, now) }
	d.loop.alive = d.watchdog()
	// The state replayed from disk has to be followed at once.
	d.loop.post(func(l *loop) {
		d.acts.decided(l.replica.State(), d.clock.Now())
		d.entrances.decided(l.replica.State())
		if d.carrier != nil {
			d.carrier.follow(l.replica.State())
		}
		l.changed(l.replica.State())
	})
}

// stateChanged follows the decision: what is looked at and what is answered.
func (d *Daemon) stateChanged(s failover.State) {
	if d.answers != nil {
		d.publish(s)
	}
	d.frontends.publish(s)
	moved, err := d.lookout.follow(s)
	if err != nil {
		d.log.Error("cannot look at what the decision needs", "err", err)
	}
	if moved {
		d.loop.post(func(l *loop) { d.forget(l); d.look(l) })
	}
}

// forget drops the agent's views of what is not looked at any more.
func (d *Daemon) forget(l *loop) {
	for _, parts := range d.now().units {
		for _, id := range parts {
			for _, site := range d.now().cfg.Sites() {
				if _, looked := d.lookout.epochs[health.Key{Service: id, Site: site}]; !looked {
					l.replica.Forget(id, site)
				}
			}
		}
	}
}

// openGuard prepares the way to this site's guard; a witness has none.
func (d *Daemon) openGuard(undo *cleanups) {
	d.guard, d.link = nil, nil
	w := d.now()
	if w.self.Role != draas.RoleSite {
		return
	}
	d.guard = fence.Dial(w.cfg.Guard)
	undo.add("close guard's connections", d.guard.Close)
	d.link = newGuardLink(d.guard, func(id draas.ServiceID, epoch draas.Epoch) {
		d.loop.post(func(l *loop) { l.replica.FenceClosed(id, epoch) })
	}, d.log)
}

// watchdog tells the service manager that the main loop turns.
func (d *Daemon) watchdog() func() {
	every := d.notify.WatchdogInterval()
	if every <= 0 {
		return func() {}
	}
	var last time.Time
	return func() {
		if now := time.Now(); now.Sub(last) >= every {
			last = now
			if err := d.notify.Alive(); err != nil {
				d.log.Warn("cannot tell the service manager", "err", err)
			}
		}
	}
}

// cleanups are run last in, first out.
type cleanups struct {
	names []string
	funcs []func() error
}

func (c *cleanups) add(name string, f func() error) {
	c.names, c.funcs = append(c.names, name), append(c.funcs, f)
}

func (c *cleanups) run() error {
	var errs []error
	for i := len(c.funcs) - 1; i >= 0; i-- {
		if err := c.funcs[i](); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.names[i], err))
		}
	}
	return errors.Join(errs...)
}
