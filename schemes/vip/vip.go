// Package vip moves virtual IP addresses between frontends that stand on one
// network. Which frontend has one is a lease that a majority of the members
// grants, each for itself, from memory: no leader, no disk and no election
// stands between a lost frontend and its successor (docs/adr/0012).
//
// Here are the two pure halves of that lease: Grants is a member's, Claim a
// frontend's. What touches a host's interfaces is in lan, and what lets
// keepalived do that in keepalived.
//
// What must hold: at no instant do two frontends have an address. A member
// grants an address to one frontend at a time, until its own clock has passed
// L(1+rho) since its answer; a frontend has it while a majority of the voters
// have granted it, each counted until L(1-rho) - margin after a reading from
// before that member was asked. Two majorities share a member.
package vip

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

// MaxLease bounds the lease of an address. A member that starts does not know
// what it granted before, and grants nothing for so long and the drift.
const MaxLease = 3 * time.Second

// Electorate is whose grants count: the voters of the replicated log by their
// raft ids, which are never used twice.
type Electorate struct {
	Voters []uint64 `json:"voters"`
	// Outgoing are those of before, while the voters change: a majority of both
	// is needed.
	Outgoing []uint64 `json:"outgoing,omitempty"`
}

// tag tells one electorate from another; empty: it has nobody.
func (e Electorate) tag() string {
	if len(e.Voters) == 0 {
		return ""
	}
	h := fnv.New64a()
	for _, set := range [][]uint64{e.Voters, e.Outgoing} {
		sorted := slices.Clone(set)
		slices.Sort(sorted)
		_, _ = fmt.Fprint(h, sorted, ";") // a hash takes anything
	}
	return fmt.Sprintf("%x", h.Sum64())
}

// Ask is what a frontend asks a member about one address.
type Ask struct {
	VIP      string `json:"vip"`
	Frontend string `json:"frontend"`
	// Session is drawn at each start of the frontend, and Seq grows with each
	// question: a question that was overtaken counts for nothing.
	Session uint64 `json:"session"`
	Seq     uint64 `json:"seq"`
	// Want asks for the grant; without it the frontend gives it back, and has
	// neither the address nor a grant that it still counts.
	Want bool `json:"want"`
}

// Answer is what the member says.
type Answer struct {
	Member  uint64 `json:"member"` // its raft id
	Granted bool   `json:"granted"`
	// Lease is what was granted.
	Lease time.Duration `json:"lease_ns,omitempty"`
	// Holder is who has the grant instead, and Left for how much longer at the
	// most; with an empty holder, until this member grants anything.
	Holder string        `json:"holder,omitempty"`
	Left   time.Duration `json:"left_ns,omitempty"`
	Reason string        `json:"reason,omitempty"` // why not, for people
	// Electorate is the member's own as of the entry Applied of the log: who
	// counts the grant counts majorities of this one, or of a later one.
	Electorate Electorate `json:"electorate"`
	Applied    uint64     `json:"applied"`
}
