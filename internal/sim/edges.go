package sim

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
	"github.com/draasd/draas/runbook/effecttest"
)

// nameEffect is what leads users of a hybrid to where they enter.
const nameEffect = "name"

// edge is a frontend: a process of its own, at a site.
type edge struct {
	name string
	site *member
	dead int // reasons why
}

// hybrid gives a part frontends at its unit's sites.
func (p *Params) hybrid(unit, part draas.ServiceID, each int) {
	s := p.Policy.Services[unit]
	if s.Ways == nil {
		s.Ways = make(map[draas.ServiceID][]failover.Way)
	}
	for _, site := range s.Sites {
		w := failover.Way{Site: site}
		for i := range each {
			w.Frontends = append(w.Frontends, string(part)+"-"+string(site)+"-"+string(rune('a'+i)))
		}
		s.Ways[part] = append(s.Ways[part], w)
	}
	p.Policy.Services[unit] = s
}

// edges are the frontends that the file has.
func (w *World) openEdges() {
	for _, p := range w.parts {
		for _, way := range w.p.Policy.Services[p.unit].Ways[p.id] {
			for _, name := range way.Frontends {
				w.edges = append(w.edges, &edge{name: name, site: w.member(way.Site.Member())})
			}
			w.receivers[nameEffect] = effecttest.NewReceiver()
		}
	}
}

// edgeFaults draws what happens to frontends, by chances of its own: the rest
// of a schedule is the same without them.
func (g *generator) edgeFaults(r *rand.Rand, trouble time.Duration) []Fault {
	unit := draas.ServiceID("")
	for _, id := range g.units {
		if len(g.p.Policy.Services[id].Ways) > 0 {
			unit = id
		}
	}
	if unit == "" {
		return nil
	}
	g.r = r
	var out []Fault
	for range 2 + r.IntN(5) {
		f := Fault{At: between(r, 2*time.Second, trouble-time.Second), Kind: Edge, On: g.site(), For: g.duration(), N: r.IntN(3)}
		switch r.IntN(6) {
		case 0:
			f.By = between(r, g.p.Probe/2, 5*g.p.Probe) // it comes and goes
		case 1, 2:
			f.For = g.lasting()
		case 3:
			f = Fault{At: f.At, Kind: Operator, On: g.member(), To: g.site(), Service: unit, What: "enter"}
		}
		out = append(out, f)
	}
	return out
}

// edgeFault ends frontends at a site for a while: all, or the Nth.
func (w *World) edgeFault(m *member, f Fault) {
	n := 0
	for _, e := range w.edges {
		if e.site.id != m.id {
			continue
		}
		if n++; f.N != 0 && f.N != n {
			continue
		}
		if f.By > 0 {
			w.flapEdge(e, f.By, w.now+f.For, false)
			continue
		}
		e.dead++
		w.until(f.For, func() { e.dead-- })
	}
}

func (w *World) flapEdge(e *edge, every, end time.Duration, dead bool) {
	if dead {
		e.dead--
	}
	if w.now >= end {
		return
	}
	if !dead {
		e.dead++
	}
	w.until(every, func() { w.flapEdge(e, every, end, !dead) })
}

// listen is one look at who of the frontends is heard.
func (m *member) listen() (changed bool) {
	w := m.w
	first := len(w.seats()) + 2*len(w.parts)
	for i, e := range w.edges {
		good := e.dead == 0 && w.reaches(m, e.site) && m.mirage <= w.now
		changed = m.see(first+i, failover.Observation{Frontend: e.name}, good) || changed
	}
	return changed
}

// oversee is what leads names to where users enter, between moves: the active
// site's member does it, again and again until it is so.
func (m *member) oversee() {
	w := m.w
	if len(w.edges) == 0 {
		return
	}
	s := m.daemon.State()
	for _, p := range w.parts {
		sv := s.Services[p.unit]
		if sv == nil || sv.Active.Member() != m.id || sv.Revoked || sv.Phase.Moving() || sv.Last == nil || sv.Last.Epoch != sv.Epoch {
			continue
		}
		e, has := sv.Entries[p.id]
		token := runbook.Token{Epoch: sv.Epoch, Turn: e.Turn}
		if !has || m.named[p.id] == token {
			continue
		}
		m.named[p.id] = token
		m.name(p, sv, runbook.Op{Service: p.id, Token: token, Kind: sv.Last.Kind, To: e.Site, Step: nameEffect, Member: m.id}, ms)
	}
}

