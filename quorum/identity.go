package quorum

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
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
	return ca.issue(member, nil, hosts, v)
}

// UnitFrontend is the organizational unit of a frontend's certificate. It stays
// what it is when the file names the frontend no more: whoever has it may
// follow the decision, and nothing else.
const UnitFrontend = "frontend"

// IssueFrontend makes a frontend's certificate.
func (ca *CA) IssueFrontend(name string, hosts []string, v Validity) (Identity, error) {
	return ca.issue(draas.MemberID(name), []string{UnitFrontend}, hosts, v)
}

func (ca *CA) issue(member draas.MemberID, units, hosts []string, v Validity) (Identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("make key of %s: %w", member, err)
	}
	template, err := certificate(string(member), v)
	if err != nil {
		return Identity{}, err
	}
	template.Subject.OrganizationalUnit = units
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

// LoadCA reads what Init keeps of the authority: ca.crt and ca.key in a
// directory. ca.crt may be a bundle, as in the middle of a change of CA: the
// certificate that the key belongs to is used.
func LoadCA(dir string) (*CA, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	bundle, err := parseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("load CA: %w", err)
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, errors.New("load CA: ca.key holds no key")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("load CA: read ca.key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("load CA: ca.key is a %T, not ECDSA", parsed)
	}
	for _, cert := range bundle {
		if key.PublicKey.Equal(cert.PublicKey) && cert.IsCA {
			return &CA{CertPEM: encodePEM("CERTIFICATE", cert.Raw), KeyPEM: keyPEM, cert: cert, key: key}, nil
		}
	}
	return nil, errors.New("load CA: ca.key belongs to no certificate in ca.crt")
}

// Validity is when the authority's certificate holds: none that it issues is
// good for longer.
func (ca *CA) Validity() Validity { return Validity{ca.cert.NotBefore, ca.cert.NotAfter} }

// parseCertificates reads all certificates of a PEM file.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, cert)
	}
	if len(all) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return all, nil
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
