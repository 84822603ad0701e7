package dyndns2

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

// Bounds of how often authorities that are behind are asked again.
const (
	firstPoll = 20 * time.Millisecond // doubled
	lastPoll  = 2 * time.Second       // they are somebody else's
)

// noEpoch is part of all evidence.
const noEpoch = "no epoch: the service keeps none"

// look is what one authority said.
type look struct {
	state   dns.LookState
	text    string
	foreign bool // there is a record that no request takes away
}

// Done asks every authority for the name's addresses. It answers Yes when all
// that answer have the operation's, and no request of an older epoch can still
// be applied. One that is silent, or says that it cannot answer, misleads
// nobody: it is named in the evidence and does not count; if none answers, the
// answer is Unknown. Authorities that are behind what the service has confirmed
// are waited for, and so is the gate's quarantine, together at most Lag.
//
// Addresses are all there is to see. Two epochs of one site differ only in
// what Do has brought here.
func (e *Effect) Done(ctx context.Context, op runbook.Op) (runbook.Answer, string, error) {
	target, err := e.names.Target(op)
	if err != nil {
		return runbook.Unknown, "", err
	}
	name := e.names[op.Service]
	poll, end := firstPoll, time.Now().Add(e.cfg.Lag)
	looks := e.askAll(ctx, name, target)
	for {
		var pause time.Duration
		left := e.cfg.Gate.Left(op)
		switch s := sum(looks); {
		case s.heard == 0 || e.elsewhere(op, target) != "":
		case s.differ == 0:
			pause = left
		case e.account.confirmed(orderOf(name, target, op)):
			pause = min(poll, time.Until(end))
			poll = min(2*poll, lastPoll)
		}
		if pause <= 0 || time.Now().Add(pause).After(end) || !wait(ctx, pause) {
			break
		}
		looks = e.askAll(ctx, name, target)
	}
	return e.verdict(op, target, looks)
}

// verdict is the answer by what was seen last.
func (e *Effect) verdict(op runbook.Op, target dns.Target, looks []look) (runbook.Answer, string, error) {
	evidence := evidence(e.cfg.Authorities, looks)
	s := sum(looks)
	elsewhere := e.elsewhere(op, target)
	left := e.cfg.Gate.Left(op)
	switch {
	case s.heard == 0:
		return runbook.Unknown, evidence, fmt.Errorf("%w: %s", ErrLookup, evidence)
	case s.differ > 0:
		if hindrance := e.account.hindrance(hostOf(e.names[op.Service].Name), e.cfg.Now()); hindrance != "" {
			evidence += "; " + hindrance
		}
		return runbook.No, evidence, nil
	case elsewhere != "":
		return runbook.No, evidence + "; " + elsewhere, nil
	case e.released.Has(op):
		return runbook.No, evidence + "; released", nil
	case left > 0:
		return runbook.Unknown, evidence, fmt.Errorf("the addresses are right, and for %v more a request of before may change them", left.Round(time.Millisecond))
	}
	return runbook.Yes, evidence, nil
}

// elsewhere says at which other epoch this executor has brought the addresses
// that the operation wants; empty if at none.
func (e *Effect) elsewhere(op runbook.Op, target dns.Target) string {
	last := e.last(op.Service)
	if last.Token.Epoch == 0 || last.Token == op.Token {
		return ""
	}
	same := myIP(addresses(e.names[op.Service].Targets[last.Site])) == myIP(addresses(target))
	if last.Token.Compare(op.Token) > 0 || same {
		return fmt.Sprintf("brought here at %v", last.Token)
	}
	return ""
}

// wait reports whether the time went by before the context ended.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// total is what all authorities say together.
type total struct {
	heard   int // that gave an answer
	differ  int
	foreign string
}

func sum(looks []look) total {
	var t total
	for _, l := range looks {
		switch l.state {
		case dns.Agrees:
			t.heard++
		case dns.Differs:
			t.heard++
			t.differ++
			if l.foreign && t.foreign == "" {
				t.foreign = l.text
			}
		}
	}
	return t
}

// evidence is a clause for each authority.
func evidence(servers []dns.Server, looks []look) string {
	parts := make([]string, len(looks), len(looks)+1)
	for i, l := range looks {
		role := "authority"
		if site := servers[i].Site; site != "" {
			role += " at " + string(site)
		}
		parts[i] = fmt.Sprintf("%s %s: %s", role, servers[i].Address, l.text)
	}
	return strings.Join(append(parts, noEpoch), "; ")
}

func (e *Effect) askAll(ctx context.Context, n dns.Name, target dns.Target) []look {
	looks := make([]look, len(e.cfg.Authorities))
	var wg sync.WaitGroup
	for i, s := range e.cfg.Authorities {
		wg.Go(func() { looks[i] = e.ask(ctx, s, n.Name, target) })
	}
	wg.Wait()
	return looks
}

// ask asks one authority for both families at once.
func (e *Effect) ask(ctx context.Context, s dns.Server, name string, target dns.Target) look {
	types := []uint16{mdns.TypeA, mdns.TypeAAAA}
	msgs := make([]*mdns.Msg, len(types))
	errs := make([]error, len(types))
	var wg sync.WaitGroup
	for i, qtype := range types {
		wg.Go(func() { msgs[i], errs[i] = dns.Query(ctx, s.Address, name, qtype, e.cfg.Timeout) })
	}
	wg.Wait()
	for i := range types {
		if errs[i] != nil {
			return look{state: dns.Silent, text: errs[i].Error()}
		}
		if l := usable(msgs[i]); l.state != dns.Agrees {
			return l
		}
	}
	return judge(msgs, types, name, target)
}

// usable tells whether a resolver would take an answer's word.
func usable(m *mdns.Msg) look {
	switch {
	case m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError:
		return look{state: dns.Fails, text: mdns.RcodeToString[m.Rcode]}
	case !m.Authoritative:
		return look{state: dns.Fails, text: "not an authority of the name"}
	case m.Truncated:
		return look{state: dns.Fails, text: "an answer that is cut off"}
	}
	return look{state: dns.Agrees}
}

// judge compares the answers for A and AAAA with the target. What a CNAME leads
// to is not the name's.
func judge(msgs []*mdns.Msg, types []uint16, name string, target dns.Target) look {
	out := look{state: dns.Agrees}
	var parts []string
	for i, m := range msgs {
		if alias := dns.Observed(m.Answer, name, mdns.TypeCNAME); len(alias) > 0 {
			return look{state: dns.Differs, foreign: true, text: "CNAME " + strings.Join(alias, ",")}
		}
		got, want := dns.Observed(m.Answer, name, types[i]), target.Values(types[i])
		if len(got) > 0 {
			parts = append(parts, mdns.TypeToString[types[i]]+" "+strings.Join(got, ","))
		}
		if !slices.Equal(got, want) {
			out.state = dns.Differs
			// A request sets one address. It does not take any away.
			out.foreign = out.foreign || len(want) == 0 || len(got) > 1
		}
	}
	out.text = strings.Join(parts, " ")
	if out.text == "" {
		out.text = "no address"
	}
	return out
}
