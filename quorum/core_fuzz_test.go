package quorum_test

import (
	"errors"
	"log/slog"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

// FuzzReceive gives a core messages of any content. It may drop them or, where
// they prove that its log is not what it was, fail; it does not panic, and
// never applies what it has no majority for.
func FuzzReceive(f *testing.F) {
	entry := &raftpb.Entry{Term: new(uint64(2)), Index: new(uint64(2)), Data: []byte("x")}
	for _, m := range []*raftpb.Message{
		{Type: raftpb.MsgHeartbeat.Enum(), Term: new(uint64(2)), Commit: new(uint64(1))},
		{Type: raftpb.MsgHeartbeat.Enum(), Term: new(uint64(2)), Commit: new(uint64(9))},
		{Type: raftpb.MsgApp.Enum(), Term: new(uint64(2)), LogTerm: new(uint64(1)), Index: new(uint64(1)), Entries: []*raftpb.Entry{entry}, Commit: new(uint64(2))},
		{Type: raftpb.MsgVote.Enum(), Term: new(uint64(3)), LogTerm: new(uint64(1)), Index: new(uint64(1))},
		{Type: raftpb.MsgProp.Enum(), Entries: []*raftpb.Entry{{Data: []byte("x")}}},
		{Type: raftpb.MsgTimeoutNow.Enum(), Term: new(uint64(2))},
		{Type: raftpb.MsgSnap.Enum(), Term: new(uint64(3)), Snapshot: &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{
			Index: new(uint64(5)), Term: new(uint64(3)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}}}},
	} {
		m.From, m.To = new(uint64(2)), new(uint64(1))
		data := quorum.Wrap(m)
		f.Add(data, data)
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		defer quorumtest.SeedElections(1)()
		core, err := quorum.OpenCore(quorum.CoreConfig{
			Self: "dr", Members: members, Heartbeat: heartbeat, Election: election,
			Disk: bootstrapped(t), Machine: &applied{}, Log: slog.New(slog.DiscardHandler), Rand: quorumtest.Bytes(1),
		})
		if err != nil {
			t.Fatal(err)
		}
		now := draas.Reading{Boot: 1e9}
		for _, data := range [][]byte{one, two} {
			core.Receive(quorum.Message{From: "primary", To: "dr", Data: data})
			core.Tick(now)
			out, err := core.Process()
			if err != nil && (!errors.Is(err, quorum.ErrFailed) || len(out) > 0) {
				t.Fatalf("%v, %v", out, err)
			}
			for _, m := range out {
				if m.From != "dr" || m.To == "dr" {
					t.Fatalf("sends %v", m)
				}
			}
			now = now.Add(heartbeat)
		}
		if s := core.Status(); s.State == "leader" || s.Applied > s.Commit || s.Commit > s.Last {
			t.Fatalf("%+v", s)
		}
	})
}
