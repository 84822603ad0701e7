package quorum

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// The log on disk: one snapshot, and one segment that starts from it and holds
// all entries after it. Taking or receiving a snapshot starts a new segment, as
// does every opening: what was read is then written again and synced, so that
// nothing is built upon a page that an earlier failed fsync left in the cache
// only. The segment with the highest number counts; it got its name after its
// first record was durable, and the older ones are removed after that.
const (
	segmentPrefix  = "log-"
	snapshotPrefix = "snap-"
)

func segmentName(seq uint64) string    { return fmt.Sprintf("%s%016x", segmentPrefix, seq) }
func snapshotName(index uint64) string { return fmt.Sprintf("%s%016x", snapshotPrefix, index) }

// numbered parses a name made by segmentName or snapshotName.
func numbered(name, prefix string) (uint64, bool) {
	hex, ok := strings.CutPrefix(name, prefix)
	if !ok || len(hex) != 16 {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, err == nil && fmt.Sprintf("%016x", n) == hex
}

// journal writes the log.
type journal struct {
	disk Disk
	meta ClusterMeta
	seq  uint64 // of the open segment
	file File
	size int64  // of the open segment, bytes
	snap uint64 // index of the snapshot it starts from

	buf, payload []byte // reused
}

// image is what the disk held.
type image struct {
	seq      uint64 // of the segment
	header   header
	Snapshot *raftpb.Snapshot
	Hard     hardState
	Entries  []*raftpb.Entry // after the snapshot, consecutive
	Torn     *tail           // what a crash left of a last write
}

// openJournal reads the log, and starts a new segment with what it read.
func openJournal(disk Disk, meta ClusterMeta) (*journal, *image, error) {
	im, err := readJournal(disk, meta)
	if err != nil {
		return nil, nil, err
	}
	if err := im.check(meta); err != nil {
		return nil, nil, err
	}
	j := &journal{disk: disk, meta: meta, seq: im.seq}
	if err := j.rotate(im.Snapshot, im.Hard, im.Entries); err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	return j, im, nil
}

// readJournal reads the log and changes nothing.
func readJournal(disk Disk, meta ClusterMeta) (*image, error) {
	seq, err := lastSegment(disk)
	if err != nil {
		return nil, err
	}
	if seq == 0 {
		return nil, &CorruptError{File: metaName, What: "the directory is bootstrapped, but its log is missing"}
	}
	name := segmentName(seq)
	data, err := disk.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	at, im, err := readSegment(name, data, seq, meta)
	if err != nil {
		return nil, err
	}
	im.seq = seq
	im.Snapshot, err = readSnapshot(disk, at, meta)
	return im, err
}

// blank reports whether the log has never held anything: that of a member
// which has not been let in yet.
func (im *image) blank() bool {
	return im.Snapshot.GetMetadata().GetIndex() == 0 && len(im.Entries) == 0
}

// check compares the log with what the directory says of itself, and finishes
// what a crash has interrupted where that is safe.
func (im *image) check(meta ClusterMeta) error {
	switch {
	case im.header.raftID != meta.raftID() && meta.Joining:
		// Rejoin had written the new id, and not yet the empty log.
		im.Snapshot, im.Hard, im.Entries = &raftpb.Snapshot{}, hardState{}, nil
	case im.header.raftID != meta.raftID():
		return &CorruptError{File: segmentName(im.seq), What: fmt.Sprintf("it belongs to number %d, the directory to %d", im.header.raftID, meta.raftID())}
	case im.header.generation != meta.Generation.Number && !im.blank():
		return fmt.Errorf("%w: the log is of generation %d, the directory of %d", ErrInterrupted, im.header.generation, meta.Generation.Number)
	}
	return nil
}

// readSegment decodes a segment. It is pure, for fuzzing.
func readSegment(name string, data []byte, seq uint64, meta ClusterMeta) (base, *image, error) {
	start, err := readHeader(name, data, magicLog, seq, &meta)
	if err != nil {
		return base{}, nil, err
	}
	records, torn, err := readRecords(name, data, seq, start.size)
	if err != nil {
		return base{}, nil, err
	}
	if len(records) == 0 {
		// The first record was durable before the file got its name.
		return base{}, nil, &CorruptError{File: name, Offset: int64(start.size), What: "it has no first record"}
	}
	var at base
	im := &image{Torn: torn, header: start}
	for i, r := range records {
		var x batch
		want := recordBatch
		if i == 0 {
			want = recordBase
		}
		if r.Type != want {
			err = fmt.Errorf("a record of type %d stands where %d belongs", r.Type, want)
		} else if i == 0 {
			if at, x, err = decodeBase(r.Payload); err == nil {
				im.Hard.Commit = at.Index
				err = im.add(at, x)
			}
		} else if x, err = decodeBatch(r.Payload); err == nil {
			err = im.add(at, x)
		}
		if err != nil {
			return base{}, nil, &CorruptError{File: name, Offset: int64(r.Offset), What: err.Error()}
		}
	}
	return at, im, nil
}

// add replays a batch, and checks what Raft promises: committed entries are
// never replaced, terms and the commit index never fall, nothing is missing.
func (im *image) add(at base, x batch) error {
	last, lastTerm := at.Index, at.Term
	if n := len(x.Entries); n > 0 {
		first := x.Entries[0].GetIndex()
		if first <= im.Hard.Commit {
			return fmt.Errorf("entry %d replaces a committed one", first)
		}
		if first > at.Index+uint64(len(im.Entries))+1 {
			return fmt.Errorf("entries before %d are missing", first)
		}
		im.Entries = append(im.Entries[:first-at.Index-1], x.Entries...)
	}
	for _, e := range im.Entries[max(0, len(im.Entries)-len(x.Entries)-1):] {
		if e.GetTerm() < lastTerm {
			return fmt.Errorf("entry %d has term %d after %d", e.GetIndex(), e.GetTerm(), lastTerm)
		}
		lastTerm = e.GetTerm()
	}
	last += uint64(len(im.Entries))
	h := x.Hard
	switch {
	case h.Term < im.Hard.Term || h.Term < lastTerm:
		return fmt.Errorf("term %d follows term %d", h.Term, max(im.Hard.Term, lastTerm))
	case h.Commit < im.Hard.Commit || h.Commit > last:
		return fmt.Errorf("commit index %d is not between %d and %d", h.Commit, im.Hard.Commit, last)
	}
	im.Hard = h
	return nil
}

// append makes a batch durable. After an error the journal must not be used.
func (j *journal) append(h hardState, entries []*raftpb.Entry) error {
	j.payload = appendBatch(j.payload[:0], batch{Hard: h, Entries: entries})
	j.buf = appendRecordAt(j.buf[:0], j.seq, j.size, recordBatch, j.payload)
	if err := writeAll(j.file, j.buf); err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("sync log: %w", err)
	}
	j.size += int64(len(j.buf))
	if cap(j.buf) > 1<<20 {
		j.buf, j.payload = nil, nil
	}
	return nil
}

