package cloudtest

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/addressscopes"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/extraroutes"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/qos/policies"
	qosrules "github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/qos/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/addressgroups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/subnetpools"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
)

func routerFacts() map[string]func(*fact) {
	return map[string]func(*fact){
		"a router takes the gateway's address of a subnet":   interfaceAddress,
		"a router takes the port it is given":                interfacePort,
		"an interface moves the router's revision":           interfaceBumps,
		"a router with interfaces cannot be deleted":         routerInUse,
		"the external address of a router may be chosen":     routerGateway,
		"routes need a next hop that is reached":             routerRoutes,
		"a network must be external to be a gateway":         gatewayExternal,
		"a floating address may be chosen":                   floatingAddress,
		"a floating address leads to a port behind a router": floatingPort,
		"a router's port is not deleted as a port":           routerPortStays,
	}
}

func (f *fact) newRouter(opts routers.CreateOpts) *routers.Router {
	f.Helper()
	opts.Name = f.name("r")
	r, err := routers.Create(f.ctx, f.Network, opts).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return routers.Delete(ctx, f.Network, r.ID).ExtractErr() })
	return r
}

func (f *fact) plug(router string, opts routers.AddInterfaceOpts) *routers.InterfaceInfo {
	f.Helper()
	info, err := routers.AddInterface(f.ctx, f.Network, router, opts).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error {
		_, err := routers.RemoveInterface(ctx, f.Network, router, routers.RemoveInterfaceOpts{PortID: info.PortID}).Extract()
		return err
	})
	return info
}

func interfaceAddress(f *fact) {
	n, r := f.newNetwork("n"), f.newRouter(routers.CreateOpts{})
	s := f.newSubnet(n.ID, "10.8.0.0/24")
	info := f.plug(r.ID, routers.AddInterfaceOpts{SubnetID: s.ID})
	same(f, "its subnet", info.SubnetID, s.ID)
	p, err := ports.Get(f.ctx, f.Network, info.PortID).Extract()
	f.ok(err)
	same(f, "its address", p.FixedIPs[0].IPAddress, s.GatewayIP)
	same(f, "its owner", p.DeviceOwner, "network:router_interface")
	same(f, "its device", p.DeviceID, r.ID)
	_, err = routers.AddInterface(f.ctx, f.Network, r.ID, routers.AddInterfaceOpts{SubnetID: s.ID}).Extract()
	if err == nil {
		f.Fatal("a second interface in the same subnet")
	}
}

func interfacePort(f *fact) {
	n, r := f.newNetwork("n"), f.newRouter(routers.CreateOpts{})
	s := f.newSubnet(n.ID, "10.8.1.0/24")
	p, err := ports.Create(f.ctx, f.Network, ports.CreateOpts{NetworkID: n.ID, FixedIPs: []ports.IP{{SubnetID: s.ID, IPAddress: "10.8.1.254"}}}).Extract()
	f.ok(err)
	info := f.plug(r.ID, routers.AddInterfaceOpts{PortID: p.ID})
	same(f, "its port", info.PortID, p.ID)
	_, err = routers.AddInterface(f.ctx, f.Network, r.ID, routers.AddInterfaceOpts{PortID: p.ID}).Extract()
	f.refused(err, http.StatusConflict)
}

func interfaceBumps(f *fact) {
	n, r := f.newNetwork("n"), f.newRouter(routers.CreateOpts{})
	s := f.newSubnet(n.ID, "10.8.2.0/24")
	before := f.revision("routers/" + r.ID)
	f.plug(r.ID, routers.AddInterfaceOpts{SubnetID: s.ID})
	if after := f.revision("routers/" + r.ID); after <= before {
		f.Fatalf("the revision stays %v", after)
	}
}

func routerInUse(f *fact) {
	n, r := f.newNetwork("n"), f.newRouter(routers.CreateOpts{})
	f.plug(r.ID, routers.AddInterfaceOpts{SubnetID: f.newSubnet(n.ID, "10.8.3.0/24").ID})
	f.refused(routers.Delete(f.ctx, f.Network, r.ID).ExtractErr(), http.StatusConflict)
}

