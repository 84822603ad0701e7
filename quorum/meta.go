package quorum

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
)

// ClusterID tells clusters apart: two that share a name, or certificates, must
// not mix their logs. It is drawn once, by draasd init.
type ClusterID [16]byte

// NewClusterID draws a cluster ID.
func NewClusterID() ClusterID {
	var id ClusterID
	rand.Read(id[:]) // never fails, see its documentation
	return id
}

func (id ClusterID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes 32 hex digits.
func (id ClusterID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads 32 hex digits.
func (id *ClusterID) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(id) {
		return fmt.Errorf("%q is not a cluster ID of 32 hex digits", text)
	}
	copy(id[:], b)
	return nil
}

// Generation counts how often a cluster was started anew from one survivor
// (ForceGeneration). Fork is drawn each time, so that two survivors that were
// both forced do not take each other for one cluster.
type Generation struct {
	Number uint64 `json:"number"`
	Fork   uint64 `json:"fork,omitempty"`
}

func (g Generation) String() string {
	if g.Number == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%x)", g.Number, g.Fork)
}

// ClusterMeta is what a data directory belongs to.
type ClusterMeta struct {
	ClusterID ClusterID      `json:"cluster_id"`
	Self      draas.MemberID `json:"self"`
	// Members are those that init made, all voters, sorted; their raft ids are
	// their places in it. Who belongs to the cluster by now, the log tells.
	Members []draas.MemberID `json:"members,omitempty"`
	// RaftID is what Join or Rejoin has drawn; zero: the place in Members.
	RaftID     uint64     `json:"raft_id,omitempty"`
	Generation Generation `json:"generation,omitzero"`
	// Joining: the directory was made empty under RaftID, for a leader to let
	// it in. It stays true.
	Joining bool `json:"joining,omitempty"`
	// Void tells why this copy of the log must not be used any more.
	Void string `json:"void,omitempty"`
}

// place is that of the member among those of init, from 1; 0: not among them.
func (m ClusterMeta) place() uint64 { return uint64(slices.Index(m.Members, m.Self) + 1) }

// raftID is the number under which the consensus library knows this copy of
// the log.
func (m ClusterMeta) raftID() uint64 {
	if m.RaftID != 0 {
		return m.RaftID
	}
	return m.place()
}

const (
	maxMembers    = 16
	maxMemberName = 255
)

// Validate reports what is wrong with the meta.
func (m ClusterMeta) Validate() error {
	switch {
	case m.ClusterID == ClusterID{}:
		return errors.New("cluster ID is zero")
	case m.Self == "" || len(m.Self) > maxMemberName:
		return fmt.Errorf("member name %q has %d bytes: 1 to %d are possible", m.Self, len(m.Self), maxMemberName)
	case m.Joining && !validRaftID(m.RaftID):
		return fmt.Errorf("raft id %d is not possible", m.RaftID)
	case m.Joining:
	case len(m.Members) == 0 || len(m.Members) > maxMembers:
		return fmt.Errorf("cluster has %d members: 1 to %d are possible", len(m.Members), maxMembers)
	case m.place() == 0:
		return fmt.Errorf("member %q is not one of %v", m.Self, m.Members)
	}
	for i, name := range m.Members {
		if name == "" || len(name) > maxMemberName {
			return fmt.Errorf("member name %q has %d bytes: 1 to %d are possible", name, len(name), maxMemberName)
		}
		if i > 0 && m.Members[i-1] >= name {
			return fmt.Errorf("members %v are not sorted, or one is named twice", m.Members)
		}
	}
	return nil
}

// Errors of opening a data directory.
var (
	// ErrNotBootstrapped is returned for a directory that belongs to no
	// cluster. A role is never taken from the file, nor is a log made up: only
	// draasd init bootstraps, and only draasd join makes a member of a cluster
	// that exists.
	ErrNotBootstrapped = errors.New("data directory is not bootstrapped: for a new cluster draasd init makes one, for a member of one that exists (new, or in place of one that lost its disk) draasd join; an existing member never gets a new, empty one under its old number")
	// ErrBootstrapped is returned by Bootstrap and Join for a directory that
	// holds a log.
	ErrBootstrapped = errors.New("data directory already holds a log, and is left as it is")
	// ErrWrongCluster is returned for a directory of another cluster or member.
	ErrWrongCluster = errors.New("data directory belongs to another cluster or member")
	// ErrInterrupted is returned where ForceGeneration did not come to its end.
	ErrInterrupted = errors.New("start of a new generation was interrupted: run it again")
)

const metaName = "meta"

// Bootstrap writes the first state of a new cluster for one member. All
// members must be bootstrapped with the same ClusterID and Members: each then
// starts from an identical snapshot at index 1, with all of them as voters.
// Only draasd init calls it.
func Bootstrap(disk Disk, meta ClusterMeta) error {
	meta = ClusterMeta{ClusterID: meta.ClusterID, Self: meta.Self, Members: meta.Members}
	if err := meta.Validate(); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err := empty(disk); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err := writeLog(disk, meta, 0, firstSnapshot(meta.Members), hardState{Term: 1, Commit: 1}, nil); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err := writeMeta(disk, meta); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

// firstSnapshot is what all members of a new cluster start from.
func firstSnapshot(members []draas.MemberID) *raftpb.Snapshot {
	conf := &raftpb.ConfState{AutoLeave: new(false)}
	ro := initialRoster(members)
	for _, s := range ro.seats {
		conf.Voters = append(conf.Voters, s.id)
	}
	return &raftpb.Snapshot{Data: ro.wrap(nil), Metadata: &raftpb.SnapshotMetadata{
		ConfState: conf, Index: new(uint64(1)), Term: new(uint64(1)),
	}}
}

// empty refuses a directory that holds a log.
func empty(disk Disk) error {
	names, err := disk.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == metaName || strings.HasPrefix(name, segmentPrefix) || strings.HasPrefix(name, snapshotPrefix) {
			return fmt.Errorf("%w: found %s", ErrBootstrapped, name)
		}
	}
	return nil
}

// writeLog replaces a log as a whole; seq is the number of its last segment.
func writeLog(disk Disk, meta ClusterMeta, seq uint64, snap *raftpb.Snapshot, h hardState, entries []*raftpb.Entry) error {
	w := &journal{disk: disk, meta: meta, seq: seq}
	if err := w.rotate(snap, h, entries); err != nil {
		return err
	}
	return w.close()
}

func writeMeta(disk Disk, meta ClusterMeta) error {
	payload, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("write meta: %w", err)
	}
	data := appendHeader(nil, magicMeta, meta, 0)
	return writeDurable(disk, metaName, appendRecord(data, 0, recordMeta, payload))
}

// ReadMeta tells what a data directory belongs to.
func ReadMeta(disk Disk) (ClusterMeta, error) {
	var meta ClusterMeta
	data, err := disk.ReadFile(metaName)
	if errors.Is(err, fs.ErrNotExist) {
		return meta, ErrNotBootstrapped
	}
	if err != nil {
		return meta, fmt.Errorf("read meta: %w", err)
	}
	_, payload, err := readSingle(metaName, data, magicMeta, recordMeta, 0, nil)
	if err != nil {
		return meta, err
	}
	if err := json.Unmarshal(payload, &meta); err != nil {
		return meta, &CorruptError{File: metaName, What: err.Error()}
	}
	if err := meta.Validate(); err != nil {
		return meta, &CorruptError{File: metaName, What: err.Error()}
	}
	return meta, nil
}
