package fakecloud

// networkKinds is Neutron's attribute map.
func networkKinds() []*networkKind {
	name := rw("name", "")
	up := rw("admin_state_up", true)
	hidden := func(name string) attr { return attr{name: name, post: true, hidden: true} }
	admin := func(a attr) attr { a.admin = true; return a }
	kind := func(one, many, path, quota string, standard bool, attrs ...attr) *networkKind {
		return &networkKind{one: one, many: many, path: path, quota: quota, standard: standard, attrs: attrs}
	}
	network := kind("network", "networks", "/networks", "network", true, name, up, rw("shared", false), rw("router:external", false),
		rw("mtu", int64(1450)), rw("port_security_enabled", true), rw("qos_policy_id", nil), rw("is_default", false), rw("dns_domain", ""),
		co("availability_zone_hints", []any{}), ro("availability_zones", []any{}), ro("subnets", []any{}), ro("status", "ACTIVE"),
		ro("ipv4_address_scope", nil), ro("ipv6_address_scope", nil), ro("l2_adjacency", true), co("vlan_transparent", nil),
		admin(co("provider:network_type", nil)), admin(co("provider:physical_network", nil)), admin(co("provider:segmentation_id", nil)))
	network.create, network.after, network.update, network.remove = (*request).newNetwork, (*request).shareNetwork, (*request).changeNetwork, (*request).removeNetwork
	network.sees = (*request).granted

	subnet := kind("subnet", "subnets", "/subnets", "subnet", true, name, must(co("network_id", nil)), must(co("ip_version", nil)),
		co("cidr", nil), rw("gateway_ip", unset), rw("allocation_pools", unset), rw("dns_nameservers", []any{}), rw("host_routes", []any{}),
		rw("enable_dhcp", true), co("ipv6_address_mode", nil), co("ipv6_ra_mode", nil), co("subnetpool_id", nil), rw("service_types", []any{}),
		rw("dns_publish_fixed_ip", false), rw("segment_id", nil), hidden("prefixlen"), hidden("use_default_subnetpool"))
	subnet.create, subnet.after, subnet.update, subnet.remove = (*request).newSubnet, (*request).joinSubnet, (*request).changeSubnet, (*request).removeSubnet
	subnet.sees = (*request).onVisibleNetwork

	pool := kind("subnetpool", "subnetpools", "/subnetpools", "subnetpool", true, must(name), must(rw("prefixes", nil)), rw("default_prefixlen", nil),
		rw("min_prefixlen", nil), rw("max_prefixlen", nil), rw("default_quota", nil), rw("address_scope_id", nil), co("shared", false),
		rw("is_default", false), ro("ip_version", nil))
	pool.create, pool.update, pool.remove = (*request).newPool, (*request).changePool, (*request).removePool

	scope := kind("address_scope", "address_scopes", "/address-scopes", "", false, must(name), must(co("ip_version", nil)), rw("shared", false))
	scope.remove = (*request).removeScope

	router := kind("router", "routers", "/routers", "router", true, name, up, rw("external_gateway_info", nil), rw("distributed", false),
		rw("ha", false), co("availability_zone_hints", []any{}), ro("availability_zones", []any{}), co("flavor_id", nil), ro("status", "ACTIVE"),
		attr{name: "routes", put: true, def: []any{}})
	router.after, router.update, router.remove = (*request).newRouter, (*request).changeRouter, (*request).removeRouter

	port := kind("port", "ports", "/ports", "port", true, name, up, must(co("network_id", nil)), rw("mac_address", unset), rw("fixed_ips", unset),
		rw("device_id", ""), rw("device_owner", ""), rw("security_groups", unset), rw("allowed_address_pairs", []any{}), rw("extra_dhcp_opts", []any{}),
		rw("port_security_enabled", true), rw("qos_policy_id", nil), rw("binding:vnic_type", "normal"), rw("dns_name", ""), ro("status", "DOWN"),
		admin(rw("binding:host_id", "")), admin(rw("binding:profile", fields{})), admin(ro("binding:vif_type", "unbound")), admin(ro("binding:vif_details", fields{})))
	port.create, port.after, port.update, port.remove = (*request).newPort, (*request).plugPort, (*request).changePort, (*request).removePort
	port.sees = (*request).onOwnNetwork

	group := kind("security_group", "security_groups", "/security-groups", "security_group", true, must(name), rw("stateful", true),
		ro("shared", false), ro("security_group_rules", []any{}))
	group.create, group.after, group.update, group.remove = (*request).newGroupOfRules, (*request).openEgress, (*request).changeGroup, (*request).removeGroupOfRules
	group.sees = (*request).granted

	rule := kind("security_group_rule", "security_group_rules", "/security-group-rules", "security_group_rule", true, must(co("security_group_id", nil)),
		must(co("direction", nil)), co("ethertype", "IPv4"), co("protocol", nil), co("port_range_min", nil), co("port_range_max", nil),
		co("remote_ip_prefix", nil), co("remote_group_id", nil), co("remote_address_group_id", nil), ro("normalized_cidr", nil))
	rule.create, rule.after, rule.remove = (*request).newRule, (*request).joinRule, (*request).removeRule
	rule.sees = (*request).ofOwnGroup

	rbac := kind("rbac_policy", "rbac_policies", "/rbac-policies", "rbac_policy", false, must(co("object_type", nil)), must(co("object_id", nil)),
		must(co("action", nil)), must(rw("target_tenant", nil)))
	rbac.create, rbac.after, rbac.remove = (*request).newGrant, (*request).spreadGrant, (*request).removeGrant

	policy := kind("policy", "policies", "/qos/policies", "", true, must(name), rw("shared", false), rw("is_default", false), ro("rules", []any{}))
	policy.remove = (*request).removePolicy

	floating := kind("floatingip", "floatingips", "/floatingips", "floatingip", true, must(co("floating_network_id", nil)), co("floating_ip_address", nil),
		rw("port_id", nil), rw("fixed_ip_address", nil), hidden("subnet_id"), ro("router_id", nil), ro("status", "DOWN"), co("dns_name", ""),
		co("dns_domain", ""), rw("qos_policy_id", nil), ro("port_details", nil))
	floating.create, floating.update, floating.remove = (*request).newFloating, (*request).changeFloating, (*request).removeFloating
	addressGroup := kind("address_group", "address_groups", "/address-groups", "", true, name, co("addresses", []any{}))
	addressGroup.create, addressGroup.remove = (*request).newAddressGroup, (*request).removeAddressGroup
	return []*networkKind{network, subnet, pool, scope, router, port, group, rule, rbac, policy, floating, addressGroup}
}
