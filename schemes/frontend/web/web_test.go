package web

import (
	"strings"
	"testing"

	"github.com/draasd/draas/schemes/frontend"
)

func TestLeadsToTheActiveSite(t *testing.T) {
	l := newLab(t, nil)
	c := l.dial()
	for range 3 {
		c.send("GET /a?b HTTP/1.1\r\nHost: shop\r\n\r\n").answer("GET").want(t, 200, "primary GET /a?b")
	}
	c.send("POST /p HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello").answer("POST").want(t, 200, "primary POST /p")
	c.send("POST /p HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n").answer("POST").want(t, 200, "primary POST /p")
	got := l.sites["primary"].got()
	if n := len(got); n != 5 || got[3].body != "hello" || got[4].body != "abcde" || got[4].Trailer.Get("T") != "v" {
		t.Fatalf("%d requests", n)
	}
	if n := l.sites["primary"].accepted.Load(); n != 1 {
		t.Errorf("%d connections to the back end, want 1", n)
	}
	l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: second})
	c.send("HEAD / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").answer("HEAD").want(t, 200, "")
	c.ends()
	if n := len(l.sites["dr"].got()); n != 1 {
		t.Errorf("%d requests at the new site, want 1", n)
	}
}

func TestForwardedFields(t *testing.T) {
	l := newLab(t, nil)
	l.dial().send("GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX_Forwarded_For: 7.7.7.7\r\n"+
		"Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nX-End: 2\r\n\r\n").answer("GET").want(t, 200, "primary GET /")
	raw := l.sites["primary"].got()[0].raw
	want := "GET / HTTP/1.1\r\nHost: shop\r\nX-End: 2\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: shop\r\n" +
		"Forwarded: for=127.0.0.1;host=\"shop\";proto=http\r\n\r\n"
	if raw != want {
		t.Errorf("the back end got\n%s\nwant\n%s", raw, want)
	}
}

func TestPipelined(t *testing.T) {
	l := newLab(t, nil)
	c := l.dial().send(strings.Repeat("GET /x HTTP/1.1\r\nHost: shop\r\n\r\nPOST /y HTTP/1.1\r\nHost: shop\r\nContent-Length: 1\r\n\r\nz", 20))
	for range 20 {
		c.answer("GET").want(t, 200, "primary GET /x")
		c.answer("POST").want(t, 200, "primary POST /y")
	}
}
