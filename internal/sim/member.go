package sim

import (
	"io"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
	"github.com/draasd/draas/runbook"
)

// member is one machine: its clocks, its disk, its guard, and a daemon that
// may be crashed or frozen.
type member struct {
	w      *World
	id     draas.MemberID
	role   draas.Role
	disk   *quorumtest.Disk
	random io.Reader // of the core's campaigns

	// The machine's clocks: boot = base + rate * true time.
	base time.Duration
	rate float64
	wall time.Duration // offset of the wall clock, stepped by faults
	boot int           // counts boots
	down bool          // the machine is off

	daemon      *quorum.Replica // nil: not running
	incarnation draas.Incarnation
	frozen      bool
	inbox       []quorum.Message // waits while frozen
	run         int              // tells timers of an earlier run apart
	wakeAt      time.Duration
	failed      error
	published   draas.Epoch // what this run's DNS answers are of

	// gate is the guard's decision and its fence, which closes at once: it
	// outlives the daemon, not the machine.
	gate fence.Ledger
	see  map[seen]*streak
	done map[runbook.Record]bool
}

type seen struct {
	site draas.SiteID
	peer draas.MemberID
}

// streak is a small detector: two equal looks in a row make a verdict.
type streak struct {
	good, bad int
	epoch     draas.Epoch
}

func (m *member) reading() draas.Reading {
	elapsed := time.Duration(float64(m.w.now) * m.rate)
	return draas.Reading{Boot: m.base + elapsed, Wall: 500_000*time.Hour + elapsed + m.wall}
}

func (m *member) running() bool { return m.daemon != nil && !m.frozen && !m.down }

// gateOpen reports whether users can reach the service's site now.
func (m *member) gateOpen() bool {
	return m.role == draas.RoleSite && !m.down && m.gate.Live(m.reading())
}

// start boots the daemon from what is on the disk.
func (m *member) start() {
	m.run++
	m.incarnation = draas.Incarnation(m.w.rng.Uint64() | 1)
	m.frozen, m.inbox, m.published = false, nil, 0
	m.see = make(map[seen]*streak)
	m.done = make(map[runbook.Record]bool)
	replica, err := quorum.OpenReplica(m.w.coreConfig(m), failover.AgentConfig{
		Self: m.id, Incarnation: m.incarnation, Boot: bootName(m), Policy: policy(), Resend: 200 * ms,
	}, m.reading())
	if err != nil {
		m.failed = err
		m.w.violation("%s cannot start: %v", m.id, err)
		return
	}
	m.daemon = replica
	m.w.note("%s starts, run %d", m.id, m.run)
	m.poll(m.run)
	m.process()
}

// process is one turn of the daemon's main loop.
func (m *member) process() {
	if !m.running() {
		return
	}
	for _, msg := range m.inbox {
		m.daemon.Receive(msg)
	}
	m.inbox = nil
	out, err := m.daemon.Process(m.reading())
	if err != nil {
		m.w.note("%s stops: %v", m.id, err)
		m.crash(0)
		return
	}
	for _, a := range out.Actions {
		m.record(a)
	}
	m.command(out.Commands)
	for _, msg := range out.Messages {
		m.w.send(msg)
	}
	m.publish()
	m.wake(max(m.daemon.Next(m.reading()), ms))
}

// wake plans the next turn, unless an earlier one is planned.
func (m *member) wake(d time.Duration) {
	at := m.w.now + d
	if m.wakeAt > m.w.now && m.wakeAt <= at {
		return
	}
	m.wakeAt = at
	run := m.run
	m.w.after(d, func() {
		if m.run == run && m.wakeAt == at {
			m.process()
		}
	})
}

func (m *member) record(a failover.Action) {
	if a.Kind == failover.ActionServe {
		m.w.granted(m.id, a.Site, a.Epoch)
	}
	if a.Kind != failover.ActionRecord {
		return
	}
	m.w.note("%s applies %d: %s", m.id, a.Record.Index, a.Record.Text)
	m.w.result.Phases[a.Record.Phase] = true
	for _, r := range a.Record.Reasons {
		m.w.note("    %v %s", r.OK, r.Text)
	}
	switch a.Record.Kind {
	case failover.RecordDecision, failover.RecordRefusal:
		if len(a.Record.Reasons) == 0 {
			m.w.violation("rule 10: %q has no reasons", a.Record.Text)
		}
	case failover.RecordDone:
		if m.id == "witness" && a.Record.Move.Kind != failover.MoveActivate {
			m.w.result.Moves++
		}
	}
}

