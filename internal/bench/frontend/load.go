package frontend

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/draasd/draas/internal/bench/rounds"
)

// sample is one request.
type sample struct {
	due  time.Time     // when it should have been sent: who waits for a connection waits, too
	took time.Duration // from then to its last byte
	site string        // that answered
	err  error         // no good answer
}

// asker sends GET requests over connections that it keeps.
type asker struct {
	address string
	clients int
	// rate is how many are due in a second, whatever becomes of those before;
	// zero: each client asks again as soon as it has its answer.
	rate int
}

// answerLimit is when a request is given up.
const answerLimit = 15 * time.Second

// run asks until stop is closed, and waits for what is under way.
func (a asker) run(ctx context.Context, stop <-chan struct{}) []sample {
	queue := 1 << 16
	if a.rate == 0 {
		queue = 0
	}
	due := make(chan time.Time, queue)
	var all sync.WaitGroup
	all.Go(func() {
		defer close(due)
		a.pace(ctx, stop, due)
	})
	found := make([][]sample, a.clients)
	for i := range a.clients {
		all.Go(func() {
			c := &client{address: a.address}
			defer c.close()
			for at := range due {
				if a.rate == 0 {
					at = time.Now()
				}
				site, err := c.get(ctx)
				found[i] = append(found[i], sample{at, time.Since(at), site, err})
			}
		})
	}
	all.Wait()
	var out []sample
	for _, f := range found {
		out = append(out, f...)
	}
	return out
}

// pace says when requests are due.
func (a asker) pace(ctx context.Context, stop <-chan struct{}, due chan<- time.Time) {
	start := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for sent := 0; ; {
		if a.rate == 0 {
			select {
			case due <- start:
				continue
			case <-stop:
				return
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for ; sent < int(now.Sub(start).Seconds()*float64(a.rate)); sent++ {
				select {
				case due <- start.Add(time.Duration(float64(sent+1) / float64(a.rate) * float64(time.Second))):
				case <-ctx.Done():
					return
				}
			}
		}
	}
}

// client is one connection, opened again when it was lost.
type client struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
}

const request = "GET " + pathSmall + " HTTP/1.1\r\nHost: bench.test\r\n\r\n"

// get asks once. Nothing is tried again here: what fails has failed.
func (c *client) get(ctx context.Context) (site string, err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.conn == nil {
		d := net.Dialer{Timeout: answerLimit}
		if c.conn, err = d.DialContext(ctx, "tcp", c.address); err != nil {
			return "", err
		}
		c.in = bufio.NewReaderSize(c.conn, 4096)
	}
	if err := c.conn.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c.conn, request); err != nil {
		return "", err
	}
	return readAnswer(c.in)
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// readAnswer reads an answer of known length, and the site that it names.
func readAnswer(in *bufio.Reader) (site string, err error) {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(string(status), "HTTP/1.1 200") {
		return "", fmt.Errorf("answered %q", strings.TrimSpace(string(status)))
	}
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		value = strings.TrimSpace(value)
		switch {
		case name == "" && length < 0:
			return "", errors.New("the answer has no length")
		case name == "":
			_, err := in.Discard(length)
			return site, err
		case strings.EqualFold(name, "Content-Length"):
			if length, err = strconv.Atoi(value); err != nil || length < 0 {
				return "", fmt.Errorf("length %q", value)
			}
		case strings.EqualFold(name, "X-Site"):
			site = value
		}
	}
}

// seen is what the requests of one run say.
type seen struct {
	sent, failed int
	// before is the longest wait of those that were due before the event, and
	// stall of those due after it or under way then; p99 is the latter's 99th
	// percentile. All in ms.
	before, stall, p99 float64
	// switched is from the event to the first answer of another site than
	// before, in ms; zero when there was none.
	switched float64
	failure  error // the first
}

// judge looks at a run's samples around an event.
func judge(samples []sample, event time.Time, from string) seen {
	var s seen
	var after []float64
	for _, x := range samples {
		s.sent++
		took := float64(x.took) / float64(time.Millisecond)
		end := x.due.Add(x.took)
		if x.err != nil {
			s.failed++
			if s.failure == nil {
				s.failure = x.err
			}
			continue
		}
		if end.Before(event) {
			s.before = max(s.before, took)
			continue
		}
		after = append(after, took)
		if since := float64(end.Sub(event)) / float64(time.Millisecond); x.site != from && (s.switched == 0 || since < s.switched) {
			s.switched = since
		}
	}
	s.stall, s.p99 = rounds.Percentile(after, 100), rounds.Percentile(after, 99)
	return s
}
