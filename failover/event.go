package failover

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/draasd/draas"
	"github.com/draasd/draas/runbook"
)

// Version is the version of Step. It travels with every hello, so that all
// members know by which rules the others decide.
//
// Version 1 is that of issue 2's daemons. Version 2 knows all that stands
// behind ServicePolicy.HoldMax, and the events offer, version, lag, fenced and
// generation; and the steps of its plans are due at once. Version 3 knows how
// members see frontends and where names enter (ServicePolicy.Ways), the event
// finding, that a move leaves a target that is lost or does not take what is
// free (Policy.Take), and that a request is decided once, however often it was
// proposed (MemberState.Asked).
const Version = 3

// MaxEvent bounds one encoded event in bytes. A policy of a hundred services
// takes some 40 KiB.
const MaxEvent = 64 << 10

// EventKind names what an entry of the replicated log says.
type EventKind string

// The kinds of event.
const (
	EventHello    EventKind = "hello"    // a member's daemon started
	EventPolicy   EventKind = "policy"   // the rules by which all decide
	EventObserved EventKind = "observed" // a vantage changed its mind
	EventRenew    EventKind = "renew"    // a site renews its permits
	EventRequest  EventKind = "request"  // an operator asks for a move
	EventDue      EventKind = "due"      // a timer ran out on somebody's clock
	EventRelease  EventKind = "release"  // the old holder is closed, for good
	EventActivate EventKind = "activate" // a site takes the next epoch
	EventDone     EventKind = "done"     // a step of a move was observed done

	EventOffer      EventKind = "offer"      // a running daemon has read another file
	EventVersion    EventKind = "version"    // all members can step by a newer version
	EventLag        EventKind = "lag"        // how far a site's copy is behind
	EventFenced     EventKind = "fenced"     // a device has the old site off, confirmed
	EventGeneration EventKind = "generation" // a survivor started the cluster anew
	EventFinding    EventKind = "finding"    // what was found of a user path between moves
)

// Event is one entry of the replicated log. Only the fields of its kind are
// set. Index is given by the log when the entry is applied.
type Event struct {
	Kind        EventKind         `json:"kind"`
	By          draas.MemberID    `json:"by"`
	Incarnation draas.Incarnation `json:"inc,omitempty"`
	// ID is the proposer's own number for this entry: by it the proposer
	// knows its entry again, and the instant before it was sent.
	ID uint64 `json:"id,omitempty"`
	// At is the proposer's wall clock. It is for people and for timelines: no
	// decision rests on it.
	At    time.Time `json:"at"`
	Index uint64    `json:"-"`

	Service draas.ServiceID `json:"service,omitempty"`
	Site    draas.SiteID    `json:"site,omitempty"`
	Epoch   draas.Epoch     `json:"epoch,omitempty"`

	Hello    *Hello                          `json:"hello,omitempty"`
	Policy   *Policy                         `json:"policy,omitempty"`
	Observed []Observation                   `json:"observed,omitempty"`
	Permits  map[draas.ServiceID]draas.Epoch `json:"permits,omitempty"`
	Request  *Request                        `json:"request,omitempty"`
	Timer    string                          `json:"timer,omitempty"`
	Mark     uint64                          `json:"mark,omitempty"`
	Done     *runbook.Record                 `json:"done,omitempty"`
	Lag      *Lag                            `json:"lag,omitempty"`
	Version  int                             `json:"version,omitempty"`
	// Generation is the cluster's, of EventGeneration.
	Generation uint32   `json:"generation,omitempty"`
	Evidence   string   `json:"evidence,omitempty"`
	Finding    *Finding `json:"finding,omitempty"`
}

// Hello is what a daemon says of itself when it starts.
type Hello struct {
	Boot    string `json:"boot"`    // the machine's boot id
	Digest  string `json:"digest"`  // of its failover.toml
	Version int    `json:"version"` // of Step
	// Settled, of an offer: permits of the boot before this one are over.
	Settled bool `json:"settled,omitempty"`
}

