package openstack

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/draasd/draas/syncer"
)

// Kinds of Neutron's.
const (
	AddressScope  syncer.Kind = "address-scope"
	SubnetPool    syncer.Kind = "subnet-pool"
	QoSPolicy     syncer.Kind = "qos-policy"
	Network       syncer.Kind = "network"
	Subnet        syncer.Kind = "subnet"
	SecurityGroup syncer.Kind = "security-group"
	Router        syncer.Kind = "router"
	RBACPolicy    syncer.Kind = "rbac-policy"
	FloatingIP    syncer.Kind = "floating-ip"
)

var neutron = api{service: "network"}

// revision is what Neutron raises whenever a row or one of its children
// changes.
const revision = "revision_number"

func networkKinds() []handler {
	return []handler{addressScopes(), subnetPools(), qosPolicies(), networks(), subnets(), securityGroups(), routers(), rbacPolicies(), floatingIPs()}
}

// project is the field that names whose an object is.
var projectField = field{name: "project_id", ref: Project, once: true}

func projectName(s *Side, r row) string {
	name := r.text("name")
	if name == "" {
		name = r.text("id")
	}
	return s.inProject(r.text("project_id"), name)
}

func addressScopes() handler {
	return &resource{
		Traits: syncer.Traits{Kind: AddressScope}, api: neutron, path: "address-scopes", one: "address_scope", many: "address_scopes",
		natural: []string{"project_id", "name"}, projectAs: "project_id", describe: projectName,
		fields: []field{{name: "name"}, {name: "ip_version", once: true}, {name: "shared", none: false}, projectField},
	}
}

func subnetPools() handler {
	return &resource{
		Traits: syncer.Traits{Kind: SubnetPool}, api: neutron, path: "subnetpools", one: "subnetpool", many: "subnetpools",
		marked: asTag, natural: []string{"project_id", "name"}, projectAs: "project_id", revision: revision, describe: projectName,
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "prefixes", set: true}, {name: "default_prefixlen"}, {name: "min_prefixlen"},
			{name: "max_prefixlen"}, {name: "default_quota"}, {name: "is_default", none: false}, {name: "shared", none: false, once: true},
			{name: "address_scope_id", ref: AddressScope}, projectField},
		more: func(_ *Side, _ row, o *syncer.Object) {
			// Neutron shows the lengths that the service has as texts in places.
			for _, name := range []string{"default_prefixlen", "min_prefixlen", "max_prefixlen"} {
				if text, ok := o.Fields[name].(string); ok {
					var n int
					if _, err := fmt.Sscan(text, &n); err == nil {
						o.Fields[name] = n
					}
				}
			}
		},
	}
}

func networks() handler {
	return &resource{
		Traits: syncer.Traits{Kind: Network}, api: neutron, path: "networks", one: "network", many: "networks",
		marked: asTag, natural: []string{"project_id", "name"}, projectAs: "project_id", revision: revision, describe: projectName,
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "admin_state_up", none: true}, {name: "mtu"},
			{name: "port_security_enabled", none: true}, {name: "dns_domain", none: ""}, {name: "qos_policy_id", ref: QoSPolicy}, projectField},
		tells: []string{"router:external"}, drops: networkDrops,
		stance: func(_ *Side, r row) syncer.Stance {
			if r.yes("router:external") {
				return syncer.Outside
			}
			return syncer.Carried
		},
		lost: func(r row) []string {
			if kind := r.text("provider:network_type"); kind == "vlan" || kind == "flat" {
				return []string{fmt.Sprintf("provider network (%s %s): the copy is of the type that the cloud gives to projects", kind, r.text("provider:physical_network"))}
			}
			return nil
		},
		more: func(_ *Side, _ row, o *syncer.Object) {
			// Where the extension is not loaded there is no such field.
			for _, name := range []string{"port_security_enabled", "dns_domain", "qos_policy_id"} {
				if v := o.Fields[name]; v == nil || v == "" {
					delete(o.Fields, name)
				}
			}
		},
	}
}