// rotate makes a snapshot and the entries after it durable in a new segment,
// and removes what it replaces.
func (j *journal) rotate(snap *raftpb.Snapshot, h hardState, entries []*raftpb.Entry) error {
	at := base{Index: snap.GetMetadata().GetIndex(), Term: snap.GetMetadata().GetTerm()}
	if at.Index != j.snap {
		if err := j.writeSnapshot(snap); err != nil {
			return err
		}
	}
	seq := j.seq + 1
	data := appendHeader(nil, magicLog, j.meta, seq)
	data = appendRecord(data, seq, recordBase, appendBase(nil, at, batch{Hard: h, Entries: entries}))
	f, err := createDurable(j.disk, segmentName(seq), data)
	if err != nil {
		return err
	}
	if err := j.close(); err != nil {
		f.Close()
		return err
	}
	j.seq, j.file, j.size, j.snap = seq, f, int64(len(data)), at.Index
	return j.clean()
}

// writeSnapshot makes a snapshot's file durable, also one that is there
// already: what can be read is not yet what survives.
func (j *journal) writeSnapshot(snap *raftpb.Snapshot) error {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(snap)
	if err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	index := snap.GetMetadata().GetIndex()
	data := appendHeader(nil, magicSnapshot, j.meta, index)
	data = appendRecord(data, index, recordSnapshot, payload)
	return writeDurable(j.disk, snapshotName(index), data)
}

func readSnapshot(disk Disk, at base, meta ClusterMeta) (*raftpb.Snapshot, error) {
	if at == (base{}) {
		return &raftpb.Snapshot{}, nil // nothing was received yet
	}
	name := snapshotName(at.Index)
	data, err := disk.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &CorruptError{File: name, What: "the log starts from this snapshot, and it is missing"}
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return decodeSnapshot(name, data, at, meta)
}

func decodeSnapshot(name string, data []byte, at base, meta ClusterMeta) (*raftpb.Snapshot, error) {
	h, payload, err := readSingle(name, data, magicSnapshot, recordSnapshot, at.Index, &meta)
	if err != nil {
		return nil, err
	}
	snap := new(raftpb.Snapshot)
	if err := proto.Unmarshal(payload, snap); err != nil {
		return nil, &CorruptError{File: name, What: err.Error()}
	}
	if m := snap.GetMetadata(); m.GetIndex() != at.Index || m.GetTerm() != at.Term {
		return nil, &CorruptError{File: name, What: fmt.Sprintf("it is of index %d term %d, the log wants index %d term %d", m.GetIndex(), m.GetTerm(), at.Index, at.Term)}
	}
	if h.version == 1 {
		ro := initialRoster(meta.Members)
		snap.Data = ro.wrap(snap.GetData())
	}
	ro, _, err := unwrap(snap.GetData())
	if err == nil {
		err = checkConf(snap.GetMetadata().GetConfState(), ro)
	}
	if err != nil {
		return nil, &CorruptError{File: name, What: err.Error()}
	}
	return snap, nil
}

// clean removes what the open segment has replaced, and leftovers of a crash.
func (j *journal) clean() error {
	names, err := j.disk.List()
	if err != nil {
		return fmt.Errorf("clean log: %w", err)
	}
	for _, name := range names {
		seq, segment := numbered(name, segmentPrefix)
		index, snapshot := numbered(name, snapshotPrefix)
		if strings.HasSuffix(name, tmpSuffix) || segment && seq < j.seq || snapshot && index != j.snap {
			if err := removeIfThere(j.disk, name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	f := j.file
	j.file = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}
