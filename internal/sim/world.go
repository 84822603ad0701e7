// Package sim runs whole clusters of the real decision, permit and log code in
// one goroutine and simulated time, over a network that loses, delays,
// doubles and cuts, with crashes between any two steps, and looks after every
// step whether the rules still hold.
//
// The same seed gives the same run. The consensus library draws its election
// timeouts from crypto/rand.Reader; Run puts a seeded reader there while it
// lasts, so only one Run at a time may go on in a process, and nothing else
// that needs real randomness.
package sim

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum/quorumtest"
)

const ms = time.Millisecond

// service is the one that the simulated users want.
const service draas.ServiceID = "shop"

// Options says what to simulate.
type Options struct {
	Seed uint64
	// Trouble is how long faults are injected, Calm how long afterwards the
	// cluster has to come to exactly one active site.
	Trouble, Calm time.Duration
	// Story keeps a line for everything that happens.
	Story bool
}

// Result is what came of a run.
type Result struct {
	Seed       uint64
	Violations []string
	Moves      int // completed, activations not counted
	Faults     int
	Phases     map[failover.Phase]bool
	FaultKinds map[string]int
	Trace      uint64 // hash of everything that happened
	Story      string
}

// World is one simulated cluster.
type World struct {
	opt     Options
	rng     *rand.Rand
	now     time.Duration
	seq     uint64
	queue   events
	members []*member
	links   map[link]*linkState
	up      map[draas.SiteID]bool // the service's process, per site
	result  Result
	trace   hash.Hash64
	story   strings.Builder
	log     *slog.Logger
	epochs  map[draas.Epoch]draas.SiteID // who was granted which epoch
	highest draas.Epoch
	calm    bool
}

type link struct{ from, to draas.MemberID }

// linkState is one direction between two members.
type linkState struct {
	cut  bool
	loss float64
	slow time.Duration // added delay at most
}

type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || (e[i].at == e[j].at && e[i].seq < e[j].seq)
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// after lets something happen later.
func (w *World) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + d, w.seq, do})
}

// between draws a duration.
func (w *World) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.rng.Int64N(int64(b-a)+1))
}

func (w *World) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(w.now))
	// Writing to a hash never fails.
	_, _ = w.trace.Write(at[:])
	_, _ = w.trace.Write([]byte(line))
	if w.opt.Story {
		fmt.Fprintf(&w.story, "%10.3fs %s\n", w.now.Seconds(), line)
	}
}

func (w *World) violation(format string, args ...any) {
	text := fmt.Sprintf("at %.3fs: ", w.now.Seconds()) + fmt.Sprintf(format, args...)
	if len(w.result.Violations) < 20 {
		w.result.Violations = append(w.result.Violations, text)
	}
	w.note("VIOLATION %s", text)
}

// Run simulates one seed.
func Run(opt Options) (Result, error) {
	restore := quorumtest.SeedElections(opt.Seed)
	defer restore()
	w := &World{
		opt: opt, rng: rand.New(rand.NewPCG(opt.Seed, 0x9e3779b97f4a7c15)),
		links: make(map[link]*linkState), up: map[draas.SiteID]bool{"primary": true, "dr": true},
		trace: fnv.New64a(), log: slog.New(slog.DiscardHandler), epochs: make(map[draas.Epoch]draas.SiteID),
		result: Result{Seed: opt.Seed, Phases: make(map[failover.Phase]bool), FaultKinds: make(map[string]int)},
	}
	if err := w.build(); err != nil {
		return w.result, err
	}
	w.after(w.between(500*ms, time.Second), w.activate)
	w.after(2*time.Second, w.trouble)
	w.runUntil(opt.Trouble)
	w.heal()
	w.runUntil(opt.Trouble + opt.Calm)
	w.checkLive()
	w.result.Trace = w.trace.Sum64()
	w.result.Story = w.story.String()
	for _, m := range w.members {
		if m.failed != nil {
			return w.result, fmt.Errorf("seed %d: member %s: %w", opt.Seed, m.id, m.failed)
		}
	}
	return w.result, nil
}

func (w *World) runUntil(end time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
		w.check()
	}
	w.now = end
}

// check looks at what must hold at every instant.
func (w *World) check() {
	var serving []draas.MemberID
	for _, m := range w.members {
		if m.gateOpen() {
			serving = append(serving, m.id)
		}
	}
	if len(serving) > 1 {
		w.violation("rule 1: two sites serve: %v", serving)
	}
}

// granted is told of every activation that a member applies.
func (w *World) granted(by draas.MemberID, site draas.SiteID, epoch draas.Epoch) {
	if was, known := w.epochs[epoch]; known && was != site {
		w.violation("section 4: epoch %d was granted to %s, and %s applied it for %s", epoch, was, by, site)
	}
	w.epochs[epoch] = site
	w.highest = max(w.highest, epoch)
}

// checkLive: once the faults are over, exactly one site is active within the
// calm time, and it serves.
func (w *World) checkLive() {
	if w.highest == 0 {
		w.violation("liveness: nothing was ever activated")
		return
	}
	open := 0
	for _, m := range w.members {
		if m.gateOpen() {
			open++
		}
	}
	if open != 1 {
		w.violation("liveness: %d sites serve %v after the last fault", open, w.opt.Calm)
	}
}