func subnets() handler {
	return &resource{
		Traits: syncer.Traits{Kind: Subnet, Unique: true}, api: neutron, path: "subnets", one: "subnet", many: "subnets", drops: subnetDrops,
		marked: asTag, natural: []string{"network_id", "cidr"}, projectAs: "project_id", revision: revision,
		describe: func(s *Side, r row) string {
			return s.inProject(r.text("project_id"), strings.TrimSpace(r.text("name")+" "+r.text("cidr")))
		},
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "network_id", ref: Network, once: true}, {name: "ip_version", once: true},
			{name: "cidr", once: true}, {name: "gateway_ip"}, {name: "enable_dhcp", none: true}, {name: "allocation_pools", set: true},
			{name: "dns_nameservers"}, {name: "host_routes", set: true}, {name: "ipv6_ra_mode", once: true}, {name: "ipv6_address_mode", once: true},
			{name: "subnetpool_id", ref: SubnetPool, once: true}, {name: "service_types", set: true, none: []any{}}, projectField},
		encode: func(want syncer.Object, body row, create bool) error {
			// Null says that there is no gateway; nothing said gives it one.
			if gateway, there := want.Fields["gateway_ip"]; there && gateway == nil {
				body["gateway_ip"] = nil
			}
			return nil
		},
		taken: "overlaps with another subnet",
		// Those of the operator's networks are the operator's.
		skip: func(s *Side, r row) bool { return s.external(r.text("network_id")) },
		prepare: func(ctx context.Context, s *Side, id string) (func(row) error, error) {
			ready := func(row) error { return nil }
			if id != "" {
				return ready, nil
			}
			return ready, s.learnExternal(ctx)
		},
	}
}

