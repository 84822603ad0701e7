package demo

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// udpIdle is how long a client's way back stays open.
	udpIdle = 2 * time.Second
	// udpClients bounds the clients that are remembered; further ones are
	// dropped, as a full network drops.
	udpClients = 4096
	// udpSize is the largest datagram there is.
	udpSize = 64 << 10
)

// udpRelay carries datagrams from its listening address to its target, and the
// answers back. What is dropped is lost.
type udpRelay struct {
	target netip.AddrPort
	valve  *valve
	conn   *net.UDPConn
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	clients map[netip.AddrPort]*net.UDPConn
}

// relayUDP starts a relay; both addresses are literal.
func relayUDP(listen, target string, v *valve) (*udpRelay, error) {
	from, err := netip.ParseAddrPort(listen)
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	to, err := netip.ParseAddrPort(target)
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(from))
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	r := &udpRelay{target: to, valve: v, conn: conn, clients: make(map[netip.AddrPort]*net.UDPConn)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.serve)
	return r, nil
}

func (r *udpRelay) addr() string { return r.conn.LocalAddr().String() }

// close ends the relay and waits for it.
func (r *udpRelay) close() {
	r.cancel()
	_ = r.conn.Close() // to unblock the reader
	r.mu.Lock()
	for _, up := range r.clients {
		_ = up.Close() // as above
	}
	r.mu.Unlock()
	r.wg.Wait()
}

func (r *udpRelay) passing() bool {
	m, _ := r.valve.get()
	return m == pass
}

func (r *udpRelay) serve() {
	buf := make([]byte, udpSize)
	for {
		n, from, err := r.conn.ReadFromUDPAddrPort(buf)
		if r.ctx.Err() != nil {
			return
		}
		if err != nil || !r.passing() {
			continue // an error is that of an earlier datagram
		}
		up, err := r.upstream(from)
		if err != nil {
			continue
		}
		// A refusal of an earlier datagram: to the client it is a loss.
		_, _ = up.Write(buf[:n])
	}
}

// upstream is the socket by which a client's datagrams go on.
func (r *udpRelay) upstream(client netip.AddrPort) (*net.UDPConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if up := r.clients[client]; up != nil {
		return up, nil
	}
	if len(r.clients) >= udpClients || r.ctx.Err() != nil {
		return nil, fmt.Errorf("carry datagram of %s: too many clients", client)
	}
	up, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.target))
	if err != nil {
		return nil, fmt.Errorf("carry datagram of %s: %w", client, err)
	}
	r.clients[client] = up
	r.wg.Go(func() { r.back(client, up) })
	return up, nil
}

// back carries the answers to a client until none comes for a while.
func (r *udpRelay) back(client netip.AddrPort, up *net.UDPConn) {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.clients, client)
		_ = up.Close() // nothing is in flight that matters
	}()
	buf := make([]byte, 4<<10) // DNS over UDP stays below
	for {
		if up.SetReadDeadline(time.Now().Add(udpIdle)) != nil {
			return
		}
		n, err := up.Read(buf)
		if err != nil {
			return
		}
		if r.passing() {
			_, _ = r.conn.WriteToUDPAddrPort(buf[:n], client) // a loss, to the client
		}
	}
}
