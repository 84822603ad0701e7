package quorum

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/draasd/draas"
)

// membership is who belongs to the cluster, who shall, and what is under way.
type membership struct {
	roster    roster
	conf      *raftpb.ConfState // as applied; not to be changed
	confIndex uint64            // of the last change that was applied
	want      []draas.MemberID  // who shall belong; empty: no opinion

	changeAt time.Duration // boot time before which a leader proposes no change
	askAt    time.Duration // boot time when this member asks again
	leave    bool          // this member asks to be let go
	removed  bool          // it was, by an entry that this core has applied
	refused  string        // why it is not let in
}

// ErrLastVoter is returned by Leave where nobody else could go on.
var ErrLastVoter = errors.New("no other member votes: nobody would be left to decide")

// Want says who shall belong to the cluster, by the policy in force. The leader
// lets in by that, and removes: one change at a time, and never such that the
// voters left would have no living majority. No members, no opinion: a member
// that lost its disk is let in again, nobody is removed.
func (c *Core) Want(members []draas.MemberID) {
	if !slices.Equal(c.want, members) {
		c.want = slices.Clone(members)
	}
}

// Leave asks the others to remove this member, until they have: Process then
// fails with ErrRemoved, and not before that is it out. It must have closed its
// fences first. In a cluster of two voters both commit the change, and the
// other is a majority alone from then on. If this member dies before it is
// out, nothing has changed, or the other knows: see docs/adr/0006.
// It does not outlive the daemon.
func (c *Core) Leave() error {
	switch {
	case c.failed != nil:
		return c.failed
	case c.role() == RoleJoining || c.role() == RoleRemoved:
		return ErrRemoved
	case c.role() == RoleVoter && len(c.conf.GetVoters()) == 1 && len(c.conf.GetVotersOutgoing()) == 0:
		return ErrLastVoter
	}
	c.leave, c.askAt = true, 0
	return nil
}

// Stay takes a Leave back, if it is not too late.
func (c *Core) Stay() { c.leave = false }

// asking reports whether this member has something to ask for.
func (c *Core) asking() bool {
	return c.leave || c.role() == RoleJoining
}

// ask asks to be let in, or let go, all that may be the leader.
func (c *Core) ask() {
	if !c.asking() || c.now.Boot < c.askAt {
		return
	}
	c.askAt = c.now.Boot + c.cfg.Election/2
	if c.leave {
		if c.state == raft.StateLeader {
			return // it hands over first
		}
		for _, p := range c.peers {
			if p.voter && p.id != c.self {
				c.out = append(c.out, Message{From: c.cfg.Self, To: p.member, Data: c.envelope(kindLeave, p, 0)})
			}
		}
		return
	}
	for _, m := range c.cfg.Members {
		if m != c.cfg.Self {
			c.out = append(c.out, Message{From: c.cfg.Self, To: m, Data: c.envelope(kindJoin, nil, 0)})
		}
	}
}

// wanted reports whether a member shall belong to the cluster.
func (c *Core) wanted(m draas.MemberID) bool {
	return len(c.want) == 0 || slices.Contains(c.want, m)
}

// unwelcome reports whether an id is to go.
func (c *Core) unwelcome(id uint64) bool {
	if id == c.self {
		return c.leave || !c.wanted(c.cfg.Self)
	}
	p := c.peer(id)
	return p != nil && (c.goes(p) || !c.wanted(p.member))
}

// goes reports whether a member has lately asked to be let go.
func (c *Core) goes(p *peer) bool { return lately(p.leaving, c.now.Boot, 4*c.cfg.Election) }

func lately(at, now, within time.Duration) bool { return at != 0 && now-at <= within }

// silent reports whether this leader has not heard a member for so long that
// another may take its place.
func (c *Core) silent(p *peer) bool {
	bound := max(4*c.cfg.Election, 2*time.Second)
	return c.now.Boot-max(p.heard, c.leadership.since) > bound
}

// tend proposes the next change of membership, if one is due and possible.
func (c *Core) tend() {
	now := c.now.Boot
	if now < c.changeAt || len(c.conf.GetVotersOutgoing()) > 0 || now-c.leadership.since < c.cfg.Election {
		return
	}
	change, what := c.change()
	if change == nil {
		return
	}
	c.changeAt = now + c.cfg.Election
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(change)
	if err == nil {
		_, _, err = decodeChange(data)
	}
	if err == nil {
		err = c.node.ProposeConfChange(change)
	}
	if errors.Is(err, raft.ErrProposalDropped) {
		return // leadership is moving
	}
	if err != nil {
		c.log.Warn("change of membership was not proposed", "change", what, "err", err)
		return
	}
	c.log.Info("changing membership", "change", what)
}

// change is the next change of membership, nil if there is none.
func (c *Core) change() (*raftpb.ConfChangeV2, string) {
	steps := []func(*peer) (*raftpb.ConfChangeV2, string){c.dropLearner, c.promote, c.dropVoter, c.admit}
	for _, step := range steps {
		for _, p := range c.peers {
			if p.id == c.self {
				continue
			}
			if cc, what := step(p); cc != nil {
				return cc, what
			}
		}
	}
	return nil, ""
}

func single(kind raftpb.ConfChangeType, id uint64) *raftpb.ConfChangeSingle {
	return &raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: new(id)}
}

