package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/syncer"
)

// exitDiffers: sync found drift or conflicts, which it leaves to the operator.
const exitDiffers = 3

// syncFlags are those of draasd sync.
type syncFlags struct {
	client                 clientFlags
	from, to               *string
	yes, audit, asJSON     *bool
	bodies, keep, all      *bool
	kinds, unbrake, accept *string
	choose                 *[]string
	wait                   *time.Duration
}

func bindSync(p *program, f *flag.FlagSet) action {
	o := syncFlags{
		client:  bindClient(f),
		from:    f.String("from", "", "`SITE` that is the source, where no daemon can be asked"),
		to:      f.String("to", "", "`SITE` that is the target"),
		yes:     f.Bool("yes", false, "run with --from: it is your word that no other site is active"),
		audit:   f.Bool("audit", false, "read everything, whatever revisions say"),
		asJSON:  f.Bool("json", false, "print JSON"),
		kinds:   f.String("kind", "", "only these `KINDS`, as network,image"),
		unbrake: f.String("unbrake", "", "run: `KINDS`, or all, of which as many may be deleted as are gone"),
		accept:  f.String("accept", "", "plan and run after the direction has turned: `CHOICE` for what differs: keep, drop or merge"),
		choose:  new([]string),
		all:     f.Bool("all", false, "show all objects, however many"),
		bodies:  f.Bool("bodies", false, "verify: read the content at both sites where no sums can be compared"),
		keep:    f.Bool("keep", false, "adopt: leave the target's as it is until the source's changes"),
		wait:    f.Duration("wait", time.Minute, "how `LONG` to wait while the daemon has the records"),
	}
	f.Func("choose", "the same for `KIND=CHOICE,...`; or at any time KIND/NAME=CHOICE for what others have changed; may be repeated", func(text string) error {
		*o.choose = append(*o.choose, text)
		return nil
	})
	return func(ctx context.Context, args []string) error {
		i := slices.IndexFunc(syncVerbs(), func(v syncVerb) bool { return v.name == args[0] })
		if i < 0 {
			var names []string
			for _, v := range syncVerbs() {
				names = append(names, v.name)
			}
			return usagef("there is no draasd sync %s%s: want one of %s", args[0], didYouMean(args[0], names), strings.Join(names, ", "))
		}
		verb := syncVerbs()[i]
		if n := len(args) - 1; n < verb.min || n > verb.max {
			return usagef("want: draasd sync %s", strings.TrimSpace(verb.name+" "+verb.args))
		}
		cfg, err := p.server.load(configPath(o.client.File()))
		if err != nil {
			return p.refused(err)
		}
		if len(cfg.Sync.Clouds) == 0 || cfg.Sync.CloudsFile == "" {
			return usagef("there is no [sync] in the file, or no site with a cloud")
		}
		if err := o.check(); err != nil {
			return err
		}
		if os.Getenv("GOGC") == "" {
			defer debug.SetGCPercent(debug.SetGCPercent(syncGarbage))
		}
		return verb.do(ctx, p, o, cfg, args[1:])
	}
}

// syncGarbage is how much of what is held may be garbage, in percent: these
// commands run beside a daemon that is to have the memory, and wait for services
// most of the time (two thousand objects: 60 MiB instead of 70).
const syncGarbage = 50

// syncVerb is what can be done about the copy.
type syncVerb struct {
	name, args string
	min, max   int
	do         func(context.Context, *program, syncFlags, *config.Config, []string) error
}

func syncVerbs() []syncVerb {
	return []syncVerb{
		{name: "plan", do: syncPlan}, {name: "diff", do: syncDiff}, {name: "run", do: syncRun}, {name: "status", do: syncStatus},
		{name: "verify", do: syncVerify}, {name: "adopt", args: "KIND SOURCE TARGET", min: 3, max: 3, do: syncAdopt},
		{name: "map", args: "[KIND]", max: 1, do: syncMap}, {name: "users", args: "[enable|disable]", max: 1, do: syncUsers},
	}
}

