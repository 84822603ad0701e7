package dyndns2

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// The credentials go nowhere but to the host of the configuration, over TLS.
func TestRedirects(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	other := newFront(t, newService(b.clock.now), b.ca)
	var heard sync.Map // who has come to where no credentials may go
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	trap := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { heard.Store(r.URL.String(), true) })}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = trap.Serve(plain) }()
	defer func() { _ = trap.Close(); <-ended }()
	loops := 0
	for name, to := range map[string]string{
		"http":            "http://" + plain.Addr().String() + "/nic/update",
		"http, same host": strings.Replace(b.url, "https", "http", 1),
		"another host":    other.url,
		"another name":    strings.Replace(b.url, "127.0.0.1", "localhost", 1),
		"with a user":     strings.Replace(b.url, "https://", "https://"+secret+"@", 1),
		"in a circle":     b.url,
		"no address":      "https://%zz/" + secret,
	} {
		b.front.set(func() {
			loops = 0
			b.answer = func(w http.ResponseWriter, r *http.Request) bool {
				loops++
				w.Header().Set("Location", to)
				return say(http.StatusFound, "good 203.0.113.20,2001:db8::20")(w, r)
			}
		})
		e := b.executor()
		for range 2 {
			if err := do(t, e, op(2, 1)); !errors.Is(err, ErrStopped) && !errors.Is(err, ErrUnanswered) || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: Do: %v", name, err)
			} else if errors.Is(err, ErrStopped) && !errors.Is(err, ErrRedirected) {
				t.Errorf("%s: Do does not say why: %v", name, err)
			}
		}
		b.front.set(func() {
			if loops > maxRedirects+1 {
				t.Errorf("%s: %d requests", name, loops)
			}
		})
	}
	heard.Range(func(where, _ any) bool { t.Errorf("a request came to %s", where); return true })
	if n := other.count() + b.count(); n != 0 {
		t.Errorf("%d requests were carried out", n)
	}
	// On the same host it is followed.
	b.front.set(func() {
		b.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/nic/update" {
				r.URL.Path = "/nic/update"
				return false
			}
			http.Redirect(w, r, "/v2"+r.URL.String(), http.StatusTemporaryRedirect)
			return true
		}
	})
	mustDo(t, b.executor(), op(2, 1))
	b.unblocked(t)
}

// To whom cannot show a certificate nothing is said.
func TestCertificates(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	wrongName := newFront(t, b.service, b.ca, "elsewhere.example")
	wrongCA := newFront(t, b.service, newCA(t))
	closed := strings.Replace(b.url, "127.0.0.1", "127.111.222.1", 1)
	for name, url := range map[string]string{"another name": wrongName.url, "another CA": wrongCA.url, "nobody there": closed} {
		e := b.executor(func(c *Config) { c.URL = url })
		if err := do(t, e, op(2, 1)); !errors.Is(err, ErrUnsent) {
			t.Errorf("%s: Do: %v", name, err)
		}
		if left := e.cfg.Gate.Left(op(2, 1)); left != 0 {
			t.Errorf("%s: what was not sent is waited for: %v", name, left)
		}
	}
	// Without a CA file those of the system count.
	if err := do(t, b.executor(func(c *Config) { c.CAFile = "" }), op(2, 1)); !errors.Is(err, ErrUnsent) {
		t.Errorf("a CA of nobody's: Do: %v", err)
	}
	if n := b.count(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	name := func(change func(*dns.Name)) func(*Config) {
		return func(c *Config) { n := atName(shop); change(&n); c.Names = []dns.Name{n} }
	}
	at := func(site draas.SiteID, target dns.Target) func(*Config) {
		return name(func(n *dns.Name) { n.Targets[site] = target })
	}
	open := writeFile(t, account+":"+secret)
	if err := os.Chmod(open, 0o604); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"the password goes with every request": func(c *Config) { c.URL = "http://" + strings.TrimPrefix(c.URL, "https://") },
		"want https://HOST/PATH":               func(c *Config) { c.URL = "https:///nic/update" },
		"no user":                              func(c *Config) { c.URL = strings.Replace(c.URL, "https://", "https://"+account+":"+secret+"@", 1) },
		"question mark":                        func(c *Config) { c.URL += "?password=" + secret },
		"it cannot be read":                    func(c *Config) { c.URL = "https://" + secret + ":x/%zz" },
		"want a mail address":                  func(c *Config) { c.Contact = "ops" },
		"contact: want":                        func(c *Config) { c.Contact = "" },
		"printable ASCII":                      func(c *Config) { c.Version = "1\r\nX: y" },
		"want a gate":                          func(c *Config) { c.Gate = nil },
		"no negative time":                     func(c *Config) { c.Lag = -1 },
		"want the authorities":                 func(c *Config) { c.Authorities = nil },
		"missing port":                         func(c *Config) { c.Authorities[0].Address = "192.0.2.1" },
		"two services at the name":             func(c *Config) { n := atName("SHOP.example.org."); n.Service = "two"; c.Names = append(c.Names, n) },
		"no CNAME":                             at("dr", dns.Target{CNAME: "elsewhere.example."}),
		"keeps one A record, not 2":            at("dr", dns.Target{Addresses: addrs("203.0.113.20", "203.0.113.21", "2001:db8::20")}),
		"same families":                        at("dr", dns.Target{Addresses: addrs("203.0.113.20")}),
		"has two names":                        func(c *Config) { c.Names = append(c.Names, atName("second.example.org.")) },
		"dns.login: no such file":              func(c *Config) { c.CredentialsFile = t.TempDir() + "/dns.login" },
		"open to others (mode 0604): chmod o=": func(c *Config) { c.CredentialsFile = open },
		"want user:password":                   func(c *Config) { c.CredentialsFile = writeFile(t, secret) },
		"a user's name cannot have a colon":    func(c *Config) { c.CredentialsFile = writeFile(t, "a:b\n"+secret) },
		"a control character":                  func(c *Config) { c.CredentialsFile = writeFile(t, "a\n"+secret+"\x01") },
		"more than 4096 octets":                func(c *Config) { c.CredentialsFile = writeFile(t, strings.Repeat(secret, 1000)) },
		"ca.pem: no such file":                 func(c *Config) { c.CAFile = t.TempDir() + "/ca.pem" },
		"has no certificate":                   func(c *Config) { c.CAFile = c.CredentialsFile },
	} {
		cfg := b.config()
		change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		} else if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
	if _, err := New(b.config()); err != nil {
		t.Error(err)
	}
}

