// Package frontend moves users by a proxy that follows the decision: it leads
// to the active site only, holds requests while a move is under way, and drops
// what is left of the old site when the new one is active.
//
// This package holds what every kind of frontend shares: the Table of what is
// decided, with each service's place to wait and its connections, and the
// counters. The proxies stand below it: stream and web are our own, haproxy,
// nginx and nat drive others. None of them proposes anything: what a frontend
// sees of a back end only asks the members to look for themselves (DESIGN.md,
// rule 5).
package frontend

import (
	"errors"
	"fmt"
	"time"

	"github.com/draasd/draas"
)

// ErrShed is returned to a request that may not wait, or not any longer: it is
// answered with 503 and Retry-After.
var ErrShed = errors.New("no site may be led to, and no more requests may wait")

// ErrContradiction is returned for a decision that gives one epoch to another
// site than the one before: one of the two comes from outside of the log.
var ErrContradiction = errors.New("two sites for one epoch")

// Server is one back end of a site.
type Server struct {
	Address string // IP:port
}

// Bounds limit what waits of one service.
type Bounds struct {
	Time     time.Duration // of one request, all its waiting together
	Requests int           // at once
	Bytes    int64         // of them together, as far as they are kept to be sent again
}

// Spec is one service as a frontend serves it.
type Spec struct {
	Service draas.ServiceID
	Sites   map[draas.SiteID][]Server
	// Outlives: the old site is closed by a fence that needs nobody (kernel,
	// device), so that a frontend whose permit has ended may lead on.
	Outlives bool
	Hold     Bounds
}

// Decision is what a member says of a service.
type Decision struct {
	Epoch draas.Epoch
	Site  draas.SiteID // holder of the epoch; empty: nobody was ever active
	// Moving: the epoch is revoked, and new requests wait.
	Moving bool
	// Released: the holder has closed, and said so.
	Released bool
	// Permit is how long the site may be led to, counted from before the
	// member was asked.
	Permit time.Duration
}

// State says what is done with a new request.
type State uint8

// The states. Shut is the zero value: a frontend that knows nothing leads
// nowhere.
const (
	Shut State = iota // answer 503
	Wait              // hold it: this may soon change
	Open              // lead it to the site
)

var stateNames = [...]string{"shut", "wait", "open"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// ParseState reads what String writes; anything else is Shut.
func ParseState(text string) State {
	for i, name := range stateNames {
		if name == text {
			return State(i)
		}
	}
	return Shut
}

// Reasons why a service is not open.
const (
	ReasonPassive = "passive" // no member has said anything yet
	ReasonNobody  = "nobody"  // no site is active
	ReasonMoving  = "moving"  // a move is under way
	ReasonLapsed  = "lapsed"  // the permit ended: no member was heard for too long
	ReasonDriving = "driving" // a proxy of others is not where it is to lead yet, or was not seen there
)

// Evidence is what a frontend saw of a back end. It asks for probes and is
// never a vote.
type Evidence struct {
	Service draas.ServiceID
	Site    draas.SiteID
	Epoch   draas.Epoch
	Class   Class
}

// Class is how a request or a connection to a back end failed.
type Class uint8

// The classes.
const (
	Refused     Class = iota // connection refused
	Unreachable              // no route, or nobody answers the dial in time
	Reset                    // the connection ended in the middle of something
	Silent                   // nothing was answered in time
	Malformed                // the answer cannot be understood
	classes
)

var classNames = [...]string{"refused", "unreachable", "reset", "silent", "malformed"}

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Report is how a frontend stands to one service, for the members: a planned
// move waits until nothing of it is under way, and it is complete when it is
// led to the new site.
type Report struct {
	Service draas.ServiceID
	Epoch   draas.Epoch
	Site    draas.SiteID
	State   State
	Reason  string
	Flights int64 // requests under way to the site
	Held    int64 // requests that wait
}
