package quorum_test

import (
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
)

// BenchmarkCore runs three cores for a simulated second in which they commit
// twenty proposals: what the simulator does all the time.
func BenchmarkCore(b *testing.B) {
	defer quorumtest.SeedElections(1)()
	net := quorumtest.NewNetwork(rand.New(rand.NewPCG(1, 1)))
	now := time.Second
	reading := func() draas.Reading { return draas.Reading{Boot: now, Wall: now + 1e18} }
	var cores []*quorum.Core
	due := make([]time.Duration, len(members))
	for i, id := range members {
		disk := quorumtest.NewDisk()
		bootstrap(b, disk, id)
		core, err := quorum.OpenCore(quorum.CoreConfig{
			Self: id, Members: members, Heartbeat: heartbeat, Election: election, Disk: disk, Machine: &nothing{},
			Log: slog.New(slog.DiscardHandler), Rand: quorumtest.Bytes(uint64(i)), SnapshotEvery: 64,
		})
		if err != nil {
			b.Fatal(err)
		}
		cores = append(cores, core)
	}
	messages := 0
	run := func(until time.Duration) {
		for now < until {
			next := until
			if at, ok := net.Next(); ok {
				next = min(next, at)
			}
			for _, at := range due {
				next = min(next, at)
			}
			now = max(now, next)
			for _, m := range net.Deliver(now) {
				messages++
				for i, id := range members {
					if id == m.To {
						cores[i].Receive(m)
						due[i] = now
					}
				}
			}
			for i, core := range cores {
				if due[i] <= now {
					core.Tick(reading())
					out, err := core.Process()
					if err != nil {
						b.Fatal(err)
					}
					net.Send(now, out)
					due[i] = now + core.NextDeadline(reading())
				}
			}
		}
	}
	run(5 * time.Second)
	data := make([]byte, 200)
	messages = 0
	b.ReportAllocs()
	for b.Loop() {
		for i := range 20 {
			if err := cores[i%3].Propose(data); err != nil {
				b.Fatal(err)
			}
			due[i%3] = now
			run(now + 50*time.Millisecond)
		}
	}
	b.ReportMetric(float64(messages)/float64(b.N), "messages/op")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(messages), "ns/message")
}

// nothing is a machine without state.
type nothing struct{}

func (nothing) Apply(uint64, []byte)      {}
func (nothing) Snapshot() ([]byte, error) { return []byte("state"), nil }
func (nothing) Restore([]byte) error      { return nil }