// The password is in no error, evidence or printed value, also when the service
// throws it back.
func TestNoSecretIsSeen(t *testing.T) {
	t.Parallel()
	wire := base64.StdEncoding.EncodeToString([]byte(account + ":" + secret))
	hijack := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			c, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = c.Write([]byte(text))
				_ = c.Close()
			}
			return true
		}
	}
	location := func(to string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", to)
			return say(http.StatusFound, secret)(w, r)
		}
	}
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"a code":         say(200, "canary4711"),
		"a code, whole":  say(200, secret),
		"good":           say(200, "good "+secret),
		"nochg":          say(200, "nochg "+secret+"\n"+secret),
		"500":            say(500, secret),
		"401":            say(401, "badauth "+secret),
		"404":            say(404, wire),
		"not HTTP":       hijack(secret + " " + wire + "\r\n\r\n"),
		"a bad status":   hijack("HTTP/1.1 " + secret + " " + wire + "\r\n\r\n"),
		"a bad header":   hijack("HTTP/1.1 200 OK\r\n" + secret + "\r\n\r\n"),
		"a bad length":   hijack("HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n"),
		"a bad chunk":    hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + secret + "\r\n"),
		"a bad coding":   hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + "\r\n\r\n"),
		"half an answer": hijack("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + secret),
		"leads away":     location("https://" + secret + ".example/?" + wire),
		"leads nowhere":  location("https://%" + secret),
		"leads to http":  location("http://127.0.0.1/" + secret),
		"hangs":          hang,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			if name == "a code" {
				b.login = writeFile(t, "ada\ncanary4711") // a password that looks like a code
			}
			b.Effect = b.executor(func(c *Config) {
				if name == "hangs" {
					hasty(t)(c)
				}
			})
			b.front.set(func() { b.answer = answer })
			var said []string
			for range 2 {
				err := do(t, b.Effect, op(2, 1))
				_, evidence, lookErr := b.Done(t.Context(), op(2, 1))
				res := runbook.RunStep(t.Context(), b.Effect, op(2, 1))
				said = append(said, fmt.Sprintf("%v %+v %#v", err, err, err), evidence, fmt.Sprint(lookErr), fmt.Sprintf("%+v", res))
			}
			for _, text := range said {
				for _, hidden := range []string{secret, wire, "canary", account} {
					if strings.Contains(text, hidden) {
						t.Errorf("shows %s: %s", hidden, text)
					}
				}
			}
		})
	}
	c, err := ReadCredentials(writeFile(t, account+":"+secret))
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "c", c, "p", &c)
	if text := fmt.Sprintf("%v %+v %#v %s %q %v", c, c, c, c, c, &c) + log.String(); strings.Contains(text, "canary") || strings.Contains(text, account) {
		t.Errorf("printed: %s", text)
	}
}
