package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

// first meets the first call of an operation with a fault.
func first(op string, f syncertest.Fault) func(syncertest.Call) syncertest.Fault {
	var met atomic.Bool
	return func(c syncertest.Call) syncertest.Fault {
		if c.Op == op && met.CompareAndSwap(false, true) {
			return f
		}
		return syncertest.Fault{}
	}
}

// A body that breaks off at the source is nowhere left at the target; what
// failed is tried again when its time has come, and not sooner.
func TestBodyBreaksOff(t *testing.T) {
	l := newLab(t)
	l.seed()
	broken := first("open", syncertest.Fault{Cut: 4})
	l.source.Fault = func(c syncertest.Call) syncertest.Fault {
		if c.Key.Kind == "image" {
			return broken(c)
		}
		return syncertest.Fault{}
	}
	res := l.run(syncer.Options{})
	if len(res.Failures) != 1 || res.Failures[0].Key.Kind != "image" || !strings.Contains(res.Failures[0].Reason, "connection broke") {
		t.Fatalf("%s", told(res))
	}
	if n := len(l.target.All("image")); n != 0 {
		t.Fatalf("%d images are left", n)
	}
	st, err := l.open().Status()
	if err != nil {
		t.Fatal(err)
	}
	k, _ := st.Of("image")
	if !k.Through.IsZero() || k.Pending != 1 || k.PendingBytes != 21 || k.Failed != 1 {
		t.Errorf("status %+v", k)
	}
	l.clock = l.clock.Add(-30 * time.Second) // half a minute after the failure
	res = l.run(syncer.Options{})
	if res.Plan.Count(syncer.Held) != 1 || !strings.Contains(told(res), "failed 1 times, tried again from 2026-03-01 12:02:00") {
		t.Errorf("not held: %s", told(res))
	}
	l.clock = l.clock.Add(time.Minute)
	l.clean(syncer.Options{})
	l.same()
}

func TestRetryDoesNotWait(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.target.Fault = first("create", syncertest.Fault{Err: syncer.ErrDenied})
	l.run(syncer.Options{})
	l.clock = l.clock.Add(-time.Minute)
	l.clean(syncer.Options{Retry: true})
	l.same()
}

// What failed blocks what needs it, by name, and nothing else.
func TestFailureBlocksWhatNeedsIt(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.target.Fault = func(c syncertest.Call) syncertest.Fault {
		if c.Op == "create" && c.Key == (key{Kind: "network", ID: "n1"}) {
			return syncertest.Fault{Err: syncer.ErrDenied}
		}
		return syncertest.Fault{}
	}
	res := l.run(syncer.Options{})
	if len(res.Failures) != 2 || res.Outcome() != syncer.Failed {
		t.Fatalf("%s", told(res))
	}
	if f := res.Failures[1]; f.Verb != syncer.Blocked || f.Reason != "needs network n1, which was not done: not permitted" {
		t.Errorf("%+v", f)
	}
}

// A busy service is asked again after the time that it names, in the same run.
func TestTemporary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.seed()
		l.config.Workers = 1
		began := time.Now()
		l.target.Fault = first("create", syncertest.Fault{Err: &syncer.Temporary{Err: errBroken, After: 7 * time.Second}})
		l.clean(syncer.Options{})
		if took := time.Since(began); took < 7*time.Second || took > 9*time.Second {
			t.Errorf("took %s", took)
		}
		l.same()
		l.close()
	})
}

func TestTemporaryWithoutEndIsLeftForTheNextRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.put(l.source, "project", "p1", fields{"name": "acme"})
		l.config.Attempts = 3
		l.target.Fault = func(c syncertest.Call) syncertest.Fault {
			if c.Op == "create" {
				return syncertest.Fault{Err: &syncer.Temporary{Err: errBroken}}
			}
			return syncertest.Fault{}
		}
		if res := l.run(syncer.Options{}); len(res.Failures) != 1 || l.target.Ops()["create"] != 3 {
			t.Errorf("%d creates: %s", l.target.Ops()["create"], told(res))
		}
		// One that names an hour is not waited for, and left alone for so long.
		l.target.Fault = func(c syncertest.Call) syncertest.Fault {
			if c.Op == "create" {
				return syncertest.Fault{Err: &syncer.Temporary{Err: errBroken, After: time.Hour}}
			}
			return syncertest.Fault{}
		}
		began := time.Now()
		if res := l.run(syncer.Options{Retry: true}); len(res.Failures) != 1 || time.Since(began) > time.Minute {
			t.Errorf("after %s: %s", time.Since(began), told(res))
		}
		if r, _, err := l.open().Record(key{Kind: "project", ID: "p1"}); err != nil || r.Next.Sub(l.clock) != time.Hour {
			t.Errorf("%+v", r)
		}
		l.close()
	})
}

