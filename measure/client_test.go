package measure

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas/rto"
)

// rawServer answers every connection with what script does, and closes it.
func rawServer(t *testing.T, script func(c net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer c.Close()
				script(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return "http://" + l.Addr().String() + "/"
}

// says reads the request's head and sends an answer.
func says(answer string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, answer)
		}
	}
}

func clientFor(t *testing.T, kind Kind, at string, c Config) *client {
	t.Helper()
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	if c.Timeout == 0 {
		c.Timeout = 2 * time.Second
	}
	var r resolver = system{}
	if len(c.Resolvers) > 0 {
		r = &direct{servers: c.Resolvers, hedge: never}
	}
	cl, err := newClient(kind, u, nil, r, c, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.close)
	return cl
}

func TestClasses(t *testing.T) {
	hang := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	secure := httptest.NewUnstartedServer(http.HandlerFunc(plain))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	short := Config{Timeout: 100 * time.Millisecond}
	for _, c := range []struct {
		name   string
		url    string
		config Config
		want   rto.Class
	}{
		{"good", rawServer(t, says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")), Config{}, rto.Good},
		{"no content", rawServer(t, says("HTTP/1.1 204 No Content\r\n\r\n")), Config{}, rto.Good},
		{"body until close", rawServer(t, says("HTTP/1.0 200 OK\r\n\r\nok")), Config{}, rto.Good},
		{"chunked", rawServer(t, says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")), Config{}, rto.Good},
		{"interim answers", rawServer(t, says("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")), Config{}, rto.Good},
		{"body matches", rawServer(t, says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")), Config{ExpectBody: regexp.MustCompile("^ok$")}, rto.Good},
		{"large body", rawServer(t, says("HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n"+strings.Repeat("x", 200_000))), Config{}, rto.Good},
		{"body differs", rawServer(t, says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")), Config{ExpectBody: regexp.MustCompile("fine")}, rto.Status},
		{"unavailable", rawServer(t, says("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")), Config{}, rto.Status},
		{"redirect", rawServer(t, says("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")), Config{}, rto.Status},
		{"closed at once", rawServer(t, func(net.Conn) {}), Config{}, rto.Reset},
		{"closed in the header", rawServer(t, says("HTTP/1.1 200 OK\r\nConte")), Config{}, rto.Reset},
		{"closed in the body", rawServer(t, says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")), Config{}, rto.Reset},
		{"reset", rawServer(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }), Config{}, rto.Reset},
		{"silent", rawServer(t, hang), short, rto.Timeout},
		{"stops in the body", rawServer(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
			hang(c)
		}), short, rto.Timeout},
		{"refused", "http://127.0.0.2:1/", Config{}, rto.Refused},
		{"garbage", rawServer(t, says("\x00\x01garbage\r\n\r\n")), Config{}, rto.Other},
		{"endless header", rawServer(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(c, "X: "+strings.Repeat("y", 4000)+"\r\n"); err != nil {
					return
				}
			}
		}), Config{}, rto.Other},
		{"does not resolve", "http://shop.example/", Config{Resolvers: []string{newNameserver(t, rcode(3)).addr}}, rto.DNS},
		{"resolves too late", "http://shop.example/", Config{Timeout: 100 * time.Millisecond,
			Resolvers: []string{newNameserver(t, silent).addr}}, rto.DNS},
		{"unknown authority", secure.URL, Config{}, rto.TLS},
		{"trusted authority", secure.URL, Config{TLS: &tls.Config{RootCAs: pool(secure)}}, rto.Good},
		{"no TLS there", strings.Replace(rawServer(t, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			hang(c)
		}), "http:", "https:", 1), Config{}, rto.TLS},
		{"TLS cut", strings.Replace(rawServer(t, func(net.Conn) {}), "http:", "https:", 1), Config{}, rto.Reset},
		{"TLS silent", strings.Replace(rawServer(t, hang), "http:", "https:", 1), short, rto.Timeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := clientFor(t, Fresh, c.url, c.config).ask(t.Context())
			if got := classify(err); got != c.want {
				t.Errorf("%v (%v), want %v", got, err, c.want)
			}
		})
	}
}

func pool(s *httptest.Server) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(s.Certificate())
	return p
}

// TestKeepAlive: one connection serves all; when it is gone the name is
// looked up again, and a connection that the server closed in between costs
// no failure.
func TestKeepAlive(t *testing.T) {
	a, b := newSite(t, "127.0.0.2", stamped("primary", 1)), newSite(t, "127.0.0.3", stamped("dr", 2))
	port := a.port()
	b.close()
	b.addr = "127.0.0.3:" + port
	b.open()
	ns := newNameserver(t, records(t, "shop.example. 60 IN A 127.0.0.2"))
	c := clientFor(t, KeepAlive, "http://shop.example:"+port+"/", Config{Resolvers: []string{ns.addr}})
	ask := func(site string) {
		t.Helper()
		got, err := c.ask(t.Context())
		if err != nil || string(got.site) != site {
			t.Fatalf("answer of %q, %v; want %s", got.site, err, site)
		}
	}
	for range 20 {
		ask("primary")
	}
	if n := a.conns.Load(); n != 1 || ns.asked.Load() != 1 {
		t.Fatalf("%d connections and %d lookups for 20 requests, want 1 and 1", n, ns.asked.Load())
	}
	ns.handle(records(t, "shop.example. 60 IN A 127.0.0.3"))
	ask("primary") // nobody tells a kept connection
	a.close()
	ask("dr")
	if n := b.conns.Load(); n != 1 || ns.asked.Load() != 2 {
		t.Errorf("%d connections to dr and %d lookups, want 1 and 2", n, ns.asked.Load())
	}
}

// TestOneConnectionEach: the other kinds make a connection for each request.
func TestOneConnectionEach(t *testing.T) {
	for _, kind := range []Kind{Fresh, TTL, Pinned} {
		s := newSite(t, "127.0.0.2", plain)
		c := clientFor(t, kind, s.url(), Config{})
		for range 5 {
			if _, err := c.ask(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.conns.Load(); n != 5 {
			t.Errorf("%s: %d connections for 5 requests", kind, n)
		}
	}
}

// TestNextAddress: where the first address refuses the second is used.
func TestNextAddress(t *testing.T) {
	s := newSite(t, "127.0.0.3", stamped("dr", 1))
	ns := newNameserver(t, records(t, "shop.example. 60 IN A 127.0.0.2", "shop.example. 60 IN A 127.0.0.3"))
	config := Config{Resolvers: []string{ns.addr}}
	at := "http://shop.example:" + s.port() + "/"
	if got, err := clientFor(t, Fresh, at, config).ask(t.Context()); err != nil || got.site != "dr" {
		t.Errorf("fresh: answer of %q, %v", got.site, err)
	}
	if _, err := clientFor(t, Pinned, at, config).ask(t.Context()); classify(err) != rto.Refused {
		t.Errorf("pinned: %v, want its first address to refuse", err)
	}
}

// TestSiteHost: a site's own address is asked for the service's name.
func TestSiteHost(t *testing.T) {
	var host string
	s := newSite(t, "127.0.0.2", func(w http.ResponseWriter, r *http.Request) { host = r.Host })
	service := &url.URL{Scheme: "http", Host: "shop.example:8080"}
	for _, c := range []struct{ site, want string }{
		{s.url(), "shop.example:8080"},
		{strings.Replace(s.url(), "127.0.0.2", "east.example", 1), "east.example:" + s.port()},
	} {
		u, _ := url.Parse(c.site)
		cl, err := newClient(Fresh, u, service, &fakeResolver{addrs: addrs("127.0.0.2")}, Config{Timeout: 5 * time.Second}, 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cl.ask(t.Context()); err != nil || host != c.want {
			t.Errorf("%s was asked for %q (%v), want %q", c.site, host, err, c.want)
		}
	}
}

// TestBooks: how often each kind looks a name up, on a clock that is not real.
func TestBooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		two := addrs("192.0.2.1", "192.0.2.2")
		for _, c := range []struct {
			kind  Kind
			host  string
			asked []int // after requests at 0, 4.9, 5, 9.9 and 60 s; the record lives for 5 s
			n     int   // addresses given
		}{
			{Fresh, "shop.example", []int{1, 2, 3, 4, 5}, 2},
			{KeepAlive, "shop.example", []int{1, 2, 3, 4, 5}, 2},
			{TTL, "shop.example", []int{1, 1, 2, 2, 3}, 2},
			{Pinned, "shop.example", []int{1, 1, 1, 1, 1}, 1},
			{JVM, "shop.example", []int{1, 1, 1, 1, 1}, 2},
			{Browser, "shop.example", []int{1, 1, 1, 1, 2}, 2},
			{Fresh, "192.0.2.7", []int{0, 0, 0, 0, 0}, 1},
		} {
			r := &fakeResolver{addrs: two, ttl: 5 * time.Second}
			book := newBook(c.kind, r, c.host, 1)
			var asked []int
			for _, pause := range []time.Duration{0, 4900, 100, 4900, 50100} {
				timer := time.NewTimer(pause * time.Millisecond)
				<-timer.C
				got, _, err := book.addresses(t.Context())
				if err != nil || len(got) != c.n {
					t.Errorf("%s: %v, %v", c.kind, got, err)
				}
				asked = append(asked, r.asked)
			}
			if !reflect.DeepEqual(asked, c.asked) {
				t.Errorf("%s for %s: lookups so far %v, want %v", c.kind, c.host, asked, c.asked)
			}
		}
	})
}

// TestLeft: what is left of a record's life is known at each use, beyond its
// end too; the second of four users has looked up earlier by three quarters of
// that life, and only once.
func TestLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			kind  Kind
			share float64
			left  []int // seconds, at 0, 30 and 61 s; the record lives for 40 s
			asked int
		}{
			{TTL, 1, []int{40, 10, 40}, 2},
			{TTL, 0.5, []int{40, 40, 9}, 2},
			{Browser, 1, []int{40, 10, 40}, 2},
			{JVM, 0.5, []int{40, 10, -21}, 1},
		} {
			r := &fakeResolver{addrs: addrs("192.0.2.1"), ttl: 40 * time.Second}
			book := newBook(c.kind, r, "shop.example", c.share)
			for i, pause := range []int{0, 30, 31} {
				timer := time.NewTimer(time.Duration(pause) * time.Second)
				<-timer.C
				if _, left, err := book.addresses(t.Context()); err != nil || left != time.Duration(c.left[i])*time.Second {
					t.Errorf("%s, share %v, use %d: %v left, %v; want %d s", c.kind, c.share, i, left, err, c.left[i])
				}
			}
			if r.asked != c.asked {
				t.Errorf("%s, share %v: %d lookups, want %d", c.kind, c.share, r.asked, c.asked)
			}
		}
	})
}

