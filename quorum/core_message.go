package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/draasd/draas"
)

// Message goes from one member's core to another's. It may be lost, delayed,
// doubled and overtaken, but not changed.
type Message struct {
	From, To draas.MemberID
	Data     []byte // raftpb.Message; not to be changed
}

// String says what a message is, for traces.
func (m Message) String() string {
	p := new(raftpb.Message)
	if err := proto.Unmarshal(m.Data, p); err != nil {
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

func (c *Core) message(m *raftpb.Message) (Message, error) {
	to := c.meta.Member(m.GetTo())
	if to == "" {
		return Message{}, fmt.Errorf("send %s: no member has number %d", m.GetType(), m.GetTo())
	}
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return Message{}, fmt.Errorf("encode %s: %w", m.GetType(), err)
	}
	return Message{From: c.cfg.Self, To: to, Data: data}, nil
}

// Receive takes a message from a peer. One that makes no sense is counted and
// dropped.
func (c *Core) Receive(m Message) {
	if c.failed != nil {
		return
	}
	p, err := c.decode(m)
	if err != nil {
		c.rejected++
		if c.rejected&(c.rejected-1) == 0 { // 1st, 2nd, 4th, ...
			c.log.Warn("message dropped", "from", m.From, "count", c.rejected, "err", err)
		}
		return
	}
	_ = c.guard(func() error { return c.step(p) }) // kept in c.failed, returned by Process
}

func (c *Core) step(p *raftpb.Message) error {
	from := p.GetFrom()
	before := c.node.BasicStatus()
	if err := c.lostLog(p, before.GetTerm()); err != nil {
		return err
	}
	c.peers[from-1].fresh = true
	c.yield(p)
	if err := c.node.Step(p); err != nil && !errors.Is(err, raft.ErrProposalDropped) {
		return fmt.Errorf("step %s: %w", p.GetType(), err)
	}
	after := c.node.BasicStatus()
	switch p.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		if after.Lead == from && p.GetTerm() == after.GetTerm() {
			c.quiet = 0
		}
	case raftpb.MsgAppResp, raftpb.MsgHeartbeatResp:
		if after.RaftState == raft.StateLeader && p.GetTerm() == after.GetTerm() {
			c.peers[from-1].freshAck = true
		}
	}
	return nil
}

// lostLog detects that this member's log went backwards. A leader commits by
// heartbeat only what the member has acknowledged to it in this term, and the
// log of a term only grows after that.
func (c *Core) lostLog(p *raftpb.Message, term uint64) error {
	if p.GetType() != raftpb.MsgHeartbeat || p.GetTerm() < term {
		return nil
	}
	// The library appends to its own memory first; entries not yet durable
	// were not acknowledged either.
	last, err := c.store.LastIndex()
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if p.GetCommit() > last {
		return fmt.Errorf("%w: it ends at %d, the leader %s knows of %d: was an old copy of the data directory put back?",
			ErrLostLog, last, c.meta.Member(p.GetFrom()), p.GetCommit())
	}
	return nil
}

// decode checks all that the library would otherwise panic on, or believe.
func (c *Core) decode(m Message) (*raftpb.Message, error) {
	from, self := c.meta.ID(m.From), c.meta.ID(c.cfg.Self)
	if from == 0 || from == self || m.To != c.cfg.Self {
		return nil, fmt.Errorf("message from %q to %q", m.From, m.To)
	}
	if len(m.Data) > MaxMessage {
		return nil, fmt.Errorf("message of %d bytes: %w", len(m.Data), ErrTooLarge)
	}
	p := new(raftpb.Message)
	if err := proto.Unmarshal(m.Data, p); err != nil {
		return nil, fmt.Errorf("decode message: %w", err)
	}
	if p.GetFrom() != from || p.GetTo() != self {
		return nil, fmt.Errorf("message from %d to %d came from %d to %d", p.GetFrom(), p.GetTo(), from, self)
	}
	// The library takes term zero as a sign of a local message.
	if (p.GetTerm() == 0) != (p.GetType() == raftpb.MsgProp) {
		return nil, fmt.Errorf("%s of term %d", p.GetType(), p.GetTerm())
	}
	if len(p.GetResponses()) > 0 {
		return nil, fmt.Errorf("%s with responses", p.GetType())
	}
	var err error
	switch p.GetType() {
	case raftpb.MsgApp:
		err = checkEntries(p)
	case raftpb.MsgProp:
		err = checkProposals(p)
	case raftpb.MsgSnap:
		err = c.checkSnapshot(p)
	case raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow:
	default:
		err = fmt.Errorf("message of type %s", p.GetType())
	}
	return p, err
}

func checkEntries(p *raftpb.Message) error {
	term := p.GetLogTerm()
	for i, e := range p.GetEntries() {
		if e.GetIndex() != p.GetIndex()+uint64(i)+1 || e.GetTerm() < term || e.GetTerm() == 0 || e.GetTerm() > p.GetTerm() {
			return fmt.Errorf("entry %d of term %d stands in an append of term %d after index %d of term %d",
				e.GetIndex(), e.GetTerm(), p.GetTerm(), p.GetIndex(), p.GetLogTerm())
		}
		if e.GetType() != raftpb.EntryNormal || len(e.GetData()) > MaxProposal {
			return fmt.Errorf("entry %d is of type %s and has %d bytes", e.GetIndex(), e.GetType(), len(e.GetData()))
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

func (c *Core) checkSnapshot(p *raftpb.Message) error {
	m, want := p.GetSnapshot().GetMetadata(), c.meta.confState()
	got := m.GetConfState()
	voters := slices.Sorted(slices.Values(got.GetVoters()))
	if m.GetIndex() == 0 || m.GetTerm() == 0 || m.GetTerm() > p.GetTerm() || !slices.Equal(voters, want.GetVoters()) ||
		len(got.GetLearners())+len(got.GetVotersOutgoing())+len(got.GetLearnersNext()) > 0 {
		return fmt.Errorf("snapshot of index %d, term %d, members %v", m.GetIndex(), m.GetTerm(), got)
	}
	return nil
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
