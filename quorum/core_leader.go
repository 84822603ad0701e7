package quorum

import (
	"io"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/draasd/draas"
)

type raftProgress = tracker.Progress

const stateSnapshot = tracker.StateSnapshot

// leadership is who should lead, and what is under way for that.
type leadership struct {
	order    []uint64      // wanted leaders, best first
	since    time.Duration // boot time since when this member leads
	moved    time.Duration // boot time of the last transfer
	campaign campaign
}

// campaign is one that waits for its turn after the leader's loss.
type campaign struct {
	armed bool
	delay time.Duration
	at    time.Duration // boot time when it is due, set by the Tick after it was armed
}

// PeerDown tells that the connection to a member was reset or refused. If it
// was the leader, the members that are left campaign one after the other
// without waiting for the election timeout: measured 3 to 6 ms instead of some
// 30 (docs/adr/0001). A wrong alarm costs nothing: the pre-vote is refused by
// whoever still hears the leader.
func (c *Core) PeerDown(member draas.MemberID) {
	id := c.meta.ID(member)
	if c.failed != nil || id == 0 || member == c.cfg.Self {
		return
	}
	_ = c.guard(func() error { // kept in c.failed, returned by Process
		status := c.node.BasicStatus()
		switch {
		case status.RaftState == raft.StateLeader:
			c.node.ReportUnreachable(id)
			if c.peers[id-1].snapshot != 0 {
				c.node.ReportSnapshot(id, raft.SnapshotFailure)
				c.peers[id-1].snapshot = 0
			}
		case status.RaftState == raft.StateFollower && status.Lead == id:
			return c.succeed(id)
		}
		return nil
	})
}

// succeed starts the succession of a leader that is gone.
func (c *Core) succeed(gone uint64) error {
	if err := c.node.ForgetLeader(); err != nil {
		return err
	}
	rank := 0
	for id := range uint64(len(c.meta.Members)) {
		if id+1 != gone && c.rank(id+1) < c.rank(c.meta.ID(c.cfg.Self)) {
			rank++
		}
	}
	if rank == 0 {
		return c.node.Campaign()
	}
	// Later ones wait long enough for the vote of an earlier one to arrive in
	// a local network; in a wide one a split vote costs an election timeout.
	step := max(c.cfg.Election/100, time.Millisecond)
	var b [1]byte
	if _, err := io.ReadFull(c.cfg.Rand, b[:]); err != nil {
		return err
	}
	c.campaign = campaign{armed: true, delay: time.Duration(rank)*step + step*time.Duration(b[0])/512}
	return nil
}

// yield drops a waiting campaign when another member that is no worse already
// campaigns.
func (c *Core) yield(p *raftpb.Message) {
	if p.GetType() != raftpb.MsgPreVote && p.GetType() != raftpb.MsgVote {
		return
	}
	last, _ := c.store.LastIndex() // of memory: has no error
	term, _ := c.store.Term(last)
	if p.GetLogTerm() > term || p.GetLogTerm() == term && p.GetIndex() >= last {
		c.campaign = campaign{}
	}
}

// rank is a member's place in the wanted order; those not named come last.
func (c *Core) rank(id uint64) int {
	if i := slices.Index(c.order, id); i >= 0 {
		return i
	}
	return len(c.order) + int(id)
}

// Prefer says who should lead, best first. A leader hands over to a better
// member that has been answering for a while and is caught up. No order, no
// preference.
func (c *Core) Prefer(order []draas.MemberID) {
	c.order = c.order[:0]
	for _, m := range order {
		if id := c.meta.ID(m); id != 0 && !slices.Contains(c.order, id) {
			c.order = append(c.order, id)
		}
	}
}

// duties are what a core does by itself as time passes.
func (c *Core) duties() {
	if c.campaign.armed {
		c.campaign.armed, c.campaign.at = false, c.now.Boot+c.campaign.delay
	}
	if c.campaign.at != 0 && c.now.Boot >= c.campaign.at {
		c.campaign = campaign{}
		if s := c.node.BasicStatus(); s.Lead == raft.None && s.RaftState == raft.StateFollower {
			if err := c.node.Campaign(); err != nil {
				c.log.Warn("campaign failed", "err", err)
			}
		}
	}
	if c.state == raft.StateLeader {
		c.retrySnapshots()
		c.handOver()
	}
}

// retrySnapshots ends the wait for members that were sent a snapshot and have
// not answered: the library waits forever for a message that can be lost.
func (c *Core) retrySnapshots() {
	wait := max(10*c.cfg.Election, 2*time.Second)
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, pr raftProgress) {
		p := &c.peers[id-1]
		if p.snapshot == 0 {
			return
		}
		if pr.State != stateSnapshot {
			p.snapshot = 0
			return
		}
		if c.now.Boot-p.snapshot > wait {
			p.snapshot = 0
			c.node.ReportSnapshot(id, raft.SnapshotFailure)
		}
	})
}

// active reports whether a member answers this leader.
func (c *Core) active(id uint64) bool {
	p := c.peers[id-1]
	return p.acked != 0 && c.now.Boot-p.acked <= c.cfg.Election
}

// handOver gives the leadership to the best member that can take it, if that
// is a better one. A member must have been heard for two elections on end, and
// attempts lie four apart, so that one that comes and goes does not drag the
// leadership along.
func (c *Core) handOver() {
	now, self := c.now.Boot, c.meta.ID(c.cfg.Self)
	if len(c.order) == 0 || now-c.leadership.since < c.cfg.Election || c.moved != 0 && now-c.moved < 4*c.cfg.Election {
		return
	}
	var best uint64
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, pr raftProgress) {
		if id == self || c.rank(id) >= c.rank(self) || best != 0 && c.rank(best) < c.rank(id) {
			return
		}
		if c.active(id) && now-c.peers[id-1].since >= 2*c.cfg.Election && pr.Match >= c.current.Commit && pr.State == tracker.StateReplicate {
			best = id
		}
	})
	if best != 0 {
		c.moved = now
		c.log.Info("handing leadership over", "to", c.meta.Member(best), "term", c.current.Term)
		c.node.TransferLeader(best)
	}
}

// majority is the boot time at which a majority had answered this leader.
func (c *Core) majority() time.Duration {
	var times []time.Duration
	for i := range c.peers {
		if uint64(i+1) != c.meta.ID(c.cfg.Self) {
			times = append(times, c.peers[i].acked)
		}
	}
	others := len(c.peers) / 2 // needed beside this member
	if others == 0 {
		return c.now.Boot
	}
	slices.Sort(times)
	return times[len(times)-others]
}
