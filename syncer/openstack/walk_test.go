package openstack

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

// small is what a walk carries: of each way to be written one.
func small(t *testing.T, s site) {
	t.Helper()
	project := s.make(t, identity, "projects", "project", row{"name": "web", "tags": []string{"gold"}})
	user := s.make(t, identity, "users", "user", row{"name": "ann"})
	role := s.make(t, identity, "roles", "role", row{"name": "operator"})
	if _, err := s.call(t.Context(), identity, http.MethodPut, "projects/"+project+"/users/"+user+"/roles/"+role, nil, nil); err != nil {
		t.Fatal(err)
	}
	net := s.make(t, neutron, "networks", "network", row{"name": "net", "description": "a net", "project_id": project})
	sub := s.make(t, neutron, "subnets", "subnet", row{"name": "sub", "network_id": net, "project_id": project, "ip_version": 4, "cidr": "10.8.0.0/24"})
	group := s.make(t, neutron, "security-groups", "security_group", row{"name": "web", "project_id": project})
	s.make(t, neutron, "security-group-rules", "security_group_rule", row{"security_group_id": group, "direction": "ingress", "ethertype": "IPv4", "remote_group_id": group})
	router := s.make(t, neutron, "routers", "router", row{"name": "gate", "project_id": project})
	other := s.make(t, neutron, "subnets", "subnet", row{"name": "other", "network_id": net, "project_id": project, "ip_version": 4, "cidr": "10.9.0.0/24"})
	port := s.make(t, neutron, "ports", "port", row{"network_id": net, "project_id": project, "fixed_ips": []any{row{"subnet_id": other, "ip_address": "10.9.0.77"}}})
	for _, body := range []row{{"subnet_id": sub}, {"port_id": port}} {
		if _, err := s.call(t.Context(), neutron, http.MethodPut, "routers/"+router+"/add_router_interface", body, nil); err != nil {
			t.Fatal(err)
		}
	}
	flavor := s.make(t, nova, "flavors", "flavor", row{"name": "small", "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": false})
	if _, err := s.call(t.Context(), nova, http.MethodPost, "flavors/"+flavor+"/action", row{"addTenantAccess": row{"tenant": project}}, nil); err != nil {
		t.Fatal(err)
	}
	makeImage(t, s, "cirros", "the content of an image", row{"owner": project, "visibility": "private"})
}

// walked are the kinds that a walk carries.
func walked(c *syncer.Config) {
	c.Filter.Kinds = []syncer.Kind{Domain, Role, Project, User, Assignment, Flavor, Image, Network, Subnet, SecurityGroup, Router}
	c.Workers = 2
}

// killed makes a run whose process dies at a request to the target.
func killed(t *testing.T, from, to site, path string, f fakecloud.Fault) (struck bool) {
	t.Helper()
	ctx, kill := context.WithCancel(t.Context())
	defer kill()
	f.What, f.Times, f.Do = fakecloud.Drop, 1, kill
	fault := to.fake.Inject(f)
	e, done := engineAt(t, from, to, path)
	_, err := e.Run(ctx, syncer.Options{})
	done()
	if fault.Hits() > 0 && err == nil {
		t.Errorf("killed at %s %d, and the run has ended well", f.Method, f.Nth)
	}
	to.fake.Heal()
	return fault.Hits() > 0
}

// engineAt is an engine on records that stay.
func engineAt(t *testing.T, from, to site, path string) (*syncer.Engine, func()) {
	t.Helper()
	store, err := syncer.OpenStore(path)
	if err != nil {
		t.Fatal(err)
	}
	c := syncer.Config{Source: from, Target: to, Store: store, Policy: func(syncer.Kind) syncer.Policy { return syncer.Policy{Missing: 1} }}
	walked(&c)
	e, err := syncer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e, func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}

// whole are the lines of a cloud. No description of a rule is null or "",
// by who has made it.
func whole(s site) []string {
	lines := s.fake.Dump(nil)
	for i, line := range lines {
		if strings.HasPrefix(line, "security_group_rule ") {
			lines[i] = strings.Replace(line, `"description":null`, `"description":""`, 1)
		}
	}
	return lines
}

// The process dies at each request in turn that changes the target, before it
// is carried out or behind it. The next run makes the target right: nothing is
// lost, and nothing is there twice.
func TestKilledAtEachWrite(t *testing.T) {
	east := newSite(t, "east", fakecloud.Options{Seed: 1})
	small(t, east)
	right := newSite(t, "west", fakecloud.Options{Seed: 2})
	run(t, engine(t, east, right, walked), syncer.Options{})
	want := whole(right)
	for _, method := range []string{http.MethodPost, http.MethodPut} {
		for _, late := range []bool{false, true} {
			n := 0
			for more := true; more; {
				n++
				t.Run(fmt.Sprintf("%s %d late=%t", method, n, late), func(t *testing.T) {
					more = walk(t, east, fakecloud.Fault{Method: method, Nth: n, Late: late}, want)
				})
			}
			if n < 3 {
				t.Errorf("only %d requests of %s: the walk goes nowhere", n-1, method)
			}
		}
	}
}

