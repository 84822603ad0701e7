package quorum

import (
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
)

const (
	// maxReady bounds one Process. A round makes progress that only messages
	// can continue, so a few do; what remains is done by the next call.
	maxReady = 1000
	// commitFlush is how long a commit index that nothing else made durable
	// may lag on disk. It is a hint only: a restarted member that finds no
	// quorum shows what it knew last.
	commitFlush = 100 * time.Millisecond
)

// Process does all that can be done now: it makes durable, applies, and returns
// the messages to send, each of which may be sent at once. After an error the
// core has failed for good, and says nothing any more; the daemon must end, and
// read the log anew when it starts.
func (c *Core) Process() ([]Message, error) {
	if c.failed != nil {
		return nil, c.failed
	}
	var out []Message
	err := c.guard(func() error {
		for range maxReady {
			if !c.node.HasReady() {
				break
			}
			messages, err := c.round(c.node.Ready())
			if err != nil {
				return err
			}
			out = append(out, messages...)
		}
		return c.flushCommit()
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// round handles one Ready in the order that the library asks for: durable
// first, then applied; its messages count only after that.
func (c *Core) round(rd raft.Ready) ([]Message, error) {
	if !raft.IsEmptyHardState(rd.HardState) {
		c.current = hardStateOf(rd.HardState)
	}
	if err := c.persist(rd); err != nil {
		return nil, err
	}
	if rd.SoftState != nil {
		c.newLeader(rd.SoftState)
	}
	if err := c.apply(rd); err != nil {
		return nil, err
	}
	messages, err := c.encode(rd.Messages)
	if err != nil {
		return nil, err
	}
	c.node.Advance(rd)
	return messages, c.maybeSnapshot()
}

func (c *Core) persist(rd raft.Ready) error {
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := c.store.ApplySnapshot(rd.Snapshot); err != nil {
			return fmt.Errorf("take snapshot: %w", err)
		}
		if err := c.store.Append(rd.Entries); err != nil {
			return fmt.Errorf("take entries: %w", err)
		}
		return c.wroteAll(c.journal.rotate(rd.Snapshot, c.current, rd.Entries))
	}
	if err := c.store.Append(rd.Entries); err != nil {
		return fmt.Errorf("take entries: %w", err)
	}
	if !rd.MustSync {
		return nil // at most the commit index has changed
	}
	return c.wroteAll(c.journal.append(c.current, rd.Entries))
}

func (c *Core) wroteAll(err error) error {
	if err == nil {
		c.written, c.wrote = c.current, c.now.Boot
	}
	return err
}

// flushCommit makes a new commit index durable that no entry took along. Each
// write is synced before the next, so that a crash can tear one record only.
func (c *Core) flushCommit() error {
	if c.current.Commit <= c.written.Commit || c.now.Boot-c.wrote < commitFlush {
		return nil
	}
	return c.wroteAll(c.journal.append(c.current, nil))
}

func (c *Core) newLeader(s *raft.SoftState) {
	if s.RaftState == raft.StateLeader && c.state != raft.StateLeader {
		c.leading = 0
		c.since = c.now.Boot
		for i := range c.peers {
			c.peers[i].acked, c.peers[i].freshAck, c.peers[i].snapshot = 0, false, 0
		}
	}
	if s.Lead != c.lead {
		if s.Lead != raft.None {
			c.campaign = campaign{}
		}
		c.log.Info("leader changed", "leader", c.meta.Member(s.Lead), "was", c.meta.Member(c.lead), "term", c.current.Term)
	}
	if s.Lead != c.lead || s.RaftState != c.state {
		c.quiet = 0
	}
	c.lead, c.state = s.Lead, s.RaftState
}

func (c *Core) apply(rd raft.Ready) error {
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := c.cfg.Machine.Restore(rd.Snapshot.GetData()); err != nil {
			return fmt.Errorf("restore snapshot: %w", err)
		}
		c.applied = rd.Snapshot.GetMetadata().GetIndex()
		c.snapIndex = c.applied
		c.log.Info("caught up by a snapshot", "index", c.applied)
	}
	for _, e := range rd.CommittedEntries {
		if e.GetIndex() != c.applied+1 {
			return fmt.Errorf("apply entry %d after %d: %w", e.GetIndex(), c.applied, ErrLostLog)
		}
		if len(e.GetData()) > 0 { // a new leader's first entry is empty
			c.cfg.Machine.Apply(e.GetIndex(), e.GetData())
		}
		c.applied = e.GetIndex()
	}
	return nil
}

// maybeSnapshot replaces the log by a snapshot when it has grown enough.
func (c *Core) maybeSnapshot() error {
	if c.applied == c.snapIndex || c.applied < c.snapNext || c.applied-c.snapIndex < c.cfg.SnapshotEvery && c.journal.size < maxLogBytes {
		return nil
	}
	data, err := c.cfg.Machine.Snapshot()
	if err == nil && len(data) > MaxSnapshot {
		err = fmt.Errorf("%w: %d bytes, %d are possible", ErrTooLarge, len(data), MaxSnapshot)
	}
	if err != nil {
		// Nothing is lost: the log only grows. To stop would stop all members.
		c.snapNext = c.applied + c.cfg.SnapshotEvery
		c.log.Error("no snapshot could be taken, the log grows", "index", c.applied, "bytes", c.journal.size, "err", err)
		return nil
	}
	snap, err := c.store.CreateSnapshot(c.applied, c.meta.confState(), data)
	if err != nil {
		return fmt.Errorf("take snapshot at %d: %w", c.applied, err)
	}
	entries, err := c.entriesAfter(c.applied)
	if err != nil {
		return fmt.Errorf("read log after %d: %w", c.applied, err)
	}
	if err := c.wroteAll(c.journal.rotate(snap, c.current, entries)); err != nil {
		return err
	}
	c.snapIndex = c.applied
	first, err := c.store.FirstIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if c.applied > c.cfg.SnapshotKeep && c.applied-c.cfg.SnapshotKeep >= first {
		if err := c.store.Compact(c.applied - c.cfg.SnapshotKeep); err != nil {
			return fmt.Errorf("compact log: %w", err)
		}
	}
	return nil
}

// CoreStatus is what a core knows of itself and, as leader, of the others.
type CoreStatus struct {
	Self    draas.MemberID
	Leader  draas.MemberID // empty: unknown
	State   string         // follower, candidate, leader; failed
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
	// Torn tells of a torn last record that was dropped at the start.
	Torn     string
	Rejected uint64 // messages that were not understood
	Members  []MemberStatus
	Err      error // why the core has failed
}

// MemberStatus is what a core knows of a member.
type MemberStatus struct {
	ID    draas.MemberID
	Heard time.Duration // boot time when it was last heard; 0: never
	// Match, as known by a leader, is up to where the member's log is known to
	// be the same; Active whether it answers; Lagging whether it is being sent
	// a snapshot.
	Match   uint64
	Active  bool
	Lagging bool
}

// Status reports the core's state.
func (c *Core) Status() CoreStatus {
	s := CoreStatus{
		Self: c.cfg.Self, Leader: c.meta.Member(c.lead), Term: c.current.Term, Commit: c.current.Commit,
		Applied: c.applied, Snapshot: c.snapIndex, Torn: c.torn, Rejected: c.rejected, Contact: c.touch, Err: c.failed,
	}
	s.Last, _ = c.store.LastIndex() // of memory: has no error
	for i, name := range c.meta.Members {
		s.Members = append(s.Members, MemberStatus{ID: name, Heard: c.peers[i].heard})
	}
	switch c.state {
	case raft.StateLeader:
		s.State = "leader"
		c.node.WithProgress(func(id uint64, _ raft.ProgressType, pr raftProgress) {
			m := &s.Members[id-1]
			m.Match, m.Lagging = pr.Match, pr.State == stateSnapshot
			m.Active = id == c.meta.ID(c.cfg.Self) || c.active(id)
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

// encode turns the library's messages into ours.
func (c *Core) encode(messages []*raftpb.Message) ([]Message, error) {
	var out []Message
	for _, m := range messages {
		if m.GetType() == raftpb.MsgSnap {
			c.peers[m.GetTo()-1].snapshot = c.now.Boot
		}
		e, err := c.message(m)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}
