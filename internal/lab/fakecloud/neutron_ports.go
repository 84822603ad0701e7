package fakecloud

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
)

func (q *request) newPort(f fields) error {
	network := q.networks("networks").rows.get(text(f, "network_id"))
	if network == nil {
		return failedAs(http.StatusNotFound, "NetworkNotFound", "Network %s could not be found.", text(f, "network_id"))
	}
	f["revision_number"] = int64(1)
	if f["mac_address"] == unset {
		f["mac_address"] = fmt.Sprintf("fa:16:3e:%02x:%02x:%02x", q.rng.Uint32()&0xff, q.rng.Uint32()&0xff, q.rng.Uint32()&0xff)
	}
	if q.network.macs[network.id()+text(f, "mac_address")] {
		return inUse("MacAddressInUse", "Unable to complete operation for network %s. The mac address %s is in use.", network.id(), text(f, "mac_address"))
	}
	if f["security_groups"] == unset {
		f["security_groups"] = []any{}
		if flag(f, "port_security_enabled") && text(f, "project_id") != "" && text(f, "device_owner") == "" {
			f["security_groups"] = []any{q.ensureDefaultGroup(text(f, "project_id")).id()}
		}
	}
	if err := q.groupsExist(f); err != nil {
		return err
	}
	asked := objects(f, "fixed_ips")
	if f["fixed_ips"] == unset {
		asked = q.oneOfEach(network.id())
	}
	ips, err := q.fixedIPs(network.id(), asked, nil)
	if err != nil {
		return err
	}
	f["fixed_ips"] = ips
	return nil
}

func (q *request) groupsExist(f fields) error {
	for _, id := range texts(f, "security_groups") {
		if q.networks("security_groups").rows.get(id) == nil {
			return failedAs(http.StatusNotFound, "SecurityGroupNotFound", "Security group %s does not exist", id)
		}
	}
	return nil
}

// oneOfEach asks for an address of the first subnet of either version.
func (q *request) oneOfEach(network string) []fields {
	var out []fields
	seen := map[int64]bool{}
	for _, s := range q.network.subnet[network] {
		if v := number(s.f, "ip_version"); !seen[v] {
			seen[v] = true
			out = append(out, fields{"subnet_id": s.id()})
		}
	}
	return out
}

// fixedIPs completes the addresses asked for; own are those the port holds.
func (q *request) fixedIPs(network string, asked, own []fields) ([]any, error) {
	out := []any{}
	taken := map[netip.Addr]bool{}
	for _, ip := range asked {
		subnet, address, err := q.place(network, ip, taken)
		if err != nil {
			return nil, err
		}
		held := slices.ContainsFunc(own, func(o fields) bool { return text(o, "ip_address") == address.String() })
		if taken[address] || q.network.used[network][address] && !held {
			return nil, inUse("IpAddressAlreadyAllocated", "IP address %s already allocated in subnet %s", address, subnet.id())
		}
		taken[address] = true
		out = append(out, fields{"subnet_id": subnet.id(), "ip_address": address.String()})
	}
	return out, nil
}

// place finds subnet and address of one fixed IP.
func (q *request) place(network string, ip fields, taken map[netip.Addr]bool) (*row, netip.Addr, error) {
	subnets := q.network.subnet[network]
	var subnet *row
	if id := text(ip, "subnet_id"); id != "" {
		i := slices.IndexFunc(subnets, func(s *row) bool { return s.id() == id })
		if i < 0 {
			return nil, netip.Addr{}, bad("InvalidInput", "Invalid input for operation: Failed to create port on network %s, because fixed_ips included invalid subnet %s.", network, id)
		}
		subnet = subnets[i]
	}
	want := text(ip, "ip_address")
	if want == "" {
		if subnet == nil {
			return nil, netip.Addr{}, bad("InvalidInput", "Invalid input for operation: IP allocation requires subnet_id or ip_address.")
		}
		address, err := q.freeAddress(network, subnet, taken)
		return subnet, address, err
	}
	address, err := netip.ParseAddr(want)
	if err != nil {
		return nil, netip.Addr{}, bad("HTTPBadRequest", "Invalid input for fixed_ips. Reason: '%s' is not a valid IP address.", want)
	}
	for _, s := range subnets {
		if p, err := netip.ParsePrefix(text(s.f, "cidr")); err == nil && p.Contains(address) && (subnet == nil || subnet == s) {
			return s, address, nil
		}
	}
	return nil, netip.Addr{}, bad("InvalidIpForNetwork", "IP address %s is not a valid IP for any of the subnets on the specified network.", want)
}

