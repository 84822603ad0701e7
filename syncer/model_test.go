package syncer_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

// model changes both sides at random, runs with faults and is killed, and then
// has some quiet runs.
type model struct {
	*lab
	rt      *rapid.T
	policy  syncer.Policy
	made    map[key]object // by hand, at the target
	adopted map[key]bool
	n       int
	log     []string
}

func (m *model) say(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) pick(what string, n int) int { return rapid.IntRange(0, n-1).Draw(m.rt, what) }

// some object of a kind at a side; false: there is none.
func (m *model) some(side *syncertest.Side, kind syncer.Kind) (object, bool) {
	all := side.All(kind)
	if len(all) == 0 {
		return object{}, false
	}
	return all[m.pick(string(kind), len(all))], true
}

// draw fields of a kind; false: what they need is not there.
func (m *model) draw(side *syncertest.Side, kind syncer.Kind, name string) (fields, key, string, bool) {
	f := fields{"name": name, "note": fmt.Sprint(m.pick("note", 4))}
	body, within := "", key{}
	need := func(k syncer.Kind) syncer.Ref {
		o, ok := m.some(side, k)
		if !ok {
			return syncer.Ref{}
		}
		return ref(k, o.ID)
	}
	refs := map[syncer.Kind]syncer.Kind{"network": "project", "group": "project", "image": "project", "container": "project", "subnet": "network"}
	if k, ok := refs[kind]; ok {
		r := need(k)
		if r.ID == "" {
			return nil, key{}, "", false
		}
		f[string(k)] = r
	}
	switch kind {
	case "flavor":
		f["ram"] = m.pick("ram", 3)
	case "subnet":
		f["cidr"] = "10.0." + name
	case "group":
		rules := syncer.Set{}
		for i := range m.pick("rules", 3) {
			if o, ok := m.some(side, "group"); ok {
				rules = append(rules, map[string]any{"port": i, "from": weak("group", o.ID)})
			}
		}
		f["rules"] = rules
	case "image", "object":
		body = strings.Repeat("x", m.pick("size", 9)) + name
	}
	if kind == "object" {
		o, ok := m.some(side, "container")
		if !ok {
			return nil, key{}, "", false
		}
		within = o.Key
	}
	return f, within, body, true
}

var kindsOfModel = []syncer.Kind{"project", "flavor", "network", "subnet", "group", "image", "container", "object"}

// change the source.
func (m *model) change() {
	kind := kindsOfModel[m.pick("kind", len(kindsOfModel))]
	m.n++
	o, there := m.some(m.source, kind)
	switch what := m.pick("what", 5); {
	case what == 0 && there:
		err := m.source.Drop(o.Key)
		m.say("source: drop %s: %v", o.Key, err)
	case what == 1 && there:
		f, _, body, ok := m.draw(m.source, kind, fmt.Sprint(o.Fields["name"]))
		if kind == "subnet" {
			f = fields{"name": o.Fields["name"], "note": "changed", "network": o.Fields["network"], "cidr": o.Fields["cidr"]}
		}
		if ok || kind == "subnet" {
			o.Fields = f
			_, err := m.source.Put(o, []byte(body))
			m.say("source: change %s %v %q: %v", o.Key, f, body, err)
		}
	default:
		name := fmt.Sprint("n", m.pick("name", 6))
		f, within, body, ok := m.draw(m.source, kind, name)
		if ok {
			k := key{Kind: kind, ID: fmt.Sprint("s", m.n)}
			_, err := m.source.Put(object{Key: k, Fields: f, Within: within, Name: name}, []byte(body))
			m.say("source: put %s in %s %v %q: %v", k, within, f, body, err)
		}
	}
}

