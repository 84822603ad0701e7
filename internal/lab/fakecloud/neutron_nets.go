package fakecloud

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

func bad(kind, format string, args ...any) error {
	return failedAs(http.StatusBadRequest, kind, format, args...)
}

func inUse(kind, format string, args ...any) error {
	return failedAs(http.StatusConflict, kind, format, args...)
}

func (q *request) newNetwork(f fields) error {
	f["revision_number"] = int64(1)
	if f["provider:network_type"] == nil {
		f["provider:network_type"] = "vxlan"
	}
	if f["provider:segmentation_id"] == nil && f["provider:network_type"] != "flat" {
		q.network.vlan++
		f["provider:segmentation_id"] = q.network.vlan
	}
	return nil
}

// shareNetwork writes the RBAC policies that stand behind a network's fields
// shared and router:external.
func (q *request) shareNetwork(r *row) error {
	if flag(r.f, "shared") {
		q.grant(r, "access_as_shared", "*")
	}
	if flag(r.f, "router:external") {
		q.grant(r, "access_as_external", "*")
	}
	return nil
}

func (q *request) grant(r *row, action, target string) {
	q.networks("rbac_policies").rows.add(fields{"id": q.uuid(), "object_type": "network", "object_id": r.id(), "action": action,
		"target_tenant": target, "project_id": r.project(), "tenant_id": r.project()})
}

func (q *request) revoke(r *row, action string) {
	rows := &q.networks("rbac_policies").rows
	for _, g := range rows.all(func(g *row) bool {
		return text(g.f, "object_id") == r.id() && g.f["action"] == action && g.f["target_tenant"] == "*"
	}) {
		rows.remove(g.id())
	}
}

func (q *request) changeNetwork(r *row, in fields) error {
	for key, action := range map[string]string{"shared": "access_as_shared", "router:external": "access_as_external"} {
		v, given := in[key]
		if !given || v == r.f[key] {
			continue
		}
		if v == true {
			q.grant(r, action, "*")
		} else {
			q.revoke(r, action)
		}
	}
	return nil
}

func (q *request) removeNetwork(r *row) error {
	s := &q.network
	for _, p := range s.ports[r.id()] {
		if text(p.f, "device_owner") != "network:dhcp" {
			return inUse("NetworkInUse", "Unable to complete operation on network %s. There are one or more ports still in use on the network.", r.id())
		}
	}
	for _, sub := range slices.Clone(s.subnet[r.id()]) {
		q.networks("subnets").rows.remove(sub.id())
	}
	delete(s.subnet, r.id())
	delete(s.ports, r.id())
	grants := &q.networks("rbac_policies").rows
	for _, g := range grants.all(func(g *row) bool { return text(g.f, "object_id") == r.id() }) {
		grants.remove(g.id())
	}
	return nil
}

// granted tells whether an RBAC policy gives the token's project access.
func (q *request) granted(r *row) bool {
	return q.networks("rbac_policies").rows.first(func(g *row) bool {
		return text(g.f, "object_id") == r.id() && (g.f["target_tenant"] == q.token.project || g.f["target_tenant"] == "*")
	}) != nil
}

func (q *request) onVisibleNetwork(r *row) bool {
	n := q.networks("networks").rows.get(text(r.f, "network_id"))
	return n != nil && flag(n.f, "shared")
}

func (q *request) onOwnNetwork(r *row) bool {
	n := q.networks("networks").rows.get(text(r.f, "network_id"))
	return n != nil && n.project() == q.token.project
}

func (q *request) newSubnet(f fields) error {
	network := q.networks("networks").rows.get(text(f, "network_id"))
	if network == nil {
		return failedAs(http.StatusNotFound, "NetworkNotFound", "Network %s could not be found.", text(f, "network_id"))
	}
	if v := number(f, "ip_version"); v != 4 && v != 6 {
		return bad("HTTPBadRequest", "Invalid input for ip_version. Reason: '%v' is not in [4, 6].", f["ip_version"])
	}
	if text(f, "cidr") == "" {
		if err := q.fromPool(f); err != nil {
			return err
		}
	}
	cidr, err := netip.ParsePrefix(text(f, "cidr"))
	if err != nil {
		return bad("HTTPBadRequest", "Invalid input for cidr. Reason: '%s' is not a valid IP subnet.", text(f, "cidr"))
	}
	cidr = cidr.Masked()
	if cidr.Addr().Is4() != (number(f, "ip_version") == 4) {
		return bad("InvalidInput", "Invalid input for operation: cidr %s does not match the ip_version %v.", cidr, f["ip_version"])
	}
	f["cidr"] = cidr.String()
	for _, other := range q.network.subnet[network.id()] {
		if p, err := netip.ParsePrefix(text(other.f, "cidr")); err == nil && p.Overlaps(cidr) {
			return bad("InvalidInput", "Invalid input for operation: Requested subnet with cidr: %s for network: %s overlaps with another subnet.", cidr, network.id())
		}
	}
	if f["gateway_ip"] == unset {
		f["gateway_ip"] = cidr.Addr().Next().String()
	}
	if f["allocation_pools"] == unset {
		f["allocation_pools"] = pools(cidr, text(f, "gateway_ip"))
	}
	return checkPools(cidr, f)
}

