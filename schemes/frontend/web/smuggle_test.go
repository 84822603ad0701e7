package web

import (
	"fmt"
	"io"
	"strings"
	"testing"
)

// shapes are requests that two parsers may read in two ways, or that are none:
// after the classes of PortSwigger's and narfindustries' collections, RFC 9112
// sections 11.1 and 11.2, and CVEs of other proxies. Each is answered by
// ourselves, once, and the connection ends; nothing of it reaches a back end.
var shapes = []struct {
	name, request string
	status        int
}{
	{"CL.TE", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED", 400},
	{"TE.CL", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n8\r\nSMUGGLED\r\n0\r\n\r\n", 400},
	{"two lengths", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nhello", 400},
	{"two equal lengths", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400},
	{"length as list", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5, 5\r\n\r\nhello", 400},
	{"length with sign", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: +5\r\n\r\nhello", 400},
	{"length below zero", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: -1\r\n\r\nhello", 400},
	{"length in hex", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 0x5\r\n\r\nhello", 400},
	{"length with space", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5 0\r\n\r\nhello", 400},
	{"length of nothing", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length:\r\n\r\nhello", 400},
	{"length that overflows", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 18446744073709551621\r\n\r\nhello", 400},
	{"length with underscore", "POST / HTTP/1.1\r\nHost: shop\r\nContent_Length: 5\r\n\r\nhello", 400},
	{"encoding with underscore", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer_Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"encoding twice", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"encoding with another", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400},
	{"encoding as list", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
	{"chunked twice", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 501},
	{"chunked in quotes", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 501},
	{"chunked with parameter", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", 501},
	{"xchunked", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501},
	{"identity", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", 501},
	{"encoding of nothing", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding:\r\nContent-Length: 5\r\n\r\nhello", 501},
	{"vertical tab in encoding", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400},
	{"space before colon", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
	{"tab before colon", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length\t: 5\r\n\r\nhello", 400},
	{"space before name", "POST / HTTP/1.1\r\nHost: shop\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"space before the first name", "GET / HTTP/1.1\r\n Host: shop\r\n\r\n", 400},
	{"folded", "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400},
	{"folded by tab", "GET / HTTP/1.1\r\nHost: shop\r\nX: a\r\n\tb\r\n\r\n", 400},
	{"no colon", "GET / HTTP/1.1\r\nHost: shop\r\nX\r\n\r\n", 400},
	{"no name", "GET / HTTP/1.1\r\nHost: shop\r\n: x\r\n\r\n", 400},
	{"bare LF behind a field", "GET / HTTP/1.1\r\nHost: shop\nX: y\r\n\r\n", 400},
	{"bare LF everywhere", "GET / HTTP/1.1\nHost: shop\n\n", 400},
	{"bare LF at the end", "GET / HTTP/1.1\r\nHost: shop\r\n\n", 400},
	{"bare CR in a value", "GET / HTTP/1.1\r\nHost: shop\r\nX: a\rTransfer-Encoding: chunked\r\n\r\n", 400},
	{"CR CR LF", "GET / HTTP/1.1\r\nHost: shop\r\nX: a\r\r\n\r\n", 400},
	{"NUL in a value", "GET / HTTP/1.1\r\nHost: shop\r\nX: a\x00b\r\n\r\n", 400},
	{"NUL in a name", "GET / HTTP/1.1\r\nHost: shop\r\nX\x00: a\r\n\r\n", 400},
	{"NUL in the target", "GET /\x00 HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"DEL in a value", "GET / HTTP/1.1\r\nHost: shop\r\nX: a\x7fb\r\n\r\n", 400},
	{"name of many bytes", "GET / HTTP/1.1\r\nHost: shop\r\nX\xc3\xa9: a\r\n\r\n", 400},
	{"two hosts", "GET / HTTP/1.1\r\nHost: shop\r\nHost: other\r\n\r\n", 400},
	{"two equal hosts", "GET / HTTP/1.1\r\nHost: shop\r\nHost: shop\r\n\r\n", 400},
	{"no host", "GET / HTTP/1.1\r\n\r\n", 400},
	{"host with a path", "GET / HTTP/1.1\r\nHost: shop/x\r\n\r\n", 400},
	{"host with a user", "GET / HTTP/1.1\r\nHost: me@shop\r\n\r\n", 400},
	{"host with two ports", "GET / HTTP/1.1\r\nHost: shop:80:81\r\n\r\n", 400},
	{"host with half an address", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
	{"host as list", "GET / HTTP/1.1\r\nHost: shop other\r\n\r\n", 400},
	{"host of the target is none", "GET http:///x HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"target of another scheme", "GET ftp://shop/x HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"target without a slash", "GET x HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"target with a fragment", "GET /#x HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"target of many bytes", "GET /\xc3\xa9 HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"asterisk", "GET * HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"tabs for spaces", "GET\t/\tHTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"space behind the version", "GET / HTTP/1.1 \r\nHost: shop\r\n\r\n", 400},
	{"space in the target", "GET /a b HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"no version", "GET /\r\nHost: shop\r\n\r\n", 400},
	{"small letters", "GET / http/1.1\r\nHost: shop\r\n\r\n", 400},
	{"version with two digits", "GET / HTTP/1.10\r\nHost: shop\r\n\r\n", 400},
	{"version 1.2", "GET / HTTP/1.2\r\nHost: shop\r\n\r\n", 505},
	{"version 2", "GET / HTTP/2.0\r\nHost: shop\r\n\r\n", 505},
	{"version 0.9", "GET / HTTP/0.9\r\nHost: shop\r\n\r\n", 505},
	{"method with a colon", "GET: / HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"endless method", strings.Repeat("A", 100) + " / HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"two empty lines", "\r\n\r\nGET / HTTP/1.1\r\nHost: shop\r\n\r\n", 400},
	{"CONNECT", "CONNECT shop:443 HTTP/1.1\r\nHost: shop\r\n\r\n", 405},
	{"chunks to 1.0", "POST / HTTP/1.0\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	{"hop by hop host", "GET / HTTP/1.1\r\nHost: shop\r\nConnection: Host\r\n\r\n", 400},
	{"hop by hop length", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 5\r\nConnection: content-length\r\n\r\nhello", 400},
	{"hop by hop cookie", "GET / HTTP/1.1\r\nHost: shop\r\nCookie: a=b\r\nConnection: close, cookie\r\n\r\n", 400},
	{"hop by hop identity", "GET / HTTP/1.1\r\nHost: shop\r\nConnection: x-forwarded-for\r\n\r\n", 400},
	{"expects something else", "GET / HTTP/1.1\r\nHost: shop\r\nExpect: 200-ok\r\n\r\n", 417},
	{"upgrade with a body", "POST / HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello", 400},
	{"too many fields", "GET / HTTP/1.1\r\nHost: shop\r\n" + strings.Repeat("X: y\r\n", maxFields) + "\r\n", 431},
	{"a field too long", "GET / HTTP/1.1\r\nHost: shop\r\nX: " + strings.Repeat("y", 40<<10) + "\r\n\r\n", 431},
	{"a target too long", "GET /" + strings.Repeat("y", 40<<10) + " HTTP/1.1\r\nHost: shop\r\n\r\n", 431},
	{"a length too long", "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 99999999999\r\n\r\n", 413},
}

func TestSmugglingShapes(t *testing.T) {
	l := newLab(t, nil)
	for _, c := range shapes {
		t.Run(c.name, func(t *testing.T) {
			w := l.dial()
			w.tb = t
			// What is smuggled would be a request of its own.
			w.send(c.request + "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n")
			r := w.answer("GET")
			if r.StatusCode != c.status || r.Header.Get("Connection") != "" && !r.Close {
				t.Errorf("%d %q, want %d", r.StatusCode, r.body, c.status)
			}
			if rest, _ := io.ReadAll(w.r); len(rest) > 0 {
				t.Errorf("behind the answer: %q", rest)
			}
		})
	}
	if got := l.sites["primary"].got(); len(got) > 0 {
		t.Errorf("a back end got %q", got[0].raw)
	}
	if n := l.svc.Stats.Bad.Load(); n != int64(len(shapes)) {
		t.Errorf("%d bad requests counted, want %d", n, len(shapes))
	}
}

// Chunks that two parsers may read in two ways: the back end must not get a
// body that it takes for whole.
func TestBadChunks(t *testing.T) {
	l := newLab(t, nil)
	for _, body := range []string{
		"5\nhello\r\n0\r\n\r\n",
		"5\r\nhello\n0\r\n\r\n",
		"5\r\nhello0\r\n\r\n",
		"5\r\nhelloXX0\r\n\r\n",
		" 5\r\nhello\r\n0\r\n\r\n",
		"5 \r\nhello\r\n0\r\n\r\n",
		"0x5\r\nhello\r\n0\r\n\r\n",
		"+5\r\nhello\r\n0\r\n\r\n",
		"-5\r\nhello\r\n0\r\n\r\n",
		"\r\nhello\r\n0\r\n\r\n",
		";\r\nhello\r\n0\r\n\r\n",
		"5;a\nb\r\nhello\r\n0\r\n\r\n",
		"5;a=\x00\r\nhello\r\n0\r\n\r\n",
		"5;" + strings.Repeat("a", 300) + "\r\nhello\r\n0\r\n\r\n",
		"ffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
		"5\r\rhello\r\n0\r\n\r\n",
		"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
		"5\r\nhello\r\n0\r\nX: y\n\r\n",
		"5\r\nhello\r\n0\r\n X: y\r\n\r\n",
		"5\r\nhello\r\n0\r\n" + strings.Repeat("X: y\r\n", 2000) + "\r\n",
	} {
		w := l.dial()
		w.send("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
		if r := w.answer("POST"); r.StatusCode != 400 || !r.Close {
			t.Errorf("%.40q: %d %q, want 400", body, r.StatusCode, r.body)
		}
	}
	if got := l.sites["primary"].got(); len(got) > 0 {
		t.Errorf("a back end got %q", got[0].raw)
	}
}

// What is strange and right.
func TestGoodShapes(t *testing.T) {
	l := newLab(t, nil)
	for i, c := range []struct{ request, want string }{
		{"\r\nGET /%d HTTP/1.1\r\nHost: shop\r\n\r\n", "GET /%d HTTP/1.1\r\nHost: shop\r\n"},
		{"GET http://shop:80/%d HTTP/1.1\r\nHost: other\r\n\r\n", "GET /%d HTTP/1.1\r\nHost: shop:80\r\n"},
		{"GET /%d HTTP/1.1\r\nhOST:shop  \r\nX:\t a b \t\r\n\r\n", "GET /%d HTTP/1.1\r\nHost: shop\r\nX: a b\r\n"},
		{"GET /%d HTTP/1.1\r\nHost:\r\nX:\r\n\r\n", "GET /%d HTTP/1.1\r\nHost: \r\nX: \r\n"},
		{"GET /%d HTTP/1.1\r\nHost: [::1]:80\r\nX: \xe4\r\n\r\n", "GET /%d HTTP/1.1\r\nHost: [::1]:80\r\nX: \xe4\r\n"},
		{"OPTIONS * HTTP/1.1\r\nHost: shop%d\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: shop%d\r\n"},
		{"GET /%d HTTP/1.1\r\nHost: shop\r\nConnection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", "GET /%d HTTP/1.1\r\nHost: shop\r\nX-Forwarded"},
		{"POST /%d HTTP/1.1\r\nHost: shop\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0005\r\nhello\r\n000\r\n\r\n", "POST /%d HTTP/1.1\r\nHost: shop\r\nX-Forwarded"},
	} {
		w := l.dial()
		if r := w.send(fmt.Sprintf(c.request, i)).answer("GET"); r.StatusCode != 200 {
			t.Errorf("%q: %d %q", c.request, r.StatusCode, r.body)
			continue
		}
		got := l.sites["primary"].got()
		if raw, want := got[len(got)-1].raw, fmt.Sprintf(c.want, i); !strings.HasPrefix(raw, want) || strings.Contains(raw, "h2c") {
			t.Errorf("%q became %q, want %q", c.request, raw, want)
		}
	}
}
