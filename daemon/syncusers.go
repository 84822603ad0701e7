package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/config"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/openstack"
)

// The finding that tells how many users were enabled: its step is none of a plan.
const (
	enabledStep                      = "sync users"
	enabledCode failover.FindingCode = "enabled"
)

// Users are those of a site's cloud that draas made, and what was done to them.
type Users struct {
	Copies  []openstack.Copy
	Changed int     // were let in, or kept out, now
	Failed  []error // one for each user that could not be changed
}

// ChangeUsers does change ([openstack.Side.Release] or [openstack.Side.Hold]) to
// each user that draas made at a site's cloud, and goes on with the others where
// one fails; change nil: it only looks. gate is asked before each; nil: the
// operator answers for it.
func ChangeUsers(ctx context.Context, side *openstack.Side, gate syncer.Gate, change func(context.Context, *openstack.Copy) (bool, error)) (Users, error) {
	var u Users
	var err error
	if u.Copies, err = side.Copies(ctx); err != nil || change == nil {
		return u, err
	}
	for i := range u.Copies {
		if gate != nil {
			if err := gate.Allow(); err != nil {
				return u, fmt.Errorf("change user %s: %w", u.Copies[i].Name, err)
			}
		}
		was := u.Copies[i].Enabled
		switch _, err := change(ctx, &u.Copies[i]); {
		case err != nil && ctx.Err() != nil:
			return u, err
		case err != nil:
			u.Failed = append(u.Failed, err)
		case was != u.Copies[i].Enabled:
			u.Changed++
		}
	}
	return u, nil
}

// InWords says how many of a site's users were changed, and how many of them can
// log in.
func (u Users) InWords(site draas.SiteID, changed int) string {
	if len(u.Copies) == 0 {
		return fmt.Sprintf("draas made no users at %s", site)
	}
	enabled := 0
	for _, c := range u.Copies {
		if c.Enabled {
			enabled++
		}
	}
	return fmt.Sprintf("%d of the %d users that draas made at %s: %d of them can log in now", changed, len(u.Copies), site, enabled)
}

// enableUsers does what draasd sync users enable does.
func enableUsers(ctx context.Context, cfg *config.Config, site draas.SiteID, gate syncer.Gate, log *slog.Logger) (Users, error) {
	side, end, err := OpenCloud(ctx, cfg, site, log)
	if err != nil {
		return Users{}, err
	}
	u, err := ChangeUsers(ctx, side, gate, side.Release)
	return u, errors.Join(err, end())
}

// takeover is a move that has made this site active, where the file says that
// users are enabled then. The zero takeover is none.
type takeover struct {
	unit  draas.ServiceID
	epoch draas.Epoch
}

// takeoverOf is the takeover that stands. c.mu is held.
func (c *carrier) takeoverOf(s failover.State) takeover {
	conf := &c.cfg.Sync
	sv := s.Services[conf.Follows]
	if conf.EnableUsers != config.UsersByMove || conf.Clouds[c.site] == "" || sv == nil || sv.Active != c.site || sv.Revoked {
		return takeover{}
	}
	if m, _ := c.tookOver(sv); m == nil {
		return takeover{}
	}
	return takeover{conf.Follows, sv.Epoch}
}

// tookOver is the move that has made this site active, under way or complete,
// and its times; nil: there is none, or the first activation, before which no
// site was.
func (c *carrier) tookOver(sv *failover.ServiceState) (*failover.Move, failover.Times) {
	m, times := sv.Move, sv.Times // until it is complete
	if m == nil && sv.Last != nil {
		m, times = sv.Last, sv.Last.Times
	}
	if m == nil || m.Epoch != sv.Epoch || m.To != c.site || m.From == "" {
		return nil, failover.Times{}
	}
	return m, times
}

// letIn enables the users that the replication has made here, and tries again
// until that is done, or ctx ends.
func (c *carrier) letIn(ctx context.Context, t takeover) {
	enabled := 0 // in all tries
	for {
		c.mu.Lock()
		cfg, done := c.cfg, c.usersIn
		c.mu.Unlock()
		if done {
			return
		}
		var u Users
		var err error
		gate := pass{carrier: c, over: t}
		cause := gate.during(ctx, func(ctx context.Context) { u, err = c.enable(ctx, cfg, c.site, gate) })
		if ctx.Err() != nil {
			return
		}
		enabled += u.Changed
		retry := c.tried(t, u, enabled, errors.Join(cause, err))
		if retry == 0 {
			c.find(failover.Finding{Service: t.unit, Epoch: t.epoch, Step: enabledStep, Code: enabledCode, Text: u.InWords(c.site, enabled)})
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
		}
	}
}

// tried takes what became of a try to enable users. It returns after how long the
// next is to be; 0: all is done.
func (c *carrier) tried(t takeover, u Users, enabled int, err error) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	log := c.log.With("service", t.unit, "epoch", t.epoch)
	now, was := &api.SyncUsers{Enabled: enabled}, api.SyncUsers{}
	if c.users != nil {
		was = *c.users
	}
	c.users = now
	if n := len(u.Failed); err == nil && n > 0 {
		err = fmt.Errorf("%d of %d users could not be changed: %w", n, len(u.Copies), u.Failed[0])
	}
	if err == nil {
		c.usersIn = true
		log.Info("the copied users are enabled", "enabled", enabled, "users", len(u.Copies))
		return 0
	}
	if now.Error = oneLine(err); now.Error != was.Error {
		log.Warn("the copied users are not enabled yet", "err", now.Error)
	}
	if errors.Is(err, errOutOfTouch) {
		now.Failures = was.Failures // this member was alone: no fault of the cloud's
		return syncRetry
	}
	now.Failures = was.Failures + 1
	return retryAfter(now.Failures)
}

// retryAfter is the pause after so many failures in a row.
func retryAfter(failures int) time.Duration {
	return min(syncRetry<<min(failures-1, 10), syncRetryMost)
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
