package web

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/draasd/draas/schemes/frontend"
)

// writeCert makes a self-signed pair of files for these names.
func writeCert(tb testing.TB, dir, as string, names ...string) (cert, key string) {
	tb.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		tb.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		tb.Fatal(err)
	}
	cert, key = filepath.Join(dir, as+".pem"), filepath.Join(dir, as+".key")
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return cert, key
}

// newTLSLab is a lab whose address speaks TLS.
func newTLSLab(tb testing.TB, change func(*Config)) *lab {
	tb.Helper()
	cert, key := writeCert(tb, tb.TempDir(), "a", "shop.test")
	return newLab(tb, func(c *Config) {
		c.Hosts[0].Certificate, c.Hosts[0].Key = cert, key
		if change != nil {
			change(c)
		}
	})
}

// client is net/http's, by HTTP/2 or 1.1.
func (l *lab) client(two bool) *http.Client {
	t := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "shop.test"},
		ForceAttemptHTTP2: two,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.addr)
		},
	}
	l.tb.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: 20 * second}
}

func do(tb testing.TB, c *http.Client, method, url, body string, change func(*http.Request)) reply {
	tb.Helper()
	r, err := try(c, method, url, body, change)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func try(c *http.Client, method, url, body string, change func(*http.Request)) (reply, error) {
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, url, from)
	if err != nil {
		return reply{}, err
	}
	if change != nil {
		change(req)
	}
	res, err := c.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return reply{res, string(b), err}, nil
}

