package sim

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/health"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
	"github.com/draasd/draas/runbook"
)

// member is one machine: its clocks, its disk, its guard, and a daemon that
// may be dead or frozen.
type member struct {
	w      *World
	index  int
	seat   int // the index of whom it is, or is a twin of
	twin   *member
	id     draas.MemberID
	site   bool
	disk   *disk
	random io.Reader // of the core's campaigns
	clocks clocks
	boot   int
	// version is of its program; zero is the newest.
	version int
	off     bool // the machine is
	// lost: the log on the disk is not what it was. Whether the daemon finds
	// out is what is tested; then an operator replaces it.
	lost bool
	// said is what it had promised before what it says now, next what it has
	// promised by now, heard what others have heard of that; kept while a copy
	// of its disk may be put back. setBack: more was heard than the copy that
	// was put back holds. silent: it has not said anything since.
	said, next, heard promise
	setBack, silent   bool
	// stood and stepped: what its clocks have done since it booted.
	stood, stepped bool

	daemon      *quorum.Replica // nil: not running
	incarnation draas.Incarnation
	// frozen until then, in true time; the machine stands until then.
	frozen, stopped time.Duration
	inbox           []quorum.Message // waits while frozen
	run             int              // tells events of an earlier run apart
	wakeAt          time.Duration
	sayLeft         int   // outputs until the daemon is killed; negative: none
	ended           error // why the daemon ended by itself, the last time

	guard   guard
	eyes    []eye // by what is looked at: members, then own and far parts
	effects effects
	dns     []draas.Epoch                     // by part: what this run's answers are of
	named   map[draas.ServiceID]runbook.Token // by part: what this run leads its name by
	asked   uint64                            // the last request of an operator to this run
	// blind and mirage until then, in true time.
	blind, mirage time.Duration
}

func newMember(w *World, index int, machine Machine) *member {
	return &member{
		w: w, index: index, seat: index, version: machine.Version, id: machine.ID, site: machine.Role == draas.RoleSite, disk: newDisk(),
		random: quorumtest.Bytes(w.noise.Uint64()), sayLeft: -1,
		clocks: clocks{rate: machine.Rate, boot: w.between(time.Hour, 1000*time.Hour), wall: epoch1},
		guard:  guard{gates: make([]gate, len(w.parts))},
	}
}

func (m *member) reading() draas.Reading { return m.clocks.at(m.w.now) }

// stands: the machine does not run at all.
func (m *member) stands() bool { return m.stopped > m.w.now }

// running: the daemon is there and gets the processor.
func (m *member) running() bool {
	return m.daemon != nil && m.frozen <= m.w.now && !m.off && !m.stands()
}

// start boots the daemon from what is on the disk. systemd tries again.
func (m *member) start() {
	if m.off || m.daemon != nil {
		return
	}
	if m.stands() {
		m.w.after(m.stopped-m.w.now+ms, m.start)
		return
	}
	m.run++
	m.incarnation = draas.Incarnation(m.w.noise.Uint64() | 1)
	m.frozen, m.inbox, m.wakeAt, m.asked = 0, nil, 0, 0
	replica, err := quorum.OpenReplica(m.coreConfig(), failover.AgentConfig{
		Self: m.id, Incarnation: m.incarnation, Boot: fmt.Sprintf("%s-boot-%d", m.id, m.boot), Policy: m.w.p.Policy, Resend: m.w.p.Resend, Version: m.version,
	}, m.reading())
	if err != nil {
		m.endedWith(err)
		m.disk.crash(m.w.noise)
		m.afterEnd(err)
		return
	}
	m.daemon = replica
	m.eyes = make([]eye, len(m.w.seats())+2*len(m.w.parts)+len(m.w.edges))
	m.named = make(map[draas.ServiceID]runbook.Token)
	m.dns = make([]draas.Epoch, len(m.w.parts))
	m.effects.reset(m)
	m.guard.forget()
	m.w.note("%s starts, run %d", m.id, m.run)
	m.w.push(m.w.now+m.w.between(0, m.w.p.Probe), event{typ: evLook, to: m, run: m.run})
	m.process()
}

func (m *member) coreConfig() quorum.CoreConfig {
	p := &m.w.p
	ids := make([]draas.MemberID, 0, len(p.Machines))
	for _, o := range p.Machines {
		ids = append(ids, o.ID)
	}
	return quorum.CoreConfig{
		Self: m.id, Members: ids, Heartbeat: p.Heartbeat, Election: p.Election, Disk: m.disk,
		Log: m.w.log.With("m", m.id), Rand: m.random, SnapshotEvery: p.SnapshotEvery,
	}
}

