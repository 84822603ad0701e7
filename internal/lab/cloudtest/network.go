package cloudtest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/rbacpolicies"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/gophercloud/gophercloud/v2/pagination"
)

func networkFacts() map[string]func(*fact) {
	facts := map[string]func(*fact){
		"an id may not be chosen":                                  networkID,
		"a project may be chosen":                                  networkProject,
		"names are not unique":                                     networkNames,
		"changed_since and sorting by updated_at are refused":      changedSince,
		"fields= gives those fields only":                          someFields,
		"a subnet moves its network's revision":                    subnetBumps,
		"If-Match holds back who saw an older revision":            ifMatch,
		"overlapping subnets of a network are refused":             overlap,
		"a prefix is kept as its network address":                  masked,
		"a subnet's prefix and version are read-only":              subnetReadOnly,
		"a subnet without gateway is possible":                     noGateway,
		"a network with ports cannot be deleted":                   networkInUse,
		"a network takes its subnets along":                        networkTakesSubnets,
		"tags are a resource of their own":                         tags,
		"pages have limit, marker and a next link":                 networkPages,
		"a full last page is followed by an empty one":             networkFullPage,
		"sharing a network is an RBAC policy":                      sharedByPolicy,
		"the same RBAC policy twice is a conflict":                 policyTwice,
		"an RBAC policy shows a network to one project":            policyForOne,
		"addresses and hardware addresses of a port may be chosen": portAddress,
		"an address is given once":                                 addressOnce,
		"an unknown field is refused":                              unknownField,
		"a value of the wrong type is refused, null too":           networkTypes,
		"one list has the quotas that differ":                      quotaList,
		"a quota stops creation with 409":                          quotaStops,
		"projects see their own":                                   ownNetworks,
		"bulk creation is all or nothing":                          bulk,
		"time stamps have whole seconds":                           wholeSeconds,
	}
	for _, more := range []map[string]func(*fact){routerFacts(), groupFacts(), poolFacts()} {
		maps.Copy(facts, more)
	}
	return facts
}

func (f *fact) newNetwork(name string) *networks.Network {
	f.Helper()
	n, err := networks.Create(f.ctx, f.Network, networks.CreateOpts{Name: f.name(name)}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return networks.Delete(ctx, f.Network, n.ID).ExtractErr() })
	return n
}

// newExternal is a network to the outside, with a subnet.
func (f *fact) newExternal() (network, subnet string) {
	f.Helper()
	body, _ := f.call(f.Network, "POST", "networks", object{"network": object{"name": f.name("ext"), "router:external": true}}, http.StatusCreated)
	network = text(inner(body, "network"), "id")
	f.later(func(ctx context.Context) error { return networks.Delete(ctx, f.Network, network).ExtractErr() })
	return network, f.newSubnet(network, "198.51.100.0/24").ID
}

func (f *fact) newSubnet(network, cidr string) *subnets.Subnet {
	f.Helper()
	version := gophercloud.IPv4
	if strings.Contains(cidr, ":") {
		version = gophercloud.IPv6
	}
	s, err := subnets.Create(f.ctx, f.Network, subnets.CreateOpts{NetworkID: network, CIDR: cidr, IPVersion: version, Name: f.name("s")}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return subnets.Delete(ctx, f.Network, s.ID).ExtractErr() })
	return s
}

func (f *fact) newPort(opts ports.CreateOpts) *ports.Port {
	f.Helper()
	p, err := ports.Create(f.ctx, f.Network, opts).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return ports.Delete(ctx, f.Network, p.ID).ExtractErr() })
	return p
}

// revision reads an object's revision.
func (f *fact) revision(path string) float64 {
	f.Helper()
	body, _ := f.call(f.Network, "GET", path+"?fields=revision_number", nil, http.StatusOK)
	for _, v := range body {
		o, _ := v.(object)
		n, _ := o["revision_number"].(float64)
		return n
	}
	return -1
}

func networkID(f *fact) {
	body, _ := f.call(f.Network, "POST", "networks", object{"network": object{"id": "fac7fac7-fac7-4ac7-aac7-fac7fac7fac7", "name": f.name("n")}}, http.StatusBadRequest)
	if said := text(inner(body, "NeutronError"), "message"); !strings.Contains(said, "not allowed in POST") {
		f.Fatalf("Neutron says %q", said)
	}
}