// The source's object changes between the listing and the copy.
func TestChangedWhileItIsRead(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	l.put(l.source, "object", "c1/0", fields{"name": "0"}, key{Kind: "container", ID: "c1"}, "first change")
	l.put(l.source, "object", "c1/new", fields{"name": "new"}, key{Kind: "container", ID: "c1"}, "as listed")
	changed := make(map[key]bool)
	l.source.Fault = func(c syncertest.Call) syncertest.Fault {
		if c.Op == "open" && !changed[c.Key] {
			changed[c.Key] = true
			l.put(l.source, "object", c.Key.ID, fields{"name": strings.TrimPrefix(c.Key.ID, "c1/")}, key{Kind: "container", ID: "c1"}, "changed since "+c.Key.ID)
		}
		return syncertest.Fault{}
	}
	l.config.Workers = 1
	l.clean(syncer.Options{})
	if len(changed) != 2 {
		t.Fatalf("%v were read", changed)
	}
	l.same()
}

func TestGoneWhileItIsRead(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	l.put(l.source, "image", "i1", fields{"name": "debian", "project": ref("project", "p1")}, "bytes")
	l.source.Fault = func(c syncertest.Call) syncertest.Fault {
		if c.Op == "open" {
			if err := l.source.Drop(c.Key); err != nil {
				t.Error(err)
			}
			return syncertest.Fault{Err: syncer.ErrChanged}
		}
		return syncertest.Fault{}
	}
	res := l.run(syncer.Options{})
	if len(res.Failures) != 1 || res.Failures[0].Reason != "gone at the source meanwhile" {
		t.Errorf("%s", told(res))
	}
	l.source.Fault = nil
	l.clean(syncer.Options{})
	l.same()
}

// The target's object changes between the listing and the write.
func TestChangedByOthersBeforeTheWrite(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	l.put(l.source, "network", "n1", fields{"name": "web", "project": ref("project", "p1"), "mtu": 2})
	id := must(l, "network", "n1")
	meddled := false
	l.target.Fault = func(c syncertest.Call) syncertest.Fault {
		if c.Op == "update" && !meddled {
			meddled = true
			l.put(l.target, "network", id, fields{"name": "web", "project": ref("project", must(l, "project", "p1")), "mtu": 7})
		}
		return syncertest.Fault{}
	}
	res := l.run(syncer.Options{})
	if res.Outcome() != syncer.Differs || len(res.Failures) != 1 || res.Failures[0].Verb != syncer.Conflict {
		t.Errorf("outcome %d: %s", res.Outcome(), told(res))
	}
	if o, _ := l.target.Get(key{Kind: "network", ID: id}); o.Fields["mtu"] != 7 {
		t.Errorf("overwritten: %v", o.Fields)
	}
	// And is reported as what it is from then on.
	if res = l.run(syncer.Options{}); res.Plan.Count(syncer.Conflict) != 1 {
		t.Errorf("%s", told(res))
	}
}

// A network changes with each of its subnets: its own change is not given up
// for that, nor for ever tried.
func TestChangedBeforeEachWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for times, want := range map[int]int{4: 5, 9: 5} { // changes: updates
			l := newLab(t)
			l.config.Attempts = 4
			l.seed()
			l.clean(syncer.Options{})
			l.put(l.source, "network", "n1", fields{"name": "web", "project": ref("project", "p1"), "mtu": 2})
			k := key{Kind: "network", ID: must(l, "network", "n1")}
			updates := 0
			l.target.Fault = func(c syncertest.Call) syncertest.Fault {
				if c.Op == "update" {
					if updates++; updates <= times {
						o, _ := l.target.Get(k)
						l.put(l.target, "network", k.ID, o.Fields, func(now *object) { now.Marker = o.Marker })
					}
				}
				return syncertest.Fault{}
			}
			res := l.run(syncer.Options{})
			if failed := len(res.Failures) > 0; failed != (times >= want) || updates != want {
				t.Errorf("changed %d times, %d updates: %s", times, updates, told(res))
			}
			l.close()
		}
	})
}

// What is to be deleted is looked at once more.
func TestNotDeletedWhenItWasTakenOver(t *testing.T) {
	for name, meddle := range map[string]func(*object){
		"changed":     func(o *object) { o.Fields = fields{"name": "mine now"} },
		"marker gone": func(o *object) { o.Marker = syncer.Marker{} },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
			l.put(l.source, "project", "p1", fields{"name": "acme"})
			l.clean(syncer.Options{})
			k := key{Kind: "project", ID: must(l, "project", "p1")}
			if err := l.source.Drop(key{Kind: "project", ID: "p1"}); err != nil {
				t.Fatal(err)
			}
			l.target.Fault = func(c syncertest.Call) syncertest.Fault {
				if c.Op == "read" {
					o, _ := l.target.Get(k)
					meddle(&o)
					if _, err := l.target.Put(o, nil); err != nil {
						t.Error(err)
					}
				}
				return syncertest.Fault{}
			}
			res := l.run(syncer.Options{})
			if _, there := l.target.Get(k); !there || l.target.Ops()["delete"] > 0 || res.Outcome() != syncer.Differs {
				t.Errorf("there %t: %s", there, told(res))
			}
		})
	}
}