// The same of both protocols.
func TestProtocols(t *testing.T) {
	for major, two := range map[int]bool{1: false, 2: true} {
		t.Run(fmt.Sprint("HTTP/", major), func(t *testing.T) {
			l := newTLSLab(t, nil)
			c := l.client(two)
			r := do(t, c, "GET", "https://shop.test/a?b", "", nil).want(t, 200, "primary GET /a?b")
			if r.ProtoMajor != major {
				t.Fatalf("%s", r.Proto)
			}
			raw := l.sites["primary"].got()[0].raw
			for _, want := range []string{"GET /a?b HTTP/1.1\r\nHost: shop.test\r\n", "X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: https\r\n", `Forwarded: for=127.0.0.1;host="shop.test";proto=https`} {
				if !strings.Contains(raw, want) {
					t.Errorf("%q has no %q", raw, want)
				}
			}
			for _, n := range []int{1, 20_000, 3 << 20} {
				body := strings.Repeat("x", n)
				do(t, c, "POST", "https://shop.test/p", body, nil).want(t, 200, "primary POST /p")
				got := l.sites["primary"].got()
				if last := got[len(got)-1]; last.body != body || last.ContentLength != int64(n) {
					t.Errorf("%d bytes came, %d said, of %d", len(last.body), last.ContentLength, n)
				}
			}
			do(t, c, "POST", "https://shop.test/t", "abc", func(r *http.Request) {
				r.ContentLength = -1
				r.Trailer = http.Header{"T": {"v"}}
			}).want(t, 200, "primary POST /t")
			got := l.sites["primary"].got()
			if last := got[len(got)-1]; last.body != "abc" || last.Trailer.Get("T") != "v" {
				t.Errorf("%q, trailer %v", last.body, last.Trailer)
			}
			l.sites["primary"].does(func(s *served) {
				s.say("HTTP/1.1 103 Early\r\nLink: </x>\r\n\r\nHTTP/1.1 201 Made\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: w\r\n\r\n")
			})
			r = do(t, c, "GET", "https://shop.test/", "", nil).want(t, 201, "abc")
			if r.Header.Get("X-A") != "1" || r.Trailer.Get("T") != "w" || r.Header.Get("Link") != "" {
				t.Errorf("%v, trailer %v", r.Header, r.Trailer)
			}
			l.sites["primary"].does(func(s *served) { s.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"); s.reset() })
			if r, err := try(c, "GET", "https://shop.test/", "", nil); err == nil && r.err == nil {
				t.Errorf("%q looks whole", r.body)
			}
			l.sites["primary"].does(func(s *served) {
				s.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
				s.reset()
			})
			if r, err := try(c, "GET", "https://shop.test/", "", nil); err == nil && r.err == nil {
				t.Errorf("%q looks whole", r.body)
			}
			l.sites["primary"].does(nil)
			do(t, c, "HEAD", "https://shop.test/", "", nil).want(t, 200, "")
			if r, err := try(c, "GET", "https://shop.test/"+strings.Repeat("x", 50_000), "", nil); err == nil && r.StatusCode != 431 {
				t.Errorf("%d for a target too long", r.StatusCode)
			}
		})
	}
}

// HTTP/2 streams are held and sent again like any request.
func TestTwoHeld(t *testing.T) {
	l := newTLSLab(t, func(c *Config) { c.Hosts[0].Replay = []string{"PUT /u/"} })
	c := l.client(true)
	l.decide(frontend.Decision{Epoch: 1, Site: "primary", Moving: true, Permit: time.Hour})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if r, err := try(c, "GET", "https://shop.test/", "", nil); err != nil || r.body != "dr GET /" {
				t.Errorf("%q, %v", r.body, err)
			}
			if r, err := try(c, "POST", "https://shop.test/", "abc", nil); err != nil || r.body != "dr POST /" {
				t.Errorf("%q, %v", r.body, err)
			}
		})
	}
	eventually(t, "all wait", func() bool { return l.table.Reports()[0].Held == 10 })
	l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
	wg.Wait()

	// An upload that its back end breaks off goes to the other site as a whole.
	body := strings.Repeat("0123456789", 20_000)
	l.sites["dr"].does(func(s *served) { _, _ = io.CopyN(io.Discard, s.Body, 50_000); s.reset() })
	failed := len(l.classes())
	wg.Go(func() {
		if r, err := try(c, "PUT", "https://shop.test/u/1", body, func(r *http.Request) { r.Header.Set("X-Whole", "no") }); err != nil || r.StatusCode != 200 {
			t.Errorf("%v, %v", r.Response, err)
		}
	})
	eventually(t, "it has failed", func() bool { return len(l.classes()) > failed })
	l.decide(frontend.Decision{Epoch: 3, Site: "primary", Permit: time.Hour})
	wg.Wait()
	if got := l.sites["primary"].got(); got[0].body != body {
		t.Errorf("%d bytes of %d came", len(got[0].body), len(body))
	}
}

// A client of HTTP/2 that loses interest leaves nothing behind.
func TestTwoCancelled(t *testing.T) {
	l := newTLSLab(t, nil)
	l.sites["primary"].does((*served).hang)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := try(l.client(true), "GET", "https://shop.test/", "", func(r *http.Request) { *r = *r.WithContext(ctx) }); err == nil {
			t.Error("answered")
		}
	})
	eventually(t, "it is under way", func() bool { return l.table.Reports()[0].Flights == 1 })
	cancel()
	wg.Wait()
	eventually(t, "it is given up", func() bool { return l.table.Reports()[0].Flights == 0 })
}

// frames is a raw client of HTTP/2 without TLS.
func (l *lab) frames() (*http2.Framer, net.Conn, func(id uint32, path string) error) {
	l.tb.Helper()
	w := l.dial().send(http2.ClientPreface)
	f := http2.NewFramer(w, w)
	if err := f.WriteSettings(); err != nil {
		l.tb.Fatal(err)
	}
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	return f, w, func(id uint32, path string) error {
		block.Reset()
		for _, h := range []string{":method GET", ":scheme http", ":authority shop", ":path " + path} {
			name, value, _ := strings.Cut(h, " ")
			_ = enc.WriteField(hpack.HeaderField{Name: name, Value: value})
		}
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	}
}

