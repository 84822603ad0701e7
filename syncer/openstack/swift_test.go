package openstack

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
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

// Large objects: parts first, then what is made of them; and what comes as a
// whole is the same at both.
func TestManifests(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	project, _ := customer(t, east, "acme")
	for _, name := range []string{"parts", "whole"} {
		east.swiftCall(t, http.MethodPut, project+"/"+name, nil, nil)
	}
	var manifest []any
	for i, text := range []string{"one ", "two ", "three"} {
		name := fmt.Sprintf("seg/%d", i)
		east.upload(t, project+"/parts/"+name, text, nil)
		sum := md5.Sum([]byte(text))
		manifest = append(manifest, row{"path": "/parts/" + name, "etag": hex.EncodeToString(sum[:]), "size_bytes": len(text)})
	}
	manifest = append(manifest, row{"path": "/parts/seg/0", "range": "0-1"})
	east.swiftCall(t, http.MethodPut, project+"/whole/static"+manifestWrite, map[string]string{"Content-Type": "text/x-whole", "X-Object-Meta-A": "b"}, manifest)
	east.upload(t, project+"/whole/dynamic", "", map[string]string{manifestOf: "parts/seg%2F"})
	e := engine(t, east, west, onlyObjects)
	r := run(t, e, syncer.Options{})
	there := west.projectIn(t, "acme")
	if got := west.content(t, there+"/whole/static"); got != "one two threeon" {
		t.Errorf("the static object is %q", got)
	}
	if got := west.content(t, there+"/whole/dynamic"); got != "one two three" {
		t.Errorf("the dynamic object is %q", got)
	}
	static := west.get(t, Object, there+"/whole/static")
	if static.Fields["content_type"] != "text/x-whole" || static.Content != east.get(t, Object, project+"/whole/static").Content {
		t.Errorf("the static object's copy: %+v", static)
	}
	for _, k := range r.Kinds {
		if k.Kind == Object && k.Bytes != int64(len("one two three")) {
			t.Errorf("%d bytes were carried for %d", k.Bytes, len("one two three"))
		}
	}
	quiet(t, e)

	// Another part, and a manifest that names it.
	east.upload(t, project+"/parts/seg/9", "nine", nil)
	manifest = append(manifest, row{"path": "/parts/seg/9"})
	east.swiftCall(t, http.MethodPut, project+"/whole/static"+manifestWrite, map[string]string{"Content-Type": "text/x-whole"}, manifest)
	run(t, e, syncer.Options{})
	if got := west.content(t, there+"/whole/static"); got != "one two threeonnine" {
		t.Errorf("the static object is %q", got)
	}
	quiet(t, e)
}

// Parts that are overwritten under their names: the manifest waits for them.
func TestManifestOfPartsThatChange(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	project, _ := customer(t, east, "acme")
	in := project + "/box"
	east.swiftCall(t, http.MethodPut, in, nil, nil)
	fill := func(text string) {
		var manifest []any
		for i := range 5 {
			name := fmt.Sprintf("part%d", i)
			east.upload(t, in+"/"+name, text+name, nil)
			manifest = append(manifest, row{"path": "/box/" + name})
		}
		east.swiftCall(t, http.MethodPut, in+"/a-whole"+manifestWrite, nil, manifest)
	}
	fill("first ")
	e := engine(t, east, west, func(c *syncer.Config) {
		onlyObjects(c)
		c.Attempts = 8
	})
	run(t, e, syncer.Options{})
	fill("second ")
	// The parts come late, so that the manifest has to wait.
	f := west.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "PUT", Path: "/part3$", Times: 1, What: fakecloud.Pass, Delay: 300 * time.Millisecond})
	run(t, e, syncer.Options{})
	if f.Hits() != 1 {
		t.Error("the part did not come late")
	}
	if got, want := west.content(t, west.projectIn(t, "acme")+"/box/a-whole"), east.content(t, in+"/a-whole"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	quiet(t, e)
}

