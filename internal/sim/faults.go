package sim

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
	"github.com/draasd/draas/runbook/effecttest"
)

// meet lets a fault happen, or lets it wait for its phase.
func (w *World) meet(f Fault) {
	if w.calm {
		return
	}
	if f.When != "" {
		w.waiting = append(w.waiting, f)
		return
	}
	if m := w.who(f.On); m != nil {
		f.On = m.id
	}
	if to := w.who(f.To); to != nil {
		f.To = to.id
	}
	m := w.member(f.On)
	if m == nil || f.On == f.To && f.Kind != Operator || !m.may(f.Kind) {
		return
	}
	w.result.Faults++
	w.mix(hashString(uint64(f.At), string(f.Kind)))
	w.cover.fault(f.Kind, w.oracle.phases())
	w.note("FAULT %v", f)
	_ = w.daemonFault(m, f) || w.machineFault(m, f) || w.networkFault(m, f) || w.outsideFault(m, f)
}

// Who a fault strikes can be said by what a member is then.
const (
	Active  draas.MemberID = "@active"  // whose site serves the first service
	Standby draas.MemberID = "@standby" // another site
	Leader  draas.MemberID = "@leader"  // of the log
)

// who finds a member by its name or by what it is.
func (w *World) who(id draas.MemberID) *member {
	switch id {
	case Active, Standby:
		var other *member
		u := w.oracle.unit(w.units[0])
		for _, m := range w.members {
			switch {
			case !m.site:
			case (u.epochs[u.highest].Member() == m.id) == (id == Active):
				return m
			default:
				other = m
			}
		}
		return other
	case Leader:
		if leader := w.member(w.Leader()); leader != nil {
			return leader
		}
		return w.members[len(w.p.Machines)-1]
	}
	return w.member(id)
}

// may: while a machine's wall clock is wrong its boot clock does not stand
// still, and the other way round, until it boots. Both wrong at once is more
// than is assumed (docs/safety.md); Pause is for that.
func (m *member) may(k Kind) bool {
	switch k {
	case FreezeGuard, RestartGuard:
		return !m.stands()
	case Clone:
		return m.daemon != nil && m.w.twin == nil
	case Stop:
		// A stopped boot clock is seen by the guard, which compares both.
		if m.guard.down || m.guard.frozen > m.w.now {
			return false
		}
		m.stood = m.stood || !m.stepped
		return !m.stepped
	case Step:
		m.stepped = m.stepped || !m.stood
		return !m.stood
	}
	return true
}

// entered releases the faults that waited for a phase.
func (w *World) entered(p failover.Phase) {
	if len(w.waiting) == 0 {
		return
	}
	w.waiting = slices.DeleteFunc(w.waiting, func(f Fault) bool {
		if f.When != p {
			return false
		}
		f.When = ""
		w.after(0, func() { w.meet(f) })
		return true
	})
}

// until runs end after d, unless everything has been healed before.
func (w *World) until(d time.Duration, end func()) {
	w.after(d, func() {
		if !w.calm {
			end()
		}
	})
}

// allKinds lists the kinds of fault that are drawn, and Pause.
var allKinds = []Kind{Crash, CrashWrite, CrashSay, Freeze, FreezeGuard, RestartGuard, SlowGuard, Power, Stop, Drift, Step,
	Cut, OneWay, Isolate, Loss, Slow, Double, Service, Flap, Blind, Mirage, Effect, SlowEffect, DiskFull, ReadOnly, SyncError,
	Rollback, Wipe, Clone, Edge, Upgrade, Operator, Pause}

