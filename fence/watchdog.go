package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

// Watchdog is a timer in hardware that resets the machine unless it is petted
// in time, whatever becomes of our process.
type Watchdog interface {
	// Check reports why the watchdog cannot be used, without arming it.
	Check() error
	// Arm starts the timer, with the time that it may take to the reset.
	Arm(timeout time.Duration) error
	// Pet starts the time of an armed watchdog anew.
	Pet() error
	// Disarm stops the timer, also one that a process before this left running.
	Disarm() error
}

// petting holds a watchdog for a guard. It is armed before the first fence is
// opened and disarmed when all have been observed closed. In between it is
// petted as long as every fence that may be open has a deadline ahead that the
// guard looks at; so a fence that is not observed closed at its deadline resets
// the machine one timeout later at the latest.
type petting struct {
	device  Watchdog
	timeout time.Duration
	log     *slog.Logger
	clock   Clock
	fences  func() []*keeper

	mu    sync.Mutex
	armed bool
	ready bool // every fence was observed closed since the start
	err   string
}

// every is how often the watchdog is petted, and how long ago the last look at
// a deadline may be.
func (p *petting) every() time.Duration { return min(p.timeout/4, time.Second) }

// arm is called before a fence opens, when it counts as open already.
func (p *petting) arm() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ready {
		// A guard before this may have left the watchdog running over a fence
		// that could not be closed: it is not ours to pet.
		return errors.New("arm watchdog: another fence was not yet observed closed")
	}
	if p.armed {
		return nil
	}
	if err := p.device.Arm(p.timeout); err != nil {
		return fmt.Errorf("arm watchdog: %w", err)
	}
	p.armed = true
	p.log.Info("watchdog armed", "timeout", p.timeout)
	return nil
}

// begin is called when all fences have been observed closed. A watchdog that a
// guard before this left running would reset a machine that is closed.
func (p *petting) begin() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = true
	p.disarm("")
}

// run pets until ctx ends.
func (p *petting) run(ctx context.Context) {
	tick := time.NewTicker(p.every())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.look()
		}
	}
}

// look does what is due, under the lock: a fence that opens now waits in arm.
func (p *petting) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.armed {
		return
	}
	shut, now := true, p.clock.Now()
	for _, k := range p.fences() {
		switch k.exposure(now, p.every()) {
		case exposedInTime:
			shut = false
		case exposedLate:
			p.note(fmt.Errorf("fence of %s is not closed at its deadline, or not looked at: the machine will be reset", k.Service))
			return
		}
	}
	if shut {
		p.disarm("every fence is closed")
		return
	}
	p.note(p.device.Pet())
}

// note logs an error once.
func (p *petting) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != "" && text != p.err {
		p.log.Error("watchdog is not petted", "err", err)
	}
	p.err = text
}

func (p *petting) disarm(why string) {
	if err := p.device.Disarm(); err != nil {
		p.log.Error("watchdog not disarmed: if it runs, the machine will be reset", "err", err)
		return
	}
	if p.armed {
		p.log.Info("watchdog disarmed", "why", why)
	}
	p.armed = false
}

// end disarms if every fence was observed closed, and otherwise leaves the
// machine to the watchdog.
func (p *petting) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.armed {
		return
	}
	now := p.clock.Now()
	for _, k := range p.fences() {
		if k.exposure(now, p.every()) != exposedNot {
			p.log.Error("guard ends with a fence that is not closed: the machine will be reset", "service", k.Service)
			return
		}
	}
	p.disarm("the guard ends")
}

// exposure is what the watchdog has to know of a fence.
type exposure int

const (
	exposedNot    exposure = iota // observed closed, or never opened by this guard
	exposedInTime                 // its deadline is ahead, and looked at
	exposedLate
)

func (k *keeper) exposure(now draas.Reading, patience time.Duration) exposure {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.shut || !k.ready:
		return exposedNot
	case k.until.Boot == 0 || k.until.Passed(now):
		return exposedLate
	case k.phase == phaseClosing || now.Boot-k.looked <= patience:
		return exposedInTime // who closes before the deadline need not look at it
	}
	return exposedLate
}

