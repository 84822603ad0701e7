package stream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

func TestMain(m *testing.M) {
	if role() {
		return
	}
	goleak.VerifyTestMain(m)
}

// lab is a frontend of one service, "shop", with back ends at two sites.
type lab struct {
	*testing.T
	table   *frontend.Table
	service *frontend.Service
	server  *Server
	address string

	mu      sync.Mutex
	told    []frontend.Evidence
	ended   []Access
	stopped chan struct{}
	stop    func()
}

var wallClock = func() draas.Reading {
	d := time.Duration(time.Now().UnixNano())
	return draas.Reading{Boot: d, Wall: d}
}

func spec(sites map[draas.SiteID][]string) frontend.Spec {
	s := frontend.Spec{Service: "shop", Sites: make(map[draas.SiteID][]frontend.Server),
		Hold: frontend.Bounds{Time: 5 * time.Second, Requests: 100, Bytes: 1 << 20}}
	for site, addresses := range sites {
		for _, a := range addresses {
			s.Sites[site] = append(s.Sites[site], frontend.Server{Address: a})
		}
	}
	return s
}

// newLab starts a frontend. Nothing is decided yet.
func newLab(t *testing.T, s frontend.Spec, change ...func(*Config)) *lab {
	t.Helper()
	l := &lab{T: t, stopped: make(chan struct{})}
	l.table = frontend.New(frontend.Config{Clock: wallClock, Log: slog.New(slog.DiscardHandler), Tell: func(e frontend.Evidence) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.told = append(l.told, e)
	}}, []frontend.Spec{s})
	l.service = l.table.Service("shop")
	cfg := l.config(change...)
	var err error
	if l.server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.address = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	tableEnded := make(chan struct{})
	go func() { l.table.Run(ctx); close(tableEnded) }()
	go func() {
		defer close(l.stopped)
		if err := l.server.Serve(ctx, ln); err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	l.stop = func() { cancel(); <-l.stopped; <-tableEnded }
	t.Cleanup(func() {
		l.stop()
		if n := l.server.Connections(); n != 0 {
			t.Errorf("%d connections are left", n)
		}
		for _, r := range l.table.Reports() {
			if r.Flights != 0 || r.Held != 0 {
				t.Errorf("left behind: %+v", r)
			}
		}
		for _, r := range l.server.setting.Load().routes() {
			for site := range s.Sites {
				for _, b := range r.dialer.Balancer.Servers(site) {
					if n := b.Connections(); n != 0 {
						t.Errorf("%s counts %d connections", b.Address, n)
					}
				}
			}
		}
		if n := l.service.Stats.Connections.Load(); n != 0 {
			t.Errorf("%d connections are counted", n)
		}
	})
	return l
}

func (l *lab) config(change ...func(*Config)) Config {
	cfg := Config{Routes: []Route{{Service: l.service}}, Drain: 50 * time.Millisecond, AccessLog: func(a Access) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended = append(l.ended, a)
	}}
	for _, c := range change {
		c(&cfg)
	}
	return cfg
}

func (l *lab) decide(epoch draas.Epoch, site draas.SiteID) {
	l.Helper()
	l.apply(frontend.Decision{Epoch: epoch, Site: site, Permit: time.Hour})
}

func (l *lab) apply(d frontend.Decision) {
	l.Helper()
	if err := l.table.Apply(wallClock(), "shop", d); err != nil {
		l.Fatal(err)
	}
}

func (l *lab) dial() *net.TCPConn {
	l.Helper()
	c, err := net.Dial("tcp", l.address)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

// refused is how a connection ends that is not led. It may have ended before
// its dial returns.
func (l *lab) refused(first string) error {
	c, err := net.Dial("tcp", l.address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if first != "" { // even writing nothing would be told of the reset, in the place of the read
		_, _ = io.WriteString(c, first)
	}
	_, err = readLine(c)
	return err
}

// ask sends a line and reads one.
func ask(c net.Conn, line string) (string, error) {
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	return readLine(c)
}

func readLine(c net.Conn) (string, error) {
	var out []byte
	b := make([]byte, 1)
	for {
		if _, err := io.ReadFull(c, b); err != nil {
			return string(out), err
		}
		if b[0] == '\n' {
			return string(out), nil
		}
		out = append(out, b[0])
	}
}

func (l *lab) want(c net.Conn, line, answer string) {
	l.Helper()
	got, err := ask(c, line)
	if err != nil || got != answer {
		l.Fatalf("%q is answered %q, %v; want %q", line, got, err, answer)
	}
}

// last waits for a connection to end like this.
func (l *lab) last(end string) Access {
	l.Helper()
	var a Access
	l.until("ended: "+end, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		i := slices.IndexFunc(l.ended, func(a Access) bool { return a.End == end })
		if i >= 0 {
			a = l.ended[i]
		}
		return i >= 0
	})
	return a
}

func (l *lab) evidence(c frontend.Class) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.told, func(e frontend.Evidence) bool { return e.Class == c })
}

func (l *lab) until(what string, ok func() bool) {
	l.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.Fatalf("never: %s; ended %+v, told %+v", what, l.ended, l.told)
		}
		<-time.After(time.Millisecond)
	}
}

// backend serves each connection by a function, until the test ends.
func backend(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, ln, serve)
}

func serveOn(t testing.TB, ln net.Listener, serve func(net.Conn)) string {
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				serve(c)
				_ = c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// echo answers each line with the site's name and the line.
func echo(t testing.TB, site string) string {
	return backend(t, func(c net.Conn) { echoLines(c, site) })
}

func echoLines(c net.Conn, site string) {
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(c, "%s %s", site, line); err != nil {
			return
		}
	}
}

func twoSites(t testing.TB) frontend.Spec {
	return spec(map[draas.SiteID][]string{"primary": {echo(t, "primary")}, "dr": {echo(t, "dr")}})
}

func isReset(err error) bool {
	return err != nil && !errors.Is(err, io.EOF) && strings.Contains(err.Error(), "reset")
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}