func listOf(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// with opens the replication for a command, waits while the daemon has the
// records, and lets go of it behind the command.
func (o syncFlags) with(ctx context.Context, p *program, cfg *config.Config, do func(*daemon.Replication, direction, syncer.Options) error) error {
	d, err := o.direction(ctx, p, cfg)
	if err != nil {
		return err
	}
	defer d.close()
	r, err := o.open(ctx, p, cfg, d)
	if err != nil {
		return err
	}
	err = o.ready(ctx, p, r, &d, do)
	return errors.Join(err, r.Close())
}

// ready does what a command wants of a replication that is open.
func (o syncFlags) ready(ctx context.Context, p *program, r *daemon.Replication, d *direction, do func(*daemon.Replication, direction, syncer.Options) error) error {
	if err := d.goOn(r); err != nil {
		return err
	}
	options := syncer.Options{Epoch: d.epoch, Audit: *o.audit, Filter: syncer.Filter{Kinds: kindsOf(*o.kinds)}, Unbraked: kindsOf(*o.unbrake)}
	for i, k := range options.Unbraked {
		if k == "all" {
			options.Unbraked[i] = "*"
		}
	}
	var err error
	if options.Accept, err = o.turn(ctx, p, r, options); err != nil {
		return err
	}
	return do(r, *d, options)
}

func kindsOf(text string) (all []syncer.Kind) {
	for _, k := range listOf(text) {
		all = append(all, syncer.Kind(k))
	}
	return all
}

func (o syncFlags) open(ctx context.Context, p *program, cfg *config.Config, d direction) (*daemon.Replication, error) {
	log := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return whenFree(ctx, p, *o.wait, func() (*daemon.Replication, error) {
		return daemon.OpenReplication(ctx, cfg, d.from, d.to, d.gate, log)
	})
}

// whenFree opens what needs the records, and waits while another process has
// them: each try takes as long as one waits for the file's lock.
func whenFree[T any](ctx context.Context, p *program, wait time.Duration, open func() (T, error)) (T, error) {
	for began, said := p.now(), false; ; said = true {
		opened, err := open()
		if !errors.Is(err, syncer.ErrStoreBusy) || p.now().Sub(began) > wait || ctx.Err() != nil {
			return opened, err
		}
		if !said {
			fmt.Fprintln(p.stderr, "another run has the records: waiting until they are free")
		}
	}
}

func syncPlan(ctx context.Context, p *program, o syncFlags, cfg *config.Config, _ []string) error {
	return o.planned(ctx, p, cfg, false)
}

// syncDiff reads everything, and shows all that differs, whoever did it.
func syncDiff(ctx context.Context, p *program, o syncFlags, cfg *config.Config, _ []string) error {
	*o.audit = true
	return o.planned(ctx, p, cfg, true)
}

// planned makes a plan and shows it. strict: whatever differs is exit code 3.
func (o syncFlags) planned(ctx context.Context, p *program, cfg *config.Config, strict bool) error {
	return o.with(ctx, p, cfg, func(r *daemon.Replication, _ direction, options syncer.Options) error {
		plan, err := r.Plan(ctx, options)
		if err != nil {
			return err
		}
		if *o.asJSON {
			err = writeJSON(p.stdout, plan, "  ")
		} else {
			var t *planText
			if t, err = o.drawing(p, r, plan); err == nil {
				t.write()
			}
		}
		if err != nil {
			return err
		}
		code := int(plan.Outcome())
		if strict && code == exitOK && plan.Acts() > 0 {
			code = exitDiffers
		}
		return exitWith(code)
	})
}

// exitWith ends the program with a code, if that is not 0.
func exitWith(code int) error {
	if code == exitOK {
		return nil
	}
	return exitCode(code)
}

// drawing is a plan with the names of what it refers to.
func (o syncFlags) drawing(p *program, r *daemon.Replication, plan *syncer.Plan) (*planText, error) {
	t := &planText{w: p.stdout, all: *o.all, plan: plan, names: make(map[syncer.Key]string)}
	note := func(k syncer.Key, target, name string) {
		if name == "" {
			return
		}
		t.names[k] = name
		if target != "" {
			t.names[syncer.Key{Kind: k.Kind, ID: target}] = name
		}
	}
	if len(plan.Changes) == 0 {
		return t, nil // nothing is named: what has not changed is not read
	}
	err := r.Store.Map(func(rec syncer.Record) error {
		if rec.Within == (syncer.Key{}) { // nothing refers to what stands in others
			note(rec.Key, rec.Target, rec.Name)
		}
		return nil
	})
	for _, c := range plan.Changes {
		note(c.Key, c.Target, c.Name)
	}
	return t, err
}

// tell draws what a run has done; held: nothing.
func (o syncFlags) tell(p *program, r *daemon.Replication, result *syncer.Result, held bool) error {
	if *o.asJSON {
		return writeJSON(p.stdout, result, "  ")
	}
	if held {
		return nil
	}
	t, err := o.drawing(p, r, result.Plan)
	if err == nil {
		t.writeResult(result)
	}
	return err
}

func syncRun(ctx context.Context, p *program, o syncFlags, cfg *config.Config, _ []string) error {
	if *o.from != "" && !*o.yes {
		return usagef("no daemon is asked whether %s is the active site: --yes says that you know it, and that nothing that %s has and %s has not is needed any more", *o.from, *o.to, *o.from)
	}
	return o.with(ctx, p, cfg, func(r *daemon.Replication, d direction, options syncer.Options) error {
		width, height, terminal := p.size(p.stderr)
		progress := syncProgress{w: p.stderr, terminal: terminal, width: width, height: height, now: p.now}
		progress.begin(d)
		options.Progress = progress.show
		result, err := r.Run(ctx, options)
		progress.draw(nil)
		if result != nil {
			err = errors.Join(err, o.tell(p, r, result, errors.Is(err, syncer.ErrHeld)))
		}
		switch {
		case errors.Is(err, syncer.ErrHeld):
			return fmt.Errorf("%w: draasd sync plan shows what differs; --accept keep, drop or merge says what is to become of it", err)
		case err != nil:
			return err
		}
		return exitWith(int(result.Outcome()))
	})
}

// records opens them without a cloud, and waits while the daemon has them.
func (o syncFlags) records(ctx context.Context, p *program, cfg *config.Config) (*syncer.Store, error) {
	if len(cfg.Sync.Clouds) > 2 && *o.from == "" {
		return nil, usagef("there are several sites of which this one's cloud can be a copy: --from names one")
	}
	path := cfg.Sync.StateOf(draas.SiteID(*o.from))
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there are no records in %s yet: nothing was carried to this machine's site; they are at the site that stands by", path)
	}
	return whenFree(ctx, p, *o.wait, func() (*syncer.Store, error) { return syncer.OpenStore(path) })
}

