package openstack

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// Keystone's database ends in the middle of a run, at either site; the real
// services have the same test.
func TestKeystoneOutage(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	outages(t, east, west, func(_ *testing.T, s site) { s.fake.StopKeystoneDatabase() }, func(_ *testing.T, s site) { s.fake.StartKeystoneDatabase() })
}

// striking is a gate that strikes at the n-th write.
type striking struct {
	mu     sync.Mutex
	left   int
	strike func()
}

func (g *striking) Allow() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left--; g.left == 0 {
		g.strike()
	}
	return nil
}

func outages(t *testing.T, east, west site, stop, start func(*testing.T, site)) {
	for name, struck := range map[string]site{"primary": east, "standby": west} {
		t.Run(name, func(t *testing.T) { outage(t, east, west, struck, "outage-"+name, stop, start) })
	}
}

func outage(t *testing.T, east, west, struck site, name string, stop, start func(*testing.T, site)) {
	project, _ := customer(t, east, name)
	domain := east.objectNamed(t, Domain, name).ID
	for n := range 6 {
		east.make(t, identity, "groups", "group", row{"name": fmt.Sprintf("%s-%d", name, n), "domain_id": domain})
		east.make(t, neutron, "networks", "network", row{"name": fmt.Sprintf("%s-%d", name, n), "project_id": project})
	}
	gate := &striking{left: 4, strike: func() { stop(t, struck) }}
	var back sync.Once
	restore := func() { back.Do(func() { start(t, struck) }) }
	t.Cleanup(restore)
	e := engine(t, east, west, func(c *syncer.Config) {
		c.Filter.Kinds = []syncer.Kind{Domain, Project, Group, User, Network}
		c.Gate, c.Attempts = gate, 2
	})
	began := time.Now()
	r, err := e.Run(t.Context(), syncer.Options{})
	if gate.left > 0 {
		t.Fatalf("the run has written too little to be struck: %v", err)
	}
	if err == nil {
		t.Logf("struck, the run took %v: outcome %d, %d failures of %d changes", time.Since(began).Round(time.Millisecond), r.Outcome(), len(r.Failures), r.Plan.Acts())
		for _, f := range r.Failures {
			t.Logf("%s %s: %s", f.Verb, f.Name, f.Reason)
		}
	} else {
		t.Logf("struck, the run took %v: %v", time.Since(began).Round(time.Millisecond), err)
	}
	if struck.Site() == west.Site() && err == nil && r.Outcome() != syncer.Failed {
		t.Errorf("the target's Keystone has lost its database, and the outcome is %d", r.Outcome())
	}

	// A run that begins meanwhile knows nothing, and does nothing.
	began = time.Now()
	r, err = e.Run(t.Context(), syncer.Options{Retry: true})
	if err == nil && (r.Outcome() != syncer.Failed || r.Plan.Count(syncer.Delete) > 0) {
		t.Errorf("without Keystone's database the outcome of a run is %d: %+v", r.Outcome(), r.Plan.Changes)
	}
	t.Logf("meanwhile, a run took %v: %v", time.Since(began).Round(time.Millisecond), err)

	restore()
	awaitKeystone(t, struck)
	run(t, e, syncer.Options{Retry: true}, syncer.Unsupported)
	v, err := e.Verify(t.Context(), syncer.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range v.Mismatches {
		t.Errorf("not alike: %+v", m)
	}
	for _, kind := range []syncer.Kind{Group, Network} {
		for n := range 6 {
			called := fmt.Sprintf("%s-%d", name, n)
			if kind == Network {
				called = name + "/" + called
			}
			west.objectNamed(t, kind, called) // one, and no more
		}
	}
	if again := run(t, e, syncer.Options{Audit: true}, syncer.Unsupported); again.Plan.Acts() != 0 {
		t.Errorf("something is left to do: %+v", again.Plan.Changes)
	}
}

// awaitKeystone waits until it has its database again.
func awaitKeystone(t *testing.T, s site) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := s.List(t.Context(), Role, syncer.Key{}, func(syncer.Object) error { return nil })
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
