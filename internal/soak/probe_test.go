package soak

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/draasd/draas/internal/lab"
	"github.com/draasd/draas/measure"
)

// A name server that says "it exists" and gives no address is found out; one
// that fails is only not to be had.
func TestLookup(t *testing.T) {
	t.Parallel()
	needRoot(t)
	m := machineOnRouter(t, testRouter(t), dr)
	var answer atomic.Pointer[func(*dns.Msg)]
	pc := inside(t, m, func() (net.PacketConn, error) { return net.ListenPacket("udp", memberAddress(dr)+":53") })
	ended := make(chan struct{})
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg).SetReply(q)
		(*answer.Load())(r)
		_ = w.WriteMsg(r) // who asked has gone
	})}
	go func() { defer close(ended); _ = server.ActivateAndServe() }() // until the socket is closed
	t.Cleanup(func() { _ = pc.Close(); <-ended })
	for _, tc := range []struct {
		name   string
		answer func(*dns.Msg)
		ip     string
		empty  bool
	}{
		{"address", func(r *dns.Msg) {
			rr, err := dns.NewRR(nameOf(byPath) + " 1 A 10.90.2.21")
			if err != nil {
				t.Error(err)
			}
			r.Answer = append(r.Answer, rr)
		}, "10.90.2.21", false},
		{"empty", func(*dns.Msg) {}, "", true},
		{"failure", func(r *dns.Msg) { r.Rcode = dns.RcodeServerFailure }, "", false},
	} {
		answer.Store(&tc.answer)
		var ip string
		var ttl time.Duration
		err := m.Inside(func() (err error) { ip, ttl, err = lookup(memberAddress(dr), byPath, time.Second); return err })
		if ip != tc.ip || (err == nil) != (ip != "") || errors.Is(err, errEmpty) != tc.empty || ip != "" && ttl != time.Second {
			t.Errorf("%s: %q for %v, %v", tc.name, ip, ttl, err)
		}
	}
}

// A user believes only what the site at that address can have said.
func TestUserAsks(t *testing.T) {
	t.Parallel()
	needRoot(t)
	m := machineOnRouter(t, testRouter(t), dr)
	var header atomic.Pointer[http.Header]
	address := fmt.Sprintf("%s:%d", memberAddress(dr), portOf[byKernel])
	ln := inside(t, m, func() (net.Listener, error) { return net.Listen("tcp", address) })
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for k, v := range *header.Load() {
			w.Header()[k] = v
		}
	}), ReadHeaderTimeout: time.Second}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(ln) }() // until it is closed
	t.Cleanup(func() { _ = server.Close(); <-ended })
	for _, tc := range []struct {
		site, stamp, at string
		foreign         bool
	}{
		{dr, "1000", serviceAddress(byKernel, dr), false},
		{primary, "1000", serviceAddress(byKernel, dr), true},
		{"", "1000", serviceAddress(byKernel, dr), true},
		{dr, "soon", serviceAddress(byKernel, dr), true},
	} {
		header.Store(&http.Header{measure.HeaderSite: {tc.site}, measure.HeaderTime: {tc.stamp}, measure.HeaderEpoch: {"7"}})
		u := &user{users: users{machine: m}, service: byKernel, address: address}
		before := time.Now().UnixNano()
		var a answer
		err := m.Inside(func() (err error) {
			// The test's machine has one address: what it says is held against
			// that of the service.
			u.conn, err = dialUser(t.Context(), address, time.Now().Add(time.Second))
			if err == nil {
				a, err = u.exchange(fmt.Sprintf("%s:%d", tc.at, portOf[byKernel]), time.Now().Add(time.Second))
			}
			return err
		})
		u.hangUp()
		var foreign *foreignAnswer
		if errors.As(err, &foreign) != tc.foreign || err == nil && (a.Stamp != 1000 || a.Epoch != 7 || sites[a.Site] != dr || a.Done < before) {
			t.Errorf("%+v: %+v, %v", tc, a, err)
		}
	}
}

func inside[T any](t *testing.T, m *lab.Machine, do func() (T, error)) (made T) {
	t.Helper()
	if err := m.Inside(func() (err error) { made, err = do(); return err }); err != nil {
		t.Fatal(err)
	}
	return made
}

// What users outside went without counts from one good answer to the next.
func TestOutage(t *testing.T) {
	b := newBook(&strings.Builder{})
	b.named(near(outside), byKernel, true)
	b.outages[byKernel].last = time.Now().Add(-3 * time.Second)
	b.named(near(outside), byKernel, false)
	b.named(near(primary), byKernel, true)
	if b.outages[byKernel].longest != 0 {
		t.Errorf("an outage of %v has ended by a failure, or by another's answer", b.outages[byKernel].longest)
	}
	b.named(near(outside), byKernel, true)
	if d := b.outages[byKernel].longest; d < 3*time.Second || d > 4*time.Second || b.asked != 4 || b.failed != 1 {
		t.Errorf("out for %v; %d of %d failed", d, b.failed, b.asked)
	}
}
