package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/draasd/draas"
)

// Message goes from one member's core to another's. It may be lost, delayed,
// doubled and overtaken, but not changed.
type Message struct {
	From, To draas.MemberID
	Data     []byte // an envelope; not to be changed
}

// String says what a message is, for traces.
func (m Message) String() string {
	h, payload, err := decodeHead(m.Data)
	if err != nil {
		return fmt.Sprintf("%s>%s %d bytes: %v", m.From, m.To, len(m.Data), err)
	}
	switch h.kind {
	case kindJoin:
		return fmt.Sprintf("%s>%s join as %d", m.From, m.To, h.from)
	case kindLeave:
		return fmt.Sprintf("%s>%s leave", m.From, m.To)
	case kindNotice:
		why, _, _ := decodeNotice(payload)
		return fmt.Sprintf("%s>%s notice: %s", m.From, m.To, why)
	}
	p, err := decodeRaft(payload, h.from, h.to)
	if err != nil {
		return fmt.Sprintf("%s>%s %d bytes: %v", m.From, m.To, len(m.Data), err)
	}
	s := fmt.Sprintf("%s>%s %s term=%d index=%d/%d commit=%d", m.From, m.To, p.GetType(), p.GetTerm(), p.GetIndex(), p.GetLogTerm(), p.GetCommit())
	if n := len(p.GetEntries()); n > 0 {
		s += fmt.Sprintf(" entries=%d", n)
	}
	if p.GetReject() {
		s += fmt.Sprintf(" reject hint=%d", p.GetRejectHint())
	}
	if p.GetSnapshot() != nil {
		s += fmt.Sprintf(" snapshot=%d", p.GetSnapshot().GetMetadata().GetIndex())
	}
	return s
}

// envelope starts a message to a peer, nil for one whose id is not known; size
// is that of the payload that will follow.
func (c *Core) envelope(kind messageKind, to *peer, size int) []byte {
	return c.envelopeWith(kind, to, nil, size)
}

func (c *Core) envelopeWith(kind messageKind, to *peer, others []hearsay, size int) []byte {
	h := head{
		kind: kind, blank: c.blank(), generation: c.meta.Generation, from: c.self, claim: c.mine(), last: c.last(),
	}
	if to != nil {
		h.to, h.echo = to.id, to.known
	}
	h.others = others
	return h.append(make([]byte, 0, 64+40*(len(others)+1)+size))
}

// blank reports whether this member's log is empty.
func (c *Core) blank() bool { return c.meta.Joining && c.last() == 0 }

var errNotForUs = errors.New("it is not for this member, or its own")

// Receive takes a message from a peer. One that makes no sense is counted and
// dropped.
func (c *Core) Receive(m Message) {
	if c.failed != nil {
		return
	}
	err := errNotForUs
	if m.From != c.cfg.Self && m.From != "" && len(m.From) <= maxMemberName && m.To == c.cfg.Self {
		_ = c.guard(func() error { // kept in c.failed, returned by Process
			var fatal error
			err, fatal = c.open(m)
			return fatal
		})
	}
	if err != nil {
		c.rejected++
		if c.rejected&(c.rejected-1) == 0 { // 1st, 2nd, 4th, ...
			c.log.Warn("message dropped", "from", m.From, "count", c.rejected, "err", err)
		}
	}
}

