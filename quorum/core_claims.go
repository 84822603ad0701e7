package quorum

import (
	"encoding/binary"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
)

// What a copy of the log has promised only grows (docs/adr/0006): in the same
// term neither its vote changes nor what it has acknowledged goes away, and
// all of that is durable before it is said. So each core remembers the
// greatest claim of each id, and a new run that falls short of it has an old
// copy of its disk.

// notice is why a core does not listen to an id. Its number is on the wire.
type notice uint8

const (
	noticeLost     notice = 1 // its log went backwards
	noticeCloned   notice = 2 // a second daemon runs with the same log
	noticeRemoved  notice = 3 // it does not belong to the cluster any more
	noticeUnwanted notice = 4 // to one that asks to be let in: nobody wants it
	noticeAlive    notice = 5 // its name is taken by another that lives
	noticeFull     notice = 6 // there are too many members
	noticeHead     notice = 7 // see the head: its generation, or what is remembered
)

const replaceIt = "stop this daemon, keep the data directory aside, and let the member come back with draasd join"

func (n notice) String() string {
	switch n {
	case noticeLost:
		return "its log lacks what it has acknowledged: was an old copy of the data directory put back?"
	case noticeCloned:
		return "two daemons run with copies of one data directory: was a machine cloned?"
	case noticeRemoved:
		return "it was removed from the cluster"
	case noticeUnwanted:
		return "the policy in force does not name this member: put it into failover.toml first"
	case noticeAlive:
		return "another daemon of this member is alive: stop it first"
	case noticeFull:
		return "the cluster has as many members as are possible"
	case noticeHead:
		return "it is of another generation, or of an earlier run"
	}
	return ""
}

// mine is this core's claim, all of which is durable.
func (c *Core) mine() claim {
	m := claim{start: c.start, incarnation: c.cfg.Incarnation, term: c.written.Term, vote: c.written.Vote}
	if c.ackTerm == m.term {
		m.acked = c.ackIndex
	}
	return m
}

// acknowledged notes what a message promises once it is sent.
func (c *Core) acknowledged(m *raftpb.Message) {
	term := c.written.Term
	if c.ackTerm != term {
		c.ackTerm, c.ackIndex = term, 0
	}
	if m.GetTerm() != term {
		return
	}
	switch m.GetType() {
	case raftpb.MsgAppResp:
		if !m.GetReject() {
			c.ackIndex = max(c.ackIndex, m.GetIndex())
		}
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		c.ackIndex = max(c.ackIndex, c.last()) // of memory, and durable before any message leaves
	}
}

// last is the index of the log's last entry.
func (c *Core) last() uint64 {
	last, _ := c.store.LastIndex() // of memory: has no error
	return last
}

// short reports whether what a log says of itself falls short of a claim that
// it has made before.
func (k claim) short(term, vote, last uint64) bool {
	return term < k.term || term == k.term && (k.vote != 0 && vote != k.vote || last < k.acked)
}

// raise takes over what is more.
func (k *claim) raise(n claim) {
	switch {
	case n.term > k.term:
		k.term, k.vote, k.acked = n.term, n.vote, n.acked
	case n.term == k.term:
		k.acked = max(k.acked, n.acked)
		if n.vote != 0 {
			k.vote = n.vote
		}
	}
}

// judge compares a message's claim with what is known of its sender, and says
// why it is not listened to. Zero: it is. stale: it comes from an earlier run.
func (p *peer) judge(h *head) (why notice, stale bool) {
	k := &p.known
	switch {
	case p.void != 0:
		return p.void, false
	case k.start == 0 || h.claim.start > k.start:
		if k.start != 0 && k.short(h.claim.term, h.claim.vote, h.last) {
			p.void = noticeLost
			return p.void, false
		}
		k.start, k.incarnation = h.claim.start, h.claim.incarnation
	case h.claim.start < k.start:
		return 0, true
	case h.claim.incarnation != k.incarnation:
		p.void = noticeCloned
		return p.void, false
	case h.claim.term == k.term && k.vote != 0 && h.claim.vote != 0 && h.claim.vote != k.vote:
		// A machine that was set back with its memory votes once more.
		p.void = noticeLost
		return p.void, false
	}
	k.raise(h.claim)
	return 0, false
}

