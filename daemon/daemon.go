// Package daemon wires a member together: the replicated decision, the peers,
// the probes, the guard, the DNS authority and the control API. It decides
// nothing itself.
//
// A Daemon is a value: New checks what it needs, Run runs it until its
// context ends, and it can be run again.
package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
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
	Clock      fence.Clock // zero: the machine's
	Notify     Notifier    // zero: the service manager named by the environment
}

// Daemon is one member.
type Daemon struct {
	cfg       *config.Config
	self      config.Member
	clusterID string
	log       *slog.Logger
	clock     fence.Clock
	notify    Notifier

	loop       *loop
	lookout    *lookout
	transport  *quorum.Transport
	guard      *fence.Client // nil at a witness
	answers    *answers      // nil at a witness
	others     map[draas.MemberID]*api.Client
	suspicions atomic.Uint64
	stopping   chan struct{}
}

// New reads the file and the identity. Nothing is opened that another daemon
// would be kept from.
func New(o Options) (*Daemon, error) {
	c, err := Load(o.ConfigPath)
	if err != nil {
		return nil, err
	}
	self, err := Identity(c)
	if err != nil {
		return nil, err
	}
	policy := policyOf(c)
	if err := policy.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", o.ConfigPath, err)
	}
	if o.Clock == nil {
		o.Clock = fence.SystemClock{}
	}
	if o.Notify == nil {
		o.Notify = SystemdNotifier{}
	}
	if _, err := os.Stat(c.Data); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no data directory %s: a member starts from the one that `draasd init DIR` made for it (DIR/%s/data); an empty one would be a member without memory", c.Data, self.ID)
	}
	return &Daemon{cfg: c, self: self, log: o.Log.With("member", self.ID), clock: o.Clock, notify: o.Notify}, nil
}

// Run runs the member until ctx ends, or something without which it must not
// go on fails.
func (d *Daemon) Run(ctx context.Context) (err error) {
	d.stopping = make(chan struct{})
	var undo cleanups
	defer func() { err = errors.Join(err, undo.run()) }()

	disk, err := quorum.OpenOSDisk(d.cfg.Data)
	if err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	undo.add("close data directory", disk.Close)
	d.loop = newLoop(d.clock, d.log)
	if err := d.openReplica(disk); err != nil {
		return err
	}
	undo.add("close peer port", func() error { return closed(d.transport.Close()) })
	listeners, err := d.openControl(&undo)
	if err != nil {
		return err
	}
	monitor := health.NewMonitor(health.Config{OnChange: func(_ context.Context, c health.Change) { d.verdictChanged(c) }})
	d.lookout = &lookout{cfg: d.cfg, self: d.self, monitor: monitor, peers: d.transport}
	if err := d.openAnswers(ctx, &undo); err != nil {
		return err
	}
	effects, err := d.effects()
	if err != nil {
		return err
	}
	link := d.guardLink()

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.transport.Run(ctx) })
	group.Go(func() error { return monitor.Run(ctx) })
	for _, ln := range listeners {
		group.Go(func() error { return d.serveOn(ctx, ln) })
	}
	if d.answers != nil {
		group.Go(func() error { return d.answers.run(ctx) })
	}
	d.wire(ctx, group, link, effects)
	group.Go(func() error {
		defer close(d.stopping)
		return d.loop.run(ctx)
	})
	if err := d.notify.Ready(); err != nil {
		d.log.Warn("cannot tell the service manager", "err", err)
	}
	d.log.Info("running", "cluster", d.cfg.Cluster, "role", d.self.Role, "peer", d.self.ListenPeer, "control", d.cfg.Control, "profile", d.cfg.Profile.Name)
	err = group.Wait()
	_ = d.notify.Stopping() // it sees the end of the process anyway
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// openReplica opens the log and replays it.
func (d *Daemon) openReplica(disk quorum.Disk) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	meta, err := quorum.ReadMeta(disk)
	if err != nil {
		return fmt.Errorf("read %s: %w", d.cfg.Data, err)
	}
	d.clusterID = meta.ClusterID.String()
	incarnation := newIncarnation()
	replica, err := quorum.OpenReplica(quorum.CoreConfig{
		Self: d.self.ID, Members: memberIDs(d.cfg), Heartbeat: d.cfg.Raft.Heartbeat, Election: d.cfg.Raft.Election,
		Disk: disk, Log: d.log, Rand: rand.Reader,
	}, failover.AgentConfig{
		Self: d.self.ID, Incarnation: incarnation, Boot: boot, Policy: policyOf(d.cfg),
		Resend: 4 * d.cfg.Raft.Heartbeat,
	}, d.clock.Now())
	if err != nil {
		return fmt.Errorf("open replicated log: %w", err)
	}
	d.loop.replica = replica
	return d.openPeers(meta.ClusterID, incarnation)
}

// openPeers prepares the connections to the other members.
func (d *Daemon) openPeers(cluster quorum.ClusterID, incarnation draas.Incarnation) error {
	peers := make(map[draas.MemberID]string)
	for _, m := range d.cfg.Members {
		if m.ID != d.self.ID {
			peers[m.ID] = d.cfg.PeerAddress(d.self.ID, m.ID)
		}
	}
	t, err := quorum.NewTransport(quorum.TransportConfig{
		Self: d.self.ID, Cluster: cluster, Incarnation: incarnation, Listen: d.self.ListenPeer, Peers: peers,
		TLS: quorum.TLSFiles{CA: d.cfg.TLS.CA, Cert: d.cfg.TLS.Cert, Key: d.cfg.TLS.Key}, Log: d.log,
		Inbox:    func(m quorum.Message) { d.loop.post(func(l *loop) { l.replica.Receive(m) }) },
		PeerDown: d.peerDown,
		Asked:    func(_ draas.MemberID, answer func()) { d.loop.post(func(*loop) { answer() }) },
	})
	if err != nil {
		return fmt.Errorf("prepare peers: %w", err)
	}
	d.transport = t
	return nil
}

