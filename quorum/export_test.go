package quorum

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
)

// Journal opens the log alone, for tests that damage it.
type Journal struct{ j *journal }

// Image is what a log held.
type Image struct {
	Term, Vote, Commit, Snapshot uint64
	Entries                      []string
	Torn                         bool
}

func OpenJournal(disk Disk, meta ClusterMeta) (*Journal, *Image, error) {
	j, im, err := openJournal(disk, meta)
	if err != nil {
		return nil, nil, err
	}
	x := &Image{Term: im.Hard.Term, Vote: im.Hard.Vote, Commit: im.Hard.Commit, Snapshot: im.Snapshot.GetMetadata().GetIndex(), Torn: im.Torn != nil}
	for _, e := range im.Entries {
		x.Entries = append(x.Entries, string(e.GetData()))
	}
	return &Journal{j}, x, nil
}

func entries(first, term uint64, data []string) []*raftpb.Entry {
	var all []*raftpb.Entry
	for i, d := range data {
		all = append(all, &raftpb.Entry{Index: new(first + uint64(i)), Term: new(term), Type: raftpb.EntryNormal.Enum(), Data: []byte(d)})
	}
	return all
}

func (j *Journal) Append(term, vote, commit, first uint64, data ...string) error {
	return j.j.append(hardState{term, vote, commit}, entries(first, term, data))
}

func (j *Journal) Rotate(snapshot, term, vote, commit uint64, data ...string) error {
	snap := &raftpb.Snapshot{Data: []byte("state"), Metadata: &raftpb.SnapshotMetadata{
		Index: new(snapshot), Term: new(term),
	}}
	first := firstSnapshot(j.j.meta.Members)
	snap.Metadata.ConfState, snap.Data = first.Metadata.ConfState, append(first.Data, snap.Data...)
	return j.j.rotate(snap, hardState{term, vote, commit}, entries(snapshot+1, term, data))
}

func (j *Journal) Name() string { return segmentName(j.j.seq) }

// WithVersion changes the format version in a file's header.
func WithVersion(data []byte, meta ClusterMeta, version uint16) []byte {
	size := headerFixed + headerExtra + len(meta.Self)
	data = append([]byte(nil), data...)
	data[8], data[9] = byte(version>>8), byte(version)
	binary.BigEndian.PutUint32(data[size-4:], crc32.Checksum(data[:size-4], castagnoli))
	return data
}

// Hello is the frame that opens a connection, or with welcome the answer to it.
func Hello(welcome bool, cluster ClusterID, from, to draas.MemberID) []byte {
	kind := frameHello
	if welcome {
		kind = frameWelcome
	}
	payload := hello{protocolVersion, lowestVersion, cluster, 99, from, to}.encode()
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(payload)+1)), append([]byte{byte(kind)}, payload...)...)
}

// Wrap puts a message of the library into an envelope of its sender's first
// run, whose claim is beyond doubt.
func Wrap(m *raftpb.Message) []byte {
	h := head{kind: kindRaft, from: m.GetFrom(), to: m.GetTo(), claim: claim{start: 1, incarnation: 1}}
	return appendRaft(h.append(nil), m)
}

// SnapshotData is that of a cluster which has these members since init.
func SnapshotData(members []draas.MemberID, machine []byte) []byte {
	ro := initialRoster(members)
	return ro.wrap(machine)
}

// Heard is when the certificate ends that the connection rests on which a peer
// has dialled; zero: there is none.
func (t *Transport) Heard(m draas.MemberID) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in := t.inbound[m]; in != nil {
		return in.expires
	}
	return time.Time{}
}
