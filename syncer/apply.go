package syncer

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// fatal ends a run.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// turnedOut is what an object turned out to be when it was looked at again.
type turnedOut struct {
	verb   Verb
	reason string
}

func (t *turnedOut) Error() string { return t.reason }

// do one step, and note what came of it.
func (r *run) do(st *step) {
	it := st.it
	if st.off != "" {
		if st.op != opSecond && !it.failed {
			r.fail(it, Blocked, st.off)
		}
		return
	}
	var err error
	switch st.op {
	case opCreate:
		err = r.create(it)
	case opUpdate:
		err = r.update(it)
	case opSecond:
		err = r.second(it)
	case opAside:
		err = r.stepAside(it)
	case opRemove, opDelete:
		err = r.remove(it, st.op == opDelete)
	}
	var f fatal
	switch {
	case err == nil:
		if st.op != opSecond && st.op != opRemove && st.op != opAside {
			r.done(it, it.Verb)
		}
		return
	case errors.As(err, &f):
		r.end(f.error)
	case r.ctx.Err() != nil: // what was begun stands as an intent
	default:
		it.failed = true
		if e := r.failed(it, err); e != nil {
			r.end(e)
		}
	}
	st.off = err.Error()
}

// failed tells and writes down that an item was not done.
func (r *run) failed(it *item, err error) error {
	var out *turnedOut
	anew := errors.As(err, &out)
	v := it.Verb
	if anew {
		v = out.verb
	}
	r.fail(it, v, err.Error())
	r.e.Log.Warn("object not carried", "kind", it.Key.Kind, "id", it.Key.ID, "name", it.Name, "verb", v, "err", err)
	rec, known := Record{Key: it.Key, Within: it.source.Within, Name: it.Name}, false
	if it.keepIntent {
		var e error
		if rec, known, e = r.e.Store.Record(it.Key); e != nil {
			return e
		}
	} else if it.record != nil {
		rec, known = *it.record, true
	}
	if it.only {
		return nil
	}
	if anew {
		if !known {
			return r.e.Store.Write(nil, []Key{it.Key})
		}
		return r.e.Store.Put(rec)
	}
	rec.Error, rec.Attempts = Show(err.Error()), rec.Attempts+1
	rec.Next = r.e.Now().Add(backoff(rec.Attempts, err))
	return r.e.Store.Put(rec)
}

// backoff is for how long what failed is left alone: a minute, doubled each
// time, up to an hour.
func backoff(attempts int, err error) time.Duration {
	d := time.Minute << min(attempts-1, 6)
	var t *Temporary
	if errors.As(err, &t) {
		d = max(t.After, time.Minute)
	}
	return min(d, time.Hour)
}

// live is the translation while things are written: what is there counts.
func (r *run) live(key Key) (Key, bool) {
	f := r.fate(key)
	return Key{key.Kind, f.id}, (f.state == exists || f.state == undecided) && f.id != ""
}

// place makes known what stands for an object from now on.
func (r *run) place(key Key, f fate) {
	r.survey.mu.Lock()
	defer r.survey.mu.Unlock()
	r.known[key] = &f
}

// wantOf is what the target is to have, by what is there now.
func (r *run) wantOf(it *item) Want {
	// Before the translation: what comes in between is then written once more,
	// and not left out.
	it.bound = bound(it.source.Refs(), r.live)
	w := r.wanted(&it.source, it.record, r.live)
	if it.decision.Rename && (it.record == nil || !it.record.Renamed) {
		w, _ = rename(w, r.source)
	}
	return w
}

// ready gives it, or what it still needs.
func (r *run) ready(it *item) (Want, error) {
	w := r.wantOf(it)
	if len(w.Needs) > 0 {
		return w, &turnedOut{Blocked, r.whyNeeds(w.Needs)}
	}
	return w, nil
}

// object of the target's side.
func (r *run) object(it *item, w Want) Object {
	o := Object{
		Key: it.Key, Within: w.Within, Stance: it.source.Stance, Name: it.source.Name, Tags: it.source.Tags,
		Natural: w.Natural, Fields: w.Fields, Content: it.source.Content,
	}
	// What others made is not marked: with the store lost, the marker would say
	// that it was made here.
	if it.decision.Created || it.source.Stance != Carried {
		o.Marker = r.marker(it.Key)
	}
	return o
}

