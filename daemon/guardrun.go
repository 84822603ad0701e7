package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/fence"
)

// GuardOptions is what `draasd guard` runs with.
type GuardOptions struct {
	ConfigPath string
	Log        *slog.Logger
	Notify     Notifier         // zero: the service manager named by the environment
	Hangup     <-chan os.Signal // asks for the file to be read again
}

// guardUpdate bounds what follows from reading the file again: a fence that is
// changed closes first.
const guardUpdate = time.Minute

// loadGuard reads the file of a member that has a guard.
func loadGuard(path string) (*config.Config, config.Member, error) {
	c, err := Load(path)
	if err != nil {
		return nil, config.Member{}, err
	}
	self, err := Identity(c)
	if err != nil {
		return nil, config.Member{}, err
	}
	if self.Role != draas.RoleSite {
		return nil, config.Member{}, fmt.Errorf("%s is a %s: it serves nothing and needs no guard", self.ID, self.Role)
	}
	return c, self, nil
}

// newBackstop has its pins beside the guard's socket, in a directory that only
// the guard's user may look into.
func newBackstop(c *config.Config, log *slog.Logger) *fence.Backstop {
	return fence.NewBackstop(filepath.Join(filepath.Dir(c.Guard), "bpf"), log)
}

// RunGuard holds the fences of this machine's site until ctx ends, and then
// closes them.
func RunGuard(ctx context.Context, o GuardOptions) (err error) {
	c, self, err := loadGuard(o.ConfigPath)
	if err != nil {
		return err
	}
	if o.Notify == nil {
		o.Notify = SystemdNotifier{}
	}
	log := o.Log.With("member", self.ID)
	host := fence.Host{Log: log, Backstop: newBackstop(c, log)}
	defer func() { err = errors.Join(err, host.Backstop.Close()) }()
	entries, err := guardEntries(c, self.ID.Site(), host)
	if err != nil {
		return err
	}
	conf := fence.GuardConfig{Socket: c.Guard, Services: entries, Log: log}
	if c.Watchdog.Device != "" {
		conf.Watchdog, conf.WatchdogTimeout = fence.NewHardwareWatchdog(c.Watchdog.Device), c.Watchdog.Timeout
	}
	g, err := fence.NewGuard(conf)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return g.Run(ctx) })
	group.Go(func() error {
		select {
		case <-g.Ready():
			log.Info("guard ready: every fence is closed until draasd renews a permit", "socket", c.Guard, "services", len(entries))
			if err := o.Notify.Ready(); err != nil {
				log.Warn("cannot tell the service manager", "err", err)
			}
			return watchGuard(ctx, c.Guard, o.Notify)
		case <-ctx.Done():
			return nil
		}
	})
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-o.Hangup:
				reloadGuard(ctx, g, host, o.ConfigPath, func(next *config.Config, as config.Member) error {
					return sameGuard(c, next, self.ID, as.ID)
				})
			}
		}
	})
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// reloadGuard reads the file again. A bad file, and one that same refuses,
// changes nothing.
func reloadGuard(ctx context.Context, g *fence.Guard, host fence.Host, path string, same func(*config.Config, config.Member) error) {
	var entries []fence.Entry
	c, self, err := loadGuard(path)
	if err == nil {
		err = same(c, self)
	}
	if err == nil {
		entries, err = guardEntries(c, self.ID.Site(), host)
	}
	if err != nil {
		host.Log.Error("file refused, the fences stay as they are", "file", path, "problems", problemsOf(err))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, guardUpdate)
	defer cancel()
	if err := g.Update(ctx, entries); err != nil {
		host.Log.Error("file read again, and not every fence follows it", "file", path, "err", err)
		return
	}
	host.Log.Info("file read again, the fences follow it", "file", path, "services", len(entries))
}

// sameGuard refuses what a running guard cannot change.
func sameGuard(was, next *config.Config, self, as draas.MemberID) error {
	var errs []error
	if self != as {
		errs = append(errs, fmt.Errorf("tls.cert: it is %s's, and was %s's: restart the guard", as, self))
	}
	if was.Guard != next.Guard {
		errs = append(errs, fmt.Errorf("guard: it is %q, and was %q: restart the guard", next.Guard, was.Guard))
	}
	if was.Watchdog != next.Watchdog {
		errs = append(errs, errors.New("watchdog: it is another one: restart the guard"))
	}
	return errors.Join(errs...)
}

// CloseFences closes at boot what the kernel can hold closed until the guard
// starts.
func CloseFences(ctx context.Context, path string, log *slog.Logger) (err error) {
	c, self, err := loadGuard(path)
	if err != nil {
		return err
	}
	host := fence.Host{Log: log, Backstop: newBackstop(c, log)}
	defer func() { err = errors.Join(err, host.Backstop.Close()) }()
	entries, err := guardEntries(c, self.ID.Site(), host)
	if err != nil {
		return err
	}
	return fence.CloseAll(ctx, c.Guard, entries, log)
}

// watchGuard tells the service manager that the guard answers, as draasd would
// ask it.
func watchGuard(ctx context.Context, socket string, n Notifier) error {
	every := n.WatchdogInterval()
	if every <= 0 {
		return nil
	}
	client := fence.Dial(socket)
	defer client.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		ask, cancel := context.WithTimeout(ctx, every/2)
		_, err := client.Status(ask)
		cancel()
		if err == nil {
			// If the service manager cannot be told it ends us, and starts a
			// guard that it can hear.
			_ = n.Alive()
		}
	}
}

func guardEntries(c *config.Config, site draas.SiteID, host fence.Host) ([]fence.Entry, error) {
	var entries []fence.Entry
	for i := range c.Services {
		s := &c.Services[i]
		if !guarded(s) {
			continue
		}
		e, err := fenceSpec(s, site).Entry(host)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func fenceSpec(s *config.Service, site draas.SiteID) fence.Spec {
	f := s.Fence
	return fence.Spec{
		Service: s.ID, Site: site, Kind: f.Kind, Margin: f.Margin,
		Listen: f.Listen[site], Forward: f.Forward[site],
		Close: f.Close, Open: f.Open, Check: f.Check,
		Unit: f.Unit, Ports: f.Ports, Proto: f.Proto, Protect: f.Protect, XDP: f.XDP,
	}
}
