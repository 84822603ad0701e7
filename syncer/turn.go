package syncer

import (
	"fmt"
	"slices"
)

// Choice is what the operator wants of an object that differs after the
// direction has turned.
type Choice string

// The choices.
const (
	// ChooseKeep leaves the target's as it is, and carries later changes.
	ChooseKeep Choice = "keep"
	// ChooseDrop drops what the target has: it is made like the source's; what is
	// only at the target is deleted.
	ChooseDrop Choice = "drop"
	// ChooseMerge makes it like the source's, but for elements of lists and maps
	// that only the target has, which stay.
	ChooseMerge Choice = "merge"
)

// Turn accepts that the source of today was the target, or was not the source
// in between. What differs at both sites and has no Choice stays a conflict;
// what is only at the target stays where it is. In later runs the Choices of
// Objects count, and no others.
type Turn struct {
	Default Choice          `json:"default,omitempty"`
	Kinds   map[Kind]Choice `json:"kinds,omitempty"`
	// Objects by their key at the source, or that at the target of what is only
	// there.
	Objects map[Key]Choice `json:"-"`
}

func (t *Turn) choice(k Key) Choice {
	if t == nil {
		return ""
	}
	if c := t.single(k); c != "" {
		return c
	}
	if c, ok := t.Kinds[k.Kind]; ok {
		return c
	}
	return t.Default
}

// single is the choice for one object by itself.
func (t *Turn) single(k Key) Choice {
	if t == nil {
		return ""
	}
	return t.Objects[k]
}

// afterTurn tells whether this is the first run since another site was active.
func (s *survey) afterTurn() bool {
	if s.meta.Epoch != 0 {
		return s.o.Epoch > s.meta.Epoch
	}
	return s.turned && !s.meta.Whole
}

// mayTurn: the markers that tell may not have been seen yet.
func (s *survey) mayTurn() bool {
	return s.looked == nil && (s.afterTurn() || s.meta.Epoch == 0 && !s.meta.Whole)
}

// held says why the operator has to accept the plan first.
func (s *survey) held() string {
	if !s.afterTurn() || s.o.Accept != nil {
		return ""
	}
	if s.meta.Epoch != 0 {
		return fmt.Sprintf("%s is active since epoch %d, and the last run was of epoch %d: what differs may be work that would be lost", s.source, s.o.Epoch, s.meta.Epoch)
	}
	return fmt.Sprintf("%s has objects that were made after those of %s: what differs may be work that would be lost", s.source, s.target)
}

// turn does as the operator has chosen.
func (s *survey) turn() {
	chosen := s.o.Accept.choice
	if !s.afterTurn() {
		chosen = s.o.Accept.single
	}
	for _, r := range s.conflicts {
		it := s.byKey[r.key]
		if it == nil || it.Verb != Conflict && it.Verb != Drift {
			continue
		}
		choice := chosen(r.key)
		if r.target == nil && choice == ChooseKeep {
			continue // there is nothing to keep
		}
		var d Decision
		switch choice {
		case ChooseKeep:
			d = Decision{Verb: Adopt, Reason: "kept as it is at the target", Have: r.target, Created: it.decision.Created}
		case ChooseDrop, ChooseMerge:
			c := s.ofCase(r)
			c.Policy.Overwrite = true
			if choice == ChooseMerge && r.target != nil {
				c.Want = merge(c.Want, r.target)
			}
			d = Decide(c)
			r.want = c.Want
		default:
			continue
		}
		s.drop(r)
		s.settle(r, d)
		if it := s.byKey[r.key]; it != nil {
			it.merged = choice == ChooseMerge
		}
	}
	if !s.afterTurn() {
		return
	}
	dropped := make(map[Key]*item)
	for _, r := range s.only {
		if r.p.taken[r.key.ID] {
			continue
		}
		d := Decision{Verb: Drift, Reason: "only at " + s.target, Have: r.target}
		if s.o.Accept.choice(r.key) == ChooseDrop {
			d.Verb, d.Reason = Delete, "only at "+s.target+", and to be dropped"
		}
		s.add(r, d)
		it := s.byKey[r.key]
		it.only = true
		dropped[r.key] = it
	}
	for _, it := range dropped {
		for _, key := range it.decision.Have.Refs() {
			if by := dropped[key]; by != nil && by != it && it.Verb == Delete {
				by.needed = append(by.needed, it)
			}
		}
	}
}

// merge adds to lists and maps what only the target has.
func merge(w Want, have *Object) Want {
	fields := make(Fields, len(w.Fields))
	for name, v := range w.Fields {
		fields[name] = united(v, have.Fields[name])
	}
	for name, v := range have.Fields {
		if _, ok := fields[name]; !ok {
			fields[name] = v
		}
	}
	w.Fields = fields
	return w
}

func united(want, have any) any {
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return want
		}
		out := make(map[string]any, len(w))
		for name, v := range h {
			out[name] = v
		}
		for name, v := range w {
			out[name] = united(v, h[name])
		}
		return out
	case Set:
		if h, ok := have.(Set); ok {
			return Set(unitedList(w, h))
		}
	case []any:
		if h, ok := have.([]any); ok {
			return unitedList(w, h)
		}
	}
	return want
}

func unitedList(want, have []any) []any {
	out := slices.Clone(want)
	seen := make(map[string]bool)
	for _, v := range want {
		seen[string(canonical(v))] = true
	}
	for _, v := range have {
		if !seen[string(canonical(v))] {
			out = append(out, v)
		}
	}
	return out
}
