package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
)

var (
	// ErrLeft is returned by Run when the member has left the cluster, as it
	// was asked to. Run again, it asks to be let in again.
	ErrLeft = errors.New("this member has left the cluster")
	// errForce ends a run: the cluster is to be started anew from this member.
	errForce = errors.New("starting the cluster anew")
	// errRefused wraps what would be possible at another time.
	errRefused = errors.New("refused")
)

// leaveForGood has this member leave because somebody asked. The mark says so to
// the next run, if this one ends after the others have let it go and before it
// has heard of that.
func (d *Daemon) leaveForGood(ctx context.Context) (*api.Done, error) {
	if err := d.markLeaving(markAsked); err != nil {
		return nil, err
	}
	done, err := d.leave(ctx)
	if err != nil {
		d.unmark()
		return nil, err
	}
	// A look at the mark in between may have found nobody leaving.
	return done, d.markLeaving(markAsked)
}

// leave asks the others to let this member go. What it serves has to be handed
// over before.
func (d *Daemon) leave(ctx context.Context) (*api.Done, error) {
	var refused error
	err := d.loop.call(ctx, func(l *loop) {
		s := l.replica.State()
		for _, id := range s.ServiceIDs() {
			sv := s.Services[id]
			if sv.Active == d.self.Site() || sv.Move != nil && sv.Move.To == d.self.Site() {
				refused = fmt.Errorf("%w: %s is active here: draasd switchover %s first", errRefused, id, id)
				return
			}
		}
		if err := l.replica.Leave(); err != nil {
			refused = fmt.Errorf("%w: %w", errRefused, err)
			return
		}
		d.leaving = true
	})
	if err = errors.Join(err, refused); err != nil {
		return nil, err
	}
	d.log.Warn("leaving the cluster, as somebody asked")
	return &api.Done{Text: fmt.Sprintf("%s leaves the cluster: its daemon ends when the others have let it go", d.self)}, nil
}

// left makes the copy of the log that was removed a new one, so that the next
// run asks to be let in again.
func (d *Daemon) left() error {
	if _, err := rejoin(d.now().cfg.Data, d.self); err != nil {
		return err
	}
	d.unmark()
	d.log.Warn("left the cluster; it asks to be let in when it runs again")
	return nil
}

// startAnew ends this run to start the cluster anew.
func (d *Daemon) startAnew(ctx context.Context, f api.Force) (*api.Done, error) {
	if !f.OldSiteIsOff {
		return nil, badRequest{errors.New("it takes your word that the other members do not serve and will not: old_site_is_off")}
	}
	var refused error
	err := d.loop.call(ctx, func(l *loop) {
		st := l.replica.Status()
		switch {
		case st.Leader != "":
			refused = fmt.Errorf("%w: %s leads, so a majority lives: draasd failover moves a service", errRefused, st.Leader)
		case st.Role != quorum.RoleVoter:
			refused = fmt.Errorf("%w: this member is no voter (%s): its copy of the log may be behind; choose another", errRefused, st.Role)
		default:
			l.quit = errForce
		}
	})
	if err = errors.Join(err, refused); err != nil {
		return nil, err
	}
	d.log.Warn("starting the cluster anew from this member, by an operator's word that the others do not serve", "operator", f.Operator, "reason", f.Reason)
	return &api.Done{Text: fmt.Sprintf("%s starts the cluster anew", d.self)}, nil
}