func routerGateway(f *fact) {
	ext, subnet := f.newExternal()
	off := false
	r := f.newRouter(routers.CreateOpts{GatewayInfo: &routers.GatewayInfo{NetworkID: ext, EnableSNAT: &off,
		ExternalFixedIPs: []routers.ExternalFixedIP{{SubnetID: subnet, IPAddress: "198.51.100.77"}}}})
	same(f, "its network", r.GatewayInfo.NetworkID, ext)
	same(f, "its address", fmt.Sprint(r.GatewayInfo.ExternalFixedIPs), fmt.Sprintf("[{198.51.100.77 %s}]", subnet))
	same(f, "its translation", *r.GatewayInfo.EnableSNAT, false)
}

func gatewayExternal(f *fact) {
	n := f.newNetwork("n")
	f.newSubnet(n.ID, "10.8.4.0/24")
	_, err := routers.Create(f.ctx, f.Network, routers.CreateOpts{Name: f.name("r"), GatewayInfo: &routers.GatewayInfo{NetworkID: n.ID}}).Extract()
	f.refused(err, http.StatusBadRequest)
}

func routerRoutes(f *fact) {
	n, r := f.newNetwork("n"), f.newRouter(routers.CreateOpts{})
	f.plug(r.ID, routers.AddInterfaceOpts{SubnetID: f.newSubnet(n.ID, "10.8.5.0/24").ID})
	reached := []routers.Route{{DestinationCIDR: "172.20.0.0/16", NextHop: "10.8.5.9"}}
	changed, err := routers.Update(f.ctx, f.Network, r.ID, routers.UpdateOpts{Routes: &reached}).Extract()
	f.ok(err)
	same(f, "routes", len(changed.Routes), 1)
	lost := []routers.Route{{DestinationCIDR: "172.21.0.0/16", NextHop: "10.99.0.1"}}
	_, err = routers.Update(f.ctx, f.Network, r.ID, routers.UpdateOpts{Routes: &lost}).Extract()
	f.refused(err, http.StatusBadRequest)
	more := []routers.Route{{DestinationCIDR: "172.22.0.0/16", NextHop: "10.8.5.9"}}
	changed, err = extraroutes.Add(f.ctx, f.Network, r.ID, extraroutes.Opts{Routes: &more}).Extract()
	f.ok(err)
	same(f, "routes", len(changed.Routes), 2)
	none := []routers.Route{}
	_, err = routers.Update(f.ctx, f.Network, r.ID, routers.UpdateOpts{Routes: &none}).Extract()
	f.ok(err)
	f.call(f.Network, "POST", "routers", object{"router": object{"name": f.name("r"), "routes": reached}}, http.StatusBadRequest)
}

func floatingAddress(f *fact) {
	ext, _ := f.newExternal()
	p := f.newProject("p")
	ip, err := floatingips.Create(f.ctx, f.Network, floatingips.CreateOpts{FloatingNetworkID: ext, FloatingIP: "198.51.100.99", ProjectID: p.ID}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return floatingips.Delete(ctx, f.Network, ip.ID).ExtractErr() })
	same(f, "the address", ip.FloatingIP, "198.51.100.99")
	same(f, "the project", ip.ProjectID, p.ID)
	_, err = floatingips.Create(f.ctx, f.Network, floatingips.CreateOpts{FloatingNetworkID: ext, FloatingIP: "198.51.100.99"}).Extract()
	f.refused(err, http.StatusConflict)
}

func floatingPort(f *fact) {
	ext, _ := f.newExternal()
	n := f.newNetwork("n")
	s := f.newSubnet(n.ID, "10.8.6.0/24")
	r := f.newRouter(routers.CreateOpts{GatewayInfo: &routers.GatewayInfo{NetworkID: ext}})
	f.plug(r.ID, routers.AddInterfaceOpts{SubnetID: s.ID})
	p := f.newPort(ports.CreateOpts{NetworkID: n.ID})
	far := f.newNetwork("far")
	f.newSubnet(far.ID, "10.8.9.0/24")
	_, err := floatingips.Create(f.ctx, f.Network, floatingips.CreateOpts{FloatingNetworkID: ext, PortID: f.newPort(ports.CreateOpts{NetworkID: far.ID}).ID}).Extract()
	f.refused(err, http.StatusNotFound)
	ip, err := floatingips.Create(f.ctx, f.Network, floatingips.CreateOpts{FloatingNetworkID: ext, PortID: p.ID}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return floatingips.Delete(ctx, f.Network, ip.ID).ExtractErr() })
	same(f, "the inner address", ip.FixedIP, p.FixedIPs[0].IPAddress)
	same(f, "the router", ip.RouterID, r.ID)
	none := ""
	ip, err = floatingips.Update(f.ctx, f.Network, ip.ID, floatingips.UpdateOpts{PortID: &none}).Extract()
	f.ok(err)
	same(f, "the inner address", ip.FixedIP, "")
}