// open takes a message out of its envelope. What is wrong with it is the first
// error; the second ends this core.
func (c *Core) open(m Message) (senseless, fatal error) {
	if len(m.Data) > MaxMessage+maxHead {
		return fmt.Errorf("message of %d bytes: %w", len(m.Data), ErrTooLarge), nil
	}
	h, payload, err := decodeHead(m.Data)
	switch {
	case err != nil:
		return err, nil
	case h.from == c.self:
		return fmt.Errorf("message from %q under this member's number", m.From), nil
	case h.to != 0 && h.to != c.self:
		return nil, nil // for one that had this name before
	}
	p := c.peer(h.from)
	gone := slices.Contains(c.roster.gone, h.from)
	switch {
	case gone:
		p = &peer{id: h.from, member: m.From} // only to answer
	case p == nil:
		p = c.visitor(h.from, m.From)
	case p.member != m.From:
		return fmt.Errorf("message from %q under the number of %q", m.From, p.member), nil
	}
	if same, err := c.sameGeneration(p, &h); !same || err != nil {
		return nil, err
	}
	if gone {
		c.tell(p, noticeRemoved, h.claim)
		return nil, nil
	}
	before := p.void
	if why, stale := p.judge(&h); why != 0 || stale {
		if before != p.void {
			c.quarantined(p)
		}
		c.unheard(p, why, &h)
		return nil, nil
	}
	if h.to != 0 {
		if why := c.recognise(h.echo); why != 0 {
			return nil, c.disown(why, m.From)
		}
		c.listen(h.others)
	}
	switch h.kind {
	case kindNotice:
		return nil, c.noticed(m.From, payload)
	case kindJoin, kindLeave:
		p.fresh = true
		c.asked(p, h.kind)
		return nil, nil
	case kindRaft:
	default:
		return nil, nil // of a later version
	}
	if h.to == 0 {
		return errEnvelope, nil
	}
	r, err := decodeRaft(payload, h.from, h.to)
	if err == nil {
		err = checkRaft(r)
	}
	if err != nil {
		return err, nil
	}
	return nil, c.step(p, r)
}

// unheard tells a peer that it is not listened to.
func (c *Core) unheard(p *peer, why notice, h *head) {
	if why == 0 {
		// A message of an earlier run, or a run with an old copy of the disk:
		// what is remembered of it (see envelope) tells the latter.
		c.tell(p, noticeHead, h.claim)
		return
	}
	c.tell(p, why, h.claim)
}

// sameGeneration reports whether a message is of this core's generation. One
// that has not been let in yet belongs to none, and takes that of the leader
// which lets it in.
func (c *Core) sameGeneration(p *peer, h *head) (bool, error) {
	mine := c.meta.Generation
	switch {
	case h.generation == mine:
		return true, nil
	case h.blank && h.kind == kindJoin && h.generation.Number <= mine.Number:
		return true, nil
	case h.generation.Number < mine.Number:
		c.tell(p, noticeHead, h.claim)
		return false, nil
	case c.blank():
		if h.kind != kindRaft {
			return h.kind == kindNotice, nil
		}
		return true, c.adopt(h.generation)
	case h.generation.Number == mine.Number:
		return false, fmt.Errorf("%w: %s and this member were both forced into generation %d: decide which one is right, the other rejoins",
			ErrGeneration, p.member, mine.Number)
	}
	return false, fmt.Errorf("%w: %s is of generation %s, this log of %s: let this member come back with draasd join",
		ErrGeneration, p.member, h.generation, mine)
}

// adopt makes the generation of the cluster durable before anything is said in
// it.
func (c *Core) adopt(g Generation) error {
	c.meta.Generation, c.journal.meta.Generation = g, g
	if err := writeMeta(c.cfg.Disk, c.meta); err != nil {
		return fmt.Errorf("take generation %s: %w", g, err)
	}
	return c.journal.rotate(&raftpb.Snapshot{}, c.written, nil)
}

func (c *Core) step(from *peer, p *raftpb.Message) error {
	before := c.node.BasicStatus()
	if err := c.lostLog(from, p, before.GetTerm()); err != nil {
		return err
	}
	from.fresh = true
	c.yield(p)
	c.toldCommit(p)
	err := c.node.Step(p)
	switch {
	case errors.Is(err, raft.ErrProposalDropped):
		c.hold(p)
	case errors.Is(err, raft.ErrStepPeerNotFound):
		// It was let in by an entry that is not applied here yet, or asked and was
		// let go.
	case err != nil:
		return fmt.Errorf("step %s: %w", p.GetType(), err)
	}
	after := c.node.BasicStatus()
	switch p.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		if after.Lead == from.id && p.GetTerm() == after.GetTerm() {
			c.quiet = 0
		}
	case raftpb.MsgAppResp, raftpb.MsgHeartbeatResp:
		if after.RaftState == raft.StateLeader && p.GetTerm() == after.GetTerm() {
			from.freshAck = true
		}
	}
	return nil
}

// lostLog detects that this member's log went backwards while it ran. A leader
// commits by heartbeat only what the member has acknowledged to it in this
// term, and the log of a term only grows after that.
func (c *Core) lostLog(from *peer, p *raftpb.Message, term uint64) error {
	if p.GetType() != raftpb.MsgHeartbeat || p.GetTerm() < term {
		return nil
	}
	// The library appends to its own memory first; entries not yet durable
	// were not acknowledged either.
	if p.GetCommit() > c.last() {
		return c.disown(noticeLost, from.member)
	}
	return nil
}

