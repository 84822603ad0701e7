package failover

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/draasd/draas"
)

// FindingCode names what was found.
type FindingCode string

// What can be found of what a step of a move has made, after the move.
const (
	FoundChanged  FindingCode = "changed"  // somebody or something else changed it
	FoundRepaired FindingCode = "repaired" // it was put right
	FoundRefused  FindingCode = "refused"  // it was not put right, so as not to fight over it
	FoundUnknown  FindingCode = "unknown"  // for long it could not be looked at
	FoundRestored FindingCode = "restored" // it is as decided again, not by us
)

// Finding is what a member found, and did, while it looked after a user path
// between moves.
type Finding struct {
	Service draas.ServiceID `json:"service"` // the unit of decision
	Epoch   draas.Epoch     `json:"epoch"`   // that was in force
	Step    string          `json:"step"`    // that made what was looked at
	Code    FindingCode     `json:"code"`
	Text    string          `json:"text,omitempty"` // what was seen, for people
}

// Bounds of findings.
const (
	maxFindingText  = 400 // octets
	maxFindingSteps = 64  // of a unit, of which the last finding is remembered
	maxFindingQueue = 32  // waiting to be proposed by one member
)

// bounded cuts what came from outside to what a history can hold.
func (f Finding) bounded() Finding {
	f.Text = strings.ToValidUTF8(f.Text, "?")
	if len(f.Text) > maxFindingText {
		cut := maxFindingText - len("...")
		for !utf8.RuneStart(f.Text[cut]) {
			cut--
		}
		f.Text = f.Text[:cut] + "..."
	}
	return f
}

// finding takes what a member found of the epoch in force. The same of the same
// step is told once, until something else is found of it.
func (s *step) finding() {
	f := s.e.Finding
	if f == nil || f.Step == "" || f.Code == "" {
		return
	}
	sv := s.service(f.Service)
	if _, has := s.s.Policy.Services[f.Service]; sv == nil || !has || sv.Epoch != f.Epoch || sv.Findings[f.Step] == f.Code {
		return
	}
	if _, known := sv.Findings[f.Step]; !known && len(sv.Findings) >= maxFindingSteps {
		return
	}
	if sv.Findings == nil {
		sv.Findings = make(map[string]FindingCode)
	}
	sv.Findings[f.Step] = f.Code
	s.record(Record{Kind: RecordFinding, Service: f.Service, Member: s.e.By, Phase: sv.Phase, Epoch: sv.Epoch, Text: f.bounded().inWords()})
}

// inWords is a finding as a line of history.
func (f Finding) inWords() string {
	text := map[FindingCode]string{
		FoundChanged:  "users are not led as decided",
		FoundRepaired: "users were not led as decided: it was put right",
		FoundRefused:  "users are not led as decided, and it is not put right any more",
		FoundUnknown:  "it is not known whether users are led as decided",
		FoundRestored: "users are led as decided again",
	}[f.Code]
	if text == "" {
		text = string(f.Code)
	}
	text = fmt.Sprintf("%s (%s)", text, f.Step)
	if f.Text != "" {
		text += ": " + f.Text
	}
	return text
}

// Find tells the log of a finding, as soon as all members know what that is. It
// is dropped when its epoch is over before.
func (a *Agent) Find(f Finding) {
	if len(a.findings) >= maxFindingQueue {
		a.findings = slices.Delete(a.findings, 0, 1) // the oldest matters least
	}
	a.findings, a.fresh = append(a.findings, f.bounded()), true
}

// proposeFindings tells of the oldest finding that still counts: one after the
// other, so that they stand in the log in their order.
func (a *Agent) proposeFindings(c *Commands, now draas.Reading) {
	a.findings = slices.DeleteFunc(a.findings, func(f Finding) bool {
		sv := a.state.Services[f.Service]
		_, has := a.state.Policy.Services[f.Service]
		return sv == nil || !has || f.Epoch < sv.Epoch
	})
	if a.state.Version < 3 || len(a.findings) == 0 || a.findings[0].Epoch > a.state.Services[a.findings[0].Service].Epoch {
		return
	}
	f := a.findings[0]
	a.propose(c, fmt.Sprintf("finding %s %d %s %s", f.Service, f.Epoch, f.Step, f.Code), now, func() Event {
		e := a.event(EventFinding, now)
		e.Finding = &f
		return e
	})
}

// found: a finding of ours stands in the log.
func (a *Agent) found(e Event) {
	if e.Finding != nil && len(a.findings) > 0 && a.findings[0] == *e.Finding {
		a.findings = slices.Delete(a.findings, 0, 1)
	}
}
