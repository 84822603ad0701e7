package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// longNegative is what is too long for a missing name where nothing is
// configured.
const longNegative = 5 * time.Minute

func (j *judge) zone(z Zone, r *ZoneReport, m memory, at time.Time) {
	j.servers(z, r.Servers)
	for i, n := range z.Names {
		j.name(z, n, &r.Names[i], r.Servers, m, at)
	}
	j.silentResolvers(z, r.Names)
	if r.Delegation != nil {
		j.delegation(z, r.Delegation, r.Servers)
	}
}

// state is what an answer says of who gave it.
type state struct{ err, rcode, why string }

// health judges whether who answered has the zone; nil if it has.
func health(s state, authoritative bool) *Finding {
	switch {
	case s.err != "":
		return &Finding{Code: CodeSilent, Text: "does not answer: " + s.err, Do: "see that it runs and that UDP and TCP port 53 reach it; users wait for it in vain"}
	case s.rcode == rcodeName(mdns.RcodeServerFailure):
		return &Finding{Code: CodeFails, Text: "says SERVFAIL" + s.why, Do: "see draasd status and its log; resolvers go to the other servers meanwhile"}
	case s.rcode != rcodeName(mdns.RcodeSuccess) && s.rcode != rcodeName(mdns.RcodeNameError):
		return &Finding{Code: CodeLame, Text: "says " + s.rcode + s.why, Do: "let it serve the zone, or take it out of the delegation and of failover.toml"}
	case !authoritative:
		return &Finding{Code: CodeNotAuthoritative, Text: "answers without authority", Do: "it is a resolver, or has lost the zone: let it serve the zone, or take it out"}
	}
	return nil
}

// servers judges what the authorities say of the zone itself.
func (j *judge) servers(z Zone, apexes []Apex) {
	serials := make(map[uint32][]string)
	for _, a := range apexes {
		f := health(state{a.Error, a.Rcode, Answer{Extended: a.Extended}.why()}, a.Authoritative)
		if f == nil && a.Rcode == rcodeName(mdns.RcodeNameError) {
			f = &Finding{Code: CodeLame, Text: "does not know the zone", Do: "let it serve the zone, or take it out of the delegation and of failover.toml"}
		}
		if f != nil {
			f.Severity, f.Zone, f.From = Error, z.Name, a.From
			j.add(*f)
			continue
		}
		serials[a.Serial] = append(serials[a.Serial], a.From)
		kept := time.Duration(a.Negative) * time.Second
		f = &Finding{Severity: Warn, Code: CodeNegativeTTL, Zone: z.Name, From: a.From, Do: "set the last field of the SOA, and the SOA's own TTL"}
		switch {
		case z.NegativeTTL >= 0 && kept != z.NegativeTTL:
			f.Text = fmt.Sprintf("resolvers keep for %v that a name is missing, %v is configured", kept, z.NegativeTTL)
			j.add(*f)
		case z.NegativeTTL < 0 && kept > longNegative:
			f.Text = fmt.Sprintf("resolvers keep for %v that a name is missing: who asks at a bad moment waits as long", kept)
			j.add(*f)
		}
	}
	if len(serials) > 1 {
		var parts []string
		for serial, from := range serials {
			parts = append(parts, fmt.Sprintf("%d at %s", serial, strings.Join(from, ", ")))
		}
		slices.Sort(parts)
		j.add(Finding{Severity: Warn, Code: CodeSerial, Zone: z.Name, Text: "serials differ: " + strings.Join(parts, "; "),
			Do: "in order for a moment after a move; else see the transfer and its notifications"})
	}
}

// usable answers say what is there.
func (a Answer) usable() bool {
	return a.Error == "" && (a.Rcode == rcodeName(mdns.RcodeSuccess) || a.Rcode == rcodeName(mdns.RcodeNameError)) && (a.Authoritative || a.Kind == Resolver)
}

// view is what is in force for a name by its authorities.
type view struct {
	n       Name
	token   runbook.Token
	site    draas.SiteID
	target  dns.Target
	settled bool   // all that answer agree
	ttl     uint32 // the longest that an authority gives
}