func networkProject(f *fact) {
	p := f.newProject("p")
	n, err := networks.Create(f.ctx, f.Network, networks.CreateOpts{Name: f.name("n"), ProjectID: p.ID}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return networks.Delete(ctx, f.Network, n.ID).ExtractErr() })
	same(f, "its project", n.ProjectID, p.ID)
	same(f, "its tenant", n.TenantID, p.ID)
}

func networkNames(f *fact) {
	f.newNetwork("n")
	f.newNetwork("n")
	same(f, "networks of the name", len(list(f, networks.List(f.Network, networks.ListOpts{Name: f.name("n")}), networks.ExtractNetworks)), 2)
}

func changedSince(f *fact) {
	f.call(f.Network, "GET", "networks?changed_since=2020-01-01T00:00:00Z", nil, http.StatusBadRequest)
	f.call(f.Network, "GET", "networks?sort_key=updated_at&sort_dir=asc", nil, http.StatusBadRequest)
	f.call(f.Network, "GET", "networks?no_such_thing=1", nil, http.StatusBadRequest)
}

func someFields(f *fact) {
	n := f.newNetwork("n")
	body, _ := f.call(f.Network, "GET", "networks?fields=id&fields=revision_number&fields=updated_at&id="+n.ID, nil, http.StatusOK)
	same(f, "networks", len(items(body, "networks")), 1)
	row, _ := items(body, "networks")[0].(object)
	same(f, "fields", len(row), 3)
	same(f, "the id", text(row, "id"), n.ID)
	if _, isNumber := row["revision_number"].(float64); !isNumber {
		f.Fatalf("the revision is %v", row["revision_number"])
	}
}

func subnetBumps(f *fact) {
	n := f.newNetwork("n")
	before := f.revision("networks/" + n.ID)
	s := f.newSubnet(n.ID, "10.9.0.0/24")
	added := f.revision("networks/" + n.ID)
	if added <= before {
		f.Fatalf("the revision stays %v", added)
	}
	f.ok(subnets.Delete(f.ctx, f.Network, s.ID).ExtractErr())
	if gone := f.revision("networks/" + n.ID); gone <= added {
		f.Fatalf("the revision stays %v when the subnet goes", gone)
	}
}

func ifMatch(f *fact) {
	n := f.newNetwork("n")
	first, second := "first", "second"
	revision := n.RevisionNumber
	_, err := networks.Update(f.ctx, f.Network, n.ID, networks.UpdateOpts{Description: &first, RevisionNumber: &revision}).Extract()
	f.ok(err)
	_, err = networks.Update(f.ctx, f.Network, n.ID, networks.UpdateOpts{Description: &second, RevisionNumber: &revision}).Extract()
	f.refused(err, http.StatusPreconditionFailed)
	now, err := networks.Get(f.ctx, f.Network, n.ID).Extract()
	f.ok(err)
	same(f, "the description", now.Description, first)
}

func overlap(f *fact) {
	n, other := f.newNetwork("n"), f.newNetwork("other")
	f.newSubnet(n.ID, "10.9.0.0/16")
	_, err := subnets.Create(f.ctx, f.Network, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.9.3.0/24", IPVersion: gophercloud.IPv4}).Extract()
	f.refused(err, http.StatusBadRequest)
	f.newSubnet(other.ID, "10.9.3.0/24")
}

func masked(f *fact) {
	n := f.newNetwork("n")
	s := f.newSubnet(n.ID, "10.9.4.7/24")
	same(f, "the prefix", s.CIDR, "10.9.4.0/24")
	same(f, "the gateway", s.GatewayIP, "10.9.4.1")
	same(f, "the pools", fmt.Sprint(s.AllocationPools), "[{10.9.4.2 10.9.4.254}]")
}

func subnetReadOnly(f *fact) {
	n := f.newNetwork("n")
	s := f.newSubnet(n.ID, "10.9.5.0/24")
	readOnly := object{"cidr": "10.9.6.0/24", "ip_version": 4, "network_id": n.ID, "ipv6_ra_mode": "slaac"}
	for key, value := range readOnly {
		f.call(f.Network, "PUT", "subnets/"+s.ID, object{"subnet": object{key: value}}, http.StatusBadRequest)
	}
}

func noGateway(f *fact) {
	n, none := f.newNetwork("n"), ""
	s, err := subnets.Create(f.ctx, f.Network, subnets.CreateOpts{NetworkID: n.ID, CIDR: "10.9.7.0/24", IPVersion: gophercloud.IPv4, GatewayIP: &none}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return subnets.Delete(ctx, f.Network, s.ID).ExtractErr() })
	same(f, "the gateway", s.GatewayIP, "")
	same(f, "the pools", fmt.Sprint(s.AllocationPools), "[{10.9.7.1 10.9.7.254}]")
}

