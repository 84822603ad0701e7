package syncer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// update makes what is there as it is wanted.
func (r *run) update(it *item) error {
	have := *it.decision.Have
	t := r.tries()
	for looked := false; ; {
		w, err := r.ready(it)
		if err != nil {
			return err
		}
		base := w // without what a merge adds, so that it counts as unchanged
		if it.merged {
			w = merge(w, &have)
		}
		names := r.differ(it, w, &have)
		unmarked := it.kind.Marked && it.decision.Created && have.Marker.IsZero()
		if len(names) == 0 && !unmarked {
			return r.landed(it, base, have)
		}
		var fixed []string
		if names, fixed = it.kind.part(names); len(fixed) > 0 {
			if len(names) == 0 && !unmarked {
				return &turnedOut{Unsupported, unchangeable(fixed)}
			}
			// What cannot be changed stays, and is named by each run: it does not
			// count as written.
			w, base, it.partly = w.with(fixed, &have), base.with(fixed, &have), true
		}
		if err := r.intend(it, base, have.ID); err != nil {
			return err
		}
		content := slices.Contains(names, "")
		got, err := r.send(it, content, func(body io.Reader) (Object, error) {
			return r.e.Target.Update(r.ctx, have, r.object(it, w), names, body)
		})
		var uncertain *Uncertain
		var temp *Temporary
		switch {
		case err == nil:
			return r.landed(it, base, got)
		case r.ctx.Err() != nil:
			return err
		case errors.As(err, &uncertain), errors.As(err, &temp):
			it.keepIntent = true
			if !r.again(t, err) {
				return err
			}
			now, e := r.e.Target.Read(r.ctx, have)
			if e != nil {
				return fmt.Errorf("%w (read again: %w)", err, e)
			}
			have, it.keepIntent = now, false
		case errors.Is(err, ErrChanged) && (!looked || !content && r.again(t, err)):
			// More than once: what it holds is made at the same time, and counts as
			// a change of it.
			looked = true
			if have, err = r.anew(it, have); err != nil {
				return err
			}
		default:
			it.keepIntent = r.halfway(have)
			return err
		}
	}
}

// with is a Want that has these fields as they are.
func (w Want) with(names []string, have *Object) Want {
	w.Fields = maps.Clone(w.Fields)
	for _, name := range names {
		if v, there := have.Fields[name]; there {
			w.Fields[name] = v
		} else {
			delete(w.Fields, name)
		}
	}
	return w
}

// differ names the fields that have to be written.
func (r *run) differ(it *item, w Want, have *Object) []string {
	return Case{Traits: it.kind.Traits, Record: it.record, Source: &it.source, Want: w}.differ(have)
}

// anew reads both sides again and decides whether to go on.
func (r *run) anew(it *item, have Object) (Object, error) {
	if err := r.reread(it); err != nil {
		return have, err
	}
	now, err := r.e.Target.Read(r.ctx, have)
	if errors.Is(err, ErrGone) {
		return have, &turnedOut{Drift, "deleted at the target meanwhile"}
	}
	if err != nil {
		return have, fmt.Errorf("read again at %s: %w", r.target, err)
	}
	w, err := r.ready(it)
	if err != nil {
		return have, err
	}
	if it.record == nil || it.record.Target != have.ID || it.only {
		return now, nil // taken over, whatever it was
	}
	d := Decide(Case{
		Traits: it.kind.Traits, Policy: it.kind.policy, Record: it.record, Source: &it.source, Want: w, Target: &now,
		Marker: r.marker(it.Key), Now: r.e.Now(),
	})
	switch d.Verb {
	case Update, Adopt, Unchanged:
		return now, nil
	}
	return have, &turnedOut{d.Verb, d.Reason}
}

// halfway tells whether a write that failed has changed anything: then what is
// there is ours still.
func (r *run) halfway(before Object) bool {
	now, err := r.e.Target.Read(r.ctx, before)
	return err != nil || Hash(now.Fields, now.Content) != Hash(before.Fields, before.Content)
}

// asideName is what an object is called that has given up its name and has no
// other yet: short enough for any service, and the same each time.
func asideName(k Key) string {
	sum := sha256.Sum256([]byte(k.String()))
	return "draas-aside-" + hex.EncodeToString(sum[:8])
}

