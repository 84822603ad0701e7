package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// DNSSpec says what a DNS probe asks and what it wants to get.
type DNSSpec struct {
	Server string // host:port
	Name   string // the question; a missing final dot is added
	Type   uint16 // such as dns.TypeA; default A
	// Expect is the whole set of values that must be answered, in any order:
	// addresses, names, or the text of a record's data. If it is empty any
	// answer with at least one record of the type will do.
	Expect []string
}

const (
	udpSize = 1232 // bytes that pass everywhere unfragmented (DNS flag day 2020)
	// maxStray bounds the messages with a foreign ID that a look reads past.
	maxStray = 16
)

// DNS makes a probe that asks one question over UDP, and again over TCP if the
// answer is truncated (RFC 7766, section 5). It wants NOERROR and the expected
// records; CNAMEs on the way to them are followed within the answer only.
func DNS(spec DNSSpec) (Probe, error) {
	p, err := newDNSProbe(spec)
	if err != nil {
		return nil, fmt.Errorf("make dns probe: %w", err)
	}
	return p.look, nil
}

type dnsProbe struct {
	at     endpoint
	name   string
	qtype  uint16
	expect []string // sorted, in the form of value
}

func newDNSProbe(spec DNSSpec) (*dnsProbe, error) {
	at, err := parseEndpoint(spec.Server)
	if err != nil {
		return nil, err
	}
	if _, ok := dns.IsDomainName(spec.Name); !ok {
		return nil, fmt.Errorf("%q is not a domain name", spec.Name)
	}
	p := &dnsProbe{at: at, name: dns.Fqdn(spec.Name), qtype: spec.Type}
	if p.qtype == dns.TypeNone {
		p.qtype = dns.TypeA
	}
	if _, ok := dns.TypeToRR[p.qtype]; !ok {
		return nil, fmt.Errorf("type %d is not the type of a record", p.qtype)
	}
	for _, want := range spec.Expect {
		v, err := p.expected(want)
		if err != nil {
			return nil, err
		}
		p.expect = append(p.expect, v)
	}
	slices.Sort(p.expect)
	p.expect = slices.Compact(p.expect)
	return p, nil
}

// expected brings a wanted value into the form that value has.
func (p *dnsProbe) expected(want string) (string, error) {
	switch p.qtype {
	case dns.TypeA, dns.TypeAAAA:
		addr, err := netip.ParseAddr(want)
		if err != nil || addr.Is4() != (p.qtype == dns.TypeA) {
			return "", fmt.Errorf("expected value %q is not an address of type %s", want, dns.TypeToString[p.qtype])
		}
		return addr.String(), nil
	case dns.TypeCNAME, dns.TypeNS, dns.TypePTR:
		return dns.CanonicalName(want), nil
	}
	return want, nil
}

// value is a record's data as text.
func value(rr dns.RR) string {
	switch rr := rr.(type) {
	case *dns.A:
		if addr, ok := netip.AddrFromSlice(rr.A); ok {
			return addr.Unmap().String()
		}
	case *dns.AAAA:
		if addr, ok := netip.AddrFromSlice(rr.AAAA); ok {
			return addr.String()
		}
	case *dns.CNAME:
		return dns.CanonicalName(rr.Target)
	case *dns.NS:
		return dns.CanonicalName(rr.Ns)
	case *dns.PTR:
		return dns.CanonicalName(rr.Ptr)
	case *dns.TXT:
		return strings.Join(rr.Txt, "")
	}
	return strings.TrimPrefix(rr.String(), rr.Header().String())
}

func (p *dnsProbe) look(ctx context.Context) Result {
	question := new(dns.Msg).SetQuestion(p.name, p.qtype)
	question.SetEdns0(udpSize, false)

	conn, err := p.at.dialUDP(ctx)
	if err != nil {
		return failure("connect", err, ClassOther)
	}
	answer, err := ask(ctx, conn, question)
	conn.Close()
	if err != nil {
		return failure("ask over udp", err, ClassDNS)
	}
	if answer.Truncated {
		tcp, err := p.at.dialTCP(ctx)
		if err != nil {
			return failure("connect for a truncated answer", err, ClassOther)
		}
		defer abort(tcp)
		if answer, err = ask(ctx, tcp, question); err != nil {
			return failure("ask over tcp", err, ClassDNS)
		}
	}
	return p.judge(answer)
}

var errStray = errors.New("only answers to other questions")

func ask(ctx context.Context, conn net.Conn, question *dns.Msg) (*dns.Msg, error) {
	defer bound(ctx, conn)()
	c := &dns.Conn{Conn: conn, UDPSize: udpSize}
	if err := c.WriteMsg(question); err != nil {
		return nil, err
	}
	for range maxStray {
		answer, err := c.ReadMsg()
		if err != nil {
			return nil, err
		}
		if answer.Id == question.Id {
			return answer, nil
		}
	}
	return nil, errStray
}

func (p *dnsProbe) judge(answer *dns.Msg) Result {
	bad := func(format string, args ...any) Result {
		return Result{Class: ClassDNS, Detail: clip(fmt.Sprintf(format, args...))}
	}
	if !answer.Response || answer.Opcode != dns.OpcodeQuery || len(answer.Question) != 1 {
		return bad("not an answer to the question")
	}
	q := answer.Question[0]
	if q.Qtype != p.qtype || q.Qclass != dns.ClassINET || !strings.EqualFold(q.Name, p.name) {
		return bad("answer to another question: %s", q.String())
	}
	if answer.Rcode != dns.RcodeSuccess {
		return bad("rcode %s", dns.RcodeToString[answer.Rcode])
	}
	var got []string
	for _, rr := range answer.Answer {
		if rr.Header().Rrtype == p.qtype && rr.Header().Class == dns.ClassINET {
			got = append(got, value(rr))
		}
	}
	if len(got) == 0 {
		return bad("no %s record in the answer", dns.TypeToString[p.qtype])
	}
	slices.Sort(got)
	got = slices.Compact(got)
	if len(p.expect) > 0 && !slices.Equal(got, p.expect) {
		return bad("answer %s, want %s", strings.Join(got, " "), strings.Join(p.expect, " "))
	}
	return Result{Class: ClassOK}
}
