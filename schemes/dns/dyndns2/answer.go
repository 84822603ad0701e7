package dyndns2

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxAnswer bounds what is read of an answer, in octets. One for one host has
// some sixty.
const maxAnswer = 1 << 10

// The return codes, by what Dyn and No-IP document of them
// (help.dyn.com/return-codes, www.noip.com/integrate/response). numhost,
// notfqdn and dnserr are Dyn's.
const (
	codeGood     = "good"
	codeNoChange = "nochg"
	codeNoHost   = "nohost"
	codeNotFQDN  = "notfqdn"
	codeNumHost  = "numhost"
	codeBadAuth  = "badauth"
	codeBadAgent = "badagent"
	codeDonator  = "!donator"
	codeAbuse    = "abuse"
	codeDNSError = "dnserr"
	codeFatal    = "911"
)

// answer is what a service says of one host.
type answer struct {
	code      string
	addresses []netip.Addr // where it says that the name leads now; may be empty
}

// parseAnswer reads the answer to a request for one host: one line, the code
// first, then perhaps the addresses.
func parseAnswer(body []byte) (answer, error) {
	if len(body) > maxAnswer {
		return answer{}, fmt.Errorf("more than %d octets", maxAnswer)
	}
	line := bytes.TrimSpace(body)
	switch {
	case len(line) == 0:
		return answer{}, errors.New("empty")
	case bytes.ContainsAny(line, "\r\n"):
		return answer{}, errors.New("several lines for one host")
	}
	fields := strings.Fields(string(line))
	a := answer{code: fields[0]}
	if a.code != codeGood && a.code != codeNoChange {
		if len(fields) > 1 || !plain(a.code) {
			return answer{}, errors.New("no return code")
		}
		return a, nil
	}
	for value := range strings.SplitSeq(strings.Join(fields[1:], ","), ",") {
		// Some services put words there. What is no address says nothing.
		if addr, err := netip.ParseAddr(value); err == nil && addr.Zone() == "" {
			a.addresses = append(a.addresses, addr.Unmap())
		}
	}
	return a, nil
}

// plain accepts what could be a return code, and may be shown to people.
func plain(code string) bool {
	if len(code) > 16 {
		return false
	}
	for _, c := range []byte(code) {
		if c != '!' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// other is an address in the answer that was not asked for.
func (a answer) other(asked []netip.Addr) (netip.Addr, bool) {
	for _, addr := range a.addresses {
		if !slices.Contains(asked, addr) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}
