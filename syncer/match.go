package syncer

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// batch is a pair of listings with what finds objects of one by the other's.
type batch struct {
	*pair
	kind    *kind
	records map[string]*Record
	taken   map[string]bool // ids at the target that stand for something
	found   *found          // nil until something has to be searched for

	sourceNames, targetNames names
}

// found has the objects of the target by what they can be found by.
type found struct {
	marker  map[string][]*Object // of the source's site
	natural map[string][]*Object
	claimed map[string]Key // by the id at the target
}

func (s *survey) index(k *kind, p *pair, records map[string]*Record) *batch {
	b := &batch{pair: p, kind: k, records: records, taken: make(map[string]bool, len(p.target.order))}
	if slices.ContainsFunc(s.e.Map, func(m Mapping) bool { return m.Kind == k.Kind }) {
		b.sourceNames, b.targetNames = namesOf(p.source), namesOf(p.target)
	}
	return b
}

// find makes what finds: what has not changed needs no search.
func (b *batch) find(s *survey) *found {
	if b.found != nil {
		return b.found
	}
	f := &found{marker: make(map[string][]*Object), natural: make(map[string][]*Object), claimed: make(map[string]Key)}
	for _, id := range b.target.order {
		o := b.target.objects[id]
		if o == nil {
			continue // gone since it was listed
		}
		if o.Marker.Site == s.sourceWord {
			f.marker[o.Marker.ID] = append(f.marker[o.Marker.ID], o)
			f.claimed[id] = Key{b.kind.Kind, o.Marker.ID}
		}
		if o.Natural != nil {
			key := NaturalKey(o.Kind, o.Natural)
			f.natural[key] = append(f.natural[key], o)
		}
	}
	for _, r := range b.records {
		if r.Target != "" {
			f.claimed[r.Target] = r.Key
		}
	}
	b.found = f
	return f
}

// claim an object of the target.
func (b *batch) claim(s *survey, id string, by Key) {
	b.taken[id] = true
	b.find(s).claimed[id] = by
}

// row finds what stands for o by its record or by a marker.
func (b *batch) row(s *survey, k *kind, o *Object) *row {
	r := &row{k: k, p: b, key: o.Key, source: o, record: b.records[o.ID]}
	if r.record != nil {
		r.target = b.target.objects[r.record.Target]
	}
	if r.target == nil && o.Marker.Site == s.targetWord {
		// The direction was the other one: o was made after it.
		r.target = b.target.objects[o.Marker.ID]
		r.original = r.target != nil
	}
	if r.target == nil {
		r.byMarker(s, o.ID)
	}
	if r.target != nil {
		b.taken[r.target.ID] = true
	}
	return r
}

func (r *row) byMarker(s *survey, id string) {
	found := r.p.find(s).marker[id]
	if len(found) > 1 {
		r.doubled = len(found)
		return
	}
	if len(found) == 1 {
		r.target = found[0]
	}
}

// gone gives the rows of what the source has no longer. With the store lost,
// what bears a marker alone is among them.
func (b *batch) gone(s *survey, k *kind) []*row {
	if !b.source.Complete {
		return nil
	}
	var rows []*row
	for _, id := range slices.Sorted(maps.Keys(b.records)) {
		if b.source.objects[id] != nil {
			continue
		}
		rec := *b.records[id]
		if rec.Missed++; rec.Gone.IsZero() {
			rec.Gone = s.now
		}
		r := &row{k: k, p: b, key: rec.Key, record: &rec, target: b.target.objects[rec.Target]}
		if r.target == nil {
			r.byMarker(s, id)
		}
		if r.target == nil && rec.Intent && rec.Target == "" && !k.Marked {
			r.target = b.unclaimed(s, rec.Natural)
		}
		if r.target != nil {
			b.taken[r.target.ID] = true
		} else if !b.target.Complete {
			continue // it may be there
		}
		s.refresh[rec.Key] = rec
		rows = append(rows, r)
	}
	if s.meta.Whole || s.looked != nil {
		return rows
	}
	marked := b.find(s).marker
	for _, id := range slices.Sorted(maps.Keys(marked)) {
		if found := marked[id]; b.source.objects[id] == nil && b.records[id] == nil && len(found) == 1 && found[0].Stance == Carried {
			rec := Record{Key: Key{k.Kind, id}, Target: found[0].ID, Name: found[0].Name, Created: true, Missed: 1, Gone: s.now}
			b.taken[found[0].ID] = true
			rows = append(rows, &row{k: k, p: b, key: rec.Key, record: &rec, target: found[0], orphan: true})
		}
	}
	return rows
}

func (b *batch) unclaimed(s *survey, natural string) *Object {
	var found []*Object
	if natural != "" {
		found = slices.DeleteFunc(slices.Clone(b.find(s).natural[natural]), func(o *Object) bool {
			_, claimed := b.find(s).claimed[o.ID]
			return claimed
		})
	}
	if len(found) != 1 {
		return nil
	}
	return found[0]
}

