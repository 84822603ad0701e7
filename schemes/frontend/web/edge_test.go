package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/schemes/frontend"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestProxyHeaders(t *testing.T) {
	l := newLab(t, func(c *Config) { c.ProxyIn = loopback })
	for _, head := range []string{
		"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n",
		string(frontend.AppendProxy(nil, 2, frontend.ProxyHeader{Source: netip.MustParseAddrPort("192.0.2.7:4711"), Destination: netip.MustParseAddrPort("192.0.2.1:80")})),
	} {
		for _, apart := range []bool{false, true} {
			w := l.dial()
			if apart {
				for i := range head {
					w.send(head[i : i+1])
				}
			} else {
				w.send(head)
			}
			w.send(getReq).answer("GET").want(t, 200, "primary GET /g")
			got := l.sites["primary"].got()
			if f := got[len(got)-1].Header.Get("X-Forwarded-For"); f != "192.0.2.7" {
				t.Errorf("%q: forwarded for %q", head, f)
			}
		}
	}
	n := len(l.sites["primary"].got())
	if _, err := l.dial().send(getReq).tryAnswer("GET"); err == nil {
		t.Error("a request without the header was answered")
	}
	if len(l.sites["primary"].got()) != n || l.svc.Stats.Rejected.Load() == 0 {
		t.Error("a request without the header got through, or was not counted")
	}
}

// A back end that gets PROXY headers gets those of the client whose requests
// come, on connections of their own.
func TestProxyOut(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Hosts[0].ProxyOut = 2 })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heads := make(chan frontend.ProxyHeader, 10)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = ln.Close() }()
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = nc.Close() }()
				buf := make([]byte, 4096)
				n, _ := nc.Read(buf)
				h, used, err := frontend.ParseProxy(buf[:n])
				if err != nil {
					t.Errorf("%q: %v", buf[:n], err)
					return
				}
				heads <- h
				if used == n {
					n, _ = nc.Read(buf)
				}
				for n > 0 {
					_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
					n, _ = nc.Read(buf)
				}
			})
		}
	})
	l.table.Use([]frontend.Spec{{Service: "shop", Outlives: true, Hold: l.svc.Spec().Hold,
		Sites: map[draas.SiteID][]frontend.Server{"primary": {{Address: ln.Addr().String()}}}}})
	for range 2 {
		w := l.dial()
		for range 3 {
			w.send(getReq).answer("GET").want(t, 200, "x")
		}
		if h := <-heads; h.Source.String() != w.LocalAddr().String() || h.Destination.String() != l.addr {
			t.Errorf("%v, want %v to %v", h, w.LocalAddr(), l.addr)
		}
		_ = w.Close()
	}
	l.stop()
	if n := len(heads); n != 0 {
		t.Errorf("%d connections more than clients", n)
	}
}

func TestSources(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Sources.Deny = loopback })
	if nc, err := net.Dial("tcp", l.addr); err == nil { // it may be reset before it is made
		_, _ = io.WriteString(nc, getReq)
		if n, _ := nc.Read(make([]byte, 1)); n > 0 {
			t.Error("a source that may not connect was answered")
		}
		_ = nc.Close()
	}
	eventually(t, "it is counted", func() bool { return l.svc.Stats.Rejected.Load() == 1 })
}

// What proxies before us say is kept if they are trusted, and continued.
func TestTrusted(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Hosts[0].Trusted = loopback; c.Via = "edge" })
	l.dial().send("GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\nX-Forwarded-Proto: https\r\n" +
		"X-Forwarded-Host: a\r\nForwarded: for=192.0.2.1\r\n\r\n").answer("GET")
	raw := l.sites["primary"].got()[0].raw
	want := "GET / HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 192.0.2.1, 192.0.2.2, 127.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n" +
		"Forwarded: for=192.0.2.1, for=127.0.0.1;host=\"shop\";proto=http\r\nVia: 1.1 edge\r\n\r\n"
	if raw != want {
		t.Errorf("the back end got\n%s\nwant\n%s", raw, want)
	}
}

// servers starts n back ends of the primary.
func (l *lab) servers(n int) []*backend {
	l.tb.Helper()
	spec := frontend.Spec{Service: "shop", Outlives: true, Hold: l.svc.Spec().Hold, Sites: map[draas.SiteID][]frontend.Server{}}
	var out []*backend
	for i := range n {
		b := newBackend(l.tb, fmt.Sprint("server", i))
		out = append(out, b)
		spec.Sites["primary"] = append(spec.Sites["primary"], frontend.Server{Address: b.addr})
	}
	l.table.Use([]frontend.Spec{spec})
	return out
}

