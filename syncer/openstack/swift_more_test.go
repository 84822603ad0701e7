package openstack

import (
	"crypto/md5"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

func tagged(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Symbolic links stay links: to a name, or to just one content of it, in the same
// account or in another.
func TestSymlinks(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	project, _ := customer(t, east, "acme")
	other, _ := customer(t, east, "other")
	for _, box := range []string{project + "/links", project + "/things", other + "/theirs"} {
		east.swiftCall(t, http.MethodPut, box, nil, nil)
	}
	east.upload(t, project+"/things/a b", "thing", nil)
	east.upload(t, other+"/theirs/x", "theirs", nil)
	for name, h := range map[string]map[string]string{
		"plain":  {linksTo: "things/a%20b", "X-Object-Meta-A": "1"},
		"static": {linksTo: "things/a%20b", linkETag: tagged("thing")},
		"across": {linksTo: "theirs/x", linkAccount: "AUTH_" + other},
		"broken": {linksTo: "things/none"},
	} {
		east.upload(t, project+"/links/"+name, "", h)
	}
	e := engine(t, east, west, onlyObjects)
	run(t, e, syncer.Options{})
	there := west.projectIn(t, "acme")
	for name, want := range map[string]string{"plain": "thing", "static": "thing", "across": "theirs"} {
		if got := west.content(t, there+"/links/"+name); got != want {
			t.Errorf("%s leads to %q", name, got)
		}
		if o := west.get(t, Object, there+"/links/"+name); o.Fields["symlink"] == nil || o.Content.Sum != emptyMD5 {
			t.Errorf("%s is no link: %+v", name, o)
		}
	}
	west.get(t, Object, there+"/links/broken")
	quiet(t, e)

	// Metadata of a link, and where it leads.
	east.upload(t, project+"/links/plain", "", map[string]string{linksTo: "things/a%20b", "X-Object-Meta-A": "2"})
	east.upload(t, project+"/things/new", "new", nil)
	east.upload(t, project+"/links/static", "", map[string]string{linksTo: "things/new", linkETag: tagged("new")})
	run(t, e, syncer.Options{})
	if o := west.get(t, Object, there+"/links/plain"); asMap(o.Fields["metadata"])["a"] != "2" {
		t.Errorf("the link: %+v", o)
	}
	if got := west.content(t, there+"/links/static"); got != "new" {
		t.Errorf("static leads to %q", got)
	}
	quiet(t, e)
}

// A part of a large object which is so large that it is cut has another tag at
// the target; what is made of it is the same nevertheless.
func TestManifestOfWhatIsCut(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	west.options.SegmentAbove, west.options.SegmentSize = 4000, 1000
	project, _ := customer(t, east, "acme")
	in := project + "/box"
	east.swiftCall(t, http.MethodPut, in, nil, nil)
	one, two := random(5_000), random(300)
	east.upload(t, in+"/part1", one, nil)
	east.upload(t, in+"/part2", two, nil)
	manifest := []any{row{"path": "/box/part1", "etag": tagged(one)}, row{"path": "/box/part2", "etag": tagged(two)}}
	east.swiftCall(t, http.MethodPut, in+"/whole"+manifestWrite, nil, manifest)
	e := engine(t, east, west, onlyObjects)
	run(t, e, syncer.Options{})
	there := west.projectIn(t, "acme") + "/box"
	if got := west.content(t, there+"/whole"); got != one+two {
		t.Errorf("%d bytes are wrong", differing(got, one+two))
	}
	quiet(t, e)
}

// After a turn the copies are the source: what was cut goes back in one piece,
// without its segments, and the originals are known again.
func TestObjectsTurn(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	west.options.SegmentAbove, west.options.SegmentSize = 4000, 1000
	project, _ := customer(t, east, "acme")
	in := project + "/box"
	east.swiftCall(t, http.MethodPut, in, map[string]string{"X-Container-Read": ".r:*"}, nil)
	big := random(5_000)
	east.upload(t, in+"/big", big, map[string]string{"Content-Type": "text/x-big"})
	east.upload(t, in+"/old", "old", nil)
	run(t, engine(t, east, west, onlyObjects), syncer.Options{Epoch: 1})
	there := west.projectIn(t, "acme") + "/box"
	bigger := random(6_000)
	west.upload(t, there+"/new", bigger, nil) // whole in the west
	west.upload(t, there+"/old", "older", nil)

	back := engine(t, west, east, onlyObjects)
	r, err := back.Run(t.Context(), syncer.Options{Epoch: 2, Accept: &syncer.Turn{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Failures {
		t.Errorf("%s: %s", f.Key, f.Reason)
	}
	if got := east.content(t, in+"/new"); got != bigger {
		t.Errorf("new: %d bytes are wrong", differing(got, bigger))
	}
	boxes := east.all(t, Container, syncer.Key{Kind: Project, ID: project})
	if len(boxes) != 1 {
		t.Errorf("containers in the east: %+v", boxes)
	}
	// And read as a whole, from any place.
	o := west.get(t, Object, there+"/big")
	body, err := west.Open(t.Context(), o, 4_321)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	if tail, err := io.ReadAll(body); err != nil || string(tail) != big[4_321:] {
		t.Errorf("from an offset on: %d bytes are wrong, %v", differing(string(tail), big[4_321:]), err)
	}
}

// A listing of many pages; and of one from which something went meanwhile.
func TestLongListing(t *testing.T) {
	east := newSite(t, "east", fakecloud.Options{})
	project := east.session.Identity().ProjectID
	hand := east.fake.Hand()
	data := fakecloud.Bytes([]byte("x"))
	const count = 10_100
	for i := range count {
		hand.Object("box", hex.EncodeToString([]byte{byte(i >> 16), byte(i >> 8), byte(i)}), data, nil)
	}
	within := syncer.Key{Kind: Container, ID: project + "/box"}
	east.fake.ResetCounters()
	if n := len(east.all(t, Object, within)); n != count || east.fake.Calls()[fakecloud.Call{Service: fakecloud.ObjectStore, Method: "GET", Route: "/v1/{account}/{container}"}] != 2 {
		t.Errorf("%d objects of %d, by %v", n, count, east.fake.Calls())
	}
	// The last page is lost: that is told. An object is lost: it was deleted.
	f := east.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "GET", Path: "format=json&marker", Nth: 1, What: fakecloud.EmptyPage})
	if _, err := east.List(t.Context(), Object, within, func(syncer.Object) error { return nil }); err == nil || !strings.Contains(err.Error(), "of 10100 rows") {
		t.Errorf("without its last page: %v", err)
	}
	f.Remove()
	east.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Method: "GET", Path: "format=json&marker", Nth: 1, What: fakecloud.Pass, Do: func() {
		a, address, err := east.at(project + "/box/" + hex.EncodeToString([]byte{0, 0x27, 0x20}))
		if err == nil {
			_, err = a.ask(t.Context(), http.MethodDelete, address, nil)
		}
		if err != nil {
			t.Error(err)
		}
		for _, name := range []string{"0000", "0001"} { // behind what was listed
			hand.Object("box", name, data, nil)
		}
	}})
	if n := len(east.all(t, Object, within)); n != count-1 {
		t.Errorf("%d objects of %d, one of which went", n, count)
	}
}

// A store that does not say what it can, and one without large objects.
func TestCapabilities(t *testing.T) {
	for name, c := range map[string]struct {
		answer map[string]row
		want   capabilities
	}{
		"nothing": {map[string]row{}, capabilities{known: true, maxFile: defaultMaxFile, maxSegments: defaultMaxSegments}},
		"all": {map[string]row{"swift": {"max_file_size": float64(7), "policies": []any{map[string]any{"name": "gold", "default": true}, map[string]any{"name": "lead"}}},
			"slo": {"max_manifest_segments": float64(9)}, "object_versioning": {}}, capabilities{known: true, large: true, versions: true, maxFile: 7, maxSegments: 9}},
	} {
		got := readCapabilities(c.answer)
		policies := got.policies
		got.policies = nil
		if got.known != c.want.known || got.large != c.want.large || got.versions != c.want.versions || got.archives || got.maxFile != c.want.maxFile || got.maxSegments != c.want.maxSegments {
			t.Errorf("%s: %+v", name, got)
		}
		if name == "all" && (!policies["gold"] || policies["lead"] || len(policies) != 2) {
			t.Errorf("policies: %v", policies)
		}
	}
	west := newSite(t, "west", fakecloud.Options{})
	west.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Path: "/info$", What: fakecloud.Answer, Status: 404})
	w := &swift{}
	for range 2 {
		got, err := w.capabilities(t.Context(), west.Side)
		if err != nil || got.known || !got.large || got.maxFile != defaultMaxFile {
			t.Errorf("%+v, %v", got, err)
		}
	}
	box := west.session.Identity().ProjectID + "/box"
	west.swiftCall(t, http.MethodPut, box, nil, nil)
	if o, err := (containers{w}).head(t.Context(), west.Side, box); err != nil || o.Fields["policy"] != "" {
		t.Errorf("a policy of which nothing is known is compared: %v, %v", o.Fields, err)
	}
	if got := (capabilities{versions: true}).able([]string{"versions", "archive", "read"}); !slices.Equal(got, []string{"versions", "read"}) {
		t.Errorf("%q", got)
	}
	if got := (capabilities{archives: true}).able([]string{"versions", "archive", "read"}); !slices.Equal(got, []string{"archive", "read"}) {
		t.Errorf("%q", got)
	}
	// What is no answer is asked for again.
	west = newSite(t, "west", fakecloud.Options{})
	west.fake.Inject(fakecloud.Fault{Service: fakecloud.ObjectStore, Path: "/info$", What: fakecloud.Answer, Status: 403, Times: 1})
	w = &swift{}
	if got, err := w.capabilities(t.Context(), west.Side); err != nil || got.known {
		t.Errorf("%+v, %v", got, err)
	}
}

