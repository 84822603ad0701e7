package quorum

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
)

// Join prepares an empty directory for a member of a cluster that exists: a
// new one, or one that lost its disk. It draws a raft id that was never used
// before; the running daemon then asks to be let in, first to learn the log
// and then to vote. Only draasd join calls it. random is where the id comes
// from, crypto/rand.Reader where it is nil.
func Join(disk Disk, cluster ClusterID, self draas.MemberID, random io.Reader) error {
	meta := ClusterMeta{ClusterID: cluster, Self: self, Joining: true}
	if err := empty(disk); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	return newID(disk, meta, 0, random)
}

// Rejoin gives up a member's copy of the log and makes it a new member under
// its old name: after it was removed (ErrRemoved), quarantined (ErrLostLog,
// ErrCloned), or has met a newer generation (ErrGeneration). Nobody may use
// the directory meanwhile. It returns what the directory was before.
func Rejoin(disk Disk, random io.Reader) (ClusterMeta, error) {
	old, err := ReadMeta(disk)
	if err != nil {
		return old, fmt.Errorf("rejoin: %w", err)
	}
	// A damaged log is given up as well: its number is known by its name.
	seq, err := lastSegment(disk)
	if err != nil {
		return old, fmt.Errorf("rejoin: %w", err)
	}
	return old, newID(disk, ClusterMeta{ClusterID: old.ClusterID, Self: old.Self, Joining: true}, seq, random)
}

// newID makes a directory blank under a new raft id. The id comes first: a
// crash in between leaves a log that belongs to another id, and is given up at
// the next opening. The other way round would leave the old id with an empty
// log: a member that has forgotten its votes.
func newID(disk Disk, meta ClusterMeta, seq uint64, random io.Reader) error {
	id, err := drawID(random)
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	meta.RaftID = id
	if err := meta.Validate(); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	write := []func() error{
		func() error { return writeMeta(disk, meta) },
		func() error { return writeLog(disk, meta, seq, &raftpb.Snapshot{}, hardState{}, nil) },
	}
	if seq == 0 { // an empty directory: what has a meta must have a log
		slices.Reverse(write)
	}
	for _, w := range write {
		if err := w(); err != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
	return nil
}

// drawID draws a raft id of 63 bits. Small ones are those of init.
func drawID(random io.Reader) (uint64, error) {
	if random == nil {
		random = rand.Reader
	}
	for range 100 {
		var b [8]byte
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return 0, fmt.Errorf("draw raft id: %w", err)
		}
		if id := binary.BigEndian.Uint64(b[:]) >> 1; id > 1<<32 {
			return id, nil
		}
	}
	return 0, errors.New("draw raft id: chance gives small numbers only")
}

// ForceOptions is how a generation starts.
type ForceOptions struct {
	// Entry gives the machine's first entry of the generation, by which the
	// decision learns of it. It stands in the log before any other.
	Entry func(Generation) ([]byte, error)
	// Random is where Fork comes from; nil means crypto/rand.Reader.
	Random io.Reader
}

// ForceGeneration starts the cluster anew from one survivor, after a disaster
// that took the majority for good: all that its log holds counts as committed,
// it alone is a voter, and the generation grows by one. Members of the old
// generation are refused from then on, must not be used any more, and come
// back by Rejoin. That the others are dead or fenced, no program can know:
// whoever calls this vouches for it.
//
// It works on a directory that no daemon uses. After a crash in between the
// directory cannot be opened, and calling it again goes on.
func ForceGeneration(disk Disk, o ForceOptions) (ClusterMeta, error) {
	meta, err := ReadMeta(disk)
	if err != nil {
		return meta, fmt.Errorf("force generation: %w", err)
	}
	if meta.Void != "" {
		return meta, fmt.Errorf("force generation: %w: %s", ErrLostLog, meta.Void)
	}
	im, err := readJournal(disk, meta)
	if err != nil {
		return meta, fmt.Errorf("force generation: %w", err)
	}
	if im.header.raftID != meta.raftID() || im.Snapshot.GetMetadata().GetIndex() == 0 {
		return meta, fmt.Errorf("force generation: %w", errors.New("this member has no copy of the log yet: choose one that has"))
	}
	if im.header.generation == meta.Generation.Number {
		fork, err := drawID(o.Random)
		if err != nil {
			return meta, fmt.Errorf("force generation: %w", err)
		}
		meta.Generation = Generation{Number: meta.Generation.Number + 1, Fork: fork}
		// From here on the old generation cannot be opened any more.
		if err := writeMeta(disk, meta); err != nil {
			return meta, fmt.Errorf("force generation: %w", err)
		}
	}
	if err := im.force(meta, o.Entry); err != nil {
		return meta, fmt.Errorf("force generation: %w", err)
	}
	if err := writeLog(disk, meta, im.seq, im.Snapshot, im.Hard, im.Entries); err != nil {
		return meta, fmt.Errorf("force generation: %w", err)
	}
	return meta, nil
}

// force rewrites a log for one voter.
func (im *image) force(meta ClusterMeta, entry func(Generation) ([]byte, error)) error {
	ro, machine, err := unwrap(im.Snapshot.GetData())
	if err != nil {
		return err
	}
	self := meta.raftID()
	conf := &raftpb.ConfState{Voters: []uint64{self}, AutoLeave: new(false)}
	for i, e := range im.Entries {
		if e.GetType() == raftpb.EntryNormal {
			continue
		}
		// What it changes does not exist any more. Numbers that it names must
		// not come back either.
		if _, seats, err := decodeChange(e.GetData()); err == nil {
			for _, s := range seats {
				ro.add(s)
			}
		}
		im.Entries[i] = &raftpb.Entry{Index: new(e.GetIndex()), Term: new(e.GetTerm()), Type: raftpb.EntryNormal.Enum()}
	}
	ro.add(seat{self, meta.Self})
	ro.prune(conf)
	last := im.Snapshot.GetMetadata().GetIndex() + uint64(len(im.Entries))
	term := im.Hard.Term + 1
	if entry != nil {
		data, err := entry(meta.Generation)
		if err != nil {
			return fmt.Errorf("make first entry: %w", err)
		}
		if len(data) > MaxProposal {
			return fmt.Errorf("make first entry: %w: %d bytes", ErrTooLarge, len(data))
		}
		last++
		im.Entries = append(im.Entries, &raftpb.Entry{Index: new(last), Term: new(term), Type: raftpb.EntryNormal.Enum(), Data: data})
	}
	im.Hard = hardState{Term: term, Commit: last}
	im.Snapshot.Data, im.Snapshot.Metadata.ConfState = ro.wrap(machine), conf
	return nil
}

// lastSegment is the number of the newest segment, 0 if there is none.
func lastSegment(disk Disk) (uint64, error) {
	names, err := disk.List()
	if err != nil {
		return 0, fmt.Errorf("list log: %w", err)
	}
	var seq uint64
	for _, name := range names {
		if n, ok := numbered(name, segmentPrefix); ok {
			seq = max(seq, n)
		}
	}
	return seq, nil
}
