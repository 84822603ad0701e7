package quorum_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

func force(t testing.TB, disk quorum.Disk, seed uint64) (quorum.ClusterMeta, error) {
	t.Helper()
	return quorum.ForceGeneration(disk, quorum.ForceOptions{
		Entry:  func(g quorum.Generation) ([]byte, error) { return fmt.Appendf(nil, "generation %d", g.Number), nil },
		Random: quorumtest.Bytes(seed),
	})
}

// survivor fills a log, stops all, and says whose disk is left.
func survivor(c *cluster) *node {
	c.t.Helper()
	for i := range 40 {
		c.propose(c.elect(), fmt.Sprint("before ", i))
	}
	c.want = members
	for _, n := range c.nodes {
		n.mortal = true
		c.crash(n)
	}
	return c.node("dr")
}

func TestSurvivorStartsANewGeneration(t *testing.T) {
	for _, every := range []uint64{7, 1000} {
		c := newCluster(t, 60, func(cfg *quorum.CoreConfig) { cfg.SnapshotEvery = every })
		s := survivor(c)
		meta, err := force(t, s.disk, 1)
		if err != nil || meta.Generation.Number != 1 || meta.Generation.Fork == 0 {
			t.Fatalf("%+v, %v", meta, err)
		}
		c.start(s)
		c.until("it leads alone", 5*time.Second, func() bool { return c.leader() == s && len(s.machine.entries) > 0 })
		if last := s.machine.entries[len(s.machine.entries)-1]; last != "generation 1" || len(s.machine.entries) < 41 {
			t.Errorf("the first entry of the generation is %q, %d before it", last, len(s.machine.entries)-1)
		}
		c.propose(s, "alone")
		if got := voters(s); got != "dr" || s.core.Status().Generation != meta.Generation {
			t.Errorf("voters %s, generation %s", got, s.core.Status().Generation)
		}
		// The others are not dead after all: they are told, and end.
		for _, id := range []draas.MemberID{"primary", "witness"} {
			n := c.node(id)
			c.start(n)
			c.until("told", 20*time.Second, func() bool { return n.core == nil })
			if !errors.Is(n.fate, quorum.ErrGeneration) || !strings.Contains(n.fate.Error(), "draasd join") {
				t.Errorf("%s ended with %v", id, n.fate)
			}
			if _, err := quorum.Rejoin(n.disk, quorumtest.Bytes(c.rnd.Uint64())); err != nil {
				t.Fatal(err)
			}
			c.start(n)
			c.until("back", 20*time.Second, func() bool { return role(n) == quorum.RoleVoter })
		}
		c.untilVoters("dr primary witness")
		c.propose(c.node("witness"), "all")
		// The generation outlives a restart, of those who took it over too.
		for _, n := range c.nodes {
			c.crash(n)
			c.start(n)
			if n.core.Status().Generation != meta.Generation {
				t.Errorf("%s is of generation %s", n.id, n.core.Status().Generation)
			}
		}
		c.propose(c.elect(), "after a restart")
		c.agree()
	}
}

// What the majority goes on with while a survivor starts anew does not mix with
// it: not an entry of one is applied in the other.
func TestGenerationsDoNotMix(t *testing.T) {
	for seed := range uint64(10) {
		c := newCluster(t, 70+seed, nil)
		s := survivor(c)
		c.start(c.node("primary"))
		c.start(c.node("witness"))
		for range 1 + seed%4 { // their terms overtake the survivor's, or not
			l := c.elect()
			c.propose(l, "of the old ones")
			c.crash(l)
			c.start(l)
		}
		c.elect()
		if _, err := force(t, s.disk, 1); err != nil {
			t.Fatal(err)
		}
		c.net.Isolate("dr", members)
		c.start(s)
		c.until("it leads alone", 5*time.Second, func() bool { return s.core.Status().State == "leader" })
		c.propose(s, "of the new one")
		term := s.core.Status().Term
		c.net.HealAll()
		c.run(5 * time.Second)
		if got := s.core.Status(); got.Term != term || got.State != "leader" {
			t.Fatalf("the old ones made the leader of term %d a %s of term %d", term, got.State, got.Term)
		}
		for _, n := range c.nodes {
			if n != s && (n.core != nil || !errors.Is(n.fate, quorum.ErrGeneration)) {
				t.Fatalf("%s goes on, or ended with %v", n.id, n.fate)
			}
			if n != s && slices.Contains(n.machine.entries, "of the new one") || n == s && slices.Contains(n.machine.entries, "of the old ones") {
				t.Fatalf("%s has applied %q", n.id, n.machine.entries)
			}
		}
		c.propose(s, "it goes on")
	}
}

