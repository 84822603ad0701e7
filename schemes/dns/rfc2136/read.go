package rfc2136

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/schemes/dns"
)

// moves are the types of a name that an update replaces.
var moves = []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeCNAME}

// held is the epoch's record as the primary holds it.
type held struct {
	decision dns.Decision // zero if there is none
	set      []mdns.RR    // the TXT records as they were read
}

// text is the record as it was read, for comparison and for people.
func (h held) text() string {
	if len(h.set) == 0 {
		return "no epoch"
	}
	return strings.Join(dns.Observed(h.set, h.set[0].Header().Name, mdns.TypeTXT), " | ")
}

// readEpoch asks the primary for the epoch. An error is never taken for
// absence.
func (e *Effect) readEpoch(ctx context.Context, n dns.Name) (held, error) {
	m, err := dns.Query(ctx, e.cfg.Primary.Address, dns.EpochName(n.Name), mdns.TypeTXT, e.cfg.Timeout)
	if err != nil {
		return held{}, fmt.Errorf("%w: %w", ErrLookup, err)
	}
	h, err := heldOf(m, dns.EpochName(n.Name))
	if err != nil {
		return held{}, fmt.Errorf("read %s: %w", dns.EpochName(n.Name), err)
	}
	return h, nil
}

// heldOf reads an answer to the question for the epoch's record.
func heldOf(m *mdns.Msg, name string) (held, error) {
	if err := authoritative(m); err != nil {
		return held{}, err
	}
	var h held
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *mdns.TXT:
			if !strings.EqualFold(rr.Hdr.Name, name) || rr.Hdr.Class != mdns.ClassINET {
				return held{}, fmt.Errorf("a TXT record of %s: %w", rr.Hdr.Name, ErrForeign)
			}
			h.set = append(h.set, rr)
		case *mdns.RRSIG:
		default:
			return held{}, fmt.Errorf("a %s record instead of TXT: %w; remove it", mdns.TypeToString[rr.Header().Rrtype], ErrForeign)
		}
	}
	switch len(h.set) {
	case 0:
		return h, nil
	case 1:
		d, err := dns.ParseEpochText(strings.Join(h.set[0].(*mdns.TXT).Txt, ""))
		if err != nil {
			return held{}, fmt.Errorf("%w: %w; remove the record", ErrForeign, err)
		}
		h.decision = d
		return h, nil
	}
	return held{}, fmt.Errorf("%d TXT records, want one: %w; leave the one with the highest epoch", len(h.set), ErrForeign)
}

// authoritative accepts an answer that says what is there, or that nothing is.
func authoritative(m *mdns.Msg) error {
	switch {
	case m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError:
		return fmt.Errorf("%w: %s", ErrLookup, mdns.RcodeToString[m.Rcode])
	case !m.Authoritative:
		return fmt.Errorf("%w: its answer is not authoritative", ErrLookup)
	case m.Truncated:
		return fmt.Errorf("%w: its answer is cut off", ErrLookup)
	}
	return nil
}

// readRecords asks the primary for all records of the name that an update
// replaces, by type.
func (e *Effect) readRecords(ctx context.Context, n dns.Name) (map[uint16][]mdns.RR, error) {
	sets := make([][]mdns.RR, len(moves))
	errs := make([]error, len(moves))
	var wg sync.WaitGroup
	for i, qtype := range moves {
		wg.Go(func() {
			m, err := dns.Query(ctx, e.cfg.Primary.Address, n.Name, qtype, e.cfg.Timeout)
			if err == nil {
				err = authoritative(m)
			}
			if err != nil {
				errs[i] = fmt.Errorf("read %s %s: %w: %w", n.Name, mdns.TypeToString[qtype], ErrLookup, err)
				return
			}
			sets[i] = setOf(m.Answer, n.Name, qtype)
		})
	}
	wg.Wait()
	out := make(map[uint16][]mdns.RR, len(moves))
	for i, qtype := range moves {
		if errs[i] != nil {
			return nil, errs[i]
		}
		out[qtype] = sets[i]
	}
	return out, nil
}

func setOf(answer []mdns.RR, name string, qtype uint16) []mdns.RR {
	var out []mdns.RR
	for _, rr := range answer {
		if h := rr.Header(); h.Rrtype == qtype && h.Class == mdns.ClassINET && strings.EqualFold(h.Name, name) {
			out = append(out, rr)
		}
	}
	return out
}

// matches compares the name's records with the target.
func matches(sets map[uint16][]mdns.RR, n dns.Name, target dns.Target) bool {
	for _, qtype := range moves {
		if !slices.Equal(dns.Observed(sets[qtype], n.Name, qtype), target.Values(qtype)) {
			return false
		}
	}
	return true
}

// barred are types that cannot stand beside a CNAME and that people put at
// names like a service's. A server ignores a CNAME that is added where one of
// them is, without a word (RFC 2136, section 3.4.2.2): the name would have no
// address left.
var barred = []uint16{mdns.TypeMX, mdns.TypeTXT, mdns.TypeSRV, mdns.TypeNS, mdns.TypeCAA, mdns.TypeHTTPS, mdns.TypeSVCB}

// roomForCNAME looks for records of any type beside which a CNAME cannot
// stand. Some servers tell one type only of ANY.
func (e *Effect) roomForCNAME(ctx context.Context, n dns.Name) error {
	types := append([]uint16{mdns.TypeANY}, barred...)
	errs := make([]error, len(types))
	var wg sync.WaitGroup
	for i, qtype := range types {
		wg.Go(func() {
			query := dns.Query
			if qtype == mdns.TypeANY {
				query = dns.QueryTCP
			}
			m, err := query(ctx, e.cfg.Primary.Address, n.Name, qtype, e.cfg.Timeout)
			if err == nil {
				err = authoritative(m)
			}
			if err != nil {
				errs[i] = fmt.Errorf("see whether %s has room for a CNAME: %w: %w", n.Name, ErrLookup, err)
				return
			}
			errs[i] = beside(m.Answer, n.Name)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // one will do
		}
	}
	return nil
}

// beside refuses what cannot stand beside a CNAME.
func beside(answer []mdns.RR, name string) error {
	for _, rr := range answer {
		switch h := rr.Header(); {
		case !strings.EqualFold(h.Name, name), slices.Contains(moves, h.Rrtype):
		case h.Rrtype == mdns.TypeRRSIG, h.Rrtype == mdns.TypeNSEC, h.Rrtype == mdns.TypeNSEC3:
		case h.Rrtype == mdns.TypeHINFO: // perhaps that of RFC 8482
		default:
			return fmt.Errorf("%s has a record of type %s, and a CNAME cannot stand beside it: %w; move one of them",
				name, mdns.TypeToString[h.Rrtype], ErrForeign)
		}
	}
	return nil
}
