package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
)

// bindAsk makes the command of a request that moves nothing.
func bindAsk(ask failover.Ask) func(*program, *flag.FlagSet) action {
	return func(p *program, f *flag.FlagSet) action {
		client, operator := bindClient(f), bindOperator(f)
		reason := f.String("reason", "", "`TEXT` for the history")
		all := f.Bool("all", false, "every service")
		length := new(time.Duration)
		if ask == failover.AskPause {
			f.DurationVar(length, "for", 0, "how `LONG`, at most 720h; needed")
		}
		return func(ctx context.Context, args []string) error {
			if *all == (len(args) > 0) {
				return usagef("name one service, or --all of them")
			}
			if ask == failover.AskPause {
				switch {
				case *length <= 0:
					return usagef("--for is missing: a pause ends by itself, so that nobody forgets it")
				case *length > failover.MaxPause:
					return usagef("--for %v: a pause lasts at most %v", *length, failover.MaxPause)
				case strings.TrimSpace(*reason) == "":
					return usagef("--reason is missing: others will ask for it")
				}
			}
			c, err := client.dial(p.server)
			if err != nil {
				return p.refused(err)
			}
			defer c.Close()
			r := failover.Request{Ask: ask, Operator: p.who(*operator), Reason: *reason, For: *length}
			return p.askEach(ctx, c, r, args)
		}
	}
}

// askEach asks for one service, or for all.
func (p *program) askEach(ctx context.Context, c *api.Client, r failover.Request, args []string) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var ids []draas.ServiceID
	if len(args) > 0 {
		ids = []draas.ServiceID{draas.ServiceID(args[0])}
	} else {
		s, err := c.Status(ctx, true)
		if err != nil {
			return err
		}
		for _, sv := range s.Services {
			// To resume what is not paused would be a refusal, and is done.
			if r.Ask != failover.AskResume || sv.Pause != nil {
				ids = append(ids, sv.ID)
			}
		}
		if len(ids) == 0 {
			fmt.Fprintln(p.stdout, "Nothing is paused.")
		}
	}
	refused := false
	for _, id := range ids {
		if _, err := look(ctx, c, id); err != nil {
			return err
		}
		a, err := c.Request(ctx, api.Request{Service: id, Request: r})
		if err != nil {
			return fmt.Errorf("%w\nIt may have been taken all the same: see draasd history %s before asking again", err, id)
		}
		p.printAnswer(a)
		refused = refused || !a.Accepted
	}
	if refused {
		return exitCode(exitFailed)
	}
	return nil
}

// bindEnter makes the command that lets users enter elsewhere.
func bindEnter(p *program, f *flag.FlagSet) action {
	client, operator := bindClient(f), bindOperator(f)
	reason := f.String("reason", "", "`TEXT` for the history")
	return func(ctx context.Context, args []string) error {
		c, err := client.dial(p.server)
		if err != nil {
			return p.refused(err)
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		sv, err := look(ctx, c, draas.ServiceID(args[0]))
		if err != nil {
			return err
		}
		a, err := c.Request(ctx, api.Request{Service: sv.ID, Site: draas.SiteID(args[1]),
			Request: failover.Request{Ask: failover.AskEnter, Operator: p.who(*operator), Reason: *reason, Expect: sv.Epoch}})
		if err != nil {
			return fmt.Errorf("%w\nIt may have been decided all the same: see draasd history %s before asking again", err, sv.ID)
		}
		p.printAnswer(a)
		if !a.Accepted {
			return exitCode(exitFailed)
		}
		return nil
	}
}

func bindReload(p *program, f *flag.FlagSet) action {
	client := bindClient(f)
	wait := f.Duration("timeout", 3*time.Second, "how `LONG` to wait for the other members")
	return func(ctx context.Context, _ []string) error {
		c, err := client.dial(p.server)
		if err != nil {
			return p.refused(err)
		}
		defer c.Close()
		asked, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		r, err := c.Reload(asked)
		if err != nil {
			return err
		}
		if len(r.Refused) > 0 {
			fmt.Fprintf(p.stderr, "draasd reload: %s is refused, the file in use stays:\n", r.File)
			for _, problem := range r.Refused {
				writeText(p.stderr, "  ", problem)
			}
			return exitCode(exitUsage)
		}
		return p.followReload(ctx, c, r, *wait)
	}
}

// followReload waits until the file is in force, for as long as it is told.
func (p *program) followReload(ctx context.Context, c *api.Client, r *api.Reload, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for !r.InForce && ctx.Err() == nil {
		err := c.Watch(ctx, func(s *api.Status) error {
			if s.Reload != nil && s.Reload.At.Equal(r.At) {
				r = s.Reload
			}
			if r.InForce {
				return errFollowed
			}
			return nil
		})
		if err == nil || errors.Is(err, errFollowed) {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(watchAgain):
		}
	}
	switch {
	case r.InForce:
		writeText(p.stdout, "", fmt.Sprintf("%s is in force, digest %.12s", r.File, r.Digest))
		return nil
	case len(r.Waiting) == 0:
		writeText(p.stdout, "", fmt.Sprintf("%s is offered, digest %.12s. It is not in force yet: no majority is in touch, or a service is being moved; see draasd status", r.File, r.Digest))
	default:
		var names []string
		for _, m := range r.Waiting {
			names = append(names, string(m))
		}
		writeText(p.stdout, "", fmt.Sprintf("%s is offered, digest %.12s. It is in force when these have read it too: %s. Put the same file there and run draasd reload, or systemctl reload draasd",
			r.File, r.Digest, strings.Join(names, ", ")))
	}
	return nil
}
