package sim

import (
	"fmt"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/fence"
	"github.com/draasd/draas/quorum"
	"github.com/draasd/draas/quorum/quorumtest"
	"github.com/draasd/draas/runbook"
)

// drift is rho: the simulated clocks stay within it, and reach it.
const drift = 0.1

func policy() failover.Policy {
	return failover.Policy{
		Digest: "simulated",
		Members: []failover.MemberPolicy{
			{ID: "dr", Role: draas.RoleSite, Domain: "west"},
			{ID: "primary", Role: draas.RoleSite, Domain: "east"},
			{ID: "witness", Role: draas.RoleWitness, Domain: "north"},
		},
		Services: map[draas.ServiceID]failover.ServicePolicy{service: {
			Home: "primary", Sites: []draas.SiteID{"primary", "dr"}, Automatic: true, Fence: draas.FenceKernel,
			Confirmations: 2, Warm: true, Renew: 400 * ms, Hold: 4 * time.Second, Start: time.Second, Steps: []runbook.Step{{Name: "dns", Effect: "dns", Timeout: time.Second}},
			// No margin: the simulated fence closes at once.
			Lease: draas.Lease{Length: 2 * time.Second, Drift: drift},
		}},
		Retarget: 3 * time.Second,
	}
}

func bootName(m *member) string { return fmt.Sprintf("%s-boot-%d", m.id, m.boot) }

func (w *World) coreConfig(m *member) quorum.CoreConfig {
	return quorum.CoreConfig{
		Self: m.id, Members: []draas.MemberID{"dr", "primary", "witness"},
		Heartbeat: 50 * ms, Election: 300 * ms, Disk: m.disk, Log: w.log,
		Rand: m.random, SnapshotEvery: 64,
	}
}

func (w *World) build() error {
	ids := []draas.MemberID{"dr", "primary", "witness"}
	for _, id := range ids {
		m := &member{w: w, id: id, role: draas.RoleSite, disk: quorumtest.NewDisk(),
			base: w.between(time.Hour, 1000*time.Hour), rate: 1 - drift + 2*drift*w.rng.Float64()}
		if w.rng.IntN(3) == 0 {
			m.rate = 1 - drift + 2*drift*float64(w.rng.IntN(2)) // an extreme
		}
		m.random = quorumtest.Bytes(w.rng.Uint64())
		if id == "witness" {
			m.role = draas.RoleWitness
		}
		if err := quorum.Bootstrap(m.disk, quorum.ClusterMeta{ClusterID: quorum.ClusterID{1}, Self: id, Members: ids}); err != nil {
			return fmt.Errorf("bootstrap %s: %w", id, err)
		}
		w.members = append(w.members, m)
		for _, other := range ids {
			if other != id {
				w.links[link{id, other}] = &linkState{}
			}
		}
	}
	for _, m := range w.members {
		m.start()
	}
	return nil
}

func (w *World) member(id draas.MemberID) *member {
	for _, m := range w.members {
		if m.id == id {
			return m
		}
	}
	return nil
}

// reaches: a question goes there and its answer comes back.
func (w *World) reaches(from, to draas.MemberID) bool {
	return !w.links[link{from, to}].cut && !w.links[link{to, from}].cut && !w.member(to).down
}

// send carries a message, or loses, delays or doubles it.
func (w *World) send(msg quorum.Message) {
	l := w.links[link{msg.From, msg.To}]
	copies := 1
	switch p := w.rng.Float64(); {
	case l.cut || p < l.loss:
		return
	case p > 0.98:
		copies = 2
	}
	for range copies {
		w.after(w.between(ms, 3*ms+l.slow), func() {
			to := w.member(msg.To)
			if to.down || to.daemon == nil || l.cut {
				return
			}
			if len(to.inbox) < 1000 {
				to.inbox = append(to.inbox, msg)
			}
			to.process()
		})
	}
}

func (w *World) activate() {
	for _, m := range w.members {
		if !m.running() {
			continue
		}
		sv := m.daemon.State().Services[service]
		if sv != nil && sv.Phase != failover.PhaseInactive {
			return
		}
	}
	w.request(failover.MoveActivate, "primary")
	w.after(500*ms, w.activate)
}

func (w *World) request(move failover.MoveKind, site draas.SiteID) {
	m := w.members[w.rng.IntN(len(w.members))]
	if m.running() {
		w.note("an operator at %s asks for %s %s", m.id, move, site)
		// An error means that no leader is known: the operator is told.
		_, _ = m.daemon.Request(service, site, failover.Request{Move: move, Operator: "sim"}, m.reading())
		m.process()
	}
}

