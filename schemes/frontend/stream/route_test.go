package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"*.example.org"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secret is a back end behind TLS, that says its name.
func secret(t testing.TB, site string) string {
	cfg := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	return backend(t, func(c net.Conn) { echoLines(tls.Server(c, cfg), site) })
}

// The name decides, whatever way the hello comes, and TLS is not touched.
func TestRoutesByName(t *testing.T) {
	at := func(site string) frontend.Spec {
		s := spec(map[draas.SiteID][]string{"primary": {secret(t, site)}})
		s.Service = draas.ServiceID(site)
		return s
	}
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {echo(t, "rest")}}))
	specs := []frontend.Spec{*l.service.Spec(), at("exact"), at("wild")}
	l.table.Use(specs)
	for _, s := range specs {
		if err := l.table.Apply(wallClock(), s.Service, frontend.Decision{Epoch: 1, Site: "primary", Permit: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	err := l.server.Use(l.config(func(c *Config) {
		c.HelloTimeout = 100 * time.Millisecond
		c.Routes = append(c.Routes,
			Route{Service: l.table.Service("exact"), Names: []string{"Shop.example.org"}},
			Route{Service: l.table.Service("wild"), Names: []string{"*.example.org"}})
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		pieces     int
		max        uint16
	}{
		{"shop.example.org", "exact", 0, 0},
		{"SHOP.example.ORG", "exact", 0, tls.VersionTLS12},
		{"shop.example.org", "exact", 3, 0},
		{"other.example.org", "wild", 0, 0},
	} {
		conn := net.Conn(l.dial())
		if c.pieces > 0 {
			conn = &slowly{Conn: conn, size: c.pieces}
		}
		client := tls.Client(conn, &tls.Config{ServerName: c.name, InsecureSkipVerify: true, MaxVersion: c.max})
		got, err := ask(client, "hello")
		if got != c.want+" hello" {
			t.Errorf("%s leads to %q, %v", c.name, got, err)
		}
		if err := client.CloseWrite(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// Neither a wildcard's parent nor what is two labels down; nor plain text,
	// nor who waits for the other side to begin.
	for _, name := range []string{"example.org", "a.b.example.org", "example.com"} {
		client := tls.Client(l.dial(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err := client.Handshake(); err == nil {
			t.Errorf("%s was led to a name's route", name)
		}
	}
	for service, want := range map[draas.ServiceID]int64{"exact": 3, "wild": 1} {
		if n := l.table.Service(service).Stats.Accepted.Load(); n != want {
			t.Errorf("%s was led %d connections, want %d", service, n, want)
		}
	}
	l.want(l.dial(), "hello", "rest hello")
	before := l.service.Stats.Site("primary").Requests.Load()
	silent := l.dial()
	l.until("led", func() bool { return l.service.Stats.Site("primary").Requests.Load() > before })
	l.want(silent, "late", "rest late")
	_ = silent.Close()
}

// slowly writes a few bytes at a time.
type slowly struct {
	net.Conn
	size int
}

func (s *slowly) Write(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		m := 0
		m, err = s.Conn.Write(b[n:min(n+s.size, len(b))])
		n += m
	}
	return n, err
}

func TestWithoutARestOthersAreReset(t *testing.T) {
	l := newLab(t, twoSites(t), func(c *Config) { c.Routes[0].Names = []string{"a.example.org"}; c.HelloTimeout = 50 * time.Millisecond })
	l.decide(1, "primary")
	for _, first := range []string{"plain\n", ""} {
		if err := l.refused(first); !isReset(err) {
			t.Errorf("after %q: %v", first, err)
		}
	}
	l.last(EndHello)
	if n := l.service.Stats.Bad.Load(); n != 2 {
		t.Errorf("%d bad", n)
	}
}

// Who has ended has said all that he will: nothing is waited for.
func TestClientsThatEndEarly(t *testing.T) {
	l := newLab(t, twoSites(t), func(c *Config) {
		c.Routes = append(c.Routes, c.Routes[0])
		c.Routes[0].Names = []string{"a.example.org"}
		c.HelloTimeout = time.Minute
	})
	l.decide(1, "primary")
	for range 20 {
		c := l.dial()
		_, _ = io.WriteString(c, "\x16\x03\x01\n")
		_ = c.CloseWrite()
		if got, err := readLine(c); got != "primary \x16\x03\x01" {
			t.Fatalf("%q, %v", got, err)
		}
		_ = c.Close()
	}
	l.until("gone", func() bool { return l.server.Connections() == 0 })
	before := l.service.Stats.Accepted.Load()
	c := l.dial()
	_ = c.CloseWrite()
	if _, err := readLine(c); err != io.EOF {
		t.Errorf("%v", err)
	}
	if n := l.service.Stats.Accepted.Load() - before; n != 0 {
		t.Error("led, without a word")
	}
}

// The back end learns the client's address, by what the proxy before us says.
func TestProxyHeaders(t *testing.T) {
	seen := make(chan frontend.ProxyHeader, 1)
	address := backend(t, func(c net.Conn) {
		b := make([]byte, 0, 512)
		for {
			n, err := c.Read(b[len(b):cap(b)])
			if err != nil {
				return
			}
			b = b[:len(b)+n]
			if h, n, err := frontend.ParseProxy(b); err == nil {
				seen <- h
				rest := string(b[n:])
				if !strings.HasSuffix(rest, "\n") {
					more, _ := readLine(c)
					rest += more
				}
				_, _ = fmt.Fprintf(c, "%s\n", strings.TrimSpace(rest))
				return
			}
		}
	})
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {address}}), func(c *Config) {
		c.Routes[0].ProxyOut = 2
	})
	l.decide(1, "primary")
	c := l.dial()
	l.want(c, "hello", "hello")
	if h := <-seen; h.Source != c.LocalAddr().(*net.TCPAddr).AddrPort() || h.Destination.String() != l.address {
		t.Errorf("the back end is told %+v", h)
	}
	_ = c.Close()
	given := frontend.ProxyHeader{Source: netip.MustParseAddrPort("192.0.2.1:1234"), Destination: netip.MustParseAddrPort("192.0.2.9:443")}
	use := func(change func(*Config)) {
		t.Helper()
		if err := l.server.Use(l.config(change)); err != nil {
			t.Fatal(err)
		}
	}
	for in := 1; in <= 2; in++ {
		use(func(c *Config) {
			c.Routes[0].ProxyOut = 3 - in
			c.ProxyIn = prefixes("127.0.0.0/8")
			c.Sources, c.PerSource = prefixes("192.0.2.0/24"), 1
		})
		c = l.dial()
		_, _ = (&slowly{Conn: c, size: 5}).Write(frontend.AppendProxy(nil, in, given))
		l.want(c, "hello", "hello")
		if h := <-seen; h != given {
			t.Errorf("the back end is told %+v", h)
		}
		_ = c.Close()
		l.until("gone", func() bool { return l.server.Connections() == 0 })
	}
	// Without a header, with a wrong one, or from a source that may not.
	for name, first := range map[string]string{
		"none": "hello\n", "a cut one": "PROXY TCP4 1.2.3.4", "a source that may not": string(frontend.AppendProxy(nil, 1, frontend.ProxyHeader{Source: netip.MustParseAddrPort("198.51.100.1:1"), Destination: given.Destination})),
	} {
		c = l.dial()
		_, _ = io.WriteString(c, first)
		_ = c.CloseWrite()
		if _, err := readLine(c); !isReset(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Who is not trusted says nothing of its source.
	use(func(c *Config) { c.ProxyIn = prefixes("198.51.100.0/24"); c.Routes[0].ProxyOut = 1 })
	c = l.dial()
	_, _ = c.Write(frontend.AppendProxy(nil, 1, given))
	if h := <-seen; h.Source != c.LocalAddr().(*net.TCPAddr).AddrPort() {
		t.Errorf("the back end is told %+v", h)
	}
}

// Both families go together, here and in the header.
func TestIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	six := serveOn(t, ln, func(c net.Conn) { echoLines(c, "six") })
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {six}}), func(c *Config) { c.Routes[0].ProxyOut = 1 })
	l.decide(1, "primary")
	c := l.dial()
	got, err := ask(c, "hello")
	client := c.LocalAddr().(*net.TCPAddr).AddrPort()
	if want := fmt.Sprintf("six PROXY TCP4 127.0.0.1 127.0.0.1 %d ", client.Port()); !strings.HasPrefix(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	for _, a := range []string{"[::1]:443", "[fe80::1%lo]:80", "10.0.0.1:80"} {
		ap := netip.MustParseAddrPort(a)
		if ip := ap.Addr(); ip.Is4() {
			if got := addrPort(&unix.SockaddrInet4{Addr: ip.As4(), Port: int(ap.Port())}); got != ap {
				t.Errorf("%s, want %s", got, ap)
			}
		} else if got := addrPort(&unix.SockaddrInet6{Addr: ip.As16(), Port: int(ap.Port()), ZoneId: map[string]uint32{"lo": 1}[ip.Zone()]}); got != ap {
			t.Errorf("%s, want %s", got, ap)
		}
	}
}

// A client that is gone without a word is found out by the kernel.
func TestClientsAreTuned(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	tune(fd)
	for name, o := range map[string][3]int{
		"TCP_NODELAY": {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}, "SO_KEEPALIVE": {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		"TCP_KEEPIDLE": {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepIdle}, "TCP_KEEPINTVL": {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepInterval},
		"TCP_KEEPCNT": {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepCount}, "TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout / time.Millisecond)},
	} {
		if v, err := unix.GetsockoptInt(fd, o[0], o[1]); err != nil || v != o[2] {
			t.Errorf("%s is %d, %v, want %d", name, v, err, o[2])
		}
	}
}

// Where it is asked for, a server that is away is found out without clients.
func TestServersAreChecked(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = gone.Close()
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {gone.Addr().String(), echo(t, "good")}}), func(c *Config) { c.Check = 10 * time.Millisecond })
	l.decide(1, "primary")
	servers := l.server.setting.Load().rest.dialer.Balancer.Servers("primary")
	l.until("set aside", servers[0].Aside)
	if servers[1].Aside() {
		t.Error("the good one is set aside, too")
	}
}

func TestLimits(t *testing.T) {
	l := newLab(t, twoSites(t), func(c *Config) { c.MaxConnections = 2 })
	l.decide(1, "primary")
	use := func(change func(*Config)) {
		t.Helper()
		if err := l.server.Use(l.config(change)); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what string) {
		t.Helper()
		before := l.service.Stats.Rejected.Load()
		if err := l.refused(""); !isReset(err) {
			t.Errorf("%s: %v", what, err)
		}
		if n := l.service.Stats.Rejected.Load() - before; n != 1 {
			t.Errorf("%s: %d counted", what, n)
		}
	}
	a, b := l.dial(), l.dial()
	l.want(a, "hello", "primary hello")
	l.want(b, "hello", "primary hello")
	refused("a third of two")
	use(func(c *Config) { c.PerSource = 2 })
	refused("a third of this address")
	_ = a.Close()
	l.until("gone", func() bool { return l.server.Connections() == 1 })
	c := l.dial()
	l.want(c, "hello", "primary hello")
	use(func(c *Config) { c.Sources = prefixes("192.0.2.0/24") })
	refused("who may not")
	use(func(c *Config) { c.Denied = prefixes("127.0.0.0/8") })
	refused("who is denied")
	l.want(c, "still", "primary still")
}

func TestAffinity(t *testing.T) {
	l := newLab(t, spec(map[draas.SiteID][]string{"primary": {echo(t, "a"), echo(t, "b"), echo(t, "c")}}))
	l.decide(1, "primary")
	answers := func() map[string]int {
		got := make(map[string]int)
		for range 12 {
			answer, err := ask(l.dial(), "")
			if err != nil {
				t.Fatal(err)
			}
			got[answer]++
		}
		return got
	}
	if got := answers(); len(got) != 3 {
		t.Errorf("without affinity %v", got)
	}
	known := l.server.setting.Load().rest.dialer.Balancer
	if err := l.server.Use(l.config(func(c *Config) { c.Routes[0].Affinity = AffinitySource })); err != nil {
		t.Fatal(err)
	}
	if l.server.setting.Load().rest.dialer.Balancer != known {
		t.Error("what was known of the servers is forgotten")
	}
	if got := answers(); len(got) != 1 {
		t.Errorf("with affinity %v", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	l := newLab(t, twoSites(t))
	for name, change := range map[string]func(*Config){
		"no route":     func(c *Config) { c.Routes = nil },
		"no service":   func(c *Config) { c.Routes[0].Service = nil },
		"PROXY 3":      func(c *Config) { c.Routes[0].ProxyOut = 3 },
		"affinity":     func(c *Config) { c.Routes[0].Affinity = "moon" },
		"shadow":       func(c *Config) { c.Routes[0].Shadow = "nowhere" },
		"two rests":    func(c *Config) { c.Routes = append(c.Routes, c.Routes[0]) },
		"a name":       func(c *Config) { c.Routes[0].Names = []string{"a..b "} },
		"a wide star":  func(c *Config) { c.Routes[0].Names = []string{"*"} },
		"a name twice": func(c *Config) { c.Routes[0].Names = []string{"a.b", "A.b"} },
	} {
		if err := l.server.Use(l.config(change)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
