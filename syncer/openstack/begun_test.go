package openstack

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// What our requests have made is ours, whatever became of their answers, and
// of what was asked behind or before them: it is neither made twice nor taken
// for another's, which would never be deleted.
func TestBegunIsOurs(t *testing.T) {
	lost := func(service, method, path string) fakecloud.Fault {
		return fakecloud.Fault{Service: service, Method: method, Path: path, Times: 1, What: fakecloud.Drop, Late: true}
	}
	// refused strikes all attempts that package cloud makes.
	refused := func(service, method, path string) fakecloud.Fault {
		return fakecloud.Fault{Service: service, Method: method, Path: path, Times: 4, What: fakecloud.Answer, Status: http.StatusServiceUnavailable}
	}
	for name, c := range map[string]struct {
		kind  syncer.Kind
		named string // what the object's name holds
		fault fakecloud.Fault
	}{
		"flavor, answer lost":                {Flavor, "large", lost(fakecloud.Compute, http.MethodPost, "/flavors$")},
		"volume type, answer lost":           {VolumeType, "gold", lost(fakecloud.BlockStorage, http.MethodPost, "/types$")},
		"keypair, not looked at":             {Keypair, "laptop", refused(fakecloud.Compute, http.MethodGet, "/os-keypairs/")},
		"assignment, not looked for":         {Assignment, "acme-ann", refused(fakecloud.Identity, http.MethodHead, "/roles/")},
		"assignment, answer lost":            {Assignment, "acme-ann", lost(fakecloud.Identity, http.MethodPut, "/roles/")},
		"image, its id is burnt":             {Image, "burnt", refused(fakecloud.Image, http.MethodGet, "/images/BURNT$")},
		"image member, its state is refused": {ImageMember, "member of", fakecloud.Fault{Service: fakecloud.Image, Method: http.MethodPut, Path: "/members/", Times: 1, What: fakecloud.Answer, Status: http.StatusForbidden}},
		"manifest, answer lost":              {Object, "/obj", lost(fakecloud.ObjectStore, http.MethodPut, "multipart-manifest=put")},
		"manifest, segments not tidied":      {Object, "/obj", fakecloud.Fault{Service: fakecloud.ObjectStore, Method: http.MethodGet, Path: "/box_draas_segments\\?.*prefix", Nth: 2, What: fakecloud.Answer, Status: http.StatusForbidden}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			east, west, in := twoBoxes(t, random(10_500))
			west.options.SegmentAbove, west.options.SegmentSize = 4000, 1000
			project, _, _ := strings.Cut(in, "/")
			c.fault.Path = strings.Replace(c.fault.Path, "BURNT", belongs(t, east, west, project), 1)
			e := engine(t, east, west, func(k *syncer.Config) {
				k.Filter.Kinds = []syncer.Kind{Domain, Role, Project, User, Assignment, Flavor, Keypair, Image, ImageMember, Backend, VolumeType, Container, Object}
			})
			f := west.fake.Inject(c.fault)
			run(t, e, syncer.Options{})
			if f.Hits() == 0 {
				t.Fatal("the fault did not strike")
			}
			n := 0
			if err := e.Store.Each(c.kind, func(r syncer.Record) error {
				if strings.Contains(r.Name, c.named) {
					if n++; !r.Created || r.Intent {
						t.Errorf("it counts as created: %t, as begun: %t", r.Created, r.Intent)
					}
				}
				return nil
			}); err != nil || n != 1 {
				t.Errorf("%d records, %v", n, err)
			}
			west.fake.Heal()
			quiet(t, e)
		})
	}
}

// An answer of 200 that does not show what was asked for shows nothing: what was
// read with it is not believed, and what was made is looked for.
func TestAnswersThatShowNothing(t *testing.T) {
	for name, c := range map[string]struct {
		override, path string // the service's
		want           func(s site) syncer.Object
	}{
		"server group": {"compute_endpoint_override", "/compute/v2.1", func(s site) syncer.Object {
			project := ref(Project, s.session.Identity().ProjectID)
			return syncer.Object{Key: syncer.Key{Kind: ServerGroup, ID: "one"}, Natural: []any{project, "group"},
				Fields: syncer.Fields{"name": "group", "policy": "affinity", "rules": map[string]any{}, "project": project}}
		}},
		"keypair": {"compute_endpoint_override", "/compute/v2.1", func(s site) syncer.Object {
			return keypair(syncer.Key{Kind: User, ID: s.session.Identity().UserID}, row{"name": "laptop", "type": "ssh", "public_key": publicKey})
		}},
		"image": {"image_endpoint_override", "/image", func(site) syncer.Object {
			const id = "a4d5a42f-0a0f-4d5d-9f5c-6f1f8b1c2d3e"
			return syncer.Object{Key: syncer.Key{Kind: Image, ID: id}, Natural: []any{id}, Marker: syncer.Marker{Site: "east", ID: id},
				Fields: syncer.Fields{"name": "image", "disk_format": "raw", "container_format": "bare"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			blank := true
			west := throughTo(t, "west", c.override, c.path, func(*http.Request) {}, func(r *http.Response) {
				if blank && r.StatusCode/100 == 2 {
					answer(r, r.StatusCode, "{}")
				}
			})
			want := c.want(west)
			var uncertain *syncer.Uncertain
			if o, err := west.Create(t.Context(), want, nil); !errors.As(err, &uncertain) {
				t.Errorf("made: %s, %v", o.Key, err)
			}
			blank = false
			found, err := west.Find(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			blank = true
			if o, err := west.Read(t.Context(), found); err == nil {
				t.Errorf("read: %+v", o)
			}
		})
	}
}

// belongs makes, for a project, one of each kind that takes several requests. The
// id of one image was another's at the west.
func belongs(t *testing.T, east, west site, project string) (burnt string) {
	t.Helper()
	user := east.objectNamed(t, User, "acme-ann").ID
	role := east.make(t, identity, "roles", "role", row{"name": "operator"})
	east.make(t, nova, "flavors", "flavor", row{"name": "large", "ram": 512, "vcpus": 1, "disk": 1})
	east.make(t, cinder, "types", "volume_type", row{"name": "gold"})
	east.make(t, nova, "os-keypairs", "keypair", row{"name": "laptop", "type": "ssh", "public_key": publicKey, "user_id": user})
	image := makeImage(t, east, "shared", "the content of an image", row{"visibility": "shared"})
	burnt = makeImage(t, east, "burnt", "the content of another", nil)
	makeImage(t, west, "before", "of an id that was had", row{"id": burnt})
	for _, q := range []struct {
		s            site
		h            api
		method, path string
		body         any
	}{
		{east, identity, http.MethodPut, "projects/" + project + "/users/" + user + "/roles/" + role, nil},
		{east, glance, http.MethodPost, "images/" + image + "/members", row{"member": project}},
		{east, glance, http.MethodPut, "images/" + image + "/members/" + project, row{"status": "accepted"}},
		{west, glance, http.MethodDelete, "images/" + burnt, nil},
	} {
		if _, err := q.s.call(t.Context(), q.h, q.method, q.path, q.body, nil); err != nil {
			t.Fatal(err)
		}
	}
	return burnt
}