// HardwareWatchdog is a device of Linux's watchdog interface
// (Documentation/watchdog/watchdog-api.rst).
type HardwareWatchdog struct {
	path string
	sys  string // of /sys/class/watchdog

	mu   sync.Mutex
	file *os.File
}

// NewHardwareWatchdog returns the watchdog at a path such as /dev/watchdog. It
// is not opened, since that arms it.
func NewHardwareWatchdog(path string) *HardwareWatchdog {
	return &HardwareWatchdog{path: path, sys: "/sys/class/watchdog"}
}

// Check implements Watchdog. A watchdog that cannot be stopped once it runs is
// of no use: the machine would be reset also when every fence is closed.
func (w *HardwareWatchdog) Check() error {
	if err := unix.Access(w.path, unix.W_OK); err != nil {
		return fmt.Errorf("watchdog %s: %w", w.path, err)
	}
	real, err := filepath.EvalSymlinks(w.path)
	if err != nil {
		return fmt.Errorf("watchdog %s: %w", w.path, err)
	}
	name := filepath.Base(real)
	if name == "watchdog" { // the old name of the first one
		name = "watchdog0"
	}
	b, err := os.ReadFile(filepath.Join(w.sys, name, "nowayout"))
	if err != nil {
		return fmt.Errorf("watchdog %s: cannot tell whether it can be stopped: %w", w.path, err)
	}
	if strings.TrimSpace(string(b)) != "0" {
		return fmt.Errorf("watchdog %s cannot be stopped once it runs (nowayout): load its module with nowayout=0", w.path)
	}
	return nil
}

// Arm implements Watchdog.
func (w *HardwareWatchdog) Arm(timeout time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.open(); err != nil {
		return err
	}
	info, err := unix.IoctlGetWatchdogInfo(int(w.file.Fd()))
	if err == nil && info.Options&unix.WDIOF_MAGICCLOSE == 0 {
		err = errors.New("it stops when its holder dies: of no use")
	}
	if err == nil {
		err = w.setTimeout(timeout)
	}
	if err == nil {
		err = unix.IoctlWatchdogKeepalive(int(w.file.Fd()))
	}
	if err != nil {
		return fmt.Errorf("set up watchdog %s: %w", w.path, errors.Join(err, w.stop()))
	}
	return nil
}

// setTimeout sets the next lower whole second; the driver may round.
func (w *HardwareWatchdog) setTimeout(timeout time.Duration) error {
	seconds := int(timeout / time.Second)
	if err := unix.IoctlSetPointerInt(int(w.file.Fd()), unix.WDIOC_SETTIMEOUT, seconds); err != nil {
		return fmt.Errorf("set timeout: %w", err)
	}
	got, err := unix.IoctlGetInt(int(w.file.Fd()), unix.WDIOC_GETTIMEOUT)
	if err != nil {
		return fmt.Errorf("get timeout: %w", err)
	}
	if got > seconds {
		return fmt.Errorf("its timeout is %d s, not %d s", got, seconds)
	}
	return nil
}

// Pet implements Watchdog.
func (w *HardwareWatchdog) Pet() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return fmt.Errorf("watchdog %s is not armed", w.path)
	}
	if err := unix.IoctlWatchdogKeepalive(int(w.file.Fd())); err != nil {
		return fmt.Errorf("pet watchdog %s: %w", w.path, err)
	}
	return nil
}

// Disarm implements Watchdog.
func (w *HardwareWatchdog) Disarm() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.open(); err != nil {
		return err
	}
	return w.stop()
}

func (w *HardwareWatchdog) open() error {
	if w.file != nil {
		return nil
	}
	f, err := os.OpenFile(w.path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open watchdog: %w", err)
	}
	w.file = f
	return nil
}

// stop closes by the magic character, without which the watchdog runs on. When
// that cannot be written the file stays open.
func (w *HardwareWatchdog) stop() error {
	if _, err := w.file.WriteString("V"); err != nil {
		return fmt.Errorf("stop watchdog: %w", err)
	}
	f := w.file
	w.file = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("stop watchdog: %w", err)
	}
	return nil
}