// step takes a row as far as it gets: true when something of it has to be read.
func (s *survey) step(r *row) bool {
	if r.source == nil {
		return s.stepGone(r)
	}
	if err := cmpErr(r.sourceErr, s.source, r.targetErr, s.target); err != "" {
		s.settle(r, Decision{Verb: Blocked, Reason: err, Have: r.target})
		return false
	}
	if len(s.e.Map) > 0 && s.stepMapped(r) {
		return false
	}
	if r.record != nil && s.looked == nil {
		// What it refers to may be made anew, which only a decision tells.
		if s.waitsAny(r, r.record.Needs) {
			return false
		}
		if s.quick(r) {
			s.keep(r, *r.record)
			return false
		}
	}
	place := &Object{Key: r.key, Natural: r.source.Natural, Within: r.source.Within}
	if s.waits(r, place) {
		return false
	}
	r.findOther(s, Translate(place, s.to).Natural)
	r.readSource = r.source.Fields == nil
	r.readTarget = r.target != nil && r.target.Fields == nil
	r.readOther = r.other != nil && r.target == nil && r.other.Fields == nil
	if r.readSource || r.readTarget || r.readOther {
		return true
	}
	if s.waits(r, r.source) {
		return false
	}
	r.want = s.wanted(r.source, r.record, s.to)
	r.renamed = false
	if r.record == nil && r.target != nil && r.k.policy.Rename {
		// The store was lost: it may stand there under another name.
		if w, ok := rename(r.want, s.source); ok && r.target.Fields["name"] == w.Fields["name"] {
			r.want, r.renamed = w, true
		}
	}
	if s.looked != nil {
		s.looked(r)
		if len(r.want.Needs) > 0 {
			s.settle(r, Decision{Verb: Blocked, Reason: s.whyNeeds(r.want.Needs), Have: r.target})
		} else {
			s.settle(r, Decision{Verb: Unchanged, Have: r.target})
		}
		return false
	}
	s.decide(r)
	return false
}

func cmpErr(source error, sourceSite string, target error, targetSite string) string {
	switch {
	case source != nil:
		return fmt.Sprintf("could not be read at %s: %v", sourceSite, source)
	case target != nil:
		return fmt.Sprintf("could not be read at %s: %v", targetSite, target)
	}
	return ""
}

// stepMapped: what the operator says stands for it does, and is left alone.
func (s *survey) stepMapped(r *row) bool {
	id, why, said := mapped(s.e.Map, r.source, r.p.sourceNames, r.p.targetNames)
	if !said {
		return false
	}
	r.record = nil // what stood for it before is left as it was
	switch {
	case why != "":
		s.settle(r, Decision{Verb: Blocked, Reason: why})
	default:
		r.target = r.p.target.objects[id]
		r.p.claim(s, id, r.key)
		s.settle(r, Decision{Verb: Unchanged, Have: r.target})
	}
	return true
}

// waits puts a row off until what it needs is decided.
func (s *survey) waits(r *row, o *Object) bool {
	var strong []Key
	note := func(ref Ref) {
		if !ref.Weak {
			strong = append(strong, ref.Key)
		}
	}
	walkRefs(o.Natural, note)
	o.Fields.refs(note)
	if o.Within != (Key{}) {
		strong = append(strong, o.Within)
	}
	return s.waitsAny(r, strong)
}

func (s *survey) waitsAny(r *row, keys []Key) bool {
	if r.force {
		return false
	}
	for _, key := range keys {
		if key != r.key && s.fate(key).state == undecided {
			s.waiting[key] = append(s.waiting[key], r)
			return true
		}
	}
	return false
}

// findOther looks for one with the same natural key that stands for nothing else.
func (r *row) findOther(s *survey, natural []any) {
	r.other, r.same, r.frees = nil, 0, ""
	key := NaturalKey(r.k.Kind, natural)
	if key == "" {
		return
	}
	f := r.p.find(s)
	for _, o := range f.natural[key] {
		by, claimed := f.claimed[o.ID]
		switch {
		case r.target != nil && o.ID == r.target.ID:
		case claimed && by != r.key:
			if r.k.Unique {
				r.frees = o.ID
			}
		default:
			// Which may have been read since, and be gone.
			if now := r.p.target.objects[o.ID]; now != nil {
				r.same++
				r.other = now
			}
		}
	}
}

// quick tells by revisions alone that nothing has changed.
func (s *survey) quick(r *row) bool {
	rec := r.record
	return !s.o.Audit && r.target != nil && r.target.ID == rec.Target && !rec.Intent && !rec.Left && !rec.Applied.IsZero() &&
		r.source.Within == rec.Within &&
		r.k.unmoved(r.source, rec.SourceRevision) && r.k.unmoved(r.target, rec.TargetRevision) &&
		bound(rec.Needs, s.to) == rec.Bound
}

