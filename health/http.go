package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// HTTPSpec says what an HTTP probe asks for and what it wants to get.
type HTTPSpec struct {
	Addr string // host:port to connect to
	Path string // origin form with an optional query; default "/"
	// Host is the Host header and, without its port, the name that TLS asks
	// for and verifies. Default: the host of Addr, and in the header its port
	// unless it is the scheme's own.
	Host   string
	Status []StatusRange  // default 200 to 399
	Body   *regexp.Regexp // matched against the first 64 KiB; nil: any body

	TLS      bool
	Expiry   time.Duration  // the certificates must live at least that much longer
	Roots    *x509.CertPool // nil: the system's
	Insecure bool           // do not verify the certificate; Expiry still counts
}

// StatusRange is a range of HTTP status codes, both ends included.
type StatusRange struct{ From, To int }

func (r StatusRange) has(status int) bool { return r.From <= status && status <= r.To }

// HTTP makes a probe that sends one GET on a fresh connection. It follows no
// redirect: where a service sends its users is its own affair, and a status in
// the default range.
//
// It speaks HTTP/1.1 itself, as net/http costs more than twice the processor
// time for a connection that is used once (BenchmarkProbeHTTP).
func HTTP(spec HTTPSpec) (Probe, error) {
	p, err := newHTTPProbe(spec)
	if err != nil {
		return nil, fmt.Errorf("make http probe: %w", err)
	}
	return p.look, nil
}

type httpProbe struct {
	at      endpoint
	request []byte
	status  []StatusRange
	body    *regexp.Regexp
	tls     *tls.Config // nil: plain HTTP
	expiry  time.Duration
	readers sync.Pool // of *bufio.Reader
}

func newHTTPProbe(spec HTTPSpec) (*httpProbe, error) {
	at, err := parseEndpoint(spec.Addr)
	if err != nil {
		return nil, err
	}
	for _, r := range spec.Status {
		if r.From < 100 || r.To > 599 || r.From > r.To {
			return nil, fmt.Errorf("status range %d to %d is not within 100 to 599", r.From, r.To)
		}
	}
	if spec.Expiry < 0 {
		return nil, errors.New("expiry is negative")
	}
	if !spec.TLS && (spec.Expiry > 0 || spec.Roots != nil || spec.Insecure) {
		return nil, errors.New("expiry, roots and insecure need TLS")
	}
	path, host := spec.Path, spec.Host
	if path == "" {
		path = "/"
	}
	if host == "" {
		host = defaultHost(at, spec.TLS)
	}
	if !strings.HasPrefix(path, "/") || !visible(path) {
		return nil, fmt.Errorf("path %q does not begin with a slash or has a space or control character", path)
	}
	if !visible(host) {
		return nil, fmt.Errorf("host %q has a space or control character", host)
	}
	p := &httpProbe{at: at, status: spec.Status, body: spec.Body, expiry: spec.Expiry}
	if len(p.status) == 0 {
		p.status = []StatusRange{{200, 399}}
	}
	p.request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: draas-health\r\n"+
		"Accept: */*\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n", path, host)
	p.readers.New = func() any { return bufio.NewReaderSize(nil, maxHeaderLine) }
	if spec.TLS {
		p.tls = &tls.Config{
			ServerName:         withoutPort(host),
			RootCAs:            spec.Roots,
			InsecureSkipVerify: spec.Insecure,
			NextProtos:         []string{"http/1.1"},
			MinVersion:         tls.VersionTLS12,
		}
	}
	return p, nil
}

// defaultHost leaves out the scheme's own port (RFC 9110, section 4.2.3).
func defaultHost(at endpoint, secure bool) string {
	own := ":80"
	if secure {
		own = ":443"
	}
	return strings.TrimSuffix(at.text, own)
}

func withoutPort(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// visible reports whether s has only characters that may stand in a request
// line: nothing of it can end the line or the field it stands in.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

func (p *httpProbe) look(ctx context.Context) Result {
	tcp, err := p.at.dialTCP(ctx)
	if err != nil {
		return failure("connect", err, ClassOther)
	}
	defer abort(tcp)
	defer bound(ctx, tcp)()

	var conn net.Conn = tcp
	if p.tls != nil {
		secure := tls.Client(tcp, p.tls)
		if err := secure.Handshake(); err != nil { // bounded by ctx through tcp
			return failure("handshake", err, ClassTLS)
		}
		if r := p.checkExpiry(secure.ConnectionState(), time.Now()); !r.OK() {
			return r
		}
		conn = secure
	}
	if _, err := conn.Write(p.request); err != nil {
		return failure("send request", err, ClassOther)
	}
	return p.judge(conn)
}

// checkExpiry looks at the chain that lives longest, and in it at the
// certificate that dies first. Without a verified chain it looks at the leaf.
func (p *httpProbe) checkExpiry(state tls.ConnectionState, now time.Time) Result {
	if p.expiry == 0 || len(state.PeerCertificates) == 0 {
		return Result{Class: ClassOK}
	}
	end := state.PeerCertificates[0].NotAfter
	var best time.Time
	for _, chain := range state.VerifiedChains {
		least := end
		for _, cert := range chain {
			if cert.NotAfter.Before(least) {
				least = cert.NotAfter
			}
		}
		if least.After(best) {
			best = least
		}
	}
	if !best.IsZero() {
		end = best
	}
	if left := end.Sub(now); left < p.expiry {
		return Result{Class: ClassExpiry, Detail: fmt.Sprintf("certificate ends %s, in %s; want %s",
			end.UTC().Format(time.RFC3339), left.Round(time.Second), p.expiry)}
	}
	return Result{Class: ClassOK}
}

func (p *httpProbe) judge(conn net.Conn) Result {
	br := p.readers.Get().(*bufio.Reader)
	br.Reset(conn)
	defer func() {
		br.Reset(nil) // the pool must not hold on to the connection
		p.readers.Put(br)
	}()
	head, err := readHead(br)
	if err != nil {
		return failure("read header", err, ClassOther)
	}
	if !p.wants(head.status) {
		return Result{Class: ClassStatus, Detail: clip(fmt.Sprintf("status %d %s", head.status, http.StatusText(head.status)))}
	}
	if p.body == nil {
		return Result{Class: ClassOK}
	}
	body, err := readBody(br, head)
	if err != nil {
		return failure("read body", err, ClassOther)
	}
	if !p.body.Match(body) {
		return Result{Class: ClassBody, Detail: clip(fmt.Sprintf("body does not match %q: %.40q", p.body, body))}
	}
	return Result{Class: ClassOK}
}

func (p *httpProbe) wants(status int) bool {
	for _, r := range p.status {
		if r.has(status) {
			return true
		}
	}
	return false
}
