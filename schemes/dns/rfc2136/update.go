package rfc2136

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/schemes/dns"
)

// fudge is how far TSIG lets the clocks be apart (RFC 8945, section 10).
const fudge = 300 // s

// prerequisites require that the sets are as they were read: absent, or these
// records and no others (RFC 2136, sections 2.4.2 and 2.4.3).
func prerequisites(m *mdns.Msg, name string, qtype uint16, set []mdns.RR) {
	if len(set) == 0 {
		m.RRsetNotUsed([]mdns.RR{header(name, qtype)})
		return
	}
	own := make([]mdns.RR, len(set))
	for i, rr := range set {
		own[i] = mdns.Copy(rr)
	}
	m.Used(own)
}

func header(name string, qtype uint16) mdns.RR {
	return &mdns.ANY{Hdr: mdns.RR_Header{Name: name, Rrtype: qtype, Class: mdns.ClassINET}}
}

// message is the update that replaces the name's records and its epoch, if the
// epoch's record is still what was read.
func message(zone string, n dns.Name, target dns.Target, to dns.Decision, was held) *mdns.Msg {
	m := new(mdns.Msg)
	m.SetUpdate(zone)
	epochName := dns.EpochName(n.Name)
	prerequisites(m, epochName, mdns.TypeTXT, was.set)
	if target.CNAME != "" {
		for _, qtype := range barred {
			prerequisites(m, n.Name, qtype, nil)
		}
	}
	ttl := uint32(n.TTL / time.Second)
	m.RemoveRRset([]mdns.RR{header(epochName, mdns.TypeTXT)})
	m.Insert([]mdns.RR{&mdns.TXT{
		Hdr: mdns.RR_Header{Name: epochName, Rrtype: mdns.TypeTXT, Ttl: ttl}, Txt: []string{dns.NextEpochText(was.text(), to)}}})
	// What is there goes before what comes: an address and a CNAME are never
	// at one name, and the server takes it in this order.
	for _, qtype := range moves {
		m.RemoveRRset([]mdns.RR{header(n.Name, qtype)})
	}
	if target.CNAME != "" {
		m.Insert([]mdns.RR{&mdns.CNAME{
			Hdr: mdns.RR_Header{Name: n.Name, Rrtype: mdns.TypeCNAME, Ttl: ttl}, Target: mdns.CanonicalName(target.CNAME)}})
	}
	for _, a := range target.Addresses {
		if a = a.Unmap(); a.Is4() {
			m.Insert([]mdns.RR{&mdns.A{Hdr: mdns.RR_Header{Name: n.Name, Rrtype: mdns.TypeA, Ttl: ttl}, A: a.AsSlice()}})
		} else {
			m.Insert([]mdns.RR{&mdns.AAAA{Hdr: mdns.RR_Header{Name: n.Name, Rrtype: mdns.TypeAAAA, Ttl: ttl}, AAAA: a.AsSlice()}})
		}
	}
	return m
}

// signedSize is how large a message is on the wire with its signature, at
// most.
func signedSize(m *mdns.Msg, k Key) int {
	const rest = 10 + 6 + 2 + 2 + 64 + 2 + 2 + 2 // header without name, fixed fields, the MAC of SHA-512
	m.Compress = true
	return m.Len() + len(k.Name) + len(k.Algorithm) + 2 + rest
}

// send signs the update and sends it to the primary, once. It returns nil when
// the primary says, under the key's signature, that it was applied.
func (e *Effect) send(ctx context.Context, m *mdns.Msg, k Key, network string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, network, e.cfg.Primary.Address)
	if err != nil {
		return fmt.Errorf("send update: %w: %w", ErrUnanswered, err)
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	co := &mdns.Conn{Conn: c, UDPSize: 4096, TsigSecret: map[string]string{k.Name: k.secret}}
	m.SetTsig(k.Name, k.Algorithm, fudge, e.cfg.Now().Unix())
	if err := co.WriteMsg(m); err != nil {
		return fmt.Errorf("send update: %w: %w", ErrUnanswered, err)
	}
	var strays error
	for {
		r, err := co.ReadMsg()
		if r == nil {
			return fmt.Errorf("await answer to update: %w: %w", ErrUnanswered, errors.Join(err, strays))
		}
		stray := answerTo(m, r, err)
		if stray == nil {
			if err := verdict(r, r.IsTsig() != nil && err == nil); !errors.Is(err, ErrUnanswered) {
				return err
			} else {
				stray = err
			}
		}
		// Whoever guesses the port can send us something: the server's own
		// answer may still come. On TCP there is nobody else.
		if network == "tcp" {
			return fmt.Errorf("await answer to update: %w: %w", ErrUnanswered, stray)
		}
		strays = stray
	}
}

// answerTo tells whether a message that was read is an answer to the update.
// err is how reading it ended: with a signature that does not hold it is still
// an answer, if one that says little.
func answerTo(m, r *mdns.Msg, err error) error {
	switch {
	case r.Id != m.Id, !r.Response, r.Opcode != mdns.OpcodeUpdate:
		return errors.New("not an answer to this update")
	case err != nil && r.IsTsig() == nil:
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}
