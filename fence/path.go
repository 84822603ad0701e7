package fence

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	draas "github.com/draasd/draas"
)

// PathConfig describes a path fence.
type PathConfig struct {
	Listen  string        // host:port that users reach; the host an IP address
	Forward string        // host:port of the backend
	Margin  time.Duration // what Worst returns; zero: DefaultMargin
	// MaxConns bounds the connections; a further one is reset. Zero: 4096.
	MaxConns int
	// DialTimeout bounds connecting to the backend; zero: 1 s.
	DialTimeout time.Duration
	Clock       Clock        // zero: SystemClock
	Log         *slog.Logger // zero: none
}

// Path is a fence that is the only way in: a TCP relay in front of the
// backend. It listens only while it is open, it asks the clocks before every
// chunk it forwards, and it ends with its process, so that a guard that is
// killed, or stopped and continued, lets nothing through late.
type Path struct {
	cfg  PathConfig
	addr netip.AddrPort

	// deadline is what every chunk is checked against; nil is over.
	deadline atomic.Pointer[draas.Deadline]

	mu     sync.Mutex
	ln     *net.TCPListener
	cancel context.CancelFunc // ends dials
	conns  map[*net.TCPConn]struct{}
	users  atomic.Int64   // client connections
	wg     sync.WaitGroup // accept loop and connections
}

// NewPath checks the configuration; the fence starts closed.
func NewPath(cfg PathConfig) (*Path, error) {
	addr, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("path fence: listen %q must be an address and a port: %w", cfg.Listen, err)
	}
	if addr.Port() == 0 {
		return nil, fmt.Errorf("path fence: listen %q without a port", cfg.Listen)
	}
	if _, port, err := net.SplitHostPort(cfg.Forward); err != nil || port == "" {
		return nil, fmt.Errorf("path fence: forward %q must be host:port", cfg.Forward)
	}
	if cfg.Margin == 0 {
		cfg.Margin = DefaultMargin(draas.FencePath)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 4096
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = time.Second
	}
	if cfg.Clock == nil {
		cfg.Clock = SystemClock{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Path{cfg: cfg, addr: addr, conns: map[*net.TCPConn]struct{}{}}, nil
}

// Worst is the margin. The relay itself stops within one chunk; the margin is
// for the listener, and for a machine that stalls.
func (p *Path) Worst() time.Duration { return p.cfg.Margin }

// Conns is the number of users' connections.
func (p *Path) Conns() int { return int(p.users.Load()) }

// Open starts to listen and to relay.
func (p *Path) Open(ctx context.Context, permit Permit) error {
	if permit.Deadline.Passed(p.cfg.Clock.Now()) {
		return errors.Join(draas.ErrExpired, p.Close(ctx))
	}
	p.deadline.Store(&permit.Deadline)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil {
		return nil
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // its sockets know fewer options
	ln, err := lc.Listen(ctx, "tcp", p.addr.String())
	if err != nil {
		p.deadline.Store(nil)
		return fmt.Errorf("open path: %w", err)
	}
	tcp := ln.(*net.TCPListener)
	dials, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.ln, p.cancel = tcp, cancel
	p.wg.Go(func() { p.accept(dials, tcp) })
	return nil
}

// Extend moves the deadline, and listens again if the listener was lost.
func (p *Path) Extend(ctx context.Context, permit Permit) error { return p.Open(ctx, permit) }

// Close stops listening, resets every connection on both sides and waits until
// nothing is left of them.
func (p *Path) Close(context.Context) error {
	p.deadline.Store(nil)
	p.mu.Lock()
	if p.ln != nil {
		_ = p.ln.Close() // also resets who waits in its queue
		p.ln = nil
		p.cancel()
	}
	for c := range p.conns {
		_ = c.Close() // lingers zero: a reset
	}
	p.mu.Unlock()
	p.wg.Wait()
	return nil
}

// State is Open while the relay listens. It is Closed when there is no
// connection and nobody listens on the address: if somebody else does, the
// relay is not the only way in.
func (p *Path) State(context.Context) (State, error) {
	p.mu.Lock()
	listens, conns := p.ln != nil, len(p.conns)
	p.mu.Unlock()
	if listens {
		if p.live() {
			return Open, nil
		}
		return Unknown, errors.New("the permit is over, but the path still listens")
	}
	if conns > 0 {
		return Unknown, fmt.Errorf("%d connections are left", conns)
	}
	if err := tryBind(p.addr); err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			return Unknown, fmt.Errorf("somebody else listens on %s", p.addr)
		}
		if !errors.Is(err, unix.EADDRNOTAVAIL) { // not an address of this host: no way in here
			return Unknown, fmt.Errorf("try %s: %w", p.addr, err)
		}
	}
	return Closed, nil
}

// live asks the clocks. A deadline seen passed is over for good.
func (p *Path) live() bool {
	d := p.deadline.Load()
	if d == nil {
		return false
	}
	if d.Passed(p.cfg.Clock.Now()) {
		p.deadline.CompareAndSwap(d, nil)
		return false
	}
	return true
}

func (p *Path) accept(dials context.Context, ln *net.TCPListener) {
	for {
		client, err := ln.AcceptTCP()
		if err != nil {
			if !p.acceptFailed(dials, ln, err) {
				return
			}
			continue
		}
		prepare(client)
		if p.users.Load() >= int64(p.cfg.MaxConns) || !p.admit(client) {
			_ = client.Close() // a reset
			continue
		}
		p.users.Add(1)
		p.wg.Go(func() {
			defer p.users.Add(-1)
			defer p.forget(client)
			p.relay(dials, client)
		})
	}
}

// acceptFailed reports whether to go on: too many open files passes, a broken
// listener does not, and the guard's next look listens again.
func (p *Path) acceptFailed(ctx context.Context, ln *net.TCPListener, err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM) {
		p.cfg.Log.Error("path cannot accept", "err", err)
		pause(ctx, 20*time.Millisecond)
		return true
	}
	p.cfg.Log.Error("path lost its listener", "err", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln == ln {
		_ = ln.Close() // broken already
		p.ln = nil
		p.cancel()
	}
	return false
}

// admit registers a connection for Close to reset, while the path is open.
func (p *Path) admit(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	// Under the lock, so that a Close comes before or finds the connection.
	if !p.live() {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Path) forget(c *net.TCPConn) {
	_ = c.Close() // a second close does no harm
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// tryBind binds the address without listening: it fails with EADDRINUSE when
// a listener has it, and no user can connect meanwhile.
func tryBind(addr netip.AddrPort) error {
	family := unix.AF_INET6
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16()}
	if ip := addr.Addr().Unmap(); ip.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make socket: %w", err)
	}
	// Connections of the closed relay that still die must not count.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	return errors.Join(err, unix.Close(fd))
}
