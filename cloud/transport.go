package cloud

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// tlsFiles are as the file names them.
type tlsFiles struct{ roots, cert, key string }

func (c Cloud) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Unverified}
	if c.files.roots != "" {
		pem, err := readFile(c.files.roots, maxRoots)
		if err != nil {
			return nil, fmt.Errorf("cacert: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cacert: %s has no certificate", c.files.roots)
		}
	}
	if c.files.key == "" {
		return cfg, nil
	}
	info, err := os.Stat(c.files.key)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return nil, fmt.Errorf("key: %s is open to others (mode %04o): chmod o=", c.files.key, mode)
	}
	pair, err := tls.LoadX509KeyPair(c.files.cert, c.files.key)
	if err != nil {
		return nil, errors.New("cert and key: not a pair that can be read")
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

const (
	dialTimeout = 10 * time.Second
	// idleTimeout is below what proxies wait for the next request (HAProxy's
	// default is that of the request, nginx's 75 s): a POST that meets a
	// connection in closing is one of which nobody knows what became.
	idleTimeout = 25 * time.Second
	// continueTimeout is what an upload to a service that does not know
	// Expect: 100-continue costs.
	continueTimeout = time.Second
	// ioBuffer is more than net/http's 4 KiB, for heads and listings, and less
	// than the 32 KiB by which bodies are carried: those pass it by, and are not
	// copied once more (BenchmarkCopy: 64 KiB costs a fifth).
	ioBuffer = 16 << 10
)

// newTransport is the one of a site.
func newTransport(c Cloud, o Options) (*http.Transport, error) {
	cfg, err := c.tlsConfig()
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  o.HeaderTimeout,
		ExpectContinueTimeout:  continueTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    2 * (o.Concurrency + o.Streams), // proxies put all services on one host
		MaxResponseHeaderBytes: 256 << 10,
		ReadBufferSize:         ioBuffer,
		WriteBufferSize:        ioBuffer,
		// A length and a range are of what is sent.
		DisableCompression: true,
		Protocols:          new(http.Protocols),
	}
	// Streams side by side go faster over connections of their own.
	t.Protocols.SetHTTP1(true)
	return t, nil
}