// A change of membership that was on its way is not carried out by a survivor:
// it alone votes, whatever its log says.
func TestForcedAmidAChange(t *testing.T) {
	c := newCluster(t, 64, nil)
	for _, n := range c.nodes {
		n.order = []draas.MemberID{"dr"}
	}
	s := c.node("dr")
	c.until("it leads", 20*time.Second, func() bool { return c.leader() == s })
	n := c.join("branch")
	c.want = []draas.MemberID{"branch", "dr", "primary", "witness"}
	c.until("learns", 20*time.Second, func() bool { return role(n) == quorum.RoleLearner })
	before := s.core.Status().Last
	c.until("it shall vote", 20*time.Second, func() bool { return s.core.Status().Last > before })
	c.net.Isolate("dr", c.ids())
	c.crash(s)
	if _, err := force(t, s.disk, 1); err != nil {
		t.Fatal(err)
	}
	c.want = nil
	c.net.Isolate("dr", c.ids())
	c.start(s)
	c.until("it leads alone", 5*time.Second, func() bool { return s.core.Status().State == "leader" })
	c.propose(s, "alone")
	if got := s.core.Status().Members; len(got) != 1 {
		t.Errorf("members %+v", got)
	}
}

// Two survivors that were both forced end each other: people have to decide.
func TestTwoForcedGenerations(t *testing.T) {
	c := newCluster(t, 61, nil)
	s := survivor(c)
	other := c.node("primary")
	for i, n := range []*node{s, other} {
		if _, err := force(t, n.disk, uint64(i)); err != nil {
			t.Fatal(err)
		}
		c.net.Isolate(n.id, members)
		c.start(n)
		n.core.Prefer(members, true)
	}
	c.until("both lead", 5*time.Second, func() bool {
		return s.core.Status().State == "leader" && other.core.Status().State == "leader"
	})
	c.net.HealAll()
	// A leader alone has nobody to talk to: one that looks for others does.
	third := c.node("witness")
	if _, err := quorum.Rejoin(third.disk, quorumtest.Bytes(5)); err != nil {
		t.Fatal(err)
	}
	c.start(third)
	c.until("one of them ends", 20*time.Second, func() bool { return s.core == nil || other.core == nil || third.core == nil })
	for _, n := range []*node{s, other, third} {
		if n.core == nil && !errors.Is(n.fate, quorum.ErrGeneration) {
			t.Errorf("%s ended with %v", n.id, n.fate)
		}
	}
}