// A name that was given up is taken by another object in the same run.
func TestNamesAreGivenUpFirst(t *testing.T) {
	l := newLab(t)
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
	l.put(l.source, "project", "a", fields{"name": "one"})
	l.put(l.source, "project", "b", fields{"name": "two"})
	l.clean(syncer.Options{})
	l.put(l.source, "project", "a", fields{"name": "three"})
	if err := l.source.Drop(key{Kind: "project", ID: "b"}); err != nil {
		t.Fatal(err)
	}
	l.put(l.source, "project", "0", fields{"name": "one"})
	l.put(l.source, "project", "1", fields{"name": "two"})
	l.clean(syncer.Options{})
	l.same()
}

// Names that are swapped go through another name; a run that ends in between
// leaves it to the next.
func TestNamesThatAreSwapped(t *testing.T) {
	for _, kind := range []syncer.Kind{"project", "flavor"} { // changed, and replaced
		ids := []string{"a", "b", "c"}
		swapped := func(t *testing.T) *lab {
			l := newLab(t)
			l.config.Workers = 1
			for _, id := range ids {
				l.put(l.source, kind, id, fields{"name": id, "ram": 1})
			}
			l.clean(syncer.Options{})
			l.put(l.source, kind, "a", fields{"name": "tmp", "ram": 2})
			l.put(l.source, kind, "b", fields{"name": "a", "ram": 2})
			l.put(l.source, kind, "c", fields{"name": "b", "ram": 2})
			l.put(l.source, kind, "a", fields{"name": "c", "ram": 2})
			return l
		}
		l := swapped(t)
		before := l.target.Ops()["update"] + l.target.Ops()["create"]
		l.clean(syncer.Options{})
		l.same()
		writes := l.target.Ops()["update"] + l.target.Ops()["create"] - before
		if want := map[syncer.Kind]int{"project": 4, "flavor": 3}[kind]; writes != want {
			t.Errorf("%s: %d writes, wanted %d", kind, writes, want)
		}
		if again := l.clean(syncer.Options{Audit: true}); len(again.Plan.Changes) > 0 {
			t.Errorf("%s: %s", kind, told(again))
		}
		for n := 1; n <= writes; n++ {
			for _, f := range []syncertest.Fault{{Lose: true}, {Err: syncer.ErrDenied}, {Err: syncer.ErrChanged}, {Err: &syncer.Uncertain{Err: errBroken}}} {
				l := swapped(t)
				l.config.Attempts = 1
				seen := 0
				l.target.Fault = func(c syncertest.Call) syncertest.Fault {
					if c.Writes() {
						if seen++; seen == n {
							return f
						}
					}
					return syncertest.Fault{}
				}
				l.run(syncer.Options{})
				l.target.Fault = nil
				l.clean(syncer.Options{Retry: true})
				l.same()
			}
		}
	}
}

func TestNameOfWhatIsHeld(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "a", fields{"name": "one"})
	l.clean(syncer.Options{})
	if err := l.source.Drop(key{Kind: "project", ID: "a"}); err != nil {
		t.Fatal(err)
	}
	l.put(l.source, "project", "b", fields{"name": "one"})
	res := l.run(syncer.Options{})
	if !strings.Contains(told(res), "blocked project b: the name belongs to two-project-1 still") {
		t.Errorf("%s", told(res))
	}
	l.clock = l.clock.Add(time.Hour)
	l.clean(syncer.Options{Unbraked: []syncer.Kind{"*"}})
	l.same()
}

