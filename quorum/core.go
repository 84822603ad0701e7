// Package quorum holds the replicated log: a Raft core stepped by one
// goroutine, its log on disk, the transport between members, and the
// combination with the decision (Replica).
//
// It is the only importer of the consensus library (docs/adr/0001). The core
// has no clock, goroutine, file or socket of its own: same inputs, same
// outputs. One source of randomness lies outside: the library draws election
// timeouts from crypto/rand.Reader, which a simulation therefore replaces
// (quorumtest.SeedElections).
package quorum

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
)

// Limits of sizes, in bytes.
const (
	MaxProposal = 64 << 10 // of one proposal
	MaxSnapshot = 6 << 20  // of the machine's state
	MaxMessage  = 8 << 20  // of one message between members

	maxAppend      = 1 << 20  // entries in one message
	maxUncommitted = 16 << 20 // entries that a leader takes before any commits
	maxLogBytes    = 16 << 20 // of a segment before a snapshot replaces it
)

// Defaults of CoreConfig.
const (
	DefaultSnapshotEvery = 4096
	DefaultSnapshotKeep  = 1024
)

// Errors of a core.
var (
	// ErrNoLeader is returned by Propose while this member knows no leader.
	ErrNoLeader = errors.New("no leader is known")
	// ErrBusy is returned by Propose when the leader takes no proposals for
	// the moment: leadership is moving, or too much is uncommitted.
	ErrBusy = errors.New("leader takes no proposals now")
	// ErrStarting is returned by Replica.Request while the log does not know this
	// run of the daemon: what it proposes is void until then.
	ErrStarting = errors.New("this daemon has just started, and the log does not say so yet")
	// ErrTooLarge is returned for a proposal above MaxProposal.
	ErrTooLarge = errors.New("too large")
	// ErrLostLog is the failure of a member that lacks entries which it
	// acknowledged once: its disk, or an old copy of it, was put back.
	ErrLostLog = errors.New("log lacks entries that this member acknowledged")
	// ErrCloned is the failure of a member whose log a second daemon runs with:
	// a machine was copied. Neither can be told to be the real one.
	ErrCloned = errors.New("two daemons run with one copy of the log")
	// ErrRemoved is the failure of a member that does not belong to the cluster
	// any more: the configuration names it no longer, another copy of the log
	// has taken its place, or it has said Goodbye (Leave).
	ErrRemoved = errors.New("this copy of the log was removed from the cluster")
	// ErrGeneration is the failure of a member that was left behind by
	// ForceGeneration.
	ErrGeneration = errors.New("the cluster was started anew without this member")
	// ErrFailed wraps whatever made a core stop for good.
	ErrFailed = errors.New("replicated log has failed")
)

// Machine is what the log drives. All members apply the same entries in the
// same order. It must not call the core back.
type Machine interface {
	// Apply is called once per committed entry, in order; after a restart
	// again for those since the snapshot. data must not be changed.
	Apply(index uint64, data []byte)
	// Snapshot returns the state after the last Apply, at most MaxSnapshot.
	Snapshot() ([]byte, error)
	// Restore replaces the state by a snapshot's. An error stops the core.
	Restore(data []byte) error
}

// CoreConfig is what a core is made of.
type CoreConfig struct {
	Self draas.MemberID
	// Members are the members that the configuration names: those that a
	// member which is not let in yet asks. Who belongs to the cluster the log
	// tells, and who shall, Want.
	Members []draas.MemberID
	// Incarnation tells this run of the daemon from others, also from one with
	// a copy of its disk: drawn at random. Zero: drawn from Rand.
	Incarnation draas.Incarnation
	// Heartbeat is how often a leader is heard, Election how long it must have
	// been silent before it is replaced: after one to two times that.
	Heartbeat, Election time.Duration
	Disk                Disk
	Machine             Machine
	Log                 *slog.Logger
	Rand                io.Reader // spreads the campaigns after a leader's loss
	// SnapshotEvery is after how many applied entries a snapshot is taken,
	// SnapshotKeep how many entries before it stay in memory for members that
	// are a little behind. Zero means the defaults.
	SnapshotEvery, SnapshotKeep uint64
}

func (c CoreConfig) validate() error {
	switch {
	case c.Heartbeat < time.Millisecond:
		return fmt.Errorf("heartbeat is %v: 1ms at least", c.Heartbeat)
	case c.Election < 2*c.Heartbeat:
		return fmt.Errorf("election is %v: twice the heartbeat of %v at least", c.Election, c.Heartbeat)
	case c.Disk == nil || c.Machine == nil || c.Log == nil || c.Rand == nil:
		return errors.New("disk, machine, log and rand are needed")
	}
	return nil
}

// ticksPerHeartbeat is how finely time is cut: election timeouts are drawn in
// ticks, and should differ between members.
const ticksPerHeartbeat = 4

