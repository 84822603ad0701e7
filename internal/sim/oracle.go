package sim

import (
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/runbook"
)

// oracle holds what happens against the rules of DESIGN.md, section 3. It
// knows the whole cluster and true time, and shares no code with the decision:
// where it has to judge, it does so by a few lines of its own.
type oracle struct {
	w *World
	// What the first member that applied an entry made of it, by index: the
	// state after it, and the history that it wrote. Zero: nobody yet.
	states, records []uint64
	units           map[draas.ServiceID]*unit
	tokens          map[string]runbook.Token // last seen at a receiver, by effect and unit
	requests        map[request]answer
	dual            bool                // two sites serve: said once until it is over
	heard           map[string]hearings // by frontend
}

// unit is what the oracle knows of one unit of decision.
type unit struct {
	policy  failover.ServicePolicy
	epochs  map[draas.Epoch]draas.SiteID // who was granted what
	highest draas.Epoch
	phase   failover.Phase
	suspect time.Duration // since when it is suspect or worse
	moving  bool          // a move was decided and is not complete
	wished  bool          // the move was an operator's
	// done is when the last unplanned move was complete, and hold what it
	// holds off, unacknowledged how many automatic ones nobody knows of.
	done, hold     time.Duration
	unacknowledged int
	paused         bool
	vouched        bool // somebody said that the old site does not serve
	parts          []*partTruth
}

// partTruth is what is true of a part that users reach.
type partTruth struct {
	*part
	failed map[draas.Epoch]uint64 // members that told of a failure of the epoch's site, as bits
	// Of a hybrid: where its users enter by each token, the latest and since
	// when, what its name leads by, and whether somebody asked for an entry.
	entries    map[runbook.Token]draas.SiteID
	entry, led runbook.Token
	since      time.Duration
	wished     bool
	own        uint64 // members that told of a failure of their own site
	guards     []seal
}

// seal is what a guard has taken: since the machine's boot.
type seal struct {
	boot             int
	accepted, closed draas.Epoch
}

func newOracle(w *World) *oracle {
	return &oracle{w: w, units: make(map[draas.ServiceID]*unit), tokens: make(map[string]runbook.Token), requests: make(map[request]answer),
		heard: make(map[string]hearings)}
}

func (o *oracle) unit(id draas.ServiceID) *unit {
	u := o.units[id]
	if u != nil {
		return u
	}
	u = &unit{policy: o.w.p.Policy.Services[id], epochs: make(map[draas.Epoch]draas.SiteID), phase: failover.PhaseInactive}
	for _, p := range o.w.parts {
		if p.unit == id {
			u.parts = append(u.parts, &partTruth{part: p, failed: make(map[draas.Epoch]uint64), entries: make(map[runbook.Token]draas.SiteID), guards: make([]seal, len(o.w.p.Machines)+1)})
		}
	}
	o.units[id] = u
	return u
}

func (o *oracle) truth(p *part) *partTruth {
	for _, t := range o.unit(p.unit).parts {
		if t.part == p {
			return t
		}
	}
	return nil
}

// phases lists where the units stand.
func (o *oracle) phases() []failover.Phase {
	var out []failover.Phase
	for _, id := range o.w.units {
		out = append(out, o.unit(id).phase)
	}
	return out
}

// instant is rule 1: at no instant do two sites serve.
func (o *oracle) instant() {
	dual := false
	for _, p := range o.w.parts {
		if o.w.shared(p) && !o.unit(p.unit).vouched {
			dual = true
			if !o.dual {
				o.w.violation("rule 1: two sites serve %s", p.id)
			}
		}
	}
	o.dual = dual
}

// shared: two sites serve the part. It looks first where it was closed the
// last time: with that closed still, the other of two need not be looked at.
func (w *World) shared(p *part) bool {
	first, all := p.first, len(w.sites)
	may := all // be open
	for i := range all {
		n := (first + i) % all
		if w.sites[n].open(p) {
			continue
		}
		p.first = n
		if may--; may < 2 {
			return false
		}
	}
	return may > 1
}

// told: a member's monitor has seen something, and said so to its daemon.
func (o *oracle) told(m *member, x failover.Observation) {
	if o.w.telling {
		o.w.note("%s sees %s%s%s%s %s", m.id, x.Peer, x.Service, x.Frontend, at(x.Site), x.Verdict)
	}
	if x.Frontend != "" {
		h := o.heard[x.Frontend]
		switch x.Verdict {
		case draas.Failed:
			h.failed |= 1 << m.seat
		case draas.Healthy:
			h.healthy |= 1 << m.seat
		}
		o.heard[x.Frontend] = h
		return
	}
	if x.Service == "" || x.Verdict != draas.Failed {
		return
	}
	t := o.truth(o.w.part(x.Service))
	if x.Site.Member() == m.id {
		t.own |= 1 << m.seat
	} else {
		t.failed[x.Epoch] |= 1 << m.seat
	}
}

func at(s draas.SiteID) string {
	if s == "" {
		return ""
	}
	return " at " + string(s)
}

