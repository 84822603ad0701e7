package web

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/schemes/frontend"
)

// Answers that are not one. What the client gets is either 502 or an answer
// that it sees is cut off; the connection to the back end is not used again.
func TestBadAnswers(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct {
		name, answer string
		want         string // "502", "cut", or what the client gets
	}{
		{"not HTTP", "SSH-2.0-x\r\n\r\n", "502"},
		{"no code", "HTTP/1.1 OK\r\n\r\n", "502"},
		{"code of two digits", "HTTP/1.1 20 OK\r\n\r\n", "502"},
		{"code 600", "HTTP/1.1 600 X\r\n\r\n", "502"},
		{"version 2", "HTTP/2.0 200 OK\r\n\r\n", "502"},
		{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "502"},
		{"folded", head + "X: a\r\n b\r\nContent-Length: 0\r\n\r\n", "502"},
		{"NUL", head + "X: \x00\r\nContent-Length: 0\r\n\r\n", "502"},
		{"two lengths", head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "502"},
		{"length and chunks", head + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "502"},
		{"another coding", head + "Transfer-Encoding: gzip\r\n\r\n", "502"},
		{"204 with a body", "HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nab", "502"},
		{"unasked switch", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "502"},
		{"endless head", head + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 100), "502"},
		{"too many fields", head + strings.Repeat("X: y\r\n", 200) + "\r\n", "502"},
		{"interim for ever", strings.Repeat("HTTP/1.1 102 Wait\r\n\r\n", 100), "502"},
		{"shorter than said", head + "Content-Length: 10\r\n\r\nabc", "cut"},
		{"much shorter than said", head + "Content-Length: 1000000\r\n\r\nabc", "cut"},
		{"half a chunk", head + "Transfer-Encoding: chunked\r\n\r\n10\r\nabc", "cut"},
		{"no last chunk", head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "cut"},
		{"bad chunk", head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n", "502"},
		{"bad trailer", head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX : y\r\n\r\n", "502"},
		{"longer than said", head + "Content-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "abc"},
		{"until its end", head + "\r\nabc", "abc"},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", "abc"},
		{"hints before", "HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, nil)
			l.sites["primary"].does(func(s *served) {
				s.say("%s", c.answer)
				_ = s.Conn.Close()
			})
			w := l.dial().send(getReq)
			r := w.answer("GET")
			for r.StatusCode < 200 {
				r = w.answer("GET")
			}
			switch {
			case c.want == "502" && r.StatusCode != 502:
				t.Errorf("%d %q, want 502", r.StatusCode, r.body)
			case c.want == "cut" && r.err == nil:
				t.Errorf("%d %q, which looks whole", r.StatusCode, r.body)
			case c.want == "abc":
				r.want(t, 200, "abc")
			}
			if c.want == "502" && len(l.classes()) != 1 {
				t.Errorf("told of %v, want one", l.classes())
			}
			l.sites["primary"].does(nil)
			if c.want == "cut" {
				w = l.dial()
			}
			w.send(getReq).answer("GET").want(t, 200, "primary GET /g")
		})
	}
}

// An answer that ends with the connection, for clients of HTTP/1.0 and 1.1.
func TestFramingForClients(t *testing.T) {
	l := newLab(t, nil)
	l.sites["primary"].does(func(s *served) {
		switch s.URL.Path {
		case "/eof":
			s.say("HTTP/1.1 200 OK\r\n\r\nabc")
			_ = s.Conn.Close()
		case "/chunks":
			s.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\nContent-Length: 9\r\n\r\n")
		case "/none":
			s.say("HTTP/1.1 304 Not\r\nContent-Length: 99\r\n\r\n")
		case "/ten":
			s.say("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc")
		}
	})
	w := l.dial()
	if r := w.send("GET /eof HTTP/1.1\r\nHost: a\r\n\r\n").answer("GET").want(t, 200, "abc"); r.ContentLength != -1 || r.Close {
		t.Errorf("1.1: %v", r.Header)
	}
	if r := w.send("GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n").answer("GET").want(t, 200, "abc"); r.Trailer.Get("T") != "v" || len(r.Trailer) != 1 {
		t.Errorf("trailer %v", r.Trailer)
	}
	w.send("GET /ten HTTP/1.1\r\nHost: a\r\n\r\n").answer("GET").want(t, 200, "abc")
	if r := w.send("GET /none HTTP/1.1\r\nHost: a\r\n\r\n").answer("GET").want(t, 304, ""); r.Header.Get("Content-Length") != "99" {
		t.Errorf("304: %v", r.Header)
	}
	for _, path := range []string{"/eof", "/chunks"} {
		w := l.dial()
		r := w.send("GET "+path+" HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer("GET").want(t, 200, "abc")
		if len(r.TransferEncoding) > 0 || !r.Close {
			t.Errorf("1.0 %s: %v %v", path, r.Header, r.TransferEncoding)
		}
		w.ends()
	}
	l.sites["primary"].does(func(s *served) {
		if s.URL.Path == "/ten" {
			s.say("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc")
			return
		}
		s.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		s.reset()
	})
	if r, err := l.dial().send("GET /cut HTTP/1.0\r\n\r\n").tryAnswer("GET"); err == nil && r.err == nil {
		t.Errorf("1.0: %q looks whole", r.body)
	}
	w = l.dial()
	for range 2 {
		if r := w.send("GET /ten HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer("GET").want(t, 200, "abc"); r.Header.Get("Connection") != "keep-alive" {
			t.Errorf("1.0 keep-alive: %v", r.Header)
		}
	}
	w.send("GET /ten HTTP/1.0\r\n\r\n").answer("GET").want(t, 200, "abc")
	w.ends()
}

func TestLargeBodiesBothWays(t *testing.T) {
	l := newLab(t, nil)
	big := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	l.sites["primary"].does(func(s *served) {
		if s.Method == "POST" {
			s.ok(fmt.Sprint(s.body == big, len(s.body)))
			return
		}
		if s.URL.Path == "/chunks" {
			s.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(big), big)
			return
		}
		s.ok(big)
	})
	w := l.dial()
	for _, path := range []string{"/", "/chunks"} {
		if r := w.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n").answer("GET"); r.body != big || r.err != nil {
			t.Errorf("%s: %d bytes, %v", path, len(r.body), r.err)
		}
	}
	w.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(big), big)).answer("POST").want(t, 200, fmt.Sprint(true, len(big)))
	w.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(big), big)).answer("POST").want(t, 200, fmt.Sprint(true, len(big)))
	w.send(getReq).answer("GET")
	st := l.svc.Stats.Site("primary")
	if in, out := st.In.Load(), st.Out.Load(); in < 2*int64(len(big)) || out < 2*int64(len(big)) {
		t.Errorf("in %d, out %d", in, out)
	}
}