// endedWith keeps why the daemon ended by itself, and says so if nothing that
// was done to it explains that.
func (m *member) endedWith(err error) {
	m.w.note("%s ends: %v", m.id, err)
	m.ended = err
	twice := m.twin != nil && strings.Contains(err.Error(), "two daemons have one identity")
	if !m.disk.faulty() && m.foundOut(err) == "" && !twice {
		m.w.violation("the daemon of %s ended by itself: %v", m.id, err)
	}
}

// lostLogs are the last words of a daemon whose log is not what it was.
var lostLogs = map[string]error{
	"empty disk": quorum.ErrNotBootstrapped, "old copy": quorum.ErrLostLog, "clone": quorum.ErrCloned, "removed": quorum.ErrRemoved,
}

// afterEnd starts the daemon again, or has an operator do what its last words
// ask for.
func (m *member) afterEnd(err error) {
	if m == m.w.twin {
		return // nobody starts it again
	}
	what, run := m.foundOut(err), m.run
	if what == "" {
		m.again(m.w.p.Restart)
		return
	}
	m.setBack = false
	m.w.cover.Checks["found out: "+what]++
	m.w.after(m.w.between(m.w.p.Restart, 3*m.w.p.Restart), func() {
		if m.run == run && !m.off {
			m.replace()
		}
	})
}

// foundOut says which loss of its log made the daemon end; empty: none.
func (m *member) foundOut(err error) string {
	for what, gone := range lostLogs {
		if m.lost && errors.Is(err, gone) {
			return what
		}
	}
	return ""
}

// process is one turn of the daemon's main loop.
func (m *member) process() {
	if !m.running() {
		return
	}
	for i, msg := range m.inbox {
		m.daemon.Receive(msg)
		m.inbox[i] = quorum.Message{}
	}
	m.inbox = m.inbox[:0]
	now := m.reading()
	out, err := m.daemon.Process(now)
	if err != nil {
		if m.disk.killed {
			m.w.note("%s is killed at its disk", m.id)
			err = errKilled
		} else {
			m.endedWith(err)
		}
		m.die()
		m.afterEnd(err)
		return
	}
	// What was applied counts, whether or not it is carried out.
	m.w.oracle.applied(m, out)
	if m.carryOut(&out) {
		m.wakeIn(m.daemon.Next(now))
	}
}

// carryOut does what the daemon wants, unless it is killed on the way: false.
func (m *member) carryOut(out *quorum.Output) bool {
	c := &out.Commands
	for _, x := range c.Extend {
		m.w.oracle.commanded(m, x)
		if m.say() {
			return false
		}
		m.guard.carryExtend(m, x)
	}
	for _, x := range c.Close {
		if m.guard.wantsClose(m, x) && m.say() {
			return false
		}
		m.guard.carryClose(m, x)
	}
	m.effects.follow(m, c.Steps)
	for _, x := range c.Fence {
		m.effects.device(m, x)
	}
	m.speaks(len(out.Messages))
	for _, msg := range out.Messages {
		if m.say() {
			return false
		}
		m.w.send(m, msg)
	}
	if out.Changed {
		m.publish()
		m.oversee()
	}
	return true
}

// say is asked before each output: true, and the daemon is killed here.
func (m *member) say() bool {
	if m.sayLeft < 0 {
		return false
	}
	m.sayLeft--
	if m.sayLeft >= 0 {
		return false
	}
	m.w.note("%s is killed before it has said all", m.id)
	m.die()
	m.again(m.w.p.Restart)
	return true
}

// woken takes a turn, unless what it was planned for has been put off since.
func (m *member) woken() {
	if !m.running() {
		return
	}
	if d := m.daemon.Next(m.reading()); d > ms {
		m.wakeIn(d)
		return
	}
	m.process()
}

// wakeIn plans the next turn, unless an earlier one is planned.
func (m *member) wakeIn(d time.Duration) {
	at := m.w.now + m.clocks.real(max(d, ms))
	if m.wakeAt > m.w.now && m.wakeAt <= at {
		return
	}
	m.wakeAt = at
	m.w.push(at, event{typ: evWake, to: m, run: m.run})
}

