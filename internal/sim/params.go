package sim

import (
	"math/rand/v2"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

const ms = time.Millisecond

// drift is rho: the simulated clocks stay within it, and reach it.
const drift = 0.1

// Params is what a cluster is like: the file that its members were started
// with, their clocks and the network between them. A schedule's seed draws it;
// a scenario may bring its own.
type Params struct {
	Machines []Machine // sorted by name

	Heartbeat, Election time.Duration
	// Probe is how often a member looks at everything, Rise and Fall how many
	// looks make a verdict.
	Probe      time.Duration
	Rise, Fall int
	Resend     time.Duration
	// Delay is what a message takes, Jitter how much longer at most; of
	// Doubled messages in a thousand a copy arrives.
	Delay, Jitter time.Duration
	Doubled       int
	// SnapshotEvery is after how many entries the log is cut.
	SnapshotEvery uint64
	// Restart is after how long a daemon that has ended is started again.
	Restart time.Duration
	Policy  failover.Policy
}

// Machine is one member's.
type Machine struct {
	ID     draas.MemberID
	Role   draas.Role
	Domain string
	Rate   float64 // of its clocks, 1 is right
	// Version is of its program, as failover.AgentConfig has it.
	Version int
}

// Default is a cluster of two sites and a witness with right clocks, one
// service "shop" at home at primary, and the timings of profile fast.
func Default() Params {
	p := Params{
		Machines: []Machine{
			{ID: "dr", Role: draas.RoleSite, Domain: "west", Rate: 1},
			{ID: "primary", Role: draas.RoleSite, Domain: "east", Rate: 1},
			{ID: "witness", Role: draas.RoleWitness, Domain: "north", Rate: 1},
		},
		Heartbeat: 50 * ms, Election: 300 * ms,
		Probe: 250 * ms, Rise: 2, Fall: 4, Resend: 300 * ms,
		Delay: ms, Jitter: 2 * ms, Doubled: 20, SnapshotEvery: 64, Restart: 500 * ms,
	}
	p.Policy = failover.Policy{Digest: "simulated", Services: map[draas.ServiceID]failover.ServicePolicy{
		"shop": serviceOf(2*time.Second, 400*ms, 250*ms),
	}, Retarget: 3200 * ms, Take: 900 * ms}
	p.members()
	return p
}

// members says in the policy who the machines are.
func (p *Params) members() {
	p.Policy.Members = nil
	for _, m := range p.Machines {
		p.Policy.Members = append(p.Policy.Members, failover.MemberPolicy{ID: m.ID, Role: m.Role, Domain: m.Domain})
	}
}

func serviceOf(lease, renew, probe time.Duration) failover.ServicePolicy {
	return failover.ServicePolicy{
		Home: "primary", Sites: []draas.SiteID{"primary", "dr"}, Automatic: true, Fence: draas.FenceKernel,
		Confirmations: 2, Warm: true, Renew: renew, Hold: 2 * lease, Start: 4 * probe,
		Steps: []runbook.Step{{Name: "dns", Effect: "dns", Timeout: time.Second}},
		// No margin: the simulated fence closes at once.
		Lease: draas.Lease{Length: lease, Drift: drift},
	}
}

// draw draws a cluster. Most have slower timings than profile fast: what
// happens depends on the order of events and on the ratios of the durations,
// and a cluster with long ones has fewer events in a second. Still longer ones
// find fewer bugs in the same processor time, and shorter ones too (docs/sim.md).
func draw(r *rand.Rand) Params {
	p := Default()
	unit := between(r, 250*ms, 600*ms)
	if r.IntN(48) == 0 {
		unit = 50 * ms // as profile fast has it: ten times the events
	}
	p.Heartbeat = unit
	p.Election = unit*2 + between(r, 0, 3*unit)
	p.Probe = between(r, unit, 2*unit)
	p.Fall = 2 + r.IntN(2)
	p.Resend = p.Election * time.Duration(1+r.IntN(2))
	p.Jitter = []time.Duration{2 * ms, 2 * ms, 20 * ms, unit / 2}[r.IntN(4)]
	p.Doubled = []int{0, 5, 20, 200}[r.IntN(4)]
	p.SnapshotEvery = []uint64{16, 64, 256, 256, 256, 1000, 1000, 1000}[r.IntN(8)]
	p.Restart = between(r, 2*unit, 10*unit)
	for i := range p.Machines {
		p.Machines[i].Rate = drawRate(r)
	}
	switch r.IntN(8) {
	case 0:
		p.Machines[2].Domain = p.Machines[0].Domain // the witness stands at the DR site
	case 1:
		p.Machines[2].Domain = p.Machines[1].Domain
	}
	lease := max(p.Election*3/2, unit*4+between(r, 0, 4*unit))
	p.Policy.Services = map[draas.ServiceID]failover.ServicePolicy{"shop": drawService(r, p, lease)}
	switch r.IntN(9) {
	case 0:
		p.Policy.Services["mail"] = drawService(r, p, lease)
	case 1:
		p.Policy.Services["mail"] = drawService(r, p, lease)
		p.Policy.Services["wiki"] = drawService(r, p, lease)
	case 2:
		group := drawService(r, p, lease)
		group.Parts = []draas.ServiceID{"mail", "wiki"}
		p.Policy.Services["office"] = group
	}
	aged := r.IntN(12) == 0
	if aged {
		p.age(r)
	}
	if r.IntN(3) == 0 && !aged {
		p.hybrid("shop", "shop", 1+r.IntN(2))
	}
	p.Policy.Retarget = time.Duration(float64(lease)*(1+drift)) + 4*unit
	p.Policy.Take = 2*p.Election + p.Resend + 2*unit
	p.members()
	return p
}

// age makes a cluster that is being upgraded: some of its members are of
// version 1, and the file has nothing that version does not know.
func (p *Params) age(r *rand.Rand) {
	for i := range p.Machines {
		p.Machines[i].Version = r.IntN(2)
	}
	for id, s := range p.Policy.Services {
		s.HoldMax, s.LeastOutage, s.Restart, s.Flaps, s.Steady, s.MaxLoss = 0, 0, 0, 0, 0, 0
		s.OnLeaseLoss, s.Devices, s.Parts = "", nil, nil
		if s.Fence == draas.FenceDevice || s.Fence == draas.FenceNone {
			s.Fence = draas.FenceKernel
		}
		p.Policy.Services[id] = s
	}
}

// version is what the cluster can step by when it starts. With a file of
// today's nobody puts anything into use before all can read it.
func (p *Params) version() int {
	v := failover.Version
	for _, m := range p.Machines {
		if m.Version != 0 {
			v = 0
		}
	}
	return v
}

func drawRate(r *rand.Rand) float64 {
	switch r.IntN(3) {
	case 0:
		return 1 - drift
	case 1:
		return 1 + drift
	}
	return 1 - drift + 2*drift*r.Float64()
}

// drawService draws the rules of one service.
func drawService(r *rand.Rand, p Params, lease time.Duration) failover.ServicePolicy {
	s := serviceOf(lease, lease/time.Duration(3+r.IntN(3)), p.Probe)
	if r.IntN(3) == 0 {
		s.Home, s.Sites = "dr", []draas.SiteID{"dr", "primary"}
	}
	s.Automatic = r.IntN(8) > 0
	switch r.IntN(16) {
	case 0:
		s.Fence = draas.FenceNone
	case 1, 2, 3:
		s.Fence = draas.FencePath
	case 4:
		s.Fence, s.Warm = draas.FenceSystemd, false
	}
	if r.IntN(8) == 0 {
		s.Confirmations = 3
	}
	s.Confirm = []time.Duration{0, 0, p.Probe, 4 * p.Probe}[r.IntN(4)]
	s.Hold = []time.Duration{0, lease, 4 * lease, time.Minute}[r.IntN(4)]
	switch r.IntN(12) {
	case 0:
		s.OnLeaseLoss = draas.LeaseLossServe
	case 1:
		s.OnLeaseLoss, s.Devices = draas.LeaseLossServe, []draas.SiteID{"dr", "primary"}
	case 2:
		s.Fence, s.Warm, s.Devices = draas.FenceDevice, true, []draas.SiteID{"dr", "primary"}
	}
	if r.IntN(4) == 0 {
		s.HoldMax = 4 * s.Hold
	}
	if r.IntN(6) == 0 {
		s.LeastOutage = between(r, p.Probe, 6*p.Probe)
	}
	if r.IntN(6) == 0 {
		s.Restart = between(r, p.Probe, 12*p.Probe)
	}
	if r.IntN(4) == 0 {
		s.Flaps, s.Steady = 1+r.IntN(3), lease
	}
	if r.IntN(8) == 0 {
		s.MaxLoss = 30 * time.Second
	}
	s.Start = p.Probe * time.Duration(p.Rise+2)
	switch r.IntN(4) {
	case 0:
		s.Steps = nil
	case 1:
		s.Steps = append(s.Steps, runbook.Step{Name: "tell", Effect: "tell", Timeout: time.Second})
	}
	return s
}

// between draws a duration.
func between(r *rand.Rand, a, b time.Duration) time.Duration {
	return a + time.Duration(r.Int64N(int64(b-a)+1))
}

// devices reports whether a site can be switched off by another.
func (p *Params) devices() bool {
	for _, s := range p.Policy.Services {
		if len(s.Devices) > 0 {
			return true
		}
	}
	return false
}

func (p *Params) longestLease() time.Duration {
	var longest time.Duration
	for _, s := range p.Policy.Services {
		longest = max(longest, s.Lease.Length)
	}
	return longest
}

// bound is how long after the last fault every service has to have exactly
// one active site and no move under way: a daemon's restart, a few elections,
// what a failure takes to be seen and confirmed, a move that turns back twice,
// each wait at the pace of the slowest clock.
func (p *Params) bound() time.Duration {
	d := p.Restart + 6*p.Election + 3*p.Resend + time.Duration(2*p.Fall+2*p.Rise)*p.Probe + 2*p.Policy.Retarget
	var longest time.Duration
	for _, s := range p.Policy.Services {
		longest = max(longest, 2*s.Lease.Wait()+s.Confirm+2*s.Start+time.Duration(len(s.Steps))*time.Second)
	}
	return time.Duration(float64(d+longest)/(1-drift)) + 2*time.Second
}

// identified is within what time two daemons with one identity are found out
// that others hear.
func (p *Params) identified() time.Duration { return 6*p.Election + 500*ms }
