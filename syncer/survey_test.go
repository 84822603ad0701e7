package syncer_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

// With the store lost, it is made anew from markers and names within one run.
func TestLostStore(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	if err := l.source.Drop(key{Kind: "image", ID: "i1"}); err != nil { // while nobody kept records
		t.Fatal(err)
	}
	l.close()
	l.path += ".new"
	before := l.target.Ops()
	res := l.clean(syncer.Options{})
	if after := l.target.Ops(); after["create"] != before["create"] || after["update"] != before["update"] || after["delete"] != before["delete"] {
		t.Errorf("written: %s", told(res))
	}
	rec, ok, err := l.open().Record(key{Kind: "image", ID: "i1"})
	if !ok || err != nil || !rec.Created || rec.Missed != 1 {
		t.Errorf("what is gone is not known: %+v", rec)
	}
	l.clock = l.clock.Add(time.Hour)
	l.clean(syncer.Options{})
	l.same()
}

// Two at the target that bear one marker: none can tell which is ours.
func TestMarkerTwice(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	l.put(l.source, "network", "n1", fields{"name": "web", "project": ref("project", "p1")})
	l.clean(syncer.Options{})
	o, _ := l.target.Get(key{Kind: "network", ID: must(l, "network", "n1")})
	o.ID = "copy"
	if _, err := l.target.Put(o, nil); err != nil {
		t.Fatal(err)
	}
	if res := l.clean(syncer.Options{}); res.Plan.Acts() > 0 {
		t.Errorf("with its record: %s", told(res))
	}
	l.close()
	l.path += ".new"
	if res := l.run(syncer.Options{}); !strings.Contains(told(res), "conflict network n1: 2 objects at the target bear its marker") || res.Plan.Acts() > 0 {
		t.Errorf("without: %s", told(res))
	}
}

// What a weak ref leaves out is named by each run, until it is there.
func TestWhatIsLeftOutIsNamed(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	l.put(l.source, "group", "g2", fields{"name": "db", "project": ref("project", "p1"), "rules": syncer.Set{}}, func(o *object) { o.Unsupported = "a reason" })
	l.put(l.source, "group", "g1", fields{"name": "web", "project": ref("project", "p1"), "rules": syncer.Set{rule(80, ""), rule(1, "g2")}})
	for range 3 {
		if res := l.run(syncer.Options{}); !strings.Contains(told(res), "group g1") || !strings.Contains(told(res), "unsupported group g2") {
			t.Fatalf("%s", told(res))
		}
	}
	if text := told(l.run(syncer.Options{})); !strings.Contains(text, "unchanged group g1: left out: needs group g2 (unsupported: a reason)") {
		t.Errorf("%s", text)
	}
	l.put(l.source, "group", "g2", fields{"name": "db", "project": ref("project", "p1"), "rules": syncer.Set{}})
	l.clean(syncer.Options{})
	l.same()
	if res := l.clean(syncer.Options{}); len(res.Plan.Changes) > 0 {
		t.Errorf("%s", told(res))
	}
}

// What cannot be carried is listed when an object is made, and by each audit.
func TestLostIsListed(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "p1", fields{"name": "acme"}, func(o *object) { o.Lost = []string{"password"} })
	res := l.clean(syncer.Options{})
	if c := res.Plan.Changes[0]; len(c.Lost) != 1 || c.Lost[0] != "password" {
		t.Errorf("%+v", c)
	}
	if p := l.clean(syncer.Options{Audit: true}).Plan; len(p.Changes) > 0 || len(p.Lost) != 1 || p.Lost[0].Name != "acme" || p.Lost[0].Parts[0] != "password" {
		t.Errorf("%+v", p)
	}
}

