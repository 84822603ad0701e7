package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/syncer"
)

// direction is which site is carried to which.
type direction struct {
	from, to draas.SiteID
	epoch    uint64
	gate     syncer.Gate // nil: nobody could be asked
	close    func()
}

// goOn takes the epoch of the records where no daemon has said one: a person's
// run goes on with what the daemon's have begun.
func (d *direction) goOn(r *daemon.Replication) error {
	st, err := r.Status()
	m := st.Meta
	switch {
	case err != nil:
		return err
	case m.Source != "" && (m.Source != string(d.from) || m.Target != string(d.to)):
		return fmt.Errorf("the records here are of what is carried from %s to %s, and this is from %s to %s: run it at %s, whose records are its own", m.Source, m.Target, d.from, d.to, d.to)
	case d.gate == nil:
		d.epoch = m.Epoch
	}
	return nil
}

// direction asks the daemon which site is active, unless the flags say it.
func (o syncFlags) direction(ctx context.Context, p *program, cfg *config.Config) (direction, error) {
	sites := cfg.Sync.Clouds
	if (*o.from == "") != (*o.to == "") {
		return direction{}, usagef("--from stands without --to, or --to without --from")
	}
	if *o.from != "" {
		d := direction{from: draas.SiteID(*o.from), to: draas.SiteID(*o.to), close: func() {}}
		if sites[d.from] == "" || sites[d.to] == "" || d.from == d.to {
			return d, usagef("--from %s --to %s: want two sites with a cloud, of %s", d.from, d.to, strings.Join(sitesOf(sites), ", "))
		}
		return o.confirmed(ctx, p, cfg, d)
	}
	client, err := o.client.dial(p.server)
	if err != nil {
		return direction{}, p.refused(err)
	}
	g := newAskedGate(client, cfg, p)
	active, epoch, self, err := g.active(ctx)
	if err != nil {
		client.Close()
		return direction{}, fmt.Errorf("ask the daemon which site is active: %w (without a daemon, --from and --to say it)", err)
	}
	d := direction{from: active, epoch: epoch, gate: g, close: client.Close}
	d.to = self.Site()
	switch {
	case sites[active] == "":
		err = fmt.Errorf("%s is active, and has no cloud in the file", active)
	case d.to == active || sites[d.to] == "":
		// The records are of one direction, and at the site that stands by.
		err = fmt.Errorf("%s is active, and this is %s: run it at a site with a cloud that stands by, which has the records", active, self)
	}
	if err != nil {
		client.Close()
		return direction{}, err
	}
	g.from, g.epoch = d.from, d.epoch
	return d, nil
}

func sitesOf(clouds map[draas.SiteID]string) []string {
	var all []string
	for site := range clouds {
		all = append(all, string(site))
	}
	slices.Sort(all)
	return all
}

// confirmed asks the daemon, if one answers, whether it is as the flags say:
// what it knows counts. Where none does the flags' word stands.
func (o syncFlags) confirmed(ctx context.Context, p *program, cfg *config.Config, d direction) (direction, error) {
	client, err := o.client.dial(p.server)
	if err != nil {
		return d, nil
	}
	g := newAskedGate(client, cfg, p)
	active, epoch, _, err := g.active(ctx)
	switch {
	case err == nil && active != d.from:
		client.Close()
		return d, fmt.Errorf("a daemon answers, and says that %s is active: what %s has is not carried from there. Leave --from and --to out", active, d.from)
	case err != nil && !errors.As(err, &unasked{}):
		client.Close()
		return d, fmt.Errorf("a daemon answers: %w. Wait until it is at rest", err)
	case err != nil:
		client.Close()
		return d, nil
	}
	d.epoch, d.gate, d.close = epoch, g, client.Close
	g.from, g.epoch = d.from, d.epoch
	return d, nil
}

// unasked says that no daemon could be asked.
type unasked struct{ error }

func (e unasked) Unwrap() error { return e.error }

func newAskedGate(client *api.Client, cfg *config.Config, p *program) *askedGate {
	return &askedGate{client: client, follows: cfg.Sync.Follows, ask: p.now, turns: make(chan struct{}, 1)}
}

// askedGate asks the daemon, at most every two seconds, whether the source is
// still the active site in the same epoch.
type askedGate struct {
	client  *api.Client
	follows draas.ServiceID
	ask     func() time.Time

	from  draas.SiteID
	epoch uint64
	turns chan struct{}
	at    time.Time
	err   error
}

// fresh is how long an answer counts.
const fresh = 2 * time.Second

// active is where the unit is active that the replication follows.
func (g *askedGate) active(ctx context.Context) (site draas.SiteID, epoch uint64, self draas.MemberID, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	s, err := g.client.Status(ctx, true)
	if err != nil {
		return "", 0, "", unasked{err}
	}
	for _, sv := range s.Services {
		switch {
		case sv.ID != g.follows:
		case sv.Active == "" || sv.Move != nil:
			return "", 0, "", fmt.Errorf("%s is not at rest: it is active nowhere, or moves", sv.ID)
		default:
			return sv.Active, daemon.ReplicationEpoch(s.Generation, sv.Epoch), s.Self, nil
		}
	}
	return "", 0, "", fmt.Errorf("there is no %s in the policy in force", g.follows)
}

// Allow implements syncer.Gate.
func (g *askedGate) Allow() error {
	g.turns <- struct{}{}
	defer func() { <-g.turns }()
	if g.ask().Sub(g.at) < fresh {
		return g.err
	}
	site, epoch, _, err := g.active(context.Background())
	switch {
	case err != nil:
		g.err = fmt.Errorf("ask the daemon which site is active: %w", err)
	case site != g.from || epoch != g.epoch:
		g.err = fmt.Errorf("%s is active now, and %s was the source", site, g.from)
	default:
		g.err = nil
	}
	g.at = g.ask()
	return g.err
}
