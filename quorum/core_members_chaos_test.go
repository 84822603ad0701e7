package quorum_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

// comings counts what happened in a run of comings and goings.
type comings struct{ joins, removals, replaced, leaves, rollbacks, crashes int }

// settle heals everything and runs until the members are those that are wanted.
func (c *cluster) settle() {
	c.t.Helper()
	c.net.HealAll()
	c.net.Drop, c.net.Duplicate = 0, 0
	for _, n := range c.nodes {
		if n.core != nil {
			n.core.Stay()
		}
	}
	c.run(2 * time.Second) // what was asked for before is done, or forgotten
	want := fmt.Sprint(c.want)
	c.until("members are "+want, 2*time.Minute, func() bool {
		for _, n := range c.nodes {
			if n.core == nil {
				c.revive(n)
			}
		}
		l := c.leader()
		return l != nil && "["+voters(l)+"]" == want && !slices.ContainsFunc(c.nodes, func(n *node) bool {
			return slices.Contains(c.want, n.id) && (n.core == nil || role(n) != quorum.RoleVoter || "["+voters(n)+"]" != want)
		})
	})
}

// revive starts a machine that is down. One that is out comes back as new.
func (c *cluster) revive(n *node) {
	c.t.Helper()
	if n.fate != nil {
		if !errors.Is(n.fate, quorum.ErrRemoved) && !errors.Is(n.fate, quorum.ErrLostLog) {
			c.t.Fatalf("%s ended with %v", n.id, n.fate)
		}
		if _, err := quorum.Rejoin(n.disk, quorumtest.Bytes(c.rnd.Uint64())); err != nil {
			c.t.Fatal(err)
		}
		c.past = append(c.past, n.machine)
		n.fate = nil
	}
	n.disk = n.disk.Crash(c.rnd)
	c.start(n)
}

// Members come and go, lose their disks and are set back, in a network and on
// machines that fail. No two ever apply different entries at an index, what was
// applied stays, and in the end those belong who shall.
func TestComingsAndGoings(t *testing.T) {
	var did comings
	for seed := range uint64(24) {
		comingsAndGoings(t, 100+seed, 40, &did)
	}
	t.Logf("%+v", did)
	if did.joins < 20 || did.removals < 20 || did.replaced < 20 || did.leaves < 20 || did.rollbacks < 10 || did.crashes < 100 {
		t.Errorf("too little happened: %+v", did)
	}
}

func comingsAndGoings(t *testing.T, seed uint64, rounds int, did *comings) {
	c := newCluster(t, seed, func(cfg *quorum.CoreConfig) {
		cfg.SnapshotEvery, cfg.SnapshotKeep = 16, 4
		cfg.Members = []draas.MemberID{"branch", "dr", "office", "primary", "witness"}
	})
	c.silent = true
	c.tell = seed%2 == 0
	for _, n := range c.nodes {
		n.mortal = true
	}
	c.want = slices.Clone(members)
	c.net.MaxDelay = 20 * time.Millisecond
	for i := range rounds {
		c.net.Drop, c.net.Duplicate = c.rnd.Float64()*0.2, c.rnd.Float64()*0.2
		n := c.nodes[c.rnd.IntN(len(c.nodes))]
		c.happen(i, n, did)
		for k := range 4 {
			n := c.nodes[c.rnd.IntN(len(c.nodes))]
			if n.core != nil {
				_ = n.core.Propose(fmt.Appendf(nil, "%d.%d", i, k)) // may be refused or lost
				n.due = c.now
			}
			c.run(time.Duration(c.rnd.IntN(300)) * time.Millisecond)
		}
		c.agree()
		for _, n := range c.nodes {
			if n.core == nil && c.rnd.IntN(3) == 0 {
				c.revive(n)
			}
		}
	}
	c.settle()
	c.propose(c.elect(), "the end")
	c.run(time.Second)
	c.agree()
	c.remember()
}

// happen does one of the things that happen, to a machine or to all.
func (c *cluster) happen(i int, n *node, did *comings) {
	switch c.rnd.IntN(12) {
	case 0, 1:
		if n.core != nil {
			c.crash(n)
			did.crashes++
		}
	case 2:
		c.net.Isolate(n.id, c.ids())
	case 3:
		c.net.Cut(n.id, c.nodes[c.rnd.IntN(len(c.nodes))].id)
	case 4, 5:
		c.net.HealAll()
	case 6: // somebody new
		for _, id := range []draas.MemberID{"branch", "office"} {
			if !slices.Contains(c.want, id) && c.node(id) == nil {
				c.join(id)
				c.want = append(slices.Clone(c.want), id)
				slices.Sort(c.want)
				did.joins++
				break
			}
		}
	case 7:
		c.fewer(did)
	case 8, 9: // a disk is lost
		c.settle()
		c.past = append(c.past, n.machine)
		c.stop(n)
		c.join(n.id)
		did.replaced++
	case 10: // a Goodbye
		if n.core != nil && n.core.Leave() == nil {
			n.due = c.now
			did.leaves++
		}
	case 11: // a snapshot is put back
		c.settle()
		old := n.disk.Clone()
		c.propose(c.elect(), fmt.Sprintf("%d lost by %s", i, n.id))
		c.run(time.Second)
		if n.core == nil { // it had asked to be let go
			break
		}
		c.crash(n)
		c.past = append(c.past, n.machine)
		n.disk = old
		c.start(n)
		c.until("found out", 20*time.Second, func() bool { return n.core == nil })
		if !errors.Is(n.fate, quorum.ErrLostLog) && !errors.Is(n.fate, quorum.ErrRemoved) {
			c.t.Fatalf("set back, %s ended with %v", n.id, n.fate)
		}
		did.rollbacks++
	}
}

// fewer makes one member unwanted, or lets those back in whom that befell.
func (c *cluster) fewer(did *comings) {
	if len(c.want) > 3 {
		gone := c.want[c.rnd.IntN(len(c.want))]
		if id := draas.MemberID("witness"); slices.Contains(c.want, id) && c.rnd.IntN(2) == 0 {
			gone = id
		}
		c.want = slices.DeleteFunc(slices.Clone(c.want), func(m draas.MemberID) bool { return m == gone })
		c.settle()
		c.past = append(c.past, c.node(gone).machine)
		c.stop(c.node(gone))
		did.removals++
	} else if c.node("witness") == nil || c.node("dr") == nil || c.node("primary") == nil {
		for _, id := range members {
			if c.node(id) == nil {
				c.join(id)
				c.want = append(slices.Clone(c.want), id)
				slices.Sort(c.want)
				did.joins++
			}
		}
	}
}

func (c *cluster) ids() []draas.MemberID {
	var all []draas.MemberID
	for _, n := range c.nodes {
		all = append(all, n.id)
	}
	return all
}

// remember checks that what any machine has ever applied, the leader's has.
func (c *cluster) remember() {
	c.t.Helper()
	final := map[uint64]string{}
	m := c.leader().machine
	for i, index := range m.indexes {
		final[index] = m.entries[i]
	}
	for _, old := range c.past {
		for i, index := range old.indexes {
			if final[index] != old.entries[i] {
				c.t.Fatalf("%q was applied at %d once, now it is %q", old.entries[i], index, final[index])
			}
		}
	}
}