// written is the record of what stands at the target now.
func (r *run) written(it *item, w Want, got Object) Record {
	rec := Record{
		Key: it.Key, Within: it.source.Within, Target: got.ID, Name: it.source.Name, Created: it.decision.Created,
		SourceHash: Hash(w.Fields, it.source.Content), SourceRevision: it.source.Revision,
		TargetHash: Hash(got.Fields, got.Content), TargetRevision: got.Revision,
		Needs: it.source.Refs(), Natural: NaturalKey(it.Key.Kind, w.Natural),
		Left:    len(w.Later) > 0,
		Renamed: it.decision.Rename || it.record != nil && it.record.Renamed,
		Content: it.source.Content, Landed: got.Content, Applied: r.e.Now(), Bound: it.bound,
	}
	if it.partly {
		rec.SourceRevision = "" // to be looked at again, and named
	}
	return rec
}

// landed writes down what was written.
func (r *run) landed(it *item, w Want, got Object) error {
	c := Case{Traits: it.kind.Traits, Source: &it.source}
	if it.kind.Body && !c.sameContent(&got) {
		it.keepIntent = true
		return fmt.Errorf("the target has %s, and the source %s", showContent(got.Content), showContent(it.source.Content))
	}
	r.place(it.Key, fate{state: exists, id: got.ID})
	rec := r.written(it, w, got)
	if err := r.e.Store.Put(rec); err != nil {
		return fatal{err}
	}
	it.record, it.got = &rec, &got
	if rec.SourceHash != rec.TargetHash { // by a service that has not taken all of it
		c.Want, c.Record = w, &rec
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lose(&it.source, c.differ(&got))
	}
	return nil
}

// intend writes down that a write begins.
func (r *run) intend(it *item, w Want, target string) error {
	rec := Record{Key: it.Key}
	if it.record != nil {
		rec = *it.record
	}
	rec.Within, rec.Name, rec.Target = it.source.Within, it.source.Name, target
	rec.Intent, rec.Created = true, it.decision.Created
	rec.Natural = NaturalKey(it.Key.Kind, w.Natural)
	rec.Renamed = rec.Renamed || it.decision.Rename
	if err := r.e.Store.Put(rec); err != nil {
		return fatal{err}
	}
	if err := r.allow(); err != nil {
		return fatal{err}
	}
	return nil
}

// tries counts how often one request is made.
type tries struct{ left int }

func (r *run) tries() *tries { return &tries{r.e.Attempts} }

// again waits until a request may be repeated; false: it may not be any more.
func (r *run) again(t *tries, err error) bool {
	if t.left--; t.left <= 0 {
		return false
	}
	wait := 100 * time.Millisecond << min(r.e.Attempts-t.left, 6)
	var temp *Temporary
	if errors.As(err, &temp) && temp.After > 0 {
		if temp.After > time.Minute {
			return false // the next run comes sooner
		}
		wait = temp.After
	}
	return r.e.pause(r.ctx, wait) == nil
}

