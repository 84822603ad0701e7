package fakecloud_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"

	"github.com/draasd/draas/internal/lab/fakecloud"
)

type fields = fakecloud.Fields

// furnish fills a cloud with one of each kind.
func furnish(t *testing.T, c *fakecloud.Cloud) {
	t.Helper()
	h := c.Hand()
	domain := h.Make("domain", fields{"name": "corp"})
	project := h.Make("project", fields{"name": "shop", "domain_id": domain, "tags": []string{"gold"}})
	user := h.Make("user", fields{"name": "alice", "domain_id": domain, "password": "p"})
	group := h.Make("group", fields{"name": "staff", "domain_id": domain})
	must := func(_ fields, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.Do(fakecloud.Identity, http.MethodPut, "groups/"+group+"/users/"+user, nil))
	must(nil, h.Assign("member", user, project))
	network := h.Make("network", fields{"name": "inner", "project_id": project})
	external := h.Make("network", fields{"name": "outer", "router:external": true})
	subnet := h.Make("subnet", fields{"name": "s", "network_id": network, "cidr": "10.0.0.0/24", "ip_version": 4})
	h.Make("subnet", fields{"network_id": external, "cidr": "203.0.113.0/24", "ip_version": 4})
	router := h.Make("router", fields{"name": "r", "project_id": project, "external_gateway_info": fields{"network_id": external}})
	must(h.Do(fakecloud.Network, http.MethodPut, "routers/"+router+"/add_router_interface", fields{"subnet_id": subnet}))
	sg := h.Make("security_group", fields{"name": "web", "project_id": project})
	h.Make("security_group_rule", fields{"security_group_id": sg, "direction": "ingress", "protocol": "tcp", "port_range_min": 80, "port_range_max": 80})
	flavor := h.Make("flavor", fields{"name": "small", "ram": 64, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": false})
	must(h.Do(fakecloud.Compute, http.MethodPost, "flavors/"+flavor+"/action", fields{"addTenantAccess": fields{"tenant": project}}))
	h.In(project).Make("server_group", fields{"name": "pair", "policy": "anti-affinity"})
	h.Make("volume_type", fields{"name": "fast"})
	h.Image(fields{"name": "linux", "owner": project, "disk_format": "raw", "container_format": "bare"}, fakecloud.Generated(7, 100000))
	h.In(project).Object("docs", "a/b.txt", fakecloud.Bytes([]byte("text")), http.Header{"X-Object-Meta-Lang": {"en"}})
	must(h.In(project).Do(fakecloud.ObjectStore, http.MethodPut, "shared", nil))
	if err := h.Change("network", network, fields{"description": "made for " + project}); err != nil {
		t.Fatal(err)
	}
	zone := h.In(project).Make("zone", fields{"name": "shop.example.", "email": "a@shop.example"})
	must(h.Do(fakecloud.DNS, http.MethodPost, "zones/"+zone+"/recordsets", fields{"name": "www.shop.example.", "type": "A", "records": []string{"192.0.2.1"}}))
}

// Two clouds with the same content say the same, whatever their ids are, and
// another content shows.
func TestDump(t *testing.T) {
	a, b := fakecloud.New(t, fakecloud.Options{Seed: 1}), fakecloud.New(t, fakecloud.Options{Seed: 2})
	furnish(t, a)
	furnish(t, b)
	dropIDs := func(l fakecloud.Line) fields {
		if l.Kind == "flavor" {
			delete(l.Fields, "id") // chosen by the cloud here
		}
		return l.Fields
	}
	one, other := a.Dump(dropIDs), b.Dump(dropIDs)
	if !slices.Equal(one, other) {
		for i := range one {
			if i < len(other) && one[i] != other[i] {
				t.Fatalf("the clouds differ:\n%s\n%s", one[i], other[i])
			}
		}
		t.Fatalf("the clouds differ: %d lines and %d", len(one), len(other))
	}
	for _, want := range []string{`project:shop`, `"www.shop.example."`, `network:outer`, `"a/b.txt"`, `"project":"project:shop"`, `"made for project:shop"`} {
		if !strings.Contains(strings.Join(one, "\n"), want) {
			t.Errorf("the dump lacks %s", want)
		}
	}
	b.Hand().Make("network", fields{"name": "more"})
	if len(b.Dump(dropIDs)) != len(other)+1 {
		t.Error("a network more does not show")
	}
}

// What a hand does is neither counted nor spoilt, and clients see it.
func TestHand(t *testing.T) {
	c := fakecloud.New(t, fakecloud.Options{})
	c.Inject(fakecloud.Fault{Method: http.MethodPost, Service: fakecloud.Network, Status: http.StatusServiceUnavailable})
	h := c.Hand()
	ids := map[string]bool{}
	for range 150 { // more than the quota
		ids[h.Make("network", fields{"name": "n"})] = true
	}
	if c.Requests() != 0 || c.Count("network") != 150 || len(ids) != 150 {
		t.Fatalf("%d requests, %d networks, %d ids", c.Requests(), c.Count("network"), len(ids))
	}
	clients := connect(t, c)
	all, err := networks.List(clients.Network, networks.ListOpts{Name: "n"}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows, err := networks.ExtractNetworks(all)
	if err != nil || len(rows) != 150 {
		t.Fatalf("%d networks, %v", len(rows), err)
	}
	if err := h.Change("network", rows[0].ID, fields{"name": "other"}); err != nil {
		t.Fatal(err)
	}
	shown, err := h.Show("network", rows[0].ID)
	if err != nil || shown["name"] != "other" {
		t.Fatalf("%v, %v", shown, err)
	}
	if err := h.Remove("network", rows[0].ID); err != nil || c.Count("network") != 149 {
		t.Fatalf("%d networks, %v", c.Count("network"), err)
	}
}