func (q *request) freeAddress(network string, subnet *row, taken map[netip.Addr]bool) (netip.Addr, error) {
	free := func(a netip.Addr) bool { return !q.network.used[network][a] && !taken[a] }
	for _, round := range []bool{true, false} { // first from where the last search ended
		for _, pool := range objects(subnet.f, "allocation_pools") {
			start, _ := netip.ParseAddr(text(pool, "start"))
			end, _ := netip.ParseAddr(text(pool, "end"))
			if from := q.network.next[subnet.id()]; round && from.IsValid() && start.Less(from) {
				start = from
			}
			for a := start; a.IsValid() && !end.Less(a); a = a.Next() {
				if free(a) {
					q.network.next[subnet.id()] = a.Next()
					return a, nil
				}
			}
		}
	}
	return netip.Addr{}, inUse("IpAddressGenerationFailure", "No more IP addresses available on network %s.", network)
}

func (q *request) plugPort(r *row) error {
	network := text(r.f, "network_id")
	q.network.ports[network] = append(q.network.ports[network], r)
	q.network.macs[network+text(r.f, "mac_address")] = true
	q.hold(network, r.f, true)
	return nil
}

func (q *request) hold(network string, f fields, on bool) {
	if q.network.used[network] == nil {
		q.network.used[network] = map[netip.Addr]bool{}
	}
	for _, ip := range objects(f, "fixed_ips") {
		if a, err := netip.ParseAddr(text(ip, "ip_address")); err == nil && on {
			q.network.used[network][a] = true
		} else if err == nil {
			delete(q.network.used[network], a)
		}
	}
}

func (q *request) changePort(r *row, in fields) error {
	if err := q.groupsExist(in); err != nil {
		return err
	}
	network := text(r.f, "network_id")
	if in["fixed_ips"] != nil {
		ips, err := q.fixedIPs(network, objects(in, "fixed_ips"), objects(r.f, "fixed_ips"))
		if err != nil {
			return err
		}
		q.hold(network, r.f, false)
		in["fixed_ips"] = ips
		q.hold(network, in, true)
	}
	if mac := text(in, "mac_address"); mac != "" && mac != text(r.f, "mac_address") {
		if q.network.macs[network+mac] {
			return inUse("MacAddressInUse", "Unable to complete operation for network %s. The mac address %s is in use.", network, mac)
		}
		delete(q.network.macs, network+text(r.f, "mac_address"))
		q.network.macs[network+mac] = true
	}
	return nil
}

func (q *request) removePort(r *row) error {
	switch owner := text(r.f, "device_owner"); owner {
	case "network:router_interface", "network:router_gateway", "network:floatingip":
		return inUse("ServicePortInUse", "Port %s cannot be deleted directly via the port API: has device owner %s.", r.id(), owner)
	}
	q.unplug(r)
	return nil
}

// unplug gives up what a port holds.
func (q *request) unplug(r *row) {
	network := text(r.f, "network_id")
	q.network.ports[network] = slices.DeleteFunc(q.network.ports[network], func(o *row) bool { return o == r })
	delete(q.network.macs, network+text(r.f, "mac_address"))
	q.hold(network, r.f, false)
}