// What the services keep in the object store is not the users'; a customer's
// project of that name is.
func TestContainersOfServices(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	domain := east.make(t, identity, "domains", "domain", row{"name": "acme"})
	theirs := east.make(t, identity, "projects", "project", row{"name": "service", "domain_id": domain})
	var own string
	for _, o := range east.all(t, Project, syncer.Key{}) {
		if o.Name == "service" && o.Stance == syncer.Given {
			own = o.ID
		}
	}
	if own == "" {
		own = east.make(t, identity, "projects", "project", row{"name": "service"})
		west.make(t, identity, "projects", "project", row{"name": "service"})
	}
	east.swiftCall(t, http.MethodPut, own+"/glance", nil, nil)
	east.upload(t, own+"/glance/image", "content", nil)
	east.swiftCall(t, http.MethodPut, theirs+"/box", nil, nil)
	east.upload(t, theirs+"/box/obj", "content", nil)
	r := run(t, engine(t, east, west, onlyObjects), syncer.Options{}, syncer.Unsupported)
	if n := r.Plan.Count(syncer.Unsupported); n != 1 || r.Outcome() != syncer.Clean {
		t.Errorf("%d containers are named, outcome %d", n, r.Outcome())
	}
	var boxes []string
	for _, p := range west.all(t, Project, syncer.Key{}) {
		for _, box := range west.all(t, Container, p.Key) {
			boxes = append(boxes, box.Name)
			if objects := west.all(t, Object, box.Key); len(objects) != 1 {
				t.Errorf("%s has %d objects", box.Name, len(objects))
			}
		}
	}
	if !slices.Equal(boxes, []string{"service/box"}) {
		t.Errorf("the west has %q", boxes)
	}
}

