package daemon

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/api"
	"github.com/draasd/draas/quorum"
)

// The API over TLS answers a certificate of the cluster, and nobody else:
// neither one of another CA, nor an expired one, nor none.
func TestAPIWantsAClusterCertificate(t *testing.T) {
	l := newLab(t)
	l.startAll()
	l.await("cluster ready", 10*time.Second, l.ready)
	address := fmt.Sprintf("127.0.0.1:%d", l.base+21)
	c, err := Load(l.file("dr"))
	if err != nil {
		t.Fatal(err)
	}
	good, err := ClientTLS(c, "witness")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ownCA := readCA(t, readFile(t, l.dir, "ca", "ca.crt"), readFile(t, l.dir, "ca", "ca.key"))
	other, err := quorum.NewCA("other", quorum.Validity{From: now.Add(-time.Hour), To: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	foreignCA := readCA(t, other.CertPEM, other.KeyPEM)
	with := func(pairs ...tls.Certificate) *tls.Config {
		conf := good.Clone()
		conf.GetClientCertificate, conf.Certificates = nil, pairs
		return conf
	}
	for _, tc := range []struct {
		name string
		conf *tls.Config
		ok   bool
	}{
		{"member", good, true},
		{"no certificate", with(), false},
		{"foreign CA", with(issue(t, foreignCA, now.Add(time.Hour))), false},
		{"expired", with(issue(t, ownCA, now.Add(-time.Minute))), false},
		{"issued by the cluster", with(issue(t, ownCA, now.Add(time.Hour))), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			client := api.TLS(address, tc.conf)
			defer client.Close()
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_, err := client.Status(ctx, true)
			if (err == nil) != tc.ok {
				t.Errorf("answered with %v", err)
			}
		})
	}
	// Garbage instead of TLS harms nobody.
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Repeat("nonsense\r\n", 100))); err != nil {
		t.Logf("the daemon hung up at once: %v", err)
	}
	if !l.ready() {
		t.Error("the daemon does not answer any more")
	}
}

func readCA(t *testing.T, cert, key []byte) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func readFile(t *testing.T, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// issue makes a client's certificate that ends at until.
func issue(t *testing.T, ca tls.Certificate, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(until.UnixNano()), Subject: pkix.Name{CommonName: "operator"},
		NotBefore: until.Add(-24 * time.Hour), NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, &key.PublicKey, ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A damaged log is not guessed at: the member says which file and what to do,
// and the others go on.
func TestDamagedLog(t *testing.T) {
	l := newLab(t)
	l.startAll()
	l.activate()
	if err := l.stop("daemon dr"); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(l.dir, "dr", "data", "log-*"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log files: %v", err)
	}
	file := logs[len(logs)-1]
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 0xff
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := New(Options{ConfigPath: l.file("dr"), Log: l.log})
	if err != nil {
		t.Fatal(err)
	}
	err = d.Run(context.Background())
	if !errors.Is(err, quorum.ErrCorrupt) || !strings.Contains(err.Error(), filepath.Base(file)) {
		t.Fatalf("a damaged log gives %v", err)
	}
	t.Log(err)
	if l.answer("primary") != "primary" {
		t.Error("the service is not served any more")
	}
}