// stepAside gives an object's name up. What follows, or the next run if this one
// ends here, finds a write that was begun, and gives it the name that it is to
// have.
func (r *run) stepAside(it *item) error {
	have := *it.decision.Have
	name := asideName(it.Key)
	t := r.tries()
	for looked := false; ; {
		w, err := r.ready(it)
		if err != nil {
			return err
		}
		w = w.named(name)
		if err := r.intend(it, w, have.ID); err != nil {
			return err
		}
		got, err := r.e.Target.Update(r.ctx, have, r.object(it, w), []string{"name"}, nil)
		var uncertain *Uncertain
		var temp *Temporary
		switch {
		case err == nil:
			have = got
		case r.ctx.Err() != nil:
			return err
		case errors.As(err, &uncertain), errors.As(err, &temp):
			it.keepIntent = true
			if !r.again(t, err) {
				return err
			}
			now, e := r.e.Target.Read(r.ctx, have)
			if e != nil {
				return fmt.Errorf("%w (read again: %w)", err, e)
			}
			have, it.keepIntent = now, false
		case errors.Is(err, ErrChanged) && !looked:
			looked = true
			if have, err = r.anew(it, have); err != nil {
				return err
			}
		default:
			it.keepIntent = r.halfway(have)
			return err
		}
		if have.Fields["name"] == name {
			return r.isAside(it, have)
		}
	}
}

// isAside takes what stands in the store by now: a write that was begun.
func (r *run) isAside(it *item, have Object) error {
	rec, _, err := r.e.Store.Record(it.Key)
	if err != nil {
		return fatal{err}
	}
	it.record, it.decision.Have = &rec, &have
	return nil
}

// second writes the weak refs that a Create had to leave out.
func (r *run) second(it *item) error {
	if Hash(r.wantOf(it).Fields, it.source.Content) == it.record.SourceHash {
		return nil // all of them were there by then
	}
	it.decision.Have = it.got
	return r.update(it)
}

// remove deletes what is there, after it has been looked at once more. whole: it
// is not made anew.
func (r *run) remove(it *item, whole bool) error {
	have, before := *it.decision.Have, it.record
	for t := r.tries(); ; {
		now, err := r.e.Target.Read(r.ctx, have)
		if err == nil {
			if err := r.mayRemove(it, &now, whole); err != nil {
				return err
			}
			if err := r.intendRemoval(it, have.ID, whole); err != nil {
				return err
			}
			err = r.e.Target.Delete(r.ctx, now)
		}
		var uncertain *Uncertain
		var temp *Temporary
		switch {
		case err == nil, errors.Is(err, ErrGone):
			return r.removed(it, whole)
		case r.ctx.Err() != nil:
			return err
		case errors.As(err, &uncertain), errors.As(err, &temp):
			it.keepIntent = !it.only
			if !r.again(t, err) {
				return err
			}
			it.keepIntent = false
		default:
			if whole && !it.only && !r.halfway(now) {
				it.record = before // it is as it was, and may be another's by the next run
			}
			return err
		}
	}
}

// intendRemoval writes down that a removal begins: it may take several requests
// (an image is unprotected first, a router loses its interfaces), and what is
// left of it between two of them is ours.
func (r *run) intendRemoval(it *item, target string, whole bool) error {
	if !whole {
		return r.intend(it, r.wantOf(it), target)
	}
	if !it.only && !it.record.Intent {
		rec := *it.record
		rec.Intent = true
		if err := r.e.Store.Put(rec); err != nil {
			return fatal{err}
		}
		it.record = &rec
	}
	if err := r.allow(); err != nil {
		return fatal{err}
	}
	return nil
}

// mayRemove decides again by what is there now.
func (r *run) mayRemove(it *item, now *Object, whole bool) error {
	if it.only {
		return nil // the operator's choice
	}
	c := Case{Traits: it.kind.Traits, Policy: it.kind.policy, Record: it.record, Target: now, Marker: r.marker(it.Key), Now: r.now}
	if !whole {
		// As if it was gone: what may not be deleted may not be replaced.
		rec := *it.record
		rec.Missed, rec.Gone = c.Policy.Missing, r.now.Add(-c.Policy.Grace)
		c.Record, c.Policy.Keep = &rec, false
		c.Policy.Overwrite = c.Policy.Overwrite || it.decision.Overwrites
	}
	if d := Decide(c); d.Verb != Delete {
		return &turnedOut{d.Verb, d.Reason}
	}
	return nil
}

// removed writes it down.
func (r *run) removed(it *item, whole bool) error {
	var err error
	switch {
	case it.only:
	case whole:
		err = r.e.Store.Write(nil, []Key{it.Key})
	default:
		rec := Record{Key: it.Key, Within: it.source.Within, Name: it.Name, Intent: true, Created: true, Renamed: it.record.Renamed}
		if err = r.e.Store.Put(rec); err == nil {
			it.record = &rec
		}
	}
	if err != nil {
		return fatal{err}
	}
	return nil
}
