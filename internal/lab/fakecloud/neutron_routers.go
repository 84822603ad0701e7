package fakecloud

import (
	"net/http"
	"net/netip"
	"slices"
)

func (c *Cloud) routerRoutes(on func(method, pattern string, h handler)) {
	const base = "/v2.0/routers/{id}"
	on("PUT", base+"/add_router_interface", (*request).addInterface)
	on("PUT", base+"/remove_router_interface", (*request).removeInterface)
	on("PUT", base+"/add_extraroutes", func(q *request) (reply, error) { return q.extraRoutes(true) })
	on("PUT", base+"/remove_extraroutes", func(q *request) (reply, error) { return q.extraRoutes(false) })
}

func (q *request) router() (*row, error) { return q.networkRow(q.networks("routers")) }

func (q *request) interfaces(router string) []*row {
	return q.networks("ports").rows.all(func(p *row) bool {
		return text(p.f, "device_id") == router && text(p.f, "device_owner") == "network:router_interface"
	})
}

func (q *request) newRouter(r *row) error {
	r.set("revision_number", int64(1))
	return q.gateway(r, r.f["external_gateway_info"])
}

// gateway connects a router with an external network, or disconnects it.
func (q *request) gateway(r *row, v any) error {
	in, _ := v.(fields)
	old := q.networks("ports").rows.first(func(p *row) bool {
		return text(p.f, "device_id") == r.id() && text(p.f, "device_owner") == "network:router_gateway"
	})
	if len(in) == 0 {
		if old != nil {
			q.dropPort(old)
		}
		r.set("external_gateway_info", nil)
		return nil
	}
	id := text(in, "network_id")
	network := q.networks("networks").rows.get(id)
	if network == nil {
		return failedAs(http.StatusNotFound, "NetworkNotFound", "Network %s could not be found.", id)
	}
	if !flag(network.f, "router:external") {
		return bad("BadRequest", "Bad router request: Network %s is not an external network.", id)
	}
	ips, _ := in["external_fixed_ips"].([]any)
	if old != nil && text(old.f, "network_id") == id && len(ips) == 0 {
		ips, _ = old.f["fixed_ips"].([]any)
	}
	if old != nil {
		q.dropPort(old)
	}
	port, err := q.ownPort(id, "", r.id(), "network:router_gateway", ips)
	if err != nil {
		return err
	}
	info := fields{"network_id": id, "enable_snat": true, "external_fixed_ips": port.f["fixed_ips"]}
	if snat, given := in["enable_snat"]; given {
		info["enable_snat"] = snat
	}
	r.set("external_gateway_info", info)
	return nil
}

func (q *request) changeRouter(r *row, in fields) error {
	if routes, given := in["routes"]; given {
		if err := q.checkRoutes(r, objects(fields{"routes": routes}, "routes")); err != nil {
			return err
		}
	}
	if v, given := in["external_gateway_info"]; given {
		if err := q.gateway(r, v); err != nil {
			return err
		}
		delete(in, "external_gateway_info")
	}
	return nil
}

// checkRoutes refuses next hops that no interface of the router reaches.
func (q *request) checkRoutes(r *row, routes []fields) error {
	for _, route := range routes {
		hop, err := netip.ParseAddr(text(route, "nexthop"))
		if err != nil {
			return bad("HTTPBadRequest", "Invalid input for routes. Reason: '%s' is not a valid IP address.", text(route, "nexthop"))
		}
		if _, err := netip.ParsePrefix(text(route, "destination")); err != nil {
			return bad("HTTPBadRequest", "Invalid input for routes. Reason: '%s' is not a valid IP subnet.", text(route, "destination"))
		}
		if !q.reaches(r, hop) {
			return bad("InvalidRoutes", "Invalid format for routes: %v, the nexthop is not connected with router", route)
		}
	}
	return nil
}

func (q *request) reaches(r *row, hop netip.Addr) bool {
	for _, p := range q.networks("ports").rows.rows {
		if text(p.f, "device_id") != r.id() {
			continue
		}
		for _, ip := range objects(p.f, "fixed_ips") {
			s := q.networks("subnets").rows.get(text(ip, "subnet_id"))
			if s == nil {
				continue
			}
			if cidr, err := netip.ParsePrefix(text(s.f, "cidr")); err == nil && cidr.Contains(hop) {
				return true
			}
		}
	}
	return false
}

func (q *request) removeRouter(r *row) error {
	if len(q.interfaces(r.id())) > 0 {
		return inUse("RouterInUse", "Router %s still has ports", r.id())
	}
	return q.gateway(r, nil)
}

