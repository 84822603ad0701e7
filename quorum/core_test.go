package quorum_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

func TestElectsAndCommits(t *testing.T) {
	c := newCluster(t, 1, nil)
	l := c.elect()
	for i, n := range c.nodes { // a follower forwards
		c.propose(n, fmt.Sprint("entry ", i))
	}
	c.run(time.Second)
	c.agree()
	s := l.core.Status()
	if s.Leader != l.id || s.State != "leader" || s.Applied != s.Commit || s.Commit != s.Last || s.Contact < c.now-2*heartbeat {
		t.Errorf("leader's status: %+v", s)
	}
	for _, m := range s.Members {
		if !m.Active || m.Match != s.Last {
			t.Errorf("leader knows of %+v, its log ends at %d", m, s.Last)
		}
	}
	for _, n := range c.nodes {
		if len(n.machine.entries) != 3 {
			t.Errorf("%s applied %q", n.id, n.machine.entries)
		}
	}
}

// An undisturbed cluster keeps its leader, also when nobody proposes.
func TestIdleClusterKeepsLeader(t *testing.T) {
	c := newCluster(t, 2, nil)
	l := c.elect()
	term := l.core.Status().Term
	c.run(time.Minute)
	if s := c.leader().core.Status(); s.Term != term {
		t.Errorf("term went from %d to %d in a minute of calm", term, s.Term)
	}
}

// faults counts what chaos did.
type faults struct{ crashes, failures, torn, snapshots int }

// chaos runs a cluster under loss, partitions, crashes and torn disks, with
// the given seed, and returns the trace of its messages.
func chaos(t *testing.T, seed uint64, rounds int, did *faults) []string {
	c := newCluster(t, seed, func(cfg *quorum.CoreConfig) { cfg.SnapshotEvery, cfg.SnapshotKeep = 16, 4 })
	c.tell = seed%2 == 0
	restart := func(n *node) {
		n.disk = n.disk.Crash(c.rnd) // without bound
		c.start(n)
		if n.core.Status().Torn != "" {
			did.torn++
		}
	}
	c.net.MaxDelay = 20 * time.Millisecond
	var acknowledged []string
	for i := range rounds {
		c.net.Drop, c.net.Duplicate = c.rnd.Float64()*0.2, c.rnd.Float64()*0.2
		n := c.nodes[c.rnd.IntN(len(c.nodes))]
		switch c.rnd.IntN(8) {
		case 0:
			if n.core != nil {
				c.crash(n)
				did.crashes++
			}
		case 1:
			c.net.Isolate(n.id, members)
		case 2:
			c.net.Cut(n.id, members[c.rnd.IntN(len(members))])
		case 3:
			if n.core != nil {
				n.disk.Limit(int64(c.rnd.IntN(2000)))
			}
		case 4:
			if n.core != nil {
				n.disk.BreakSync(errors.New("input/output error"))
			}
		case 5, 6:
			c.net.HealAll()
		}
		for k := range 4 {
			n := c.nodes[c.rnd.IntN(len(c.nodes))]
			if n.core != nil {
				_ = n.core.Propose(fmt.Appendf(nil, "%d.%d", i, k)) // may be refused or lost
				n.due = c.now
			}
			c.run(time.Duration(c.rnd.IntN(100)) * time.Millisecond)
		}
		// What any machine has applied was acknowledged.
		for _, n := range c.nodes {
			if n.core != nil && len(n.machine.entries) > len(acknowledged) {
				acknowledged = slices.Clone(n.machine.entries)
			}
		}
		c.agree()
		for _, n := range c.nodes {
			if n.core == nil && c.rnd.IntN(3) == 0 {
				restart(n)
			}
		}
	}
	c.net.HealAll()
	c.net.Drop, c.net.Duplicate = 0, 0
	for _, n := range c.nodes {
		n.disk.Limit(-1)
		n.disk.BreakSync(nil)
		if n.core == nil {
			restart(n)
		}
	}
	c.elect()
	c.propose(c.nodes[0], "last")
	c.until("all caught up", 20*time.Second, func() bool {
		return !slices.ContainsFunc(c.nodes, func(n *node) bool { return !slices.Contains(n.machine.entries, "last") })
	})
	c.agree()
	for _, n := range c.nodes {
		if len(n.machine.entries) < len(acknowledged) || !slices.Equal(n.machine.entries[:len(acknowledged)], acknowledged) {
			t.Fatalf("seed %d: %s lost acknowledged entries: has %q, acknowledged were %q", seed, n.id, n.machine.entries, acknowledged)
		}
		if n.core.Status().Snapshot > 1 {
			did.snapshots++
		}
	}
	did.failures += c.failures
	return c.trace
}

func TestChaosLosesNothing(t *testing.T) {
	var did faults
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { chaos(t, seed, 40, &did) })
	}
	if did.crashes < 40 || did.failures < 40 || did.torn < 10 || did.snapshots < 40 {
		t.Errorf("too few faults to tell anything: %+v", did)
	}
	t.Logf("%+v", did)
}

