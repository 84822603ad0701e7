package web

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

const (
	getReq  = "GET /g HTTP/1.1\r\nHost: shop\r\n\r\n"
	postReq = "POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello"
	putReq  = "PUT /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello"
	keyReq  = "PUT /p HTTP/1.1\r\nHost: shop\r\nIdempotency-Key: \"8\"\r\nContent-Length: 5\r\n\r\nhello"
)

func method(req string) string { return req[:strings.IndexByte(req, ' ')] }

// Whatever comes while a move is under way waits, and is answered by the new
// site.
func TestHeldThroughAMove(t *testing.T) {
	l := newLab(t, nil)
	warm := l.dial()
	warm.send(getReq).answer("GET").want(t, 200, "primary GET /g")
	l.decide(frontend.Decision{Epoch: 1, Site: "primary", Moving: true, Permit: time.Hour})
	var waiting []*wire
	for _, req := range []string{getReq, postReq, putReq} {
		waiting = append(waiting, l.dial().send(req))
	}
	waiting = append(waiting, warm.send(getReq))
	eventually(t, "all wait", func() bool { return l.table.Reports()[0].Held == 4 })
	var idle []*upstream
	for _, list := range l.server.origin(l.svc).idle {
		idle = append(idle, list...)
	}
	l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
	if len(idle) != 1 || !errors.Is(idle[0].nc.SetDeadline(time.Time{}), net.ErrClosed) {
		t.Errorf("%d idle connections to the old site, or it is not closed", len(idle))
	}
	for i, want := range []string{"dr GET /g", "dr POST /p", "dr PUT /p", "dr GET /g"} {
		waiting[i].answer("GET").want(t, 200, want)
	}
	if n := len(l.sites["primary"].got()); n != 1 {
		t.Errorf("%d requests at the old site, want 1", n)
	}
	if st := &l.svc.Stats; st.Held.Load() != 4 || st.Replayed.Load() != 0 || st.Shed.Load() != 0 || st.Dropped.Load() != 1 {
		t.Errorf("held %d, replayed %d, shed %d, dropped %d; want 4, 0, 0, 1", st.Held.Load(), st.Replayed.Load(), st.Shed.Load(), st.Dropped.Load())
	}
}

// A service that was killed: nothing was sent, so nothing is lost.
func TestKilledServiceIsHeld(t *testing.T) {
	for _, warm := range []bool{false, true} {
		t.Run(fmt.Sprint("warm ", warm), func(t *testing.T) {
			l := newLab(t, nil)
			if warm {
				l.dial().send(getReq).answer("GET").want(t, 200, "primary GET /g")
			}
			l.sites["primary"].kill()
			get, post := l.dial().send(getReq), l.dial().send(postReq)
			eventually(t, "refusals are told", func() bool { return len(l.classes()) >= 2 })
			l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
			get.answer("GET").want(t, 200, "dr GET /g")
			post.answer("POST").want(t, 200, "dr POST /p")
			for _, c := range l.classes() {
				if c != frontend.Refused {
					t.Errorf("told of %s, want refused", c)
				}
			}
		})
	}
}

// Many that wait for a service do not knock it, or the frontend, over.
func TestManyWaitAndFewDial(t *testing.T) {
	const n = 100
	l := newLab(t, nil)
	l.sites["primary"].kill()
	start := time.Now()
	var waiting []*wire
	for range n {
		waiting = append(waiting, l.dial().send(postReq))
	}
	eventually(t, "all wait", func() bool { return l.table.Reports()[0].Held == n })
	eventually(t, "a while has gone by", func() bool { return time.Since(start) > 300*time.Millisecond })
	told, most := len(l.classes()), int(time.Since(start)/turnEvery)+n/10
	if told > most || told < 3 {
		t.Errorf("%d dials in %v, want at most %d", told, time.Since(start), most)
	}
	l.sites["primary"].revive()
	back := time.Now()
	for _, w := range waiting {
		w.answer("POST").want(t, 200, "primary POST /p")
	}
	t.Logf("%d dials; answered %v after it was back", told, time.Since(back))
}

