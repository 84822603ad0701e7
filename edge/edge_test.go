package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/api"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/quorum"
)

// cluster is three members as a frontend sees them: their API over mutual TLS.
type cluster struct {
	t       *testing.T
	dir     string
	log     *slog.Logger
	members [3]*fakeMember
	apis    [3]string
	sites   map[string]string // addresses of the sites' servers
	listen  map[string]string
	hold    string
	openVIP func(*keeper) (addresses, error)
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, dir: t.TempDir(), sites: make(map[string]string), listen: make(map[string]string), hold: "300ms"}
	c.log = slog.New(slog.NewTextHandler(logWriter{t}, nil))
	validity := quorum.Validity{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour)}
	ca, err := quorum.NewCA("test", validity)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"primary", "dr", "witness"} {
		id, err := ca.Issue(draas.MemberID(name), nil, validity)
		if err != nil {
			t.Fatal(err)
		}
		c.members[i] = newFakeMember()
		c.apis[i] = c.serveMember(c.members[i], ca, id)
		if name != "witness" {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) }))
			t.Cleanup(srv.Close)
			c.sites[name] = srv.Listener.Addr().String()
		}
	}
	id, err := ca.IssueFrontend("edge1", nil, validity)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"ca.crt": ca.CertPEM, "member.crt": id.CertPEM, "member.key": id.KeyPEM} {
		c.put(name, string(data))
	}
	c.listen["web"], c.listen["raw"] = c.free(), c.free()
	c.write("")
	return c
}

type logWriter struct{ t *testing.T }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimRight(p, "\n"))
	return len(p), nil
}

func (c *cluster) put(name, text string) {
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// free is an address that nobody listens on.
func (c *cluster) free() string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (c *cluster) serveMember(m *fakeMember, ca *quorum.CA, id quorum.Identity) string {
	pair, err := tls.X509KeyPair(id.CertPEM, id.KeyPEM)
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.CertPEM)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask api.Follow
		if r.URL.Path != api.PathFollow || r.TLS.PeerCertificates[0].Subject.CommonName != "edge1" || json.NewDecoder(r.Body).Decode(&ask) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		led, err := m.Follow(r.Context(), ask)
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		raw := led.Services[0]
		raw.Service = "raw"
		led.Services = append(led.Services, raw)
		_ = json.NewEncoder(w).Encode(led)
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
	srv.StartTLS()
	c.t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

const service = `
[service.%[1]s]
scheme = "frontend"
home = "primary"
address.primary = ["127.0.0.2"]
address.dr = ["127.0.0.3"]
[[service.%[1]s.check]]
type = "tcp"
port = 80
[service.%[1]s.frontend]
mode = %[2]q
listen = [%[3]q]
server.primary = [%[4]q]
server.dr = [%[5]q]
hold = %[6]q
`

// write writes the file, with more in it.
func (c *cluster) write(more string) {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster = \"test\"\nprofile = \"fast\"\n[tls]\nca = \"ca.crt\"\ncert = \"member.crt\"\nkey = \"member.key\"\n")
	for i, name := range []string{"primary", "dr", "witness"} {
		role := "site"
		if name == "witness" {
			role = "witness"
		}
		fmt.Fprintf(&b, "[member.%s]\nrole = %q\npeer = \"127.0.0.1:%d\"\napi = %q\n", name, role, 7400+i, c.apis[i])
	}
	fmt.Fprintf(&b, "[frontend.edge1]\ncontrol = \"edge.sock\"\naccess_log = \"access.log\"\n")
	fmt.Fprintf(&b, service, "shop", "http", c.listen["web"], c.sites["primary"], c.sites["dr"], c.hold)
	fmt.Fprintf(&b, service, "raw", "tcp", c.listen["raw"], c.sites["primary"], c.sites["dr"], c.hold)
	c.put("failover.toml", b.String()+more)
}

// running is an edge that runs.
type running struct {
	*cluster
	hangup chan os.Signal
	stop   func()
}

func (c *cluster) run() *running {
	c.t.Helper()
	r := &running{cluster: c, hangup: make(chan os.Signal, 1)}
	ready := make(chan struct{})
	e, err := New(Options{ConfigPath: filepath.Join(c.dir, "failover.toml"), Log: c.log, Hangup: r.hangup, Clock: fence.SystemClock{}.Now,
		Ready: func() error { close(ready); return nil }})
	if err != nil {
		c.t.Fatal(err)
	}
	if c.openVIP != nil {
		e.openVIP = c.openVIP
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			c.t.Errorf("edge: %v", err)
		}
	})
	c.t.Cleanup(r.stop)
	select {
	case <-ready:
	case err := <-ended:
		c.t.Fatalf("edge ended: %v", err)
	case <-time.After(10 * time.Second):
		c.t.Fatal("edge is not ready")
	}
	return r
}

