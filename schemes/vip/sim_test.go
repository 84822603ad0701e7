package vip

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/draasd/draas"
)

// The simulation runs members and frontends over a network that loses, delays
// and doubles, with clocks that are as wrong as they may be, and looks at every
// instant at which a fence opens whether another one is open.

const (
	simLease = 300 * time.Millisecond
	drift    = 0.1
)

var simTerms = map[string]Terms{"web": {Lease: draas.Lease{Length: simLease, Drift: drift, Margin: 20 * time.Millisecond}, Holders: []string{"a", "b", "c"}}}

// host has clocks of its own.
type host struct {
	rate   float64
	offset time.Duration
}

func (h host) read(at time.Duration) draas.Reading {
	boot := h.offset + time.Duration(float64(at)*h.rate)
	return draas.Reading{Boot: boot, Wall: boot + time.Hour}
}

// true is when the host's boot clock shows a time.
func (h host) at(boot time.Duration) time.Duration {
	return time.Duration(float64(boot-h.offset) / h.rate)
}

type simMember struct {
	host
	id     uint64
	grants *Grants
	sees   Electorate // as far as it has applied the log
	asOf   uint64
	cut    bool // from the other members
	touch  time.Duration
}

type simFrontend struct {
	host
	name   string
	claim  *Claim
	paused time.Duration // until
	back   time.Duration // does not want before
	open   time.Duration // until when its fence is open, in true time
	held   int
}