func networkInUse(f *fact) {
	n := f.newNetwork("n")
	s := f.newSubnet(n.ID, "10.9.8.0/24")
	f.newPort(ports.CreateOpts{NetworkID: n.ID})
	f.refused(networks.Delete(f.ctx, f.Network, n.ID).ExtractErr(), http.StatusConflict)
	f.refused(subnets.Delete(f.ctx, f.Network, s.ID).ExtractErr(), http.StatusConflict)
}

func networkTakesSubnets(f *fact) {
	n := f.newNetwork("n")
	s := f.newSubnet(n.ID, "10.9.9.0/24")
	f.ok(networks.Delete(f.ctx, f.Network, n.ID).ExtractErr())
	_, err := subnets.Get(f.ctx, f.Network, s.ID).Extract()
	f.refused(err, http.StatusNotFound)
}

func tags(f *fact) {
	n := f.newNetwork("n")
	before := f.revision("networks/" + n.ID)
	f.call(f.Network, "POST", "networks", object{"network": object{"name": f.name("x"), "tags": []string{"a"}}}, http.StatusBadRequest)
	_, err := attributestags.ReplaceAll(f.ctx, f.Network, "networks", n.ID, attributestags.ReplaceAllOpts{Tags: []string{f.mark, "b"}}).Extract()
	f.ok(err)
	f.ok(attributestags.Add(f.ctx, f.Network, "networks", n.ID, "drsync_src=1").ExtractErr())
	found := list(f, networks.List(f.Network, networks.ListOpts{Tags: f.mark + ",b"}), networks.ExtractNetworks)
	same(f, "networks by tag", len(found), 1)
	if !slices.Contains(found[0].Tags, "drsync_src=1") {
		f.Fatalf("the tags are %q", found[0].Tags)
	}
	if after := f.revision("networks/" + n.ID); after <= before {
		f.Fatalf("tags leave the revision at %v", after)
	}
	f.ok(attributestags.Delete(f.ctx, f.Network, "networks", n.ID, "b").ExtractErr())
	f.refused(attributestags.Delete(f.ctx, f.Network, "networks", n.ID, "b").ExtractErr(), http.StatusNotFound)
}

func networkPages(f *fact) {
	for range 5 {
		f.newNetwork("n")
	}
	seen := map[string]bool{}
	pages, count := f.pages(networks.List(f.Network, networks.ListOpts{Name: f.name("n"), Limit: 2}), func(p pagination.Page) int {
		rows, err := networks.ExtractNetworks(p)
		f.ok(err)
		for _, n := range rows {
			seen[n.ID] = true
		}
		return len(rows)
	})
	same(f, "pages", pages, 3)
	same(f, "rows", count, 5)
	same(f, "networks", len(seen), 5)
}

func networkFullPage(f *fact) {
	for range 2 {
		f.newNetwork("n")
	}
	body, _ := f.call(f.Network, "GET", "networks?limit=2&name="+f.name("n"), nil, http.StatusOK)
	same(f, "rows", len(items(body, "networks")), 2)
	if len(items(body, "networks_links")) == 0 {
		f.Fatal("a full page has no next link")
	}
	body, _ = f.call(f.Network, "GET", "networks?limit=3&name="+f.name("n"), nil, http.StatusOK)
	for _, l := range items(body, "networks_links") {
		if link, _ := l.(object); text(link, "rel") == "next" {
			f.Fatal("a page that is not full has a next link")
		}
	}
}

// grants lists the RBAC policies of a network.
func (f *fact) grants(network string) []rbacpolicies.RBACPolicy {
	f.Helper()
	return list(f, rbacpolicies.List(f.Network, rbacpolicies.ListOpts{ObjectID: network}), rbacpolicies.ExtractRBACPolicies)
}

