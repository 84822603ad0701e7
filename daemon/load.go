package daemon

import (
	"crypto/x509"
	"encoding/pem"
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
