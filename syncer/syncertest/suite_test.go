package syncertest_test

import (
	"fmt"
	"testing"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

func TestSuite(t *testing.T) {
	syncertest.Suite(t, func(t *testing.T) syncertest.Subject {
		s := syncertest.NewSide("here", syncertest.Specs()...)
		put := func(k syncer.Kind, id string, f syncer.Fields) {
			if _, err := s.Put(syncer.Object{Key: syncer.Key{Kind: k, ID: id}, Fields: f}, nil); err != nil {
				t.Fatal(err)
			}
		}
		put("project", "p", syncer.Fields{"name": "p"})
		put("container", "c", syncer.Fields{"name": "c", "project": syncertest.Ref("project", "p")})
		sample := func(kind syncer.Kind, more syncer.Fields, within syncer.Key, body bool) syncertest.Sample {
			natural := func(o syncer.Object) []any {
				for _, spec := range syncertest.Specs() {
					if spec.Kind == kind {
						return spec.Natural(o)
					}
				}
				return nil
			}
			sm := syncertest.Sample{Kind: kind, Make: func(_ *testing.T, n int) (syncer.Object, []byte) {
				f := syncer.Fields{"name": fmt.Sprint(kind, n)}
				for k, v := range more {
					f[k] = v
				}
				o := syncer.Object{Key: syncer.Key{Kind: kind, ID: fmt.Sprint("there", n)}, Fields: f, Within: within}
				o.Natural = natural(o)
				if !body {
					return o, nil
				}
				data := []byte(fmt.Sprintf("body of %s %d", kind, n))
				o.Content = syncertest.ContentOf(data)
				return o, data
			}}
			sm.Changes = []syncertest.Change{{Name: "note", Make: func(_ *testing.T, o *syncer.Object) { o.Fields["note"] = "new" }}}
			if kind == "object" {
				data := []byte("other bytes")
				sm.Changes = append(sm.Changes, syncertest.Change{Name: "content", Body: data, Make: func(_ *testing.T, o *syncer.Object) {
					o.Content = syncertest.ContentOf(data)
				}})
			}
			return sm
		}
		owned := syncer.Fields{"project": syncertest.Ref("project", "p")}
		return syncertest.Subject{Writer: s, Samples: []syncertest.Sample{
			sample("project", nil, syncer.Key{}, false),
			sample("flavor", syncer.Fields{"ram": 1}, syncer.Key{}, false),
			sample("user", nil, syncer.Key{}, false),
			sample("group", owned, syncer.Key{}, false),
			sample("image", owned, syncer.Key{}, true),
			sample("object", nil, syncer.Key{Kind: "container", ID: "c"}, true),
		}}
	})
}
