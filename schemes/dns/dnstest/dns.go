// Package dnstest holds the effects at DNS services to what they promise: one
// suite for all services' fakes, a front before each fake with faults on the
// way, and the fake's authorities, which answer by DNS.
package dnstest

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/schemes/dns"
)

// Mood is how an authority is.
type Mood int

// The moods.
const (
	Well     Mood = iota
	Mute          // takes queries and says nothing
	ServFail      // says that it cannot
	Frozen        // answers, and takes no change
)

// DNS is a zone's authorities. What a service publishes reaches each after its
// delay.
type DNS struct {
	Zone    string
	Servers []dns.Server

	mu      sync.Mutex
	faces   []*face
	pending []*time.Timer
	wait    sync.WaitGroup
	watched map[string]bool
	empty   []string // moments at which a watched name had no address
}

type face struct {
	dns     *DNS
	records []mdns.RR
	serial  uint32
	mood    Mood
	delay   time.Duration
}

// StartDNS starts so many authorities on loopback. They end with the test.
func StartDNS(t testing.TB, zone string, servers int) *DNS {
	t.Helper()
	d := &DNS{Zone: zone, watched: make(map[string]bool)}
	for range servers {
		f := &face{dns: d, serial: 1}
		d.faces = append(d.faces, f)
		d.Servers = append(d.Servers, dns.Server{Address: f.listen(t)})
	}
	t.Cleanup(d.close)
	return d
}

func (d *DNS) close() {
	d.mu.Lock()
	for _, p := range d.pending {
		if p.Stop() {
			d.wait.Done()
		}
	}
	d.mu.Unlock()
	d.wait.Wait()
}

// listen serves UDP and TCP on one free port.
func (f *face) listen(t testing.TB) string {
	t.Helper()
	const tries = 20 // the port may be taken for the other protocol
	for range tries {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			_ = l.Close()
			continue
		}
		for _, s := range []*mdns.Server{{Listener: l, Handler: f}, {PacketConn: p, Handler: f}} {
			started, ended := make(chan struct{}), make(chan error, 1)
			s.NotifyStartedFunc = func() { close(started) }
			go func() { ended <- s.ActivateAndServe() }()
			<-started
			t.Cleanup(func() {
				_ = s.Shutdown()
				<-ended
			})
		}
		return l.Addr().String()
	}
	t.Fatal("no port for UDP and TCP")
	return ""
}

// SetMood changes how an authority is.
func (d *DNS) SetMood(server int, m Mood) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faces[server].mood = m
}

// SetDelay changes how long an authority takes to follow what is published
// from now on.
func (d *DNS) SetDelay(server int, delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faces[server].delay = delay
}

// Watch notes from now on when what is published has no address or CNAME at
// the name.
func (d *DNS) Watch(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watched[name] = true
}

// Empty tells what Watch has noted.
func (d *DNS) Empty() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.empty)
}

// Publish brings a zone's whole content to the authorities.
func (d *DNS) Publish(records []mdns.RR) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.watched {
		if !slices.ContainsFunc(records, func(rr mdns.RR) bool {
			h := rr.Header()
			return strings.EqualFold(h.Name, name) && (h.Rrtype == mdns.TypeA || h.Rrtype == mdns.TypeAAAA || h.Rrtype == mdns.TypeCNAME)
		}) {
			d.empty = append(d.empty, fmt.Sprintf("%s among %v", name, records))
		}
	}
	for _, f := range d.faces {
		switch {
		case f.mood == Frozen:
		case f.delay == 0:
			f.records = records
			f.serial++
		default:
			d.wait.Add(1)
			d.pending = append(d.pending, time.AfterFunc(f.delay, func() {
				defer d.wait.Done()
				d.mu.Lock()
				defer d.mu.Unlock()
				f.records = records
				f.serial++
			}))
		}
	}
}

// ServeDNS implements mdns.Handler.
func (f *face) ServeDNS(w mdns.ResponseWriter, q *mdns.Msg) {
	a := new(mdns.Msg)
	a.SetReply(q)
	if !f.answer(q, a) {
		return
	}
	_ = w.WriteMsg(a) // who asked may be gone
}

func (f *face) answer(q, a *mdns.Msg) bool {
	f.dns.mu.Lock()
	defer f.dns.mu.Unlock()
	switch f.mood {
	case Mute:
		return false
	case ServFail:
		a.Rcode = mdns.RcodeServerFailure
		return true
	}
	a.Authoritative = true
	name, qtype := q.Question[0].Name, q.Question[0].Qtype
	if qtype == mdns.TypeSOA && strings.EqualFold(name, f.dns.Zone) {
		a.Answer = append(a.Answer, &mdns.SOA{Hdr: mdns.RR_Header{Name: name, Rrtype: qtype, Class: mdns.ClassINET},
			Ns: "ns." + f.dns.Zone, Mbox: "hostmaster." + f.dns.Zone, Serial: f.serial})
		return true
	}
	known := false
	for _, rr := range f.records {
		if h := rr.Header(); strings.EqualFold(h.Name, name) {
			known = true
			if h.Rrtype == qtype || h.Rrtype == mdns.TypeCNAME {
				a.Answer = append(a.Answer, mdns.Copy(rr))
			}
		} else {
			known = known || mdns.IsSubDomain(name, h.Name)
		}
	}
	if !known {
		a.Rcode = mdns.RcodeNameError
	}
	return true
}
