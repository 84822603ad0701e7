package web

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

// Clients that take their time, and those that take too much.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	short := 150 * time.Millisecond
	l := newLab(t, func(c *Config) {
		c.Limits = Limits{Head: short, Idle: short, Stall: short, Drain: second}
	})
	for _, c := range []struct {
		name, begin string
		status      int // 0: nothing
	}{
		{"says nothing", "", 0},
		{"begins a head", "GET / HTTP/1.1\r\nHost: a\r\n", 408},
		{"begins a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", 408},
		{"begins a chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", 408},
	} {
		start := time.Now()
		w := l.dial().send(c.begin)
		if c.status == 0 {
			w.ends()
		} else if r := w.answer("GET"); r.StatusCode != c.status || !r.Close {
			t.Errorf("%s: %d %q, want %d", c.name, r.StatusCode, r.body, c.status)
		}
		if d := time.Since(start); d < short-keeperEvery || d > 8*second {
			t.Errorf("%s: after %v", c.name, d)
		}
	}
	w := l.dial()
	w.send(getReq).answer("GET").want(t, 200, "primary GET /g")
	w.ends() // idle

	// A byte now and then is no progress.
	w = l.dial().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
	start := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := w.Write([]byte("x")); err != nil {
			break
		}
		if time.Since(start) > 5*second {
			t.Fatal("a body of single bytes goes on")
		}
	}

	// Who does not read is not waited for.
	piece := []byte(strings.Repeat("x", 64<<10))
	l.sites["primary"].does(func(s *served) {
		s.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 1000*len(piece))
		for range 1000 {
			if _, err := s.Conn.Write(piece); err != nil {
				return
			}
		}
	})
	l.dial().send(getReq)
	eventually(t, "it is under way", func() bool { return l.table.Reports()[0].Flights == 1 })
	eventually(t, "it is given up", func() bool { return l.table.Reports()[0].Flights == 0 })
}

// The client is gone while its back end is silent: nothing is kept for it.
func TestGoneClient(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Limits.Silent = 10 * time.Millisecond })
	l.sites["primary"].does((*served).hang)
	w := l.dial().send(getReq)
	eventually(t, "it is under way", func() bool { return l.table.Reports()[0].Flights == 1 })
	_ = w.Close()
	eventually(t, "it is given up", func() bool { return l.table.Reports()[0].Flights == 0 })

	// While it waits: it must not be sent any more.
	l.decide(frontend.Decision{Epoch: 1, Site: "primary", Moving: true, Permit: time.Hour})
	w = l.dial().send(postReq)
	eventually(t, "it waits", func() bool { return l.table.Reports()[0].Held == 1 })
	_ = w.Close()
	l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
	eventually(t, "it waits no more", func() bool { return l.table.Reports()[0].Held == 0 })
	if n := len(l.sites["dr"].got()); n != 0 {
		t.Errorf("sent for nobody, %d times", n)
	}
	l.decide(frontend.Decision{Epoch: 3, Site: "primary", Permit: time.Hour})

	// In the middle of its body: the back end must not take the part for the
	// whole.
	l.sites["primary"].does(nil)
	w = l.dial().send("POST /half HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	eventually(t, "it is under way", func() bool { return l.svc.Stats.Site("primary").Requests.Load() == 2 })
	_ = w.Close()
	eventually(t, "it is given up", func() bool { return l.table.Reports()[0].Flights == 0 })
	for _, s := range l.sites["primary"].got() {
		if s.RequestURI == "/half" {
			t.Errorf("the back end got %q", s.body)
		}
	}
}

func TestAnswerTakesTooLong(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Limits.Answer = 100 * time.Millisecond })
	l.sites["primary"].does((*served).hang)
	if r := l.dial().send(getReq).answer("GET"); r.StatusCode != 504 {
		t.Errorf("%d, want 504", r.StatusCode)
	}
}