// dropLearner removes a learner that nobody wants, or that gave its name up for
// another.
func (c *Core) dropLearner(p *peer) (*raftpb.ConfChangeV2, string) {
	if !p.learner || !c.unwelcome(p.id) && !(c.silent(p) && c.successor(p) != nil) {
		return nil, ""
	}
	return &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{single(raftpb.ConfChangeRemoveNode, p.id)}},
		fmt.Sprintf("remove learner %s/%d", p.member, p.id)
}

// successor is one that asks to be let in under a member's name.
func (c *Core) successor(of *peer) *peer {
	for _, p := range c.peers {
		if p.id != of.id && p.member == of.member && c.asks(p) {
			return p
		}
	}
	return nil
}

// asks reports whether a visitor has lately asked to be let in.
func (c *Core) asks(p *peer) bool {
	return !p.voter && !p.learner && p.void == 0 && lately(p.joining, c.now.Boot, 2*c.cfg.Election)
}

// promote makes a learner a voter when it has caught up and answers, in place
// of the id that had its name before: in one joint change, so that there is
// neither a moment with both nor one without.
func (c *Core) promote(p *peer) (*raftpb.ConfChangeV2, string) {
	if !p.learner || !c.wanted(p.member) || c.goes(p) {
		return nil, ""
	}
	caught := false
	c.node.WithProgress(func(id uint64, _ raft.ProgressType, pr raftProgress) {
		caught = caught || id == p.id && c.ready(p, pr)
	})
	if !caught {
		return nil, ""
	}
	cc := &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{single(raftpb.ConfChangeAddNode, p.id)},
		Context: encodeNames(seat{p.id, p.member})}
	old := c.namesake(p)
	if old == nil {
		if !c.lives(append(slices.Clone(c.conf.GetVoters()), p.id)) {
			return nil, ""
		}
		return cc, fmt.Sprintf("let %s/%d vote", p.member, p.id)
	}
	if !c.silent(old) && old.void == 0 || !c.lives(append(without(c.conf.GetVoters(), old.id), p.id)) {
		return nil, ""
	}
	cc.Changes = append(cc.Changes, single(raftpb.ConfChangeRemoveNode, old.id))
	cc.Transition = raftpb.ConfChangeTransitionJointImplicit.Enum()
	return cc, fmt.Sprintf("let %s/%d vote in place of %d", p.member, p.id, old.id)
}

// namesake is the voter that has another id's name.
func (c *Core) namesake(of *peer) *peer {
	for _, p := range c.peers {
		if p.voter && p.id != of.id && p.member == of.member {
			return p
		}
	}
	return nil
}

// dropVoter removes a voter that nobody wants, or that asked for it.
func (c *Core) dropVoter(p *peer) (*raftpb.ConfChangeV2, string) {
	if !p.voter || !c.unwelcome(p.id) || !c.lives(without(c.conf.GetVoters(), p.id)) {
		return nil, ""
	}
	return &raftpb.ConfChangeV2{Changes: []*raftpb.ConfChangeSingle{single(raftpb.ConfChangeRemoveNode, p.id)}},
		fmt.Sprintf("remove %s/%d", p.member, p.id)
}

func without(ids []uint64, id uint64) []uint64 {
	return slices.DeleteFunc(slices.Clone(ids), func(x uint64) bool { return x == id })
}

// lives reports whether a majority of such voters answers this leader, itself
// among them.
func (c *Core) lives(voters []uint64) bool {
	n := 0
	for _, id := range voters {
		if p := c.peer(id); id == c.self || p != nil && p.void == 0 && c.active(p) {
			n++
		}
	}
	return slices.Contains(voters, c.self) && n > len(voters)/2
}

// admit lets one that asks learn the log.
func (c *Core) admit(p *peer) (*raftpb.ConfChangeV2, string) {
	if !c.asks(p) || c.refuse(p) != 0 {
		return nil, ""
	}
	if slices.ContainsFunc(c.peers, func(o *peer) bool { return o.learner && o.member == p.member }) {
		return nil, "" // that one first: it goes when it is silent
	}
	return &raftpb.ConfChangeV2{
		Changes: []*raftpb.ConfChangeSingle{single(raftpb.ConfChangeAddLearnerNode, p.id)},
		Context: encodeNames(seat{p.id, p.member}),
	}, fmt.Sprintf("let %s/%d learn", p.member, p.id)
}

// refuse says why one that asks is not let in, zero if it is.
func (c *Core) refuse(p *peer) notice {
	old := c.namesake(p)
	switch {
	case !c.wanted(p.member) || len(c.want) == 0 && old == nil && !c.seated(p.member):
		return noticeUnwanted
	case old != nil && old.void == 0 && !c.silent(old):
		return noticeAlive
	case old == nil && len(c.roster.seats) >= maxMembers:
		return noticeFull
	}
	return 0
}

func (c *Core) seated(m draas.MemberID) bool {
	return slices.ContainsFunc(c.roster.seats, func(s seat) bool { return s.member == m })
}

// asked takes what another member asks for. Only a leader answers.
func (c *Core) asked(p *peer, kind messageKind) {
	if c.state != raft.StateLeader {
		return
	}
	if kind == kindLeave {
		p.leaving = max(c.now.Boot, 1)
		return
	}
	if p.voter || p.learner {
		return // it will hear of it by the log
	}
	p.joining = max(c.now.Boot, 1)
	if why := c.refuse(p); why != 0 {
		c.tell(p, why, p.known)
	}
}
