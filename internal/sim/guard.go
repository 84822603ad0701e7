package sim

import (
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/fence"
)

// guard is a machine's guard, a process of its own. It decides by the real
// guard's ledger; the fence behind it closes at once, and by itself: it does
// not need the guard's process for that.
type guard struct {
	gates []gate // by part
	// down: the process is being started again. frozen and slow until then,
	// in true time; slow is how long a request takes at most.
	down        bool
	frozen      time.Duration
	slowUntil   time.Duration
	slow        time.Duration
	queue       []func() // requests that wait for the frozen guard
	generations int      // of the process
}

type gate struct {
	ledger  fence.Ledger
	closing draas.Epoch // what the present daemon has asked for
	// forced: no guard stands behind it; it is as the daemon last said.
	forced bool
}

// forget drops what belongs to the daemon's run.
func (g *guard) forget() {
	for i := range g.gates {
		g.gates[i].closing = 0
	}
}

// open reports whether the part is open. While the guard is frozen or dead
// only the fence's own timer, which runs by the boot clock, closes.
func (g *guard) open(m *member, p *part) bool {
	t := &g.gates[p.index]
	switch {
	case !p.guarded:
		return t.forced
	case g.down || g.frozen > m.w.now:
		if p.fence == draas.FencePath {
			return false // a relay that does not run forwards nothing
		}
		return m.reading().Boot < t.ledger.Deadline.Boot
	}
	return t.ledger.Live(m.reading())
}

// request takes what a daemon's run asks to the guard after a while. While
// the guard does not answer, the daemon asks again; what was under way when
// the daemon died may still arrive.
func (g *guard) request(m *member, delay time.Duration, do func()) {
	w, run, boot := m.w, m.run, m.boot
	if g.slowUntil > w.now {
		delay += w.between(0, g.slow)
	}
	w.after(delay, func() {
		switch {
		case m.off || m.boot != boot: // it went with the machine
		case g.down:
			if m.run == run {
				g.request(m, 50*ms, do)
			}
		case g.frozen > w.now || m.stands():
			g.queue = append(g.queue, do)
		default:
			do()
		}
	})
}

// thaw serves what has waited.
func (g *guard) thaw() {
	waiting := g.queue
	g.queue = nil
	for _, do := range waiting {
		do()
	}
}

func (g *guard) carryExtend(m *member, x failover.Extend) {
	p := m.w.part(x.Service)
	g.request(m, m.w.between(0, 5*ms), func() { g.extend(m, p, x) })
}

// extend is the guard's receipt of a later deadline.
func (g *guard) extend(m *member, p *part, x failover.Extend) {
	t := &g.gates[p.index]
	if !p.guarded {
		if x.Epoch > t.ledger.Ended {
			t.ledger.Highest, t.forced = max(t.ledger.Highest, x.Epoch), true
		}
		return
	}
	now := m.reading()
	if err := t.ledger.Extend(now, x.Epoch, x.Deadline); err != nil {
		if m.w.telling {
			m.w.note("%s guard refuses %s: %v", m.id, p.id, err)
		}
		return
	}
	if m.w.telling {
		m.w.note("%s guard opens %s for epoch %s until +%v", m.id, p.id, x.Epoch, x.Deadline.Left(now))
	}
	m.w.oracle.extended(m, p, x, now)
}

func (g *guard) wantsClose(_ *member, x failover.Close) bool {
	for i := range g.gates {
		if g.gates[i].closing < x.Epoch {
			return true
		}
	}
	return false
}

// carryClose asks once in a run; the decision repeats itself until it hears
// that the fence is closed.
func (g *guard) carryClose(m *member, x failover.Close) {
	p := m.w.part(x.Service)
	t := &g.gates[p.index]
	if t.closing >= x.Epoch {
		return
	}
	t.closing = x.Epoch
	run := m.run
	g.request(m, m.w.between(0, 20*ms), func() { g.close(m, p, x, run) })
}

func (g *guard) close(m *member, p *part, x failover.Close, run int) {
	t := &g.gates[p.index]
	if err := t.ledger.Close(x.Epoch); err != nil {
		m.w.note("%s guard refuses to close %s: %v", m.id, p.id, err)
		return
	}
	t.forced = false
	if m.w.telling {
		m.w.note("%s guard has closed %s for epoch %s", m.id, p.id, x.Epoch)
	}
	m.w.oracle.closed(m, p, x.Epoch)
	m.w.after(m.w.between(0, 5*ms), func() {
		if m.run == run && m.daemon != nil {
			m.daemon.FenceClosed(x.Service, x.Epoch)
			m.process()
		}
	})
}

// restart kills the guard and starts it again after a while: it starts closed,
// and remembers which epochs must not be reopened.
func (g *guard) restart(m *member, d time.Duration) {
	g.generations++
	g.down, g.frozen, g.queue = true, 0, nil
	generation := g.generations
	m.w.after(d, func() {
		if g.generations != generation || m.off {
			return
		}
		g.up(m)
	})
}

// up is a guard that has started: everything is closed.
func (g *guard) up(m *member) {
	g.down = false
	for _, p := range m.w.parts {
		t := &g.gates[p.index]
		t.ledger.Deadline = draas.Deadline{}
		if p.guarded {
			t.forced = false
		}
	}
	m.w.note("%s guard starts", m.id)
}

// lost is what a boot leaves of a guard: nothing is open, nothing remembered.
func (g *guard) lost() {
	for i := range g.gates {
		g.gates[i] = gate{}
	}
	g.generations++
	g.down, g.frozen, g.slowUntil, g.queue = false, 0, 0, nil
}
