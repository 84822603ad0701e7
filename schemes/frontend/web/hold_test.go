package web

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

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