// A back end that comes back within the bounds: nobody moved, nobody failed.
func TestRestartedServiceIsHeld(t *testing.T) {
	l := newLab(t, nil)
	l.sites["primary"].kill()
	post := l.dial().send(postReq)
	eventually(t, "it waits", func() bool { return l.table.Reports()[0].Held == 1 })
	l.sites["primary"].revive()
	post.answer("POST").want(t, 200, "primary POST /p")
}

// What becomes of a request that was sent, when its back end fails before it
// answers.
func TestSentRequests(t *testing.T) {
	post := "POST /x/1 HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello"
	for _, c := range []struct {
		req      string
		replayed bool
	}{
		{getReq, true},
		{"HEAD /g HTTP/1.1\r\nHost: shop\r\n\r\n", true},
		{"GET /g HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello", true},
		{postReq, false},
		{putReq, false},
		{"DELETE /p HTTP/1.1\r\nHost: shop\r\n\r\n", false},
		{"OPTIONS /p HTTP/1.1\r\nHost: shop\r\n\r\n", false},
		{keyReq, true},
		{strings.Replace(keyReq, "PUT", "DELETE", 1), true},
		{strings.Replace(keyReq, "PUT", "POST", 1), false},
		{post, true},
		{strings.Replace(post, "/x/1", "/x/../p", 1), false},
		{strings.Replace(post, "/x/1", "/x/%2e%2e/p", 1), false},
		{strings.Replace(post, "POST", "PUT", 1), false},
		{strings.Replace(post, "/x/1", "/only", 1), true},
		{strings.Replace(post, "/x/1", "/only?a=b", 1), true},
		{strings.Replace(post, "/x/1", "/only/1", 1), false},
		{"PUT /u/9 HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nT: v\r\n\r\n", true},
	} {
		for name, fail := range map[string]func(*served){
			"reset": (*served).reset,
			"end":   func(s *served) { _ = s.Conn.Close() },
			"head":  func(s *served) { s.say("HTTP/1.1 200 OK\r\nConte"); s.reset() },
		} {
			t.Run(fmt.Sprintf("%.30q %s", c.req, name), func(t *testing.T) {
				l := newLab(t, func(c *Config) { c.Hosts[0].Replay = []string{"POST /x/", "POST /only", "PUT /u/"} })
				l.sites["primary"].does(fail)
				w := l.dial().send(c.req)
				if !c.replayed {
					if r := w.answer(method(c.req)); r.StatusCode != 502 {
						t.Errorf("%d %q, want 502", r.StatusCode, r.body)
					}
					if n := len(l.sites["primary"].got()); n != 1 {
						t.Errorf("sent %d times", n)
					}
					return
				}
				eventually(t, "it is sent again", func() bool { return len(l.sites["primary"].got()) > 1 })
				l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
				if r := w.answer(method(c.req)); r.StatusCode != 200 {
					t.Fatalf("%d %q, want 200", r.StatusCode, r.body)
				}
				first, last := l.sites["primary"].got()[0], l.sites["dr"].got()[0]
				if first.body != last.body || last.Trailer.Get("T") != first.Trailer.Get("T") {
					t.Errorf("%q was sent again as %q", first.body, last.body)
				}
				if n := l.svc.Stats.Replayed.Load(); n == 0 {
					t.Error("nothing is counted as replayed")
				}
			})
		}
	}
}

