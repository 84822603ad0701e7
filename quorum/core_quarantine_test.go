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

// quarantined is what a machine says of a member that it does not listen to.
func quarantined(n *node, id draas.MemberID) string {
	for _, m := range n.core.Status().Members {
		if m.ID == id && m.Quarantined != "" {
			return m.Quarantined
		}
	}
	return ""
}

// rolledBack runs a cluster until a member other than the leader has an old
// copy of its disk, and gives back both.
func rolledBack(t *testing.T, seed uint64) (*cluster, *node) {
	c := newCluster(t, seed, nil)
	l := c.elect()
	c.propose(l, "first")
	f := c.nodes[(slices.Index(c.nodes, l)+1)%3]
	old := f.disk.Clone()
	for i := range 20 {
		c.propose(l, fmt.Sprint(i))
	}
	c.run(time.Second)
	c.crash(f)
	f.disk, f.mortal = old, true
	return c, f
}

// A member whose disk was set back is not listened to, is told so, and cannot
// be started again.
func TestRolledBackMemberIsQuarantined(t *testing.T) {
	c, f := rolledBack(t, 30)
	c.start(f)
	f.due = c.now + time.Hour // it says nothing by itself
	from := len(c.trace)
	for f.core != nil {
		c.run(heartbeat)
		if f.core != nil {
			c.process(f)
		}
		if c.now > 5*time.Minute {
			t.Fatal("it goes on")
		}
	}
	if !errors.Is(f.fate, quorum.ErrLostLog) || !strings.Contains(f.fate.Error(), "draasd join") {
		t.Errorf("it ended with %v", f.fate)
	}
	for _, m := range c.trace[from:] {
		if strings.Contains(m, string(f.id)+">") {
			t.Errorf("it answered before it ended: %.150s", m)
		}
	}
	// Also not when everybody who remembers is dead.
	for _, n := range c.nodes {
		if n != f {
			c.crash(n)
		}
	}
	_, err := quorum.OpenCore(quorum.CoreConfig{Self: f.id, Members: members, Heartbeat: heartbeat, Election: election,
		Disk: f.disk, Machine: &applied{}, Log: quietLog(t), Rand: quorumtest.Bytes(1)})
	if !errors.Is(err, quorum.ErrLostLog) {
		t.Errorf("opened again: %v", err)
	}
	for _, n := range c.nodes {
		if n != f {
			c.start(n)
		}
	}
	// It comes back as a new one.
	c.want = members
	if _, err := quorum.Rejoin(f.disk, quorumtest.Bytes(5)); err != nil {
		t.Fatal(err)
	}
	c.start(f)
	c.until("it votes again", 30*time.Second, func() bool { return role(f) == quorum.RoleVoter })
	c.propose(f, "after")
	if !slices.Contains(f.machine.entries, "19") {
		t.Error("it lacks what it had lost")
	}
	c.untilVoters("dr primary witness")
	c.agree()
}

// The first thing that a member which was set back says is a request for a
// vote: nothing of it is stepped. The others have only heard of it by the
// leader, who is dead.
func TestRolledBackMemberNeverVotes(t *testing.T) {
	for seed := range uint64(10) {
		c, f := rolledBack(t, 40+seed)
		l := c.leader()
		third := c.nodes[3-slices.Index(c.nodes, l)-slices.Index(c.nodes, f)]
		term := third.core.Status().Term
		c.crash(l)
		c.start(f)
		c.run(10 * time.Second)
		if f.core != nil || !errors.Is(f.fate, quorum.ErrLostLog) {
			t.Fatalf("seed %d: it ended with %v", seed, f.fate)
		}
		if s := third.core.Status(); s.State == "leader" || s.Term != term || quarantined(third, f.id) == "" && !strings.Contains(f.fate.Error(), string(third.id)) {
			t.Errorf("seed %d: the third was led on by it: %+v", seed, s)
		}
		c.start(l)
		c.propose(c.elect(), "two of three that remember")
		c.agree()
	}
}

// Two daemons with copies of one disk: both are void, whoever was first.
func TestClonesAreVoid(t *testing.T) {
	c := newCluster(t, 50, nil)
	l := c.elect()
	f := c.nodes[(slices.Index(c.nodes, l)+1)%3]
	c.crash(f)
	copied := f.disk.Clone()
	f.mortal = true
	c.start(f)
	c.run(time.Second)
	clone := &node{id: f.id, disk: copied, mortal: true}
	c.nodes = slices.Insert(c.nodes, 0, clone) // it has no address, and can only talk
	c.start(clone)
	c.until("the first one ends", 10*time.Second, func() bool { return f.core == nil })
	if !errors.Is(f.fate, quorum.ErrCloned) {
		t.Errorf("it ended with %v", f.fate)
	}
	c.stop(f) // now the clone has the address
	c.until("the second one ends", 10*time.Second, func() bool { return clone.core == nil })
	if !errors.Is(clone.fate, quorum.ErrCloned) && !errors.Is(clone.fate, quorum.ErrLostLog) {
		t.Errorf("it ended with %v", clone.fate)
	}
	if got := quarantined(c.leader(), f.id); !strings.Contains(got, "cloned") {
		t.Errorf("the leader says %q", got)
	}
	c.want = members
	if _, err := quorum.Rejoin(clone.disk, quorumtest.Bytes(5)); err != nil {
		t.Fatal(err)
	}
	c.start(clone)
	c.until("replaced", 20*time.Second, func() bool { return role(clone) == quorum.RoleVoter })
	c.propose(clone, "after")
	c.agree()
}

// A machine that was set back with its memory goes on as if nothing had been:
// it learns from the others' memory of it.
func TestMemorySetBack(t *testing.T) {
	c := newCluster(t, 51, nil)
	l := c.elect()
	f := c.nodes[(slices.Index(c.nodes, l)+1)%3]
	c.run(time.Second)
	// The same run twice from the same disk stands for the copy of the memory.
	c.config = func(cfg *quorum.CoreConfig) { cfg.Incarnation = 77 }
	c.crash(f)
	old := f.disk.Clone()
	c.start(f)
	for i := range 20 {
		c.propose(l, fmt.Sprint(i))
	}
	c.run(time.Second)
	c.crash(f)
	f.disk, f.mortal = old, true
	c.start(f)
	c.until("it ends", 10*time.Second, func() bool { return f.core == nil })
	if !errors.Is(f.fate, quorum.ErrLostLog) {
		t.Errorf("it ended with %v", f.fate)
	}
}

// What an earlier run has left on the way is not taken for an old copy, nor
// does it count.
func TestMessagesOfAnEarlierRunAreDropped(t *testing.T) {
	c := newCluster(t, 52, nil)
	l := c.elect()
	c.propose(l, "first")
	f := c.nodes[(slices.Index(c.nodes, l)+1)%3]
	var late []quorum.Message
	f.core.PeerDown(l.id) // asks for votes
	f.core.Tick(c.reading())
	late, err := f.core.Process()
	if err != nil || len(late) == 0 {
		t.Fatal(late, err)
	}
	c.crash(f)
	c.start(f)
	c.propose(f, "second")
	c.run(time.Second)
	before := l.core.Status()
	for range 3 {
		for _, m := range late {
			if n := c.node(m.To); n != nil {
				n.core.Receive(m)
				n.due = c.now
			}
		}
		c.run(time.Second)
	}
	after := l.core.Status()
	if after.Term != before.Term || after.State != "leader" || quarantined(l, f.id) != "" || f.core == nil {
		t.Errorf("late messages changed %+v to %+v", before, after)
	}
	c.propose(f, "third")
}
