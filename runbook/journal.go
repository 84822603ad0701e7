package runbook

import (
	"fmt"
	"maps"
	"strings"

	"github.com/draasd/draas"
)

// Outcome is how an attempt at a step ended, as recorded in the log.
type Outcome string

// The outcomes.
const (
	OutcomeDone     Outcome = "done"     // observed in force
	OutcomeFailed   Outcome = "failed"   // observed not in force: due again
	OutcomeUnknown  Outcome = "unknown"  // could not be observed: due again
	OutcomeRefused  Outcome = "refused"  // a later epoch is known: the plan is over
	OutcomeReleased Outcome = "released" // given up for good
)

func (o Outcome) valid() bool {
	switch o {
	case OutcomeDone, OutcomeFailed, OutcomeUnknown, OutcomeRefused, OutcomeReleased:
		return true
	}
	return false
}

// rank orders outcomes: a step's outcome only rises, whatever order records
// of overlapping attempts arrive in. Failed and unknown attempts are equal:
// the latest counts.
func (o Outcome) rank() int {
	switch o {
	case OutcomeDone:
		return 1
	case OutcomeRefused:
		return 2
	case OutcomeReleased:
		return 3
	}
	return 0
}

// Record reports one attempt at a step to the replicated log.
type Record struct {
	Service  draas.ServiceID `json:"service"`
	Move     Token           `json:"move"`
	Step     string          `json:"step"`
	Member   draas.MemberID  `json:"member"`
	Outcome  Outcome         `json:"outcome"`
	Evidence string          `json:"evidence,omitempty"`
}

// Entry is what the journal keeps of a step.
type Entry struct {
	Outcome  Outcome `json:"outcome"`
	Attempts int     `json:"attempts"`       // records seen
	WasDone  bool    `json:"done,omitempty"` // observed in force at some time
	Evidence string  `json:"evidence,omitempty"`
}

// Journal holds, for one plan, what became of its steps, by step name. It
// keeps one entry a step however often a step is retried. The nil Journal is
// empty.
type Journal map[string]Entry

// Add returns the journal with a record applied; the receiver is unchanged.
// A record that is not of this plan is refused. It is deterministic: every
// member that applies the same log has the same journal.
func (j Journal) Add(p Plan, r Record) (Journal, error) {
	s, ok := p.Step(r.Step)
	switch {
	case r.Service != p.Service || r.Move != p.Move:
		return j, fmt.Errorf("record of %s %v is not of the plan of %s %v", r.Service, r.Move, p.Service, p.Move)
	case !ok:
		return j, fmt.Errorf("record of step %q: no such step in the plan", r.Step)
	case r.Member != s.Member:
		return j, fmt.Errorf("record of step %q by %q: its executor is %q", r.Step, r.Member, s.Member)
	case !r.Outcome.valid():
		return j, fmt.Errorf("record of step %q: outcome %q is not known", r.Step, r.Outcome)
	}
	old := j[r.Step]
	entry := old
	entry.Attempts++
	entry.WasDone = old.WasDone || r.Outcome == OutcomeDone
	if old.Attempts == 0 || r.Outcome.rank() >= old.Outcome.rank() {
		entry.Outcome, entry.Evidence = r.Outcome, clip(r.Evidence)
	}
	next := maps.Clone(j)
	if next == nil {
		next = Journal{}
	}
	next[r.Step] = entry
	return next, nil
}

// clip bounds evidence to MaxEvidence bytes of valid UTF-8.
func clip(s string) string {
	if len(s) > MaxEvidence {
		s = s[:MaxEvidence]
	}
	return strings.ToValidUTF8(s, "")
}

// Status says where a plan stands.
type Status string

// The states of a plan.
const (
	Running  Status = "running"  // steps are due, or wait for ones that are
	Finished Status = "finished" // every step is done
	Over     Status = "over"     // a step was refused or released: only Releases remain
)

// Due is a step to be run now by its member.
type Due struct {
	Step Step
	Op   Op
	// Attempt counts from 1. The caller decides how long to wait before an
	// attempt above 1.
	Attempt int
}

// Progress is what Next found.
type Progress struct {
	Status Status
	Due    []Due    // in plan order; only while Running
	Done   []string // in plan order
	// Why names the step that ended the plan when Status is Over.
	Why string
}

// Next says which steps are due, for which member. It is a function of the
// plan and the journal alone, so that whoever leads after a crash goes on
// where the log ends. A step whose attempt was never recorded is due again:
// RunStep finds out what became of it. The plan must be valid.
func Next(p Plan, j Journal) Progress {
	var pr Progress
	done := make(map[string]bool, len(j))
	for name, e := range j {
		done[name] = e.Outcome == OutcomeDone
	}
	for _, s := range p.Steps {
		switch j[s.Name].Outcome {
		case OutcomeDone:
			pr.Done = append(pr.Done, s.Name)
		case OutcomeRefused, OutcomeReleased:
			pr.Status = Over
			if pr.Why == "" {
				pr.Why = fmt.Sprintf("step %q: %s", s.Name, j[s.Name].Outcome)
			}
		default:
			if all(s.After, done) {
				pr.Due = append(pr.Due, p.due(s, j))
			}
		}
	}
	switch {
	case pr.Status == Over:
		pr.Due = nil
	case len(pr.Done) == len(p.Steps):
		pr.Status = Finished
	default:
		pr.Status = Running
	}
	return pr
}

// Releases says which steps of a plan that is given up, or that a later epoch
// has replaced, are to be released now. Every step that may have been started
// is released, recorded or not, and those that were built on others first.
// It returns none when all are.
func Releases(p Plan, j Journal) []Due {
	wasDone := make(map[string]bool, len(j))
	for name, e := range j {
		wasDone[name] = e.WasDone
	}
	started := make(map[string]bool)
	waits := make(map[string]bool) // something that needs it is not released yet
	for _, s := range p.Steps {
		e, recorded := j[s.Name]
		if e.Outcome == OutcomeReleased || !recorded && !all(s.After, wasDone) {
			continue
		}
		started[s.Name] = true
		for _, dep := range s.After {
			waits[dep] = true
		}
	}
	var due []Due
	for _, s := range p.Steps {
		if started[s.Name] && !waits[s.Name] {
			due = append(due, p.due(s, j))
		}
	}
	return due
}

func (p Plan) due(s Step, j Journal) Due {
	return Due{Step: s, Op: p.Op(s), Attempt: j[s.Name].Attempts + 1}
}