// A back end that takes requests and never answers is told of, once for each
// request, and the requests go to the new site.
func TestHang(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Limits.Silent = 20 * time.Millisecond })
	// A connection that has just been waited on for something else.
	flushed := make(chan struct{})
	l.sites["primary"].does(func(s *served) {
		s.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
		<-flushed
		s.say("2")
	})
	w := l.dial().send(getReq)
	if _, err := w.r.ReadString('1'); err != nil {
		t.Fatal(err)
	}
	for {
		line, err := w.r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			break
		}
	}
	if b, err := w.r.ReadByte(); b != '1' || err != nil {
		t.Fatal(b, err)
	}
	close(flushed)
	if b, err := w.r.ReadByte(); b != '2' || err != nil {
		t.Fatal(b, err)
	}
	l.sites["primary"].does((*served).hang)
	start := time.Now()
	get, post := l.dial().send(getReq), l.dial().send(postReq)
	eventually(t, "silence is told", func() bool { return len(l.classes()) == 2 })
	if d := time.Since(start); d > lookEvery/2 {
		t.Errorf("told after %v", d)
	}
	if c := l.classes(); c[0] != frontend.Silent || c[1] != frontend.Silent {
		t.Errorf("told of %v", c)
	}
	if n := l.table.Reports()[0].Flights; n != 2 {
		t.Errorf("%d under way, want 2", n)
	}
	l.decide(frontend.Decision{Epoch: 1, Site: "primary", Moving: true, Permit: time.Hour})
	l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
	moved := time.Now()
	get.answer("GET").want(t, 200, "dr GET /g")
	if r := post.answer("POST"); r.StatusCode != 502 {
		t.Errorf("a post that was sent: %d, want 502", r.StatusCode)
	}
	if d := time.Since(moved); d > lookEvery/2 {
		t.Errorf("%v until those that hung had moved: nobody woke them", d)
	}
	if n := len(l.classes()); n != 2 {
		t.Errorf("told %d times, want 2", n)
	}
}

// The threshold follows what is usual.
func TestSilentAdapts(t *testing.T) {
	o := new(origin)
	if d := o.silent(0); d != minSilent {
		t.Errorf("%v before anything is known", d)
	}
	for range 100 {
		o.note(200 * time.Millisecond)
	}
	if d := o.silent(0); d < 400*time.Millisecond || d > 500*time.Millisecond {
		t.Errorf("%v where 200 ms is usual", d)
	}
	for range 100 {
		o.note(time.Millisecond)
	}
	if d := o.silent(0); d != minSilent {
		t.Errorf("%v where 1 ms is usual", d)
	}
	if d := o.silent(5 * second); d != 5*second {
		t.Errorf("%v, not what is configured", d)
	}
}

// A server ends idle connections when it likes. No request is lost with them,
// whatever its method.
func TestIdleConnectionsThatEnded(t *testing.T) {
	l := newLab(t, nil)
	c := l.dial()
	for i := range 20 {
		req := []string{postReq, getReq, putReq}[i%3]
		c.send(req)
		if r := c.answer("GET"); r.StatusCode != 200 {
			t.Fatalf("%d: %d %q", i, r.StatusCode, r.body)
		}
		l.sites["primary"].hangUp()
	}
	if n := len(l.sites["primary"].got()); n != 20 {
		t.Errorf("%d requests, want 20", n)
	}
	if n := len(l.classes()); n != 0 {
		t.Errorf("told of %v", l.classes())
	}
}

// What a server sends unasked is nobody's answer.
func TestUnsolicited(t *testing.T) {
	l := newLab(t, nil)
	for i, junk := range []string{"HTTP/1.1 408 Too late\r\nContent-Length: 4\r\n\r\nlate", "HTTP/1.1 408 Too late\r\nContent-Length: 4\r\n\r\nlate", "x", "x"} {
		sent := make(chan struct{})
		l.sites["primary"].does(func(s *served) {
			s.ok("fine")
			eventually(t, "the answer was taken", func() bool { return l.table.Reports()[0].Flights == 0 })
			s.say("%s", junk)
			close(sent)
		})
		c := l.dial()
		c.send(getReq).answer("GET").want(t, 200, "fine")
		<-sent
		l.sites["primary"].does(nil)
		for j := range 2 {
			if (i+j)%2 == 0 {
				c.send(postReq).answer("POST").want(t, 200, "primary POST /p")
			} else {
				c.send(getReq).answer("GET").want(t, 200, "primary GET /g")
			}
		}
	}
	// Nor is what comes with an answer, behind its end.
	l.sites["primary"].does(func(s *served) {
		s.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
	})
	c := l.dial()
	had := l.sites["primary"].accepted.Load()
	for range 3 {
		c.send(getReq).answer("GET").want(t, 200, "abc")
	}
	if n := l.sites["primary"].accepted.Load() - had; n < 2 {
		t.Errorf("%d new connections: one was used again whose answer was too long", n)
	}
}

