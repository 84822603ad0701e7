package quorum

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/draasd/draas"
)

// inbound is a connection that a peer has dialled.
type inbound struct {
	conn        net.Conn
	incarnation draas.Incarnation
	chain       []*x509.Certificate // the peer's
	expires     time.Time
	replaced    atomic.Bool // by a newer one of the same daemon
	ending      *time.Timer // then: when it is closed
}

// accept takes connections until the listener is closed.
func (t *Transport) accept(ctx context.Context) error {
	for {
		conn, err := t.ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept peers: %w", err)
		}
		if err != nil { // such as too many open files: they pass
			t.complain("listener", err)
			select {
			case <-ctx.Done():
			case <-time.After(maxBackoff / 10):
			}
			continue
		}
		t.enter(conn)
		t.accepted.Go(func() {
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			defer conn.Close()
			t.receive(ctx, conn)
		})
	}
}

// enter counts a connection among those that are not known yet. When there are
// too many the oldest goes: a peer needs milliseconds, so it is never the
// oldest for long.
func (t *Transport) enter(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) >= maxPending {
		t.pending[0].Close()
		t.pending = t.pending[1:]
	}
	t.pending = append(t.pending, conn)
}

func (t *Transport) known(conn net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.pending, conn); i >= 0 {
		t.pending = slices.Delete(t.pending, i, i+1)
	}
}

// complain counts a connection that was no peer's, and logs it, once a minute
// for each source.
func (t *Transport) complain(source string, err error) {
	t.refused.Add(1)
	if host, _, e := net.SplitHostPort(source); e == nil {
		source = host
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mayWarn(source, time.Now()) {
		t.cfg.Log.Warn("connection refused", "from", source, "refused_so_far", t.refused.Load(), "err", err)
	}
}

// receive handles one accepted connection.
func (t *Transport) receive(ctx context.Context, raw net.Conn) {
	source := raw.RemoteAddr().String()
	conn, in, h, err := t.handshake(raw)
	t.known(raw)
	if err != nil {
		if ctx.Err() == nil {
			t.complain(source, err)
		}
		return
	}
	chain := conn.(patient).Conn.(*tls.Conn).ConnectionState().PeerCertificates
	me := &inbound{conn: raw, incarnation: h.Incarnation, chain: chain, expires: chain[0].NotAfter}
	if err := t.admit(h.From, me); err != nil {
		if errors.Is(err, ErrDuplicate) {
			t.double(h, source, err)
		} else {
			t.complain(source, err)
		}
		w := bufio.NewWriter(conn)
		_ = errors.Join(writeFrame(w, frame{frameRefusal, encodeRefusal(err)}), w.Flush()) // it may have gone
		return
	}
	defer t.leave(h.From, me)
	err = t.listenTo(conn, in, h, me)
	if ctx.Err() != nil {
		return
	}
	if errors.Is(err, errFrame) {
		t.complain(source, err)
	}
	t.cfg.Log.Debug("connection of peer ended", "peer", h.From, "err", err)
	if gone(err) && !me.replaced.Load() {
		t.cfg.PeerDown(h.From)
	}
}

// handshake finds out who calls. Whoever does not say so in time, or is no
// member of this cluster, is refused.
func (t *Transport) handshake(raw net.Conn) (net.Conn, *bufio.Reader, hello, error) {
	fail := func(err error) (net.Conn, *bufio.Reader, hello, error) {
		return nil, nil, hello{}, fmt.Errorf("handshake: %w", err)
	}
	if err := raw.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return fail(err)
	}
	conn := tls.Server(raw, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.credentials().server(), nil },
	})
	if err := conn.Handshake(); err != nil {
		return fail(err)
	}
	first := bufio.NewReaderSize(conn, maxHandshake)
	f, err := readFrame(first, maxHandshake)
	if err != nil {
		return fail(err)
	}
	h, err := decodeHello(f.Payload)
	if err == nil && f.Type != frameHello {
		err = errFrame
	}
	if err != nil {
		return fail(err)
	}
	if err := t.check(h, conn.ConnectionState()); err != nil {
		w := bufio.NewWriter(conn)
		return fail(errors.Join(err, writeFrame(w, frame{frameRefusal, encodeRefusal(err)}), w.Flush()))
	}
	if first.Buffered() > 0 {
		return fail(errFrame) // nobody talks on before the welcome
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return fail(err)
	}
	slow := patient{conn, deadAfter}
	return slow, bufio.NewReaderSize(slow, 64<<10), h, nil
}

