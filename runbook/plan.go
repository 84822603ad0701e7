// Package runbook holds the ordered steps of a move as data, the contract of
// the effects that carry the steps out, and the rules by which a plan is
// resumed after a crash at any point.
//
// It is pure: no network, files, goroutines or clock. A plan and its journal
// live in the replicated log; whoever leads asks Next which steps are due, and
// the member named in a step runs it with RunStep and reports the result to
// the log. What an effect touches is its own package's business.
package runbook

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/draasd/draas"
)

// Kind says why a plan moves its service.
type Kind string

// The kinds of plan.
const (
	Activate   Kind = "activate"   // first activation: nobody was active
	Failover   Kind = "failover"   // unplanned move
	Switchover Kind = "switchover" // planned move without loss
	Failback   Kind = "failback"   // planned move home
	Undo       Kind = "undo"       // a new epoch that takes back an unfinished move
)

// Planned reports whether the move needs the old holder's cooperation.
func (k Kind) Planned() bool { return k == Switchover || k == Failback }

// Token orders what is decided of a service: its activations by their epoch,
// whose upper half is the cluster's generation, and where its name leads within
// one activation by the turn, which is zero until that changes.
type Token struct {
	Epoch draas.Epoch `json:"epoch"`
	Turn  uint64      `json:"turn,omitempty"`
}

// Compare is negative when t is older than u, zero when equal, positive when
// newer.
func (t Token) Compare(u Token) int {
	return cmp.Or(cmp.Compare(t.Epoch, u.Epoch), cmp.Compare(t.Turn, u.Turn))
}

func (t Token) String() string {
	if t.Turn > 0 {
		return fmt.Sprintf("epoch %s turn %d", t.Epoch, t.Turn)
	}
	return fmt.Sprintf("epoch %s", t.Epoch)
}

// Plan is one move of one service: an acyclic graph of steps.
type Plan struct {
	Service draas.ServiceID `json:"service"`
	// Move is the activation that the plan carries out: the new epoch. It
	// identifies the plan.
	Move Token        `json:"move"`
	Kind Kind         `json:"kind"`
	From draas.SiteID `json:"from,omitempty"` // empty when nobody was active
	To   draas.SiteID `json:"to"`
	// Steps are in the order in which they are shown. Only After orders
	// their execution.
	Steps []Step `json:"steps"`
}

// Step is one effect to be made by one member.
type Step struct {
	Name   string         `json:"name"`   // unique in the plan
	Effect string         `json:"effect"` // which Effect the executor uses
	Member draas.MemberID `json:"member"` // the executor
	// After names the steps that must be done before this one is due.
	After []string `json:"after,omitempty"`
	// Timeout bounds one attempt, observation included.
	Timeout time.Duration `json:"timeout_ns"`
	// Args is the effect's own business.
	Args map[string]string `json:"args,omitempty"`
}

// Bounds of a plan, so that a plan in the log stays small.
const (
	MaxSteps    = 64
	MaxAfter    = 16
	MaxName     = 64        // bytes, for every name in a plan
	MaxArgs     = 8 << 10   // bytes, keys and values of one step together
	MaxTimeout  = time.Hour // of one step
	MaxEvidence = 512       // bytes of a Record's evidence that are kept
)

// maxPlanBytes bounds what Parse reads: every step at its largest, escaped.
const maxPlanBytes = 4 << 20

