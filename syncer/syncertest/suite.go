package syncertest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/draasd/draas/syncer"
)

// Sample is a kind of a [Subject], with what the suite makes of it.
type Sample struct {
	Kind syncer.Kind
	// Make gives the n-th object that is not there yet, as the engine would give
	// it to Create: in terms of the side, with an ID that another side may have
	// given it. What it refers to is there. Body is nil for kinds without.
	Make func(t *testing.T, n int) (want syncer.Object, body []byte)
	// Changes each change some fields of what Make gave. The suite finds out
	// which, and updates those.
	Changes []Change
	// Fixed: nothing of the kind can be changed in place, and there are no Changes.
	Fixed bool
}

// Change of an object.
type Change struct {
	Name string
	Make func(t *testing.T, want *syncer.Object)
	// Body replaces the content where it is not nil.
	Body []byte
}

// Subject is a side that the suite is run on.
type Subject struct {
	Writer  syncer.Writer
	Samples []Sample
}

// Suite is what every [syncer.Writer] has to pass, for each kind that it can
// write. fresh makes a side; it cleans up after itself.
func Suite(t *testing.T, fresh func(t *testing.T) Subject) {
	t.Helper()
	first := fresh(t)
	for i, sample := range first.Samples {
		t.Run(string(sample.Kind), func(t *testing.T) {
			for _, part := range []struct {
				name string
				run  func(*suite)
			}{
				{"create", (*suite).create},
				{"find", (*suite).find},
				{"list", (*suite).list},
				{"taken", (*suite).taken},
				{"update", (*suite).update},
				{"body", (*suite).body},
				{"broken body", (*suite).brokenBody},
				{"delete", (*suite).remove},
				{"cancelled", (*suite).cancelled},
			} {
				t.Run(part.name, func(t *testing.T) {
					subject := fresh(t)
					part.run(&suite{T: t, w: subject.Writer, sample: subject.Samples[i]})
				})
			}
		})
	}
}

type suite struct {
	*testing.T
	w      syncer.Writer
	sample Sample
	n      int
}

