package quorum

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
)

// link is the connection that this member dials to a peer, again and again.
type link struct {
	t      *Transport
	member draas.MemberID
	addr   string
	cancel context.CancelFunc // ends run; set by Transport.spawn, t.mu

	queue   chan frame
	waiting atomic.Int64 // bytes in the queue
	up      atomic.Bool
	sent    atomic.Uint64
	dropped atomic.Uint64

	mu     sync.Mutex
	status PeerStatus // Connected, Incarnation, RoundTrip, Err, Since, NotAfter
}

// session is one connection of a link.
type session struct {
	raw, conn net.Conn // TCP, and TLS on it
	peer      hello
	expires   time.Time       // when the peer's certificate ends
	renewed   <-chan struct{} // closed when this side's credentials have changed
}

// send queues a frame, or reports false and drops it.
func (l *link) send(f frame) bool {
	if l.up.Load() && len(f.Payload) < maxFrame && l.reserve(f) {
		select {
		case l.queue <- f:
			return true
		default:
			l.release(f)
		}
	}
	l.dropped.Add(1)
	return false
}

// reserve takes a frame's bytes off what may still be queued.
func (l *link) reserve(f frame) bool {
	if l.waiting.Add(int64(len(f.Payload))) > maxQueueBytes {
		l.release(f)
		return false
	}
	return true
}

func (l *link) release(f frame) { l.waiting.Add(-int64(len(f.Payload))) }

