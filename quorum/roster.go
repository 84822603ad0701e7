package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/draasd/draas"
)

// seat is the place of one raft id in the cluster. An id is used by one copy
// of the log only and never again; a member that lost its log comes back under
// another id and the same name (docs/adr/0006).
type seat struct {
	id     uint64
	member draas.MemberID
}

// roster says whose the raft ids are. It is part of the replicated state: the
// changes of membership in the log carry the names, and so does a snapshot.
type roster struct {
	seats []seat   // of all ids in the configuration, sorted by id
	gone  []uint64 // ids that were removed, the last of them at the end
}

const (
	// maxGone bounds how many removed ids are remembered. Who has one is told
	// so; that it never gets a vote again does not rest on this.
	maxGone = 64
	// maxRaftID leaves out the ids that the library keeps for itself.
	maxRaftID = 1<<63 - 1

	rosterVersion = 1
)

func validRaftID(id uint64) bool { return id > 0 && id <= maxRaftID }

// initialRoster is that of a cluster which init made: ids from 1 in the order
// of the names.
func initialRoster(members []draas.MemberID) roster {
	var r roster
	for i, m := range members {
		r.seats = append(r.seats, seat{uint64(i + 1), m})
	}
	return r
}

// member is the name of an id in the configuration, or empty.
func (r *roster) member(id uint64) draas.MemberID {
	for _, s := range r.seats {
		if s.id == id {
			return s.member
		}
	}
	return ""
}

func (r *roster) add(s seat) {
	i, found := slices.BinarySearchFunc(r.seats, s.id, func(s seat, id uint64) int {
		switch {
		case s.id < id:
			return -1
		case s.id > id:
			return 1
		}
		return 0
	})
	if !found {
		r.seats = slices.Insert(slices.Clone(r.seats), i, s)
	}
}

// prune removes the ids that are in no part of the configuration any more.
func (r *roster) prune(conf *raftpb.ConfState) {
	kept := make([]seat, 0, len(r.seats))
	gone := slices.Clone(r.gone)
	for _, s := range r.seats {
		if inConf(conf, s.id) {
			kept = append(kept, s)
		} else {
			gone = append(gone, s.id)
		}
	}
	r.seats, r.gone = kept, gone[max(0, len(gone)-maxGone):]
}

func isVoter(conf *raftpb.ConfState, id uint64) bool {
	return slices.Contains(conf.GetVoters(), id) || slices.Contains(conf.GetVotersOutgoing(), id)
}

func inConf(conf *raftpb.ConfState, id uint64) bool {
	return isVoter(conf, id) || slices.Contains(conf.GetLearners(), id)
}

// appendSeats writes ids and names.
func appendSeats(b []byte, seats []seat) []byte {
	b = binary.AppendUvarint(b, uint64(len(seats)))
	for _, s := range seats {
		b = binary.AppendUvarint(b, s.id)
		b = append(b, byte(len(s.member)))
		b = append(b, s.member...)
	}
	return b
}

var errRoster = errors.New("list of members makes no sense")

func (r *reader) seats() []seat {
	n := r.uint()
	if n > 2*maxMembers {
		r.fail(fmt.Errorf("%w: it has %d", errRoster, n))
		return nil
	}
	seats := make([]seat, 0, n)
	for range n {
		id := r.uint()
		name := r.bytes(uint64(r.byte()))
		if r.err != nil {
			return nil
		}
		if !validRaftID(id) || len(name) == 0 || len(seats) > 0 && seats[len(seats)-1].id >= id {
			r.fail(fmt.Errorf("%w: number %d is %q", errRoster, id, name))
			return nil
		}
		seats = append(seats, seat{id, draas.MemberID(name)})
	}
	return seats
}

// encodeNames is the context of a change of membership: who is added by it.
func encodeNames(seats ...seat) []byte { return appendSeats([]byte{rosterVersion}, seats) }

func decodeNames(b []byte) ([]seat, error) {
	if len(b) == 0 {
		return nil, nil
	}
	r := &reader{b: b}
	if v := r.byte(); r.err == nil && v != rosterVersion {
		return nil, fmt.Errorf("%w: it is of version %d", errRoster, v)
	}
	seats := r.seats()
	return seats, r.done()
}