// trouble injects a fault and plans the next.
func (w *World) trouble() {
	if w.calm {
		return
	}
	faults := []struct {
		name string
		do   func()
	}{
		{"crash", w.faultCrash}, {"freeze", w.faultFreeze}, {"host", w.faultHost}, {"cut", w.faultCut},
		{"isolate", w.faultIsolate}, {"one-way", w.faultOneWay}, {"loss", w.faultLoss}, {"service", w.faultService},
		{"clock", w.faultClock}, {"operator", w.faultOperator},
	}
	f := faults[w.rng.IntN(len(faults))]
	w.result.Faults++
	w.result.FaultKinds[f.name]++
	f.do()
	w.after(w.between(200*ms, 4*time.Second), w.trouble)
}

func (w *World) anyone() *member { return w.members[w.rng.IntN(len(w.members))] }

func (w *World) faultCrash() {
	m := w.anyone()
	w.note("fault: daemon of %s crashes", m.id)
	m.crash(w.between(50*ms, 6*time.Second))
}

func (w *World) faultFreeze() {
	m := w.anyone()
	if m.daemon == nil || m.frozen {
		return
	}
	w.note("fault: daemon of %s is frozen", m.id)
	m.frozen = true
	run := m.run
	w.after(w.between(100*ms, 8*time.Second), func() {
		if m.run == run && m.frozen {
			w.note("daemon of %s goes on", m.id)
			m.frozen = false
			m.process()
		}
	})
}

func (w *World) faultHost() {
	m := w.anyone()
	if m.down {
		return
	}
	w.note("fault: host %s is off", m.id)
	m.crash(0)
	m.run++
	m.down = true
	m.gate = fence.Ledger{}
	w.after(w.between(time.Second, 8*time.Second), func() { w.powerOn(m) })
}

func (w *World) powerOn(m *member) {
	if !m.down {
		return
	}
	w.note("host %s is on", m.id)
	m.down = false
	m.boot++
	m.base = w.between(time.Second, time.Hour)
	m.gate = fence.Ledger{}
	m.start()
}

func (w *World) cutFor(d time.Duration, ls ...link) {
	for _, l := range ls {
		w.links[l].cut = true
	}
	w.after(d, func() {
		for _, l := range ls {
			w.links[l].cut = false
		}
	})
}

func (w *World) faultCut() {
	a, b := w.anyone(), w.anyone()
	if a == b {
		return
	}
	w.note("fault: link %s - %s is cut", a.id, b.id)
	w.cutFor(w.between(200*ms, 8*time.Second), link{a.id, b.id}, link{b.id, a.id})
}

func (w *World) faultOneWay() {
	a, b := w.anyone(), w.anyone()
	if a == b {
		return
	}
	w.note("fault: nothing goes from %s to %s", a.id, b.id)
	w.cutFor(w.between(200*ms, 8*time.Second), link{a.id, b.id})
}

func (w *World) faultIsolate() {
	m := w.anyone()
	w.note("fault: %s is cut off from everyone", m.id)
	var ls []link
	for _, o := range w.members {
		if o != m {
			ls = append(ls, link{m.id, o.id}, link{o.id, m.id})
		}
	}
	w.cutFor(w.between(200*ms, 8*time.Second), ls...)
}

func (w *World) faultLoss() {
	a, b := w.anyone(), w.anyone()
	if a == b {
		return
	}
	l := w.links[link{a.id, b.id}]
	l.loss, l.slow = w.rng.Float64()*0.7, w.between(0, 400*ms)
	w.note("fault: %s to %s loses %.0f %%, up to %v late", a.id, b.id, 100*l.loss, l.slow)
	w.after(w.between(time.Second, 8*time.Second), func() { l.loss, l.slow = 0, 0 })
}

func (w *World) faultService() {
	site := draas.SiteID("primary")
	if w.rng.IntN(3) == 0 {
		site = "dr"
	}
	w.note("fault: service at %s is dead", site)
	w.up[site] = false
	w.after(w.between(300*ms, 8*time.Second), func() { w.up[site] = true })
}

func (w *World) faultClock() {
	m := w.anyone()
	step := w.between(-2*time.Hour, 2*time.Hour)
	w.note("fault: wall clock of %s steps by %v", m.id, step)
	m.wall += step
}

func (w *World) faultOperator() {
	sites := []draas.SiteID{"primary", "dr", ""}
	moves := []failover.MoveKind{failover.MoveSwitchover, failover.MoveFailover, failover.MoveFailback}
	w.request(moves[w.rng.IntN(len(moves))], sites[w.rng.IntN(len(sites))])
}

// heal ends all faults.
func (w *World) heal() {
	w.note("all faults end")
	w.calm = true
	for _, l := range w.links {
		*l = linkState{}
	}
	for site := range w.up {
		w.up[site] = true
	}
	for _, m := range w.members {
		w.powerOn(m)
		if m.frozen {
			m.frozen = false
			m.process()
		}
		if m.daemon == nil && !m.down {
			m.start()
		}
	}
}
