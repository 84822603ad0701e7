// Package dns moves users by name: a service's name answers with the active
// site's addresses. This package holds what every provider shares (names,
// targets, the epoch's TXT record) and the effect on the embedded authority.
// The providers stand below it.
package dns

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Target is where a service's name leads at one site: addresses, or another
// name, never both.
type Target struct {
	Addresses []netip.Addr // answered as A and AAAA by family
	CNAME     string       // fully qualified
}

// Empty reports whether the target leads nowhere. An empty target is never
// published (DESIGN.md, rule 4).
func (t Target) Empty() bool { return len(t.Addresses) == 0 && t.CNAME == "" }

// Types lists the record types that the target is answered with.
func (t Target) Types() []uint16 {
	if t.CNAME != "" {
		return []uint16{mdns.TypeCNAME}
	}
	var types []uint16
	for _, a := range t.Addresses {
		qtype := mdns.TypeAAAA
		if a.Unmap().Is4() {
			qtype = mdns.TypeA
		}
		if !slices.Contains(types, qtype) {
			types = append(types, qtype)
		}
	}
	slices.Sort(types)
	return types
}

// Values lists the target's record data of a type, sorted, as Observed writes
// it: addresses, or the canonical name.
func (t Target) Values(qtype uint16) []string {
	if qtype == mdns.TypeCNAME && t.CNAME != "" {
		return []string{mdns.CanonicalName(t.CNAME)}
	}
	var out []string
	for _, a := range t.Addresses {
		if a = a.Unmap(); a.Is4() == (qtype == mdns.TypeA) && (qtype == mdns.TypeA || qtype == mdns.TypeAAAA) {
			out = append(out, a.String())
		}
	}
	slices.Sort(out)
	return out
}

// Name is one service's name in a zone.
type Name struct {
	Name    string // fully qualified
	Service draas.ServiceID
	TTL     time.Duration // whole seconds; 0 asks resolvers not to keep it
	Targets map[draas.SiteID]Target
}

// Bounds of a name's data.
const (
	MaxTTL    = 7 * 24 * time.Hour
	MaxValues = 64 // addresses of a target, values of a record
)

// Validate reports everything that is wrong with the name, joined.
func (n Name) Validate() error {
	var errs []error
	if err := ValidName(n.Name); err != nil {
		errs = append(errs, err)
	} else if err := ValidName(EpochName(n.Name)); err != nil {
		errs = append(errs, fmt.Errorf("too long for its epoch record: %w", err))
	}
	if n.Service == "" {
		errs = append(errs, errors.New("no service"))
	}
	if err := ValidTTL(n.TTL); err != nil {
		errs = append(errs, err)
	}
	if len(n.Targets) == 0 {
		errs = append(errs, errors.New("no site has a target"))
	}
	cnames := 0
	for _, site := range slices.Sorted(maps.Keys(n.Targets)) {
		t := n.Targets[site]
		if err := t.validate(); err != nil {
			errs = append(errs, fmt.Errorf("site %s: %w", site, err))
		}
		if t.CNAME != "" {
			cnames++
		}
	}
	if cnames != 0 && cnames != len(n.Targets) {
		errs = append(errs, errors.New("a CNAME at some sites and addresses at others: resolvers keep the one while they get the other"))
	}
	return errors.Join(errs...)
}

func (t Target) validate() error {
	switch {
	case t.Empty():
		return errors.New("neither address nor cname")
	case t.CNAME != "" && len(t.Addresses) > 0:
		return errors.New("both addresses and a cname")
	case len(t.Addresses) > MaxValues:
		return fmt.Errorf("%d addresses, at most %d", len(t.Addresses), MaxValues)
	case t.CNAME != "":
		return ValidName(t.CNAME)
	}
	seen := make(map[netip.Addr]bool, len(t.Addresses))
	for _, a := range t.Addresses {
		if err := ValidAddr(a); err != nil {
			return err
		}
		if seen[a.Unmap()] {
			return fmt.Errorf("address %s twice", a)
		}
		seen[a.Unmap()] = true
	}
	return nil
}

// ValidAddr accepts addresses that may stand in a record.
func ValidAddr(a netip.Addr) error {
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return fmt.Errorf("address %q cannot be answered", a)
	}
	return nil
}

// ValidName accepts fully qualified names of at most 255 octets on the wire
// (RFC 1035, section 3.1), without escapes: letters, digits, hyphens and
// underscores.
func ValidName(name string) error {
	if !strings.HasSuffix(name, ".") || name == "." {
		return fmt.Errorf("name %q: want a fully qualified name, with a dot at the end", name)
	}
	if len(name)+1 > 255 {
		return fmt.Errorf("name of %d octets, at most 255", len(name)+1)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("name %q: label %q, want 1 to 63 octets", name, label)
		}
		for _, c := range []byte(label) {
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return fmt.Errorf("name %q: octet %q, want letters, digits, - or _", name, c)
			}
		}
	}
	return nil
}

// ValidTTL accepts whole seconds from 0 to MaxTTL.
func ValidTTL(d time.Duration) error {
	if d < 0 || d > MaxTTL || d%time.Second != 0 {
		return fmt.Errorf("ttl %v, want whole seconds up to %v", d, MaxTTL)
	}
	return nil
}

// Decision is where a service's name leads: to the site of its latest
// activation, or to where users enter since. While a move is under way it stays
// what it was.
type Decision struct {
	Token runbook.Token
	Site  draas.SiteID
	// Turns is how often, in all its epochs, users of the service were led
	// elsewhere without an activation: a zone's serial grows with it.
	Turns uint64
}

// EpochName is the name whose TXT record tells the epoch at which a name is
// answered.
func EpochName(name string) string { return "_draas." + name }

// EpochText is the text of that record: "epoch=7 site=dr", and with a turn
// "epoch=7 site=dr turn=2". The epoch is one number, whose upper 32 bits are the
// generation. Members of before turns pass a turn over.
func EpochText(d Decision) string {
	text := fmt.Sprintf("epoch=%d site=%s", uint64(d.Token.Epoch), d.Site)
	if d.Token.Turn > 0 {
		text += fmt.Sprintf(" turn=%d", d.Token.Turn)
	}
	return text
}

// ParseEpochText reads what EpochText wrote. Keys it does not know are
// ignored.
func ParseEpochText(s string) (Decision, error) {
	var d Decision
	for field := range strings.FieldsSeq(s) {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "epoch", "turn":
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return Decision{}, fmt.Errorf("parse epoch text %q: %w", s, err)
			}
			if key == "turn" {
				d.Token.Turn = n
			} else {
				d.Token.Epoch = draas.Epoch(n)
			}
		case "site":
			d.Site = draas.SiteID(value)
		}
	}
	if d.Token.Epoch == 0 || d.Site == "" {
		return Decision{}, fmt.Errorf("parse epoch text %q: no epoch or no site", s)
	}
	return d, nil
}
