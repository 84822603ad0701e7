package vip

import (
	"slices"
	"time"

	"github.com/draasd/draas"
)

// Claim is a frontend's half: which members have granted it an address, and
// until when it has it. It is not safe for concurrent use.
type Claim struct {
	vip, frontend string
	session       uint64
	margin        time.Duration
	drift         float64
	patience      time.Duration

	seq   uint64
	void  uint64 // answers to questions up to this one count for nothing
	votes Electorate
	asOf  uint64 // entry of the log as of which votes was said

	stakes map[uint64]draas.Deadline // grants, by member
	others map[uint64]other
	first  draas.Reading // when the first of the present grants came
}

// other is that a member has granted the address to somebody else.
type other struct {
	frontend string
	until    time.Duration // boot clock: it may be over then
	known    time.Duration // boot clock: so long this is relied on unless something else is heard
}

// remember is for how long a member that says nothing else is taken to have
// granted the address to whom it said: questions wait there for about a second.
const remember = 1500 * time.Millisecond

// ClaimConfig says who claims what.
type ClaimConfig struct {
	VIP, Frontend string
	Session       uint64  // drawn at random at each start
	Drift         float64 // what two clocks may be apart in rate
	// Margin is what the local fence needs to close.
	Margin time.Duration
	// Patience is how long some grants may be kept that are no majority, in the
	// way of others who might get one.
	Patience time.Duration
}

// NewClaim begins a claim without any grant.
func NewClaim(c ClaimConfig) *Claim {
	return &Claim{vip: c.VIP, frontend: c.Frontend, session: c.Session, margin: c.Margin, drift: c.Drift, patience: c.Patience,
		stakes: make(map[uint64]draas.Deadline), others: make(map[uint64]other)}
}

// Ask is the next question to a member: for its grant, or, without want, to take
// it back. Each is sent to one member, once.
func (c *Claim) Ask(want bool) Ask {
	c.seq++
	return Ask{VIP: c.vip, Frontend: c.frontend, Session: c.session, Seq: c.seq, Want: want}
}

// Took takes a member's answer to a question. asked is a reading from before the
// grant: from before the question was sent or, when the member let it wait, that
// much later.
func (c *Claim) Took(a Ask, asked draas.Reading, answer Answer, now draas.Reading) {
	if len(answer.Electorate.Voters) > 0 && answer.Applied >= c.asOf {
		c.votes, c.asOf = answer.Electorate, answer.Applied
	}
	if answer.Member == 0 || a.Seq <= c.void {
		return
	}
	delete(c.others, answer.Member)
	switch {
	case answer.Granted && a.Want && answer.Lease <= MaxLease:
		hold := draas.Lease{Length: answer.Lease, Drift: c.drift, Margin: c.margin}.Hold()
		deadline := draas.DeadlineAt(asked, hold)
		if deadline.Passed(now) {
			return
		}
		if len(c.stakes) == 0 {
			c.first = now
		}
		was := c.stakes[answer.Member]
		c.stakes[answer.Member] = draas.Deadline{Boot: max(was.Boot, deadline.Boot), Wall: max(was.Wall, deadline.Wall)}
	case answer.Holder != "":
		c.others[answer.Member] = other{answer.Holder, now.Boot + answer.Left, now.Boot + max(answer.Left, remember)}
	}
}

// Until is when the claim ends as far as it has been granted: the latest instant
// until which a majority of the voters keep it. It has passed when there is none.
func (c *Claim) Until() draas.Deadline {
	until, ok := c.majority(c.votes.Voters)
	if len(c.votes.Outgoing) > 0 && ok {
		old, has := c.majority(c.votes.Outgoing)
		ok = has
		until = draas.Deadline{Boot: min(until.Boot, old.Boot), Wall: min(until.Wall, old.Wall)}
	}
	if !ok {
		return draas.Deadline{}
	}
	return until
}

func (c *Claim) majority(voters []uint64) (draas.Deadline, bool) {
	need := len(voters)/2 + 1
	var boots, walls []time.Duration
	for _, v := range voters {
		if d, has := c.stakes[v]; has {
			boots, walls = append(boots, d.Boot), append(walls, d.Wall)
		}
	}
	if len(voters) == 0 || len(boots) < need {
		return draas.Deadline{}, false
	}
	slices.Sort(boots)
	slices.Sort(walls)
	return draas.Deadline{Boot: boots[len(boots)-need], Wall: walls[len(walls)-need]}, true
}

// Stuck reports whether the grants that it has are in the way of somebody: they
// are no majority, and will not become one soon.
func (c *Claim) Stuck(now draas.Reading) bool {
	for member, d := range c.stakes {
		if d.Passed(now) {
			delete(c.stakes, member)
		}
	}
	if len(c.stakes) == 0 || !c.Until().Passed(now) {
		return false
	}
	// Answers on their way may be of before what made the first grant possible.
	age := now.Sub(c.first)
	return age >= c.patience || age >= c.patience/6 && !(c.can(c.votes.Voters, now) && c.can(c.votes.Outgoing, now))
}

// can reports whether a majority might grant it, as far as is known.
func (c *Claim) can(voters []uint64, now draas.Reading) bool {
	free := len(voters)
	for _, v := range voters {
		if o, known := c.others[v]; known && now.Boot < o.until {
			free--
		}
	}
	return len(voters) == 0 || free > len(voters)/2
}

// Holder is who has the address as a majority of the members say; empty: it is
// not known.
func (c *Claim) Holder(now draas.Reading) string {
	count := make(map[string]int)
	for _, v := range c.votes.Voters {
		if o, known := c.others[v]; known && now.Boot < o.known {
			count[o.frontend]++
			if count[o.frontend] > len(c.votes.Voters)/2 {
				return o.frontend
			}
		}
	}
	return ""
}

// Leave reports whether a member's grant is to be left alone: a majority of the
// others have granted the address to somebody else, who may need this one.
func (c *Claim) Leave(member uint64, now draas.Reading) bool {
	o, known := c.others[member]
	return c.Holder(now) != "" && (!known || now.Boot >= o.known)
}

// Drop gives up all grants: nothing that was granted up to now is counted any
// more. The address must be gone before; the members are told afterwards, with
// questions that want nothing.
func (c *Claim) Drop() {
	c.void = c.seq
	clear(c.stakes)
	clear(c.others)
}