// Core is one member of the replicated log. It is stepped by one goroutine:
// hand in what arrived (Receive, PeerDown, Propose) and the time (Tick), in any
// order, then call Process and send what it returns.
type Core struct {
	cfg     CoreConfig
	meta    ClusterMeta
	self    uint64 // raft id
	start   uint64 // number of this run
	log     *slog.Logger
	journal *journal
	store   *raft.MemoryStorage
	node    *raft.RawNode
	failed  error

	tick          time.Duration
	electionTicks int
	started       bool
	now           draas.Reading // of the last Tick
	ticked        time.Duration // boot time up to which ticks were given
	quiet         int           // ticks since the leader was heard, or more
	leading       int           // ticks as leader
	touch         time.Duration // CoreStatus.Contact

	lead      uint64
	state     raft.StateType
	wrote     time.Duration // boot time of the last write
	written   hardState     // durable
	current   hardState     // may be ahead in Commit only
	applied   uint64
	snapIndex uint64
	snapNext  uint64 // no snapshot before this index: the last attempt failed
	torn      string
	rejected  uint64 // messages that were not understood

	out      []Message // of the core itself, for the next Process
	held     []held    // proposals that others have forwarded, until there is a leader
	ackTerm  uint64    // acked is of this term
	ackIndex uint64    // up to where the log was acknowledged in it
	mute     uint64    // the answer that acknowledges this is not sent
	mutedAt  uint64    // the last one that was not
	peers    []*peer   // sorted by id, this member among them once it is let in
	leadership
	membership
}

// OpenCore opens a directory that Bootstrap, Join or Rejoin made:
// ErrNotBootstrapped, ErrWrongCluster, ErrInterrupted, ErrLostLog, ErrCloned or
// ErrCorrupt otherwise. The machine gets the snapshot at once and the entries
// by the first Process.
func OpenCore(cfg CoreConfig) (*Core, error) {
	if cfg.SnapshotEvery == 0 {
		cfg.SnapshotEvery = DefaultSnapshotEvery
	}
	if cfg.SnapshotKeep == 0 {
		cfg.SnapshotKeep = DefaultSnapshotKeep
	}
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open core: %w", err)
	}
	if cfg.Incarnation == 0 {
		id, err := drawID(cfg.Rand)
		if err != nil {
			return nil, fmt.Errorf("open core: %w", err)
		}
		cfg.Incarnation = draas.Incarnation(id)
	}
	meta, err := ReadMeta(cfg.Disk)
	if err != nil {
		return nil, err
	}
	if meta.Self != cfg.Self {
		return nil, fmt.Errorf("%w: it is %q's, this daemon is %q", ErrWrongCluster, meta.Self, cfg.Self)
	}
	if meta.Void != "" {
		return nil, fmt.Errorf("%w: %s: %s", ErrLostLog, meta.Void, replaceIt)
	}
	journal, im, err := openJournal(cfg.Disk, meta)
	if err != nil {
		return nil, err
	}
	c := &Core{
		cfg: cfg, meta: meta, log: cfg.Log, journal: journal, store: raft.NewMemoryStorage(),
		self: meta.raftID(), start: journal.seq,
		tick:    cfg.Heartbeat / ticksPerHeartbeat,
		written: im.Hard, current: im.Hard,
	}
	c.electionTicks = int(cfg.Election / c.tick)
	if im.Torn != nil {
		c.torn = fmt.Sprintf("%d bytes at %d: %s", im.Torn.Bytes, im.Torn.Offset, im.Torn.What)
		cfg.Log.Warn("dropped a torn last record of the log, which was never acknowledged",
			"bytes", im.Torn.Bytes, "offset", im.Torn.Offset, "why", im.Torn.What)
	}
	if err := c.guard(func() error { return c.load(im) }); err != nil {
		return nil, errors.Join(fmt.Errorf("open core: %w", err), journal.close())
	}
	return c, nil
}

// load fills the storage and makes the node.
func (c *Core) load(im *image) error {
	snap := im.Snapshot
	c.conf = &raftpb.ConfState{AutoLeave: new(false)}
	if !im.blank() {
		ro, machine, err := unwrap(snap.GetData())
		if err != nil {
			return err
		}
		c.conf, c.roster = snap.GetMetadata().GetConfState(), ro
		if err := c.store.ApplySnapshot(snap); err != nil {
			return fmt.Errorf("load snapshot: %w", err)
		}
		if len(machine) > 0 {
			if err := c.cfg.Machine.Restore(machine); err != nil {
				return fmt.Errorf("restore snapshot %d: %w", snap.GetMetadata().GetIndex(), err)
			}
		}
	}
	c.reseat()
	if err := c.store.Append(im.Entries); err != nil {
		return fmt.Errorf("load entries: %w", err)
	}
	if err := c.store.SetHardState(im.Hard.proto()); err != nil {
		return fmt.Errorf("load hard state: %w", err)
	}
	c.snapIndex = snap.GetMetadata().GetIndex()
	c.applied = c.snapIndex
	node, err := raft.NewRawNode(&raft.Config{
		ID:                        c.self,
		ElectionTick:              c.electionTicks,
		HeartbeatTick:             ticksPerHeartbeat,
		Storage:                   c.store,
		Applied:                   c.applied,
		MaxSizePerMsg:             maxAppend,
		MaxUncommittedEntriesSize: maxUncommitted,
		MaxInflightMsgs:           256,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		StepDownOnRemoval:         true,
		Logger:                    raftLogger{c.log},
	})
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	c.node = node
	return nil
}

