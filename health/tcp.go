package health

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// TCP makes a probe that is content when addr ("host:port") accepts a
// connection. It then aborts the connection (see abort).
func TCP(addr string) (Probe, error) {
	at, err := parseEndpoint(addr)
	if err != nil {
		return nil, fmt.Errorf("make tcp probe: %w", err)
	}
	return func(ctx context.Context) Result {
		conn, err := at.dialTCP(ctx)
		if err != nil {
			return failure("connect", err, ClassOther)
		}
		abort(conn)
		return Result{Class: ClassOK}
	}, nil
}

// endpoint is where a probe connects to. A literal address is parsed once:
// resolving it again costs a tenth of a TCP look.
type endpoint struct {
	text string
	host string
	addr netip.AddrPort // not valid if host is a name
}

func parseEndpoint(text string) (endpoint, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return endpoint{}, fmt.Errorf("parse address: %w", err)
	}
	if host == "" {
		return endpoint{}, fmt.Errorf("address %q has no host", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return endpoint{}, fmt.Errorf("address %q: port is not a number from 1 to 65535", text)
	}
	at := endpoint{text: text, host: host}
	if addr, err := netip.ParseAddrPort(text); err == nil {
		at.addr = addr
	}
	return at, nil
}

// dialer sends no keep-alives: a probe's connection is over before the first
// would be due, and turning them on costs four system calls.
func dialer() *net.Dialer { return &net.Dialer{KeepAlive: -1} }

func (e endpoint) dialTCP(ctx context.Context) (*net.TCPConn, error) {
	if e.addr.IsValid() {
		return dialer().DialTCP(ctx, "tcp", netip.AddrPort{}, e.addr)
	}
	conn, err := dialer().DialContext(ctx, "tcp", e.text)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("%T is not a TCP connection", conn)
	}
	return tcp, nil
}

func (e endpoint) dialUDP(ctx context.Context) (net.Conn, error) {
	if e.addr.IsValid() {
		return dialer().DialUDP(ctx, "udp", netip.AddrPort{}, e.addr)
	}
	return dialer().DialContext(ctx, "udp", e.text)
}

// abort closes with a reset instead of a FIN, so that no probe leaves a socket
// in TIME_WAIT: at thousands of looks a second to one address these would use
// up the local ports within seconds.
func abort(conn *net.TCPConn) {
	conn.SetLinger(0) // a connection that is already dead needs no linger
	conn.Close()
}

// bound makes reads and writes on conn fail once ctx has ended. The caller
// calls stop when it no longer uses conn.
func bound(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
}