// meddle at the target.
func (m *model) meddle() {
	kind := kindsOfModel[m.pick("kind", len(kindsOfModel))]
	o, there := m.some(m.target, kind)
	if there {
		_, byHand := m.made[o.Key]
		there = !byHand
	}
	switch what := m.pick("what", 4); {
	case what == 0 && there:
		err := m.target.Drop(o.Key)
		m.say("target: drop %s: %v", o.Key, err)
	case what == 1 && there:
		old := o.Fields["note"]
		o.Fields = fields(cloneMap(o.Fields))
		o.Fields["note"] = "by hand"
		_, err := m.target.Put(o, m.target.Body(o.Key))
		m.say("target: note of %s, was %v: %v", o.Key, old, err)
	case what == 2 && there:
		o.Marker = syncer.Marker{}
		_, err := m.target.Put(o, m.target.Body(o.Key))
		m.say("target: marker off %s: %v", o.Key, err)
	default:
		m.n++
		name := fmt.Sprint("n", m.pick("name", 6))
		if spec := specOf(kind); !spec.Marked {
			name = fmt.Sprint("hand", m.n) // in a crash, none could tell whose it is
		}
		f, within, body, ok := m.draw(m.target, kind, name)
		if !ok {
			return
		}
		k, err := m.target.Put(object{Key: key{Kind: kind, ID: fmt.Sprint("hand", m.n)}, Fields: f, Within: within, Name: name}, []byte(body))
		m.say("target: put %s in %s %v %q: %v", k, within, f, body, err)
		if err == nil {
			m.made[k], _ = m.target.Get(k)
		}
	}
}

func specOf(kind syncer.Kind) syncertest.Spec {
	for _, s := range syncertest.Specs() {
		if s.Kind == kind {
			return s
		}
	}
	return syncertest.Spec{}
}

func cloneMap(in fields) map[string]any {
	out := make(map[string]any, len(in))
	for k, v := range in {
		out[k] = v
	}
	return out
}

// stormy is a run with faults; it may be killed.
func (m *model) stormy() {
	k := &killer{l: m.lab}
	if m.pick("killed", 2) == 0 {
		k.at, k.behind = 1+m.pick("call", 60), m.pick("behind", 2) == 0
	}
	faults := make(map[int]int)
	for range m.pick("faults", 6) {
		faults[1+m.pick("call", 60)] = m.pick("fault", 7)
	}
	m.say("run: killed at %d, behind %t, faults %v", k.at, k.behind, faults)
	hook := func(c syncertest.Call) syncertest.Fault {
		f := k.fault(c)
		if f.Err != nil || f.Lose {
			return f
		}
		k.mu.Lock()
		fault, ok := faults[k.calls]
		k.mu.Unlock()
		if !ok {
			return f
		}
		switch fault {
		case 0:
			f.Err = errBroken
		case 1:
			f.Err = &syncer.Temporary{Err: errBroken, After: time.Millisecond}
		case 2:
			f.Lose = true
		case 3:
			f.Err = &syncer.Uncertain{Err: errBroken}
		case 4:
			f.Partial, f.Cut = true, 3
		case 5:
			f.Half, f.Repeat = true, true
		case 6:
			f.Err = syncer.ErrChanged
		}
		return f
	}
	m.source.Fault, m.target.Fault = hook, hook
	m.clock = m.clock.Add(time.Duration(m.pick("minutes", 90)) * time.Minute)
	_, err := m.engine().Run(context.Background(), syncer.Options{Audit: m.pick("audit", 2) == 0})
	m.say("  %v", err)
	k.revive()
	if k.dead {
		m.close()
	}
	if m.pick("lost", 8) == 0 {
		m.close()
		m.say("store lost")
		m.untouched()
		m.close()
		if err := os.Remove(m.path); err != nil {
			m.rt.Fatal(err)
		}
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		m := &model{lab: newLabAt(t, dir), rt: rt, made: make(map[key]object), adopted: make(map[key]bool)}
		defer m.close()
		m.policy = []syncer.Policy{
			{}, {Missing: 2, Grace: time.Hour}, {Overwrite: true}, {Adopt: true}, {Rename: true, Overwrite: true},
		}[m.pick("policy", 5)]
		m.config.Policy = func(syncer.Kind) syncer.Policy { return m.policy }
		m.config.Attempts, m.config.Workers = 1, 1+m.pick("workers", 3)
		m.say("policy %+v", m.policy)
		for range 2 + m.pick("rounds", 3) {
			for range m.pick("changes", 8) {
				m.change()
			}
			for range m.pick("meddling", 4) {
				m.meddle()
			}
			m.stormy()
			m.untouched()
		}
		var res *syncer.Result
		for range 4 {
			m.clock = m.clock.Add(3 * time.Hour)
			var err error
			if res, err = m.engine().Run(context.Background(), syncer.Options{Audit: true, Unbraked: []syncer.Kind{"*"}}); err != nil {
				rt.Fatal(err)
			}
			m.say("quiet: %s", told(res))
			m.untouched()
		}
		m.right(res)
	})
}