func sharedByPolicy(f *fact) {
	n := f.newNetwork("n")
	on, off := true, false
	_, err := networks.Update(f.ctx, f.Network, n.ID, networks.UpdateOpts{Shared: &on}).Extract()
	f.ok(err)
	grants := f.grants(n.ID)
	same(f, "policies", len(grants), 1)
	same(f, "its action", grants[0].Action, rbacpolicies.ActionAccessShared)
	same(f, "its target", grants[0].TargetTenant, "*")
	_, err = networks.Update(f.ctx, f.Network, n.ID, networks.UpdateOpts{Shared: &off}).Extract()
	f.ok(err)
	same(f, "policies", len(f.grants(n.ID)), 0)
}

func policyTwice(f *fact) {
	n, p := f.newNetwork("n"), f.newProject("p")
	opts := rbacpolicies.CreateOpts{Action: rbacpolicies.ActionAccessShared, ObjectType: "network", ObjectID: n.ID, TargetTenant: p.ID}
	_, err := rbacpolicies.Create(f.ctx, f.Network, opts).Extract()
	f.ok(err)
	_, err = rbacpolicies.Create(f.ctx, f.Network, opts).Extract()
	f.refused(err, http.StatusConflict)
}

func policyForOne(f *fact) {
	n, p, q, u := f.newNetwork("n"), f.newProject("p"), f.newProject("q"), f.newUser("u")
	f.enter(u.ID, p.ID)
	f.enter(u.ID, q.ID)
	_, err := rbacpolicies.Create(f.ctx, f.Network, rbacpolicies.CreateOpts{Action: rbacpolicies.ActionAccessShared, ObjectType: "network", ObjectID: n.ID, TargetTenant: p.ID}).Extract()
	f.ok(err)
	for project, want := range map[string]int{p.ID: 1, q.ID: 0} {
		c, err := f.As(f.ctx, u.ID, "right-"+f.mark, project)
		f.ok(err)
		same(f, "networks seen", len(list(f, networks.List(c.Network, networks.ListOpts{ID: n.ID}), networks.ExtractNetworks)), want)
	}
}

func portAddress(f *fact) {
	n := f.newNetwork("n")
	s := f.newSubnet(n.ID, "10.9.10.0/24")
	p := f.newPort(ports.CreateOpts{NetworkID: n.ID, MACAddress: "fa:16:3e:12:34:56", FixedIPs: []ports.IP{{SubnetID: s.ID, IPAddress: "10.9.10.77"}}})
	same(f, "its hardware address", p.MACAddress, "fa:16:3e:12:34:56")
	same(f, "its address", p.FixedIPs[0].IPAddress, "10.9.10.77")
	_, err := ports.Create(f.ctx, f.Network, ports.CreateOpts{NetworkID: n.ID, MACAddress: "fa:16:3e:12:34:56"}).Extract()
	f.refused(err, http.StatusConflict)
}

func addressOnce(f *fact) {
	n := f.newNetwork("n")
	s := f.newSubnet(n.ID, "10.9.11.0/24")
	p := f.newPort(ports.CreateOpts{NetworkID: n.ID})
	same(f, "addresses", len(p.FixedIPs), 1)
	_, err := ports.Create(f.ctx, f.Network, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{SubnetID: s.ID, IPAddress: p.FixedIPs[0].IPAddress}}}).Extract()
	f.refused(err, http.StatusConflict)
	_, err = ports.Create(f.ctx, f.Network, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{SubnetID: s.ID, IPAddress: "10.10.0.1"}}}).Extract()
	f.refused(err, http.StatusBadRequest)
}

func unknownField(f *fact) {
	f.call(f.Network, "POST", "networks", object{"network": object{"no_such_field": true}}, http.StatusBadRequest)
	n := f.newNetwork("n")
	f.call(f.Network, "PUT", "networks/"+n.ID, object{"network": object{"no_such_field": true}}, http.StatusBadRequest)
	f.call(f.Network, "PUT", "networks/"+n.ID, object{"network": object{"revision_number": 9}}, http.StatusBadRequest)
}