func (s *suite) traits() syncer.Traits {
	s.Helper()
	offers, err := s.w.Kinds(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for _, o := range offers {
		if o.Kind == s.sample.Kind {
			if o.Missing != "" {
				s.Fatalf("the side does not have %s: %s", o.Kind, o.Missing)
			}
			return o.Traits
		}
	}
	s.Fatalf("the side does not offer %s", s.sample.Kind)
	return syncer.Traits{}
}

// want is the next object to be made.
func (s *suite) want() (syncer.Object, []byte) {
	s.Helper()
	s.n++
	o, body := s.sample.Make(s.T, s.n)
	o.Marker = syncer.Marker{Site: "elsewhere", ID: o.ID}
	if s.traits().Body != (body != nil) {
		s.Fatalf("%s has a body by its traits: %t, by its sample: %t", o.Kind, s.traits().Body, body != nil)
	}
	return o, body
}

func reader(body []byte) io.Reader {
	if body == nil {
		return nil
	}
	return io.MultiReader(bytes.NewReader(body)) // which cannot be wound back
}

func (s *suite) make() (want, got syncer.Object, body []byte) {
	s.Helper()
	want, body = s.want()
	got, err := s.w.Create(s.Context(), want, reader(body))
	if err != nil {
		s.Fatalf("create: %v", err)
	}
	return want, got, body
}

func (s *suite) read(o syncer.Object) syncer.Object {
	s.Helper()
	got, err := s.w.Read(s.Context(), o)
	if err != nil {
		s.Fatalf("read: %v", err)
	}
	return got
}

// same: two answers about one object say the same.
func (s *suite) same(what string, a, b syncer.Object) {
	s.Helper()
	if names := syncer.Diff(a.Fields, b.Fields); len(names) > 0 {
		for _, n := range names {
			s.Errorf("%s: %s is %s and %s", what, n, syncer.Show(a.Fields[n]), syncer.Show(b.Fields[n]))
		}
	}
	if a.Key != b.Key || a.Content != b.Content || a.Marker != b.Marker || a.Within != b.Within || a.Revision != b.Revision {
		s.Errorf("%s: %+v\nand %+v", what, brief(a), brief(b))
	}
	if x, y := syncer.NaturalKey(a.Kind, a.Natural), syncer.NaturalKey(b.Kind, b.Natural); x != y {
		s.Errorf("%s: natural keys %s and %s", what, x, y)
	}
}

func brief(o syncer.Object) syncer.Object {
	o.Fields, o.Natural = nil, nil
	return o
}

// as wanted: the fields, the content and the marker.
func (s *suite) as(what string, want, got syncer.Object) {
	s.Helper()
	for _, n := range syncer.Diff(want.Fields, got.Fields) {
		s.Errorf("%s: %s is %s, wanted %s", what, n, syncer.Show(got.Fields[n]), syncer.Show(want.Fields[n]))
	}
	tr := s.traits()
	if tr.Marked && got.Marker != want.Marker {
		s.Errorf("%s: marker %v, wanted %v", what, got.Marker, want.Marker)
	}
	if tr.Body && got.Content.Size != want.Content.Size {
		s.Errorf("%s: content %+v, wanted %+v", what, got.Content, want.Content)
	}
	if got.Within != want.Within || got.Kind != want.Kind || got.ID == "" {
		s.Errorf("%s: %s within %s, wanted %s within %s", what, got.Key, got.Within, want.Key, want.Within)
	}
	if want.Natural != nil && syncer.NaturalKey(got.Kind, got.Natural) != syncer.NaturalKey(want.Kind, want.Natural) {
		s.Errorf("%s: natural key %s, wanted %s", what, syncer.Show(got.Natural), syncer.Show(want.Natural))
	}
}

func (s *suite) create() {
	want, got, _ := s.make()
	s.as("created", want, got)
	now := s.read(got)
	s.same("created and read", got, now)
	s.same("read twice", now, s.read(got))
}

func (s *suite) find() {
	want, got, _ := s.make()
	found, err := s.w.Find(s.Context(), want)
	if err != nil {
		s.Fatalf("find what is there: %v", err)
	}
	s.same("created and found", got, found)
	other, _ := s.want()
	if o, err := s.w.Find(s.Context(), other); !errors.Is(err, syncer.ErrGone) {
		s.Errorf("found what was never made: %s, %v", o.Key, err)
	}
}

// listed gives what a listing has of one object.
func (s *suite) listed(of syncer.Object) (syncer.Object, int) {
	s.Helper()
	var found syncer.Object
	n := 0
	seen := make(map[syncer.Key]bool)
	l, err := s.w.List(s.Context(), of.Kind, of.Within, func(o syncer.Object) error {
		if o.Key == of.Key {
			found = o
		}
		if !seen[o.Key] && o.Key == of.Key {
			n++
		}
		seen[o.Key] = true
		return nil
	})
	if err != nil || !l.Complete || l.At.IsZero() {
		s.Fatalf("list: %+v, %v", l, err)
	}
	return found, n
}

func (s *suite) list() {
	_, got, _ := s.make()
	_, second, _ := s.make()
	o, n := s.listed(got)
	if n != 1 {
		s.Fatalf("listed %d times", n)
	}
	whole := s.read(o)
	if o.Whole != nil {
		s.wholly(&o)
	}
	if o.Fields == nil {
		o.Fields, o.Content = whole.Fields, whole.Content
	}
	if o.Revision == "" {
		o.Revision = whole.Revision
	}
	s.same("listed and read", o, whole)
	if _, n := s.listed(second); n != 1 {
		s.Errorf("the second is listed %d times", n)
	}
	stop := errors.New("stop")
	if _, err := s.w.List(s.Context(), got.Kind, got.Within, func(syncer.Object) error { return stop }); !errors.Is(err, stop) {
		s.Errorf("a listing that is ended gives %v", err)
	}
}

// wholly takes an object apart that was listed only: what it said of itself
// before holds then too.
func (s *suite) wholly(o *syncer.Object) {
	s.Helper()
	all, err := o.Whole()
	if err != nil || all.Fields == nil || o.Fields != nil {
		s.Fatalf("the whole of %s, of which %d fields are listed: %d fields, %v", o.Key, len(o.Fields), len(all.Fields), err)
	}
	if o.Name != all.Name || o.Project != all.Project || o.Stance != all.Stance || o.Unsupported != all.Unsupported || !slices.Equal(o.Tags, all.Tags) {
		s.Errorf("listed %+v\nand the whole of it is %+v", brief(*o), brief(all))
	}
	listed := *o
	listed.Fields = all.Fields
	s.same("listed and the whole of it", listed, all)
	*o = all
}

func (s *suite) taken() {
	if !s.traits().Unique {
		return
	}
	want, _, body := s.make()
	if _, err := s.w.Create(s.Context(), want, reader(body)); !errors.Is(err, syncer.ErrTaken) {
		s.Errorf("the same made twice: %v", err)
	}
}

func (s *suite) update() {
	tr := s.traits()
	if len(s.sample.Changes) == 0 && !s.sample.Fixed {
		s.Fatal("the sample has no changes")
	}
	for i, change := range s.sample.Changes {
		s.Run(change.Name, func(t *testing.T) {
			s := &suite{T: t, w: s.w, sample: s.sample, n: 100 * (i + 1)}
			want, have, _ := s.make()
			next := want
			next.Fields = make(syncer.Fields, len(want.Fields))
			for n, v := range want.Fields {
				next.Fields[n] = v
			}
			change.Make(t, &next)
			names := syncer.Diff(next.Fields, have.Fields)
			if change.Body != nil {
				names = append(names, "")
			}
			if len(names) == 0 {
				t.Fatal("it changes nothing")
			}
			for _, n := range names {
				if slices.Contains(tr.Fixed, n) {
					t.Fatalf("%q cannot be changed, by the traits", n)
				}
			}
			got, err := s.w.Update(t.Context(), have, next, names, reader(change.Body))
			if err != nil {
				t.Fatal(err)
			}
			s.as("updated", next, got)
			if got.ID != have.ID {
				t.Errorf("the id changed from %s to %s", have.ID, got.ID)
			}
			if got.Revision == have.Revision && have.Revision != "" {
				t.Errorf("the revision is %s still", got.Revision)
			}
			s.same("updated and read", got, s.read(have))
			if change.Body != nil {
				s.holds(got, change.Body)
			}
		})
	}
}

// holds: a body can be read, from its beginning and from the middle.
func (s *suite) holds(o syncer.Object, body []byte) {
	s.Helper()
	for _, from := range []int{0, len(body) / 2} {
		rc, err := s.w.Open(s.Context(), o, int64(from))
		if err != nil {
			s.Fatalf("open from %d: %v", from, err)
		}
		got, err := io.ReadAll(rc)
		if e := rc.Close(); e != nil || err != nil || !bytes.Equal(got, body[from:]) {
			s.Errorf("from %d: %d bytes of %d, %v, %v", from, len(got), len(body)-from, err, e)
		}
	}
}

func (s *suite) body() {
	if s.traits().Body {
		_, got, body := s.make()
		s.holds(got, body)
	}
}

// filled updates as the engine does: what cannot be done for the time being is
// tried again.
func (s *suite) filled(left, want syncer.Object, fields []string, body []byte) (got syncer.Object, err error) {
	for began := time.Now(); ; <-time.After(100 * time.Millisecond) {
		got, err = s.w.Update(s.Context(), left, want, fields, reader(body))
		var later *syncer.Temporary
		if !errors.As(err, &later) || time.Since(began) > time.Minute {
			return got, err
		}
	}
}

// A body that breaks off, ends too soon, or has other bytes leaves nothing.
func (s *suite) brokenBody() {
	if !s.traits().Body {
		return
	}
	for name, cut := range map[string]func([]byte) io.Reader{
		"breaks off": func(b []byte) io.Reader {
			return io.MultiReader(bytes.NewReader(b[:len(b)/2]), broken{})
		},
		"ends too soon": func(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b[:len(b)/2])) },
		"is empty":      func([]byte) io.Reader { return io.MultiReader() },
		"has other bytes": func(b []byte) io.Reader {
			other := bytes.Clone(b)
			other[len(other)/2] ^= 1
			return io.MultiReader(bytes.NewReader(other))
		},
	} {
		want, body := s.want()
		if len(body) < 2 {
			s.Fatal("the sample's body is too short to be cut")
		}
		if name == "has other bytes" && want.Content.Sum == "" {
			continue // none can tell
		}
		got, err := s.w.Create(s.Context(), want, cut(body))
		if err == nil {
			s.Errorf("a body that %s was taken: %+v", name, got.Content)
			continue
		}
		var uncertain *syncer.Uncertain
		left, gone := s.w.Find(s.Context(), want)
		if gone == nil && errors.As(err, &uncertain) {
			// What is left is without content, says whose it is, and can be filled.
			names := append([]string{""}, syncer.Diff(want.Fields, left.Fields)...)
			if got, err = s.filled(left, want, names, body); err != nil {
				s.Errorf("filled after a body that %s: %v", name, err)
				continue
			}
			s.as("filled", want, got)
			s.holds(got, body)
			continue
		}
		if !errors.Is(gone, syncer.ErrGone) {
			s.Errorf("a body that %s left %s, %v", name, left.Key, gone)
		}
		// And what was refused can be made.
		if got, err = s.w.Create(s.Context(), want, reader(body)); err != nil {
			s.Errorf("after a body that %s: %v", name, err)
			continue
		}
		s.holds(got, body)
	}
}

