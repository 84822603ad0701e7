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
	"slices"
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
	// ErrTooLarge is returned for a proposal above MaxProposal.
	ErrTooLarge = errors.New("too large")
	// ErrLostLog is the failure of a member that lacks entries which it
	// acknowledged once: its disk, or an old copy of it, was put back.
	ErrLostLog = errors.New("log lacks entries that this member acknowledged")
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
	Self    draas.MemberID
	Members []draas.MemberID // sorted, Self among them: must be what Bootstrap was given
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

	peers []peer // by ID - 1
	leadership
}

// peer is what a core remembers of another member.
type peer struct {
	fresh, freshAck bool          // heard since the last Tick
	heard           time.Duration // boot time when last heard; 0: never
	since           time.Duration // heard since then without a gap of an election
	acked           time.Duration // last answer to this leader
	snapshot        time.Duration // when a snapshot was last sent; 0: none under way
}

// OpenCore opens a bootstrapped directory: ErrNotBootstrapped, ErrWrongCluster
// or ErrCorrupt otherwise. The machine gets the snapshot at once and the
// entries by the first Process.
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
	meta, err := ReadMeta(cfg.Disk)
	if err != nil {
		return nil, err
	}
	if meta.Self != cfg.Self {
		return nil, fmt.Errorf("%w: it is %q's, this daemon is %q", ErrWrongCluster, meta.Self, cfg.Self)
	}
	if !slices.Equal(meta.Members, cfg.Members) {
		return nil, fmt.Errorf("%w: it has the members %v, the configuration %v", ErrWrongCluster, meta.Members, cfg.Members)
	}
	journal, im, err := openJournal(cfg.Disk, meta)
	if err != nil {
		return nil, err
	}
	c := &Core{
		cfg: cfg, meta: meta, log: cfg.Log, journal: journal, store: raft.NewMemoryStorage(),
		tick:    cfg.Heartbeat / ticksPerHeartbeat,
		written: im.Hard, current: im.Hard,
		peers: make([]peer, len(meta.Members)),
	}
	c.electionTicks = int(cfg.Election / c.tick)
	if im.Torn != nil {
		c.torn = fmt.Sprintf("%d bytes at %d: %s", im.Torn.Bytes, im.Torn.Offset, im.Torn.What)
		cfg.Log.Warn("dropped a torn last record of the log, which was never acknowledged",
			"bytes", im.Torn.Bytes, "offset", im.Torn.Offset, "why", im.Torn.What)
	}
	if err := c.guard(func() error { return c.start(im) }); err != nil {
		return nil, errors.Join(fmt.Errorf("open core: %w", err), journal.close())
	}
	return c, nil
}

// start fills the storage and makes the node.
func (c *Core) start(im *image) error {
	snap := im.Snapshot
	if err := c.store.ApplySnapshot(snap); err != nil {
		return fmt.Errorf("load snapshot: %w", err)
	}
	if err := c.store.Append(im.Entries); err != nil {
		return fmt.Errorf("load entries: %w", err)
	}
	if err := c.store.SetHardState(im.Hard.proto()); err != nil {
		return fmt.Errorf("load hard state: %w", err)
	}
	c.snapIndex = snap.GetMetadata().GetIndex()
	c.applied = c.snapIndex
	if len(snap.GetData()) > 0 {
		if err := c.cfg.Machine.Restore(snap.GetData()); err != nil {
			return fmt.Errorf("restore snapshot %d: %w", c.snapIndex, err)
		}
	}
	node, err := raft.NewRawNode(&raft.Config{
		ID:                        c.meta.ID(c.cfg.Self),
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
	for i := range c.peers {
		heard = c.peers[i].stamp(now.Boot, c.cfg.Election, c.lead == uint64(i+1)) || heard
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

// NextDeadline is how long the caller may sleep before the next Tick matters,
// if nothing arrives.
func (c *Core) NextDeadline(now draas.Reading) time.Duration {
	if c.failed != nil {
		return time.Hour
	}
	if c.node.HasReady() || !c.started || c.campaign.armed {
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
	if c.current.Commit > c.written.Commit {
		d = min(d, c.wrote+commitFlush-now.Boot)
	}
	return max(0, d)
}

// Propose asks for an entry. It is forwarded to the leader if that is another
// member. No error does not mean that it will be committed: the machine's
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
		dropped = c.node.Propose(slices.Clone(data))
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
