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

// join starts a new machine for a member, with an empty disk.
func (c *cluster) join(id draas.MemberID) *node {
	c.t.Helper()
	n := &node{id: id, disk: quorumtest.NewDisk(), mortal: true}
	if err := quorum.Join(n.disk, testCluster, id, quorumtest.Bytes(c.rnd.Uint64())); err != nil {
		c.t.Fatal(err)
	}
	c.nodes = append(c.nodes, n)
	c.start(n)
	return n
}

// stop ends a machine for good.
func (c *cluster) stop(n *node) {
	c.crash(n)
	c.nodes = slices.DeleteFunc(c.nodes, func(m *node) bool { return m == n })
}

func role(n *node) quorum.Role {
	if n.core == nil {
		return ""
	}
	return n.core.Status().Role
}

// voters are the members that vote, as a machine sees it.
func voters(n *node) string {
	var all []string
	for _, m := range n.core.Status().Members {
		if m.Role == quorum.RoleVoter {
			all = append(all, string(m.ID))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (c *cluster) untilVoters(want string) {
	c.t.Helper()
	c.until("voters are "+want, 30*time.Second, func() bool {
		for _, n := range c.nodes {
			if role(n) == quorum.RoleVoter && voters(n) != want {
				return false
			}
		}
		return c.leader() != nil && voters(c.leader()) == want
	})
}

func TestNewMemberLearnsThenVotes(t *testing.T) {
	c := newCluster(t, 20, func(cfg *quorum.CoreConfig) { cfg.SnapshotEvery = 16 })
	for i := range 20 {
		c.propose(c.elect(), fmt.Sprint("before ", i))
	}
	n := c.join("branch")
	c.until("told that nobody wants it", 10*time.Second, func() bool {
		return strings.Contains(n.core.Status().Refused, "failover.toml")
	})
	if got := role(n); got != quorum.RoleJoining {
		t.Fatalf("it is a %s", got)
	}
	c.want = append(slices.Clone(members), "branch")
	c.until("learns", 10*time.Second, func() bool { return role(n) == quorum.RoleLearner })
	c.untilVoters("branch dr primary witness")
	c.propose(n, "from the new member")
	c.agree()
	if !slices.Contains(n.machine.entries, "before 0") {
		t.Error("the new member lacks the past")
	}
	// It counts: with two of four dead nothing is decided, with one it is.
	c.crash(c.node("dr"))
	c.propose(c.node("branch"), "three of four")
	c.start(c.node("dr"))
	// And it is let go when nobody wants it any more.
	c.want = members
	c.untilVoters("dr primary witness")
	c.until("the removed one ends", 10*time.Second, func() bool { return n.core == nil })
	if !errors.Is(n.fate, quorum.ErrRemoved) {
		t.Errorf("it ended with %v", n.fate)
	}
	c.propose(c.elect(), "after")
	c.agree()
}

// A member that lost its disk comes back under another number. As long as the
// old one is alive it is refused.
func TestLostDiskIsReplaced(t *testing.T) {
	c := newCluster(t, 21, func(cfg *quorum.CoreConfig) { cfg.SnapshotEvery = 16 })
	c.want = members
	old := c.node("dr")
	old.mortal = true
	for _, n := range c.nodes {
		n.order = []draas.MemberID{"witness"}
	}
	c.until("the witness leads", 20*time.Second, func() bool { return c.leader() == c.node("witness") })
	c.propose(c.elect(), "before")
	c.run(time.Second)
	fresh := c.join("dr")
	// Both live: the new one has the address, the old one still talks.
	c.until("refused", 2*time.Second, func() bool { return strings.Contains(fresh.core.Status().Refused, "stop it first") })
	c.nodes[0], c.nodes[3] = c.nodes[3], c.nodes[0] // the old one gets its messages back
	c.run(10 * time.Second)
	if got := role(fresh); got != quorum.RoleJoining {
		t.Fatalf("while the old one lives, the new one is a %s", got)
	}
	before := voters(c.leader())
	disk := old.disk
	c.stop(old)
	c.until("the new one votes", 30*time.Second, func() bool { return role(fresh) == quorum.RoleVoter })
	c.untilVoters(before)
	if s := fresh.core.Status(); s.ID <= 1<<32 {
		t.Errorf("its number is %d", s.ID)
	}
	c.propose(fresh, "after")
	// The old machine finds its disk again, and is started at its address.
	old = &node{id: "dr", disk: disk, mortal: true}
	c.nodes = append(c.nodes, old)
	c.start(old)
	c.until("the old one ends", 10*time.Second, func() bool { return old.core == nil })
	if !errors.Is(old.fate, quorum.ErrRemoved) {
		t.Errorf("it ended with %v", old.fate)
	}
	c.stop(old)
	c.agree()
	// It could come back as a new one again.
	was, err := quorum.Rejoin(fresh.disk.Clone(), quorumtest.Bytes(9))
	if err != nil || was.Self != "dr" {
		t.Errorf("rejoin: %+v, %v", was, err)
	}
}

// The old one comes back while the new one learns already: the new one waits.
func TestLearnerWaitsForTheOldOne(t *testing.T) {
	c := newCluster(t, 27, nil)
	c.want = members
	for _, n := range c.nodes {
		n.order = []draas.MemberID{"witness"}
	}
	c.until("the witness leads", 20*time.Second, func() bool { return c.leader() == c.node("witness") })
	old := c.node("dr")
	c.stop(old)
	fresh := c.join("dr")
	c.until("learns", 20*time.Second, func() bool { return role(fresh) == quorum.RoleLearner })
	old.mortal = true
	c.nodes = slices.Insert(c.nodes, 0, old) // without the address: it talks
	c.config = func(cfg *quorum.CoreConfig) { cfg.Heartbeat, cfg.Election = heartbeat/5, election/5 }
	c.start(old)
	c.run(10 * time.Second)
	if got := role(fresh); got != quorum.RoleLearner {
		t.Fatalf("while the old one lives, the new one is a %s", got)
	}
	c.stop(old)
	c.until("it votes", 20*time.Second, func() bool { return role(fresh) == quorum.RoleVoter })
	c.propose(fresh, "after")
	c.agree()
}

// A leader that nobody wants hands over before it goes.
func TestUnwantedLeaderHandsOver(t *testing.T) {
	for _, out := range members {
		c := newCluster(t, 22, nil)
		for _, n := range c.nodes {
			n.order, n.mortal = []draas.MemberID{out}, true
		}
		c.until("it leads", 20*time.Second, func() bool { return c.leader() != nil && c.leader().id == out })
		c.want = slices.DeleteFunc(slices.Clone(members), func(m draas.MemberID) bool { return m == out })
		n := c.node(out)
		longest, last := time.Duration(0), c.now
		c.until("it is out", 20*time.Second, func() bool {
			if c.leader() != nil {
				last = c.now
			}
			longest = max(longest, c.now-last)
			return n.core == nil
		})
		if !errors.Is(n.fate, quorum.ErrRemoved) || longest > election {
			t.Errorf("%s ended with %v; nobody led for %v", out, n.fate, longest)
		}
		c.stop(n)
		c.propose(c.elect(), "the two go on")
	}
}

// Nobody is removed if that leaves no living majority.
func TestRemovalKeepsAMajorityAlive(t *testing.T) {
	c := newCluster(t, 23, nil)
	c.elect()
	c.crash(c.node("witness"))
	c.want = []draas.MemberID{"primary", "witness"}
	c.run(10 * time.Second)
	if got := voters(c.elect()); got != "dr primary witness" {
		t.Fatalf("with one of them dead, voters are %s", got)
	}
	c.start(c.node("witness"))
	c.node("dr").mortal = true
	c.untilVoters("primary witness")
	// A dead one can go: that makes things better.
	c = newCluster(t, 24, nil)
	c.elect()
	c.crash(c.node("witness"))
	c.want = []draas.MemberID{"dr", "primary"}
	c.untilVoters("dr primary")
	c.propose(c.elect(), "two of two")
}

// Goodbye of one of two voters: the other goes on alone, and takes it back.
func TestLeaveOfOneOfTwo(t *testing.T) {
	for _, leads := range []bool{true, false} {
		t.Run(fmt.Sprintf("leads=%v", leads), func(t *testing.T) {
			c := newCluster(t, 25, nil)
			c.elect()
			c.stop(c.node("witness"))
			c.want = []draas.MemberID{"dr", "primary"}
			c.untilVoters("dr primary")
			leader := c.elect()
			goes := c.node("dr")
			if (leader == goes) != leads {
				goes = c.node("primary")
			}
			stays := c.nodes[1-slices.Index(c.nodes, goes)]
			goes.mortal = true
			if err := goes.core.Leave(); err != nil {
				t.Fatal(err)
			}
			goes.due = c.now
			c.until("it is out", 20*time.Second, func() bool { return goes.core == nil })
			if !errors.Is(goes.fate, quorum.ErrRemoved) {
				t.Fatalf("it ended with %v", goes.fate)
			}
			c.until("the other leads alone", 10*time.Second, func() bool { return c.leader() == stays })
			c.propose(stays, "alone")
			if err := stays.core.Leave(); !errors.Is(err, quorum.ErrLastVoter) {
				t.Errorf("the last one leaves: %v", err)
			}
			// It comes back with a new number.
			if _, err := quorum.Rejoin(goes.disk, quorumtest.Bytes(c.rnd.Uint64())); err != nil {
				t.Fatal(err)
			}
			c.start(goes)
			c.until("back", 20*time.Second, func() bool { return role(goes) == quorum.RoleVoter })
			c.untilVoters("dr primary")
			c.propose(goes, "both")
			c.agree()
		})
	}
}

// A Leave that is taken back, or whose daemon dies, changes nothing for good.
func TestLeaveTakenBack(t *testing.T) {
	c := newCluster(t, 26, nil)
	l := c.elect()
	n := c.nodes[(slices.Index(c.nodes, l)+1)%3]
	for _, m := range c.nodes {
		if m != n {
			c.net.Cut(n.id, m.id)
		}
	}
	if err := n.core.Leave(); err != nil {
		t.Fatal(err)
	}
	c.run(time.Second)
	n.core.Stay()
	c.run(time.Second)
	c.net.HealAll()
	c.run(5 * time.Second)
	if got := voters(c.elect()); got != "dr primary witness" {
		t.Errorf("voters are %s", got)
	}
}
