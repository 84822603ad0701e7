package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// relayDial bounds connecting to a target, which is on the same machine.
	relayDial = time.Second
	// relayChunk is what is read and delivered at a time, and what a silent
	// link takes from a new connection.
	relayChunk = 32 << 10
)

// tcpRelay carries connections from its listening address to its target.
type tcpRelay struct {
	target string
	valve  *valve
	ln     *net.TCPListener

	ctx    context.Context // ends with the relay
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns map[*net.TCPConn]struct{}
}

// relayTCP starts a relay.
func relayTCP(listen, target string, v *valve) (*tcpRelay, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(context.Background(), "tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("start relay: %w", err)
	}
	r := &tcpRelay{target: target, valve: v, ln: ln.(*net.TCPListener), conns: make(map[*net.TCPConn]struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.accept)
	r.wg.Go(r.obey)
	return r, nil
}

// addr is where the relay listens.
func (r *tcpRelay) addr() string { return r.ln.Addr().String() }

// close ends the relay and its connections and waits for them.
func (r *tcpRelay) close() {
	r.cancel()
	_ = r.ln.Close() // only to unblock accept
	r.resetAll()
	r.wg.Wait()
}

// obey resets the connections when the link turns to reset.
func (r *tcpRelay) obey() {
	for {
		m, until := r.valve.get()
		if m == reset {
			r.resetAll()
		}
		select {
		case <-until.Done():
		case <-r.ctx.Done():
			return
		}
	}
}

func (r *tcpRelay) resetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		resetConn(c)
	}
}

// resetConn closes a connection with a reset. Its owner meets the error.
func resetConn(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails only on a connection that is dead
	_ = c.Close()
}

// take registers a connection to be reset with the relay.
func (r *tcpRelay) take(c *net.TCPConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, _ := r.valve.get(); m == reset || r.ctx.Err() != nil {
		return false
	}
	r.conns[c] = struct{}{}
	return true
}

func (r *tcpRelay) drop(c *net.TCPConn) {
	_ = c.Close() // reset or ended already, or nothing is to be told
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

func (r *tcpRelay) accept() {
	for {
		c, err := r.ln.AcceptTCP()
		switch {
		case r.ctx.Err() != nil:
			if err == nil {
				resetConn(c)
			}
			return
		case err != nil: // out of files: those who wait are taken later
			select {
			case <-time.After(20 * time.Millisecond):
			case <-r.ctx.Done():
			}
			continue
		}
		if !r.take(c) {
			resetConn(c)
			continue
		}
		r.wg.Go(func() {
			defer r.drop(c)
			r.carry(c)
		})
	}
}

// carry carries one connection from its beginning to its end.
func (r *tcpRelay) carry(client *net.TCPConn) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	head, ok := r.hold(ctx, client)
	if !ok {
		resetConn(client)
		return
	}
	dialer := net.Dialer{Timeout: relayDial}
	dialer.SetMultipathTCP(false)
	conn, err := dialer.DialContext(ctx, "tcp", r.target)
	if err != nil {
		// Nobody is there: the nearest to a refusal that is left.
		resetConn(client)
		return
	}
	server := conn.(*net.TCPConn)
	if !r.take(server) {
		resetConn(server)
		resetConn(client)
		return
	}
	defer r.drop(server)
	if _, err := server.Write(head); err != nil {
		resetConn(client)
		return
	}
	var pumps sync.WaitGroup
	defer pumps.Wait()
	pump := func(dst, src *net.TCPConn) {
		if r.pump(ctx, dst, src) != nil {
			cancel() // the other way must not wait for the link
			resetConn(client)
			resetConn(server)
		}
	}
	pumps.Go(func() { pump(server, client) })
	pump(client, server)
}

// errSilent says that a link never delivered what it held back.
var errSilent = errors.New("link is silent")

// pump delivers what src sends to dst, and its end.
func (r *tcpRelay) pump(ctx context.Context, dst, src *net.TCPConn) error {
	buf := make([]byte, relayChunk)
	for {
		n, err := src.Read(buf)
		if !r.valve.passes(ctx) {
			return errSilent
		}
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return fmt.Errorf("deliver: %w", err)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if err := dst.CloseWrite(); err != nil {
				return fmt.Errorf("deliver end: %w", err)
			}
			return nil
		case err != nil:
			return fmt.Errorf("take: %w", err)
		}
	}
}

// hold keeps a new connection waiting while the link drops, and returns the
// first bytes that its client sent meanwhile. It is false when the client gave
// up, so that a long silence gathers no dead connections.
func (r *tcpRelay) hold(ctx context.Context, c *net.TCPConn) (head []byte, ok bool) {
	for {
		m, until := r.valve.get()
		if m == reset || ctx.Err() != nil {
			return nil, false
		}
		if m == pass {
			return head, true
		}
		waiting, cancel := context.WithCancel(until)
		unlink := context.AfterFunc(ctx, cancel)
		given, err := readUntil(waiting, c, relayChunk-len(head))
		unlink()
		cancel()
		if err != nil {
			return nil, false
		}
		head = append(head, given...)
	}
}

// readUntil reads until ctx ends, at most n bytes. It returns what it read, or
// the connection's error if that came first.
func readUntil(ctx context.Context, c *net.TCPConn, n int) ([]byte, error) {
	woken := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(woken)
		_ = c.SetReadDeadline(time.Unix(1, 0)) // a dead connection needs no waking
	})
	defer func() {
		if !stop() {
			<-woken
			_ = c.SetReadDeadline(time.Time{}) // as above
		}
	}()
	buf := make([]byte, n)
	got := 0
	for got < n {
		k, err := c.Read(buf[got:])
		got += k
		if ctx.Err() != nil {
			return buf[:got], nil
		}
		if err != nil {
			return nil, fmt.Errorf("wait on silent link: %w", err)
		}
	}
	<-ctx.Done() // full: take no more
	return buf, nil
}
