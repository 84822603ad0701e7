package measure

import (
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/rto"
)

// Daemon is what draasd says of the moves in a run, on the tester's clock.
type Daemon struct {
	Cluster string          `json:"cluster,omitempty"`
	Service draas.ServiceID `json:"service,omitempty"`
	// Problem says why the moves are not known, or not all of them.
	Problem string        `json:"problem,omitempty"`
	Members []MemberClock `json:"members"`
	Moves   []Move        `json:"moves"` // in order of time
}

// MemberClock is how far a member's clock is from the tester's.
type MemberClock struct {
	Member draas.MemberID `json:"member"`
	// Known says that it could be asked; else Problem why not.
	Known   bool   `json:"known"`
	Problem string `json:"problem,omitempty"`
	// Offset is the member's clock minus the tester's, give or take Error:
	// half of the shortest round trip.
	Offset  Millis `json:"offset_ms"`
	Error   Millis `json:"error_ms"`
	Samples int    `json:"samples"`
}

// Move is one move of the service.
type Move struct {
	Kind     string       `json:"kind"`
	From     draas.SiteID `json:"from,omitempty"`
	To       draas.SiteID `json:"to"`
	Epoch    draas.Epoch  `json:"epoch"`
	Operator string       `json:"operator,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	// Evidence is why the old site surely did not serve any more.
	Evidence string `json:"evidence,omitempty"`
	Complete bool   `json:"complete"`
	Turns    []Turn `json:"turns"` // in the order in which they have to come
	Steps    []Step `json:"steps,omitempty"`
	// Loss is what it has cost of the copy of the old site's cloud; null where
	// nothing is copied, and where it was not told in time.
	Loss *Loss `json:"expected_loss,omitempty"`
}

// Loss is the expected loss of a move (RPO), as the member that took over has
// told draasd's history: nothing here has measured it.
type Loss struct {
	From draas.SiteID `json:"from"` // whose cloud is copied
	// Known says that the copy's age was known; else the rest says nothing.
	Known bool `json:"known"`
	// Behind is since when what was changed at the old site may be lost, counted
	// up to when it was first suspected.
	Behind Millis `json:"behind_ms"`
	// Objects and Bytes are the least that is lost: what the last look before the
	// move found missing, as exact as the words of Text are.
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
	// Text is how it stands in the history, told By a member.
	Text string         `json:"text"`
	By   draas.MemberID `json:"by,omitempty"`
}

// Turn is a turning point of a move.
type Turn struct {
	Name string `json:"name"` // suspected, failed, decided, released, activated, redirected, verified
	// Part is the part of a downtime that ends there; empty for verified.
	Part string    `json:"part,omitempty"`
	At   time.Time `json:"at"` // on the tester's clock
	// By is the member whose clock said so, and Error how far that may be off.
	// When its clock is not known, Shifted is false and At is its own.
	By      draas.MemberID `json:"by,omitempty"`
	Shifted bool           `json:"shifted"`
	Error   Millis         `json:"error_ms"`
}

// Step is what became of one step of a move.
type Step struct {
	Name     string `json:"name"`
	Outcome  string `json:"outcome"`
	Attempts int    `json:"attempts"`
	Evidence string `json:"evidence,omitempty"`
}

// Part is a part of a downtime. They follow each other and add up.
type Part struct {
	Name   string    `json:"part"` // detect, agree, confirm, fence, release, activate, act, propagate
	From   time.Time `json:"from"`
	Length Millis    `json:"length_ms"`
}

// Propagate is the last part of a downtime: users are being sent to the new
// site, and have not all got there.
const Propagate = "propagate"

// Join puts the daemon's moves beside what clients saw: each client's first
// outage is divided by the move that it fell into.
func (r *Report) Join(d *Daemon) {
	r.Daemon = d
	for _, k := range r.order() {
		o := r.Clients[k]
		o.Parts, o.Loss = nil, nil
		if len(o.Outages) == 0 {
			continue
		}
		if m := MoveOf(d.Moves, o.Outages[0]); m != nil {
			o.Parts, o.Loss = partsOf(o.Outages[0], m), m.Loss
		}
	}
	if o := r.Clients[r.Client]; o != nil {
		r.Parts, r.Loss = o.Parts, o.Loss
	}
}

// MoveOf is the move that an outage fell into: the first that was decided
// before its end and had activated the site that ended it, else the first that
// was under way in it.
func MoveOf(moves []Move, o Outage) *Move {
	var first *Move
	for i := range moves {
		m := &moves[i]
		begun, ended := m.Span()
		if begun.IsZero() || begun.After(o.To) || m.Complete && ended.Before(o.From) {
			continue
		}
		if m.To == o.Site && o.Recovered {
			return m
		}
		if first == nil {
			first = m
		}
	}
	return first
}

// Span is from the first to the last turning point.
func (m *Move) Span() (from, to time.Time) {
	for _, t := range m.Turns {
		if from.IsZero() || t.At.Before(from) {
			from = t.At
		}
		if t.At.After(to) {
			to = t.At
		}
	}
	return from, to
}

func partsOf(o Outage, m *Move) []Part {
	var turns []rto.Turn
	for _, t := range m.Turns {
		if t.Part != "" {
			turns = append(turns, rto.Turn{Part: t.Part, At: t.At.Sub(o.From)})
		}
	}
	var out []Part
	for _, p := range rto.Divide(rto.Span{To: o.To.Sub(o.From)}, turns, Propagate) {
		out = append(out, Part{Name: p.Name, From: o.From.Add(p.From), Length: Millis(p.Len())})
	}
	return out
}
