package matrix

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/draasd/draas/rto"
)

// session is a client on one TCP connection. It asks at its rate, and takes
// the connection for dead when a question has waited for quiet; then it looks
// the name up and connects anew.
type session struct {
	asker
	host, port string
	say        func(answer)
	next       int // resolver that is asked first

	mu      sync.Mutex
	conn    net.Conn
	pending []asked // on conn, the oldest first
	number  uint64
}

// asked is a question that waits for its answer.
type asked struct {
	number   uint64
	at, sent time.Time
}

// quiet is how long a question may wait before its connection counts as dead:
// what applications with a heartbeat allow.
const quiet = time.Second

func runSession(ctx context.Context, a asker, say func(answer)) error {
	u, err := url.Parse(a.URL)
	if err != nil {
		return fmt.Errorf("parse URL: %w", err)
	}
	s := &session{asker: a, host: u.Hostname(), port: u.Port(), say: say}
	period := time.Duration(float64(time.Second) / a.Rate)
	tick := time.NewTicker(period)
	defer tick.Stop()
	var reading sync.WaitGroup
	defer reading.Wait()
	for {
		select {
		case at := <-tick.C:
			s.step(ctx, at, &reading)
		case <-ctx.Done():
			s.hangUp(nil)
			return nil
		}
	}
}

// step asks once, on the connection there is or a new one. While one is being
// made the ticks that pass are not asked: they fail together when it cannot be
// made, and are asked on it when it can.
func (s *session) step(ctx context.Context, at time.Time, reading *sync.WaitGroup) {
	s.mu.Lock()
	conn := s.conn
	if conn != nil && len(s.pending) > 0 && time.Since(s.pending[0].sent) > quiet {
		s.mu.Unlock()
		s.hangUp(os.ErrDeadlineExceeded)
		s.mu.Lock()
		conn = nil
	}
	s.number++
	q := asked{number: s.number, at: at, sent: time.Now()}
	s.mu.Unlock()
	if conn == nil {
		var r *bufio.Reader
		var err error
		if conn, r, err = s.connect(ctx); err != nil {
			if ctx.Err() == nil {
				s.fail(q, err)
			}
			return
		}
		s.mu.Lock()
		s.conn = conn
		s.mu.Unlock()
		reading.Go(func() { s.read(conn, r) })
	}
	s.mu.Lock()
	if s.conn != conn { // lost meanwhile
		s.mu.Unlock()
		s.fail(q, io.ErrUnexpectedEOF)
		return
	}
	s.pending = append(s.pending, q)
	s.mu.Unlock()
	// What cannot be written is found out by who reads.
	_, _ = fmt.Fprintf(conn, "%d\n", q.number)
}

// read takes answers until the connection ends.
func (s *session) read(conn net.Conn, r *bufio.Reader) {
	for {
		line, err := r.ReadString('\n')
		if err == nil {
			err = s.answered(conn, strings.TrimSpace(line))
		}
		if err != nil {
			s.mu.Lock()
			mine := s.conn == conn
			s.mu.Unlock()
			if mine {
				s.hangUp(err)
			}
			_ = conn.Close()
			return
		}
	}
}

var errSaid = errors.New("says what no service says")

