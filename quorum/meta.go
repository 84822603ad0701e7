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

// ClusterMeta is what a data directory belongs to. It is written once.
type ClusterMeta struct {
	ClusterID ClusterID        `json:"cluster_id"`
	Self      draas.MemberID   `json:"self"`
	Members   []draas.MemberID `json:"members"` // all voters, sorted
}

// ID is the number by which the consensus library knows a member: its place
// among the members, from 1; zero for a stranger.
func (m ClusterMeta) ID(member draas.MemberID) uint64 {
	return uint64(slices.Index(m.Members, member) + 1)
}

// Member is the member of a number, empty if there is none.
func (m ClusterMeta) Member(id uint64) draas.MemberID {
	if id == 0 || id > uint64(len(m.Members)) {
		return ""
	}
	return m.Members[id-1]
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
	case len(m.Members) == 0 || len(m.Members) > maxMembers:
		return fmt.Errorf("cluster has %d members: 1 to %d are possible", len(m.Members), maxMembers)
	case m.ID(m.Self) == 0:
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

func (m ClusterMeta) confState() *raftpb.ConfState {
	cs := &raftpb.ConfState{AutoLeave: new(false)}
	for i := range m.Members {
		cs.Voters = append(cs.Voters, uint64(i+1))
	}
	return cs
}

// Errors of opening a data directory.
var (
	// ErrNotBootstrapped is returned for a directory that belongs to no
	// cluster. A role is never taken from the file, nor is a log made up: only
	// draasd init bootstraps.
	ErrNotBootstrapped = errors.New("data directory is not bootstrapped: draasd init makes one; an existing member never gets a new, empty one under its old name")
	// ErrBootstrapped is returned by Bootstrap for a directory that holds a log.
	ErrBootstrapped = errors.New("data directory already holds a log, and is left as it is")
	// ErrWrongCluster is returned for a directory of another cluster or member.
	ErrWrongCluster = errors.New("data directory belongs to another cluster or member")
)

const metaName = "meta"

// Bootstrap writes the first state of a new cluster for one member. All
// members must be bootstrapped with the same ClusterID and Members: each then
// starts from an identical snapshot at index 1, with all of them as voters.
// Only draasd init calls it.
func Bootstrap(disk Disk, meta ClusterMeta) error {
	if err := meta.Validate(); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	names, err := disk.List()
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	for _, name := range names {
		if name == metaName || strings.HasPrefix(name, segmentPrefix) || strings.HasPrefix(name, snapshotPrefix) {
			return fmt.Errorf("bootstrap: %w: found %s", ErrBootstrapped, name)
		}
	}
	snap := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
		ConfState: meta.confState(), Index: new(uint64(1)), Term: new(uint64(1)),
	}}
	w := &journal{disk: disk, meta: meta}
	if err := w.rotate(snap, hardState{Term: 1, Commit: 1}, nil); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err := w.close(); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	payload, err := json.Marshal(meta)
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	data := appendHeader(nil, magicMeta, meta, 0)
	data = appendRecord(data, 0, recordMeta, payload)
	if err := writeDurable(disk, metaName, data); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
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
	payload, err := readSingle(metaName, data, magicMeta, recordMeta, 0, nil)
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
