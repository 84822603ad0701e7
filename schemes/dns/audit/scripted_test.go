package audit

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/internal/lab/nameserver"
	"github.com/draasd/draas/schemes/dns"
)

// scripted answers by UDP and TCP as a test says; nil is silence.
func scripted(t testing.TB, answer func(network string, q *mdns.Msg) *mdns.Msg) string {
	t.Helper()
	address := nameserver.Address(t)
	pc, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	handler := func(network string) mdns.Handler {
		return mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
			if m := answer(network, q); m != nil {
				_ = w.WriteMsg(m)
			}
		})
	}
	for _, srv := range []*mdns.Server{{PacketConn: pc, Handler: handler("udp")}, {Listener: l, Handler: handler("tcp")}} {
		ready, ended := make(chan struct{}), make(chan struct{})
		srv.NotifyStartedFunc = func() { close(ready) }
		go func() { defer close(ended); _ = srv.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() { _ = srv.Shutdown(); <-ended })
	}
	return address
}

// reply has the lines that are of the question's name and type, with
// authority.
func reply(t testing.TB, q *mdns.Msg, lines ...string) *mdns.Msg {
	t.Helper()
	m := new(mdns.Msg)
	m.SetReply(q)
	m.Authoritative = true
	for _, line := range lines {
		rr, err := mdns.NewRR(line)
		if err != nil {
			t.Error(err)
			continue
		}
		if strings.EqualFold(rr.Header().Name, q.Question[0].Name) && rr.Header().Rrtype == q.Question[0].Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	return m
}

// What was lost by UDP, or did not fit, is asked for by TCP; what is said of
// another question does not count.
func TestAsking(t *testing.T) {
	t.Parallel()
	const line = shop + " 5 IN A 203.0.113.20"
	for name, c := range map[string]struct {
		answer func(network string, q *mdns.Msg) *mdns.Msg
		want   string
	}{
		"by UDP": {func(network string, q *mdns.Msg) *mdns.Msg {
			if network == "tcp" {
				return nil
			}
			return reply(t, q, line)
		}, ""},
		"lost": {func(network string, q *mdns.Msg) *mdns.Msg {
			if network == "udp" {
				return nil
			}
			return reply(t, q, line)
		}, ""},
		"cut off": {func(network string, q *mdns.Msg) *mdns.Msg {
			m := reply(t, q, line)
			if network == "udp" {
				m.Truncated, m.Answer = true, nil
			}
			return m
		}, ""},
		"another question": {func(_ string, q *mdns.Msg) *mdns.Msg {
			m := reply(t, q, line)
			m.Question[0].Name = "other." + zone
			return m
		}, "an answer to another question"},
		"no answer": {func(_ string, q *mdns.Msg) *mdns.Msg {
			m := reply(t, q, line)
			m.Response = false
			return m
		}, "not an answer"},
		"silence": {func(string, *mdns.Msg) *mdns.Msg { return nil }, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := looker{plan: Plan{Timeout: 400 * time.Millisecond}, slots: make(chan struct{}, 1)}
			m, err := l.ask(t.Context(), scripted(t, c.answer), question{name: shop, qtype: mdns.TypeA})
			switch {
			case c.want == "" && (err != nil || len(m.Answer) != 1):
				t.Errorf("%v, %v", m, err)
			case c.want != "" && (err == nil || err.Error() != c.want):
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
	l := looker{plan: Plan{Timeout: time.Second}, slots: make(chan struct{}, 1)}
	if _, err := l.ask(t.Context(), nameserver.Address(t), question{name: shop, qtype: mdns.TypeA}); err == nil || err.Error() != "connection refused" {
		t.Errorf("nobody there: %v", err)
	}
}

// The parent need not be the next label's zone; and a server that has the zone
// from others, without authority, is lame.
func TestWalk(t *testing.T) {
	t.Parallel()
	const deep = "dr.east.example.org."
	lines := []string{"example.org. 60 IN SOA ns1 admin 1 3600 600 86400 60", "example.org. 60 IN NS ns1.example.org.", "ns1.example.org. 60 IN A 198.51.100.1",
		"ns.elsewhere.example. 60 IN A 192.0.2.53", deep + " 60 IN SOA ns1 admin 1 3600 600 86400 60", deep + " 60 IN NS ns.elsewhere.example."}
	resolver := scripted(t, func(_ string, q *mdns.Msg) *mdns.Msg { return reply(t, q, lines...) })
	parent := scripted(t, func(_ string, q *mdns.Msg) *mdns.Msg {
		m := reply(t, q)
		if q.Question[0].Qtype == mdns.TypeNS {
			m.Authoritative = false
			for _, text := range []string{deep + " 60 IN NS ns.elsewhere.example.", "other.example. 60 IN A 192.0.2.66"} {
				rr, err := mdns.NewRR(text)
				if err != nil {
					t.Error(err)
				}
				if rr.Header().Rrtype == mdns.TypeNS {
					m.Ns = append(m.Ns, rr)
				} else {
					m.Extra = append(m.Extra, rr)
				}
			}
		}
		return m
	})
	child := scripted(t, func(_ string, q *mdns.Msg) *mdns.Msg {
		m := reply(t, q, lines...)
		m.Authoritative = false
		return m
	})
	a, err := New(Plan{Resolvers: []string{resolver}, Timeout: 2 * time.Second, Reach: func(a netip.Addr) string {
		return map[string]string{"198.51.100.1": parent, "192.0.2.53": child}[a.String()]
	}, Zones: []Zone{{Name: deep, NegativeTTL: -1, Servers: []Server{{Server: dns.Server{Address: child}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := r.Zones[0].Delegation
	if d.Parent != "example.org." || len(d.Answers) != 1 || d.Answers[0].From != parent || len(d.Answers[0].Glue) != 0 || len(d.Servers) != 1 || d.Servers[0].Address.String() != "192.0.2.53" {
		t.Errorf("delegation: %+v", d)
	}
	var codes []string
	for _, f := range r.Findings {
		codes = append(codes, f.Code)
	}
	slices.Sort(codes)
	if got := strings.Join(codes, " "); got != "not-authoritative ns-extra ns-lame ns-missing one-server" {
		t.Errorf("findings: %s\n%s", got, texts(r))
	}
}

func TestReadApex(t *testing.T) {
	t.Parallel()
	msgs := []*mdns.Msg{new(mdns.Msg), new(mdns.Msg), new(mdns.Msg)}
	for i, wire := range [][]byte{
		message(t, 0, true, []string{zone + " 600 IN SOA ns1 admin 9 3600 600 86400 30", "other.example. 600 IN SOA ns1 admin 7 3600 600 86400 7"}, nil, nil),
		message(t, 0, true, []string{zone + " 60 IN NS NS2." + zone, zone + " 60 IN NS ns1." + zone, "other.example. 60 IN NS ns9." + zone}, nil, nil),
		message(t, 4, false, nil, nil, nil)} {
		if err := msgs[i].Unpack(wire); err != nil {
			t.Fatal(err)
		}
	}
	a := readApex(Apex{}, zone, msgs)
	if a.Serial != 9 || a.Negative != 30 || !slices.Equal(a.NS, []string{"ns1." + zone, "ns2." + zone}) || !a.Authoritative || a.Rcode != "NOERROR" {
		t.Errorf("%+v", a)
	}
	if msgs[0].Answer = nil; readApex(Apex{}, zone, msgs).Authoritative {
		t.Error("without an SOA there is no zone")
	}
}