// untouched: what was made by hand is as it was made. It may be adopted, but
// never deleted.
func (m *model) untouched() {
	for k, o := range m.made {
		now, ok := m.target.Get(k)
		if !ok {
			m.rt.Fatalf("%s was made by hand, and is deleted\n%s", k, strings.Join(m.log, "\n"))
		}
		adopted := false // as it was alike, or by the policy
		err := m.open().Each(k.Kind, func(r syncer.Record) error {
			adopted = adopted || r.Target == k.ID && !r.Created
			return nil
		})
		if err != nil {
			m.rt.Fatal(err)
		}
		if adopted {
			m.adopted[k] = true // though the store may be lost later
		}
		if !m.adopted[k] && len(syncer.Diff(o.Fields, now.Fields)) > 0 {
			m.rt.Fatalf("%s was made by hand, and is changed from %v to %v\n%s", k, o.Fields, now.Fields, strings.Join(m.log, "\n"))
		}
	}
}

// right: each object of the source is at the target, or is named with a reason;
// none is there twice; and nothing more is to be done.
func (m *model) right(res *syncer.Result) {
	fail := func(format string, args ...any) {
		m.rt.Fatalf(format+"\n%s", append(args, strings.Join(m.log, "\n"))...)
	}
	named := make(map[key]string)
	for _, f := range res.Failures {
		named[f.Key] = f.Reason
	}
	for _, c := range res.Plan.Changes {
		if c.Verb.Acts() && named[c.Key] == "" {
			fail("%s is still to be done: %s %s", c.Key, c.Verb, c.Reason)
		}
		if named[c.Key] == "" {
			named[c.Key] = c.Reason
		}
	}
	to := func(k key) (key, bool) {
		r, ok, err := m.open().Record(k)
		if err != nil {
			m.rt.Fatal(err)
		}
		for _, o := range m.target.All(k.Kind) {
			if r.Target == "" && o.Marker == (syncer.Marker{Site: "one", ID: k.ID}) {
				return o.Key, true
			}
		}
		return key{Kind: k.Kind, ID: r.Target}, ok && r.Target != ""
	}
	used, marked := make(map[key]key), make(map[syncer.Marker]key)
	for _, kind := range kindsOfModel {
		for _, o := range m.source.All(kind) {
			if named[o.Key] != "" || named[o.Within] != "" {
				continue // what holds it is named for it
			}
			k, ok := to(o.Key)
			got, there := m.target.Get(k)
			if !ok || !there {
				fail("%s is not there, and not named", o.Key)
			}
			if other, twice := used[k]; twice {
				fail("%s stands for %s and %s", k, o.Key, other)
			}
			used[k] = o.Key
			w := syncer.Translate(&o, to)
			diff := syncer.Diff(w.Fields, got.Fields)
			if m.policy.Rename && len(diff) == 1 && diff[0] == "name" {
				diff = nil
			}
			if len(diff) > 0 || string(m.source.Body(o.Key)) != string(m.target.Body(k)) {
				fail("%s and %s differ in %q, and are not named", o.Key, k, diff)
			}
		}
		for _, o := range m.target.All(kind) {
			if other, twice := marked[syncer.Marker{Site: string(kind), ID: o.Marker.ID}]; twice && !o.Marker.IsZero() {
				fail("%s and %s are of the same", o.Key, other)
			}
			marked[syncer.Marker{Site: string(kind), ID: o.Marker.ID}] = o.Key
		}
	}
}
