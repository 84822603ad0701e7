package audit

import (
	"fmt"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
)

// slack is for a TTL's fraction of a second, and the way.
const slack = time.Second

// memory is until when a resolver that was behind may be so.
type memory map[sightKey]sight

type sightKey struct{ resolver, name string }

type sight struct {
	version string
	until   time.Time
}

// next is the number of seconds until the first of them should have followed;
// 0 if none is behind, or all that are have had their time.
func (m memory) next(at time.Time) uint32 {
	var next uint32
	for _, s := range m {
		if left := s.until.Sub(at); left > 0 {
			if seconds := uint32((left + time.Second - 1) / time.Second); next == 0 || seconds < next {
				next = seconds
			}
		}
	}
	return next
}

// silentResolvers says once of each that it does not answer.
func (j *judge) silentResolvers(z Zone, names []NameReport) {
	said := make(map[string]bool)
	for _, n := range names {
		for _, a := range n.Answers {
			if a.Kind == Resolver && a.Error != "" && !said[a.From] {
				said[a.From] = true
				j.add(Finding{Severity: Error, Code: CodeResolverSilent, Zone: z.Name, From: a.From, Text: "does not answer: " + a.Error,
					Do: "see that it runs, and that it may be asked from here"})
			}
		}
	}
}

// RFC 8914: codes of a DNSSEC validation that failed, and of a stale answer.
var (
	bogusCodes = []uint16{mdns.ExtendedErrorCodeDNSBogus, mdns.ExtendedErrorCodeSignatureExpired, mdns.ExtendedErrorCodeSignatureNotYetValid,
		mdns.ExtendedErrorCodeDNSKEYMissing, mdns.ExtendedErrorCodeRRSIGsMissing, mdns.ExtendedErrorCodeNoZoneKeyBitSet, mdns.ExtendedErrorCodeNSECMissing}
	staleCodes = []uint16{mdns.ExtendedErrorCodeStaleAnswer, mdns.ExtendedErrorCodeStaleNXDOMAINAnswer}
)

// resolver judges what one hands out of a name.
func (j *judge) resolver(v view, a Answer, f Finding, m memory, at time.Time) {
	key := sightKey{a.From, v.n.Name.Name}
	since := len(j.findings)
	if !a.usable() {
		delete(m, key)
		j.add(failing(a, f))
		return
	}
	if v.target.Empty() {
		delete(m, key) // nobody knows what would be right
		return
	}
	switch site, known := leadsTo(v.n, a); {
	case len(a.Records) == 0:
		delete(m, key)
		f.Code = CodeResolverMissing
		f.Text = fmt.Sprintf("keeps that there is no such record (%s), for up to %d s%s", a.Rcode, a.Negative, a.why())
		f.Do = "see that the authorities answer; flush the name there (unbound-control flush, rndc flushname) if you can"
		j.add(f)
	case !known:
		delete(m, key)
		f.Code = CodeResolverForeign
		_, f.Text = compare(v.n, a, v.target, v.site)
		f.Do = "somebody rewrites the answer, or the resolver asks other servers: see its forwarders and local zones"
		j.add(f)
	case site == v.site:
		delete(m, key)
		if a.says(staleCodes...) {
			f.Severity, f.Code = Warn, CodeServesStale
			f.Text = "hands out an expired answer (RFC 8767), so far the right one" + a.why()
			f.Do = "after a move it may go on with the old one: let it serve stale answers only when no authority answers"
			j.add(f)
		}
	case j.behind(v, a, site, f, m, at):
		return // its TTLs say nothing
	}
	j.raised(v, a, f)
	if j.worse(since) == 0 {
		j.add(Finding{Severity: OK, Code: CodeFollows, Zone: f.Zone, Name: f.Name, From: f.From,
			Text: fmt.Sprintf("leads to %s, and asks again within %d s", v.site, a.Longest)})
	}
}

// failing is a resolver that gives an error.
func failing(a Answer, f Finding) Finding {
	if a.Bogus || a.Rcode == rcodeName(mdns.RcodeServerFailure) && a.says(bogusCodes...) {
		f.Code = CodeBogus
		f.Text = "says SERVFAIL because DNSSEC does not hold" + a.why()
		f.Do = "compare the DS at the parent with the zone's keys, and see that the signatures are of today"
		return f
	}
	f.Code = CodeResolverFails
	f.Text = "says " + a.Rcode + a.why()
	f.Do = "see that it may be asked from here, and that it reaches the authorities"
	return f
}

// leadsTo finds the site whose target an answer is. Where two sites have the
// same, the epoch's counts.
func leadsTo(n Name, a Answer) (draas.SiteID, bool) {
	if a.AtSite != "" && whole(a, n.Targets[a.AtSite]) {
		return a.AtSite, true
	}
	for _, site := range sites(n) {
		if whole(a, n.Targets[site]) {
			return site, true
		}
	}
	return "", false
}

// behind judges a resolver that leads to another site than the authorities. It
// reports whether that is beyond its time.
func (j *judge) behind(v view, a Answer, site draas.SiteID, f Finding, m memory, at time.Time) (stale bool) {
	key := sightKey{a.From, v.n.Name.Name}
	past, seen := m[key]
	version := fmt.Sprintf("%s %v", site, a.Token())
	if a.Epoch == 0 {
		version = string(site)
	}
	stale = a.says(staleCodes...) || seen && past.version == version && at.After(past.until)
	f.Code = CodeResolverBehind
	switch {
	case stale:
		f.Code = CodeResolverStale
		f.Text = fmt.Sprintf("still leads to %s, and the TTL is over%s", site, a.why())
		f.Do = "it serves expired answers (RFC 8767; unbound serve-expired, BIND stale-answer-enable): flush the name there, or wait; " +
			"see that it reaches an authority"
	case !v.settled:
		f.Severity = Warn
		f.Text = fmt.Sprintf("leads to %s as some authorities still do, for up to %d s", site, a.Longest)
		f.Do = "set the authorities right first"
		delete(m, key)
	default:
		f.Severity = Warn
		f.Text = fmt.Sprintf("still leads to %s, for up to %d s", site, a.Longest)
		f.Do = "in order after a move; if it lasts longer, it serves expired answers"
		if !seen || past.version != version {
			m[key] = sight{version: version, until: at.Add(time.Duration(a.Longest)*time.Second + slack)}
		}
	}
	j.add(f)
	return stale
}

// raised judges how long a resolver keeps what it has.
func (j *judge) raised(v view, a Answer, f Finding) {
	limit := max(uint32(max(v.n.TTL, v.n.Floor)/time.Second), v.ttl)
	if a.Longest <= limit || a.says(staleCodes...) {
		return
	}
	f.Severity, f.Code = Error, CodeTTLRaised
	f.Text = fmt.Sprintf("keeps the answer for %d s more, and the authorities give it %d s", a.Longest, v.ttl)
	f.Do = fmt.Sprintf("take its minimum off (unbound cache-min-ttl, BIND min-cache-ttl, dnsmasq min-cache-ttl), or count with it: dns.resolver_floor = %q in failover.toml",
		(time.Duration(a.Longest) * time.Second).String())
	if v.ttl == 0 {
		f.Text = fmt.Sprintf("keeps the answer for %d s more, and no authority could be asked", a.Longest)
	}
	j.add(f)
}