// Parse reads a plan from JSON and validates it. Unknown fields are refused.
func Parse(data []byte) (Plan, error) {
	if len(data) > maxPlanBytes {
		return Plan{}, fmt.Errorf("parse plan: %d bytes, at most %d", len(data), maxPlanBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var p Plan
	if err := dec.Decode(&p); err != nil {
		return Plan{}, fmt.Errorf("parse plan: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Plan{}, errors.New("parse plan: data after the plan")
	}
	if err := p.Validate(); err != nil {
		return Plan{}, fmt.Errorf("parse plan: %w", err)
	}
	return p, nil
}

// Validate reports everything that is wrong with the plan, joined.
func (p Plan) Validate() error {
	errs := p.validateHead()
	if len(p.Steps) > MaxSteps {
		return errors.Join(append(errs, fmt.Errorf("%d steps, at most %d", len(p.Steps), MaxSteps))...)
	}
	index := make(map[string]int, len(p.Steps))
	for i, s := range p.Steps {
		if _, twice := index[s.Name]; twice {
			errs = append(errs, fmt.Errorf("step %q: named twice", s.Name))
		}
		index[s.Name] = i
	}
	for _, s := range p.Steps {
		for _, err := range s.validate(index) {
			errs = append(errs, fmt.Errorf("step %q: %w", s.Name, err))
		}
	}
	if len(errs) == 0 {
		if stuck := p.cycle(); len(stuck) > 0 {
			errs = append(errs, fmt.Errorf("steps %q wait for each other", stuck))
		}
	}
	return errors.Join(errs...)
}

func (p Plan) validateHead() (errs []error) {
	if err := validName(string(p.Service)); err != nil {
		errs = append(errs, fmt.Errorf("service: %w", err))
	}
	if p.Move.Epoch == 0 {
		errs = append(errs, errors.New("move: epoch 0 names no activation"))
	}
	if err := validName(string(p.To)); err != nil {
		errs = append(errs, fmt.Errorf("to: %w", err))
	}
	if p.From != "" {
		if err := validName(string(p.From)); err != nil {
			errs = append(errs, fmt.Errorf("from: %w", err))
		}
	}
	switch p.Kind {
	case Activate:
		if p.From != "" {
			errs = append(errs, fmt.Errorf("from: %q, but an activation comes from nowhere", p.From))
		}
	case Failover, Switchover, Failback:
		if p.From == "" || p.From == p.To {
			errs = append(errs, fmt.Errorf("from: %q, want a site other than %q", p.From, p.To))
		}
	case Undo: // takes an unfinished move back: From may be To, or nobody
	default:
		errs = append(errs, fmt.Errorf("kind: %q is not known", p.Kind))
	}
	return errs
}

func (s Step) validate(index map[string]int) (errs []error) {
	for _, n := range []struct{ what, name string }{
		{"name", s.Name}, {"effect", s.Effect}, {"member", string(s.Member)},
	} {
		if err := validName(n.name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.what, err))
		}
	}
	if s.Timeout <= 0 || s.Timeout > MaxTimeout {
		errs = append(errs, fmt.Errorf("timeout %v, want above 0 and at most %v", s.Timeout, MaxTimeout))
	}
	if len(s.After) > MaxAfter {
		errs = append(errs, fmt.Errorf("after %d steps, at most %d", len(s.After), MaxAfter))
	}
	seen := make(map[string]bool, len(s.After))
	for _, dep := range s.After {
		if _, ok := index[dep]; !ok {
			errs = append(errs, fmt.Errorf("after %q: no such step", dep))
		}
		if seen[dep] {
			errs = append(errs, fmt.Errorf("after %q: named twice", dep))
		}
		seen[dep] = true
	}
	size := 0
	for k, v := range s.Args {
		size += len(k) + len(v)
	}
	if size > MaxArgs {
		errs = append(errs, fmt.Errorf("args of %d bytes, at most %d", size, MaxArgs))
	}
	return errs
}

// validName accepts what failover.toml accepts for names, and nothing that
// could break a log line or a TXT record.
func validName(s string) error {
	if s == "" {
		return errors.New("no name")
	}
	if len(s) > MaxName {
		return fmt.Errorf("name of %d bytes, at most %d", len(s), MaxName)
	}
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return fmt.Errorf("name %q: byte %d is not printable ASCII, or a quote, backslash or space", s, i)
		}
	}
	return nil
}

// cycle returns the names of the steps that can never become due, in plan
// order (Kahn's algorithm); none when the plan is acyclic. Every dependency
// must exist.
func (p Plan) cycle() (stuck []string) {
	done := make(map[string]bool, len(p.Steps))
	for range p.Steps { // every round but the last finds a step
		for _, s := range p.Steps {
			if !done[s.Name] && all(s.After, done) {
				done[s.Name] = true
			}
		}
	}
	for _, s := range p.Steps {
		if !done[s.Name] {
			stuck = append(stuck, s.Name)
		}
	}
	return stuck
}

func all(names []string, in map[string]bool) bool {
	for _, n := range names {
		if !in[n] {
			return false
		}
	}
	return true
}

// Worst is the longest chain of timeouts through the plan: how long it takes
// when every step succeeds at its first attempt, at the last moment. The plan
// must be valid.
func (p Plan) Worst() time.Duration {
	end := make(map[string]time.Duration, len(p.Steps))
	var worst time.Duration
	for range p.Steps {
		for _, s := range p.Steps {
			var start time.Duration
			for _, dep := range s.After {
				start = max(start, end[dep])
			}
			end[s.Name] = start + s.Timeout
			worst = max(worst, end[s.Name])
		}
	}
	return worst
}

// Op is the operation of a step, as its effect sees it.
func (p Plan) Op(s Step) Op {
	return Op{Service: p.Service, Token: p.Move, Kind: p.Kind, From: p.From, To: p.To,
		Step: s.Name, Member: s.Member, Args: s.Args}
}

// Step finds a step by name.
func (p Plan) Step(name string) (Step, bool) {
	for _, s := range p.Steps {
		if s.Name == name {
			return s, true
		}
	}
	return Step{}, false
}
