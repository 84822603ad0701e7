package quorum_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

var members = []draas.MemberID{"dr", "primary", "witness"}

const (
	heartbeat = 50 * time.Millisecond
	election  = 300 * time.Millisecond
)

// quietLog hides the log unless the test is verbose.
func quietLog(t testing.TB) *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	return slog.New(slog.DiscardHandler)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// applied is a machine that remembers everything: the state is the list of all
// entries.
type applied struct {
	entries []string
	indexes []uint64
	refuse  error // of Snapshot
}

func (m *applied) Apply(index uint64, data []byte) {
	m.entries = append(m.entries, string(data))
	m.indexes = append(m.indexes, index)
}

func (m *applied) Snapshot() ([]byte, error) {
	if m.refuse != nil {
		return nil, m.refuse
	}
	var b []byte
	for i, e := range m.entries {
		b = binary.AppendUvarint(b, m.indexes[i])
		b = binary.AppendUvarint(b, uint64(len(e)))
		b = append(b, e...)
	}
	return b, nil
}

func (m *applied) Restore(data []byte) error {
	m.entries, m.indexes = nil, nil
	for len(data) > 0 {
		index, n := binary.Uvarint(data)
		size, k := binary.Uvarint(data[n:])
		data = data[n+k:]
		m.Apply(index, data[:size])
		data = data[size:]
	}
	return nil
}

// node is one machine of a simulated cluster; core is nil while it is down.
// Several can have a member's name: the last of them has its address, and gets
// its messages.
type node struct {
	id      draas.MemberID
	disk    *quorumtest.Disk
	core    *quorum.Core
	machine *applied
	order   []draas.MemberID
	due     time.Duration
	// mortal: its core may end with an error, which fate keeps.
	mortal bool
	fate   error
}

// cluster runs members in simulated time.
type cluster struct {
	t     testing.TB
	rnd   *rand.Rand
	net   *quorumtest.Network
	now   time.Duration
	nodes []*node
	// config changes a member's configuration.
	config func(*quorum.CoreConfig)
	trace  []string
	// tell makes a crash visible to the others by a reset of connections.
	tell     bool
	failures int // of disks
	want     []draas.MemberID
	silent   bool       // no trace is kept
	past     []*applied // machines that were given up
}

var testCluster = quorum.ClusterID{1, 2, 3}

func bootstrap(t testing.TB, disk quorum.Disk, self draas.MemberID) {
	t.Helper()
	err := quorum.Bootstrap(disk, quorum.ClusterMeta{ClusterID: testCluster, Self: self, Members: members})
	if err != nil {
		t.Fatal(err)
	}
}

func newCluster(t testing.TB, seed uint64, config func(*quorum.CoreConfig)) *cluster {
	t.Cleanup(quorumtest.SeedElections(seed))
	rnd := rand.New(rand.NewPCG(seed, 1))
	c := &cluster{t: t, rnd: rnd, net: quorumtest.NewNetwork(rnd), now: time.Second, config: config}
	for _, id := range members {
		n := &node{id: id, disk: quorumtest.NewDisk()}
		bootstrap(t, n.disk, id)
		c.nodes = append(c.nodes, n)
		c.start(n)
	}
	return c
}

func (c *cluster) reading() draas.Reading {
	return draas.Reading{Boot: c.now, Wall: c.now + 1e18}
}

// start opens a member's core. It reports false if its disk does not let it.
func (c *cluster) start(n *node) bool {
	n.machine = &applied{}
	cfg := quorum.CoreConfig{
		Self: n.id, Members: members, Heartbeat: heartbeat, Election: election, Disk: n.disk, Machine: n.machine,
		Log: quietLog(c.t), Rand: quorumtest.Bytes(c.rnd.Uint64()),
	}
	if c.config != nil {
		c.config(&cfg)
	}
	core, err := quorum.OpenCore(cfg)
	if err != nil {
		if n.disk.Failures() > 0 {
			return false
		}
		c.t.Fatalf("%s: %v", n.id, err)
	}
	n.core, n.due = core, c.now
	return true
}

// crash stops a member and leaves its disk as a power loss would.
func (c *cluster) crash(n *node) {
	n.core = nil
	c.failures += n.disk.Failures()
	n.disk = n.disk.Crash(c.rnd)
	c.net.Forget(n.id)
	if c.tell {
		for _, m := range c.nodes {
			if m != n && m.core != nil {
				m.core.PeerDown(n.id)
				m.due = c.now
			}
		}
	}
}