// syncVerify compares both clouds completely.
func syncVerify(ctx context.Context, p *program, o syncFlags, cfg *config.Config, _ []string) error {
	return o.with(ctx, p, cfg, func(r *daemon.Replication, _ direction, options syncer.Options) error {
		v, err := r.Verify(ctx, syncer.VerifyOptions{Filter: options.Filter, Bodies: *o.bodies})
		if err != nil {
			return err
		}
		if *o.asJSON {
			if err := writeJSON(p.stdout, v, "  "); err != nil {
				return err
			}
		} else {
			writeVerification(p.stdout, v)
		}
		return exitWith(int(v.Outcome()))
	})
}

// syncAdopt takes an object of the target's into the records.
func syncAdopt(ctx context.Context, p *program, o syncFlags, cfg *config.Config, args []string) error {
	if !slices.Contains(config.SyncKinds(), args[0]) {
		return usagef("there is no kind %q%s", args[0], didYouMean(args[0], config.SyncKinds()))
	}
	return o.with(ctx, p, cfg, func(r *daemon.Replication, _ direction, _ syncer.Options) error {
		rec, err := r.Adopt(ctx, syncer.Adoption{Kind: syncer.Kind(args[0]), Source: args[1], Target: args[2], Keep: *o.keep})
		if err != nil {
			return err
		}
		then := "the next run makes it alike"
		if *o.keep {
			then = "it stays as it is until the source's changes"
		}
		writeText(p.stdout, "", fmt.Sprintf("%s %s stands for %s from now on; %s, and it is never deleted", rec.Key.Kind, rec.Target, nameOr(rec.Name, rec.Key.ID), then))
		return nil
	})
}

// syncMap lists what stands for what.
func syncMap(ctx context.Context, p *program, o syncFlags, cfg *config.Config, args []string) (err error) {
	if len(args) > 0 && !slices.Contains(config.SyncKinds(), args[0]) {
		return usagef("there is no kind %q%s", args[0], didYouMean(args[0], config.SyncKinds()))
	}
	store, err := o.records(ctx, p, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var all []syncer.Record
	if err := store.Map(func(r syncer.Record) error {
		if len(args) == 0 || string(r.Key.Kind) == args[0] {
			all = append(all, r)
		}
		return nil
	}); err != nil {
		return err
	}
	if *o.asJSON {
		return writeJSON(p.stdout, all, "  ")
	}
	writeMap(p.stdout, all)
	return nil
}

// syncStatus reads the records only.
func syncStatus(ctx context.Context, p *program, o syncFlags, cfg *config.Config, _ []string) (err error) {
	store, err := o.records(ctx, p, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	s, err := store.Status()
	if err != nil {
		return err
	}
	if *o.asJSON {
		return writeJSON(p.stdout, s, "  ")
	}
	writeSyncStatus(p.stdout, s, p.now())
	return nil
}
