package openstack

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/draasd/draas/syncer"
	"github.com/draasd/draas/syncer/syncertest"
)

// storeGround is what objects and record sets stand in.
func (g *ground) storeGround(t *testing.T, s site) {
	g.box = sync.OnceValue(func() string {
		t.Helper()
		id := g.project() + "/" + fmt.Sprintf("ground %d", g.seq)
		s.swiftCall(t, http.MethodPut, id, nil, nil)
		return id
	})
	g.zone = sync.OnceValue(func() string {
		t.Helper()
		return s.newZone(t, g.project(), row{"name": fmt.Sprintf("ground-%d.example.", g.seq), "email": "dns@example.org"})
	})
}

// contents is a content, as an object's sample and its changes have it.
func contents(n int) []byte { return fmt.Appendf(nil, "the content of object %d", n) }

func storeSamples(g *ground) []syncertest.Sample {
	within := func(o *syncer.Object, in syncer.Key, name string) {
		o.Within, o.Name = in, name
		o.Natural = []any{syncer.Ref{Key: in}, name}
		o.Fields["name"] = name
	}
	ann := func() any {
		return map[string]any{"project": granted(Project, g.project()), "user": granted(User, g.user())}
	}
	box := syncertest.Sample{Kind: Container, Changes: []syncertest.Change{
		set("metadata", map[string]any{"colour": "rot", "web-index": "index.html"}), set("metadata", map[string]any{}), set("read", []any{}),
		setTo("read", func() any { return []any{ann(), "*:*"} }), set("write", []any{}), set("versions", true),
	}, Make: func(_ *testing.T, n int) (syncer.Object, []byte) {
		o := syncer.Object{Key: syncer.Key{Kind: Container, ID: fmt.Sprintf("%s/box %d", someProject, n)}, Fields: syncer.Fields{
			"policy": "", "metadata": map[string]any{"colour": "grün", "size": "7"}, "versions": false, "archive": nil, "read": []any{".r:*", ".rlistings"}, "write": []any{ann()}}}
		within(&o, syncer.Key{Kind: Project, ID: g.project()}, fmt.Sprintf("böx %d-%d", g.seq, n))
		return o, nil
	}}
	other := []byte("another content, which is longer than that")
	thing := syncertest.Sample{Kind: Object, Changes: []syncertest.Change{
		set("metadata", map[string]any{"b": "two"}), set("content_type", "text/html"), set("content_encoding", "br"), set("delete_at", nil), set("content_disposition", nil),
		{Name: "content", Body: other, Make: func(_ *testing.T, o *syncer.Object) {
			o.Content = syncer.Content{Size: int64(len(other)), Sum: "md5:" + tagged(string(other))}
		}},
	}, Make: func(_ *testing.T, n int) (syncer.Object, []byte) {
		body := contents(n)
		o := syncer.Object{Content: syncer.Content{Size: int64(len(body)), Sum: "md5:" + tagged(string(body))}, Fields: syncer.Fields{
			"metadata": map[string]any{"a": "one", "umlaut": "ä"}, "content_type": "text/plain", "content_encoding": nil, "content_disposition": "attachment", "content_language": nil,
			"cache_control": nil, "expires": nil, "robots": nil, "delete_at": "4102444800", "manifest": nil, "segments": nil, "symlink": nil}}
		within(&o, syncer.Key{Kind: Container, ID: g.box()}, fmt.Sprintf("/a b/ü?%d#c%%", n))
		o.Key = syncer.Key{Kind: Object, ID: someProject + "/box/" + o.Name}
		return o, body
	}}
	return []syncertest.Sample{box, thing}
}

func dnsSamples(g *ground) []syncertest.Sample {
	zone := func(kind string, more syncer.Fields) func(int) syncer.Fields {
		return func(n int) syncer.Fields {
			f := syncer.Fields{"name": g.named("zone", n) + ".example.", "type": kind, "project": ref(Project, g.project()), "description": "a zone", "failing": false}
			for k, v := range more {
				f[k] = v
			}
			return f
		}
	}
	return []syncertest.Sample{
		g.sample(Zone, zone(primary, syncer.Fields{"email": "dns@example.org", "ttl": int64(600)}), []string{"name"},
			set("email", "else@example.org"), set("ttl", int64(900)), set("description", ""), set("description", "another")),
		g.sample(RecordSet, func(n int) syncer.Fields {
			return syncer.Fields{"zone": ref(Zone, g.zone()), "name": fmt.Sprintf("www-%d.ground-%d.example.", n, g.seq), "type": "A", "records": syncer.Set{"192.0.2.1", "192.0.2.2"},
				"ttl": int64(60), "description": "some"}
		}, []string{"zone", "name", "type"}, set("records", syncer.Set{"192.0.2.2", "192.0.2.3"}), set("ttl", nil), set("description", ""), set("ttl", int64(120))),
	}
}
