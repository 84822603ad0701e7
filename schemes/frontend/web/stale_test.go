package web

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

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
