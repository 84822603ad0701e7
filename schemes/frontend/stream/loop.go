package stream

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas/schemes/frontend"
)

// chunk is what is read at a time, in bytes. A connection has none of its own:
// a loop reads all of them into one, and only what the other side does not take
// at once is kept.
const chunk = 64 << 10

// loop serves connections on one processor. All of its connections' state
// belongs to its goroutine; others reach it by post.
type loop struct {
	serving *serving
	ep      int
	wake    int // eventfd
	count   atomic.Int64
	buf     []byte
	spare   [][]byte // chunks for what is kept
	pipes   []*pipe

	slots []slot
	free  []int32
	ready []*pair // had more to do than one turn

	begin time.Time
	now   int64 // ns since begin
	hello list  // wait for what the client begins with
	idle  list  // are led
	slow  list  // have no answer yet of the server that they try
	dials list  // have none, and others are tried beside it
	asked list  // wait for an answer of the back end

	listening bool
	acceptAt  int64 // when to accept again; 0: all is well
	pause     time.Duration
	leads     int // goroutines under way
	stopped   bool

	mu     sync.Mutex
	inbox  []func()
	rung   atomic.Bool
	closed bool
}

// slot is what an event's number stands for. The generation tells it from who
// had the number before.
type slot struct {
	end *end
	gen int32
}

const (
	slotWake   = -1
	slotListen = -2
)

func newLoop(s *serving) (*loop, error) {
	l := &loop{serving: s, begin: time.Now(), buf: make([]byte, chunk), wake: -1}
	var err error
	if l.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("create epoll: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err == nil {
		err = unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, l.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: slotWake})
	}
	if err != nil {
		l.close()
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	return l, nil
}

func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, p := range l.pipes {
		p.close()
	}
	_ = unix.Close(l.ep)
	if l.wake >= 0 {
		_ = unix.Close(l.wake)
	}
}

