// Package rto turns a timeline of answers, as clients saw them, into what a
// failover cost: downtime, gaps, answers from the wrong site, and time in
// which two sites were active.
//
// It is pure: every instant is a duration since the timeline's origin, and
// comes in as an argument. docs/rtotest.md states the rules in words.
package rto

import (
	"fmt"
	"time"

	"github.com/draasd/draas"
)

// Class says how a request ended.
type Class uint8

// The classes. Only Good is a good answer; each of the others is a failure.
const (
	Good    Class = iota
	DNS           // the name did not resolve, in time or at all
	Refused       // the connection was refused
	Reset         // the connection ended before the answer did
	Timeout       // no whole answer in time
	Status        // an answer with another status or body than wanted
	TLS           // the TLS handshake failed
	Other         // anything else, such as an unreachable network
	numClasses
)

var classNames = [numClasses]string{"good", "dns", "refused", "reset", "timeout", "status", "tls", "other"}

func (c Class) String() string {
	if c < numClasses {
		return classNames[c]
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Failures lists the classes of failure, in the order of a report.
func Failures() []Class { return []Class{DNS, Refused, Reset, Timeout, Status, TLS, Other} }

// Site is an index into Timeline.Sites. A run keeps hundreds of thousands of
// samples, so they hold no pointers.
type Site uint16

// NoSite is the site of an answer that did not say where it came from.
const NoSite Site = 0

// Unstamped is the Stamp of an answer that carries no server time.
const Unstamped time.Duration = -1

// Sample is one request and how it ended: 48 bytes.
type Sample struct {
	At    time.Duration // when the schedule wanted it sent: the request belongs here
	Sent  time.Duration // when it was sent
	Done  time.Duration // when its answer was complete, or its failure known
	Stamp time.Duration // when the server says that it answered, or Unstamped
	Epoch draas.Epoch   // epoch stamped on the answer, zero when none
	Site  Site
	Class Class
	// User numbers the users of a stream, from 0. Addr says where the request
	// went, or NoAddr.
	User uint16
	Addr uint16
}

// NoAddr is the Addr of a request that found no address.
const NoAddr uint16 = 0

// Good reports whether the client got a good answer.
func (s Sample) Good() bool { return s.Class == Good }

// Answered bounds the instant in which the server answered. With a stamp the
// two bounds are the stamp, held within [Sent, Done] because the server's
// clock may be off; without one they are Sent and Done.
func (s Sample) Answered() (earliest, latest time.Duration) {
	if s.Stamp < 0 {
		return s.Sent, s.Done
	}
	at := min(max(s.Stamp, s.Sent), s.Done)
	return at, at
}

// Stream is what one asker saw.
type Stream struct {
	// Name is the client's kind, or the site that is asked directly.
	Name string
	// Direct marks a prober that asks one site, whoever is active: its
	// answers show that the site is active, and its failures are no downtime.
	Direct bool
	// Samples are in the order of At.
	Samples []Sample
}

// Timeline is everything that was seen in one run.
type Timeline struct {
	Streams []Stream
	// Sites are the names of the sites; element NoSite is "".
	Sites []draas.SiteID
	// Addrs are where requests went, HOST:PORT; element NoAddr is "".
	Addrs []string
	// End is when the schedule ended; answers may come in until later.
	End time.Duration
}

// Span is a closed stretch of time.
type Span struct {
	From, To time.Duration
}

// Len is the length of the span, zero when it is a single instant.
func (s Span) Len() time.Duration { return s.To - s.From }
