package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// deviceRetry is the pause between two attempts to have a site switched off.
const deviceRetry = time.Second

// device switches off what of a service may still serve at a site. It returns
// nil only when that is off and has been seen to stay off.
type device interface {
	Off(ctx context.Context, service draas.ServiceID, site draas.SiteID, epoch draas.Epoch) error
}

// siteDevice is a device with what it is called in the evidence.
type siteDevice struct {
	device
	service draas.ServiceID
	name    string
}

// deviceLink has old sites switched off, as the decision commands. Each runs
// until all its devices have confirmed at one time, or the decision does not
// want it any more.
type deviceLink struct {
	log *slog.Logger
	off func(unit draas.ServiceID, epoch draas.Epoch, evidence string) // tells the main loop

	all     sync.WaitGroup
	mu      sync.Mutex
	devices map[draas.ServiceID]map[draas.SiteID][]siteDevice // by unit
	running map[failover.FenceCommand]context.CancelFunc
}

func newDeviceLink(log *slog.Logger, off func(draas.ServiceID, draas.Epoch, string)) *deviceLink {
	return &deviceLink{log: log, off: off, running: make(map[failover.FenceCommand]context.CancelFunc)}
}

// use takes over the devices of a wiring. Attempts under way go on with those
// that they began with.
func (l *deviceLink) use(w *wiring) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.devices = w.devices
}

// follow starts what is wanted and does not run, and ends what is not wanted
// any more.
func (l *deviceLink) follow(ctx context.Context, commands []failover.FenceCommand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(commands) == 0 && len(l.running) == 0 {
		return
	}
	wanted := make(map[failover.FenceCommand]bool, len(commands))
	for _, c := range commands {
		wanted[c] = true
		if _, runs := l.running[c]; runs || ctx.Err() != nil {
			continue
		}
		devices := l.devices[c.Service][c.Site]
		if len(devices) == 0 {
			continue // the policy in force is another file's, and a warning says so
		}
		attempt, cancel := context.WithCancel(ctx)
		l.running[c] = cancel
		l.all.Go(func() { l.run(attempt, c, devices) })
	}
	for c, cancel := range l.running {
		if !wanted[c] {
			cancel()
			delete(l.running, c)
		}
	}
}

// wait ends all and waits for them. Nothing may follow it.
func (l *deviceLink) wait() {
	l.mu.Lock()
	for _, cancel := range l.running {
		cancel()
	}
	l.mu.Unlock()
	l.all.Wait()
}

func (l *deviceLink) run(ctx context.Context, c failover.FenceCommand, devices []siteDevice) {
	log := l.log.With("service", c.Service, "site", c.Site, "epoch", c.Epoch)
	log.Warn("switching the old site off", "devices", len(devices))
	// Who has confirmed is asked again as long as another has not: somebody may
	// have switched it on meanwhile.
	confirmed := make([]bool, len(devices))
	errs := make([]string, len(devices)) // the last that were logged
	for ctx.Err() == nil {
		var each sync.WaitGroup
		for i, d := range devices {
			each.Go(func() {
				err := d.Off(ctx, d.service, c.Site, c.Epoch)
				confirmed[i] = err == nil
				if err != nil && ctx.Err() == nil && err.Error() != errs[i] {
					errs[i] = err.Error()
					log.Error("not confirmed to be off; trying again", "device", d.name, "err", err)
				}
			})
		}
		each.Wait()
		if all(confirmed) {
			evidence := fmt.Sprintf("%s off, confirmed: %s", c.Site, names(devices))
			log.Warn("the old site is off, confirmed", "devices", names(devices))
			l.off(c.Service, c.Epoch, evidence)
			return
		}
		pause(ctx, deviceRetry)
	}
}

func all(of []bool) bool {
	for _, b := range of {
		if !b {
			return false
		}
	}
	return true
}

func names(devices []siteDevice) string {
	var out []string
	for _, d := range devices {
		out = append(out, d.name)
	}
	return strings.Join(out, ", ")
}
