package openstack

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/draasd/draas/cloud"
	"github.com/draasd/draas/syncer"
)

// securityGroups are carried with their rules: a change of those raises the
// group's revision, and one listing has both.
func securityGroups() handler {
	return &resource{
		Traits: syncer.Traits{Kind: SecurityGroup}, api: neutron, path: "security-groups", one: "security_group", many: "security_groups",
		marked: asTag, natural: []string{"project_id", "name"}, projectAs: "project_id", revision: revision, describe: projectName,
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "stateful", none: true}, {name: "rules", set: true, later: true}, projectField},
		stance: func(_ *Side, r row) syncer.Stance {
			if r.text("name") == "default" {
				return syncer.Adopted // every project has one by itself
			}
			return syncer.Carried
		},
		more: func(_ *Side, r row, o *syncer.Object) {
			rules := syncer.Set{}
			for _, in := range r.rows("security_group_rules") {
				if in.text("remote_address_group_id") != "" {
					o.Lost = append(o.Lost, "rule by an address group")
					continue
				}
				rules = append(rules, rule(in))
			}
			o.Fields["rules"] = rules
			if r.text("name") == "default" {
				// Its name and words are the service's.
				delete(o.Fields, "description")
			}
		},
		encode: func(want syncer.Object, body row, create bool) error {
			if want.Fields["name"] == "default" {
				delete(body, "name")
			}
			return nil
		},
		children: func(ctx context.Context, s *Side, id string, _ *syncer.Object, want syncer.Object, fields []string) error {
			if !slices.Contains(fields, "rules") {
				return nil
			}
			var now map[string]row
			if _, err := s.call(ctx, neutron, http.MethodGet, "security-groups/"+url.PathEscape(id), nil, &now); err != nil {
				return err
			}
			return s.setGroup(ctx, now["security_group"], want.Fields["rules"])
		},
		fresh: func(ctx context.Context, s *Side, shown row, want syncer.Object) error {
			return s.setGroup(ctx, shown, want.Fields["rules"])
		},
	}
}

// ruleFields are what a rule says.
var ruleFields = []string{"direction", "ethertype", "protocol", "port_range_min", "port_range_max", "description"}

// rule is a rule as it is kept alike. The group that it names may be made later
// than its own, or be its own.
func rule(in row) map[string]any {
	out := make(map[string]any, len(ruleFields)+2)
	for _, name := range ruleFields {
		out[name] = in[name]
	}
	if in.text("description") == "" {
		out["description"] = nil
	}
	out["remote_ip_prefix"] = nil
	if p := in.text("remote_ip_prefix"); p != "" {
		out["remote_ip_prefix"] = prefix(p)
	}
	out["remote_group_id"] = nil
	if g := in.text("remote_group_id"); g != "" {
		out["remote_group_id"] = syncer.Ref{Key: syncer.Key{Kind: SecurityGroup, ID: g}, Weak: true}
	}
	return out
}

// setGroup makes a group's rules as wanted, by those that it has now: a new
// group has two of its own, which would leave it more open than the source. New
// ones come before old ones go, so that what stays allowed is so all the time.
func (s *Side) setGroup(ctx context.Context, now row, wanted any) error {
	missing, _ := wanted.(syncer.Set)
	missing = slices.Clone(missing)
	var old []string
	for _, in := range now.rows("security_group_rules") {
		if i := indexOf(missing, rule(in)); i >= 0 {
			missing = slices.Delete(missing, i, i+1)
		} else {
			old = append(old, in.text("id"))
		}
	}
	if err := s.addRules(ctx, now.text("id"), now.text("project_id"), missing); err != nil {
		return err
	}
	for _, id := range old {
		if _, err := s.call(ctx, neutron, http.MethodDelete, "security-group-rules/"+url.PathEscape(id), nil, nil); err != nil && !cloud.NotFound(err) {
			return err
		}
	}
	return nil
}

// rulesAtOnce is how many rules one request makes.
const rulesAtOnce = 100

// addRules makes rules, as those of the group's project: else they would be the
// admin's, whom its users cannot see.
func (s *Side) addRules(ctx context.Context, group, project string, rules syncer.Set) error {
	bodies := make([]row, len(rules))
	for i, e := range rules {
		bodies[i] = row{"security_group_id": group, "project_id": project}
		for name, v := range asMap(e) {
			if v != nil {
				bodies[i][name] = write(v)
			}
		}
	}
	for some := range slices.Chunk(bodies, rulesAtOnce) {
		err := s.postRules(ctx, "security_group_rules", some)
		if !cloud.Conflict(err) {
			if err != nil {
				return err
			}
			continue
		}
		// One of them is there, and none was made.
		for _, one := range some {
			if err := s.postRules(ctx, "security_group_rule", one); err != nil && !cloud.Conflict(err) {
				return err
			}
		}
	}
	return nil
}

