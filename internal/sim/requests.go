package sim

import (
	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// request is one to a run of a member's daemon, by its ID.
type request struct {
	member, run int
	id          uint64
}

// answer is what became of a request: which entry has decided it, and whether that
// was certainly by version 3, since when it is decided once.
type answer struct {
	entry uint64 // zero: none yet
	once  bool
}

// ask is an operator at a member.
func (w *World) ask(m *member, id draas.ServiceID, site draas.SiteID, r failover.Request) {
	if !m.running() {
		w.note("an operator at %s finds no daemon", m.id)
		return
	}
	what := string(r.Move) + string(r.Ask)
	req, err := m.daemon.Request(id, site, r, m.reading())
	if err != nil {
		w.note("an operator at %s asks for %s of %s and is told: %v", m.id, what, id, err)
	} else {
		w.note("an operator at %s asks for %s of %s to %q", m.id, what, id, site)
		w.oracle.asked(m, req, id, r)
	}
	m.process()
}

// waits: an operator has asked, and it is not decided. Before version 3 a request
// could be lost. Of one that was decided a snapshot tells no more than that.
func (m *member) waits() bool {
	s := m.daemon.State()
	st := s.Members[m.id]
	return s.Version >= 3 && st != nil && st.Incarnation == m.incarnation && st.Asked < m.asked &&
		m.w.oracle.requests[request{m.index, m.run, m.asked}].entry == 0
}

// asked remembers a request that is on its way.
func (o *oracle) asked(m *member, id uint64, service draas.ServiceID, r failover.Request) {
	o.requests[request{m.index, m.run, id}] = answer{}
	m.asked = id
	if r.Vouch {
		o.unit(service).vouched = true
	}
	if r.Ask == failover.AskEnter {
		for _, t := range o.unit(service).parts {
			t.wished = true
		}
	}
}

// answered: a record of an entry that the member has proposed.
func (o *oracle) answered(m *member, s *failover.State, r *failover.Record) {
	key := request{m.index, m.run, r.ID}
	switch was, asked := o.requests[key]; {
	case !asked || was.entry == r.Index:
	case was.entry == 0:
		// The operator has the answer now: it stands in the log for good,
		// which agree holds all others to.
		o.requests[key] = answer{r.Index, s.Version >= 3 && s.Index == r.Index}
		o.w.cover.Checks["requests answered"]++
	case was.once && isAnswer(r):
		o.w.violation("section 4: a request at %s is decided twice, by the entries %d and %d: %q", m.id, was.entry, r.Index, r.Text)
	}
}

// isAnswer: it is what an operator's request has come to, and not what else has
// become due at its entry.
func isAnswer(r *failover.Record) bool {
	switch r.Kind {
	case failover.RecordPause, failover.RecordResume, failover.RecordAcknowledge, failover.RecordEntry:
		return true
	case failover.RecordDecision, failover.RecordRefusal:
		return hasReason(r, failover.ReasonOperator)
	}
	return false
}
