package audit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/schemes/dns"
)

// atOnce bounds the queries under way.
const atOnce = 32

// maxRecords bounds what is kept of one answer.
const maxRecords = 256

// Kinds of who answers.
const (
	Authority = "authority"
	Resolver  = "resolver"
)

// Answer is what one server or resolver says of a name.
type Answer struct {
	From string       `json:"from"` // host:port
	Kind string       `json:"kind"`
	Role string       `json:"role,omitempty"`
	Site draas.SiteID `json:"site,omitempty"`
	// NoEpoch is that none is kept there.
	NoEpoch bool `json:"no_epoch,omitempty"`
	// Error is why it could not be asked.
	Error         string     `json:"error,omitempty"`
	Rcode         string     `json:"rcode,omitempty"`
	Authoritative bool       `json:"authoritative"`
	Extended      []Extended `json:"extended_errors,omitempty"`
	// Bogus is that a resolver answers only when it is told not to validate.
	Bogus   bool     `json:"bogus,omitempty"`
	Records []Record `json:"records"` // A, AAAA and CNAME of the name itself
	// Longest is the longest TTL among the records, in seconds: at a resolver
	// how long it may go on before it must ask again.
	Longest uint32 `json:"longest_ttl_s"`
	// Negative is how long "there is none" is kept, if it says so, in seconds.
	Negative uint32       `json:"negative_ttl_s,omitempty"`
	Texts    []string     `json:"epoch_texts,omitempty"` // as they are
	Epoch    draas.Epoch  `json:"epoch,omitempty"`
	Turn     uint64       `json:"epoch_turn,omitempty"`
	AtSite   draas.SiteID `json:"epoch_site,omitempty"`
	EpochTTL uint32       `json:"epoch_ttl_s,omitempty"`
	// EpochRcode is set when the epoch could not be asked for.
	EpochRcode string `json:"epoch_rcode,omitempty"`
}

// Token is what the epoch's record tells; zero if there is none.
func (a Answer) Token() runbook.Token { return runbook.Token{Epoch: a.Epoch, Turn: a.Turn} }

// Record is one record of a name.
type Record struct {
	Type  string `json:"type"`
	Value string `json:"value"`
	TTL   uint32 `json:"ttl_s"`
}

// Extended is an extended DNS error (RFC 8914).
type Extended struct {
	Code uint16 `json:"code"`
	Text string `json:"text,omitempty"`
}

// question is one query.
type question struct {
	name      string
	qtype     uint16
	recursive bool
	unchecked bool // CD: without validation
}

// looker asks.
type looker struct {
	plan  Plan
	slots chan struct{}
}

// ask asks by UDP, and by TCP when UDP was lost or did not suffice.
func (l looker) ask(ctx context.Context, address string, q question) (*mdns.Msg, error) {
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	resp, err := l.exchange(ctx, "udp", address, q)
	if (err != nil || resp.Truncated) && ctx.Err() == nil {
		resp, err = l.exchange(ctx, "tcp", address, q)
	}
	if err != nil {
		return nil, plainError(err)
	}
	return resp, nil
}

// plainError is an error of the network's as people want to read it in a
// table: who was asked stands beside it.
func plainError(err error) error {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("timeout")
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("connection refused")
	}
	return err
}

func (l looker) exchange(ctx context.Context, network, address string, q question) (*mdns.Msg, error) {
	m := new(mdns.Msg)
	m.SetQuestion(q.name, q.qtype)
	m.RecursionDesired, m.CheckingDisabled = q.recursive, q.unchecked
	m.SetEdns0(1232, false)
	return dns.Exchange(ctx, network, address, m, l.plan.Timeout)
}