// die ends the daemon; the disk keeps what it synced and perhaps more. Those
// it talked with see their connections reset, mostly.
func (m *member) die() {
	if m.daemon == nil {
		return
	}
	m.daemon, m.inbox, m.sayLeft = nil, nil, -1
	m.disk.crash(m.w.noise)
	m.run++
	for _, o := range m.w.members {
		if o.id == m.id || m.off || m.w.noise.IntN(4) == 0 {
			continue
		}
		m.w.after(m.w.p.Delay+m.w.between(0, m.w.p.Jitter), func() {
			if o.running() && m.w.reaches(o, m) {
				o.daemon.PeerDown(m.id)
				o.process()
			}
		})
	}
}

// again starts the daemon after a while, if it has not been started by then.
func (m *member) again(d time.Duration) {
	run := m.run
	m.w.after(d, func() {
		if m.run == run {
			m.start()
		}
	})
}

// publish is the DNS authority: it answers from the state.
func (m *member) publish() {
	for _, p := range m.w.parts {
		sv := m.daemon.State().Services[p.unit]
		if sv == nil || sv.Active == "" {
			m.w.oracle.answers(m, p, "", 0)
			continue
		}
		m.w.oracle.answers(m, p, sv.Active, sv.Epoch)
		m.dns[p.index] = sv.Epoch
	}
}

// open reports whether users can reach the part at this member's site now.
func (m *member) open(p *part) bool {
	if !m.site || m.off || m.stands() {
		return false
	}
	return m.guard.open(m, p)
}

// eye is what a member sees of one thing.
type eye struct {
	detector *health.Detector
	epoch    draas.Epoch
	told     draas.Verdict
	telling  bool // something was told
}

// still is the detectors' chance: jitter is drawn by the simulator.
func still() float64 { return 0.5 }

// look is the monitor: one look at everything, and it is handed on when a
// verdict has changed.
func (m *member) look(run int) {
	w := m.w
	if m.run != run || m.off {
		return
	}
	w.push(w.now+w.between(w.p.Probe*9/10, w.p.Probe*11/10), event{typ: evLook, to: m, run: run})
	if !m.running() {
		return
	}
	changed := false
	for i, o := range w.seats() {
		if o.id != m.id {
			good := w.reaches(m, o) && o.running()
			changed = m.see(i, failover.Observation{Peer: o.id}, good) || changed
		}
	}
	changed = m.listen() || changed
	s := m.daemon.State()
	for _, p := range w.parts {
		own, far := len(w.seats())+2*p.index, len(w.seats())+2*p.index+1
		var active draas.SiteID
		var epoch draas.Epoch
		if sv := s.Services[p.unit]; sv != nil {
			if site, e, held := sv.Holder(); held {
				active, epoch = site, e
			}
		}
		policy := w.p.Policy.Services[p.unit]
		if m.site && (policy.Warm || active.Member() == m.id) {
			good := p.alive[m.index] && (policy.Warm || m.open(p))
			changed = m.see(own, failover.Observation{Service: p.id, Site: m.id.Site()}, good) || changed
		} else if m.eyes[own].telling {
			m.eyes[own] = eye{}
			m.daemon.Forget(p.id, m.id.Site())
		}
		there := w.member(active.Member())
		if there != nil && there.id != m.id {
			good := p.alive[there.index] && w.reaches(m, there) && there.open(p) && m.mirage <= w.now
			changed = m.see(far, failover.Observation{Service: p.id, Site: active, Epoch: epoch}, good) || changed
		} else if m.eyes[far].telling {
			m.eyes[far] = eye{}
			for _, o := range w.seats() {
				if o.id != m.id && o.site {
					m.daemon.Forget(p.id, o.id.Site())
				}
			}
		}
	}
	if changed {
		m.process()
	}
}

// see takes one result and reports whether the daemon was told of a change.
func (m *member) see(i int, o failover.Observation, good bool) bool {
	e := &m.eyes[i]
	if e.detector == nil || e.epoch != o.Epoch {
		p := &m.w.p
		*e = eye{epoch: o.Epoch, detector: health.NewDetector(health.Timing{Interval: p.Probe, Timeout: p.Probe,
			SecondLook: p.Probe, Rise: p.Rise, Fall: p.Fall}, still)}
	}
	r := health.Result{Class: health.ClassOK}
	switch {
	case m.blind > m.w.now:
		r.Class = health.ClassLocal
	case !good:
		r.Class = health.ClassTimeout
	}
	o.Verdict, _, _ = e.detector.Step(m.w.now, r)
	if e.telling && e.told == o.Verdict {
		return false
	}
	e.telling, e.told = true, o.Verdict
	if o.Verdict != draas.Healthy {
		o.Class = string(r.Class)
	}
	m.w.oracle.told(m, o)
	m.daemon.Look(o)
	return true
}
