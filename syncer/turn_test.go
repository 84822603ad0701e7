package syncer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

// turnedLab has carried one to two; then two became the active site, and what
// is there is carried back to one, whose store is empty.
func turnedLab(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.config.Workers = 1 // for ids that are known
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	l.put(l.source, "network", "n1", fields{"name": "web", "project": ref("project", "p1"), "mtu": 1, "tags": syncer.Set{"a"}})
	l.put(l.source, "network", "n2", fields{"name": "db", "project": ref("project", "p1"), "mtu": 1, "tags": syncer.Set{"a"}})
	l.clean(syncer.Options{Epoch: 1})
	l.close()
	l.path += ".back"
	l.source, l.target = l.target, l.source
	l.config.Source, l.config.Target = l.source, l.target
	// Work of both sites that the other does not have.
	n1 := l.source.All("network")[0]
	n1.Fields = fields{"name": "web", "project": n1.Fields["project"], "mtu": 2, "tags": syncer.Set{"b"}}
	if _, err := l.source.Put(n1, nil); err != nil {
		t.Fatal(err)
	}
	l.put(l.target, "network", "late", fields{"name": "late", "project": ref("project", "p1")})
	l.put(l.source, "network", "born", fields{"name": "born", "project": n1.Fields["project"]})
	return l
}

func TestTurnIsHeldAndTold(t *testing.T) {
	l := turnedLab(t)
	before := l.target.Ops()
	res, err := l.engine().Run(t.Context(), syncer.Options{Epoch: 2})
	if !errors.Is(err, syncer.ErrHeld) || res == nil {
		t.Fatalf("%v", err)
	}
	after := l.target.Ops()
	for _, op := range []string{"create", "update", "delete"} {
		if after[op] != before[op] {
			t.Errorf("%s before it was accepted", op)
		}
	}
	text := told(res)
	for _, want := range []string{
		"adopt project two-project-1: was at both sites before",
		"conflict network two-network-3: was at both sites before",
		"create network born", "drift network late: only at one",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not said:\n%s", want, text)
		}
	}
	if meta, err := l.open().Meta(); err != nil || meta.Epoch != 0 {
		t.Errorf("%+v, %v", meta, err)
	}
}

