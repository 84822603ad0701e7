package quorum

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/draasd/draas"
)

// Times and bounds of the transport.
const (
	handshakeTimeout = 5 * time.Second
	beatEvery        = time.Second
	deadAfter        = 3500 * time.Millisecond // without a byte
	dialTimeout      = 2 * time.Second
	minBackoff       = 20 * time.Millisecond
	maxBackoff       = 500 * time.Millisecond
	complainEvery    = time.Minute

	credentialsEvery = 10 * time.Second // the files of certificates are looked at
	renewBefore      = time.Minute      // a connection is renewed before a certificate ends
	renewEvery       = 10 * time.Second // and tried again
	replacedAfter    = 2 * time.Second  // the one that it replaces may still talk

	maxPending    = 64       // connections that have not said who they are
	maxQueue      = 1024     // frames waiting for a peer
	maxQueueBytes = 32 << 20 // bytes waiting for a peer
	maxSources    = 256      // sources of garbage that are remembered
)

// TransportConfig is what a transport is made of. The callbacks are called by
// its goroutines, several at a time; they may block for a moment only.
type TransportConfig struct {
	Self        draas.MemberID
	Cluster     ClusterID
	Incarnation draas.Incarnation // drawn at random at each start, not zero
	// Listen is the address to listen on, host:port, unless Listener is set.
	Listen   string
	Listener net.Listener
	Peers    map[draas.MemberID]string // the other members, and where to dial them
	TLS      TLSFiles
	Log      *slog.Logger

	// Inbox takes a message from a peer, whose name has been verified.
	Inbox func(Message)
	// PeerDown tells that a peer's daemon is probably gone: a connection was
	// closed or reset by it, or a new one refused.
	PeerDown func(draas.MemberID)
	// Asked takes a peer's Ping; the daemon calls answer from its main loop,
	// so that one that is stuck does not answer.
	Asked func(from draas.MemberID, answer func())
}

// Transport carries messages between members over mutual TLS 1.3. Each member
// dials every other, and sends only on the connections it dialled. So what is
// meant for a member goes only to the address that the configuration names: a
// copy of it somewhere else receives nothing.
type Transport struct {
	cfg TransportConfig
	ln  net.Listener

	refused atomic.Uint64 // connections that were no peer's

	mu       sync.Mutex
	members  []draas.MemberID            // with this one, sorted; replaced, never changed
	links    map[draas.MemberID]*link    // to each peer
	spawn    func(*link)                 // starts one; nil while Run does not
	creds    *credentials                // the last that could be read
	renewed  chan struct{}               // closed when creds have changed
	inbound  map[draas.MemberID]*inbound // from each peer, at most one
	pending  []net.Conn                  // not yet known, oldest first
	warned   map[string]time.Time        // last complaint about a source
	doubles  map[draas.MemberID]draas.Incarnation
	asks     map[uint64]chan struct{} // pings under way
	lastAsk  uint64
	accepted sync.WaitGroup
}

// PeerStatus is what a transport knows of a peer.
type PeerStatus struct {
	Member    draas.MemberID
	Address   string
	Connected bool          // the connection dialled to it
	Inbound   bool          // the connection dialled by it
	RoundTrip time.Duration // of the last echo; 0: none yet
	Sent      uint64        // messages
	Dropped   uint64        // messages: not connected, or too many waiting
	Err       error         // why the last connection ended or could not be made
	Since     time.Time     // when Connected last changed
	// Incarnation is the peer's daemon's, zero while not connected.
	Incarnation draas.Incarnation
	// NotAfter is when the peer's certificate ends, as last seen; zero: never.
	NotAfter time.Time
}

// CertificateStatus is until when what the files hold is good. A connection is
// renewed when they change, and given up when the peer's certificate has ended.
type CertificateStatus struct {
	NotAfter time.Time // of the own certificate
	// CANotAfter is of the CA that it was issued by, zero if it is not in the
	// bundle: then peers refuse it.
	CANotAfter time.Time
}

// NewTransport opens the listener. Run must follow, or Close.
func NewTransport(cfg TransportConfig) (*Transport, error) {
	if cfg.Incarnation == 0 || cfg.Inbox == nil || cfg.PeerDown == nil || cfg.Asked == nil || cfg.Log == nil {
		return nil, errors.New("open transport: incarnation, callbacks and log are needed")
	}
	t := &Transport{
		cfg: cfg, renewed: make(chan struct{}),
		links: map[draas.MemberID]*link{}, inbound: map[draas.MemberID]*inbound{}, warned: map[string]time.Time{},
		doubles: map[draas.MemberID]draas.Incarnation{}, asks: map[uint64]chan struct{}{},
	}
	if err := t.SetPeers(cfg.Peers); err != nil {
		return nil, fmt.Errorf("open transport: %w", err)
	}
	creds, err := cfg.TLS.load()
	if err != nil {
		return nil, fmt.Errorf("open transport: %w", err)
	}
	if err := t.mine(creds); err != nil {
		return nil, fmt.Errorf("open transport: %w", err)
	}
	t.creds = creds
	if leaf := creds.cert.Leaf; time.Now().After(leaf.NotAfter) {
		cfg.Log.Error("own certificate has expired, peers will refuse it", "file", cfg.TLS.Cert, "expired", leaf.NotAfter)
	}
	t.ln = cfg.Listener
	if t.ln == nil {
		if t.ln, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("open transport: %w", err)
		}
	}
	return t, nil
}

// Addr is where the transport listens.
func (t *Transport) Addr() net.Addr { return t.ln.Addr() }

