package syncer_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

func TestVerify(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	verify := func(bodies bool) *syncer.Verification {
		t.Helper()
		before := l.target.Ops()
		v, err := l.engine().Verify(t.Context(), syncer.VerifyOptions{Bodies: bodies})
		if err != nil {
			t.Fatal(err)
		}
		for op, n := range l.target.Ops() {
			if n != before[op] && (op == "create" || op == "update" || op == "delete") {
				t.Errorf("it wrote: %s", op)
			}
		}
		return v
	}
	v := verify(false)
	alike := 0
	for _, k := range v.Kinds {
		alike += k.Alike
	}
	if v.Outcome() != syncer.Clean || alike != 16 {
		t.Fatalf("%d alike, %+v", alike, v.Mismatches)
	}
	// Changed in a way that no revision tells: the record says it is alike.
	n1 := key{Kind: "network", ID: must(l, "network", "n1")}
	o, _ := l.target.Get(n1)
	l.put(l.target, "network", n1.ID, fields{"name": "web", "project": o.Fields["project"], "mtu": 9})
	if err := l.target.Drop(key{Kind: "subnet", ID: must(l, "subnet", "s1")}); err != nil {
		t.Fatal(err)
	}
	if err := l.source.Drop(key{Kind: "image", ID: "i1"}); err != nil {
		t.Fatal(err)
	}
	v = verify(false)
	var got []string
	for _, m := range v.Mismatches {
		got = append(got, fmt.Sprintf("%s: %s %v", m.Key, m.Reason, m.Fields))
	}
	want := "image i1: the source does not have it []\nnetwork n1: it differs [{mtu 9 1500 false}]\nsubnet s1: the target does not have it []"
	if strings.Join(got, "\n") != want || v.Outcome() != syncer.Differs {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}

// Where no sum can be compared, the bodies are read.
func TestVerifyBodies(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	l.put(l.source, "image", "i1", fields{"name": "debian", "project": ref("project", "p1")}, "the bytes")
	l.clean(syncer.Options{})
	l.config.Target = unsummed{l.target}
	v, err := l.engine().Verify(t.Context(), syncer.VerifyOptions{})
	if err != nil || v.Outcome() != syncer.Clean || v.Kinds[7].Unsummed != 1 {
		t.Fatalf("%+v, %v", v, err)
	}
	if v, err = l.engine().Verify(t.Context(), syncer.VerifyOptions{Bodies: true}); err != nil || v.Outcome() != syncer.Clean || v.Kinds[7].BodyBytes != 9 {
		t.Fatalf("%+v, %v", v, err)
	}
	o, _ := l.target.Get(key{Kind: "image", ID: must(l, "image", "i1")})
	if _, err := l.target.Put(o, []byte("the bytez")); err != nil {
		t.Fatal(err)
	}
	if v, err = l.engine().Verify(t.Context(), syncer.VerifyOptions{Bodies: true}); err != nil || len(v.Mismatches) != 1 || !strings.Contains(v.Mismatches[0].Reason, "the content differs") {
		t.Fatalf("%+v, %v", v, err)
	}
}

func TestAdopt(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	l.put(l.source, "network", "n1", fields{"name": "web", "project": ref("project", "p1"), "mtu": 1})
	l.clean(syncer.Options{Filter: syncer.Filter{Kinds: []syncer.Kind{"project"}}})
	p := ref("project", must(l, "project", "p1"))
	l.put(l.target, "network", "theirs", fields{"name": "web", "project": p, "mtu": 2})
	if res := l.run(syncer.Options{}); res.Plan.Count(syncer.Conflict) != 1 {
		t.Fatalf("%s", told(res))
	}
	a := syncer.Adoption{Kind: "network", Source: "web", Target: "theirs", Keep: true}
	rec, err := l.engine().Adopt(t.Context(), a)
	if err != nil || rec.Created || rec.Target != "theirs" {
		t.Fatalf("%+v, %v", rec, err)
	}
	if res := l.clean(syncer.Options{Audit: true}); res.Plan.Acts() > 0 {
		t.Errorf("kept: %s", told(res))
	}
	a.Keep = false
	if _, err = l.engine().Adopt(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	l.clean(syncer.Options{})
	if o, _ := l.target.Get(key{Kind: "network", ID: "theirs"}); o.Fields["mtu"] != 1 {
		t.Errorf("not made alike: %+v", o)
	}
	for want, a := range map[string]syncer.Adoption{
		`0 objects at two are called "none"`: {Kind: "network", Source: "n1", Target: "none"},
		`0 objects at one are called "none"`: {Kind: "network", Source: "none", Target: "theirs"},
		"stands for network n1 already":      {Kind: "network", Source: "n2", Target: "theirs"},
	} {
		l.put(l.source, "network", "n2", fields{"name": "other", "project": ref("project", "p1"), "mtu": 1})
		if _, err := l.engine().Adopt(t.Context(), a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", a, err)
		}
	}
	// What is not ours is never deleted.
	if err := l.source.Drop(key{Kind: "network", ID: "n1"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		l.clock = l.clock.Add(time.Hour)
		l.run(syncer.Options{})
	}
	if _, ok := l.target.Get(key{Kind: "network", ID: "theirs"}); !ok {
		t.Error("an adopted object was deleted")
	}
}

// unsummed is a side that knows no sums.
type unsummed struct{ *syncertest.Side }

func (u unsummed) List(ctx context.Context, k syncer.Kind, within key, each func(object) error) (syncer.Listing, error) {
	return u.Side.List(ctx, k, within, func(o object) error {
		o.Content.Sum = ""
		return each(o)
	})
}

func (u unsummed) Open(ctx context.Context, o object, from int64) (io.ReadCloser, error) {
	o, _ = u.Side.Get(o.Key)
	return u.Side.Open(ctx, o, from)
}

// What others made bears no marker of ours: else it would count as made here
// once the store is lost.
func TestTakenOverIsNotMarked(t *testing.T) {
	l := newLab(t)
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{Adopt: true} }
	l.put(l.source, "project", "p1", fields{"name": "acme", "note": 1})
	l.put(l.target, "project", "theirs", fields{"name": "acme", "note": 2})
	l.clean(syncer.Options{})
	theirs := key{Kind: "project", ID: "theirs"}
	if o, _ := l.target.Get(theirs); o.Fields["note"] != 1 || !o.Marker.IsZero() {
		t.Fatalf("%+v", o)
	}
	l.close()
	l.path += ".new"
	l.clean(syncer.Options{})
	if err := l.source.Drop(key{Kind: "project", ID: "p1"}); err != nil {
		t.Fatal(err)
	}
	l.clean(syncer.Options{})
	if _, ok := l.target.Get(theirs); !ok {
		t.Error("deleted")
	}
}

// What comes with something else is marked perhaps, and still not made here.
func TestWhatComesByItselfIsNeverDeleted(t *testing.T) {
	l := newLab(t)
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
	adopted := func(o *object) { o.Stance = syncer.Adopted }
	l.put(l.source, "project", "p1", fields{"name": "acme", "note": 1}, adopted)
	l.put(l.target, "project", "theirs", fields{"name": "acme", "note": 2}, adopted)
	l.clean(syncer.Options{})
	l.close()
	l.path += ".new"
	l.clean(syncer.Options{})
	if r, _, _ := l.open().Record(key{Kind: "project", ID: "p1"}); r.Created {
		t.Errorf("%+v", r)
	}
	if err := l.source.Drop(key{Kind: "project", ID: "p1"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{l.path, l.path + ".again"} { // with records, and without
		l.close()
		l.path = path
		l.clean(syncer.Options{})
		l.clean(syncer.Options{})
		if _, ok := l.target.Get(key{Kind: "project", ID: "theirs"}); !ok {
			t.Fatal("deleted")
		}
	}
}