func (s *suite) remove() {
	want, got, _ := s.make()
	for _, when := range []string{"there", "gone already"} {
		if err := s.w.Delete(s.Context(), got); err != nil {
			s.Errorf("deleted when %s: %v", when, err)
		}
	}
	if _, err := s.w.Read(s.Context(), got); !errors.Is(err, syncer.ErrGone) {
		s.Errorf("read what is deleted: %v", err)
	}
	if _, err := s.w.Find(s.Context(), want); !errors.Is(err, syncer.ErrGone) {
		s.Errorf("found what is deleted: %v", err)
	}
	if _, n := s.listed(got); n != 0 {
		s.Error("listed what is deleted")
	}
	names := syncer.Diff(want.Fields, syncer.Fields{})
	if len(names) == 0 || s.sample.Fixed {
		return
	}
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(s.traits().Fixed, n) })
	if len(names) == 0 {
		return
	}
	if _, err := s.w.Update(s.Context(), got, want, names[:1], nil); !errors.Is(err, syncer.ErrGone) {
		s.Errorf("updated what is deleted: %v", err)
	}
}

func (s *suite) cancelled() {
	want, body := s.want()
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	if _, err := s.w.Create(ctx, want, reader(body)); err == nil {
		s.Error("created without a context")
	}
	if o, err := s.w.Find(s.Context(), want); !errors.Is(err, syncer.ErrGone) {
		s.Errorf("it is there: %s, %v", o.Key, err)
	}
	if _, err := s.w.List(ctx, want.Kind, want.Within, func(syncer.Object) error { return nil }); err == nil {
		s.Error("listed without a context")
	}
}