// Floods of frames that cost a client nothing are ended, and those of others
// are served all the while.
func TestFloods(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *Config) { c.Cleartext = true })
	l.sites["primary"].does(func(s *served) {
		if s.URL.Path == "/hang" {
			s.hang()
			return
		}
		s.ok("fine")
	})
	for name, flood := range map[string]func(*http2.Framer, func(uint32, string) error, uint32) error{
		"rapid reset": func(f *http2.Framer, get func(uint32, string) error, i uint32) error {
			if err := get(2*i+1, "/hang"); err != nil {
				return err
			}
			return f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		},
		"settings": func(f *http2.Framer, _ func(uint32, string) error, _ uint32) error { return f.WriteSettings() },
		"ping": func(f *http2.Framer, _ func(uint32, string) error, _ uint32) error {
			return f.WritePing(false, [8]byte{})
		},
		"priority": func(f *http2.Framer, _ func(uint32, string) error, i uint32) error {
			return f.WritePriority(2*i+1, http2.PriorityParam{Weight: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, nc, get := l.frames()
			bad := l.svc.Stats.Bad.Load()
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = io.Copy(io.Discard, nc) })
			ended := false
			for i := range uint32(1_000_000) {
				if err := flood(f, get, i); err != nil {
					ended = true
					break
				}
			}
			if !ended {
				t.Error("the flood goes on")
			}
			_ = nc.Close()
			wg.Wait()
			eventually(t, "nothing of it is under way", func() bool { return l.table.Reports()[0].Flights == 0 })
			if name != "rapid reset" {
				eventually(t, "it is counted", func() bool { return l.svc.Stats.Bad.Load() > bad })
			}
			if n := len(l.sites["primary"].got()); n > 3000 {
				t.Errorf("%d requests got to the back end", n)
			}
			l.get("/").want(t, 200, "fine")
		})
	}
	// Not too few, either.
	f, nc, get := l.frames()
	var wg sync.WaitGroup
	answers := make(chan struct{}, 1000)
	wg.Go(func() {
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := fr.(*http2.HeadersFrame); ok && h.StreamID%2 == 1 {
				answers <- struct{}{}
			}
		}
	})
	for i := range uint32(300) {
		if err := get(2*i+1, "/"); err != nil {
			t.Fatal(err)
		}
		<-answers
		if err := f.WritePing(false, [8]byte{}); err != nil {
			t.Fatal(err)
		}
	}
	_ = nc.Close()
	wg.Wait()
}