// extended: a guard has opened a part or keeps it open.
func (o *oracle) extended(m *member, p *part, x failover.Extend, now draas.Reading) {
	u, t := o.unit(p.unit), o.truth(p)
	g := &t.guards[m.index]
	if g.boot != m.boot {
		*g = seal{boot: m.boot}
	}
	if site, granted := u.epochs[x.Epoch]; !granted || site.Member() != m.id {
		o.w.violation("rule 2: %s opens %s under epoch %s, which the log has given to %q", m.id, p.id, x.Epoch, site)
	}
	if x.Epoch < g.accepted {
		o.w.violation("rule 3: the guard of %s takes epoch %s of %s after %s", m.id, x.Epoch, p.id, g.accepted)
	}
	if x.Epoch <= g.closed {
		o.w.violation("rule 3: the guard of %s opens epoch %s of %s, which it had closed for good", m.id, x.Epoch, p.id)
	}
	if left, hold := x.Deadline.Boot-now.Boot, u.policy.Lease.Hold(); left > hold {
		o.w.violation("section 4: %s opens %s for %v, its lease holds %v", m.id, p.id, left, hold)
	}
	g.accepted = max(g.accepted, x.Epoch)
}

// closed: a guard has closed a part for good, up to an epoch.
func (o *oracle) closed(m *member, p *part, epoch draas.Epoch) {
	g := &o.truth(p).guards[m.index]
	if g.boot != m.boot {
		*g = seal{boot: m.boot}
	}
	g.closed = max(g.closed, epoch)
}

// answers: a member's DNS authority answers for a part, within one run.
func (o *oracle) answers(m *member, p *part, site draas.SiteID, epoch draas.Epoch) {
	was := m.dns[p.index]
	switch {
	case site == "" && was > 0:
		o.w.violation("rule 4: %s answers nothing for %s any more, after epoch %s", m.id, p.id, was)
	case epoch < was:
		o.w.violation("rule 3: %s answers epoch %s of %s after %s", m.id, epoch, p.id, was)
	case site != "" && o.unit(p.unit).epochs[epoch] != site:
		o.w.violation("rule 3: %s answers %s for epoch %s of %s, which is %q's", m.id, site, epoch, p.id, o.unit(p.unit).epochs[epoch])
	}
}

// receivers: what effects act on never goes back to an older epoch, and takes
// none that was not granted.
func (o *oracle) receivers() {
	for effect, r := range o.w.receivers {
		if effect == nameEffect {
			continue
		}
		for _, id := range o.w.units {
			site, token := r.Active(id)
			if token.Epoch == 0 {
				continue
			}
			key := effect + "/" + string(id)
			if was := o.tokens[key]; token.Compare(was) < 0 {
				o.w.violation("rule 3: effect %s of %s goes from %v back to %v", effect, id, was, token)
			}
			o.tokens[key] = token
			if o.unit(id).epochs[token.Epoch] != site {
				o.w.violation("rule 3: effect %s has %s at %s under %v, which is %q's", effect, id, site, token, o.unit(id).epochs[token.Epoch])
			}
		}
	}
}

// applied takes what a daemon's turn has applied.
func (o *oracle) applied(m *member, out quorum.Output) {
	if !out.Changed {
		return
	}
	s := m.daemon.State()
	o.w.mix(s.Index)
	o.grants(m, &s)
	o.history(m, &s, out.Actions)
	o.agree(&o.states, s.Index, digest(&s), m, "reaches another state")
}

// agree compares what members make of the same entry.
func (o *oracle) agree(all *[]uint64, index, hash uint64, m *member, what string) {
	for uint64(len(*all)) <= index {
		*all = append(*all, 0)
	}
	switch was := (*all)[index]; {
	case was == 0:
		(*all)[index] = hash
	case was != hash:
		o.w.violation("section 4: %s %s at entry %d than others before", m.id, what, index)
	}
}

// grants: each epoch has one site, epochs grow, and when one is granted no
// other site serves any more.
func (o *oracle) grants(m *member, s *failover.State) {
	for _, id := range o.w.units {
		sv := s.Services[id]
		if sv == nil || sv.Epoch == 0 || sv.Active == "" {
			continue
		}
		o.entries(m, s, id)
		u := o.unit(id)
		site, known := u.epochs[sv.Epoch]
		if known {
			if site != sv.Active {
				o.w.violation("section 4: epoch %s of %s was given to %s, and %s has it at %s", sv.Epoch, id, site, m.id, sv.Active)
			}
			continue
		}
		if sv.Epoch < u.highest {
			o.w.violation("section 4: epoch %s of %s is given after %s", sv.Epoch, id, u.highest)
		}
		u.epochs[sv.Epoch], u.highest = sv.Active, max(u.highest, sv.Epoch)
		for _, p := range u.parts {
			for _, other := range o.w.members {
				if other.id != sv.Active.Member() && other.open(p.part) && !u.vouched {
					o.w.violation("rule 1: %s is given to %s while %s serves it", p.id, sv.Active, other.id)
				}
			}
		}
	}
}

