package matrix

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/internal/stamp"
	"github.com/draasd/draas/measure"
)

// counterOptions describe one of the two copies of the workload.
type counterOptions struct {
	Listen  string        // where users ask
	Replica string        // where the other copy sends its writes
	Other   string        // the other copy's Replica
	Lag     time.Duration // how old a write is when it is sent there
	Control string        // socket of the site's daemon, whose epoch is stamped; empty: none
	Service string
	Site    string
}

// counter is a small replicated service. It counts: a POST to /rows adds a
// numbered row to a run and is acknowledged when the copy here has it; the
// other copy gets it a lag later. GET /rows?run= gives a run back. (The wire is
// that of docs/rtotest.md.) It does not stop serving by itself: that is the
// fence's to do.
type counter struct {
	o     counterOptions
	epoch *stamp.Epoch // nil without a daemon
	ill   atomic.Int32 // how it answers

	ctx      context.Context // ends with the counter
	sessions sync.WaitGroup  // that were hijacked, which the server does not know

	mu   sync.Mutex
	runs map[string][]uint64
	has  map[string]bool // run and number
	out  []row           // not sent yet, the oldest first
	wake chan struct{}
}

type row struct {
	line string // run and number
	at   time.Time
}

// How a counter answers. A signal makes it ill; only another process is well.
const (
	well     = iota
	erring   // SIGUSR1: every answer is an error
	sluggish // SIGUSR2: every answer takes slowFor
)

// slowFor is longer than any check waits, and shorter than users do.
const slowFor = 700 * time.Millisecond

func runCounter(ctx context.Context, o counterOptions) error {
	c := &counter{o: o, runs: make(map[string][]uint64), has: make(map[string]bool), wake: make(chan struct{}, 1)}
	if o.Control != "" {
		c.epoch = stamp.New(o.Control, draas.ServiceID(o.Service), draas.SiteID(o.Site))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.ctx = ctx
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	defer signal.Stop(signals)
	users := &http.Server{Handler: c.handler(), ReadHeaderTimeout: 5 * time.Second}
	copies := &http.Server{Handler: http.HandlerFunc(c.take), ReadHeaderTimeout: 5 * time.Second}
	var all sync.WaitGroup
	errs := make([]error, 2)
	for i, s := range []*http.Server{users, copies} {
		ln, err := net.Listen("tcp", []string{o.Listen, o.Replica}[i])
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		all.Go(func() {
			defer cancel()
			if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				errs[i] = fmt.Errorf("serve: %w", err)
			}
		})
	}
	all.Go(func() { c.send(ctx) })
	if c.epoch != nil {
		all.Go(func() { c.epoch.Follow(ctx) })
	}
	for {
		select {
		case s := <-signals:
			c.ill.Store(map[os.Signal]int32{syscall.SIGUSR1: erring, syscall.SIGUSR2: sluggish}[s])
			continue
		case <-ctx.Done():
		}
		break
	}
	_ = users.Close() // nobody waits for what is under way
	_ = copies.Close()
	all.Wait()
	c.sessions.Wait()
	return errors.Join(errs...)
}

func (c *counter) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		for k, v := range c.stamp(r.Context()) {
			w.Header().Set(k, v)
		}
		_, _ = io.WriteString(w, "counter at "+c.o.Site+"\n")
	})
	mux.HandleFunc("POST /rows", c.add)
	mux.HandleFunc("GET /rows", c.give)
	mux.HandleFunc("GET /session", c.session)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		switch c.ill.Load() {
		case erring:
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		case sluggish:
			c.linger(r.Context())
		}
		mux.ServeHTTP(w, r)
	})
}