// unmoved tells whether an object has the revision that it had.
func (k *kind) unmoved(o *Object, revision string) bool {
	if o.Revision == "" && k.Slow && o.Fields == nil {
		k.passed = true // an audit will tell
		return true
	}
	return o.Revision != "" && o.Revision == revision
}

// keep notes that a row is unchanged.
func (s *survey) keep(r *row, rec Record) {
	if rec.Missed > 0 || rec.Error != "" || rec.Name != r.source.Name {
		rec.Missed, rec.Gone = 0, time.Time{}
		rec.Error, rec.Attempts, rec.Next = "", 0, time.Time{}
		rec.Name = r.source.Name
		s.refresh[r.key] = rec
	}
	r.k.verbs[Unchanged]++
	s.setFate(r.key, fate{state: exists, id: rec.Target})
}

// wanted is what the target is to have.
func (s *survey) wanted(o *Object, rec *Record, to func(Key) (Key, bool)) Want {
	w := Translate(o, to)
	if rec != nil && rec.Renamed {
		w, _ = rename(w, s.source)
	}
	return w
}

// rename puts the source's site behind the name; false: there is none.
func rename(w Want, site string) (Want, bool) {
	old, ok := w.Fields["name"].(string)
	if !ok {
		return w, false
	}
	return w.named(old + " (" + site + ")"), true
}

// named is a Want of another name.
func (w Want) named(name string) Want {
	old := w.Fields["name"]
	w.Fields = maps.Clone(w.Fields)
	w.Fields["name"] = name
	w.Natural = slices.Clone(w.Natural)
	for i, v := range w.Natural {
		if v == old {
			w.Natural[i] = name
		}
	}
	return w
}

func (s *survey) marker(key Key) Marker { return Marker{Site: s.sourceWord, ID: key.ID} }

// ofCase is all that is known of a row.
func (s *survey) ofCase(r *row) Case {
	return Case{
		Traits: r.k.Traits, Policy: r.k.policy, Record: r.record, Source: r.source, Want: r.want,
		Target: r.target, Other: r.other, Marker: s.marker(r.key), Original: r.original, Now: s.now,
	}
}

// stepGone decides about what the source has no longer.
func (s *survey) stepGone(r *row) bool {
	rec := r.record
	if s.looked != nil {
		s.looked(r)
		return false
	}
	if r.targetErr != nil {
		s.settle(r, Decision{Verb: Held, Reason: cmpErr(nil, "", r.targetErr, s.target), Have: r.target})
		return false
	}
	ripe := rec.Missed >= r.k.policy.Missing && !s.now.Before(rec.Gone.Add(r.k.policy.Grace))
	if r.target != nil && r.target.Fields == nil && (ripe && rec.Created || r.orphan) {
		r.readTarget = true
		return true
	}
	if r.orphan && r.target != nil && rec.TargetHash == "" {
		rec.TargetHash = Hash(r.target.Fields, r.target.Content)
		s.refresh[r.key] = *rec
	}
	d := Decide(s.ofCase(r))
	if d.Verb == Delete && s.o.Filter.narrows() {
		d.Verb, d.Reason = Held, "gone at the source; a run with a filter deletes nothing"
	}
	s.settle(r, s.backoff(r, d))
	return false
}

// backoff holds what has failed lately.
func (s *survey) backoff(r *row, d Decision) Decision {
	rec := r.record
	if rec == nil || rec.Error == "" || s.o.Retry || !d.Verb.Acts() || !s.now.Before(rec.Next) {
		return d
	}
	d.Verb = Held
	d.Reason = fmt.Sprintf("failed %d times, tried again from %s: %s", rec.Attempts, rec.Next.UTC().Format(time.DateTime), rec.Error)
	return d
}

// unseenAtTarget is why nothing is done about what a listing that was not whole
// does not have.
const unseenAtTarget = "it may be at the target: the listing there is not complete"

// decide about a row of which all is known.
func (s *survey) decide(r *row) {
	d := Decide(s.ofCase(r))
	if r.renamed {
		d.Rename = true
	}
	unseen := r.target == nil && !r.p.target.Complete
	switch {
	case r.doubled > 0 && r.target == nil && d.Verb != Unsupported:
		d = Decision{Verb: Conflict, Reason: fmt.Sprintf("%d objects at the target bear its marker", r.doubled)}
	case unseen && d.Verb != Unsupported:
		d = Decision{Verb: Blocked, Reason: unseenAtTarget}
	case r.target == nil && r.same > 1 && d.Have != nil:
		d = Decision{Verb: Conflict, Reason: fmt.Sprintf("%d objects at the target have that name", r.same)}
	case d.Verb == Blocked && len(r.want.Needs) > 0:
		d.Reason = s.whyNeeds(r.want.Needs)
	case d.Rename && !r.renamed:
		var ok bool
		if r.want, ok = rename(r.want, s.source); !ok {
			d = Decision{Verb: Conflict, Reason: d.Reason + ", and it has no name to change"}
		}
	}
	s.settle(r, s.backoff(r, d))
}