// post has the loop's goroutine do something. It does not block.
func (l *loop) post(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.inbox = append(l.inbox, do)
	if !l.rung.Swap(true) {
		_, _ = unix.Write(l.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // fails only when it was rung 2^64 times
	}
}

func (l *loop) posted() {
	var b [8]byte
	l.mu.Lock()
	_, _ = unix.Read(l.wake, b[:])
	inbox := l.inbox
	l.inbox = nil
	l.rung.Store(false)
	l.mu.Unlock()
	for _, do := range inbox {
		do()
	}
}

// endFirst does what others have asked for before bytes are moved: a connection
// that has to end ends before.
func (l *loop) endFirst() {
	if l.rung.Load() {
		l.posted()
	}
}

func (l *loop) tick() { l.now = int64(time.Since(l.begin)) }

// run serves until it was stopped and nothing is left.
func (l *loop) run() error {
	defer l.close()
	events := make([]unix.EpollEvent, 256)
	for !l.stopped || l.count.Load() > 0 || l.leads > 0 {
		n, err := unix.EpollWait(l.ep, events, l.timeout())
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		l.tick()
		l.serving.server.setting.Load().Routes[0].Service.Table().Awake()
		for _, e := range events[:max(n, 0)] {
			l.endFirst()
			switch {
			case e.Fd >= 0:
				if s := l.slots[e.Fd]; s.gen == e.Pad && s.end != nil {
					s.end.pair.event(s.end, e.Events)
				}
			case e.Fd == slotWake:
				l.posted()
			default:
				l.accept()
			}
		}
		ready := l.ready
		l.ready = nil
		for _, p := range ready {
			l.endFirst()
			p.queued = false
			p.run()
		}
		l.expire()
	}
	return nil
}

// timeout is how long the loop may sleep, in ms.
func (l *loop) timeout() int {
	if len(l.ready) > 0 {
		return 0
	}
	set := l.serving.server.setting.Load()
	next := int64(-1)
	at := func(t int64) {
		if next < 0 || t < next {
			next = t
		}
	}
	if n := l.hello.first; n != nil {
		at(n.since + int64(set.HelloTimeout))
	}
	if n := l.slow.first; n != nil {
		at(n.since + int64(frontend.DefaultHedge))
	}
	if n := l.dials.first; n != nil {
		at(n.since + int64(set.ConnectTimeout))
	}
	if n := l.idle.first; n != nil {
		at(n.since + int64(set.IdleTimeout))
	}
	if n := l.asked.first; n != nil {
		at(n.since + int64(set.Silence))
	}
	if l.acceptAt > 0 {
		at(l.acceptAt)
	}
	if next < 0 {
		return -1
	}
	ms := (next - l.now + int64(time.Millisecond) - 1) / int64(time.Millisecond)
	return int(min(max(ms, 0), int64(time.Hour/time.Millisecond)))
}

func (l *loop) expire() {
	set := l.serving.server.setting.Load()
	for n := l.hello.first; n != nil && n.since+int64(set.HelloTimeout) <= l.now; n = l.hello.first {
		n.remove()
		n.pair.helloLate()
	}
	for n := l.slow.first; n != nil && n.since+int64(frontend.DefaultHedge) <= l.now; n = l.slow.first {
		n.pair.hedge()
	}
	for n := l.dials.first; n != nil && n.since+int64(set.ConnectTimeout) <= l.now; n = l.dials.first {
		n.pair.unreachable()
	}
	for n := l.idle.first; n != nil && n.since+int64(set.IdleTimeout) <= l.now; n = l.idle.first {
		n.pair.finish(EndIdle, false)
	}
	for n := l.asked.first; n != nil && n.since+int64(set.Silence) <= l.now; n = l.asked.first {
		n.remove()
		n.pair.silent()
	}
	if l.acceptAt > 0 && l.now >= l.acceptAt {
		l.acceptAt = 0
		l.listen()
	}
}

// add has the loop told of a descriptor, once for each change of it.
func (l *loop) add(e *end) error { return l.watch(e, interest) }

// addConnecting has it told, likewise, when a connection has come about.
func (l *loop) addConnecting(e *end) error {
	e.armed = true
	return l.watch(e, interest|unix.EPOLLOUT)
}

func (l *loop) watch(e *end, events uint32) error {
	if len(l.free) == 0 {
		l.slots = append(l.slots, slot{})
		l.free = append(l.free, int32(len(l.slots)-1))
	}
	i := l.free[len(l.free)-1]
	err := unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, int(e.fd), &unix.EpollEvent{Events: events, Fd: i, Pad: l.slots[i].gen})
	if err != nil {
		return err
	}
	l.free = l.free[:len(l.free)-1]
	l.slots[i].end = e
	e.slot = i
	return nil
}

const interest = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET

// arm has the loop told when an end takes bytes again, also from now on.
func (l *loop) arm(e *end) {
	if !e.armed {
		e.armed = true
		// Fails only for a descriptor that is not there.
		_ = unix.EpollCtl(l.ep, unix.EPOLL_CTL_MOD, int(e.fd), &unix.EpollEvent{Events: interest | unix.EPOLLOUT, Fd: e.slot, Pad: l.slots[e.slot].gen})
	}
}

// shut closes a descriptor and forgets it.
func (l *loop) shut(e *end, reset bool) {
	if e.fd < 0 {
		return
	}
	if e.slot >= 0 {
		l.slots[e.slot].end = nil
		l.slots[e.slot].gen++
		l.free = append(l.free, e.slot)
		e.slot = -1
	}
	if reset {
		closeNow(e.fd)
	} else {
		_ = unix.Close(int(e.fd))
	}
	e.fd = -1
}

// again gives a pair another turn after the others had theirs.
func (l *loop) again(p *pair) {
	if !p.queued {
		p.queued = true
		l.ready = append(l.ready, p)
	}
}

// keep copies bytes that the other side did not take.
func (l *loop) keep(b []byte) []byte {
	if len(b) <= chunk/16 {
		return slices.Clone(b)
	}
	var space []byte
	if n := len(l.spare); n > 0 {
		space, l.spare = l.spare[n-1], l.spare[:n-1]
	} else {
		space = make([]byte, chunk)
	}
	return space[:copy(space, b)]
}

// spares bounds what a loop keeps for the next that needs it.
const spares = 32

func (l *loop) giveBack(b []byte) {
	if cap(b) == chunk && len(l.spare) < spares {
		l.spare = append(l.spare, b[:chunk])
	}
}