// run dials until ctx ends.
func (l *link) run(ctx context.Context) {
	backoff := minBackoff
	for ctx.Err() == nil {
		connected, err := l.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if connected {
			backoff = minBackoff
		}
		l.ended(connected, err)
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// ended reports the end of a connection, or of an attempt.
func (l *link) ended(connected bool, err error) {
	l.mu.Lock()
	l.status.Err = err
	l.mu.Unlock()
	if connected {
		l.t.cfg.Log.Warn("no connection to peer", "peer", l.member, "address", l.addr, "err", err)
	} else {
		l.complain("no connection to peer", err)
	}
	// A peer that refuses to be dialled, but is heard, is alive.
	if gone(err) && (connected || !l.t.hears(l.member)) {
		l.t.cfg.PeerDown(l.member)
	}
}

// complain logs what does not work, once a minute.
func (l *link) complain(what string, err error) {
	level, about := slog.LevelWarn, "peer "+string(l.member)
	if errors.Is(err, ErrDuplicate) {
		level, about = slog.LevelError, about+" duplicate"
	}
	l.t.mu.Lock()
	warn := l.t.mayWarn(about, time.Now())
	l.t.mu.Unlock()
	if warn {
		l.t.cfg.Log.Log(context.Background(), level, what, "peer", l.member, "address", l.addr, "err", err)
	}
}

// once makes one connection and uses it to its end, and those that replace it
// while it stands.
func (l *link) once(ctx context.Context) (connected bool, err error) {
	next, err := l.open(ctx)
	if err != nil {
		return false, err
	}
	l.drain()
	l.setUp(true, next)
	defer l.setUp(false, &session{})
	l.t.cfg.Log.Info("connected to peer", "peer", l.member, "address", l.addr)
	for next != nil {
		l.t.expel(l.member, next.peer.Incarnation)
		next, err = l.serve(ctx, next)
		if next != nil {
			l.setUp(true, next)
			l.t.cfg.Log.Info("connection to peer was renewed", "peer", l.member, "until", next.expires)
		}
	}
	return true, err
}

// open makes a connection as far as the welcome.
func (l *link) open(ctx context.Context) (*session, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	raw, err := dialer.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	s, err := l.greet(raw)
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return s, nil
}

func (l *link) greet(raw net.Conn) (*session, error) {
	if err := raw.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	creds, renewed := l.t.current()
	conn := tls.Client(raw, creds.client(l.member, l.t.names()))
	// TCP_NODELAY is what the net package sets by itself.
	peer, err := l.introduce(conn)
	if err != nil {
		return nil, err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return &session{raw: raw, conn: conn, peer: peer, renewed: renewed,
		expires: conn.ConnectionState().PeerCertificates[0].NotAfter}, nil
}

// introduce says hello and reads the answer.
func (l *link) introduce(conn net.Conn) (hello, error) {
	t := l.t
	mine := t.hello(l.member)
	w := bufio.NewWriter(conn)
	if err := errors.Join(writeFrame(w, frame{frameHello, mine.encode()}), w.Flush()); err != nil {
		return hello{}, err
	}
	f, err := readFrame(bufio.NewReaderSize(conn, maxHandshake), maxHandshake)
	if err != nil {
		return hello{}, err
	}
	if f.Type == frameRefusal {
		return hello{}, decodeRefusal(f.Payload)
	}
	h, err := decodeHello(f.Payload)
	switch {
	case err != nil || f.Type != frameWelcome:
		return hello{}, errFrame
	case !h.understood():
		return hello{}, h.misunderstood()
	case h.Cluster != t.cfg.Cluster:
		return hello{}, fmt.Errorf("%w: %s, this one to %s", ErrForeignCluster, h.Cluster, t.cfg.Cluster)
	case h.From != l.member || h.To != t.cfg.Self:
		return hello{}, fmt.Errorf("%w: %s answered %s", ErrNotMember, h.From, h.To)
	}
	return h, nil
}

func (l *link) setUp(up bool, s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if up != l.status.Connected {
		l.status.Since = time.Now()
	}
	l.status.Connected, l.status.Incarnation, l.status.RoundTrip = up, s.peer.Incarnation, 0
	if up {
		l.status.Err, l.status.NotAfter = nil, s.expires
	}
	l.up.Store(up)
}

// incarnation is the peer's, zero while there is no connection.
func (l *link) incarnation() draas.Incarnation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status.Incarnation
}

// drain empties the queue: old messages are of no use on a new connection.
func (l *link) drain() {
	for {
		select {
		case f := <-l.queue:
			l.release(f)
			l.dropped.Add(1)
		default:
			return
		}
	}
}

// serve sends what is queued, and beats, until the connection breaks, or until
// one that replaces it stands, which is returned.
func (l *link) serve(ctx context.Context, s *session) (*session, error) {
	stop := context.AfterFunc(ctx, func() { s.raw.Close() })
	defer stop()
	renewal := newRenewal(ctx, l)
	slow := patient{s.conn, deadAfter}
	echoes := make(chan error, 1)
	start := time.Now()
	go func() { echoes <- l.readEchoes(slow, start) }()
	next, err := l.write(ctx, s, slow, start, echoes, renewal)
	s.raw.Close() // not the TLS connection, which would wait to say goodbye
	renewal.end(next)
	// The reader often knows better why.
	if first := <-echoes; err == nil || gone(first) {
		err = first
	}
	return next, err
}

// write returns nothing when the reader has ended first.
func (l *link) write(ctx context.Context, s *session, conn net.Conn, start time.Time, echoes chan error, renewal *renewal) (*session, error) {
	w := bufio.NewWriterSize(conn, 64<<10)
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	renewed := s.renewed
	for {
		var f frame
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case err := <-echoes:
			echoes <- err // for serve; there is room
			return nil, nil
		case <-renewed:
			renewed = nil
			renewal.start()
			continue
		case next := <-renewal.done:
			return next, w.Flush()
		case <-beat.C:
			if left := time.Until(s.expires); left < 0 {
				return nil, fmt.Errorf("%w at %v", errExpired, s.expires)
			} else if left < renewBefore && time.Since(start) > renewEvery {
				renewal.start() // with the certificate that has come meanwhile
			}
			f = frame{frameBeat, binary.BigEndian.AppendUint64(nil, uint64(time.Since(start)))}
		case f = <-l.queue:
			l.release(f)
			if f.Type == frameMessage {
				l.sent.Add(1)
			}
		}
		if err := writeFrame(w, f); err != nil {
			return nil, fmt.Errorf("write: %w", err)
		}
		if len(l.queue) == 0 {
			if err := w.Flush(); err != nil {
				return nil, fmt.Errorf("write: %w", err)
			}
		}
	}
}

// renewal makes the connection that replaces one which stands.
type renewal struct {
	link    *link
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	done    chan *session // with room for one
	begun   time.Time
}

func newRenewal(ctx context.Context, l *link) *renewal {
	ctx, cancel := context.WithCancel(ctx)
	return &renewal{link: l, ctx: ctx, cancel: cancel, done: make(chan *session, 1)}
}

// start begins one, if none is under way; it tries until it stands.
func (r *renewal) start() {
	if !r.begun.IsZero() {
		return
	}
	r.begun = time.Now()
	r.running.Go(func() {
		for {
			s, err := r.link.open(r.ctx)
			if err == nil {
				r.done <- s
				return
			}
			r.link.complain("connection to peer cannot be renewed, the old one is kept", err)
			select {
			case <-r.ctx.Done():
				return
			case <-time.After(renewEvery):
			}
		}
	})
}

// end waits for what was begun, and closes what is not used.
func (r *renewal) end(used *session) {
	r.cancel()
	r.running.Wait()
	select {
	case s := <-r.done:
		if s != used {
			s.raw.Close()
		}
	default:
	}
}

// readEchoes watches the other end: its silence and its death.
func (l *link) readEchoes(conn net.Conn, start time.Time) error {
	in := bufio.NewReaderSize(conn, 512)
	for {
		f, err := readFrame(in, maxEcho)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if f.Type != frameEcho || len(f.Payload) != 8 {
			return fmt.Errorf("read: %w", errFrame)
		}
		trip := time.Since(start) - time.Duration(binary.BigEndian.Uint64(f.Payload))
		l.mu.Lock()
		l.status.RoundTrip = max(trip, 0)
		l.mu.Unlock()
	}
}
