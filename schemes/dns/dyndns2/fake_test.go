package dyndns2

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/internal/lab/nameserver"
)

// service is a dyndns2 service with its rules, in memory: it keeps one address
// of each family for a host, and blocks clients that do not heed it.
type service struct {
	mu       sync.Mutex
	user     string
	password string
	hosts    map[string][]netip.Addr
	seen     map[string][]netip.Addr // what the authorities answer
	lagging  bool                    // they do not follow
	nochgs   map[string]int          // in a row
	blocked  string                  // why the account is; empty if it is not
	down     time.Time               // since when it says 911, by the clock
	failed   bool                    // it has refused for good: no request should come until an operator acts
	now      func() time.Time
	requests []string // of each: hostname and myip
	before   func(n int)
}

// maxNoChange in a row are abuse.
const maxNoChange = 2

const (
	account = "ada@example.org"
	secret  = "canary-4711"
	start   = "198.51.100.99" // where hosts lead at first: to no site
)

func newService(now func() time.Time) *service {
	return &service{user: account, password: secret, now: now, nochgs: make(map[string]int),
		hosts: map[string][]netip.Addr{"shop.example.org": {netip.MustParseAddr(start)}},
		seen:  map[string][]netip.Addr{"shop.example.org": {netip.MustParseAddr(start)}}}
}

var agentForm = regexp.MustCompile(`^draas draasd/linux-\S+ \S+@\S+$`)

// carryOut is a whole request by the rules of the documentation.
func (s *service) carryOut(r *http.Request) (status int, body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	s.requests = append(s.requests, q.Get("hostname")+" "+q.Get("myip"))
	if s.before != nil {
		s.before(len(s.requests))
	}
	user, password, _ := r.BasicAuth()
	switch {
	case s.blocked != "":
		return http.StatusOK, "abuse"
	case s.failed:
		s.blocked = "it did not heed a refusal"
		return http.StatusOK, "abuse"
	case !s.down.IsZero() && s.now().Sub(s.down) < 30*time.Minute:
		s.blocked = "it came back before 30 minutes"
		return http.StatusOK, "abuse"
	case !agentForm.MatchString(r.UserAgent()):
		return http.StatusOK, "badagent"
	case user != s.user || password != s.password:
		s.failed = true
		return http.StatusUnauthorized, "badauth"
	case s.hosts[q.Get("hostname")] == nil:
		s.failed = true
		return http.StatusOK, "nohost"
	}
	s.down = time.Time{}
	return http.StatusOK, s.set(q.Get("hostname"), q.Get("myip"))
}

func (s *service) set(host, myip string) string {
	next := slices.Clone(s.hosts[host])
	for text := range strings.SplitSeq(myip, ",") {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return "911"
		}
		next = append(slices.DeleteFunc(next, func(a netip.Addr) bool { return a.Is4() == addr.Is4() }), addr)
	}
	slices.SortFunc(next, netip.Addr.Compare)
	if slices.Equal(next, s.hosts[host]) {
		if s.nochgs[host]++; s.nochgs[host] > maxNoChange {
			s.blocked = "nochg again and again"
			return "abuse"
		}
		return "nochg " + myip
	}
	s.nochgs[host] = 0
	s.hosts[host] = next
	if !s.lagging {
		s.seen[host] = next
	}
	return "good " + myip + "\r\n"
}

