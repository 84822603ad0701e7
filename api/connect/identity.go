package connect

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

// CommonName is that of the first certificate in a PEM file: who this machine
// is.
func CommonName(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read own certificate: %w", err)
	}
	name, err := NameIn(data)
	if err != nil {
		return "", fmt.Errorf("read own certificate %s: %w", path, err)
	}
	return name, nil
}

// NameIn is the common name of the first certificate in PEM data.
func NameIn(data []byte) (string, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return "", errors.New("it holds no PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", err
	}
	return cert.Subject.CommonName, nil
}