func (w *World) daemonFault(m *member, f Fault) bool {
	switch f.Kind {
	case Crash:
		m.die()
		m.again(f.For)
	case Upgrade:
		m.version = 0
		m.die()
		m.again(f.For)
	case CrashWrite:
		m.disk.left = f.N
	case CrashSay:
		m.sayLeft = f.N
	case Freeze:
		m.frozen = max(m.frozen, w.now+f.For)
		w.after(f.For+time.Microsecond, m.process)
	case FreezeGuard:
		m.guard.frozen = max(m.guard.frozen, w.now+f.For)
		w.after(f.For+time.Microsecond, func() {
			if m.guard.frozen <= w.now && !m.stands() && !m.off {
				m.guard.thaw()
			}
		})
	case RestartGuard:
		m.guard.restart(m, f.For)
	case SlowGuard:
		m.guard.slowUntil, m.guard.slow = w.now+f.For, f.By
	case Blind:
		m.blind = w.now + f.For
	case Mirage:
		m.mirage = w.now + f.For
	case Effect:
		m.effects.inject(effecttest.Fault(f.What))
		w.until(f.For, func() { m.effects.inject("") })
	case SlowEffect:
		m.effects.slowUntil, m.effects.slow = w.now+f.For, f.By
	default:
		return false
	}
	return true
}

func (w *World) machineFault(m *member, f Fault) bool {
	switch f.Kind {
	case Power:
		m.powerOff()
		w.until(f.For, m.powerOn)
	case Stop:
		m.stand(f.For, false)
	case Pause:
		m.stand(f.For, true)
	case Drift:
		m.clocks.set(w.now)
		m.clocks.rate = f.X
	case Step:
		m.clocks.set(w.now)
		m.clocks.wall += f.By
		m.process()
	case DiskFull:
		m.disk.fill(f.N)
		w.until(f.For, func() { m.disk.fill(-1) })
	case ReadOnly:
		m.disk.readOnly = true
		w.until(f.For, func() { m.disk.readOnly = false })
	case SyncError:
		m.disk.BreakSync(syscall.EIO)
		m.disk.sick = true
	case Rollback:
		m.lost = true
		old, before := m.disk.Clone(), m.promised()
		m.said, m.next, m.heard = before, before, before
		w.until(f.By, func() {
			m.setBack, m.silent = m.heard.beyond(before), true
			m.die()
			m.disk.Disk = old
			w.note("an old copy of the data directory is put back on %s", m.id)
			m.again(f.For)
		})
	case Clone:
		w.clone(m, f)
	case Wipe:
		m.lost = true
		m.die()
		m.disk.Disk = quorumtest.NewDisk()
		m.again(f.For)
	default:
		return false
	}
	return true
}

func (w *World) networkFault(m *member, f Fault) bool {
	switch f.Kind {
	case Cut:
		if to := w.member(f.To); to != nil {
			w.cut(f.For, [2]int{m.index, to.index}, [2]int{to.index, m.index})
		}
	case OneWay:
		if to := w.member(f.To); to != nil {
			w.cut(f.For, [2]int{m.index, to.index})
		}
	case Isolate:
		for _, o := range w.seats() {
			if o != m {
				w.cut(f.For, [2]int{m.index, o.index}, [2]int{o.index, m.index})
			}
		}
	case Loss:
		w.spoil(m, f, link{loss: f.X})
	case Slow:
		w.spoil(m, f, link{slow: f.By})
	case Double:
		w.spoil(m, f, link{slow: f.By, doubled: f.X})
	default:
		return false
	}
	return true
}

func (w *World) outsideFault(m *member, f Fault) bool {
	switch f.Kind {
	case Service:
		if p := w.part(f.Service); p != nil {
			p.alive[m.index] = false
			w.until(f.For, func() { p.alive[m.index] = true })
		}
	case Flap:
		if p := w.part(f.Service); p != nil && f.By > 0 {
			w.flap(p, m.index, f.By, w.now+f.For)
		}
	case Edge:
		w.edgeFault(m, f)
	case Operator:
		if r, ok := wish(f); ok {
			w.ask(m, f.Service, f.To.Site(), r)
		}
	default:
		return false
	}
	return true
}

// flap lets a service's process die and live again until the end.
func (w *World) flap(p *part, at int, every, end time.Duration) {
	p.alive[at] = !p.alive[at] || w.now >= end
	if w.now < end {
		w.until(every, func() { w.flap(p, at, every, end) })
	}
}

func (w *World) cut(d time.Duration, links ...[2]int) {
	for _, l := range links {
		w.links[l[0]][l[1]].cuts++
	}
	w.until(d, func() {
		for _, l := range links {
			w.links[l[0]][l[1]].cuts--
		}
	})
}

