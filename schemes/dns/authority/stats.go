package authority

import (
	"sync/atomic"

	mdns "github.com/miekg/dns"
)

// counters count since the start.
type counters struct {
	queries, dropped, truncated atomic.Uint64
	rcode                       [mdns.RcodeBadVers + 1]atomic.Uint64
	udpErrors, tcpEvicted       atomic.Uint64
	transfers, changesSent      atomic.Uint64
	refusedTransfers            atomic.Uint64
	badSignatures               atomic.Uint64
}

// Stats counts since the start.
type Stats struct {
	Queries   uint64 // well enough formed to be answered
	Dropped   uint64 // too short, or responses
	Truncated uint64 // answered with TC: the client comes back by TCP
	// Rcodes counts answers by response code: "NOERROR", "SERVFAIL", ...
	Rcodes     map[string]uint64
	UDPErrors  uint64 // failed reads and writes
	TCPEvicted uint64 // idle connections closed to make room
	// Transfers counts zones sent whole, Changes differences sent, Denied
	// transfers that were not for who asked.
	Transfers, Changes, Denied uint64
	BadSignatures              uint64 // queries signed wrongly
}

// Stats reads the counters.
func (a *Authority) Stats() Stats {
	s := Stats{
		Queries: a.stats.queries.Load(), Dropped: a.stats.dropped.Load(), Truncated: a.stats.truncated.Load(),
		UDPErrors: a.stats.udpErrors.Load(), TCPEvicted: a.stats.tcpEvicted.Load(),
		Transfers: a.stats.transfers.Load(), Changes: a.stats.changesSent.Load(),
		Denied: a.stats.refusedTransfers.Load(), BadSignatures: a.stats.badSignatures.Load(),
		Rcodes: make(map[string]uint64),
	}
	for code := range a.stats.rcode {
		if n := a.stats.rcode[code].Load(); n > 0 {
			s.Rcodes[mdns.RcodeToString[code]] = n
		}
	}
	return s
}