// Objects over a size go in segments beside each other, and look like the source
// has them; nothing of the segments is left when they go.
func TestSegments(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	west.options.SegmentAbove, west.options.SegmentSize = 4000, 1000
	project, user := customer(t, east, "acme")
	in := project + "/box"
	east.swiftCall(t, http.MethodPut, in, nil, nil)
	big := random(10_500)
	east.upload(t, in+"/big", big, map[string]string{"Content-Type": "text/x-big", "X-Object-Meta-A": "1"})
	e := engine(t, east, west, onlyObjects)
	r := run(t, e, syncer.Options{})
	there := west.projectIn(t, "acme")
	check := func(want string) {
		t.Helper()
		if got := west.content(t, there+"/box/big"); got != want {
			t.Errorf("the copy has %d bytes, %d of them wrong", len(got), differing(got, want))
		}
		if a, b := east.get(t, Object, in+"/big"), west.get(t, Object, there+"/box/big"); a.Content != b.Content || syncer.Diff(a.Fields, b.Fields) != nil {
			t.Errorf("the copy is %+v, and the source %+v", b, a)
		}
	}
	check(big)
	for _, k := range r.Kinds {
		if k.Kind == Object && k.Bytes != int64(len(big)) {
			t.Errorf("%d bytes were carried for %d", k.Bytes, len(big))
		}
	}
	if n := len(west.segments(t, there)); n != 11 {
		t.Errorf("%d segments", n)
	}
	if boxes := west.all(t, Container, syncer.Key{Kind: Project, ID: there}); len(boxes) != 1 {
		t.Errorf("the segments' container is listed: %+v", boxes)
	}
	quiet(t, e)

	// Metadata alone moves no content, and keeps the tag.
	east.swiftCall(t, http.MethodPost, in+"/big", map[string]string{"X-Object-Meta-A": "2", "Content-Type": "text/x-big"}, nil)
	west.fake.ResetCounters()
	run(t, e, syncer.Options{})
	if n := west.fake.Calls()[fakecloud.Call{Service: fakecloud.ObjectStore, Method: "PUT", Route: "/v1/{account}/{container}/{object}"}]; n != 0 {
		t.Errorf("%d uploads for metadata", n)
	}
	check(big)

	// Who may read the container may read the segments.
	east.swiftCall(t, http.MethodPost, in, map[string]string{"X-Container-Read": project + ":" + user}, nil)
	// Other content: the segments of the old go.
	big = random(4_001)
	east.upload(t, in+"/big", big, map[string]string{"Content-Type": "text/x-big"})
	run(t, e, syncer.Options{})
	check(big)
	if n := len(west.segments(t, there)); n != 5 {
		t.Errorf("%d segments after an overwriting", n)
	}
	ann := west.objectNamed(t, User, "acme-ann").ID
	if h := west.swiftCall(t, http.MethodHead, there+"/"+segmentsOf("box"), nil, nil); h.Get("X-Container-Read") != there+":"+ann {
		t.Errorf("the segments are open to %q", h.Get("X-Container-Read"))
	}
	// Small content: all of them go.
	east.upload(t, in+"/big", "small", map[string]string{"Content-Type": "text/x-big"})
	run(t, e, syncer.Options{})
	check("small")
	if n := len(west.segments(t, there)); n != 0 {
		t.Errorf("%d segments of what is small now", n)
	}
	// And back, and all away.
	east.upload(t, in+"/big", big, nil)
	run(t, e, syncer.Options{})
	check(big)
	east.swiftCall(t, http.MethodDelete, in+"/big", nil, nil)
	run(t, e, syncer.Options{}, syncer.Held)
	if n := len(west.segments(t, there)); n != 0 {
		t.Errorf("%d segments of what is gone", n)
	}
	east.swiftCall(t, http.MethodDelete, in, nil, nil)
	run(t, e, syncer.Options{}, syncer.Held)
	a, err := west.account(there)
	if err != nil {
		t.Fatal(err)
	}
	if _, found, err := a.segments(t.Context(), "box"); found || err != nil {
		t.Errorf("the segments' container is left: %v, %v", found, err)
	}
}

func random(n int) string {
	r := rand.New(rand.NewPCG(uint64(n), 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

func differing(a, b string) int {
	n := max(len(a), len(b)) - min(len(a), len(b))
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			n++
		}
	}
	return n
}

// segments are the names of the segments that stand in a project.
func (s site) segments(t *testing.T, project string) []string {
	t.Helper()
	a, err := s.account(project)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	if _, err := a.names(t.Context(), a.base+"/"+escape(segmentsOf("box")), objectCount, nil, func(r row) error {
		names = append(names, r.text("name"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

// A body that cannot be read from several places goes in segments too, one after
// another, and its sum is compared.
func TestSegmentsInTurn(t *testing.T) {
	west := newSite(t, "west", fakecloud.Options{})
	west.options.SegmentAbove, west.options.SegmentSize = 4000, 1000
	project := west.session.Identity().ProjectID
	west.swiftCall(t, http.MethodPut, project+"/box", nil, nil)
	content := random(9_999)
	sum := md5.Sum([]byte(content))
	want := syncer.Object{
		Key: syncer.Key{Kind: Object, ID: "whatever"}, Within: syncer.Key{Kind: Container, ID: project + "/box"}, Content: syncer.Content{Size: 9_999, Sum: "md5:" + hex.EncodeToString(sum[:])},
		Fields: syncer.Fields{"name": "big"},
	}
	want.Natural = []any{syncer.Ref{Key: want.Within}, "big"}
	if _, err := west.Create(t.Context(), want, bytes.NewReader([]byte(content[:9_998]+"x"))); !errors.Is(err, syncer.ErrChanged) {
		t.Errorf("another content: %v", err)
	}
	if _, err := west.Create(t.Context(), want, strings.NewReader(content[:9_000])); err == nil {
		t.Error("a short content was taken")
	}
	west.missing(t, Object, project+"/box/big")
	if _, err := west.Create(t.Context(), want, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if got := west.content(t, project+"/box/big"); got != content {
		t.Errorf("%d bytes are wrong", differing(got, content))
	}
	if _, err := west.Create(t.Context(), want, strings.NewReader(content)); !errors.Is(err, syncer.ErrTaken) {
		t.Errorf("over what is there: %v", err)
	}
}