// decodeChange reads an entry that changes the membership, and refuses what
// the library would panic on.
func decodeChange(data []byte) (*raftpb.ConfChangeV2, []seat, error) {
	cc := new(raftpb.ConfChangeV2)
	if err := proto.Unmarshal(data, cc); err != nil {
		return nil, nil, fmt.Errorf("decode change of membership: %w", err)
	}
	if len(cc.GetChanges()) > 2 || cc.GetTransition() > raftpb.ConfChangeTransitionJointExplicit {
		return nil, nil, fmt.Errorf("%w: %d changes at once by %d", errRoster, len(cc.GetChanges()), cc.GetTransition())
	}
	seats, err := decodeNames(cc.GetContext())
	if err != nil {
		return nil, nil, err
	}
	for _, ch := range cc.GetChanges() {
		known := slices.ContainsFunc(seats, func(s seat) bool { return s.id == ch.GetNodeId() })
		switch ch.GetType() {
		case raftpb.ConfChangeAddLearnerNode:
			if !known {
				return nil, nil, fmt.Errorf("%w: number %d is added without a name", errRoster, ch.GetNodeId())
			}
		case raftpb.ConfChangeAddNode, raftpb.ConfChangeRemoveNode:
		default:
			return nil, nil, fmt.Errorf("%w: change of type %d", errRoster, ch.GetType())
		}
		if !validRaftID(ch.GetNodeId()) {
			return nil, nil, fmt.Errorf("%w: it changes number %d", errRoster, ch.GetNodeId())
		}
	}
	return cc, seats, nil
}

// A snapshot's data is what the core needs, then what the machine gave:
// version u8, length of the head uvarint, head, machine's data. The head: the
// seats, number of ids that are gone, those. A later version may append to the
// head what this one passes over.

func (r *roster) wrap(machine []byte) []byte {
	head := appendSeats(nil, r.seats)
	head = binary.AppendUvarint(head, uint64(len(r.gone)))
	for _, id := range r.gone {
		head = binary.AppendUvarint(head, id)
	}
	b := make([]byte, 0, 1+binary.MaxVarintLen64+len(head)+len(machine))
	b = append(b, rosterVersion)
	b = binary.AppendUvarint(b, uint64(len(head)))
	b = append(b, head...)
	return append(b, machine...)
}

// unwrap splits a snapshot's data. The machine's part aliases it.
func unwrap(data []byte) (roster, []byte, error) {
	r := &reader{b: data}
	version := r.byte()
	head := &reader{b: r.bytes(r.uint())}
	if r.err != nil {
		return roster{}, nil, fmt.Errorf("read snapshot: %w", r.err)
	}
	if version != rosterVersion {
		return roster{}, nil, fmt.Errorf("read snapshot: it is of version %d, this draasd reads %d", version, rosterVersion)
	}
	ro := roster{seats: head.seats()}
	n := head.uint()
	if n > maxGone {
		head.fail(errRoster)
	}
	for range n {
		if head.err != nil {
			break
		}
		ro.gone = append(ro.gone, head.uint())
	}
	if head.err != nil {
		return roster{}, nil, fmt.Errorf("read snapshot: %w", head.err)
	}
	return ro, r.b, nil
}

// checkConf reports a configuration that the library would panic on, or one
// that the roster does not name.
func checkConf(conf *raftpb.ConfState, ro roster) error {
	if len(conf.GetVoters()) == 0 {
		return fmt.Errorf("%w: no voters", errRoster)
	}
	all := slices.Concat(conf.GetVoters(), conf.GetLearners())
	for _, set := range [][]uint64{all, conf.GetVotersOutgoing()} {
		sorted := slices.Sorted(slices.Values(set))
		if len(slices.Compact(slices.Clone(sorted))) != len(sorted) {
			return fmt.Errorf("%w: a number stands in %v twice", errRoster, set)
		}
		for _, id := range sorted {
			if ro.member(id) == "" {
				return fmt.Errorf("%w: number %d has no name", errRoster, id)
			}
		}
	}
	for _, id := range conf.GetLearnersNext() {
		if !slices.Contains(conf.GetVotersOutgoing(), id) {
			return fmt.Errorf("%w: number %d is to learn and no voter", errRoster, id)
		}
	}
	for _, id := range conf.GetLearners() {
		if slices.Contains(conf.GetVotersOutgoing(), id) {
			return fmt.Errorf("%w: number %d learns and votes", errRoster, id)
		}
	}
	return nil
}
