package dyndns2

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"

	mdns "github.com/miekg/dns"
)

// maxRedirects: a service may move the path on its host. Each is a request.
const maxRedirects = 1

// client makes the requests. It keeps no connection: a request on an old one
// might be sent twice by the library, and moves are rare.
type client struct {
	url       *url.URL
	userAgent string
	http      *http.Client
}

func newClient(cfg Config) (*client, error) {
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		return nil, errors.New("url: it cannot be read") // it may hold a password, so it is not quoted
	case u.Scheme != "https" || u.Host == "":
		return nil, errors.New("url: want https://HOST/PATH: the password goes with every request")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("url: want no user, question mark or fragment: the credentials have a file of their own")
	}
	if a, err := mail.ParseAddress(cfg.Contact); err != nil || a.Address != cfg.Contact {
		return nil, errors.New("contact: want a mail address that is read: services block clients without one")
	}
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca: %s has no certificate", cfg.CAFile)
		}
	}
	c := &client{url: u}
	// No-IP: Company NameOfProgram/OSVersion-ReleaseVersion contact.
	c.userAgent = fmt.Sprintf("draas draasd/%s-%s %s", runtime.GOOS, cfg.Version, cfg.Contact)
	for _, b := range []byte(c.userAgent) {
		if b < ' ' || b > '~' {
			return nil, errors.New("contact and version: want printable ASCII")
		}
	}
	c.http = &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: c.redirect,
	}
	return c, nil
}

func (c *client) redirect(r *http.Request, via []*http.Request) error {
	if r.URL.Scheme != "https" || !strings.EqualFold(r.URL.Host, c.url.Host) || r.URL.User != nil || len(via) > maxRedirects {
		return ErrRedirected
	}
	return nil
}

// reply is what came back of a request.
type reply struct {
	status int
	body   []byte
}

// update sends one request. sent tells whether anything may have reached the
// service.
func (c *client) update(ctx context.Context, host string, addresses []netip.Addr, login Credentials) (r reply, sent bool, err error) {
	u := *c.url
	u.RawQuery = "hostname=" + url.QueryEscape(hostOf(host)) + "&myip=" + myIP(addresses)
	var began atomic.Bool
	// The credentials go into a connection only after its certificate was
	// found to be right, and GotConn comes in between.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { began.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return reply{}, false, errors.New("make the request")
	}
	req.SetBasicAuth(login.user, login.password)
	req.Header.Set("User-Agent", c.userAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return reply{}, began.Load(), harmless(err, began.Load())
	}
	defer func() { _ = resp.Body.Close() }() // read only
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return reply{}, true, harmless(err, true)
	}
	if gone := ctx.Err(); gone != nil && len(body) == 0 {
		return reply{}, true, harmless(gone, true) // its server has seen that nobody waits
	}
	return reply{status: resp.StatusCode, body: body}, true, nil
}

// harmless makes an error of the library's one that can be shown: when the
// credentials were sent, its text may quote the other side, which could repeat
// them.
func harmless(err error, sent bool) error {
	var timeout net.Error
	switch {
	case errors.Is(err, ErrRedirected):
		return ErrRedirected
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("timeout")
	case !sent:
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return errors.New("the connection ended")
	}
	return errors.New("the answer is not HTTP")
}

// hostOf writes a name as the services want it.
func hostOf(name string) string { return strings.TrimSuffix(mdns.CanonicalName(name), ".") }

// myIP writes addresses as the services want them: IPv4 first.
func myIP(addresses []netip.Addr) string {
	texts := make([]string, len(addresses))
	for i, a := range addresses {
		texts[i] = a.String()
	}
	return strings.Join(texts, ",")
}