// A server that ends its connection while a request is on its way to it: what
// it has not had was never sent.
func TestUntouched(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	for _, c := range []struct {
		name string
		peer func(net.Conn, chan struct{})
		want bool
	}{
		{"closed before", func(nc net.Conn, written chan struct{}) { _ = nc.Close(); <-written }, true},
		{"read, then closed", func(nc net.Conn, written chan struct{}) {
			<-written
			_, _ = nc.Read(make([]byte, 10))
			_ = nc.Close()
		}, false},
		{"half closed, and read", func(nc net.Conn, written chan struct{}) {
			_ = nc.(*net.TCPConn).CloseWrite()
			<-written
			_, _ = nc.Read(make([]byte, 10))
			_ = nc.Close()
		}, false},
		{"half closed, read, and reset", func(nc net.Conn, written chan struct{}) {
			_ = nc.(*net.TCPConn).CloseWrite()
			<-written
			_, _ = nc.Read(make([]byte, 10))
			_ = nc.(*net.TCPConn).SetLinger(0)
			_ = nc.Close()
		}, false},
	} {
		nc, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		rc, err := nc.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		u := &upstream{nc: nc.(*net.TCPConn), rc: rc}
		state, acked, ok := u.tcpInfo()
		if !ok || state != tcpEstablished {
			t.Fatalf("state %d, %v", state, ok)
		}
		written := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { c.peer(peer, written) })
		if c.want {
			eventually(t, "the end is here", func() bool { s, _, _ := u.tcpInfo(); return s != tcpEstablished })
		}
		if _, err := nc.Write([]byte("GET / HTTP")); err != nil {
			t.Fatal(err)
		}
		close(written)
		if n, err := nc.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Fatalf("%s: read %d, %v", c.name, n, err)
		}
		if got := u.untouched(acked); got != c.want {
			t.Errorf("%s: untouched %v, want %v", c.name, got, c.want)
		}
		wg.Wait()
		_ = nc.Close()
	}
}

// Beyond the bounds nobody waits.
func TestBounds(t *testing.T) {
	l := newLab(t, nil)
	l.table.Use([]frontend.Spec{{Service: "shop", Outlives: true, Sites: l.svc.Spec().Sites, Hold: frontend.Bounds{Time: 100 * time.Millisecond, Requests: 2, Bytes: 1 << 20}}})
	l.decide(frontend.Decision{Epoch: 1, Site: "primary", Moving: true, Permit: time.Hour})
	a, b := l.dial().send(getReq), l.dial().send(postReq)
	eventually(t, "two wait", func() bool { return l.table.Reports()[0].Held == 2 })
	third := l.dial().send(getReq).answer("GET")
	for _, r := range []reply{third, a.answer("GET"), b.answer("POST")} {
		if r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
			t.Errorf("%d %q %v, want 503 with Retry-After", r.StatusCode, r.body, r.Header)
		}
	}
	if n := l.svc.Stats.Shed.Load(); n != 3 {
		t.Errorf("%d shed, want 3", n)
	}
	l.table.Use([]frontend.Spec{{Service: "shop", Outlives: true, Sites: l.svc.Spec().Sites, Hold: frontend.Bounds{Time: second, Requests: 2, Bytes: 100}}})
	if r := l.dial().send("GET /" + strings.Repeat("x", 200) + " HTTP/1.1\r\nHost: shop\r\n\r\n").answer("GET"); r.StatusCode != 503 {
		t.Errorf("%d for one of too many bytes", r.StatusCode)
	}
}

