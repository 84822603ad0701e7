package syncer

import (
	"slices"
	"time"
)

// Status is how far a standby site is, as it stands in the store: no cloud is
// asked for it.
type Status struct {
	Meta  Meta         `json:"meta"`
	Kinds []KindStatus `json:"kinds,omitempty"`
}

// KindStatus is how far a kind is.
type KindStatus struct {
	Kind Kind `json:"kind"`
	// Missing says why a side does not have the kind.
	Missing string `json:"missing,omitempty"`

	// Looked is when both listings began that were made last, by our clock.
	Looked time.Time `json:"looked,omitzero"`
	// Through is the watermark: everything that the source had then is at the
	// target. By our clock, so that the source's may be wrong; SourceThrough is
	// the same moment by the source's.
	Through       time.Time `json:"through,omitzero"`
	SourceThrough time.Time `json:"source_through,omitzero"`
	Audited       time.Time `json:"audited,omitzero"` // the last complete audit

	Objects int          `json:"objects"` // at the source, those left out by filters aside
	Verbs   map[Verb]int `json:"verbs,omitempty"`
	// Pending objects, and the bytes of their content, are to be written still.
	Pending      int   `json:"pending"`
	PendingBytes int64 `json:"pending_bytes"`
	Failed       int   `json:"failed,omitempty"`
	// Error says why the last look was not a whole one.
	Error string `json:"error,omitempty"`
}

// Lag is what a disaster would lose.
type Lag struct {
	// Age is since when what changed at the source may not be at the target.
	Age time.Duration `json:"age"`
	// Known is false before the first complete run: then Age says nothing.
	Known   bool  `json:"known"`
	Objects int   `json:"objects"`
	Bytes   int64 `json:"bytes"`
}

// Lag of a kind at a time of our clock.
func (k KindStatus) Lag(now time.Time) Lag {
	l := Lag{Known: !k.Through.IsZero(), Objects: k.Pending, Bytes: k.PendingBytes}
	if l.Known {
		l.Age = max(0, now.Sub(k.Through))
	}
	return l
}

// Lag of all kinds that both sides have: the greatest age, and the sums.
func (s Status) Lag(now time.Time) Lag {
	all := Lag{Known: len(s.Kinds) > 0}
	for _, k := range s.Kinds {
		if k.Missing != "" {
			continue
		}
		l := k.Lag(now)
		all.Age = max(all.Age, l.Age)
		all.Known = all.Known && l.Known
		all.Objects += l.Objects
		all.Bytes += l.Bytes
	}
	return all
}

// Of gives the status of a kind; false: it was never looked at.
func (s Status) Of(kind Kind) (KindStatus, bool) {
	i := slices.IndexFunc(s.Kinds, func(k KindStatus) bool { return k.Kind == kind })
	if i < 0 {
		return KindStatus{Kind: kind}, false
	}
	return s.Kinds[i], true
}
