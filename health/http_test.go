package health

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"
)

// answer returns the address of a server that reads a request's header, writes
// the text, and closes.
func answer(t *testing.T, text string) string {
	return listen(t, func(c net.Conn) {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			t.Errorf("the probe's request: %v", err)
			return
		}
		io.WriteString(c, text)
	})
}

func TestHTTPProbeAnswers(t *testing.T) {
	ok := regexp.MustCompile(`^ok$`)
	long := strings.Repeat("x", maxBody)
	tests := []struct {
		name, answer string
		body         *regexp.Regexp
		status       []StatusRange
		class        Class
		detail       string
	}{
		{name: "plain", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", class: ClassOK},
		{name: "no reason, bare LF, 1.0", answer: "HTTP/1.0 204\n\n", class: ClassOK},
		{name: "redirect is not followed", answer: "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\n\r\n", class: ClassOK},
		{name: "interim", answer: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", class: ClassOK},
		{name: "interim without end", answer: strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100), class: ClassOther, detail: "more than"},
		{name: "status", answer: "HTTP/1.1 503 Nope\r\n\r\n", class: ClassStatus, detail: "status 503 Service Unavailable"},
		{name: "status not in a list", answer: "HTTP/1.1 204 OK\r\n\r\n", status: []StatusRange{{200, 200}, {301, 302}}, class: ClassStatus, detail: "status 204"},
		{name: "status in a list", answer: "HTTP/1.1 302 OK\r\n\r\n", status: []StatusRange{{200, 200}, {301, 302}}, class: ClassOK},
		{name: "body by length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", body: ok, class: ClassOK},
		{name: "body by EOF", answer: "HTTP/1.1 200 OK\r\n\r\nok", body: ok, class: ClassOK},
		{name: "body by chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n", body: ok, class: ClassOK},
		{name: "wrong body", answer: "HTTP/1.1 200 OK\r\n\r\ndown\x1b[2J", body: ok, class: ClassBody, detail: `body does not match "^ok$": "down\x1b[2J"`},
		{name: "no body", answer: "HTTP/1.1 204 OK\r\n\r\n", body: ok, class: ClassBody},
		{name: "cut body", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", body: ok, class: ClassReset, detail: "read body"},
		{name: "cut chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", body: ok, class: ClassReset},
		{name: "no last chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", body: ok, class: ClassReset},
		{name: "match within 64 KiB", answer: "HTTP/1.1 200 OK\r\n\r\nok" + long, body: regexp.MustCompile(`^ok`), class: ClassOK},
		{name: "match beyond 64 KiB", answer: "HTTP/1.1 200 OK\r\n\r\n" + long + "ok", body: regexp.MustCompile(`ok`), class: ClassBody},
		{name: "huge length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\nok" + long, body: regexp.MustCompile(`^ok`), class: ClassOK},
		{name: "huge chunk", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\nok" + long, body: regexp.MustCompile(`^ok`), class: ClassOK},
		{name: "long header line", answer: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHeaderLine) + "\r\n\r\n", class: ClassOther, detail: "more than"},
		{name: "header without end", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: 1234567890\r\n", maxHeader/14), class: ClassOther, detail: "more than"},
		{name: "large header within bounds", answer: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: 1234567890\r\n", 3000) + "\r\n", class: ClassOK},
		{name: "not HTTP", answer: "SSH-2.0-OpenSSH_9.2\r\n", class: ClassOther, detail: "not an HTTP/1 response"},
		{name: "HTTP/2", answer: "HTTP/2.0 200 OK\r\n\r\n", class: ClassOther},
		{name: "bad status", answer: "HTTP/1.1 2000 OK\r\n\r\n", class: ClassOther},
		{name: "status too small", answer: "HTTP/1.1 099 OK\r\n\r\n", class: ClassOther},
		{name: "field without colon", answer: "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", class: ClassOther},
		{name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok", class: ClassOther, detail: "framing"},
		{name: "negative length", answer: "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nok", class: ClassOther},
		{name: "other coding", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", class: ClassOther},
		{name: "coding in 1.0", answer: "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", class: ClassOther, detail: "framing"},
		{name: "bad chunk size", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n", body: ok, class: ClassOther},
		{name: "chunk longer than its size", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n", body: ok, class: ClassOther},
		{name: "closed without an answer", answer: "", class: ClassReset, detail: "read header"},
		{name: "closed within the header", answer: "HTTP/1.1 200 OK\r\nX: y\r\n", class: ClassReset},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := must(t)(HTTP(HTTPSpec{Addr: answer(t, tt.answer), Body: tt.body, Status: tt.status}))
			wantClass(t, p, patient, tt.class, tt.detail)
		})
	}
}

func TestHTTPProbeFaults(t *testing.T) {
	wantClass(t, must(t)(HTTP(HTTPSpec{Addr: closedPort(t)})), patient, ClassRefused, "connect")

	silent := listen(t, untilClosed)
	wantClass(t, must(t)(HTTP(HTTPSpec{Addr: silent})), brief, ClassTimeout, "read header")
	wantClass(t, must(t)(HTTP(HTTPSpec{Addr: silent, TLS: true})), brief, ClassTimeout, "handshake")

	resets := listen(t, func(c net.Conn) {
		io.ReadFull(c, make([]byte, 10))
		reset(c)
	})
	wantClass(t, must(t)(HTTP(HTTPSpec{Addr: resets})), patient, ClassReset, "connection reset")
	wantClass(t, must(t)(HTTP(HTTPSpec{Addr: resets, TLS: true})), patient, ClassReset, "connection reset")
}

// drip writes the text a byte at a time for as long as anybody reads it.
func drip(start, text string) func(net.Conn) {
	return func(c net.Conn) {
		io.WriteString(c, start)
		tick := time.NewTicker(5 * ms)
		defer tick.Stop()
		for i := 0; ; i++ {
			<-tick.C
			if _, err := io.WriteString(c, text[i%len(text):][:1]); err != nil {
				return
			}
		}
	}
}

func TestHTTPProbeSlowDrip(t *testing.T) {
	header := listen(t, drip("HTTP/1.1 200 OK\r\n", "X: y\r\n"))
	wantClass(t, must(t)(HTTP(HTTPSpec{Addr: header})), brief, ClassTimeout, "read header")
	body := listen(t, drip("HTTP/1.1 200 OK\r\n\r\n", "ok"))
	wantClass(t, must(t)(HTTP(HTTPSpec{Addr: body, Body: regexp.MustCompile("ok")})), brief, ClassTimeout, "read body")
	chunks := listen(t, drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"))
	wantClass(t, must(t)(HTTP(HTTPSpec{Addr: chunks, Body: regexp.MustCompile("ok")})), brief, ClassTimeout, "read body")
}

func TestHTTPProbeRequest(t *testing.T) {
	got := make(chan *http.Request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got <- r }))
	defer server.Close()
	addr := server.Listener.Addr().String()
	wantClass(t, must(t)(HTTP(HTTPSpec{Addr: addr, Path: "/healthz?deep=1", Host: "shop.example.org"})), patient, ClassOK, "")
	r := <-got
	if r.Method != "GET" || r.RequestURI != "/healthz?deep=1" || r.Host != "shop.example.org" || !r.Close {
		t.Errorf("request: %s %s, host %s, close %v", r.Method, r.RequestURI, r.Host, r.Close)
	}
	wantClass(t, must(t)(HTTP(HTTPSpec{Addr: addr})), patient, ClassOK, "")
	if r := <-got; r.RequestURI != "/" || r.Host != addr {
		t.Errorf("default request: %s, host %s", r.RequestURI, r.Host)
	}
}

func TestHTTPSpecsThatCannotBe(t *testing.T) {
	const at = "127.0.0.1:80"
	for _, spec := range []HTTPSpec{
		{},
		{Addr: at, Path: "healthz"},
		{Addr: at, Path: "/a b"},
		{Addr: at, Path: "/a\r\nX: y"},
		{Addr: at, Host: "a\r\nX: y"},
		{Addr: at, Status: []StatusRange{{200, 199}}},
		{Addr: at, Status: []StatusRange{{20, 200}}},
		{Addr: at, Expiry: time.Hour},
		{Addr: at, TLS: true, Expiry: -time.Hour},
		{Addr: at, Insecure: true},
	} {
		if _, err := HTTP(spec); err == nil {
			t.Errorf("HTTP(%+v) made a probe", spec)
		}
	}
	for text, want := range map[string]string{"192.0.2.1:80": "192.0.2.1", "[::1]:80": "[::1]", "h:8080": "h:8080"} {
		at, err := parseEndpoint(text)
		if got := defaultHost(at, false); err != nil || got != want {
			t.Errorf("default host of %s: %s, %v", text, got, err)
		}
	}
}

// authority is a certificate authority for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// serve starts an HTTPS server whose certificate for shop.example.org ends
// after left.
func (a authority) serve(t *testing.T, left time.Duration) string {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"shop.example.org"},
		NotBefore: time.Now().Add(-100 * time.Hour), NotAfter: time.Now().Add(left),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: a.key}},
	}
	return listen(t, func(c net.Conn) {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		secure := tls.Server(c, config)
		r, err := http.ReadRequest(bufio.NewReader(secure))
		if err != nil {
			return
		}
		fmt.Fprintf(secure, "HTTP/1.1 200 OK\r\n\r\n%s for %s", r.Host, secure.ConnectionState().ServerName)
	})
}

func TestHTTPSProbe(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	good, expired := ours.serve(t, 100*time.Hour), ours.serve(t, -time.Hour)
	plain := answer(t, "HTTP/1.1 200 OK\r\n\r\n")
	const host = "shop.example.org"
	tests := []struct {
		name   string
		spec   HTTPSpec
		class  Class
		detail string
	}{
		{"good", HTTPSpec{Addr: good, Host: host, Roots: ours.pool(), Expiry: 99 * time.Hour}, ClassOK, ""},
		{"name sent and asked for", HTTPSpec{Addr: good, Host: host + ":8443", Roots: ours.pool(),
			Body: regexp.MustCompile(`^shop\.example\.org:8443 for shop\.example\.org$`)}, ClassOK, ""},
		{"foreign authority", HTTPSpec{Addr: good, Host: host, Roots: foreign.pool()}, ClassTLS, "unknown authority"},
		{"system roots", HTTPSpec{Addr: good, Host: host}, ClassTLS, ""},
		{"other name", HTTPSpec{Addr: good, Host: "other.example.org", Roots: ours.pool()}, ClassTLS, "valid for shop.example.org"},
		{"expired", HTTPSpec{Addr: expired, Host: host, Roots: ours.pool()}, ClassExpiry, "expired"},
		{"soon expired", HTTPSpec{Addr: good, Host: host, Roots: ours.pool(), Expiry: 101 * time.Hour}, ClassExpiry, "want 101h"},
		{"insecure", HTTPSpec{Addr: good, Insecure: true}, ClassOK, ""},
		{"insecure and expired", HTTPSpec{Addr: expired, Insecure: true}, ClassOK, ""},
		{"insecure with an expiry", HTTPSpec{Addr: expired, Insecure: true, Expiry: time.Hour}, ClassExpiry, "certificate ends"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.spec.TLS = true
			wantClass(t, must(t)(HTTP(tt.spec)), patient, tt.class, tt.detail)
		})
	}
	t.Run("not TLS", func(t *testing.T) {
		noTLS := listen(t, func(c net.Conn) { io.WriteString(c, "220 mail.example.org ESMTP\r\n") })
		wantClass(t, must(t)(HTTP(HTTPSpec{Addr: noTLS, TLS: true})), patient, ClassTLS, "handshake")
		wantClass(t, must(t)(HTTP(HTTPSpec{Addr: plain})), patient, ClassOK, "")
	})
}