func TestAffinity(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Hosts[0].Affinity = AffinityCookie })
	servers := l.servers(4)
	byName := make(map[string]*backend)
	for _, b := range servers {
		byName[b.name] = b
	}
	r := l.get("/")
	name, _, _ := strings.Cut(r.body, " ")
	cookies := r.Cookies()
	if len(cookies) != 1 || cookies[0].Name != cookieName || !cookies[0].HttpOnly {
		t.Fatalf("cookies %v", cookies)
	}
	ask := fmt.Sprintf("GET /c HTTP/1.1\r\nHost: shop\r\nCookie: a=b; %s=%s; c=d\r\nConnection: close\r\n\r\n", cookieName, cookies[0].Value)
	for range 10 {
		r := l.dial().send(ask).answer("GET").want(t, 200, name+" GET /c")
		if len(r.Cookies()) != 0 {
			t.Error("bound again")
		}
	}
	byName[name].kill()
	r = l.dial().send(ask).answer("GET")
	if other, _, _ := strings.Cut(r.body, " "); r.StatusCode != 200 || other == name || len(r.Cookies()) != 1 {
		t.Errorf("%d %q %v, when its server is away", r.StatusCode, r.body, r.Cookies())
	}

	l = newLab(t, func(c *Config) { c.Hosts[0].Affinity = AffinitySource })
	l.servers(4)
	first := l.get("/").body
	for range 10 {
		l.get("/").want(t, 200, first)
	}
	l = newLab(t, nil)
	l.servers(4)
	seen := make(map[string]bool)
	for range 8 {
		seen[l.get("/").body] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d servers of 4 got anything", len(seen))
	}
}

// One server of several that is away costs nobody a failure.
func TestOneServerAway(t *testing.T) {
	l := newLab(t, nil)
	servers := l.servers(2)
	l.get("/").want(t, 200, "server0 GET /")
	l.get("/").want(t, 200, "server1 GET /")
	servers[0].kill()
	for range 10 {
		l.dial().send(postReq).answer("POST").want(t, 200, "server1 POST /p")
	}
	if n := l.svc.Stats.Held.Load(); n != 0 {
		t.Errorf("%d had to wait", n)
	}
}

// lines is an access log in memory. It blocks while it is locked.
type lines struct {
	sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.Write(p)
}

func TestAccessLog(t *testing.T) {
	var log lines
	l := newLab(t, func(c *Config) { c.AccessLog = &log })
	w := l.dial()
	w.send("GET /\"<\\%00 HTTP/1.1\r\nHost: shop\r\n\r\n").answer("GET")
	w.send(postReq).answer("POST")
	l.dial().send("GET /\x01 HTTP/1.1\r\n\r\n").answer("GET")
	l.decide(frontend.Decision{Epoch: 1, Site: "primary", Moving: true, Permit: time.Hour})
	w.send(getReq)
	eventually(t, "it waits", func() bool { return l.table.Reports()[0].Held == 1 })
	l.decide(frontend.Decision{Epoch: 2, Site: "dr", Permit: time.Hour})
	w.answer("GET")
	l.stop()
	type line struct {
		Time                                         time.Time
		Service, Client, Proto, Method, Target, Host string
		Status, Tries                                int
		In, Out                                      int64
		Ms, FirstMs                                  float64 `json:"-"`
		Held                                         float64 `json:"held_ms"`
		Site, Reason                                 string
		Epoch                                        uint64
		TLS                                          bool
	}
	want := []line{
		{Method: "GET", Target: "/\"<\\%00", Host: "shop", Status: 200, Site: "primary", Epoch: 1, Tries: 1},
		{Method: "POST", Target: "/p", Host: "shop", Status: 200, Site: "primary", Epoch: 1, Tries: 1},
		{Status: 400, Reason: faultTarget.text},
		{Method: "GET", Target: "/g", Host: "shop", Status: 200, Site: "dr", Epoch: 2, Tries: 1, Reason: frontend.ReasonMoving},
	}
	text := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(text) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(text), len(want), log.String())
	}
	for _, each := range text {
		var got line
		if err := json.Unmarshal([]byte(each), &got); err != nil {
			t.Fatalf("%s: %v", each, err)
		}
		// A line may be written after the next request was read.
		i := slices.IndexFunc(want, func(w line) bool {
			return w.Status == got.Status && (w.Target == "" || w.Target == got.Target)
		})
		if i < 0 {
			t.Errorf("not expected: %s", each)
			continue
		}
		w := want[i]
		if got.Service != "shop" || got.Client != "127.0.0.1" || got.Proto != "HTTP/1.1" || time.Since(got.Time) > time.Minute ||
			(got.Held > 0) != (got.Reason == frontend.ReasonMoving) || w.Method != "" && (got.In == 0 || got.Out == 0) {
			t.Errorf("%s", each)
		}
		w.Time, w.Service, w.Client, w.Proto, w.In, w.Out, w.Held = got.Time, got.Service, got.Client, got.Proto, got.In, got.Out, got.Held
		if w.Target == "" {
			w.Method, w.Target, w.Host = got.Method, got.Target, got.Host
		}
		if got != w {
			t.Errorf("%s\nwant %+v", each, w)
		}
	}
}

