package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const shopName = "shop.ha.example.org"

// shop is the web shop's certificates, and a server at each machine that
// serves it.
type shop struct {
	caPEM []byte
	roots *x509.CertPool
	cert  tls.Certificate
}

func newShop(t *testing.T) *shop {
	t.Helper()
	issue := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if parent == nil {
			parent, by = template, key
		}
		template.SerialNumber = big.NewInt(time.Now().UnixNano())
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(30*24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	ca, caKey := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "web CA"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	leaf, key := issue(&x509.Certificate{Subject: pkix.Name{CommonName: shopName}, DNSNames: []string{shopName},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, caKey)
	s := &shop{roots: x509.NewCertPool(), cert: tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key},
		caPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})}
	s.roots.AddCert(ca)
	return s
}

// serve serves the shop at addresses of the machine; it says where it is.
func (s *shop) serve(m *machine, addresses ...string) {
	m.t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"status": "ok", "site": %q}`, m.name)
	})
	server := &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{s.cert}},
		// Probes that hang up are no news.
		ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 5 * time.Second}
	var wg sync.WaitGroup
	for _, a := range addresses {
		ln := m.listen(a)
		wg.Go(func() {
			if err := server.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
				m.t.Errorf("serve %s: %v", a, err)
			}
		})
	}
	m.t.Cleanup(func() { _ = server.Close(); wg.Wait() })
}

// accept accepts connections and closes them: all that a tcp check wants.
func (m *machine) accept(address string) {
	m.t.Helper()
	ln := m.listen(address)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			_ = conn.Close()
		}
	})
	m.t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
}

func (m *machine) listen(address string) (ln net.Listener) {
	m.t.Helper()
	if err := m.Inside(func() (err error) { ln, err = net.Listen("tcp", address); return err }); err != nil {
		m.t.Fatal(err)
	}
	return ln
}

func (m *machine) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = m.Inside(func() (err error) { conn, err = new(net.Dialer).DialContext(ctx, network, address); return err })
	return conn, err
}

// askTimeout is how long a user waits for an answer.
const askTimeout = 300 * time.Millisecond

// ask asks for the shop at one address on a new connection.
func (s *shop) ask(from *machine, address string) (body string, err error) {
	tr := &http.Transport{DialContext: from.dial, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: s.roots, ServerName: shopName}}
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+address+"/healthz", nil)
	if err != nil {
		return "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(resp.Body)
	return string(data), errors.Join(err, resp.Body.Close())
}

// lookup asks a name server for the addresses of the shop.
func lookup(from *machine, network, server string, qtype uint16) (answers []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := from.dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	q := new(dns.Msg).SetQuestion(shopName+".", qtype)
	r, _, err := (&dns.Client{Net: network, Timeout: time.Second}).ExchangeWithConn(q, &dns.Conn{Conn: conn})
	if err != nil {
		return nil, err
	}
	if r.Rcode != dns.RcodeSuccess || !r.Authoritative {
		return nil, fmt.Errorf("%s answers %s", server, dns.RcodeToString[r.Rcode])
	}
	for _, rr := range r.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			answers = append(answers, rr.A.String())
		case *dns.AAAA:
			answers = append(answers, rr.AAAA.String())
		}
	}
	return answers, nil
}