// addInterface joins a router with a subnet, or with a port made for it.
func (q *request) addInterface() (reply, error) {
	r, err := q.router()
	if err != nil {
		return reply{}, err
	}
	in, err := q.input("")
	if err != nil {
		return reply{}, err
	}
	var port *row
	if id := text(in, "port_id"); id != "" {
		port = q.networks("ports").rows.get(id)
		if port == nil {
			return reply{}, failedAs(http.StatusNotFound, "PortNotFound", "Port %s could not be found.", id)
		}
		if device := text(port.f, "device_id"); device != "" {
			return reply{}, inUse("PortInUse", "Unable to complete operation on port %s for network %s. Port already has an attached device %s.", id, text(port.f, "network_id"), device)
		}
		if len(objects(port.f, "fixed_ips")) == 0 {
			return reply{}, bad("BadRequest", "Bad router request: Router port must have at least one fixed IP.")
		}
		port.set("device_id", r.id())
		port.set("device_owner", "network:router_interface")
		q.touch(port)
	} else if port, err = q.plugSubnet(r, text(in, "subnet_id")); err != nil {
		return reply{}, err
	}
	q.touch(r)
	return q.interfaceBody(r, port)
}

// plugSubnet gives the router the gateway's address in a subnet.
func (q *request) plugSubnet(r *row, id string) (*row, error) {
	subnet := q.networks("subnets").rows.get(id)
	if subnet == nil {
		return nil, failedAs(http.StatusNotFound, "SubnetNotFound", "Subnet %s could not be found.", id)
	}
	gateway := text(subnet.f, "gateway_ip")
	if gateway == "" {
		return nil, bad("BadRequest", "Bad router request: Subnet for router interface must have a gateway IP.")
	}
	mine, _ := netip.ParsePrefix(text(subnet.f, "cidr"))
	for _, p := range q.interfaces(r.id()) {
		for _, ip := range objects(p.f, "fixed_ips") {
			other := q.networks("subnets").rows.get(text(ip, "subnet_id"))
			if cidr, err := netip.ParsePrefix(text(other.f, "cidr")); err == nil && cidr.Overlaps(mine) {
				return nil, bad("BadRequest", "Bad router request: Router already has a port on subnet %s.", id)
			}
		}
	}
	return q.ownPort(text(subnet.f, "network_id"), r.project(), r.id(), "network:router_interface",
		[]any{fields{"subnet_id": id, "ip_address": gateway}})
}

func (q *request) interfaceBody(r, port *row) (reply, error) {
	ids := []any{}
	for _, ip := range objects(port.f, "fixed_ips") {
		ids = append(ids, ip["subnet_id"])
	}
	body := fields{"id": r.id(), "port_id": port.id(), "network_id": port.f["network_id"], "subnet_ids": ids,
		"project_id": r.project(), "tenant_id": r.project(), "tags": []any{}}
	if len(ids) > 0 {
		body["subnet_id"] = ids[0]
	}
	return ok(body)
}

func (q *request) removeInterface() (reply, error) {
	r, err := q.router()
	if err != nil {
		return reply{}, err
	}
	in, err := q.input("")
	if err != nil {
		return reply{}, err
	}
	ports := q.interfaces(r.id())
	i := slices.IndexFunc(ports, func(p *row) bool {
		if id := text(in, "port_id"); id != "" {
			return p.id() == id
		}
		return hasFixed(p, []string{"subnet_id=" + text(in, "subnet_id")})
	})
	if i < 0 {
		return reply{}, failedAs(http.StatusNotFound, "RouterInterfaceNotFound", "Router %s does not have that interface", r.id())
	}
	for _, ip := range objects(ports[i].f, "fixed_ips") {
		for _, route := range objects(r.f, "routes") {
			subnet := q.networks("subnets").rows.get(text(ip, "subnet_id"))
			cidr, err := netip.ParsePrefix(text(subnet.f, "cidr"))
			hop, _ := netip.ParseAddr(text(route, "nexthop"))
			if err == nil && cidr.Contains(hop) {
				return reply{}, inUse("RouterInterfaceInUseByRoute", "Router interface for subnet %s on router %s cannot be deleted, as it is required by one or more routes.", subnet.id(), r.id())
			}
		}
	}
	q.dropPort(ports[i])
	q.touch(r)
	return q.interfaceBody(r, ports[i])
}

func (q *request) extraRoutes(add bool) (reply, error) {
	r, err := q.router()
	if err != nil {
		return reply{}, err
	}
	in, err := q.input("router")
	if err != nil {
		return reply{}, err
	}
	asked := objects(in, "routes")
	same := func(a, b fields) bool {
		return text(a, "destination") == text(b, "destination") && text(a, "nexthop") == text(b, "nexthop")
	}
	routes := []any{}
	for _, old := range objects(r.f, "routes") {
		if !slices.ContainsFunc(asked, func(f fields) bool { return same(f, old) }) {
			routes = append(routes, old)
		}
	}
	if add {
		if err := q.checkRoutes(r, asked); err != nil {
			return reply{}, err
		}
		for _, route := range asked {
			routes = append(routes, route)
		}
	}
	r.set("routes", routes)
	q.touch(r)
	return ok(fields{"router": r.f})
}
