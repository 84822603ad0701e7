package authority

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/schemes/dns"
)

// Bounds of a zone file.
const (
	maxZoneFile   = 64 << 20 // octets
	maxZoneErrors = 20       // that are reported at once
)

// ReadZoneFile reads the records of a zone from a master file (RFC 1035, section
// 5), for Zone.Static. The zone's own SOA and NS records are left out, since
// draas makes its own. $INCLUDE is refused.
func ReadZoneFile(file, zone string) ([]mdns.RR, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read zone file: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	if info, err := f.Stat(); err != nil {
		return nil, fmt.Errorf("read zone file: %w", err)
	} else if info.Size() > maxZoneFile {
		return nil, fmt.Errorf("read zone file: %s has %d octets, at most %d", file, info.Size(), maxZoneFile)
	}
	rrs, err := parseZone(io.LimitReader(f, maxZoneFile), zone, file)
	if err != nil {
		return nil, fmt.Errorf("read zone file: %w", err)
	}
	return rrs, nil
}

func parseZone(r io.Reader, zone, file string) ([]mdns.RR, error) {
	zone = mdns.CanonicalName(zone)
	parser := mdns.NewZoneParser(r, zone, file)
	parser.SetDefaultTTL(3600)
	var out []mdns.RR
	for rr, ok := parser.Next(); ok; rr, ok = parser.Next() {
		h := rr.Header()
		h.Name = mdns.CanonicalName(h.Name)
		if h.Name == zone && (h.Rrtype == mdns.TypeSOA || h.Rrtype == mdns.TypeNS) {
			continue
		}
		out = append(out, rr)
	}
	if err := parser.Err(); err != nil {
		return nil, err
	}
	return out, nil
}

// unsupported are the types that the zone's own keys make, or that a delegation
// would have to be answered with in another way than it is.
var unsupported = []uint16{mdns.TypeSOA, mdns.TypeDNSKEY, mdns.TypeRRSIG, mdns.TypeNSEC, mdns.TypeNSEC3, mdns.TypeNSEC3PARAM,
	mdns.TypeCDS, mdns.TypeCDNSKEY, mdns.TypeDS, mdns.TypeDNAME}

// addStatic validates records as a zone file has them.
func (z *zone) addStatic(rrs []mdns.RR) []error {
	var errs []error
	for _, rr := range rrs {
		if err := z.addRR(mdns.Copy(rr)); err != nil {
			if len(errs) == maxZoneErrors {
				return append(errs, errors.New("and more"))
			}
			errs = append(errs, fmt.Errorf("record %s %s: %w", rr.Header().Name, typeName(rr.Header().Rrtype), err))
		}
	}
	return errs
}

func (z *zone) addRR(rr mdns.RR) error {
	h := rr.Header()
	h.Name = mdns.CanonicalName(h.Name)
	switch {
	case !mdns.IsSubDomain(z.name, h.Name):
		return fmt.Errorf("not in zone %s", z.name)
	case h.Class != mdns.ClassINET:
		return errors.New("not of class IN")
	case slices.Contains(unsupported, h.Rrtype):
		return errors.New("a type that cannot stand in the file: leave it out")
	case h.Name == z.name && h.Rrtype == mdns.TypeNS:
		return errors.New("the zone's own name servers are its sites")
	case h.Ttl > seconds(dns.MaxTTL):
		return fmt.Errorf("ttl of %d s, at most %d", h.Ttl, seconds(dns.MaxTTL))
	}
	if err := dns.ValidName(h.Name); err != nil {
		return err // wildcards among them
	}
	switch rr := rr.(type) {
	case *mdns.CNAME:
		rr.Target = mdns.CanonicalName(rr.Target)
	case *mdns.NS:
		rr.Ns = mdns.CanonicalName(rr.Ns)
	}
	wire, err := mdns.PackRR(rr, make([]byte, maxMessage), 0, nil, false)
	if err != nil {
		return err
	}
	name, err := wireName(h.Name)
	if err != nil {
		return err
	}
	if wire <= len(name)+10 { // the parser takes a record without data, as updates have them
		return errors.New("no data")
	}
	z.static = append(z.static, rr)
	return nil
}