// process steps one member. A failed core is a crash.
func (c *cluster) process(n *node) {
	n.core.Tick(c.reading())
	n.core.Prefer(n.order, true)
	n.core.Want(c.want)
	out, err := n.core.Process()
	if err != nil {
		if n.mortal && n.disk.Failures() == 0 {
			n.core, n.fate = nil, err
			return
		}
		if n.disk.Failures() == 0 {
			c.t.Fatalf("%s: %v", n.id, err)
		}
		if len(out) > 0 {
			c.t.Fatalf("%s: a failed core sends %v", n.id, out)
		}
		c.crash(n)
		return
	}
	for _, m := range out {
		if c.silent {
			break
		}
		c.trace = append(c.trace, fmt.Sprintf("%v %v %x", c.now, m, m.Data))
	}
	c.net.Send(c.now, out)
	n.due = c.now + n.core.NextDeadline(c.reading())
}

// step goes to the next event, not beyond a time.
func (c *cluster) step(until time.Duration) {
	next := until
	if at, ok := c.net.Next(); ok {
		next = min(next, at)
	}
	for _, n := range c.nodes {
		if n.core != nil {
			next = min(next, n.due)
		}
	}
	c.now = max(c.now, next)
	for _, m := range c.net.Deliver(c.now) {
		if n := c.node(m.To); n != nil && n.core != nil {
			n.core.Receive(m)
			n.due = c.now
		}
	}
	for _, n := range c.nodes {
		if n.core != nil && n.due <= c.now {
			c.process(n)
		}
	}
}

func (c *cluster) run(d time.Duration) {
	for until := c.now + d; c.now < until; {
		c.step(until)
	}
}

// until runs until something holds.
func (c *cluster) until(what string, d time.Duration, holds func() bool) time.Duration {
	c.t.Helper()
	start := c.now
	for !holds() {
		if c.now >= start+d {
			for _, n := range c.nodes {
				if n.core != nil {
					c.t.Logf("%s: %+v", n.id, n.core.Status())
				}
			}
			c.t.Fatalf("not within %v: %s", d, what)
		}
		c.step(start + d)
	}
	return c.now - start
}

func (c *cluster) node(id draas.MemberID) *node {
	for _, n := range slices.Backward(c.nodes) {
		if n.id == id {
			return n
		}
	}
	return nil
}

// leader is the member that leads in the highest term, nil if none does.
func (c *cluster) leader() *node {
	var best *node
	var term uint64
	for _, n := range c.nodes {
		if n.core == nil {
			continue
		}
		if s := n.core.Status(); s.State == "leader" && s.Term > term {
			best, term = n, s.Term
		}
	}
	return best
}

func (c *cluster) elect() *node {
	c.t.Helper()
	c.until("a leader that all follow", 10*time.Second, func() bool {
		l := c.leader()
		if l == nil {
			return false
		}
		for _, n := range c.nodes {
			if n.core != nil && n.core.Status().Leader != l.id {
				return false
			}
		}
		return true
	})
	return c.leader()
}

// propose gives an entry to a member and runs until that member has applied it.
func (c *cluster) propose(n *node, data string) {
	c.t.Helper()
	c.until("applied "+data, 20*time.Second, func() bool {
		if slices.Contains(n.machine.entries, data) {
			return true
		}
		_ = n.core.Propose([]byte(data)) // may be lost: proposed until applied
		n.due = c.now
		c.run(10 * time.Millisecond)
		return slices.Contains(n.machine.entries, data)
	})
}

// agree checks that all machines have applied the same at the same index.
func (c *cluster) agree() {
	c.t.Helper()
	at := map[uint64]string{}
	for _, n := range c.nodes {
		if n.machine == nil {
			continue
		}
		last := uint64(0)
		for i, index := range n.machine.indexes {
			e := n.machine.entries[i]
			if index <= last {
				c.t.Fatalf("%s applied index %d after %d", n.id, index, last)
			}
			last = index
			if old, ok := at[index]; ok && old != e {
				c.t.Fatalf("%s applied %q at %d, another %q", n.id, e, index, old)
			}
			at[index] = e
		}
	}
}
