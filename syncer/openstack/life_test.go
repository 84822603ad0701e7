package openstack

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// networksOnly carries what a network needs, and it.
func networksOnly(c *syncer.Config) {
	c.Filter.Kinds = []syncer.Kind{Domain, Project, Network}
}

func (s site) network(t *testing.T, name string) string {
	t.Helper()
	return s.make(t, neutron, "networks", "network", row{"name": name})
}

// names of a site's networks, in order.
func (s site) networks(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, o := range s.all(t, Network, syncer.Key{}) {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	return names
}

// What is gone at the source is deleted at the target, and nothing else is.
func TestDeletesWhatItMade(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	gone := east.network(t, "gone")
	east.network(t, "stays")
	west.network(t, "theirs")
	e := engine(t, east, west, networksOnly)
	run(t, e, syncer.Options{})
	if _, err := east.call(t.Context(), neutron, http.MethodDelete, "networks/"+gone, nil, nil); err != nil {
		t.Fatal(err)
	}
	run(t, e, syncer.Options{}, syncer.Held)
	run(t, e, syncer.Options{}, syncer.Held)
	if got, want := west.networks(t), []string{"admin/stays", "admin/theirs"}; !slices.Equal(got, want) {
		t.Errorf("the west has %q, wanted %q", got, want)
	}
}

// A listing that is cut short deletes nothing.
func TestUnknownIsNotEmpty(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	for _, name := range []string{"a", "b", "c"} {
		east.network(t, name)
	}
	e := engine(t, east, west, networksOnly)
	run(t, e, syncer.Options{})
	for _, fault := range []fakecloud.Fault{
		{Method: http.MethodGet, Path: "/v2.0/networks", What: fakecloud.Answer, Status: http.StatusInternalServerError},
		{Method: http.MethodGet, Path: "/v2.0/networks", What: fakecloud.Drop},
		{Method: http.MethodGet, Path: "/v2.0/networks", Download: 20, What: fakecloud.Drop},
	} {
		broken := east.fake.Inject(fault)
		for range 3 {
			r, err := e.Run(t.Context(), syncer.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Plan.Acts() != 0 || r.Outcome() != syncer.Failed {
				t.Errorf("with %+v there is something to do, or nothing is said: %v, %+v", fault, r.Outcome(), r.Plan.Changes)
			}
		}
		if broken.Hits() == 0 {
			t.Errorf("%+v has struck nothing", fault)
		}
		broken.Remove()
	}
	if got := west.networks(t); len(got) != 3 {
		t.Errorf("the west has %q", got)
	}
}

// Glance ends an upload that was cut off in its own time, and refuses another one
// until then.
func TestImageIsBeingSavedStill(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	id := makeImage(t, east, "cirros", "the content of an image", nil)
	refused := west.fake.Inject(fakecloud.Fault{Method: http.MethodPut, Path: "/file$", Status: http.StatusConflict, Times: 2})
	gone := west.fake.Inject(fakecloud.Fault{Method: http.MethodPut, Path: "/file$", Status: http.StatusGone, Times: 1})
	e := engine(t, east, west, func(c *syncer.Config) { c.Filter.Kinds = []syncer.Kind{Domain, Project, Image} })
	run(t, e, syncer.Options{})
	if refused.Hits() != 2 || gone.Hits() != 1 {
		t.Errorf("refused %d and %d times", refused.Hits(), gone.Hits())
	}
	if o := west.get(t, Image, id); o.Content.Size != int64(len("the content of an image")) {
		t.Errorf("the copy: %+v", o)
	}
}

// What others change at the target is named and left, or put right, by the
// policy.
func TestDrift(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	east.network(t, "net")
	overwrite := false
	e := engine(t, east, west, func(c *syncer.Config) {
		networksOnly(c)
		c.Policy = func(syncer.Kind) syncer.Policy { return syncer.Policy{Overwrite: overwrite} }
	})
	run(t, e, syncer.Options{})
	there := west.objectNamed(t, Network, "admin/net")
	if err := west.fake.Hand().Change("network", there.ID, fakecloud.Fields{"description": "by hand"}); err != nil {
		t.Fatal(err)
	}
	r := run(t, e, syncer.Options{}, syncer.Drift)
	if r.Plan.Count(syncer.Drift) != 1 || r.Outcome() != syncer.Differs {
		t.Errorf("drift is not told: %+v", r.Plan.Changes)
	}
	overwrite = true
	run(t, e, syncer.Options{})
	if now := west.objectNamed(t, Network, "admin/net"); now.Fields["description"] != "" {
		t.Errorf("it is not put right: %v", now.Fields["description"])
	}
}

// Records that are lost are made anew from the clouds: nothing is made twice,
// and what was made may be deleted as before.
func TestRecordsLost(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	tenant(t, east, "acme")
	run(t, engine(t, east, west, nil), syncer.Options{}, syncer.Unsupported)
	before := west.fake.Dump(nil)
	e := engine(t, east, west, nil)
	if r := run(t, e, syncer.Options{}, syncer.Unsupported); r.Plan.Acts() != 0 {
		t.Errorf("there is something to do: %+v", r.Plan.Changes)
	}
	if after := west.fake.Dump(nil); !slices.Equal(before, after) {
		t.Error("the west is not as it was")
	}
}

// A site whose name is longer than what fits into a tag is known again: what was
// made there before is not made twice, and goes when the source's goes.
func TestLongNamesOfSites(t *testing.T) {
	east, west := newSite(t, "the-eastern-site-of-acme", fakecloud.Options{}), newSite(t, "the-western-site-of-acme", fakecloud.Options{})
	id := east.network(t, "net")
	run(t, engine(t, east, west, networksOnly), syncer.Options{Epoch: 1})
	back := engine(t, west, east, networksOnly) // with no records
	if _, err := back.Run(t.Context(), syncer.Options{Epoch: 2}); !errors.Is(err, syncer.ErrHeld) {
		t.Errorf("the turned direction is not held: %v", err)
	}
	e := engine(t, east, west, networksOnly) // nor this
	if r := run(t, e, syncer.Options{Epoch: 3}); r.Plan.Acts() != 0 {
		t.Errorf("there is something to do: %+v", r.Plan.Changes)
	}
	if err := east.fake.Hand().Remove("network", id); err != nil {
		t.Fatal(err)
	}
	run(t, e, syncer.Options{Epoch: 3})
	if got := west.networks(t); len(got) != 0 {
		t.Errorf("the west has %q", got)
	}
}

// After a failover the other direction is held until somebody accepts it; then
// what was made meanwhile comes back, and nothing is there twice.
func TestTurns(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	east.network(t, "before")
	run(t, engine(t, east, west, networksOnly), syncer.Options{Epoch: 1})
	west.network(t, "meanwhile")
	there := west.objectNamed(t, Network, "admin/before")
	if err := west.fake.Hand().Change("network", there.ID, fakecloud.Fields{"description": "changed there"}); err != nil {
		t.Fatal(err)
	}
	back := engine(t, west, east, networksOnly)
	if _, err := back.Run(t.Context(), syncer.Options{Epoch: 2}); !errors.Is(err, syncer.ErrHeld) {
		t.Fatalf("the turned direction is not held: %v", err)
	}
	if got := east.networks(t); !slices.Equal(got, []string{"admin/before"}) {
		t.Fatalf("held, and the east has %q", got)
	}
	run(t, back, syncer.Options{Epoch: 2, Accept: &syncer.Turn{Default: syncer.ChooseDrop}})
	if got, want := east.networks(t), []string{"admin/before", "admin/meanwhile"}; !slices.Equal(got, want) {
		t.Errorf("the east has %q, wanted %q", got, want)
	}
	if now := east.objectNamed(t, Network, "admin/before"); now.Fields["description"] != "changed there" {
		t.Errorf("what was changed meanwhile is lost: %v", now.Fields)
	}
	if again := run(t, back, syncer.Options{Epoch: 2, Audit: true}); again.Plan.Acts() != 0 {
		t.Errorf("something is left to do: %+v", again.Plan.Changes)
	}
}

// A project's quota comes before what it has to have room for, in one run.
func TestQuotaComesFirst(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	project := east.make(t, identity, "projects", "project", row{"name": "large"})
	if _, err := east.call(t.Context(), neutron, http.MethodPut, "quotas/"+project, map[string]any{"quota": row{"security_group": 30}}, nil); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		east.make(t, neutron, "security-groups", "security_group", row{"name": string(rune('a' + n)), "project_id": project})
	}
	e := engine(t, east, west, func(c *syncer.Config) {
		c.Filter.Kinds = []syncer.Kind{Domain, Project, SecurityGroup, "network-quota"}
	})
	run(t, e, syncer.Options{})
	if n := len(west.all(t, SecurityGroup, syncer.Key{})); n < 21 {
		t.Errorf("the west has %d groups", n)
	}
}

// A volume type is made after the project is; its limits are in force when the
// run is over, and go again with the source's.
func TestQuotaOfVolumeTypes(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	project := east.make(t, identity, "projects", "project", row{"name": "large"})
	east.make(t, cinder, "types", "volume_type", row{"name": "gold"})
	east.make(t, cinder, "types", "volume_type", row{"name": "iron"})
	limit := func(limits row) {
		t.Helper()
		if _, err := east.call(t.Context(), cinder, http.MethodPut, "os-quota-sets/"+project, map[string]any{"quota_set": limits}, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(row{"volumes": 44, "volumes_gold": 7, "gigabytes_gold": 100})
	e := engine(t, east, west, func(c *syncer.Config) {
		c.Filter.Kinds = []syncer.Kind{Domain, Project, Backend, VolumeQoS, VolumeType, "volume-quota"}
	})
	holds := func(want row) {
		t.Helper()
		var answer map[string]row
		if _, err := west.call(t.Context(), cinder, http.MethodGet, "os-quota-sets/"+west.objectNamed(t, Project, "large").ID, nil, &answer); err != nil {
			t.Fatal(err)
		}
		for name, limit := range want {
			if have, _ := answer["quota_set"].whole(name); fmt.Sprint(have) != fmt.Sprint(limit) {
				t.Errorf("%s is %v, not %v", name, have, limit)
			}
		}
		if again := run(t, e, syncer.Options{Audit: true}); again.Plan.Acts() != 0 {
			t.Errorf("something is left to do: %+v", again.Plan.Changes)
		}
	}
	run(t, e, syncer.Options{})
	holds(row{"volumes": 44, "volumes_gold": 7, "gigabytes_gold": 100, "snapshots_gold": -1, "volumes_iron": -1})
	limit(row{"gigabytes_gold": -1, "volumes_iron": 3})
	run(t, e, syncer.Options{Audit: true})
	holds(row{"volumes": 44, "volumes_gold": 7, "gigabytes_gold": -1, "volumes_iron": 3})
}
