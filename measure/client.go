package measure

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/rto"
)

const (
	maxBody   = 64 << 10 // read of a body; the rest is of no interest
	maxAnswer = 1 << 20  // header and body: a server cannot make us read on
)

// client asks one URL over HTTP/1.1. It speaks it on bare connections, and
// not through http.Transport, so that it knows when a connection is made, how
// a request fails, and that nothing is retried behind the schedule's back.
type client struct {
	book    addressBook
	port    string
	tls     *tls.Config // nil for http
	request []byte
	body    *regexp.Regexp
	timeout time.Duration
	idle    chan *conn // the kept connection; nil when each request makes its own
}

// newClient makes a client of the kind for the URL. as, if not nil, is the
// URL whose host is asked for: a site is asked at its own address for the
// service's name.
//
// share is that of a first answer's life for which the client still keeps it.
func newClient(kind Kind, u, as *url.URL, r resolver, c Config, share float64) (*client, error) {
	req, err := http.NewRequest(http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	name := u.Hostname()
	if as != nil && net.ParseIP(name) != nil && net.ParseIP(as.Hostname()) == nil {
		name, req.Host = as.Hostname(), as.Host
	}
	req.Header.Set("User-Agent", "rtotest")
	keeps := kind == KeepAlive || kind == JVM || kind == Browser
	req.Close = !keeps
	var b bytes.Buffer
	if err := req.Write(&b); err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	cl := &client{
		book:    newBook(kind, r, u.Hostname(), share),
		port:    u.Port(),
		request: b.Bytes(),
		body:    c.ExpectBody,
		timeout: c.Timeout,
	}
	if keeps {
		cl.idle = make(chan *conn, 1)
	}
	if u.Scheme == "https" {
		cl.tls = &tls.Config{}
		if c.TLS != nil {
			cl.tls = c.TLS.Clone()
		}
		cl.tls.ServerName = name
		cl.tls.NextProtos = []string{"http/1.1"}
	}
	if cl.port == "" {
		cl.port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return cl, nil
}

// conn is one connection to a server.
type conn struct {
	net.Conn
	reader *bufio.Reader
	source *source
	remote netip.AddrPort
}

// source reads a connection: at most left bytes for one answer.
type source struct {
	conn net.Conn
	left int
	err  error // that the connection ended with
}

var errOversized = fmt.Errorf("the answer exceeds %d bytes", maxAnswer)

func (s *source) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errOversized
	}
	n, err := s.conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	s.err = err
	return n, err
}

// answer is what a good answer says of itself. Where the request went is
// known of a failed one too.
type answer struct {
	remote netip.AddrPort // the last that was tried; not valid when none was
	left   time.Duration  // of the record's life when the connection was made, or UnknownTTL
	site   draas.SiteID
	epoch  draas.Epoch
	stamp  time.Time // zero when unstamped
}

// ask makes one request. It returns within the client's timeout.
func (c *client) ask(ctx context.Context) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if kept := c.take(); kept != nil {
		a, err := c.exchange(ctx, kept)
		if !errors.Is(err, errUnanswered) || classify(err) == rto.Timeout {
			return a, err
		}
		// The server had closed the kept connection: every client asks again
		// on a new one (RFC 9112, section 9.3.1).
	}
	fresh, tried, err := c.connect(ctx)
	if err != nil {
		return tried, err
	}
	a, err := c.exchange(ctx, fresh)
	a.left = tried.left
	return a, err
}

// take takes the kept connection, if there is one.
func (c *client) take() *conn {
	select {
	case kept := <-c.idle:
		return kept
	default:
		return nil
	}
}

// keep keeps the connection, or closes it when one is kept already.
func (c *client) keep(used *conn) {
	select {
	case c.idle <- used:
	default:
		used.Close()
	}
}

// close closes the kept connection.
func (c *client) close() {
	if kept := c.take(); kept != nil {
		kept.Close()
	}
}

