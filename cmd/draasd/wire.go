package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/demo"
	"github.com/draasd/draas/edge"
	"github.com/draasd/draas/fence"
)

// server is what the lower floors do for the commands. Tests put others in
// their place.
type server struct {
	load  func(path string) (*config.Config, error)
	tls   func(c *config.Config, member draas.MemberID) (*tls.Config, error)
	run   func(ctx context.Context, path string, log *slog.Logger) error
	guard func(ctx context.Context, path string, log *slog.Logger) error
	// frontend runs the frontend of this host.
	frontend func(ctx context.Context, path string, log *slog.Logger) error
	shut     func(ctx context.Context, path string, log *slog.Logger) error // guard --close
	check    func(path string, here bool) (report string, err error)
	join     func(ctx context.Context, o daemon.JoinOptions) (daemon.Joined, error)
	issue    func(o daemon.IssueOptions) (until time.Time, err error)
	init     func(dir string, basePort int, profile string) error
	demo     func(ctx context.Context, o demo.Options, out io.Writer) error
	// serve is the demo's small service, started by the demo itself.
	serve func(ctx context.Context, args []string) error
}

// wired is the real one.
func wired() server {
	return server{
		load: daemon.Load,
		tls:  daemon.ClientTLS,
		run: func(ctx context.Context, path string, log *slog.Logger) error {
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			d, err := daemon.New(daemon.Options{ConfigPath: path, Log: log, Hangup: hangup})
			if err != nil {
				return err
			}
			return withFrontend(ctx, path, log, d.Run)
		},
		guard: func(ctx context.Context, path string, log *slog.Logger) error {
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			return daemon.RunGuard(ctx, daemon.GuardOptions{ConfigPath: path, Log: log, Hangup: hangup})
		},
		frontend: runFrontend,
		shut:     daemon.CloseFences,
		check:    check,
		join:     daemon.Join,
		issue:    daemon.Issue,
		init: func(dir string, basePort int, profile string) error {
			return daemon.Init(dir, daemon.InitOptions{Loopback: config.LoopbackOptions{BasePort: basePort, Profile: profile}})
		},
		demo: func(ctx context.Context, o demo.Options, out io.Writer) error {
			_, err := demo.Run(ctx, o, out)
			return err
		},
		serve: func(ctx context.Context, args []string) error {
			o, err := demo.ParseServe(args)
			if err != nil {
				return err
			}
			return demo.Serve(ctx, o)
		},
	}
}

// runFrontend runs the frontend of this host.
func runFrontend(ctx context.Context, path string, log *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	notify := daemon.SystemdNotifier{}
	e, err := edge.New(edge.Options{ConfigPath: path, Log: log, Hangup: hangup, Clock: fence.SystemClock{}.Now, Ready: notify.Ready})
	if err != nil {
		return err
	}
	return e.Run(ctx)
}

// withFrontend runs a daemon, and beside it the frontend that the file gives to
// its member, if any. The daemon goes on without it.
func withFrontend(ctx context.Context, path string, log *slog.Logger, run func(context.Context) error) error {
	has, err := edge.Beside(path)
	if err != nil || !has {
		return errors.Join(err, run(ctx))
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	e, err := edge.New(edge.Options{ConfigPath: path, Log: log, Hangup: hangup, Clock: fence.SystemClock{}.Now})
	if err != nil {
		return err
	}
	beside, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := e.Run(beside); err != nil {
			log.Error("the frontend beside the daemon has ended", "err", err)
		}
	}()
	err = run(ctx)
	stop()
	<-ended
	return err
}

// check reads a file and says what it implies; with here, what this host would
// open for it, be it a member's or a frontend's.
func check(path string, here bool) (string, error) {
	if !here {
		return daemon.Check(path, false)
	}
	said, isFrontend, err := edge.Check(context.Background(), path)
	if !isFrontend {
		return daemon.Check(path, true)
	}
	report, wrong := daemon.Check(path, false)
	return report + said, errors.Join(wrong, err)
}
