package stream

// list holds connections that wait for the same while, in the order in which
// they began to.
type list struct {
	first, last *node
}

// node is a connection's place in a list.
type node struct {
	in         *list
	prev, next *node
	pair       *pair
	since      int64 // ns, by the loop's clock
}

// push puts a node at the end, wherever it was.
func (l *list) push(n *node, now int64) {
	n.remove()
	n.in, n.since, n.prev, n.next = l, now, l.last, nil
	if l.last != nil {
		l.last.next = n
	} else {
		l.first = n
	}
	l.last = n
}

func (n *node) remove() {
	if n.in == nil {
		return
	}
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		n.in.first = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		n.in.last = n.prev
	}
	n.in, n.prev, n.next = nil, nil, nil
}
