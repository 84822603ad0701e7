// Package edge runs a frontend: it follows the decision through every member
// that it can reach, and leads users to the active site by our own proxies, or
// by one of others. It has no vote, keeps nothing over a restart, and starts
// leading nowhere.
package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/schemes/frontend"
)

// Options is what a frontend runs with.
type Options struct {
	ConfigPath string
	Log        *slog.Logger
	// Hangup asks for the file to be read again.
	Hangup <-chan os.Signal
	Clock  func() draas.Reading
	// Ready is called when it listens; nil: nobody is told.
	Ready func() error
}

// Edge is one frontend.
type Edge struct {
	o       Options
	log     *slog.Logger
	name    string
	started time.Time
	table   *frontend.Table
	follow  *follower
	clock   *clock
	lines   *lines

	mu     sync.Mutex
	cfg    *config.Config
	self   config.Frontend
	reload *api.Reload
	ports  map[string]*port // by address
	driven map[draas.ServiceID]frontend.Driven
	keeps  map[string]*kept // virtual IPs
	// openVIP opens what sets the addresses of a virtual IP on this host.
	openVIP func(*keeper) (addresses, error)
}

// New reads the file and who this is. Nothing is opened yet.
func New(o Options) (*Edge, error) {
	c, self, err := load(o.ConfigPath)
	if err != nil {
		return nil, err
	}
	e := &Edge{o: o, name: self.ID, log: o.Log.With("frontend", self.ID), cfg: c, self: self,
		ports: make(map[string]*port), driven: make(map[draas.ServiceID]frontend.Driven), keeps: make(map[string]*kept), openVIP: openAddresses}
	e.clock = newClock(o.Clock)
	e.follow = &follower{name: self.ID, clock: o.Clock, log: e.log}
	e.table = frontend.New(frontend.Config{Clock: e.clock.Now, Log: e.log, Tell: e.follow.tell}, specsOf(c, self.ID))
	e.follow.table, e.follow.reports = e.table, e.reports
	return e, nil
}

// Beside reports whether the file gives a frontend to the member whose
// certificate is here.
func Beside(path string) (bool, error) {
	c, err := connect.Load(path)
	if err != nil {
		return false, err
	}
	name, err := connect.CommonName(c.TLS.Cert)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(c.Frontends, func(f config.Frontend) bool { return f.Member != "" && string(f.Member) == name }), nil
}

// load reads the file and finds who this is: the frontend that the own
// certificate names, or the one that the member whose it is runs.
func load(path string) (*config.Config, config.Frontend, error) {
	c, err := connect.Load(path)
	if err != nil {
		return nil, config.Frontend{}, err
	}
	name, err := connect.CommonName(c.TLS.Cert)
	if err != nil {
		return nil, config.Frontend{}, err
	}
	if f, ok := c.Frontend(name); ok && f.Member == "" {
		return c, f, nil
	}
	for _, f := range c.Frontends {
		if f.Member != "" && string(f.Member) == name {
			return c, f, nil
		}
	}
	return nil, config.Frontend{}, fmt.Errorf("%s names %q, which is no frontend in the file: its common name must be one of the [frontend.NAME], or the member that one of them names", c.TLS.Cert, name)
}

// Run runs the frontend until ctx ends, or something without which it must not
// go on fails.
func (e *Edge) Run(ctx context.Context) (err error) {
	e.started = time.Now()
	if e.lines, err = openLines(e.self.AccessLog, e.log); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.lines.close()) }()
	control, err := listenControl(e.self.Control)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return e.serveControl(ctx, control) })
	group.Go(func() error { e.clock.run(ctx); return nil })
	group.Go(func() error { e.table.Run(ctx); return nil })
	group.Go(func() error { return e.lead(ctx) })
	err = group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// lead follows and serves by a file, and by the next one when it is read again.