func routerPortStays(f *fact) {
	n, r := f.newNetwork("n"), f.newRouter(routers.CreateOpts{})
	info := f.plug(r.ID, routers.AddInterfaceOpts{SubnetID: f.newSubnet(n.ID, "10.8.7.0/24").ID})
	f.refused(ports.Delete(f.ctx, f.Network, info.PortID).ExtractErr(), http.StatusConflict)
}

func groupFacts() map[string]func(*fact) {
	return map[string]func(*fact){
		"a new security group lets everything out":                   autoRules,
		"the group default appears by itself with four rules":        defaultGroup,
		"a group named default cannot be made":                       secondDefault,
		"names of groups are not unique":                             groupNames,
		"a rule added or deleted moves the group's revision":         ruleBumps,
		"the same rule twice is a conflict":                          ruleTwice,
		"rules may name groups":                                      ruleRemote,
		"rules of odd shape are refused":                             ruleOdd,
		"a group that a port uses cannot be deleted":                 groupInUse,
		"QoS rules are listed in their policy and move its revision": qosRules,
	}
}

func (f *fact) newSecGroup(project string) *groups.SecGroup {
	f.Helper()
	g, err := groups.Create(f.ctx, f.Network, groups.CreateOpts{Name: f.name("g"), ProjectID: project}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return groups.Delete(ctx, f.Network, g.ID).ExtractErr() })
	return g
}

func autoRules(f *fact) {
	g := f.newSecGroup("")
	same(f, "rules", len(g.Rules), 2)
	for _, r := range g.Rules {
		same(f, "its direction", r.Direction, "egress")
		same(f, "its remote group", r.RemoteGroupID, "")
	}
	f.ok(rules.Delete(f.ctx, f.Network, g.Rules[0].ID).ExtractErr())
	now, err := groups.Get(f.ctx, f.Network, g.ID).Extract()
	f.ok(err)
	same(f, "rules", len(now.Rules), 1)
}

func defaultGroup(f *fact) {
	p := f.newProject("p")
	found := list(f, groups.List(f.Network, groups.ListOpts{ProjectID: p.ID}), groups.ExtractGroups)
	same(f, "groups", len(found), 1)
	f.later(func(ctx context.Context) error { return groups.Delete(ctx, f.Network, found[0].ID).ExtractErr() })
	same(f, "its name", found[0].Name, "default")
	same(f, "its rules", len(found[0].Rules), 4)
	in := 0
	for _, r := range found[0].Rules {
		if r.Direction == "ingress" {
			in++
			same(f, "who is let in", r.RemoteGroupID, found[0].ID)
		}
	}
	same(f, "rules inward", in, 2)
}

func secondDefault(f *fact) {
	_, err := groups.Create(f.ctx, f.Network, groups.CreateOpts{Name: "default"}).Extract()
	f.refused(err, http.StatusConflict)
}

func groupNames(f *fact) {
	a, b := f.newSecGroup(""), f.newSecGroup("")
	same(f, "the second name", b.Name, a.Name)
}

func (f *fact) newRule(opts rules.CreateOpts) *rules.SecGroupRule {
	f.Helper()
	r, err := rules.Create(f.ctx, f.Network, opts).Extract()
	f.ok(err)
	return r
}

func ruleBumps(f *fact) {
	g := f.newSecGroup("")
	before := f.revision("security-groups/" + g.ID)
	r := f.newRule(rules.CreateOpts{SecGroupID: g.ID, Direction: rules.DirIngress, EtherType: rules.EtherType4, Protocol: rules.ProtocolTCP,
		PortRangeMin: 22, PortRangeMax: 22, RemoteIPPrefix: "192.0.2.0/24"})
	added := f.revision("security-groups/" + g.ID)
	f.ok(rules.Delete(f.ctx, f.Network, r.ID).ExtractErr())
	gone := f.revision("security-groups/" + g.ID)
	if !(before < added && added < gone) {
		f.Fatalf("revisions %v, %v, %v", before, added, gone)
	}
}

