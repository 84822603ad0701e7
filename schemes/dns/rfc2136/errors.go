package rfc2136

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	mdns "github.com/miekg/dns"
)

// What hinders an update, by kind. After all but ErrUnanswered nothing was
// changed by it.
var (
	// ErrRefused: by policy, or because the zone is frozen. Servers do not say
	// which.
	ErrRefused = errors.New("refused: see that the key may change A, AAAA and CNAME of the name and TXT of _draas.NAME " +
		"(BIND update-policy, Knot acl, PowerDNS TSIG-ALLOW-DNSUPDATE and allow-dnsupdate-from), that the zone is not frozen " +
		"(rndc thaw, knotc zone-thaw), that the server is the zone's primary, and on PowerDNS the key's secret and the clocks")
	// ErrKey: the server does not know the key, or has another secret. Knot
	// says so of a good key, too, when its policy does not let it.
	ErrKey = errors.New("bad key: see that the server has the key of the key file, with its name, algorithm and secret " +
		"(Knot says so, too, when the policy of its acl lets no key change these records)")
	// ErrClock: the server's clock and this machine's are too far apart.
	ErrClock = errors.New("bad time: set the clocks of this machine and of the server (TSIG allows for 300 s)")
	// ErrServer: the server cannot, by its own account (SERVFAIL).
	ErrServer = errors.New("the server fails (SERVFAIL): see its log and its disk")
	// ErrForeign: what stands in the zone was not written by draas and is in
	// the way.
	ErrForeign = errors.New("not written by draas")
	// ErrUnanswered: nobody knows whether the update was applied, will be, or
	// neither.
	ErrUnanswered = errors.New("no answer that counts")
	// ErrLookup: the primary could not be read, so nothing was sent.
	ErrLookup = errors.New("the primary cannot be read")
	// ErrMoved: the prerequisites do not hold. Do looks again.
	ErrMoved = errors.New("the record changed in between")
)

// verdict is what an answer to an update says; nil is that it was applied.
// signed tells that the answer bears the key's signature: without it neither a
// success nor a failed prerequisite counts, for anybody could have sent it.
func verdict(m *mdns.Msg, signed bool) error {
	said := mdns.RcodeToString[m.Rcode]
	if said == "" {
		said = fmt.Sprintf("rcode %d", m.Rcode)
	}
	switch m.Rcode {
	case mdns.RcodeSuccess, mdns.RcodeNXRrset, mdns.RcodeYXRrset, mdns.RcodeNameError, mdns.RcodeYXDomain:
		switch {
		case !signed:
			return fmt.Errorf("%s without the key's signature: %w", said, ErrUnanswered)
		case m.Rcode == mdns.RcodeSuccess:
			return nil
		}
		return fmt.Errorf("%s: %w", said, ErrMoved)
	case mdns.RcodeServerFailure:
		return ErrServer
	case mdns.RcodeNotAuth:
		if t := m.IsTsig(); t != nil {
			switch t.Error {
			case mdns.RcodeBadTime:
				return fmt.Errorf("%s%w", skew(t), ErrClock)
			case mdns.RcodeBadKey, mdns.RcodeBadSig, mdns.RcodeBadTrunc:
				return ErrKey
			}
		}
	}
	return fmt.Errorf("%s: %w", said, ErrRefused)
}

// skew tells how far the clocks are apart: the server's stands in the other
// data (RFC 8945, section 5.2.3), 48 bits of seconds.
func skew(t *mdns.TSIG) string {
	raw, err := hex.DecodeString(t.OtherData)
	if err != nil || len(raw) != 6 {
		return ""
	}
	var server int64
	for _, b := range raw {
		server = server<<8 | int64(b)
	}
	const century = 100 * 366 * 24 * 60 * 60
	ahead := int64(t.TimeSigned) - server
	if ahead < -century || ahead > century {
		return "the clocks are centuries apart: "
	}
	if ahead < 0 {
		return fmt.Sprintf("this machine's clock is %v behind the server's: ", time.Duration(-ahead)*time.Second)
	}
	return fmt.Sprintf("this machine's clock is %v ahead of the server's: ", time.Duration(ahead)*time.Second)
}