func TestConnectionLimits(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Limits.Connections = 2 })
	a, b := l.dial(), l.dial()
	a.send(getReq).answer("GET").want(t, 200, "primary GET /g")
	b.send(getReq).answer("GET").want(t, 200, "primary GET /g")
	answered := func() bool {
		nc, err := net.Dial("tcp", l.addr)
		if err != nil {
			return false
		}
		defer func() { _ = nc.Close() }()
		_, _ = io.WriteString(nc, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
		n, _ := nc.Read(make([]byte, 1))
		return n > 0
	}
	if answered() {
		t.Error("a third was let in")
	}
	_ = a.Close()
	eventually(t, "there is room again", answered)
	if n := l.svc.Stats.Rejected.Load(); n == 0 {
		t.Error("nothing is counted as rejected")
	}
}

// Without descriptors the frontend goes on with what it has, and takes new
// clients when there are some again.
func TestDescriptorsExhausted(t *testing.T) {
	l := newLab(t, nil)
	w := l.dial()
	w.send(getReq).answer("GET").want(t, 200, "primary GET /g")
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	now := was
	now.Cur = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Error(err)
		}
	})
	client, err := net.Dial("tcp", l.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	var hoard []*os.File
	free := func() {
		for _, f := range hoard {
			_ = f.Close()
		}
		hoard = nil
	}
	defer free()
	for {
		f, err := os.Open("/dev/null")
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		hoard = append(hoard, f)
	}
	eventually(t, "its back end's connection is idle", func() bool { return l.table.Reports()[0].Flights == 0 })
	l.server.spare()
	eventually(t, "the back end's side is closed, too", func() bool { return l.sites["primary"].open() == 0 })
	for {
		f, err := os.Open("/dev/null")
		if err != nil {
			break
		}
		hoard = append(hoard, f)
	}
	w.send(postReq)
	eventually(t, "it waits", func() bool { return l.table.Reports()[0].Held == 1 })
	if c := l.classes(); len(c) != 0 {
		t.Errorf("the back end is blamed: %v", c)
	}
	free()
	w.answer("POST").want(t, 200, "primary POST /p")
	l.get("/again").want(t, 200, "primary GET /again")
}

// A frontend that ends lets requests come to their end, and no connection is
// cut in an answer.
func TestDrain(t *testing.T) {
	l := newLab(t, nil)
	release := make(chan struct{})
	l.sites["primary"].does(func(s *served) { <-release; s.ok("late") })
	idle, busy := l.dial(), l.dial().send(getReq)
	eventually(t, "one is under way", func() bool { return l.table.Reports()[0].Flights == 1 })
	done := make(chan struct{})
	go func() { l.stop(); close(done) }()
	asked := time.Now()
	idle.ends()
	if d := time.Since(asked); d > 5*second {
		t.Errorf("an idle connection went on for %v", d)
	}
	close(release)
	if r := busy.answer("GET").want(t, 200, "late"); !r.Close {
		t.Error("the connection is not said to end")
	}
	busy.ends()
	<-done

	l = newLab(t, func(c *Config) { c.Limits.Drain = 50 * time.Millisecond })
	l.sites["primary"].does((*served).hang)
	busy = l.dial().send(getReq)
	eventually(t, "one is under way", func() bool { return l.table.Reports()[0].Flights == 1 })
	l.stop()
	if r, err := busy.tryAnswer("GET"); err == nil && r.StatusCode < 500 {
		t.Errorf("%d of a request that was not answered", r.StatusCode)
	}
}

func TestBodyLimit(t *testing.T) {
	l := newTLSLab(t, func(c *Config) { c.Hosts[0].MaxBody = 100_000 })
	for _, two := range []bool{false, true} {
		c := l.client(two)
		for _, sized := range []bool{false, true} {
			for n, want := range map[int]int{100_000: 200, 100_001: 413, 1_000_000: 413} {
				r, err := try(c, "POST", "https://shop.test/", strings.Repeat("x", n), func(r *http.Request) {
					if !sized {
						r.ContentLength = -1
					}
				})
				// A client that is still writing may miss its answer.
				if err == nil && r.StatusCode != want || err != nil && want == 200 {
					t.Errorf("two %v, sized %v, %d bytes: %v, %v", two, sized, n, r.Response, err)
				}
			}
		}
	}
	for _, got := range l.sites["primary"].got() {
		if len(got.body) != 100_000 {
			t.Errorf("a back end got %d bytes", len(got.body))
		}
	}
	if n := l.svc.Stats.Bad.Load(); n != 8 {
		t.Errorf("%d counted as bad, want 8", n)
	}
}
