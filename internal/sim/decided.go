package sim

import (
	"math/bits"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
)

// decided holds the beginning of a move against the rules: what the decision
// rested on, as it stands in the log, and what the members have really seen.
func (o *oracle) decided(s *failover.State, r *failover.Record, fresh bool) {
	u := o.unit(r.Service)
	if fresh {
		o.w.cover.Checks["decisions"]++
		o.inTime(u, r)
	}
	// Only a member that has applied nothing behind the entry still has what
	// the decision saw.
	sv := s.Services[r.Service]
	if s.Index != r.Index || sv == nil || sv.Move == nil {
		return
	}
	o.w.cover.Checks["decisions seen at their entry"]++
	mv := sv.Move
	if hasReason(r, failover.ReasonOperator) {
		if mv.Operator == "" {
			o.w.violation("%q: an operator asked, and none is named", r.Text)
		}
		return
	}
	if mv.Kind != failover.MoveFailover && mv.Kind != failover.MoveUndo {
		o.w.violation("rule 11: nobody asked for %q", r.Text)
	}
	if sv.Pause != nil {
		o.w.violation("paused means paused: %q", r.Text)
	}
	if r.Phase == failover.PhaseFencing {
		// The move turns back: nothing new is taken from anybody.
		if mv.Kind != failover.MoveUndo {
			o.w.violation("rule 11: nobody asked for %q, which turns a move", r.Text)
		}
		o.target(s, r, u, mv, false)
		return
	}
	o.automatic(s, r, u, mv)
}

// inTime is what true time says of a decision, whoever applied it first.
func (o *oracle) inTime(u *unit, r *failover.Record) {
	if hasReason(r, failover.ReasonOperator) || r.Phase == failover.PhaseFencing {
		return
	}
	if u.paused {
		o.w.violation("paused means paused: %q", r.Text)
	}
	if r.Phase == failover.PhaseRedirecting || r.Phase == failover.PhaseVerifying {
		return // an unfinished move is undone: nothing holds that off
	}
	if u.phase == failover.PhaseInactive {
		o.w.violation("rule 2: nobody asked for %q", r.Text)
	}
	// A clock that measured a duration may have gone fast.
	shortest := func(d time.Duration) time.Duration { return time.Duration(float64(d)/(1+drift)) - ms }
	if since := o.w.now - u.done; u.done > 0 && since < shortest(u.hold) {
		o.w.violation("rule 11: %q, %v after an unplanned move that holds others off for %v", r.Text, since, u.hold)
	}
	if since := o.w.now - u.suspect; since < shortest(u.policy.Confirm) || since < shortest(u.policy.LeastOutage) {
		o.w.violation("%q after %v: confirm is %v, least outage %v", r.Text, since, u.policy.Confirm, u.policy.LeastOutage)
	}
}

// automatic: a move that nobody asked for begins.
func (o *oracle) automatic(s *failover.State, r *failover.Record, u *unit, mv *failover.Move) {
	if !u.policy.Automatic {
		o.w.violation("%q, but automatic moves are off", r.Text)
	}
	device := slices.Contains(u.policy.Devices, mv.From)
	serves := u.policy.OnLeaseLoss == draas.LeaseLossServe || u.policy.Fence == draas.FenceDevice || u.policy.Fence == draas.FenceNone
	if serves && !device {
		o.w.violation("rule 1: %q, but nothing stops %s: fence %s, on lease loss %q", r.Text, mv.From, u.policy.Fence, u.policy.OnLeaseLoss)
	}
	worst := 0
	for _, p := range u.parts {
		worst = max(worst, o.votes(s, r.Service, p, mv.From))
	}
	if worst < u.policy.Confirmations {
		o.w.violation("rule 5: %q, but %d failure domains have seen %s fail, %d are needed", r.Text, worst, mv.From, u.policy.Confirmations)
	}
	o.target(s, r, u, mv, true)
}

// votes counts the failure domains that say, in the log, that the part has
// failed at the site, may be believed, and have really seen it.
func (o *oracle) votes(s *failover.State, id draas.ServiceID, p *partTruth, site draas.SiteID) int {
	sv := s.Services[id]
	views := sv.Views
	if p.id != id {
		views = sv.Parts[p.id]
	}
	domains := make(map[string]bool)
	for _, m := range o.w.seats() {
		x := views[site][m.id]
		if x.Verdict != draas.Failed || o.unheard(s, m.id) {
			continue
		}
		saw := p.failed[x.Epoch]&(1<<m.seat) != 0 && x.Epoch == sv.Epoch
		if m.id == site.Member() {
			saw = p.own&(1<<m.seat) != 0
		} else if o.blind(s, m.id, site) {
			continue
		}
		if !saw {
			o.w.violation("rule 5: the log says that %s saw %s fail at %s, which it never did", m.id, p.id, site)
			continue
		}
		domains[o.w.p.Machines[m.index].Domain] = true
	}
	return len(domains)
}