// Certificates and hosts are those of the configuration in force; connections
// and requests under way are none the worse for it.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCert(t, dir, "a", "shop.test")
	other, otherKey := writeCert(t, dir, "b", "other.test")
	l := newLab(t, func(c *Config) {
		c.Hosts[0].Certificate, c.Hosts[0].Key, c.Hosts[0].Names = cert, key, []string{"shop.test", "*.shop.test"}
	})
	serial := func(name string) (*big.Int, error) {
		c, err := tls.Dial("tcp", l.addr, &tls.Config{InsecureSkipVerify: true, ServerName: name})
		if err != nil {
			return nil, err
		}
		defer func() { _ = c.Close() }()
		return c.ConnectionState().PeerCertificates[0].SerialNumber, nil
	}
	first, err := serial("shop.test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := serial("other.test"); err == nil {
		t.Error("a name that nobody serves got a certificate")
	}
	if n, err := serial("www.shop.test"); err != nil || n.Cmp(first) != 0 {
		t.Errorf("wildcard: %v, %v", n, err)
	}
	c := l.client(false)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	asked := make(chan struct{}, 1)
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r, err := try(c, "GET", "https://shop.test/", "", nil); err != nil || r.StatusCode != 200 {
					t.Errorf("%v, %v", r.Response, err)
				}
				select {
				case asked <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 10 {
		<-asked
		writeCert(t, dir, "a", "shop.test")
		if err := l.server.Use(l.cfg); err != nil {
			t.Error(err)
		}
	}
	if n, err := serial("shop.test"); err != nil || n.Cmp(first) == 0 {
		t.Errorf("the certificate is still the old one, %v", err)
	}
	cfg := l.cfg
	cfg.Hosts = append(cfg.Hosts[:1:1], Host{Names: []string{"other.test"}, Service: l.svc, Certificate: other, Key: otherKey})
	if err := l.server.Use(cfg); err != nil {
		t.Error(err)
	}
	if _, err := serial("other.test"); err != nil {
		t.Errorf("the new name: %v", err)
	}
	if r := do(t, c, "GET", "https://shop.test/", "", func(r *http.Request) { r.Host = "third.test" }); r.StatusCode != 421 {
		t.Errorf("%d for a host that nobody serves, want 421", r.StatusCode)
	}
	close(stop)
	wg.Wait()

	for what, bad := range map[string]func(*Config){
		"no hosts":        func(c *Config) { c.Hosts = nil },
		"no service":      func(c *Config) { c.Hosts[0].Service = nil },
		"a name twice":    func(c *Config) { c.Hosts[0].Names = []string{"a", "A."} },
		"half a pair":     func(c *Config) { c.Hosts[0].Key = "" },
		"no file":         func(c *Config) { c.Hosts[0].Key = "/nowhere" },
		"an odd affinity": func(c *Config) { c.Hosts[0].Affinity = "x" },
		"an odd replay":   func(c *Config) { c.Hosts[0].Replay = []string{"/x"} },
		"an odd version":  func(c *Config) { c.Hosts[0].ProxyOut = 3 },
		"TLS for some":    func(c *Config) { c.Hosts = append(c.Hosts, Host{Service: l.svc, Names: []string{"z"}}) },
		"TLS for none":    func(c *Config) { c.Hosts[0].Certificate, c.Hosts[0].Key = "", "" },
		"the rest, twice": func(c *Config) { c.Hosts[0].Names = nil; c.Hosts = append(c.Hosts, c.Hosts[0]) },
		"an unfit shadow": func(c *Config) { c.Hosts[0].Shadow = "nowhere" },
	} {
		cfg := l.cfg
		cfg.Hosts = append([]Host(nil), l.cfg.Hosts...)
		bad(&cfg)
		if err := l.server.Use(cfg); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if _, err := serial("shop.test"); err != nil {
		t.Errorf("after files that were refused: %v", err)
	}
}

// GOAWAY, not a reset, when the frontend ends.
func TestTwoDrain(t *testing.T) {
	l := newTLSLab(t, nil)
	release := make(chan struct{})
	l.sites["primary"].does(func(s *served) { <-release; s.ok("late") })
	var wg sync.WaitGroup
	wg.Go(func() {
		if r, err := try(l.client(true), "GET", "https://shop.test/", "", nil); err != nil || r.body != "late" {
			t.Errorf("%q, %v", r.body, err)
		}
	})
	eventually(t, "it is under way", func() bool { return l.table.Reports()[0].Flights == 1 })
	wg.Go(l.stop)
	eventually(t, "it ends", l.server.draining.Load)
	close(release)
	wg.Wait()
}

// A client that opens its windows and reads nothing is not waited for.
func TestTwoTakesNothing(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(c *Config) { c.Cleartext = true; c.Limits.Stall = 200 * time.Millisecond })
	l.sites["primary"].does(func(s *served) {
		s.say("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
		for range 1000 {
			if _, err := s.Conn.Write(make([]byte, 100_000)); err != nil {
				return
			}
		}
	})
	f, _, get := l.frames()
	if err := f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	if err := f.WriteWindowUpdate(0, 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := get(1, "/"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is under way", func() bool { return l.svc.Stats.Site("primary").Requests.Load() == 1 })
	eventually(t, "it is given up", func() bool { return l.table.Reports()[0].Flights == 0 })
}