// TestNegative: a JVM keeps for 10 s that a name did not resolve; others ask
// again.
func TestNegative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for kind, asked := range map[Kind]int{JVM: 2, Browser: 3, Pinned: 3} {
			r := &fakeResolver{err: errors.New("SERVFAIL")}
			book := newBook(kind, r, "shop.example", 1)
			for _, pause := range []time.Duration{0, 9 * time.Second, time.Second} {
				timer := time.NewTimer(pause)
				<-timer.C
				if _, _, err := book.addresses(t.Context()); classify(err) != rto.DNS {
					t.Errorf("%s: %v", kind, err)
				}
			}
			if r.asked != asked {
				t.Errorf("%s: %d lookups, want %d", kind, r.asked, asked)
			}
		}
	})
}

// TestWaitingForALookup: of two requests one looks up and the other waits for
// it, no longer than its own time; after a failure the next looks up again.
func TestWaitingForALookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeResolver{}
		book := newBook(TTL, r, "shop.example", 1)
		long, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		var asking sync.WaitGroup
		asking.Go(func() {
			if _, _, err := book.addresses(long); classify(err) != rto.DNS {
				t.Errorf("the one that looks up: %v", err)
			}
		})
		synctest.Wait()
		started := time.Now()
		if _, _, err := book.addresses(short); classify(err) != rto.DNS || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the one that waits: %v", err)
		}
		if waited := time.Since(started); waited != 100*time.Millisecond {
			t.Errorf("waited %v, had 100ms", waited)
		}
		asking.Wait()
		r.addrs = addrs("192.0.2.1")
		if got, _, err := book.addresses(t.Context()); err != nil || len(got) != 1 || r.asked != 2 {
			t.Errorf("afterwards: %v, %v, %d lookups", got, err, r.asked)
		}
	})
}

