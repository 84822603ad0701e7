package quorum

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/failover"
	"github.com/draasd/draas/runbook"
)

// Replica is one member's copy of the decision: the replicated log, the state
// that it has led to, and the permits. It is stepped by one goroutine and has
// no clock, socket or file of its own, so that the simulator runs the same
// code as the daemon.
//
// The caller hands in what arrived (Receive, Look, FenceClosed, StepDone,
// Request), then calls Process with a reading taken afterwards, and carries
// out what it returns. That order matters: permits of others are counted from
// the reading at which their renewal is applied, which must not lie before it
// was sent.
type Replica struct {
	self  draas.MemberID
	core  *Core
	agent *failover.Agent
	now   draas.Reading // of the Process or Open under way
	// actions has become due since the last Process.
	actions []failover.Action
	log     *slog.Logger
	index   uint64
	ranked  uint64           // revision at which the order of leaders was last said
	missing []draas.MemberID // whom this leader did not hear then
	leader  draas.MemberID
	tickAt  time.Duration // boot clock: when the agent wants its next Tick
	// What the last Tick wants closed, switched off and carried out: it stands
	// until the next.
	wanted failover.Commands
}

// Output is what Process asks the caller to do, in this order: what it tells
// the guard and the effects first, then the messages.
type Output struct {
	Messages []Message
	Commands failover.Commands // Propose is empty: proposals are on their way
	Actions  []failover.Action // what has newly become due, records included
	Changed  bool              // the state changed
}

// OpenReplica opens the log and replays it. core.Machine is set by this
// function.
func OpenReplica(core CoreConfig, agent failover.AgentConfig, now draas.Reading) (*Replica, error) {
	r := &Replica{self: agent.Self, log: core.Log, agent: failover.NewAgent(agent, now), now: now}
	core.Machine = r
	if core.Incarnation == 0 {
		core.Incarnation = agent.Incarnation
	}
	c, err := OpenCore(core)
	if err != nil {
		return nil, err
	}
	r.core = c
	return r, nil
}

// Apply implements Machine.
func (r *Replica) Apply(index uint64, data []byte) {
	e, err := failover.Decode(data)
	if err != nil {
		// Every member reads the same bytes and passes the same entry over. To
		// stop instead would stop all of them, and again at every start.
		r.log.Error("entry of the log is not understood and passed over", "index", index, "err", err)
		r.index = index
		return
	}
	e.Index, r.index = index, index
	r.actions = append(r.actions, r.agent.Apply(e, r.now)...)
}

// Snapshot implements Machine.
func (r *Replica) Snapshot() ([]byte, error) {
	data, err := json.Marshal(r.agent.State())
	if err != nil {
		return nil, fmt.Errorf("write state: %w", err)
	}
	return data, nil
}

// Restore implements Machine.
func (r *Replica) Restore(data []byte) error {
	var s failover.State
	if len(data) > 0 {
		if err := json.Unmarshal(data, &s); err != nil {
			return fmt.Errorf("read state: %w", err)
		}
		if err := s.Validate(); err != nil {
			return fmt.Errorf("read state: %w", err)
		}
	}
	r.agent.Restore(s, r.now)
	r.index = s.Index
	return nil
}

// Receive takes a message from a peer.
func (r *Replica) Receive(m Message) { r.core.Receive(m) }

// Leave asks the others to let this member go, see Core.Leave. Its fences must
// have been closed before.
func (r *Replica) Leave() error { return r.core.Leave() }

// Stay takes a Leave back, see Core.Stay.
func (r *Replica) Stay() { r.core.Stay() }

// PeerDown tells that the connection to a peer was reset or refused.
func (r *Replica) PeerDown(id draas.MemberID) { r.core.PeerDown(id) }

// Look takes what this member sees now.
func (r *Replica) Look(o failover.Observation) { r.agent.Look(o) }

// Forget drops a view of what is not looked at any more.
func (r *Replica) Forget(service draas.ServiceID, site draas.SiteID) { r.agent.Forget(service, site) }