// history reads the records that the turn has written, entry by entry.
func (o *oracle) history(m *member, s *failover.State, actions []failover.Action) {
	for i := 0; i < len(actions); {
		if actions[i].Kind != failover.ActionRecord {
			i++
			continue
		}
		index, h, last := actions[i].Record.Index, uint64(1), i
		for j := i; j < len(actions); j++ {
			if r := actions[j].Record; r != nil {
				if r.Index != index {
					break
				}
				h = hashRecord(h, r)
				last = j
			}
		}
		fresh := index >= uint64(len(o.records)) || o.records[index] == 0
		o.agree(&o.records, index, h, m, "writes another history")
		for j := i; j <= last; j++ {
			if r := actions[j].Record; r != nil {
				o.record(m, s, r, fresh)
			}
		}
		i = last + 1
	}
}

// record looks at one line of history; fresh, if nobody has seen it before.
func (o *oracle) record(m *member, s *failover.State, r *failover.Record, fresh bool) {
	if r.By == m.id {
		o.answered(m, s, r)
	}
	if fresh {
		o.tell(m, r)
	}
	if r.Kind == failover.RecordDecision {
		o.decided(s, r, fresh)
	}
	if r.Service == "" || !fresh {
		return
	}
	u := o.unit(r.Service)
	switch r.Kind {
	case failover.RecordPhase:
		o.entered(u, r)
	case failover.RecordDone:
		o.completed(u, r)
	case failover.RecordPause:
		u.paused = true
	case failover.RecordResume:
		u.paused = false
	case failover.RecordAcknowledge:
		u.done, u.hold, u.unacknowledged = 0, 0, 0
	case failover.RecordEntry:
		if u.paused && !hasReason(r, failover.ReasonOperator) && r.Phase != failover.PhaseRedirecting {
			o.w.violation("paused means paused: %q", r.Text)
		}
	case failover.RecordRefusal:
		o.refused(u, r)
	case failover.RecordDecision:
		u.moving, u.wished = true, hasReason(r, failover.ReasonOperator)
	}
}

func (o *oracle) tell(m *member, r *failover.Record) {
	c := o.w.cover
	c.Records[string(r.Kind)]++
	for _, reason := range r.Reasons {
		if reason.OK {
			c.Reasons[reason.Code+"+"]++
		} else {
			c.Reasons[reason.Code+"-"]++
		}
	}
	if o.w.telling {
		o.w.note("%s applies %d: %s: %s", m.id, r.Index, r.Kind, r.Text)
		for _, reason := range r.Reasons {
			mark := '-'
			if reason.OK {
				mark = '+'
			}
			o.w.note("      %c %s", mark, reason.Text)
		}
	}
	// Rule 10: every decision and every refusal leaves its evidence.
	switch r.Kind {
	case failover.RecordDecision, failover.RecordRefusal:
		if len(r.Reasons) == 0 {
			o.w.violation("rule 10: %q has no reasons", r.Text)
		}
	}
}

func (o *oracle) entered(u *unit, r *failover.Record) {
	if r.Phase == u.phase {
		return
	}
	o.w.cover.Phases[string(r.Phase)]++
	o.w.cover.Transitions[string(u.phase)+">"+string(r.Phase)]++
	was := u.phase
	u.phase = r.Phase
	if r.Phase == failover.PhaseSuspect && was != failover.PhaseConfirmed {
		u.suspect = o.w.now
	}
	o.w.entered(r.Phase)
}

func (o *oracle) completed(u *unit, r *failover.Record) {
	u.moving = false
	if r.Move == nil {
		return
	}
	if r.Move.Kind != failover.MoveActivate {
		o.w.result.Moves++
		o.w.cover.Checks["moves: "+string(r.Move.Kind)]++
	}
	u.done, u.hold = 0, 0
	if r.Move.Kind != failover.MoveFailover {
		return
	}
	u.done, u.hold = o.w.now, u.policy.Hold
	for range u.unacknowledged {
		u.hold = max(u.hold, min(2*u.hold, u.policy.HoldMax))
	}
	if r.Move.Operator == "" {
		u.unacknowledged++
	}
}

// refused: what is held off was held off by something.
func (o *oracle) refused(u *unit, r *failover.Record) {
	for _, reason := range r.Reasons {
		switch {
		case reason.OK:
		case reason.Code == failover.ReasonHold && u.done == 0:
			o.w.violation("rule 11: %q for a hold, but no unplanned move was completed", r.Text)
		case reason.Code == failover.ReasonHold && u.moving:
			o.w.violation("rule 11: %q for a hold, in the middle of a move", r.Text)
		case reason.Code == failover.ReasonPause && !u.paused && !hasReason(r, failover.ReasonOperator):
			o.w.violation("%q for a pause, but it is not paused", r.Text)
		}
	}
}

func hasReason(r *failover.Record, code string) bool {
	for _, reason := range r.Reasons {
		if reason.Code == code && reason.OK {
			return true
		}
	}
	return false
}
