// Package sim runs whole clusters of the real decision, permit, guard, effect
// and log code in one goroutine and simulated time. The network between them
// delays, drops, doubles, reorders and cuts; clocks drift, are stepped and
// stop; disks lose what was not synced; daemons, guards and machines die and
// come back between any two steps. After every event it is held against the
// rules of DESIGN.md, section 3, by an oracle of its own (oracle.go).
//
// A run is a Schedule: a seed and a list of faults. The same schedule gives
// the same run, also in another process. Scenario scripts a run by hand.
//
// The consensus library draws its election timeouts from crypto/rand.Reader;
// a run puts a seeded reader there while it lasts, so that only one run at a
// time may go on in a process, and nothing else that needs real randomness.
// More cores are used by more processes (cmd/sim).
package sim

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
	"github.com/draasd/draas/runbook/effecttest"
)

// cluster is the id of every simulated cluster.
var cluster = quorum.ClusterID{1}

// World is one simulated cluster.
type World struct {
	p       Params
	noise   *rand.Rand // what chance does while the run goes on
	now     time.Duration
	seq     uint64
	queue   queue
	mail    []letter  // under way, by number
	free    []int32   // numbers to be used again
	members []*member // and the twin of one, if it has one
	twin    *member
	sites   []*member // those of them that serve users
	links   [][]link
	parts   []*part
	units   []draas.ServiceID
	edges   []*edge
	waiting []Fault       // for a phase
	calm    bool          // all faults are over
	spins   bool          // it was given up
	felled  bool          // a device has switched a machine off
	struck  time.Duration // when a device last switched a machine off after that
	hooks   []func()
	oracle  *oracle
	cover   *Coverage
	result  Result
	trace   uint64
	telling bool
	story   strings.Builder
	log     *slog.Logger
	// receivers are what effects act on, by effect.
	receivers map[string]*effecttest.Receiver
	err       error
}

// part is a service that users reach: a unit of decision, or a part of one.
type part struct {
	id    draas.ServiceID
	unit  draas.ServiceID
	index int
	alive []bool // its process, by member and the twin
	// guarded: something closes it when its permit ends.
	guarded bool
	fence   draas.FenceKind
	first   int // of the sites, to be looked at for who serves
}

// letter is a message under way, and what its sender had promised before it.
type letter struct {
	quorum.Message
	from    *member
	promise promise
}

// link is one direction between two members.
type link struct {
	cuts    int
	loss    float64
	slow    time.Duration // added delay at most
	doubled float64
}

// Result is what came of a run.
type Result struct {
	Seed       uint64
	Violations []string
	Moves      int // completed, activations not counted
	Faults     int // that happened
	Events     uint64
	Simulated  time.Duration
	Trace      uint64 // hash of everything that happened
	Story      string
}

// after lets something happen later.
func (w *World) after(d time.Duration, do func()) {
	w.push(w.now+d, event{do: do})
}

func (w *World) push(at time.Duration, e event) {
	w.seq++
	w.queue.push(at, w.seq, e)
}

func (w *World) between(a, b time.Duration) time.Duration { return between(w.noise, a, b) }

// mix adds a number to the hash of what happened.
func (w *World) mix(n uint64) {
	w.trace = (w.trace ^ n) * 0x9e3779b97f4a7c15
	w.trace ^= w.trace >> 29
}

// note tells the story, if somebody listens. Frequent callers ask w.telling
// first, so that nothing is made up for nobody.
func (w *World) note(format string, args ...any) {
	if w.telling && w.story.Len() < maxStory {
		fmt.Fprintf(&w.story, "%9.3fs ", w.now.Seconds())
		fmt.Fprintf(&w.story, format, args...)
		w.story.WriteByte('\n')
	}
}

// maxViolations bounds what a run keeps.
const maxViolations = 20

func (w *World) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("VIOLATION %s", text)
	if len(w.result.Violations) < maxViolations {
		w.result.Violations = append(w.result.Violations, fmt.Sprintf("at %.3fs: %s", w.now.Seconds(), text))
	}
}