type simEvent struct {
	at time.Duration
	n  int
	do func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// link is the way from a frontend to a member.
type link struct {
	frontend string
	member   uint64
}

type vipSim struct {
	rand      *rand.Rand
	now       time.Duration
	queue     simQueue
	n         int
	members   []*simMember
	frontends []*simFrontend
	down      map[link]bool // that are cut
	loss      float64
	log       []Electorate // configurations, by entry
	doubles   []string
	takes     int
}

func (s *vipSim) after(d time.Duration, do func()) {
	s.n++
	heap.Push(&s.queue, simEvent{s.now + d, s.n, do})
}

func (s *vipSim) between(low, high time.Duration) time.Duration {
	return low + time.Duration(s.rand.Int64N(int64(high-low)+1))
}

// delay of one message: mostly short, sometimes far longer than a lease.
func (s *vipSim) delay() time.Duration {
	if s.rand.Float64() < 0.02 {
		return s.between(0, 3*simLease)
	}
	return s.between(200*time.Microsecond, 8*time.Millisecond)
}

func (s *vipSim) clock() host {
	// As far apart as two clocks may be: 0.1 in all.
	return host{rate: 1 + (s.rand.Float64()-0.5)*0.095, offset: s.between(0, time.Hour)}
}

func newVIPSim(seed uint64, members, frontends int) *vipSim {
	s := &vipSim{rand: rand.New(rand.NewPCG(seed, 6)), down: make(map[link]bool)}
	var all Electorate
	for i := range members {
		all.Voters = append(all.Voters, uint64(i+1))
	}
	s.log = []Electorate{all}
	for i := range members {
		m := &simMember{host: s.clock(), id: uint64(i + 1), sees: all}
		s.members = append(s.members, m)
		s.start(m)
		s.after(s.between(0, time.Millisecond), func() { s.beat(m) })
	}
	for i := range frontends {
		f := &simFrontend{host: s.clock(), name: string(rune('a' + i))}
		s.frontends = append(s.frontends, f)
		s.begin(f)
		s.after(s.between(0, 20*time.Millisecond), func() { s.turn(f) })
	}
	return s
}

// start forgets what a member has granted.
func (s *vipSim) start(m *simMember) {
	m.grants = NewGrants(m.read(s.now), drift)
	m.grants.Use(simTerms)
	s.stand(m)
}

func (s *vipSim) stand(m *simMember) {
	m.grants.Stand(Standing{Self: m.id, Electorate: m.sees, Applied: m.asOf, Contact: m.touch}, m.read(s.now))
}

// beat lets a member hear of the log.
func (s *vipSim) beat(m *simMember) {
	if !m.cut {
		m.sees, m.asOf, m.touch = s.log[len(s.log)-1], uint64(len(s.log)), m.read(s.now).Boot
	}
	s.stand(m)
	s.after(s.between(50*time.Millisecond, 100*time.Millisecond), func() { s.beat(m) })
}

// begin starts a frontend anew: its fence starts shut.
func (s *vipSim) begin(f *simFrontend) {
	f.open = 0
	f.claim = NewClaim(ClaimConfig{VIP: "web", Frontend: f.name, Session: s.rand.Uint64(), Drift: drift, Margin: 20 * time.Millisecond, Patience: simLease})
}

// turn is what a frontend does again and again.
func (s *vipSim) turn(f *simFrontend) {
	s.after(s.between(30*time.Millisecond, 60*time.Millisecond), func() { s.turn(f) })
	if s.now < f.paused {
		return
	}
	now := f.read(s.now)
	if f.claim.Stuck(now) {
		s.yield(f, s.between(20*time.Millisecond, 200*time.Millisecond))
	}
	s.hold(f)
	if s.now < f.back {
		return
	}
	for _, m := range s.members {
		s.ask(f, m, true)
	}
}

func (s *vipSim) yield(f *simFrontend, pause time.Duration) {
	f.open = 0 // the address is gone first
	f.claim.Drop()
	for _, m := range s.members {
		s.ask(f, m, false)
	}
	f.back = s.now + pause
}

func (s *vipSim) ask(f *simFrontend, m *simMember, want bool) {
	a, asked := f.claim.Ask(want), f.read(s.now)
	copies := 1
	if s.rand.Float64() < 0.02 {
		copies = 2
	}
	for range copies {
		s.after(s.delay(), func() {
			if s.lost(f, m) {
				return
			}
			answer := m.grants.Ask(a, m.read(s.now))
			s.after(s.delay(), func() {
				if s.lost(f, m) {
					return
				}
				s.answered(f, a, asked, answer)
			})
		})
	}
}

func (s *vipSim) answered(f *simFrontend, a Ask, asked draas.Reading, answer Answer) {
	if s.now < f.paused {
		s.after(f.paused-s.now, func() { s.answered(f, a, asked, answer) })
		return
	}
	if a.Session != f.claim.session {
		return
	}
	f.claim.Took(a, asked, answer, f.read(s.now))
	s.hold(f)
}

// hold opens the fence for as long as the claim says.
func (s *vipSim) hold(f *simFrontend) {
	now, until := f.read(s.now), f.claim.Until()
	if until.Passed(now) {
		return
	}
	was := f.open
	f.open = f.at(min(until.Boot, now.Boot+until.Left(now)))
	if was <= s.now {
		s.takes++
	}
	for _, other := range s.frontends {
		if other != f && other.open > s.now {
			s.doubles = append(s.doubles, fmt.Sprintf("at %v %s opens until %v while %s is open until %v", s.now, f.name, f.open, other.name, other.open))
		}
	}
	f.held++
}

func (s *vipSim) lost(f *simFrontend, m *simMember) bool {
	return s.rand.Float64() < s.loss || s.down[link{f.name, m.id}]
}

// trouble makes one fault, and undoes some.
func (s *vipSim) trouble() {
	s.after(s.between(20*time.Millisecond, 600*time.Millisecond), s.trouble)
	f := s.frontends[s.rand.IntN(len(s.frontends))]
	m := s.members[s.rand.IntN(len(s.members))]
	switch s.rand.IntN(9) {
	case 0, 1:
		s.down[link{f.name, m.id}] = true
	case 2, 3:
		clear(s.down)
	case 4:
		s.loss = s.rand.Float64() * 0.3
	case 5:
		f.paused = s.now + s.between(0, 2*simLease)
	case 6:
		s.begin(f)
	case 7:
		s.start(m)
	case 8:
		s.yield(f, 0)
	}
}

// change replaces, adds or removes a voter. It takes a majority of the voters of
// before, which are in touch then; a member that is cut off has not heard of it.
func (s *vipSim) change() {
	s.after(s.between(2*time.Second, 20*time.Second), s.change)
	last := s.log[len(s.log)-1]
	in, reach := make(map[uint64]bool), 0
	for _, v := range last.Voters {
		in[v] = true
		if !s.members[v-1].cut {
			reach++
		}
	}
	m := s.members[s.rand.IntN(len(s.members))]
	if reach <= len(last.Voters)/2 || in[m.id] && len(last.Voters) < 3 {
		for _, m := range s.members {
			m.cut = false
		}
		return
	}
	next := Electorate{}
	for _, v := range last.Voters {
		if v != m.id {
			next.Voters = append(next.Voters, v)
		}
	}
	if !in[m.id] {
		next.Voters = append(next.Voters, m.id)
	}
	s.log = append(s.log, next)
	// A minority may be cut off from here on.
	cut := s.members[s.rand.IntN(len(s.members))]
	cut.cut = s.rand.IntN(2) == 0
}

func (s *vipSim) run(d time.Duration) {
	for s.queue.Len() > 0 && s.queue[0].at <= d {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = e.at
		e.do()
	}
}

// TestNobodyTwice: whatever is lost, late, doubled, stopped or started anew, no
// two frontends have the address; and it does not stay without one.
func TestNobodyTwice(t *testing.T) {
	t.Parallel()
	seeds := uint64(80)
	takes := 0
	for seed := range seeds {
		members := []int{3, 3, 5, 4}[seed%4]
		s := newVIPSim(seed, members, 2+int(seed%2))
		s.after(5*time.Second, s.trouble)
		if seed%4 == 2 {
			s.after(5*time.Second, s.change)
		}
		s.run(40 * time.Second)
		if len(s.doubles) > 0 {
			t.Fatalf("seed %d: two had it, %d times, first %s", seed, len(s.doubles), s.doubles[0])
		}
		takes += s.takes
	}
	if takes < int(seeds)*5 {
		t.Errorf("the address was taken %d times in %d runs: the faults do not reach it", takes, seeds)
	}
}

// TestVotersChange: of three voters two keep to what they knew, while the third
// goes on with two new ones. Each pair has a majority of its own.
func TestVotersChange(t *testing.T) {
	t.Parallel()
	s := newVIPSim(1, 5, 2)
	s.log = []Electorate{{Voters: []uint64{1, 2, 3}}}
	for _, m := range s.members {
		m.sees = s.log[0]
		s.start(m)
	}
	a, b := s.frontends[0], s.frontends[1]
	for _, m := range s.members {
		s.down[link{map[bool]string{true: "b", false: "a"}[m.id < 3], m.id}] = true
	}
	s.run(6 * time.Second)
	if a.open < s.now {
		t.Fatal("a does not have it, which alone reaches two of the voters")
	}
	s.members[0].cut, s.members[1].cut = true, true
	s.log = append(s.log, Electorate{Voters: []uint64{1, 2, 3, 4}}, Electorate{Voters: []uint64{1, 2, 3, 4, 5}})
	s.run(40 * time.Second)
	if len(s.doubles) > 0 {
		t.Errorf("two had it: %s", s.doubles[0])
	}
	if b.open < s.now {
		t.Error("b does not get it, which reaches a majority of the voters")
	}
}

// TestTakesOver: one that is gone is followed within a lease and what a question
// takes, also with a member gone; with two gone by nobody.
func TestTakesOver(t *testing.T) {
	t.Parallel()
	for _, gone := range []int{0, 1, 2} {
		s := newVIPSim(uint64(gone)+77, 3, 2)
		s.run(5 * time.Second)
		var holder, other *simFrontend
		for i, f := range s.frontends {
			if f.open > s.now {
				holder, other = f, s.frontends[1-i]
			}
		}
		if holder == nil {
			t.Fatal("nobody has it after 5 s")
		}
		for _, m := range s.members[:gone] {
			for _, f := range s.frontends {
				s.down[link{f.name, m.id}] = true
			}
		}
		holder.paused = time.Hour
		took := s.now
		for other.open <= s.now && s.now < 20*time.Second {
			next := s.now + 5*time.Millisecond
			s.run(next)
			s.now = next
		}
		took = s.now - took
		t.Logf("%d members gone: taken over after %v", gone, took)
		if gone < 2 && took > 2*simLease {
			t.Errorf("%d members gone: taken over after %v", gone, took)
		}
		if gone == 2 && other.open > s.now {
			t.Error("taken with the grant of one member of three")
		}
	}
}