// force makes this member's log that of a cluster of which it is the only
// voter.
func (d *Daemon) force() (err error) {
	disk, err := quorum.OpenOSDisk(d.now().cfg.Data)
	if err != nil {
		return fmt.Errorf("start anew: %w", err)
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	meta, err := quorum.ForceGeneration(disk, quorum.ForceOptions{Entry: func(g quorum.Generation) ([]byte, error) {
		return failover.NewGeneration(d.self, uint32(g.Number), time.Now())
	}})
	if err != nil {
		return fmt.Errorf("start anew: %w", err)
	}
	d.log.Warn("the cluster starts anew from this member alone; the others join it with draasd join --discard", "generation", meta.Generation.Number)
	return nil
}

// JoinOptions is what `draasd join` prepares a data directory by.
type JoinOptions struct {
	ConfigPath string
	// Cluster is the cluster's id in hex; empty: the other members are asked.
	Cluster string
	// Discard gives up the copy of the log that the directory holds.
	Discard bool
}

// Joined is what a data directory was prepared for.
type Joined struct {
	Member  draas.MemberID
	Role    draas.Role
	Cluster quorum.ClusterID
	Data    string
}

// Join prepares a data directory for a member of a cluster that exists: a new
// one, one that lost its disk, or one whose copy of the log was removed, voided
// or left behind. The daemon that is started on it then asks to be let in.
func Join(ctx context.Context, o JoinOptions) (Joined, error) {
	c, err := Load(o.ConfigPath)
	if err != nil {
		return Joined{}, err
	}
	self, err := Identity(c)
	if err != nil {
		return Joined{}, err
	}
	out := Joined{Member: self.ID, Role: self.Role, Data: c.Data}
	if o.Discard {
		meta, err := rejoin(c.Data, self.ID)
		out.Cluster = meta.ClusterID
		return out, err
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return out, fmt.Errorf("make data directory: %w", err)
	}
	if out.Cluster, err = clusterID(ctx, o); err != nil {
		return out, err
	}
	return out, joinAt(c.Data, out.Cluster, self.ID)
}

func joinAt(dir string, cluster quorum.ClusterID, self draas.MemberID) (err error) {
	disk, err := quorum.OpenOSDisk(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	err = quorum.Join(disk, cluster, self, nil)
	if errors.Is(err, quorum.ErrBootstrapped) {
		return fmt.Errorf("%s holds a copy of the log already. If this member was removed, put into quarantine or left behind, give that copy up: draasd join --discard", dir)
	}
	return err
}

// rejoin gives up a member's copy of the log in a directory.
func rejoin(dir string, self draas.MemberID) (meta quorum.ClusterMeta, err error) {
	if _, err := os.Stat(filepath.Join(dir, "meta")); errors.Is(err, os.ErrNotExist) {
		return meta, fmt.Errorf("%s holds no copy of the log to give up: draasd join without --discard prepares it", dir)
	}
	disk, err := quorum.OpenOSDisk(dir)
	if errors.Is(err, quorum.ErrLocked) {
		return meta, fmt.Errorf("a daemon runs on %s: stop it first", dir)
	}
	if err != nil {
		return meta, err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	if meta, err := quorum.ReadMeta(disk); err == nil && meta.Self != self {
		return meta, fmt.Errorf("%s belongs to %s, and the certificate is %s's", dir, meta.Self, self)
	}
	return quorum.Rejoin(disk, nil)
}

// clusterID is the id as it was given, or as the other members say.
func clusterID(ctx context.Context, o JoinOptions) (quorum.ClusterID, error) {
	var id quorum.ClusterID
	if o.Cluster != "" {
		err := id.UnmarshalText([]byte(o.Cluster))
		return id, err
	}
	c, err := Load(o.ConfigPath)
	if err != nil {
		return id, err
	}
	self, err := Identity(c)
	if err != nil {
		return id, err
	}
	others, err := othersOf(c, self.ID)
	if err != nil {
		return id, err
	}
	var ids []string
	var errs []error
	for _, m := range c.Members {
		client := others[m.ID]
		if client == nil {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		s, err := client.Status(ask, true)
		cancel()
		client.Close()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.ID, err))
			continue
		}
		ids = append(ids, s.ClusterID)
	}
	slices.Sort(ids)
	switch ids = slices.Compact(ids); len(ids) {
	case 0:
		return id, errors.Join(append(errs, errors.New("no member could be asked for the cluster's id: give it with --cluster, draasd status --json shows it as cluster_id"))...)
	case 1:
		err := id.UnmarshalText([]byte(ids[0]))
		return id, err
	}
	return id, fmt.Errorf("the members are of different clusters: %v", ids)
}