// A crash at any point of Join, Rejoin and ForceGeneration leaves what was
// there, what shall be, or a directory that says how to go on.
func TestInterruptedPreparations(t *testing.T) {
	c := newCluster(t, 62, func(cfg *quorum.CoreConfig) { cfg.SnapshotEvery = 16 })
	s := survivor(c)
	before, err := quorum.ReadMeta(s.disk)
	if err != nil {
		t.Fatal(err)
	}
	open := func(d quorum.Disk) (quorum.CoreStatus, error) {
		core, err := quorum.OpenCore(quorum.CoreConfig{Self: "dr", Members: members, Heartbeat: heartbeat, Election: election,
			Disk: d, Machine: &applied{}, Log: quietLog(t), Rand: quorumtest.Bytes(1)})
		if err != nil {
			return quorum.CoreStatus{}, err
		}
		defer core.Close()
		return core.Status(), nil
	}
	for name, do := range map[string]func(quorum.Disk) error{
		"force": func(d quorum.Disk) error { _, err := force(t, d, 1); return err },
		"rejoin": func(d quorum.Disk) error {
			_, err := quorum.Rejoin(d, quorumtest.Bytes(1))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			seen := map[string]int{}
			for room := int64(0); ; room += 1 + room/8 {
				disk := s.disk.Clone()
				disk.Limit(room)
				failed := do(disk)
				for range 4 {
					left := disk.Crash(c.rnd)
					if failed == nil {
						left = disk.Clone()
					}
					status, err := open(left.Clone())
					switch {
					case errors.Is(err, quorum.ErrInterrupted):
						seen["interrupted"]++
						if err := do(left); err != nil {
							t.Fatalf("again: %v", err)
						}
						if status, err = open(left); err != nil || status.Generation.Number != 1 || len(status.Members) != 1 {
							t.Fatalf("done again: %+v, %v", status, err)
						}
					case err != nil:
						t.Fatalf("room for %d bytes: %v", room, err)
					case status.ID == before.RaftID || status.ID == 1 && status.Generation.Number == 0:
						seen["as before"]++
						if len(status.Members) != 3 || status.Last < 40 {
							t.Fatalf("neither: %+v", status)
						}
					case status.Generation.Number == 1:
						seen["forced"]++
						if len(status.Members) != 1 || status.Role != quorum.RoleVoter || status.Last < 40 {
							t.Fatalf("half forced: %+v", status)
						}
					default:
						seen["new"]++
						if status.Role != quorum.RoleJoining || status.Last != 0 || status.Term != 0 {
							t.Fatalf("half new: %+v", status)
						}
					}
				}
				if failed == nil {
					break
				}
			}
			if seen["as before"] == 0 || seen["forced"]+seen["new"] == 0 || name == "force" && seen["interrupted"] == 0 {
				t.Errorf("saw only %v", seen)
			}
		})
	}
}

func TestForceNeedsALog(t *testing.T) {
	disk := quorumtest.NewDisk()
	if _, err := force(t, disk, 1); !errors.Is(err, quorum.ErrNotBootstrapped) {
		t.Errorf("empty directory: %v", err)
	}
	if err := quorum.Join(disk, testCluster, "dr", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := force(t, disk, 1); err == nil {
		t.Error("a member without a log starts a generation")
	}
	if err := quorum.Join(disk, testCluster, "dr", nil); !errors.Is(err, quorum.ErrBootstrapped) {
		t.Errorf("join over a log: %v", err)
	}
	if err := quorum.Join(quorumtest.NewDisk(), quorum.ClusterID{}, "dr", nil); err == nil {
		t.Error("join of no cluster")
	}
}

// A data directory of the first format is opened, and goes on.
func TestFirstFormatIsRead(t *testing.T) {
	for _, kind := range []string{"init", "snapshot"} {
		t.Run(kind, func(t *testing.T) {
			disk := quorumtest.NewDisk()
			files, err := filepath.Glob(filepath.Join("testdata", "v1", kind, "*"))
			if err != nil || len(files) != 3 {
				t.Fatal(files, err)
			}
			for _, name := range files {
				data, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				disk.Set(filepath.Base(name), data)
			}
			c := newCluster(t, 63, nil)
			n := c.node("dr")
			c.crash(n)
			c.crash(c.node("primary"))
			n.disk = disk
			c.start(n)
			s := n.core.Status()
			if s.ID != 1 || s.Role != quorum.RoleVoter || s.Term != 2 || s.Last != 8 || len(s.Members) != 3 || s.Members[1].ID != "primary" {
				t.Fatalf("%+v", s)
			}
			// Of it and one with a disk fresh from init, it has the longer log.
			c.propose(c.elect(), "goes on")
			c.start(c.node("primary"))
			want := []string{"entry 0", "entry 1", "entry 2", "entry 3", "entry 4", "entry 5", "goes on"}
			if got := n.machine.entries; !slices.Equal(got, want) {
				t.Errorf("applied %q", got)
			}
			c.crash(n)
			c.start(n)
			c.propose(n, "and is read again")
			c.agree()
		})
	}
}