// checkPools refuses pools outside the subnet and a gateway within one.
func checkPools(cidr netip.Prefix, f fields) error {
	gateway, _ := netip.ParseAddr(text(f, "gateway_ip"))
	for _, pool := range objects(f, "allocation_pools") {
		start, errStart := netip.ParseAddr(text(pool, "start"))
		end, errEnd := netip.ParseAddr(text(pool, "end"))
		if errStart != nil || errEnd != nil || !cidr.Contains(start) || !cidr.Contains(end) {
			return bad("OutOfBoundsAllocationPool", "The allocation pool %s-%s spans beyond the subnet cidr %s.", text(pool, "start"), text(pool, "end"), cidr)
		}
		if gateway.IsValid() && !gateway.Less(start) && !end.Less(gateway) {
			return inUse("GatewayConflictWithAllocationPools", "Gateway ip %s conflicts with allocation pool %s-%s.", gateway, start, end)
		}
	}
	return nil
}

// pools are the addresses of a subnet without its first, its last (IPv4) and
// the gateway.
func pools(cidr netip.Prefix, gateway string) []any {
	first, last := cidr.Addr().Next(), lastAddr(cidr)
	if cidr.Addr().Is4() {
		last = last.Prev()
	}
	gw, err := netip.ParseAddr(gateway)
	if err != nil || !cidr.Contains(gw) {
		return []any{fields{"start": first.String(), "end": last.String()}}
	}
	var out []any
	if first.Less(gw) {
		out = append(out, fields{"start": first.String(), "end": gw.Prev().String()})
	}
	if gw.Less(last) {
		out = append(out, fields{"start": gw.Next().String(), "end": last.String()})
	}
	return out
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// fromPool takes the first free prefix of a subnet pool.
func (q *request) fromPool(f fields) error {
	rows := &q.networks("subnetpools").rows
	pool := rows.get(text(f, "subnetpool_id"))
	if pool == nil && flag(f, "use_default_subnetpool") {
		pool = rows.first(func(r *row) bool {
			return flag(r.f, "is_default") && number(r.f, "ip_version") == number(f, "ip_version")
		})
	}
	if pool == nil {
		return bad("BadRequest", "Bad subnets request: a subnetpool must be specified in the absence of a cidr.")
	}
	f["subnetpool_id"] = pool.id()
	bits := number(f, "prefixlen")
	if bits == 0 {
		bits = number(pool.f, "default_prefixlen")
	}
	taken := q.networks("subnets").rows.all(func(r *row) bool { return text(r.f, "subnetpool_id") == pool.id() })
	for _, s := range texts(pool.f, "prefixes") {
		in, err := netip.ParsePrefix(s)
		if err != nil || int64(in.Bits()) > bits {
			continue
		}
		for p := netip.PrefixFrom(in.Addr(), int(bits)); in.Contains(p.Addr()); p = netip.PrefixFrom(lastAddr(p).Next(), int(bits)) {
			if !slices.ContainsFunc(taken, func(r *row) bool {
				other, err := netip.ParsePrefix(text(r.f, "cidr"))
				return err == nil && other.Overlaps(p)
			}) {
				f["cidr"] = p.String()
				return nil
			}
		}
	}
	return inUse("SubnetAllocationError", "Failed to allocate subnet: Insufficient prefix space to allocate subnet size /%d.", bits)
}

// joinSubnet tells the network of its new subnet.
func (q *request) joinSubnet(r *row) error {
	id := text(r.f, "network_id")
	network := q.networks("networks").rows.get(id)
	q.network.subnet[id] = append(q.network.subnet[id], r)
	q.listSubnets(network)
	if p := q.networks("subnetpools").rows.get(text(r.f, "subnetpool_id")); p != nil && number(r.f, "ip_version") == 4 {
		network.set("ipv4_address_scope", p.f["address_scope_id"])
	} else if p != nil {
		network.set("ipv6_address_scope", p.f["address_scope_id"])
	}
	return nil
}

func (q *request) listSubnets(network *row) {
	ids := []any{}
	for _, s := range q.network.subnet[network.id()] {
		ids = append(ids, s.id())
	}
	network.set("subnets", ids)
	q.touch(network)
}

func (q *request) changeSubnet(r *row, in fields) error {
	cidr, err := netip.ParsePrefix(text(r.f, "cidr"))
	if err != nil {
		return bad("InvalidInput", "subnet without cidr")
	}
	next := fields{"gateway_ip": r.f["gateway_ip"], "allocation_pools": r.f["allocation_pools"]}
	for key := range next {
		if v, given := in[key]; given {
			next[key] = v
		}
	}
	return checkPools(cidr, next)
}

func (q *request) removeSubnet(r *row) error {
	id := text(r.f, "network_id")
	for _, p := range q.network.ports[id] {
		if hasFixed(p, []string{"subnet_id=" + r.id()}) && text(p.f, "device_owner") != "network:dhcp" {
			return inUse("SubnetInUse", "Unable to complete operation on subnet %s: One or more ports have an IP allocation from this subnet.", r.id())
		}
	}
	q.network.subnet[id] = slices.DeleteFunc(q.network.subnet[id], func(o *row) bool { return o == r })
	if network := q.networks("networks").rows.get(id); network != nil {
		q.listSubnets(network)
	}
	return nil
}

func (q *request) newPool(f fields) error {
	var version int64
	for _, s := range texts(f, "prefixes") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return bad("HTTPBadRequest", "Invalid input for prefixes. Reason: '%s' is not a valid IP subnet.", s)
		}
		v := int64(6)
		if p.Addr().Is4() {
			v = 4
		}
		if version != 0 && version != v {
			return bad("PrefixVersionMismatch", "Cannot mix IPv4 and IPv6 prefixes in a subnet pool.")
		}
		version = v
	}
	if version == 0 {
		return bad("EmptySubnetPoolPrefixList", "Empty subnet pool prefix list.")
	}
	f["ip_version"] = version
	least, most := int64(8), int64(32)
	if version == 6 {
		least, most = 64, 128
	}
	if f["min_prefixlen"] == nil {
		f["min_prefixlen"] = least
	}
	if f["max_prefixlen"] == nil {
		f["max_prefixlen"] = most
	}
	if f["default_prefixlen"] == nil {
		f["default_prefixlen"] = f["min_prefixlen"]
	}
	return q.scopeFits(text(f, "address_scope_id"), version)
}