// checkRaft checks all that the library would otherwise panic on, or believe.
func checkRaft(p *raftpb.Message) error {
	// The library takes term zero as a sign of a local message.
	if (p.GetTerm() == 0) != (p.GetType() == raftpb.MsgProp) {
		return fmt.Errorf("%s of term %d", p.GetType(), p.GetTerm())
	}
	switch p.GetType() {
	case raftpb.MsgApp:
		return checkEntries(p)
	case raftpb.MsgProp:
		return checkProposals(p)
	case raftpb.MsgSnap:
		return checkSnapshot(p)
	case raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow:
		return nil
	}
	return fmt.Errorf("message of type %s", p.GetType())
}

func checkEntries(p *raftpb.Message) error {
	term := p.GetLogTerm()
	for _, e := range p.GetEntries() {
		if e.GetTerm() < term || e.GetTerm() == 0 || e.GetTerm() > p.GetTerm() {
			return fmt.Errorf("entry %d of term %d stands in an append of term %d after index %d of term %d",
				e.GetIndex(), e.GetTerm(), p.GetTerm(), p.GetIndex(), p.GetLogTerm())
		}
		var err error
		if e.GetType() == raftpb.EntryConfChangeV2 {
			_, _, err = decodeChange(e.GetData())
		}
		if err != nil || e.GetType() != raftpb.EntryNormal && e.GetType() != raftpb.EntryConfChangeV2 || len(e.GetData()) > MaxProposal {
			return fmt.Errorf("entry %d is of type %s and has %d bytes: %w", e.GetIndex(), e.GetType(), len(e.GetData()), err)
		}
		term = e.GetTerm()
	}
	return nil
}

func checkProposals(p *raftpb.Message) error {
	if len(p.GetEntries()) == 0 {
		return errors.New("proposal of nothing")
	}
	for _, e := range p.GetEntries() {
		if n := len(e.GetData()); e.GetType() != raftpb.EntryNormal || n == 0 || n > MaxProposal {
			return fmt.Errorf("proposal of type %s and %d bytes", e.GetType(), n)
		}
	}
	return nil
}

func checkSnapshot(p *raftpb.Message) error {
	m := p.GetSnapshot().GetMetadata()
	if m.GetIndex() == 0 || m.GetTerm() == 0 || m.GetTerm() > p.GetTerm() {
		return fmt.Errorf("snapshot of index %d, term %d", m.GetIndex(), m.GetTerm())
	}
	ro, _, err := unwrap(p.GetSnapshot().GetData())
	if err != nil {
		return err
	}
	return checkConf(m.GetConfState(), ro)
}

// raftLogger passes the library's talk on. What matters of it, the core says
// itself or returns as an error.
type raftLogger struct{ log *slog.Logger }

func (l raftLogger) Debug(v ...any)                 { l.log.Debug("raft", "says", fmt.Sprint(v...)) }
func (l raftLogger) Debugf(format string, v ...any) { l.debugf(format, v...) }
func (l raftLogger) Info(v ...any)                  { l.log.Debug("raft", "says", fmt.Sprint(v...)) }
func (l raftLogger) Infof(format string, v ...any)  { l.debugf(format, v...) }
func (l raftLogger) Warning(v ...any)               { l.log.Warn("raft", "says", fmt.Sprint(v...)) }
func (l raftLogger) Warningf(format string, v ...any) {
	l.log.Warn("raft", "says", fmt.Sprintf(format, v...))
}
func (l raftLogger) Error(v ...any) { l.log.Error("raft", "says", fmt.Sprint(v...)) }
func (l raftLogger) Errorf(format string, v ...any) {
	l.log.Error("raft", "says", fmt.Sprintf(format, v...))
}
func (l raftLogger) Fatal(v ...any)                 { panic(fmt.Sprint(v...)) }
func (l raftLogger) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func (l raftLogger) Panic(v ...any)                 { panic(fmt.Sprint(v...)) }
func (l raftLogger) Panicf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }

// debugf formats only what somebody reads: this is the busy path.
func (l raftLogger) debugf(format string, v ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("raft", "says", fmt.Sprintf(format, v...))
	}
}