// check says whether the hello is that of a peer, and the certificate's.
func (t *Transport) check(h hello, s tls.ConnectionState) error {
	member, err := MemberOf(s.PeerCertificates[0], t.names())
	switch {
	case err != nil:
		return err
	case !h.understood():
		return h.misunderstood()
	case h.Cluster != t.cfg.Cluster:
		return fmt.Errorf("%w: %s, this one to %s", ErrForeignCluster, h.Cluster, t.cfg.Cluster)
	case h.From != member || member == t.cfg.Self:
		return fmt.Errorf("%w: %s calls with the certificate of %s", ErrNotMember, h.From, member)
	case h.To != t.cfg.Self:
		return fmt.Errorf("%w: %s was called, this is %s", ErrNotMember, h.To, t.cfg.Self)
	}
	return nil
}

// admit registers a peer's connection. One daemon per member: the one that
// answers at the member's address, if it does, otherwise the one that came
// first. The same daemon may come again: its older connection is dead.
func (t *Transport) admit(member draas.MemberID, me *inbound) error {
	l := t.link(member)
	if l == nil {
		return fmt.Errorf("%w: %s", ErrNotMember, member) // not any more
	}
	there := l.incarnation()
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.inbound[member]
	if there != 0 && there != me.incarnation || old != nil && old.incarnation != me.incarnation {
		return fmt.Errorf("%w: %s", ErrDuplicate, member)
	}
	if old != nil {
		// A dead one, or one that its daemon has renewed and is about to close.
		old.replaced.Store(true)
		old.ending = time.AfterFunc(replacedAfter, func() { old.conn.Close() })
	}
	t.inbound[member] = me
	return nil
}

// expel ends a connection dialled by another daemon than the one that answers
// at the member's address. If it lives it comes again, and is refused.
func (t *Transport) expel(member draas.MemberID, incarnation draas.Incarnation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in := t.inbound[member]; in != nil && in.incarnation != incarnation {
		in.conn.Close()
		delete(t.inbound, member)
	}
}

func (t *Transport) leave(member draas.MemberID, me *inbound) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.inbound[member] == me {
		delete(t.inbound, member)
	}
	if me.ending != nil {
		me.ending.Stop()
	}
}

func (t *Transport) hears(member draas.MemberID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inbound[member] != nil
}

// double logs a second daemon of a member, once for each.
func (t *Transport) double(h hello, source string, err error) {
	t.refused.Add(1)
	t.mu.Lock()
	seen := t.doubles[h.From] == h.Incarnation
	t.doubles[h.From] = h.Incarnation
	t.mu.Unlock()
	if !seen {
		t.cfg.Log.Error(fmt.Sprintf("two daemons claim to be %s: the one at %s is refused; stop one of them "+
			"(if %s lost its power just now, it is let in within %v)", h.From, source, h.From, deadAfter+maxBackoff), "peer", h.From, "err", err)
	}
}

// listenTo welcomes a peer and hands on what it sends.
func (t *Transport) listenTo(conn net.Conn, in *bufio.Reader, h hello, me *inbound) error {
	w := bufio.NewWriterSize(conn, 512)
	mine := t.hello(h.From)
	if err := errors.Join(writeFrame(w, frame{frameWelcome, mine.encode()}), w.Flush()); err != nil {
		return fmt.Errorf("welcome: %w", err)
	}
	for {
		f, err := readFrame(in, maxFrame)
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		if time.Now().After(me.expires) { // it beats every second
			return fmt.Errorf("read: %w at %v", errExpired, me.expires)
		}
		if f.Type != frameMessage && len(f.Payload) != 8 {
			return fmt.Errorf("read: %w", errFrame)
		}
		switch f.Type {
		case frameMessage:
			t.cfg.Inbox(Message{From: h.From, To: t.cfg.Self, Data: f.Payload})
		case frameAsk:
			t.cfg.Asked(h.From, func() {
				if l := t.link(h.From); l != nil {
					l.send(frame{frameAnswer, f.Payload})
				}
			})
		case frameAnswer:
			t.answered(binary.BigEndian.Uint64(f.Payload))
		case frameBeat:
			if err := errors.Join(writeFrame(w, frame{frameEcho, f.Payload}), w.Flush()); err != nil {
				return fmt.Errorf("echo: %w", err)
			}
		default:
			return fmt.Errorf("read: %w: frame of type %d", errFrame, f.Type)
		}
	}
}