func networkTypes(f *fact) {
	wrong := object{"name": nil, "description": nil, "shared": "perhaps", "admin_state_up": 5.5}
	for key, value := range wrong {
		f.call(f.Network, "POST", "networks", object{"network": object{key: value}}, http.StatusBadRequest)
	}
	n := f.newNetwork("n")
	body, _ := f.call(f.Network, "PUT", "networks/"+n.ID, object{"network": object{"admin_state_up": "false"}}, http.StatusOK)
	same[any](f, "text as a truth value", inner(body, "network")["admin_state_up"], false)
}

// quotaOf finds a project in the list of quotas that differ.
func (f *fact) quotaOf(project string) object {
	f.Helper()
	body, _ := f.call(f.Network, "GET", "quotas", nil, http.StatusOK)
	for _, v := range items(body, "quotas") {
		if q, _ := v.(object); text(q, "project_id") == project {
			return q
		}
	}
	return nil
}

func quotaList(f *fact) {
	p := f.newProject("p")
	if f.quotaOf(p.ID) != nil {
		f.Fatal("a project that has the default is listed")
	}
	n := 7
	q, err := quotas.Update(f.ctx, f.Network, p.ID, quotas.UpdateOpts{Network: &n}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error {
		_, err := f.Network.Delete(ctx, f.Network.ServiceURL("quotas", p.ID), nil)
		return err
	})
	same(f, "networks", q.Network, 7)
	same[any](f, "networks as listed", f.quotaOf(p.ID)["network"], 7.0)
	f.call(f.Network, "DELETE", "quotas/"+p.ID, nil, http.StatusNoContent)
	if f.quotaOf(p.ID) != nil {
		f.Fatal("a quota that was deleted is listed")
	}
}

func quotaStops(f *fact) {
	p, n := f.newProject("p"), 1
	_, err := quotas.Update(f.ctx, f.Network, p.ID, quotas.UpdateOpts{Network: &n}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error {
		_, err := f.Network.Delete(ctx, f.Network.ServiceURL("quotas", p.ID), nil)
		return err
	})
	first, err := networks.Create(f.ctx, f.Network, networks.CreateOpts{Name: f.name("n"), ProjectID: p.ID}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return networks.Delete(ctx, f.Network, first.ID).ExtractErr() })
	_, err = networks.Create(f.ctx, f.Network, networks.CreateOpts{Name: f.name("n"), ProjectID: p.ID}).Extract()
	f.refused(err, http.StatusConflict)
}

func ownNetworks(f *fact) {
	n, p, u := f.newNetwork("n"), f.newProject("p"), f.newUser("u")
	f.enter(u.ID, p.ID)
	c, err := f.As(f.ctx, u.ID, "right-"+f.mark, p.ID)
	f.ok(err)
	_, err = networks.Get(f.ctx, c.Network, n.ID).Extract()
	f.refused(err, http.StatusNotFound)
	_, err = networks.Create(f.ctx, c.Network, networks.CreateOpts{Name: f.name("x"), ProjectID: f.Project}).Extract()
	f.refused(err, http.StatusBadRequest)
	same(f, "networks by an administrator", len(list(f, networks.List(f.Network, networks.ListOpts{ID: n.ID}), networks.ExtractNetworks)), 1)
}

func bulk(f *fact) {
	n := f.newNetwork("n")
	subnet := func(cidr string) object {
		return object{"network_id": n.ID, "cidr": cidr, "ip_version": 4}
	}
	f.call(f.Network, "POST", "subnets", object{"subnets": []object{subnet("10.9.12.0/24"), subnet("10.9.12.128/25")}}, http.StatusBadRequest)
	same(f, "subnets", len(list(f, subnets.List(f.Network, subnets.ListOpts{NetworkID: n.ID}), subnets.ExtractSubnets)), 0)
	body, _ := f.call(f.Network, "POST", "subnets", object{"subnets": []object{subnet("10.9.12.0/25"), subnet("10.9.12.128/25")}}, http.StatusCreated)
	same(f, "subnets", len(items(body, "subnets")), 2)
}

func wholeSeconds(f *fact) {
	n := f.newNetwork("n")
	body, _ := f.call(f.Network, "GET", "networks/"+n.ID, nil, http.StatusOK)
	if at := text(inner(body, "network"), "updated_at"); len(at) != len("2026-01-02T03:04:05Z") || !strings.HasSuffix(at, "Z") {
		f.Fatalf("updated_at is %q", at)
	}
}