// newWorld builds the cluster; nothing has happened yet.
func newWorld(seed uint64, p Params, telling bool, cover *Coverage) (*World, error) {
	w := &World{
		p: p, noise: rand.New(rand.NewPCG(seed, 3)), telling: telling, cover: cover,
		log: slog.New(slog.DiscardHandler), result: Result{Seed: seed},
		receivers: make(map[string]*effecttest.Receiver), queue: newQueue(),
	}
	if cover == nil {
		w.cover = NewCoverage()
	}
	w.oracle = newOracle(w)
	ids := make([]draas.MemberID, 0, len(p.Machines))
	for _, m := range p.Machines {
		ids = append(ids, m.ID)
	}
	for id, s := range p.Policy.Services {
		w.units = append(w.units, id)
		for _, step := range s.Steps {
			w.receivers[step.Effect] = effecttest.NewReceiver()
		}
	}
	slices.Sort(w.units)
	for _, unit := range w.units {
		s := p.Policy.Services[unit]
		for _, id := range p.Policy.PartsOf(unit) {
			pt := &part{id: id, unit: unit, index: len(w.parts), alive: make([]bool, len(ids)+1), fence: s.Fence,
				guarded: s.Fence.OutlivesDaemon() && s.Fence != draas.FenceDevice && s.OnLeaseLoss != draas.LeaseLossServe}
			for i := range pt.alive {
				pt.alive[i] = true
			}
			w.parts = append(w.parts, pt)
		}
	}
	w.links = make([][]link, len(ids)+1)
	for i := range w.links {
		w.links[i] = make([]link, len(ids)+1)
	}
	for i, machine := range p.Machines {
		m := newMember(w, i, machine)
		if err := quorum.Bootstrap(m.disk, quorum.ClusterMeta{ClusterID: cluster, Self: m.id, Members: ids}); err != nil {
			return nil, fmt.Errorf("bootstrap %s: %w", m.id, err)
		}
		w.enter(m)
	}
	w.openEdges()
	for _, m := range w.members {
		w.after(w.between(0, 50*ms), m.start)
	}
	w.after(500*ms, w.activate)
	return w, nil
}

func (w *World) enter(m *member) {
	w.members = append(w.members, m)
	if m.site {
		w.sites = append(w.sites, m)
	}
}