// peerDown: a reset connection to a daemon is worth a look at once at it and
// at what runs beside it. It is no verdict (rule 5).
func (d *Daemon) peerDown(m draas.MemberID) {
	d.loop.post(func(l *loop) {
		l.replica.PeerDown(m)
		for key := range d.lookout.epochs {
			if key.Member == m || key.Site.Member() == m {
				d.lookout.monitor.Trigger(key)
			}
		}
	})
}

// newIncarnation tells this run from others. crypto/rand never fails.
func newIncarnation() draas.Incarnation {
	var b [8]byte
	rand.Read(b[:])
	return draas.Incarnation(binary.LittleEndian.Uint64(b[:]) | 1)
}

func memberIDs(c *config.Config) []draas.MemberID {
	var ids []draas.MemberID
	for _, m := range c.Members {
		ids = append(ids, m.ID)
	}
	return ids
}

// bootID tells two boots of the machine apart, and two machines.
func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	if len(data) < 36 {
		return "", errors.New("read boot id: it is too short")
	}
	return string(data[:36]), nil
}

// openControl listens on the control socket and, where the file says so, on
// the API's address over mutual TLS.
func (d *Daemon) openControl(undo *cleanups) ([]net.Listener, error) {
	unix, err := listenControl(d.cfg.Control)
	if err != nil {
		return nil, err
	}
	undo.add("remove control socket", func() error { return closed(unix.Close()) })
	listeners := []net.Listener{unix}
	if d.self.API != "" {
		tls, err := d.listenTLS(d.self.API)
		if err != nil {
			return nil, err
		}
		undo.add("close API", func() error { return closed(tls.Close()) })
		listeners = append(listeners, tls)
	}
	d.others = make(map[draas.MemberID]*api.Client)
	for _, m := range d.cfg.Members {
		if m.ID == d.self.ID || m.API == "" {
			continue
		}
		conf, err := ClientTLS(d.cfg, m.ID)
		if err != nil {
			return nil, err
		}
		client := api.TLS(m.API, conf)
		d.others[m.ID] = client
		undo.add("close API client", func() error { client.Close(); return nil })
	}
	return listeners, nil
}

// listenControl takes over a socket that a dead daemon left behind. That no
// living one has it is known from the data directory's lock.
func listenControl(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make directory of control socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old control socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect control socket: %w", err), ln.Close())
	}
	return ln, nil
}

func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
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
func (d *Daemon) wire(ctx context.Context, group *errgroup.Group, link *guardLink, effects map[draas.ServiceID]map[string]runbook.Effect) {
	steps := &executor{effects: effects, log: d.log, running: make(map[stepID]context.CancelFunc),
		ended: func(r runbook.Record) { d.loop.post(func(l *loop) { l.replica.StepEnded(r) }) }}
	group.Go(func() error { <-ctx.Done(); steps.wait(); return nil })
	if link != nil {
		group.Go(func() error { link.run(ctx); return nil })
	}
	d.loop.send = d.transport.Send
	d.loop.command = func(c failover.Commands) {
		if link != nil {
			link.wish(c)
		}
		steps.follow(ctx, c.Steps)
	}
	d.loop.changed = func(s failover.State) { d.stateChanged(s) }
	d.loop.touch = d.touched
	d.loop.leased = func(now draas.Reading) { d.leased(d.loop, now) }
	d.loop.alive = d.watchdog()
	// The state replayed from disk has to be followed at once.
	d.loop.post(func(l *loop) { d.stateChanged(l.replica.State()) })
}

// stateChanged follows the decision: what is looked at and what is answered.
func (d *Daemon) stateChanged(s failover.State) {
	if d.answers != nil {
		d.answers.publish(s)
	}
	moved, err := d.lookout.follow(s)
	if err != nil {
		d.log.Error("cannot look at what the decision needs", "err", err)
	}
	if moved {
		d.loop.post(func(l *loop) { l.forget(d.lookout); d.look(l) })
	}
}

// forget drops the agent's views of what is not looked at any more.
func (l *loop) forget(k *lookout) {
	for id := range l.replica.State().Services {
		for _, site := range k.cfg.Sites() {
			if _, looked := k.epochs[health.Key{Service: id, Site: site}]; !looked {
				l.replica.Forget(id, site)
			}
		}
	}
}

// guardLink carries commands to this site's guard; a witness has none.
func (d *Daemon) guardLink() *guardLink {
	if d.self.Role != draas.RoleSite {
		return nil
	}
	d.guard = fence.Dial(d.cfg.Guard)
	var guarded []draas.ServiceID
	for _, s := range d.cfg.Services {
		if s.Fence.Kind != draas.FenceNone {
			guarded = append(guarded, s.ID)
		}
	}
	return newGuardLink(d.guard, guarded, func(id draas.ServiceID, epoch draas.Epoch) {
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