// ForgetFrontend drops the view of a frontend that is not listened to any more.
func (r *Replica) ForgetFrontend(name string) { r.agent.ForgetFrontend(name) }

// Find tells the log of what was found of a user path between moves.
func (r *Replica) Find(f failover.Finding) { r.agent.Find(f) }

// FenceClosed tells that the guard has observed a fence closed.
func (r *Replica) FenceClosed(service draas.ServiceID, epoch draas.Epoch) {
	r.agent.FenceClosed(service, epoch)
}

// StepEnded tells how a step ended that was commanded.
func (r *Replica) StepEnded(rec runbook.Record) { r.agent.StepEnded(rec) }

// Offer takes another file's policy: it is in force when the log says so, for
// all members at once.
func (r *Replica) Offer(p failover.Policy) { r.agent.Offer(p) }

// Lag takes how far this site's copy of a service is behind.
func (r *Replica) Lag(service draas.ServiceID, l failover.Lag) { r.agent.Lag(service, l) }

// DeviceOff tells that a device was seen to have the holder of the epoch off.
func (r *Replica) DeviceOff(service draas.ServiceID, epoch draas.Epoch, evidence string) {
	r.agent.DeviceOff(service, epoch, evidence)
}

// Alone is what a member of two sites may do without the other, see
// failover.Agent.Alone.
func (r *Replica) Alone(now draas.Reading) failover.Alone { return r.agent.Alone(now) }

// Request proposes an operator's request, again and again until it is decided
// or given up, and returns the ID by which its record can be told among the
// actions. The error says that it could not even be proposed. One at a time: a
// later one takes its place.
func (r *Replica) Request(service draas.ServiceID, site draas.SiteID, req failover.Request, now draas.Reading) (uint64, error) {
	if !r.agent.Greeted() {
		return 0, ErrStarting
	}
	e := r.agent.Request(service, site, req, now)
	if err := r.propose(e); err != nil {
		return 0, err
	}
	r.agent.Insist(e, now)
	return e.ID, nil
}

// GiveUp has a request proposed no more. It may still be decided.
func (r *Replica) GiveUp(id uint64) { r.agent.GiveUp(id) }

func (r *Replica) propose(e failover.Event) error {
	data, err := e.Encode()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if err := r.core.Propose(data); err != nil {
		return fmt.Errorf("propose %s: %w", e.Kind, err)
	}
	return nil
}

// maxRounds bounds one Process: each round's proposals can commit at once only
// in a cluster of one.
const maxRounds = 8

// Process lets time pass and does all that can be done now.
func (r *Replica) Process(now draas.Reading) (Output, error) {
	r.now = now
	r.core.Tick(now)
	if missing := r.core.Missing(); r.agent.Revision() != r.ranked || !slices.Equal(missing, r.missing) {
		r.ranked, r.missing = r.agent.Revision(), missing
		r.core.Prefer(r.leaders())
		r.core.Want(r.belongs())
	}
	var out Output
	before := r.index
	for range maxRounds {
		messages, err := r.core.Process()
		if err != nil {
			return out, err
		}
		if err := r.agent.Superseded(); err != nil {
			return out, err
		}
		out.Messages = join(out.Messages, messages)
		if leader := r.core.leader(); leader != r.leader {
			// What was on its way to the old leader may be lost.
			r.leader = leader
			r.agent.Retry()
		}
		if !r.agent.Fresh() && now.Boot < r.tickAt {
			break
		}
		c := r.agent.Tick(now)
		r.tickAt = now.Boot + r.agent.Next(now)
		out.Commands.Extend = append(out.Commands.Extend, c.Extend...)
		r.wanted = failover.Commands{Close: c.Close, Steps: c.Steps, Fence: c.Fence}
		if len(c.Propose) == 0 {
			break
		}
		for _, e := range c.Propose {
			if e.Kind == failover.EventRenew && r.core.role() != RoleVoter {
				continue // what only learns the log takes no permit by it
			}
			// Without a leader nothing can be proposed; the agent proposes
			// again by itself. What is too large will never fit.
			if err := r.propose(e); errors.Is(err, ErrTooLarge) {
				return out, fmt.Errorf("%w: are there more services in failover.toml than one decision can hold?", err)
			}
		}
	}
	messages, err := r.core.Process()
	if err != nil {
		return out, err
	}
	out.Messages = join(out.Messages, messages)
	out.Actions, r.actions = r.actions, nil
	out.Commands.Close, out.Commands.Steps, out.Commands.Fence = r.wanted.Close, r.wanted.Steps, r.wanted.Fence
	out.Changed = r.index != before
	return out, nil
}

