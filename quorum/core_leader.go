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
	order    []draas.MemberID // wanted leaders, best first
	harm     bool             // this member had better not lead
	since    time.Duration    // boot time since when this member leads
	moved    time.Duration    // boot time of the last transfer
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
	if c.failed != nil || member == c.cfg.Self {
		return
	}
	_ = c.guard(func() error { // kept in c.failed, returned by Process
		for _, p := range c.peers {
			if p.member != member {
				continue
			}
			if err := c.peerDown(p); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Core) peerDown(p *peer) error {
	status := c.node.BasicStatus()
	switch {
	case status.RaftState == raft.StateLeader:
		c.node.ReportUnreachable(p.id)
		if p.snapshot != 0 {
			c.node.ReportSnapshot(p.id, raft.SnapshotFailure)
			p.snapshot = 0
		}
	case status.RaftState == raft.StateFollower && status.Lead == p.id:
		return c.succeed(p.id)
	}
	return nil
}

// succeed starts the succession of a leader that is gone.
func (c *Core) succeed(gone uint64) error {
	if err := c.node.ForgetLeader(); err != nil {
		return err
	}
	if !isVoter(c.conf, c.self) {
		return nil
	}
	rank := 0
	for _, p := range c.peers {
		if p.voter && p.id != gone && c.before(p.id, c.self) {
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

// before reports whether one voter should rather lead than another: by the
// wanted order, those not named by their ids. One that is to go comes last.
func (c *Core) before(a, b uint64) bool {
	if x, y := c.unwelcome(a), c.unwelcome(b); x != y {
		return y
	}
	x, y := c.place(a), c.place(b)
	return x < y || x == y && a < b
}

func (c *Core) place(id uint64) int {
	if i := slices.Index(c.order, c.name(id)); i >= 0 {
		return i
	}
	return len(c.order)
}

// patience is how many elections a leader stays that could be better placed,
// but does no harm: long enough for the others to find out what made it leader.
const patience = 10

// Prefer says who should lead, best first, and whether this member does harm
// while it leads. A leader hands over to a better member that has been
// answering for a while and is caught up: at once if it does harm, otherwise
// when it has led for some time. No order, no preference.
func (c *Core) Prefer(order []draas.MemberID, harm bool) {
	c.harm = harm
	if !slices.Equal(c.order, order) {
		c.order = slices.Clone(order)
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
		c.tend()
	}
	c.ask()
}

// retrySnapshots ends the wait for members that were sent a snapshot and have
// not answered: the library waits forever for a message that can be lost.
func (c *Core) retrySnapshots() {
	if !slices.ContainsFunc(c.peers, func(p *peer) bool { return p.snapshot != 0 }) {
		return
	}
	wait := max(10*c.cfg.Election, 2*time.Second)
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, pr raftProgress) {
		p := c.peer(id)
		if p == nil || p.snapshot == 0 {
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
func (c *Core) active(p *peer) bool {
	return p.id == c.self || p.acked != 0 && c.now.Boot-p.acked <= c.cfg.Election
}

// Missing lists, for a leader, the voters that have not answered it for two
// elections, while it has led for that long. For anybody else it is empty. One
// that is heard under a new id, after it lost its disk, is not missing.
func (c *Core) Missing() []draas.MemberID {
	if c.failed != nil || c.state != raft.StateLeader || c.now.Boot-c.leadership.since < 2*c.cfg.Election {
		return nil
	}
	var out []draas.MemberID
	for _, p := range c.peers {
		if p.voter && p.id != c.self && !lately(p.acked, c.now.Boot, 2*c.cfg.Election) && !c.heardAs(p) {
			out = append(out, c.name(p.id))
		}
	}
	return out
}

// heardAs reports whether the member of an id is heard under another.
func (c *Core) heardAs(of *peer) bool {
	return slices.ContainsFunc(c.peers, func(p *peer) bool {
		return p != of && c.name(p.id) == c.name(of.id) && lately(p.heard, c.now.Boot, 2*c.cfg.Election)
	})
}

// ready reports whether a member has answered this leader for two elections on
// end and has all that is committed.
func (c *Core) ready(p *peer, pr raftProgress) bool {
	return c.active(p) && c.now.Boot-p.since >= 2*c.cfg.Election && pr.Match >= c.current.Commit && pr.State == tracker.StateReplicate
}

// handOver gives the leadership to the best member that can take it, if that
// is a better one. A member must have been heard for two elections on end, and
// attempts lie twenty apart, so that one that comes and goes does not drag the
// leadership along.
func (c *Core) handOver() {
	// Whom it gave the leadership to may be no better off and give it back:
	// then it stays, long enough for what only a leader that lasts can do.
	now, stay, pause := c.now.Boot, c.cfg.Election, 2*patience*c.cfg.Election
	if c.leave {
		pause = 4 * c.cfg.Election
	}
	if !c.harm && !c.unwelcome(c.self) {
		stay = patience * c.cfg.Election
	}
	if len(c.order) == 0 && !c.unwelcome(c.self) || now-c.leadership.since < stay || c.moved != 0 && now-c.moved < pause {
		return
	}
	if c.place(c.self) == 0 && !c.unwelcome(c.self) {
		return // the usual case: nobody is better
	}
	best := c.self
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, pr raftProgress) {
		if p := c.peer(id); p != nil && p.voter && c.before(id, best) && c.better(id) && c.ready(p, pr) {
			best = id
		}
	})
	if best != c.self {
		c.moved = now
		c.log.Info("handing leadership over", "to", c.name(best), "term", c.current.Term)
		c.node.TransferLeader(best)
	}
}

// better reports whether a member is wanted before this leader, not only
// sorted before it.
func (c *Core) better(id uint64) bool {
	return c.unwelcome(c.self) && !c.unwelcome(id) || c.place(id) < c.place(c.self)
}

// majority is the boot time at which a majority had answered this leader: of
// the voters, and in the middle of a change of those before it too.
func (c *Core) majority() time.Duration {
	return min(c.majorityOf(c.conf.GetVoters()), c.majorityOf(c.conf.GetVotersOutgoing()))
}

func (c *Core) majorityOf(voters []uint64) time.Duration {
	if len(voters) == 0 {
		return c.now.Boot
	}
	times := make([]time.Duration, 0, len(voters))
	for _, id := range voters {
		at := time.Duration(0)
		if p := c.peer(id); id == c.self {
			at = c.now.Boot
		} else if p != nil {
			at = p.acked
		}
		times = append(times, at)
	}
	slices.Sort(times)
	return times[(len(times)-1)/2]
}
