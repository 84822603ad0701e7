package connect

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/draasd/draas"
	"github.com/draasd/draas/config"
)

// maxConfig bounds failover.toml in bytes.
const maxConfig = 1 << 20

// Load reads and checks a failover.toml. Relative paths in it are taken from
// its directory.
func Load(path string) (*config.Config, error) {
	f, err := os.Open(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("there is no %s: name the file with -c FILE, or make a cluster with draasd init DIR", path)
		}
		return nil, fmt.Errorf("open configuration: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at configuration: %w", err)
	}
	if info.Size() > maxConfig {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are read", path, info.Size(), maxConfig)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	c, err := config.Parse(path, data)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("find directory of configuration: %w", err)
	}
	return c.At(dir), nil
}

// ClientTLS is how a member, or an operator with a certificate of the
// cluster's CA, asks the API of a member: by its name, whatever its address.
// The certificate is read again for every connection.
func ClientTLS(files config.TLS, member draas.MemberID) (*tls.Config, error) {
	roots, err := Roots(files.CA)
	if err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: string(member),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
			if err != nil {
				return nil, fmt.Errorf("load own certificate: %w", err)
			}
			return &pair, nil
		}}, nil
}

// Roots reads the CA's certificates.
func Roots(path string) (*x509.CertPool, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tls.ca: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("tls.ca: %s holds no PEM certificate", path)
	}
	return roots, nil
}
