package frontend

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pair makes a certificate of that name, and its key.
func pair(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func put(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	c1, k1 := pair(t, "one")
	c2, k2 := pair(t, "two")
	put(t, cert, c1)
	if _, err := OpenCertificate(cert, key); err == nil {
		t.Fatal("opened without a key")
	}
	put(t, key, k1)
	c, err := OpenCertificate(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			Watch(ctx, time.Second, slog.New(slog.NewTextHandler(&said, nil)), func() []*Certificate { return []*Certificate{c} })
			close(ended)
		}()
		want := func(name string) {
			t.Helper()
			time.Sleep(1500 * time.Millisecond)
			synctest.Wait()
			if got := c.Current().Leaf.Subject.CommonName; got != name {
				t.Errorf("the certificate is of %q, want %q", got, name)
			}
		}
		want("one")
		put(t, cert, c2) // half of a renewal
		want("one")
		time.Sleep(5 * time.Second)
		put(t, key, k2)
		want("two")
		_ = os.Remove(cert)
		want("two")
		stop()
		<-ended
	})
	if n := strings.Count(said.String(), "cannot be read again"); n != 2 {
		t.Errorf("told %d times of a broken pair and a missing file:\n%s", n, said.String())
	}
	put(t, cert, make([]byte, maxPEM+1))
	if _, err := c.Reload(); err == nil {
		t.Error("a file too large is read")
	}
}
