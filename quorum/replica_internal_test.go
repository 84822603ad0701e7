package quorum

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// alone opens a replica of a cluster of one on a disk of this process.
func alone(t *testing.T, policy failover.Policy) (*Replica, *strings.Builder, func() (Output, error)) {
	t.Helper()
	dir := t.TempDir()
	disk, err := OpenOSDisk(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = disk.Close() })
	only := []draas.MemberID{"one"}
	if err := Bootstrap(disk, ClusterMeta{ClusterID: NewClusterID(), Self: "one", Members: only}); err != nil {
		t.Fatal(err)
	}
	log := new(strings.Builder)
	now := draas.Reading{Boot: time.Hour, Wall: 400_000 * time.Hour}
	r, err := OpenReplica(CoreConfig{Self: "one", Members: only, Heartbeat: 10 * time.Millisecond, Election: 50 * time.Millisecond,
		Disk: disk, Log: slog.New(slog.NewTextHandler(log, nil)), Rand: rand.Reader},
		failover.AgentConfig{Self: "one", Incarnation: 1, Boot: "b", Policy: policy, Resend: 50 * time.Millisecond}, now)
	if err != nil {
		t.Fatal(err)
	}
	return r, log, func() (Output, error) {
		now = now.Add(5 * time.Millisecond)
		return r.Process(now)
	}
}