// changing is a pair of clouds of which the one was carried to the other, and has
// changed since: of each way to change or delete there is one.
func changing(t *testing.T) (east, west site, path string) {
	t.Helper()
	east, west = newSite(t, "east", fakecloud.Options{Seed: 1}), newSite(t, "west", fakecloud.Options{Seed: 2})
	path = filepath.Join(t.TempDir(), "sync.db")
	project := east.make(t, identity, "projects", "project", row{"name": "web"})
	old := east.make(t, identity, "roles", "role", row{"name": "old"})
	net := east.make(t, neutron, "networks", "network", row{"name": "net", "project_id": project})
	sub := east.make(t, neutron, "subnets", "subnet", row{"name": "sub", "network_id": net, "project_id": project, "ip_version": 4, "cidr": "10.8.0.0/24"})
	group := east.make(t, neutron, "security-groups", "security_group", row{"name": "web", "project_id": project})
	router := east.make(t, neutron, "routers", "router", row{"name": "gate", "project_id": project})
	do := func(h api, method, path string, body any) {
		t.Helper()
		if _, err := east.call(t.Context(), h, method, path, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	do(neutron, http.MethodPut, "routers/"+router+"/add_router_interface", row{"subnet_id": sub})
	gone := makeImage(t, east, "gone", "content", row{"owner": project, "visibility": "private", "protected": true})
	e, done := engineAt(t, east, west, path)
	run(t, e, syncer.Options{})
	done()
	do(identity, http.MethodPatch, "projects/"+project, map[string]any{"project": row{"name": "shop", "tags": []string{"gold"}}})
	do(identity, http.MethodDelete, "roles/"+old, nil)
	do(neutron, http.MethodPut, "networks/"+net, map[string]any{"network": row{"description": "changed"}})
	do(neutron, http.MethodPut, "networks/"+net+"/tags", map[string]any{"tags": []string{"blue"}})
	do(neutron, http.MethodDelete, "security-groups/"+group, nil)
	do(neutron, http.MethodPut, "routers/"+router+"/remove_router_interface", row{"subnet_id": sub})
	do(neutron, http.MethodDelete, "subnets/"+sub, nil)
	if err := east.fake.Hand().Change("image", gone, fakecloud.Fields{"protected": false}); err != nil {
		t.Fatal(err)
	}
	do(glance, http.MethodDelete, "images/"+gone, nil)
	return east, west, path
}

// The same, when what is there is changed and deleted.
func TestKilledAtEachChange(t *testing.T) {
	east, west, path := changing(t)
	e, done := engineAt(t, east, west, path)
	run(t, e, syncer.Options{})
	done()
	want := whole(west)
	for method, least := range map[string]int{http.MethodPatch: 2, http.MethodPut: 3, http.MethodDelete: 4} {
		for _, late := range []bool{false, true} {
			n := 0
			for more := true; more; {
				n++
				t.Run(fmt.Sprintf("%s %d late=%t", method, n, late), func(t *testing.T) {
					east, west, path := changing(t)
					more = walkOn(t, east, west, path, fakecloud.Fault{Method: method, Nth: n, Late: late}, want)
				})
			}
			if n <= least {
				t.Errorf("only %d requests of %s: the walk goes nowhere", n-1, method)
			}
		}
	}
}

// walk kills once, and looks at what comes of it; false: there is no such
// request.
func walk(t *testing.T, east site, f fakecloud.Fault, want []string) bool {
	return walkOn(t, east, newSite(t, "west", fakecloud.Options{Seed: 2}), filepath.Join(t.TempDir(), "sync.db"), f, want)
}

func walkOn(t *testing.T, east, west site, path string, f fakecloud.Fault, want []string) bool {
	if !killed(t, east, west, path, f) {
		return false
	}
	e, done := engineAt(t, east, west, path)
	defer done()
	run(t, e, syncer.Options{Retry: true}, syncer.Forget)
	if again := run(t, e, syncer.Options{Audit: true}); again.Plan.Acts() != 0 {
		t.Errorf("something is left to do: %+v", again.Plan.Changes)
	}
	if got := whole(west); !slices.Equal(got, want) {
		for _, line := range got {
			if !slices.Contains(want, line) {
				t.Errorf("too much: %s", line)
			}
		}
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("missing: %s", line)
			}
		}
	}
	return true
}