// A back end may answer before it has read the request's body, and take no
// more of it.
func TestEarlyAnswer(t *testing.T) {
	l := newLab(t, nil)
	l.sites["primary"].does(func(s *served) { s.say("HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno") })
	w := l.dial()
	w.send("POST / HTTP/1.1\r\nHost: a\r\nX-Whole: no\r\nContent-Length: 50000000\r\n\r\n" + strings.Repeat("x", 100_000))
	if r := w.answer("POST").want(t, 413, "no"); !r.Close {
		t.Error("the connection is not said to end")
	}
	w.ends()
}

func TestExpectations(t *testing.T) {
	l := newLab(t, nil)
	w := l.dial().send("POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	if r := w.answer("POST"); r.StatusCode != 100 {
		t.Fatalf("%d, want 100", r.StatusCode)
	}
	w.send("hello").answer("POST").want(t, 200, "primary POST /p")
	l.sites["primary"].does(func(s *served) { s.say("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n") })
	w = l.dial().send("POST /p HTTP/1.1\r\nHost: a\r\nX-Whole: no\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	for {
		r := w.answer("POST")
		if r.StatusCode == 100 {
			continue
		}
		if r.StatusCode != 401 || !r.Close {
			t.Errorf("%d, want 401 and the end", r.StatusCode)
		}
		break
	}
}