// Observation is one vantage's verdict of a service at a site, or, with an
// empty Service, of another member's daemon or of a frontend.
type Observation struct {
	Service  draas.ServiceID `json:"service,omitempty"`
	Site     draas.SiteID    `json:"site,omitempty"`
	Peer     draas.MemberID  `json:"peer,omitempty"`
	Frontend string          `json:"frontend,omitempty"` // by name
	// Epoch is the activation that was looked at: what was seen of a site
	// while it served an earlier epoch says nothing of this one. It is zero
	// for a member's look at its own site, which needs no activation.
	Epoch   draas.Epoch   `json:"epoch,omitempty"`
	Verdict draas.Verdict `json:"verdict"`
	Class   string        `json:"class,omitempty"`  // refused, timeout, ...
	Detail  string        `json:"detail,omitempty"` // for people
}

// MoveKind tells the paths of a move apart.
type MoveKind = runbook.Kind

// The kinds of move.
const (
	MoveActivate   = runbook.Activate   // the first activation
	MoveFailover   = runbook.Failover   // unplanned: waits for the lease if it must
	MoveSwitchover = runbook.Switchover // planned: the old holder hands over, or nothing happens
	MoveFailback   = runbook.Failback   // planned, to the home site
	MoveUndo       = runbook.Undo       // back, because the target of a move failed
)

// Ask is a request that moves nothing.
type Ask string

// What can be asked for beside moves.
const (
	AskPause       Ask = "pause"       // no automatic move, for a time and a reason
	AskResume      Ask = "resume"      // ends a pause
	AskAcknowledge Ask = "acknowledge" // ends the hold, and forgets moves and failures that let it grow
	AskEnter       Ask = "enter"       // the names enter at another site's frontends; nothing else moves
)

// MaxPause bounds a pause: what is paused for longer is not meant to be
// automatic.
const MaxPause = 30 * 24 * time.Hour

// Request is an operator's wish: a move, or what Ask names.
type Request struct {
	Move     MoveKind `json:"move,omitempty"`
	Ask      Ask      `json:"ask,omitempty"`
	Operator string   `json:"operator,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	// Expect is the epoch that the operator saw; a request made on an older
	// view is refused. Zero asks for no such check.
	Expect draas.Epoch `json:"expect,omitempty"`
	// For is how long a pause lasts.
	For time.Duration `json:"for_ns,omitempty"`
	// AllowDataLoss lets this one move go to a site whose copy is too far
	// behind, or of which that is not known.
	AllowDataLoss bool `json:"allow_data_loss,omitempty"`
	// Vouch is the operator's word that the old site does not serve and will
	// not, where neither the lease nor a device can prove it.
	Vouch bool `json:"vouch,omitempty"`
}

// Lag is how far a site's copy of a service is behind the active site's.
type Lag struct {
	Known  bool          `json:"known"` // false: it could not be found out
	Behind time.Duration `json:"behind_ns"`
}

// NewGeneration is the first entry of a generation, which a survivor that
// starts the cluster anew writes into its log before its daemon runs.
func NewGeneration(by draas.MemberID, generation uint32, at time.Time) ([]byte, error) {
	return Event{Kind: EventGeneration, By: by, Generation: generation, At: at.UTC()}.Encode()
}

// Encode writes the event as it stands in the log.
func (e Event) Encode() ([]byte, error) {
	data, byHand := encodeHand(&e)
	var err error
	if !byHand {
		data, err = json.Marshal(e)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s event: %w", e.Kind, err)
	}
	if len(data) > MaxEvent {
		return nil, fmt.Errorf("encode %s event: %d bytes, at most %d", e.Kind, len(data), MaxEvent)
	}
	return data, nil
}

// Decode reads an event from the log. Fields that this version does not know
// are passed over: a newer member may have written them.
func Decode(data []byte) (Event, error) {
	if len(data) > MaxEvent {
		return Event{}, fmt.Errorf("decode event: %d bytes, at most %d", len(data), MaxEvent)
	}
	if e, byHand := decodeHand(data); byHand {
		return e, nil
	}
	var e Event
	if err := json.Unmarshal(data, &e); err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	if e.Kind == "" || e.By == "" {
		return Event{}, errors.New("decode event: it has no kind or no proposer")
	}
	return e, nil
}