// name asks one server or resolver for a name's addresses and its epoch.
func (l looker) name(ctx context.Context, a Answer, n Name) Answer {
	recursive := a.Kind == Resolver
	questions := []question{{name: n.Name.Name, qtype: mdns.TypeA, recursive: recursive}, {name: n.Name.Name, qtype: mdns.TypeAAAA, recursive: recursive}}
	if !a.NoEpoch {
		questions = append(questions, question{name: dns.EpochName(n.Name.Name), qtype: mdns.TypeTXT, recursive: recursive})
	}
	msgs := make([]*mdns.Msg, len(questions))
	errs := make([]error, len(questions))
	var wg sync.WaitGroup
	for i, q := range questions {
		wg.Go(func() { msgs[i], errs[i] = l.ask(ctx, a.From, q) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		a.Error = firstLine(err)
		return a
	}
	a = read(a, n, msgs)
	if recursive && a.Rcode == mdns.RcodeToString[mdns.RcodeServerFailure] {
		questions[0].unchecked = true
		m, err := l.ask(ctx, a.From, questions[0])
		a.Bogus = err == nil && m.Rcode == mdns.RcodeSuccess && len(m.Answer) > 0
	}
	return a
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// read takes the answers to the questions for A, AAAA, and perhaps the epoch.
func read(a Answer, n Name, msgs []*mdns.Msg) Answer {
	a.Rcode = mdns.RcodeToString[mdns.RcodeSuccess]
	a.Authoritative = true
	a.Records = []Record{}
	for i, m := range msgs {
		if i == 2 {
			a = readEpoch(a, n, m)
			continue
		}
		if m.Rcode != mdns.RcodeSuccess {
			a.Rcode = rcodeName(m.Rcode)
		}
		a.Authoritative = a.Authoritative && m.Authoritative
		a.Extended = mergeExtended(a.Extended, extended(m))
		a.Records = addRecords(a.Records, m, n.Name.Name)
		if negative, ok := negativeTTL(m.Ns); ok && len(m.Answer) == 0 {
			a.Negative = max(a.Negative, negative)
		}
	}
	for _, r := range a.Records {
		a.Longest = max(a.Longest, r.TTL)
	}
	return a
}

func readEpoch(a Answer, n Name, m *mdns.Msg) Answer {
	a.Extended = mergeExtended(a.Extended, extended(m))
	if m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError {
		a.EpochRcode = rcodeName(m.Rcode)
		return a
	}
	name := dns.EpochName(n.Name.Name)
	a.Texts = dns.Observed(first(m.Answer), name, mdns.TypeTXT)
	for _, rr := range first(m.Answer) {
		if h := rr.Header(); h.Rrtype == mdns.TypeTXT && strings.EqualFold(h.Name, name) {
			a.EpochTTL = max(a.EpochTTL, h.Ttl)
		}
	}
	if len(a.Texts) == 1 {
		if d, err := dns.ParseEpochText(a.Texts[0]); err == nil {
			a.Epoch, a.Turn, a.AtSite = d.Token.Epoch, d.Token.Turn, d.Site
		}
	}
	return a
}

func first(rrs []mdns.RR) []mdns.RR { return rrs[:min(len(rrs), maxRecords)] }

func rcodeName(rcode int) string {
	if s := mdns.RcodeToString[rcode]; s != "" {
		return s
	}
	return fmt.Sprintf("rcode %d", rcode)
}

// addRecords adds the name's own records, each once, sorted. A CNAME comes with
// both answers.
func addRecords(out []Record, m *mdns.Msg, name string) []Record {
	for _, rr := range first(m.Answer) {
		h := rr.Header()
		for _, value := range dns.Observed([]mdns.RR{rr}, name, h.Rrtype) {
			if h.Rrtype == mdns.TypeTXT {
				continue
			}
			r := Record{Type: mdns.TypeToString[h.Rrtype], Value: value, TTL: h.Ttl}
			i := slices.IndexFunc(out, func(o Record) bool { return o.Type == r.Type && o.Value == r.Value })
			if i < 0 {
				out = append(out, r)
			} else {
				out[i].TTL = max(out[i].TTL, r.TTL)
			}
		}
	}
	slices.SortFunc(out, func(a, b Record) int {
		return strings.Compare(a.Type+" "+a.Value, b.Type+" "+b.Value)
	})
	return out
}

// negativeTTL is how long an answer without records is kept (RFC 2308, section
// 5): the SOA's TTL, at most its last field.
func negativeTTL(authority []mdns.RR) (uint32, bool) {
	for _, rr := range first(authority) {
		if soa, ok := rr.(*mdns.SOA); ok {
			return min(soa.Hdr.Ttl, soa.Minttl), true
		}
	}
	return 0, false
}

// extended reads the extended errors of an answer. Their text is anybody's.
func extended(m *mdns.Msg) []Extended {
	opt := m.IsEdns0()
	if opt == nil {
		return nil
	}
	var out []Extended
	for _, o := range opt.Option {
		if e, ok := o.(*mdns.EDNS0_EDE); ok && len(out) < 8 {
			out = append(out, Extended{Code: e.InfoCode, Text: short(e.ExtraText)})
		}
	}
	return out
}

func short(s string) string {
	if len(s) > 200 {
		s = s[:200]
	}
	return strings.ToValidUTF8(s, "?")
}

func mergeExtended(a, b []Extended) []Extended {
	for _, e := range b {
		if !slices.Contains(a, e) {
			a = append(a, e)
		}
	}
	return a
}

func (a Answer) says(codes ...uint16) bool {
	return slices.ContainsFunc(a.Extended, func(e Extended) bool { return slices.Contains(codes, e.Code) })
}

// why is the extended errors for people.
func (a Answer) why() string {
	var parts []string
	for _, e := range a.Extended {
		text := mdns.ExtendedErrorCodeToString[e.Code]
		if text == "" {
			text = fmt.Sprintf("extended error %d", e.Code)
		}
		if e.Text != "" {
			text += " (" + e.Text + ")"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return ""
	}
	return ": " + strings.Join(parts, ", ")
}

// values are the record data of one type.
func (a Answer) values(qtype uint16) []string {
	var out []string
	for _, r := range a.Records {
		if r.Type == mdns.TypeToString[qtype] {
			out = append(out, r.Value)
		}
	}
	return out
}

// zone looks at one zone.
func (l looker) zone(ctx context.Context, z Zone) ZoneReport {
	epochs := slices.ContainsFunc(z.Servers, func(s Server) bool { return !s.NoEpoch })
	out := ZoneReport{Zone: z.Name, Servers: make([]Apex, len(z.Servers)), Names: make([]NameReport, len(z.Names))}
	var wg sync.WaitGroup
	for i, s := range z.Servers {
		wg.Go(func() { out.Servers[i] = l.apex(ctx, z.Name, s) })
	}
	for i, n := range z.Names {
		r := NameReport{Service: n.Service, Name: n.Name.Name, TTL: uint32(n.TTL / time.Second), Answers: make([]Answer, len(z.Servers)+len(l.plan.Resolvers))}
		out.Names[i] = r
		for k, s := range z.Servers {
			wg.Go(func() {
				r.Answers[k] = l.name(ctx, Answer{From: s.Address, Kind: Authority, Role: s.Role, Site: s.Site, NoEpoch: s.NoEpoch}, n)
			})
		}
		for k, address := range l.plan.Resolvers {
			wg.Go(func() {
				r.Answers[len(z.Servers)+k] = l.name(ctx, Answer{From: address, Kind: Resolver, NoEpoch: !epochs}, n)
			})
		}
	}
	if !l.plan.SkipDelegation {
		wg.Go(func() { out.Delegation = l.delegation(ctx, z) })
	}
	wg.Wait()
	return out
}
