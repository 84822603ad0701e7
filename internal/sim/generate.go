package sim

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook/effecttest"
)

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
	g.lease = p.longestLease()
	s := Schedule{Seed: seed, Trouble: between(r, 18*time.Second, 26*time.Second)}
	n := 2 + r.IntN(11)
	at := between(r, 2*time.Second, 4*time.Second)
	for len(s.Faults) < n {
		some := g.recipe()
		for i, f := range some {
			f.At += at
			if len(some) == 1 && len(s.Faults) >= 2 && r.IntN(3) == 0 {
				f.When = phasesHit[r.IntN(len(phasesHit))]
			}
			if i == 0 || f.At < s.Trouble {
				s.Faults = append(s.Faults, f)
			}
		}
		switch r.IntN(4) {
		case 0: // at once
		case 1:
			at += between(r, 0, 300*ms)
		default:
			at += between(r, 0, 2*(s.Trouble-4*time.Second)/time.Duration(n))
		}
		if at >= s.Trouble-time.Second {
			at = between(r, 2*time.Second, s.Trouble-time.Second)
		}
	}
	has := func(k Kind) bool {
		return slices.ContainsFunc(s.Faults, func(f Fault) bool { return f.Kind == k })
	}
	if has(Rollback) && p.devices() { // they would switch off who remembers
		s.Faults = slices.DeleteFunc(s.Faults, func(f Fault) bool { return f.Kind == Rollback })
	}
	if has(Rollback) || has(Clone) {
		s.Faults = slices.DeleteFunc(s.Faults, tooMuch)
	}
	for _, m := range p.Machines {
		if m.Version != 0 && !has(Rollback) {
			s.Faults = append(s.Faults, Fault{At: between(r, 3*time.Second, s.Trouble), Kind: Upgrade, On: m.ID, For: g.duration()})
		}
	}
	s.Faults = append(s.Faults, g.edgeFaults(rand.New(rand.NewPCG(seed, 4)), s.Trouble)...)
	for sure := countSure(s.Faults); sure < 2; sure++ {
		s.Faults = append(s.Faults, Fault{At: between(r, 2*time.Second, s.Trouble-time.Second), Kind: Service, On: Active, Service: g.parts[0], For: g.lasting()})
	}
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return s
}

// tooMuch: beside a log that went backwards no other daemon dies or is cut
// off. Who went backwards is found out by those who remember what it said; if
// they have just started, or cannot be heard, nobody can know (docs/sim.md).
func tooMuch(f Fault) bool {
	switch f.Kind {
	case Rollback, Clone, FreezeGuard, RestartGuard, SlowGuard, Drift, Step, Service, Flap, Blind, Mirage, Effect, SlowEffect, Edge, Operator:
		return false
	}
	return true
}

// countSure counts the faults that happen whatever else does.
func countSure(all []Fault) int {
	n := 0
	for _, f := range all {
		switch f.Kind {
		case Step, Stop, Clone, FreezeGuard, RestartGuard, Cut, OneWay, Loss, Slow, Double: // perhaps of one member with itself, or more than is assumed
		default:
			if f.When == "" {
				n++
			}
		}
	}
	return n
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
	lease        time.Duration
	lost         bool // a disk was lost or set back
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

func (g *generator) member() draas.MemberID {
	if g.r.IntN(2) == 0 {
		return [...]draas.MemberID{Active, Active, Standby, Leader}[g.r.IntN(4)]
	}
	return g.all[g.r.IntN(len(g.all))]
}

func (g *generator) site() draas.MemberID {
	if g.r.IntN(2) == 0 {
		return [...]draas.MemberID{Active, Active, Standby}[g.r.IntN(3)]
	}
	return g.sites[g.r.IntN(len(g.sites))]
}

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
	case Drift:
		f.X, f.For = drawRate(g.r), 0
	case Step:
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
		f.To = g.sites[g.r.IntN(len(g.sites))]
	}
	switch {
	case f.What == "pause":
		f.By = g.duration()
	case g.r.IntN(10) == 0:
		f.N = 1 + g.r.IntN(3) // an operator who looked some time ago
	}
}

// lasting is long enough for a lease to end and a move to be made.
func (g *generator) lasting() time.Duration { return between(g.r, g.lease, 4*g.lease) }

// apart ends what the active site has with the others, in one of many ways.
func (g *generator) apart(at time.Duration) Fault {
	return Fault{At: at, Kind: [...]Kind{Isolate, Isolate, Freeze, Power, Stop, FreezeGuard}[g.r.IntN(6)], On: Active, For: g.lasting()}
}

func (g *generator) soon() time.Duration { return between(g.r, 0, 2*g.unit) }

// copied is a machine that is copied, perhaps while its service is to move.
func (g *generator) copied(unit, part draas.ServiceID) []Fault {
	g.lost = true
	f := Fault{Kind: Clone, On: g.all[g.r.IntN(len(g.all))], By: between(g.r, g.unit/8, g.lease), For: 2 * g.lasting()}
	if g.p.version() == 0 {
		f.By = 0 // version 1 takes a copy that starts twice for the machine
	}
	switch g.r.IntN(4) {
	case 0:
		f.On = Active
		return []Fault{f, {At: g.soon(), Kind: Operator, On: Leader, What: "switchover", Service: unit}}
	case 1:
		f.On = Active
		return []Fault{{Kind: Service, On: Active, Service: part, For: g.lasting()}, {At: g.soon(), Kind: Clone, On: f.On, By: f.By, For: f.For}}
	}
	return []Fault{f}
}

