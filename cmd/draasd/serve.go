package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/draasd/draas/config"
	"github.com/draasd/draas/demo"
	"github.com/draasd/draas/failover"
)

// logFlags say how a daemon logs to stderr.
type logFlags struct {
	json  *bool
	level *string
}

func bindLog(f *flag.FlagSet) logFlags {
	return logFlags{
		json:  f.Bool("log-json", false, "log in JSON"),
		level: f.String("log-level", "info", "`LEVEL`: debug, info, warn or error"),
	}
}

func (l logFlags) logger(p *program) (*slog.Logger, error) {
	o := &slog.HandlerOptions{}
	switch *l.level {
	case "debug":
		o.Level = slog.LevelDebug
	case "info":
		o.Level = slog.LevelInfo
	case "warn":
		o.Level = slog.LevelWarn
	case "error":
		o.Level = slog.LevelError
	default:
		return nil, usagef("--log-level %q: want debug, info, warn or error", *l.level)
	}
	if *l.json {
		return slog.New(slog.NewJSONHandler(p.stderr, o)), nil
	}
	return slog.New(slog.NewTextHandler(p.stderr, o)), nil
}

func bindRun(p *program, f *flag.FlagSet) action {
	return bindDaemon(p, f, p.server.run)
}

func bindGuard(p *program, f *flag.FlagSet) action {
	shut := f.Bool("close", false, "close the kernel fences and end: at boot, before the network")
	return bindDaemon(p, f, func(ctx context.Context, path string, log *slog.Logger) error {
		if *shut {
			return p.server.shut(ctx, path, log)
		}
		return p.server.guard(ctx, path, log)
	})
}

func bindDaemon(p *program, f *flag.FlagSet, serve func(context.Context, string, *slog.Logger) error) action {
	path, logs := configFlag(f), bindLog(f)
	return func(ctx context.Context, _ []string) error {
		log, err := logs.logger(p)
		if err != nil {
			return err
		}
		return p.refused(serve(ctx, configPath(*path), log))
	}
}

// refused prints the problems of a file, one a line, and ends with 2; other
// errors pass.
func (p *program) refused(err error) error {
	var problems config.Problems
	if !errors.As(err, &problems) {
		return err
	}
	fmt.Fprintf(p.stderr, "%v\n", problems)
	return exitCode(exitUsage)
}

func bindCheck(p *program, f *flag.FlagSet) action {
	path := configFlag(f)
	here := f.Bool("here", false, "also open the files and try the ports of this member")
	return func(context.Context, []string) error {
		report, err := p.server.check(configPath(*path), *here)
		fmt.Fprint(p.stdout, report)
		if err != nil {
			fmt.Fprintln(p.stderr, strings.TrimRight(err.Error(), "\n"))
			return exitCode(exitUsage)
		}
		return nil
	}
}

func bindInit(p *program, f *flag.FlagSet) action {
	port := f.Int("base-port", config.LoopbackBasePort, "first `PORT` of the loopback addresses")
	profile := f.String("profile", "fast", "`PROFILE`: cautious, balanced, fast or metro")
	return func(_ context.Context, args []string) error {
		if !known(*profile) {
			return usagef("--profile %q: want cautious, balanced, fast or metro", *profile)
		}
		if err := p.server.init(args[0], *port, *profile); err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, initNext, args[0])
		return nil
	}
}

// initNext says what to do with a new cluster.
const initNext = `%[1]s holds a cluster for this machine's loopback addresses: primary, dr and witness.
The file tells which web servers to start. Then, each in the background or a terminal of its own:
  draasd guard -c %[1]s/primary/failover.toml
  draasd guard -c %[1]s/dr/failover.toml
  draasd run -c %[1]s/primary/failover.toml
  draasd run -c %[1]s/dr/failover.toml
  draasd run -c %[1]s/witness/failover.toml
and once:
  draasd activate web primary -c %[1]s/primary/failover.toml
For real sites: docs/quickstart.md.
`

func known(profile string) bool {
	for _, p := range config.Profiles() {
		if p.Name == profile {
			return true
		}
	}
	return false
}

func bindDemo(p *program, f *flag.FlagSet) action {
	var o demo.Options
	f.StringVar(&o.Scheme, "scheme", "dns", "`SCHEME` that moves the users: dns, frontend or hybrid")
	disaster := f.String("disaster", string(demo.DisasterSite), "`DISASTER`: service, hang, site, silent, daemon, freeze, cut, switchover or entry")
	f.DurationVar(&o.Cut, "cut", 43*time.Second, "how `LONG` --disaster cut lasts")
	f.StringVar(&o.Profile, "profile", "fast", "`PROFILE`: cautious, balanced, fast or metro")
	f.IntVar(&o.Runs, "runs", 1, "`N` runs, each on a fresh cluster")
	f.StringVar(&o.JSON, "json", "", "`FILE` to write the result to")
	f.BoolVar(&o.Bench, "bench", false, "service, site and silent in turn, with the figures beside the targets")
	f.IntVar(&o.BenchRuns, "bench-runs", 20, "`N` runs of each with --bench")
	return func(ctx context.Context, _ []string) error {
		o.Disaster = demo.Disaster(*disaster)
		_, _, o.Colour = p.size(p.stdout)
		return p.server.demo(ctx, o, p.stdout)
	}
}

func bindVersion(p *program, _ *flag.FlagSet) action {
	return func(context.Context, []string) error {
		version, revision, runtime := "unknown", "", ""
		if info, ok := debug.ReadBuildInfo(); ok {
			version, runtime = info.Main.Version, info.GoVersion
			for _, s := range info.Settings {
				switch {
				case s.Key == "vcs.revision":
					revision = ", commit " + s.Value
				case s.Key == "vcs.modified" && s.Value == "true":
					revision += " with changes"
				}
			}
		}
		fmt.Fprintf(p.stdout, "draasd %s%s, %s, decision rules %d\n", version, revision, runtime, failover.Version)
		return nil
	}
}