// unheard: most of the others say that they cannot reach the member.
func (o *oracle) unheard(s *failover.State, id draas.MemberID) bool {
	var domains uint64
	names := make([]string, 0, len(o.w.seats()))
	for i, m := range o.w.seats() {
		if st := s.Members[m.id]; m.id != id && st != nil && st.Peers[id].Verdict == draas.Failed {
			domain := o.w.p.Machines[i].Domain
			n := slices.Index(names, domain)
			if n < 0 {
				n, names = len(names), append(names, domain)
			}
			domains |= 1 << n
		}
	}
	all := len(o.w.seats())
	return bits.OnesCount64(domains) >= min(all/2+1, all-1)
}

// blind: the member sees no third member, and so may be what is cut off.
func (o *oracle) blind(s *failover.State, id draas.MemberID, site draas.SiteID) bool {
	for _, third := range o.w.seats() {
		if third.id == id || third.id == site.Member() {
			continue
		}
		if st := s.Members[id]; st != nil && st.Peers[third.id].Verdict == draas.Healthy {
			return false
		}
	}
	return true
}

// target is rule 7: who takes over is fit, by all that is known.
func (o *oracle) target(s *failover.State, r *failover.Record, u *unit, mv *failover.Move, takes bool) {
	to := mv.To.Member()
	if s.Members[to] == nil || o.unheard(s, to) {
		o.w.violation("rule 7: %q, but %s is not there", r.Text, mv.To)
		return
	}
	sv := s.Services[r.Service]
	for _, p := range u.parts {
		views := sv.Views
		if p.id != r.Service {
			views = sv.Parts[p.id]
		}
		if u.policy.Warm && views[mv.To][to].Verdict != draas.Healthy {
			o.w.violation("rule 7: %q, but %s does not see its own %s healthy", r.Text, mv.To, p.id)
		}
	}
	if !takes || mv.Kind != failover.MoveFailover {
		return
	}
	if l := sv.Lags[mv.To]; u.policy.MaxLoss > 0 && (!l.Known || l.Behind > u.policy.MaxLoss) {
		o.w.violation("%q, but the copy there is %v behind (known: %t), %v is allowed", r.Text, l.Behind, l.Known, u.policy.MaxLoss)
	}
}

// digest sums up what members must agree on after the same entry.
func digest(s *failover.State) uint64 {
	h := hashString(uint64(s.Version)+1, s.Policy.Digest)
	for id, m := range s.Members { // summed: in any order
		h += hashString(uint64(m.Incarnation), string(id))
		for name, x := range m.Frontends {
			h += hashString(hashString(uint64(x.Verdict)+7, name), string(id))
		}
	}
	for id, sv := range s.Services {
		x := hashString(uint64(sv.Epoch), string(id))
		x = hashString(hashString(x, string(sv.Phase)), string(sv.Active))
		x = x*31 + uint64(sv.Unacked)
		for i, flag := range []bool{sv.Revoked, sv.Released, sv.Fenced, sv.Pause != nil, sv.Move != nil, sv.Counted} {
			if flag {
				x += 1 << (8 + i)
			}
		}
		if sv.Move != nil {
			x = hashString(hashString(x, string(sv.Move.Kind)), string(sv.Move.To)) + uint64(sv.Move.Epoch)
		}
		for part, e := range sv.Entries {
			x += hashString(hashString(e.Turn<<1, string(e.Site)), string(part)+e.Refused)
			if e.Lost {
				x++
			}
		}
		for step, code := range sv.Findings {
			x += hashString(hashString(3, step), string(code))
		}
		x += sv.Turns << 20
		for name, t := range sv.Timers {
			x += hashString(t.Mark+uint64(t.After), name)
		}
		h += x * 0x9e3779b97f4a7c15
	}
	return h | 1
}

func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 0x100000001b3
	}
	return h ^ h>>31
}

func hashRecord(h uint64, r *failover.Record) uint64 {
	h = hashString(hashString(h, string(r.Kind)), r.Text) + uint64(r.Epoch)
	for _, reason := range r.Reasons {
		h = hashString(h, reason.Code) + uint64(len(reason.Text))
		if reason.OK {
			h++
		}
	}
	return h | 1
}
