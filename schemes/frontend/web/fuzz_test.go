package web

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
)

// FuzzRequestHead holds our parser against net/http's: what we take, it takes,
// and finds the same in it. And what we make of it means the same to us again.
func FuzzRequestHead(f *testing.F) {
	for _, s := range shapes {
		f.Add([]byte(s.request))
	}
	f.Add([]byte(getReq))
	f.Add([]byte("POST http://shop/p?q HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close, X-A\r\nX-A: 1\r\nCookie: a=b\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end, _, err := headEnd(b, 0)
		if err != nil {
			return
		}
		var r request
		if r.parse(b, 0, end) != nil {
			return
		}
		std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b[:end])))
		if err != nil {
			// It refuses some hosts, targets and methods that we leave to the
			// back end; never anything that has to do with where a body ends.
			for _, s := range []string{"Content-Length", "transfer encoding", "MIME header", "version"} {
				if strings.Contains(err.Error(), s) {
					t.Fatalf("we take what net/http does not: %v", err)
				}
			}
			return
		}
		if std.Method != string(r.method.of(b)) {
			t.Fatalf("method %q, by net/http %q", r.method.of(b), std.Method)
		}
		if host := string(r.host.of(b)); std.Host != host && std.URL.Host != host {
			t.Fatalf("host %q, by net/http %q", host, std.Host)
		}
		switch length := std.ContentLength; {
		case r.length == chunked && length != -1, r.length >= 0 && length != r.length:
			t.Fatalf("length %d, by net/http %d", r.length, length)
		}
		// Where Connection is named in several fields it looks at the first.
		if n := len(std.Header["Connection"]); n <= 1 && r.keepAlive == std.Close && r.minor == 1 {
			t.Fatalf("keep-alive %v, by net/http %v", r.keepAlive, !std.Close)
		}
		readAgain(t, b, &r)
	})
}

// readAgain reads what a back end would get.
func readAgain(t *testing.T, b []byte, r *request) {
	t.Helper()
	x := &exchange{req: r, host: &host{}, set: &settings{}, from: &client{text: []byte("::1"), scheme: "https"}}
	head := x.appendHead(nil)
	end, _, err := headEnd(head, 0)
	if err != nil || end != len(head) {
		t.Fatalf("%q: its end is at %d: %v", head, end, err)
	}
	var next request
	if err := next.parse(head, 0, end); err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	if next.length != r.length || !bytes.Equal(next.method.of(head), r.method.of(b)) ||
		!bytes.Equal(next.target.of(head), r.target.of(b)) || !bytes.Equal(next.host.of(head), r.host.of(b)) ||
		next.expects != r.expects || !bytes.Equal(next.upgrade.of(head), r.upgrade.of(b)) {
		t.Fatalf("%q became %q", b, head)
	}
	std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	if err == nil && (std.Header.Get("Keep-Alive") != "" || len(std.Header["X-Forwarded-For"]) != 1 || std.Header.Get("Te") != "") {
		t.Fatalf("hop-by-hop or forged fields: %q", head)
	}
}

// FuzzAnswerHead does the same for answers.
func FuzzAnswerHead(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "HTTP/1.0 404\r\n\r\n", "HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, head bool) {
		end, _, err := headEnd(b, 0)
		if err != nil {
			return
		}
		var a answer
		if a.parse(b, 0, end, head) != nil {
			return
		}
		method := "GET"
		if head {
			method = "HEAD"
		}
		std, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b[:end])), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("we take what net/http does not: %v", err)
		}
		if std.StatusCode != a.status {
			t.Fatalf("status %d, by net/http %d", a.status, std.StatusCode)
		}
		if length := std.ContentLength; !head && a.status >= 200 && a.status != 204 && a.status != 304 &&
			(a.length >= 0 && length != a.length || a.length < 0 && length != -1) {
			t.Fatalf("length %d, by net/http %d", a.length, length)
		}
		// What the client gets of it is a head to us, too.
		out := append(appendFields(appendStatus(nil, &a), &a), "\r\n"...)
		end, _, err = headEnd(out, 0)
		if err != nil || end != len(out) {
			t.Fatalf("%q: its end is at %d: %v", out, end, err)
		}
		var next answer
		if err := next.parse(out, 0, end, head); err != nil || next.status != a.status {
			t.Fatalf("%q: %v", out, err)
		}
	})
}

// FuzzChunks holds our reader against net/http's, however the bytes come.
func FuzzChunks(f *testing.F) {
	for _, s := range []string{"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "3;a=b\r\nabc\r\n00\r\nT: v\r\n\r\n", "5\nhello\n0\n\n", "A\r\n0123456789\r\n0\r\nX: y\r\nZ: z\r\n\r\nrest", "fffffffffffffff\r\n"} {
		f.Add([]byte(s), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		var c chunks
		var body []byte
		read := 0
		for read < len(b) && !c.ended() {
			n := min(int(step)+1, len(b)-read)
			piece := bytes.Clone(b[read : read+n])
			data, used, err := c.decode(piece)
			body = append(body, piece[:data]...)
			read += used
			if err != nil {
				var f *fault
				if !errors.As(err, &f) {
					t.Fatal(err)
				}
				return
			}
			if used < n && !c.ended() {
				t.Fatalf("%d of %d bytes were read, and it goes on", used, n)
			}
		}
		if !c.ended() {
			return
		}
		std, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(b)))
		if err != nil || !bytes.Equal(std, body) {
			t.Fatalf("%q, by net/http %q, %v", body, std, err)
		}
		// And so it is written.
		var out []byte
		if len(body) > 0 {
			out = append(append(appendSize(nil, len(body)), body...), "\r\n"...)
		}
		out = appendLast(out, c.trailer, c.fieldsOf)
		var again chunks
		whole := bytes.Clone(out)
		data, used, err := again.decode(whole)
		if err != nil || used != len(out) || !again.ended() || !bytes.Equal(whole[:data], body) {
			t.Fatalf("%q was written as %q: %v", b, out, err)
		}
	})
}