func (w *World) member(id draas.MemberID) *member {
	for _, m := range w.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

// seats are the members without a twin.
func (w *World) seats() []*member { return w.members[:len(w.p.Machines)] }

func (w *World) part(id draas.ServiceID) *part {
	for _, p := range w.parts {
		if p.id == id {
			return p
		}
	}
	return nil
}

// reaches: a question goes there and its answer comes back.
func (w *World) reaches(from, to *member) bool {
	return w.links[from.index][to.index].cuts == 0 && w.links[to.index][from.index].cuts == 0 && !to.off && !to.stands()
}

// send carries a message, or loses, delays or doubles it.
func (w *World) send(from *member, msg quorum.Message) {
	to := w.address(msg.To)
	l := &w.links[from.index][to.index]
	if l.cuts > 0 || l.loss > 0 && w.noise.Float64() < l.loss {
		return
	}
	w.deliver(to, letter{msg, from, from.said}, w.p.Delay+w.between(0, w.p.Jitter+l.slow))
	if d := w.p.Doubled; d > 0 && w.noise.IntN(1000) < d || l.doubled > 0 && w.noise.Float64() < l.doubled {
		w.deliver(to, letter{msg, from, from.said}, w.p.Delay+w.between(0, w.p.Jitter+l.slow+w.p.Election))
	}
}

func (w *World) deliver(to *member, msg letter, in time.Duration) {
	var n int32
	if last := len(w.free) - 1; last >= 0 {
		n, w.free = w.free[last], w.free[:last]
		w.mail[n] = msg
	} else {
		n = int32(len(w.mail))
		w.mail = append(w.mail, msg)
	}
	w.push(w.now+in, event{typ: evMessage, to: to, msg: n})
}

// arrive takes message n to its member.
func (w *World) arrive(to *member, n int32) {
	msg := &w.mail[n]
	w.mixBytes(msg.Data)
	// What was under way when the link was cut is lost.
	from := msg.from
	alive := to.daemon != nil && !to.off && w.links[from.index][to.index].cuts == 0
	if alive {
		if len(to.inbox) < maxInbox {
			to.inbox = append(to.inbox, msg.Message)
		}
		if to.running() && msg.promise.beyond(from.heard) {
			from.heard = msg.promise
		}
	}
	msg.Data = nil
	w.free = append(w.free, n)
	if alive {
		to.process()
	}
}

// maxInbox bounds what waits for a frozen daemon, as the daemon's own does.
const maxInbox = 4096

func (w *World) mixBytes(b []byte) {
	h := uint64(len(b))
	for len(b) >= 8 {
		h = (h ^ (uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56)) * 0xff51afd7ed558ccd
		b = b[8:]
	}
	for _, c := range b {
		h = h*31 + uint64(c)
	}
	w.mix(h)
}

// activate is the operator who puts the services into use: asks until it is
// done, also when the answer was lost.
func (w *World) activate() {
	again := false
	for _, id := range w.units {
		if w.oracle.unit(id).highest > 0 {
			continue
		}
		again = true
		m := w.members[w.noise.IntN(len(w.members))]
		// Before the version in force knows all of the policy nobody starts.
		if m.running() && m.daemon.State().Version >= w.p.version() {
			w.ask(m, id, w.p.Policy.Services[id].Home, failover.Request{Move: failover.MoveActivate, Operator: "sim"})
		}
	}
	if again {
		w.after(time.Second, w.activate)
	}
}

// What a run takes at most: of some thousand schedules the longest has 18 000
// events, and 300 that wait. One that takes more never comes to rest.
const (
	maxEvents  = 1_000_000
	maxWaiting = 50_000
	maxStory   = 32 << 20 // bytes
)

// run lets events happen until a time, or until stop says so after one.
func (w *World) run(end time.Duration, stop func() bool) {
	for w.queue.len() > 0 && w.queue.next() <= end && !w.spins {
		if w.result.Events >= maxEvents || w.queue.len() > maxWaiting {
			w.spins = true
			w.violation("liveness: it does not come to rest: %d events, and %d wait", w.result.Events, w.queue.len())
			return
		}
		at, e := w.queue.pop()
		w.now = at
		w.result.Events++
		w.mix(uint64(at) ^ uint64(e.typ)<<60)
		switch e.typ {
		case evCall:
			e.do()
		case evMessage:
			w.arrive(e.to, e.msg)
		case evWake:
			if e.to.run == e.run && e.to.wakeAt == at {
				e.to.woken()
			}
		case evLook:
			e.to.look(e.run)
		}
		w.oracle.instant()
		for _, h := range w.hooks {
			h()
		}
		if stop != nil && stop() {
			return
		}
	}
	if !w.spins {
		w.now = end
	}
}

// settled: every unit has exactly one site that serves, no move is under way
// there as far as the site itself knows, and names lead to where users enter.
func (w *World) settled() bool {
	for _, p := range w.parts {
		open := 0
		for _, m := range w.members {
			if !m.open(p) {
				continue
			}
			open++
			if m.daemon == nil {
				return false
			}
			if sv := m.daemon.State().Services[p.unit]; sv == nil || sv.Phase.Moving() || sv.Active.Member() != m.id {
				return false
			}
		}
		if open != 1 {
			return false
		}
	}
	for _, m := range w.members {
		if m.running() && m.waits() {
			return false
		}
	}
	return w.enteredAll()
}

// simulated is what a schedule takes at least.
const simulated = 30 * time.Second

// play runs a schedule's world to its end: trouble, then the calm in which the
// cluster has to settle.
func (w *World) play(trouble, length time.Duration) {
	w.run(trouble, nil)
	w.heal()
	w.run(max(length, trouble), nil)
	for !w.spins && !w.settled() && w.now < w.late(trouble) {
		w.run(w.late(trouble), w.settled)
	}
	if !w.spins && !w.settled() {
		w.violation("liveness: %v after the last fault not every service has one active site and no move: %s", w.now-trouble, w.describe())
	}
	w.foundOut()
	w.result.Simulated = w.now
	w.result.Trace = w.trace
	w.result.Story = w.story.String()
}

// late is when everything must have settled: a bound after the last fault, or
// after the last machine that a device has switched off because of one.
func (w *World) late(trouble time.Duration) time.Duration {
	late := max(trouble, w.struck) + w.p.bound()
	for _, m := range w.members {
		if m.lost { // until it is found out, let in, and votes
			late += 12*w.p.Election + 6*w.p.Restart + 4*time.Second
		}
	}
	return late
}

// describe says where everybody stands, for a violation.
func (w *World) describe() string {
	var b strings.Builder
	for _, m := range w.members {
		fmt.Fprintf(&b, "%s:", m.id)
		switch {
		case m.off:
			b.WriteString(" off")
		case m.daemon == nil:
			fmt.Fprintf(&b, " no daemon (%v)", m.ended)
		default:
			s := m.daemon.Status()
			fmt.Fprintf(&b, " %s, applied %d", s.State, s.Applied)
			if m.waits() {
				fmt.Fprintf(&b, ", request %d is not decided", m.asked)
			}
		}
		for _, p := range w.parts {
			if m.daemon != nil {
				if sv := m.daemon.State().Services[p.unit]; sv != nil {
					fmt.Fprintf(&b, ", %s %s at %q epoch %s", p.id, sv.Phase, sv.Active, sv.Epoch)
				}
			}
			if m.open(p) {
				b.WriteString(" OPEN")
			}
		}
		b.WriteString("; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

// Run simulates one schedule. With story, the result tells it. What was
// covered is added to cover, if that is given.
func Run(s Schedule, story bool, cover *Coverage) (Result, error) {
	return runWorld(s, draw(rand.New(rand.NewPCG(s.Seed, 1))), story, cover, simulated, nil)
}

func runWorld(s Schedule, p Params, story bool, cover *Coverage, length time.Duration, prepare func(*World)) (Result, error) {
	defer quorumtest.SeedElections(s.Seed)()
	w, err := newWorld(s.Seed, p, story, cover)
	if err != nil {
		return Result{Seed: s.Seed}, fmt.Errorf("seed %d: %w", s.Seed, err)
	}
	for _, f := range s.Faults {
		w.after(f.At, func() { w.meet(f) })
	}
	if prepare != nil {
		prepare(w)
	}
	w.play(s.Trouble, length)
	if w.err != nil {
		return w.result, fmt.Errorf("seed %d: %w", s.Seed, w.err)
	}
	return w.result, nil
}
