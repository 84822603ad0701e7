package authority

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Listener holds the two sockets of one address.
type Listener struct {
	udp *net.UDPConn
	tcp *net.TCPListener
	// wildcard is set when the address is unspecified: each answer must then
	// name the source that its query was sent to.
	wildcard bool
}

// portTries bounds the search for a port that is free for both protocols.
const portTries = 20

// Listen opens UDP and TCP on one address, host:port. Port 0 takes one that
// is free for both.
func Listen(ctx context.Context, address string) (*Listener, error) {
	var lastErr error
	for range portTries {
		l, err := listenOnce(ctx, address)
		if err == nil {
			return l, nil
		}
		lastErr = err
		if _, port, splitErr := net.SplitHostPort(address); splitErr != nil || port != "0" {
			break
		}
	}
	return nil, fmt.Errorf("listen for dns on %s: %w", address, lastErr)
}

func listenOnce(ctx context.Context, address string) (*Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	// "0.0.0.0" means IPv4 alone, "::" means both; left to itself, net takes
	// both for both.
	family := ""
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is4() {
		family = "4"
	}
	var lc net.ListenConfig
	tcp, err := lc.Listen(ctx, "tcp"+family, address)
	if err != nil {
		return nil, err
	}
	bound := tcp.Addr().(*net.TCPAddr)
	udp, err := lc.ListenPacket(ctx, "udp"+family, net.JoinHostPort(host, fmt.Sprint(bound.Port)))
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	l := &Listener{udp: udp.(*net.UDPConn), tcp: tcp.(*net.TCPListener), wildcard: bound.IP.IsUnspecified()}
	if l.wildcard {
		if err := wantPacketInfo(l.udp); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

// Addr is the address of both sockets.
func (l *Listener) Addr() netip.AddrPort { return l.tcp.Addr().(*net.TCPAddr).AddrPort() }

// source is the address that the listener speaks from, if it is one.
func (l *Listener) source() netip.Addr {
	if l.wildcard {
		return netip.Addr{}
	}
	return l.Addr().Addr().Unmap()
}

// Close closes both sockets.
func (l *Listener) Close() error { return errors.Join(l.udp.Close(), l.tcp.Close()) }

// Serve answers on the listener until the context ends or a socket fails. It
// closes the listener and returns when all that it started has ended; it
// returns nil when the context ended.
func (a *Authority) Serve(ctx context.Context, l *Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		<-ctx.Done()
		_ = l.Close()
	})
	errs := make(chan error, a.cfg.Workers+1)
	start := func(serve func(context.Context, *Listener) error) {
		wg.Go(func() {
			defer cancel() // one that fails takes all along
			errs <- serve(ctx, l)
		})
	}
	help := make(chan struct{}, 1) // who calls does not wait
	start(func(ctx context.Context, l *Listener) error { return a.serveUDP(ctx, l, help) })
	for range a.cfg.Workers - 1 {
		start(func(ctx context.Context, l *Listener) error { return a.helpUDP(ctx, l, help) })
	}
	start(a.serveTCP)
	wg.Go(func() { a.keepUp(ctx, l) })
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// maxFailures bounds how many reads or accepts may fail in a row.
const maxFailures = 50

// pause waits a little after the nth failure in a row, or until the context
// ends.
func pause(ctx context.Context, nth int) {
	t := time.NewTimer(time.Duration(min(nth, 20)) * 5 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
