package sim

import "time"

// event is something that happens at a time. Those that are frequent need no
// allocation: a member is woken, looks around, or gets message number msg.
type event struct {
	at  time.Duration
	seq uint64
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

// queue is a heap of events with four children to a node: fewer moves of
// these fat values than with two.
type queue []event

func (e *event) before(o *event) bool {
	return e.at < o.at || e.at == o.at && e.seq < o.seq
}

func (q *queue) push(e event) {
	h := append(*q, e)
	i := len(h) - 1
	for i > 0 {
		parent := (i - 1) / 4
		if !e.before(&h[parent]) {
			break
		}
		h[i] = h[parent]
		i = parent
	}
	h[i] = e
	*q = h
}

func (q *queue) pop() event {
	h := *q
	top, last := h[0], h[len(h)-1]
	h[len(h)-1] = event{}
	h = h[:len(h)-1]
	*q = h
	if len(h) == 0 {
		return top
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
	return top
}