// FuzzResponse checks the reader against its bounds, and, on what net/http
// reads the same way, against net/http.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.0 404\n\nbody",
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"HTTP/1.1 204 OK\r\n folded\r\n\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		counted := &countingReader{data: data}
		br := bufio.NewReaderSize(counted, maxHeaderLine)
		h, err := readHead(br)
		var body []byte
		var bodyErr error
		if err == nil {
			body, bodyErr = readBody(br, h)
		}
		if bound := maxHeader + maxFraming + maxBody + 2*maxHeaderLine; counted.read > bound {
			t.Fatalf("read %d bytes", counted.read)
		}
		if len(body) > maxBody {
			t.Fatalf("body of %d bytes", len(body))
		}
		if err != nil || bodyErr != nil {
			return
		}
		if h.status < 100 || h.status > 999 {
			t.Fatalf("status %d", h.status)
		}
		theirs, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(data))), nil)
		if err != nil || theirs.StatusCode < 200 {
			return // stricter, or an interim response that it does not skip
		}
		defer theirs.Body.Close()
		if theirs.StatusCode != h.status {
			t.Fatalf("status %d, net/http reads %d", h.status, theirs.StatusCode)
		}
		want, err := io.ReadAll(io.LimitReader(theirs.Body, maxBody))
		if err == nil && string(want) != string(body) {
			t.Fatalf("body %.80q, net/http reads %.80q", body, want)
		}
	})
}

type countingReader struct {
	data []byte
	read int
}

func (c *countingReader) Read(p []byte) (int, error) {
	if c.read == len(c.data) {
		return 0, io.EOF
	}
	n := copy(p, c.data[c.read:])
	c.read += n
	return n, nil
}