func (q *request) scopeFits(id string, version int64) error {
	if id == "" {
		return nil
	}
	scope := q.networks("address_scopes").rows.get(id)
	if scope == nil {
		return failedAs(http.StatusNotFound, "AddressScopeNotFound", "Address scope %s could not be found", id)
	}
	if number(scope.f, "ip_version") != version {
		return bad("IllegalSubnetPoolAssociationToAddressScope", "Illegal subnetpool association: subnetpool cannot be associated with address scope %s.", id)
	}
	return nil
}

func (q *request) changePool(r *row, in fields) error {
	if prefixes, given := in["prefixes"]; given {
		for _, old := range texts(r.f, "prefixes") {
			if !slices.Contains(texts(fields{"p": prefixes}, "p"), old) {
				return bad("IllegalSubnetPoolPrefixUpdate", "Illegal update to prefixes: new prefixes do not include %s.", old)
			}
		}
	}
	return q.scopeFits(text(in, "address_scope_id"), number(r.f, "ip_version"))
}

func (q *request) removePool(r *row) error {
	if q.networks("subnets").rows.first(func(o *row) bool { return text(o.f, "subnetpool_id") == r.id() }) != nil {
		return bad("SubnetPoolDeleteError", "Unable to delete subnet pool: Subnet pool has existing allocations.")
	}
	return nil
}

func (q *request) removeScope(r *row) error {
	if q.networks("subnetpools").rows.first(func(o *row) bool { return text(o.f, "address_scope_id") == r.id() }) != nil {
		return inUse("AddressScopeInUse", "Unable to complete operation on address scope %s. There are one or more subnet pools in use on the address scope.", r.id())
	}
	return nil
}

// Grants (RBAC policies).

func (q *request) newGrant(f fields) error {
	many := map[string]string{"network": "networks", "qos_policy": "policies", "security_group": "security_groups",
		"address_scope": "address_scopes", "subnetpool": "subnetpools"}[text(f, "object_type")]
	if many == "" {
		return bad("HTTPBadRequest", "Invalid input for object_type. Reason: '%s' is not in the list of types.", text(f, "object_type"))
	}
	if q.networks(many).rows.get(text(f, "object_id")) == nil {
		return failedAs(http.StatusNotFound, "RbacPolicyObjectNotFound", "%s %s could not be found.", text(f, "object_type"), text(f, "object_id"))
	}
	if q.networks("rbac_policies").rows.first(func(g *row) bool {
		return g.f["object_id"] == f["object_id"] && g.f["action"] == f["action"] && g.f["target_tenant"] == f["target_tenant"]
	}) != nil {
		return inUse("DuplicateRbacPolicy", "An RBAC policy already exists with those values.")
	}
	return nil
}

// spreadGrant shows a grant to everybody in the object's own fields.
func (q *request) spreadGrant(g *row) error {
	q.reflectGrant(g, true)
	return nil
}

func (q *request) removeGrant(g *row) error {
	q.reflectGrant(g, false)
	return nil
}

func (q *request) reflectGrant(g *row, on bool) {
	if g.f["target_tenant"] != "*" || !strings.HasPrefix(text(g.f, "object_type"), "network") {
		return
	}
	r := q.networks("networks").rows.get(text(g.f, "object_id"))
	if r == nil {
		return
	}
	key := "shared"
	if g.f["action"] == "access_as_external" {
		key = "router:external"
	}
	r.set(key, on)
}