// connect looks the name up and tries its addresses in turn, each with an
// equal share of the time that is left. It also says which it tried last.
func (c *client) connect(ctx context.Context) (*conn, answer, error) {
	tried := answer{left: UnknownTTL}
	addrs, left, err := c.book.addresses(ctx)
	if err != nil {
		return nil, tried, err
	}
	tried.left = left
	var errs []error
	for i, a := range addrs {
		to := net.JoinHostPort(a.String(), c.port)
		if at, err := netip.ParseAddrPort(to); err == nil {
			tried.remote = at
		}
		share := c.timeout
		if deadline, ok := ctx.Deadline(); ok {
			share = time.Until(deadline) / time.Duration(len(addrs)-i)
		}
		d := net.Dialer{Timeout: max(share, time.Nanosecond)}
		raw, err := d.DialContext(ctx, "tcp", to)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ready, err := c.prepare(ctx, raw)
		return ready, tried, err
	}
	return nil, tried, errors.Join(errs...)
}

// prepare makes the TLS handshake, if any.
func (c *client) prepare(ctx context.Context, raw net.Conn) (*conn, error) {
	remote, err := netip.ParseAddrPort(raw.RemoteAddr().String())
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("read remote address: %w", err)
	}
	if c.tls != nil {
		secure := tls.Client(raw, c.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, &handshakeError{err: err}
		}
		raw = secure
	}
	src := &source{conn: raw}
	return &conn{Conn: raw, source: src, reader: bufio.NewReader(src), remote: remote}, nil
}

// exchange sends the request and reads the answer. The connection is kept or
// closed.
func (c *client) exchange(ctx context.Context, on *conn) (answer, error) {
	a := answer{remote: on.remote, left: UnknownTTL}
	keep := false
	defer func() {
		if keep {
			c.keep(on)
		} else {
			on.Close()
		}
	}()
	deadline, _ := ctx.Deadline()
	if err := on.SetDeadline(deadline); err != nil {
		return a, fmt.Errorf("set deadline: %w", err)
	}
	on.source.left = maxAnswer
	if _, err := on.Write(c.request); err != nil {
		return a, fmt.Errorf("%w: send request: %w", errUnanswered, err)
	}
	if _, err := on.reader.Peek(1); err != nil {
		return a, fmt.Errorf("%w: read answer: %w", errUnanswered, err)
	}
	resp, err := readResponse(on.reader)
	if err != nil {
		// The parser calls a header that was cut off malformed.
		if cut := on.source.err; cut != nil && on.reader.Buffered() == 0 {
			err = cut
		}
		return a, fmt.Errorf("read answer: %w", err)
	}
	defer resp.Body.Close()
	whole, err := c.readBody(resp)
	if err != nil {
		return a, err
	}
	keep = c.idle != nil && whole && !resp.Close && on.reader.Buffered() == 0
	stamp := readStamp(resp.Header)
	a.site, a.epoch, a.stamp = stamp.site, stamp.epoch, stamp.stamp
	return a, nil
}

// readResponse skips interim answers (RFC 9110, section 15.2); their number is
// bounded by maxAnswer.
func readResponse(r *bufio.Reader) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, err
		}
	}
}

// readBody judges the answer, and reads its body or as much as is wanted.
func (c *client) readBody(resp *http.Response) (whole bool, err error) {
	if resp.StatusCode/100 != 2 {
		return false, &badAnswer{reason: "status " + strconv.Itoa(resp.StatusCode)}
	}
	limited := io.LimitReader(resp.Body, maxBody)
	if c.body == nil {
		if _, err = io.Copy(io.Discard, limited); err != nil {
			return false, fmt.Errorf("read body: %w", err)
		}
	} else {
		body, err := io.ReadAll(limited)
		if err != nil {
			return false, fmt.Errorf("read body: %w", err)
		}
		if !c.body.Match(body) {
			return false, &badAnswer{reason: fmt.Sprintf("body does not match %q", c.body)}
		}
	}
	// Only a body that ends here leaves the connection ready for the next.
	_, err = io.CopyN(io.Discard, resp.Body, 1)
	return errors.Is(err, io.EOF), nil
}

// readStamp reads what the server says of itself; what makes no sense is as
// if it had not been said.
func readStamp(h http.Header) answer {
	var a answer
	if s := h.Get(HeaderSite); validSite(s) {
		a.site = draas.SiteID(s)
	}
	if n, err := strconv.ParseUint(h.Get(HeaderEpoch), 10, 64); err == nil {
		a.epoch = draas.Epoch(n)
	}
	if n, err := strconv.ParseInt(h.Get(HeaderTime), 10, 64); err == nil && n > 0 {
		a.stamp = time.Unix(0, n)
	}
	return a
}
