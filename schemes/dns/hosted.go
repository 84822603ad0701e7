package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Defaults of HostedConfig.
const (
	DefaultRequest = 5 * time.Second
	DefaultLag     = time.Minute
)

// Held is all that stands at a name, and at its epoch's name, at a service.
type Held struct {
	Epochs  []string            // the texts at EpochName, of anybody
	Records map[uint16][]string // A, AAAA and CNAME at the name, as Observed writes them
	Others  []string            // types at the name beside which no CNAME can stand
	Foreign error               // what must not be touched and is in the way
	Version any                 // the store's own, to be replaced
}

// Add adds a record set that stands at the name or its epoch's name, its values
// as a zone file has them. What stands elsewhere is none of ours.
func (h *Held) Add(n Name, owner, rtype string, values []string) {
	owner = mdns.CanonicalName(owner)
	name, epochName := mdns.CanonicalName(n.Name), mdns.CanonicalName(EpochName(n.Name))
	qtype := mdns.StringToType[rtype]
	ours := owner == name && slices.Contains(replaced(), qtype) || owner == epochName && qtype == mdns.TypeTXT
	switch {
	case !ours && owner == name:
		h.Others = append(h.Others, rtype)
		return
	case !ours && owner == epochName:
		h.Foreign = fmt.Errorf("a record of type %s at %s: %w; remove it", rtype, owner, ErrForeign)
		return
	case !ours:
		return
	}
	var set []mdns.RR
	for _, v := range values {
		rr, err := mdns.NewRR(fmt.Sprintf("%s 0 IN %s %s", owner, rtype, v))
		if err != nil || rr == nil || strings.ContainsAny(v, "\n;") {
			h.Foreign = fmt.Errorf("a %s record at %s that cannot be read: %w; remove it", rtype, owner, ErrForeign)
			return
		}
		set = append(set, rr)
	}
	data := Observed(set, owner, qtype)
	if len(data) == 0 || len(data) != len(values) {
		h.Foreign = fmt.Errorf("a %s record at %s without data: %w; remove it", rtype, owner, ErrForeign)
		return
	}
	if owner == epochName {
		h.Epochs = append(h.Epochs, data...)
		return
	}
	if h.Records == nil {
		h.Records = make(map[uint16][]string)
	}
	h.Records[qtype] = append(h.Records[qtype], data...)
	slices.Sort(h.Records[qtype])
}

// Bar notes that something in the way must not be touched.
func (h *Held) Bar(what, owner string) {
	h.Foreign = fmt.Errorf("%s at %s: %w; remove it, or let another tool move this name", what, owner, ErrForeign)
}

// Sets lists a change's record sets, their values as a zone file has them: the
// epoch's, then the address's by type.
func (c Change) Sets() []Set {
	ttl := int(c.Name.TTL / time.Second)
	sets := []Set{{Owner: EpochName(c.Name.Name), Type: "TXT", TTL: ttl, Values: []string{`"` + c.Epoch + `"`}}}
	for _, qtype := range c.Target.Types() {
		sets = append(sets, Set{Owner: c.Name.Name, Type: mdns.TypeToString[qtype], TTL: ttl, Values: c.Target.Values(qtype)})
	}
	return sets
}

// Set is a record set as it is to be.
type Set struct {
	Owner  string
	Type   string
	TTL    int // s
	Values []string
}

// text is what stands there, for comparison and for people.
func (h Held) text() string {
	parts := []string{"no epoch"}
	if len(h.Epochs) > 0 {
		parts[0] = strings.Join(h.Epochs, " | ")
	}
	for _, qtype := range replaced() {
		if v := h.Records[qtype]; len(v) > 0 {
			parts = append(parts, mdns.TypeToString[qtype]+" "+strings.Join(v, ","))
		}
	}
	return strings.Join(parts, " ")
}

// replaced are the types of a name that a change replaces.
func replaced() []uint16 { return []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeCNAME} }

