package sim

import "time"

// event is something that happens at a time. Those that are frequent need no
// allocation: a member is woken, looks around, or gets message number msg.
type event struct {
	do  func()
	to  *member
	run int
	msg int32
	typ eventType
}

type eventType uint8

const (
	evCall eventType = iota
	evWake
	evLook
	evMessage
)

// queue is a heap of events with four children to a node. What is moved about
// is small and has no pointers; the events stay where they are.
type queue struct {
	heap   []ticket
	events []event
	free   []int32 // places of events that are over
}

// ticket is an event's place in line, and the place where it is kept.
type ticket struct {
	at  time.Duration
	seq uint64
	n   int32
}

func (t *ticket) before(o *ticket) bool {
	return t.at < o.at || t.at == o.at && t.seq < o.seq
}

func newQueue() queue {
	return queue{heap: make([]ticket, 0, 64), events: make([]event, 0, 64), free: make([]int32, 0, 64)}
}

func (q *queue) len() int { return len(q.heap) }

// next is when the next event happens; there has to be one.
func (q *queue) next() time.Duration { return q.heap[0].at }

func (q *queue) push(at time.Duration, seq uint64, e event) {
	t := ticket{at: at, seq: seq, n: int32(len(q.events))}
	if last := len(q.free) - 1; last >= 0 {
		t.n, q.free = q.free[last], q.free[:last]
		q.events[t.n] = e
	} else {
		q.events = append(q.events, e)
	}
	h := append(q.heap, t)
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !t.before(&h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = t
	q.heap = h
}

func (q *queue) pop() (time.Duration, event) {
	h := q.heap
	top, last := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	q.heap = h
	e := q.events[top.n]
	q.events[top.n].do = nil
	q.free = append(q.free, top.n)
	if len(h) == 0 {
		return top.at, e
	}
	i := 0
	for {
		least := 4*i + 1
		if least >= len(h) {
			break
		}
		for c := least + 1; c < min(least+4, len(h)); c++ {
			if h[c].before(&h[least]) {
				least = c
			}
		}
		if !h[least].before(&last) {
			break
		}
		h[i] = h[least]
		i = least
	}
	h[i] = last
	return top.at, e
}