// An upload that is replayed is whole, whatever was sent of it before; one too
// large to be kept is not replayed.
func TestUploadsAreSentAgainWhole(t *testing.T) {
	for _, c := range []struct {
		name    string
		size    int
		chunked bool
		at      int // the failing back end reads so much
		status  int
	}{
		{"early", 300 << 10, false, 1000, 200},
		{"late", 300 << 10, false, 290 << 10, 200},
		{"chunks", 300 << 10, true, 100 << 10, 200},
		{"too large", 3 << 20, false, 2 << 20, 502},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, func(c *Config) { c.Hosts[0].Replay = []string{"PUT /u/"} })
			l.sites["primary"].does(func(s *served) {
				buf := make([]byte, c.at)
				if _, err := io.ReadFull(s.Body, buf); err != nil {
					t.Errorf("the back end read: %v", err)
				}
				s.reset()
			})
			body := strings.Repeat("0123456789abcdef", c.size/16)
			w := l.dial()
			head := fmt.Sprintf("PUT /u/1 HTTP/1.1\r\nHost: shop\r\nX-Whole: no\r\nContent-Length: %d\r\n\r\n", len(body))
			if c.chunked {
				head = "PUT /u/1 HTTP/1.1\r\nHost: shop\r\nX-Whole: no\r\nTransfer-Encoding: chunked\r\n\r\n"
			}
			var wg sync.WaitGroup
			wg.Go(func() {
				_, _ = w.Write([]byte(head))
				rest := body
				for len(rest) > 0 {
					n := min(len(rest), 10_000)
					p := rest[:n]
					if c.chunked {
						p = fmt.Sprintf("%x\r\n%s\r\n", n, p)
					}
					if _, err := w.Write([]byte(p)); err != nil {
						return // a refusal came first
					}
					rest = rest[n:]
				}
				if c.chunked {
					_, _ = w.Write([]byte("0\r\n\r\n"))
				}
			})
			eventually(t, "it has failed", func() bool { return len(l.classes()) > 0 })
			if c.status == 200 {
				l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
			}
			r := w.answer("PUT")
			wg.Wait()
			if r.StatusCode != c.status {
				t.Fatalf("%d %q, want %d", r.StatusCode, r.body, c.status)
			}
			if got := l.sites["dr"].got(); c.status == 200 && got[0].body != body {
				t.Errorf("%d bytes of %d came, or others", len(got[0].body), len(body))
			}
			eventually(t, "nothing is kept any more", func() bool { return l.server.origin(l.svc).kept.Load() == 0 })
		})
	}
}

// Requests of many clients through a planned move and a kill: those that may be
// replayed are all answered, by the site that is active.
func TestManyThroughMoves(t *testing.T) {
	l := newLab(t, nil)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	var stalls []time.Duration
	for range 8 {
		w := l.dial()
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				start := time.Now()
				if _, err := w.Write([]byte(getReq)); err != nil {
					t.Errorf("send: %v", err)
					return
				}
				r, err := w.tryAnswer("GET")
				if err != nil || r.err != nil || r.StatusCode != 200 {
					t.Errorf("%v: %v, %v", r.Response, err, r.err)
					return
				}
				mu.Lock()
				stalls = append(stalls, time.Since(start))
				mu.Unlock()
			}
		})
	}
	answered := func() int { mu.Lock(); defer mu.Unlock(); return len(stalls) }
	onwards := func() {
		n := answered()
		eventually(t, "there is load", func() bool { return answered() > n+100 })
	}
	onwards()
	epoch := frontend.Decision{Epoch: 1, Site: "primary", Permit: time.Hour}
	for range 3 {
		for _, site := range []draas.SiteID{"dr", "primary"} {
			epoch.Moving = true
			l.decide(epoch)
			eventually(t, "nothing is under way", func() bool { return l.table.Reports()[0].Flights == 0 })
			epoch = frontend.Decision{Epoch: epoch.Epoch + 1, Site: site, Permit: time.Hour}
			l.decide(epoch)
			onwards()
		}
	}
	l.sites["primary"].kill()
	l.decide(frontend.Decision{Epoch: epoch.Epoch + 1, Site: "dr", Permit: time.Hour})
	onwards()
	close(stop)
	wg.Wait()
	slices.Sort(stalls)
	t.Logf("%d answers, the longest took %v", len(stalls), stalls[len(stalls)-1])
}

// A frontend that stood still, or has heard no member for too long, hands no
// answer on: another site may be active by now.
func TestAnswerBehindThePermit(t *testing.T) {
	l := newLab(t, nil)
	spec := *l.svc.Spec()
	spec.Outlives = false
	l.table.Use([]frontend.Spec{spec})
	l.decide(frontend.Decision{Epoch: 2, Site: "primary", Permit: time.Minute})
	release := make(chan struct{})
	l.sites["primary"].does(func(s *served) { <-release; s.ok("stale") })
	get, post := l.dial().send(getReq), l.dial().send(postReq)
	eventually(t, "both are there", func() bool { return len(l.sites["primary"].got()) == 2 })
	l.skip.Store(int64(time.Minute + time.Second))
	close(release)
	if r := post.answer("POST"); r.StatusCode != 502 {
		t.Errorf("%d %q of a site that may not be active", r.StatusCode, r.body)
	}
	l.decide(frontend.Decision{Epoch: 3, Site: "dr", Permit: time.Hour})
	get.answer("GET").want(t, 200, "dr GET /g")
}