// Same seed, same messages: the core has no other source of chance or time.
func TestSameSeedSameTrace(t *testing.T) {
	for seed := range uint64(4) {
		var traces [2][]string
		for i := range traces {
			t.Run("run", func(t *testing.T) { traces[i] = chaos(t, seed, 25, new(faults)) })
		}
		if len(traces[0]) < 100 {
			t.Fatalf("seed %d: only %d messages", seed, len(traces[0]))
		}
		for i := range traces[0] {
			if i >= len(traces[1]) || traces[0][i] != traces[1][i] {
				t.Fatalf("seed %d: message %d differs: %s", seed, i, traces[0][i])
			}
		}
		if len(traces[0]) != len(traces[1]) {
			t.Fatalf("seed %d: %d and %d messages", seed, len(traces[0]), len(traces[1]))
		}
	}
}

func TestLaggingFollowerGetsSnapshot(t *testing.T) {
	c := newCluster(t, 3, func(cfg *quorum.CoreConfig) { cfg.SnapshotEvery, cfg.SnapshotKeep = 10, 2 })
	l := c.elect()
	late := c.nodes[(slices.Index(members, l.id)+1)%3]
	c.net.Isolate(late.id, members)
	for i := range 50 {
		c.propose(l, fmt.Sprint("entry ", i))
	}
	// The first snapshots are lost on the way.
	c.net.HealAll()
	c.net.Drop = 0.7
	c.run(3 * time.Second)
	c.net.Drop = 0
	c.until("caught up", 20*time.Second, func() bool { return len(late.machine.entries) == 50 })
	if s := late.core.Status(); s.Snapshot < 40 {
		t.Errorf("caught up from snapshot %d, not by one of the leader's", s.Snapshot)
	}
	c.agree()
	// It restarts from what it was sent.
	c.crash(late)
	c.start(late)
	c.until("back", 5*time.Second, func() bool { return len(late.machine.entries) == 50 })
	c.propose(late, "after")
	c.agree()
}

func TestPreferMovesLeadership(t *testing.T) {
	for _, want := range members {
		c := newCluster(t, 4, nil)
		c.elect()
		for _, n := range c.nodes {
			n.order = []draas.MemberID{want}
		}
		took := c.until("led by "+string(want), 10*time.Second, func() bool { return c.elect().id == want })
		term := c.leader().core.Status().Term
		c.propose(c.nodes[0], "still works")
		c.run(10 * time.Second)
		if s := c.leader().core.Status(); s.Leader != want || s.Term != term {
			t.Errorf("leadership moved on to %s in term %d after %d", s.Leader, s.Term, term)
		}
		t.Logf("%s leads after %v", want, took)
	}
}

// A better member that cannot be reached must not be waited for.
func TestPreferSkipsDeadMember(t *testing.T) {
	c := newCluster(t, 5, nil)
	l := c.elect()
	var rest []draas.MemberID
	for _, m := range members {
		if m != l.id {
			rest = append(rest, m)
		}
	}
	c.crash(c.node(rest[0]))
	c.run(time.Second)
	for _, n := range c.nodes {
		n.order = append(slices.Clone(rest), l.id)
	}
	c.until("led by the second best", 10*time.Second, func() bool { return c.leader() != nil && c.leader().id == rest[1] })
}

func TestKilledLeaderIsReplacedAtOnce(t *testing.T) {
	var worst time.Duration
	for seed := range uint64(20) {
		c := newCluster(t, seed, nil)
		c.tell = true
		c.propose(c.elect(), "before")
		c.run(time.Second)
		l := c.leader()
		c.crash(l)
		took := c.until("a new leader", 5*time.Second, func() bool { return c.leader() != nil })
		worst = max(worst, took)
	}
	if worst > 20*time.Millisecond {
		t.Errorf("the slowest of 20 successions took %v", worst)
	}
	t.Logf("slowest succession %v, messages took up to 1ms", worst)
}

// A reset that only one follower saw must not unseat a leader that lives.
func TestFalseAlarmIsHarmless(t *testing.T) {
	c := newCluster(t, 6, nil)
	l := c.elect()
	term := l.core.Status().Term
	f := c.nodes[(slices.Index(members, l.id)+1)%3]
	for range 20 {
		f.core.PeerDown(l.id)
		f.due = c.now
		c.run(37 * time.Millisecond)
	}
	c.run(time.Second)
	if s := c.leader().core.Status(); s.Leader != l.id || s.Term != term {
		t.Errorf("leader %s of term %d was replaced by %s of term %d", l.id, term, s.Leader, s.Term)
	}
}

// A process that was stopped reads its inbox before it campaigns.
func TestStallDoesNotCampaign(t *testing.T) {
	c := newCluster(t, 7, nil)
	l := c.elect()
	f := c.nodes[(slices.Index(members, l.id)+1)%3]
	for i := range 20 {
		core := f.core
		f.core = nil // receives nothing
		c.run(time.Duration(i) * 100 * time.Millisecond)
		// The first thing that happens to it is a message, and what it does
		// then counts the whole pause as time.
		f.core, f.due = core, c.now+time.Hour
		from := len(c.trace)
		c.run(time.Second)
		for _, m := range c.trace[from:] {
			if strings.Contains(m, "Vote") {
				t.Fatalf("after a pause of %d00ms: %.100s", i, m)
			}
		}
	}
}

