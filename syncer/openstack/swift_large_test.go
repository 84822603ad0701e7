package openstack

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

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
