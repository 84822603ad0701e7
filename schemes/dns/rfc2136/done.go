package rfc2136

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// Bounds of how often a secondary that is behind is asked again.
const (
	firstPoll = 5 * time.Millisecond // doubled
	lastPoll  = 250 * time.Millisecond
)

// look is what one authority said.
type look struct {
	state  lookState
	text   string
	serial uint32 // of the zone; 0 if not known
}

type lookState int

const (
	silent  lookState = iota // cannot be reached
	fails                    // says that it cannot answer
	differs                  // answers something else, older or newer
	agrees
)

// Done asks every authority of the zone for the epoch and the records. It
// answers Yes when the primary has the operation's, and every secondary that
// answers has them too: who is sent elsewhere by one is not moved. Secondaries
// that are behind the primary are waited for, at most Lag. One that is silent,
// or says that it cannot answer, misleads nobody: it is named in the evidence
// and does not count. Without a word from the primary the answer is Unknown.
func (e *Effect) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	target, err := e.names.Target(op)
	if err != nil {
		return runbook.Unknown, "", err
	}
	servers := e.authorities()
	looks := make([]look, len(servers))
	all := make([]int, len(servers))
	for i := range all {
		all[i] = i
	}
	e.askAll(ctx, servers, looks, all, op, target)
	behind := stragglers(looks)
	poll, end := firstPoll, time.Now().Add(e.cfg.Lag)
	for looks[0].state == agrees && len(behind) > 0 && time.Now().Before(end) && ctx.Err() == nil {
		e.seen(op)
		select {
		case <-ctx.Done():
		case <-time.After(min(poll, time.Until(end))):
			e.askAll(ctx, servers, looks, behind, op, target)
			behind = stragglers(looks)
		}
		poll = min(2*poll, lastPoll)
	}
	evidence := e.evidence(servers, looks, op)
	switch {
	case looks[0].state == differs:
		return runbook.No, evidence, nil
	case looks[0].state != agrees:
		return runbook.Unknown, evidence, fmt.Errorf("the primary %s could not be asked: %s", e.cfg.Primary.Address, looks[0].text)
	case len(behind) > 0:
		return runbook.No, evidence, nil
	case e.released.Has(op):
		return runbook.No, evidence + "; released", nil
	}
	return runbook.Yes, evidence, nil
}

// stragglers are the secondaries that answer something else.
func stragglers(looks []look) []int {
	var out []int
	for i, l := range looks {
		if i > 0 && l.state == differs {
			out = append(out, i)
		}
	}
	return out
}

// seen remembers since when the primary is known to be at the token.
func (e *Effect) seen(op runbook.Op) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.since[op.Service]
	if s.token != op.Token {
		s = sighting{token: op.Token, at: time.Now()}
		e.since[op.Service] = s
	}
	return time.Since(s.at)
}

// evidence is a clause for each server.
func (e *Effect) evidence(servers []dns.Server, looks []look, op runbook.Op) string {
	parts := make([]string, len(servers))
	for i, l := range looks {
		role := "secondary"
		if i == 0 {
			role = "primary"
		}
		if site := servers[i].Site; site != "" {
			role += " at " + string(site)
		}
		parts[i] = fmt.Sprintf("%s %s: %s", role, servers[i].Address, l.text)
		if l.serial != 0 {
			parts[i] += fmt.Sprintf(" serial %d", l.serial)
		}
		if i > 0 && l.state == differs && looks[0].state == agrees {
			parts[i] += fmt.Sprintf(", %v after the primary was seen to have it", e.seen(op).Round(time.Millisecond))
		}
	}
	return strings.Join(parts, "; ")
}

// askAll asks some of the servers at once.
func (e *Effect) askAll(ctx context.Context, servers []dns.Server, looks []look, which []int, op runbook.Op, target dns.Target) {
	var wg sync.WaitGroup
	for _, i := range which {
		wg.Go(func() { looks[i] = e.ask(ctx, servers[i], op, target) })
	}
	wg.Wait()
}

// ask asks one server for the epoch, and, when that is the operation's, for
// the records and the zone's serial.
func (e *Effect) ask(ctx context.Context, s dns.Server, op runbook.Op, target dns.Target) look {
	n := e.names[op.Service]
	want := dns.Decision{Token: op.Token, Site: op.To}
	texts, l := e.data(ctx, s, dns.EpochName(n.Name), mdns.TypeTXT)
	if l.state != agrees {
		return l
	}
	types := []uint16{mdns.TypeA, mdns.TypeAAAA}
	if target.CNAME != "" {
		types = []uint16{mdns.TypeCNAME}
	}
	if !tells(texts, want) {
		types = nil // it is elsewhere, wherever its records lead
	}
	got := make([][]string, len(types))
	looks := make([]look, len(types))
	var serial uint32
	var wg sync.WaitGroup
	for i, qtype := range types {
		wg.Go(func() { got[i], looks[i] = e.data(ctx, s, n.Name, qtype) })
	}
	wg.Go(func() { serial = e.serial(ctx, s) })
	wg.Wait()
	out := judge(texts, want, types, got, looks, target)
	out.serial = serial
	return out
}

// judge sets what a server said beside what it should say.
func judge(texts []string, want dns.Decision, types []uint16, got [][]string, looks []look, target dns.Target) look {
	out := look{state: agrees, text: strings.Join(texts, " | ")}
	if len(texts) == 0 {
		out.text = "no epoch"
	}
	if !tells(texts, want) {
		out.state = differs
		if len(texts) > 0 {
			out.text = fmt.Sprintf("%q", out.text) // of anybody
		}
		return out
	}
	for i, qtype := range types {
		if looks[i].state != agrees {
			return look{state: looks[i].state, text: out.text + ", then " + looks[i].text}
		}
		if len(got[i]) > 0 {
			out.text += fmt.Sprintf(" %s %s", mdns.TypeToString[qtype], strings.Join(got[i], ","))
		}
		if !slices.Equal(got[i], target.Values(qtype)) {
			out.state = differs
		}
	}
	return out
}

// tells reports whether the epoch's records are one that says the decision.
func tells(texts []string, want dns.Decision) bool {
	if len(texts) != 1 {
		return false
	}
	d, err := dns.ParseEpochText(texts[0])
	return err == nil && d == want
}

// data asks one server for the data of one record set, sorted.
func (e *Effect) data(ctx context.Context, s dns.Server, name string, qtype uint16) ([]string, look) {
	m, err := dns.Query(ctx, s.Address, name, qtype, e.cfg.Timeout)
	if err != nil {
		return nil, look{state: silent, text: err.Error()}
	}
	if l := usable(m); l.state != agrees {
		return nil, l
	}
	return dns.Observed(m.Answer, name, qtype), look{state: agrees}
}

// usable tells whether a resolver would take an answer's word.
func usable(m *mdns.Msg) look {
	switch {
	case m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError:
		return look{state: fails, text: mdns.RcodeToString[m.Rcode]}
	case !m.Authoritative:
		return look{state: fails, text: "not an authority of the zone"}
	case m.Truncated:
		return look{state: fails, text: "an answer that is cut off"}
	}
	return look{state: agrees}
}

// serial asks one server for the zone's serial; 0 is not known.
func (e *Effect) serial(ctx context.Context, s dns.Server) uint32 {
	m, err := dns.Query(ctx, s.Address, e.cfg.Zone, mdns.TypeSOA, e.cfg.Timeout)
	if err != nil {
		return 0
	}
	for _, rr := range m.Answer {
		if soa, ok := rr.(*mdns.SOA); ok {
			return soa.Serial
		}
	}
	return 0
}
