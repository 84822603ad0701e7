package syncer_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

// Somebody makes an object of the same name between the listing and the Create.
func TestTakenMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		name    string
		kind    syncer.Kind
		policy  syncer.Policy
		theirs  fields
		outcome syncer.Outcome
		reason  string
		becomes fields
	}{
		{"alike", "flavor", syncer.Policy{}, fields{"name": "a", "note": 1}, syncer.Clean, "", fields{"name": "a", "note": 1}},
		{"another", "flavor", syncer.Policy{}, fields{"name": "a", "note": 2}, syncer.Differs, "the name belongs to theirs", fields{"name": "a", "note": 2}},
		{"another, adopted", "flavor", syncer.Policy{Adopt: true}, fields{"name": "a", "note": 2}, syncer.Clean, "", fields{"name": "a", "note": 1}},
		{"marked", "project", syncer.Policy{}, fields{"name": "a", "note": 2}, syncer.Differs, "taken by another", fields{"name": "a", "note": 2}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			l.config.Policy = func(syncer.Kind) syncer.Policy { return tt.policy }
			l.put(l.source, tt.kind, "x", fields{"name": "a", "note": 1})
			l.target.Fault = func(c syncertest.Call) syncertest.Fault {
				if c.Op == "create" {
					l.put(l.target, tt.kind, "theirs", tt.theirs)
				}
				return syncertest.Fault{}
			}
			res := l.run(syncer.Options{})
			if res.Outcome() != tt.outcome || !strings.Contains(told(res), tt.reason) {
				t.Errorf("outcome %d: %s", res.Outcome(), told(res))
			}
			o, _ := l.target.Get(key{Kind: tt.kind, ID: "theirs"})
			if d := syncer.Diff(o.Fields, tt.becomes); len(d) > 0 || len(l.target.All(tt.kind)) != 1 {
				t.Errorf("%q: %+v", d, l.target.All(tt.kind))
			}
			r, ok, err := l.open().Record(key{Kind: tt.kind, ID: "x"})
			if err != nil || ok && (r.Created || r.Intent) {
				t.Errorf("it counts as made here: %+v", r)
			}
		})
	}
}

// A Create whose answer is lost, and whose object is not quite as wanted.
func TestFoundIsMadeAlike(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "x", fields{"name": "a", "note": 1})
	l.target.Fault = func(c syncertest.Call) syncertest.Fault {
		switch c.Op {
		case "create":
			return syncertest.Fault{Lose: true}
		case "find":
			o := l.target.All("project")[0]
			o.Fields = fields{"name": "a"} // as after half of it
			if _, err := l.target.Put(o, nil); err != nil {
				t.Error(err)
			}
		}
		return syncertest.Fault{}
	}
	l.clean(syncer.Options{})
	l.same()
	if n := l.target.Ops()["create"]; n != 1 {
		t.Errorf("%d creates", n)
	}
}

// An answer that is lost before anything was done, of each kind of request.
func TestLostRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
		l.seed()
		writes := 0
		l.target.Fault = func(c syncertest.Call) syncertest.Fault {
			if c.Writes() {
				if writes++; writes%2 > 0 {
					return syncertest.Fault{Err: &syncer.Uncertain{Err: errBroken}}
				}
			}
			return syncertest.Fault{}
		}
		l.config.Workers, l.config.Attempts = 1, 3
		l.clean(syncer.Options{})
		l.same()
		story(l)
		l.clean(syncer.Options{})
		l.same()
		if writes < 30 {
			t.Errorf("%d writes", writes)
		}
		l.close()
	})
}