func TestLonelyLeaderStepsDown(t *testing.T) {
	c := newCluster(t, 8, nil)
	l := c.elect()
	c.net.Isolate(l.id, members)
	cut := c.now
	c.run(3 * election)
	s := l.core.Status()
	if s.State == "leader" || s.Contact > cut+heartbeat {
		t.Errorf("cut off since %v: %+v", cut, s)
	}
	if err := l.core.Propose([]byte("x")); !errors.Is(err, quorum.ErrNoLeader) {
		t.Errorf("propose without a leader: %v", err)
	}
}

func TestProposalBounds(t *testing.T) {
	c := newCluster(t, 9, nil)
	l := c.elect()
	for _, size := range []int{0, quorum.MaxProposal + 1} {
		if err := l.core.Propose(make([]byte, size)); !errors.Is(err, quorum.ErrTooLarge) {
			t.Errorf("proposal of %d bytes: %v", size, err)
		}
	}
	c.propose(l, string(make([]byte, quorum.MaxProposal)))
	var err error
	for range 1000 {
		if err = l.core.Propose(make([]byte, quorum.MaxProposal)); err != nil {
			break
		}
	}
	if !errors.Is(err, quorum.ErrBusy) {
		t.Errorf("64 MB of proposals at once: %v", err)
	}
}

// A machine that gives no snapshot costs space, not the cluster.
func TestRefusedSnapshot(t *testing.T) {
	c := newCluster(t, 10, func(cfg *quorum.CoreConfig) { cfg.SnapshotEvery = 5 })
	l := c.elect()
	for _, n := range c.nodes {
		n.machine.refuse = errors.New("no")
	}
	for i := range 20 {
		c.propose(l, fmt.Sprint(i))
	}
	if s := l.core.Status(); s.Snapshot != 1 {
		t.Errorf("snapshot at %d", s.Snapshot)
	}
	for _, n := range c.nodes {
		n.machine.refuse = nil
	}
	for i := range 10 {
		c.propose(l, fmt.Sprint("more ", i))
	}
	if s := l.core.Status(); s.Snapshot < 20 {
		t.Errorf("snapshot at %d", s.Snapshot)
	}
}

func TestFailedDiskSaysNothingMore(t *testing.T) {
	for name, breakIt := range map[string]func(*quorumtest.Disk){
		"full": func(d *quorumtest.Disk) { d.Limit(10) },
		"sync": func(d *quorumtest.Disk) { d.BreakSync(errors.New("input/output error")) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, 11, nil)
			l := c.elect()
			breakIt(l.disk)
			if err := l.core.Propose([]byte("lost")); err != nil {
				t.Fatal(err)
			}
			out, err := l.core.Process()
			if !errors.Is(err, quorum.ErrFailed) || len(out) > 0 {
				t.Fatalf("process on a broken disk: %v, %v", out, err)
			}
			core := l.core
			c.process(l) // a crash for the others
			c.tell = true
			core.Tick(c.reading())
			core.Receive(quorum.Message{From: members[0], To: l.id, Data: []byte{8, 8}})
			if out, err := core.Process(); !errors.Is(err, quorum.ErrFailed) || len(out) > 0 {
				t.Errorf("process after the failure: %v, %v", out, err)
			}
			if err := core.Propose([]byte("x")); !errors.Is(err, quorum.ErrFailed) {
				t.Errorf("propose after the failure: %v", err)
			}
			if s := core.Status(); s.State != "failed" || s.Err == nil {
				t.Errorf("status after the failure: %+v", s)
			}
			c.elect()
			c.start(l)
			c.propose(l, "after the restart")
			c.agree()
			if slices.Contains(l.machine.entries, "lost") {
				t.Error("the entry that failed was applied")
			}
		})
	}
}

// A member whose disk was put back to an old copy must stop, not vote.
func TestOldCopyOfDiskIsDetected(t *testing.T) {
	c := newCluster(t, 12, nil)
	l := c.elect()
	c.propose(l, "first")
	f := c.nodes[(slices.Index(members, l.id)+1)%3]
	old := f.disk.Clone()
	for i := range 20 {
		c.propose(l, fmt.Sprint(i))
	}
	c.run(time.Second)
	f.disk = old
	c.start(f)
	var err error
	for range 1000 {
		c.now += time.Millisecond
		for _, m := range c.net.Deliver(c.now) {
			if n := c.node(m.To); n.core != nil {
				n.core.Receive(m)
			}
		}
		for _, n := range c.nodes {
			n.core.Tick(c.reading())
			var out []quorum.Message
			if out, err = n.core.Process(); err != nil {
				break
			}
			c.net.Send(c.now, out)
		}
		if err != nil {
			break
		}
	}
	if !errors.Is(err, quorum.ErrLostLog) {
		t.Fatalf("a log put back gives: %v", err)
	}
}
