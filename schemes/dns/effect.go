package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Server is one authority of a zone, as this member reaches it.
type Server struct {
	Site    draas.SiteID // empty when it stands outside the sites
	Address string       // host:port, UDP and TCP
}

// Book holds names by service.
type Book map[draas.ServiceID]Name

// NewBook validates the names. It reports everything that is wrong, joined.
func NewBook(names []Name) (Book, error) {
	b := make(Book, len(names))
	var errs []error
	for _, n := range names {
		if err := n.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("name %s: %w", n.Name, err))
		}
		if _, twice := b[n.Service]; twice {
			errs = append(errs, fmt.Errorf("service %s has two names", n.Service))
		}
		b[n.Service] = n
	}
	return b, errors.Join(errs...)
}

// NewZoneBook validates names that share a zone with others' records, where
// each has an epoch's record of its own.
func NewZoneBook(zone string, names []Name) (Book, error) {
	b, err := NewBook(names)
	errs := []error{err}
	taken := make(map[string]bool)
	for _, n := range names {
		if !mdns.IsSubDomain(zone, n.Name) {
			errs = append(errs, fmt.Errorf("name %s is not in zone %s", n.Name, zone))
		}
		apex := mdns.CanonicalName(zone) == mdns.CanonicalName(n.Name)
		for site, t := range n.Targets {
			if t.CNAME != "" && apex {
				errs = append(errs, fmt.Errorf("name %s, site %s: a zone's own name cannot be a CNAME", n.Name, site))
			}
		}
		// The epochs of two services would take turns in one record.
		if name := mdns.CanonicalName(n.Name); taken[name] {
			errs = append(errs, fmt.Errorf("two services at the name %s", n.Name))
		} else {
			taken[name] = true
		}
	}
	return b, errors.Join(errs...)
}

// Target is where the operation's service leads at the operation's site.
func (b Book) Target(op runbook.Op) (Target, error) {
	n, ok := b[op.Service]
	if !ok {
		return Target{}, fmt.Errorf("service %s has no name in this zone", op.Service)
	}
	t, ok := n.Targets[op.To]
	if !ok {
		return Target{}, fmt.Errorf("service %s has no target at site %s", op.Service, op.To)
	}
	return t, nil
}

// Query asks one authority for one record set, by UDP, and by TCP when UDP was
// lost, is blocked, or did not suffice. Each takes at most the timeout. The
// answer may have any rcode, but if it says what is or is not there, it says so
// of the question.
func Query(ctx context.Context, address, name string, qtype uint16, timeout time.Duration) (*mdns.Msg, error) {
	resp, err := ask(ctx, "udp", address, name, qtype, timeout)
	if (err != nil || resp.Truncated) && ctx.Err() == nil {
		resp, err = ask(ctx, "tcp", address, name, qtype, timeout)
	}
	if err != nil {
		return nil, fmt.Errorf("query %s %s: %w", name, mdns.TypeToString[qtype], err)
	}
	return resp, nil
}

// QueryTCP asks as Query does, by TCP only.
func QueryTCP(ctx context.Context, address, name string, qtype uint16, timeout time.Duration) (*mdns.Msg, error) {
	resp, err := ask(ctx, "tcp", address, name, qtype, timeout)
	if err != nil {
		return nil, fmt.Errorf("query %s %s: %w", name, mdns.TypeToString[qtype], err)
	}
	return resp, nil
}

func ask(ctx context.Context, network, address, name string, qtype uint16, timeout time.Duration) (*mdns.Msg, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m := new(mdns.Msg)
	m.SetQuestion(name, qtype)
	m.RecursionDesired = false
	m.SetEdns0(1232, false)
	return Exchange(ctx, network, address, m, timeout)
}

// Exchange sends one query by UDP or TCP, and returns what is an answer to it,
// of any rcode. It ends with the context at once, and within the timeout.
func Exchange(ctx context.Context, network, address string, m *mdns.Msg, timeout time.Duration) (*mdns.Msg, error) {
	timed, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	c := mdns.Client{Net: network, Timeout: timeout}
	conn, err := c.DialContext(timed, address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // all of it was read
	// The library heeds a context's deadline, not its end.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	resp, _, err := c.ExchangeWithConnContext(timed, m, conn)
	if err != nil {
		return nil, err
	}
	if err := answers(resp, m.Question[0]); err != nil {
		return nil, err
	}
	return resp, nil
}

// answers checks that what a message says is said of the question.
func answers(resp *mdns.Msg, q mdns.Question) error {
	if !resp.Response || resp.Opcode != mdns.OpcodeQuery {
		return errors.New("not an answer")
	}
	if resp.Rcode != mdns.RcodeSuccess && resp.Rcode != mdns.RcodeNameError {
		return nil // an error may come without the question
	}
	if len(resp.Question) != 1 || !strings.EqualFold(resp.Question[0].Name, q.Name) ||
		resp.Question[0].Qtype != q.Qtype || resp.Question[0].Qclass != q.Qclass {
		return errors.New("an answer to another question")
	}
	return nil
}

// Observed extracts the data of one record set from an answer section,
// sorted: addresses, canonical names, or texts joined. Records of another class
// or without data are none.
func Observed(answer []mdns.RR, name string, qtype uint16) []string {
	var out []string
	for _, rr := range answer {
		h := rr.Header()
		if h.Rrtype != qtype || h.Class != mdns.ClassINET || !strings.EqualFold(h.Name, name) {
			continue
		}
		switch rr := rr.(type) {
		case *mdns.A:
			if len(rr.A) > 0 {
				out = append(out, rr.A.String())
			}
		case *mdns.AAAA:
			if len(rr.AAAA) > 0 {
				out = append(out, rr.AAAA.String())
			}
		case *mdns.CNAME:
			if rr.Target != "" {
				out = append(out, mdns.CanonicalName(rr.Target))
			}
		case *mdns.TXT:
			if len(rr.Txt) > 0 {
				out = append(out, strings.Join(rr.Txt, ""))
			}
		}
	}
	slices.Sort(out)
	return out
}