func ruleTwice(f *fact) {
	g := f.newSecGroup("")
	opts := rules.CreateOpts{SecGroupID: g.ID, Direction: rules.DirIngress, EtherType: rules.EtherType4, Protocol: rules.ProtocolTCP, PortRangeMin: 80, PortRangeMax: 80}
	f.newRule(opts)
	_, err := rules.Create(f.ctx, f.Network, opts).Extract()
	f.refused(err, http.StatusConflict)
	opts.Description = "the description makes no difference"
	_, err = rules.Create(f.ctx, f.Network, opts).Extract()
	f.refused(err, http.StatusConflict)
}

func ruleRemote(f *fact) {
	a, b := f.newSecGroup(""), f.newSecGroup("")
	r := f.newRule(rules.CreateOpts{SecGroupID: a.ID, Direction: rules.DirIngress, EtherType: rules.EtherType6, RemoteGroupID: b.ID})
	same(f, "the remote group", r.RemoteGroupID, b.ID)
	_, err := rules.Create(f.ctx, f.Network, rules.CreateOpts{SecGroupID: a.ID, Direction: rules.DirIngress, EtherType: rules.EtherType4,
		RemoteGroupID: "fac7fac7-fac7-4ac7-aac7-fac7fac7fac7"}).Extract()
	f.refused(err, http.StatusNotFound)
}

func ruleOdd(f *fact) {
	g := f.newSecGroup("")
	for _, opts := range []rules.CreateOpts{
		{Direction: rules.DirIngress, EtherType: rules.EtherType6, RemoteIPPrefix: "192.0.2.0/24"},
		{Direction: rules.DirIngress, EtherType: rules.EtherType4, PortRangeMin: 1, PortRangeMax: 2},
		{Direction: rules.DirIngress, EtherType: rules.EtherType4, Protocol: rules.ProtocolTCP, PortRangeMin: 9, PortRangeMax: 2},
		{Direction: rules.DirIngress, EtherType: rules.EtherType4, RemoteIPPrefix: "192.0.2.0/24", RemoteGroupID: g.ID},
	} {
		opts.SecGroupID = g.ID
		_, err := rules.Create(f.ctx, f.Network, opts).Extract()
		f.refused(err, http.StatusBadRequest)
	}
}

func groupInUse(f *fact) {
	n, g := f.newNetwork("n"), f.newSecGroup("")
	f.newPort(ports.CreateOpts{NetworkID: n.ID, SecurityGroups: &[]string{g.ID}})
	f.refused(groups.Delete(f.ctx, f.Network, g.ID).ExtractErr(), http.StatusConflict)
}

func qosRules(f *fact) {
	p, err := policies.Create(f.ctx, f.Network, policies.CreateOpts{Name: f.name("q")}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return policies.Delete(ctx, f.Network, p.ID).ExtractErr() })
	r, err := qosrules.CreateBandwidthLimitRule(f.ctx, f.Network, p.ID, qosrules.CreateBandwidthLimitRuleOpts{MaxKBps: 1000, MaxBurstKBps: 100}).ExtractBandwidthLimitRule()
	f.ok(err)
	same(f, "its direction", r.Direction, "egress")
	now, err := policies.Get(f.ctx, f.Network, p.ID).Extract()
	f.ok(err)
	same(f, "rules", len(now.Rules), 1)
	same[any](f, "its type", now.Rules[0]["type"], "bandwidth_limit")
	if now.RevisionNumber <= p.RevisionNumber {
		f.Fatalf("the revision stays %d", now.RevisionNumber)
	}
	f.ok(qosrules.DeleteBandwidthLimitRule(f.ctx, f.Network, p.ID, r.ID).ExtractErr())
}

func poolFacts() map[string]func(*fact) {
	return map[string]func(*fact){
		"a pool gives a subnet its prefix":                   poolPrefix,
		"a pool in use cannot be deleted":                    poolInUse,
		"a pool has the version of its scope":                poolScope,
		"prefixes of a pool are only added":                  poolGrows,
		"address groups hold prefixes and are used by rules": addressGroups,
	}
}

func (f *fact) newPool(opts subnetpools.CreateOpts) *subnetpools.SubnetPool {
	f.Helper()
	opts.Name = f.name("pool")
	p, err := subnetpools.Create(f.ctx, f.Network, opts).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return subnetpools.Delete(ctx, f.Network, p.ID).ExtractErr() })
	return p
}