// Three of a kind refer to each other, and to one that comes with them.
func TestRefsInACircle(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	ids := []string{"a", "b", "c"}
	for _, id := range ids {
		l.put(l.source, "group", id, fields{"name": id, "project": ref("project", "p1"), "rules": syncer.Set{}})
	}
	for i, id := range ids {
		l.put(l.source, "group", id, fields{"name": id, "project": ref("project", "p1"), "rules": syncer.Set{rule(1, ids[(i+1)%3]), rule(2, id)}})
	}
	l.clean(syncer.Options{})
	l.same()
	l.put(l.source, "group", "d", fields{"name": "d", "project": ref("project", "p1"), "rules": syncer.Set{rule(1, "a")}})
	l.put(l.source, "group", "a", fields{"name": "a", "project": ref("project", "p1"), "rules": syncer.Set{rule(1, "d")}})
	res := l.clean(syncer.Options{})
	l.same()
	if res.Plan.Acts() != 2 {
		t.Errorf("%s", told(res))
	}
}

// A container that refers to something of a later kind, which needs it: what it
// holds is looked at all the same.
func TestHolderThatRefersToALaterKind(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	l.put(l.source, "container", "c1", fields{"name": "logs", "project": ref("project", "p1")})
	l.put(l.source, "object", "c1/0", fields{"name": "0"}, key{Kind: "container", ID: "c1"}, "line")
	l.put(l.source, "container", "c1", fields{"name": "logs", "project": ref("project", "p1"), "index": weak("object", "c1/0")})
	l.clean(syncer.Options{})
	l.same()
	l.put(l.source, "object", "c1/0", fields{"name": "0"}, key{Kind: "container", ID: "c1"}, "another line")
	l.clean(syncer.Options{})
	l.same()
	if res := l.clean(syncer.Options{}); len(res.Plan.Changes) > 0 {
		t.Errorf("%s", told(res))
	}
}

// hasty is a side whose listings count as complete though they end in an error.
type hasty struct{ *syncertest.Side }

func (h hasty) List(ctx context.Context, k syncer.Kind, within key, each func(object) error) (syncer.Listing, error) {
	l, err := h.Side.List(ctx, k, within, each)
	if k == "network" {
		return syncer.Listing{Complete: true, At: l.At}, errBroken
	}
	return l, err
}

func TestListingThatFailedIsNotComplete(t *testing.T) {
	l := newLab(t)
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
	l.seed()
	l.clean(syncer.Options{})
	if err := l.source.Drop(key{Kind: "network", ID: "n2"}); err != nil {
		t.Fatal(err)
	}
	l.config.Source = hasty{l.source}
	if res := l.run(syncer.Options{}); res.Outcome() != syncer.Failed || l.target.Ops()["delete"] > 0 {
		t.Errorf("%s", told(res))
	}
}

// An object that is missed by one listing and there again has never been gone.
func TestThereAgain(t *testing.T) {
	for name, change := range map[string]func(l *lab, o *object){
		"as it was": func(*lab, *object) {}, "changed": func(_ *lab, o *object) {
			o.Fields, o.Revision = fields{"name": "a", "note": 2}, ""
		},
	} {
		l := newLab(t)
		l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{Missing: 3} }
		l.put(l.source, "project", "x", fields{"name": "a", "note": 1})
		l.clean(syncer.Options{})
		k := key{Kind: "project", ID: "x"}
		o, _ := l.source.Get(k)
		for range 3 {
			if err := l.source.Drop(k); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				l.clean(syncer.Options{})
			}
			if r, _, _ := l.open().Record(k); r.Missed != 2 || r.Gone.IsZero() {
				t.Fatalf("%s: %+v", name, r)
			}
			change(l, &o)
			if err := l.source.Restore(o); err != nil {
				t.Fatal(err)
			}
			// Its write fails: that it is there counts all the same.
			l.target.Fault = first("update", syncertest.Fault{Err: syncer.ErrDenied})
			l.run(syncer.Options{Retry: true})
			l.target.Fault = nil
			if r, _, _ := l.open().Record(k); r.Missed != 0 || !r.Gone.IsZero() {
				t.Fatalf("%s: %+v", name, r)
			}
			l.clean(syncer.Options{Retry: true})
		}
		l.same()
	}
}
