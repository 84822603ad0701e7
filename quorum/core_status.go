package quorum

import (
	"time"

	"go.etcd.io/raft/v3"

	"github.com/draasd/draas"
)

// CoreStatus is what a core knows of itself and, as leader, of the others.
type CoreStatus struct {
	Self   draas.MemberID
	ID     uint64         // raft id of this copy of the log
	Role   Role           // anything but RoleVoter: nothing of it counts
	Leader draas.MemberID // empty: unknown
	State  string         // follower, candidate, leader; failed
	// Generation is how often the cluster was started anew.
	Generation Generation
	// Refused tells why a member that is joining is not let in.
	Refused string
	Term    uint64
	Commit  uint64
	Applied uint64
	Last    uint64 // index of the last entry in the log
	// Snapshot is the index of the snapshot that the log starts from.
	Snapshot uint64
	// Contact is the boot time at which this member was last known to be in
	// touch with a quorum: as a follower when it heard the leader, as a leader
	// when a majority had answered. Zero: never since the start.
	Contact time.Duration
	// Voters are those of the configuration that this member goes by, by raft
	// id, and VotersOutgoing those of before while it changes. They are not to
	// be changed.
	Voters, VotersOutgoing []uint64
	// Torn tells of a torn last record that was dropped at the start.
	Torn     string
	Rejected uint64 // messages that were not understood
	// Members are those of the configuration and those that ask to be let in,
	// by raft id. A name can stand here twice while a member is replaced.
	Members []MemberStatus
	Err     error // why the core has failed
}

// MemberStatus is what a core knows of a member.
type MemberStatus struct {
	ID     draas.MemberID
	RaftID uint64
	Role   Role
	Heard  time.Duration // boot time when it was last heard; 0: never
	// Match, as known by a leader, is up to where the member's log is known to
	// be the same; Active whether it answers; Lagging whether it is being sent
	// a snapshot.
	Match   uint64
	Active  bool
	Lagging bool
	// Leaving: it has asked this leader to be let go.
	Leaving bool
	// Quarantined tells why nothing of it is listened to until it is replaced.
	Quarantined string
}

// Status reports the core's state.
func (c *Core) Status() CoreStatus {
	s := CoreStatus{
		Self: c.cfg.Self, ID: c.self, Role: c.role(), Leader: c.leader(), Generation: c.meta.Generation, Refused: c.refused,
		Term: c.current.Term, Commit: c.current.Commit, Applied: c.applied, Last: c.last(), Snapshot: c.snapIndex,
		Torn: c.torn, Rejected: c.rejected, Contact: c.touch, Err: c.failed,
		Voters: c.conf.GetVoters(), VotersOutgoing: c.conf.GetVotersOutgoing(),
	}
	if s.Role != RoleJoining {
		s.Refused = ""
	}
	for _, p := range c.peers {
		m := MemberStatus{ID: p.member, RaftID: p.id, Heard: p.heard, Leaving: c.goes(p), Quarantined: p.void.String()}
		switch {
		case p.voter:
			m.Role = RoleVoter
		case p.learner:
			m.Role = RoleLearner
		case c.asks(p) || p.void != 0:
			m.Role = RoleJoining
		default:
			continue
		}
		s.Members = append(s.Members, m)
	}
	switch c.state {
	case raft.StateLeader:
		s.State = "leader"
		c.node.WithProgress(func(id uint64, _ raft.ProgressType, pr raftProgress) {
			for i := range s.Members {
				if m := &s.Members[i]; m.RaftID == id {
					m.Match, m.Lagging, m.Active = pr.Match, pr.State == stateSnapshot, c.active(c.peer(id))
				}
			}
		})
	case raft.StateFollower:
		s.State = "follower"
	default:
		s.State = "candidate"
	}
	if c.failed != nil {
		s.State = "failed"
	}
	return s
}

func (c *Core) leader() draas.MemberID { return c.name(c.lead) }