func (s *Side) postRules(ctx context.Context, key string, body any) error {
	_, err := s.call(ctx, neutron, http.MethodPost, "security-group-rules", map[string]any{key: body}, nil)
	return err
}

// routers are carried with their interfaces, by address, and their routes,
// which need those.
func routers() handler {
	return &resource{
		Traits: syncer.Traits{Kind: Router}, api: neutron, path: "routers", one: "router", many: "routers", drops: routerDrops,
		marked: asTag, natural: []string{"project_id", "name"}, projectAs: "project_id", revision: revision, describe: projectName,
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "admin_state_up", none: true},
			{name: "gateway", later: true}, {name: "snat", later: true}, {name: "interfaces", set: true, later: true}, {name: "routes", set: true, later: true}, projectField},
		prepare: routerPorts,
		more: func(_ *Side, r row, o *syncer.Object) {
			o.Fields["gateway"], o.Fields["snat"] = nil, nil
			if g := r.row("external_gateway_info"); g != nil {
				o.Fields["gateway"] = syncer.Ref{Key: syncer.Key{Kind: Network, ID: g.text("network_id")}}
				o.Fields["snat"] = g["enable_snat"]
				o.Lost = append(o.Lost, "the gateway's address: it is the other cloud's to give")
				o.Lost = append(o.Lost, dropped(g, []drop{{"qos_policy_id", "the gateway's QoS policy"}})...)
			}
			interfaces := syncer.Set{}
			for _, i := range r.rows("interfaces") {
				interfaces = append(interfaces, map[string]any{
					"subnet": syncer.Ref{Key: syncer.Key{Kind: Subnet, ID: i.text("subnet_id")}}, "address": i.text("ip_address")})
			}
			routes := syncer.Set{}
			for _, route := range r.rows("routes") {
				routes = append(routes, map[string]any{"destination": route.text("destination"), "nexthop": route.text("nexthop")})
			}
			o.Fields["interfaces"], o.Fields["routes"] = interfaces, routes
		},
		children: setRouter,
		clear: func(ctx context.Context, s *Side, have syncer.Object) error {
			want := syncer.Object{Fields: syncer.Fields{"interfaces": syncer.Set{}, "routes": syncer.Set{}}}
			return setRouter(ctx, s, have.ID, &have, want, []string{"interfaces", "routes"})
		},
	}
}

// routerPorts reads the interfaces of all routers in one listing, or of one.
func routerPorts(ctx context.Context, s *Side, id string) (func(row) error, error) {
	query := url.Values{"fields": {"id", "device_id", "fixed_ips"},
		"device_owner": {"network:router_interface", "network:ha_router_replicated_interface", "network:router_interface_distributed"}}
	if id != "" {
		query.Set("device_id", id)
	}
	interfaces := make(map[string][]any)
	err := s.pages(ctx, neutron, "ports", "ports", query, func(port row) error {
		for _, ip := range port.rows("fixed_ips") {
			router := port.text("device_id")
			interfaces[router] = append(interfaces[router], map[string]any{"subnet_id": ip.text("subnet_id"), "ip_address": ip.text("ip_address"), "port_id": port.text("id")})
		}
		return nil
	})
	return func(r row) error {
		r["interfaces"] = interfaces[r.text("id")]
		return nil
	}, err
}