// Close closes the listener of a transport that was not Run.
func (t *Transport) Close() error { return t.ln.Close() }

// mine checks that credentials are this member's.
func (t *Transport) mine(c *credentials) error {
	got, err := MemberOf(c.cert.Leaf, t.names())
	if err == nil && got != t.cfg.Self {
		err = fmt.Errorf("%w: it is %s's, this daemon is %s", ErrNotMember, got, t.cfg.Self)
	}
	if err != nil {
		return fmt.Errorf("own certificate: %w", err)
	}
	return nil
}

// Run works until ctx ends, and returns when all its goroutines have ended.
func (t *Transport) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { t.ln.Close() })
	defer stop()
	var running sync.WaitGroup
	t.mu.Lock()
	t.spawn = func(l *link) {
		own, cancel := context.WithCancel(ctx)
		l.cancel = cancel
		running.Go(func() { defer cancel(); l.run(own) })
	}
	for _, m := range slices.Sorted(maps.Keys(t.links)) {
		t.spawn(t.links[m])
	}
	t.mu.Unlock()
	running.Go(func() { t.watchCredentials(ctx) })
	err := t.accept(ctx)
	cancel()
	t.ln.Close()
	t.mu.Lock()
	t.spawn = nil
	t.mu.Unlock()
	running.Wait()
	t.accepted.Wait()
	return err
}

// SetPeers says who the other members are from now on, and where to dial them.
// Connections to those that stay where they are live on.
func (t *Transport) SetPeers(peers map[draas.MemberID]string) error {
	if _, ok := peers[t.cfg.Self]; ok {
		return fmt.Errorf("set peers: %s is its own peer", t.cfg.Self)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.members = slices.Sorted(maps.Keys(peers))
	t.members = append(t.members, t.cfg.Self)
	slices.Sort(t.members)
	for m, l := range t.links {
		if addr, ok := peers[m]; ok && addr == l.addr {
			continue
		}
		if l.cancel != nil {
			l.cancel()
		}
		delete(t.links, m)
		if in := t.inbound[m]; in != nil && !slices.Contains(t.members, m) {
			in.conn.Close()
		}
	}
	for _, m := range t.members {
		if m == t.cfg.Self || t.links[m] != nil {
			continue
		}
		t.links[m] = &link{t: t, member: m, addr: peers[m], queue: make(chan frame, maxQueue)}
		if t.spawn != nil {
			t.spawn(t.links[m])
		}
	}
	return nil
}

// names are the members, this one among them.
func (t *Transport) names() []draas.MemberID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.members
}

// link is that to a peer, or nil.
func (t *Transport) link(member draas.MemberID) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.links[member]
}

// Send queues messages. One for a peer that is not connected, or has too many
// waiting, is dropped: Raft sends again what matters.
func (t *Transport) Send(messages []Message) {
	for _, m := range messages {
		if l := t.link(m.To); l != nil && m.From == t.cfg.Self {
			l.send(frame{Type: frameMessage, Payload: m.Data})
		}
	}
}

// ErrNotConnected is returned by Ping when there is no connection to the peer.
var ErrNotConnected = errors.New("not connected")

// Ping asks a peer's daemon for a sign of life, which its main loop gives. It
// takes both connections: the answer comes on the one that the peer dialled.
func (t *Transport) Ping(ctx context.Context, member draas.MemberID) error {
	l := t.link(member)
	if l == nil {
		return fmt.Errorf("ping %s: %w", member, ErrNotMember)
	}
	done := make(chan struct{})
	t.mu.Lock()
	t.lastAsk++
	nonce := t.lastAsk
	t.asks[nonce] = done
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.asks, nonce)
	}()
	if !l.send(frame{Type: frameAsk, Payload: binary.BigEndian.AppendUint64(nil, nonce)}) {
		return fmt.Errorf("ping %s: %w", member, ErrNotConnected)
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("ping %s: %w", member, ctx.Err())
	}
}

// answered ends the wait of a Ping.
func (t *Transport) answered(nonce uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if done, ok := t.asks[nonce]; ok {
		close(done)
		delete(t.asks, nonce)
	}
}

// Status reports on the peers, sorted by name.
func (t *Transport) Status() []PeerStatus {
	var all []PeerStatus
	for _, m := range t.names() {
		l := t.link(m)
		if l == nil {
			continue
		}
		l.mu.Lock()
		s := l.status
		l.mu.Unlock()
		s.Member, s.Address, s.Sent, s.Dropped = m, l.addr, l.sent.Load(), l.dropped.Load()
		t.mu.Lock()
		if in := t.inbound[m]; in != nil {
			s.Inbound = true
			if s.NotAfter.IsZero() || in.expires.After(s.NotAfter) {
				s.NotAfter = in.expires
			}
		}
		t.mu.Unlock()
		all = append(all, s)
	}
	return all
}

// Refused is how many connections were made by somebody who was no peer.
func (t *Transport) Refused() uint64 { return t.refused.Load() }

// mayWarn bounds complaints to one per source and minute. t.mu is held.
func (t *Transport) mayWarn(source string, now time.Time) bool {
	if last, ok := t.warned[source]; ok && now.Sub(last) < complainEvery {
		return false
	}
	if len(t.warned) >= maxSources {
		maps.DeleteFunc(t.warned, func(_ string, last time.Time) bool { return now.Sub(last) >= complainEvery })
		if len(t.warned) >= maxSources {
			return false // they are still counted
		}
	}
	t.warned[source] = now
	return true
}

// gone reports whether an error says that the other process has ended, or does
// not listen: the kernel of a living machine answered for it.
func gone(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNREFUSED, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