// spoil makes one direction bad; a later one replaces an earlier.
func (w *World) spoil(m *member, f Fault, bad link) {
	to := w.member(f.To)
	if to == nil {
		return
	}
	l := &w.links[m.index][to.index]
	bad.cuts = l.cuts
	*l = bad
	w.until(f.For, func() { *l = link{cuts: l.cuts} })
}

func (m *member) powerOff() {
	if m.off {
		return
	}
	m.off = true
	m.die()
	m.run++
	m.guard.lost()
}

func (m *member) powerOn() {
	if !m.off {
		return
	}
	m.w.note("%s boots", m.id)
	m.off, m.stopped, m.clocks.bootStands, m.clocks.wallStands = false, 0, false, false
	m.stood, m.stepped = false, false
	m.boot++
	m.clocks.set(m.w.now)
	m.clocks.boot = m.w.between(time.Second, time.Hour)
	m.guard.lost()
	m.start()
}

// stand stops the machine and its boot clock for a while. Its wall clock is
// right afterwards, unless that stands too.
func (m *member) stand(d time.Duration, wall bool) {
	w := m.w
	if m.off || m.stands() {
		return
	}
	m.clocks.set(w.now)
	m.clocks.bootStands, m.clocks.wallStands = true, wall
	m.stopped = w.now + d
	boot := m.boot
	w.after(d, func() {
		if m.boot != boot {
			return
		}
		m.clocks.set(w.now)
		m.clocks.bootStands, m.clocks.wallStands, m.stopped = false, false, 0
		w.note("%s goes on", m.id)
		if m.guard.frozen <= w.now {
			m.guard.thaw()
		}
		m.process()
	})
}

// wish is what an operator asks for.
func wish(f Fault) (failover.Request, bool) {
	r := failover.Request{Operator: "somebody", Reason: "simulated"}
	switch what := f.What; what {
	case "pause":
		r.Ask, r.For = failover.AskPause, f.By
	case "resume":
		r.Ask = failover.AskResume
	case "acknowledge":
		r.Ask = failover.AskAcknowledge
	case "enter":
		r.Ask = failover.AskEnter
	case "vouch":
		r.Move, r.Vouch = failover.MoveFailover, true
	case "allow-data-loss":
		r.Move, r.AllowDataLoss = failover.MoveFailover, true
	default:
		move, ok := moveOf(what)
		if !ok {
			return r, false
		}
		r.Move = move
	}
	r.Expect = draas.Epoch(f.N)
	return r, true
}

// heal ends all faults: from now on nothing is wrong.
func (w *World) heal() {
	w.note("all faults end")
	w.calm = true
	w.waiting = nil
	for i := range w.links {
		for j := range w.links[i] {
			w.links[i][j] = link{}
		}
	}
	for _, p := range w.parts {
		for i := range p.alive {
			p.alive[i] = true
		}
	}
	for _, e := range w.edges {
		e.dead = 0
	}
	if w.twin != nil {
		w.twin.powerOff()
	}
	for _, m := range w.seats() {
		m.heal()
	}
}

func (m *member) heal() {
	w := m.w
	m.blind, m.mirage, m.frozen, m.sayLeft = 0, 0, 0, -1
	m.disk.heal()
	m.effects.inject("")
	m.effects.slowUntil = 0
	m.guard.slowUntil = 0
	if m.guard.frozen > w.now {
		m.guard.frozen = 0
		m.guard.thaw()
	}
	if m.stands() {
		// Everything that waits for its end finds it over.
		m.clocks.set(w.now)
		m.clocks.bootStands, m.clocks.wallStands, m.stopped = false, false, 0
	}
	if m.guard.down {
		m.guard.up(m)
	}
	m.powerOn()
	m.start()
	m.process()
}

// replace is an operator who makes a member out of one that has lost its log.
func (m *member) replace() {
	_, err := quorum.Rejoin(m.disk, m.random)
	if errors.Is(err, quorum.ErrNotBootstrapped) {
		// Nothing is there, or what an interrupted join has left: it is cleared
		// away by hand.
		m.disk.Disk = quorumtest.NewDisk()
		err = quorum.Join(m.disk, cluster, m.id, m.random)
	}
	m.w.note("%s is to join anew: %v", m.id, err)
	m.start()
}
