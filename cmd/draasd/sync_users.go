package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/daemon"
	"github.com/draasd/draas/syncer/openstack"
)

// syncUsers shows the users that were copied to a site, lets them log in where
// it has become the active one, or keeps them from it where it stands by again.
func syncUsers(ctx context.Context, p *program, o syncFlags, cfg *config.Config, args []string) error {
	do := ""
	if len(args) > 0 {
		do = args[0]
	}
	if do != "" && do != "enable" && do != "disable" {
		return usagef("there is no draasd sync users %s%s: want enable, disable or nothing", do, didYouMean(do, []string{"enable", "disable"}))
	}
	site, err := o.usersAt(ctx, p, cfg, do)
	if err != nil {
		return err
	}
	side, end, err := daemon.OpenCloud(ctx, cfg, site, slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	return errors.Join(o.users(ctx, p, side, site, do), end())
}

// usersAt is the site whose users are meant: this one, or that of --to. Who may
// log in where is a matter of which site is active.
func (o syncFlags) usersAt(ctx context.Context, p *program, cfg *config.Config, do string) (draas.SiteID, error) {
	to := draas.SiteID(*o.to)
	if to != "" && cfg.Sync.Clouds[to] == "" {
		return "", usagef("--to %s: want a site with a cloud", to)
	}
	if to != "" && (do == "" || *o.yes) {
		return to, nil
	}
	client, err := o.client.dial(p.server)
	if err != nil {
		return "", p.refused(err)
	}
	defer client.Close()
	active, _, self, err := newAskedGate(client, cfg, p).active(ctx)
	if err != nil {
		return "", fmt.Errorf("ask the daemon which site is active: %w (without a daemon, --to SITE --yes is your word for it)", err)
	}
	if to == "" {
		to = self.Site()
	}
	switch {
	case cfg.Sync.Clouds[to] == "":
		return "", fmt.Errorf("%s has no cloud: --to names a site that has", to)
	case do == "enable" && to != active:
		return "", fmt.Errorf("%s is active: the users at %s are copies until it is", active, to)
	case do == "disable" && to == active:
		return "", fmt.Errorf("%s is active: its users are the ones who log in", active)
	}
	return to, nil
}

func (o syncFlags) users(ctx context.Context, p *program, side *openstack.Side, site draas.SiteID, do string) error {
	var change func(context.Context, *openstack.Copy) (bool, error)
	switch do {
	case "enable":
		change = side.Release
	case "disable":
		change = side.Hold
	}
	u, err := daemon.ChangeUsers(ctx, side, nil, change)
	if err != nil {
		return err
	}
	for _, err := range u.Failed {
		fmt.Fprintln(p.stderr, err)
	}
	if *o.asJSON {
		err = writeJSON(p.stdout, u.Copies, "  ")
	} else {
		writeUsers(p, u, site, do)
	}
	if n := len(u.Failed); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d users could not be changed: the same command goes on with them", n, len(u.Copies)))
	}
	return err
}

func writeUsers(p *program, u daemon.Users, site draas.SiteID, do string) {
	waiting := 0
	for _, c := range u.Copies {
		state := "enabled"
		switch {
		case c.Waits:
			state = "waits until its site is active"
			waiting++
		case !c.Enabled:
			state = "disabled"
		}
		if do == "" {
			fmt.Fprintf(p.stdout, "%s  %s\n", c.Name, state)
		}
	}
	switch {
	case len(u.Copies) == 0:
		writeText(p.stdout, "", fmt.Sprintf("No user at %s was made by draas.", site))
	case do == "":
		writeText(p.stdout, "", fmt.Sprintf("%d users at %s were made by draas, %d of them wait. Where the site is active draasd sync users enable lets them log in: with the password of a directory that both sites ask, or a new one, since passwords are not carried.", len(u.Copies), site, waiting))
	default:
		writeText(p.stdout, "", fmt.Sprintf("%sd %s.", do, u.InWords(site, u.Changed)))
	}
}
