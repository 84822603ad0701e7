package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

const (
	// goodbyeTime bounds an orderly stop; longer handovers get more, up to
	// goodbyeMost, which the service manager has to wait for.
	goodbyeTime = 30 * time.Second
	goodbyeMost = 100 * time.Second
	// goodbyeSilence ends it when the other member has gone as well.
	goodbyeSilence = 5 * time.Second
	// goodbyeLook is how often it looks how far it is.
	goodbyeLook = 100 * time.Millisecond

	byGoodbye = "goodbye"
)

// goodbye is the orderly stop of a member of a cluster of two sites: it hands
// over what it serves and leaves, so that the other goes on alone. Where that
// cannot be, it says what that means. It returns when the daemon may end.
func (d *Daemon) goodbye(ctx context.Context) {
	if !d.now().cfg.TwoSite {
		return
	}
	_ = d.notify.Stopping() // it sees the end of the process anyway
	// A leader that leaves gives the leadership away first, for which it takes
	// up to twenty elections from when it last did.
	w := d.now()
	within := min(max(goodbyeTime, w.policy.Retarget+goodbyeTime/2)+25*w.cfg.Raft.Election, goodbyeMost)
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := d.leaveInOrder(bounded); err != nil && ctx.Err() == nil {
		d.log.Warn("stopping without a goodbye: neither site has a majority until this daemon is started again, permits run out and nothing serves that on_lease_loss does not let serve", "err", err)
	}
}

func (d *Daemon) leaveInOrder(ctx context.Context) error {
	p, err := d.picture(ctx)
	if err != nil {
		return err
	}
	switch {
	case p.core.Role != quorum.RoleVoter:
		return nil // nobody counts on it
	case decidesAlone(p.core):
		d.log.Warn("stopping the only member: nothing serves until it is started again")
		return nil
	case p.core.Leader == "":
		return errors.New("the other site cannot be reached")
	}
	if err := d.handOver(ctx); err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	if err := d.goodbyeLeave(ctx); err != nil {
		return fmt.Errorf("leave the cluster: %w", err)
	}
	return nil
}

// handOver moves all units that are active here to the other site, by the
// ordinary way, and waits for the end of it. Each is asked for once.
func (d *Daemon) handOver(ctx context.Context) error {
	asked := make(map[draas.ServiceID]bool)
	for {
		p, err := d.picture(ctx)
		if err != nil {
			return err
		}
		here, moving := unitsAt(p.state, d.self.Site())
		if len(here) == 0 && !moving {
			return nil
		}
		if err := d.inTouch(p); err != nil {
			return err
		}
		for _, id := range here {
			switch sv := p.state.Services[id]; {
			case sv.Pause != nil:
				return fmt.Errorf("%s is paused by %s: it stays", id, sv.Pause.Operator)
			case asked[id] && !sv.Phase.Moving():
				return fmt.Errorf("%s was not taken by the other site", id)
			}
		}
		for _, id := range here {
			sv := p.state.Services[id]
			if asked[id] || sv.Phase.Moving() {
				continue
			}
			asked[id] = true
			if err := d.askHandOver(ctx, p.state, id); err != nil {
				return err
			}
		}
		pause(ctx, goodbyeLook)
		if ctx.Err() != nil {
			return fmt.Errorf("not done in time: %w", ctx.Err())
		}
	}
}

func (d *Daemon) askHandOver(ctx context.Context, s failover.State, id draas.ServiceID) error {
	sv := s.Services[id]
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	d.log.Info("goodbye: handing over", "service", id, "epoch", sv.Epoch)
	rec, err := d.loop.request(ctx, id, "", failover.Request{Move: failover.MoveSwitchover, Operator: byGoodbye,
		Reason: fmt.Sprintf("draasd at %s is being stopped", d.self), Expect: sv.Epoch})
	if err != nil {
		return err
	}
	if rec.Kind == failover.RecordRefusal {
		return fmt.Errorf("%s: %s", id, rec.Text)
	}
	return nil
}

// unitsAt lists what is active at a site, and tells whether anything moves.
func unitsAt(s failover.State, site draas.SiteID) (here []draas.ServiceID, moving bool) {
	for _, id := range s.ServiceIDs() {
		sv := s.Services[id]
		if sv.Active == site {
			here = append(here, id)
		}
		moving = moving || sv.Phase.Moving()
	}
	return here, moving
}

// inTouch reports an error when nobody has led for a while.
func (d *Daemon) inTouch(p picture) error {
	if p.core.Leader == "" && p.now.Boot-p.core.Contact > goodbyeSilence {
		return errors.New("the other site cannot be reached any more")
	}
	return nil
}

// goodbyeLeave asks to be let go and waits for it: the main loop then ends the
// run with quorum.ErrRemoved, and ctx with it.
func (d *Daemon) goodbyeLeave(ctx context.Context) error {
	if err := d.markLeaving(""); err != nil {
		return err
	}
	if _, err := d.leave(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		pause(ctx, goodbyeLook)
		p, err := d.picture(ctx)
		if err == nil {
			err = d.inTouch(p)
		}
		if err != nil && ctx.Err() == nil {
			d.stay()
			return err
		}
	}
	d.stay() // of no use any more if the run has ended
	return ctx.Err()
}

// stay takes the leaving back. The mark is kept: it may be too late, and then
// the next run finds out.
func (d *Daemon) stay() {
	d.loop.post(func(l *loop) { l.replica.Stay() })
}

// leavingMark is the file that says that this member has asked to be let go
// in order. A run that finds itself removed and has it was let go before it could
// end: it joins anew by itself, unless markAsked stands in the file.
func (d *Daemon) leavingMark() string { return filepath.Join(d.now().cfg.Data, "leaving") }

// markAsked says that somebody asked it to leave, for good.
const markAsked = "asked\n"

func (d *Daemon) markLeaving(how string) error {
	if err := os.WriteFile(d.leavingMark(), []byte(how), 0o600); err != nil {
		return fmt.Errorf("note that it leaves: %w", err)
	}
	return nil
}

func (d *Daemon) wasLeaving() (marked, asked bool) {
	how, err := os.ReadFile(d.leavingMark())
	return err == nil, string(how) == markAsked
}

// settled drops the mark of a member that votes and has not been asked to
// leave: it was not let go the last time.
func (s *survivor) settled(ctx context.Context) {
	if marked, _ := s.wasLeaving(); !marked {
		return
	}
	// In the main loop: who asks it to leave now is heard before or after.
	_ = s.loop.call(ctx, func(*loop) { // the next look comes
		if !s.leaving {
			s.unmark()
		}
	})
}

func (d *Daemon) unmark() {
	if err := os.Remove(d.leavingMark()); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.log.Warn("cannot forget that it left", "err", err)
	}
}
