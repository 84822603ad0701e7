package sim

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
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
	w.result.Faults++
	w.mix(uint64(len(f.Kind)) ^ uint64(f.At))
	w.cover.fault(f.Kind, w.oracle.phases())
	w.note("FAULT %v", f)
	m := w.member(f.On)
	if m == nil {
		return
	}
	_ = w.daemonFault(m, f) || w.machineFault(m, f) || w.networkFault(m, f) || w.outsideFault(m, f)
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
	Operator, Pause}

func (w *World) daemonFault(m *member, f Fault) bool {
	switch f.Kind {
	case Crash:
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
		for _, o := range w.members {
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
	for _, m := range w.members {
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

// generate draws the faults of a seed.
func generate(seed uint64, p *Params) Schedule {
	r := rand.New(rand.NewPCG(seed, 2))
	g := generator{r: r, p: p, unit: p.Heartbeat}
	for id := range p.Policy.Services {
		g.units = append(g.units, id)
		g.parts = append(g.parts, p.Policy.PartsOf(id)...)
	}
	slices.Sort(g.units)
	slices.Sort(g.parts)
	for _, m := range p.Machines {
		g.all = append(g.all, m.ID)
		if m.Role == draas.RoleSite {
			g.sites = append(g.sites, m.ID)
		}
	}
	// A machine whose boot clock may stand keeps its wall clock right, and
	// the other way round: both wrong at once is more than is assumed.
	g.stander = r.IntN(len(g.all))
	s := Schedule{Seed: seed, Trouble: between(r, 14*time.Second, 22*time.Second)}
	n := 2 + r.IntN(9)
	at := between(r, 2*time.Second, 5*time.Second)
	for i := range n {
		f := g.fault()
		f.At = at
		if i >= 2 && r.IntN(3) == 0 {
			f.When = phasesHit[r.IntN(len(phasesHit))]
		}
		s.Faults = append(s.Faults, f)
		switch r.IntN(4) {
		case 0: // at once
		case 1:
			at += between(r, 0, 300*ms)
		default:
			at += between(r, 0, 2*(s.Trouble-5*time.Second)/time.Duration(n))
		}
		if at >= s.Trouble-time.Second {
			at = between(r, 2*time.Second, s.Trouble-time.Second)
		}
	}
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return int(a.At - b.At) })
	return s
}

// Generate is the schedule of a seed.
func Generate(seed uint64) Schedule {
	p := draw(rand.New(rand.NewPCG(seed, 1)))
	return generate(seed, &p)
}

var phasesHit = []failover.Phase{failover.PhaseSuspect, failover.PhaseConfirmed, failover.PhaseFencing, failover.PhaseFencing,
	failover.PhaseRedirecting, failover.PhaseVerifying, failover.PhaseElsewhere, failover.PhaseNormal}

type generator struct {
	r            *rand.Rand
	p            *Params
	unit         time.Duration
	units, parts []draas.ServiceID
	all, sites   []draas.MemberID
	stander      int
}

// weights say how often a kind is drawn.
var weights = []struct {
	kind Kind
	n    int
}{
	{Crash, 5}, {CrashWrite, 5}, {CrashSay, 5}, {Freeze, 6}, {FreezeGuard, 3}, {RestartGuard, 3}, {SlowGuard, 3}, {Power, 6},
	{Stop, 4}, {Drift, 3}, {Step, 4}, {Cut, 6}, {OneWay, 6}, {Isolate, 8}, {Loss, 4}, {Slow, 5}, {Double, 3}, {Service, 10},
	{Flap, 4}, {Blind, 3}, {Mirage, 4}, {Effect, 4}, {SlowEffect, 2}, {DiskFull, 2}, {ReadOnly, 2}, {SyncError, 2}, {Operator, 12},
}

func (g *generator) kind() Kind {
	sum := 0
	for _, w := range weights {
		sum += w.n
	}
	n := g.r.IntN(sum)
	for _, w := range weights {
		if n -= w.n; n < 0 {
			return w.kind
		}
	}
	return Crash
}

func (g *generator) member() draas.MemberID { return g.all[g.r.IntN(len(g.all))] }
func (g *generator) site() draas.MemberID   { return g.sites[g.r.IntN(len(g.sites))] }

// duration draws short ones as often as long ones.
func (g *generator) duration() time.Duration {
	switch g.r.IntN(4) {
	case 0:
		return between(g.r, g.unit/8, g.unit)
	case 1:
		return between(g.r, g.unit, 8*g.unit)
	}
	return between(g.r, 8*g.unit, 40*g.unit)
}

func (g *generator) fault() Fault {
	f := Fault{Kind: g.kind(), On: g.member(), For: g.duration()}
	switch f.Kind {
	case CrashWrite, CrashSay:
		f.N, f.For = g.r.IntN(12), 0
	case Freeze, FreezeGuard, RestartGuard, Power, Isolate, Mirage:
		if g.r.IntN(2) == 0 {
			f.On = g.site()
		}
	case SlowGuard, SlowEffect:
		f.On, f.By = g.site(), g.duration()
	case Stop:
		f.On = g.all[g.stander]
	case Drift:
		f.X, f.For = drawRate(g.r), 0
	case Step:
		f.On = g.all[(g.stander+1+g.r.IntN(len(g.all)-1))%len(g.all)]
		f.By, f.For = between(g.r, -time.Hour, time.Hour), 0
		if g.r.IntN(2) == 0 {
			f.By = between(g.r, -5*time.Second, 5*time.Second)
		}
	case Cut, OneWay, Loss, Slow, Double:
		for f.To = g.member(); f.To == f.On; {
			f.To = g.member()
		}
		g.spoil(&f)
	case Service, Flap:
		f.On, f.Service = g.site(), g.parts[g.r.IntN(len(g.parts))]
		if g.r.IntN(3) > 0 {
			f.On = g.p.Policy.Services[g.p.Policy.UnitOf(f.Service)].Home.Member()
		}
		if f.Kind == Service {
			f.For = max(f.For, between(g.r, g.p.Probe, 12*g.p.Probe))
		} else {
			f.By = between(g.r, g.p.Probe/2, 5*g.p.Probe)
		}
	case Effect:
		all := []effecttest.Fault{effecttest.LoseRequest, effecttest.LoseAnswer, effecttest.ApplyLate, effecttest.Refuse, effecttest.Blind}
		f.On, f.What = g.site(), string(all[g.r.IntN(len(all))])
	case DiskFull:
		f.N = g.r.IntN(3000)
	case SyncError:
		f.For = 0
	case Operator:
		g.operator(&f)
	}
	return f
}

func (g *generator) spoil(f *Fault) {
	switch f.Kind {
	case Loss:
		f.X = g.r.Float64() * 0.8
	case Slow:
		f.By = between(g.r, g.unit/4, 8*g.unit)
	case Double:
		f.X, f.By = g.r.Float64(), between(g.r, 0, 4*g.unit)
	}
}

func (g *generator) operator(f *Fault) {
	wishes := []string{"switchover", "switchover", "failover", "failover", "failback", "activate", "pause", "pause", "resume", "acknowledge"}
	f.For, f.What, f.Service = 0, wishes[g.r.IntN(len(wishes))], g.units[g.r.IntN(len(g.units))]
	if g.r.IntN(3) > 0 {
		f.To = g.site()
	}
	switch {
	case f.What == "pause":
		f.By = g.duration()
	case g.r.IntN(10) == 0:
		f.N = 1 + g.r.IntN(3) // an operator who looked some time ago
	}
}
