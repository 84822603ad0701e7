package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	Notify     Notifier // zero: the service manager named by the environment
}

// RunGuard holds the fences of this machine's site until ctx ends, and then
// closes them.
func RunGuard(ctx context.Context, o GuardOptions) error {
	c, err := Load(o.ConfigPath)
	if err != nil {
		return err
	}
	self, err := Identity(c)
	if err != nil {
		return err
	}
	if self.Role != draas.RoleSite {
		return fmt.Errorf("%s is a %s: it serves nothing and needs no guard", self.ID, self.Role)
	}
	if o.Notify == nil {
		o.Notify = SystemdNotifier{}
	}
	log := o.Log.With("member", self.ID)
	entries, err := guardEntries(c, self.ID.Site(), log)
	if err != nil {
		return err
	}
	g, err := fence.NewGuard(fence.GuardConfig{Socket: c.Guard, Services: entries, Log: log})
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
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
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

func guardEntries(c *config.Config, site draas.SiteID, log *slog.Logger) ([]fence.Entry, error) {
	var entries []fence.Entry
	for _, s := range c.Services {
		if s.Fence.Kind == draas.FenceNone {
			continue
		}
		e, err := fenceSpec(s, site).Entry(fence.Host{Log: log})
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func fenceSpec(s config.Service, site draas.SiteID) fence.Spec {
	f := s.Fence
	return fence.Spec{
		Service: s.ID, Site: site, Kind: f.Kind, Margin: f.Margin,
		Listen: f.Listen[site], Forward: f.Forward[site],
		Close: f.Close, Open: f.Open, Check: f.Check,
		Unit: f.Unit, Ports: f.Ports, Proto: f.Proto, Protect: f.Protect,
	}
}