// A policy that the target lacks is not asked for, and the difference shows.
func TestPolicyOfTheSource(t *testing.T) {
	west := newSite(t, "west", fakecloud.Options{})
	project := west.session.Identity().ProjectID
	want := syncer.Object{Key: syncer.Key{Kind: Container, ID: "theirs/box"}, Within: syncer.Key{Kind: Project, ID: project}, Marker: syncer.Marker{Site: "east", ID: "theirs/box"},
		Fields: syncer.Fields{"name": "box", "policy": "gold", "metadata": map[string]any{}, "versions": false, "archive": nil, "read": []any{}, "write": []any{}}}
	want.Natural = []any{syncer.Ref{Key: want.Within}, "box"}
	made, err := west.Create(t.Context(), want, nil)
	if err != nil || !slices.Equal(syncer.Diff(made.Fields, want.Fields), []string{"policy"}) || made.Marker != want.Marker {
		t.Errorf("made %+v, %v", made, err)
	}
	if found, err := west.Find(t.Context(), want); err != nil || found.ID != made.ID {
		t.Errorf("found %+v, %v", found, err)
	}
	// Another's is not found, and not made anew either.
	want.Marker.ID = "theirs/other"
	if _, err := west.Find(t.Context(), want); err == nil {
		t.Error("another's container was found")
	}
	if _, err := west.Create(t.Context(), want, nil); err == nil {
		t.Error("another's container was written over")
	}
}

// Accounts of others need an endpoint that names ours.
func TestAccounts(t *testing.T) {
	east := newSite(t, "east", fakecloud.Options{})
	own := east.session.Identity().ProjectID
	a, err := east.account(own)
	if err != nil || !strings.HasSuffix(a.base, "/v1/AUTH_"+own) {
		t.Errorf("%q, %v", a.base, err)
	}
	if a, err = east.account("another"); err != nil || !strings.HasSuffix(a.base, "/v1/AUTH_another") {
		t.Errorf("%q, %v", a.base, err)
	}
	yaml := strings.Replace(east.fake.YAML("east"), "    interface: public", "    interface: public\n    object_store_endpoint_override: "+strings.TrimSuffix(a.base, "/AUTH_another"), 1)
	bare := openSide(t, "east", yaml, Options{Site: "east"})
	if _, err := bare.account("another"); err == nil {
		t.Error("an account was guessed")
	}
	if _, err := cloud.Download(t.Context(), a.c, a.base+"/none/none", 0); !cloud.NotFound(err) {
		t.Errorf("%v", err)
	}
}
