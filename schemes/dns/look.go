package dns

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Bounds of how often an authority that is behind is asked again.
const (
	firstPoll = 5 * time.Millisecond // doubled
	lastPoll  = 250 * time.Millisecond
)

// Look is what one authority said of a name.
type Look struct {
	State  LookState
	Text   string
	Serial uint32 // of the zone; 0 if not known
}

// LookState sums up what an authority said.
type LookState int

// The states.
const (
	Silent  LookState = iota // cannot be reached
	Fails                    // says that it cannot answer
	Differs                  // answers something else, older or newer
	Agrees
)

// Expected is what authorities should say of a name: a decision and its
// records, and nothing else.
type Expected struct {
	Zone     string
	Name     string
	Decision Decision
	Target   Target
	Timeout  time.Duration // of one query, each tried by UDP and then TCP
}

// Worst is the longest that Ask takes: the epoch, then the records at once.
func (x Expected) Worst() time.Duration { return 4 * x.Timeout }

// Follow asks all servers at once, and those that differ again, at most for
// lag. If lead is set, they are to follow the first: it is asked once, and they
// are waited for only if it agrees. waiting is called before each wait.
func (x Expected) Follow(ctx context.Context, servers []Server, lead bool, lag time.Duration, waiting func()) []Look {
	looks := make([]Look, len(servers))
	all := make([]int, len(servers))
	for i := range all {
		all[i] = i
	}
	x.askAll(ctx, servers, looks, all)
	behind := Behind(looks, lead)
	poll, end := firstPoll, time.Now().Add(lag)
	for (!lead || looks[0].State == Agrees) && len(behind) > 0 && time.Now().Before(end) && ctx.Err() == nil {
		waiting()
		if wait(ctx, min(poll, time.Until(end))) == nil {
			x.askAll(ctx, servers, looks, behind)
			behind = Behind(looks, lead)
		}
		poll = min(2*poll, lastPoll)
	}
	return looks
}

// Behind are the servers that answer something else; if lead is set, the first
// is not among them.
func Behind(looks []Look, lead bool) []int {
	var out []int
	for i, l := range looks {
		if (i > 0 || !lead) && l.State == Differs {
			out = append(out, i)
		}
	}
	return out
}

func (x Expected) askAll(ctx context.Context, servers []Server, looks []Look, which []int) {
	var wg sync.WaitGroup
	for _, i := range which {
		wg.Go(func() { looks[i] = x.Ask(ctx, servers[i]) })
	}
	wg.Wait()
}

// Ask asks one server for the epoch, and, when that is the expected one, for
// the records and the zone's serial.
func (x Expected) Ask(ctx context.Context, s Server) Look {
	texts, l := x.data(ctx, s, EpochName(x.Name), mdns.TypeTXT)
	if l.State != Agrees {
		return l
	}
	types := []uint16{mdns.TypeA, mdns.TypeAAAA}
	if x.Target.CNAME != "" {
		types = []uint16{mdns.TypeCNAME}
	}
	if !tells(texts, x.Decision) {
		types = nil // it is elsewhere, wherever its records lead
	}
	got := make([][]string, len(types))
	looks := make([]Look, len(types))
	var serial uint32
	var wg sync.WaitGroup
	for i, qtype := range types {
		wg.Go(func() { got[i], looks[i] = x.data(ctx, s, x.Name, qtype) })
	}
	wg.Go(func() { serial = x.serial(ctx, s) })
	wg.Wait()
	out := x.judge(texts, types, got, looks)
	out.Serial = serial
	return out
}

// judge sets what a server said beside what it should say.
func (x Expected) judge(texts []string, types []uint16, got [][]string, looks []Look) Look {
	out := Look{State: Agrees, Text: strings.Join(texts, " | ")}
	if len(texts) == 0 {
		out.Text = "no epoch"
	}
	if !tells(texts, x.Decision) {
		out.State = Differs
		if len(texts) > 0 {
			out.Text = fmt.Sprintf("%q", out.Text) // of anybody
		}
		return out
	}
	for i, qtype := range types {
		if looks[i].State != Agrees {
			return Look{State: looks[i].State, Text: out.Text + ", then " + looks[i].Text}
		}
		if len(got[i]) > 0 {
			out.Text += fmt.Sprintf(" %s %s", mdns.TypeToString[qtype], strings.Join(got[i], ","))
		}
		if !slices.Equal(got[i], x.Target.Values(qtype)) {
			out.State = Differs
		}
	}
	return out
}

// tells reports whether the epoch's records are one that says the decision.
func tells(texts []string, want Decision) bool {
	if len(texts) != 1 {
		return false
	}
	d, err := ParseEpochText(texts[0])
	return err == nil && d == want
}

// data asks one server for the data of one record set, sorted.
func (x Expected) data(ctx context.Context, s Server, name string, qtype uint16) ([]string, Look) {
	m, err := Query(ctx, s.Address, name, qtype, x.Timeout)
	if err != nil {
		return nil, Look{State: Silent, Text: err.Error()}
	}
	if l := usable(m); l.State != Agrees {
		return nil, l
	}
	return Observed(m.Answer, name, qtype), Look{State: Agrees}
}

// usable tells whether a resolver would take an answer's word.
func usable(m *mdns.Msg) Look {
	switch {
	case m.Rcode != mdns.RcodeSuccess && m.Rcode != mdns.RcodeNameError:
		return Look{State: Fails, Text: mdns.RcodeToString[m.Rcode]}
	case !m.Authoritative:
		return Look{State: Fails, Text: "not an authority of the zone"}
	case m.Truncated:
		return Look{State: Fails, Text: "an answer that is cut off"}
	}
	return Look{State: Agrees}
}

// serial asks one server for the zone's serial; 0 is not known.
func (x Expected) serial(ctx context.Context, s Server) uint32 {
	m, err := Query(ctx, s.Address, x.Zone, mdns.TypeSOA, x.Timeout)
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

// Sightings remember since when what leads is known to be at a token, per
// service. The zero value is ready.
type Sightings struct {
	mu    sync.Mutex
	since map[draas.ServiceID]sighting
}

type sighting struct {
	token runbook.Token
	at    time.Time
}

// Seen notes that the token was seen, and returns since when.
func (s *Sightings) Seen(op runbook.Op) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.since[op.Service]
	if was.token != op.Token {
		was = sighting{token: op.Token, at: time.Now()}
		if s.since == nil {
			s.since = make(map[draas.ServiceID]sighting)
		}
		s.since[op.Service] = was
	}
	return time.Since(was.at)
}

// NextEpochText is the text that replaces the epoch's record, where the record
// is what keeps late writers out. Where the decision stays and only the
// addresses are set right, a revision grows: no text ever stands twice, so a
// request that was recorded finds what it requires at most once.
func NextEpochText(was string, to Decision) string {
	if d, err := ParseEpochText(was); err != nil || d != to {
		return EpochText(to)
	}
	revision := uint64(0)
	for field := range strings.FieldsSeq(was) {
		if value, ok := strings.CutPrefix(field, "rev="); ok {
			if n, err := strconv.ParseUint(value, 10, 63); err == nil { // else not ours: begin anew
				revision = n
			}
		}
	}
	return fmt.Sprintf("%s rev=%d", EpochText(to), revision+1)
}