func (e *Edge) lead(ctx context.Context) error {
	defer e.closePorts()
	if err := e.use(ctx, e.cfg); err != nil {
		return err
	}
	defer e.endVIPs()
	e.useVIPs(ctx, e.cfg)
	if e.o.Ready != nil {
		if err := e.o.Ready(); err != nil {
			e.log.Warn("cannot tell the service manager", "err", err)
		}
	}
	e.log.Info("running", "kind", e.self.Kind, "services", len(e.table.Services()))
	for {
		round, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { e.round(round); close(ended) }()
		next := e.nextFile(ctx)
		stop()
		<-ended
		if next == nil {
			return nil
		}
		if err := e.use(ctx, next); err != nil {
			e.refuse(err)
			continue
		}
		e.useVIPs(ctx, next)
		e.mu.Lock()
		e.cfg = next
		e.self, _ = next.Frontend(e.name)
		e.reload = &api.Reload{File: e.o.ConfigPath, At: time.Now().UTC(), Digest: next.Digest(), InForce: true}
		e.mu.Unlock()
		e.log.Info("goes by the new file", "digest", next.Digest())
	}
}

// round follows the members of the file in use, and drives what is not ours.
func (e *Edge) round(ctx context.Context) {
	e.mu.Lock()
	c, self := e.cfg, e.self
	e.mu.Unlock()
	var all sync.WaitGroup
	clients := e.members(c)
	all.Go(func() { e.follow.run(ctx) })
	if self.Kind != config.FrontendEmbedded {
		driver, err := driverOf(c, self)
		if err != nil {
			e.log.Error("cannot drive the proxy", "kind", self.Kind, "err", err)
		} else {
			for _, s := range e.table.Services() {
				all.Go(func() {
					frontend.Drive(ctx, e.table, s.ID, driver, frontend.DriveOptions{Log: e.log, Tell: e.drivenNow})
				})
			}
		}
	}
	all.Wait()
	for _, c := range clients {
		c.Close()
	}
}

func (e *Edge) drivenNow(d frontend.Driven) {
	e.mu.Lock()
	e.driven[d.Service] = d
	e.mu.Unlock()
	e.table.Nudge()
}

// reports is how this frontend stands to its services. A proxy of others leads
// to a site only when it was seen to.
func (e *Edge) reports() []frontend.Report {
	all := e.table.Reports()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.self.Kind == config.FrontendEmbedded {
		return all
	}
	for i, r := range all {
		d := e.driven[r.Service]
		if r.State == frontend.Open && (!d.Done || d.Epoch != r.Epoch || d.Want.Site != r.Site) {
			all[i].State, all[i].Reason = frontend.Wait, frontend.ReasonDriving
		}
	}
	return all
}

// members makes the clients of the members that can be followed.
func (e *Edge) members(c *config.Config) []*api.Client {
	var clients []*api.Client
	e.follow.reset()
	for _, m := range c.Members {
		if m.API == "" {
			continue
		}
		conf, err := connect.ClientTLS(c.TLS, m.ID)
		if err != nil {
			e.log.Error("a member cannot be followed", "member", m.ID, "err", err)
			continue
		}
		client := api.TLS(c.APIAddress(e.name, m.ID), conf)
		clients = append(clients, client)
		e.follow.add(m.ID, client, c.FollowWait())
	}
	return clients
}

// nextFile waits for a file that this frontend can go by; nil when ctx ends.
func (e *Edge) nextFile(ctx context.Context) *config.Config {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.o.Hangup:
		}
		c, self, err := load(e.o.ConfigPath)
		if err == nil {
			err = e.switchable(self)
		}
		if err == nil {
			return c
		}
		e.refuse(err)
	}
}

func (e *Edge) switchable(next config.Frontend) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := "frontend." + e.name
	switch {
	case next.ID != e.name:
		return fmt.Errorf("tls.cert: it was %s's and is %s's now: a frontend stays who it is", e.name, next.ID)
	case next.Kind != e.self.Kind, next.Control != e.self.Control, next.AccessLog != e.self.AccessLog:
		return fmt.Errorf("%s: kind, control and access_log need a restart", key)
	}
	return nil
}

// refuse keeps the file in use.
func (e *Edge) refuse(err error) {
	e.log.Error("the file is not used: the one before stays in force", "err", err)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reload = &api.Reload{File: e.o.ConfigPath, At: time.Now().UTC(), Refused: []string{err.Error()}, Digest: e.cfg.Digest()}
}
