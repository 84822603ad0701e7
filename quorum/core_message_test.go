package quorum_test

import (
	"strings"
	"testing"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

// alone opens the core of "dr", number 1, on a disk.
func alone(t *testing.T, disk quorum.Disk) *quorum.Core {
	t.Helper()
	core, err := quorum.OpenCore(quorum.CoreConfig{
		Self: "dr", Members: members, Heartbeat: heartbeat, Election: election,
		Disk: disk, Machine: &applied{}, Log: quietLog(t), Rand: quorumtest.Bytes(1),
	})
	if err != nil {
		t.Fatal(err)
	}
	core.Tick(draas.Reading{Boot: 1e9})
	return core
}

// raw is a message to "dr" from a member's number.
func raw(t *testing.T, from uint64, m *raftpb.Message) quorum.Message {
	t.Helper()
	m.From, m.To = new(from), new(uint64(1))
	return quorum.Message{From: members[from-1], To: "dr", Data: quorum.Wrap(m)}
}

// vote asks for a vote in a term and returns what was answered.
func vote(t *testing.T, core *quorum.Core, from, term uint64) string {
	t.Helper()
	core.Receive(raw(t, from, &raftpb.Message{Type: raftpb.MsgVote.Enum(), Term: new(term), LogTerm: new(uint64(1)), Index: new(uint64(1))}))
	out, err := core.Process()
	if err != nil || len(out) != 1 {
		t.Fatalf("answer to a candidate: %v, %v", out, err)
	}
	return out[0].String()
}

// A vote is durable before it is given: after a crash there is no second one
// in its term (Raft, figure 2: votedFor is persistent state).
func TestVoteIsRemembered(t *testing.T) {
	disk := bootstrapped(t)
	if got := vote(t, alone(t, disk), 2, 7); strings.Contains(got, "reject") {
		t.Fatal(got)
	}
	rnd := newCluster(t, 1, nil).rnd
	for range 20 {
		core := alone(t, disk.Crash(rnd))
		if s := core.Status(); s.Term != 7 {
			t.Fatalf("term is %d after the crash", s.Term)
		}
		if got := vote(t, core, 3, 7); !strings.Contains(got, "reject") {
			t.Fatalf("second vote in a term: %s", got)
		}
		if got := vote(t, core, 2, 7); strings.Contains(got, "reject") {
			t.Fatalf("the vote was given before: %s", got)
		}
	}
}

func TestSenselessMessagesAreDropped(t *testing.T) {
	one, two := uint64(1), uint64(2)
	entry := func(index, term uint64, change func(*raftpb.Entry)) []*raftpb.Entry {
		e := &raftpb.Entry{Index: new(index), Term: new(term), Data: []byte("x")}
		if change != nil {
			change(e)
		}
		return []*raftpb.Entry{e}
	}
	app := func(e []*raftpb.Entry) *raftpb.Message {
		return &raftpb.Message{Type: raftpb.MsgApp.Enum(), Term: &two, LogTerm: &one, Index: &one, Entries: e}
	}
	snap := func(change func(*raftpb.SnapshotMetadata)) *raftpb.Message {
		m := &raftpb.SnapshotMetadata{Index: new(uint64(5)), Term: new(uint64(2)), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}}
		change(m)
		return &raftpb.Message{Type: raftpb.MsgSnap.Enum(), Term: &two, Snapshot: &raftpb.Snapshot{Metadata: m, Data: quorum.SnapshotData(members, nil)}}
	}
	good := raw(t, 2, app(entry(2, 2, nil)))
	bad := map[string]quorum.Message{
		"from itself":        {From: "dr", To: "dr", Data: good.Data},
		"from a stranger":    {From: "elsewhere", To: "dr", Data: good.Data},
		"for another":        {From: "primary", To: "witness", Data: good.Data},
		"of another member":  {From: "witness", To: "dr", Data: good.Data},
		"garbage":            {From: "primary", To: "dr", Data: []byte{0xff, 0xff}},
		"empty":              {From: "primary", To: "dr"},
		"too large":          {From: "primary", To: "dr", Data: make([]byte, quorum.MaxMessage+1)},
		"local kind":         raw(t, 2, &raftpb.Message{Type: raftpb.MsgHup.Enum(), Term: &two}),
		"storage answer":     raw(t, 2, &raftpb.Message{Type: raftpb.MsgStorageAppendResp.Enum(), Term: &two}),
		"forget leader":      raw(t, 2, &raftpb.Message{Type: raftpb.MsgForgetLeader.Enum(), Term: &two}),
		"no term":            raw(t, 2, &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum()}),
		"term of the future": raw(t, 2, app(entry(2, 3, nil))),
		"term zero":          raw(t, 2, app(entry(2, 0, nil))),
		"old kind of change": raw(t, 2, app(entry(2, 2, func(e *raftpb.Entry) { e.Type = raftpb.EntryConfChange.Enum() }))),
		"garbled change":     raw(t, 2, app(entry(2, 2, func(e *raftpb.Entry) { e.Type = raftpb.EntryConfChangeV2.Enum() }))),
		"huge entry":         raw(t, 2, app(entry(2, 2, func(e *raftpb.Entry) { e.Data = make([]byte, quorum.MaxProposal+1) }))),
		"empty proposal":     raw(t, 2, &raftpb.Message{Type: raftpb.MsgProp.Enum()}),
		"proposed members":   raw(t, 2, &raftpb.Message{Type: raftpb.MsgProp.Enum(), Entries: entry(0, 0, func(e *raftpb.Entry) { e.Type = raftpb.EntryConfChangeV2.Enum() })}),
		"snapshot of nobody": raw(t, 2, snap(func(m *raftpb.SnapshotMetadata) { m.ConfState = nil })),
		"nameless":           raw(t, 2, snap(func(m *raftpb.SnapshotMetadata) { m.ConfState.Voters = []uint64{1, 2, 3, 4} })),
		"snapshot of others": raw(t, 2, snap(func(m *raftpb.SnapshotMetadata) { m.ConfState.Voters = []uint64{1, 2, 4} })),
		"learns and votes":   raw(t, 2, snap(func(m *raftpb.SnapshotMetadata) { m.ConfState.Learners = []uint64{2} })),
		"empty snapshot":     raw(t, 2, &raftpb.Message{Type: raftpb.MsgSnap.Enum(), Term: &two}),
	}
	core := alone(t, bootstrapped(t))
	count := uint64(0)
	for name, m := range bad {
		core.Receive(m)
		count++
		if got := core.Status().Rejected; got != count {
			t.Errorf("%s was not dropped", name)
			count = got
		}
	}
	if out, err := core.Process(); err != nil || len(out) > 0 || core.Status().Last != 1 {
		t.Fatalf("bad messages led to %v, %v, %+v", out, err, core.Status())
	}
	core.Receive(good)
	if out, err := core.Process(); err != nil || len(out) != 1 || core.Status().Last != 2 || core.Status().Leader != "primary" {
		t.Fatalf("a good message led to %v, %v, %+v", out, err, core.Status())
	}
}
