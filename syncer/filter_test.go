package syncer_test

import (
	"strings"
	"testing"

	"github.com/draasd/draas/syncer"
)

func TestFilters(t *testing.T) {
	tagged := func(o *object) { o.Tags = []string{"gold"} }
	plain := func(o *object) { o.Tags = []string{} }
	of := func(project string) func(*object) { return func(o *object) { o.Project = project } }
	seed := func(l *lab) {
		l.put(l.source, "project", "p1", fields{"name": "acme"}, of("p1"))
		l.put(l.source, "project", "p2", fields{"name": "beta"}, of("p2"))
		l.put(l.source, "network", "n1", fields{"name": "acme/web", "project": ref("project", "p1")}, of("p1"), tagged)
		l.put(l.source, "network", "n2", fields{"name": "beta/db", "project": ref("project", "p2")}, of("p2"), plain)
		l.put(l.source, "flavor", "f1", fields{"name": "small", "ram": 1})
		l.put(l.source, "subnet", "s1", fields{"cidr": "a", "name": "acme/s", "network": ref("network", "n1")}, of("p1"))
	}
	for _, tt := range []struct {
		name   string
		filter syncer.Filter
		want   string
	}{
		{"project", syncer.Filter{Projects: []string{"p1"}}, "flavor f1, network n1, project p1, subnet s1"},
		{"tag", syncer.Filter{Tags: []string{"gold"}}, "flavor f1, network n1, project p1, project p2, subnet s1"},
		{"names", syncer.Filter{Names: []string{"acme*", "acme/*"}}, "network n1, project p1, subnet s1"},
		{"except", syncer.Filter{Except: []string{"beta", "*/db"}}, "flavor f1, network n1, project p1, subnet s1"},
		{"kinds", syncer.Filter{Kinds: []syncer.Kind{"project", "flavor"}}, "flavor f1, project p1, project p2"},
		{"without", syncer.Filter{Without: []syncer.Kind{"subnet"}}, "flavor f1, network n1, network n2, project p1, project p2"},
		{"none of what is needed", syncer.Filter{Kinds: []syncer.Kind{"network"}}, "blocked network n1: needs project p1 (a filter leaves it out)"},
		{"name of what is needed", syncer.Filter{Except: []string{"acme/web"}}, "blocked subnet s1: needs network n1 (a filter leaves it out)"},
	} {
		for where, f := range map[string]func(*lab) syncer.Options{
			"config":  func(l *lab) syncer.Options { l.config.Filter = tt.filter; return syncer.Options{} },
			"options": func(*lab) syncer.Options { return syncer.Options{Filter: tt.filter} },
		} {
			l := newLab(t)
			seed(l)
			o := f(l)
			res := l.run(o)
			var got []string
			if err := l.open().Map(func(r syncer.Record) error {
				if r.Target != "" {
					got = append(got, r.Key.String())
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(got, ", "); text != tt.want && !strings.Contains(told(res), tt.want) {
				t.Errorf("%s by %s: carried %s\n%s", tt.name, where, text, told(res))
			}
			l.config.Filter = syncer.Filter{} // what it left out is neither gone nor lost
			l.clean(syncer.Options{Retry: true})
			l.same()
			l.close()
		}
	}
}

func TestFilterThatMeansNothing(t *testing.T) {
	l := newLab(t)
	if _, err := l.engine().Plan(t.Context(), syncer.Options{Filter: syncer.Filter{Names: []string{"["}}}); err == nil {
		t.Error("no error")
	}
}

// What is carried and then left out by a filter is not gone, and may be needed.
func TestLeftOutIsNotGone(t *testing.T) {
	l := newLab(t)
	l.config.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{} }
	l.seed()
	l.clean(syncer.Options{})
	l.put(l.source, "network", "n9", fields{"name": "new", "project": ref("project", "p1")})
	if err := l.source.Drop(key{Kind: "image", ID: "i1"}); err != nil {
		t.Fatal(err)
	}
	res := l.clean(syncer.Options{Filter: syncer.Filter{Names: []string{"new"}}})
	if res.Plan.Count(syncer.Create) != 1 || l.target.Ops()["delete"] > 0 {
		t.Errorf("%s", told(res))
	}
	l.clean(syncer.Options{})
	l.same()
}

func TestMappings(t *testing.T) {
	outside := func(o *object) { o.Stance = syncer.Outside }
	l := newLab(t)
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	l.put(l.source, "network", "ext", fields{"name": "public", "project": ref("project", "p1")}, outside)
	l.put(l.source, "subnet", "s1", fields{"cidr": "a", "network": ref("network", "ext")})
	l.put(l.target, "project", "q", fields{"name": "admin"})
	l.put(l.target, "network", "e1", fields{"name": "internet", "project": ref("project", "q")})
	res := l.run(syncer.Options{})
	if !strings.Contains(told(res), "blocked network ext: no mapping says what stands for it") ||
		!strings.Contains(told(res), "blocked subnet s1: needs network ext (blocked: no mapping") {
		t.Errorf("%s", told(res))
	}
	for _, m := range []syncer.Mapping{
		{Kind: "network", Source: "public", Target: "internet"}, {Kind: "network", Source: "ext", Target: "e1"},
	} {
		l.config.Map = []syncer.Mapping{m}
		l.clean(syncer.Options{Retry: true})
		if o, ok := l.target.Get(key{Kind: "subnet", ID: must(l, "subnet", "s1")}); !ok || o.Fields["network"] != ref("network", "e1") {
			t.Errorf("%+v: %+v", m, o)
		}
	}
	if o, _ := l.target.Get(key{Kind: "network", ID: "e1"}); o.Fields["name"] != "internet" {
		t.Errorf("a mapped object was changed: %+v", o)
	}
	l.config.Map = []syncer.Mapping{{Kind: "network", Source: "public", Target: "nowhere"}}
	if res := l.run(syncer.Options{}); !strings.Contains(told(res), `"nowhere" fits 0 objects of the target`) {
		t.Errorf("%s", told(res))
	}
	l.put(l.source, "network", "ext2", fields{"name": "public", "project": ref("project", "p1")}, outside)
	l.put(l.target, "network", "e2", fields{"name": "internet", "project": ref("project", "q")})
	for want, m := range map[string]syncer.Mapping{
		`name "public" fits 2 objects of the source`: {Kind: "network", Source: "public", Target: "e1"},
		`"internet" fits 2 objects of the target`:    {Kind: "network", Source: "ext", Target: "internet"},
	} {
		l.config.Map = []syncer.Mapping{m}
		if res := l.run(syncer.Options{}); !strings.Contains(told(res), want) {
			t.Errorf("%+v: %s", m, told(res))
		}
	}
}

// A mapping takes the place of what was carried before, and gives it back.
func TestMappingOfWhatWasCarried(t *testing.T) {
	l := newLab(t)
	l.seed()
	l.clean(syncer.Options{})
	was := must(l, "network", "n1")
	l.put(l.target, "network", "theirs", fields{"name": "theirs", "project": ref("project", must(l, "project", "p1"))})
	l.config.Map = []syncer.Mapping{{Kind: "network", Source: "n1", Target: "theirs"}}
	l.run(syncer.Options{})
	if o, _ := l.target.Get(key{Kind: "network", ID: "theirs"}); o.Fields["mtu"] != nil || must(l, "network", "n1") != was {
		t.Errorf("%+v", o)
	}
	l.config.Map = nil
	if err := l.target.Drop(key{Kind: "network", ID: "theirs"}); err != nil {
		t.Fatal(err)
	}
	l.clean(syncer.Options{Audit: true})
	l.same()
}

// What both sites have by themselves is referred to, whatever a filter says.
func TestGivenPassesFilters(t *testing.T) {
	l := newLab(t)
	given := func(o *object) { o.Stance = syncer.Given }
	l.put(l.source, "role", "r1", fields{"name": "admin"}, given)
	l.put(l.target, "role", "r2", fields{"name": "admin"}, given)
	l.put(l.source, "user", "u1", fields{"name": "acme-ann", "roles": syncer.Set{ref("role", "r1")}})
	l.put(l.source, "user", "u2", fields{"name": "bob", "roles": syncer.Set{ref("role", "r1")}})
	l.clean(syncer.Options{Filter: syncer.Filter{Names: []string{"acme-*"}}})
	if all := l.target.All("user"); len(all) != 1 || syncer.Show(all[0].Fields["roles"]) != "{role r2}" {
		t.Errorf("%+v", all)
	}
}

// What an object refers to stands for another thing now: it is written anew,
// though neither side's object has changed.
func TestRefersToWhatIsMappedAnew(t *testing.T) {
	l := newLab(t)
	l.put(l.target, "project", "q1", fields{"name": "one"})
	l.put(l.target, "project", "q2", fields{"name": "two"})
	l.put(l.source, "project", "p1", fields{"name": "acme"})
	l.put(l.source, "network", "n1", fields{"name": "web", "project": ref("project", "p1")})
	for _, q := range []string{"q1", "q2"} {
		l.config.Map = []syncer.Mapping{{Kind: "project", Source: "acme", Target: q}}
		l.clean(syncer.Options{})
		if o, _ := l.target.Get(key{Kind: "network", ID: must(l, "network", "n1")}); o.Fields["project"] != ref("project", q) {
			t.Errorf("%s: %+v", q, o.Fields)
		}
	}
}
