package frontend

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// Certificate is a certificate of two files, that is read again when they
// change.
type Certificate struct {
	cert, key string
	current   atomic.Pointer[loaded]
}

type loaded struct {
	pair      *tls.Certificate
	cert, key []byte
}

// maxPEM bounds what is read of a certificate's or a key's file, in bytes.
const maxPEM = 1 << 20

// OpenCertificate reads a certificate and its key, both PEM.
func OpenCertificate(cert, key string) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key}
	if _, err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Current is the certificate as it was read last.
func (c *Certificate) Current() *tls.Certificate { return c.current.Load().pair }

// Reload reads the files again and reports whether they have changed. What
// cannot be read leaves the certificate as it was.
func (c *Certificate) Reload() (bool, error) {
	var next loaded
	var err error
	if next.cert, err = readPEM(c.cert); err != nil {
		return false, fmt.Errorf("read certificate: %w", err)
	}
	if next.key, err = readPEM(c.key); err != nil {
		return false, fmt.Errorf("read key: %w", err)
	}
	if was := c.current.Load(); was != nil && bytes.Equal(was.cert, next.cert) && bytes.Equal(was.key, next.key) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(next.cert, next.key)
	if err != nil {
		return false, fmt.Errorf("certificate %s with key %s: %w", c.cert, c.key, err)
	}
	next.pair = &pair
	c.current.Store(&next)
	return true, nil
}

func readPEM(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxPEM {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxPEM)
	}
	return os.ReadFile(name)
}

// Watch reads certificates again when their files have changed, until ctx
// ends. It looks rather than being told: a renewal may swap a link that stands
// anywhere above the file. A pair that does not fit may be half written: it is
// told of once it has been so at two looks.
func Watch(ctx context.Context, every time.Duration, log *slog.Logger, certificates func() []*Certificate) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	broken := make(map[*Certificate]int)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		was := broken
		broken = make(map[*Certificate]int)
		for _, c := range certificates() {
			changed, err := c.Reload()
			switch {
			case err != nil:
				if broken[c] = was[c] + 1; broken[c] == 2 {
					log.Error("a certificate cannot be read again: the old one stays", "file", c.cert, "err", err)
				}
			case changed:
				log.Info("a certificate was read again", "file", c.cert, "until", c.Current().Leaf.NotAfter)
			}
		}
	}
}