// ownPort makes a port that belongs to a router or floating address.
func (q *request) ownPort(network, project, device, owner string, ips []any) (*row, error) {
	k := q.networks("ports")
	in := fields{"network_id": network, "device_id": device, "device_owner": owner, "project_id": project}
	if ips != nil {
		in["fixed_ips"] = ips
	}
	f := fields{}
	for _, a := range k.attrs {
		f[a.name] = a.def
	}
	for key, value := range in {
		f[key] = value
	}
	f["id"], f["tenant_id"] = q.uuid(), project
	f["created_at"], f["updated_at"] = q.stampNow(), q.stampNow()
	if err := q.newPort(f); err != nil {
		return nil, err
	}
	r := k.rows.add(f)
	return r, q.plugPort(r)
}

func (q *request) dropPort(r *row) {
	q.unplug(r)
	q.networks("ports").rows.remove(r.id())
}

// Floating addresses.

func (q *request) newFloating(f fields) error {
	network := q.networks("networks").rows.get(text(f, "floating_network_id"))
	if network == nil {
		return failedAs(http.StatusNotFound, "NetworkNotFound", "Network %s could not be found.", text(f, "floating_network_id"))
	}
	if !flag(network.f, "router:external") {
		return bad("BadRequest", "Bad floatingip request: Network %s is not a valid external network.", network.id())
	}
	var ips []any
	if a := text(f, "floating_ip_address"); a != "" {
		if !q.token.admin {
			return failedAs(http.StatusForbidden, "PolicyNotAuthorized", "rule:create_floatingip:floating_ip_address is disallowed by policy")
		}
		ips = []any{fields{"ip_address": a}}
	} else if id := text(f, "subnet_id"); id != "" {
		ips = []any{fields{"subnet_id": id}}
	}
	port, err := q.ownPort(network.id(), "", text(f, "id"), "network:floatingip", ips)
	if err != nil {
		return err
	}
	if fixed := objects(port.f, "fixed_ips"); len(fixed) > 0 {
		f["floating_ip_address"] = fixed[0]["ip_address"]
	}
	if err := q.associate(network.id(), f, f); err != nil {
		q.dropPort(port)
		return err
	}
	return nil
}

// associate follows a floating address to the port it is for.
func (q *request) associate(external string, f, into fields) error {
	id := text(f, "port_id")
	if id == "" {
		into["fixed_ip_address"], into["router_id"], into["port_id"] = nil, nil, nil
		return nil
	}
	port := q.networks("ports").rows.get(id)
	if port == nil {
		return failedAs(http.StatusNotFound, "PortNotFound", "Port %s could not be found.", id)
	}
	for _, ip := range objects(port.f, "fixed_ips") {
		if want := text(f, "fixed_ip_address"); want != "" && want != text(ip, "ip_address") {
			continue
		}
		for _, p := range q.network.ports[text(port.f, "network_id")] {
			if text(p.f, "device_owner") != "network:router_interface" || !hasFixed(p, []string{"subnet_id=" + text(ip, "subnet_id")}) {
				continue
			}
			router := q.networks("routers").rows.get(text(p.f, "device_id"))
			if gateway, _ := router.f["external_gateway_info"].(fields); text(gateway, "network_id") == external {
				into["fixed_ip_address"], into["router_id"] = ip["ip_address"], text(p.f, "device_id")
				return nil
			}
		}
	}
	return failedAs(http.StatusNotFound, "ExternalGatewayForFloatingIPNotFound", "External network is not reachable from the subnet of port %s.", id)
}

func (q *request) changeFloating(r *row, in fields) error {
	if _, given := in["port_id"]; !given {
		return nil
	}
	// router_id is set by the service, so it may stand in the change here.
	return q.associate(text(r.f, "floating_network_id"), in, in)
}

func (q *request) removeFloating(r *row) error {
	for _, p := range slices.Clone(q.network.ports[text(r.f, "floating_network_id")]) {
		if text(p.f, "device_id") == r.id() {
			q.dropPort(p)
		}
	}
	return nil
}
