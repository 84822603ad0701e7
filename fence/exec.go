package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	draas "github.com/draasd/draas"
)

// ExecConfig describes a fence made of the operator's commands. Each is an
// argv, run without a shell, with DRAAS_SERVICE, DRAAS_SITE and DRAAS_EPOCH (0
// when the guard starts) in its environment.
type ExecConfig struct {
	Service draas.ServiceID
	Site    draas.SiteID
	// Close stops the service or shuts its users out; it must be idempotent.
	// Open undoes it. A process that Open leaves behind must have redirected
	// its output.
	Close, Open []string
	// Check observes: exit code 0 is closed, 1 open, anything else unknown.
	Check  []string
	Margin time.Duration // what Worst returns; zero: DefaultMargin
	Log    *slog.Logger  // zero: none
}

// Exec is a fence made of commands. It closes from the deadline on, as fast as
// the commands are; and only while the guard runs: a guard that was killed
// closes when it is started again.
type Exec struct {
	cfg   ExecConfig
	epoch atomic.Uint64
}

// openTimeout bounds opening by a command: services may start slowly. The end
// of the permit ends it sooner.
const openTimeout = 2 * time.Minute

// NewExec checks the configuration.
func NewExec(cfg ExecConfig) (*Exec, error) {
	for _, c := range []struct {
		name string
		argv []string
	}{{"close", cfg.Close}, {"open", cfg.Open}, {"check", cfg.Check}} {
		if len(c.argv) == 0 || c.argv[0] == "" {
			return nil, fmt.Errorf("exec fence: no %s command", c.name)
		}
	}
	if cfg.Margin == 0 {
		cfg.Margin = DefaultMargin(draas.FenceExec)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Exec{cfg: cfg}, nil
}

// Worst is the margin: what the operator says the close command takes.
func (e *Exec) Worst() time.Duration { return e.cfg.Margin }

func (e *Exec) command(argv []string, timeout time.Duration) command {
	return command{argv: argv, timeout: timeout, env: []string{
		"DRAAS_SERVICE=" + string(e.cfg.Service),
		"DRAAS_SITE=" + string(e.cfg.Site),
		"DRAAS_EPOCH=" + strconv.FormatUint(e.epoch.Load(), 10),
	}}
}

// Open runs the open command.
func (e *Exec) Open(ctx context.Context, p Permit) error {
	e.epoch.Store(uint64(p.Epoch))
	if err := e.command(e.cfg.Open, openTimeout).must(ctx); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

// Extend only notes the epoch: the guard holds the deadline.
func (e *Exec) Extend(_ context.Context, p Permit) error {
	e.epoch.Store(uint64(p.Epoch))
	return nil
}

// Close runs the close command. A slow one is given more than the margin
// before it is killed: closing late is better than never.
func (e *Exec) Close(ctx context.Context) error {
	if err := e.command(e.cfg.Close, max(2*e.cfg.Margin, 5*time.Second)).must(ctx); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// State runs the check command.
func (e *Exec) State(ctx context.Context) (State, error) {
	o, err := e.command(e.cfg.Check, max(e.cfg.Margin, time.Second)).run(ctx)
	switch {
	case err != nil:
		return Unknown, fmt.Errorf("check: %w", err)
	case o.code == 0:
		return Closed, nil
	case o.code == 1:
		return Open, nil
	}
	return Unknown, fmt.Errorf("check: exit code %d%s", o.code, o.tail())
}

// SystemdConfig describes a fence that stops a unit.
type SystemdConfig struct {
	Unit      string
	Systemctl string        // path of systemctl; zero: found in PATH
	Margin    time.Duration // what Worst returns; zero: DefaultMargin
	Log       *slog.Logger  // zero: none
}

// Systemd is a fence that starts and stops a unit of systemd. Like Exec it
// closes only while the guard runs.
type Systemd struct {
	cfg SystemdConfig
}

// NewSystemd checks the configuration.
func NewSystemd(cfg SystemdConfig) (*Systemd, error) {
	if cfg.Unit == "" || cfg.Unit[0] == '-' {
		return nil, fmt.Errorf("systemd fence: unit %q", cfg.Unit)
	}
	if cfg.Systemctl == "" {
		cfg.Systemctl = "systemctl"
	}
	if cfg.Margin == 0 {
		cfg.Margin = DefaultMargin(draas.FenceSystemd)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Systemd{cfg: cfg}, nil
}

// Worst is the margin: half for the unit to stop, half for it to be killed.
func (s *Systemd) Worst() time.Duration { return s.cfg.Margin }

func (s *Systemd) systemctl(timeout time.Duration, args ...string) command {
	return command{argv: append([]string{s.cfg.Systemctl}, args...), timeout: timeout}
}

// Open starts the unit.
func (s *Systemd) Open(ctx context.Context, _ Permit) error {
	if err := s.systemctl(openTimeout, "start", s.cfg.Unit).must(ctx); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

// Extend does nothing: the guard holds the deadline.
func (s *Systemd) Extend(context.Context, Permit) error { return nil }

// Close stops the unit; when it is not inactive within half the margin, all
// its processes are killed. The stop job stays with systemd, so that
// Restart= does not bring the unit back.
func (s *Systemd) Close(ctx context.Context) error {
	err := s.systemctl(s.cfg.Margin/2, "stop", s.cfg.Unit).must(ctx)
	if err == nil { // else there is no time to ask
		if state, _ := s.State(ctx); state == Closed {
			return nil
		}
	}
	s.cfg.Log.Warn("unit did not stop, killing it", "unit", s.cfg.Unit, "err", err)
	kerr := s.systemctl(max(s.cfg.Margin/2, time.Second), "kill", "-s", "SIGKILL", s.cfg.Unit).must(ctx)
	for try := 0; try < 20 && ctx.Err() == nil; try++ {
		if state, _ := s.State(ctx); state == Closed {
			return nil
		}
		pause(ctx, 20*time.Millisecond)
	}
	return fmt.Errorf("close: unit %s did not stop: %w", s.cfg.Unit, errors.Join(err, kerr, ctx.Err()))
}

// State asks `systemctl is-active`, whose word says more than its exit code:
// a unit that is unknown to systemd is not one that is stopped.
func (s *Systemd) State(ctx context.Context) (State, error) {
	o, err := s.systemctl(max(s.cfg.Margin/2, time.Second), "is-active", s.cfg.Unit).run(ctx)
	if err != nil {
		return Unknown, fmt.Errorf("check: %w", err)
	}
	return s.read(o)
}

// read reads what `systemctl is-active` printed: a word that stands alone in
// the first line. What only begins like it may be anybody's complaint.
func (s *Systemd) read(o outcome) (State, error) {
	word, _, _ := strings.Cut(strings.TrimLeft(o.output, "\n"), "\n")
	switch strings.TrimSpace(word) {
	case "inactive", "failed":
		// A unit that does not exist is called inactive too, with exit code 4
		// ("status unknown") by those versions that tell the two apart.
		if o.code == 4 {
			return Unknown, fmt.Errorf("check: no unit %s", s.cfg.Unit)
		}
		return Closed, nil
	case "active", "reloading", "activating", "deactivating", "refreshing":
		return Open, nil
	}
	return Unknown, fmt.Errorf("check: systemctl is-active %s: exit code %d%s", s.cfg.Unit, o.code, o.tail())
}