// answered takes "NUMBER SITE EPOCH STAMP".
func (s *session) answered(conn net.Conn, line string) error {
	done := time.Now()
	f := strings.Fields(line)
	if len(f) != 4 {
		return fmt.Errorf("%w: %.40q", errSaid, line)
	}
	number, err1 := strconv.ParseUint(f[0], 10, 64)
	epoch, err2 := strconv.ParseUint(f[2], 10, 64)
	stamp, err3 := strconv.ParseInt(f[3], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("%w: %w", errSaid, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != conn || len(s.pending) == 0 || s.pending[0].number != number {
		return fmt.Errorf("%w: %.40q", errSaid, line)
	}
	q := s.pending[0]
	s.pending = s.pending[1:]
	s.say(answer{Asker: s.Name, At: q.at.UnixNano(), Sent: q.sent.UnixNano(), Done: done.UnixNano(), Stamp: stamp, Epoch: epoch, Site: f[1]})
	return nil
}

// hangUp ends the connection; what was asked on it has failed. A nil error
// ends the measurement: then nothing has.
func (s *session) hangUp(err error) {
	s.mu.Lock()
	conn, lost := s.conn, s.pending
	s.conn, s.pending = nil, nil
	s.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
	if err == nil {
		return
	}
	for _, q := range lost {
		s.fail(q, err)
	}
}

func (s *session) fail(q asked, err error) {
	class := rto.Other
	var timeout net.Error
	switch {
	case errors.Is(err, errLookup):
		class = rto.DNS
	case errors.Is(err, syscall.ECONNREFUSED):
		class = rto.Refused
	case errors.As(err, &timeout) && timeout.Timeout():
		class = rto.Timeout
	case errors.Is(err, errStatus):
		class = rto.Status
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
		class = rto.Reset
	}
	s.say(answer{Asker: s.Name, At: q.at.UnixNano(), Sent: q.sent.UnixNano(), Done: time.Now().UnixNano(), Class: class, Why: err.Error()})
}

var (
	errLookup = errors.New("the name is not found")
	errStatus = errors.New("the service refuses")
)

// connect looks the name up, and makes and upgrades a connection to the first
// of its addresses that takes it.
func (s *session) connect(ctx context.Context) (net.Conn, *bufio.Reader, error) {
	deadline := time.Now().Add(quiet)
	addresses, err := s.lookup(ctx, deadline)
	if err != nil {
		return nil, nil, err
	}
	var errs []error
	for i, a := range addresses {
		d := net.Dialer{Timeout: max(time.Millisecond, time.Until(deadline)/time.Duration(len(addresses)-i))}
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(a, s.port))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r, err := s.upgrade(conn, deadline)
		if err != nil {
			_ = conn.Close()
			return nil, nil, err
		}
		return conn, r, nil
	}
	return nil, nil, errors.Join(errs...)
}

func (s *session) upgrade(conn net.Conn, deadline time.Time) (*bufio.Reader, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	_, err := fmt.Fprintf(conn, "GET /session HTTP/1.1\r\nHost: %s:%s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", s.host, s.port, sessionProtocol)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	status, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	for line := status; strings.TrimSpace(line) != ""; {
		if line, err = r.ReadString('\n'); err != nil {
			return nil, err
		}
	}
	if !strings.HasPrefix(status, "HTTP/1.1 101 ") {
		return nil, fmt.Errorf("%w: %s", errStatus, strings.TrimSpace(status))
	}
	return r, conn.SetDeadline(time.Time{})
}

// lookup asks the resolvers in turn, the one that answered last first.
func (s *session) lookup(ctx context.Context, deadline time.Time) ([]string, error) {
	if net.ParseIP(s.host) != nil {
		return []string{s.host}, nil
	}
	err := errLookup
	for i := range s.Resolvers {
		server := (s.next + i) % len(s.Resolvers)
		share := time.Until(deadline) / time.Duration(len(s.Resolvers)+1-i)
		asking, cancel := context.WithTimeout(ctx, share)
		m, _, e := new(dns.Client).ExchangeContext(asking, new(dns.Msg).SetQuestion(dns.Fqdn(s.host), dns.TypeA), s.Resolvers[server])
		cancel()
		if e != nil {
			err = fmt.Errorf("%w: %w", errLookup, e)
			continue
		}
		var found []string
		for _, rr := range m.Answer {
			if a, ok := rr.(*dns.A); ok {
				found = append(found, a.A.String())
			}
		}
		if len(found) > 0 {
			s.next = server
			return found, nil
		}
	}
	return nil, err
}
