package main

import (
	"context"
	"crypto/tls"
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
)

// server is what the lower floors do for the commands. Tests put others in
// their place.
type server struct {
	load  func(path string) (*config.Config, error)
	tls   func(c *config.Config, member draas.MemberID) (*tls.Config, error)
	run   func(ctx context.Context, path string, log *slog.Logger) error
	guard func(ctx context.Context, path string, log *slog.Logger) error
	shut  func(ctx context.Context, path string, log *slog.Logger) error // guard --close
	check func(path string, here bool) (report string, err error)
	join  func(ctx context.Context, o daemon.JoinOptions) (daemon.Joined, error)
	issue func(o daemon.IssueOptions) (until time.Time, err error)
	init  func(dir string, basePort int, profile string) error
	demo  func(ctx context.Context, o demo.Options, out io.Writer) error
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
			return d.Run(ctx)
		},
		guard: func(ctx context.Context, path string, log *slog.Logger) error {
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			return daemon.RunGuard(ctx, daemon.GuardOptions{ConfigPath: path, Log: log, Hangup: hangup})
		},
		shut:  daemon.CloseFences,
		check: daemon.Check,
		join:  daemon.Join,
		issue: daemon.Issue,
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
