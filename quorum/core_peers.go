package quorum

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
)

// peer is what a core remembers of one raft id. All but visitors stand in the
// configuration.
type peer struct {
	id     uint64
	member draas.MemberID
	// voter and learner are the id's place in the configuration as this core
	// has applied it. Neither: a visitor, who wants to be let in, was let in by
	// an entry that has not come here yet, or was removed by one.
	voter, learner bool

	fresh, freshAck bool          // heard since the last Tick
	heard           time.Duration // boot time when last heard; 0: never
	since           time.Duration // heard since then without a gap of an election
	acked           time.Duration // last answer to this leader
	snapshot        time.Duration // when a snapshot was last sent; 0: none under way

	known claim  // the greatest it has made
	void  notice // why nothing of it is listened to any more
	told  time.Duration

	joining, leaving time.Duration // boot time when it last asked for it; 0: never
	newest           uint64        // visitors are forgotten oldest first
}

// maxVisitors bounds how many ids outside of the configuration are remembered.
const maxVisitors = 16

// stamp notes the time of what was heard since the last Tick, and reports
// whether that was the leader.
func (p *peer) stamp(now, gap time.Duration, leader bool) bool {
	if p.fresh {
		if p.heard == 0 || now-p.heard > gap {
			p.since = now
		}
		p.heard = now
	}
	if p.freshAck {
		p.acked = now
	}
	leader = leader && p.fresh
	p.fresh, p.freshAck = false, false
	return leader
}

// peer is that of an id, or nil.
func (c *Core) peer(id uint64) *peer {
	for _, p := range c.peers {
		if p.id == id {
			return p
		}
	}
	return nil
}

// name is the member of an id, empty for one that is not known.
func (c *Core) name(id uint64) draas.MemberID {
	if p := c.peer(id); p != nil {
		return p.member
	}
	return ""
}

func (c *Core) insert(p *peer) {
	i := 0
	for i < len(c.peers) && c.peers[i].id < p.id {
		i++
	}
	c.peers = slices.Insert(c.peers, i, p)
}

// reseat follows the roster and the configuration.
func (c *Core) reseat() {
	for _, s := range c.roster.seats {
		p := c.peer(s.id)
		if p == nil {
			p = &peer{id: s.id}
			c.insert(p)
		}
		p.member = s.member
	}
	c.peers = slices.DeleteFunc(c.peers, func(p *peer) bool { return slices.Contains(c.roster.gone, p.id) })
	for _, p := range c.peers {
		p.voter, p.learner = isVoter(c.conf, p.id), slices.Contains(c.conf.GetLearners(), p.id)
		if p.voter || p.learner {
			p.joining = 0
		}
	}
}

// visitor makes room for an id that stands in no configuration.
func (c *Core) visitor(id uint64, member draas.MemberID) *peer {
	var oldest *peer
	n, newest := 0, uint64(0)
	for _, p := range c.peers {
		newest = max(newest, p.newest)
		if !p.voter && !p.learner {
			n++
			if oldest == nil || p.newest < oldest.newest {
				oldest = p
			}
		}
	}
	if n >= maxVisitors {
		c.peers = slices.DeleteFunc(c.peers, func(p *peer) bool { return p == oldest })
	}
	p := &peer{id: id, member: member, newest: newest + 1}
	c.insert(p)
	return p
}

// changed applies an entry that changes the membership.
func (c *Core) changed(e *raftpb.Entry) error {
	cc, seats, err := decodeChange(e.GetData())
	if err != nil {
		return fmt.Errorf("apply entry %d: %w", e.GetIndex(), err)
	}
	for _, s := range seats {
		c.roster.add(s)
	}
	was := slices.Contains(c.roster.gone, c.self)
	c.conf = c.node.ApplyConfChange(cc)
	c.roster.prune(c.conf)
	if err := checkConf(c.conf, c.roster); err != nil {
		return fmt.Errorf("apply entry %d: %w", e.GetIndex(), err)
	}
	c.reseat()
	c.confIndex = e.GetIndex()
	c.log.Info("membership changed", "voters", c.names(c.conf.GetVoters()), "learners", c.names(c.conf.GetLearners()),
		"leaving", c.names(c.conf.GetVotersOutgoing()), "index", e.GetIndex())
	c.removed = c.removed || !was && slices.Contains(c.roster.gone, c.self)
	return nil
}

func (c *Core) names(ids []uint64) []string {
	var all []string
	for _, id := range ids {
		all = append(all, fmt.Sprintf("%s/%d", c.name(id), id))
	}
	return all
}

// Role is a member's part in the log.
type Role string

// Roles.
const (
	// RoleVoter: it decides with the others.
	RoleVoter Role = "voter"
	// RoleLearner: it was let in and gets the log, and does not count yet.
	RoleLearner Role = "learner"
	// RoleJoining: no leader has let it in yet.
	RoleJoining Role = "joining"
	// RoleRemoved: it was removed.
	RoleRemoved Role = "removed"
)

// role is this member's. A copy of the log that has not applied yet what let it
// in counts as joining.
func (c *Core) role() Role {
	switch {
	case c.removed || slices.Contains(c.roster.gone, c.self):
		return RoleRemoved
	case isVoter(c.conf, c.self):
		return RoleVoter
	case slices.Contains(c.conf.GetLearners(), c.self):
		return RoleLearner
	}
	return RoleJoining
}