// A log that nobody takes holds nobody up.
func TestAccessLogBlocks(t *testing.T) {
	var log lines
	l := newLab(t, func(c *Config) { c.AccessLog = &log })
	log.Lock()
	w := l.dial()
	long := "GET /" + strings.Repeat("x", 2*maxLogged) + " HTTP/1.1\r\nHost: shop\r\n\r\n"
	for l.server.Unlogged() == 0 {
		w.send(long).answer("GET")
	}
	log.Unlock()
	l.stop()
	if n := log.Len(); n > 3*journalBytes || n == 0 {
		t.Errorf("%d bytes of log", n)
	}
}

func TestShadow(t *testing.T) {
	shadow := newBackend(t, "shadow")
	l := newLab(t, func(c *Config) { c.Hosts[0].Shadow = shadow.addr; c.Hosts[0].MaxBody = -1 })
	w := l.dial()
	for range 3 {
		w.send(getReq).answer("GET").want(t, 200, "primary GET /g")
		w.send(postReq).answer("POST").want(t, 200, "primary POST /p")
	}
	body := strings.Repeat("0123456789", 10_000)
	w.send(fmt.Sprintf("POST /big HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)).answer("POST")
	eventually(t, "all got there", func() bool { return len(shadow.got()) == 7 })
	for i, got := range l.sites["primary"].got() {
		if s := shadow.got()[i]; !strings.HasPrefix(s.raw, got.raw) && i < 6 || s.body != got.body {
			t.Errorf("request %d: the shadow got %d bytes, the back end %d", i, len(s.body), len(got.body))
		}
	}
	// One that takes nothing, or is away, is nobody's trouble.
	shadow.does((*served).hang)
	st := &l.svc.Stats
	lost := st.MirrorLost.Load()
	huge := strings.Repeat("x", mirrorOne+1)
	w.send(fmt.Sprintf("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: %d\r\n\r\n%s", len(huge), huge)).answer("POST")
	if st.MirrorLost.Load() == lost {
		t.Error("a copy that is too large is not counted")
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// Connections that wait for a request cost little.
func TestIdleConnections(t *testing.T) {
	const n = 400
	l := newLab(t, nil)
	var before uint64
	var clients []*wire
	for i := range n {
		if i == 50 {
			before = heap() // pools and such are filled
		}
		w := l.dial()
		w.send(getReq).answer("GET").want(t, 200, "primary GET /g")
		w.r = nil
		clients = append(clients, w)
	}
	each := (int64(heap()) - int64(before)) / (n - 50)
	t.Logf("%d bytes each, the test's own side with it", each)
	if each > 20<<10 && !raced {
		t.Errorf("%d bytes for an idle connection", each)
	}
	if got := l.svc.Stats.Connections.Load(); got != n {
		t.Errorf("%d connections, want %d", got, n)
	}
	runtime.KeepAlive(clients)
	if got := l.sites["primary"].accepted.Load(); got > 10 {
		t.Errorf("%d connections to the back end", got)
	}
}

// Clients that take their time with a head cost no more than its buffer.
func TestSlowHeadsMemory(t *testing.T) {
	const n = 200
	l := newLab(t, nil)
	l.get("/")
	before := heap()
	var clients []*wire
	for range n {
		w := l.dial().send("GET / HTTP/1.1\r\n")
		w.r = nil
		clients = append(clients, w)
	}
	eventually(t, "all have begun", func() bool {
		begun := 0
		l.server.each(func(k keeping) {
			if c, ok := k.(*conn); ok && !c.idle.Load() && c.readBy.Load() != 0 {
				begun++
			}
		})
		return begun == n
	})
	each := (int64(heap()) - int64(before)) / n
	t.Logf("%d bytes each, the test's own side with it", each)
	if each > 36<<10 && !raced {
		t.Errorf("%d bytes for a slow head", each)
	}
	runtime.KeepAlive(clients)
}