// ClusterID is the cluster's that the directory belongs to.
func (c *Core) ClusterID() ClusterID { return c.meta.ClusterID }

// Close closes the log's file. Whatever was acknowledged is durable without it.
func (c *Core) Close() error { return c.journal.close() }

// guard runs f; the consensus library reports a broken promise by a panic.
func (c *Core) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("consensus library stopped: %v", p)
		}
		if err != nil {
			c.fail(err)
			err = c.failed
		}
	}()
	return f()
}

// fail stops the core for good: it says and acknowledges nothing any more.
func (c *Core) fail(err error) {
	if c.failed == nil {
		c.failed = fmt.Errorf("%w: %w", ErrFailed, err)
	}
}

// Tick tells the time. Ticks of the consensus library are given by elapsed boot
// time. After a stall they are cut down, so that a process that wakes up does
// not campaign before it has read what has arrived meanwhile.
func (c *Core) Tick(now draas.Reading) {
	if c.failed != nil {
		return
	}
	_ = c.guard(func() error { // kept in c.failed, returned by Process
		c.advance(now)
		c.duties()
		return nil
	})
}

func (c *Core) advance(now draas.Reading) {
	if !c.started || now.Boot < c.ticked {
		c.started, c.ticked = true, now.Boot // the first, or not the boot clock it was
	}
	c.now = now
	n := int((now.Boot - c.ticked) / c.tick)
	c.ticked += time.Duration(n) * c.tick
	heard := false
	for _, p := range c.peers {
		heard = p.stamp(now.Boot, c.cfg.Election, c.lead == p.id) || heard
	}
	if heard {
		c.touch = now.Boot
	} else if c.state == raft.StateLeader {
		c.touch = max(c.touch, c.majority())
	}
	switch {
	case heard && c.state == raft.StateFollower:
		// The time went by before the leader was heard.
		n = min(n, 1)
	case n > c.electionTicks:
		n = c.electionTicks / 2
	}
	for range n {
		c.node.Tick()
	}
	c.quiet += n
	c.leading += n
}

// NextDeadline is how long the caller may sleep before the next Tick matters,
// if nothing arrives.
func (c *Core) NextDeadline(now draas.Reading) time.Duration {
	if c.failed != nil {
		return time.Hour
	}
	if c.node.HasReady() || !c.started || c.campaign.armed || c.removed || len(c.out) > 0 {
		return 0
	}
	ticks := 1
	switch {
	case c.state == raft.StateLeader:
		ticks = ticksPerHeartbeat - c.leading%ticksPerHeartbeat
	case c.state == raft.StateFollower && c.lead != raft.None:
		ticks = max(1, c.electionTicks-c.quiet)
	}
	d := c.ticked + time.Duration(ticks)*c.tick - now.Boot
	if c.campaign.at != 0 {
		d = min(d, c.campaign.at-now.Boot)
	}
	if c.asking() {
		d = min(d, c.askAt-now.Boot)
	}
	if c.current.Commit > c.written.Commit {
		d = min(d, c.wrote+commitFlush-now.Boot)
	}
	return max(0, d)
}

// Propose asks for an entry. It is forwarded to the leader if that is another
// member; data belongs to the log from then on. No error does not mean that it will be committed: the machine's
// Apply tells. A proposal that is lost must be proposed again, and one that
// seemed lost can still be committed.
func (c *Core) Propose(data []byte) error {
	if c.failed != nil {
		return c.failed
	}
	if len(data) == 0 || len(data) > MaxProposal {
		return fmt.Errorf("%w: proposal of %d bytes: 1 to %d are possible", ErrTooLarge, len(data), MaxProposal)
	}
	var dropped error
	err := c.guard(func() error {
		dropped = c.node.Propose(data)
		return nil
	})
	switch {
	case err != nil:
		return err
	case errors.Is(dropped, raft.ErrProposalDropped) && c.node.BasicStatus().Lead == raft.None:
		return ErrNoLeader
	case dropped != nil:
		return ErrBusy
	}
	return nil
}

// entriesAfter returns what the storage holds after an index.
func (c *Core) entriesAfter(index uint64) ([]*raftpb.Entry, error) {
	last, err := c.store.LastIndex()
	if err != nil || last <= index {
		return nil, err
	}
	return c.store.Entries(index+1, last+1, 1<<62)
}