func TestTurnAccepted(t *testing.T) {
	n1 := key{Kind: "network", ID: "two-network-3"}
	late := key{Kind: "network", ID: "late"}
	for name, tt := range map[string]struct {
		turn    syncer.Turn
		mtu     any
		tags    syncer.Set
		late    bool
		outcome syncer.Outcome
	}{
		"nothing chosen": {syncer.Turn{}, 1, syncer.Set{"a"}, true, syncer.Differs},
		"keep":           {syncer.Turn{Default: syncer.ChooseKeep}, 1, syncer.Set{"a"}, true, syncer.Differs},
		"drop":           {syncer.Turn{Default: syncer.ChooseDrop}, 2, syncer.Set{"b"}, false, syncer.Clean},
		"merge":          {syncer.Turn{Kinds: map[syncer.Kind]syncer.Choice{"network": syncer.ChooseMerge}}, 2, syncer.Set{"b", "a"}, true, syncer.Differs},
		"drop, but for one": {syncer.Turn{
			Default: syncer.ChooseDrop, Objects: map[key]syncer.Choice{n1: syncer.ChooseKeep, late: syncer.ChooseKeep},
		}, 1, syncer.Set{"a"}, true, syncer.Differs},
	} {
		t.Run(name, func(t *testing.T) {
			l := turnedLab(t)
			res := l.run(syncer.Options{Epoch: 2, Accept: &tt.turn})
			if res.Outcome() != tt.outcome {
				t.Errorf("outcome %d: %s", res.Outcome(), told(res))
			}
			o, _ := l.target.Get(key{Kind: "network", ID: "n1"})
			if d := syncer.Diff(fields{"mtu": tt.mtu, "tags": tt.tags}, fields{"mtu": o.Fields["mtu"], "tags": o.Fields["tags"]}); len(d) > 0 {
				t.Errorf("%q: %v", d, o.Fields)
			}
			if _, ok := l.target.Get(late); ok != tt.late {
				t.Errorf("what is only there is there: %t", ok)
			}
			if meta, err := l.open().Meta(); err != nil || meta.Epoch != 2 {
				t.Errorf("%+v, %v", meta, err)
			}
			// What was at both sites before the turn is never deleted here.
			for _, k := range []string{"p1", "n1", "n2"} {
				for _, kind := range []syncer.Kind{"project", "network"} {
					err := l.open().Each(kind, func(r syncer.Record) error {
						if r.Target == k && r.Created {
							t.Errorf("%s counts as made here", k)
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			}
			// The next run has nothing to do but what stays different.
			if again := l.run(syncer.Options{Epoch: 2}); again.Plan.Acts() > 0 {
				t.Errorf("again: %s", told(again))
			}
			// And later changes are carried, unless it is a conflict still.
			if name == "nothing chosen" {
				return
			}
			src, _ := l.source.Get(n1)
			src.Fields = fields{"name": "web", "project": src.Fields["project"], "mtu": 3, "tags": syncer.Set{}}
			if _, err := l.source.Put(src, nil); err != nil {
				t.Fatal(err)
			}
			l.clean(syncer.Options{Epoch: 2})
			if o, _ := l.target.Get(key{Kind: "network", ID: "n1"}); o.Fields["mtu"] != 3 {
				t.Errorf("%v", o.Fields)
			}
		})
	}
}

// The same direction again, after another site was active in between: nobody
// knows what was done there.
func TestLaterEpochIsHeld(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{Epoch: 1})
	res, err := l.engine().Run(t.Context(), syncer.Options{Epoch: 3})
	if !errors.Is(err, syncer.ErrHeld) || !strings.Contains(res.Plan.Held, "one is active since epoch 3") {
		t.Fatalf("%v, %q", err, res.Plan.Held)
	}
	l.clean(syncer.Options{Epoch: 3, Accept: &syncer.Turn{}})
	l.clean(syncer.Options{Epoch: 3})
	l.same()
	if _, err := l.engine().Run(t.Context(), syncer.Options{Epoch: 1}); !errors.Is(err, syncer.ErrStale) {
		t.Errorf("%v", err)
	}
}

// What is only at the target is dropped with what it holds.
func TestDroppedWithWhatItHolds(t *testing.T) {
	l := turnedLab(t)
	box := l.put(l.target, "container", "box", fields{"name": "box", "project": ref("project", "p1")})
	l.put(l.target, "object", "box/1", fields{"name": "1"}, box, "late work")
	l.clean(syncer.Options{Epoch: 2, Accept: &syncer.Turn{Default: syncer.ChooseDrop}})
	if n := len(l.target.All("container")) + len(l.target.All("object")); n > 0 {
		t.Errorf("%d are left", n)
	}
}

// What is only at the target and dropped is dropped once more when the first
// request fails.
func TestDroppedAfterAFault(t *testing.T) {
	l := turnedLab(t)
	l.target.Fault = first("delete", syncertest.Fault{Lose: true})
	l.clean(syncer.Options{Epoch: 2, Accept: &syncer.Turn{Default: syncer.ChooseDrop}})
	if _, ok := l.target.Get(key{Kind: "network", ID: "late"}); ok {
		t.Error("it is there still")
	}
}

// One object is chosen for at any time, and nothing else with it.
func TestChosenOneByOne(t *testing.T) {
	l := newLab(t)
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	var nets []key
	for i, name := range []string{"web", "db"} {
		nets = append(nets, l.put(l.source, "network", name, fields{"name": name, "project": ref("project", "p1"), "mtu": i}))
	}
	l.clean(syncer.Options{Epoch: 1})
	mtu := func(i int) any {
		r, _, err := l.open().Record(nets[i])
		if err != nil {
			t.Fatal(err)
		}
		o, there := l.target.Get(key{Kind: "network", ID: r.Target})
		if !there {
			return nil
		}
		return o.Fields["mtu"]
	}
	touch := func(i, mtu int) {
		r, _, err := l.open().Record(nets[i])
		if err != nil {
			t.Fatal(err)
		}
		o, _ := l.target.Get(key{Kind: "network", ID: r.Target})
		changed := fields{}
		for name, v := range o.Fields {
			changed[name] = v
		}
		changed["mtu"] = mtu
		o.Fields = changed
		if _, err := l.target.Put(o, nil); err != nil {
			t.Fatal(err)
		}
	}
	was := mtu(0)
	touch(0, 7)
	touch(1, 8)
	drift := func(res *syncer.Result) int { return res.Plan.Count(syncer.Drift) }
	// A choice for all, or for a kind, is one for the first run after a turn.
	for _, turn := range []syncer.Turn{{Default: syncer.ChooseDrop}, {Kinds: map[syncer.Kind]syncer.Choice{"network": syncer.ChooseDrop}}} {
		if res := l.run(syncer.Options{Epoch: 1, Accept: &turn}); drift(res) != 2 || mtu(0) != 7 {
			t.Errorf("%s", told(res))
		}
	}
	if res := l.run(syncer.Options{Epoch: 1, Accept: &syncer.Turn{Objects: map[key]syncer.Choice{nets[0]: syncer.ChooseDrop}}}); drift(res) != 1 || mtu(0) != was || mtu(1) != 8 {
		t.Errorf("%v, %v: %s", mtu(0), mtu(1), told(res))
	}
	if res := l.run(syncer.Options{Epoch: 1, Accept: &syncer.Turn{Objects: map[key]syncer.Choice{nets[1]: syncer.ChooseKeep}}}); drift(res) != 0 || mtu(1) != 8 {
		t.Errorf("%v: %s", mtu(1), told(res))
	}
	l.clean(syncer.Options{Epoch: 1})
	// What others have deleted is made again, and cannot be kept.
	r, _, err := l.open().Record(nets[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := l.target.Drop(key{Kind: "network", ID: r.Target}); err != nil {
		t.Fatal(err)
	}
	if res := l.run(syncer.Options{Epoch: 1, Accept: &syncer.Turn{Objects: map[key]syncer.Choice{nets[0]: syncer.ChooseKeep}}}); drift(res) != 1 || mtu(0) != nil {
		t.Errorf("%v: %s", mtu(0), told(res))
	}
	if res := l.run(syncer.Options{Epoch: 1, Accept: &syncer.Turn{Objects: map[key]syncer.Choice{nets[0]: syncer.ChooseMerge}}}); drift(res) != 0 || mtu(0) != was {
		t.Errorf("%v: %s", mtu(0), told(res))
	}
}