// linger is how long a sluggish counter thinks.
func (c *counter) linger(ctx context.Context) {
	t := time.NewTimer(slowFor)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// stamp is what every answer says of itself.
func (c *counter) stamp(ctx context.Context) map[string]string {
	e := c.under(ctx)
	s := map[string]string{measure.HeaderSite: c.o.Site, measure.HeaderTime: strconv.FormatInt(time.Now().UnixNano(), 10)}
	if e > 0 {
		s[measure.HeaderEpoch] = strconv.FormatUint(uint64(e), 10)
	}
	return s
}

// under is the epoch of an answer.
func (c *counter) under(ctx context.Context) draas.Epoch {
	if c.epoch == nil {
		return 0
	}
	return c.epoch.Now(ctx)
}

// maxRows bounds the body of a write, and of what a copy sends.
const maxRows = 1 << 20

func (c *counter) add(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxRows))
	line := strings.TrimSpace(string(body))
	if err != nil || !c.keep(line, true) {
		http.Error(w, "want a run and a number", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	n := len(c.has)
	c.mu.Unlock()
	_, _ = fmt.Fprintf(w, "%s is row %d\n", line, n)
}

// keep stores a row; one that is there is stored no second time.
func (c *counter) keep(line string, own bool) bool {
	run, number, ok := strings.Cut(line, " ")
	n, err := strconv.ParseUint(number, 10, 64)
	if !ok || err != nil || run == "" {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has[line] {
		return true
	}
	c.has[line] = true
	c.runs[run] = append(c.runs[run], n)
	if own {
		c.out = append(c.out, row{line, time.Now()})
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	return true
}

func (c *counter) give(w http.ResponseWriter, r *http.Request) {
	run := r.URL.Query().Get("run")
	c.mu.Lock()
	rows := append([]uint64(nil), c.runs[run]...)
	c.mu.Unlock()
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "run %s\n", run)
	for _, n := range rows {
		fmt.Fprintln(out, n)
	}
	fmt.Fprintf(out, "end %d\n", len(rows))
	_ = out.Flush() // who went away reads no answer
}

// take takes rows from the other copy.
func (c *counter) take(w http.ResponseWriter, r *http.Request) {
	lines := bufio.NewScanner(io.LimitReader(r.Body, maxRows))
	for lines.Scan() {
		if !c.keep(lines.Text(), false) {
			http.Error(w, "no row", http.StatusBadRequest)
			return
		}
	}
}

// sendTimeout bounds one try to reach the other copy, and sendAgain is the
// pause after one that failed.
const (
	sendTimeout = time.Second
	sendAgain   = 100 * time.Millisecond
	sendAtOnce  = 1000 // rows
)

// send hands rows to the other copy when they are as old as the lag.
func (c *counter) send(ctx context.Context) {
	client := &http.Client{Timeout: sendTimeout, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for {
		batch, wait := c.due(time.Now())
		if len(batch) == 0 {
			select {
			case <-time.After(wait):
			case <-c.wake:
			case <-ctx.Done():
				return
			}
			continue
		}
		if err := post(ctx, client, "http://"+c.o.Other+"/", strings.Join(batch, "\n")); err != nil {
			select {
			case <-time.After(sendAgain):
			case <-ctx.Done():
				return
			}
			continue
		}
		c.mu.Lock()
		c.out = append([]row(nil), c.out[len(batch):]...)
		c.mu.Unlock()
	}
}

// due are the rows that are as old as the lag, and how long it is until the
// next one is.
func (c *counter) due(now time.Time) (lines []string, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.out[:min(len(c.out), sendAtOnce)] {
		if wait := r.at.Add(c.o.Lag).Sub(now); wait > 0 {
			return lines, wait
		}
		lines = append(lines, r.line)
	}
	return lines, time.Hour // or until it is woken
}

func post(ctx context.Context, client *http.Client, url, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", res.Status)
	}
	return nil
}

// sessionProtocol is what a client upgrades to, to keep one connection.
const sessionProtocol = "matrix"

// session answers every line on one connection with a stamp.
func (c *counter) session(w http.ResponseWriter, r *http.Request) {
	h, ok := w.(http.Hijacker)
	if !ok || r.Header.Get("Upgrade") != sessionProtocol {
		http.Error(w, "upgrade", http.StatusUpgradeRequired)
		return
	}
	conn, rw, err := h.Hijack()
	if err != nil {
		return // it is gone
	}
	c.sessions.Add(1)
	defer c.sessions.Done()
	stop := context.AfterFunc(c.ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+sessionProtocol+"\r\n\r\n")
	for err == nil {
		var line string
		if line, err = rw.ReadString('\n'); err != nil {
			return
		}
		switch c.ill.Load() {
		case erring:
			return
		case sluggish:
			c.linger(c.ctx) // all that it is asked on this connection waits
		}
		_, err = fmt.Fprintf(conn, "%s %s %d %d\n", strings.TrimSpace(line), c.o.Site, c.under(c.ctx), time.Now().UnixNano())
	}
}
