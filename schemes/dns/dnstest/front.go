package dnstest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas/runbook/effecttest"
)

// Front is one way to a service's fake, over TLS. Its rule decides of each
// request what becomes of it.
type Front struct {
	URL string
	CA  string // file with its root

	backend Backend

	mu    sync.Mutex
	rule  Rule
	held  []*http.Request
	reads int
	sent  int // requests that change something and came through
}

// Fate is what becomes of a request.
type Fate int

// The fates.
const (
	Pass        Fate = iota
	Lose             // the connection ends; nothing comes through
	LoseAnswer       // it is carried out; the connection ends
	Withhold         // it is carried out; the client hears nothing
	Hold             // it is kept until Deliver; the client hears nothing
	Keep             // it is carried out, and kept as with Hold
	Refuse           // by the service's own kind of refusal
	Throttle         // by the service's own kind of throttling
	Throttle1s       // and with Retry-After: 1
	Throttle30s      // and with Retry-After: 30
	Down             // 503 by something in between
	Garble           // an answer that ends in the middle
	Redirect         // to elsewhere
)

// Rule tells the fate of a request; write is whether it changes something.
type Rule func(r *http.Request, write bool) Fate

// Backend is a service's fake.
type Backend interface {
	http.Handler
	// Writes reports whether a request changes something.
	Writes(*http.Request) bool
	// Refuse refuses a change; Throttle asks for patience, for so many seconds
	// unless it is 0.
	Refuse(http.ResponseWriter)
	Throttle(w http.ResponseWriter, seconds string)
}

// StartFront starts a front. It ends with the test.
func StartFront(t testing.TB, b Backend) *Front {
	t.Helper()
	f := &Front{backend: b}
	s := httptest.NewUnstartedServer(f)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that are ended on purpose
	cert, err := certificate()
	if err != nil {
		t.Fatal(err)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	f.URL = s.URL
	f.CA = filepath.Join(t.TempDir(), "ca.pem")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	if err := os.WriteFile(f.CA, root, 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// certificate is made once, with a key that is cheap: the suite makes some
// thousand connections.
var certificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	sheet := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, sheet, sheet, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
})

// SetRule changes the rule; nil lets all pass.
func (f *Front) SetRule(r Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rule = r
}

// Writes gives changes a fate.
func Writes(fate Fate) Rule {
	return func(_ *http.Request, write bool) Fate {
		if write {
			return fate
		}
		return Pass
	}
}

// Reads gives requests that change nothing a fate.
func Reads(fate Fate) Rule {
	return func(_ *http.Request, write bool) Fate {
		if write {
			return Pass
		}
		return fate
	}
}

// All gives all requests one fate.
func All(fate Fate) Rule { return func(*http.Request, bool) Fate { return fate } }

// First gives the first so many requests that a rule does not let pass that
// fate, and lets later ones pass.
func First(n int, rule Rule) Rule {
	var mu sync.Mutex
	return func(r *http.Request, write bool) Fate {
		mu.Lock()
		defer mu.Unlock()
		fate := rule(r, write)
		if fate == Pass || n == 0 {
			return Pass
		}
		n--
		return fate
	}
}

// Last gives the last of so many changes a fate.
func Last(changes int, fate Fate) Rule {
	var mu sync.Mutex
	return func(_ *http.Request, write bool) Fate {
		mu.Lock()
		defer mu.Unlock()
		if !write {
			return Pass
		}
		if changes--; changes > 0 {
			return Pass
		}
		return fate
	}
}

// Inject is a fault of effecttest's. A move takes so many changes.
func (f *Front) Inject(fault effecttest.Fault, changes int) (heal func()) {
	f.SetRule(map[effecttest.Fault]Rule{
		effecttest.LoseRequest: All(Lose),
		effecttest.LoseAnswer:  Last(changes, Withhold),
		effecttest.ApplyLate:   Writes(Hold),
		effecttest.Refuse:      Writes(Refuse),
		effecttest.Blind:       Reads(Lose),
	}[fault])
	return func() {
		f.SetRule(nil)
		f.Deliver()
	}
}

// Counts tells how many requests came through that read, and that changed
// something.
func (f *Front) Counts() (reads, writes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads, f.sent
}

// HeldBack is how many requests are kept.
func (f *Front) HeldBack() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.held)
}

// Deliver carries out what was kept, and says how each ended.
func (f *Front) Deliver() (statuses []int) {
	f.mu.Lock()
	held := f.held
	f.held = nil
	f.mu.Unlock()
	for _, r := range held {
		w := httptest.NewRecorder()
		f.backend.ServeHTTP(w, r)
		statuses = append(statuses, w.Code)
	}
	return statuses
}

// Replay carries out a copy of what is kept, and keeps it.
func (f *Front) Replay() (statuses []int) {
	f.mu.Lock()
	held := f.held
	f.mu.Unlock()
	for _, r := range held {
		body, _ := r.GetBody() // a reader on bytes
		copied := r.Clone(r.Context())
		copied.Body = body
		w := httptest.NewRecorder()
		f.backend.ServeHTTP(w, copied)
		statuses = append(statuses, w.Code)
	}
	return statuses
}

// ServeHTTP implements http.Handler.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // it was cut off on its way here
	}
	reader := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	r.Body, _ = reader()
	write := f.backend.Writes(r)
	f.mu.Lock()
	fate := Pass
	if f.rule != nil {
		fate = f.rule(r, write)
	}
	if fate == Pass || fate == LoseAnswer || fate == Withhold || fate == Keep {
		if write {
			f.sent++
		} else {
			f.reads++
		}
	}
	if fate == Hold || fate == Keep {
		kept := r.Clone(r.Context())
		kept.Body, _ = reader()
		kept.GetBody = reader
		f.held = append(f.held, kept)
	}
	f.mu.Unlock()
	switch fate {
	case Pass, Keep:
		f.backend.ServeHTTP(w, r)
	case Lose:
		panic(http.ErrAbortHandler)
	case LoseAnswer:
		f.backend.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	case Withhold:
		f.backend.ServeHTTP(httptest.NewRecorder(), r)
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Hold:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case Refuse:
		f.backend.Refuse(w)
	case Throttle:
		f.backend.Throttle(w, "")
	case Throttle1s:
		f.backend.Throttle(w, "1")
	case Throttle30s:
		f.backend.Throttle(w, "30")
	case Down:
		http.Error(w, "<html>upstream is gone</html>", http.StatusServiceUnavailable)
	case Garble:
		whole := httptest.NewRecorder()
		f.backend.ServeHTTP(whole, r)
		for k, v := range whole.Header() {
			w.Header()[k] = v
		}
		w.WriteHeader(whole.Code)
		_, _ = w.Write(whole.Body.Bytes()[:whole.Body.Len()/2])
		panic(http.ErrAbortHandler)
	case Redirect:
		http.Redirect(w, r, "https://elsewhere.invalid"+r.URL.Path, http.StatusTemporaryRedirect)
	}
}
