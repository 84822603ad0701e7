package quorum

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/draasd/draas"
)

// errExpired ends a connection whose peer's certificate has ended.
var errExpired = errors.New("the peer's certificate has expired")

// TLSFiles names PEM files. They are read again at each handshake and every few
// seconds, so that certificates can be renewed without a restart. CA may be a
// bundle: for a change of CA, first all members trust both, then certificates
// are changed, then the old CA is taken out.
type TLSFiles struct {
	CA, Cert, Key string
}

// credentials is what the files hold.
type credentials struct {
	sum    [sha256.Size]byte // of all bytes, to tell when they change
	roots  *x509.CertPool
	cert   tls.Certificate
	issuer time.Time // when the CA of cert ends; zero: it is not in the bundle
}

func (f TLSFiles) load() (*credentials, error) {
	var all [3][]byte
	for i, name := range []string{f.CA, f.Cert, f.Key} {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", []string{"CA", "certificate", "key"}[i], err)
		}
		all[i] = data
	}
	c := &credentials{roots: x509.NewCertPool()}
	bundle, err := parseCertificates(all[0])
	if err != nil {
		return nil, fmt.Errorf("read CA %s: %w", f.CA, err)
	}
	if c.cert, err = tls.X509KeyPair(all[1], all[2]); err != nil {
		return nil, fmt.Errorf("read certificate %s and key %s: %w", f.Cert, f.Key, err)
	}
	for _, ca := range bundle {
		c.roots.AddCert(ca)
		if c.cert.Leaf.CheckSignatureFrom(ca) == nil {
			c.issuer = ca.NotAfter
		}
	}
	sum := sha256.New()
	for _, data := range all {
		part := sha256.Sum256(data)
		sum.Write(part[:])
	}
	copy(c.sum[:], sum.Sum(nil))
	return c, nil
}

// server is the TLS side of an accepted connection: any member may call.
func (c *credentials) server() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{c.cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    c.roots,
		// A resumed session would skip the look at the certificate's dates.
		SessionTicketsDisabled: true,
	}
}

// client is the TLS side of a dialled connection. The peer is known by its
// member's name and not by the address it was dialled at, so that the chain is
// checked here in place of the library's check of a host name.
func (c *credentials) client(want draas.MemberID, members []draas.MemberID) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		Certificates:       []tls.Certificate{c.cert},
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if err := c.verify(s.PeerCertificates, x509.ExtKeyUsageServerAuth); err != nil {
				return err
			}
			got, err := MemberOf(s.PeerCertificates[0], members)
			if err == nil && got != want {
				err = fmt.Errorf("%w: %s was called, %s answered", ErrNotMember, want, got)
			}
			return err
		},
	}
}

// verify checks a chain against the CAs that are trusted now.
func (c *credentials) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage) error {
	options := x509.VerifyOptions{Roots: c.roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}}
	for _, cert := range chain[1:] {
		options.Intermediates.AddCert(cert)
	}
	_, err := chain[0].Verify(options)
	return err
}

// credentials reads the files again. While they cannot be read, as in the
// middle of a renewal, the last good ones hold.
func (t *Transport) credentials() *credentials {
	fresh, err := t.cfg.TLS.load()
	if err == nil {
		err = t.mine(fresh)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil:
		if t.mayWarn("tls files", time.Now()) {
			t.cfg.Log.Error("certificates cannot be read, those read last are used", "err", err)
		}
	case fresh.sum != t.creds.sum:
		t.creds = fresh
		close(t.renewed)
		t.renewed = make(chan struct{})
		t.cfg.Log.Info("certificates were renewed", "until", fresh.cert.Leaf.NotAfter, "issuer_until", fresh.issuer)
		t.distrust()
	}
	return t.creds
}

// distrust ends connections of peers whose CA is trusted no more. t.mu is held.
func (t *Transport) distrust() {
	for m, in := range t.inbound {
		if err := t.creds.verify(in.chain, x509.ExtKeyUsageClientAuth); err != nil {
			t.cfg.Log.Warn("peer's certificate is not trusted any more", "peer", m, "err", err)
			in.conn.Close()
		}
	}
}

// Reload looks at the files of certificates at once, and not only every few
// seconds. Connections move to what is new one by one: the old one of a peer
// is kept until the new one stands.
func (t *Transport) Reload() { t.credentials() }

// Certificate tells until when the own certificate is good.
func (t *Transport) Certificate() CertificateStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	return CertificateStatus{NotAfter: t.creds.cert.Leaf.NotAfter, CANotAfter: t.creds.issuer}
}

// watchCredentials looks at the files until ctx ends.
func (t *Transport) watchCredentials(ctx context.Context) {
	tick := time.NewTicker(credentialsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.credentials()
		}
	}
}

// current is what to use for a new connection, and what is closed when that is
// not current any more.
func (t *Transport) current() (*credentials, <-chan struct{}) {
	c := t.credentials()
	t.mu.Lock()
	defer t.mu.Unlock()
	if c != t.creds { // it has just changed once more
		c = t.creds
	}
	return c, t.renewed
}