// The same in the middle of what goes on: a frontend that stood still moves no
// more bytes of a site that it may not lead to.
func TestStoodStill(t *testing.T) {
	l := newLab(t, nil)
	spec := *l.svc.Spec()
	spec.Outlives = false
	l.table.Use([]frontend.Spec{spec})
	l.decide(frontend.Decision{Epoch: 2, Site: "primary", Permit: time.Minute})
	more := make(chan struct{})
	l.sites["primary"].does(func(s *served) {
		if s.Header.Get("Upgrade") != "" {
			s.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n1")
		} else {
			s.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1")
		}
		<-more
		s.say("2")
		s.hang()
	})
	var clients []*wire
	for _, head := range []string{"", "Connection: upgrade\r\nUpgrade: x\r\n"} {
		w := l.dial().send("GET / HTTP/1.1\r\nHost: a\r\n" + head + "\r\n")
		for line := ""; line != "\r\n"; {
			var err error
			if line, err = w.r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if b, err := w.r.ReadByte(); b != '1' || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
		clients = append(clients, w)
	}
	l.skip.Store(int64(time.Minute + time.Second))
	close(more)
	for i, w := range clients {
		if b, err := w.r.ReadByte(); err == nil {
			t.Errorf("%d: %q behind the permit", i, b)
		}
	}
}

// What waits costs no more than what is kept of it.
func TestHeldMemory(t *testing.T) {
	const n = 200
	l := newLab(t, nil)
	spec := *l.svc.Spec()
	spec.Hold = frontend.Bounds{Time: time.Minute, Requests: n, Bytes: n * 100}
	l.table.Use([]frontend.Spec{spec})
	for range 2 {
		l.get("/").want(t, 200, "primary GET /")
	}
	l.decide(frontend.Decision{Epoch: 1, Site: "primary", Moving: true, Permit: time.Hour})
	before := heap()
	var waiting []*wire
	for i := range n {
		waiting = append(waiting, l.dial().send([]string{getReq, postReq}[i%2]))
	}
	eventually(t, "all wait", func() bool { return l.table.Reports()[0].Held == n })
	each := (int64(heap()) - int64(before)) / n
	t.Logf("%d bytes each, the test's own side with it", each)
	if each > 24<<10 && !raced {
		t.Errorf("%d bytes for a request that waits", each)
	}
	if r := l.get("/"); r.StatusCode != 503 {
		t.Errorf("%d for one too many", r.StatusCode)
	}
	l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
	for i, w := range waiting {
		w.answer("GET").want(t, 200, []string{"dr GET /g", "dr POST /p"}[i%2])
	}
}

// A server of several that hangs gets no more of what comes.
func TestHungServerIsSetAside(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Limits.Silent = 10 * time.Millisecond })
	servers := l.servers(2)
	servers[0].does((*served).hang)
	hung := l.dial().send(getReq)
	eventually(t, "it hangs", func() bool { return len(servers[0].got()) == 1 })
	o := l.server.origin(l.svc)
	eventually(t, "it is set aside", func() bool { return o.hung.Load() > time.Now().UnixNano() })
	for i := range 4 {
		l.get(fmt.Sprint("/", i)).want(t, 200, fmt.Sprint("server1 GET /", i))
	}
	// Where there is no other, it is still asked.
	servers[1].does((*served).hang)
	other := l.dial().send(getReq)
	eventually(t, "the other hangs, too", func() bool { return o.paceOf(o.balancer.Servers("primary")[1]).hung.Load() > time.Now().UnixNano() })
	servers[0].does(nil)
	servers[1].does(nil)
	if r := l.get("/last"); r.StatusCode != 200 {
		t.Errorf("%d", r.StatusCode)
	}
	_, _ = hung.Close(), other.Close()
}