// name judges what all say of a name.
func (j *judge) name(z Zone, n Name, r *NameReport, apexes []Apex, m memory, at time.Time) {
	v := inForce(n, r.Answers)
	r.Epoch, r.Turn, r.Site = v.token.Epoch, v.token.Turn, v.site
	since := len(j.findings)
	heard := 0
	for i, a := range r.Answers {
		if a.Kind != Authority {
			continue
		}
		base := Finding{Severity: Error, Zone: z.Name, Name: n.Name.Name, From: a.From}
		if f := health(state{a.Error, a.Rcode, a.why()}, a.Authoritative); f != nil {
			// Of a server that is out altogether it was said once.
			if apex := apexes[i]; apex.Error == "" && apex.Authoritative {
				f.Severity, f.Zone, f.Name, f.From = Error, z.Name, n.Name.Name, a.From
				j.add(*f)
			}
			continue
		}
		heard++
		j.authority(v, a, base)
	}
	if heard > 0 && j.worse(since) == 0 {
		text := fmt.Sprintf("all %d authorities lead to %s at %v", heard, v.site, v.token)
		if v.token.Epoch == 0 {
			text = fmt.Sprintf("all %d authorities lead to %s; they keep no epoch", heard, v.site)
		}
		j.add(Finding{Severity: OK, Code: CodeInForce, Zone: z.Name, Name: n.Name.Name, Text: text})
	}
	for _, a := range r.Answers {
		if a.Kind == Resolver && a.Error == "" {
			j.resolver(v, a, Finding{Severity: Error, Zone: z.Name, Name: n.Name.Name, From: a.From}, m, at)
		}
	}
}

// inForce finds the highest epoch that an authority tells; where none is kept,
// where most of them lead.
func inForce(n Name, answers []Answer) view {
	v := view{n: n}
	heard := 0
	leads := make(map[draas.SiteID]int)
	for _, a := range answers {
		if a.Kind != Authority || !a.usable() {
			continue
		}
		heard++
		v.ttl = max(v.ttl, a.Longest)
		if a.Token().Compare(v.token) > 0 {
			v.token, v.site = a.Token(), a.AtSite
		}
		for _, site := range sites(n) {
			if whole(a, n.Targets[site]) {
				leads[site]++
				break
			}
		}
	}
	if v.token.Epoch == 0 {
		for _, site := range sites(n) {
			if leads[site] > leads[v.site] {
				v.site = site
			}
		}
	}
	v.target = n.Targets[v.site]
	v.settled = heard > 0 && leads[v.site] == heard
	for _, a := range answers {
		v.settled = v.settled && (a.Kind != Authority || !a.usable() || a.NoEpoch || a.Token() == v.token)
	}
	return v
}

func sites(n Name) []draas.SiteID {
	var out []draas.SiteID
	for site := range n.Targets {
		out = append(out, site)
	}
	slices.Sort(out)
	return out
}

// kinds of records that a name is answered with.
var kinds = []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeCNAME}

// whole reports whether an answer has the target's records and no others.
func whole(a Answer, target dns.Target) bool {
	for _, qtype := range kinds {
		if !slices.Equal(a.values(qtype), target.Values(qtype)) {
			return false
		}
	}
	return !target.Empty()
}

// authority judges one that answers.
func (j *judge) authority(v view, a Answer, f Finding) {
	target, site := v.target, v.site
	switch right := j.epoch(v, a, f); {
	case a.AtSite != "" && right:
		target, site = v.n.Targets[a.AtSite], a.AtSite
	case !right && (len(a.Texts) > 0 || a.EpochRcode != "" || v.target.Empty()):
		return
	}
	if code, text := compare(v.n, a, target, site); code != "" {
		f.Code, f.Text = code, text
		f.Do = "set the records right where they are kept; draas does so itself when the step of a move runs"
		if a.NoEpoch && code == CodeOtherSite {
			f.Code, f.Do = CodeDisagree, "wait for it to follow; else see the service's own status page"
		}
		j.add(f)
	}
	j.ttl(v.n, a, f)
}