func join(a, b []Message) []Message {
	if len(a) == 0 {
		return b
	}
	return append(a, b...)
}

// Next says how long the caller may wait before the next Process, if nothing
// arrives.
func (r *Replica) Next(now draas.Reading) time.Duration {
	if r.agent.Fresh() {
		return 0
	}
	return max(min(r.core.NextDeadline(now), r.tickAt-now.Boot), 0)
}

// State is the state as this member has applied it. It must not be changed.
func (r *Replica) State() failover.State { return r.agent.State() }

// Permit is the permit that this site holds and may serve under, if any.
func (r *Replica) Permit(id draas.ServiceID, now draas.Reading) (draas.Epoch, draas.Deadline, bool) {
	return r.agent.Permit(id, now)
}

// Renewed is, on this member's boot clock, when it last applied a renewal of the
// unit's permit, or its activation; zero: not since its start.
func (r *Replica) Renewed(unit draas.ServiceID) time.Duration { return r.agent.Renewed(unit) }

// Self is the member whose replica it is.
func (r *Replica) Self() draas.MemberID { return r.self }

// Greeted reports whether this run has applied all that was committed before
// it started.
func (r *Replica) Greeted() bool { return r.agent.Greeted() }

// Status is the log's.
func (r *Replica) Status() CoreStatus { return r.core.Status() }

// leaders is the order in which members should lead. First those that can
// reach who serves: a leader that cannot takes the permit away from a site that
// the others see well. Then those that serve nothing, so that the disaster
// that takes an active site does not take the leader along; witnesses before
// sites.
//
// A leader that serves, or cannot reach who does, does harm.
func (r *Replica) leaders() (order []draas.MemberID, harm bool) {
	s := r.agent.State()
	busy := make(map[draas.MemberID]bool)
	for _, sv := range s.Services {
		if sv.Active != "" {
			busy[sv.Active.Member()] = true
		}
		if sv.Move != nil {
			busy[sv.Move.To.Member()] = true
		}
	}
	rank := func(m failover.MemberPolicy) int {
		n := 0
		if r.outOfTouch(&s, m.ID, busy) {
			n += 4
		}
		if busy[m.ID] {
			n += 2
		}
		if m.Role != draas.RoleWitness {
			n++
		}
		return n
	}
	members := slices.Clone(s.Policy.Members)
	slices.SortStableFunc(members, func(a, b failover.MemberPolicy) int { return rank(a) - rank(b) })
	for _, m := range members {
		order = append(order, m.ID)
		harm = harm || m.ID == r.self && rank(m) >= 2
	}
	return order, harm
}

// outOfTouch reports whether a member cannot reach one that serves: what this
// leader knows of itself, and what the others said.
func (r *Replica) outOfTouch(s *failover.State, m draas.MemberID, busy map[draas.MemberID]bool) bool {
	for holder := range busy {
		if holder == m {
			continue
		}
		if m == r.self && slices.Contains(r.missing, holder) {
			return true
		}
		if st := s.Members[m]; st != nil && st.Peers[holder].Verdict == draas.Failed {
			return true
		}
	}
	return false
}

// belongs is who shall belong to the cluster, by the policy in force. Before
// there is one, nobody has an opinion.
func (r *Replica) belongs() []draas.MemberID {
	var all []draas.MemberID
	for _, m := range r.agent.State().Policy.Members {
		all = append(all, m.ID)
	}
	return all
}
