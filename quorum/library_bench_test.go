package quorum

import (
	"io"
	"log/slog"
	"testing"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// bare is the consensus library by itself: no envelope, disk, decision or
// clock around it.
type bare struct {
	nodes [4]*raft.RawNode
	store [4]*raft.MemoryStorage
	mail  []*raftpb.Message
}

func newBare(b *testing.B) *bare {
	c := &bare{}
	voters := []uint64{1, 2, 3}
	for _, id := range voters {
		c.store[id] = raft.NewMemoryStorage()
		snap := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(uint64(1)), Term: new(uint64(1)),
			ConfState: &raftpb.ConfState{Voters: voters, AutoLeave: new(false)}}}
		if err := c.store[id].ApplySnapshot(snap); err != nil {
			b.Fatal(err)
		}
		node, err := raft.NewRawNode(&raft.Config{ID: id, ElectionTick: 14, HeartbeatTick: 4, Storage: c.store[id], Applied: 1,
			MaxSizePerMsg: maxAppend, MaxInflightMsgs: 256, CheckQuorum: true, PreVote: true,
			Logger: raftLogger{slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError}))}})
		if err != nil {
			b.Fatal(err)
		}
		c.nodes[id] = node
	}
	if err := c.nodes[1].Campaign(); err != nil {
		b.Fatal(err)
	}
	c.settle(b)
	return c
}

func (c *bare) settle(b *testing.B) {
	for {
		for id := 1; id <= 3; id++ {
			for n := c.nodes[id]; n.HasReady(); {
				rd := n.Ready()
				if err := c.store[id].Append(rd.Entries); err != nil {
					b.Fatal(err)
				}
				c.mail = append(c.mail, rd.Messages...)
				n.Advance(rd)
			}
		}
		if len(c.mail) == 0 {
			return
		}
		mail := c.mail
		c.mail = nil
		for _, m := range mail {
			_ = c.nodes[m.GetTo()].Step(m) // what it refuses does not matter here
		}
	}
}

// What the library alone costs for what an average schedule of internal/sim
// asks of it in 30 simulated seconds: 119 entries, three of four proposed by a
// follower, and 84 heartbeats. No simulation of it can be faster.
func BenchmarkLibrary(b *testing.B) {
	data := make([]byte, 120)
	for b.Loop() {
		c := newBare(b)
		for i := range 119 {
			if err := c.nodes[[...]int{1, 2, 3, 2}[i%4]].Propose(data); err != nil {
				b.Fatal(err)
			}
			c.settle(b)
			if i >= 84 {
				continue
			}
			for range 4 {
				for id := 1; id <= 3; id++ {
					c.nodes[id].Tick()
				}
			}
			c.settle(b)
		}
	}
}
