package audit

import (
	"cmp"
	"slices"
)

// Severity of a finding.
type Severity string

// The severities.
const (
	Error Severity = "error" // users are or will be sent wrong, or a promised time does not hold
	Warn  Severity = "warn"
	OK    Severity = "ok"
)

// The codes of findings. They do not change.
const (
	CodeSilent           = "silent"            // an authority does not answer
	CodeLame             = "lame"              // it does not have the zone
	CodeNotAuthoritative = "not-authoritative" // it answers without authority
	CodeFails            = "fails"             // SERVFAIL and others
	CodeMissing          = "missing"           // no record of the name
	CodeShrunken         = "shrunken"          // fewer records than the target has
	CodeForeign          = "foreign"           // records of no site
	CodeOtherSite        = "other-site"        // another site's records than the epoch's
	CodeBehind           = "behind"            // an older epoch than others have
	CodeEpoch            = "epoch"             // no epoch, or not one
	CodeDisagree         = "disagree"          // authorities differ
	CodeTTL              = "ttl"               // another TTL than configured
	CodeSerial           = "serial"            // serials differ
	CodeNegativeTTL      = "negative-ttl"      // how long a missing name is kept
	CodeResolverSilent   = "resolver-silent"
	CodeResolverFails    = "resolver-fails"
	CodeResolverMissing  = "resolver-missing"   // it keeps that there is none
	CodeResolverForeign  = "resolver-foreign"   // records of no site
	CodeResolverBehind   = "resolver-behind"    // within its TTL
	CodeResolverStale    = "resolver-stale"     // beyond its TTL
	CodeServesStale      = "resolver-may-stale" // it hands out expired answers, so far right ones
	CodeTTLRaised        = "resolver-ttl-raised"
	CodeBogus            = "resolver-bogus" // DNSSEC
	CodeParent           = "parent"         // cannot be found or asked
	CodeParentsDisagree  = "parents-disagree"
	CodeNotDelegated     = "not-delegated"
	CodeNSMissing        = "ns-missing"
	CodeNSExtra          = "ns-extra"
	CodeNSApex           = "ns-apex" // parent and apex differ
	CodeNSSilent         = "ns-silent"
	CodeNSLame           = "ns-lame"
	CodeOneServer        = "one-server"
	CodeGlueMissing      = "glue-missing"
	CodeGlueWrong        = "glue-wrong"
	CodeDS               = "ds"
	CodeInForce          = "in-force"   // a name, at all authorities
	CodeFollows          = "follows"    // a resolver, for a name
	CodeDelegated        = "delegation" // as it should be
)

// Finding is one judgement.
type Finding struct {
	Severity Severity `json:"severity"`
	Code     string   `json:"code"`
	Zone     string   `json:"zone"`
	Name     string   `json:"name,omitempty"`
	From     string   `json:"from,omitempty"` // the server or resolver
	Text     string   `json:"text"`
	Do       string   `json:"do,omitempty"` // what to do
}

// judge gathers findings.
type judge struct{ findings []Finding }

func (j *judge) add(f Finding) { j.findings = append(j.findings, f) }

var severities = map[Severity]int{Error: 0, Warn: 1, OK: 2}

// sorted puts the worst first and leaves the order otherwise.
func (j *judge) sorted() []Finding {
	out := slices.Clone(j.findings)
	slices.SortStableFunc(out, func(a, b Finding) int { return cmp.Compare(severities[a.Severity], severities[b.Severity]) })
	if out == nil {
		return []Finding{}
	}
	return out
}

// worse counts what is not OK since a mark.
func (j *judge) worse(since int) int {
	n := 0
	for _, f := range j.findings[since:] {
		if f.Severity != OK {
			n++
		}
	}
	return n
}