// hearsay is what a leader tells one member of the others: followers hear each
// other only in elections, and the memory must outlive the leader.
func (c *Core) hearsay(to *peer) []hearsay {
	all := make([]hearsay, 0, len(c.peers))
	for _, p := range c.peers {
		if p.id != to.id && p.known.start != 0 && (p.voter || p.learner) {
			all = append(all, hearsay{p.id, p.known})
		}
	}
	return all
}

// listen takes hearsay. A promise stays one whoever tells of it.
func (c *Core) listen(others []hearsay) {
	for _, o := range others {
		p := c.peer(o.id)
		if p == nil || o.id == c.self || o.claim.start == 0 {
			continue
		}
		k := &p.known
		switch {
		case o.claim.start > k.start:
			k.start, k.incarnation = o.claim.start, o.claim.incarnation
		case o.claim.start == k.start && o.claim.incarnation != k.incarnation && p.void == 0:
			p.void = noticeCloned
			c.quarantined(p)
		}
		k.raise(o.claim)
	}
}

// quarantined says so once.
func (c *Core) quarantined(p *peer) {
	c.log.Error("member is quarantined: nothing of it counts until it is replaced", "member", p.member, "number", p.id, "why", p.void.String())
}

// recognise reports what another member's memory of this one proves: that this
// log was ahead once, or is used twice. It holds for messages of any age,
// since this log only grows.
func (c *Core) recognise(k claim) notice {
	switch {
	case k.start == 0:
		return 0
	case k.start > c.start:
		return noticeLost
	case k.start == c.start && k.incarnation != c.cfg.Incarnation:
		return noticeCloned
	case k.short(c.written.Term, c.written.Vote, c.last()):
		return noticeLost
	}
	return 0
}

// disown stops this core because its log must not be used any more, and keeps
// it from being opened again.
func (c *Core) disown(why notice, by draas.MemberID) error {
	err := ErrLostLog
	if why == noticeCloned {
		err = ErrCloned
	}
	c.meta.Void = why.String()
	return errors.Join(fmt.Errorf("%w: %s says: %s: %s", err, by, why, replaceIt), writeMeta(c.cfg.Disk, c.meta))
}

// The payload of a notice: its number, and for which run it is meant.

func (n notice) append(b []byte, about claim) []byte {
	b = append(b, byte(n))
	b = binary.AppendUvarint(b, about.start)
	return binary.BigEndian.AppendUint64(b, uint64(about.incarnation))
}

func decodeNotice(payload []byte) (notice, claim, error) {
	r := &reader{b: payload}
	n := notice(r.byte())
	about := claim{start: r.uint(), incarnation: draas.Incarnation(r.uint64())}
	return n, about, r.err // what follows is of a later version
}

// tell says to an id why it is not listened to, once a heartbeat.
func (c *Core) tell(p *peer, why notice, about claim) {
	if p.told != 0 && c.now.Boot-p.told < c.cfg.Heartbeat {
		return
	}
	p.told = c.now.Boot
	b := c.envelope(kindNotice, p, 32)
	c.out = append(c.out, Message{From: c.cfg.Self, To: p.member, Data: why.append(b, about)})
}

// noticed takes a notice of another member about this one.
func (c *Core) noticed(from draas.MemberID, payload []byte) error {
	why, about, err := decodeNotice(payload)
	if err != nil || about.start != c.start || about.incarnation != c.cfg.Incarnation {
		return nil // of an earlier run
	}
	switch why {
	case noticeLost, noticeCloned:
		return c.disown(why, from)
	case noticeRemoved:
		return fmt.Errorf("%w: %s says so: %s", ErrRemoved, from, replaceIt)
	case noticeUnwanted, noticeAlive, noticeFull:
		if text := fmt.Sprintf("%s: %s", from, why); text != c.refused {
			c.refused = text
			c.log.Warn("not let into the cluster", "by", from, "why", why.String())
		}
	}
	return nil
}
