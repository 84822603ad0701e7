package quorum

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

const (
	// maxReady bounds one Process. A round makes progress that only messages
	// can continue, so a few do; what remains is done by the next call.
	maxReady = 1000
	// commitFlush is how long a commit index that nothing else made durable
	// may lag on disk. It is a hint only: a restarted member that finds no
	// quorum shows what it knew last. In a cluster with services the next
	// renewal takes it along, without a write of its own.
	commitFlush = time.Second
)

// Process does all that can be done now: it makes durable, applies, and returns
// the messages to send, each of which may be sent at once. After an error the
// core has failed for good, and says nothing any more; the daemon must end, and
// read the log anew when it starts.
func (c *Core) Process() ([]Message, error) {
	if c.failed != nil {
		return nil, c.failed
	}
	if c.removed {
		c.fail(fmt.Errorf("%w: %s", ErrRemoved, replaceIt))
		return nil, c.failed
	}
	err := c.guard(func() error {
		if err := c.release(); err != nil {
			return err
		}
		for range maxReady {
			if !c.node.HasReady() {
				break
			}
			if err := c.round(c.node.Ready()); err != nil {
				return err
			}
		}
		return c.flushCommit()
	})
	out := c.out
	c.out = nil
	if err != nil {
		return nil, err
	}
	return out, nil
}

// round handles one Ready in the order that the library asks for: durable
// first, then applied; its messages count only after that.
func (c *Core) round(rd raft.Ready) error {
	if !raft.IsEmptyHardState(rd.HardState) {
		c.current = hardStateOf(rd.HardState)
	}
	if err := c.persist(rd); err != nil {
		return err
	}
	if rd.SoftState != nil {
		c.newLeader(rd.SoftState)
	}
	if err := c.apply(rd); err != nil {
		return err
	}
	c.encode(rd.Messages)
	c.node.Advance(rd)
	return c.maybeSnapshot()
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
		for _, p := range c.peers {
			p.acked, p.freshAck, p.snapshot, p.joining, p.leaving = 0, false, 0, 0, 0
		}
	}
	if s.Lead != c.lead {
		if s.Lead != raft.None {
			c.campaign = campaign{}
		}
		c.log.Info("leader changed", "leader", c.name(s.Lead), "was", c.name(c.lead), "term", c.current.Term)
	}
	if s.Lead != c.lead || s.RaftState != c.state {
		c.quiet = 0
	}
	c.lead, c.state = s.Lead, s.RaftState
}

func (c *Core) apply(rd raft.Ready) error {
	if !raft.IsEmptySnap(rd.Snapshot) {
		ro, machine, err := unwrap(rd.Snapshot.GetData())
		if err != nil {
			return err
		}
		if err := c.cfg.Machine.Restore(machine); err != nil {
			return fmt.Errorf("restore snapshot: %w", err)
		}
		c.roster, c.conf, c.refused = ro, rd.Snapshot.GetMetadata().GetConfState(), ""
		c.confIndex = rd.Snapshot.GetMetadata().GetIndex()
		c.reseat()
		c.applied = rd.Snapshot.GetMetadata().GetIndex()
		c.snapIndex = c.applied
		c.log.Info("caught up by a snapshot", "index", c.applied)
	}
	for _, e := range rd.CommittedEntries {
		if e.GetIndex() != c.applied+1 {
			return fmt.Errorf("apply entry %d after %d: %w", e.GetIndex(), c.applied, ErrLostLog)
		}
		switch {
		case e.GetType() == raftpb.EntryConfChangeV2:
			if err := c.changed(e); err != nil {
				return err
			}
		case len(e.GetData()) > 0: // a new leader's first entry is empty
			c.cfg.Machine.Apply(e.GetIndex(), e.GetData())
		}
		c.applied = e.GetIndex()
	}
	return nil
}

// maybeSnapshot replaces the log by a snapshot when it has grown enough.
func (c *Core) maybeSnapshot() error {
	// Who is let in can be helped only by a snapshot that knows of it.
	grown := c.confIndex > c.snapIndex || c.applied-c.snapIndex >= c.cfg.SnapshotEvery || c.journal.size >= maxLogBytes
	if c.applied == c.snapIndex || c.applied < c.snapNext || !grown {
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
	snap, err := c.store.CreateSnapshot(c.applied, c.conf, c.roster.wrap(data))
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

// muted drops the answer to a message that only tells a follower how much is
// committed, a quarter of all messages: the leader does not need it, as what it
// acknowledges is committed. It is as good as lost. Whoever asks for the same
// again is answered: a leader that lost track of a member probes so.
func (c *Core) muted(m *raftpb.Message) bool {
	if c.mute == 0 || m.GetType() != raftpb.MsgAppResp || m.GetReject() || m.GetIndex() != c.mute {
		return false
	}
	c.mute = 0
	return true
}

// toldCommit notes a message of the leader's that only tells how much is committed.
func (c *Core) toldCommit(p *raftpb.Message) {
	at := p.GetIndex()
	if p.GetType() == raftpb.MsgApp && len(p.GetEntries()) == 0 && p.GetCommit() >= at && at > c.mutedAt && at == c.ackIndex && p.GetTerm() == c.ackTerm {
		c.mute, c.mutedAt = at, at
	}
}

// encode turns the library's messages into ours.
func (c *Core) encode(messages []*raftpb.Message) {
	c.out = slices.Grow(c.out, len(messages))
	for _, m := range messages {
		p := c.peer(m.GetTo())
		if p == nil {
			continue // it was removed by what was just applied
		}
		if m.GetType() == raftpb.MsgSnap {
			p.snapshot = c.now.Boot
		}
		if c.muted(m) {
			continue
		}
		c.acknowledged(m)
		var others []hearsay
		if m.GetType() == raftpb.MsgHeartbeat {
			others = c.hearsay(p)
		}
		b := c.envelopeWith(kindRaft, p, others, sizeRaft(m))
		c.out = append(c.out, Message{From: c.cfg.Self, To: p.member, Data: appendRaft(b, m)})
	}
}