// Others' objects of the same name are left alone, taken over, or stood beside.
func TestTakenNames(t *testing.T) {
	for policy, want := range map[syncer.Policy]string{
		{}:             "conflict network n1",
		{Adopt: true}:  "update network n1: was there already",
		{Rename: true}: "create network n1: the name belongs to theirs",
	} {
		l := newLab(t)
		l.config.Policy = func(syncer.Kind) syncer.Policy { return policy }
		l.put(l.source, "project", "p1", fields{"name": "acme"})
		l.put(l.target, "project", "q1", fields{"name": "acme"}) // alike
		l.put(l.source, "network", "n1", fields{"name": "web", "project": ref("project", "p1"), "mtu": 1})
		l.put(l.target, "network", "theirs", fields{"name": "web", "project": ref("project", "q1"), "mtu": 2})
		res := l.run(syncer.Options{})
		if !strings.Contains(told(res), want) {
			t.Errorf("%+v: %s", policy, told(res))
		}
		again := l.run(syncer.Options{Audit: true})
		if again.Plan.Acts() > 0 {
			t.Errorf("%+v, again: %s", policy, told(again))
		}
		theirs, _ := l.target.Get(key{Kind: "network", ID: "theirs"})
		all := l.target.All("network")
		switch {
		case policy.Adopt && (theirs.Fields["mtu"] != 1 || len(all) != 1):
			t.Errorf("not adopted: %+v", all)
		case policy.Rename && (len(all) != 2 || all[1].Fields["name"] != "web (one)"):
			t.Errorf("not renamed: %+v", all)
		case !policy.Adopt && theirs.Fields["mtu"] != 2:
			t.Errorf("%+v: changed: %+v", policy, theirs)
		}
		// And it is never deleted.
		if err := l.source.Drop(key{Kind: "network", ID: "n1"}); err != nil {
			t.Fatal(err)
		}
		l.run(syncer.Options{})
		l.run(syncer.Options{})
		if _, ok := l.target.Get(key{Kind: "network", ID: "theirs"}); !ok {
			t.Errorf("%+v: deleted", policy)
		}
	}
}

// A cancelled run ends, and the next doubles nothing.
func TestCancelled(t *testing.T) {
	l := newLab(t)
	l.seed()
	ctx, cancel := context.WithCancel(t.Context())
	l.target.Fault = func(c syncertest.Call) syncertest.Fault {
		if c.Op == "create" && c.Key.Kind == "network" {
			cancel()
		}
		return syncertest.Fault{}
	}
	if _, err := l.engine().Run(ctx, syncer.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	l.target.Fault = nil
	l.clean(syncer.Options{})
	l.same()
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.seed()
		l.config.Workers, l.config.Now = 1, time.Now
		l.target.Fault = func(c syncertest.Call) syncertest.Fault {
			if c.Writes() {
				time.Sleep(100 * time.Millisecond)
			}
			return syncertest.Fault{}
		}
		var all []syncer.Progress
		began := time.Now()
		l.clean(syncer.Options{Progress: func(p syncer.Progress) { all = append(all, p) }})
		most := int(time.Since(began)/(200*time.Millisecond)) + 1
		if len(all) < 3 || len(all) > most || !all[len(all)-1].Ended || all[0].Ended {
			t.Errorf("%d of at most %d: %+v", len(all), most, all[len(all)-1])
		}
		sums := make(map[syncer.Kind]int)
		for _, p := range all {
			for _, k := range p.Kinds {
				if k.Done < sums[k.Kind] || k.Done > k.ToDo || k.Bytes > k.Carry {
					t.Errorf("%+v after %d", k, sums[k.Kind])
				}
				sums[k.Kind] = k.Done
			}
		}
		i := slices.IndexFunc(all[len(all)-1].Kinds, func(k syncer.KindProgress) bool { return k.Kind == "object" })
		last := all[len(all)-1].Kinds[i]
		if last.Done != 3 || last.ToDo != 3 || last.Bytes != 18 || last.Carry != 18 || last.Left != 0 || last.Rate <= 0 {
			t.Errorf("%+v", last)
		}
		l.close()
	})
}

// The large bodies that are read at the same time are bounded apart from the rest.
func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.put(l.source, "project", "p1", fields{"name": "acme"})
		large := strings.Repeat("x", 1<<20+1)
		for i := range 12 {
			l.put(l.source, "image", fmt.Sprint(i), fields{"name": fmt.Sprint(i), "project": ref("project", "p1")}, large)
			small := fmt.Sprintf("small-%d", i)
			l.put(l.source, "image", small, fields{"name": small, "project": ref("project", "p1")}, large[1:])
			l.put(l.source, "network", fmt.Sprint(i), fields{"name": fmt.Sprint(i), "project": ref("project", "p1")})
		}
		var bodies, smalls, others, mostBodies, mostSmalls, mostOthers atomic.Int64
		l.target.Fault = func(c syncertest.Call) syncertest.Fault {
			n, most := &others, &mostOthers
			switch {
			case strings.HasPrefix(c.Key.ID, "small"):
				n, most = &smalls, &mostSmalls
			case c.Key.Kind == "image":
				n, most = &bodies, &mostBodies
			}
			if c.Writes() {
				most.Store(max(most.Load(), n.Add(1)))
				time.Sleep(time.Second)
				n.Add(-1)
			}
			return syncertest.Fault{}
		}
		l.config.Workers, l.config.Streams = 8, 3
		l.clean(syncer.Options{})
		if mostBodies.Load() != 3 || mostSmalls.Load() < 4 || mostOthers.Load() < 4 {
			t.Errorf("%d large bodies, %d small ones, %d others at the same time", mostBodies.Load(), mostSmalls.Load(), mostOthers.Load())
		}
		l.close()
	})
}