// learnExternal finds out which networks are the operator's.
func (s *Side) learnExternal(ctx context.Context) error {
	found := make(map[string]bool)
	query := url.Values{"router:external": {"true"}, "fields": {"id"}}
	if err := s.pages(ctx, neutron, "networks", "networks", query, func(r row) error {
		found[r.text("id")] = true
		return nil
	}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.externals = found
	return nil
}

func (s *Side) external(network string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.externals[network]
}

// qosRules are the kinds of rules that a policy may have, and what stands in
// them.
var qosRules = map[string][]string{
	"bandwidth_limit":   {"max_kbps", "max_burst_kbps", "direction"},
	"dscp_marking":      {"dscp_mark"},
	"minimum_bandwidth": {"min_kbps", "direction"},
}

func qosPolicies() handler {
	return &resource{
		Traits: syncer.Traits{Kind: QoSPolicy}, api: neutron, path: "qos/policies", one: "policy", many: "policies",
		marked: asTag, tagged: "policies", natural: []string{"project_id", "name"}, projectAs: "project_id", revision: revision, describe: projectName,
		fields: []field{{name: "name"}, {name: "description", none: ""}, {name: "shared", none: false}, {name: "is_default", none: false},
			{name: "rules", set: true, later: true}, projectField},
		more: func(_ *Side, r row, o *syncer.Object) {
			rules := syncer.Set{}
			for _, rule := range r.rows("rules") {
				kept := map[string]any{"type": rule.text("type")}
				for _, name := range qosRules[rule.text("type")] {
					kept[name] = rule[name]
				}
				if qosRules[rule.text("type")] == nil {
					o.Lost = append(o.Lost, "rule of type "+rule.text("type"))
					continue
				}
				rules = append(rules, kept)
			}
			o.Fields["rules"] = rules
		},
		children: func(ctx context.Context, s *Side, id string, _ *syncer.Object, want syncer.Object, fields []string) error {
			if !slices.Contains(fields, "rules") {
				return nil
			}
			var now map[string]row
			if _, err := s.call(ctx, neutron, http.MethodGet, "qos/policies/"+url.PathEscape(id), nil, &now); err != nil {
				return err
			}
			return s.setRules(ctx, now["policy"], want.Fields["rules"])
		},
		fresh: func(ctx context.Context, s *Side, shown row, want syncer.Object) error {
			return s.setRules(ctx, shown, want.Fields["rules"])
		},
	}
}

// setRules makes a QoS policy's rules as wanted, by what it has now: old ones go
// first, since a policy has one rule of a type and direction only.
func (s *Side) setRules(ctx context.Context, now row, wanted any) error {
	policy := "qos/policies/" + url.PathEscape(now.text("id"))
	missing, _ := wanted.(syncer.Set)
	missing = slices.Clone(missing)
	for _, rule := range now.rows("rules") {
		kind := rule.text("type")
		kept := map[string]any{"type": kind}
		for _, name := range qosRules[kind] {
			kept[name] = rule[name]
		}
		if i := indexOf(missing, kept); i >= 0 {
			missing = slices.Delete(missing, i, i+1)
			continue
		}
		if _, err := s.call(ctx, neutron, http.MethodDelete, policy+"/"+kind+"_rules/"+url.PathEscape(rule.text("id")), nil, nil); err != nil {
			return err
		}
	}
	for _, e := range missing {
		rule, _ := e.(map[string]any)
		kind, _ := rule["type"].(string)
		body := make(row, len(rule))
		for _, name := range qosRules[kind] {
			body[name] = rule[name]
		}
		if _, err := s.call(ctx, neutron, http.MethodPost, policy+"/"+kind+"_rules", map[string]any{kind + "_rule": body}, nil); err != nil {
			return err
		}
	}
	return nil
}

// indexOf finds an element that says the same.
func indexOf(set syncer.Set, e any) int {
	want := syncer.Fields{"": e}
	return slices.IndexFunc(set, func(have any) bool { return len(syncer.Diff(syncer.Fields{"": have}, want)) == 0 })
}

// rbacObjects are what Neutron shares.
var rbacObjects = map[string]syncer.Kind{
	"network": Network, "qos_policy": QoSPolicy, "security_group": SecurityGroup, "address_scope": AddressScope, "subnetpool": SubnetPool,
}

func rbacPolicies() handler {
	return &resource{
		Traits: syncer.Traits{Kind: RBACPolicy, Unique: true}, api: neutron, path: "rbac-policies", one: "rbac_policy", many: "rbac_policies",
		natural: []string{"object_type", "object_id", "action", "target"}, projectAs: "project_id",
		describe: func(s *Side, r row) string {
			return s.inProject(r.text("project_id"), r.text("action")+" "+r.text("object_type")+" "+r.text("object_id"))
		},
		fields: []field{{name: "object_type", once: true}, {name: "object_id", once: true, later: true}, {name: "action", once: true},
			{name: "target", once: true, later: true}, projectField},
		unsupported: func(r row) string {
			if _, known := rbacObjects[r.text("object_type")]; !known {
				return "sharing of a " + r.text("object_type") + " is not carried"
			}
			return ""
		},
		// External networks are the operator's, and with them who may use them.
		skip: func(_ *Side, r row) bool { return r.text("action") == "access_as_external" },
		more: func(_ *Side, r row, o *syncer.Object) {
			o.Fields["object_id"] = r.text("object_id")
			if kind, known := rbacObjects[r.text("object_type")]; known {
				o.Fields["object_id"] = syncer.Ref{Key: syncer.Key{Kind: kind, ID: r.text("object_id")}}
			}
			o.Fields["target"] = "*"
			if to := target(r); to != "*" {
				o.Fields["target"] = syncer.Ref{Key: syncer.Key{Kind: Project, ID: to}}
			}
		},
		encode: func(want syncer.Object, body row, create bool) error {
			if create {
				body["object_id"] = write(want.Fields["object_id"])
				body["target_tenant"] = write(want.Fields["target"])
			}
			return nil
		},
	}
}

func target(r row) string {
	if to := r.text("target_tenant"); to != "" {
		return to
	}
	return r.text("target_project_id")
}

func floatingIPs() handler {
	return &resource{
		Traits: syncer.Traits{Kind: FloatingIP}, api: neutron, path: "floatingips", one: "floatingip", many: "floatingips",
		marked: asTag, projectAs: "project_id", revision: revision, tells: []string{"floating_ip_address"}, drops: floatingDrops,
		describe: func(s *Side, r row) string { return s.inProject(r.text("project_id"), r.text("floating_ip_address")) },
		// The address is the other cloud's to give: that the reservation stands for
		// this one is what the map of the two ids says.
		fields: []field{{name: "description", none: ""}, {name: "floating_network_id", ref: Network, once: true}, projectField},
	}
}

// prefix is a prefix as Neutron writes it: with the bits of the host cleared.
func prefix(text string) string {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked().String()
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()).String()
	}
	return text
}
