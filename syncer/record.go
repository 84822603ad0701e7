package syncer

import "time"

// Record is what the store keeps of an object that is carried: what was written
// last, by which the next change is told from drift.
type Record struct {
	Key    Key    `json:"key"` // at the source
	Within Key    `json:"within,omitzero"`
	Target string `json:"target,omitempty"` // the id at the target
	Name   string `json:"name,omitempty"`

	// Intent: a write was begun, and its end not seen.
	Intent bool `json:"intent,omitempty"`
	// Created here; only then may it be deleted.
	Created bool `json:"created,omitempty"`

	// What was last read and written: by hash, and by revision so that what has
	// not changed need not be read.
	SourceHash     string `json:"source_hash,omitempty"`
	SourceRevision string `json:"source_revision,omitempty"`
	TargetHash     string `json:"target_hash,omitempty"`
	TargetRevision string `json:"target_revision,omitempty"`
	// Bound is a hash of the ids at the target of what it refers to: with one of
	// them made anew, the object has to be written anew.
	Bound string `json:"bound,omitempty"`
	Needs []Key  `json:"needs,omitempty"` // at the source

	// Natural is the natural key at the target, of what is looked for when the
	// source is gone before the end of its Create was seen.
	Natural string `json:"natural,omitempty"`
	// Renamed: it stands at the target under another name.
	Renamed bool `json:"renamed,omitempty"`

	// Left: it refers to what the target does not have, and stands there without.
	Left bool `json:"left,omitempty"`

	// What the source said of the content, and the target of what came of it.
	Content Content   `json:"content,omitzero"`
	Landed  Content   `json:"landed,omitzero"`
	Applied time.Time `json:"applied,omitzero"` // zero: never written to its end

	// Missed counts the complete listings in a row in which the source did not
	// have it, from Gone on.
	Missed int       `json:"missed,omitempty"`
	Gone   time.Time `json:"gone,omitzero"`

	// Of the last failure.
	Error    string    `json:"error,omitempty"`
	Attempts int       `json:"attempts,omitempty"`
	Next     time.Time `json:"next,omitzero"` // not tried again sooner
}