// decision is what the epoch's record tells: zero if there is none.
func (h Held) decision(name string) (Decision, error) {
	switch {
	case h.Foreign != nil:
		return Decision{}, h.Foreign
	case len(h.Epochs) == 0:
		return Decision{}, nil
	case len(h.Epochs) > 1:
		return Decision{}, fmt.Errorf("%d texts at %s, want one: %w; leave the one with the highest epoch", len(h.Epochs), EpochName(name), ErrForeign)
	}
	d, err := ParseEpochText(h.Epochs[0])
	if err != nil {
		return Decision{}, fmt.Errorf("at %s: %w: %w; remove the record", EpochName(name), ErrForeign, err)
	}
	return d, nil
}

// look sets what the service holds beside what it should.
func (h Held) look(x Expected) Look {
	if _, err := h.decision(x.Name); err != nil {
		return Look{State: Differs, Text: err.Error()}
	}
	types := replaced()
	got := make([][]string, len(types))
	looks := make([]Look, len(types))
	for i, qtype := range types {
		got[i], looks[i] = h.Records[qtype], Look{State: Agrees}
	}
	return x.judge(h.Epochs, types, got, looks)
}

// Change is what is to stand at a name: the whole target, and the epoch's
// text.
type Change struct {
	Name   Name
	Target Target
	Epoch  string
}

// Send makes one request that changes something, if it may be made now. Its
// context bounds it.
type Send func(ctx context.Context, request func(context.Context) error) error

// Store is a zone at a DNS service, by the service's own interface. Its errors
// are ServiceError's, or wrap one. Its methods may be called by several
// goroutines.
type Store interface {
	// Read returns what stands at the name. What could not be read is an
	// error, never an absence.
	Read(ctx context.Context, n Name) (Held, error)
	// Replace makes what was read what is to be, by requests that each go
	// through send, and returns the service's reference to the change. It
	// never leaves the name without an address in between, as far as the
	// service can tell. With runbook.Strong it changes all at once, and
	// nothing unless the epoch's record is what was read.
	Replace(ctx context.Context, send Send, was Held, to Change) (ref string, err error)
	// Settled tells what has not reached the service's servers yet, by its own
	// account; empty if all has, or if it does not say. ref is of the last
	// Replace here, or empty.
	Settled(ctx context.Context, n Name, ref string) (pending string, err error)
}

// HostedConfig describes the effect on a zone at a DNS service.
type HostedConfig struct {
	Zone          string // fully qualified
	Names         []Name // by service, each once, in the zone
	Store         Store
	CompareAndSet runbook.CompareAndSet // strong or none
	// Gate is what requests go through where the service compares nothing; nil
	// where it does.
	Gate *Gate
	// Authorities are the zone's servers as users' resolvers reach them.
	Authorities []Server
	// Request bounds one request. Default DefaultRequest.
	Request time.Duration
	// Timeout bounds one query by DNS, each tried by UDP and then TCP. Default
	// DefaultTimeout.
	Timeout time.Duration
	// Lag is how long Done waits for the service's servers when the service
	// has the records. Default DefaultLag.
	Lag time.Duration
}

// Hosted is the effect of moving names at a DNS service.
type Hosted struct {
	cfg       HostedConfig
	names     Book
	released  runbook.Released
	sightings Sightings

	mu   sync.Mutex
	refs map[draas.ServiceID]reference
}

type reference struct {
	token runbook.Token
	ref   string
}

var _ runbook.Effect = (*Hosted)(nil)

// NewHosted validates the configuration and returns the effect.
func NewHosted(cfg HostedConfig) (*Hosted, error) {
	for into, value := range map[*time.Duration]time.Duration{
		&cfg.Request: DefaultRequest, &cfg.Timeout: DefaultTimeout, &cfg.Lag: DefaultLag} {
		if *into == 0 {
			*into = value
		}
	}
	h := &Hosted{cfg: cfg, refs: make(map[draas.ServiceID]reference)}
	var errs []error
	if err := ValidName(cfg.Zone); err != nil {
		errs = append(errs, fmt.Errorf("zone: %w", err))
	}
	if cfg.Store == nil || cfg.Request < 0 || cfg.Timeout < 0 || cfg.Lag < 0 {
		errs = append(errs, errors.New("want a store, and no negative time"))
	}
	switch cfg.CompareAndSet {
	case runbook.Strong, runbook.None:
		if (cfg.CompareAndSet == runbook.None) != (cfg.Gate != nil) {
			errs = append(errs, errors.New("want a gate where the service compares nothing, and only there"))
		}
	default:
		errs = append(errs, fmt.Errorf("compare-and-set %q", cfg.CompareAndSet))
	}
	errs = append(errs, validAuthorities(cfg.Authorities)...)
	var err error
	if h.names, err = NewZoneBook(cfg.Zone, cfg.Names); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("hosted dns effect: %w", err)
	}
	return h, nil
}

