package openstack

import (
	"maps"
	"net/http"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// Copied users log in while their site is active, as the source's could, and
// not while it stands by; no run has anything to say about it.
func TestUsersWaitForTheirSite(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	east.make(t, identity, "users", "user", row{"name": "alice", "domain_id": "default"})
	east.make(t, identity, "users", "user", row{"name": "bob", "domain_id": "default", "enabled": false})
	west.make(t, identity, "users", "user", row{"name": "carol", "domain_id": "default"})
	e := engine(t, east, west, func(c *syncer.Config) { c.Filter.Kinds = []syncer.Kind{Domain, User} })
	run(t, e, syncer.Options{})

	type state struct{ enabled, waits bool }
	expect := func(what string, want map[string]state) []Copy {
		t.Helper()
		copies, err := west.Copies(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		have := make(map[string]state)
		for _, c := range copies {
			have[c.Name] = state{c.Enabled, c.Waits}
		}
		if !maps.Equal(have, want) {
			t.Errorf("%s: %v, not %v", what, have, want)
		}
		if again := run(t, e, syncer.Options{Audit: true}); again.Plan.Acts() != 0 || again.Plan.Outcome() != syncer.Clean {
			t.Errorf("%s: a run says %+v", what, again.Plan.Changes)
		}
		return copies
	}
	each := func(do func(*Copy) (bool, error), copies []Copy, want int) {
		t.Helper()
		n := 0
		for i := range copies {
			did, err := do(&copies[i])
			if err != nil {
				t.Fatal(err)
			}
			if did {
				n++
			}
		}
		if n != want {
			t.Errorf("%d were changed, not %d", n, want)
		}
	}
	release := func(c *Copy) (bool, error) { return west.Release(t.Context(), c) }
	hold := func(c *Copy) (bool, error) { return west.Hold(t.Context(), c) }

	standby := map[string]state{"Default/alice": {false, true}, "Default/bob": {false, false}}
	each(release, expect("standby", standby), 2)
	active := map[string]state{"Default/alice": {true, false}, "Default/bob": {false, false}}
	each(release, expect("active", active), 0)
	each(hold, expect("active, asked again", active), 2)
	each(hold, expect("standby again", standby), 0)

	// Who is disabled at the site that is active is so for all.
	copies := expect("standby, asked again", standby)
	each(release, copies, 2)
	for _, c := range copies {
		if c.Name == "Default/alice" {
			if _, err := west.call(t.Context(), identity, http.MethodPatch, "users/"+c.ID, map[string]any{"user": row{"enabled": false}}, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if o := west.objectNamed(t, User, "alice"); o.Fields["enabled"] != false {
		t.Errorf("to who reads the west alice is %v", o.Fields)
	}
}
