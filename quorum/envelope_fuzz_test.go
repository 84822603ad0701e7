package quorum

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/draasd/draas"
)

// fullHead says everything that a head can say.
func fullHead() head {
	return head{
		kind: kindRaft, blank: true, generation: Generation{3, 1 << 62}, from: 1 << 61, to: 2,
		claim: claim{5, 77, 1 << 40, 1 << 60, 300}, last: 400, echo: claim{4, 78, 9, 0, 1},
		others: []hearsay{{3, claim{1, 2, 3, 4, 5}}, {1 << 62, claim{6, 7, 8, 9, 10}}},
	}
}

func someMessage(rnd *rand.Rand) *raftpb.Message {
	n := func() *uint64 { return new(rnd.Uint64N(1 << (1 + rnd.Uint64N(63)))) }
	m := &raftpb.Message{
		Type: raftpb.MessageType(rnd.IntN(20)).Enum(), From: n(), To: n(), Term: n(), LogTerm: n(), Index: n(), Commit: n(),
		RejectHint: n(), Reject: new(rnd.IntN(2) == 0),
	}
	if rnd.IntN(2) == 0 {
		m.Context = []byte("CampaignTransfer")
	}
	for i := range rnd.IntN(4) {
		e := &raftpb.Entry{Type: raftpb.EntryType(rnd.IntN(3)).Enum(), Term: n()}
		if rnd.IntN(3) > 0 {
			e.Data = bytes.Repeat([]byte{byte(i)}, 1+rnd.IntN(100))
		}
		if m.GetType() == raftpb.MsgApp {
			e.Index = new(m.GetIndex() + 1 + uint64(i))
		}
		m.Entries = append(m.Entries, e)
	}
	if m.GetType() == raftpb.MsgSnap {
		m.Snapshot = &raftpb.Snapshot{Data: []byte("state"), Metadata: &raftpb.SnapshotMetadata{Index: n(), Term: n(), ConfState: &raftpb.ConfState{
			Voters: []uint64{*n(), *n()}, Learners: []uint64{*n()}, VotersOutgoing: []uint64{*n()}, AutoLeave: new(rnd.IntN(2) == 0),
		}}}
	}
	return m
}

// What goes into an envelope comes out of it.
func TestEnvelopeRoundTrip(t *testing.T) {
	for seed := range uint64(2000) {
		m := someMessage(rand.New(rand.NewPCG(seed, 1)))
		h := fullHead()
		if seed%2 == 0 {
			h = head{kind: kindRaft, from: 1, to: 2, claim: claim{start: 1, incarnation: 1}}
		}
		got, payload, err := decodeHead(appendRaft(h.append(nil), m))
		if err != nil || got.claim != h.claim || got.echo != h.echo || got.generation != h.generation || got.last != h.last ||
			got.blank != h.blank || got.from != h.from || got.to != h.to || !slices.Equal(got.others, h.others) {
			t.Fatalf("head %+v became %+v, %v", h, got, err)
		}
		p, err := decodeRaft(payload, m.GetFrom(), m.GetTo())
		if err != nil || !proto.Equal(p, m) {
			t.Fatalf("%v\nbecame\n%v, %v", m, p, err)
		}
		if n := len(appendRaft(nil, m)); n > sizeRaft(m)+60 {
			t.Errorf("%d bytes, %d were foreseen", n, sizeRaft(m))
		}
	}
}

// A later version can say more, in the head; what must be known to read it is
// refused.
func TestEnvelopeOfALaterVersion(t *testing.T) {
	h := fullHead()
	data := h.append(nil)
	n := int(data[2]&0x7f) | int(data[3])<<7
	more := slices.Insert(slices.Clone(data), 4+n, 1, 2, 3)
	more[0], more[2], more[3] = 9, byte(n+3)|0x80, byte((n+3)>>7)
	got, payload, err := decodeHead(append(more, 'x'))
	if err != nil || got.last != h.last || string(payload) != "x" {
		t.Errorf("%+v, %q, %v", got, payload, err)
	}
	more[1] = 2
	if _, _, err := decodeHead(more); !errors.Is(err, ErrProtocol) {
		t.Errorf("version 2 is needed: %v", err)
	}
}

// FuzzEnvelope: no input makes the decoders panic, take memory that it does not
// fill, or accept what cannot be encoded again.
func FuzzEnvelope(f *testing.F) {
	h := fullHead()
	for seed := range uint64(20) {
		f.Add(appendRaft(h.append(nil), someMessage(rand.New(rand.NewPCG(seed, 2)))))
	}
	h.kind, h.others = kindNotice, nil
	f.Add(noticeAlive.append(h.append(nil), claim{start: 2, incarnation: 3}))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, payload, err := decodeHead(data)
		if err != nil {
			return
		}
		if again, _, err := decodeHead(h.append(nil)); err != nil || again.claim != h.claim || again.echo != h.echo && h.echo.start != 0 {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
		_, _, _ = decodeNotice(payload)
		m, err := decodeRaft(payload, h.from, h.to)
		if err != nil {
			return
		}
		again, err := decodeRaft(appendRaft(nil, m), h.from, h.to)
		if err != nil || !proto.Equal(m, again) {
			t.Fatalf("%v became %v, %v", m, again, err)
		}
		_ = checkRaft(m)
	})
}

// FuzzRoster: changes of membership and the head of a snapshot.
func FuzzRoster(f *testing.F) {
	ro := initialRoster([]draas.MemberID{"a", "b"})
	ro.gone = []uint64{7, 1 << 50}
	f.Add(ro.wrap([]byte("machine")))
	cc := &raftpb.ConfChangeV2{
		Changes: []*raftpb.ConfChangeSingle{single(raftpb.ConfChangeAddNode, 9), single(raftpb.ConfChangeRemoveNode, 1)},
		Context: encodeNames(seat{9, "a"}),
	}
	data, err := proto.Marshal(cc)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if ro, machine, err := unwrap(data); err == nil {
			again, same, err := unwrap(ro.wrap(machine))
			if err != nil || !slices.Equal(again.seats, ro.seats) || !slices.Equal(again.gone, ro.gone) || !bytes.Equal(same, machine) {
				t.Fatalf("%+v became %+v, %v", ro, again, err)
			}
		}
		cc, seats, err := decodeChange(data)
		if err != nil {
			return
		}
		for _, ch := range cc.GetChanges() {
			if !validRaftID(ch.GetNodeId()) {
				t.Fatalf("accepted %v", cc)
			}
		}
		if again, err := decodeNames(encodeNames(seats...)); err != nil || !slices.Equal(again, seats) {
			t.Fatalf("%v became %v, %v", seats, again, err)
		}
	})
}