// epoch judges the epoch's record. It returns false when it is not the one that
// it should be.
func (j *judge) epoch(v view, a Answer, f Finding) bool {
	f.Code = CodeEpoch
	switch {
	case a.NoEpoch:
		return true
	case a.EpochRcode != "":
		f.Text, f.Do = "says "+a.EpochRcode+" for the epoch's record"+a.why(), "see its log"
	case len(a.Texts) == 0:
		f.Text = "has no epoch's record " + dns.EpochName(v.n.Name.Name)
		f.Do = "if the service was never activated: draasd activate. Else somebody has deleted the record: it is what keeps older decisions out"
	case a.Epoch == 0:
		f.Text = fmt.Sprintf("%d epoch records, the first %q", len(a.Texts), short(a.Texts[0]))
		f.Do = "leave one, that with the highest epoch"
	case a.Token().Compare(v.token) < 0:
		f.Code = CodeBehind
		f.Text = fmt.Sprintf("is behind: %v (%s), and others have %v (%s)", a.Token(), a.AtSite, v.token, v.site)
		f.Do = "in order for a moment after a move; else see the transfer, or that the member hears the quorum (draasd status)"
	case a.AtSite != v.site:
		f.Code = CodeDisagree
		f.Text = fmt.Sprintf("gives %v to %s, and another to %s", a.Token(), a.AtSite, v.site)
		f.Do = "one of the records was not written by draas: compare with draasd status, and set it right"
	default:
		return true
	}
	j.add(f)
	return false
}

// compare judges a set of records; an empty code says that it is the target's.
func compare(n Name, a Answer, target dns.Target, site draas.SiteID) (code, text string) {
	switch {
	case target.Empty():
		return CodeForeign, fmt.Sprintf("leads to site %q, which failover.toml does not have for it: %s", site, list(a))
	case whole(a, target):
		return "", ""
	case len(a.Records) == 0:
		return CodeMissing, "has no record of the name, and should have " + listTarget(target)
	}
	for _, other := range sites(n) {
		if whole(a, n.Targets[other]) {
			return CodeOtherSite, fmt.Sprintf("leads to %s with %s, and should to %s with %s", other, list(a), site, listTarget(target))
		}
	}
	foreign := slices.ContainsFunc(a.Records, func(r Record) bool {
		return !slices.Contains(target.Values(mdns.StringToType[r.Type]), r.Value)
	})
	if foreign {
		return CodeForeign, fmt.Sprintf("has %s, and should have %s", list(a), listTarget(target))
	}
	return CodeShrunken, fmt.Sprintf("has %s only, and should have %s", list(a), listTarget(target))
}

func list(a Answer) string {
	var parts []string
	for _, r := range a.Records[:min(len(a.Records), 8)] {
		parts = append(parts, r.Value)
	}
	if len(a.Records) > len(parts) {
		parts = append(parts, fmt.Sprintf("%d more", len(a.Records)-len(parts)))
	}
	return strings.Join(parts, " ")
}

func listTarget(t dns.Target) string {
	var parts []string
	for _, qtype := range kinds {
		parts = append(parts, t.Values(qtype)...)
	}
	return strings.Join(parts, " ")
}

// ttl judges the TTLs that an authority gives.
func (j *judge) ttl(n Name, a Answer, f Finding) {
	want := uint32(n.TTL / time.Second)
	for _, r := range a.Records {
		if r.TTL == want {
			continue
		}
		f.Code, f.Severity = CodeTTL, Warn
		f.Do = "set it there, or write it as dns.ttl in failover.toml, so that the RTO is counted with it"
		f.Text = fmt.Sprintf("gives %s a TTL of %d s, %d s is configured", r.Value, r.TTL, want)
		if r.TTL > want {
			f.Severity = Error // the RTO is counted with less
		}
		j.add(f)
		return // one will do
	}
}
