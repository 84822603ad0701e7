package measure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/draasd/draas"
	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a real HTTP server that can be taken down and up again. It listens
// on an address of the loopback network that outgoing connections do not use,
// so that nobody takes its port while it is down.
type site struct {
	t       testing.TB
	addr    string
	handler atomic.Pointer[http.HandlerFunc]
	conns   atomic.Int64 // accepted so far

	mu      sync.Mutex
	server  *http.Server
	serving sync.WaitGroup
}

func newSite(t testing.TB, host string, handler http.HandlerFunc) *site {
	t.Helper()
	s := &site{t: t, addr: host + ":0"}
	s.handle(handler)
	s.open()
	t.Cleanup(func() { s.close() })
	return s
}

func (s *site) url() string { return "http://" + s.addr + "/" }

func (s *site) port() string {
	_, port, _ := net.SplitHostPort(s.addr)
	return port
}

func (s *site) handle(h http.HandlerFunc) { s.handler.Store(&h) }

// open starts to serve.
func (s *site) open() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	server := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.handler.Load())(w, r) }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.conns.Add(1)
			}
		},
	}
	s.server = server
	s.serving.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.t.Errorf("serve: %v", err)
		}
	})
}

// close closes the listener and every connection.
func (s *site) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		s.server.Close()
		s.serving.Wait()
		s.server = nil
	}
}

// stamped answers as a site at an epoch.
func stamped(name draas.SiteID, epoch draas.Epoch) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(HeaderSite, string(name))
		w.Header().Set(HeaderEpoch, strconv.FormatUint(uint64(epoch), 10))
		w.Header().Set(HeaderTime, strconv.FormatInt(time.Now().UnixNano(), 10))
		fmt.Fprintln(w, "ok")
	}
}

func plain(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

// nameserver is a real DNS server, over UDP and TCP on one port.
type nameserver struct {
	addr    string
	asked   atomic.Int64
	handler atomic.Pointer[dns.HandlerFunc]
}

func newNameserver(t testing.TB, h dns.HandlerFunc) *nameserver {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		l.Close()
		t.Fatal(err)
	}
	n := &nameserver{addr: l.Addr().String()}
	n.handler.Store(&h)
	serve := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		n.asked.Add(1)
		(*n.handler.Load())(w, q)
	})
	for _, s := range []*dns.Server{{Listener: l, Handler: serve}, {PacketConn: p, Handler: serve}} {
		var serving sync.WaitGroup
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		serving.Go(func() {
			if err := s.ActivateAndServe(); err != nil {
				t.Errorf("serve DNS: %v", err)
			}
		})
		<-started
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Errorf("stop DNS: %v", err)
			}
			serving.Wait()
		})
	}
	return n
}

func (n *nameserver) handle(h dns.HandlerFunc) { n.handler.Store(&h) }

// records answers with those of the records (in presentation form) that have
// the name and type asked for, or that are aliases of the name.
func records(t testing.TB, rrs ...string) dns.HandlerFunc {
	t.Helper()
	var parsed []dns.RR
	for _, s := range rrs {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, rr)
	}
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		for _, rr := range parsed {
			h := rr.Header()
			if h.Name == q.Question[0].Name && (h.Rrtype == q.Question[0].Qtype || h.Rrtype == dns.TypeCNAME) {
				m.Answer = append(m.Answer, rr)
			}
		}
		_ = w.WriteMsg(m) // the asker may have gone
	}
}

func rcode(code int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetRcode(q, code)
		_ = w.WriteMsg(m)
	}
}

// silent takes questions and answers none.
func silent(dns.ResponseWriter, *dns.Msg) {}

// must runs a measurement that is configured rightly.
func must(t *testing.T, ctx context.Context, c Config) *Report {
	t.Helper()
	r, err := Run(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// after calls f from the observer's goroutine, once, at the first event that
// arrives d after the start.
func after(d time.Duration, f func()) func(Event) {
	called := false
	return func(e Event) {
		if !called && e.Sample.Done >= d {
			called = true
			f()
		}
	}
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}
