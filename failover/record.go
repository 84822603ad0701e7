package failover

import (
	"fmt"
	"time"

	"github.com/draasd/draas"
)

// maxHistory bounds the records kept in the state.
const maxHistory = 400

// Reason is one clause of a decision: what was looked at and whether it spoke
// for the move.
type Reason struct {
	Code string `json:"code"` // stable, for programs
	OK   bool   `json:"ok"`
	Text string `json:"text"` // for people
}

// The codes of reasons.
const (
	ReasonVantage   = "vantage"   // one vantage's verdict
	ReasonQuorum    = "vantages"  // how many domains say failed
	ReasonAutomatic = "automatic" // the service may move by itself
	ReasonFence     = "fence"     // the fence outlives its daemon
	ReasonDigest    = "config"    // all members run the same file
	ReasonHold      = "hold"      // a completed move holds others off
	ReasonTarget    = "target"    // a site that can take over
	ReasonStatic    = "static"    // everything looks dead
	ReasonOperator  = "operator"  // somebody asked
	ReasonPhase     = "phase"     // where the service stands
	ReasonEpoch     = "epoch"     // the request's view is current
	ReasonPlanned   = "handover"  // the old holder can hand over
	ReasonPermit    = "permit"    // the old permit is over

	ReasonPause   = "pause"        // somebody paused automatic moves
	ReasonOutage  = "least_outage" // too short an outage to be worth a move
	ReasonRestart = "restart"      // a restart would be cheaper
	ReasonFlaps   = "flaps"        // the target's service keeps failing
	ReasonLoss    = "data_loss"    // how far the target's copy is behind
	ReasonProof   = "proof"        // what shows that the old site does not serve

	ReasonWay = "way" // whether users can enter at a site
)

// RecordKind tells records apart.
type RecordKind string

// The kinds of record.
const (
	RecordPhase    RecordKind = "phase"    // the service entered a phase
	RecordDecision RecordKind = "decision" // a move begins, with its reasons
	RecordRefusal  RecordKind = "refusal"  // a move was wanted and not made
	RecordDone     RecordKind = "done"     // a move ended
	RecordMember   RecordKind = "member"   // a daemon started or was replaced
	RecordPolicy   RecordKind = "policy"   // the rules changed

	RecordPause       RecordKind = "pause"       // automatic moves are paused
	RecordResume      RecordKind = "resume"      // they are not any more
	RecordAcknowledge RecordKind = "acknowledge" // somebody knows of the last moves
	RecordFlaps       RecordKind = "flaps"       // a site's service keeps failing
	RecordCluster     RecordKind = "cluster"     // a new version or generation is in force

	RecordEntry   RecordKind = "entry"   // a service's name leads to another site's frontends
	RecordFinding RecordKind = "finding" // what was found of a user path between moves
)

// Record is one line of history: every decision and every refusal leaves one.
type Record struct {
	Index   uint64          `json:"index"`
	At      time.Time       `json:"at"`
	Kind    RecordKind      `json:"kind"`
	Service draas.ServiceID `json:"service,omitempty"`
	Member  draas.MemberID  `json:"member,omitempty"`
	Phase   Phase           `json:"phase,omitempty"`
	Epoch   draas.Epoch     `json:"epoch,omitempty"`
	Text    string          `json:"text"`
	Reasons []Reason        `json:"reasons,omitempty"`
	Move    *Move           `json:"move,omitempty"` // of RecordDone
	// By and ID name the event that caused it: a requester finds the answer
	// to its own request.
	By draas.MemberID `json:"by,omitempty"`
	ID uint64         `json:"id,omitempty"`
}

func (s *step) record(r Record) {
	r.Index, r.At = s.e.Index, s.e.At
	r.By, r.ID = s.e.By, s.e.ID
	s.s.remember(r)
	s.actions = append(s.actions, Action{Kind: ActionRecord, Service: r.Service, Record: &r})
}

// remember adds a line to the history. States before this one do not see it:
// they end before it, and one from which another line was added goes on in an
// array of its own.
func (s *State) remember(r Record) {
	h := s.History
	if len(h) >= maxHistory {
		h, s.used = h[len(h)-maxHistory/2:], nil
	}
	if s.used == nil || *s.used != len(h) || len(h) == cap(h) {
		h = append(make([]Record, 0, max(2*len(h), 16)), h...)
		s.used = new(len(h))
	}
	s.History = append(h, r)
	*s.used++
}

func ok(code, format string, args ...any) Reason {
	return Reason{Code: code, OK: true, Text: fmt.Sprintf(format, args...)}
}

func no(code, format string, args ...any) Reason {
	return Reason{Code: code, Text: fmt.Sprintf(format, args...)}
}

// allOK reports whether every clause that is not a single vantage's verdict
// speaks for the move; vantages are counted together by their own clause.
func allOK(reasons []Reason) bool {
	for _, r := range reasons {
		if !r.OK && r.Code != ReasonVantage {
			return false
		}
	}
	return true
}
