package openstack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/internal/lab/fakecloud"
	"github.com/draasd/draas/syncer"
)

func TestMain(m *testing.M) {
	if folder := os.Getenv(childOf); folder != "" {
		if err := runWithoutSpace(folder); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// site is a fake cloud and its side.
type site struct {
	*Side
	fake *fakecloud.Cloud
}

func newSite(t *testing.T, name string, o fakecloud.Options) site {
	t.Helper()
	fake := fakecloud.New(t, o)
	return site{openSide(t, name, fake.YAML(name), Options{Site: name}), fake}
}

// openSide opens the side of a cloud by its clouds.yaml.
func openSide(t testing.TB, name, yaml string, o Options) *Side {
	t.Helper()
	c, err := cloud.Parse(cloud.Source{Name: name, AllowPlain: true}, []byte(yaml), nil)
	if err != nil {
		t.Fatal(err)
	}
	session, err := cloud.Open(t.Context(), c, cloud.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	return New(session, o)
}

// engine carries one site to another, with records of its own.
func engine(t testing.TB, from, to site, change func(*syncer.Config)) *syncer.Engine {
	t.Helper()
	store, err := syncer.OpenStore(filepath.Join(t.TempDir(), "sync.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	c := syncer.Config{Source: from, Target: to, Store: store, Policy: func(syncer.Kind) syncer.Policy { return syncer.Policy{Missing: 1} }, Window: 3}
	if change != nil {
		change(&c)
	}
	e, err := syncer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// run makes a run that has to be clean, but for what is expected.
func run(t *testing.T, e *syncer.Engine, o syncer.Options, expected ...syncer.Verb) *syncer.Result {
	t.Helper()
	r, err := e.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Failures {
		t.Errorf("%s %s %s: %s", f.Verb, f.Key, f.Name, f.Reason)
	}
	for _, c := range r.Plan.Changes {
		if !c.Verb.Acts() && c.Verb != syncer.Adopt && c.Verb != syncer.Unchanged && !slices.Contains(expected, c.Verb) {
			t.Errorf("%s %s %s: %s", c.Verb, c.Key, c.Name, c.Reason)
		}
	}
	for _, l := range r.Plan.Lost {
		if part := l.Parts[len(l.Parts)-1]; strings.HasPrefix(part, "as it is at the target") {
			t.Errorf("the copy of %s %s differs: %s", l.Key, l.Name, part)
		}
	}
	for _, k := range r.Plan.Kinds {
		if len(k.Unknown) > 0 {
			t.Errorf("%s is not known: %q", k.Kind, k.Unknown)
		}
	}
	return r
}

// make makes an object by its API, and gives its id.
func (s site) make(t *testing.T, h api, path, one string, body row) string {
	t.Helper()
	var answer map[string]row
	if _, err := s.call(t.Context(), h, http.MethodPost, path, map[string]any{one: body}, &answer); err != nil {
		t.Fatalf("make %s: %v", one, err)
	}
	return answer[one].text("id")
}

// all lists a kind.
func (s site) all(t *testing.T, kind syncer.Kind, within syncer.Key) []syncer.Object {
	t.Helper()
	var all []syncer.Object
	if _, err := s.List(t.Context(), kind, within, func(o syncer.Object) error {
		all = append(all, o)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// named finds one object by its name.
func (s site) objectNamed(t *testing.T, kind syncer.Kind, name string) syncer.Object {
	t.Helper()
	var found []syncer.Object
	for _, o := range s.all(t, kind, syncer.Key{}) {
		if o.Name == name {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d objects of kind %s are called %q", len(found), kind, name)
	}
	whole, err := s.Read(t.Context(), found[0])
	if err != nil {
		t.Fatal(err)
	}
	return whole
}

// tenant fills a cloud with what one customer has.
func tenant(t *testing.T, s site, name string) (project string) {
	t.Helper()
	domain := s.make(t, identity, "domains", "domain", row{"name": name, "description": "a customer"})
	project = s.make(t, identity, "projects", "project", row{"name": name + "-web", "domain_id": domain, "tags": []string{"gold"}})
	below := s.make(t, identity, "projects", "project", row{"name": name + "-dev", "domain_id": domain, "parent_id": project})
	role := s.make(t, identity, "roles", "role", row{"name": name + "-operator"})
	viewer := s.make(t, identity, "roles", "role", row{"name": name + "-aviewer"}) // listed before what implies it
	if _, err := s.call(t.Context(), identity, http.MethodPut, "roles/"+role+"/implies/"+viewer, nil, nil); err != nil {
		t.Fatal(err)
	}
	group := s.make(t, identity, "groups", "group", row{"name": name + "-ops", "domain_id": domain})
	user := s.make(t, identity, "users", "user", row{"name": name + "-ann", "domain_id": domain, "password": "only here", "email": "ann@example.org", "default_project_id": project})
	for _, path := range []string{
		"groups/" + group + "/users/" + user,
		"projects/" + project + "/users/" + user + "/roles/" + role,
		"domains/" + domain + "/groups/" + group + "/roles/" + role,
		"OS-INHERIT/projects/" + project + "/groups/" + group + "/roles/" + role + "/inherited_to_projects",
	} {
		if _, err := s.call(t.Context(), identity, http.MethodPut, path, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	net := s.make(t, neutron, "networks", "network", row{"name": "net", "project_id": project, "mtu": 1400})
	sub := s.make(t, neutron, "subnets", "subnet", row{"name": "sub", "network_id": net, "project_id": project, "ip_version": 4, "cidr": "10.8.0.0/24",
		"gateway_ip": "10.8.0.1", "allocation_pools": []any{row{"start": "10.8.0.10", "end": "10.8.0.90"}}, "dns_nameservers": []string{"192.0.2.53", "192.0.2.54"}})
	web := s.make(t, neutron, "security-groups", "security_group", row{"name": "web", "project_id": project})
	db := s.make(t, neutron, "security-groups", "security_group", row{"name": "db", "project_id": project})
	for _, r := range []row{
		{"security_group_id": web, "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 443, "port_range_max": 443, "remote_ip_prefix": "0.0.0.0/0"},
		{"security_group_id": web, "direction": "ingress", "ethertype": "IPv4", "remote_group_id": db},
		{"security_group_id": db, "direction": "ingress", "ethertype": "IPv4", "remote_group_id": web},
		{"security_group_id": db, "direction": "ingress", "ethertype": "IPv4", "remote_group_id": db},
	} {
		s.make(t, neutron, "security-group-rules", "security_group_rule", r)
	}
	router := s.make(t, neutron, "routers", "router", row{"name": "gate", "project_id": project})
	if _, err := s.call(t.Context(), neutron, http.MethodPut, "routers/"+router+"/add_router_interface", row{"subnet_id": sub}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.call(t.Context(), neutron, http.MethodPut, "routers/"+router, row{"router": row{"routes": []any{row{"destination": "10.9.0.0/24", "nexthop": "10.8.0.7"}}}}, nil); err != nil {
		t.Fatal(err)
	}
	s.make(t, neutron, "rbac-policies", "rbac_policy", row{"object_type": "network", "object_id": net, "action": "access_as_shared", "target_tenant": below, "project_id": project})
	return project
}

// The objects of a customer come to the other cloud, with what they refer to in
// its terms; a second run finds nothing to do.
func TestCarriesACustomer(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	tenant(t, east, "acme")
	e := engine(t, east, west, nil)
	run(t, e, syncer.Options{}, syncer.Unsupported)

	ann := west.objectNamed(t, User, "acme-ann")
	if ann.Fields["email"] != "ann@example.org" || ann.Fields["enabled"] != true {
		t.Errorf("the user's copy: %v", ann.Fields)
	}
	if enabled := west.row(t, identity, "users/"+ann.ID, "user")["enabled"]; enabled != false {
		t.Errorf("the user's copy can log in: %v", enabled)
	}
	operator, viewer := west.objectNamed(t, Role, "acme-operator"), west.objectNamed(t, Role, "acme-aviewer")
	if got := refIDs(operator.Fields["implies"]); !slices.Equal(got, []string{viewer.ID}) {
		t.Errorf("the operator's copy implies %q", got)
	}
	web := west.objectNamed(t, SecurityGroup, "acme-web/web")
	if rules := web.Fields["rules"].(syncer.Set); len(rules) != 4 { // two of its own, as the source's has
		t.Errorf("group web has %d rules: %v", len(rules), rules)
	}
	router := west.objectNamed(t, Router, "acme-web/gate")
	if len(router.Fields["interfaces"].(syncer.Set)) != 1 || len(router.Fields["routes"].(syncer.Set)) != 1 {
		t.Errorf("the router's copy: %v", router.Fields)
	}
	for _, kind := range []syncer.Kind{Domain, Project, Role, Group, User, Network, Subnet, SecurityGroup, Router, RBACPolicy, Assignment} {
		if a, b := len(east.all(t, kind, syncer.Key{})), len(west.all(t, kind, syncer.Key{})); a != b {
			t.Errorf("%d of kind %s in the east, %d in the west", a, kind, b)
		}
	}
	if again := run(t, e, syncer.Options{Audit: true}, syncer.Unsupported); again.Plan.Acts() != 0 {
		t.Errorf("a second run has something to do: %+v", again.Plan.Changes)
	}
	from, to := east.objectNamed(t, Role, "acme-operator").ID, east.objectNamed(t, Role, "acme-aviewer").ID
	if _, err := east.call(t.Context(), identity, http.MethodDelete, "roles/"+from+"/implies/"+to, nil, nil); err != nil {
		t.Fatal(err)
	}
	run(t, e, syncer.Options{}, syncer.Unsupported)
	if got := refIDs(west.objectNamed(t, Role, "acme-operator").Fields["implies"]); len(got) > 0 {
		t.Errorf("the operator's copy implies %q still", got)
	}
}

// row reads a row by the API.
func (s site) row(t *testing.T, h api, path, one string) row {
	t.Helper()
	var answer map[string]row
	if _, err := s.call(t.Context(), h, http.MethodGet, path, nil, &answer); err != nil {
		t.Fatal(err)
	}
	return answer[one]
}

// An image's content is streamed, and arrives under the same id.
func TestCarriesImages(t *testing.T) {
	east, west := newSite(t, "east", fakecloud.Options{}), newSite(t, "west", fakecloud.Options{})
	id := makeImage(t, east, "cirros", "the content of an image", row{"visibility": "public", "os_distro": "cirros", "protected": true, "tags": []string{"small"}})
	e := engine(t, east, west, func(c *syncer.Config) { c.Filter.Kinds = []syncer.Kind{Domain, Project, Image} })
	run(t, e, syncer.Options{})
	copied, err := west.Read(t.Context(), syncer.Object{Key: syncer.Key{Kind: Image, ID: id}})
	if err != nil {
		t.Fatal(err)
	}
	if copied.Fields["protected"] != true || copied.Fields["properties"].(map[string]any)["os_distro"] != "cirros" || copied.Marker != (syncer.Marker{Site: "east", ID: id}) {
		t.Errorf("the copy: %+v", copied)
	}
	body, err := west.Open(t.Context(), copied, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if text, err := io.ReadAll(body); err != nil || string(text) != "the content of an image" {
		t.Errorf("the copy's content: %q, %v", text, err)
	}
	if again := run(t, e, syncer.Options{Audit: true}); again.Plan.Acts() != 0 {
		t.Errorf("a second run has something to do: %+v", again.Plan.Changes)
	}
}

func makeImage(t *testing.T, s site, name, content string, more row) string {
	t.Helper()
	body := row{"name": name, "disk_format": "raw", "container_format": "bare"}
	for k, v := range more {
		body[k] = v
	}
	var made row
	if _, err := s.call(t.Context(), glance, http.MethodPost, "images", body, &made); err != nil {
		t.Fatal(err)
	}
	c, err := s.client(glance.service)
	if err != nil {
		t.Fatal(err)
	}
	put := cloud.Put{Body: strings.NewReader(content), Size: int64(len(content)), Header: http.Header{"Content-Type": {"application/octet-stream"}}}
	if _, err := cloud.Upload(context.Background(), c, address(c, "images/"+made.text("id")+"/file"), put); err != nil {
		t.Fatal(err)
	}
	return made.text("id")
}
