package dns

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

// Bounds of what is read.
const (
	maxSecret   = 64 << 10 // octets, of a file with credentials
	maxResponse = 4 << 20  // octets, of a service's answer
	maxAfter    = time.Hour
)

// ReadSecret reads a file that nobody but its owner and group may read.
func ReadSecret(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	if info, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	} else if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("read credentials: %s is open to others (mode %04o): chmod o=", file, info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	if len(text) > maxSecret {
		return nil, fmt.Errorf("read credentials: %s has more than %d octets", file, maxSecret)
	}
	return text, nil
}

// CheckEndpoint accepts an URL of https without credentials.
func CheckEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return errors.New("endpoint: not an URL") // it is not quoted: it may hold a password
	case u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("endpoint %s: want https://HOST", u.Redacted())
	case u.User != nil:
		return fmt.Errorf("endpoint %s: credentials belong in the credentials file", u.Redacted())
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("endpoint %s: want no query", u.Redacted())
	}
	return nil
}

// HTTPClient is a client for a DNS service. It speaks TLS only, follows no
// redirect (it would take the credentials along), and bounds what it reads.
// caFile names the roots it trusts; if empty, they are the system's.
func HTTPClient(caFile string) (*http.Client, error) {
	var roots *x509.CertPool
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read roots: %w", err)
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read roots: %s has no certificate", caFile)
		}
	}
	t := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		// A move comes once in months: a connection that is kept is one that
		// has died unseen.
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 256 << 10,
	}
	return &http.Client{
		Transport:     bounded{t},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// bounded bounds the responses of a transport.
type bounded struct{ http.RoundTripper }

// RoundTrip refuses what is not TLS, and ends a response that is too long.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, errors.New("not https")
	}
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxResponse}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("an answer of more than %d octets", maxResponse)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// RetryAfter reads the header of that name (RFC 9110, section 10.2.3): 0 if
// there is none that makes sense.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxAfter)
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(t.Sub(now), 0), maxAfter)
	}
	return 0
}

// OfStatus is the kind of an answer by its status alone. It is nil below 400.
func OfStatus(status int) error {
	switch {
	case status < http.StatusMultipleChoices:
		return nil
	case status < http.StatusBadRequest:
		return ErrChange // a redirect is not followed
	case status == http.StatusUnauthorized:
		return ErrCredentials
	case status == http.StatusForbidden:
		return ErrPermission
	case status == http.StatusNotFound:
		return ErrNoZone
	case status == http.StatusConflict:
		return ErrMoved
	case status == http.StatusRequestEntityTooLarge:
		return ErrQuota
	case status == http.StatusTooManyRequests:
		return ErrThrottled
	case status == http.StatusRequestTimeout, status >= http.StatusInternalServerError:
		return ErrDown
	}
	return ErrChange
}