func TestReadStamp(t *testing.T) {
	h := func(kv ...string) http.Header {
		out := make(http.Header)
		for i := 0; i < len(kv); i += 2 {
			out.Set(kv[i], kv[i+1])
		}
		return out
	}
	for _, c := range []struct {
		in   http.Header
		want answer
	}{
		{h(HeaderSite, "dr", HeaderEpoch, "7", HeaderTime, "1000000001"), answer{site: "dr", epoch: 7, stamp: time.Unix(1, 1)}},
		{h(), answer{}},
		{h(HeaderSite, "dr\x1b[2J", HeaderEpoch, "-1", HeaderTime, "soon"), answer{}},
		{h(HeaderSite, strings.Repeat("x", 64), HeaderEpoch, "18446744073709551616", HeaderTime, "-5"), answer{}},
	} {
		if got := readStamp(c.in); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.in, got, c.want)
		}
	}
}

// FuzzReadStamp: what a server says of itself never breaks a later instant.
func FuzzReadStamp(f *testing.F) {
	f.Add("dr", "7", "1700000000000000000")
	f.Add("", "-1", "9223372036854775807")
	f.Add("\x1b[0m", "99999999999999999999", "-9223372036854775808")
	f.Fuzz(func(t *testing.T, site, epoch, stamp string) {
		a := readStamp(http.Header{HeaderSite: {site}, HeaderEpoch: {epoch}, HeaderTime: {stamp}})
		if a.site != "" && !validSite(string(a.site)) {
			t.Errorf("site %q", a.site)
		}
		sent := time.Now()
		if s := stampOffset(a.stamp, sent, time.Second); s < 0 || s > time.Second {
			t.Errorf("stamp %v is %v after sending, not within the request", a.stamp, s)
		}
	})
}

// TestErrorTexts: the errors' wording goes to the display.
func TestErrorTexts(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&lookupError{host: "shop.example", err: errors.New("x")}, "look up shop.example: x"},
		{&handshakeError{err: errors.New("x")}, "TLS handshake: x"},
		{&badAnswer{reason: "status 503"}, "answer: status 503"},
	} {
		if got := fmt.Sprint(c.err); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