// recipe draws one fault, or several that together are worse than each.
func (g *generator) recipe() []Fault {
	unit := g.units[g.r.IntN(len(g.units))]
	part := g.p.Policy.PartsOf(unit)[0]
	n := 29
	if g.lost {
		n = 26 // a majority keeps its disks: more than that nobody promises
	}
	switch g.r.IntN(n) {
	case 26: // an old copy of a data directory is put back
		g.lost = true
		return []Fault{{Kind: Rollback, On: g.all[g.r.IntN(len(g.all))], By: g.duration(), For: g.duration()}}
	case 28: // a machine is copied and both run
		return g.copied(unit, part)
	case 27: // a disk is lost
		g.lost = true
		return []Fault{{Kind: Wipe, On: g.all[g.r.IntN(len(g.all))], For: g.duration()}}
	case 0: // the wall clock goes back, and nobody can end the permit by word
		return []Fault{{Kind: Step, On: Active, By: -between(g.r, time.Second, time.Hour)}, g.apart(g.soon())}
	case 1: // renewals come back late, then none goes out any more
		return []Fault{{Kind: Slow, On: Leader, To: Active, By: between(g.r, g.lease/4, 2*g.lease), For: 8 * g.lease},
			{At: between(g.r, g.lease/2, 2*g.lease), Kind: OneWay, On: Active, To: Leader, For: g.lasting()},
			{At: between(g.r, g.lease/2, 2*g.lease), Kind: OneWay, On: Active, To: Standby, For: g.lasting()}}
	case 2: // the holder's clocks are slow, the successor's fast
		return []Fault{{Kind: Drift, On: Active, X: 1 - drift}, {Kind: Drift, On: Standby, X: 1 + drift}, g.apart(g.soon())}
	case 3: // a handover with a slow guard, and somebody dies in it
		return []Fault{{Kind: SlowGuard, On: Active, By: between(g.r, g.unit/4, g.lease), For: g.lasting()},
			{At: g.soon(), Kind: Operator, On: Leader, What: "switchover", Service: unit},
			{At: g.soon(), When: failover.PhaseFencing, Kind: [...]Kind{Crash, CrashSay, Freeze, Isolate}[g.r.IntN(4)], On: g.member(), N: g.r.IntN(6), For: g.duration()}}
	case 4: // the service dies, and dies at the new site too before the move is complete
		return []Fault{{Kind: Service, On: Active, Service: part, For: g.lasting()},
			{When: [...]failover.Phase{failover.PhaseRedirecting, failover.PhaseVerifying}[g.r.IntN(2)], Kind: Service, On: Active, Service: part, For: g.lasting()}}
	case 5: // the disaster takes the leader along
		return []Fault{g.apart(0), {Kind: Crash, On: Leader, For: g.duration()}}
	case 6: // all daemons die at once
		var all []Fault
		for _, id := range g.all {
			all = append(all, Fault{At: between(g.r, 0, 300*ms), Kind: [...]Kind{Crash, CrashWrite, CrashSay}[g.r.IntN(3)], On: id, N: g.r.IntN(6), For: g.duration()})
		}
		return all
	case 7: // the standby is gone, and comes back to a dead active site
		return []Fault{{Kind: Power, On: Standby, For: g.lasting()}, {At: g.lasting(), Kind: Service, On: Active, Service: part, For: g.lasting()}}
	case 8: // two members do not see each other, the third sees both
		return []Fault{{Kind: [...]Kind{Cut, OneWay}[g.r.IntN(2)], On: Active, To: [...]draas.MemberID{Standby, Leader}[g.r.IntN(2)], For: g.lasting()}}
	case 9: // nobody sees anybody
		var all []Fault
		for _, id := range g.all[1:] {
			all = append(all, Fault{At: g.soon(), Kind: Isolate, On: id, For: g.lasting()})
		}
		return all
	case 10: // paused, and then it fails
		return []Fault{{Kind: Operator, On: Leader, What: "pause", Service: unit, By: g.lasting()},
			{At: g.soon(), Kind: Service, On: Active, Service: part, For: g.lasting()}, {At: g.lasting(), Kind: Operator, On: Leader, What: "resume", Service: unit}}
	case 11: // the new site fails as soon as the move is complete
		return []Fault{{Kind: Service, On: Active, Service: part, For: g.lasting()},
			{At: g.lease / 2, When: failover.PhaseElsewhere, Kind: Service, On: Active, Service: part, For: g.lasting()}}
	case 12: // everything looks dead
		return []Fault{{Kind: Service, On: Active, Service: part, For: g.lasting()}, {At: g.soon(), Kind: Service, On: Standby, Service: part, For: g.lasting()}}
	}
	return []Fault{g.fault()}
}
