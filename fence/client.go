package fence

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	draas "github.com/draasd/draas"
)

// maxIdleConns is how many connections a client keeps for its next calls.
const maxIdleConns = 4

// Client talks to a guard. It may be used by many goroutines: a call that
// waits does not hold up another. It starts no goroutine.
type Client struct {
	path string

	mu     sync.Mutex
	idle   []*clientConn
	closed bool
}

type clientConn struct {
	net.Conn
	r *bufio.Reader
}

// Dial returns a client of the guard at a unix socket. It connects at the
// first call, and again at any call after the connection was lost, so that a
// guard that is restarted is found again.
func Dial(path string) *Client { return &Client{path: path} }

// Close drops the idle connections. Calls under way end by themselves.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.idle {
		_ = conn.Close() // nothing is in flight on it
	}
	c.idle = nil
	return nil
}

// Extend opens the fence for an epoch, or moves its deadline forward. It
// answers within a small bound even where opening takes longer: Status.Phase
// is "opening" then, and later calls tell how it went.
//
// Errors: draas.ErrExpired, draas.ErrStaleEpoch, ErrTooFar, ErrUnknownService,
// ErrNotReady, ErrNotOpened, or that the guard could not be asked.
func (c *Client) Extend(ctx context.Context, service draas.ServiceID, epoch draas.Epoch, d draas.Deadline) (Status, error) {
	return c.one(ctx, request{Op: opExtend, Service: service, Epoch: epoch, Deadline: d})
}

// ExtendAll extends many services' fences by one request for every 256 of them.
// It returns one Extended for each extension, in order, with the errors of
// Extend; and an error when the guard could not be asked: then what became of
// the extensions is not known, and they may be asked again.
func (c *Client) ExtendAll(ctx context.Context, all []Extension) ([]Extended, error) {
	var results []Extended
	for some := range slices.Chunk(all, maxExtensions) {
		r, err := c.call(ctx, request{Op: opExtendAll, Extend: some})
		if err == nil && len(r.Refused) != len(some) {
			err = fmt.Errorf("hear guard: %d answers to %d extensions", len(r.Refused), len(some))
		}
		if err == nil {
			err = r.about(some)
		}
		if err != nil {
			return nil, fmt.Errorf("guard extend: %w", err)
		}
		for i := range some {
			x := Extended{Status: r.Services[i], Err: r.Refused[i].asError()}
			if x.Err != nil {
				x.Err = fmt.Errorf("guard extend %s: %w", some[i].Service, x.Err)
			}
			results = append(results, x)
		}
	}
	return results, nil
}

// Shut closes the fence for good for every epoch up to the given one, and
// returns nil only when it was observed closed. If ctx ends first, the guard
// still closes.
//
// Errors: ErrNotClosed, draas.ErrStaleEpoch, ErrUnknownService, or that the
// guard could not be asked.
func (c *Client) Shut(ctx context.Context, service draas.ServiceID, epoch draas.Epoch) (Status, error) {
	return c.one(ctx, request{Op: opClose, Service: service, Epoch: epoch})
}

// Status asks about all services, sorted by name.
func (c *Client) Status(ctx context.Context) ([]Status, error) {
	r, err := c.call(ctx, request{Op: opStatus})
	if err != nil {
		return nil, fmt.Errorf("guard status: %w", err)
	}
	return r.Services, nil
}

func (c *Client) one(ctx context.Context, req request) (Status, error) {
	r, err := c.call(ctx, req)
	if err == nil {
		err = r.about([]Extension{{Service: req.Service}})
	}
	var st Status
	if len(r.Services) == 1 {
		st = r.Services[0]
	}
	if err != nil {
		return st, fmt.Errorf("guard %s %s: %w", req.Op, req.Service, err)
	}
	return st, nil
}

// about reports an answer that is to something else: what says nothing of the
// service does not say that its fence is closed.
func (r *reply) about(asked []Extension) error {
	if len(r.Services) != len(asked) {
		return fmt.Errorf("hear guard: the status of %d services, asked was %d", len(r.Services), len(asked))
	}
	for i, x := range asked {
		if r.Services[i].Service != x.Service {
			return fmt.Errorf("hear guard: the status of %q, asked was %q", bounded(string(r.Services[i].Service), 64), x.Service)
		}
	}
	return nil
}

// call asks once, and once more on a new connection when an idle one turns out
// to be dead: every request may be repeated.
func (c *Client) call(ctx context.Context, req request) (reply, error) {
	line, err := encodeLine(req, maxRequest)
	if err != nil {
		return reply{}, err
	}
	if conn := c.takeIdle(); conn != nil {
		r, err := c.exchange(ctx, conn, line)
		if err == nil {
			return r, r.asError()
		}
		if ctx.Err() != nil {
			return reply{}, err
		}
	}
	var d net.Dialer
	raw, err := d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return reply{}, err
	}
	r, err := c.exchange(ctx, &clientConn{Conn: raw, r: bufio.NewReaderSize(raw, maxReply)}, line)
	if err != nil {
		return reply{}, err
	}
	return r, r.asError()
}

// exchange owns the connection: it goes back to the idle ones, or is closed.
func (c *Client) exchange(ctx context.Context, conn *clientConn, line []byte) (reply, error) {
	// A deadline in the past ends reads and writes under way.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	r, err := roundTrip(conn, line)
	if !stop() {
		_ = conn.Close() // its deadline is spoilt
		if err == nil {
			return r, nil
		}
		return reply{}, fmt.Errorf("ask guard: %w", context.Cause(ctx))
	}
	if err != nil {
		_ = conn.Close() // the error at hand says more
		return reply{}, err
	}
	c.putIdle(conn)
	return r, nil
}

func roundTrip(conn *clientConn, line []byte) (reply, error) {
	if _, err := conn.Write(line); err != nil {
		return reply{}, fmt.Errorf("ask guard: %w", err)
	}
	answer, err := readLine(conn.r)
	if err != nil {
		return reply{}, fmt.Errorf("hear guard: %w", err)
	}
	r, err := decodeReply(answer)
	if err != nil {
		return reply{}, fmt.Errorf("hear guard: %w", err)
	}
	return r, nil
}

// decodeReply passes over what it does not know: the guard may be a newer one.
func decodeReply(line []byte) (reply, error) {
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		return reply{}, err
	}
	return r, nil
}

func (c *Client) takeIdle() *clientConn {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.idle) == 0 {
		return nil
	}
	conn := c.idle[len(c.idle)-1]
	c.idle = c.idle[:len(c.idle)-1]
	return conn
}

func (c *Client) putIdle(conn *clientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdleConns {
		_ = conn.Close() // answered; nothing is lost
		return
	}
	c.idle = append(c.idle, conn)
}
