package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

type (
	key    = syncer.Key
	fields = syncer.Fields
	object = syncer.Object
)

var ref, weak = syncertest.Ref, syncertest.Weak

// lab is two sides in memory, a store, and a clock that runs when it is told.
type lab struct {
	tb             testing.TB
	source, target *syncertest.Side
	path           string
	store          *syncer.Store
	config         syncer.Config
	clock          time.Time
}

func newLab(tb testing.TB) *lab { return newLabAt(tb, tb.TempDir()) }

func newLabAt(tb testing.TB, dir string) *lab {
	l := &lab{
		tb:     tb,
		source: syncertest.NewSide("one", syncertest.Specs()...),
		target: syncertest.NewSide("two", syncertest.Specs()...),
		path:   filepath.Join(dir, "sync.db"),
		clock:  time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	// Nobody's clocks agree.
	l.source.Clock = func() time.Time { return l.clock.Add(-time.Hour) }
	l.target.Clock = func() time.Time { return l.clock.Add(time.Hour) }
	l.config = syncer.Config{
		Source: l.source, Target: l.target, Now: func() time.Time { return l.clock },
		Random: func() float64 { return 0 }, Attempts: 2,
	}
	return l
}

func (l *lab) open() *syncer.Store {
	l.tb.Helper()
	if l.store == nil {
		s, err := syncer.OpenStore(l.path)
		if err != nil {
			l.tb.Fatal(err)
		}
		l.store = s
		l.tb.Cleanup(l.close)
	}
	return l.store
}

func (l *lab) close() {
	if l.store != nil {
		if err := l.store.Close(); err != nil {
			l.tb.Error(err)
		}
		l.store = nil
	}
}

func (l *lab) engine() *syncer.Engine {
	l.tb.Helper()
	c := l.config
	c.Store = l.open()
	e, err := syncer.New(c)
	if err != nil {
		l.tb.Fatal(err)
	}
	return e
}

// run makes one, a minute after the last.
func (l *lab) run(o syncer.Options) *syncer.Result {
	l.tb.Helper()
	l.clock = l.clock.Add(time.Minute)
	res, err := l.engine().Run(context.Background(), o)
	if err != nil {
		l.tb.Fatal(err)
	}
	return res
}

func (l *lab) plan(o syncer.Options) *syncer.Plan {
	l.tb.Helper()
	p, err := l.engine().Plan(context.Background(), o)
	if err != nil {
		l.tb.Fatal(err)
	}
	return p
}

// clean makes a run after which nothing may be left.
func (l *lab) clean(o syncer.Options) *syncer.Result {
	l.tb.Helper()
	res := l.run(o)
	if got := res.Outcome(); got != syncer.Clean {
		l.tb.Fatalf("outcome %d\n%s", got, told(res))
	}
	return res
}

func told(res *syncer.Result) string {
	text := ""
	for _, f := range res.Failures {
		text += fmt.Sprintf("failed: %s %s: %s\n", f.Verb, f.Key, f.Reason)
	}
	for _, c := range res.Plan.Changes {
		text += fmt.Sprintf("%s %s: %s\n", c.Verb, c.Key, c.Reason)
	}
	for _, k := range res.Plan.Kinds {
		for _, u := range k.Unknown {
			text += fmt.Sprintf("unknown %s: %s\n", k.Kind, u)
		}
	}
	return text
}

func (l *lab) put(side *syncertest.Side, kind syncer.Kind, id string, f fields, more ...any) key {
	l.tb.Helper()
	o := object{Key: key{Kind: kind, ID: id}, Fields: f, Name: id}
	if name, ok := f["name"].(string); ok {
		o.Name = name
	}
	var body []byte
	for _, m := range more {
		switch m := m.(type) {
		case string:
			body = []byte(m)
		case key:
			o.Within = m
		case func(*object):
			m(&o)
		}
	}
	if old, ok := side.Get(o.Key); ok {
		o.Marker = old.Marker
	}
	k, err := side.Put(o, body)
	if err != nil {
		l.tb.Fatal(err)
	}
	return k
}

// seed fills the source with some of each kind, and the target with what is
// given there.
func (l *lab) seed() {
	l.tb.Helper()
	given := func(o *object) { o.Stance = syncer.Given }
	l.put(l.source, "role", "admin-1", fields{"name": "admin"}, given)
	l.put(l.target, "role", "admin-2", fields{"name": "admin"}, given)
	s := l.source
	l.put(s, "project", "p1", fields{"name": "acme"})
	l.put(s, "project", "p2", fields{"name": "beta", "parent": ref("project", "p1")})
	l.put(s, "flavor", "f1", fields{"name": "small", "ram": 512, "access": syncer.Set{ref("project", "p1")}})
	l.put(s, "user", "u1", fields{"name": "ann", "roles": syncer.Set{ref("role", "admin-1")}, "default": ref("project", "p1")})
	l.put(s, "network", "n1", fields{"name": "web", "project": ref("project", "p1"), "mtu": 1500})
	l.put(s, "network", "n2", fields{"name": "web", "project": ref("project", "p1"), "mtu": 1400})
	l.put(s, "subnet", "s1", fields{"cidr": "10.0.0.0/24", "network": ref("network", "n1"), "gateway": "10.0.0.1"})
	l.put(s, "group", "g1", fields{"name": "web", "project": ref("project", "p1"), "rules": syncer.Set{}})
	l.put(s, "group", "g2", fields{"name": "db", "project": ref("project", "p1"), "rules": syncer.Set{rule(3306, "g1"), rule(22, "g2")}})
	l.put(s, "group", "g1", fields{"name": "web", "project": ref("project", "p1"), "rules": syncer.Set{rule(80, ""), rule(53, "g2")}})
	l.put(s, "image", "i1", fields{"name": "debian", "project": ref("project", "p2")}, "the bytes of an image")
	l.put(s, "container", "c1", fields{"name": "logs", "project": ref("project", "p1")})
	l.put(s, "container", "c2", fields{"name": "empty", "project": ref("project", "p1")})
	for i := range 3 {
		l.put(s, "object", fmt.Sprintf("c1/%d", i), fields{"name": fmt.Sprint(i)}, key{Kind: "container", ID: "c1"}, fmt.Sprintf("line %d", i))
	}
}

func rule(port int, group string) map[string]any {
	r := map[string]any{"port": port}
	if group != "" {
		r["from"] = weak("group", group)
	}
	return r
}

// same fails unless the target has all that the source has, once.
func (l *lab) same() {
	l.tb.Helper()
	for _, diff := range l.diverged() {
		l.tb.Error(diff)
	}
}

// diverged compares both sides by what the records say, which says nothing of
// how it was done.
func (l *lab) diverged() []string {
	var out []string
	to := func(k key) (key, bool) {
		r, ok, err := l.open().Record(k)
		if err != nil {
			l.tb.Fatal(err)
		}
		return key{Kind: k.Kind, ID: r.Target}, ok && r.Target != ""
	}
	for _, spec := range l.source.Specs {
		used := make(map[key]key)
		all := l.source.All(spec.Kind)
		for _, o := range all {
			k, ok := to(o.Key)
			if !ok {
				out = append(out, fmt.Sprintf("%s has no record", o.Key))
				continue
			}
			if other, twice := used[k]; twice {
				out = append(out, fmt.Sprintf("%s stands for %s and %s", k, o.Key, other))
			}
			used[k] = o.Key
			got, ok := l.target.Get(k)
			if !ok {
				out = append(out, fmt.Sprintf("%s should be %s, which is not there", o.Key, k))
				continue
			}
			w := syncer.Translate(&o, to)
			if d := syncer.Diff(w.Fields, got.Fields); len(d) > 0 || got.Within != w.Within {
				out = append(out, fmt.Sprintf("%s and %s differ in %q: %v, %v", o.Key, k, d, w.Fields, got.Fields))
			}
			if !slices.Equal(l.source.Body(o.Key), l.target.Body(k)) {
				out = append(out, fmt.Sprintf("%s and %s have other bodies", o.Key, k))
			}
			if spec.Marked && got.Marker != (syncer.Marker{Site: "one", ID: o.ID}) {
				out = append(out, fmt.Sprintf("%s is marked %v", k, got.Marker))
			}
		}
		if there := l.target.All(spec.Kind); len(there) != len(all) {
			out = append(out, fmt.Sprintf("%s: %d at the source, %d at the target", spec.Kind, len(all), len(there)))
		}
	}
	return out
}

var errBroken = errors.New("broken")
