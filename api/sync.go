package api

import (
	"context"
	"fmt"
	"time"

	"github.com/draasd/draas"
)

// Sync is how a member carries the active site's cloud to its own. What it says
// of times is by that member's clock.
type Sync struct {
	Follows draas.ServiceID `json:"follows,omitempty"` // the unit whose active site is the source
	Target  draas.SiteID    `json:"target,omitempty"`
	// Source is empty while nothing is carried; Idle says why.
	Source draas.SiteID `json:"source,omitempty"`
	Idle   string       `json:"idle,omitempty"`
	// Epoch of the runs: of an older one than the records have seen none is made.
	Epoch draas.Epoch `json:"epoch,omitempty"`

	// Known is false until all that is carried was so once, completely. BehindMS is
	// since when what changed at the source may not be at the target; Objects, and
	// the Bytes of their content, are known to be missing there.
	Known    bool  `json:"known"`
	BehindMS int64 `json:"behind_ms"`
	Objects  int   `json:"objects"`
	Bytes    int64 `json:"bytes"`

	// Held is why a person has to accept first what differs.
	Held string `json:"held,omitempty"`
	// Error is why the last run came to its end too early; Failures counts the
	// runs in a row that did.
	Error    string `json:"error,omitempty"`
	Failures int    `json:"failures,omitempty"`
	// Users is what became of the copied users, where the file says that they are
	// enabled when their site has become the active one.
	Users *SyncUsers `json:"users,omitempty"`

	Running   *SyncRun    `json:"running,omitempty"`
	Next      time.Time   `json:"next,omitzero"`
	NextAudit time.Time   `json:"next_audit,omitzero"`
	Last      *SyncResult `json:"last,omitempty"`
	Kinds     []SyncKind  `json:"kinds,omitempty"`
}

// SyncRun is a run under way.
type SyncRun struct {
	Began time.Time `json:"began"`
	Why   string    `json:"why"`  // due, audit or triggered
	Done  int       `json:"done"` // objects, those that failed included
	ToDo  int       `json:"to_do"`
	Bytes int64     `json:"bytes"` // carried until now
	Carry int64     `json:"carry"` // to be carried, in all
}

// SyncResult is the last run that looked at both clouds.
type SyncResult struct {
	Began  time.Time `json:"began"`
	TookMS int64     `json:"took_ms"`
	Why    string    `json:"why"`
	Error  string    `json:"error,omitempty"` // that ended it too early
	// Kinds are those of which anything was done.
	Kinds []SyncDone `json:"kinds,omitempty"`
	// Left counts what was not done on purpose: blocked, drift, conflict, held.
	Left map[string]int `json:"left,omitempty"`
	// FailedObjects counts the Failures, of which the first stand here.
	FailedObjects  int           `json:"failed_objects"`
	Failures       []SyncFailure `json:"failures,omitempty"`
	SourceRequests int64         `json:"source_requests"`
	TargetRequests int64         `json:"target_requests"`
}

// SyncDone is what a run did about a kind.
type SyncDone struct {
	Kind   string         `json:"kind"`
	Done   map[string]int `json:"done,omitempty"` // create, update, replace, delete, adopt, forget
	Failed int            `json:"failed,omitempty"`
	Bytes  int64          `json:"bytes,omitempty"`
}

// SyncFailure is an object that is not as it should be.
type SyncFailure struct {
	Kind   string `json:"kind"`
	ID     string `json:"id"` // at the source
	Name   string `json:"name,omitempty"`
	Verb   string `json:"verb"`
	Reason string `json:"reason"`
}

// SyncKind is how far a kind is, by the last run that looked at it.
type SyncKind struct {
	Kind         string         `json:"kind"`
	Missing      string         `json:"missing,omitempty"` // why a side does not have it
	Known        bool           `json:"known"`
	BehindMS     int64          `json:"behind_ms"`
	Objects      int            `json:"objects"` // at the source
	Verbs        map[string]int `json:"verbs,omitempty"`
	Pending      int            `json:"pending"`
	PendingBytes int64          `json:"pending_bytes"`
	Failed       int            `json:"failed,omitempty"`
	Error        string         `json:"error,omitempty"` // why the last look was not whole
	// Through is the watermark: what the source had then is at the target.
	Through time.Time `json:"through,omitzero"`
	Audited time.Time `json:"audited,omitzero"`
}

// SyncTrigger asks for a run at once, or after the one under way.
type SyncTrigger struct {
	Audit bool `json:"audit,omitempty"` // one that reads everything
}

// SyncBrief is a Sync in short.
type SyncBrief struct {
	Follows  draas.ServiceID `json:"follows"`
	Source   draas.SiteID    `json:"source,omitempty"` // empty: nothing is carried
	Known    bool            `json:"known"`
	BehindMS int64           `json:"behind_ms"`
	Objects  int             `json:"objects"`
	Bytes    int64           `json:"bytes"`
	// Stuck objects were not carried by the last run, which failed with them, or
	// for what they need; those that Differ are left so, for others have changed
	// them.
	Stuck    int    `json:"stuck,omitempty"`
	Differ   int    `json:"differ,omitempty"`
	Running  bool   `json:"running,omitempty"`
	Held     bool   `json:"held,omitempty"`
	Failures int    `json:"failures,omitempty"`
	Error    string `json:"error,omitempty"`

	Users *SyncUsers `json:"users,omitempty"`
}

// SyncUsers is what became of the copied users of a site that has become the
// active one. Without an Error all is done.
type SyncUsers struct {
	Enabled  int    `json:"enabled"`
	Error    string `json:"error,omitempty"` // why some are not yet
	Failures int    `json:"failures,omitempty"`
}

// Sync asks how the member carries the active site's cloud to its own.
func (c *Client) Sync(ctx context.Context) (*Sync, error) {
	var s Sync
	if err := c.get(ctx, PathSync, &s); err != nil {
		return nil, fmt.Errorf("ask for sync: %w", err)
	}
	return &s, nil
}

// TriggerSync asks for a run, and returns when it is asked for.
func (c *Client) TriggerSync(ctx context.Context, t SyncTrigger) (*Done, error) {
	var d Done
	if err := c.post(ctx, PathSync, t, &d); err != nil {
		return nil, fmt.Errorf("trigger sync: %w", err)
	}
	return &d, nil
}
