package measure

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const never = time.Hour

func resolverOf(hedge time.Duration, servers ...*nameserver) *direct {
	d := &direct{hedge: hedge}
	for _, s := range servers {
		d.servers = append(d.servers, s.addr)
	}
	return d
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// TestHedge: the first server is silent; the second is asked as well after
// the hedge, wins, and is the first to be asked the next time.
func TestHedge(t *testing.T) {
	mute := newNameserver(t, silent)
	ns := newNameserver(t, records(t, "shop.example. 7 IN A 192.0.2.1"))
	d := resolverOf(20*time.Millisecond, mute, ns)
	started := time.Now()
	got, ttl, err := d.lookup(within(t, 5*time.Second), "shop.example")
	if err != nil || !reflect.DeepEqual(got, addrs("192.0.2.1")) || ttl != 7*time.Second {
		t.Fatalf("got %v for %v, %v; want 192.0.2.1 for 7s", got, ttl, err)
	}
	if took := time.Since(started); took < 20*time.Millisecond {
		t.Errorf("answered after %v, before the hedge", took)
	}
	if _, _, err := d.lookup(within(t, 5*time.Second), "shop.example"); err != nil {
		t.Fatal(err)
	}
	// The first question may still wait in the silent server's socket.
	if mute.asked.Load() > 1 || ns.asked.Load() != 2 {
		t.Errorf("the silent server was asked %d times, the other %d; want 1 and 2", mute.asked.Load(), ns.asked.Load())
	}
}

// TestNextAtOnce: whoever answers without addresses is passed over without
// waiting for the hedge, which is an hour here.
func TestNextAtOnce(t *testing.T) {
	good := records(t, "shop.example. 7 IN A 192.0.2.1")
	for _, c := range []struct {
		name  string
		first dns.HandlerFunc
	}{
		{"SERVFAIL", rcode(dns.RcodeServerFailure)},
		{"REFUSED", rcode(dns.RcodeRefused)},
		{"NXDOMAIN", rcode(dns.RcodeNameError)},
		{"no data", records(t)},
		{"another question's answer", func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg)
			m.SetReply(q)
			m.Question[0].Name = "evil.example."
			_ = w.WriteMsg(m)
		}},
		{"alias that leads nowhere", records(t, "shop.example. 1 IN CNAME shop.example.")},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := resolverOf(never, newNameserver(t, c.first), newNameserver(t, good))
			got, _, err := d.lookup(within(t, 5*time.Second), "shop.example")
			if err != nil || !reflect.DeepEqual(got, addrs("192.0.2.1")) {
				t.Fatalf("got %v, %v; want 192.0.2.1", got, err)
			}
		})
	}
	t.Run("port unreachable", func(t *testing.T) {
		d := resolverOf(never, newNameserver(t, good))
		d.servers = []string{"127.0.0.2:1", d.servers[0]}
		if got, _, err := d.lookup(within(t, 5*time.Second), "shop.example"); err != nil || len(got) != 1 {
			t.Fatalf("got %v, %v", got, err)
		}
	})
}

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name    string
		handler dns.HandlerFunc
		want    []netip.Addr
		ttl     time.Duration
		err     string
	}{
		{name: "two addresses, the shorter life", want: addrs("192.0.2.1", "192.0.2.2"), ttl: 3 * time.Second,
			handler: records(t, "shop.example. 7 IN A 192.0.2.1", "shop.example. 3 IN A 192.0.2.2")},
		{name: "IPv6 only", want: addrs("2001:db8::1"), ttl: 7 * time.Second,
			handler: records(t, "shop.example. 7 IN AAAA 2001:db8::1")},
		{name: "alias asked for in a second question", want: addrs("192.0.2.9"), ttl: 2 * time.Second,
			handler: records(t, "shop.example. 2 IN CNAME dr.example.", "dr.example. 60 IN A 192.0.2.9")},
		{name: "alias with its target in one answer", want: addrs("192.0.2.9"), ttl: 4 * time.Second,
			handler: func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg)
				m.SetReply(q)
				for _, s := range []string{"DR.example. 4 IN A 192.0.2.9", "shop.example. 9 IN CNAME dr.example.", "x.example. 1 IN A 192.0.2.8"} {
					rr, _ := dns.NewRR(s)
					m.Answer = append(m.Answer, rr)
				}
				_ = w.WriteMsg(m)
			}},
		{name: "truncated over UDP, whole over TCP", want: addrs("192.0.2.1"), ttl: 7 * time.Second,
			handler: func(w dns.ResponseWriter, q *dns.Msg) {
				if w.LocalAddr().Network() == "udp" {
					m := new(dns.Msg)
					m.SetReply(q)
					m.Truncated = true
					_ = w.WriteMsg(m)
					return
				}
				records(t, "shop.example. 7 IN A 192.0.2.1")(w, q)
			}},
		{name: "refused", handler: rcode(dns.RcodeRefused), err: "REFUSED for shop.example."},
		{name: "garbage", err: "parse answer",
			handler: func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg)
				m.SetReply(q)
				b, _ := m.Pack()
				_, _ = w.Write(b[:len(b)-3])
			}},
		{name: "forged id first", want: addrs("192.0.2.1"), ttl: 7 * time.Second,
			handler: func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg)
				m.SetReply(q)
				m.Id++
				_ = w.WriteMsg(m)
				records(t, "shop.example. 7 IN A 192.0.2.1")(w, q)
			}},
		{name: "endless aliases", err: "more than 8 aliases",
			handler: func(w dns.ResponseWriter, q *dns.Msg) {
				m := new(dns.Msg)
				m.SetReply(q)
				rr, _ := dns.NewRR(q.Question[0].Name + " 1 IN CNAME x." + q.Question[0].Name)
				m.Answer = append(m.Answer, rr)
				_ = w.WriteMsg(m)
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := resolverOf(never, newNameserver(t, c.handler))
			got, ttl, err := d.lookup(within(t, 5*time.Second), "shop.example")
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(got, c.want) || ttl != c.ttl {
				t.Fatalf("got %v for %v, %v; want %v for %v", got, ttl, err, c.want, c.ttl)
			}
		})
	}
}