// command carries out what the daemon commands, after a while: guard and
// effects are processes of their own.
func (m *member) command(c failover.Commands) {
	for _, x := range c.Extend {
		m.w.after(m.w.between(0, 5*ms), func() { m.extend(x) })
	}
	for _, x := range c.Close {
		run := m.run
		m.w.after(m.w.between(0, 20*ms), func() { m.shut(x, run) })
	}
	for _, x := range c.Steps {
		rec := runbook.Record{Service: x.Due.Op.Service, Move: x.Due.Op.Token, Step: x.Due.Op.Step, Member: m.id,
			Outcome: runbook.OutcomeDone, Evidence: "seen"}
		if x.Release {
			rec.Outcome = runbook.OutcomeReleased
		}
		if m.done[rec] {
			continue
		}
		m.done[rec] = true
		run := m.run
		m.w.after(m.w.between(1*ms, 30*ms), func() {
			if m.run == run && m.daemon != nil {
				m.daemon.StepEnded(rec)
				m.process()
			}
		})
	}
}

// extend is the guard's receipt of a later deadline.
func (m *member) extend(x failover.Extend) {
	if m.down {
		return
	}
	if err := m.gate.Extend(m.reading(), x.Epoch, x.Deadline); err != nil {
		m.w.note("%s guard refuses: %v", m.id, err)
		return
	}
	m.w.note("%s guard open for epoch %d until +%v", m.id, x.Epoch, x.Deadline.Left(m.reading()))
}

func (m *member) shut(x failover.Close, run int) {
	if m.down {
		return
	}
	if err := m.gate.Close(x.Epoch); err != nil {
		m.w.note("%s guard refuses: %v", m.id, err)
		return
	}
	m.w.note("%s guard closed for epoch %d", m.id, x.Epoch)
	if m.run == run && m.daemon != nil {
		m.daemon.FenceClosed(x.Service, x.Epoch)
		m.process()
	}
}

// publish is the DNS authority: its epoch never goes back within a run.
func (m *member) publish() {
	sv := m.daemon.State().Services[service]
	if sv == nil {
		return
	}
	if sv.Epoch < m.published {
		m.w.violation("rule 3: %s answers epoch %d after %d", m.id, sv.Epoch, m.published)
	}
	m.published = sv.Epoch
}

// poll is the monitor: a look at everything every 250 ms.
func (m *member) poll(run int) {
	if m.run != run || m.down {
		return
	}
	m.w.after(m.w.between(230*ms, 270*ms), func() { m.poll(run) })
	if !m.running() {
		return
	}
	for _, other := range m.w.members {
		if other != m {
			m.look(seen{peer: other.id}, 0, m.w.reaches(m.id, other.id) && other.running())
		}
	}
	var active draas.SiteID
	var epoch draas.Epoch
	if sv := m.daemon.State().Services[service]; sv != nil {
		if site, e, held := sv.Holder(); held {
			active, epoch = site, e
		}
	}
	for _, site := range []draas.SiteID{"primary", "dr"} {
		switch {
		case site.Member() == m.id:
			m.look(seen{site: site}, 0, m.w.up[site])
		case site == active:
			there := m.w.member(site.Member())
			m.look(seen{site: site}, epoch, m.w.up[site] && m.w.reaches(m.id, there.id) && there.gateOpen())
		default:
			delete(m.see, seen{site: site})
			m.daemon.Forget(service, site)
		}
	}
	m.process()
}

func (m *member) look(what seen, epoch draas.Epoch, good bool) {
	s := m.see[what]
	if s == nil || s.epoch != epoch {
		s = &streak{epoch: epoch}
		m.see[what] = s
	}
	if good {
		s.good, s.bad = s.good+1, 0
	} else {
		s.good, s.bad = 0, s.bad+1
	}
	o := failover.Observation{Site: what.site, Peer: what.peer, Epoch: epoch, Class: "simulated"}
	if what.site != "" {
		o.Service = service
	}
	switch {
	case s.bad >= 3:
		o.Verdict = draas.Failed
	case s.bad > 0:
		o.Verdict = draas.Suspect
	default:
		o.Verdict = draas.Healthy
	}
	m.daemon.Look(o)
}

// crash ends the daemon; the disk keeps what it synced and perhaps more.
// Restart follows after d; zero means when the world heals.
func (m *member) crash(d time.Duration) {
	if m.daemon == nil {
		return
	}
	m.daemon, m.inbox = nil, nil
	m.disk = m.disk.Crash(m.w.rng)
	m.run++
	run := m.run
	if d > 0 {
		m.w.after(d, func() {
			if m.run == run && m.daemon == nil && !m.down {
				m.start()
			}
		})
	}
}
