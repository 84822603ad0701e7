package syncer

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// settle makes a decision known, and an item of it where there is anything to
// do or to say.
func (s *survey) settle(r *row, d Decision) {
	f := fate{state: none, why: strings.TrimSpace(string(d.Verb) + ": " + d.Reason), named: d.Verb == Unsupported || d.Verb == Conflict || d.Verb == Drift}
	taken := d.Have != nil && (r.target != nil && d.Have.ID == r.target.ID || d.Verb == Adopt || d.Verb == Update || d.Verb == Replace)
	switch {
	case d.Verb == Create || d.Verb == Replace:
		f = fate{state: coming}
	case taken:
		f = fate{state: exists, id: d.Have.ID}
		r.p.claim(s, d.Have.ID, r.key)
	}
	if r.source != nil {
		if len(r.want.Later) > 0 {
			s.laters = append(s.laters, r)
		}
		defer s.setFate(r.key, f)
	}
	if d.Verb == Unchanged && r.source != nil && r.record != nil && d.Have != nil && s.looked == nil {
		if d.Have.ID == r.record.Target {
			s.refreshed(r, d)
		} else {
			d.Verb, d.Reason = Adopt, "found by its marker"
		}
	}
	if r.source != nil && s.looked == nil {
		s.lose(r.source, s.left(r, d))
	}
	if d.Verb == Unchanged {
		r.k.verbs[Unchanged]++
		return
	}
	if r.source != nil && s.o.Accept != nil && (d.Verb == Conflict || d.Verb == Drift) {
		s.conflicts = append(s.conflicts, r)
	}
	s.add(r, d)
}

// lose notes what of an object the target does not have: what cannot be carried,
// and what stays as it is there.
func (s *survey) lose(o *Object, left []string) {
	parts := slices.Clone(o.Lost)
	for i, name := range left {
		if name == "" {
			name = "content"
		}
		left[i] = name
	}
	if len(left) > 0 {
		parts = append(parts, "as it is at the target: "+strings.Join(left, ", "))
	}
	if len(parts) > 0 {
		s.lost[o.Key] = Loss{Key: o.Key, Name: o.Name, Parts: parts}
	}
}

// left are the fields in which an object counts as unchanged though it differs:
// the service has not taken them, or a person has let them be.
func (s *survey) left(r *row, d Decision) []string {
	if d.Verb != Unchanged || r.record == nil || d.Have == nil || r.source.Stance == Given || r.record.SourceHash == r.record.TargetHash {
		return nil
	}
	return s.ofCase(r).differ(d.Have)
}

// refreshed notes new revisions of what is alike still.
func (s *survey) refreshed(r *row, d Decision) {
	rec := *r.record
	rec.Intent, rec.Missed, rec.Gone = false, 0, time.Time{}
	rec.Error, rec.Attempts, rec.Next = "", 0, time.Time{}
	rec.SourceRevision, rec.TargetRevision = r.source.Revision, d.Have.Revision
	rec.Name, rec.Within = r.source.Name, r.source.Within
	rec.Needs, rec.Left = r.source.Refs(), len(r.want.Later) > 0
	rec.Bound = bound(rec.Needs, s.to)
	if !reflect.DeepEqual(rec, *r.record) {
		s.refresh[r.key] = rec
	}
}

func (s *survey) add(r *row, d Decision) {
	it := &item{kind: r.k, decision: d, record: r.record, frees: r.frees}
	it.Key, it.Verb, it.Reason = r.key, d.Verb, d.Reason
	if r.source != nil {
		it.source, it.Name = *r.source, r.source.Name
		it.Lost, it.Later = r.source.Lost, r.want.Later
		it.Fields = showFields(d, *r.source, r.want)
		s.edges(it)
		if s.o.plan {
			it.source.Fields = nil // it was decided about, and nothing will be written
		}
		if r.record != nil && r.record.Missed > 0 {
			rec := *r.record
			rec.Missed, rec.Gone = 0, time.Time{}
			it.record = &rec
			s.refresh[r.key] = rec
		}
	} else {
		it.Name = r.record.Name
	}
	if d.Have != nil {
		it.Target = d.Have.ID
	}
	if carries(r.k.Traits, d) {
		it.Bytes = max(0, it.source.Content.Size)
	}
	s.items = append(s.items, it)
	s.byKey[r.key] = it
}

// carries tells whether a decision moves the content.
func carries(t Traits, d Decision) bool {
	return t.Body && (d.Verb == Create || d.Verb == Replace || d.Verb == Update && slices.Contains(d.Fields, ""))
}

// edges finds what of this run has to be there before, and what comes later.
func (s *survey) edges(it *item) {
	note := func(ref Ref) {
		switch f := s.fate(ref.Key); {
		case f.state != coming:
		case ref.Weak:
			it.after = append(it.after, ref.Key)
		default:
			it.soon = append(it.soon, ref.Key)
		}
	}
	walkRefs(it.source.Natural, note)
	it.source.Fields.refs(note)
	if it.source.Within != (Key{}) {
		note(Ref{Key: it.source.Within})
	}
	it.soon, it.after = unique(it.soon), unique(it.after)
	it.Needs = it.soon
}