// name brings a name to where users enter, in a while.
func (m *member) name(p *part, sv *failover.ServiceState, op runbook.Op, in time.Duration) {
	w, run := m.w, m.run
	w.after(in, func() {
		if m.run != run || m.daemon == nil || m.named[p.id] != op.Token {
			return
		}
		if m.frozen > w.now || m.stands() {
			m.name(p, sv, op, max(m.frozen, m.stopped)-w.now+ms)
			return
		}
		res := runbook.RunStep(context.Background(), m.effects.fakes[nameEffect], op)
		w.oracle.names()
		switch res.Outcome {
		case runbook.OutcomeDone:
			w.cover.Checks["names led"]++
		case runbook.OutcomeRefused: // another member has gone on
		default:
			m.daemon.Find(failover.Finding{Service: p.unit, Epoch: sv.Epoch, Step: nameEffect, Code: failover.FoundChanged, Text: res.Evidence})
			m.process()
			m.name(p, sv, op, retry)
		}
	})
}

// entered reports whether names lead to where users enter.
func (w *World) enteredAll() bool {
	for _, p := range w.parts {
		if len(w.p.Policy.Services[p.unit].Ways[p.id]) == 0 {
			continue
		}
		_, token := w.receivers[nameEffect].Active(p.id)
		if token != w.oracle.truth(p).entry {
			return false
		}
	}
	return true
}

// hearings is what members have ever told of a frontend, as bits.
type hearings struct{ failed, healthy uint64 }

// entries holds where users enter, as a member has it, against the rules.
func (o *oracle) entries(m *member, s *failover.State, id draas.ServiceID) {
	sv := s.Services[id]
	for _, t := range o.unit(id).parts {
		ways := o.unit(id).policy.Ways[t.id]
		if len(ways) == 0 || s.Version < 3 {
			continue
		}
		e, has := sv.Entries[t.id]
		token := runbook.Token{Epoch: sv.Epoch, Turn: e.Turn}
		if !has || !slices.ContainsFunc(ways, func(w failover.Way) bool { return w.Site == e.Site }) {
			o.w.violation("%s has users of %s enter at %q, where no way is", m.id, t.id, e.Site)
			continue
		}
		if site, known := t.entries[token]; known {
			if site != e.Site {
				o.w.violation("section 4: users of %s enter at %s by %v, and %s has it at %s", t.id, site, token, m.id, e.Site)
			}
			continue
		}
		if token.Compare(t.entry) < 0 {
			o.w.violation("rule 3: users of %s enter by %v after %v", t.id, token, t.entry)
		}
		if token.Epoch == t.entry.Epoch && token.Turn == t.entry.Turn+1 {
			o.turned(t, ways, t.entries[t.entry], e)
		}
		t.entries[token], t.entry, t.since = e.Site, token, o.w.now
	}
}

// turned: users enter elsewhere within an epoch.
func (o *oracle) turned(t *partTruth, ways []failover.Way, from draas.SiteID, e failover.Entry) {
	u := o.unit(t.unit)
	o.w.cover.Checks["turns"]++
	if e.Operator != "" {
		if !t.wished {
			o.w.violation("an operator is said to have asked that users of %s enter at %s", t.id, e.Site)
		}
		return
	}
	o.w.cover.Checks["turns by themselves"]++
	if since := o.w.now - t.since; since < time.Duration(float64(u.policy.Confirm)/(1+drift))-ms {
		o.w.violation("users of %s enter at %s %v after they entered at %s; confirm is %v", t.id, e.Site, since, from, u.policy.Confirm)
	}
	for _, w := range ways {
		heard := uint64(0)
		for _, name := range w.Frontends {
			h := o.heard[name]
			heard |= h.healthy
			if n := o.domains(h.failed); w.Site == from && n < u.policy.Confirmations {
				o.w.violation("rule 5: users of %s do not enter at %s any more, but %d failure domains have seen %s fail, %d are needed",
					t.id, from, n, name, u.policy.Confirmations)
			}
		}
		if w.Site == e.Site && heard == 0 {
			o.w.violation("rule 7: users of %s enter at %s, where nobody has heard a frontend", t.id, e.Site)
		}
	}
}

// domains counts the failure domains of members.
func (o *oracle) domains(members uint64) int {
	seen := make(map[string]bool)
	for i, m := range o.w.p.Machines {
		if members&(1<<i) != 0 {
			seen[m.Domain] = true
		}
	}
	return len(seen)
}

// names: what leads names never goes back, nor where nobody has decided.
func (o *oracle) names() {
	for _, p := range o.w.parts {
		t := o.truth(p)
		site, token := o.w.receivers[nameEffect].Active(p.id)
		if token.Epoch == 0 {
			continue
		}
		if token.Compare(t.led) < 0 {
			o.w.violation("rule 3: the name of %s goes from %v back to %v", p.id, t.led, token)
		}
		t.led = token
		if t.entries[token] != site {
			o.w.violation("rule 3: the name of %s leads to %s by %v, which is %q's", p.id, site, token, t.entries[token])
		}
	}
}
