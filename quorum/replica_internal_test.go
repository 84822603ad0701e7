package quorum

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

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
