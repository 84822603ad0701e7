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
	clients map[netip.AddrPort]*udpClient
}

// udpClient is a client's way to the target and back.
type udpClient struct {
	up   *net.UDPConn
	used time.Time // when a datagram of the client's last went this way
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
	r := &udpRelay{target: to, valve: v, conn: conn, clients: make(map[netip.AddrPort]*udpClient)}
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
	for _, c := range r.clients {
		_ = c.up.Close() // as above
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
		r.forward(from, buf[:n])
	}
}

// forward sends a client's datagram on. It holds the lock to the end, so that
// the way is not given up as idle in between: the answer would be lost.
func (r *udpRelay) forward(client netip.AddrPort, datagram []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.clients[client]
	if c == nil {
		if len(r.clients) >= udpClients || r.ctx.Err() != nil {
			return
		}
		up, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(r.target))
		if err != nil {
			return // lost, as on a network without room
		}
		c = &udpClient{up: up}
		r.clients[client] = c
		r.wg.Go(func() { r.back(client, c) })
	}
	c.used = time.Now()
	// A refusal of an earlier datagram: to the client it is a loss.
	_, _ = c.up.Write(datagram)
}

// idle gives a client's way up, unless it was used meanwhile.
func (r *udpRelay) idle(client netip.AddrPort, c *udpClient) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(c.used) < udpIdle && r.ctx.Err() == nil {
		return false
	}
	delete(r.clients, client)
	_ = c.up.Close() // nothing is in flight that matters
	return true
}

// back carries the answers to a client until it has asked nothing for a while.
func (r *udpRelay) back(client netip.AddrPort, c *udpClient) {
	buf := make([]byte, 4<<10) // DNS over UDP stays below
	for {
		_ = c.up.SetReadDeadline(time.Now().Add(udpIdle)) // of a closed socket: Read says so
		n, err := c.up.Read(buf)
		switch {
		case err == nil && r.passing():
			_, _ = r.conn.WriteToUDPAddrPort(buf[:n], client) // a loss, to the client
		case err != nil && r.idle(client, c):
			return
		}
	}
}
