package measure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// resolver finds a name's addresses. It returns at least one, or an error.
type resolver interface {
	lookup(ctx context.Context, host string) ([]netip.Addr, time.Duration, error)
}

// system is the machine's resolver, which does not tell the time to live.
type system struct{}

func (system) lookup(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, UnknownTTL, err
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	return addrs, UnknownTTL, nil
}

// hedgeAfter is how long one server may think before the next is asked too.
const hedgeAfter = 50 * time.Millisecond

// direct asks DNS servers itself: the one that answered last, after a hedge the
// next as well, and so on; at once when one refuses or fails. The first
// NOERROR answer with addresses wins.
type direct struct {
	servers []string
	hedge   time.Duration
	last    atomic.Int64 // index of the server that answered last
}

type reply struct {
	server int
	addrs  []netip.Addr
	ttl    time.Duration
	err    error
}

func (d *direct) lookup(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	var asking sync.WaitGroup
	defer asking.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	replies := make(chan reply, len(d.servers))
	first, asked, pending := int(d.last.Load()), 0, 0
	next := func() {
		server := (first + asked) % len(d.servers)
		asked++
		pending++
		asking.Go(func() {
			addrs, ttl, err := d.ask(ctx, d.servers[server], host)
			replies <- reply{server: server, addrs: addrs, ttl: ttl, err: err}
		})
	}
	next()
	timer := time.NewTimer(d.hedge)
	defer timer.Stop()
	var errs []error
	for pending > 0 {
		select {
		case r := <-replies:
			pending--
			if r.err == nil {
				d.last.Store(int64(r.server))
				return r.addrs, r.ttl, nil
			}
			errs = append(errs, fmt.Errorf("server %s: %w", d.servers[r.server], r.err))
		case <-timer.C:
		}
		if asked < len(d.servers) {
			next()
			timer.Reset(d.hedge)
		}
	}
	return nil, 0, errors.Join(errs...)
}

// maxChain bounds how many CNAMEs are followed.
const maxChain = 8

// ask gets the name's addresses from one server: A, or AAAA if there is none.
// A CNAME whose target is not in the answer is asked for at the same server.
func (d *direct) ask(ctx context.Context, server, host string) ([]netip.Addr, time.Duration, error) {
	name := dns.Fqdn(host)
	lifetime := time.Duration(1<<63 - 1)
	for range maxChain {
		target := ""
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
			m, err := exchange(ctx, server, name, qtype)
			if err != nil {
				return nil, 0, err
			}
			if m.Rcode != dns.RcodeSuccess {
				return nil, 0, fmt.Errorf("%s for %s", dns.RcodeToString[m.Rcode], name)
			}
			addrs, end, ttl := addresses(m, name, qtype)
			if len(addrs) > 0 {
				return addrs, min(lifetime, ttl), nil
			}
			if !strings.EqualFold(end, name) {
				target, lifetime = end, min(lifetime, ttl)
				break
			}
		}
		if target == "" {
			return nil, 0, fmt.Errorf("no address of %s", name)
		}
		name = target
	}
	return nil, 0, fmt.Errorf("more than %d aliases for %s", maxChain, host)
}

// addresses follows the aliases from name within an answer (RFC 1034, section
// 4.3.2, step 3a). It returns the addresses at the end of the chain, the
// chain's last name, and the least time to live on the way.
func addresses(m *dns.Msg, name string, qtype uint16) (addrs []netip.Addr, end string, ttl time.Duration) {
	ttl = 1<<63 - 1
	for range maxChain {
		alias := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, name) {
				continue
			}
			var ip net.IP
			switch rr := rr.(type) {
			case *dns.A:
				ip = rr.A.To4()
			case *dns.AAAA:
				ip = rr.AAAA.To16()
			case *dns.CNAME:
				alias = rr.Target
			}
			if a, ok := netip.AddrFromSlice(ip); ok && h.Rrtype == qtype {
				addrs = append(addrs, a)
			} else if alias == "" {
				continue
			}
			ttl = min(ttl, time.Duration(h.Ttl)*time.Second)
		}
		if len(addrs) > 0 || alias == "" {
			break
		}
		name = alias
	}
	return addrs, name, ttl
}

// udpSize is what fits an unfragmented packet (DNS flag day 2020).
const udpSize = 1232

// exchange sends one question over UDP, and over TCP when the answer was
// truncated. Cancelling the context ends it at once.
func exchange(ctx context.Context, server, name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(name, qtype)
	q.SetEdns0(udpSize, false)
	m, err := exchangeOver(ctx, "udp", server, q)
	if err == nil && m.Truncated {
		m, err = exchangeOver(ctx, "tcp", server, q)
	}
	return m, err
}

func exchangeOver(ctx context.Context, network, server string, q *dns.Msg) (*dns.Msg, error) {
	raw, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := raw.SetDeadline(deadline); err != nil {
			return nil, fmt.Errorf("set deadline: %w", err)
		}
	}
	// dns.Client watches only the deadline; a hedged question must also end
	// when another server has answered.
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	conn := &dns.Conn{Conn: raw, UDPSize: udpSize}
	if err := conn.WriteMsg(q); err != nil {
		return nil, fmt.Errorf("ask: %w", err)
	}
	for {
		m, err := conn.ReadMsg()
		switch {
		case err != nil && m == nil:
			return nil, fmt.Errorf("read answer: %w", err)
		case m != nil && (m.Id != q.Id || !m.Response):
			continue // not ours: late or forged
		case err != nil:
			return nil, fmt.Errorf("parse answer: %w", err)
		case len(m.Question) != 1 || !strings.EqualFold(m.Question[0].Name, q.Question[0].Name) ||
			m.Question[0].Qtype != q.Question[0].Qtype:
			if m.Rcode == dns.RcodeSuccess {
				return nil, errors.New("the answer is to another question")
			}
		}
		return m, nil
	}
}
