package sim

import "github.com/draasd/draas"

// clone boots a copy of a member's machine from a copy of its disk, while it
// runs on: two daemons with one identity, at two addresses of which others
// find now one and now the other. Nobody starts the copy again once it ends;
// it is switched off in the end.
func (w *World) clone(m *member, f Fault) {
	if f.N > 0 { // both start as the same run
		m.powerOff()
	}
	machine := w.p.Machines[m.index]
	machine.Rate = drawRate(w.noise)
	twin := newMember(w, len(w.p.Machines), machine)
	twin.seat, twin.version, twin.boot = m.seat, m.version, 1000 // its boots are others than the original's
	twin.disk.Disk = m.disk.Crash(w.noise)                       // what a copy of a disk in use has
	twin.twin, m.twin, w.twin = m, twin, twin
	m.lost, twin.lost, m.ended = true, true, nil
	w.enter(twin)
	for _, p := range w.parts {
		// What nothing closes when its permit ends, serves at both: only a
		// person can end that.
		if !p.guarded {
			w.oracle.unit(p.unit).vouched = true
		}
	}
	twin.start()
	m.powerOn()
	w.until(f.For, twin.powerOff)
	if f.By > 0 {
		w.until(f.By, func() {
			if twin.daemon != nil {
				twin.die()
				twin.start()
			}
		})
	}
	w.oneLeft(m, twin)
}

// oneLeft: of two daemons with one identity that others hear, at least one is
// found out before long. Which, nobody can know.
func (w *World) oneLeft(m, twin *member) {
	since := w.now
	var look func()
	look = func() {
		if !m.heeded() || !twin.heeded() {
			since = w.now
		}
		switch bound := w.p.identified(); {
		case m.ended != nil || twin.ended != nil || twin.off:
		case w.now-since > bound:
			w.violation("section 4: two daemons of %s go on for %v, and nobody minds", m.id, bound)
		default:
			w.until(w.p.Election/4, look)
		}
	}
	w.after(0, look)
}

// heeded: the daemon runs, and has somebody who hears it and answers.
func (m *member) heeded() bool {
	w, ok := m.w, false
	for _, o := range w.seats() {
		if o.id != m.id && o.running() && w.reaches(o, m) && w.reaches(m, o) {
			ok = true
		}
	}
	return ok && m.running()
}

// address is where what is sent to a member arrives: its machine, or the copy.
func (w *World) address(id draas.MemberID) *member {
	to := w.member(id)
	if t := to.twin; t != nil && t.daemon != nil && (to.daemon == nil || w.noise.IntN(2) == 0) {
		return t
	}
	return to
}
