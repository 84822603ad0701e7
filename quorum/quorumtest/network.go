package quorumtest

import (
	"container/heap"
	"crypto/rand"
	"io"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/quorum"
)

// Network carries messages in simulated time. What it does to them is decided
// by its source of chance alone. It is used by one goroutine.
type Network struct {
	// MinDelay and MaxDelay bound how long a message is under way.
	MinDelay, MaxDelay time.Duration
	// Drop and Duplicate are the chances of a message, 0 to 1, to be lost or
	// to arrive twice.
	Drop, Duplicate float64

	rnd   *mathrand.Rand
	cut   map[link]bool
	queue flights
	count uint64
}

type link struct{ from, to draas.MemberID }

type flight struct {
	at      time.Duration
	order   uint64 // breaks ties
	message quorum.Message
}

// NewNetwork returns a network without loss, and with delays of up to 1 ms.
func NewNetwork(rnd *mathrand.Rand) *Network {
	return &Network{MaxDelay: time.Millisecond, rnd: rnd, cut: map[link]bool{}}
}

// Cut loses all messages from one member to another, also those under way,
// until Heal. It is one direction only.
func (n *Network) Cut(from, to draas.MemberID) { n.cut[link{from, to}] = true }

// Heal undoes Cut.
func (n *Network) Heal(from, to draas.MemberID) { delete(n.cut, link{from, to}) }

// HealAll undoes every Cut.
func (n *Network) HealAll() { clear(n.cut) }

// Isolate cuts a member off from the others, both ways.
func (n *Network) Isolate(member draas.MemberID, all []draas.MemberID) {
	for _, m := range all {
		if m != member {
			n.Cut(member, m)
			n.Cut(m, member)
		}
	}
}

// Forget loses what is under way to and from a member, as its crash does.
func (n *Network) Forget(member draas.MemberID) {
	kept := n.queue[:0]
	for _, f := range n.queue {
		if f.message.From != member && f.message.To != member {
			kept = append(kept, f)
		}
	}
	n.queue = kept
	heap.Init(&n.queue)
}

// Send takes messages at a time.
func (n *Network) Send(now time.Duration, messages []quorum.Message) {
	for _, m := range messages {
		copies := 1
		if n.rnd.Float64() < n.Duplicate {
			copies = 2
		}
		for range copies {
			delay := n.MinDelay
			if span := n.MaxDelay - n.MinDelay; span > 0 {
				delay += time.Duration(n.rnd.Int64N(int64(span)))
			}
			if n.rnd.Float64() < n.Drop || n.cut[link{m.From, m.To}] {
				continue
			}
			n.count++
			heap.Push(&n.queue, flight{at: now + delay, order: n.count, message: m})
		}
	}
}

// Deliver returns the messages that have arrived by a time, in order.
func (n *Network) Deliver(now time.Duration) []quorum.Message {
	var out []quorum.Message
	for len(n.queue) > 0 && n.queue[0].at <= now {
		m := heap.Pop(&n.queue).(flight).message
		if !n.cut[link{m.From, m.To}] {
			out = append(out, m)
		}
	}
	return out
}

// Next is when the next message arrives; false if none is under way.
func (n *Network) Next() (time.Duration, bool) {
	if len(n.queue) == 0 {
		return 0, false
	}
	return n.queue[0].at, true
}

type flights []flight

func (q flights) Len() int { return len(q) }
func (q flights) Less(i, j int) bool {
	if q[i].at != q[j].at {
		return q[i].at < q[j].at
	}
	return q[i].order < q[j].order
}
func (q flights) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *flights) Push(x any)   { *q = append(*q, x.(flight)) }
func (q *flights) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// Bytes is a reader of chance with a seed.
func Bytes(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return &locked{r: mathrand.NewChaCha8(key)}
}

type locked struct {
	mu sync.Mutex
	r  io.Reader
}

func (l *locked) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.r.Read(p)
}

// SeedElections makes the consensus library draw its election timeouts from a
// seed, by replacing crypto/rand.Reader, and returns what undoes it. The
// process must do nothing secret meanwhile, and nothing else at random.
func SeedElections(seed uint64) (restore func()) {
	old := rand.Reader
	rand.Reader = Bytes(seed)
	return func() { rand.Reader = old }
}