func validAuthorities(servers []Server) []error {
	var errs []error
	if len(servers) == 0 {
		errs = append(errs, errors.New("no authorities: a service's word alone does not tell what users get"))
	}
	seen := make(map[string]bool)
	for _, s := range servers {
		if _, _, err := net.SplitHostPort(s.Address); err != nil {
			errs = append(errs, fmt.Errorf("authority: %w", err))
		}
		if seen[s.Address] {
			errs = append(errs, fmt.Errorf("authority %s twice", s.Address))
		}
		seen[s.Address] = true
	}
	return errs
}

// doLimit bounds Do: the records are read, changed and read back, with a
// request's time more for what is throttled or fails and is tried again; where
// there is a gate, for each of the names that may be before it too.
func (h *Hosted) doLimit() time.Duration {
	one := 4 * h.cfg.Request
	if h.cfg.Gate == nil {
		return one
	}
	return h.cfg.Gate.Worst() + time.Duration(len(h.cfg.Names))*one
}

// Promise is what the store's service guarantees.
func (h *Hosted) Promise() runbook.Promise {
	// Done: the service, then the authorities, at the beginning and once more
	// at the end of the lag.
	done := h.cfg.Request + h.cfg.Lag + max(2*h.expected(runbook.Op{}, Target{}).Worst(), h.cfg.Request)
	return runbook.Promise{CompareAndSet: h.cfg.CompareAndSet, Worst: h.doLimit() + done}
}

// Release records that the token is given up. The records stay: they are never
// taken away, and only a later epoch replaces them.
func (h *Hosted) Release(_ context.Context, op runbook.Op) error {
	h.released.Add(op)
	return nil
}

// Do brings the operation's records and epoch to the service.
func (h *Hosted) Do(ctx context.Context, op runbook.Op) error {
	if op.Token.Epoch == 0 {
		return errors.New("epoch 0 names no activation")
	}
	target, err := h.names.Target(op)
	if err != nil {
		return err
	}
	if h.released.Has(op) {
		return fmt.Errorf("move to %v: %w", op.Token, runbook.ErrReleased)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("move to %v: %w", op.Token, err)
	}
	ctx, cancel := context.WithTimeout(ctx, h.doLimit())
	defer cancel()
	m := &mover{Hosted: h, op: op, name: h.names[op.Service], target: target}
	if err := m.run(ctx); err != nil {
		return fmt.Errorf("move %s to %v: %w", m.name.Name, op.Token, err)
	}
	return nil
}

func (h *Hosted) expected(op runbook.Op, target Target) Expected {
	return Expected{Zone: h.cfg.Zone, Name: h.names[op.Service].Name, Target: target, Timeout: h.cfg.Timeout,
		Decision: Decision{Token: op.Token, Site: op.To}}
}

// read asks the service what stands at the name, once.
func (h *Hosted) read(ctx context.Context, n Name) (Held, error) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Request)
	defer cancel()
	held, err := h.cfg.Store.Read(ctx, n)
	if err != nil {
		return Held{}, fmt.Errorf("read %s: %w: %w", n.Name, ErrLookup, err)
	}
	return held, nil
}

// noteRef remembers the service's reference to a change.
func (h *Hosted) noteRef(op runbook.Op, ref string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refs[op.Service] = reference{op.Token, ref}
}

// refOf is the reference to the change of the operation; empty if this
// executor made none.
func (h *Hosted) refOf(op runbook.Op) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.refs[op.Service]; r.token == op.Token {
		return r.ref
	}
	return ""
}
