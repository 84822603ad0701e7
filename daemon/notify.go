package daemon

import (
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells a service manager how the process stands.
type Notifier interface {
	Ready() error
	Stopping() error
	// Alive is called while the main loop turns.
	Alive() error
	// WatchdogInterval is how often Alive is expected at the least; zero:
	// never.
	WatchdogInterval() time.Duration
}

// SystemdNotifier speaks sd_notify(3); without $NOTIFY_SOCKET it does nothing.
type SystemdNotifier struct{}

// Ready implements Notifier.
func (SystemdNotifier) Ready() error { return notify(daemon.SdNotifyReady) }

// Stopping implements Notifier.
func (SystemdNotifier) Stopping() error { return notify(daemon.SdNotifyStopping) }

// Alive implements Notifier.
func (SystemdNotifier) Alive() error { return notify(daemon.SdNotifyWatchdog) }

// WatchdogInterval implements Notifier: half of what systemd allows.
func (SystemdNotifier) WatchdogInterval() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0 // it is not for us, or not there
	}
	return d / 2
}

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify service manager: %w", err)
	}
	return nil
}
