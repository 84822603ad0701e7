package cloud

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pair writes a certificate that signs itself, with its key.
func pair(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text})))
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Over real connections: roots and certificates are those of the file, beside
// it, and who is not known gets nothing.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	f := newFake(t)
	server := httptest.NewUnstartedServer(f)
	ours := pair(t, dir, "client")
	pair(t, dir, "other")
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	defer server.Close()
	write(t, filepath.Join(dir, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	f.set(func() { f.catalog = []any{endpoint("image", server.URL+"/image")} })
	var shown []*x509.Certificate // by the client
	f.handle(func(w http.ResponseWriter, r *http.Request) {
		shown = r.TLS.PeerCertificates
		say(w, 200, "{}")
	})
	open := func(beside string, allow bool) error {
		text := strings.Replace(passwordFile, authURL, server.URL, 1)
		for _, line := range strings.Split(beside, "; ") {
			text += "    " + line + "\n"
		}
		write(t, filepath.Join(dir, "clouds.yaml"), text)
		c, err := Read(Source{File: filepath.Join(dir, "clouds.yaml"), Name: "dr", AllowUnverified: allow})
		if err != nil {
			return err
		}
		var log strings.Builder
		s, err := Open(t.Context(), c, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			return err
		}
		defer s.Close()
		if c.Unverified != strings.Contains(log.String(), "nobody checks") {
			t.Errorf("%s: logged %q", beside, log.String())
		}
		return get(t, s, "image", "x")
	}
	if err := open("cacert: ca.pem", false); err != nil || len(shown) != 0 {
		t.Error(err, shown)
	}
	if err := open("cacert: ca.pem; cert: client.pem; key: client.key", false); err != nil || len(shown) != 1 || !shown[0].Equal(ours) {
		t.Error(err, shown)
	}
	if err := open("verify: false", true); err != nil {
		t.Error(err)
	}
	logins := len(f.loggedIn())
	for _, beside := range []string{"verify: true", "cacert: other.pem"} {
		began := time.Now()
		err := open(beside, true)
		if _, again := Temporary(err); err == nil || again || Uncertain(err) || time.Since(began) > 10*time.Second || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", beside, err)
		}
	}
	for beside, want := range map[string]string{
		"cacert: ca.pem; cert: client.pem; key: other.key": "cert and key",
		"cacert: none.pem":                "cacert",
		"cacert: client.key":              "no certificate",
		"cert: none.pem; key: none.key":   "key",
		"verify: false; cacert: none.pem": "cacert",
	} {
		if err := open(beside, true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", beside, err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "client.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := open("cacert: ca.pem; cert: client.pem; key: client.key", false); err == nil || !strings.Contains(err.Error(), "open to others") {
		t.Errorf("a key for all: %v", err)
	}
	if got := len(f.loggedIn()); got != logins {
		t.Errorf("%d logins by who was not known", got-logins)
	}
}