// do changes the service's state from outside.
func (s *service) do(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// follow lets the authorities catch up.
func (s *service) follow() {
	s.do(func() {
		s.lagging = false
		for host, addrs := range s.hosts {
			s.seen[host] = addrs
		}
	})
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// unblocked fails the test when the client has broken a rule.
func (s *service) unblocked(t testing.TB) {
	t.Helper()
	s.do(func() {
		if s.blocked != "" {
			t.Errorf("the service has blocked the client: %s: %q", s.blocked, s.requests)
		}
	})
}

// front is one way to the service: its HTTPS and an authority, with faults.
type front struct {
	*service
	url string
	dns string

	fmu    sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
	mute   bool                                              // the authority is silent
	rcode  int
	held   []*http.Request
	extra  []mdns.RR
}

func (f *front) set(change func()) {
	f.fmu.Lock()
	defer f.fmu.Unlock()
	change()
}

// ServeHTTP implements http.Handler.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.fmu.Lock()
	answer := f.answer
	f.fmu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	if r.URL.Path != "/nic/update" {
		http.NotFound(w, r)
		return
	}
	status, body := f.carryOut(r)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// ServeDNS implements mdns.Handler.
func (f *front) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	f.fmu.Lock()
	mute, rcode, extra := f.mute, f.rcode, f.extra
	f.fmu.Unlock()
	if mute {
		_ = w.Close()
		return
	}
	m := new(mdns.Msg)
	m.SetRcode(q, rcode)
	m.Authoritative = true
	name := q.Question[0].Name
	f.do(func() {
		for _, addr := range f.seen[strings.TrimSuffix(name, ".")] {
			h := mdns.RR_Header{Name: name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 60}
			if addr.Is4() && q.Question[0].Qtype == mdns.TypeA {
				m.Answer = append(m.Answer, &mdns.A{Hdr: h, A: addr.AsSlice()})
			}
			if h.Rrtype = mdns.TypeAAAA; addr.Is6() && q.Question[0].Qtype == mdns.TypeAAAA {
				m.Answer = append(m.Answer, &mdns.AAAA{Hdr: h, AAAA: addr.AsSlice()})
			}
		}
	})
	for _, rr := range extra {
		if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == mdns.TypeCNAME {
			m.Answer = append(m.Answer, rr)
		}
	}
	_ = w.WriteMsg(m)
}

// newFront starts one. A certificate for another name than the address can be
// asked for.
func newFront(t testing.TB, s *service, authority *ca, names ...string) *front {
	t.Helper()
	f := &front{service: s}
	web := httptest.NewUnstartedServer(f)
	web.TLS = &tls.Config{Certificates: []tls.Certificate{authority.issue(t, names...)}}
	web.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that are to fail
	web.StartTLS()
	f.url = web.URL + "/nic/update"
	var stops []func()
	f.dns = nameserver.Address(t)
	pc, err := net.ListenPacket("udp", f.dns)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", f.dns)
	if err != nil {
		t.Fatal(err)
	}
	for _, srv := range []*mdns.Server{{PacketConn: pc, Handler: f}, {Listener: l, Handler: f}} {
		ready, ended := make(chan struct{}), make(chan struct{})
		srv.NotifyStartedFunc = func() { close(ready) }
		go func() { defer close(ended); _ = srv.ActivateAndServe() }()
		<-ready
		stops = append(stops, func() { _ = srv.Shutdown(); <-ended })
	}
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
		for _, stop := range stops {
			stop()
		}
	})
	return f
}

// hang waits until the client has left.
func hang(_ http.ResponseWriter, r *http.Request) bool {
	select {
	case <-r.Context().Done():
	case <-time.After(10 * time.Second):
	}
	return true
}

// carryOutAndHang loses the answer.
func (f *front) carryOutAndHang(w http.ResponseWriter, r *http.Request) bool {
	f.carryOut(r)
	return hang(w, r)
}

// hold keeps requests until deliver.
func (f *front) hold(w http.ResponseWriter, r *http.Request) bool {
	f.set(func() { f.held = append(f.held, r.Clone(context.WithoutCancel(r.Context()))) })
	return hang(w, r)
}

func (f *front) deliver() {
	f.fmu.Lock()
	held := f.held
	f.held = nil
	f.fmu.Unlock()
	for _, r := range held {
		f.carryOut(r)
	}
}

// say answers every request with a status and a body.
func say(status int, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return true
	}
}

// ca is a certificate authority of the test's own.
type ca struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t testing.TB) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c := &ca{file: filepath.Join(t.TempDir(), "ca.pem"), cert: cert, key: key}
	if err := os.WriteFile(c.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// issue makes a certificate for the names; for loopback addresses if none.
func (c *ca) issue(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "service"}, DNSNames: names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	if names == nil {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, &key.PublicKey, c.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
