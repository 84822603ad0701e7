package daemon

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"sync"
	"time"

	"github.com/draasd/draas/config"
)

// certificateEvery is how often the files are looked at.
const certificateEvery = time.Minute

// certificates knows when this member's certificate ends.
type certificates struct {
	mu    sync.Mutex
	files config.TLS
	read  time.Duration // wall clock; zero: never
	ends  time.Time     // zero: not known
}

// earliest is when the certificate ends, or that of the last CA it may stand
// under; zero when the files cannot be read.
func (c *certificates) earliest(files config.TLS, wall time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if since := wall - c.read; files == c.files && c.read != 0 && since >= 0 && since < certificateEvery {
		return c.ends
	}
	c.files, c.read = files, wall
	c.ends = endOf(files.Cert, false)
	if ca := endOf(files.CA, true); !ca.IsZero() && ca.Before(c.ends) {
		c.ends = ca
	}
	return c.ends
}

// endOf is when the certificates of a file end: the first of a chain, or the
// last of a bundle, in which an old CA may stand beside its successor.
func endOf(path string, bundle bool) time.Time {
	data, err := os.ReadFile(path)
	if err != nil {
		return time.Time{}
	}
	var end time.Time
	for {
		block, rest := pem.Decode(data)
		if block == nil {
			return end
		}
		data = rest
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			continue
		}
		if end.IsZero() || bundle && cert.NotAfter.After(end) {
			end = cert.NotAfter
		}
	}
}