func (f *fact) fromPool(network, pool string) *subnets.Subnet {
	f.Helper()
	s, err := subnets.Create(f.ctx, f.Network, subnets.CreateOpts{NetworkID: network, SubnetPoolID: pool, IPVersion: gophercloud.IPv4}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return subnets.Delete(ctx, f.Network, s.ID).ExtractErr() })
	return s
}

func poolPrefix(f *fact) {
	pool, n := f.newPool(subnetpools.CreateOpts{Prefixes: []string{"10.7.0.0/16"}, DefaultPrefixLen: 24}), f.newNetwork("n")
	same(f, "its version", pool.IPversion, 4)
	a, b := f.fromPool(n.ID, pool.ID), f.fromPool(n.ID, pool.ID)
	if a.CIDR == b.CIDR || a.SubnetPoolID != pool.ID {
		f.Fatalf("subnets %s and %s of pool %q", a.CIDR, b.CIDR, a.SubnetPoolID)
	}
}

func poolInUse(f *fact) {
	pool, n := f.newPool(subnetpools.CreateOpts{Prefixes: []string{"10.6.0.0/16"}, DefaultPrefixLen: 24}), f.newNetwork("n")
	f.fromPool(n.ID, pool.ID)
	f.refused(subnetpools.Delete(f.ctx, f.Network, pool.ID).ExtractErr(), http.StatusBadRequest)
}

func poolScope(f *fact) {
	scope, err := addressscopes.Create(f.ctx, f.Network, addressscopes.CreateOpts{Name: f.name("scope"), IPVersion: 6}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return addressscopes.Delete(ctx, f.Network, scope.ID).ExtractErr() })
	_, err = subnetpools.Create(f.ctx, f.Network, subnetpools.CreateOpts{Name: f.name("p"), Prefixes: []string{"10.5.0.0/16"}, AddressScopeID: scope.ID}).Extract()
	f.refused(err, http.StatusBadRequest)
	pool := f.newPool(subnetpools.CreateOpts{Prefixes: []string{"2001:db8:7::/48"}, AddressScopeID: scope.ID})
	same(f, "its scope", pool.AddressScopeID, scope.ID)
	f.refused(addressscopes.Delete(f.ctx, f.Network, scope.ID).ExtractErr(), http.StatusConflict)
}

func poolGrows(f *fact) {
	pool := f.newPool(subnetpools.CreateOpts{Prefixes: []string{"10.4.0.0/16"}})
	_, err := subnetpools.Update(f.ctx, f.Network, pool.ID, subnetpools.UpdateOpts{Prefixes: []string{"10.3.0.0/16"}}).Extract()
	f.refused(err, http.StatusBadRequest)
	grown, err := subnetpools.Update(f.ctx, f.Network, pool.ID, subnetpools.UpdateOpts{Prefixes: []string{"10.3.0.0/16", "10.4.0.0/16"}}).Extract()
	f.ok(err)
	same(f, "prefixes", len(grown.Prefixes), 2)
}

func addressGroups(f *fact) {
	g, err := addressgroups.Create(f.ctx, f.Network, addressgroups.CreateOpts{Name: f.name("ag"), Addresses: []string{"192.0.2.0/24"}}).Extract()
	f.ok(err)
	f.later(func(ctx context.Context) error { return addressgroups.Delete(ctx, f.Network, g.ID).ExtractErr() })
	more, err := addressgroups.AddAddresses(f.ctx, f.Network, g.ID, addressgroups.UpdateAddressesOpts{Addresses: []string{"198.51.100.7/32"}}).Extract()
	f.ok(err)
	same(f, "addresses", len(more.Addresses), 2)
	fewer, err := addressgroups.RemoveAddresses(f.ctx, f.Network, g.ID, addressgroups.UpdateAddressesOpts{Addresses: []string{"192.0.2.0/24"}}).Extract()
	f.ok(err)
	same(f, "addresses left", fmt.Sprint(fewer.Addresses), "[198.51.100.7/32]")
	sg := f.newSecGroup("")
	r := f.newRule(rules.CreateOpts{SecGroupID: sg.ID, Direction: rules.DirIngress, EtherType: rules.EtherType4, RemoteAddressGroupID: g.ID})
	same(f, "the group of the rule", r.RemoteAddressGroupID, g.ID)
	f.refused(addressgroups.Delete(f.ctx, f.Network, g.ID).ExtractErr(), http.StatusConflict)
}
