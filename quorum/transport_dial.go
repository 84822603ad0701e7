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

	queue   chan frame
	waiting atomic.Int64 // bytes in the queue
	up      atomic.Bool
	sent    atomic.Uint64
	dropped atomic.Uint64

	mu     sync.Mutex
	status PeerStatus // Connected, Incarnation, RoundTrip, Err, Since
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
	level, about := slog.LevelWarn, "peer "+string(l.member)
	if errors.Is(err, ErrDuplicate) {
		level, about = slog.LevelError, about+" duplicate"
	}
	l.t.mu.Lock()
	warn := l.t.mayWarn(about, time.Now())
	l.t.mu.Unlock()
	if connected || warn {
		l.t.cfg.Log.Log(context.Background(), level, "no connection to peer", "peer", l.member, "address", l.addr, "err", err)
	}
	// A peer that refuses to be dialled, but is heard, is alive.
	if gone(err) && (connected || !l.t.hears(l.member)) {
		l.t.cfg.PeerDown(l.member)
	}
}

// once makes one connection and uses it to its end.
func (l *link) once(ctx context.Context) (connected bool, err error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	raw, err := dialer.DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return false, fmt.Errorf("dial: %w", err)
	}
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	if err := raw.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return false, fmt.Errorf("dial: %w", err)
	}
	conn := tls.Client(raw, l.t.credentials().client(l.member, l.t.members))
	// TCP_NODELAY is what the net package sets by itself.
	peer, err := l.introduce(conn)
	if err != nil {
		return false, fmt.Errorf("handshake: %w", err)
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return false, fmt.Errorf("handshake: %w", err)
	}
	l.drain()
	l.setUp(true, peer.Incarnation)
	defer l.setUp(false, 0)
	l.t.expel(l.member, peer.Incarnation)
	l.t.cfg.Log.Info("connected to peer", "peer", l.member, "address", l.addr)
	return true, l.serve(ctx, raw, conn)
}

// introduce says hello and reads the answer.
func (l *link) introduce(conn net.Conn) (hello, error) {
	t := l.t
	mine := hello{Version: protocolVersion, Cluster: t.cfg.Cluster, Incarnation: t.cfg.Incarnation, From: t.cfg.Self, To: l.member}
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
	case h.Version != protocolVersion:
		return hello{}, fmt.Errorf("%w: %d, this one speaks %d", ErrProtocol, h.Version, protocolVersion)
	case h.Cluster != t.cfg.Cluster:
		return hello{}, fmt.Errorf("%w: %s, this one to %s", ErrForeignCluster, h.Cluster, t.cfg.Cluster)
	case h.From != l.member || h.To != t.cfg.Self:
		return hello{}, fmt.Errorf("%w: %s answered %s", ErrNotMember, h.From, h.To)
	}
	return h, nil
}

func (l *link) setUp(up bool, incarnation draas.Incarnation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status.Connected, l.status.Incarnation, l.status.Since, l.status.RoundTrip = up, incarnation, time.Now(), 0
	if up {
		l.status.Err = nil
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

// serve sends what is queued, and beats, until the connection breaks.
func (l *link) serve(ctx context.Context, raw, conn net.Conn) error {
	slow := patient{conn, deadAfter}
	echoes := make(chan error, 1)
	start := time.Now()
	go func() { echoes <- l.readEchoes(slow, start) }()
	err := l.write(ctx, slow, start, echoes)
	raw.Close() // not the TLS connection, which would wait to say goodbye
	// The reader often knows better why.
	if first := <-echoes; err == nil || gone(first) {
		err = first
	}
	return err
}

// write returns nil when the reader has ended first.
func (l *link) write(ctx context.Context, conn net.Conn, start time.Time, echoes chan error) error {
	w := bufio.NewWriterSize(conn, 64<<10)
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		var f frame
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-echoes:
			echoes <- err // for serve; there is room
			return nil
		case <-beat.C:
			f = frame{frameBeat, binary.BigEndian.AppendUint64(nil, uint64(time.Since(start)))}
		case f = <-l.queue:
			l.release(f)
			if f.Type == frameMessage {
				l.sent.Add(1)
			}
		}
		if err := writeFrame(w, f); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		if len(l.queue) == 0 {
			if err := w.Flush(); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
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