// turn processes until the condition holds.
func turn(t *testing.T, process func() (Output, error), until func() bool) {
	t.Helper()
	for range 1000 {
		if until() {
			return
		}
		if _, err := process(); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("it does not come about")
}

// An entry that nobody understands is passed over: the log goes on, also after
// a restart.
func TestUnknownEntryIsPassedOver(t *testing.T) {
	r, log, process := alone(t, failover.Policy{Digest: "d"})
	turn(t, process, r.Greeted)
	for _, garbage := range []string{"{", `{"kind":"hello"}`, strings.Repeat("x", 1000)} {
		if err := r.core.Propose([]byte(garbage)); err != nil {
			t.Fatal(err)
		}
	}
	turn(t, process, func() bool { return strings.Count(log.String(), "passed over") == 3 })
	if _, err := r.Request("none", "", failover.Request{Move: failover.MoveSwitchover}, draas.Reading{Boot: 2 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	turn(t, process, func() bool { return len(r.State().History) == 3 })
}

// What a daemon proposes before the log knows of its start is void: an operator is
// told so instead.
func TestRequestBeforeTheStartIsKnown(t *testing.T) {
	r, _, process := alone(t, failover.Policy{Digest: "d"})
	ask := func() error {
		_, err := r.Request("shop", "", failover.Request{Move: failover.MoveSwitchover}, draas.Reading{Boot: 2 * time.Hour})
		return err
	}
	if err := ask(); !errors.Is(err, ErrStarting) {
		t.Fatalf("%v", err)
	}
	turn(t, process, r.Greeted)
	if err := ask(); err != nil {
		t.Fatal(err)
	}
}

// A policy that no entry can hold ends the daemon with a word about it.
func TestPolicyTooLarge(t *testing.T) {
	p := failover.Policy{Digest: "d", Services: make(map[draas.ServiceID]failover.ServicePolicy)}
	for i := range 2000 {
		p.Services[draas.ServiceID(strings.Repeat("s", 1+i%50)+string(rune('a'+i/50)))] = failover.ServicePolicy{Home: "primary"}
	}
	_, _, process := alone(t, p)
	for range 1000 {
		if _, err := process(); err != nil {
			if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "failover.toml") {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("it goes on without a policy")
}

// What only learns the log keeps no permit alive.
func TestLearnerRenewsNothing(t *testing.T) {
	const shop = draas.ServiceID("shop")
	members := []draas.MemberID{"one", "two"}
	policy := failover.Policy{Digest: "d",
		Members: []failover.MemberPolicy{{ID: "one", Role: draas.RoleSite, Domain: "east"}, {ID: "two", Role: draas.RoleWitness, Domain: "west"}},
		Services: map[draas.ServiceID]failover.ServicePolicy{shop: {
			Home: "one", Sites: []draas.SiteID{"one"}, Fence: draas.FencePath, Warm: true, Renew: 40 * time.Millisecond, Start: time.Second,
			Lease: draas.Lease{Length: 200 * time.Millisecond, Drift: 0.1, Margin: 10 * time.Millisecond},
		}},
	}
	now := draas.Reading{Boot: time.Hour, Wall: 400_000 * time.Hour}
	both := make(map[draas.MemberID]*Replica)
	for i, m := range members {
		disk, err := OpenOSDisk(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = disk.Close() })
		if err := Bootstrap(disk, ClusterMeta{ClusterID: ClusterID{1}, Self: m, Members: members}); err != nil {
			t.Fatal(err)
		}
		r, err := OpenReplica(CoreConfig{Self: m, Members: members, Heartbeat: 10 * time.Millisecond, Election: 50 * time.Millisecond,
			Disk: disk, Log: slog.New(slog.DiscardHandler), Rand: rand.Reader},
			failover.AgentConfig{Self: m, Incarnation: draas.Incarnation(i + 1), Boot: "b" + string(m), Policy: policy, Resend: 50 * time.Millisecond}, now)
		if err != nil {
			t.Fatal(err)
		}
		both[m] = r
	}
	one := both["one"]
	// step is a turn of both, five milliseconds apart; messages come at once.
	step := func() (Output, error) {
		now = now.Add(5 * time.Millisecond)
		for _, m := range members {
			out, err := both[m].Process(now)
			if err != nil {
				return out, err
			}
			for _, c := range out.Commands.Close {
				both[m].FenceClosed(c.Service, c.Epoch)
			}
			for _, msg := range out.Messages {
				both[msg.To].Receive(msg)
			}
		}
		return Output{}, nil
	}
	holds := func() bool { _, _, ok := one.Permit(shop, now); return ok }
	turn(t, step, func() bool { return one.Greeted() && both["two"].Greeted() })
	one.Look(failover.Observation{Service: shop, Site: "one", Verdict: draas.Healthy})
	one.Look(failover.Observation{Peer: "two", Verdict: draas.Healthy})
	both["two"].Look(failover.Observation{Peer: "one", Verdict: draas.Healthy})
	turn(t, step, func() bool { return now.Boot > time.Hour+2*time.Second })
	if _, err := one.Request(shop, "one", failover.Request{Move: failover.MoveActivate}, now); err != nil {
		t.Fatal(err)
	}
	turn(t, step, holds)
	since := now.Boot
	turn(t, step, func() bool { return now.Boot > since+time.Second })
	if !holds() {
		t.Fatal("a voter lost its permit")
	}
	// Only what the core says of itself: the library goes on as before.
	was := one.core.conf
	one.core.conf = &raftpb.ConfState{Learners: []uint64{1}, Voters: []uint64{2}}
	turn(t, step, func() bool { return !holds() })
	one.core.conf = was
	turn(t, step, holds)
}

// A snapshot that the decision could not go on from stops the member when it is
// read, not in the middle of something.
func TestRestoreRefusesNonsense(t *testing.T) {
	r := &Replica{agent: failover.NewAgent(failover.AgentConfig{Self: "dr"}, draas.Reading{})}
	for _, data := range []string{`{"services":{"shop":null}}`, `{"services":{"shop":{"phase":"fencing"}}}`, `{"members":{"dr":null}}`} {
		if err := r.Restore([]byte(data)); err == nil {
			t.Errorf("%s is taken", data)
		}
	}
	if err := r.Restore([]byte(`{"services":{"shop":{"phase":"normal"}},"index":7}`)); err != nil || r.index != 7 {
		t.Errorf("%v, index %d", err, r.index)
	}
}