// Events come as they are sent, and a planned move does not wait for their end.
func TestStreams(t *testing.T) {
	l := newLab(t, nil)
	next := make(chan string)
	l.sites["primary"].does(func(s *served) {
		s.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for e := range next {
			s.say("%x\r\n%s\r\n", len(e), e)
		}
	})
	w := l.dial().send(getReq)
	res, err := http.ReadResponse(w.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		next <- fmt.Sprintf("data: %d\n\n", i)
		buf := make([]byte, 9)
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != fmt.Sprintf("data: %d\n\n", i) {
			t.Fatalf("%q, %v", buf, err)
		}
	}
	if n := l.table.Reports()[0].Flights; n != 0 {
		t.Errorf("a move would wait for %d", n)
	}
	l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
	if rest, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("%q, and an end that looks right", rest)
	}
	close(next)
}

func TestUpgrade(t *testing.T) {
	l := newLab(t, nil)
	l.sites["primary"].does(func(s *served) {
		if s.Header.Get("Upgrade") != "websocket" || s.Header.Get("Connection") != "Upgrade" {
			s.ok("not asked")
			return
		}
		s.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nhello")
		buf := make([]byte, 4)
		for {
			if _, err := io.ReadFull(s.r, buf); err != nil {
				_ = s.Conn.(*net.TCPConn).CloseWrite()
				return
			}
			s.say("%s!", buf)
		}
	})
	ask := "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: y\r\n\r\n"
	upgraded := func() *wire {
		w := l.dial().send(ask + "ping")
		res, err := http.ReadResponse(w.r, nil)
		if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != "websocket" || res.Header.Get("Sec-WebSocket-Accept") != "x" {
			t.Fatalf("%v, %v", res, err)
		}
		buf := make([]byte, 10)
		if _, err := io.ReadFull(w.r, buf); err != nil || string(buf) != "helloping!" {
			t.Fatalf("%q, %v", buf, err)
		}
		return w
	}
	w := upgraded()
	_ = w.Conn.(*net.TCPConn).CloseWrite()
	w.ends() // half-closed, and closed by the other
	w = upgraded()
	if n := l.table.Reports()[0].Flights; n != 0 {
		t.Errorf("a move would wait for %d", n)
	}
	l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
	if _, err := w.r.ReadByte(); err == nil {
		t.Error("the old site goes on")
	}
	l.dial().send(strings.Replace(ask, "Upgrade\r", "x\r", 1)).answer("GET").want(t, 200, "dr GET /")
}

// A mistake that one request brings out is not the end of the others.
func TestPanic(t *testing.T) {
	var log lines
	l := newLab(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	other := l.dial()
	other.send(getReq).answer("GET").want(t, 200, "primary GET /g")
	l.mu.Lock()
	l.tell = func(frontend.Evidence) { panic("told") }
	l.mu.Unlock()
	l.sites["primary"].does((*served).reset)
	if r, err := l.dial().send(postReq).tryAnswer("POST"); err == nil {
		t.Errorf("%d", r.StatusCode)
	}
	l.mu.Lock()
	l.tell = nil
	l.mu.Unlock()
	l.sites["primary"].does(nil)
	other.send(getReq).answer("GET").want(t, 200, "primary GET /g")
	eventually(t, "nothing is under way", func() bool { return l.table.Reports()[0].Flights == 0 })
	log.Lock()
	defer log.Unlock()
	if !strings.Contains(log.String(), "panic=told") {
		t.Errorf("not told of: %s", log.String())
	}
}