// setRouter makes a router's gateway, interfaces and routes as wanted. Routes
// go before the interfaces that they lead through, and come behind them.
func setRouter(ctx context.Context, s *Side, id string, have *syncer.Object, want syncer.Object, fields []string) error {
	path := "routers/" + url.PathEscape(id)
	put := func(body row) error {
		_, err := s.call(ctx, neutron, http.MethodPut, path, map[string]any{"router": body}, nil)
		return err
	}
	if slices.Contains(fields, "gateway") || slices.Contains(fields, "snat") {
		body := row{"external_gateway_info": row{}}
		if g, ok := want.Fields["gateway"].(syncer.Ref); ok {
			info := row{"network_id": g.ID}
			if snat, ok := want.Fields["snat"].(bool); ok {
				info["enable_snat"] = snat
			}
			body = row{"external_gateway_info": info}
		}
		if have != nil || len(body.row("external_gateway_info")) > 0 {
			if err := put(body); err != nil {
				return err
			}
		}
	}
	routes := slices.Contains(fields, "routes")
	if slices.Contains(fields, "interfaces") {
		wanted, _ := want.Fields["interfaces"].(syncer.Set)
		if have != nil {
			if had, _ := have.Fields["routes"].(syncer.Set); len(had) > 0 {
				if err := put(row{"routes": []any{}}); err != nil {
					return err
				}
				routes = true
			}
		}
		if err := s.setInterfaces(ctx, id, wanted); err != nil {
			return err
		}
	}
	if !routes {
		return nil
	}
	wanted, _ := want.Fields["routes"].(syncer.Set)
	if len(wanted) == 0 && have == nil {
		return nil
	}
	return put(row{"routes": write(wanted)})
}

// setInterfaces compares with the ports that the router has now.
func (s *Side) setInterfaces(ctx context.Context, id string, wanted syncer.Set) error {
	now := row{"id": id}
	complete, err := routerPorts(ctx, s, id)
	if err != nil {
		return err
	}
	if err := complete(now); err != nil {
		return err
	}
	missing := slices.Clone(wanted)
	for _, i := range now.rows("interfaces") {
		have := map[string]any{"subnet": syncer.Ref{Key: syncer.Key{Kind: Subnet, ID: i.text("subnet_id")}}, "address": i.text("ip_address")}
		if at := indexOf(missing, have); at >= 0 {
			missing = slices.Delete(missing, at, at+1)
			continue
		}
		path := "routers/" + url.PathEscape(id) + "/remove_router_interface"
		if _, err := s.call(ctx, neutron, http.MethodPut, path, row{"port_id": i["port_id"]}, nil); err != nil && !cloud.NotFound(err) {
			return err
		}
	}
	for _, e := range missing {
		if err := s.addInterface(ctx, id, e); err != nil {
			return err
		}
	}
	return nil
}

// interfacePort describes a port that is made to be a router's.
const interfacePort = markerPrefix + " interface of a router"

// addInterface makes a port with the address and gives it to the router: adding
// the subnet alone takes its gateway's address, which is right where that is
// the one wanted. A port that an earlier try has left is used.
func (s *Side) addInterface(ctx context.Context, router string, e any) error {
	fields, _ := e.(map[string]any)
	ref, _ := fields["subnet"].(syncer.Ref)
	var subnet map[string]row
	if _, err := s.call(ctx, neutron, http.MethodGet, "subnets/"+url.PathEscape(ref.ID), nil, &subnet); err != nil {
		return err
	}
	to := "routers/" + url.PathEscape(router) + "/add_router_interface"
	if fields["address"] == subnet["subnet"].text("gateway_ip") {
		_, err := s.call(ctx, neutron, http.MethodPut, to, row{"subnet_id": ref.ID}, nil)
		return err
	}
	id, err := s.leftPort(ctx, subnet["subnet"].text("network_id"), fields["address"])
	if err != nil {
		return err
	}
	if id != "" {
		_, err := s.call(ctx, neutron, http.MethodPut, to, row{"port_id": id}, nil)
		return err
	}
	body := row{"description": interfacePort, "network_id": subnet["subnet"].text("network_id"), "project_id": subnet["subnet"].text("project_id"),
		"fixed_ips": []any{row{"subnet_id": ref.ID, "ip_address": fields["address"]}}}
	var port map[string]row
	if _, err := s.call(ctx, neutron, http.MethodPost, "ports", map[string]any{"port": body}, &port); err != nil {
		return err
	}
	_, err = s.call(ctx, neutron, http.MethodPut, to, row{"port_id": port["port"].text("id")}, nil)
	return err
}

// leftPort finds a port that was made for a router and not given to it.
func (s *Side) leftPort(ctx context.Context, network string, address any) (id string, err error) {
	query := url.Values{"network_id": {network}, "description": {interfacePort}, "fields": {"id", "device_id", "fixed_ips"}}
	err = s.pages(ctx, neutron, "ports", "ports", query, func(port row) error {
		for _, ip := range port.rows("fixed_ips") {
			if port.text("device_id") == "" && ip["ip_address"] == address {
				id = port.text("id")
			}
		}
		return nil
	})
	return id, err
}
