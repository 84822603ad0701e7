package quorum_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

// daemon is a member as draasd runs it: one goroutine around a core, a real
// disk, and a real transport.
type daemon struct {
	*peerTest
	core    *quorum.Core
	inbox   chan quorum.Message
	down    chan draas.MemberID
	propose chan []byte
	applied chan uint64 // numbers of proposals, see counter
	leads   atomic.Bool
	quit    func()
}

// counter is a machine that tells which proposals it has applied, by the number
// that they start with.
type counter struct{ applied chan uint64 }

func (m counter) Apply(_ uint64, data []byte) {
	select {
	case m.applied <- binary.BigEndian.Uint64(data):
	default:
	}
}
func (counter) Snapshot() ([]byte, error) { return []byte("state"), nil }
func (counter) Restore([]byte) error      { return nil }

// startDaemons runs a cluster on loopback.
func startDaemons(t testing.TB) []*daemon {
	ca := authority(t)
	addr := map[draas.MemberID]string{}
	var all []*daemon
	for _, m := range members {
		ln := listen(t)
		addr[m] = ln.Addr().String()
		d := &daemon{
			inbox: make(chan quorum.Message, 4096), down: make(chan draas.MemberID, 64),
			propose: make(chan []byte, 4096), applied: make(chan uint64, 1<<16),
		}
		all = append(all, d)
		t.Cleanup(func() {
			if d.peerTest == nil {
				ln.Close()
			}
		})
		d.peerTest = &peerTest{id: m, files: identity(t, ca, ca, m, valid())}
		disk := osDisk(t)
		bootstrap(t, disk, m)
		var err error
		d.core, err = quorum.OpenCore(quorum.CoreConfig{
			Self: m, Members: members, Heartbeat: heartbeat, Election: election, Disk: disk,
			Machine: counter{d.applied}, Log: quietLog(t), Rand: quorumtest.Bytes(uint64(len(all))),
		})
		if err != nil {
			t.Fatal(err)
		}
		d.peerTest.stop = func() { ln.Close() }
		defer func() {
			peers := map[draas.MemberID]string{}
			for _, other := range members {
				if other != m {
					peers[other] = addr[other]
				}
			}
			d.peerTest = startPeer(t, m, ln, peers, d.files, func(c *quorum.TransportConfig) {
				c.Inbox = func(m quorum.Message) { d.inbox <- m }
				c.PeerDown = func(m draas.MemberID) { d.down <- m }
			})
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- d.run(ctx) }()
			var over atomic.Bool
			d.quit = func() {
				if over.Swap(true) {
					return
				}
				d.peerTest.stop()
				cancel()
				if err := <-done; err != nil {
					t.Errorf("%s: %v", m, err)
				}
			}
			t.Cleanup(d.quit)
		}()
	}
	return all
}

// run is the main loop.
func (d *daemon) run(ctx context.Context) error {
	start := time.Now()
	reading := func() draas.Reading { return draas.Reading{Boot: time.Second + time.Since(start)} }
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return d.core.Close()
		case m := <-d.inbox:
			d.core.Receive(m)
		case m := <-d.down:
			d.core.PeerDown(m)
		case p := <-d.propose:
			_ = d.core.Propose(p) // the test proposes again
		case <-timer.C:
		}
		for more := true; more; {
			select {
			case m := <-d.inbox:
				d.core.Receive(m)
			case p := <-d.propose:
				_ = d.core.Propose(p)
			default:
				more = false
			}
		}
		d.core.Tick(reading())
		out, err := d.core.Process()
		if err != nil {
			return err
		}
		d.Send(out)
		d.leads.Store(d.core.Status().State == "leader")
		timer.Reset(d.core.NextDeadline(reading()))
	}
}

func leaderOf(t testing.TB, all []*daemon) *daemon {
	t.Helper()
	var l *daemon
	eventually(t, "a leader", func() bool {
		i := slices.IndexFunc(all, func(d *daemon) bool { return d.leads.Load() })
		if i >= 0 {
			l = all[i]
		}
		return i >= 0
	})
	return l
}

// commit proposes until it is applied, and returns how long that took.
func (d *daemon) commit(t testing.TB, number uint64, size int) time.Duration {
	data := make([]byte, size)
	binary.BigEndian.PutUint64(data, number)
	start := time.Now()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-retry.C:
			d.propose <- data
			retry.Reset(200 * time.Millisecond)
		case n := <-d.applied:
			if n == number {
				return time.Since(start)
			}
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("proposal %d was not committed", number)
		}
	}
}

func TestRealClusterSurvivesItsLeader(t *testing.T) {
	all := startDaemons(t)
	l := leaderOf(t, all)
	for i := range uint64(20) {
		all[i%3].commit(t, i, 100)
	}
	eventually(t, "all are connected", func() bool {
		return !slices.ContainsFunc(all, func(d *daemon) bool {
			return slices.ContainsFunc(d.Status(), func(s quorum.PeerStatus) bool { return !s.Connected || !s.Inbound })
		})
	})
	start := time.Now()
	l.quit()
	rest := slices.DeleteFunc(slices.Clone(all), func(d *daemon) bool { return d == l })
	next := leaderOf(t, rest)
	took := time.Since(start)
	next.commit(t, 100, 100)
	t.Logf("new leader after %v, first commit after %v", took, time.Since(start))
	if took > 2*election {
		t.Errorf("a leader that is gone was replaced after %v", took)
	}
	for _, d := range rest {
		d.quit()
	}
}

// BenchmarkCommit measures one proposal after the other, from the leader's
// main loop taking it to the leader having applied it.
func BenchmarkCommit(b *testing.B) {
	all := startDaemons(b)
	l := leaderOf(b, all)
	l.commit(b, 1<<40, 100)
	times := make([]time.Duration, 0, 1<<16)
	number := uint64(0)
	for b.Loop() {
		number++
		times = append(times, l.commit(b, number, 100))
	}
	slices.Sort(times)
	at := func(q float64) float64 {
		return float64(times[int(q*float64(len(times)-1))].Microseconds())
	}
	for name, q := range map[string]float64{"p50": 0.5, "p99": 0.99, "max": 1} {
		b.ReportMetric(at(q), fmt.Sprint(name, "-µs"))
	}
}