// An update of which half is done and that then fails for good is ended by a
// later run; one of which nothing is done leaves what others then change.
func TestUpdateThatFails(t *testing.T) {
	for _, half := range []bool{true, false} {
		l := newLab(t)
		l.put(l.source, "project", "x", fields{"name": "a", "note": 1, "size": 1})
		l.clean(syncer.Options{})
		l.put(l.source, "project", "x", fields{"name": "a", "note": 2, "size": 2})
		id := must(l, "project", "x")
		l.target.Fault = func(c syncertest.Call) syncertest.Fault {
			if c.Op != "update" {
				return syncertest.Fault{}
			}
			if half {
				l.put(l.target, "project", id, fields{"name": "a", "note": 2, "size": 1})
			}
			return syncertest.Fault{Err: syncer.ErrDenied}
		}
		if res := l.run(syncer.Options{}); len(res.Failures) != 1 {
			t.Fatalf("%s", told(res))
		}
		r, _, err := l.open().Record(key{Kind: "project", ID: "x"})
		if err != nil || r.Intent != half || r.Attempts != 1 || r.Target != id {
			t.Errorf("half %t: %+v, %v", half, r, err)
		}
		l.target.Fault = nil
		if !half {
			l.put(l.target, "project", id, fields{"name": "a", "note": 3, "size": 1})
			if res := l.run(syncer.Options{Retry: true}); res.Plan.Count(syncer.Conflict) != 1 {
				t.Errorf("%s", told(res))
			}
			continue
		}
		l.clean(syncer.Options{Retry: true})
		l.same()
	}
}

// What others need cannot be deleted: it is named, and tried again later.
func TestInUse(t *testing.T) {
	l := newLab(t)
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
	l.put(l.source, "project", "x", fields{"name": "a"})
	l.clean(syncer.Options{})
	theirs := l.put(l.target, "network", "theirs", fields{"name": "n", "project": ref("project", must(l, "project", "x"))})
	if err := l.source.Drop(key{Kind: "project", ID: "x"}); err != nil {
		t.Fatal(err)
	}
	if res := l.run(syncer.Options{}); !strings.Contains(told(res), "failed: delete project x: network theirs needs it: in use") {
		t.Errorf("%s", told(res))
	}
	if err := l.target.Drop(theirs); err != nil {
		t.Fatal(err)
	}
	if res := l.run(syncer.Options{}); res.Plan.Count(syncer.Held) != 0 && l.target.Ops()["delete"] != 2 {
		t.Errorf("%s", told(res))
	}
	l.clock = l.clock.Add(time.Hour)
	l.clean(syncer.Options{})
	l.same()
}

// What is held by something that is not to be deleted keeps what it needs.
func TestHeldKeepsWhatItNeeds(t *testing.T) {
	l := newLab(t)
	l.config.Policy = func(k syncer.Kind) syncer.Policy { return syncer.Policy{Keep: k == "network"} }
	l.put(l.source, "project", "x", fields{"name": "a"})
	l.put(l.source, "network", "n", fields{"name": "n", "project": ref("project", "x")})
	l.clean(syncer.Options{})
	for _, k := range []key{{Kind: "network", ID: "n"}, {Kind: "project", ID: "x"}} {
		if err := l.source.Drop(k); err != nil {
			t.Fatal(err)
		}
	}
	res := l.clean(syncer.Options{})
	if !strings.Contains(told(res), "held project x: needed by network n, which is held") || l.target.Ops()["delete"] > 0 {
		t.Errorf("%s", told(res))
	}
}

// The first half of a Replace is looked at like a deletion.
func TestNotReplacedWhenItIsNotOurs(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "p", fields{"name": "a"})
	l.put(l.source, "image", "i", fields{"name": "i", "project": ref("project", "p")}, "old")
	l.clean(syncer.Options{})
	k := key{Kind: "image", ID: must(l, "image", "i")}
	l.put(l.source, "image", "i", fields{"name": "i", "project": ref("project", "p")}, "new")
	l.target.Fault = func(c syncertest.Call) syncertest.Fault {
		if c.Op == "read" {
			o, _ := l.target.Get(k)
			o.Marker = syncer.Marker{}
			if _, err := l.target.Put(o, l.target.Body(k)); err != nil {
				t.Error(err)
			}
		}
		return syncertest.Fault{}
	}
	res := l.run(syncer.Options{})
	if res.Outcome() != syncer.Differs || string(l.target.Body(k)) != "old" || len(l.target.All("image")) != 1 {
		t.Errorf("outcome %d: %s", res.Outcome(), told(res))
	}
}

func TestEngineOfTheSameSite(t *testing.T) {
	l := newLab(t)
	l.target.Name = "one"
	c := l.config
	c.Store = l.open()
	if _, err := syncer.New(c); err == nil {
		t.Error("no error")
	}
	c.Source = nil
	if _, err := syncer.New(c); err == nil {
		t.Error("no error")
	}
}
