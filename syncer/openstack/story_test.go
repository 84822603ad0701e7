package openstack

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// A whole life of a replication; the real services have the same one.
func TestStory(t *testing.T) {
	story(t, newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{}))
}

// belongings are what the story's customer has.
type belongings struct {
	project, other  string // acme-web, acme-dev
	image, zone     string
	static, dynamic string // objects, as content asks for them
}

// build makes it: of every service something, and of each way to refer to others.
func build(t *testing.T, s site) belongings {
	t.Helper()
	e := belongings{project: tenant(t, s, "acme"), other: s.objectNamed(t, Project, "acme-dev").ID}
	put := func(h api, path string, body row) {
		t.Helper()
		if _, err := s.call(t.Context(), h, http.MethodPut, path, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	put(neutron, "quotas/"+e.project, row{"quota": row{"network": 33}})
	put(nova, "os-quota-sets/"+e.project, row{"quota_set": row{"cores": 77, "force": true}})
	put(cinder, "os-quota-sets/"+e.project, row{"quota_set": row{"volumes": 44}})
	flavor := s.make(t, nova, "flavors", "flavor", row{"name": "acme.small", "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": false})
	for path, body := range map[string]row{
		"flavors/" + flavor + "/os-extra_specs": {"extra_specs": row{"hw:cpu_policy": "dedicated"}},
		"flavors/" + flavor + "/action":         {"addTenantAccess": row{"tenant": e.project}},
	} {
		if _, err := s.call(t.Context(), nova, http.MethodPost, path, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.make(t, nova, "os-keypairs", "keypair", row{"name": "laptop", "type": "ssh", "public_key": publicKey, "user_id": s.objectNamed(t, User, "acme-ann").ID})
	if _, err := s.call(t.Context(), cinder, http.MethodPost, "qos-specs", row{"qos_specs": row{"name": "acme.fast", "consumer": "front-end", "total_iops_sec": "100"}}, nil); err != nil {
		t.Fatal(err)
	}
	e.image = makeImage(t, s, "web", strings.Repeat("the content of an image ", 5000), row{"owner": e.project, "visibility": "shared", "os_distro": "debian"})
	if _, err := s.call(t.Context(), glance, http.MethodPost, "images/"+e.image+"/members", row{"member": e.other}, nil); err != nil {
		t.Fatal(err)
	}
	var manifest []row
	s.swiftCall(t, http.MethodPut, e.project+"/parts", nil, nil)
	s.swiftCall(t, http.MethodPut, e.project+"/whole", map[string]string{"X-Container-Read": ".r:*", "X-Container-Meta-Colour": "grün"}, nil)
	for name, part := range map[string]string{"0": "one ", "1": "two ", "2": "three"} {
		s.upload(t, e.project+"/parts/seg/"+name, part, nil)
	}
	for _, name := range []string{"0", "1", "2"} {
		manifest = append(manifest, row{"path": "/parts/seg/" + name})
	}
	e.static, e.dynamic = "/whole/static", "/whole/dynamic"
	s.swiftCall(t, http.MethodPut, e.project+e.static+manifestWrite, map[string]string{"Content-Type": "text/x-whole"}, manifest)
	s.upload(t, e.project+e.dynamic, "", map[string]string{manifestOf: "parts/seg%2F"})
	e.zone = s.newZone(t, e.project, row{"name": "acme.example.", "email": "dns@acme.example", "ttl": 600})
	for _, set := range []row{
		{"name": "www.acme.example.", "type": "A", "records": []string{"192.0.2.7", "192.0.2.8"}, "ttl": 60},
		{"name": "acme.example.", "type": "TXT", "records": []string{`"v=spf1 -all"`}},
	} {
		s.dns(t, http.MethodPost, "zones/"+e.zone+"/recordsets", set)
	}
	return e
}

// storied runs, allows what the story expects, and looks at the whole of both
// sides afterwards.
func storied(t *testing.T, e *syncer.Engine, o syncer.Options, expected ...syncer.Verb) *syncer.Result {
	t.Helper()
	expected = append(expected, syncer.Unsupported)
	r := run(t, e, o, expected...)
	if slices.Contains(expected, syncer.Held) || slices.Contains(expected, syncer.Drift) {
		return r
	}
	v, err := e.Verify(t.Context(), syncer.VerifyOptions{Bodies: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range v.Mismatches {
		t.Errorf("not alike: %+v", m)
	}
	return r
}

// acts are what a plan has to do, by what is done.
func acts(r *syncer.Result) map[syncer.Verb]int {
	n := make(map[syncer.Verb]int)
	for _, c := range r.Plan.Changes {
		if c.Verb.Acts() {
			n[c.Verb]++
		}
	}
	return n
}

func wantActs(t *testing.T, what string, r *syncer.Result, want map[syncer.Verb]int) {
	t.Helper()
	if got := acts(r); !maps.Equal(got, want) {
		t.Errorf("%s: planned %v, wanted %v", what, got, want)
		for _, c := range r.Plan.Changes {
			if c.Verb.Acts() {
				t.Logf("%s %s %s: %s %+v", c.Verb, c.Key, c.Name, c.Reason, c.Fields)
			}
		}
	}
}

func story(t *testing.T, east, west site) {
	have := build(t, east)
	now, overwrite := time.Now(), false
	configure := func(c *syncer.Config) {
		c.Now = func() time.Time { return now }
		c.Policy = func(k syncer.Kind) syncer.Policy {
			p := syncer.DefaultPolicy(k)
			p.Overwrite = overwrite
			return p
		}
	}
	e := engine(t, east, west, configure)
	there := carried(t, east, west, e, have)

	changed(t, east, have)
	wantActs(t, "changed", storied(t, e, syncer.Options{Epoch: 1}), map[syncer.Verb]int{syncer.Update: 4, syncer.Create: 1})

	// By hand, at the target.
	net := west.objectNamed(t, Network, "acme-web/inside")
	west.edit(t, "networks/"+net.ID, row{"network": row{"description": "by hand"}})
	if r := storied(t, e, syncer.Options{Epoch: 1}, syncer.Drift); r.Plan.Count(syncer.Drift) != 1 || r.Outcome() != syncer.Differs {
		t.Errorf("drift is not told: %v, %+v", r.Outcome(), acts(r))
	}
	overwrite = true
	wantActs(t, "drift", storied(t, e, syncer.Options{Epoch: 1}), map[syncer.Verb]int{syncer.Update: 1})

	// Deletions have to be missed twice, and ten minutes apart.
	east.swiftCall(t, http.MethodDelete, have.project+have.dynamic, nil, nil)
	key := "os-keypairs/laptop?user_id=" + east.objectNamed(t, User, "acme-ann").ID
	if _, err := east.call(t.Context(), nova, http.MethodDelete, key, nil, nil); err != nil {
		t.Fatal(err)
	}
	wantActs(t, "missed once", storied(t, e, syncer.Options{Epoch: 1}, syncer.Held), map[syncer.Verb]int{})
	now = now.Add(9 * time.Minute)
	wantActs(t, "missed for nine minutes", storied(t, e, syncer.Options{Epoch: 1}, syncer.Held), map[syncer.Verb]int{})
	if got := west.content(t, there+have.dynamic); got != "one two three" {
		t.Errorf("in its grace the object is %q", got)
	}
	now = now.Add(2 * time.Minute)
	storied(t, e, syncer.Options{Epoch: 1}, syncer.Held)
	west.missing(t, Object, there+have.dynamic)

	// The records are lost: the markers tell what is what, and whose.
	e = engine(t, east, west, configure)
	wantActs(t, "records lost", storied(t, e, syncer.Options{Epoch: 1}), map[syncer.Verb]int{})
	mail := east.objectNamed(t, SecurityGroup, "acme-web/mail")
	if _, err := east.call(t.Context(), neutron, http.MethodDelete, "security-groups/"+mail.ID, nil, nil); err != nil {
		t.Fatal(err)
	}
	storied(t, e, syncer.Options{Epoch: 1}, syncer.Held)
	now = now.Add(11 * time.Minute)
	wantActs(t, "gone, with records that were lost", storied(t, e, syncer.Options{Epoch: 1}, syncer.Held), map[syncer.Verb]int{syncer.Delete: 1})
	turned(t, east, west, configure)
}

// carried makes the first run, and looks at what came.
func carried(t *testing.T, east, west site, e *syncer.Engine, have belongings) (there string) {
	t.Helper()
	storied(t, e, syncer.Options{Epoch: 1})
	there = west.objectNamed(t, Project, "acme-web").ID
	for _, object := range []string{have.static, have.dynamic} {
		if got := west.content(t, there+object); got != "one two three" {
			t.Errorf("%s is %q", object, got)
		}
	}
	if i := west.get(t, Image, have.image); i.Project != there || i.Content != east.get(t, Image, have.image).Content {
		t.Errorf("the image's copy: %+v", i)
	}
	if w := west.sets(t)["www.acme.example. A"]; !slices.Equal(texts(w.Fields["records"]), []string{"192.0.2.7", "192.0.2.8"}) {
		t.Errorf("www: %+v", w)
	}
	wantActs(t, "a second run", storied(t, e, syncer.Options{Epoch: 1, Audit: true}), map[syncer.Verb]int{})
	return there
}

// changed changes a few things at the source, and makes one.
func changed(t *testing.T, s site, have belongings) {
	t.Helper()
	net := s.objectNamed(t, Network, "acme-web/net")
	s.edit(t, "networks/"+net.ID, row{"network": row{"name": "inside"}})
	if err := s.patch(t.Context(), have.image, []any{row{"op": "replace", "path": "/os_distro", "value": "fedora"}}); err != nil {
		t.Fatal(err)
	}
	s.dns(t, http.MethodPatch, "zones/"+have.zone, row{"ttl": 900})
	s.swiftCall(t, http.MethodPost, have.project+"/whole", map[string]string{"X-Container-Meta-Colour": "rot"}, nil)
	s.make(t, neutron, "security-groups", "security_group", row{"name": "mail", "project_id": have.project})
}

// edit changes a row of Neutron's.
func (s site) edit(t *testing.T, path string, body row) {
	t.Helper()
	if _, err := s.call(t.Context(), neutron, http.MethodPut, path, body, nil); err != nil {
		t.Fatal(err)
	}
}

// turned lets the west be the source: held until somebody accepts it, what was
// made there meanwhile comes, and nothing is there twice.
func turned(t *testing.T, east, west site, configure func(*syncer.Config)) {
	t.Helper()
	net := west.objectNamed(t, Network, "acme-web/inside")
	west.edit(t, "networks/"+net.ID, row{"network": row{"description": "changed in the west"}})
	west.make(t, neutron, "security-groups", "security_group", row{"name": "meanwhile", "project_id": west.objectNamed(t, Project, "acme-web").ID})
	before := len(east.all(t, SecurityGroup, syncer.Key{}))
	back := engine(t, west, east, configure)
	if _, err := back.Run(t.Context(), syncer.Options{Epoch: 2}); !errors.Is(err, syncer.ErrHeld) {
		t.Fatalf("the turned direction is not held: %v", err)
	}
	storied(t, back, syncer.Options{Epoch: 2, Accept: &syncer.Turn{Default: syncer.ChooseDrop}})
	if now := east.objectNamed(t, Network, "acme-web/inside"); now.Fields["description"] != "changed in the west" {
		t.Errorf("what was changed meanwhile is lost: %v", now.Fields)
	}
	east.objectNamed(t, SecurityGroup, "acme-web/meanwhile")
	if after := len(east.all(t, SecurityGroup, syncer.Key{})); after != before+1 {
		t.Errorf("%d security groups have become %d", before, after)
	}
	wantActs(t, "after the turn", storied(t, back, syncer.Options{Epoch: 2, Audit: true}), map[syncer.Verb]int{})
}