// decide has all members say the same, for long.
func (c *cluster) decide(epoch draas.Epoch, site draas.SiteID) {
	for _, m := range c.members {
		m.decide(api.LedService{Epoch: epoch, Active: site, PermitNS: int64(time.Minute)})
	}
}

// get asks as a user does, on a connection of its own.
func (c *cluster) get(at string) (int, string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	res, err := client.Get("http://" + at + "/")
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

func (c *cluster) status() *api.FrontendStatus {
	c.t.Helper()
	client := api.Unix(filepath.Join(c.dir, "edge.sock"))
	defer client.Close()
	s, err := client.Frontend(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c *cluster) await(what string, ok func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// A frontend leads to nobody until it is told, then to the active site, by
// both modes, and says so.
func TestServes(t *testing.T) {
	c := newCluster(t)
	r := c.run()
	if code, _ := c.get(c.listen["web"]); code != http.StatusServiceUnavailable {
		t.Errorf("before anybody was active: %d", code)
	}
	c.decide(1, "primary")
	for _, mode := range []string{"web", "raw"} {
		c.await(mode+" from primary", func() bool { _, body := c.get(c.listen[mode]); return body == "primary" })
	}
	c.decide(2, "dr")
	for _, mode := range []string{"web", "raw"} {
		c.await(mode+" from dr", func() bool { _, body := c.get(c.listen[mode]); return body == "dr" })
	}
	s := c.status()
	if s.Frontend != "edge1" || len(s.Members) != 3 || len(s.Services) != 2 || len(s.Warnings) != 3 {
		t.Fatalf("status %+v", s)
	}
	for _, v := range s.Services {
		if v.State != "open" || v.Site != "dr" || v.Epoch != 2 || v.PermitLeftMS < 1000 || v.Sites[0].Site != "dr" || v.Sites[0].Requests == 0 {
			t.Errorf("%+v", v)
		}
	}
	r.stop()
	lines, err := os.ReadFile(filepath.Join(c.dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[string]bool)
	for line := range bytes.Lines(lines) {
		var v struct{ Service string }
		if err := json.Unmarshal(line, &v); err != nil {
			t.Errorf("%q: %v", line, err)
		}
		kinds[v.Service] = true
	}
	if !kinds["shop"] || !kinds["raw"] {
		t.Errorf("access log of %v: %s", kinds, lines)
	}
	// A restart forgets everything.
	for _, m := range c.members {
		m.set(func(m *fakeMember) { m.down = true })
	}
	c.run()
	if code, body := c.get(c.listen["web"]); code != http.StatusServiceUnavailable {
		t.Errorf("after a restart without members: %d %s", code, body)
	}
}

// A file is read again: services come and go, users of the others notice
// nothing, and one that is wrong changes nothing.
func TestReload(t *testing.T) {
	c := newCluster(t)
	r := c.run()
	c.decide(1, "primary")
	c.await("primary serves", func() bool { _, body := c.get(c.listen["web"]); return body == "primary" })
	stop := make(chan struct{})
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 5 * time.Second}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				res, err := client.Get("http://" + c.listen["web"] + "/")
				if err != nil {
					t.Errorf("a user: %v", err)
					continue
				}
				if res.StatusCode != http.StatusOK {
					t.Errorf("a user: %s", res.Status)
				}
				_, _ = io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	}
	at := c.free()
	digest := c.status().Policy
	for i, more := range []string{fmt.Sprintf(service, "wiki", "http", at, c.sites["primary"], c.sites["dr"], c.hold), "", "nonsense"} {
		c.write(more)
		r.hangup <- syscall.SIGHUP
		c.await("the file is read", func() bool {
			s := c.status()
			return s.Reload != nil && (s.Policy != digest || len(s.Reload.Refused) > 0)
		})
		s := c.status()
		if bad := len(s.Reload.Refused) > 0; bad != (more == "nonsense") {
			t.Fatalf("file %d: %+v", i, s.Reload)
		}
		digest = s.Policy
		_, err := net.Dial("tcp", at)
		if listens := err == nil; listens != (i == 0) {
			t.Errorf("file %d: the new service listens: %t", i, listens)
		}
	}
	close(stop)
	users.Wait()
	if s := c.status(); len(s.Services) != 2 || s.Services[0].State != "open" {
		t.Errorf("%+v", s.Services)
	}
}

// Two frontends do not share a control socket, and the certificate says who
// this is.
func TestRefusesToRun(t *testing.T) {
	c := newCluster(t)
	c.run()
	e, err := New(Options{ConfigPath: filepath.Join(c.dir, "failover.toml"), Log: c.log, Clock: fence.SystemClock{}.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another frontend answers") {
		t.Errorf("a second one: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(c.dir, "failover.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c.put("other.toml", strings.ReplaceAll(string(data), "edge1", "edge2"))
	if _, err := New(Options{ConfigPath: filepath.Join(c.dir, "other.toml"), Log: c.log}); err == nil || !strings.Contains(err.Error(), "is no frontend") {
		t.Errorf("a certificate of another: %v", err)
	}
	if has, err := Beside(filepath.Join(c.dir, "failover.toml")); err != nil || has {
		t.Errorf("beside a daemon: %t, %v", has, err)
	}
}

// A frontend that the file gives to a member goes by the member's certificate.
func TestBesideADaemon(t *testing.T) {
	c := newCluster(t)
	data, err := os.ReadFile(filepath.Join(c.dir, "failover.toml"))
	if err != nil {
		t.Fatal(err)
	}
	validity := quorum.Validity{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour)}
	ca, err := quorum.NewCA("test", validity)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Issue("primary", nil, validity)
	if err != nil {
		t.Fatal(err)
	}
	c.put("primary.crt", string(id.CertPEM))
	c.put("other.toml", strings.NewReplacer("[frontend.edge1]", "[frontend.edge1]\nmember = \"primary\"", "member.crt", "primary.crt").Replace(string(data)))
	path := filepath.Join(c.dir, "other.toml")
	if has, err := Beside(path); err != nil || !has {
		t.Errorf("beside primary's daemon: %t, %v", has, err)
	}
	e, err := New(Options{ConfigPath: path, Log: c.log, Clock: fence.SystemClock{}.Now})
	if err != nil || e.name != "edge1" {
		t.Errorf("%v", err)
	}
	if _, ok, err := Check(t.Context(), path); err != nil || ok {
		t.Errorf("it is the daemon's to check: %t, %v", ok, err)
	}
}

// What draasd check --here tells on a frontend's host.
func TestCheck(t *testing.T) {
	c := newCluster(t)
	path := filepath.Join(c.dir, "failover.toml")
	c.decide(1, "primary")
	report, ok, err := Check(t.Context(), path)
	if err != nil || !ok || !strings.HasPrefix(report, "this is edge1, a frontend of kind embedded\n") || strings.Count(report, " answers\n") != 3 {
		t.Errorf("%v %t\n%s", err, ok, report)
	}
	r := c.run()
	if report, _, err := Check(t.Context(), path); err != nil {
		t.Errorf("while it runs: %v\n%s", err, report)
	}
	r.stop()
	ln, err := net.Listen("tcp", c.listen["web"])
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, m := range c.members {
		m.set(func(m *fakeMember) { m.down = true })
	}
	report, _, err = Check(t.Context(), path)
	if err == nil || !strings.Contains(err.Error(), "address already in use") || !strings.Contains(err.Error(), "no member answers") ||
		!strings.Contains(report, "dr cannot be followed") {
		t.Errorf("%v\n%s", err, report)
	}
}

// A reload to an address that overlaps with the one before.
func TestReloadToAnOverlappingAddress(t *testing.T) {
	c := newCluster(t)
	r := c.run()
	c.decide(1, "primary")
	c.await("primary serves", func() bool { _, body := c.get(c.listen["web"]); return body == "primary" })
	_, port, _ := net.SplitHostPort(c.listen["web"])
	data, err := os.ReadFile(filepath.Join(c.dir, "failover.toml"))
	if err != nil {
		t.Fatal(err)
	}
	c.put("failover.toml", strings.Replace(string(data), c.listen["web"], "0.0.0.0:"+port, 1))
	r.hangup <- syscall.SIGHUP
	c.await("the file is read", func() bool { return c.status().Reload != nil })
	if s := c.status(); len(s.Reload.Refused) > 0 || s.Services[1].Listen[0] != "0.0.0.0:"+port {
		t.Errorf("%+v, %+v", s.Reload, s.Services[1])
	}
	c.await("it is served there", func() bool { _, body := c.get("127.0.0.9:" + port); return body == "primary" })
}

var _ member = (*api.Client)(nil)
