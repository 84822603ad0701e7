package openstack

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// onlyObjects carries what containers and objects need, and them.
func onlyObjects(c *syncer.Config) {
	c.Filter.Kinds = []syncer.Kind{Domain, Project, User, Container, Object}
}

// customer makes a project and one of its users.
func customer(t *testing.T, s site, name string) (project, user string) {
	t.Helper()
	domain := s.make(t, identity, "domains", "domain", row{"name": name})
	project = s.make(t, identity, "projects", "project", row{"name": name, "domain_id": domain})
	user = s.make(t, identity, "users", "user", row{"name": name + "-ann", "domain_id": domain})
	return project, user
}

// swiftCall makes a request at an account.
func (s site) swiftCall(t *testing.T, method, id string, header map[string]string, body any) http.Header {
	t.Helper()
	id, query, found := strings.Cut(id, "?multipart") // of ours; names may have any "?"
	if found {
		query = "?multipart" + query
	}
	a, address, err := s.at(id)
	if err != nil {
		t.Fatal(err)
	}
	h, err := call(t.Context(), a.c, objectStore, method, address+query, maps.Clone(header), body, nil)
	if err != nil {
		t.Fatalf("%s %s: %v", method, id, err)
	}
	return h
}

// upload puts an object.
func (s site) upload(t *testing.T, id, content string, header map[string]string) {
	t.Helper()
	a, address, err := s.at(id)
	if err != nil {
		t.Fatal(err)
	}
	h := make(http.Header)
	for key, v := range header {
		h.Set(key, v)
	}
	if _, err := cloud.Upload(t.Context(), a.c, address, cloud.Put{Body: strings.NewReader(content), Size: int64(len(content)), Header: h}); err != nil {
		t.Fatal(err)
	}
}