// TestSilenceEndsWithTheContext: questions to silent servers end when the
// request's time is over.
func TestSilenceEndsWithTheContext(t *testing.T) {
	d := resolverOf(time.Millisecond, newNameserver(t, silent), newNameserver(t, silent))
	started := time.Now()
	if got, _, err := d.lookup(within(t, 50*time.Millisecond), "shop.example"); err == nil {
		t.Fatalf("got %v from silent servers", got)
	}
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("took %v, had 50ms", took)
	}
}

func TestSystemResolver(t *testing.T) {
	got, _, err := system{}.lookup(within(t, 5*time.Second), "127.0.0.1")
	if err != nil || !reflect.DeepEqual(got, addrs("127.0.0.1")) {
		t.Fatalf("got %v, %v", got, err)
	}
}

// fakeResolver counts lookups and gives what it is told.
type fakeResolver struct {
	addrs []netip.Addr
	ttl   time.Duration
	asked int
	err   error
}

func (f *fakeResolver) lookup(ctx context.Context, _ string) ([]netip.Addr, time.Duration, error) {
	f.asked++
	if f.err != nil {
		return nil, 0, f.err
	}
	if len(f.addrs) == 0 {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	return f.addrs, f.ttl, nil
}

// FuzzAddresses: an answer's aliases are followed without end only in the
// sender's mind.
func FuzzAddresses(f *testing.F) {
	for _, rrs := range [][]string{
		{"shop.example. 7 IN A 192.0.2.1"},
		{"shop.example. 7 IN CNAME a.example.", "a.example. 1 IN CNAME shop.example."},
		{"shop.example. 7 IN CNAME a.example.", "a.example. 1 IN AAAA 2001:db8::1"},
	} {
		m := new(dns.Msg)
		m.SetQuestion("shop.example.", dns.TypeA)
		for _, s := range rrs {
			rr, err := dns.NewRR(s)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			got, end, ttl := addresses(m, "shop.example.", qtype)
			if ttl < 0 || end == "" {
				t.Errorf("end %q, life %v", end, ttl)
			}
			for _, a := range got {
				stands := slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
					h := rr.Header()
					return h.Rrtype == qtype && h.Class == dns.ClassINET && time.Duration(h.Ttl)*time.Second >= ttl && strings.HasSuffix(rr.String(), "\t"+a.String())
				})
				if !a.IsValid() || a.Is4() != (qtype == dns.TypeA) || !stands {
					t.Errorf("address %v for type %d, for %v, of %v", a, qtype, ttl, m.Answer)
				}
			}
		}
	})
}
