package sim

import "github.com/draasd/draas/quorum"

// promise is up to where a member has acknowledged the log, and in which term:
// what an old copy of its log may fall short of.
type promise struct{ term, last uint64 }

// promised is the promise of the daemon that runs; nothing while none does.
func (m *member) promised() promise {
	if m.daemon == nil {
		return promise{}
	}
	s := m.daemon.Status()
	if s.Role != quorum.RoleVoter {
		return promise{}
	}
	return promise{s.Term, s.Last}
}

// beyond reports whether more was promised than before, both known.
func (p promise) beyond(before promise) bool {
	return before != promise{} && (p.term > before.term || p.term == before.term && p.last > before.last)
}

// speaks: the member is about to send messages. One that was set back and has
// by then got again all that others have heard of it has said nothing wrong.
func (m *member) speaks(messages int) {
	if !m.lost || messages == 0 {
		return
	}
	now := m.promised()
	if m.setBack && m.silent {
		m.setBack = m.heard.beyond(now)
	}
	m.silent = false
	// The promise that comes with a message is that of the turn before.
	m.said, m.next = m.next, now
}

// foundOut: a member that lacks what it has promised must not go on as if it
// had not: its vote and its word would count twice (section 4). Who would have
// told it may have been switched off by a device.
func (w *World) foundOut() {
	for _, m := range w.members {
		if m.setBack && m.daemon != nil && !w.felled {
			w.violation("section 4: %s goes on with an old copy of its log", m.id)
		}
	}
}