// create makes an object that is not there.
func (r *run) create(it *item) error {
	t := r.tries()
	begun := it.record != nil && it.record.Intent // what is there may be of an earlier try
	for looked := false; ; {
		w, err := r.ready(it)
		if err != nil {
			return err
		}
		if err := r.intend(it, w, ""); err != nil {
			return err
		}
		want := r.object(it, w)
		got, err := r.send(it, true, func(body io.Reader) (Object, error) {
			return r.e.Target.Create(r.ctx, want, body)
		})
		var uncertain *Uncertain
		var temp *Temporary
		switch {
		case err == nil:
			return r.landed(it, w, got)
		case errors.As(err, &uncertain):
			it.keepIntent, begun = true, true
			found, gone := r.find(want)
			if gone == nil {
				return r.found(it, w, found)
			}
			if !errors.Is(gone, ErrGone) || !r.again(t, err) {
				return err
			}
			it.keepIntent = false
		case r.ctx.Err() != nil:
			return err
		case errors.As(err, &temp):
			if !r.again(t, err) {
				return err
			}
		case errors.Is(err, ErrTaken):
			return r.taken(it, w, want, err, begun)
		case errors.Is(err, ErrChanged) && !looked:
			looked = true
			if err := r.reread(it); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// find asks whether what may have been made is there.
func (r *run) find(want Object) (Object, error) {
	for t := r.tries(); ; {
		o, err := r.e.Target.Find(r.ctx, want)
		if err == nil || errors.Is(err, ErrGone) || r.ctx.Err() != nil || !r.again(t, err) {
			return o, err
		}
	}
}

// found is ours: its Create was carried out.
func (r *run) found(it *item, w Want, found Object) error {
	rec := Record{Key: it.Key, Target: found.ID, Intent: true, Created: it.source.Stance == Carried}
	d := Decide(Case{
		Traits: it.kind.Traits, Policy: it.kind.policy, Record: &rec, Source: &it.source, Want: w, Target: &found,
		Marker: r.marker(it.Key), Now: r.e.Now(),
	})
	bare := it.kind.Marked && rec.Created && found.Marker.IsZero() // which the update sets
	switch d.Verb {
	case Adopt, Unchanged:
		if !bare {
			it.decision.Created = rec.Created
			return r.landed(it, w, found)
		}
		fallthrough
	case Update:
		d.Created = rec.Created
		it.decision, it.record = d, &rec
		return r.update(it)
	}
	return fmt.Errorf("what was begun cannot be ended: %s", d.Reason)
}

// taken: another has the name. It may be ours, of a try before: begun, or as its
// marker says.
func (r *run) taken(it *item, w Want, want Object, cause error, begun bool) error {
	found, err := r.find(want)
	if errors.Is(err, ErrGone) {
		return &turnedOut{Conflict, cause.Error()}
	}
	if err != nil {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	if begun || !found.Marker.IsZero() {
		it.keepIntent = true
		return r.found(it, w, found)
	}
	d := Decide(Case{
		Traits: it.kind.Traits, Policy: it.kind.policy, Record: it.record, Source: &it.source, Want: w, Other: &found,
		Marker: r.marker(it.Key), Now: r.e.Now(),
	})
	switch d.Verb {
	case Adopt:
		it.decision = d
		return r.landed(it, w, found)
	case Update:
		it.decision = d
		return r.update(it)
	}
	return &turnedOut{d.Verb, d.Reason}
}

// reread takes the source's object as it is now.
func (r *run) reread(it *item) error {
	o, err := r.e.Source.Read(r.ctx, it.source)
	switch {
	case errors.Is(err, ErrGone):
		return &turnedOut{Held, "gone at the source meanwhile"}
	case err != nil:
		return fmt.Errorf("read again at %s: %w", r.source, err)
	}
	it.source = o
	return nil
}

// send makes a write, with the content where it is wanted.
func (r *run) send(it *item, content bool, write func(io.Reader) (Object, error)) (Object, error) {
	if !it.kind.Body || !content {
		return write(nil)
	}
	body, err := r.e.Source.Open(r.ctx, it.source, 0)
	if err != nil {
		return Object{}, fmt.Errorf("open at %s: %w", r.source, err)
	}
	s := &stream{ReadCloser: body, r: r, it: it}
	got, err := write(s)
	if e := body.Close(); err == nil && e != nil {
		r.e.Log.Debug("body closed with an error", "id", it.Key.ID, "err", e)
	}
	var uncertain *Uncertain
	if err != nil && s.err != nil && !errors.As(err, &uncertain) && !errors.Is(err, s.err) {
		err = fmt.Errorf("%w (reading at %s: %w)", err, r.source, s.err)
	}
	if err != nil {
		s.count(-s.n)
	}
	return got, err
}

// stream counts what is read, and keeps why it broke off.
type stream struct {
	io.ReadCloser
	r   *run
	it  *item
	n   int64
	err error
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.n += int64(n)
	s.count(int64(n))
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *stream) count(n int64) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.r.kinds[s.it.kind].moved += n
	s.r.kinds[s.it.kind].Bytes += n
}