// content downloads an object as its users do.
func (s site) content(t *testing.T, id string) string {
	t.Helper()
	a, address, err := s.at(id)
	if err != nil {
		t.Fatal(err)
	}
	body, err := cloud.Download(t.Context(), a.c, address, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// get reads an object or a container by its id.
func (s site) get(t *testing.T, kind syncer.Kind, id string) syncer.Object {
	t.Helper()
	o, err := s.Read(t.Context(), syncer.Object{Key: syncer.Key{Kind: kind, ID: id}})
	if err != nil {
		t.Fatalf("read %s: %v", id, err)
	}
	return o
}

func (s site) missing(t *testing.T, kind syncer.Kind, id string) {
	t.Helper()
	if o, err := s.Read(t.Context(), syncer.Object{Key: syncer.Key{Kind: kind, ID: id}}); !errors.Is(err, syncer.ErrGone) {
		t.Errorf("%s %s is there: %+v, %v", kind, id, o, err)
	}
}

// projectIn is the project of that name.
func (s site) projectIn(t *testing.T, name string) string {
	t.Helper()
	return s.objectNamed(t, Project, name).ID
}

// quiet runs again, with an audit, and finds nothing to do, and both sides alike.
func quiet(t *testing.T, e *syncer.Engine) {
	t.Helper()
	v, err := e.Verify(t.Context(), syncer.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range v.Mismatches {
		t.Errorf("not alike: %+v", m)
	}
	if again := run(t, e, syncer.Options{Audit: true}); again.Plan.Acts() != 0 {
		t.Errorf("another run has something to do: %+v", again.Plan.Changes)
	}
}

// nothing is asked of the clouds but listings when nothing has changed.
func TestContainersAndObjects(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	project, user := customer(t, east, "acme")
	in := project + "/photos"
	east.swiftCall(t, http.MethodPut, in, map[string]string{
		"X-Container-Meta-Colour": "grün & rot", "X-Container-Meta-Temp-Url-Key": "secret", "X-Container-Meta-Quota-Bytes": "1000000",
		"X-Container-Read": ".r:*,.rlistings,.r:-evil.example," + project + ":" + user + ",*:" + user, "X-Container-Write": project + ":*",
		"X-Versions-Enabled": "true", "X-Container-Sync-Key": "other", "X-Container-Meta-Draas-Other": "own",
	}, nil)
	names := []string{"plain", "/leading//slash", "?query#part", "100% of it", "ünï/cödé", "a b+c&d=e;f,g", "..", "x/../y", "quote\"'", "tab\there"}
	for _, name := range names {
		east.upload(t, in+"/"+name, "content of "+name, map[string]string{"Content-Type": "text/x-" + hex.EncodeToString([]byte(name[:1]))})
	}
	at := fmt.Sprint(time.Now().Add(time.Hour).Unix())
	east.upload(t, in+"/dressed", "hello", map[string]string{"Content-Type": "text/html; charset=utf-8", "X-Object-Meta-Who": "Ann Ümläut",
		"X-Delete-At": at, "Content-Encoding": "br", "Content-Disposition": `attachment; filename="a.html"`})
	east.upload(t, in+"/empty", "", nil)

	e := engine(t, east, west, onlyObjects)
	r := run(t, e, syncer.Options{})
	there := west.projectIn(t, "acme")
	ann := west.objectNamed(t, User, "acme-ann").ID
	photos := west.get(t, Container, there+"/photos")
	wantRead := []any{".r:*", ".rlistings", ".r:-evil.example", granting(there, ann), granting("*", ann)}
	if d := syncer.Diff(photos.Fields, syncer.Fields{
		"name": "photos", "policy": "", "versions": true, "archive": nil, "metadata": map[string]any{"colour": "grün & rot", "quota-bytes": "1000000"},
		"read": wantRead, "write": []any{granting(there, "*")},
	}); d != nil {
		t.Errorf("the container's copy differs in %v: %+v", d, photos.Fields)
	}
	if photos.Marker != (syncer.Marker{Site: "east", ID: in}) {
		t.Errorf("its marker is %v", photos.Marker)
	}
	for _, name := range names {
		if got := west.content(t, there+"/photos/"+name); got != "content of "+name {
			t.Errorf("%q has the content %q", name, got)
		}
	}
	dressed := west.get(t, Object, there+"/photos/dressed")
	if d := syncer.Diff(dressed.Fields, syncer.Fields{
		"name": "dressed", "metadata": map[string]any{"who": "Ann Ümläut"}, "content_type": "text/html; charset=utf-8", "delete_at": at, "content_encoding": "br",
		"content_disposition": `attachment; filename="a.html"`, "content_language": nil, "cache_control": nil, "expires": nil, "robots": nil,
		"manifest": nil, "segments": nil, "symlink": nil,
	}); d != nil {
		t.Errorf("the object's copy differs in %v: %+v", d, dressed.Fields)
	}
	for _, c := range r.Plan.Changes {
		if c.Key.Kind == Container && !slices.Equal(c.Lost, []string{"key for temporary URLs", "container synchronization", "versions of objects from before they were carried"}) {
			t.Errorf("what is said to be lost of the container: %q", c.Lost)
		}
	}

	east.fake.ResetCounters()
	west.fake.ResetCounters()
	if again := run(t, e, syncer.Options{}); again.Plan.Acts() != 0 {
		t.Errorf("a second run has something to do: %+v", again.Plan.Changes)
	}
	for _, s := range []site{east, west} {
		for c, n := range s.fake.Calls() {
			if c.Service == fakecloud.ObjectStore && strings.Contains(c.Route, "{object}") {
				t.Errorf("%d requests of %v for what has not changed", n, c)
			}
		}
	}
	quiet(t, e)
}

func granting(project, user string) map[string]any {
	return map[string]any{"project": granted(Project, project), "user": granted(User, user)}
}

// What is changed at the source is changed at the target, and no more of it.
func TestObjectChanges(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	project, user := customer(t, east, "acme")
	in := project + "/box"
	east.swiftCall(t, http.MethodPut, in, map[string]string{"X-Container-Meta-A": "1", "X-Container-Meta-B": "2", "X-Container-Read": ".r:*"}, nil)
	for _, name := range []string{"same", "content", "header", "gone"} {
		east.upload(t, in+"/"+name, "first "+name, map[string]string{"X-Object-Meta-A": "1", "X-Object-Meta-B": "2"})
	}
	e := engine(t, east, west, onlyObjects)
	run(t, e, syncer.Options{})
	there := west.projectIn(t, "acme") + "/box"
	west.swiftCall(t, http.MethodPost, there, map[string]string{"X-Container-Meta-Temp-Url-Key": "its own"}, nil)

	east.swiftCall(t, http.MethodPost, in, map[string]string{"X-Container-Meta-A": "3", "X-Remove-Container-Meta-B": "x", "X-Container-Read": project + ":" + user}, nil)
	east.upload(t, in+"/content", "FIRST content", map[string]string{"X-Object-Meta-A": "1", "X-Object-Meta-B": "2"}) // as long as before
	east.swiftCall(t, http.MethodPost, in+"/header", map[string]string{"X-Object-Meta-A": "3", "Content-Type": "text/plain"}, nil)
	east.swiftCall(t, http.MethodDelete, in+"/gone", nil, nil)
	west.fake.ResetCounters()
	r := run(t, e, syncer.Options{}, syncer.Held)
	if r.Plan.Count(syncer.Update) != 3 || r.Plan.Count(syncer.Delete) != 1 {
		t.Errorf("planned: %+v", r.Plan.Changes)
	}
	if n := west.fake.Calls()[fakecloud.Call{Service: fakecloud.ObjectStore, Method: "PUT", Route: "/v1/{account}/{container}/{object}"}]; n != 1 {
		t.Errorf("%d uploads for one object whose content has changed", n)
	}
	box := west.get(t, Container, there)
	ann := west.objectNamed(t, User, "acme-ann").ID
	if d := syncer.Diff(syncer.Fields{"metadata": map[string]any{"a": "3"}, "read": []any{granting(box.Project, ann)}},
		syncer.Fields{"metadata": box.Fields["metadata"], "read": box.Fields["read"]}); d != nil {
		t.Errorf("the container's copy differs in %v: %+v", d, box.Fields)
	}
	if !slices.Contains(box.Lost, "key for temporary URLs") {
		t.Error("the target's own key is gone")
	}
	if got := west.content(t, there+"/content"); got != "FIRST content" {
		t.Errorf("content: %q", got)
	}
	header := west.get(t, Object, there+"/header")
	if m := asMap(header.Fields["metadata"]); len(m) != 1 || m["a"] != "3" || header.Fields["content_type"] != "text/plain" {
		t.Errorf("header: %+v", header.Fields)
	}
	west.missing(t, Object, there+"/gone")
	quiet(t, e)

	// All of it goes, last the container.
	for _, name := range []string{"same", "content", "header"} {
		east.swiftCall(t, http.MethodDelete, in+"/"+name, nil, nil)
	}
	east.swiftCall(t, http.MethodDelete, in, nil, nil)
	run(t, e, syncer.Options{}, syncer.Held)
	west.missing(t, Container, there)
}

// An entry of an ACL whose user the target has not is left out, opens nothing,
// and comes when the user does.
func TestACLOfAnUnknownUser(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	project, user := customer(t, east, "acme")
	east.swiftCall(t, http.MethodPut, project+"/box", map[string]string{"X-Container-Read": project + ":" + user}, nil)
	e := engine(t, east, west, func(c *syncer.Config) { c.Filter.Kinds = []syncer.Kind{Domain, Project, Container} })
	r := run(t, e, syncer.Options{})
	there := west.projectIn(t, "acme") + "/box"
	if h := west.swiftCall(t, http.MethodHead, there, nil, nil); h.Get("X-Container-Read") != "" {
		t.Errorf("the copy is open to %q", h.Get("X-Container-Read"))
	}
	named := false
	for _, c := range r.Plan.Changes {
		named = named || c.Key.Kind == Container && slices.Contains(c.Later, syncer.Key{Kind: User, ID: user})
	}
	if !named {
		t.Errorf("what was left out is not named: %+v", r.Plan.Changes)
	}
}
