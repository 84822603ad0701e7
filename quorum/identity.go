package quorum

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"time"

	"github.com/draasd/draas"
)

// Validity is when a certificate holds.
type Validity struct {
	From, To time.Time
}

// CA issues the certificates of one cluster's members. Its key is needed only
// to issue more of them, never by a daemon.
type CA struct {
	CertPEM, KeyPEM []byte

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Identity is a member's certificate and key, in PEM. The key must be written
// with mode 0600.
type Identity struct {
	CertPEM, KeyPEM []byte
}

// NewCA makes the authority of a cluster, ECDSA on P-256.
func NewCA(cluster string, v Validity) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make CA key: %w", err)
	}
	template, err := certificate("draas CA of "+cluster, v)
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return &CA{CertPEM: encodePEM("CERTIFICATE", der), KeyPEM: keyPEM, cert: cert, key: key}, nil
}

// Issue makes a member's certificate: its name is the common name and a DNS
// name. hosts are names and addresses under which clients that check the host
// reach it, such as those of the control API.
func (ca *CA) Issue(member draas.MemberID, hosts []string, v Validity) (Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make key of %s: %w", member, err)
	}
	template, err := certificate(string(member), v)
	if err != nil {
		return Identity{}, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.DNSNames = []string{string(member)}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != string(member) {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return Identity{}, fmt.Errorf("make certificate of %s: %w", member, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Identity{}, err
	}
	return Identity{CertPEM: encodePEM("CERTIFICATE", der), KeyPEM: keyPEM}, nil
}

func certificate(name string, v Validity) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("draw serial number: %w", err)
	}
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"draas"}},
		NotBefore: v.From, NotAfter: v.To,
	}, nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return encodePEM("PRIVATE KEY", der), nil
}

// ErrNotMember is returned for a certificate that names no member, or another
// than the one that was meant.
var ErrNotMember = errors.New("certificate is not that member's")

// MemberOf tells which of the members a certificate names: by its common name,
// or where there is none by a DNS name. Its chain is not checked here.
func MemberOf(cert *x509.Certificate, members []draas.MemberID) (draas.MemberID, error) {
	names := []string{cert.Subject.CommonName}
	if names[0] == "" {
		names = cert.DNSNames
	}
	var found []draas.MemberID
	for _, n := range names {
		if slices.Contains(members, draas.MemberID(n)) {
			found = append(found, draas.MemberID(n))
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%w: it is for %q, members are %q", ErrNotMember, names, members)
	}
	return found[0], nil
}

// TLSFiles names PEM files. They are read again at each handshake, so that
// certificates can be renewed without a restart.
type TLSFiles struct {
	CA, Cert, Key string
}

// credentials is what the files hold.
type credentials struct {
	roots *x509.CertPool
	cert  tls.Certificate
}

func (f TLSFiles) load() (*credentials, error) {
	ca, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	c := &credentials{roots: x509.NewCertPool()}
	if !c.roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("read CA: %s holds no certificate", f.CA)
	}
	if c.cert, err = tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		return nil, fmt.Errorf("read certificate %s and key %s: %w", f.Cert, f.Key, err)
	}
	if c.cert.Leaf == nil {
		return nil, fmt.Errorf("read certificate %s: it holds none", f.Cert)
	}
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
			chain := x509.VerifyOptions{Roots: c.roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
			for _, cert := range s.PeerCertificates[1:] {
				chain.Intermediates.AddCert(cert)
			}
			if _, err := s.PeerCertificates[0].Verify(chain); err != nil {
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
