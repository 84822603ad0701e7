package daemon

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api/connect"
	"github.com/draasd/draas/config"
)

// Load reads and checks a failover.toml. Relative paths in it are taken from
// its directory.
func Load(path string) (*config.Config, error) { return connect.Load(path) }

// Identity is the member that this machine is: the common name of its
// certificate. A role is never taken from the file.
func Identity(c *config.Config) (config.Member, error) {
	data, err := os.ReadFile(c.TLS.Cert)
	if err != nil {
		return config.Member{}, fmt.Errorf("read own certificate: %w", err)
	}
	name, err := commonName(data)
	if err != nil {
		return config.Member{}, fmt.Errorf("read own certificate %s: %w", c.TLS.Cert, err)
	}
	m, known := c.Member(name)
	if !known {
		return config.Member{}, fmt.Errorf("%s names %q, which is no member in the file: its common name must be one of the [member.NAME]", c.TLS.Cert, name)
	}
	return m, nil
}

// commonName is that of the first certificate in a PEM file.
func commonName(data []byte) (draas.MemberID, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", errors.New("it holds no PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", err
	}
	return draas.MemberID(cert.Subject.CommonName), nil
}
