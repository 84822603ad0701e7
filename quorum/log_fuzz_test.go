package quorum

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/draasd/draas"
)

func FuzzBatch(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendBatch(nil, batch{Hard: hardState{1, 2, 3}}))
	f.Add(appendBatch(nil, batch{Hard: hardState{5, 2, 3}, Entries: entries(4, 5, []string{"", "x", "yz"})}))
	f.Add(appendBatch(nil, batch{Hard: hardState{1 << 60, 0, 1 << 63}, Entries: entries(1<<63, 1<<60, []string{"x"})}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		x, err := decodeBatch(payload)
		if err != nil {
			return
		}
		again, err := decodeBatch(appendBatch(nil, x))
		if err != nil || !reflect.DeepEqual(x.Hard, again.Hard) || len(x.Entries) != len(again.Entries) {
			t.Fatalf("%+v became %+v, %v", x, again, err)
		}
		for i, e := range x.Entries {
			if a := again.Entries[i]; e.GetIndex() != a.GetIndex() || e.GetTerm() != a.GetTerm() || !bytes.Equal(e.GetData(), a.GetData()) {
				t.Fatalf("entry %v became %v", e, a)
			}
		}
	})
}

// FuzzSegment checks the reader of a segment: it never panics, calls damage by
// its type, and what it accepts keeps Raft's promises. So that the fuzzer gets
// past the checksums, its input is also framed as records.
func FuzzSegment(f *testing.F) {
	meta := ClusterMeta{ClusterID: ClusterID{1}, Self: "a", Members: []draas.MemberID{"a", "b", "c"}}
	start := appendHeader(nil, magicLog, meta, 7)
	first := appendBase(nil, base{1, 1}, batch{Hard: hardState{1, 0, 1}})
	whole := appendRecord(start[:len(start):len(start)], 7, recordBase, first)
	whole = appendRecord(whole, 7, recordBatch, appendBatch(nil, batch{Hard: hardState{2, 1, 1}, Entries: entries(2, 2, []string{"", "a"})}))
	f.Add(whole, []byte{}, []byte{})
	f.Add([]byte{}, first, appendBatch(nil, batch{Hard: hardState{2, 1, 2}, Entries: entries(2, 2, []string{"", "a"})}))
	f.Add(whole[:len(whole)-3], first, []byte{0})
	f.Fuzz(func(t *testing.T, raw, one, two []byte) {
		framed := appendRecord(start[:len(start):len(start)], 7, recordBase, one)
		framed = appendRecord(framed, 7, recordBatch, two)
		for _, data := range [][]byte{raw, framed} {
			at, im, err := readSegment("log", data, 7, meta)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					t.Fatalf("untyped error %v", err)
				}
				continue
			}
			if im.Hard.Commit < at.Index || im.Hard.Commit > at.Index+uint64(len(im.Entries)) {
				t.Fatalf("commit %d with %d entries after %d", im.Hard.Commit, len(im.Entries), at.Index)
			}
			for i, e := range im.Entries {
				if e.GetIndex() != at.Index+uint64(i)+1 || e.GetTerm() > im.Hard.Term {
					t.Fatalf("entry %v at %d after %d, term %d", e, i, at.Index, im.Hard.Term)
				}
			}
		}
	})
}

// FuzzSnapshotFile checks the reader of files of one record.
func FuzzSnapshotFile(f *testing.F) {
	meta := ClusterMeta{ClusterID: ClusterID{1}, Self: "a", Members: []draas.MemberID{"a", "b", "c"}}
	start := appendHeader(nil, magicSnapshot, meta, 3)
	snap := firstSnapshot(meta.Members)
	snap.Metadata.Index, snap.Metadata.Term = new(uint64(3)), new(uint64(2))
	snap.Data = append(snap.Data, "state"...)
	for _, conf := range []*raftpb.ConfState{
		{Voters: []uint64{1, 2, 3}}, {Voters: []uint64{1, 2}, VotersOutgoing: []uint64{1, 3}, LearnersNext: []uint64{3}},
		{Voters: []uint64{1, 1}}, {Voters: []uint64{1}, Learners: []uint64{9}}, {Voters: []uint64{1}, Learners: []uint64{2}, VotersOutgoing: []uint64{2}}, {},
	} {
		snap.Metadata.ConfState = conf
		payload, err := proto.Marshal(snap)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte{}, payload)
	}
	f.Add([]byte{}, []byte{})
	f.Add(appendRecord(start[:len(start):len(start)], 3, recordSnapshot, []byte{1}), []byte{0x12, 0x04, 0x10, 0x03, 0x18, 0x02})
	f.Fuzz(func(t *testing.T, raw, payload []byte) {
		framed := appendRecord(start[:len(start):len(start)], 3, recordSnapshot, payload)
		for _, data := range [][]byte{raw, framed} {
			snap, err := decodeSnapshot("snap", data, base{3, 2}, meta)
			if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("untyped error %v", err)
			}
			if err == nil && snap.GetMetadata().GetIndex() != 3 {
				t.Fatalf("accepted %v", snap)
			}
		}
	})
}
