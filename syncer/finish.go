package syncer

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// finish decides what only the whole shows.
func (s *survey) finish(ctx context.Context) error {
	if err := s.again(ctx); err != nil {
		return err
	}
	s.turn()
	s.names()
	s.brake()
	if err := s.dependents(); err != nil {
		return err
	}
	s.propagate()
	s.laters, s.conflicts, s.only = nil, nil, nil // each holds the listings that it was in
	return nil
}

// again decides once more about rows that refer weakly to what was not decided
// then.
func (s *survey) again(ctx context.Context) error {
	rows := s.laters
	s.laters = nil
	for _, r := range rows {
		there := slices.ContainsFunc(r.want.Later, func(key Key) bool {
			f := s.fate(key)
			return f.state == exists || f.state == coming
		})
		if !there {
			s.leave(r)
			continue
		}
		s.drop(r)
		r.force = true
		s.work = append(s.work, r)
	}
	if err := s.drain(ctx); err != nil {
		return err
	}
	for _, r := range s.laters {
		s.leave(r)
	}
	return nil
}

// drop takes back what was decided about a row.
func (s *survey) drop(r *row) {
	it := s.byKey[r.key]
	if it == nil {
		r.k.verbs[Unchanged]--
		return
	}
	delete(s.byKey, r.key)
	s.items = slices.DeleteFunc(s.items, func(other *item) bool { return other == it })
}

// leave says what is left out of an object that is unchanged else.
func (s *survey) leave(r *row) {
	if s.byKey[r.key] == nil && s.looked == nil {
		r.k.verbs[Unchanged]--
		s.add(r, Decision{Verb: Unchanged, Reason: "left out: " + s.whyNeeds(r.want.Later), Have: r.target})
	}
}

// names: what takes over a name comes after what gives it up.
func (s *survey) names() {
	at := make(map[Key]*item)
	for _, it := range s.items {
		if it.Target != "" && it.Verb.Acts() {
			at[Key{it.Key.Kind, it.Target}] = it
		}
	}
	for _, it := range s.items {
		if it.frees == "" || !it.Verb.Acts() || it.Verb == Delete {
			continue
		}
		other := at[Key{it.Key.Kind, it.frees}]
		if other == nil {
			s.hold(it, Blocked, fmt.Sprintf("the name belongs to %s still, which is of another object", it.frees))
			continue
		}
		it.follows = append(it.follows, other)
	}
}

// brake holds deletions and what takes back others' changes, where they are too
// many of a kind.
func (s *survey) brake() {
	type group struct{ deletes, overwrites []*item }
	groups := make(map[*kind]*group)
	for _, it := range s.items {
		g := groups[it.kind]
		if g == nil {
			g = &group{}
			groups[it.kind] = g
		}
		switch {
		case it.Verb == Delete || it.Verb == Replace:
			g.deletes = append(g.deletes, it)
		case it.Verb.Acts() && it.decision.Overwrites:
			g.overwrites = append(g.overwrites, it)
		}
	}
	for k, g := range groups {
		if slices.Contains(s.o.Unbraked, k.Kind) || slices.Contains(s.o.Unbraked, "*") {
			continue
		}
		limit := s.e.Brake.limit(k.records)
		for verb, all := range map[string][]*item{"deleted": g.deletes, "overwritten": g.overwrites} {
			if len(all) <= limit {
				continue
			}
			for _, it := range all {
				s.hold(it, Held, fmt.Sprintf("%s; the brake: %d of %d would be %s in one run", it.Reason, len(all), k.records, verb))
			}
		}
	}
}

// hold does nothing about an item, for now.
func (s *survey) hold(it *item, v Verb, why string) {
	created := it.Verb == Create || it.Verb == Replace
	it.Verb, it.Reason, it.Bytes = v, why, 0
	if !created {
		return
	}
	f := fate{state: none, why: string(v) + ": " + why}
	if have := it.decision.Have; have != nil {
		f = fate{state: exists, id: have.ID}
	}
	s.setFate(it.Key, f)
}

// dependents: what others need is deleted after them.
func (s *survey) dependents() error {
	deleted := make(map[Key]*item)
	for _, it := range s.items {
		if it.Verb == Delete || it.Verb == Replace {
			deleted[it.Key] = it
		}
	}
	if len(deleted) == 0 {
		return nil
	}
	kinds, err := s.e.Store.Kinds()
	if err != nil {
		return err
	}
	for _, k := range kinds {
		err := s.e.Store.Each(k, func(r Record) error {
			needs := r.Needs
			if r.Within != (Key{}) && !slices.Contains(needs, r.Within) {
				needs = append(needs, r.Within)
			}
			for _, key := range needs {
				if it := deleted[key]; it != nil && key != r.Key && r.Target != "" {
					s.depends(it, s.byKey[r.Key])
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// depends notes that by needs it.
func (s *survey) depends(it, by *item) {
	if by == nil {
		return // unchanged: it needs it no longer, or the service will say so
	}
	it.needed = append(it.needed, by)
}

// propagate blocks what needs what is not done now.
func (s *survey) propagate() {
	for again := true; again; {
		again = false
		for _, it := range s.items {
			if !it.Verb.Acts() {
				continue
			}
			for _, key := range it.soon {
				if by := s.byKey[key]; by == nil || by.Verb != Create && by.Verb != Replace {
					s.hold(it, Blocked, s.whyNeeds([]Key{key}))
					again = true
					break
				}
			}
			if it.Verb != Delete {
				continue
			}
			for _, by := range it.needed {
				if by.source.ID == "" && !by.Verb.Acts() && by.Verb != Forget {
					s.hold(it, Held, "needed by "+by.Key.String()+", which is "+string(by.Verb))
					again = true
					break
				}
			}
		}
	}
}

// plan makes it known.
func (s *survey) plan() *Plan {
	p := &Plan{Source: s.source, Target: s.target, Epoch: s.o.Epoch, At: s.now, Audit: s.o.Audit, Held: s.held()}
	place := make(map[*kind]int)
	for i, k := range s.order {
		place[k] = i
	}
	slices.SortStableFunc(s.items, func(a, b *item) int { return place[a.kind] - place[b.kind] })
	p.Changes = slices.Grow(p.Changes, len(s.items))
	for _, it := range s.items {
		it.kind.verbs[it.Verb]++
		it.kind.bytes += it.Bytes
		p.Changes = append(p.Changes, it.Change)
	}
	p.Lost = s.losses()
	for _, k := range s.order {
		if !k.left {
			p.Kinds = append(p.Kinds, KindPlan{
				Kind: k.Kind, Missing: k.missing, Unknown: firstOf(k.unknown), Objects: k.objects,
				Left: k.leftOut, Others: k.others, Verbs: k.verbs, Bytes: k.bytes,
			})
		}
	}
	return p
}

// losses are what is known to be missing, in the order of keys.
func (s *survey) losses() []Loss {
	var all []Loss
	for _, key := range slices.SortedFunc(maps.Keys(s.lost), compareKeys) {
		all = append(all, s.lost[key])
	}
	return all
}

// firstOf bounds a list that may be as long as the holders are many.
func firstOf(whys []string) []string {
	const most = 5
	if len(whys) <= most {
		return whys
	}
	return append(slices.Clone(whys[:most]), fmt.Sprintf("and %d more", len(whys)-most))
}
